package lease

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/time/rate"
)

const (
	// reopenEvery bounds how often a failed database is opened again.
	reopenEvery = time.Second
	// reopenWait is how long a write waits for a failed database to open again; opening goes on behind it.
	reopenWait = 250 * time.Millisecond
	// giveUpTime is how long a database that reports errors may take to open or to close before it is given up.
	giveUpTime = 10 * time.Second
	// backgroundPause slows Pebble down, which tries failed background work again without a pause.
	backgroundPause = 100 * time.Millisecond
	// failureLines is how long it is between lines in the log about a database that cannot be opened again.
	failureLines = time.Minute
	// memTable is how many octets of changes there are, unless Options say, before they move from the log to a table.
	memTable = 16 << 20
	// maxUnsynced bounds the keys that were written since the last sync; the write that reaches it is synced.
	maxUnsynced = 4096
)

// ErrClosed is what every method returns after Close.
var ErrClosed = errors.New("lease: manager is closed")

// errFailed is why a write is refused while the database cannot be opened again.
var errFailed = errors.New("lease database failed")

// store is the Pebble database. One goroutine writes (write, repair and close); any may read.
//
// A database whose log could not be synced takes no more writes, and nobody knows which of the last batch is on disk.
// The store then closes it and opens it again, and before it writes anything else it writes over every key of that batch
// what the Manager holds to be true, and again what was written before without a sync. So an error on the disk costs the requests that hit it and nothing else.
type store struct {
	dir     string
	fs      vfs.FS
	log     *slog.Logger
	table   uint64 // octets of changes before they move from the log to a table
	lock    io.Closer
	data    *datasync // syncs the logs; nil: they are synced as other files are
	now     func() time.Time
	tried   time.Time         // when opening the failed database again was last begun
	again   *opening          // opening it again, if that goes on
	failing rate.Sometimes    // lines in the log about that
	wrongs  map[string][]byte // what must be written before all else; nil value: deleted
	// unsynced is what was written since the last sync, and is lost if the database fails; nil value: deleted.
	unsynced map[string][]byte

	copying sync.Mutex // one copy is made at a time

	mu  sync.RWMutex // guards db and the life of what is read from it
	db  *database    // nil while there is none
	all map[*snapshot]struct{}
}

// database is one opening.
type database struct {
	*pebble.DB
	guard   *guard
	failed  atomic.Bool
	use     sync.RWMutex          // held for reading by what must end before the database is closed
	trouble atomic.Pointer[error] // the last error of background work
}

// opening is a database on its way. Pebble does not give up opening one while the disk refuses writes.
type opening struct {
	db   *database
	done chan struct{}
	err  error // valid once done is closed
}

func openStore(dir string, o Options, log *slog.Logger) (*store, error) {
	if dir == "" {
		return nil, errors.New("no database directory given")
	}
	s := &store{dir: dir, fs: o.FS, table: cmp.Or(o.memTable, memTable), log: log, now: time.Now, all: map[*snapshot]struct{}{}, wrongs: map[string][]byte{}, unsynced: map[string][]byte{}, failing: rate.Sometimes{Interval: failureLines}}
	if s.fs == nil {
		s.fs = vfs.Default
	}
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	lockFile := s.fs.PathJoin(dir, "LOCK")
	if s.private() {
		if _, err := os.Stat(lockFile); errors.Is(err, iofs.ErrNotExist) {
			if err := makePrivate(lockFile); err != nil {
				return nil, err
			}
		}
	}
	lock, err := s.fs.Lock(lockFile)
	if errors.Is(err, iofs.ErrPermission) || errors.Is(err, iofs.ErrNotExist) { // nobody else's lock
		return nil, fmt.Errorf("lease database: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("locking %s, is another server using it?: %w", lockFile, err)
	}
	s.lock = lock
	if s.private() {
		err = s.keepPrivate()
		if s.data, _ = newDatasync(); s.data == nil {
			log.Debug("no asynchronous I/O: syncing takes more processor time")
		}
	}
	if err == nil {
		s.db, err = s.begin(true).patiently()
	}
	if err != nil {
		return nil, errors.Join(err, s.data.close(), lock.Close())
	}
	return s, nil
}

// patiently waits for the database as long as it takes, unless background work fails.
func (o *opening) patiently() (*database, error) {
	t := time.NewTicker(giveUpTime)
	defer t.Stop()
	for {
		select {
		case <-o.done:
			return o.db, o.err
		case <-t.C:
			if err := o.db.trouble.Load(); err != nil {
				o.db.guard.shut.Store(true)
				return nil, fmt.Errorf("opening lease database: %w", *err)
			}
		}
	}
}

// begin begins to open the database; only the first opening may create it.
func (s *store) begin(first bool) *opening {
	o := &opening{db: &database{guard: &guard{FS: s.fs, dir: s.dir, private: s.private(), data: s.data}}, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.err = s.open(o.db, first)
	}()
	return o
}

// open opens the database and checks its format; the first opening creates what is not there.
func (s *store) open(d *database, first bool) (err error) {
	defer func() {
		if r := recover(); r != nil {
			d.guard.shut.Store(true)
			err = fmt.Errorf("opening lease database %s: %v", s.dir, r)
		}
	}()
	if err := s.checkFiles(); err != nil {
		return err
	}
	d.guard.opening.Store(true)
	log := &pebbleLog{log: s.log, db: d}
	listener := pebble.EventListener{
		BackgroundError: func(err error) {
			if d.trouble.Swap(&err) == nil && d.guard.cause.Load() == nil {
				s.log.Error("lease database: background work failed, trying again", "error", err)
			}
			time.Sleep(backgroundPause)
		},
		FlushEnd: func(i pebble.FlushInfo) {
			if i.Err == nil && d.trouble.Swap(nil) != nil {
				s.log.Info("lease database: background work goes on")
			}
		},
		DiskSlow: func(i pebble.DiskSlowInfo) { s.log.Warn("lease database: slow disk", "info", i.String()) },
	}
	d.DB, err = pebble.Open(s.dir, &pebble.Options{
		FS:                 d.guard,
		Logger:             log,
		ErrorIfNotExists:   !first,
		EventListener:      &listener,
		FormatMajorVersion: pebble.FormatWALSyncChunks, // tells a torn end of the log from a damaged middle
		MemTableSize:       s.table,
		// They are collected by a goroutine that an Open which fails at its end leaves behind, and which then panics.
		DisableTableStats: true,
	})
	d.guard.opened()
	if err != nil {
		return fmt.Errorf("opening lease database %s: %w", s.dir, err)
	}
	if cause := d.guard.cause.Load(); cause != nil {
		_ = d.Close() // what it says is about files that are shut
		return fmt.Errorf("opening lease database %s: %w", s.dir, *cause)
	}
	if err := s.checkFormat(d, first); err != nil {
		return errors.Join(fmt.Errorf("lease database %s: %w", s.dir, err), d.Close())
	}
	return nil
}

// checkFormat checks the format key, and writes it into a database that is new.
func (s *store) checkFormat(d *database, first bool) error {
	v, closer, err := d.Get([]byte{keyFormat})
	switch {
	case err == nil:
		found := string(v)
		if err := closer.Close(); err != nil {
			return err
		}
		if found == formatValue1 || found == formatValue2 {
			if err := d.Set([]byte{keyFormat}, []byte(formatValue), pebble.Sync); err != nil {
				return err
			}
			return d.broken()
		}
		if found != formatValue {
			return fmt.Errorf("key %q: expected %q, found %q; was it written by a newer release?", keyFormat, formatValue, found)
		}
		return nil
	case !errors.Is(err, pebble.ErrNotFound):
		return err
	}
	it, err := d.NewIter(nil)
	if err != nil {
		return err
	}
	empty := !it.First()
	found := bytes.Clone(it.Key())
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	switch {
	case !empty:
		return fmt.Errorf("key %q: expected the format key %q first; this is not a lease database", found, keyFormat)
	case !first:
		return fmt.Errorf("the format key %q is gone, and all leases with it", keyFormat)
	}
	if err := d.Set([]byte{keyFormat}, []byte(formatValue), pebble.Sync); err != nil {
		return err
	}
	if err := d.broken(); err != nil {
		return err
	}
	// The log of a new database began before its format was raised, and so cannot tell damage from a torn end. A flush
	// begins another one.
	return d.Flush()
}

// broken is the error of a database that Pebble gave up; Pebble reports that by its logger alone.
func (d *database) broken() error {
	if d.failed.Load() || d.guard.cause.Load() != nil {
		return errFailed
	}
	return nil
}

// write commits the changes as one batch and, if sync is set, returns when it is on stable storage. With an error, doubt
// says that the changes may be on disk all the same.
func (s *store) write(writes *batch, sync bool) (doubt bool, err error) {
	d := s.current()
	if d == nil || d.broken() != nil {
		if d, err = s.reopen(); err != nil {
			return false, err
		}
		for k, v := range s.unsynced {
			if _, ok := s.wrongs[k]; !ok {
				s.wrongs[k] = v
			}
		}
		clear(s.unsynced)
	}
	if len(s.wrongs) > 0 {
		var repair batch
		for k, v := range s.wrongs {
			if v == nil {
				repair.remove(literal(k))
			} else {
				repair.set(literal(k), literal(v))
			}
		}
		if err := d.commit(&repair, true); err != nil {
			return false, err
		}
		clear(s.wrongs)
	}
	sync = sync || len(s.unsynced)+len(writes.changes) > maxUnsynced
	s.data.expect(len(writes.changes))
	if err := d.commit(writes, sync); err != nil {
		return true, err
	}
	if sync {
		clear(s.unsynced)
		return true, nil
	}
	return true, writes.each(func(key, value []byte) error {
		s.unsynced[string(key)] = bytes.Clone(value)
		return nil
	})
}

func (s *store) current() *database {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.db
}

// repair notes what a key must hold after a write that failed.
func (s *store) repair(key string, value []byte) { s.wrongs[key] = value }

// commit writes a batch. Pebble panics, or says so in its log alone, when its log cannot be written.
func (d *database) commit(writes *batch, sync bool) (err error) {
	defer d.recover(&err)
	b := d.NewBatch()
	err = writes.each(func(key, value []byte) error {
		if value == nil {
			return b.Delete(key, nil)
		}
		return b.Set(key, value, nil)
	})
	if err != nil {
		return errors.Join(err, b.Close())
	}
	o := pebble.NoSync
	if sync {
		o = pebble.Sync
	}
	if err := d.Apply(b, o); err != nil {
		d.failed.Store(true)
		return fmt.Errorf("%w: %w", errFailed, err)
	}
	if err := d.broken(); err != nil {
		return err // the batch stays with the database that is given up
	}
	return b.Close()
}

// recover makes a panic of Pebble an error. Call it by defer.
func (d *database) recover(err *error) {
	if r := recover(); r != nil {
		d.failed.Store(true)
		d.guard.shut.Store(true) // its locks are held for good, so it can never be closed
		*err = fmt.Errorf("%w: %v", errFailed, r)
	}
}

// reopen closes the failed database and opens it again, at most once every reopenEvery.
func (s *store) reopen() (*database, error) {
	if s.again == nil {
		now := s.now()
		if now.Sub(s.tried) < reopenEvery {
			return nil, errFailed
		}
		s.tried = now
		s.mu.Lock()
		s.discard()
		s.mu.Unlock()
		s.again = s.begin(false)
	}
	t := time.NewTimer(reopenWait)
	defer t.Stop()
	select {
	case <-s.again.done:
	case <-t.C:
		return nil, errFailed
	}
	o := s.again
	s.again = nil
	if o.err != nil {
		s.failing.Do(func() { s.log.Error("lease database: still failing", "error", o.err) })
		return nil, fmt.Errorf("%w: %w", errFailed, o.err)
	}
	s.log.Info("lease database: opened again after an error", "directory", s.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = o.db
	return o.db, nil
}

// flush moves everything from the log to tables, whose loss Pebble notices. It gives up after giveUpTime, or at an error:
// the log has it all.
func (d *database) flush() {
	done, err := d.AsyncFlush()
	if err != nil {
		return
	}
	end := time.Now().Add(giveUpTime)
	t := time.NewTicker(backgroundPause)
	defer t.Stop()
	for d.broken() == nil && d.trouble.Load() == nil && time.Now().Before(end) {
		select {
		case <-done:
			return
		case <-t.C:
		}
	}
}

// discard closes the database, whatever state it is in. Caller holds mu.
func (s *store) discard() {
	d := s.db
	if d == nil {
		return
	}
	s.db = nil
	for v := range s.all {
		v.close()
	}
	if d.guard.shut.Load() && d.guard.cause.Load() == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				s.log.Error("lease database: closing it after an error", "panic", r)
			}
		}()
		d.use.Lock()
		if err := d.Close(); err != nil {
			s.log.Warn("lease database: closing it after an error", "error", err)
		}
	}()
	t := time.NewTimer(giveUpTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		s.log.Error("lease database: gave up closing it after an error")
	}
	d.guard.shut.Store(true)
}

// close writes what is left to repair and closes the database.
func (s *store) close() error {
	var err error
	if d := s.current(); len(s.wrongs) > 0 || len(s.unsynced) > 0 && (d == nil || d.broken() != nil) {
		_, err = s.write(new(batch), true)
	}
	if s.again != nil {
		if d, oerr := s.again.patiently(); oerr != nil {
			err = errors.Join(err, oerr)
		} else {
			err = errors.Join(err, d.Close())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.db == nil:
	case s.db.broken() != nil:
		s.discard()
	default:
		for v := range s.all {
			v.close()
		}
		s.db.use.Lock()
		s.db.flush()
		err = errors.Join(err, s.db.Close())
		s.db = nil
	}
	return errors.Join(err, s.data.close(), s.lock.Close())
}

// pebbleLog is Pebble's logger. Fatalf does not end the process: it marks the database as failed, and the store replaces
// it before the next write.
type pebbleLog struct {
	log *slog.Logger
	db  *database
}

var _ pebble.Logger = (*pebbleLog)(nil)

func (*pebbleLog) Infof(string, ...any) {}

func (l *pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("lease database: " + fmt.Sprintf(format, args...))
}

func (l *pebbleLog) Fatalf(format string, args ...any) {
	// Pebble may go on trying, and would fill the log; and it may miss what it was told that it has written.
	if !l.db.failed.Swap(true) && l.db.guard.cause.Load() == nil {
		l.log.Error("lease database failed: " + fmt.Sprintf(format, args...))
	}
}
