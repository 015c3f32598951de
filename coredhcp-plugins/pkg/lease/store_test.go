package lease

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestLostFiles removes files of a closed database: Open must have every lease, or refuse and leave what is there.
func TestLostFiles(t *testing.T) {
	for _, old := range []bool{false, true} {
		for _, lost := range []string{
			"marker.manifest*", "marker.format*", "marker.*", "MANIFEST*", "MANIFEST* marker.*", "*.log", "*.sst", "*.sst *.log",
			"*.sst marker.*", "OPTIONS*", "OPTIONS* *.log", "LOCK",
		} {
			t.Run(lost+map[bool]string{true: " old"}[old], func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "leases")
				m, err := Open(dir, testConfig(), Options{})
				if err != nil {
					t.Fatal(err)
				}
				f := &fixture{T: t, Manager: m}
				l := f.get(query(client(1), link))
				if old { // its first logs are gone
					for range 5 {
						if err := m.store.db.Flush(); err != nil {
							t.Fatal(err)
						}
						if err := m.Close(); err != nil {
							t.Fatal(err)
						}
						if m, err = Open(dir, testConfig(), Options{}); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				for p := range strings.FieldsSeq(lost) {
					names, _ := filepath.Glob(filepath.Join(dir, p))
					for _, n := range names {
						if err := os.Remove(n); err != nil {
							t.Fatal(err)
						}
					}
				}
				before, _ := filepath.Glob(filepath.Join(dir, "*"))
				if m, err = Open(dir, testConfig(), Options{}); err != nil {
					for _, n := range before {
						if _, err := os.Stat(n); err != nil {
							t.Errorf("refused, and yet: %v", err)
						}
					}
					return
				}
				defer m.Close()
				if got, _ := m.Lease(l.Address); got.State != Active {
					t.Errorf("opened, and the lease is gone: %+v", got)
				}
			})
		}
	}
}

// TestLostLog takes the log from a server that was killed.
func TestLostLog(t *testing.T) {
	mem := vfs.NewCrashableMem()
	f := &fixture{T: t, clock: newClock(), fs: mem}
	f.open(testConfig())
	defer f.Close()
	f.get(query(client(1), link))
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	names, err := after.List("leases")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".log") {
			if err := after.Remove("leases/" + n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if m, err := Open("leases", testConfig(), Options{FS: after}); err == nil {
		_ = m.Close() // the test fails anyway
		t.Error("opened without a log")
	} else if !strings.Contains(err.Error(), "*.log") {
		t.Error(err)
	}
}

// TestDamagedLog damages a log that was never flushed: what is after the damage must not vanish silently.
func TestDamagedLog(t *testing.T) {
	for name, damage := range map[string]func([]byte){
		"early":  func(b []byte) { b[100] ^= 0xff },
		"middle": func(b []byte) { b[len(b)/2] ^= 0xff },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "leases")
			m, err := Open(dir, wideConfig(1000), Options{})
			if err != nil {
				t.Fatal(err)
			}
			f := &fixture{T: t, Manager: m}
			for i := range 400 {
				f.get(Query{Client: numbered(i), Links: []netip.Addr{wideLink}, ServerID: server, Hostname: "abcdefghijklmnopqrstuvwxyz"})
			}
			// A copy is what a killed server leaves.
			copied := filepath.Join(t.TempDir(), "leases")
			for err := fs.ErrNotExist; err != nil; err = os.CopyFS(copied, os.DirFS(dir)) {
				if !errors.Is(err, fs.ErrNotExist) { // a file that the store has just removed
					t.Fatal(err)
				}
				if err := os.RemoveAll(copied); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			logs, _ := filepath.Glob(filepath.Join(copied, "*.log"))
			last := logs[len(logs)-1]
			b, err := os.ReadFile(last)
			if err != nil {
				t.Fatal(err)
			}
			damage(b[:len(strings.TrimRight(string(b), "\x00"))])
			if err := os.WriteFile(last, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if m, err = Open(copied, wideConfig(1000), Options{}); err == nil {
				t.Errorf("opened with %d of 400 leases", m.bindings.len())
				_ = m.Close() // the test fails anyway
			}
		})
	}
}

// cutter takes a clone of a file system before its nth write operation.
type cutter struct {
	mem  *vfs.MemFS
	left atomic.Int32
	cfg  vfs.CrashCloneCfg
	cut  atomic.Pointer[vfs.MemFS]
}

func (c *cutter) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && c.left.Add(-1) == 0 {
		c.cut.Store(c.mem.CrashClone(c.cfg))
	}
	return nil
}

func (c *cutter) String() string { return "cutter" }

// TestCreationCutOff kills the creation of a database at each of its steps: the next start must succeed.
func TestCreationCutOff(t *testing.T) {
	for _, kept := range []int{0, 100} {
		for n := int32(1); ; n++ {
			c := &cutter{mem: vfs.NewCrashableMem(), cfg: vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: newRand(t)}}
			c.left.Store(n)
			m, err := Open("leases", testConfig(), Options{FS: errorfs.Wrap(c.mem, c)})
			if err != nil {
				t.Fatal(err)
			}
			after := c.cut.Load()
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if after == nil {
				if n < 10 {
					t.Errorf("only %d steps", n)
				}
				break
			}
			m, err = Open("leases", testConfig(), Options{FS: after})
			if err != nil {
				names, _ := after.List("leases")
				t.Errorf("cut off before step %d, %d%% of what was not synced kept: %v; there is %q", n, kept, err, names)
				continue
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReopenCreatesNothing takes the database away from a running server: it must not go on with an empty one.
func TestReopenCreatesNothing(t *testing.T) {
	for _, what := range []string{"leases", "its files"} {
		t.Run(what, func(t *testing.T) {
			f := open(t, testConfig())
			f.store.now = f.clock.now
			held := f.get(query(client(1), link2))
			if err := f.fs.RemoveAll("leases"); err != nil {
				t.Fatal(err)
			}
			if what != "leases" {
				if err := f.fs.MkdirAll("leases", 0o700); err != nil {
					t.Fatal(err)
				}
			}
			f.store.db.failed.Store(true)
			q := query(client(2), link2)
			for range 3 {
				o := f.discover(q)
				if a, err := f.Request(context.Background(), selecting(q, o.Lease.Address)); err == nil {
					t.Fatalf("%v of %v from an empty database", a.Kind, a.Lease.Address)
				}
				f.clock.advance(2 * reopenEvery)
			}
			if l, _ := f.Lease(held.Address); l.State != Active {
				t.Errorf("the lease that was there: %+v", l)
			}
			if names, _ := f.fs.List("leases"); len(names) > 0 {
				t.Errorf("it made %q", names)
			}
		})
	}
}

// synced notes the directories that are synced.
type synced struct {
	vfs.FS
	dirs map[string]bool
}

type syncedDir struct {
	vfs.File
	note func()
}

func (s *synced) OpenDir(name string) (vfs.File, error) {
	d, err := s.FS.OpenDir(name)
	return syncedDir{d, func() { s.dirs[name] = true }}, err
}

func (d syncedDir) Sync() error { d.note(); return d.File.Sync() }

func TestMakeDirIsDurable(t *testing.T) {
	fs := &synced{FS: vfs.NewMem(), dirs: map[string]bool{}}
	if err := fs.MkdirAll("/var", 0o755); err != nil {
		t.Fatal(err)
	}
	s := &store{dir: "/var/lib/dicomnam/leases", fs: fs}
	if err := s.makeDir(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"/var", "/var/lib", "/var/lib/dicomnam"} {
		if !fs.dirs[d] {
			t.Errorf("%s was not synced, only %v", d, fs.dirs)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	first, err := openStore(filepath.Join(dir, "leases"), Options{}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := first.close(); err != nil {
			t.Error(err)
		}
	}()
	for path, want := range map[string]string{
		file:                         "lease database " + file + " is a file, expected a directory",
		filepath.Join(file, "a"):     "mkdir " + file + ": not a directory",
		filepath.Join(dir, "leases"): "is another server using it?",
	} {
		if s, err := openStore(path, Options{}, log); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; expected %s", path, s, err, want)
		}
	}
}

// TestLogIsExtended holds that a log is longer than what it holds, so that few syncs have to make it longer, and that the
// rest is no part of the leases.
func TestLogIsExtended(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	m, err := Open(dir, testConfig(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, Manager: m}
	longest := func() (size int64) {
		names, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			info, err := os.Stat(n)
			if err != nil {
				t.Fatal(err)
			}
			size = max(size, info.Size())
		}
		return size
	}
	steps := map[int64]bool{}
	const exchanges = 4000 // of which each takes more than 100 octets
	var last Lease
	for n := range exchanges {
		q := query(client(byte(n%4)), link2)
		q.Hostname = strings.Repeat("x", n%60+1)
		last = f.get(q)
		if n%100 == 99 {
			steps[longest()] = true
		}
	}
	if size := longest(); size < 100*exchanges || len(steps) > 10 {
		t.Errorf("%d octets, after lengths of %v", size, slices.Sorted(maps.Keys(steps)))
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if m, err = Open(dir, testConfig(), Options{}); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got, there := m.Lease(last.Address); !there || got.State != Active || got.Name != last.Name {
		t.Errorf("%+v, want %+v", got, last)
	}
}
