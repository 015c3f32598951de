package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// wideConfig has one network with a pool of n addresses.
func wideConfig(n int) Config {
	first := netip.MustParseAddr("10.0.0.1")
	b := first.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += uint32(n) - 1
	last := netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	return Config{
		Domain: "example.org.",
		Networks: []Network{{
			Name: "wide", Prefix: netip.MustParsePrefix("10.0.0.0/8"), Pools: []Pool{{First: first, Last: last}},
			LeaseTime: 12 * time.Hour, DDNS: true,
		}},
	}
}

var wideLink = netip.MustParseAddr("10.255.255.1")

func numbered(n int) Client {
	return Client{HardwareType: 1, HardwareAddr: string([]byte{0x02, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})}
}

// TestConcurrentClients has more clients than addresses ask at once: nobody may get what another one was given.
func TestConcurrentClients(t *testing.T) {
	m, err := Open(t.TempDir()+"/leases", wideConfig(50), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer run.Wait()
	defer cancel()
	var mu sync.Mutex
	owner := map[netip.Addr]int{}
	var clients sync.WaitGroup
	for n := range 64 {
		clients.Go(func() {
			q := Query{Client: numbered(n), Links: []netip.Addr{wideLink}, ServerID: server, Hostname: fmt.Sprintf("h%d", n%10)}
			for range 20 {
				o, err := m.Discover(ctx, q)
				if err != nil || o.Kind != Offer {
					continue
				}
				r := q
				r.SelectedServer, r.Requested = server, o.Lease.Address
				a, err := m.Request(ctx, r)
				if err != nil {
					t.Error(err)
					return
				}
				if a.Kind != Ack {
					continue
				}
				mu.Lock()
				if o, ok := owner[a.Lease.Address]; ok && o != n {
					t.Errorf("%v given to %d, held by %d", a.Lease.Address, n, o)
				}
				owner[a.Lease.Address] = n
				mu.Unlock()
				if n%3 == 0 {
					r.ClientAddr = a.Lease.Address
					mu.Lock() // from the release on, others may have the address
					delete(owner, a.Lease.Address)
					mu.Unlock()
					if _, err := m.Release(ctx, r); err != nil {
						t.Error(err)
					}
				}
				for _, c := range m.TakeNameChanges(3) {
					if err := m.ConfirmNameChange(c); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	clients.Wait()
	seen := map[string]netip.Addr{}
	for l, err := range m.Leases() {
		if err != nil {
			t.Fatal(err)
		}
		if l.State != Active {
			continue
		}
		if o, ok := seen[l.Client.Key()]; ok {
			t.Errorf("one client holds %v and %v", o, l.Address)
		}
		seen[l.Client.Key()] = l.Address
	}
	if len(seen) == 0 {
		t.Error("no leases at all")
	}
}

// failing is a file system whose log files cannot be written or synced while it is switched on.
type failing struct {
	on   atomic.Bool
	kind atomic.Int32
	hits atomic.Int32
}

func (f *failing) MaybeError(op errorfs.Op) error {
	if !f.on.Load() {
		return nil
	}
	switch k := errorfs.OpKind(f.kind.Load()); {
	case k == errorfs.OpFileSync && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo),
		k == errorfs.OpFileWrite && op.Kind == errorfs.OpFileWrite,
		k == errorfs.OpCreate && op.Kind.ReadOrWrite() == errorfs.OpIsWrite:
		f.hits.Add(1)
		return errors.New("no space left on device")
	}
	return nil
}

func (f *failing) String() string { return "failing" }

// TestSyncFails is the promise that no Ack leaves which a crash could lose: the caller gets the error, nothing of the
// decision remains, and once the disk works again, so does the server.
func TestSyncFails(t *testing.T) {
	for name, kind := range map[string]errorfs.OpKind{
		"sync": errorfs.OpFileSync, "write": errorfs.OpFileWrite, "everything": errorfs.OpCreate,
	} {
		t.Run(name, func(t *testing.T) {
			bad := &failing{}
			bad.kind.Store(int32(kind))
			mem := vfs.NewMem()
			f := &fixture{T: t, clock: newClock(), fs: errorfs.Wrap(mem, bad)}
			f.open(testConfig())
			f.store.now = f.clock.now
			held := f.get(query(client(1), link2))

			bad.on.Store(true)
			q := query(client(2), link2)
			o := f.discover(q)
			f.discover(query(client(4), link2)) // passes the address of the offer
			var wg sync.WaitGroup
			for range 8 { // the second group builds on the first
				wg.Go(func() {
					if a, err := f.Request(context.Background(), selecting(q, o.Lease.Address)); err == nil {
						t.Errorf("%v of %v without a sync", a.Kind, a.Lease.Address)
					}
				})
			}
			wg.Wait()
			if bad.hits.Load() == 0 {
				t.Fatal("no failure was injected")
			}
			if l, ok := f.Lease(o.Lease.Address); ok {
				t.Errorf("a lease remains: %+v", l)
			}
			if _, err := f.Release(context.Background(), func() Query { r := query(client(1), link2); r.ClientAddr = held.Address; return r }()); err == nil {
				t.Error("released without a sync")
			}
			if l, _ := f.Lease(held.Address); l.State != Active || l.Client != client(1) {
				t.Errorf("the lease that was there before: %+v", l)
			}
			f.check()

			bad.on.Store(false)
			f.clock.advance(2 * reopenEvery)
			third := f.get(query(client(3), link2))
			if third.Address != o.Lease.Address {
				t.Errorf("got %v, want %v, which is free again", third.Address, o.Lease.Address)
			}
			f.check()
			check := func() {
				t.Helper()
				n := 0
				for l, err := range f.Leases() {
					if err != nil {
						t.Fatal(err)
					}
					n++
					if l.State != Active || l.Address == third.Address && l.Client != client(3) || l.Address == held.Address && l.Client != client(1) {
						t.Errorf("on disk: %+v", l)
					}
				}
				if n != 2 {
					t.Errorf("%d leases on disk, want 2", n)
				}
			}
			check()
			f.reopen(testConfig())
			check()
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// stalled is a file system whose syncs wait while it is switched on.
type stalled struct {
	on      atomic.Bool
	reached chan struct{} // a sync waits
	release chan struct{} // lets one sync go
}

func (s *stalled) MaybeError(op errorfs.Op) error {
	if s.on.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
		s.reached <- struct{}{}
		<-s.release
	}
	return nil
}

func (s *stalled) String() string { return "stalled" }

// TestUncommittedIsNotShown holds that only what is on stable storage is shown, and that decisions go on meanwhile.
func TestUncommittedIsNotShown(t *testing.T) {
	slow := &stalled{reached: make(chan struct{}), release: make(chan struct{})}
	f := &fixture{T: t, clock: newClock(), fs: errorfs.Wrap(vfs.NewMem(), slow)}
	f.open(testConfig())
	q := named(1, "ws1", link2)
	a := f.discover(q).Lease.Address
	slow.on.Store(true)
	ask := func(q Query) chan Answer {
		answered := make(chan Answer, 1)
		go func() {
			ans, err := f.Request(context.Background(), q)
			if err != nil {
				t.Error(err)
			}
			answered <- ans
		}()
		return answered
	}
	first := ask(selecting(q, a))
	<-slow.reached
	if l, ok := f.Lease(a); ok {
		t.Errorf("shown before its sync: %+v", l)
	}
	if got := f.TakeNameChanges(10); got != nil {
		t.Errorf("its name was taken before its sync: %+v", got)
	}
	if got := f.request(selecting(query(client(2), link2), a)); got.Kind != Nak {
		t.Errorf("another client asking for it meanwhile: %v", got.Kind)
	}
	f.clock.advance(time.Minute)
	second := ask(renewing(q, a)) // goes into the next group
	for queued := false; !queued; {
		f.mu.Lock()
		queued = len(f.next.steps) > 0
		f.mu.Unlock()
		runtime.Gosched()
	}
	slow.release <- struct{}{}
	end := (<-first).Lease.Expires
	<-slow.reached
	if l, ok := f.Lease(a); !ok || !l.Expires.Equal(end) {
		t.Errorf("after the first sync: %+v, want the end %v", l, end)
	}
	if got := f.TakeNameChanges(10); got != nil {
		t.Errorf("taken while the lease changes: %+v", got)
	}
	slow.on.Store(false)
	slow.release <- struct{}{}
	if ans := <-second; !ans.Lease.Expires.Equal(end.Add(time.Minute)) {
		t.Errorf("renewed until %v", ans.Lease.Expires)
	}
	f.wantChanges("+ws1.imaging.example.org. 198.51.100.10")
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestRenewalFails holds that a lease whose renewal could not be written keeps its old end, in memory and on disk.
func TestRenewalFails(t *testing.T) {
	bad := &failing{}
	bad.kind.Store(int32(errorfs.OpFileSync))
	f := &fixture{T: t, clock: newClock(), fs: errorfs.Wrap(vfs.NewMem(), bad)}
	f.open(testConfig())
	f.store.now = f.clock.now
	q := query(client(1), link2)
	l := f.get(q)
	f.clock.advance(30 * time.Minute)
	bad.on.Store(true)
	if _, err := f.Request(context.Background(), renewing(q, l.Address)); err == nil {
		t.Fatal("renewed without a sync")
	}
	bad.on.Store(false)
	if got, _ := f.Lease(l.Address); !got.Expires.Equal(l.Expires) {
		t.Errorf("ends %v, want %v", got.Expires, l.Expires)
	}
	f.clock.advance(reopenEvery)
	if err := f.Close(); err != nil { // writes what is to be repaired
		t.Fatal(err)
	}
	f.open(testConfig())
	defer f.Close()
	if got, _ := f.Lease(l.Address); !got.Expires.Equal(l.Expires) || got.State != Active {
		t.Errorf("on disk it ends %v, want %v", got.Expires, l.Expires)
	}
}

// TestLostConfirmation confirms a removal just before the database fails. The name is live again when it heals: nothing
// on disk may have it removed after a restart.
func TestLostConfirmation(t *testing.T) {
	const ct1 = "ct1.imaging.example.org. 192.0.2.11"
	bad := &failing{}
	bad.kind.Store(int32(errorfs.OpFileWrite))
	f := &fixture{T: t, clock: newClock(), fs: errorfs.Wrap(vfs.NewMem(), bad)}
	f.open(testConfig())
	f.store.now = f.clock.now
	q := query(client(0xc1), link)
	l := f.get(q)
	f.confirm(f.wantChanges("+" + ct1))
	f.release(q, l.Address)
	gone := f.wantChanges("-" + ct1)
	bad.on.Store(true)
	f.confirm(gone)
	if _, err := f.Request(context.Background(), rebooting(q, l.Address)); err == nil {
		t.Fatal("acknowledged without a sync")
	}
	bad.on.Store(false)
	f.clock.advance(2 * reopenEvery)
	if a := f.request(rebooting(q, l.Address)); a.Kind != Ack {
		t.Fatal(a.Reason)
	}
	f.confirm(f.wantChanges("+" + ct1))
	f.reopen(testConfig())
	defer f.Close()
	f.wantChanges()
	if l, _ := f.Lease(l.Address); !l.Published {
		t.Errorf("after the restart: %+v", l)
	}
}

// TestUnsyncedIsBounded holds that confirmations without a lease between them are synced at times.
func TestUnsyncedIsBounded(t *testing.T) {
	f := open(t, testConfig())
	for i := range 2*maxUnsynced + 10 {
		var w batch
		w.set(literal(fmt.Sprint(i)), literal(""))
		if _, err := f.store.write(&w, false); err != nil {
			t.Fatal(err)
		}
		if len(f.store.unsynced) > maxUnsynced {
			t.Fatalf("%d keys wait for a sync", len(f.store.unsynced))
		}
	}
}

// TestStaleRemoval puts a removal on disk that contradicts a lease, as a lost confirmation leaves it.
func TestStaleRemoval(t *testing.T) {
	const ws1 = "ws1.imaging.example.org. 198.51.100.10"
	for _, tc := range []struct {
		name   string
		client Client
		want   []string
	}{
		{"of the lease's client", client(1), []string{"+" + ws1}},
		{"of another client", client(2), []string{"-" + ws1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := open(t, testConfig())
			f.get(named(1, "ws1", link2))
			f.confirm(f.wantChanges("+" + ws1))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			r := removal{name: "ws1.imaging.example.org.", addr: addr("198.51.100.10"), client: pack(tc.client), version: 7}
			put(t, f.fs, r.key(), r.append(nil))
			f.open(testConfig())
			f.confirm(f.wantChanges(tc.want...))
			f.wantChanges()
			f.reopen(testConfig())
			f.wantChanges()
		})
	}
}

// TestPowerCut drops what was not synced: every acknowledged lease must be there, and every confirmation may be lost.
func TestPowerCut(t *testing.T) {
	for range 5 {
		mem := vfs.NewCrashableMem()
		config := wideConfig(200)
		m, err := Open("leases", config, Options{FS: mem})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		var mu sync.Mutex
		acked := map[Client]netip.Addr{}
		half := make(chan struct{})
		var wg sync.WaitGroup
		for n := range 16 {
			wg.Go(func() {
				for k := range 8 {
					q := Query{Client: numbered(n*8 + k), Links: []netip.Addr{wideLink}, ServerID: server, Hostname: fmt.Sprintf("h%d-%d", n, k)}
					o, err := m.Discover(ctx, q)
					if err != nil {
						t.Error(err)
						return
					}
					q.SelectedServer, q.Requested = server, o.Lease.Address
					a, err := m.Request(ctx, q)
					if err != nil || a.Kind != Ack {
						t.Error(a, err)
						return
					}
					mu.Lock()
					if acked[q.Client] = a.Lease.Address; len(acked) == 64 {
						close(half)
					}
					mu.Unlock()
					for _, c := range m.TakeNameChanges(1) {
						_ = m.ConfirmNameChange(c)
					}
				}
			})
		}
		<-half // the power goes in the middle of the load
		mu.Lock()
		before := maps.Clone(acked)
		mu.Unlock()
		after := mem.CrashClone(vfs.CrashCloneCfg{})
		wg.Wait()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		m, err = Open("leases", config, Options{FS: after})
		if err != nil {
			t.Fatal(err)
		}
		for c, a := range before {
			if l, ok := m.Lease(a); !ok || l.State != Active || l.Client != c || l.Name == "" {
				t.Errorf("%v was acknowledged to %x; after the power cut: %+v", a, c.HardwareAddr, l)
			}
		}
		pending := 0
		for l, err := range m.Leases() {
			if err != nil {
				t.Fatal(err)
			}
			if !l.Published {
				pending++
			}
		}
		if got := len(m.TakeNameChanges(1000)); got != pending {
			t.Errorf("%d names pending after the power cut, want %d", got, pending)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	f := open(t, testConfig())
	if _, err := Open("leases", testConfig(), Options{FS: f.fs}); err == nil || !strings.Contains(err.Error(), "LOCK") {
		t.Errorf("opened twice: %v", err)
	}
}

func TestClosed(t *testing.T) {
	f := open(t, testConfig())
	f.get(query(client(1), link))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, discover := f.Discover(ctx, query(client(1), link))
	_, request := f.Request(ctx, query(client(1), link))
	_, release := f.Release(ctx, Query{})
	_, decline := f.Decline(ctx, Query{})
	for name, err := range map[string]error{
		"Discover": discover, "Request": request, "Release": release, "Decline": decline,
		"Run": f.Manager.Run(ctx), "Reload": f.Reload(testConfig()), "Close": f.Close(), "ConfirmNameChange": f.ConfirmNameChange(NameChange{}),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for l, err := range f.Leases() {
		if err == nil {
			t.Errorf("a lease of a closed Manager: %+v", l)
		}
	}
}

// TestLeasesCutOff reads leases up to one that was damaged since Open: that they are not all is told.
func TestLeasesCutOff(t *testing.T) {
	f := open(t, testConfig())
	f.get(query(client(1), link))
	w := new(batch)
	w.set(literal(appendBindingKey(nil, addr("203.0.113.200"))), literal("\xff"))
	if _, err := f.store.write(w, true); err != nil {
		t.Fatal(err)
	}
	n, last := 0, error(nil)
	for l, err := range f.Leases() {
		if last != nil {
			t.Errorf("after the error: %+v, %v", l, err)
		}
		if last = err; err == nil {
			n++
		}
	}
	if n != 1 || last == nil || !strings.Contains(last.Error(), "reading leases: key ") {
		t.Errorf("%d leases, %v", n, last)
	}
}

func TestContextEnded(t *testing.T) {
	f := open(t, testConfig())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Request(ctx, selecting(query(client(1), link), addr("192.0.2.100"))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, ok := f.Lease(addr("192.0.2.100")); ok {
		t.Error("a lease was made")
	}
}
