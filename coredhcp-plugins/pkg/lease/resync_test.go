package lease

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestResync loses the zones, and has them filled again.
func TestResync(t *testing.T) {
	f, z := open(t, testConfig()), newZones()
	f.get(query(client(0xc1), link))
	f.get(named(1, "ws1", link))
	f.get(named(2, "ws2", link2))
	f.get(query(client(3), link2)) // has no name
	z.converge(f)
	before := z.String()
	z.forward, z.reverse = map[string]fakeName{}, map[netip.Addr]string{}
	if n, err := f.Resync(context.Background(), "cardiology"); err != nil || n != (Resynced{Leases: 1}) {
		t.Fatal(n, err)
	}
	z.want(f, "ws2=198.51.100.10 198.51.100.10=ws2")
	if n, err := f.Resync(context.Background(), ""); err != nil || n != (Resynced{Leases: 3}) {
		t.Fatal(n, err)
	}
	f.reopen(testConfig()) // nothing is forgotten
	z.want(f, before)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Resync(context.Background(), ""); err == nil {
		t.Error("resynced what is closed")
	}
}

// backup copies what DNS shows.
func (z *zones) backup() *zones {
	return &zones{forward: maps.Clone(z.forward), reverse: maps.Clone(z.reverse), static: maps.Clone(z.static)}
}

// TestResyncForgets has zones come back from the past, with names of leases that have ended since, in each way that a lease
// or its name can end. After a resync DNS shows the leases and nothing else, but for what is not theirs.
func TestResyncForgets(t *testing.T) {
	for _, restart := range []bool{false, true} {
		f, z := open(t, testConfig()), newZones()
		stays, renamed := named(1, "ws1", link), named(2, "ws2", link2)
		released, expired := named(3, "ws3", link2), named(4, "ws4", link2)
		f.get(stays)
		f.get(renamed)
		f.get(released)
		f.get(query(client(0xc1), link)) // a device
		q := expired
		q.Requested = addr("198.51.100.19")
		f.get(q)
		// Another client, and another server, have the names that one will have had here.
		z.forward["ws9.imaging.example.org."] = fakeName{addr("198.51.100.13"), client(9).Key()}
		z.converge(f)
		old := z.backup()

		f.clock.advance(40 * time.Minute)
		f.request(renewing(stays, addr("192.0.2.100")))
		f.request(renewing(named(2, "ws22", link2), addr("198.51.100.10")))
		f.release(released, addr("198.51.100.11"))
		f.release(query(client(0xc1), link), addr("192.0.2.11"))
		f.get(named(5, "ws4", link2)) // in conflict
		f.clock.advance(30 * time.Minute)
		f.request(renewing(named(2, "ws22", link2), addr("198.51.100.10")))
		f.request(renewing(stays, addr("192.0.2.100")))
		f.expireAll() // ends ws4's first client; the second one gets the name
		if f.state("198.51.100.19") != Expired {
			t.Fatal("not expired")
		}
		f.clock.advance(time.Minute)
		z.converge(f)
		now := z.String()

		*z = *old
		if restart {
			f.reopen(testConfig())
		}
		got, err := f.Resync(context.Background(), "")
		if want := (Resynced{Leases: 3, Ended: 4}); err != nil || got != want {
			t.Fatalf("%+v, want %+v, %v", got, want, err)
		}
		if restart {
			f.reopen(testConfig())
		}
		f.clock.advance(time.Minute)
		z.want(f, now)
		if len(f.removals) > 0 {
			t.Errorf("left: %v", f.removals)
		}
		// Nothing is wrong any more: the next one changes nothing.
		if got, err := f.Resync(context.Background(), ""); err != nil || got.Ended != 4 {
			t.Fatalf("%+v, %v", got, err)
		}
		z.want(f, now)
		f.check()
	}
}

// TestResyncForgetsNetwork has zones come back from before a network was renumbered.
func TestResyncForgetsNetwork(t *testing.T) {
	f, z := open(t, testConfig()), newZones()
	gone, stays := named(1, "ws1", link2), named(2, "ws2", link)
	f.get(gone)
	f.get(named(3, "ws3", link2)) // goes on until its lease ends
	f.get(stays)
	z.converge(f)
	z.forward["ws9.imaging.example.org."] = fakeName{addr("198.51.100.10"), client(9).Key()} // another server's
	old := z.backup()
	f.release(gone, addr("198.51.100.10"))
	z.converge(f)
	now := z.String()
	c := testConfig()
	c.Networks = slices.Clone(c.Networks)
	c.Networks[2].Prefix = netip.MustParsePrefix("198.51.100.128/25") // without 198.51.100.10
	c.Networks[2].Pools = []Pool{{First: addr("198.51.100.130"), Last: addr("198.51.100.140")}}
	if err := f.Reload(c); err != nil {
		t.Fatal(err)
	}
	f.expireAll()
	*z = *old
	for _, r := range []struct {
		network string
		want    Resynced
	}{{"cardiology", Resynced{}}, {"", Resynced{Leases: 2, Ended: 1}}} {
		if got, err := f.Resync(context.Background(), r.network); err != nil || got != r.want {
			t.Fatalf("%q: %+v, want %+v, %v", r.network, got, r.want, err)
		}
	}
	f.reopen(c)
	z.want(f, now)
	f.clock.advance(time.Hour)
	f.request(renewing(stays, addr("192.0.2.100")))
	f.clock.advance(time.Hour)
	z.want(f, "ws9=198.51.100.10")
}

// TestResyncRestarted has a client get an address whose names of the past DNS is still to forget, after a restart.
func TestResyncRestarted(t *testing.T) {
	f := open(t, testConfig())
	a := addr("198.51.100.10")
	for i := range byte(2 * maxRemovals) {
		q := named(i, fmt.Sprintf("ws%d", i), link2)
		q.Requested = a
		if l := f.get(q); l.Address != a {
			t.Fatalf("%+v", l)
		}
		f.release(q, a)
		f.settled()
		for _, c := range f.TakeNameChanges(10) {
			f.confirm([]NameChange{c})
		}
	}
	if got, err := f.Resync(context.Background(), ""); err != nil || got.Ended != 2*maxRemovals {
		t.Fatalf("%+v, %v", got, err)
	}
	f.reopen(testConfig())
	q := named(100, "new", link2)
	q.Requested = a
	if l := f.get(q); l.Address != a || l.Name != "new.imaging.example.org." {
		t.Errorf("%+v", l)
	}
}

// TestResyncOneMachine has a resync broken off in the middle, where a lease follows one of the same machine by another
// interface: both have one name, one address and, their identifiers having the same DUID, one DHCID.
func TestResyncOneMachine(t *testing.T) {
	f, d := open(t, testConfig()), fakeDNS{}
	a := addr("192.0.2.100")
	wired, wireless := named(1, "ws1", link), named(2, "ws1", link)
	wired.Client.Identifier, wireless.Client.Identifier = "\xff\x00\x00\x00\x01\x00\x04duid", "\xff\x00\x00\x00\x02\x00\x04duid"
	wireless.Requested = a
	f.get(wired)
	f.drain(d)
	f.release(wired, a)
	f.drain(d)
	if l := f.get(wireless); l.Address != a {
		t.Fatalf("%+v", l)
	}
	f.drain(d)
	past, err := f.past(func(netip.Addr) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	rest, n := f.forget(past, f.now())
	g := f.submit(true)
	f.mu.Unlock()
	if err := g.wait(context.Background()); err != nil || len(rest) > 0 || n != 1 {
		t.Fatal(rest, n, err)
	}
	f.reopen(testConfig())
	for _, remove := range []bool{true, false} {
		f.settled()
		changes := f.TakeNameChanges(10)
		if len(changes) != 1 || changes[0].Remove != remove || changes[0].Address != a || changes[0].Name != "ws1.imaging.example.org." {
			t.Fatalf("%+v, want one change, a removal: %t", changes, remove)
		}
		f.confirm(changes)
	}
}

// TestRemovalOf asks which names of the past are DNS to forget.
func TestRemovalOf(t *testing.T) {
	c := policy(true, NamePolicy{})
	c.Networks[2].Names.Forward = DeviceNames
	c.Hostnames = []string{"printer.imaging.example.org."}
	c.Reservations = append(c.Reservations, Reservation{
		Device: "us1", Hostname: "us1.imaging.example.org.", HardwareAddresses: []HardwareAddress{{1, mac(0xe1)}}, Addresses: []netip.Addr{addr("192.0.2.12")},
	})
	f := open(t, c)
	f.get(named(1, "ws1", link)) // 192.0.2.100
	for _, tc := range []struct {
		name, addr, label, device string
		client                    byte
		want                      Directions
	}{
		{"a name", "192.0.2.103", "ws3", "", 3, both},
		{"a device's", "192.0.2.11", "ct1", "ct1", 0xc1, both},
		{"of a device that the site has not any more", "192.0.2.103", "us9", "us9", 3, both},
		{"no name", "192.0.2.103", "", "", 3, 0},
		{"of a network that is gone", "10.0.0.1", "ws3", "", 3, both},
		{"a device's of a network that is gone", "10.0.0.1", "ct1", "ct1", 0xc1, both},
		{"of a network and a domain that are gone", "10.0.0.1", "ws3.example.net.", "", 3, 0},
		{"of another domain", "192.0.2.103", "ws3.example.net.", "", 3, 0},
		{"at another address now", "192.0.2.103", "ws1", "", 1, both},
		{"there now", "192.0.2.100", "ws1", "", 1, 0},
		{"there now for another client", "192.0.2.100", "ws1", "", 2, Forward},
		{"there was another", "192.0.2.100", "ws2", "", 2, both},
		{"a direction that the network has not", "198.51.100.10", "ws3", "", 3, Reverse},
		{"the site's own by now", "192.0.2.103", "printer", "", 3, Reverse},
		{"the site's own and its address", "192.0.2.101", "printer", "", 3, 0},
		{"always published", "192.0.2.12", "us1", "us1", 0xe1, 0},
	} {
		e := ended{addr(tc.addr), storedEvent{state: Expired, client: client(tc.client), device: tc.device, name: tc.label}}
		if tc.label != "" && tc.label[len(tc.label)-1] != '.' {
			e.name += ".imaging.example.org."
		}
		f.mu.Lock()
		r := f.removalOf(&e)
		f.mu.Unlock()
		switch {
		case r == nil && tc.want == 0:
		case r == nil:
			t.Errorf("%s: none, want %d", tc.name, tc.want)
		case r.shows != tc.want || r.owned != (tc.device != "") || r.counts():
			t.Errorf("%s: %+v, want %d", tc.name, r, tc.want)
		}
	}
}

// TestLatest has more of the past than is taken.
func TestLatest(t *testing.T) {
	var all []ended
	for i := range 2 * maxEnded {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		all = append(all, ended{a, storedEvent{end: int64(i), client: client(1), name: "ws1."}})
	}
	again := all[len(all)-1]
	again.end = 1
	got := latest(append(all, again))
	if len(got) != maxEnded || got[0].end != 2*maxEnded-1 || got[maxEnded-1].end != maxEnded {
		t.Errorf("%d, from %d to %d", len(got), got[0].end, got[len(got)-1].end)
	}
}
