package lease

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard is the file system that one opening of the database works on. It keeps what is written private to the server's
// user, and it can be shut: a database that failed in a way that leaves it impossible to close still has background
// work, which must not touch the files any more once they were opened anew.
type guard struct {
	vfs.FS
	private bool // on the operating system's file system: set modes
	shut    atomic.Bool
}

var errShut = errors.New("database was given up after an error")

func (g *guard) Unwrap() vfs.FS { return g.FS }

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if g.shut.Load() {
		return nil, errShut
	}
	if strings.HasPrefix(g.FS.PathBase(name), "marker.") {
		// Pebble syncs the directory after it has made a marker: a power cut before that may leave the marker, and not
		// the manifest that it names.
		if err := syncDir(g.FS, g.FS.PathDir(name)); err != nil {
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
	if g.shut.Load() {
		return nil, errShut
	}
	f, err := g.FS.OpenReadWrite(name, c, o...)
	return g.keepPrivate(name, f, err)
}

func (g *guard) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if g.shut.Load() {
		return nil, errShut
	}
	f, err := g.FS.ReuseForWrite(oldname, newname, c)
	return g.keepPrivate(newname, f, err)
}

func (g *guard) keepPrivate(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || !g.private {
		return f, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (g *guard) Link(oldname, newname string) error {
	if g.shut.Load() {
		return errShut
	}
	return g.FS.Link(oldname, newname)
}

func (g *guard) Remove(name string) error {
	if g.shut.Load() {
		return errShut
	}
	return g.FS.Remove(name)
}

func (g *guard) RemoveAll(name string) error {
	if g.shut.Load() {
		return errShut
	}
	return g.FS.RemoveAll(name)
}

func (g *guard) Rename(oldname, newname string) error {
	if g.shut.Load() {
		return errShut
	}
	return g.FS.Rename(oldname, newname)
}

func (g *guard) MkdirAll(dir string, _ os.FileMode) error { return g.FS.MkdirAll(dir, 0o700) }

// Lock is left to the store, which holds the directory's lock over every opening of the database.
func (g *guard) Lock(string) (io.Closer, error) { return unlocked{}, nil }

type unlocked struct{}

func (unlocked) Close() error { return nil }
