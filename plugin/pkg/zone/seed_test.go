package zone

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/miekg/dns"
)

// moment is when something is done in between: before the n-th change of a file.
type moment struct {
	n     int64
	do    func()
	count atomic.Int64
}

func (m *moment) String() string { return "moment" }

func (m *moment) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && m.count.Add(1) == m.n {
		m.do()
	}
	return nil
}

// A power cut while a zone is made leaves it whole, or not there; then it is made from what its seed is then.
func TestCrashWhileSeeding(t *testing.T) {
	const names = 60_000 // a few batches, and more than a log
	large := func() ([]dns.RR, error) {
		rrs, err := testSeed(t)()
		for i := range names {
			rrs = append(rrs, &dns.PTR{
				Hdr: dns.RR_Header{Name: fmt.Sprintf("h%d.a-name-that-makes-the-record-longer-than-most.example.org.", i), Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: 60},
				Ptr: "a-target-that-makes-the-record-longer-than-most.example.org.",
			})
		}
		return rrs, err
	}
	writes := &moment{n: -1}
	s, err := Open("db", Options{FS: errorfs.Wrap(vfs.NewMem(), writes)})
	if err != nil {
		t.Fatal(err)
	}
	z, err := s.Zone(testOrigin, large)
	if err != nil {
		t.Fatal(err)
	}
	whole, last := contents(z), writes.count.Load()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left, found := 0, 0
	for round := range int64(12) {
		mem := vfs.NewCrashableMem()
		var clone *vfs.MemFS
		m := &moment{n: last * (2*round + 1) / 24}
		m.do = func() {
			clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(round), 1))})
		}
		s, err := Open("db", Options{FS: errorfs.Wrap(mem, m)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Zone(testOrigin, large); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if clone == nil {
			continue // fewer writes this time
		}
		if s, err = Open("db", Options{FS: clone}); err != nil {
			t.Fatal(err)
		}
		if orphans(t, s) {
			left++
		}
		seeded := false
		z, err := s.Zone(testOrigin, func() ([]dns.RR, error) {
			seeded = true
			return testSeed(t)()
		})
		if err != nil {
			t.Fatal(err)
		}
		got := contents(z)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		switch {
		case !seeded && !slices.Equal(got, whole):
			t.Errorf("round %d: a zone of %d records, want %d", round, len(got), len(whole))
		case seeded && len(got) != 2:
			t.Errorf("round %d: a new zone of %d records, want 2", round, len(got))
		case !seeded:
			found++
		}
		if s, err = Open("db", Options{FS: clone}); err != nil {
			t.Fatal(err)
		}
		again, err := s.Zone(testOrigin, func() ([]dns.RR, error) { t.Error("seeded again"); return testSeed(t)() })
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(contents(again), got) {
			t.Errorf("round %d: opened again, it has %d records, and had %d", round, again.Snapshot().Len(), len(got))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left == 0 {
		t.Error("no crash left records without a zone")
	}
	t.Logf("%d crashes left records without a zone, %d a whole zone", left, found)
}

// orphans reports whether the database has records, and no zone.
func orphans(t *testing.T, s *Store) bool {
	t.Helper()
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	return it.SeekGE([]byte{keyRecord}) && it.Key()[0] == keyRecord && (!it.SeekGE([]byte{keyZone}) || it.Key()[0] != keyZone)
}
