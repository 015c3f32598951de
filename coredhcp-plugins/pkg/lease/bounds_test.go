package lease

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestDeclineLoop has one machine decline whatever it gets, to take the pool from the others.
func TestDeclineLoop(t *testing.T) {
	f := open(t, testConfig())
	bad := query(client(1), link2)
	for range 50 {
		o := f.discover(bad)
		if o.Kind != Offer {
			t.Fatal(o.Reason)
		}
		f.request(selecting(bad, o.Lease.Address))
		f.decline(bad, o.Lease.Address)
		f.clock.advance(time.Second)
		f.check()
	}
	if n := len(f.declined[HardwareAddress{1, mac(1)}]); n != maxDeclined {
		t.Errorf("%d addresses rest", n)
	}
	f.reopen(testConfig())
	f.check()
	for n := range byte(9 - maxDeclined) { // 12 of the ten is reserved
		f.get(query(client(10+n), link2))
	}
	if o := f.discover(query(client(30), link2)); o.Kind != Silent {
		t.Errorf("offered %v, which was declined just now", o.Lease.Address)
	}
	f.clock.advance(leastRest)
	seen := map[string]bool{}
	for n := range byte(maxDeclined) {
		l := f.get(query(client(30+n), link2))
		seen[l.Address.String()] = true
		f.check()
	}
	if len(seen) != maxDeclined {
		t.Errorf("others got %v of what rests", seen)
	}
	t.Run("what it declined is not offered to it", func(t *testing.T) {
		f := open(t, testConfig())
		for range 3 { // 192.0.2.100 and 103, and one of the other network
			f.decline(query(client(1), link), f.get(query(client(1), link)).Address)
		}
		f.get(query(client(2), link))
		f.clock.advance(leastRest)
		if o := f.discover(query(client(1), link)); o.Kind != Silent {
			t.Errorf("offered %v", o.Lease.Address)
		}
	})
	t.Run("an offer of what was declined", func(t *testing.T) {
		f := open(t, testConfig())
		q := query(client(1), link2)
		a := f.get(q).Address
		f.discover(q)
		f.decline(q, a)
		if got := f.request(selecting(q, a)); got.Kind != Nak {
			t.Errorf("got %v", got.Kind)
		}
	})
	t.Run("on wires with other times", func(t *testing.T) {
		f := open(t, testConfig())
		var list []string
		for i, l := range []netip.Addr{link2, link2, link, link2, link} { // a rest is 24 hours, or 3
			q := query(client(1), l)
			a := f.get(q).Address
			list = append(list, a.String())
			f.decline(q, a)
			f.clock.advance(time.Second)
			if want := Declined; f.state(list[0]) == want != (i < maxDeclined) {
				t.Errorf("after %d the first is %v", i+1, f.state(list[0]))
			}
		}
		for _, a := range list[1:] {
			if s := f.state(a); s != Declined {
				t.Errorf("%s of %v is %v", a, list, s)
			}
		}
	})
	t.Run("a reserved address", func(t *testing.T) {
		f := open(t, testConfig())
		q := query(client(0xc1), link)
		f.decline(q, f.get(q).Address)
		if l := f.get(q); l.Address == addr("192.0.2.11") {
			t.Error("got it again at once")
		}
		f.clock.advance(reservedRest)
		f.expireAll()
		if l := f.get(q); l.Address != addr("192.0.2.11") {
			t.Errorf("after its rest the device got %v", l.Address)
		}
	})
}

// TestRemovalsAreBounded has a client change its name at every renewal while DNS is down.
func TestRemovalsAreBounded(t *testing.T) {
	tried := func(f *fixture) { // there is no answer
		for _, c := range f.TakeNameChanges(100) {
			f.ReturnNameChange(c, f.clock.now())
		}
	}
	shown := func(f *fixture, want string) { // DNS is back
		t.Helper()
		for {
			changes := f.TakeNameChanges(10)
			if len(changes) == 0 {
				break
			}
			f.confirm(changes)
		}
		l, _ := f.Lease(addr("198.51.100.10"))
		if l.Name != want || l.NameState != NameShown {
			t.Errorf("when DNS is back the lease has %q, %v; want %q", l.Name, l.NameState, want)
		}
		if len(f.removals)+len(f.chosen) > 0 {
			t.Errorf("left: %v, counted: %v", f.removals, f.chosen)
		}
	}
	t.Run("never sent", func(t *testing.T) {
		f := open(t, testConfig())
		l := f.get(named(1, "first", link2))
		for i := range 50 {
			f.request(renewing(named(1, fmt.Sprintf("h%d", i), link2), l.Address))
		}
		if n := len(f.removals); n != 0 {
			t.Errorf("%d removals", n)
		}
		f.wantChanges("+h49.imaging.example.org. 198.51.100.10")
	})
	t.Run("sent once", func(t *testing.T) {
		f := open(t, testConfig())
		l := f.get(named(1, "first", link2))
		tried(f)
		f.release(query(client(1), link2), l.Address)
		f.get(named(1, "first", link2)) // it may be in DNS still
		f.release(query(client(1), link2), l.Address)
		f.wantChanges("-first.imaging.example.org. 198.51.100.10")
	})
	t.Run("sent always", func(t *testing.T) {
		f := open(t, testConfig())
		l := f.get(named(1, "first", link2))
		for i := range 50 {
			tried(f)
			f.request(renewing(named(1, fmt.Sprintf("h%d", i), link2), l.Address))
		}
		if n := len(f.removals); n != maxRemovals {
			t.Errorf("%d removals", n)
		}
		if l, _ := f.Lease(l.Address); l.Name != "h49.imaging.example.org." || l.NameState != NameWaiting {
			t.Errorf("the lease has %q, %v", l.Name, l.NameState)
		}
		for _, c := range f.TakeNameChanges(100) {
			if !c.Remove {
				t.Errorf("sent: %+v", c)
			}
			f.ReturnNameChange(c, f.clock.now())
		}
		shown(f, "h49.imaging.example.org.")
	})
	t.Run("across a restart", func(t *testing.T) {
		f := open(t, testConfig())
		l := f.get(named(1, "first", link2))
		for i := range 10 {
			tried(f)
			f.request(renewing(named(1, fmt.Sprintf("h%d", i), link2), l.Address))
		}
		f.reopen(testConfig())
		for i := range 10 { // whether the one before the restart was sent is not known
			tried(f)
			f.release(query(client(1), link2), l.Address)
			f.get(named(1, fmt.Sprintf("k%d", i), link2))
		}
		if n := len(f.removals); n > maxRemovals+1 {
			t.Errorf("%d removals", n)
		}
		f.reopen(testConfig())
		shown(f, "k9.imaging.example.org.")
	})
	t.Run("a name that others take over", func(t *testing.T) {
		c := testConfig()
		c.Networks[2].Names.Mode = NamesLastWins
		f := open(t, c)
		for i := range byte(10) {
			tried(f)
			if err := f.Note(t.Context(), named(i+1, "ws", link2), addr("198.51.100.10"), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(f.removals); n != maxRemovals {
			t.Errorf("%d removals", n)
		}
		shown(f, "ws.imaging.example.org.")
	})
	t.Run("a device's name", func(t *testing.T) {
		c := testConfig()
		c.Networks[0].Pools[0].First = addr("192.0.2.11")
		f := open(t, testConfig())
		q := query(client(0xc1), link)
		f.mu.Lock()
		f.chosen[addr("192.0.2.11")] = maxRemovals
		f.mu.Unlock()
		if l := f.get(q); l.Name != "ct1.imaging.example.org." {
			t.Errorf("the device has %q", l.Name)
		}
	})
}

func TestReservedAddressIsOfferedBeyondTheBound(t *testing.T) {
	f := open(t, testConfig())
	f.maxOffers = 2
	f.discover(query(client(1), link2))
	f.discover(query(client(2), link2))
	if o := f.discover(query(client(0xc1), link)); o.Lease.Address != addr("192.0.2.11") {
		t.Errorf("%v %s", o.Kind, o.Reason)
	}
}

// TestClockSetBack opens a database on a machine whose clock fell back by years.
func TestClockSetBack(t *testing.T) {
	f := open(t, testConfig())
	held := f.get(named(1, "ws1", link2)).Address
	free := f.get(query(client(2), link2)).Address
	f.release(query(client(2), link2), free)
	declined := f.get(query(client(3), link)).Address
	f.decline(query(client(3), link), declined)
	f.clock.advance(-20 * 365 * 24 * time.Hour)
	f.reopen(testConfig())
	if l, _ := f.Lease(held); l.State != Active || !l.Expires.Equal(f.clock.now().Add(time.Hour)) {
		t.Errorf("the lease ends %v", l.Expires)
	}
	if l, _ := f.Lease(declined); !l.Expires.Equal(f.clock.now().Add(3 * time.Hour)) {
		t.Errorf("the rest ends %v", l.Expires)
	}
	if l, _ := f.Lease(free); l.Expires.After(f.clock.now()) {
		t.Errorf("free since %v", l.Expires)
	}
	f.check()
	f.clock.advance(time.Hour)
	f.expireAll()
	if s := f.state(held.String()); s != Expired {
		t.Errorf("after an hour %v", s)
	}
}

// TestClientOfNobody has a client come as what stands for a holder of whom nothing is known: it could never be found again,
// and would get another address each time.
func TestClientOfNobody(t *testing.T) {
	f := open(t, testConfig())
	q := query(nobody.client(), link)
	for range 2 {
		if o := f.discover(q); o.Kind != Silent {
			t.Errorf("offered %v", o.Lease.Address)
		}
		if a := f.request(selecting(q, addr("192.0.2.100"))); a.Kind != Silent {
			t.Errorf("%v of %v", a.Kind, a.Lease.Address)
		}
	}
	q.Client.Identifier = "\x01abc" // it can be known by that
	a := f.get(q).Address
	if again := f.get(q).Address; again != a {
		t.Errorf("got %v, then %v", a, again)
	}
}

// TestReloadSharesOneNameOfMany has a reload let names go to whoever comes last where many had one in conflict: each change
// looks at those that share a name, so it is shared by a few of them, and DNS shows one.
func TestReloadSharesOneNameOfMany(t *testing.T) {
	config := func(mode NameMode) Config {
		c := policy(true, NamePolicy{Mode: mode})
		c.Networks[0].Pools = []Pool{{First: addr("192.0.2.20"), Last: addr("192.0.2.249")}}
		c.Networks[0].LeaseTime, c.Networks[0].MaxLeaseTime = 24*time.Hour, 24*time.Hour
		c.Reservations, c.Excluded = nil, nil
		return c
	}
	const name = "ws1.imaging.example.org."
	f, d := open(t, config(NamesStrict)), &guarded{map[string]guardedBy{}, map[netip.Addr]guardedBy{}}
	held := map[netip.Addr]byte{}
	for n := range byte(2 * maxShared) {
		held[f.get(named(n, "ws1", link)).Address] = n
	}
	converge := func() {
		t.Helper()
		f.expireAll()
		f.settled()
		f.clock.advance(2 * time.Minute)
		for {
			changes := f.TakeNameChanges(10)
			if len(changes) == 0 {
				break
			}
			for _, c := range changes {
				if d.make(c) {
					f.confirm([]NameChange{c})
				} else {
					f.FailNameChange(c, f.clock.now().Add(time.Minute), Trouble{Conflict: true, Text: "somebody else's"})
				}
			}
		}
		if shown := d.forward[name].addr; len(d.forward) != min(len(held), 1) || len(d.reverse) != len(d.forward) || len(held) > 0 && d.reverse[shown].name != name {
			t.Fatalf("with %d leases DNS shows %v and %v", len(held), d.forward, d.reverse)
		}
	}
	converge()
	if err := f.Reload(config(NamesLastWins)); err != nil {
		t.Fatal(err)
	}
	f.check()
	if n := len(f.conf.shared[name]); n != maxShared {
		t.Errorf("%d share the name, want %d", n, maxShared)
	}
	for converge(); len(held) > 0; converge() {
		shown := d.forward[name].addr
		f.release(named(held[shown], "ws1", link), shown)
		delete(held, shown)
	}
}
