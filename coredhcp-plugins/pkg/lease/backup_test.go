package lease

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestBackup copies the database while 16 clients get, renew and give back leases, more than once, and opens the copies.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	m, err := Open(filepath.Join(dir, "leases"), wideConfig(100_000), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var mu sync.Mutex
	acked := map[netip.Addr]Client{}
	renewed := map[netip.Addr]time.Time{}
	stop := make(chan struct{})
	var load sync.WaitGroup
	for w := range 16 {
		load.Go(func() {
			for n := w; ; n += 16 {
				select {
				case <-stop:
					return
				default:
				}
				q := Query{Client: numbered(n), Links: []netip.Addr{wideLink}, ServerID: server, Hostname: "h"}
				o, err := m.Discover(context.Background(), q)
				if err != nil {
					t.Error(err)
					return
				}
				q.SelectedServer, q.Requested = server, o.Lease.Address
				a, err := m.Request(context.Background(), q)
				if err != nil || a.Kind != Ack {
					t.Error(a, err)
					return
				}
				if n%3 == 0 {
					q.ClientAddr = a.Lease.Address
					if _, err := m.Release(context.Background(), q); err != nil {
						t.Error(err)
					}
					continue
				}
				mu.Lock()
				acked[a.Lease.Address], renewed[a.Lease.Address] = q.Client, a.Lease.Expires
				mu.Unlock()
			}
		})
	}
	for i := range 3 {
		for enough := false; !enough; time.Sleep(time.Millisecond) {
			mu.Lock()
			enough = len(acked) >= 200*(i+1)
			mu.Unlock()
		}
		mu.Lock()
		want := maps.Clone(acked)
		mu.Unlock()
		to := filepath.Join(dir, "backups", string(rune('a'+i)))
		if err := m.Backup(to); err != nil {
			t.Fatal(err)
		}
		onlyForUs(t, to)
		if err := m.Backup(to); err == nil {
			t.Error("a second backup into one directory")
		}
		restored, err := Open(to, wideConfig(100_000), Options{})
		if err != nil {
			t.Fatal(err)
		}
		missing := 0
		for a, c := range want {
			l, ok := restored.Lease(a)
			if !ok || l.State != Active || l.Client != c {
				missing++
			}
		}
		holders := map[Client]netip.Addr{}
		for l, err := range restored.Leases() {
			if err != nil {
				t.Fatal(err)
			}
			if l.State != Active {
				continue
			}
			if o, ok := holders[l.Client]; ok {
				t.Errorf("%v holds %v and %v", l.Client, o, l.Address)
			}
			holders[l.Client] = l.Address
		}
		if missing > 0 || len(want) < 200 {
			t.Errorf("%d of %d leases are missing in the copy", missing, len(want))
		}
		exchange(t, restored, 1<<20, "")
		if err := restored.Close(); err != nil {
			t.Error(err)
		}
		onlyForUs(t, to)
	}
	close(stop)
	load.Wait()
	onlyForUs(t, filepath.Join(dir, "leases"))
}

// onlyForUs checks that nobody else may read a directory and its files.
func onlyForUs(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // removed by a compaction
			}
			return err
		}
		info, err := e.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBackupOfFailedDatabase(t *testing.T) {
	f := open(t, testConfig())
	f.get(query(client(1), link))
	f.store.current().failed.Store(true)
	if err := f.Backup("copy"); err == nil {
		t.Error("no error")
	}
	f.store.current().failed.Store(false)
	if err := f.Backup("copy"); err != nil {
		t.Error(err)
	}
	m, err := Open("copy", testConfig(), Options{FS: f.fs, Now: f.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if l, ok := m.Lease(addr("192.0.2.100")); !ok || l.State != Active {
		t.Errorf("%+v", l)
	}
}

// TestFilesArePrivateFromCreation looks at files while they are made.
func TestFilesArePrivateFromCreation(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	g := &guard{FS: vfs.Default, private: true}
	dir := t.TempDir()
	var current atomic.Pointer[string]
	first := filepath.Join(dir, "0")
	current.Store(&first)
	done := make(chan struct{})
	var seen atomic.Int32
	var looks sync.WaitGroup
	looks.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if info, err := os.Stat(*current.Load()); err == nil {
				if seen.Add(1); info.Mode().Perm() != 0o600 {
					t.Errorf("%s: mode %v", info.Name(), info.Mode().Perm())
					return
				}
			}
		}
	})
	for i := 0; seen.Load() < 300 && !t.Failed() && i < 100_000; i++ {
		name := filepath.Join(dir, strconv.Itoa(i))
		current.Store(&name)
		f, err := g.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	looks.Wait()
	if seen.Load() == 0 {
		t.Error("saw no file")
	}
}

// A backup in the directory of the database can be opened after the database was opened again.
func TestBackupBesideTheFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	backup := filepath.Join(dir, "backup")
	for range 2 {
		m, err := Open(dir, testConfig(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(backup); errors.Is(err, fs.ErrNotExist) {
			err = m.Backup(backup)
			if err != nil {
				t.Error(err)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(backup)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v: expected a directory that its user can enter", info.Mode(), err)
	}
}
