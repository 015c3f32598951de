package zone

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/miekg/dns"
)

const copyDir = "/copies/now"

// copiedZones is a disk with a copy of a database of two zones, what the copy holds of the first, and the serial that this zone
// had when it was last seen.
func copiedZones(t *testing.T) (mem *vfs.MemFS, want []string, published uint32) {
	t.Helper()
	mem = vfs.NewCrashableMem()
	s, z := openMem(t, mem)
	if _, err := s.Zone("2.0.192.in-addr.arpa.", func() ([]dns.RR, error) {
		return []dns.RR{testRR(t, "2.0.192.IN-addr.arpa. 300 IN SOA ns.example.org. hostmaster.example.org. 4294967295 3600 600 86400 60")}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := z.ReplaceSite(t.Context(), wantSite(t, 1, testHosts)); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		testUpdate(t, z, pair(t, i, "")...)
	}
	want = withoutSerial(z)
	if err := s.Checkpoint(t.Context(), copyDir); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		testUpdate(t, z, pair(t, 100+i, "")...)
	}
	published = z.Snapshot().Serial()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, z = openMem(t, mem)
	if got := z.Snapshot().Serial(); got != published {
		t.Errorf("the database itself has serial %d, had %d", got, published)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return mem, want, published
}

// withoutSerial is what a zone holds, but for its serial, and whose it is.
func withoutSerial(z *Zone) []string {
	var all []string
	snap := z.Snapshot()
	for rr := range snap.All() {
		if soa, ok := rr.(*dns.SOA); ok {
			c := *soa
			c.Serial = 0
			rr = &c
		}
		all = append(all, rr.String())
	}
	for rr := range snap.Site() {
		if rr.Header().Rrtype != dns.TypeSOA {
			all = append(all, "site "+rr.String())
		}
	}
	slices.Sort(all)
	return all
}

// checkRestored opens the copy and fails unless it has what was copied, under a serial that is newer.
func checkRestored(t *testing.T, files vfs.FS, want []string, published uint32) (serial uint32) {
	t.Helper()
	s, err := Open(copyDir, Options{FS: files})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	again := func() ([]dns.RR, error) { return nil, errors.New("seeded again") }
	z, err := s.Zone(testOrigin, again)
	if err != nil {
		t.Fatal(err)
	}
	if got := withoutSerial(z); !slices.Equal(got, want) {
		t.Errorf("restored is %q, copied was %q", got, want)
	}
	snap := z.Snapshot()
	if !serialNewer(snap.Serial(), published+restoreBurst/2) {
		t.Errorf("serial %d, and %d was published", snap.Serial(), published)
	}
	if n := snap.Journal().Revisions; n != 0 {
		t.Errorf("%d revisions", n)
	}
	other, err := s.Zone("2.0.192.in-addr.arpa.", again)
	if err != nil {
		t.Fatal(err)
	}
	if got := other.Snapshot().Serial(); got == 0 || !serialNewer(got, 1<<32-1) {
		t.Errorf("serial of the other zone %d", got)
	}
	if _, is, err := marked(files, copyDir); is || err != nil {
		t.Errorf("still marked: %t, %v", is, err)
	}
	return snap.Serial()
}

// A copy goes on with what it holds under serials that are newer than any that was published since; once.
func TestRestore(t *testing.T) {
	mem, want, published := copiedZones(t)
	if _, is, err := marked(mem, "db"); is || err != nil {
		t.Errorf("the database itself is marked: %t, %v", is, err)
	}
	if begun, is, err := marked(mem, copyDir); !is || err != nil || time.Since(begun) > time.Hour {
		t.Errorf("the copy is marked: %t, %v, %v", is, begun, err)
	}
	serial := checkRestored(t, mem, want, published)
	if again := checkRestored(t, mem, want, published); again != serial {
		t.Errorf("serial %d when opened again, was %d", again, serial)
	}
	s, err := Open(copyDir, Options{FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	z, err := s.Zone(testOrigin, nil)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := z.ReplaceSite(t.Context(), wantSite(t, 1, testHosts)); changed || err != nil {
		t.Errorf("the same site: %t, %v", changed, err)
	}
	testUpdate(t, z, pair(t, 200, "")...)
	if got := z.Snapshot().Serial(); got != serial+1 {
		t.Errorf("serial %d after an update, was %d", got, serial)
	}
	if _, ok := z.Snapshot().Since(serial); !ok {
		t.Error("no difference from the restored version")
	}
	if _, ok := z.Snapshot().Since(published); ok {
		t.Error("a difference from a version that was lost")
	}
	checkJournal(t, z)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A copy of the restored one is a copy again.
	s, _ = openMem(t, mem)
	defer s.Close()
	if err := s.Checkpoint(t.Context(), "/copies/next"); err != nil {
		t.Fatal(err)
	}
	if _, is, err := marked(mem, "/copies/next"); !is || err != nil {
		t.Errorf("%t, %v", is, err)
	}
}

func TestSerialAfter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const day = 24 * 60 * 60
	for name, tt := range map[string]struct {
		serial uint32
		ago    int64 // seconds
		want   uint32
	}{
		"small":                      {10, day, 1_800_000_000},
		"from Unix time":             {1_790_000_000, day, 1_800_000_000},
		"just made":                  {1_800_000_000, 0, 1_800_100_000},
		"close to the clock":         {1_799_500_000, day, 1_799_500_000 + restoreBurst + restoreRate*day},
		"a date":                     {2_026_112_201, day, 2_026_112_201 + restoreBurst + restoreRate*day},
		"the clock went back":        {1_900_000_000, -day, 1_900_000_000 + restoreBurst},
		"half-way round from it":     {1_800_000_000 + 1<<31, 0, 1_800_000_000 + 1<<31 + restoreBurst},
		"less than half-way round":   {1_800_000_001 + 1<<31, 0, 1_800_000_000},
		"goes round":                 {1<<32 - 1, day, 1_800_000_000},
		"as old as nothing can be":   {2_026_112_201, 1 << 40, (2_026_112_201 + 1<<31 - 1) & (1<<32 - 1)},
		"as old, and behind Unix it": {10, 1 << 40, 10 + 1<<31 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			got := serialAfter(tt.serial, now.Add(-time.Duration(tt.ago)*time.Second), now)
			if tt.ago == 1<<40 {
				got = serialAfter(tt.serial, time.Unix(now.Unix()-tt.ago, 0), now)
			}
			if got != tt.want || !serialNewer(got, tt.serial) {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

func TestSerialAfterIsNever0(t *testing.T) {
	late := time.Unix(3_000_000_000, 0)
	if got := serialAfter(1<<32-restoreBurst, late, late); got != 1 {
		t.Errorf("%d, want 1", got)
	}
}

// The power is cut at every operation of the disk while a copy is opened for the first time. It never shows the old serial,
// and nothing of it is lost.
func TestPowerCutWhileRestoring(t *testing.T) {
	base, want, published := copiedZones(t)
	random := rand.New(rand.NewPCG(1, 2))
	cuts, raised := 0, 0
	for at, reached := 1, true; reached; at++ {
		r := &powerRun{t: t, random: random, mem: base.CrashClone(vfs.CrashCloneCfg{}), left: at, parts: 4}
		s, err := Open(copyDir, Options{FS: errorfs.Wrap(r.mem, r)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		reached = r.cut != nil
		for _, cut := range r.more {
			if _, is, err := marked(cut, copyDir); err != nil {
				t.Fatal(err)
			} else if !is {
				raised++
			}
			checkRestored(t, cut, want, published)
			cuts++
		}
		if t.Failed() {
			t.Fatalf("cut at operation %d, on %s", at, r.on)
		}
	}
	if cuts < 50 || raised == 0 {
		t.Errorf("only %d cuts, %d of them later than the mark", cuts, raised)
	}
}

// A copy on a full disk does not serve under its old serials; with space it does under new ones.
func TestRestoreOnFullDisk(t *testing.T) {
	base, want, published := copiedZones(t)
	served := 0
	for at, reached := int64(0), true; reached; at++ {
		f := &faults{at: at, forever: true}
		f.armed.Store(true)
		mem := base.CrashClone(vfs.CrashCloneCfg{})
		s, err := Open(copyDir, Options{FS: errorfs.Wrap(mem, f)})
		if err == nil {
			if z, err := s.Zone(testOrigin, nil); err == nil {
				served++
				if got := z.Snapshot().Serial(); !serialNewer(got, published) {
					t.Errorf("at %d: serves serial %d, and %d was published", at, got, published)
				}
			}
			_ = s.Close() // may fail or not
		}
		reached = f.hit.Load()
		checkRestored(t, mem, want, published)
	}
	if served == 0 {
		t.Error("it never served")
	}
}

// A mark that is not understood is refused, and left alone.
func TestRestoreDamagedMark(t *testing.T) {
	base, want, published := copiedZones(t)
	for _, text := range []string{"", "dicomnam checkpoint 1795306150", "dicomnam checkpoint x\n", "1795306150\n", strings.Repeat("x", 100)} {
		mem := base.CrashClone(vfs.CrashCloneCfg{})
		path := mem.PathJoin(copyDir, markName)
		write := func(text string) {
			t.Helper()
			f, err := mem.Create(path, vfs.WriteCategoryUnspecified)
			if err == nil {
				_, err = f.Write([]byte(text))
			}
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		write(text)
		if s, err := Open(copyDir, Options{FS: mem}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), markName) {
			t.Errorf("%q: %v", text, err)
			if err == nil {
				_ = s.Close() // it should not be open
			}
		}
		if _, err := mem.Stat(path); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q is gone", text)
		}
		write("dicomnam checkpoint 1795306150\n")
		checkRestored(t, mem, want, published)
	}
}
