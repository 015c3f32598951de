//go:build unix && !aix && !solaris

package control

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockTime is how long another server may take to look for a socket that was left behind.
const lockTime = 5 * time.Second

// lock keeps other servers from taking sockets out of the directory, until unlock is called. It leaves no file behind.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockTime); ; time.Sleep(10 * time.Millisecond) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil // which ends the lock
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK), time.Now().After(end):
			_ = f.Close()
			return nil, fmt.Errorf("locking %s: %w", dir, err)
		}
	}
}
