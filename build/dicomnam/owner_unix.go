//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// keepOwner gives a file the owner and group of the one that it replaces, where they differ from its own.
func keepOwner(f *os.File, before fs.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	was, ok1 := before.Sys().(*syscall.Stat_t)
	is, ok2 := now.Sys().(*syscall.Stat_t)
	if !ok1 || !ok2 || was.Uid == is.Uid && was.Gid == is.Gid {
		return nil
	}
	return f.Chown(int(was.Uid), int(was.Gid))
}

// makeFor makes a directory that is not there yet, as root for the owner of the one that it is made in: who is to use it may not be
// root. It is on stable storage then. That owner may rename what is there meanwhile, and put links in its place: what is looked at,
// and given away, is what is open.
func makeFor(dir string) error {
	if os.Geteuid() != 0 {
		return nil // whoever makes it later is its owner
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir = filepath.Clean(dir)
	if err := makeFor(filepath.Dir(dir)); err != nil {
		return err
	}
	parent, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return err
	}
	err = makeIn(parent, filepath.Base(dir))
	return errors.Join(err, parent.Close())
}

// makeIn makes a directory in another for the owner of that.
func makeIn(parent *os.Root, name string) error {
	owner, err := ownerOf(parent)
	if err != nil {
		return err
	}
	if err := parent.Mkdir(name, 0o700); err != nil {
		return err
	}
	if err := give(parent, name, owner); err != nil {
		return err
	}
	f, err := parent.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// giveFiles gives what root has made in a directory to the owner of the directory, and returns what there is to say of it.
func giveFiles(dir string) (note string, err error) {
	if os.Geteuid() != 0 {
		return "", nil
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	owner, err := ownerOf(root)
	if err != nil {
		return "", err
	}
	if owner.Uid == 0 {
		return fmt.Sprintf("%s belongs to root; if coredhcp runs as another user: chown -R USER %s", dir, dir), nil
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		if e.Type().IsRegular() {
			err = errors.Join(err, give(root, e.Name(), owner))
		}
	}
	name := strconv.FormatUint(uint64(owner.Uid), 10)
	if u, lookupErr := user.LookupId(name); lookupErr == nil {
		name = u.Username
	}
	return fmt.Sprintf("%s belongs to %s, and so do the files in it", dir, name), err
}

// ownerOf is whose a directory is.
func ownerOf(dir *os.Root) (*syscall.Stat_t, error) {
	info, err := dir.Stat(".")
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return owner, nil
}

// give gives a file of root's in a directory, or an empty directory, to another owner. What is not to become his, because it is
// elsewhere too or was there before, stays what it is.
func give(dir *os.Root, name string, to *syscall.Stat_t) error {
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only opened
	info, err := f.Stat()
	if err != nil {
		return err
	}
	is, ok := info.Sys().(*syscall.Stat_t)
	if !ok || is.Uid != 0 {
		return nil
	}
	switch {
	case info.IsDir():
		if _, err := f.Readdirnames(1); !errors.Is(err, io.EOF) {
			return err
		}
	case !info.Mode().IsRegular() || is.Nlink != 1:
		return nil
	}
	return f.Chown(int(to.Uid), int(to.Gid))
}
