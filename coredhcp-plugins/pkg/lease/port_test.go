package lease

import (
	"fmt"
	"testing"
	"time"
)

// at is a query that comes from a port.
func at(q Query, port string) Query {
	q.Port = port
	return q
}

func portConfig() Config {
	c := testConfig()
	c.MaxPerPort = 3
	return c
}

// TestStarvation has one port ask with ever new hardware addresses.
func TestStarvation(t *testing.T) {
	f := open(t, portConfig())
	flood := func(kind string, n byte, do func(Query)) {
		for i := range n {
			do(at(query(client(100+i), link2), "port1"))
			f.check()
		}
		if u := f.ports[hashPort("port1")]; u.bindings+u.offers != 3 {
			t.Errorf("%s: the port has %+v", kind, u)
		}
	}
	flood("offers", 20, func(q Query) { f.discover(q) })
	if o := f.discover(at(query(client(1), link2), "port2")); o.Kind != Offer {
		t.Errorf("another port: %v", o.Reason)
	}
	f.clock.advance(OfferTime)
	flood("without an offer", 5, func(q Query) {
		f.request(selecting(q, addr(fmt.Sprintf("198.51.100.%d", 13+q.Client.HardwareAddr[5]-100))))
	})
	f.reopen(portConfig())
	if o := f.discover(at(query(client(150), link2), "port1")); o.Kind != Silent {
		t.Errorf("after a restart: offered %v", o.Lease.Address)
	}
	if a := f.request(selecting(at(query(client(150), link2), "port1"), addr("198.51.100.19"))); a.Kind != Nak {
		t.Errorf("asked for without an offer: %v", a.Kind)
	}
	if s := f.Stats(); s.Refused != 2 {
		t.Errorf("refused %d", s.Refused)
	}
	held := addr("198.51.100.13")
	for name, q := range map[string]Query{
		"renewing": renewing(at(query(client(100), link2), "port1"), held), "another way": renewing(at(query(client(100), link2), "eth0"), held),
		"rebooting": rebooting(at(query(client(100), link2), "port1"), held),
		"asking":    selecting(at(query(client(100), link2), "port1"), held),
	} {
		if a := f.request(q); a.Kind != Ack {
			t.Errorf("the holder, %s: %v %s", name, a.Kind, a.Reason)
		}
	}
	if u := f.ports[hashPort("port1")]; u.bindings != 3 {
		t.Errorf("after renewals: %+v", u)
	}
	if o := f.discover(at(query(client(100), link2), "port1")); o.Lease.Address != held {
		t.Errorf("the holder begins anew: %v %s", o.Kind, o.Reason)
	}
	t.Run("devices of the site", func(t *testing.T) {
		if l := f.get(at(query(client(0xd1), link2), "port1")); l.Address != addr("198.51.100.12") {
			t.Errorf("got %v", l.Address)
		}
		if l := f.get(at(query(client(0xc1), link2), "port1")); !l.Address.IsValid() {
			t.Error("no pool address")
		}
	})
	t.Run("what is given back", func(t *testing.T) {
		f.release(at(query(client(100), link2), "port1"), held)
		f.get(at(query(client(151), link2), "port1"))
		f.clock.advance(2 * time.Hour)
		f.expireAll()
		if len(f.ports) != 0 {
			t.Errorf("all leases ended, and ports have %v", f.ports)
		}
	})
	t.Run("what is declined", func(t *testing.T) {
		f := open(t, portConfig())
		for i := range byte(8) {
			q := at(query(client(100+i), link2), "port1")
			if o := f.discover(q); o.Kind == Offer {
				f.request(selecting(q, o.Lease.Address))
				f.decline(q, o.Lease.Address)
			}
		}
		if u := f.ports[hashPort("port1")]; u.bindings != 3 {
			t.Errorf("the port has %+v", u)
		}
		f.reopen(portConfig())
		f.check()
	})
	t.Run("leases that ended do not come back in numbers", func(t *testing.T) {
		f := open(t, portConfig())
		for i := range byte(3) {
			f.get(at(query(client(100+i), link2), "port1"))
		}
		f.clock.advance(2 * time.Hour)
		f.expireAll()
		for i := range byte(3) {
			f.get(at(query(client(110+i), link2), "port1"))
		}
		if a := f.request(renewing(at(query(client(100), link2), "port1"), addr("198.51.100.10"))); a.Kind == Ack {
			t.Error("a fourth")
		}
	})
}

func TestPortBoundDefaults(t *testing.T) {
	x, err := newIndex(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	if n := x.maxAt(&Query{Port: "eth0"}); n != 0 {
		t.Errorf("an interface: %d", n)
	}
	if n := x.maxAt(&Query{Port: "192.0.2.1 x", CircuitID: "x"}); n != DefaultMaxPerPort {
		t.Errorf("a circuit: %d", n)
	}
	c := testConfig()
	c.MaxPerPort = -1
	if _, err := newIndex(c); err == nil {
		t.Error("a bound of -1")
	}
}

// TestKnownClientsAreNotStarved has strangers take all offers that there are.
func TestKnownClientsAreNotStarved(t *testing.T) {
	f := open(t, testConfig())
	f.maxOffers = 2
	f.discover(query(client(1), link2))
	f.discover(query(client(2), link2))
	if o := f.discover(query(client(0xc1), link2)); o.Kind != Offer {
		t.Errorf("a device without an address in this network: %s", o.Reason)
	}
}

// TestPortIsKept has strangers let leases end at a port, gather others there, and come back to the first by unicast.
func TestPortIsKept(t *testing.T) {
	f := open(t, portConfig())
	for i := range byte(3) {
		f.get(at(query(client(100+i), link2), "port1"))
	}
	f.clock.advance(2 * time.Hour)
	f.expireAll()
	f.reopen(portConfig())
	for i := range byte(3) {
		f.get(at(query(client(110+i), link2), "port1"))
	}
	for i := range byte(3) {
		q := at(query(client(100+i), link2), "eth0")
		if a := f.request(renewing(q, addr(fmt.Sprintf("198.51.100.%d", []byte{10, 11, 13}[i])))); a.Kind == Ack {
			t.Errorf("%d more", i+1)
		}
	}
}

// floating is testConfig with devices that have no address of their own, and ten addresses for them and all others.
func floating() Config {
	c := testConfig()
	for i := range byte(5) {
		c.Reservations = append(c.Reservations, Reservation{Device: fmt.Sprint("ws", i), HardwareAddresses: []HardwareAddress{{1, mac(0xf0 + i)}}})
	}
	return c
}

// swarm has clients that nobody knows, each at a port of its own, take what they can of cardiology, without an offer and with.
func (f *fixture) swarm(n byte) (took int) {
	for i := range n {
		q := at(query(client(10+i), link2), fmt.Sprint("port", i))
		a := addr(fmt.Sprintf("198.51.100.%d", 10+i%10))
		if o := f.discover(q); o.Kind == Offer {
			a = o.Lease.Address
		}
		if f.request(selecting(q, a)).Kind == Ack {
			took++
		}
		f.check()
	}
	return took
}

// TestRoomForDevices has strangers that invent a port for each packet take all that they can get.
func TestRoomForDevices(t *testing.T) {
	// One of the ten addresses is mr1's; of nine a quarter, two, is kept.
	for name, reopened := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			f := open(t, floating())
			took := f.swarm(5)
			if reopened {
				f.reopen(floating())
			}
			if took += f.swarm(60) - 5; took != 7 {
				t.Errorf("strangers have %d addresses, want 7", took)
			}
			for i := range byte(2) {
				if l := f.get(query(client(0xf0+i), link2)); !l.Address.IsValid() {
					t.Errorf("device %d has no address", i)
				}
			}
			held := f.bindings.first([]byte(client(10).Key())).addr
			if a := f.request(renewing(query(client(10), link2), held)); a.Kind != Ack {
				t.Errorf("a stranger renews: %v %s", a.Kind, a.Reason)
			}
			f.clock.advance(2 * time.Hour)
			f.expireAll()
			for _, p := range f.conf.pools {
				if p.tally != (tally{}) {
					t.Errorf("all leases ended, and %v has %+v", p.first, p.tally)
				}
			}
		})
	}
	t.Run("no devices without an address", func(t *testing.T) {
		if took := open(t, testConfig()).swarm(60); took != 9 {
			t.Errorf("strangers have %d addresses, want the whole pool, 9", took)
		}
	})
	t.Run("a pool for strangers", func(t *testing.T) {
		c := floating()
		c.Networks[2].Pools[0].Clients = UnknownClients
		if took := open(t, c).swarm(60); took != 9 {
			t.Errorf("strangers have %d addresses, want the whole pool, 9", took)
		}
	})
	t.Run("a bound of the network", func(t *testing.T) {
		c := testConfig()
		c.MaxPerNetwork = 4
		f := open(t, c)
		if took := f.swarm(60); took != 4 {
			t.Errorf("strangers have %d addresses, want 4", took)
		}
		f.clock.advance(OfferTime)
		if a := f.request(rebooting(query(client(99), link2), addr("198.51.100.19"))); a.Kind == Ack {
			t.Error("a fifth")
		}
		if l := f.get(query(client(0xc1), link2)); !l.Address.IsValid() {
			t.Error("no address for a device")
		}
	})
	t.Run("offers", func(t *testing.T) {
		f := open(t, floating())
		for i := range byte(20) {
			f.discover(at(query(client(10+i), link2), fmt.Sprint("port", i)))
		}
		for i := range byte(2) {
			if l := f.get(query(client(0xf0+i), link2)); !l.Address.IsValid() {
				t.Errorf("device %d has no address while all are on offer to strangers", i)
			}
			f.check()
		}
	})
	c := testConfig()
	c.MaxPerNetwork = -1
	if _, err := newIndex(c); err == nil {
		t.Error("a bound of -1")
	}
}
