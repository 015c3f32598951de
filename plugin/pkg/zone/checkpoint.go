package zone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrMemory is wrapped by what needs a database where a Store has none.
var ErrMemory = errors.New("zones are kept in memory only")

// Checkpoint writes a copy of the database to the directory dir, which must neither be there nor be below the database's. All that
// was answered before Checkpoint was called is in the copy, and each transaction is in it as a whole or not at all. To open
// dir, or a copy of all its files, is to go on from there, with serials of all zones that secondaries take for newer than any
// that was published since: see restore.go. Updates go on meanwhile.
//
// The copy shares no file with the database, and what cannot be written to it does no harm to the database. Its files are
// on stable storage when Checkpoint returns nil, and can be read by this user alone; else nothing is left behind, as far
// as the disk lets it be removed. A disk with less free space than the database takes, and 16 MiB, is refused
// (syscall.ENOSPC). While a disk hangs, so does Checkpoint, but neither updates nor Close wait for it. One copy is made at a time. The error wraps [ErrMemory] without a database, and [ErrClosed]
// or the context's error if the Store is closed, or ctx ends, before the copy is complete.
func (s *Store) Checkpoint(ctx context.Context, dir string) error {
	if s.dir == "" {
		return ErrMemory
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if own, err := filepath.Abs(s.dir); err != nil {
		return err
	} else if within(dir, own) {
		return fmt.Errorf("copying zone database to %q: that is within the database", dir)
	}
	begun := time.Now()
	var db *pebble.DB
	var g *guard
	var copies *sync.WaitGroup
	s.copying.Lock()
	defer s.copying.Unlock()
	s.stopCopy.Store(&ctx)
	j := newJob(context.Background())
	j.exec = func() error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.heal(); err != nil {
			return err
		}
		db, g, copies = s.db, s.guard, s.copies
		copies.Add(1) // it is not closed before the copy has ended
		return nil
	}
	if err = s.submit(j); err == nil {
		_, err = s.wait(j)
	}
	if err != nil {
		return fmt.Errorf("copying zone database: %w", err)
	}
	defer copies.Done()
	err = s.execute(func() error {
		if err := roomFor(db, g.FS, dir); err != nil {
			return err
		}
		if err := db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
			return err
		}
		files := apart{g, s}
		if err := mark(files, dir, begun); err != nil {
			return errors.Join(err, files.RemoveAll(dir))
		}
		return nil
	})
	if cause := g.failed(); cause != nil && err == nil {
		// Pebble was told that all is well.
		err = errors.Join(cause, g.FS.RemoveAll(dir))
	}
	if err != nil {
		return fmt.Errorf("copying zone database to %q: %w", dir, err)
	}
	return nil
}

// copyMargin is what a copy leaves free on its disk, in octets: the database itself may be on it.
const copyMargin = 16 << 20

// roomFor refuses a copy for which the disk has no space. The error wraps ENOSPC.
func roomFor(db *pebble.DB, files vfs.FS, dir string) error {
	disk, err := files.GetDiskUsage(files.PathDir(dir))
	if err != nil {
		return nil //nolint:nilerr // a file system that does not tell is written to
	}
	if need := db.Metrics().DiskSpaceUsage() + copyMargin; disk.AvailBytes < need {
		return fmt.Errorf("%d octets are free, and %d are needed: %w", disk.AvailBytes, need, syscall.ENOSPC)
	}
	return nil
}

// apart is the file system of a database of which copies are made: what is not below its directory belongs to a copy.
// There a failure is told to whoever copies, does not freeze the database, and files are neither shared with it nor
// readable for others.
type apart struct {
	*guard
	store *Store
}

func (a apart) ours(name string) bool { return within(name, a.store.dir) }

func within(name, dir string) bool {
	const separator = string(filepath.Separator)
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, separator)+separator)
}

// stopped tells why a copy is given up.
func (a apart) stopped() error {
	select {
	case <-a.store.quit:
		return ErrClosed
	default:
	}
	if ctx := a.store.stopCopy.Load(); ctx != nil && (*ctx).Err() != nil {
		return (*ctx).Err()
	}
	return a.failed()
}

// Create implements vfs.FS, as do the methods after it.
func (a apart) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if a.ours(name) {
		return a.guard.Create(name, category)
	}
	if err := a.stopped(); err != nil {
		return nil, err
	}
	create := a.FS.Create
	if a.real {
		if err := makePrivate(name); err != nil {
			return nil, err
		}
		create = func(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
			return a.FS.OpenReadWrite(name, category)
		}
	}
	f, err := create(name, category)
	if err != nil {
		return nil, err
	}
	return copied{f, a}, nil
}

func (a apart) Link(oldname, newname string) error {
	if a.ours(newname) {
		return a.guard.Link(oldname, newname)
	}
	return errors.New("a copy shares no files") // Pebble copies then
}

func (a apart) OpenDir(name string) (vfs.File, error) {
	if a.ours(name) {
		return a.guard.OpenDir(name)
	}
	return a.FS.OpenDir(name)
}

func (a apart) MkdirAll(dir string, perm os.FileMode) error {
	if a.ours(dir) {
		return a.guard.MkdirAll(dir, perm)
	}
	return a.FS.MkdirAll(dir, perm&0o700)
}

func (a apart) Remove(name string) error {
	if a.ours(name) {
		return a.guard.Remove(name)
	}
	return a.FS.Remove(name)
}

func (a apart) RemoveAll(name string) error {
	if a.ours(name) {
		return a.guard.RemoveAll(name)
	}
	return a.FS.RemoveAll(name)
}

func (a apart) Rename(oldname, newname string) error {
	if a.ours(newname) {
		return a.guard.Rename(oldname, newname)
	}
	return a.FS.Rename(oldname, newname)
}

// copied is a file of a copy.
type copied struct {
	vfs.File
	a apart
}

func (f copied) Write(p []byte) (int, error) {
	if err := f.a.stopped(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

var _ vfs.FS = apart{}
