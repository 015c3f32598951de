package zone

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
	"golang.org/x/time/rate"
)

// ErrClosed is what a Store answers after Close.
var ErrClosed = errors.New("zone store is closed")

const (
	maxWaiting   = 1024 // transactions that wait; more block their callers
	maxGroup     = 512  // transactions that share a commit
	reopenAfter  = time.Second
	failureLines = time.Minute // between lines in the log about a database that fails
	logFiles     = 8 << 20     // octets of updates after which they move from the log to a table, unless Options say
)

// Options of a Store.
type Options struct {
	// FS is the file system, for tests; nil is the operating system's, where files are made with mode 0600.
	FS vfs.FS
	// Logger gets what happens in the background; nil: nobody does.
	Logger *slog.Logger
	// Committed is called after each commit, on the goroutine that commits: it must not block. May be nil.
	Committed func(CommitInfo)

	memTable uint64 // octets of updates after which they move to a table, for tests; 0: logFiles
}

// Store is one database that holds any number of zones, and the goroutine that commits to it. Its methods may be called
// from any goroutine.
type Store struct {
	dir    string // "": memory only
	fs     vfs.FS
	table  uint64 // octets of updates after which they move from the log to a table
	log    *slog.Logger
	jobs   chan *job
	quit   chan struct{}
	closed chan struct{} // the committer is gone
	once   sync.Once
	err    error // of closing; valid after closed

	mu    sync.Mutex
	zones map[string]*Zone

	alarm     *alarm
	recovered rate.Sometimes // lines in the log
	committed func(CommitInfo)
	copying   sync.Mutex // held by who makes one
	stopCopy  atomic.Pointer[context.Context]

	// The committer's own.
	db       *pebble.DB
	guard    *guard
	copies   *sync.WaitGroup // that are made of db
	undo     []mutation      // what the last commit may or may not have written and must not have
	retry    time.Time       // when the database may be opened again
	pack     packer
	reopenIn time.Duration
}

// Open opens the database in the directory dir, and makes both if they are not there; the directory above must be.
// An empty dir keeps everything in memory. A database whose disk is full is opened all the same, if it can be read: its
// zones are as they were stored, and what would change them fails until there is space. A directory can be opened once at a time, in all processes; users in one
// process that overlap use [Acquire]. The caller must Close the Store.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{
		dir: dir, fs: o.FS, table: cmp.Or(o.memTable, logFiles), log: o.Logger,
		jobs: make(chan *job, maxWaiting), quit: make(chan struct{}), closed: make(chan struct{}),
		zones: make(map[string]*Zone), reopenIn: reopenAfter,
		alarm: newAlarm(), recovered: rate.Sometimes{Interval: failureLines},
		committed: o.Committed,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if dir != "" {
		if err := s.prepareDir(); err != nil {
			return nil, err
		}
		// On a full disk the zones can be read, and the committer opens it again.
		if err := s.openDB(); err != nil && !noSpace(err) {
			return nil, fmt.Errorf("opening zone database %q: %w", dir, err)
		}
	}
	go s.commitLoop()
	return s, nil
}

// prepareDir makes the directory unless it is there, and refuses one that belongs to something else.
func (s *Store) prepareDir() error {
	files := s.fs
	if files == nil {
		files = vfs.Default
	}
	info, err := files.Stat(s.dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("zone database %q is a file, and has to be a directory", s.dir)
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("zone database: %w", err)
	case s.fs != nil:
		err = s.fs.MkdirAll(s.dir, 0o700)
	default:
		err = os.Mkdir(s.dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("making zone database: %w", err)
	}
	names, err := files.List(s.dir)
	if err != nil {
		return fmt.Errorf("reading zone database: %w", err)
	}
	desc, err := pebble.Peek(s.dir, files)
	if err != nil {
		return fmt.Errorf("reading zone database %q: %w", s.dir, err)
	}
	if desc.Exists {
		return s.checkFiles(names)
	}
	for _, name := range names {
		if isLog(name) || strings.HasSuffix(name, ".sst") {
			return fmt.Errorf("zone database %q: %w", s.dir, corrupt("it holds %q, and nothing that says which of its files count", name))
		}
		if !unfinished(name) {
			return fmt.Errorf("zone database %q holds %q, and no zone database: choose an empty directory", s.dir, name)
		}
	}
	return nil
}

// checkFiles refuses a database whose log is gone, which Pebble does not miss: it would go on without the latest updates.
// The log is made before the markers of the format, the options and the tables, so that a database which was not made to
// the end has none of these without it. Files that a kill left readable to others become private.
func (s *Store) checkFiles(names []string) error {
	later := ""
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") || strings.HasPrefix(name, "OPTIONS-") || strings.HasPrefix(name, "marker.format-version.") {
			later = name
		}
		if s.fs == nil {
			if err := os.Chmod(filepath.Join(s.dir, name), 0o600); err != nil {
				return fmt.Errorf("zone database: %w", err)
			}
		}
	}
	if later != "" && !slices.ContainsFunc(names, isLog) {
		return fmt.Errorf("zone database %q: %w", s.dir, corrupt("it holds %q and no log: the latest updates are gone", later))
	}
	return nil
}

// unfinished reports whether a file may be left over from a database that was not made to the end. Logs and tables are
// not: Pebble makes them after the marker that makes a directory a database.
func unfinished(name string) bool {
	for _, prefix := range []string{"LOCK", "CURRENT", "MANIFEST-", "OPTIONS-", "marker.", "temporary."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.HasSuffix(name, ".dbtmp")
}

// openDB opens the database, checks its format, and takes back what a failed commit may have left.
func (s *Store) openDB() (err error) {
	g := newGuard(s.fs, s.log, s.alarm)
	var db *pebble.DB
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("database cannot be opened: %v", p)
		}
		if err != nil && db != nil {
			err = errors.Join(err, closeDB(db))
		}
	}()
	cache := pebble.NewCache(8 << 20) // zones are in memory; only loading them reads
	defer cache.Unref()
	db, err = pebble.Open(s.dir, &pebble.Options{
		FS: apart{g, s}, Logger: g, Cache: cache,
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableSize:                s.table,
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       32,
		// They are collected by a goroutine that an Open which fails at its end leaves behind, and which then panics. What
		// they are for, reclaiming the space of deleted records earlier, matters little: zones are small beside disks.
		DisableTableStats: true,
		EventListener: &pebble.EventListener{
			BackgroundError: g.background,
			DataCorruption:  func(i pebble.DataCorruptionInfo) { g.corruption(i.Path, i.Details) },
		},
	})
	g.opened()
	if err != nil {
		return err
	}
	if err := g.failed(); err != nil {
		return err
	}
	if err := initFormat(db); err != nil {
		return err
	}
	if len(s.undo) > 0 {
		batch := db.NewBatch()
		defer func() { err = errors.Join(err, batch.Close()) }()
		if err := appendBatch(batch, s.undo); err != nil {
			return err
		}
		if err := apply(db, g, batch); err != nil {
			return err
		}
	}
	if err := s.restore(db, g); err != nil {
		return err
	}
	if err := g.failed(); err != nil {
		return err
	}
	s.db, s.guard, s.copies, s.undo = db, g, new(sync.WaitGroup), nil
	return nil
}

// initFormat checks what the database says that it is; an empty one is told.
func initFormat(db *pebble.DB) error {
	value, closer, err := db.Get([]byte{keyFormat})
	if err == nil {
		err = checkFormat(value)
		return errors.Join(err, closer.Close())
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	empty := !it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	if !empty {
		return corrupt("it holds data, and does not say of which format")
	}
	if err := db.Set([]byte{keyFormat}, formatValue(), pebble.Sync); err != nil {
		return err
	}
	// The log that a new database begins with is of Pebble's oldest format, which cannot tell a damaged middle from a torn
	// end. The next one can.
	return db.Flush()
}

// apply writes the batch, and returns nil only when it is on stable storage.
func apply(db *pebble.DB, g *guard, batch *pebble.Batch) error {
	if err := g.failed(); err != nil {
		return err
	}
	if err := db.Apply(batch, pebble.Sync); err != nil {
		g.fail(err)
	}
	return g.failed()
}

// closeDB closes a database, whatever state it is in.
func closeDB(db io.Closer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("closing database: %v", p)
		}
	}()
	return db.Close()
}

// copyPatience is how long the committer waits for a copy that it has told to end: one to a disk that hangs does not.
const copyPatience = 2 * time.Second

// endDB closes the database once no copy is made of it. If a copy does not end, the database is left behind: its files
// freeze, its lock is free for the next, and what it holds in memory goes when the copy ends.
func (s *Store) endDB() error {
	db, g, copies := s.db, s.guard, s.copies
	s.db = nil
	ended := make(chan struct{})
	go func() { // joined below, or ends with the copy
		copies.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return closeDB(db)
	case <-time.After(copyPatience):
	}
	s.log.Error("zone database is left behind: a copy of it hangs", "dir", s.dir)
	g.leave()
	go func() {
		<-ended
		_ = closeDB(db) // what it says is about files that are frozen
	}()
	return nil
}

// Zone returns the zone. If the database does not hold it, seed gives its first records, the SOA record with the serial
// to begin with among them; the slice is the Store's then, and the records are written before Zone returns. seed is not
// called for a zone that is there.
func (s *Store) Zone(origin string, seed func() ([]dns.RR, error)) (*Zone, error) {
	a, err := newApex(origin)
	if err != nil {
		return nil, fmt.Errorf("zone %q: %w", origin, err)
	}
	var z *Zone
	j := newJob(context.Background())
	j.exec = func() error {
		var err error
		z, err = s.openZone(&a, seed)
		return err
	}
	err = s.submit(j)
	if err == nil {
		_, err = s.wait(j)
	}
	if err != nil {
		return nil, fmt.Errorf("zone %s: %w", a.name, err)
	}
	return z, nil
}

// openZone runs on the committer.
func (s *Store) openZone(a *apex, seed func() ([]dns.RR, error)) (*Zone, error) {
	s.mu.Lock()
	z := s.zones[a.name]
	s.mu.Unlock()
	if z != nil {
		return z, nil
	}
	if err := s.heal(); err != nil {
		if id, st, cannot := s.readZone(a); cannot == nil {
			return s.addZone(a, id, st), nil
		}
		return nil, fmt.Errorf("database %q: %w", s.dir, err)
	}
	var id uint32
	var found bool
	if s.db != nil {
		var err error
		if id, found, err = zoneID(s.db, a.name); err != nil {
			return nil, fmt.Errorf("database %q: %w", s.dir, err)
		}
	}
	var st state
	if found {
		var err error
		if st, err = loadZone(s.db, a, id, &s.pack); err == nil {
			err = loadJournal(s.db, a, id, &st, &s.pack)
		}
		if err != nil {
			return nil, fmt.Errorf("database %q: %w", s.dir, err)
		}
	} else {
		rrs, err := seed()
		if err != nil {
			return nil, fmt.Errorf("first records: %w", err)
		}
		if st, err = seedState(a, rrs, &s.pack); err != nil {
			return nil, fmt.Errorf("first records: %w", err)
		}
		if err := s.create(a, id, &st); err != nil {
			return nil, err
		}
	}
	return s.addZone(a, id, st), nil
}

func (s *Store) addZone(a *apex, id uint32, st state) *Zone {
	z := newZone(s, a, id, st)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones[a.name] = z
	return z
}

// zoneID returns the number of the zone, or the next free one.
func zoneID(db pebble.Reader, name string) (id uint32, found bool, err error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyZone}, UpperBound: []byte{keyZone + 1}})
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	next := uint32(1)
	for it.First(); it.Valid(); it.Next() {
		value := it.Value()
		if len(value) != 4 {
			return 0, false, corrupt("number of zone %q is %x", it.Key()[1:], value)
		}
		n := binary.BigEndian.Uint32(value)
		if string(it.Key()[1:]) == name {
			return n, true, nil
		}
		next = max(next, n+1)
	}
	return next, false, it.Error()
}

// Close lets the running commit end, answers those that wait with [ErrClosed], and closes the database. Further calls
// return the same error.
func (s *Store) Close() error {
	s.once.Do(func() { close(s.quit) })
	<-s.closed
	return s.err
}

// NewSerial is the serial for a zone that is made now: Unix time, so that a lost database does not count backwards;
// never 0.
func NewSerial(now time.Time) uint32 { return max(uint32(now.Unix()), 1) }

// resolve returns the path without symbolic links, the same before the directory is made as after.
func resolve(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	if above, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(above, filepath.Base(path))
	}
	return path
}

// shared are the stores that Acquire handed out, by absolute path.
var (
	sharedMu sync.Mutex
	shared   = make(map[string]*sharedStore)
)

type sharedStore struct {
	store *Store
	users int
}

// Acquire is [Open] for users that overlap in one process, as plugin instances do while a configuration is reloaded:
// the same directory gives the same Store, with the options of whoever came first, until every user has released it. A
// memory-only store is never shared. release may be called more than once; only the first call counts.
func Acquire(dir string, o Options) (store *Store, release func() error, err error) {
	if dir == "" {
		s, err := Open("", o)
		if err != nil {
			return nil, nil, err
		}
		return s, s.Close, nil
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	if o.FS == nil {
		path = resolve(path)
	}
	sharedMu.Lock()
	defer sharedMu.Unlock()
	e := shared[path]
	if e == nil {
		s, err := Open(path, o)
		if err != nil {
			return nil, nil, err
		}
		e = &sharedStore{store: s}
		shared[path] = e
	}
	e.users++
	return e.store, sync.OnceValue(func() error {
		sharedMu.Lock()
		defer sharedMu.Unlock()
		if e.users--; e.users > 0 {
			return nil
		}
		delete(shared, path)
		return e.store.Close()
	}), nil
}
