package zone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/miekg/dns"
)

const (
	powerDatabases = 10
	powerCuts      = 20 // of each database, one after the other
	powerClients   = 4
	powerNames     = 24                       // that each client uses
	powerHosts     = testHosts / powerClients // of them: those of the site's services
)

// powerClient is one client of TestPowerCuts. Its updates give a pair of names a value, another value, or take both away;
// each changes something, and so takes a serial.
type powerClient struct {
	number int
	acked  [powerNames]int // value of each pair; 0: it is not there
	done   int             // updates that were acknowledged

	name, value int // the update that is under way
	busy        bool
}

// powerPair are the names of a pair. The first names of each client are hosts, of which the services follow.
func powerPair(client, n int) (a, b string) {
	if n < powerHosts {
		return host(client*powerHosts + n), fmt.Sprintf("b%d-%d.%s", client, n, testOrigin)
	}
	return fmt.Sprintf("a%d-%d.%s", client, n, testOrigin), fmt.Sprintf("b%d-%d.%s", client, n, testOrigin)
}

// powerSite is the site, which becomes one version after the other. Each takes a serial.
type powerSite struct {
	acked int // version; 0: there was none yet
	busy  bool
}

// update is what leads from one value of a pair to another.
func (c *powerClient) update(t testing.TB, was int) []dns.RR {
	a, b := powerPair(c.number, c.name)
	var rrs []dns.RR
	if was != 0 {
		rrs = append(rrs, &dns.ANY{Hdr: dns.RR_Header{Name: a, Rrtype: dns.TypeANY, Class: dns.ClassANY}},
			&dns.ANY{Hdr: dns.RR_Header{Name: b, Rrtype: dns.TypeTXT, Class: dns.ClassANY}})
	}
	if c.value != 0 {
		// Now and then one that fills half a memtable, and so becomes one of its own.
		filler := strings.Repeat(` "`+strings.Repeat("x", 200)+`"`, 1+c.value%7+c.value%97/96*200)
		rrs = append(rrs, testRR(t, fmt.Sprintf("%s 60 IN A 10.%d.%d.%d", a, c.value>>16, c.value>>8&255, c.value&255)),
			testRR(t, fmt.Sprintf(`%s 60 IN TXT "%d"%s`, b, c.value, filler)))
	}
	return rrs
}

// powerRun is one database of TestPowerCuts and what is known of it.
type powerRun struct {
	t       *testing.T
	random  *rand.Rand
	mem     *vfs.MemFS
	clients [powerClients]powerClient
	site    powerSite
	values  int
	made    bool // the zone was there before the power was cut

	// gate is held while clients' entries change, and while the power is cut: what was acknowledged before that is
	// on disk, and of each client at most one update is under way.
	gate  sync.Mutex
	left  int // operations of the disk until the cut
	cut   *vfs.MemFS
	parts int // how many more to make of what was not synced
	more  []*vfs.MemFS
	then  [powerClients]powerClient // clients at the cut
	was   powerSite                 // site at the cut
	seen  []*Snapshot               // some of those that were published before it
	on    string                    // what the disk was doing
}

func (r *powerRun) String() string { return "power" }

// MaybeError cuts the power before one operation of the disk, whichever of Pebble's goroutines it is of.
func (r *powerRun) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.left--; r.left != 0 {
		return nil
	}
	r.then, r.was = r.clients, r.site
	name := path.Base(op.Path)
	switch {
	case isLog(name):
		r.on = "log"
	case strings.HasSuffix(name, ".sst"):
		r.on = "table"
	default:
		r.on, _, _ = strings.Cut(name, "-")
		r.on, _, _ = strings.Cut(r.on, ".")
	}
	r.cut = r.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.random.IntN(5) * 25, RNG: r.random})
	for range r.parts {
		r.more = append(r.more, r.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r.random}))
	}
	return nil
}

// next notes what the last update of a client came to, and gives it another one; false after the cut.
func (r *powerRun) next(c *powerClient, z *Zone) (was int, ok bool) {
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.cut != nil {
		return 0, false
	}
	if c.busy {
		c.acked[c.name] = c.value
		c.done++
		if r.random.IntN(20) == 0 {
			r.seen = append(r.seen, z.Snapshot())
		}
	}
	c.busy = true
	c.name = r.random.IntN(powerNames)
	was = c.acked[c.name]
	c.value = 0
	if was == 0 || r.random.IntN(3) > 0 {
		r.values++
		c.value = r.values
	}
	return was, true
}

// reload gives the site one version after the other until the power is cut.
func (r *powerRun) reload(z *Zone) {
	for {
		r.gate.Lock()
		if r.site.busy {
			r.site.acked++
		}
		r.site.busy = r.cut == nil
		version, stop := r.site.acked+1, r.cut != nil
		r.gate.Unlock()
		if stop {
			return
		}
		if changed, err := z.ReplaceSite(context.Background(), wantSite(r.t, version, hostsIn(version))); err != nil || !changed {
			r.t.Errorf("version %d: %t, %v", version, changed, err)
			return
		}
	}
}

// open opens the database, which fails only if it was cut off before there was a zone.
func (r *powerRun) open(fs vfs.FS) (*Store, *Zone) {
	r.t.Helper()
	s, err := Open("db", Options{FS: fs, memTable: 64 << 10, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	z, err := s.Zone(testOrigin, func() ([]dns.RR, error) {
		if r.made {
			return nil, errors.New("seeded again")
		}
		return testSeed(r.t)()
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return s, z
}

// load runs the clients until the power is cut.
func (r *powerRun) load() {
	r.left, r.cut = 1+r.random.IntN(200), nil
	if r.random.IntN(4) == 0 {
		r.left = 1 + r.random.IntN(40) // while it opens
	}
	s, z := r.open(errorfs.Wrap(r.mem, r))
	r.gate.Lock()
	r.made = r.made || r.cut == nil
	if r.cut == nil {
		r.seen = append(r.seen, z.Snapshot())
	}
	r.gate.Unlock()
	if version := r.site.acked; version > 0 { // the rules are not on disk
		if changed, err := z.ReplaceSite(context.Background(), wantSite(r.t, version, hostsIn(version))); err != nil || changed {
			r.t.Errorf("version %d again: %t, %v", version, changed, err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { r.reload(z) })
	for i := range r.clients {
		c := &r.clients[i]
		wg.Go(func() {
			for {
				was, ok := r.next(c, z)
				if !ok {
					return
				}
				if rcode, err := z.Update(context.Background(), nil, c.update(r.t, was), permitAll); rcode != dns.RcodeSuccess || err != nil {
					r.t.Errorf("%s, %v", dns.RcodeToString[rcode], err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		r.t.Error(err)
	}
}

// check compares the zone with what the clients knew at the cut, and goes on from what it finds.
func (r *powerRun) check(z *Zone) {
	r.t.Helper()
	snap := z.Snapshot()
	records, done := 2, 0
	for i := range r.then {
		c := &r.then[i]
		for n, want := range c.acked {
			found := pairValue(r.t, snap, i, n)
			if c.busy && n == c.name && found == c.value {
				c.acked[n] = found
				c.done++
			} else if found != want {
				r.t.Errorf("pair %d-%d has %d, and %d was acknowledged", i, n, found, want)
			}
			if found != 0 {
				records += 2
			}
		}
		c.busy = false
		done += c.done
		r.clients[i] = *c
	}
	switch version := siteVersion(r.t, snap); {
	case version == r.was.acked, r.was.busy && version == r.was.acked+1:
		r.site = powerSite{acked: version}
	default:
		r.t.Errorf("version %d of the site, and %d was acknowledged", version, r.was.acked)
	}
	done += r.site.acked
	if version := r.site.acked; version > 0 {
		checkSite(r.t, snap, version, hostsIn(version))
		records += testHosts + 1
		for i := range hostsIn(version) {
			if snap.RRset(host(i), dns.TypeA) != nil {
				records += len(serviceRecords(r.t, i))
			}
		}
	}
	if snap.Len() != records {
		r.t.Errorf("%d records, want %d", snap.Len(), records)
	}
	if want := uint32(10 + done); snap.Serial() != want {
		r.t.Errorf("serial %d after %d updates and versions of the site", snap.Serial(), done)
	}
	checkJournal(r.t, z)
	now := version(snap)
	revisions := snap.state.journal.revisions
	for _, old := range r.seen {
		d, ok := snap.Since(old.Serial())
		switch {
		case old.Serial() == snap.Serial():
			if !sameVersion(version(old), now) {
				r.t.Errorf("serial %d is of two versions", snap.Serial())
			}
		case ok:
			if !sameVersion(applyDifference(r.t, version(old), d), now) {
				r.t.Errorf("the difference from serial %d to %d does not lead there", old.Serial(), snap.Serial())
			}
		case len(revisions) > 0 && old.Serial() < revisions[0].from: // no longer known
		case differenceSize(old, snap) <= snap.state.octets:
			r.t.Errorf("no difference from serial %d to %d", old.Serial(), snap.Serial())
		}
	}
	if n := len(r.seen); n > 3 {
		r.seen = r.seen[n-3:]
	}
}

// pairValue is the value of a pair, 0 if it is not there.
func pairValue(t testing.TB, s *Snapshot, client, n int) int {
	t.Helper()
	a, b := powerPair(client, n)
	as, bs := s.RRset(a, dns.TypeA), s.RRset(b, dns.TypeTXT)
	if len(as) == 0 && len(bs) == 0 {
		return 0
	}
	if len(as) != 1 || len(bs) != 1 {
		t.Errorf("half an update: %v %.100v", as, bs)
		return -1
	}
	ip := as[0].(*dns.A).A.To4()
	value := int(ip[1])<<16 | int(ip[2])<<8 | int(ip[3])
	if text := bs[0].(*dns.TXT).Txt[0]; text != fmt.Sprint(value) {
		t.Errorf("half an update: %v %q", as, text)
	}
	return value
}

// differenceSize is the size of what differs between two versions, in octets.
func differenceSize(a, b *Snapshot) int {
	n := 0
	for _, two := range [2][2]*Snapshot{{a, b}, {b, a}} {
		other := version(two[1])
		for rr := range two[0].All() {
			if rr.Header().Rrtype != dns.TypeSOA && !other[rr.String()] {
				n += dns.Len(rr)
			}
		}
	}
	return n
}

// The power is cut 200 times, at any operation of the disk: while a database is made or opened after the last cut, in
// commits, and while logs, tables and manifests are made and removed. What was not synced, files' content and entries of
// the directory, is lost, or is there in part. No acknowledged update may be lost, none may be there by half, and the
// serial and the journal tell exactly what is there. The site is one of its versions, and a service is there exactly while
// its host has an address.
func TestPowerCuts(t *testing.T) {
	var mu sync.Mutex
	on := make(map[string]int)
	updates, versions := 0, 0
	t.Run("databases", func(t *testing.T) {
		for n := range powerDatabases / fewer {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				seed := rand.Uint64()
				r := &powerRun{t: t, random: rand.New(rand.NewPCG(seed, uint64(n))), mem: vfs.NewCrashableMem()}
				for i := range r.clients {
					r.clients[i].number = i
				}
				for cut := range powerCuts {
					r.load()
					s, z := r.open(r.cut)
					r.check(z)
					r.made = true
					if err := s.Close(); err != nil {
						t.Error(err)
					}
					if t.Failed() {
						t.Fatalf("cut %d, at %s; random numbers from %d", cut, r.on, seed)
					}
					r.mem = r.cut
					mu.Lock()
					on[r.on]++
					mu.Unlock()
				}
				mu.Lock()
				defer mu.Unlock()
				versions += r.site.acked
				for _, c := range r.clients {
					updates += c.done
				}
			})
		}
	})
	t.Logf("%d updates and %d versions of the site; cut while the disk wrote: %v", updates, versions, on)
	if cuts := powerDatabases / fewer * powerCuts; !t.Failed() && (updates < cuts || versions < cuts) {
		t.Errorf("too few for %d cuts", cuts)
	}
	for _, what := range []string{"log", "table", "MANIFEST"} {
		if on[what] == 0 && !t.Failed() && fewer == 1 {
			t.Errorf("no cut at a %s: %v", what, on)
		}
	}
}

// The power is cut at every operation of the disk while a database is opened that has logs to be read, and each time
// another part of what was not synced is there. Every such database opens, with what it had.
func TestPowerCutWhileOpening(t *testing.T) {
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
	random := rand.New(rand.NewPCG(1, 2))
	cuts := 0
	for at, reached := 1, true; reached; at++ {
		r := &powerRun{t: t, random: random, mem: killed.CrashClone(vfs.CrashCloneCfg{}), left: at, parts: 6}
		s, err := Open("db", Options{FS: errorfs.Wrap(r.mem, r)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		reached = r.cut != nil
		for _, cut := range r.more {
			s, err := Open("db", Options{FS: cut})
			if err != nil {
				t.Fatalf("cut at %s: %v", r.on, err)
			}
			z, err := s.Zone(testOrigin, func() ([]dns.RR, error) { return nil, errors.New("seeded again") })
			if err != nil {
				t.Fatalf("cut at %s: %v", r.on, err)
			}
			if !sameVersion(version(z.Snapshot()), want) {
				t.Errorf("cut at %s: %d records, want %d", r.on, z.Snapshot().Len(), len(want))
			}
			checkJournal(t, z)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			cuts++
		}
	}
	if cuts < 100 {
		t.Errorf("only %d cuts", cuts)
	}
}

// The disk is full from any of its operations on while a database is opened that has logs and tables to be read. That
// fails, at once and without a panic of what Pebble does in the background, and works when there is space again.
func TestFullDiskWhileOpening(t *testing.T) {
	base := vfs.NewCrashableMem()
	s, err := Open("db", Options{FS: base, memTable: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	z, err := s.Zone(testOrigin, testSeed(t))
	if err != nil {
		t.Fatal(err)
	}
	filler := strings.Repeat(` "`+strings.Repeat("x", 250)+`"`, 8)
	for i := range 150 {
		if rcode, err := z.Update(context.Background(), nil, pair(t, i, filler), permitAll); rcode != dns.RcodeSuccess {
			t.Fatal(err)
		}
	}
	want := version(z.Snapshot())
	killed := base.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for at, reached := int64(0), true; reached; at++ {
		f := &faults{at: at, forever: true}
		f.armed.Store(true)
		mem := killed.CrashClone(vfs.CrashCloneCfg{})
		s, err := Open("db", Options{FS: errorfs.Wrap(mem, f), memTable: 64 << 10})
		if err == nil {
			_ = s.Close() // may fail or not: everything is on disk already
		}
		reached = f.hit.Load()
		if s, err = Open("db", Options{FS: mem, memTable: 64 << 10}); err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		if z, err = s.Zone(testOrigin, func() ([]dns.RR, error) { return nil, errors.New("seeded again") }); err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		if !sameVersion(version(z.Snapshot()), want) {
			t.Errorf("at %d: %d records, want %d", at, z.Snapshot().Len(), len(want))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
