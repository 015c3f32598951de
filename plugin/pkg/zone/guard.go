package zone

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/time/rate"
)

// Pebble ends the process when its log cannot be written: that is right for a database, and wrong for a name server,
// which has to go on answering questions. guard stands between Pebble and the file system and does what the end of the
// process would do, for the files alone: at the first failure that Pebble could not survive, the files freeze as they
// are. From then on nothing reaches the disk; Pebble is told that all it writes is fine, so that it neither panics nor
// hangs; and whoever commits asks failed() before believing a success. Then the database is closed and opened anew, and finds
// what it would have found after a crash.
type guard struct {
	vfs.FS
	real  bool // the operating system's files: keep them private
	log   *slog.Logger
	alarm *alarm
	cause atomic.Pointer[error] // set once: frozen

	// opening is set until the database is open. Pebble cannot take an opening back: its flushes and compactions would
	// go on with what is closed then, and panic. So until then every failure freezes the files, Pebble is told that all
	// is well, and the database that it then opens is closed at once.
	opening atomic.Bool
	mu      sync.Mutex
	logs    []string // to be removed once the database is open
	lock    io.Closer
}

// opened ends the opening. Until then no log was removed: what it held is in tables by now, but if the next log cannot be
// made, a database without any log could not be told from one that lost it.
func (g *guard) opened() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opening.Store(false)
	if g.failed() == nil {
		for _, name := range g.logs {
			_ = g.FS.Remove(name) // the next opening removes what is left
		}
	}
	g.logs = nil
}

// errLeft freezes the files of a database that nobody uses any more.
var errLeft = errors.New("database is left behind")

// leave freezes the files, without a line in the log, and gives the lock of the directory back.
func (g *guard) leave() {
	err := errLeft
	g.cause.CompareAndSwap(nil, &err)
	if g.lock != nil {
		_ = g.lock.Close() // what the next opening says tells if it is not free
	}
}

// onceCloser is a lock that may be given back twice.
type onceCloser func() error

func (c onceCloser) Close() error { return c() }

var errFrozen = errors.New("database is stopped after a failure")

// alarm is how the guards of a Store, which follow one another, are heard.
type alarm struct {
	wake  chan struct{}  // holds one token while a database should be opened anew
	lines rate.Sometimes // in the log about failures
}

func newAlarm() *alarm {
	return &alarm{wake: make(chan struct{}, 1), lines: rate.Sometimes{Interval: failureLines}}
}

func newGuard(fs vfs.FS, log *slog.Logger, a *alarm) *guard {
	g := &guard{FS: fs, log: log, alarm: a}
	g.opening.Store(true)
	if fs == nil {
		g.FS, g.real = vfs.Default, true
	}
	return g
}

// fail freezes the files.
func (g *guard) fail(err error) {
	if g.cause.CompareAndSwap(nil, &err) {
		g.alarm.lines.Do(func() { g.log.Error("zone database failed; it will be opened again", "error", err) })
	}
}

// hide takes note of a failure that Pebble must not see, and returns what it is told.
func (g *guard) hide(err error) error {
	if err == nil || !g.opening.Load() || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	g.fail(err)
	return nil
}

func (g *guard) frozen() bool { return g.cause.Load() != nil }

// failed is why the files are frozen, nil if they are not.
func (g *guard) failed() error {
	if p := g.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// background is told about flushes and compactions that failed. Pebble would try those again without a pause, commits
// would in the end wait for them, and Pebble's Open does so from the beginning. So the files freeze, which lets all of
// these come to an end, and the committer is woken to open the database anew.
func (g *guard) background(err error) {
	g.fail(err)
	select {
	case g.alarm.wake <- struct{}{}:
	default:
	}
}

func (g *guard) corruption(path string, err error) {
	if g.failed() != nil {
		return // a file that Pebble was told it has
	}
	g.log.Error("zone database found a corrupt file", "file", path, "error", err)
}

// Infof, Errorf and Fatalf make guard Pebble's logger.
func (g *guard) Infof(string, ...any) {}

func (g *guard) Errorf(format string, args ...any) {
	if g.failed() == nil {
		g.log.Warn("zone database: " + fmt.Sprintf(format, args...))
	}
}

func (g *guard) Fatalf(format string, args ...any) {
	g.fail(fmt.Errorf(format, args...))
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

func (g *guard) private(name string) error {
	if !g.real {
		return nil
	}
	return os.Chmod(name, 0o600)
}

// open wraps a file that open made. Once the files are frozen, and where a log cannot be made, it is a pretended one.
func (g *guard) open(name string, open func() (vfs.File, error)) (vfs.File, error) {
	if g.failed() == nil {
		f, err := open()
		if err == nil {
			if err = g.private(name); err == nil {
				if isLog(name) {
					return g.newLog(f), nil
				}
				return &plainFile{f, g}, nil
			}
			err = errors.Join(err, f.Close())
		}
		if !isLog(name) && g.hide(err) != nil {
			return nil, err
		}
		g.fail(fmt.Errorf("making log: %w", err)) // unless it failed already
	}
	f, err := vfs.NewMem().Create("file", vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return &logFile{File: f, g: g}, nil
}

// newLog is a log that is new, or that Pebble writes again from its beginning. Where its size cannot be told, it is made as
// long as a new one.
func (g *guard) newLog(f vfs.File) *logFile {
	l := &logFile{File: f, g: g}
	if info, err := f.Stat(); err == nil {
		l.size = info.Size()
	}
	return l
}

// Create implements vfs.FS, as do the methods after it.
func (g *guard) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(name, func() (vfs.File, error) {
		if strings.HasPrefix(g.PathBase(name), "marker.") {
			// Pebble syncs the directory after it has made a marker: a power cut before that may leave the marker,
			// and not the manifest that it names.
			if err := syncDir(g.FS, g.PathDir(name)); err != nil {
				return nil, err
			}
		}
		if !g.real {
			return g.FS.Create(name, category)
		}
		// Create makes a file that others may read until its mode is changed, also by a kill in between.
		if err := makePrivate(name); err != nil {
			return nil, err
		}
		return g.FS.OpenReadWrite(name, category)
	})
}

func syncDir(files vfs.FS, dir string) error {
	f, err := files.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makePrivate makes a new, empty file for this user alone, in place of one that is there.
func makePrivate(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func (g *guard) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(newname, func() (vfs.File, error) { return g.FS.ReuseForWrite(oldname, newname, category) })
}

func (g *guard) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.open(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, category, opts...) })
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &logFile{File: f, g: g}, nil // making a log ends with a sync of its directory
}

func (g *guard) Lock(name string) (io.Closer, error) {
	c, err := g.FS.Lock(name)
	if errors.Is(err, syscall.EAGAIN) {
		return nil, fmt.Errorf("locking %s, is another server using it?: %w", name, err)
	}
	if err != nil {
		return nil, err
	}
	if err := g.private(name); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	g.lock = onceCloser(sync.OnceValue(c.Close))
	return g.lock, nil
}

func (g *guard) unlessFrozen(f func() error) error {
	if g.failed() == nil {
		return g.hide(f())
	}
	return g.hide(errFrozen)
}

func (g *guard) Link(oldname, newname string) error {
	return g.unlessFrozen(func() error { return g.FS.Link(oldname, newname) })
}

func (g *guard) Remove(name string) error {
	g.mu.Lock()
	if g.opening.Load() && isLog(name) {
		g.logs = append(g.logs, name)
		g.mu.Unlock()
		return nil
	}
	g.mu.Unlock()
	return g.unlessFrozen(func() error { return g.FS.Remove(name) })
}

func (g *guard) RemoveAll(name string) error {
	return g.unlessFrozen(func() error { return g.FS.RemoveAll(name) })
}

func (g *guard) Rename(oldname, newname string) error {
	return g.unlessFrozen(func() error { return g.FS.Rename(oldname, newname) })
}

func (g *guard) MkdirAll(dir string, perm os.FileMode) error {
	return g.unlessFrozen(func() error { return g.FS.MkdirAll(dir, perm) })
}

// Unwrap returns the file system below.
func (g *guard) Unwrap() vfs.FS { return g.FS }

// plainFile is a file whose failures Pebble can live with.
type plainFile struct {
	vfs.File
	g *guard
}

func (f *plainFile) Write(p []byte) (int, error) {
	if f.g.frozen() {
		return len(p), nil
	}
	n, err := f.File.Write(p)
	if err != nil && f.g.hide(err) == nil {
		return len(p), nil
	}
	return n, err
}

func (f *plainFile) WriteAt(p []byte, off int64) (int, error) {
	if f.g.frozen() {
		return len(p), nil
	}
	n, err := f.File.WriteAt(p, off)
	if err != nil && f.g.hide(err) == nil {
		return len(p), nil
	}
	return n, err
}

func (f *plainFile) Sync() error {
	if f.g.frozen() {
		return nil
	}
	return f.g.hide(f.File.Sync())
}

func (f *plainFile) SyncData() error {
	if f.g.frozen() {
		return nil
	}
	return f.g.hide(f.File.SyncData())
}

func (f *plainFile) SyncTo(length int64) (bool, error) {
	if f.g.frozen() {
		return false, nil
	}
	full, err := f.File.SyncTo(length)
	return full, f.g.hide(err)
}

// logFile is a log, or a directory: a failure freezes everything, and is told by guard.failed alone.
type logFile struct {
	vfs.File
	g       *guard
	written int64 // octets
	size    int64 // of the file, in octets; at least what is written
}

func (f *logFile) swallow(what string, do func() error) {
	if f.g.frozen() {
		return
	}
	if err := do(); err != nil {
		f.g.fail(fmt.Errorf("%s log: %w", what, err))
	}
}

func (f *logFile) Write(p []byte) (int, error) {
	f.swallow("writing", func() error {
		_, err := f.File.Write(p)
		return err
	})
	if f.written += int64(len(p)); f.written > f.size {
		f.extend()
	}
	return len(p), nil
}

// extension is how many octets of zeros are written at once behind what a log holds.
const extension = 256 << 10

var zeros [extension]byte

// extend makes the file longer than it has to be. A sync of octets that a file has had before writes these alone; one that
// makes it longer waits for the file system's journal too. That matters for the first logs alone: later ones are written
// over those before them. If it fails, the next write tells whether that matters.
func (f *logFile) extend() {
	f.size = f.written + extension
	if !f.g.frozen() {
		_, _ = f.File.WriteAt(zeros[:], f.written)
	}
}

func (f *logFile) WriteAt(p []byte, off int64) (int, error) {
	f.swallow("writing", func() error {
		_, err := f.File.WriteAt(p, off)
		return err
	})
	return len(p), nil
}

// Preallocate may fail without harm: what matters is whether the write succeeds.
func (f *logFile) Preallocate(offset, length int64) error {
	if f.g.failed() == nil {
		_ = f.File.Preallocate(offset, length)
	}
	return nil
}

func (f *logFile) Sync() error {
	f.swallow("syncing", f.File.Sync)
	return nil
}

func (f *logFile) SyncData() error {
	f.swallow("syncing", f.File.SyncData)
	return nil
}

func (f *logFile) SyncTo(length int64) (full bool, err error) {
	f.swallow("syncing", func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, nil
}

func (f *logFile) Close() error {
	if err := f.File.Close(); err != nil {
		f.g.fail(fmt.Errorf("closing log: %w", err))
	}
	return nil
}

var _ vfs.FS = (*guard)(nil)
