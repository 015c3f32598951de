package zone

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
)

// A copy goes on from the past: were its zones to count on from there, secondaries that are ahead would not follow, and in
// the end take other contents for those that they have, since the serial is the same (RFC 1982). So a copy has a mark, a
// file beside those of the database, and who opens it first gives every zone a serial beyond all that can have been
// published since, without a journal of how it came there. Only then is the mark removed: what is interrupted is done again.
const (
	markName = "checkpoint"
	markText = "dicomnam checkpoint " // and when it was begun, Unix seconds

	// So many changes may a zone have had since the copy was begun: at once, and besides a second.
	restoreBurst = 100_000
	restoreRate  = 10
)

// mark makes the directory, which has a whole copy, known as one that was begun then.
func mark(files vfs.FS, dir string, begun time.Time) error {
	f, err := files.Create(files.PathJoin(dir, markName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s%d\n", markText, begun.Unix())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return syncDir(files, dir)
}

// marked tells whether the directory is a copy that was not opened yet, and when that was begun.
func marked(files vfs.FS, dir string) (begun time.Time, is bool, err error) {
	f, err := files.Open(files.PathJoin(dir, markName))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, err
	}
	const most = 64
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err = errors.Join(err, f.Close()); err != nil {
		return time.Time{}, false, err
	}
	digits, ok := strings.CutPrefix(string(text), markText)
	seconds, err := strconv.ParseInt(strings.TrimSuffix(digits, "\n"), 10, 64)
	if !ok || err != nil || !strings.HasSuffix(digits, "\n") {
		return time.Time{}, false, corrupt("file %s is %q, want %q and a time in Unix seconds", markName, text, markText)
	}
	return time.Unix(seconds, 0), true, nil
}

// serialAfter is beyond all serials that can have followed the serial since a copy was begun, and not less than Unix time,
// from which zones start. It is newer in the sense of RFC 1982, and never 0.
func serialAfter(serial uint32, begun, now time.Time) uint32 {
	elapsed := min(max(now.Unix()-begun.Unix(), 0), 1<<31/restoreRate)
	next := max(serial+uint32(min(restoreBurst+restoreRate*elapsed, 1<<31-1)), 1)
	if clock := NewSerial(now); serialNewer(clock, next) && serialNewer(clock, serial) {
		return clock
	}
	return next
}

// restore makes a database that is a copy one that goes on; nothing if it is none.
func (s *Store) restore(db *pebble.DB, g *guard) error {
	begun, is, err := marked(g, s.dir)
	if err != nil || !is {
		return err
	}
	batch := db.NewBatch()
	defer func() { _ = batch.Close() }() // of memory alone
	zones, err := raise(db, batch, begun, time.Now(), new(packer))
	if err != nil {
		return fmt.Errorf("restoring copy: %w", err)
	}
	if err := apply(db, g, batch); err != nil {
		return err
	}
	if err := g.Remove(g.PathJoin(s.dir, markName)); err != nil {
		return err
	}
	if err := syncDir(g, s.dir); err != nil {
		return err
	}
	s.log.Info("zone database is a restored copy: its zones have new serials", "dir", s.dir, "begun", begun.UTC().Format(time.RFC3339), "zones", zones)
	return nil
}

// raise gives every zone a serial beyond those that were published, and takes its journal away.
func raise(db pebble.Reader, batch *pebble.Batch, begun, now time.Time, p *packer) (zones int, err error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyZone}, UpperBound: []byte{keyZone + 1}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		a, err := newApex(string(it.Key()[1:]))
		if err != nil {
			return 0, corrupt("zone %q: %v", it.Key()[1:], err)
		}
		id, found, err := zoneID(db, a.name)
		if err != nil {
			return 0, err
		}
		if !found {
			return 0, corrupt("zone %q is called %q", it.Key()[1:], a.name)
		}
		head, err := raiseHead(db, &a, id, begun, now, p)
		if err != nil {
			return 0, fmt.Errorf("zone %s: %w", a.name, err)
		}
		journal := idKey(keyJournal, id)
		if err := errors.Join(set(batch, idKey(keyHead, id), head), batch.DeleteRange(journal, prefixEnd(journal), nil)); err != nil {
			return 0, err
		}
		zones++
	}
	return zones, it.Error()
}

// raiseHead is the head of the zone with its new serial.
func raiseHead(db pebble.Reader, a *apex, id uint32, begun, now time.Time, p *packer) (head []byte, err error) {
	value, closer, err := db.Get(idKey(keyHead, id))
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			return nil, corrupt("zone without a head")
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	old, records, err := a.decodeHead(value, p)
	if err != nil {
		return nil, err
	}
	soa, ok := old.rr.(*dns.SOA)
	if !ok {
		return nil, corrupt("zone without SOA record")
	}
	if soa.Hdr.Name = old.name; old.name == "" {
		soa.Hdr.Name = a.name
	}
	soa.Serial = serialAfter(soa.Serial, begun, now)
	return encodeHead(nil, soa, old.site, records, p)
}
