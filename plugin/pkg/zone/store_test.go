package zone_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
	"github.com/miekg/dns"
)

// heldFS is a file system on which another process holds every lock.
type heldFS struct{ vfs.FS }

func (heldFS) Lock(string) (io.Closer, error) { return nil, syscall.EAGAIN }

func TestHeldByAnother(t *testing.T) {
	_, err := zone.Open("zones", zone.Options{FS: heldFS{vfs.NewMem()}})
	if err == nil || !strings.Contains(err.Error(), "LOCK, is another server using it?") || !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("opened: %v", err)
	}
}

func open(t testing.TB, dir string, o zone.Options) *zone.Store {
	t.Helper()
	s, err := zone.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t testing.TB, s *zone.Store, name string, seed ...string) *zone.Zone {
	t.Helper()
	f := seedOf(t, seed...)
	if seed == nil {
		f = func() ([]dns.RR, error) {
			t.Error("the zone was seeded again")
			return nil, errors.New("seeded again")
		}
	}
	z, err := s.Zone(name, f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func closeStore(t testing.TB, s *zone.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "zones")
	s := open(t, dir, zone.Options{})
	z := load(t, s, "Example.ORG", base...)
	if z.Origin() != origin {
		t.Fatalf("origin %q", z.Origin())
	}
	other := load(t, s, "2.0.192.in-addr.arpa.", "2.0.192.in-addr.arpa. 5 IN SOA a. b. 7 1 1 1 1")
	replace(t, z, "legacy.example.org. 300 IN A 192.0.2.20", "_p.example.org. 60 IN PTR a.example.org.",
		"example.org. 900 IN SOA ns2.example.org. admin.example.org. 0 1 2 3 4")
	mustUpdate(t, z, "add _p.example.org. 60 IN PTR 0.example.org.", "delname www.example.org.",
		"add CT1.Example.org. 60 IN A 192.0.2.11", "add ct1.example.org. 60 IN TXT AbC",
		`add \000\001\.\\\255.x.example.org. 5 IN TYPE65281 \# 3 010203`, `add u.example.org. 5 IN TYPE65281 \# 0`)
	mustUpdate(t, z, "add ct1.example.org. 61 IN A 192.0.2.12", "add sub.example.org. 5 IN NS x.")
	want, wantSite, serial := dump(z), text(slices.Collect(z.Snapshot().Site())), z.Snapshot().Serial()
	if _, err := zone.Open(dir, zone.Options{}); err == nil {
		t.Fatal("opened twice")
	}
	closeStore(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if rcode, err := update(t, z, "delname a.example.org."); rcode != dns.RcodeServerFailure || !errors.Is(err, zone.ErrClosed) {
		t.Fatalf("update of a closed store: %d, %v", rcode, err)
	}
	if _, err := s.Zone("example.net.", nil); !errors.Is(err, zone.ErrClosed) {
		t.Fatal(err)
	}
	if !slices.Equal(dump(z), want) {
		t.Fatal("the snapshot went away with the store")
	}

	s = open(t, dir, zone.Options{})
	defer closeStore(t, s)
	again := load(t, s, origin)
	if got := dump(again); !slices.Equal(got, want) {
		t.Errorf("after opening again:\n got %q\nwant %q", got, want)
	}
	if got := text(slices.Collect(again.Snapshot().Site())); !slices.Equal(got, wantSite) {
		t.Errorf("site's records after opening again:\n got %q\nwant %q", got, wantSite)
	}
	if again.Snapshot().Serial() != serial || again.Snapshot().Len() != z.Snapshot().Len() || again.Snapshot().Size() != z.Snapshot().Size() {
		t.Error("serial or size differ after opening again")
	}
	if rcode, _ := update(t, again, "delname legacy.example.org."); rcode != dns.RcodeRefused {
		t.Error("site's records lost their protection")
	}
	if res := again.Snapshot().Lookup("a.sub.example.org.", dns.TypeA); res.Authoritative {
		t.Error("delegation lost")
	}
	if got := load(t, s, other.Origin()); !slices.Equal(dump(got), dump(other)) {
		t.Error("the other zone differs")
	}
	if same := load(t, s, origin); same != again {
		t.Error("one zone twice")
	}
}

// files returns the names and contents of the files in dir.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(data)
	}
	return all
}

func TestOpenRefuses(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "zones")
		if err := os.WriteFile(path, []byte("dynupdate"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := zone.Open(path, zone.Options{})
		if err == nil || !strings.Contains(err.Error(), "is a file") {
			t.Fatal(err)
		}
	})
	t.Run("foreign directory", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "photo.jpg"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := zone.Open(dir, zone.Options{})
		if err == nil || !strings.Contains(err.Error(), "photo.jpg") {
			t.Fatal(err)
		}
	})
	t.Run("no directory above", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "b")
		if _, err := zone.Open(dir, zone.Options{}); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	})
	t.Run("without its marker", func(t *testing.T) {
		for _, restarts := range []int{0, 1, 2} {
			dir := filepath.Join(t.TempDir(), "zones")
			s := open(t, dir, zone.Options{})
			load(t, s, origin, base...)
			closeStore(t, s)
			for range restarts {
				closeStore(t, open(t, dir, zone.Options{}))
			}
			markers, err := filepath.Glob(filepath.Join(dir, "marker.manifest.*"))
			if err != nil || len(markers) != 1 {
				t.Fatal(markers, err)
			}
			if err := os.Remove(markers[0]); err != nil {
				t.Fatal(err)
			}
			before := files(t, dir)
			_, err = zone.Open(dir, zone.Options{})
			if !errors.Is(err, zone.ErrCorrupt) || !strings.Contains(err.Error(), dir) {
				t.Errorf("after %d restarts: %v", restarts, err)
			}
			if after := files(t, dir); !maps.Equal(before, after) {
				t.Errorf("after %d restarts: files were %v, and are %v", restarts, before, after)
			}
		}
	})
	t.Run("not made to the end", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		closeStore(t, open(t, dir, zone.Options{}))
	})
}

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "zones")
	s := open(t, dir, zone.Options{})
	load(t, s, origin, base...)
	check := func() {
		t.Helper()
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		files, err := os.ReadDir(dir)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
			}
		}
	}
	check()
	closeStore(t, s)
	closeStore(t, open(t, dir, zone.Options{}))
	check()
}

// A log is longer than what it holds, so that few syncs have to make it longer, and the rest is no part of the zone.
func TestLogIsExtended(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, zone.Options{})
	z := load(t, s, origin, base...)
	longest := func() (size int64) {
		for name, content := range files(t, dir) {
			if strings.HasSuffix(name, ".log") {
				size = max(size, int64(len(content)))
			}
		}
		return size
	}
	steps := map[int64]bool{}
	const updates = 2000 // of which each takes more than 200 octets
	for n := range updates {
		mustUpdate(t, z, fmt.Sprintf("add extended%d.example.org. 300 TXT %s", n, strings.Repeat("x", 200)))
		if n%100 == 99 {
			steps[longest()] = true
		}
	}
	if size := longest(); size < 200*updates || len(steps) > 10 {
		t.Errorf("%d octets, after lengths of %v", size, slices.Sorted(maps.Keys(steps)))
	}
	want := dump(z)
	closeStore(t, s)
	s = open(t, dir, zone.Options{})
	defer closeStore(t, s)
	if got := load(t, s, origin); !slices.Equal(dump(got), want) {
		t.Error("the zone differs")
	}
}

func TestAcquire(t *testing.T) {
	above := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), above); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(above, "zones")
	a, releaseA, err := zone.Acquire(dir, zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	z := load(t, a, origin, base...)
	b, releaseB, err := zone.Acquire(dir+"/../zones/", zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Fatal("two stores of one directory")
	}
	for range 2 {
		if err := releaseA(); err != nil {
			t.Fatal(err)
		}
	}
	mustUpdate(t, z, "add a.example.org. 5 IN A 192.0.2.1")
	if err := releaseB(); err != nil {
		t.Fatal(err)
	}
	if rcode, err := update(t, z, "delname a.example.org."); rcode != dns.RcodeServerFailure || !errors.Is(err, zone.ErrClosed) {
		t.Fatalf("%d, %v", rcode, err)
	}
	c, releaseC, err := zone.Acquire(dir, zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if c == a || load(t, c, origin).Snapshot().Serial() != 11 {
		t.Error("after all released it the database was not opened anew")
	}
	if err := releaseC(); err != nil {
		t.Fatal(err)
	}
	m, releaseM, err := zone.Acquire("", zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, releaseN, err := zone.Acquire("", zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m == n {
		t.Error("memory is shared")
	}
	if err := errors.Join(releaseM(), releaseN()); err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentUpdates(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "zones"), zone.Options{})
	defer closeStore(t, s)
	a := load(t, s, origin, base...)
	b := load(t, s, "example.net.", "example.net. 5 IN SOA a. b. 7 1 1 1 1")
	const clients, each = 16, 20
	var won sync.Map
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				for _, z := range []*zone.Zone{a, b} {
					rcode, err := z.Update(context.Background(), nil, parse(t, fmt.Sprintf("add h%d-%d.%s 5 IN A 192.0.2.1", c, i, z.Origin())), all)
					if rcode != dns.RcodeSuccess || err != nil {
						t.Errorf("%d, %v", rcode, err)
					}
				}
				// A name that all want: the prerequisite lets exactly one have it.
				name := fmt.Sprintf("x%d.example.org.", i)
				rcode, err := a.Update(context.Background(), parse(t, "nx "+name), parse(t, fmt.Sprintf("add %s 5 IN TXT %d", name, c)), all)
				switch {
				case rcode == dns.RcodeSuccess:
					if _, twice := won.LoadOrStore(name, c); twice {
						t.Errorf("two got %s", name)
					}
				case rcode != dns.RcodeYXDomain || err != nil:
					t.Errorf("%s, %v", dns.RcodeToString[rcode], err)
				}
				if a.Snapshot().RRset(fmt.Sprintf("h%d-%d.example.org.", c, i), dns.TypeA) == nil {
					t.Error("answered before it was published")
				}
			}
		})
	}
	wg.Wait()
	if got, want := a.Snapshot().Serial(), uint32(10+clients*each+each); got != want {
		t.Errorf("serial %d, want %d", got, want)
	}
	if got, want := b.Snapshot().Serial(), uint32(7+clients*each); got != want {
		t.Errorf("serial %d, want %d", got, want)
	}
}

func TestContext(t *testing.T) {
	z := memory(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	rcode, err := z.Update(ctx, nil, parse(t, "delname www.example.org."), all)
	if rcode != dns.RcodeServerFailure || !errors.Is(err, context.Canceled) {
		t.Fatalf("%d, %v", rcode, err)
	}
	if _, err := z.ReplaceSite(ctx, func(*zone.Candidate) ([]dns.RR, zone.Derive) { return nil, nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}

	// One transaction holds the committer; another waits, gives up, and is not done.
	busy, release := make(chan struct{}), make(chan struct{})
	held := make(chan error, 1)
	var once sync.Once
	z.Configure(zone.Config{Committed: func(uint32) {
		once.Do(func() {
			close(busy)
			<-release
		})
	}})
	go func() {
		_, err := z.Update(context.Background(), nil, parse(t, "add a.example.org. 5 IN A 192.0.2.1"), all)
		held <- err
	}()
	<-busy
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	rcode, err = z.Update(ctx, nil, parse(t, "delname www.example.org."), all)
	if rcode != dns.RcodeServerFailure || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d, %v", rcode, err)
	}
	close(release)
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, z, "add b.example.org. 5 IN A 192.0.2.1")
	if z.Snapshot().RRset("www.example.org.", dns.TypeA) == nil || z.Snapshot().Serial() != 12 {
		t.Errorf("a transaction whose caller gave up was done: %q", dump(z))
	}
}

func TestPanicIsContained(t *testing.T) {
	z := memory(t)
	rcode, err := z.Update(context.Background(), nil, parse(t, "delname www.example.org."), func(string, uint16) bool { panic("permit") })
	if rcode != dns.RcodeServerFailure || err == nil {
		t.Fatalf("%d, %v", rcode, err)
	}
	if _, err := z.ReplaceSite(context.Background(), func(*zone.Candidate) ([]dns.RR, zone.Derive) { panic("want") }); err == nil {
		t.Fatal("no error")
	}
	z.Configure(zone.Config{Committed: func(uint32) { panic("committed") }})
	mustUpdate(t, z, "add b.example.org. 5 IN A 192.0.2.1")
	mustUpdate(t, z, "add c.example.org. 5 IN A 192.0.2.1")
	if z.Snapshot().Serial() != 12 {
		t.Error("serial")
	}
}

func TestNewSerial(t *testing.T) {
	if zone.NewSerial(time.Unix(0, 0)) != 1 || zone.NewSerial(time.Unix(1<<32, 0)) != 1 || zone.NewSerial(time.Unix(1700000000, 0)) != 1700000000 {
		t.Fatal("serial")
	}
}
