package zone

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// noSpace reports whether a database cannot be opened only because nothing can be written to it: its disk is full, or is
// mounted read-only. What it holds can be read, and a name server has to answer with it.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// readZone reads a zone of a database that cannot be opened for writing. It writes nothing: neither is a log that was not
// read to the end moved to a table, nor are files removed.
func (s *Store) readZone(a *apex) (id uint32, st state, err error) {
	if len(s.undo) > 0 {
		return 0, state{}, errors.New("database holds what has to be taken back")
	}
	g := newGuard(s.fs, s.log, s.alarm)
	if _, is, err := marked(g, s.dir); err != nil {
		return 0, state{}, err
	} else if is {
		return 0, state{}, errors.New("database is a copy, and its zones can get no new serials")
	}
	var db *pebble.DB
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("database cannot be read: %v", p)
		}
		if db != nil {
			err = errors.Join(err, closeDB(db))
		}
	}()
	cache := pebble.NewCache(8 << 20)
	defer cache.Unref()
	db, err = pebble.Open(s.dir, &pebble.Options{
		FS: g, Logger: g, Cache: cache, ReadOnly: true,
		FormatMajorVersion: pebble.FormatTableFormatV6,
		MemTableSize:       s.table,
		DisableTableStats:  true,
	})
	g.opened()
	if err != nil {
		return 0, state{}, err
	}
	value, closer, err := db.Get([]byte{keyFormat})
	if err != nil {
		return 0, state{}, err
	}
	if err := errors.Join(checkFormat(value), closer.Close()); err != nil {
		return 0, state{}, err
	}
	id, found, err := zoneID(db, a.name)
	if err == nil && !found {
		err = errors.New("zone is not there")
	}
	if err == nil {
		st, err = loadZone(db, a, id, &s.pack)
	}
	if err == nil {
		err = loadJournal(db, a, id, &st, &s.pack)
	}
	return id, st, errors.Join(err, g.failed())
}
