package zone

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/miekg/dns"
)

// A database is opened whose disk is full from any of its operations on: its zone is served as it was, nothing is
// changed, and as soon as there is space it takes updates, and keeps them.
func TestOpenOnFullDisk(t *testing.T) {
	base := vfs.NewCrashableMem()
	s, z := openMem(t, base)
	for i := range 30 {
		if rcode, err := z.Update(context.Background(), nil, pair(t, i, ""), permitAll); rcode != dns.RcodeSuccess {
			t.Fatal(err)
		}
	}
	want := version(z.Snapshot())
	killed := base.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	none := func() ([]dns.RR, error) { return nil, errors.New("seeded again") }
	failed := 0
	for at, reached := int64(0), true; reached; at++ {
		f := &faults{at: at, forever: true}
		f.armed.Store(true)
		mem := killed.CrashClone(vfs.CrashCloneCfg{})
		s, err := Open("db", Options{FS: errorfs.Wrap(mem, f)})
		if err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		s.reopenIn = 0
		z, err := s.Zone(testOrigin, none)
		if err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		if !sameVersion(version(z.Snapshot()), want) {
			t.Errorf("at %d: %d records, want %d", at, z.Snapshot().Len(), len(want))
		}
		if _, err := s.Zone("other."+testOrigin, none); err == nil {
			t.Errorf("at %d: a zone that is not there", at)
		}
		reached = f.hit.Load()
		if rcode, _ := z.Update(context.Background(), nil, pair(t, 30, ""), permitAll); rcode != dns.RcodeSuccess {
			failed++
			if !sameVersion(version(z.Snapshot()), want) {
				t.Errorf("at %d: an update that failed has changed the zone", at)
			}
			f.armed.Store(false)
			if rcode, err := z.Update(context.Background(), nil, pair(t, 30, ""), permitAll); rcode != dns.RcodeSuccess {
				t.Errorf("at %d, with space again: %v", at, err)
			}
		}
		f.armed.Store(false)
		now := version(z.Snapshot())
		if err := s.Close(); err != nil && f.n.Load() == 0 {
			t.Error(err)
		}
		if s, err = Open("db", Options{FS: mem}); err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		if z, err = s.Zone(testOrigin, none); err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		if len(now) == len(want) || !sameVersion(version(z.Snapshot()), now) {
			t.Errorf("at %d: %d records after the end, want %d", at, z.Snapshot().Len(), len(now))
		}
		checkJournal(t, z)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if failed == 0 {
		t.Error("no update has failed")
	}
}
