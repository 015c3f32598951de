package lease

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// TestCopiedIdentifier has several devices send one client identifier, as a copied disk or a vendor's constant does.
func TestCopiedIdentifier(t *testing.T) {
	const vendor = "\x00VENDOR"
	ct := query(Client{1, mac(0xc1), vendor}, link)
	mr := query(Client{1, mac(0xd1), vendor}, link)
	stranger := query(Client{1, mac(0x66), vendor}, link)
	fixed := addr("192.0.2.11")
	holds := func(f *fixture) {
		f.Helper()
		if l, _ := f.Lease(fixed); l.State != Active || l.Client != ct.Client || l.Name != "ct1.imaging.example.org." {
			f.Errorf("ct1's lease is now %+v", l)
		}
		f.check()
	}
	f := open(t, testConfig())
	f.get(ct)
	if l := f.get(mr); l.Address != addr("192.0.2.102") || l.Device != "mr1" {
		t.Errorf("mr1 got %+v", l)
	}
	holds(f)
	l := f.get(stranger)
	if l.Address == fixed || l.Device != "" {
		t.Errorf("the stranger got %+v", l)
	}
	holds(f)
	for name, give := range map[string]func(context.Context, Query) (bool, error){"release": f.Release, "decline": f.Decline} {
		q := stranger
		q.ClientAddr, q.Requested = fixed, fixed
		if ended, err := give(context.Background(), q); ended || err != nil {
			t.Errorf("the stranger's %s ended the lease: %v", name, err)
		}
	}
	holds(f)
	for name, q := range map[string]Query{"renewal": renewing(stranger, fixed), "reboot": rebooting(stranger, fixed), "choice": selecting(stranger, fixed)} {
		if a := f.request(q); a.Kind == Ack {
			t.Errorf("the stranger's %s was acknowledged", name)
		}
	}
	holds(f)
	if a := f.request(renewing(stranger, l.Address)); a.Kind != Ack {
		t.Errorf("the stranger renews its own: %v %s", a.Kind, a.Reason)
	}
	if a := f.request(renewing(ct, fixed)); a.Kind != Ack {
		t.Errorf("ct1 renews: %v %s", a.Kind, a.Reason)
	}
	f.reopen(testConfig())
	holds(f)
	t.Run("pool addresses", func(t *testing.T) {
		f := open(t, testConfig())
		ct.Links = []netip.Addr{link2}
		stranger.Links = ct.Links
		a, b := f.get(ct).Address, f.get(stranger).Address
		if a == b || f.state(a.String()) != Active {
			t.Errorf("got %v and %v; the first is %v", a, b, f.state(a.String()))
		}
		f.release(ct, a)
		f.release(stranger, b)
		if got := f.get(stranger).Address; got != b {
			t.Errorf("the stranger had %v, got %v", b, got)
		}
	})
}

// TestTwoInterfaces has two interfaces of a device with one address be alive at once.
func TestTwoInterfaces(t *testing.T) {
	fixed := addr("192.0.2.11")
	one, two := query(client(0xc1), link), query(client(0xc2), link)
	f := open(t, testConfig())
	f.discover(one)
	if o := f.discover(two); o.Lease.Address == fixed {
		t.Fatal("the second is offered what the first is offered")
	}
	f.get(one)
	waiting := f.get(two)
	if waiting.Address == fixed || waiting.Device != "ct1" || waiting.Name != "ct1.imaging.example.org." {
		t.Fatalf("the second got %+v", waiting)
	}
	for range 3 {
		f.clock.advance(30 * time.Minute)
		if a := f.request(renewing(two, waiting.Address)); a.Kind != Ack {
			t.Fatalf("the second renews: %v %s", a.Kind, a.Reason)
		}
		if a := f.request(renewing(two, fixed)); a.Kind != Nak {
			t.Fatalf("the second asks for the first's: %v", a.Kind)
		}
		if a := f.request(renewing(one, fixed)); a.Kind != Ack {
			t.Fatalf("the first renews: %v %s", a.Kind, a.Reason)
		}
	}
	f.release(one, fixed)
	if a := f.request(renewing(two, waiting.Address)); a.Kind != Nak {
		t.Fatalf("the second renews, and its device's address is free: %v", a.Kind)
	}
	if l := f.get(two); l.Address != fixed {
		t.Errorf("the second got %v", l.Address)
	}
	if s := f.state(waiting.Address.String()); s != Released {
		t.Errorf("the address meanwhile is %v", s)
	}
	t.Run("with two addresses, each keeps one whatever its client is", func(t *testing.T) {
		c := testConfig()
		c.Reservations[0].Addresses = append(c.Reservations[0].Addresses, addr("192.0.2.12"))
		f := open(t, c)
		f.get(query(Client{1, mac(0xc1), "\x00uefi"}, link))
		system := f.get(query(Client{1, mac(0xc1), "\xffos"}, link)).Address
		second := f.get(two).Address
		if system != fixed || second != addr("192.0.2.12") {
			t.Errorf("got %v and %v", system, second)
		}
	})
}

// TestOwnAddress has the server and the relay sit on addresses of a pool.
func TestOwnAddress(t *testing.T) {
	a, b, c := addr("198.51.100.10"), addr("198.51.100.11"), addr("198.51.100.13") // 12 is reserved
	f := open(t, testConfig())
	q := func(n byte) Query {
		return Query{Client: client(n), Links: []netip.Addr{a}, ServerID: b, Relayed: true}
	}
	if got := f.get(q(1)).Address; got != c {
		t.Errorf("got %v", got)
	}
	for _, own := range []netip.Addr{a, b} {
		r := q(2)
		r.SelectedServer, r.Requested = b, own
		if got := f.request(r); got.Kind != Nak {
			t.Errorf("asked for %v: %v", own, got.Kind)
		}
	}
	// Through another relay, by another server, they are addresses as any other.
	for n, want := range []netip.Addr{a, b} {
		if got := f.get(query(client(byte(10+n)), link2)).Address; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
		f.release(query(client(byte(10+n)), link2), want)
	}
	f.check()
	for n := range byte(6) { // 14 to 19
		f.get(q(20 + n))
	}
	if got := f.discover(q(30)); got.Kind != Silent {
		t.Errorf("the last addresses are the server's and the relay's, offered %v", got.Lease.Address)
	}
	f.check()
}
