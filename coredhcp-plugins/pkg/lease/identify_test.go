package lease

import (
	"net/netip"
	"testing"
	"time"
)

func weakConfig() Config {
	c := testConfig()
	c.Reservations = append(c.Reservations,
		Reservation{Device: "us1", Hostname: "us1.imaging.example.org.", Publish: true, CircuitID: "sw1/7", Addresses: []netip.Addr{addr("192.0.2.21")}},
		Reservation{Device: "us2", Hostname: "us2.imaging.example.org.", Publish: true, CircuitID: "sw1/7", RemoteID: "r2", Addresses: []netip.Addr{addr("192.0.2.22")}},
		Reservation{Device: "us3", Hostname: "us3.imaging.example.org.", Publish: true, RemoteID: "r3", Addresses: []netip.Addr{addr("192.0.2.23")}},
		Reservation{Device: "ws9", Hostname: "ws9.imaging.example.org.", Publish: true, Names: []string{"ws9", "oldws9"}, Addresses: []netip.Addr{addr("192.0.2.29")}},
		Reservation{Device: "mg1", Hostname: "mg1.imaging.example.org.", Publish: true, Names: []string{"mg1"},
			HardwareAddresses: []HardwareAddress{{1, mac(0xe1)}}, Addresses: []netip.Addr{addr("192.0.2.31")}},
		Reservation{Device: "rover", Hostname: "rover.imaging.example.org.", Publish: true, Names: []string{"rover"}},
	)
	return c
}

func TestIdentify(t *testing.T) {
	for _, tc := range []struct {
		name                  string
		hw                    byte
		id                    string
		circuit, remote, host string
		want                  string
	}{
		{"hardware address before everything", 0xc1, "", "sw1/7", "", "ws9", "ct1"},
		{"identifier before the port", 1, "\x00ct1", "sw1/7", "", "ws9", "ct1"},
		{"circuit", 1, "", "sw1/7", "", "", "us1"},
		{"circuit, whatever the remote id where none is given", 1, "", "sw1/7", "other", "", "us1"},
		{"both", 1, "", "sw1/7", "r2", "", "us2"},
		{"remote id", 1, "", "sw9/9", "r3", "", "us3"},
		{"port before host name", 1, "", "sw1/7", "", "ws9", "us1"},
		{"host name", 1, "", "", "", "WS9", "ws9"},
		{"another of its names", 1, "", "sw9/9", "", "oldws9", "ws9"},
		{"host name of a device that has a hardware address", 1, "", "", "", "mg1", ""},
		{"nothing that fits", 1, "x", "sw9/9", "r9", "ws8", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := open(t, weakConfig())
			q := query(Client{1, mac(tc.hw), tc.id}, link)
			q.CircuitID, q.RemoteID, q.Hostname = tc.circuit, tc.remote, tc.host
			l := f.get(q)
			if l.Device != tc.want {
				t.Errorf("is %q, want %q", l.Device, tc.want)
			}
			if r := f.conf.reserved[l.Address]; tc.want != "" && (r == nil || r.Device != tc.want) {
				t.Errorf("got %v", l.Address)
			}
			f.check()
		})
	}
}

// TestWeakIdentity has machines come to the port and with the name of one that is there.
func TestWeakIdentity(t *testing.T) {
	port := func(n byte, l netip.Addr) Query { q := query(client(n), l); q.CircuitID = "sw1/7"; return q }
	for _, tc := range []struct {
		name   string
		as     func(n byte) Query
		device string
		fixed  string
	}{
		{"port", func(n byte) Query { return port(n, link) }, "us1", "192.0.2.21"},
		{"name", func(n byte) Query { return named(n, "ws9", link) }, "ws9", "192.0.2.29"},
		{"name, without an address", func(n byte) Query { return named(n, "rover", link) }, "rover", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := open(t, weakConfig())
			first, second := tc.as(1), tc.as(2)
			l := f.get(first)
			if l.Device != tc.device || tc.fixed != "" && l.Address != addr(tc.fixed) {
				t.Fatalf("the first got %+v", l)
			}
			bare := query(client(1), link)
			for range 3 {
				f.clock.advance(30 * time.Minute)
				if a := f.request(renewing(bare, l.Address)); a.Kind != Ack || a.Lease.Device != tc.device || a.Lease.Name != l.Name {
					t.Fatalf("renewal that does not say it: %v %s %+v", a.Kind, a.Reason, a.Lease)
				}
				if got := f.get(second); got.Address == l.Address || got.Device == tc.device || got.Name == l.Name {
					t.Fatalf("the second got %+v", got)
				}
				if a := f.request(selecting(second, l.Address)); a.Kind == Ack {
					t.Fatal("the second got it by asking")
				}
				if got, _ := f.Lease(l.Address); got.Client != client(1) || got.Name != l.Name {
					t.Fatalf("the first has %+v", got)
				}
			}
			f.reopen(weakConfig())
			if a := f.request(renewing(bare, l.Address)); a.Kind != Ack || a.Lease.Device != tc.device {
				t.Errorf("after a restart: %v %s", a.Kind, a.Reason)
			}
			f.release(bare, l.Address)
			if got := f.get(second); got.Device != tc.device || tc.fixed != "" && got.Address != addr(tc.fixed) {
				t.Errorf("when the first is gone the second got %+v", got)
			}
			if got := f.get(bare); got.Device == tc.device {
				t.Errorf("the first came back as a stranger and got %+v", got)
			}
			f.check()
		})
	}
	t.Run("one that says that it is elsewhere is no more the device", func(t *testing.T) {
		f := open(t, weakConfig())
		l := f.get(port(1, link))
		q := query(client(1), link)
		q.CircuitID = "sw2/1"
		if a := f.request(rebooting(q, l.Address)); a.Kind != Nak {
			t.Errorf("got %v", a.Kind)
		}
	})
	t.Run("a copied identifier", func(t *testing.T) {
		f := open(t, weakConfig())
		q := port(1, link)
		q.Client.Identifier = "\x00VENDOR"
		l := f.get(q)
		thief := query(Client{1, mac(9), "\x00VENDOR"}, link)
		f.release(thief, l.Address)
		if got := f.get(thief); got.Address == l.Address || f.state(l.Address.String()) != Active {
			t.Errorf("another machine got %v; the device's lease is %v", got.Address, f.state(l.Address.String()))
		}
	})
	t.Run("a configuration that is wrong", func(t *testing.T) {
		for name, r := range map[string]Reservation{
			"port of another": {Device: "x", CircuitID: "sw1/7"},
			"name of another": {Device: "x", Names: []string{"ws9"}},
			"upper case":      {Device: "x", Names: []string{"WS8"}},
			"two labels":      {Device: "x", Names: []string{"a.b"}},
			"no name":         {Device: "x", Names: []string{""}},
		} {
			c := weakConfig()
			c.Reservations = append(c.Reservations, r)
			if _, err := newIndex(c); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		c := testConfig()
		c.Networks[0].Pools[0].Clients = 3
		if _, err := newIndex(c); err == nil {
			t.Error("clients 3: taken")
		}
	})
}
