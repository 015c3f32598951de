package zone

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/miekg/dns"
)

// writePairs updates z from several goroutines until stop, and returns how to read which pairs were acknowledged.
func writePairs(t *testing.T, z *Zone, filler string) (acknowledged func() []int, stop func()) {
	var mu sync.Mutex
	var done []int
	var next atomic.Int64
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				i := int(next.Add(1))
				if rcode, err := z.Update(context.Background(), nil, pair(t, i, filler), permitAll); rcode != dns.RcodeSuccess {
					t.Errorf("update %d: %d, %v", i, rcode, err)
					return
				}
				mu.Lock()
				done = append(done, i)
				mu.Unlock()
			}
		})
	}
	return func() []int {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clip(done)
		}, sync.OnceFunc(func() {
			close(quit)
			wg.Wait()
		})
}

// TestCheckpoint: each copy that is made while updates go on holds what was acknowledged before, no half of a
// transaction, and is a database of its own.
func TestCheckpoint(t *testing.T) {
	above := t.TempDir()
	path := filepath.Join(above, "zones")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	z, err := s.Zone(testOrigin, testSeed(t))
	if err != nil {
		t.Fatal(err)
	}
	acknowledged, stop := writePairs(t, z, " "+strings.Repeat(`"`+strings.Repeat("x", 200)+`" `, 10)) // so that logs move to tables
	defer stop()
	for _, name := range []string{"one", "two"} {
		for least := len(acknowledged()) + 1200; len(acknowledged()) < least && !t.Failed(); time.Sleep(time.Millisecond) {
		}
		before := acknowledged()
		dir := filepath.Join(above, name)
		if err := s.Checkpoint(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		if err := s.Checkpoint(t.Context(), dir); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a copy over a copy: %v", err)
		}
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v", path, info.Mode())
			}
			if stat := info.Sys().(*syscall.Stat_t); !info.IsDir() && stat.Nlink != 1 {
				t.Errorf("%s is shared", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, markName)); err != nil { // else it gets other serials
			t.Fatal(err)
		}
		c, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		copied, err := c.Zone(testOrigin, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkPairs(t, copied, before)
		checkHistory(t, copied)
		if n := copied.Snapshot().Journal(); n.Oldest == 0 || n.Revisions == 0 || n.Octets == 0 {
			t.Errorf("journal %+v", n)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	stop()
	checkPairs(t, z, acknowledged())
	if err := s.Checkpoint(t.Context(), filepath.Join(path, "within")); err == nil || !strings.Contains(err.Error(), "within the database") {
		t.Errorf("a copy within the database: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(t.Context(), filepath.Join(above, "late")); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	m, err := Open("", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Checkpoint(t.Context(), filepath.Join(above, "none")); !errors.Is(err, ErrMemory) {
		t.Errorf("in memory: %v", err)
	}
}

// TestFailedCheckpoint: a disk for copies that is full, or fails in any other way, leaves the database as it was, and
// nothing of the copy.
func TestFailedCheckpoint(t *testing.T) {
	for _, kind := range []errorfs.OpKind{
		errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpMkdirAll, errorfs.OpOpenDir,
	} {
		t.Run(opName(kind), func(t *testing.T) {
			mem := vfs.NewMem()
			s, z := openMem(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == kind && strings.HasPrefix(op.Path, "/copies") {
					return syscall.ENOSPC
				}
				return nil
			})))
			acknowledged, stop := writePairs(t, z, "")
			defer stop()
			for i := range 3 {
				err := s.Checkpoint(t.Context(), "/copies/now")
				if !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("attempt %d: %v", i, err)
				}
				if _, err := mem.Stat("/copies/now"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("attempt %d left something: %v", i, err)
				}
			}
			stop()
			if err := s.guard.failed(); err != nil {
				t.Errorf("the database stopped: %v", err)
			}
			checkPairs(t, z, acknowledged())
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func opName(kind errorfs.OpKind) string {
	return map[errorfs.OpKind]string{
		errorfs.OpCreate: "create", errorfs.OpFileWrite: "write", errorfs.OpFileSync: "sync", errorfs.OpMkdirAll: "mkdir",
		errorfs.OpOpenDir: "opendir",
	}[kind]
}

// TestCheckpointEnds: neither a Store that is closed nor a context that ends waits for a copy to a slow disk.
func TestCheckpointEnds(t *testing.T) {
	for _, how := range []string{"close", "context"} {
		t.Run(how, func(t *testing.T) {
			writing, slow := make(chan struct{}, 1), make(chan struct{})
			s, z := openMem(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileWrite && strings.HasPrefix(op.Path, "/copies") {
					select {
					case writing <- struct{}{}:
					default:
					}
					<-slow
				}
				return nil
			})))
			if rcode, err := z.Update(context.Background(), nil, pair(t, 1, ""), permitAll); rcode != dns.RcodeSuccess {
				t.Fatal(rcode, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			failed := make(chan error, 1)
			go func() { failed <- s.Checkpoint(ctx, "/copies/now") }()
			<-writing
			closed, want := make(chan error, 1), context.Canceled
			if how == "close" {
				go func() { closed <- s.Close() }()
				<-s.quit
				want = ErrClosed
			} else {
				cancel()
			}
			close(slow) // one write goes on; the next is not begun
			if err := <-failed; !errors.Is(err, want) {
				t.Errorf("copy: %v", err)
			}
			if how == "context" {
				if err := s.Checkpoint(t.Context(), "/copies/now"); err != nil {
					t.Errorf("the next copy: %v", err)
				}
				go func() { closed <- s.Close() }()
			}
			if err := <-closed; err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// TestObservation: each transaction is told of once, in groups.
func TestObservation(t *testing.T) {
	var mu sync.Mutex
	sum := 0
	s, err := Open("", Options{Committed: func(c CommitInfo) {
		mu.Lock()
		defer mu.Unlock()
		sum += c.Transactions
		if c.Transactions < 1 || c.Took <= 0 {
			t.Errorf("commit %+v", c)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	z, err := s.Zone(testOrigin, testSeed(t))
	if err != nil {
		t.Fatal(err)
	}
	if j := z.Snapshot().Journal(); j != (JournalInfo{Oldest: 10}) {
		t.Errorf("a new journal: %+v", j)
	}
	for i := range 5 {
		if rcode, err := z.Update(context.Background(), nil, pair(t, i, ""), permitAll); rcode != dns.RcodeSuccess {
			t.Fatal(rcode, err)
		}
	}
	if j := z.Snapshot().Journal(); j.Revisions != 5 || j.Oldest != 10 || j.Octets < 5*80 {
		t.Errorf("journal: %+v", j)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if sum != 5 {
		t.Errorf("%d transactions observed, want 5", sum)
	}
}
