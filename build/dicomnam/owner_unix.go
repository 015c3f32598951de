//go:build unix

package main

import (
	"errors"
	"fmt"
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
// root. It is on stable storage then.
func makeFor(dir string) error {
	if os.Geteuid() != 0 {
		return nil // whoever makes it later is its owner
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeFor(parent); err != nil {
		return err
	}
	info, err := os.Stat(parent)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	f, err := os.Open(parent)
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
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", nil
	}
	if owner.Uid == 0 {
		return fmt.Sprintf("%s belongs to root; if coredhcp runs as another user: chown -R USER %s", dir, dir), nil
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() {
			err = errors.Join(err, give(filepath.Join(dir, e.Name()), owner))
		}
	}
	name := strconv.FormatUint(uint64(owner.Uid), 10)
	if u, lookupErr := user.LookupId(name); lookupErr == nil {
		name = u.Username
	}
	return fmt.Sprintf("%s belongs to %s, and so do the files in it", dir, name), err
}

// give gives a file of root's to another owner. The directory is that owner's, who may have put there what is not to become his: a link.
func give(path string, to *syscall.Stat_t) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only opened
	info, err := f.Stat()
	if err != nil {
		return err
	}
	is, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || is.Nlink != 1 || is.Uid != 0 {
		return nil
	}
	return f.Chown(int(to.Uid), int(to.Gid))
}
