//go:build linux

package lease

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func testDatasync(t *testing.T) *datasync {
	t.Helper()
	s, err := newDatasync()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestDatasync has many goroutines sync files at once: one at a time goes the asynchronous way, the others the usual one,
// and no end is taken for another's.
func TestDatasync(t *testing.T) {
	s := testDatasync(t)
	var asynchronous, usual atomic.Int64
	var all sync.WaitGroup
	for w := range 4 {
		f, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		all.Go(func() {
			for i := range 200 {
				if _, err := f.Write([]byte{byte(w), byte(i)}); err != nil {
					t.Error(err)
				}
				other := false
				if err := s.sync(f.Fd(), func() error {
					other = true
					return unix.Fdatasync(int(f.Fd()))
				}); err != nil {
					t.Error(err)
				}
				if other {
					usual.Add(1)
				} else {
					asynchronous.Add(1)
				}
			}
		})
	}
	all.Wait()
	if asynchronous.Load() == 0 || usual.Load() == 0 {
		t.Errorf("%d syncs went the asynchronous way and %d the usual one, expected some of both", asynchronous.Load(), usual.Load())
	}
}

// TestDatasyncOtherwise leaves to the usual sync what the kernel does not take, and everything once it was closed.
func TestDatasyncOtherwise(t *testing.T) {
	s := testDatasync(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mark := errors.New("usual")
	otherwise := func() error { return mark }
	if err := s.sync(w.Fd(), otherwise); !errors.Is(err, mark) {
		t.Errorf("sync of a pipe: %v", err)
	}
	if err := s.sync(f.Fd(), otherwise); err != nil {
		t.Errorf("sync after that: %v", err)
	}
	s.expect(fewChanges - 1)
	if err := s.sync(f.Fd(), otherwise); !errors.Is(err, mark) {
		t.Errorf("sync of few changes: %v", err)
	}
	s.expect(fewChanges)
	if err := s.sync(f.Fd(), otherwise); err != nil {
		t.Errorf("sync of more: %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if err := s.sync(f.Fd(), otherwise); !errors.Is(err, mark) {
		t.Errorf("sync after close: %v", err)
	}
	if err := (*datasync)(nil).sync(f.Fd(), otherwise); !errors.Is(err, mark) {
		t.Errorf("sync without: %v", err)
	}
}

// TestDatasyncError takes what the kernel says of a disk that fails for an error.
func TestDatasyncError(t *testing.T) {
	e := ioEvent{result: -int64(unix.EIO)}
	if err := e.err(); !errors.Is(err, unix.EIO) {
		t.Errorf("%v, expected EIO", err)
	}
}
