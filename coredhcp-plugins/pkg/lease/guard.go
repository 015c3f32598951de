package lease

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard is the file system that one opening of the database works on. It keeps what is written private to the server's
// user, and it can be shut: a database that failed in a way that leaves it impossible to close still has background
// work, which must not touch the files any more once they were opened anew.
//
// Pebble cannot take an opening back: it tries to write its tables until that succeeds, for ever if the error was one of
// the manifest, and where it gives up, its background work panics over what is closed then. So while the database is
// being opened the first failure shuts the guard, Pebble is told that all is well, and the database that it then opens is
// closed at once.
type guard struct {
	vfs.FS
	dir     string    // of the database; what lies elsewhere belongs to a copy of it
	private bool      // on the operating system's file system: set modes
	data    *datasync // syncs the logs; may be nil
	shut    atomic.Bool
	opening atomic.Bool
	cause   atomic.Pointer[error] // of a failure that Pebble was not told
	copied  atomic.Pointer[error] // of a copy's directory, which Pebble cannot be told: it would panic
	mu      sync.Mutex
	logs    []string // to be removed once the database is open
}

// opened ends the opening. Until then no log was removed: what it held is in tables by now, but if the next log cannot be
// made, a database without any log could not be told from one that lost it.
func (g *guard) opened() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opening.Store(false)
	if !g.shut.Load() {
		for _, name := range g.logs {
			_ = g.FS.Remove(name) // the next opening removes what is left
		}
	}
	g.logs = nil
}

// fail shuts the guard because of a failure that Pebble is not told.
func (g *guard) fail(err error) {
	g.shut.Store(true)
	g.cause.CompareAndSwap(nil, &err)
}

// hide takes note of a failure that Pebble must not see, and returns what it is told.
func (g *guard) hide(err error) error {
	if err == nil || !g.opening.Load() || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	g.fail(err)
	return nil
}

// clean is a directory's path as that of its files begins.
func (g *guard) clean(dir string) string { return g.PathDir(g.PathJoin(dir, "x")) }

// do does what changes the directory, unless the guard is shut.
func (g *guard) do(f func() error) error {
	if g.shut.Load() {
		return g.hide(errShut)
	}
	return g.hide(f())
}

// open opens a file to be written.
func (g *guard) open(name string, open func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := g.do(func() (err error) {
		f, err = open()
		f, err = g.keepPrivate(name, f, err)
		return err
	})
	log := strings.HasSuffix(name, ".log") && g.PathDir(name) == g.clean(g.dir)
	if err != nil && log {
		g.fail(err)
		err = nil
	}
	if err == nil && f == nil { // a pretended one
		f, err = vfs.NewMem().Create("file", vfs.WriteCategoryUnspecified)
	}
	if err != nil {
		return nil, err
	}
	guarded := &guardedFile{f, g, log}
	if log {
		return newGuardedLog(guarded), nil
	}
	return guarded, nil
}

// guardedFile is a file whose failures Pebble does not see while it opens the database. Those of a log, and of the database's
// directory, which is synced when a log is made, it never sees: it would end the process.
type guardedFile struct {
	vfs.File
	g     *guard
	never bool
}

// hides says that Pebble is not told of a failure.
func (f *guardedFile) hides(err error) bool {
	if f.never && err != nil {
		f.g.fail(err)
		return true
	}
	return f.g.hide(err) == nil
}

// pretends says that nothing reaches the file any more.
func (f *guardedFile) pretends() bool {
	return f.g.shut.Load() && (f.g.opening.Load() || f.never && f.g.cause.Load() != nil)
}

func (f *guardedFile) write(p []byte, write func() (int, error)) (n int, err error) {
	if f.pretends() {
		return len(p), nil
	}
	if n, err = write(); err != nil && f.hides(err) {
		return len(p), nil
	}
	return n, err
}

func (f *guardedFile) sync(sync func() error) error {
	if f.pretends() {
		return nil
	}
	if err := sync(); !f.hides(err) {
		return err
	}
	return nil
}

func (f *guardedFile) Write(p []byte) (int, error) {
	return f.write(p, func() (int, error) { return f.File.Write(p) })
}

func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func() (int, error) { return f.File.WriteAt(p, off) })
}

func (f *guardedFile) Close() error {
	err := f.File.Close()
	if err != nil && f.never {
		f.g.fail(err)
		return nil
	}
	return err
}

func (f *guardedFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *guardedFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *guardedFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// guardedLog is a log. It is synced for each group of transactions.
type guardedLog struct {
	*guardedFile
	written int64 // octets
	size    int64 // of the file, in octets; at least what is written
}

// newGuardedLog is a log that is new, or that Pebble writes again from its beginning. Where its size cannot be told, it is
// made as long as a new one.
func newGuardedLog(f *guardedFile) *guardedLog {
	l := &guardedLog{guardedFile: f}
	if info, err := f.Stat(); err == nil {
		l.size = info.Size()
	}
	return l
}

func (f *guardedLog) Write(p []byte) (int, error) {
	n, err := f.guardedFile.Write(p)
	if f.written += int64(n); f.written > f.size {
		f.extend()
	}
	return n, err
}

// extension is how many octets of zeros are written at once behind what a log holds.
const extension = 256 << 10

var zeros [extension]byte

// extend makes the file longer than it has to be. A sync of octets that a file has had before writes these alone; one that
// makes it longer waits for the file system's journal too. That matters for the first logs alone: later ones are written
// over those before them. If it fails, the next write tells whether that matters.
func (f *guardedLog) extend() {
	f.size = f.written + extension
	if !f.pretends() {
		_, _ = f.File.WriteAt(zeros[:], f.written)
	}
}

func (f *guardedLog) SyncData() error {
	return f.sync(func() error { return f.g.data.sync(f.Fd(), f.File.SyncData) })
}

// copiedDir is a directory outside the database.
type copiedDir struct {
	vfs.File
	g *guard
}

func (f *copiedDir) Sync() error {
	if err := f.File.Sync(); err != nil {
		f.g.copied.CompareAndSwap(nil, &err)
	}
	return nil
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	if g.clean(name) != g.clean(g.dir) {
		return &copiedDir{f, g}, nil
	}
	return &guardedFile{f, g, true}, nil
}

var errShut = errors.New("database was given up after an error")

func (g *guard) Unwrap() vfs.FS { return g.FS }

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(name, func() (vfs.File, error) {
		if strings.HasPrefix(g.PathBase(name), "marker.") {
			// Pebble syncs the directory after it has made a marker: a power cut before that may leave the marker, and
			// not the manifest that it names.
			if err := syncDir(g.FS, g.PathDir(name)); err != nil {
				return nil, err
			}
		}
		if !g.private {
			return g.FS.Create(name, c)
		}
		// FS.Create makes a file that others may read until its mode is changed, and after a kill in between.
		if err := makePrivate(name); err != nil {
			return nil, err
		}
		return g.FS.OpenReadWrite(name, c)
	})
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

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.open(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

func (g *guard) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(newname, func() (vfs.File, error) { return g.FS.ReuseForWrite(oldname, newname, c) })
}

func (g *guard) keepPrivate(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || !g.private {
		return f, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (g *guard) Link(oldname, newname string) error {
	return g.do(func() error { return g.FS.Link(oldname, newname) })
}

func (g *guard) Remove(name string) error {
	g.mu.Lock()
	if g.opening.Load() && strings.HasSuffix(name, ".log") {
		g.logs = append(g.logs, name)
		g.mu.Unlock()
		return nil
	}
	g.mu.Unlock()
	return g.do(func() error { return g.FS.Remove(name) })
}

func (g *guard) RemoveAll(name string) error {
	return g.do(func() error { return g.FS.RemoveAll(name) })
}

func (g *guard) Rename(oldname, newname string) error {
	return g.do(func() error { return g.FS.Rename(oldname, newname) })
}

func (g *guard) MkdirAll(dir string, _ os.FileMode) error { return g.FS.MkdirAll(dir, 0o700) }

// Lock is left to the store, which holds the directory's lock over every opening of the database.
func (g *guard) Lock(string) (io.Closer, error) { return unlocked{}, nil }

type unlocked struct{}

func (unlocked) Close() error { return nil }
