//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Disk is a small file system that can be filled up. It exists for one thread and the processes that are started on
// it, in a mount namespace without a name: it ends with the last of them, so that not even SIGKILL leaves it behind.
type Disk struct {
	*Namespace
	Dir string
}

// NewDisk mounts a disk of so many octets on dir, which must be there. The lab must not be a [Loopback] one. The
// processes that are to use it are started by [Lab.Start] in its Namespace, which for all else is the caller's.
func (l *Lab) NewDisk(dir string, size int) (*Disk, error) {
	n, err := newNamespace("disk", false)
	if err != nil {
		return nil, err
	}
	d := &Disk{Namespace: n, Dir: dir}
	err = n.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("making a mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("keeping mounts private: %w", err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
			return fmt.Errorf("mounting a disk on %s: %w", dir, err)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	l.mu.Lock()
	l.disks = append(l.disks, d)
	l.mu.Unlock()
	return d, nil
}

func (d *Disk) ballast() string { return filepath.Join(d.Dir, "ballast") }

// Fill takes all the space that is left, but for so many octets.
func (d *Disk) Fill(but int64) error {
	return d.Do(func() error {
		f, err := os.OpenFile(d.ballast(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		page := make([]byte, 4096)
		for err == nil {
			_, err = f.Write(page)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return errors.Join(err, f.Close())
		}
		info, err := f.Stat()
		if err == nil && but > 0 {
			err = f.Truncate(max(0, info.Size()-but))
		}
		return errors.Join(err, f.Close())
	})
}

// Empty gives the space back that Fill took.
func (d *Disk) Empty() error { return d.Do(func() error { return os.Remove(d.ballast()) }) }

// Files are the names of all files below Dir but what Fill made, and their content.
func (d *Disk) Files() (files map[string]string, err error) {
	files = map[string]string{}
	err = d.Do(func() error {
		return filepath.WalkDir(d.Dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || path == d.ballast() {
				return err
			}
			data, err := os.ReadFile(path)
			files[path] = string(data)
			return err
		})
	})
	return files, err
}
