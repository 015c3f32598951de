package lease

import (
	"net/netip"
	"testing"
	"time"
)

func probeConfig() Config {
	c := testConfig()
	for i := range c.Networks {
		c.Networks[i].Probe = true
	}
	return c
}

// TestProbe has addresses tried before they go to clients that did not hold them.
func TestProbe(t *testing.T) {
	wants := func(f *fixture, what string, got Answer, kind Kind, a string) {
		f.Helper()
		if got.Kind != kind || a != "" && got.Lease.Address != addr(a) {
			f.Fatalf("%s: %s of %v (%s), want %s of %s", what, got.Kind, got.Lease.Address, got.Reason, kind, a)
		}
	}
	from := func(n byte) Query { return Query{Client: client(n), Links: []netip.Addr{link}, ServerID: server} }
	selects := func(n byte, a string) Query {
		q := from(n)
		q.SelectedServer, q.Requested = server, addr(a)
		return q
	}
	holder := HardwareAddress{1, mac(0xaa)}

	t.Run("free", func(t *testing.T) {
		f := open(t, probeConfig())
		wants(f, "first", f.discover(from(1)), Probe, "192.0.2.100")
		again := f.discover(from(1))
		wants(f, "repeated meanwhile", again, Silent, "")
		if again.Reason != ReasonTrying {
			t.Errorf("reason %q", again.Reason)
		}
		wants(f, "another client meanwhile", f.discover(from(2)), Probe, "192.0.2.103")
		f.Tried(client(2), addr("192.0.2.100")) // another's
		wants(f, "not tried", f.request(selects(1, "192.0.2.100")), Silent, "")
		f.Tried(client(1), addr("192.0.2.100"))
		wants(f, "tried", f.discover(from(1)), Offer, "192.0.2.100")
		wants(f, "asked for", f.request(selects(1, "192.0.2.100")), Ack, "192.0.2.100")
		wants(f, "held", f.discover(from(1)), Offer, "192.0.2.100")
		renewal := from(1)
		renewal.ClientAddr = addr("192.0.2.100")
		wants(f, "renewed", f.request(renewal), Ack, "")
		f.release(from(1), addr("192.0.2.100"))
		wants(f, "had", f.discover(from(1)), Offer, "192.0.2.100")
	})
	t.Run("the result is lost", func(t *testing.T) {
		f := open(t, probeConfig())
		wants(f, "first", f.discover(from(1)), Probe, "")
		f.clock.advance(tryTime)
		wants(f, "tried again", f.discover(from(1)), Probe, "")
		f.Tried(client(1), addr("192.0.2.100"))
		f.clock.advance(OfferTime)
		wants(f, "the offer is over", f.request(selects(1, "192.0.2.100")), Probe, "192.0.2.100")
	})
	t.Run("conflict", func(t *testing.T) {
		f := open(t, probeConfig())
		wants(f, "first", f.discover(from(1)), Probe, "192.0.2.100")
		for range 2 { // the second time nothing is on offer any more
			if _, err := f.Conflict(t.Context(), client(1), addr("192.0.2.100"), holder); err != nil {
				t.Fatal(err)
			}
		}
		wants(f, "next", f.discover(from(1)), Probe, "192.0.2.103")
		if ok, err := f.Conflict(t.Context(), client(2), addr("192.0.2.103"), holder); ok || err != nil {
			t.Errorf("of another's offer: %v, %v", ok, err)
		}
		if ok, err := f.Conflict(t.Context(), client(1), addr("192.0.2.103"), HardwareAddress{}); !ok || err != nil {
			t.Errorf("with an unknown machine: %v, %v", ok, err)
		}
		for a, want := range map[string]Client{"192.0.2.100": client(0xaa), "192.0.2.103": nobody.client()} {
			check := func(when string) {
				t.Helper()
				l, _ := f.Lease(addr(a))
				if l.State != Conflict || l.Client != want || !l.Expires.Equal(f.clock.now().Add(3*time.Hour)) {
					t.Errorf("%s: lease %+v, want a conflict with %v for 3 hours", when, l, want)
				}
				events, err := f.History(t.Context(), addr(a), 10)
				if err != nil || len(events) != 1 || events[0].State != Conflict || events[0].Client != want {
					t.Errorf("%s: history %+v, %v", when, events, err)
				}
				n := 0
				for l, err := range f.Leases() {
					if err == nil && l.State == Conflict {
						n++
					}
				}
				if n != 2 {
					t.Errorf("%s: %d conflicts listed, want 2", when, n)
				}
			}
			check("found")
			f.reopen(probeConfig())
			check("after a restart")
		}
		// It is free when the rest is over, and tried again then.
		f.clock.advance(3 * time.Hour)
		f.expireAll()
		for _, a := range []string{"192.0.2.100", "192.0.2.103"} {
			if got := f.state(a); got != Expired {
				t.Errorf("%s is %s", a, got)
			}
		}
		q := from(3)
		q.Requested = addr("192.0.2.103")
		wants(f, "later", f.discover(q), Probe, "192.0.2.103")
	})
	t.Run("INIT-REBOOT of a device without a lease", func(t *testing.T) {
		f := open(t, probeConfig())
		q := from(0xc1)
		q.Requested = addr("192.0.2.11")
		wants(f, "first", f.request(q), Probe, "192.0.2.11")
		f.Tried(q.Client, addr("192.0.2.11"))
		wants(f, "tried", f.request(q), Ack, "192.0.2.11")
		// Its firmware has another identifier and the same card.
		firmware := from(0xc1)
		firmware.Client.Identifier = "\x00firmware"
		wants(f, "another client of the same card", f.discover(firmware), Offer, "192.0.2.11")
	})
	t.Run("INIT-REBOOT, in use", func(t *testing.T) {
		f := open(t, probeConfig())
		q := from(0xc1)
		q.Requested = addr("192.0.2.11")
		wants(f, "first", f.request(q), Probe, "192.0.2.11")
		if ok, err := f.Conflict(t.Context(), q.Client, addr("192.0.2.11"), holder); !ok || err != nil {
			t.Fatal(ok, err)
		}
		wants(f, "asked again", f.request(q), Nak, "")
		wants(f, "gets another", f.discover(from(0xc1)), Probe, "192.0.2.100")
		f.clock.advance(reservedRest)
		f.expireAll()
		wants(f, "later its own", f.discover(from(0xc1)), Probe, "192.0.2.11")
	})
	t.Run("an administrator frees it", func(t *testing.T) {
		f := open(t, probeConfig())
		f.discover(from(1))
		if _, err := f.Conflict(t.Context(), client(1), addr("192.0.2.100"), holder); err != nil {
			t.Fatal(err)
		}
		if ok, err := f.Unquarantine(t.Context(), addr("192.0.2.100")); !ok || err != nil {
			t.Errorf("unquarantine: %v, %v", ok, err)
		}
		if got := f.state("192.0.2.100"); got != Expired {
			t.Errorf("it is %s", got)
		}
	})
	t.Run("every address is in use", func(t *testing.T) {
		f := open(t, probeConfig())
		n := 0
		for a := f.discover(from(1)); a.Kind == Probe; a = f.discover(from(1)) {
			if n++; n > 10 {
				t.Fatal("it does not end")
			}
			if _, err := f.Conflict(t.Context(), client(1), a.Lease.Address, holder); err != nil {
				t.Fatal(err)
			}
		}
		if n != 4 {
			t.Errorf("%d addresses were tried, want the 4 of both pools", n)
		}
	})
}
