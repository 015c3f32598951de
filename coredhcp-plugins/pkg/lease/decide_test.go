package lease

import (
	"net/netip"
	"testing"
	"time"
)

// TestRequestStates is RFC 2131 section 4.3.2, state by state.
func TestRequestStates(t *testing.T) {
	type want struct {
		kind Kind
		addr string
	}
	one := query(client(1), link)
	relayed := func(q Query, l netip.Addr) Query { q.Relayed, q.Links = true, []netip.Addr{l}; return q }
	broadcast := func(q Query, l netip.Addr) Query { q.Broadcast, q.Links = true, []netip.Addr{l}; return q }
	held := func(f *fixture) { f.get(one) } // client 1 holds 192.0.2.100
	for _, tc := range []struct {
		name  string
		setup func(*fixture)
		query Query
		want  want
	}{
		{"selecting: the offered address", func(f *fixture) { f.discover(one) }, selecting(one, addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"selecting: the offer is over but the address free", func(f *fixture) { f.discover(one); f.clock.advance(time.Minute) },
			selecting(one, addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"selecting: the offer was forgotten by a restart", nil, selecting(one, addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"selecting: an address that another client holds", func(f *fixture) { f.get(query(client(2), link)) },
			selecting(one, addr("192.0.2.100")), want{kind: Nak}},
		{"selecting: an address that another client was offered", func(f *fixture) { f.discover(query(client(2), link)) },
			selecting(one, addr("192.0.2.100")), want{kind: Nak}},
		{"selecting: an address outside the pools", nil, selecting(one, outside), want{kind: Nak}},
		{"selecting: an excluded address", nil, selecting(one, addr("192.0.2.101")), want{kind: Nak}},
		{"selecting: an address reserved for another", nil, selecting(one, addr("192.0.2.102")), want{kind: Nak}},
		{"selecting: an address of another wire", nil, selecting(one, addr("198.51.100.10")), want{kind: Nak}},
		{"selecting: an address of another network on the same wire", nil, selecting(one, addr("203.0.113.100")), want{Ack, "203.0.113.100"}},
		{"selecting: another server", func(f *fixture) { f.discover(one) },
			Query{Client: client(1), Links: []netip.Addr{link}, ServerID: server, SelectedServer: other, Requested: addr("192.0.2.100")}, want{kind: Silent}},
		{"selecting: no address", nil, selecting(one, netip.Addr{}), want{kind: Nak}},
		{"selecting: a link of no network", nil, selecting(query(client(1), addr("10.0.0.1")), addr("192.0.2.100")), want{kind: Silent}},
		{"selecting: a pool address where the device has its own", nil, selecting(query(client(0xc1), link), addr("192.0.2.100")), want{kind: Nak}},

		{"init-reboot: the address held", held, rebooting(one, addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"init-reboot: the address released, still free", func(f *fixture) { f.get(one); f.release(one, addr("192.0.2.100")) },
			rebooting(one, addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"init-reboot: the address expired, still free", func(f *fixture) { f.get(one); f.clock.advance(2 * time.Hour); f.expireAll() },
			rebooting(one, addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"init-reboot: another address than held", held, rebooting(one, addr("192.0.2.103")), want{kind: Nak}},
		{"init-reboot: wrong network", held, rebooting(query(client(1), link2), addr("192.0.2.100")), want{kind: Nak}},
		{"init-reboot: wrong network through a relay", held, rebooting(relayed(one, link2), addr("192.0.2.100")), want{kind: Nak}},
		{"init-reboot: wrong network, unknown client", nil, rebooting(one, addr("198.51.100.10")), want{kind: Nak}},
		{"init-reboot: an address of no network of ours", nil, rebooting(one, addr("10.0.0.7")), want{kind: Nak}},
		{"init-reboot: unknown client", nil, rebooting(one, addr("192.0.2.100")), want{kind: Silent}},
		{"init-reboot: unknown client, authoritative", nil, rebooting(query(client(1), link2), addr("198.51.100.10")), want{kind: Nak}},
		{"init-reboot: the reserved address, no lease yet", nil, rebooting(query(client(0xc1), link), addr("192.0.2.11")), want{Ack, "192.0.2.11"}},
		{"init-reboot: a pool address where the device has its own", nil, rebooting(query(client(0xc1), link), addr("192.0.2.100")), want{kind: Nak}},
		{"init-reboot: a link of no network", held, rebooting(query(client(1), addr("10.0.0.1")), addr("192.0.2.100")), want{kind: Silent}},
		{"init-reboot: ciaddr 0.0.0.0 is none", held, func() Query {
			q := rebooting(one, addr("192.0.2.100"))
			q.ClientAddr = netip.IPv4Unspecified()
			return q
		}(), want{Ack, "192.0.2.100"}},

		{"renewing: the address held", held, renewing(one, addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"renewing: across routers, ciaddr tells the network", held, renewing(query(client(1), link2), addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"renewing: no network on the interface", held, renewing(query(client(1)), addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"rebinding: through the network's relay", held, renewing(relayed(one, link), addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"rebinding: through the relay of another network", held, renewing(relayed(one, link2), addr("192.0.2.100")), want{kind: Nak}},
		{"rebinding: through the relay of another network on the wire", held, renewing(relayed(one, link3), addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"rebinding: on the network's wire", held, renewing(broadcast(one, link), addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"rebinding: on another wire", held, renewing(broadcast(one, link2), addr("192.0.2.100")), want{kind: Nak}},
		{"rebinding: on another wire, unknown client", nil, renewing(broadcast(one, link), addr("198.51.100.10")), want{kind: Silent}},
		{"rebinding: another server's address", held, renewing(broadcast(one, link), addr("10.0.0.7")), want{kind: Silent}},
		{"rebinding: on a wire that is not ours", held, renewing(broadcast(one, addr("10.0.0.1")), addr("192.0.2.100")), want{kind: Silent}},
		{"renewing: ended, not yet given away", func(f *fixture) { f.get(one); f.clock.advance(2 * time.Hour) },
			renewing(one, addr("192.0.2.100")), want{Ack, "192.0.2.100"}},
		{"renewing: another address than held", held, renewing(one, addr("192.0.2.103")), want{kind: Nak}},
		{"renewing: an address that another holds", func(f *fixture) { f.get(query(client(2), link)); f.get(one) },
			renewing(one, addr("192.0.2.100")), want{kind: Nak}},
		{"renewing: unknown client", nil, renewing(one, addr("192.0.2.100")), want{kind: Silent}},
		{"renewing: unknown client, authoritative", nil, renewing(one, addr("198.51.100.10")), want{kind: Nak}},
		{"renewing: an address of no network of ours, unknown client", nil, renewing(one, addr("10.0.0.7")), want{kind: Silent}},
		{"renewing: an address of no network, on an authoritative wire", nil, renewing(query(client(1), link2), addr("10.0.0.7")), want{kind: Nak}},

		{"nothing asked for", nil, one, want{kind: Silent}},
		{"no hardware address and no identifier", nil, selecting(query(Client{HardwareType: 1}, link), addr("192.0.2.100")), want{kind: Silent}},
		{"a hardware address that no packet can carry", nil,
			selecting(query(Client{HardwareType: 1, HardwareAddr: string(make([]byte, 17))}, link), addr("192.0.2.100")), want{kind: Silent}},
		{"an identifier over 255 octets", nil,
			selecting(query(Client{Identifier: string(make([]byte, 256))}, link), addr("192.0.2.100")), want{kind: Silent}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := open(t, testConfig())
			if tc.setup != nil {
				tc.setup(f)
			}
			got := f.request(tc.query)
			if got.Kind != tc.want.kind {
				t.Fatalf("got %v (%s), want %v", got.Kind, got.Reason, tc.want.kind)
			}
			if tc.want.addr != "" {
				l, ok := f.Lease(addr(tc.want.addr))
				if got.Lease.Address != addr(tc.want.addr) || !ok || l.State != Active || l.Client.Key() != tc.query.Client.Key() {
					t.Fatalf("got %v and the lease %+v, want %v", got.Lease.Address, l, tc.want.addr)
				}
			} else if got.Reason == "" {
				t.Error("no reason given")
			}
		})
	}
}

func TestSelectingAnotherServerFreesTheOffer(t *testing.T) {
	f := open(t, testConfig())
	q := query(client(1), link)
	a := f.discover(q).Lease.Address
	q.SelectedServer, q.Requested = other, a
	f.request(q)
	if got := f.discover(query(client(2), link)).Lease.Address; got != a {
		t.Errorf("offered %v to the next client, want %v", got, a)
	}
}

func TestDiscover(t *testing.T) {
	f := open(t, testConfig())
	one := f.discover(query(client(1), link))
	if one.Kind != Offer || one.Lease.Address != addr("192.0.2.100") || one.Lease.Network != "radiology" ||
		one.Lease.State != Offered || one.Duration != time.Hour {
		t.Fatalf("first offer: %+v", one)
	}
	if again := f.discover(query(client(1), link)); again.Lease.Address != one.Lease.Address {
		t.Errorf("the same client was offered %v, then %v", one.Lease.Address, again.Lease.Address)
	}
	if _, ok := f.Lease(one.Lease.Address); ok {
		t.Error("an offer left a record")
	}
	// 101 is excluded, 102 reserved.
	if two := f.discover(query(client(2), link)); two.Lease.Address != addr("192.0.2.103") {
		t.Errorf("second offer: %v", two.Lease.Address)
	}
	// The other network of the wire.
	if three := f.discover(query(client(3), link)); three.Lease.Address != addr("203.0.113.100") || three.Lease.Network != "overflow" {
		t.Errorf("third offer: %+v", three.Lease)
	}
	f.discover(query(client(4), link))
	if five := f.discover(query(client(5), link)); five.Kind != Silent {
		t.Errorf("offered %v of a wire without free addresses", five.Lease.Address)
	}
	f.clock.advance(OfferTime)
	if five := f.discover(query(client(5), link)); five.Lease.Address != addr("192.0.2.100") {
		t.Errorf("after all offers ended: %v %v", five.Kind, five.Lease.Address)
	}
	if got := f.discover(query(client(6), addr("10.1.1.1"))); got.Kind != Silent {
		t.Errorf("offered %v on a link of no network", got.Lease.Address)
	}
	if got := f.discover(Query{Client: client(6), Interface: "eth7", ServerID: server}); got.Lease.Network != "cardiology" {
		t.Errorf("on the network's interface: %v %q", got.Kind, got.Lease.Network)
	}
	if got := f.discover(Query{Client: client(7), Interface: "eth7", Relayed: true, Links: []netip.Addr{link3}}); got.Lease.Network == "cardiology" {
		t.Error("the interface counted for a relayed message")
	}
}

func TestOffersAreBounded(t *testing.T) {
	f := open(t, testConfig())
	f.maxOffers = 2
	f.discover(query(client(1), link))
	f.discover(query(client(2), link))
	if got := f.discover(query(client(3), link)); got.Kind != Silent {
		t.Errorf("a third offer: %v", got.Lease.Address)
	}
	if got := f.discover(query(client(2), link)); got.Kind != Offer {
		t.Errorf("a client that has an offer: %v", got.Reason)
	}
}

func TestChoiceOfAddress(t *testing.T) {
	config := func() Config {
		c := testConfig()
		c.Networks[2].Pools = []Pool{{First: addr("198.51.100.10"), Last: addr("198.51.100.13")}} // 12 is reserved
		return c
	}
	q := func(n byte) Query { return query(client(n), link2) }
	t.Run("requested", func(t *testing.T) {
		f := open(t, config())
		w := q(1)
		w.Requested = addr("198.51.100.13")
		if got := f.discover(w).Lease.Address; got != w.Requested {
			t.Errorf("got %v", got)
		}
		v := q(2)
		v.Requested = w.Requested
		if got := f.discover(v).Lease.Address; got != addr("198.51.100.10") {
			t.Errorf("asked for what another was offered, got %v", got)
		}
	})
	t.Run("never used first, then unused longest", func(t *testing.T) {
		f := open(t, config())
		for n := byte(1); n <= 2; n++ {
			f.get(q(n))
			f.clock.advance(time.Second)
		}
		f.release(q(2), addr("198.51.100.11"))
		f.clock.advance(time.Second)
		f.release(q(1), addr("198.51.100.10"))
		for i, want := range []string{"198.51.100.13", "198.51.100.11", "198.51.100.10"} {
			if got := f.get(q(byte(10 + i))).Address; got != addr(want) {
				t.Errorf("client %d got %v, want %v", i, got, want)
			}
		}
		if got := f.discover(q(20)); got.Kind != Silent {
			t.Errorf("got %v of a full pool", got.Lease.Address)
		}
	})
	t.Run("its own again", func(t *testing.T) {
		f := open(t, config())
		f.get(q(1))
		l := f.get(q(2))
		f.release(q(2), l.Address)
		w := q(2)
		w.Requested = addr("198.51.100.13")
		if got := f.get(w).Address; got != l.Address {
			t.Errorf("had %v, got %v", l.Address, got)
		}
		f.release(q(2), l.Address)
		f.reopen(config())
		if got := f.get(q(2)).Address; got != l.Address {
			t.Errorf("had %v, got %v after a restart", l.Address, got)
		}
	})
	t.Run("identifier decides, not hardware", func(t *testing.T) {
		f := open(t, config())
		a := f.get(query(Client{1, mac(1), "\x01id"}, link2)).Address
		if got := f.get(query(Client{1, mac(2), "\x01id"}, link2)).Address; got != a {
			t.Errorf("the same identifier got %v and %v", a, got)
		}
		if l, _ := f.Lease(a); l.Client.HardwareAddr != mac(2) {
			t.Errorf("hardware address %x, want the last one seen", l.Client.HardwareAddr)
		}
		if got := f.get(query(Client{1, mac(2), "\x01id2"}, link2)).Address; got == a {
			t.Error("two identifiers got one address")
		}
	})
	t.Run("another address on the same wire ends the first", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(query(client(1), link))
		f.request(selecting(query(client(1), link), addr("203.0.113.100")))
		if f.state("192.0.2.100") != Released || f.state("203.0.113.100") != Active {
			t.Errorf("states %v, %v", f.state("192.0.2.100"), f.state("203.0.113.100"))
		}
		f.get(query(client(1), link2))
		if f.state("203.0.113.100") != Active {
			t.Error("a lease on another wire ended")
		}
	})
}

func TestReservations(t *testing.T) {
	fixed := addr("192.0.2.11")
	firmware := query(Client{1, mac(0xc1), "\x00uefi"}, link)
	system := query(Client{1, mac(0xc1), "\xffos"}, link)
	t.Run("hardware address", func(t *testing.T) {
		f := open(t, testConfig())
		l := f.get(query(client(0xc1), link))
		if l.Address != fixed || l.Device != "ct1" || l.Name != "ct1.imaging.example.org." {
			t.Errorf("got %+v", l)
		}
	})
	t.Run("client identifier", func(t *testing.T) {
		f := open(t, testConfig())
		if l := f.get(query(Client{1, mac(9), "\x00ct1"}, link)); l.Address != fixed || l.Device != "ct1" {
			t.Errorf("got %+v", l)
		}
	})
	t.Run("hardware address before client identifier", func(t *testing.T) {
		f := open(t, testConfig())
		if l := f.get(query(Client{1, mac(0xd1), "\x00ct1"}, link)); l.Device != "mr1" {
			t.Errorf("got %+v", l)
		}
	})
	t.Run("firmware, then operating system, then back", func(t *testing.T) {
		f := open(t, testConfig())
		for _, q := range []Query{firmware, system, firmware} {
			if l := f.get(q); l.Address != fixed || l.Device != "ct1" {
				t.Errorf("got %+v", l)
			}
			if l, _ := f.Lease(fixed); l.Client != q.Client || l.State != Active {
				t.Errorf("the lease is %+v", l)
			}
		}
	})
	t.Run("firmware's offer does not keep the operating system waiting", func(t *testing.T) {
		f := open(t, testConfig())
		f.discover(firmware)
		if l := f.get(system); l.Address != fixed {
			t.Errorf("got %v", l.Address)
		}
	})
	t.Run("init-reboot of the operating system after firmware", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(firmware)
		if a := f.request(rebooting(system, fixed)); a.Kind != Ack {
			t.Errorf("got %v: %s", a.Kind, a.Reason)
		}
	})
	t.Run("two interfaces take two addresses while there are two", func(t *testing.T) {
		c := testConfig()
		c.Reservations[0].Addresses = append(c.Reservations[0].Addresses, addr("192.0.2.12"))
		f := open(t, c)
		a, b := f.get(query(client(0xc1), link)).Address, f.get(query(client(0xc2), link)).Address
		if a != fixed || b != addr("192.0.2.12") {
			t.Errorf("got %v and %v", a, b)
		}
		if again := f.get(query(client(0xc1), link)).Address; again != a {
			t.Errorf("had %v, got %v", a, again)
		}
	})
	t.Run("the address in the client's network counts", func(t *testing.T) {
		f := open(t, testConfig())
		if l := f.get(query(client(0xd1), link)); l.Address != addr("192.0.2.102") {
			t.Errorf("in the first network got %v", l.Address)
		}
		if l := f.get(query(client(0xd1), link2)); l.Address != addr("198.51.100.12") {
			t.Errorf("in the second network got %v", l.Address)
		}
	})
	t.Run("without an address here: one of the pool, and its name", func(t *testing.T) {
		f := open(t, testConfig())
		if l := f.get(query(client(0xc1), link2)); l.Address != addr("198.51.100.10") || l.Name != "ct1.imaging.example.org." || l.Device != "ct1" {
			t.Errorf("got %+v", l)
		}
	})
	t.Run("added while another client holds the address", func(t *testing.T) {
		c := testConfig()
		f := open(t, c)
		holder := query(client(1), link)
		device := query(client(0xe1), link)
		a := f.get(holder).Address
		c.Reservations = append(c.Reservations, Reservation{
			Device: "us1", Hostname: "us1.imaging.example.org.", Publish: true,
			HardwareAddresses: []HardwareAddress{{1, mac(0xe1)}}, Addresses: []netip.Addr{a},
		})
		if err := f.Reload(c); err != nil {
			t.Fatal(err)
		}
		waiting := f.get(device)
		if waiting.Address != addr("192.0.2.103") || waiting.Name != "us1.imaging.example.org." {
			t.Errorf("meanwhile the device got %+v", waiting)
		}
		if got := f.request(renewing(device, waiting.Address)); got.Kind != Ack {
			t.Errorf("renewal of the pool address meanwhile: %v %s", got.Kind, got.Reason)
		}
		if f.state(a.String()) != Active {
			t.Error("the holder lost its lease before it renewed")
		}
		if got := f.request(renewing(holder, a)); got.Kind != Nak || f.state(a.String()) != Released {
			t.Errorf("renewal of the holder: %v, its lease is %v", got.Kind, f.state(a.String()))
		}
		if got := f.discover(device); got.Lease.Address != a {
			t.Errorf("after the Nak the device is offered %v", got.Lease.Address)
		}
		if got := f.get(holder).Address; got == a {
			t.Errorf("the holder got %v again", got)
		}
		if got := f.request(renewing(device, waiting.Address)); got.Kind != Nak {
			t.Errorf("renewal of the pool address: %v, want Nak now that its own is free", got.Kind)
		}
		if got := f.get(device).Address; got != a {
			t.Errorf("the device got %v", got)
		}
	})
}

func TestLeaseTime(t *testing.T) {
	for _, tc := range []struct {
		name        string
		link        netip.Addr
		asked, want time.Duration
	}{
		{"none asked", link, 0, time.Hour},
		{"within bounds", link, 90 * time.Minute, 90 * time.Minute},
		{"under the least", link, time.Second, 10 * time.Minute},
		{"over the greatest", link, 24 * time.Hour, 2 * time.Hour},
		{"infinite asked", link, Infinite, 2 * time.Hour},
		{"no bounds: more", link2, 24 * time.Hour, time.Hour},
		{"no bounds: less", link2, time.Minute, time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := open(t, testConfig())
			q := query(client(1), tc.link)
			q.LeaseTime = tc.asked
			o := f.discover(q)
			a := f.request(selecting(q, o.Lease.Address))
			if o.Duration != tc.want || a.Duration != tc.want || !a.Lease.Expires.Equal(f.clock.now().Add(tc.want)) {
				t.Errorf("offered %v, gave %v until %v, want %v", o.Duration, a.Duration, a.Lease.Expires, tc.want)
			}
		})
	}
	t.Run("infinite", func(t *testing.T) {
		c := testConfig()
		c.Networks[0].LeaseTime, c.Networks[0].MinLeaseTime, c.Networks[0].MaxLeaseTime = Infinite, 0, 0
		f := open(t, c)
		q := query(client(1), link)
		l := f.get(q)
		if !l.Expires.IsZero() {
			t.Errorf("expires %v", l.Expires)
		}
		f.clock.advance(50 * 365 * 24 * time.Hour)
		f.expireAll()
		f.reopen(c)
		f.expireAll()
		if l, _ := f.Lease(l.Address); l.State != Active || !l.Expires.IsZero() {
			t.Errorf("after fifty years: %+v", l)
		}
		f.release(q, l.Address)
		if f.state(l.Address.String()) != Released {
			t.Error("not released")
		}
	})
}

// TestStartAndEnd holds what a lease says of its time: the start stays over renewals, and on disk the end is not rounded to
// before what the client was told.
func TestStartAndEnd(t *testing.T) {
	f := open(t, testConfig())
	f.clock.advance(1500 * time.Microsecond)
	q := query(client(1), link2)
	begun := f.clock.now()
	a := f.get(q).Address
	f.clock.advance(10*time.Minute + 300*time.Microsecond)
	end := f.request(renewing(q, a)).Lease.Expires
	if l, _ := f.Lease(a); !l.Start.Equal(begun) {
		t.Errorf("started %v, want %v", l.Start, begun)
	}
	for l, err := range f.Leases() {
		if err != nil {
			t.Fatal(err)
		}
		if l.Expires.Before(end) || l.Expires.Sub(end) >= time.Millisecond {
			t.Errorf("on disk it ends %v, the client was told %v", l.Expires, end)
		}
		if l.Start.After(begun) || begun.Sub(l.Start) >= time.Millisecond {
			t.Errorf("on disk it started %v, want %v", l.Start, begun)
		}
	}
	f.clock.advance(2 * time.Hour)
	f.expireAll()
	if l := f.get(q); !l.Start.Equal(f.clock.now()) {
		t.Errorf("a new lease started %v", l.Start)
	}
}

func TestReleaseAndDecline(t *testing.T) {
	a := addr("192.0.2.100")
	one, two := query(client(1), link), query(client(2), link)
	t.Run("release by another client", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		f.release(two, a)
		if f.state("192.0.2.100") != Active {
			t.Error("released")
		}
	})
	t.Run("release to another server", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		q := one
		q.SelectedServer = other
		f.release(q, a)
		if f.state("192.0.2.100") != Active {
			t.Error("released")
		}
	})
	t.Run("release keeps the history", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		f.clock.advance(time.Minute)
		f.release(one, a)
		if l, ok := f.Lease(a); !ok || l.State != Released || l.Client != client(1) || !l.Expires.Equal(f.clock.now()) {
			t.Errorf("got %+v", l)
		}
	})
	t.Run("decline rests the address", func(t *testing.T) {
		c := testConfig()
		f := open(t, c)
		f.get(one)
		f.decline(two, a)
		if f.state("192.0.2.100") != Active {
			t.Fatal("declined by a client that does not hold it")
		}
		f.decline(one, a)
		if l, _ := f.Lease(a); l.State != Declined || !l.Expires.Equal(f.clock.now().Add(3*time.Hour)) {
			t.Fatalf("got %+v", l)
		}
		if got := f.get(one).Address; got == a {
			t.Fatal("the client got the address again")
		}
		if got := f.request(selecting(two, a)); got.Kind != Nak {
			t.Fatalf("another client got it: %v", got.Kind)
		}
		f.clock.advance(2 * time.Hour)
		f.reopen(c)
		f.expireAll()
		if f.state("192.0.2.100") != Declined {
			t.Fatal("did not rest over a restart")
		}
		f.clock.advance(time.Hour)
		f.expireAll()
		if got := f.request(selecting(two, a)); got.Kind != Ack {
			t.Fatalf("after its rest: %v %s", got.Kind, got.Reason)
		}
	})
}
