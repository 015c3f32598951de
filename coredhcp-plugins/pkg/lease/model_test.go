package lease

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// promise is what a client was told.
type promise struct {
	addr  netip.Addr
	until time.Time
}

// TestAgainstModel drives random clients and a random clock, with restarts and reloads, against the plainest model there
// is: what each client was promised until when. Nobody may get what somebody else was promised.
func TestAgainstModel(t *testing.T) {
	r := newRand(t)
	config := testConfig()
	f := open(t, config)
	clients := make([]Client, 10)
	for i := range clients {
		clients[i] = client(byte(i + 1))
		if i%2 == 1 {
			clients[i].Identifier = "\x01" + clients[i].HardwareAddr
		}
	}
	// Two interfaces of one device, two clients of one interface, and one identifier on three machines.
	clients = append(clients, client(0xc1), client(0xc2), client(0xd1))
	for _, hw := range []byte{0xc1, 0xd1, 0x61} {
		clients = append(clients, Client{1, mac(hw), "\x00VENDOR"})
	}
	links := []netip.Addr{link, link2}
	promised := map[Client]map[netip.Addr]time.Time{} // by client and address
	for _, c := range clients {
		promised[c] = map[netip.Addr]time.Time{}
	}
	offered := map[Client]netip.Addr{}
	resting := map[netip.Addr]time.Time{}
	wire := func(a netip.Addr) string {
		n := f.conf.networkOf(a)
		if n.SharedNetwork != "" {
			return n.SharedNetwork
		}
		return n.Name
	}
	ack := func(c Client, a Answer) {
		t.Helper()
		if a.Kind != Ack {
			return
		}
		got, now := a.Lease.Address, f.clock.now()
		for o, list := range promised {
			if f.conf.reserved[got] != nil && o != c && o.HardwareAddr == c.HardwareAddr {
				delete(list, got) // gives way
			}
			if until, ok := list[got]; ok && o != c && until.After(now) {
				t.Fatalf("%v given to %x, promised to %x until %v, it is %v", got, c.HardwareAddr, o.HardwareAddr, until, now)
			}
		}
		if since, ok := resting[got]; ok && now.Before(since.Add(leastRest)) && f.conf.reserved[got] == nil {
			t.Fatalf("%v given while it rests since %v", got, since)
		}
		delete(resting, got)
		if got == addr("192.0.2.101") || f.conf.reserved[got] != nil && f.conf.reserved[got] != f.conf.reservation(c) {
			t.Fatalf("%v given to %x", got, c.HardwareAddr)
		}
		for o := range promised[c] {
			if wire(o) == wire(got) {
				delete(promised[c], o)
			}
		}
		promised[c][got] = now.Add(a.Duration)
		l, _ := f.Lease(got)
		if l.State != Active || l.Client != c || !l.Expires.Equal(now.Add(a.Duration)) {
			t.Fatalf("after the Ack of %v the lease is %+v", got, l)
		}
	}
	for range 6000 {
		c := clients[r.IntN(len(clients))]
		q := query(c, links[r.IntN(2)])
		q.LeaseTime = time.Duration(r.IntN(3)) * 20 * time.Minute
		var mine []netip.Addr
		for a := range promised[c] {
			mine = append(mine, a)
		}
		pick := func() netip.Addr {
			if len(mine) == 0 {
				return addr("192.0.2.100")
			}
			return mine[r.IntN(len(mine))]
		}
		switch r.IntN(12) {
		case 0, 1, 2:
			if a := f.discover(q); a.Kind == Offer {
				for o, other := range offered {
					if of := f.offers.byClient[o.Key()]; o != c && other == a.Lease.Address && of != nil && of.addr == other && of.client.client() == o {
						t.Fatalf("%v offered to two clients", other)
					}
				}
				offered[c] = a.Lease.Address
			}
		case 3, 4:
			if a := offered[c]; a.IsValid() {
				ack(c, f.request(selecting(q, a)))
			}
		case 5:
			a := f.conf.pools[r.IntN(len(f.conf.pools))]
			ack(c, f.request(selecting(q, a.first)))
		case 6:
			ack(c, f.request(rebooting(q, pick())))
		case 7:
			a := pick()
			ans := f.request(renewing(q, a))
			// A device is moved from a pool address to its own once that is free again.
			moved := f.conf.reservation(c) != nil && f.conf.reserved[a] == nil
			if until, ok := promised[c][a]; ok && until.After(f.clock.now()) && ans.Kind != Ack && !moved {
				t.Fatalf("renewal of %v by %x, promised until %v: %v %s", a, c.HardwareAddr, until, ans.Kind, ans.Reason)
			}
			ack(c, ans)
		case 8:
			a := pick()
			f.release(q, a)
			delete(promised[c], a)
		case 9:
			if a := pick(); r.IntN(4) == 0 {
				if until, ok := promised[c][a]; ok && until.After(f.clock.now()) {
					f.decline(q, a)
					if s := f.state(a.String()); s != Declined {
						t.Fatalf("%v declined by %v, which was promised it until %v: it is %v", a, c, until, s)
					}
					delete(promised[c], a)
					resting[a] = f.clock.now()
					for a := range resting { // its client may have declined too many, so that another one rests no more
						if f.state(a.String()) != Declined {
							delete(resting, a)
						}
					}
				}
			}
		case 10:
			f.clock.advance(time.Duration(r.IntN(15)) * time.Minute)
			if r.IntN(2) == 0 {
				f.expireAll()
			}
		case 11:
			switch r.IntN(10) {
			case 0:
				f.reopen(config)
			case 1:
				if err := f.Reload(config); err != nil {
					t.Fatal(err)
				}
			}
		}
		f.check()
	}
	// What the store says is what memory says.
	f.settled()
	n := 0
	for l := range f.Leases() {
		n++
		if m, ok := f.Lease(l.Address); !ok || m.State != l.State || m.Client != l.Client || m.Name != l.Name ||
			m.Network != l.Network || m.Version != l.Version || !m.Expires.Equal(l.Expires) {
			t.Errorf("on disk %+v, in memory %+v", l, m)
		}
	}
	if n != len(f.bindings) {
		t.Errorf("%d leases on disk, %d in memory", n, len(f.bindings))
	}
}

// check holds the Manager's indexes against its bindings.
func (f *fixture) check() {
	f.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	known, ending, listed, owned, declined := 0, 0, 0, 0, 0
	for a, b := range f.bindings {
		if b.addr != a || b.state == 0 {
			f.Fatalf("binding %+v under %v", b, a)
		}
		if b.known() {
			known++
		}
		if b.owned {
			owned++
		}
		if b.state == Declined {
			declined++
		}
		if b.ending() {
			ending++
			if f.ends[b.heap].b != b || f.ends[b.heap].end != b.end {
				f.Fatalf("%v is not at its place in the queue", a)
			}
		}
		if b.listed {
			listed++
		}
		p := f.conf.poolOf(a)
		if b.idle() && p != nil && !f.conf.withheld(a) && f.offers.of(a) == nil != b.listed {
			f.Fatalf("%v: idle, listed %v", a, b.listed)
		}
	}
	for name, list := range f.owned {
		for _, b := range list {
			owned--
			if !b.owned || b.name != name || f.bindings[b.addr] != b {
				f.Fatalf("%+v among the owners of %q", b, name)
			}
		}
	}
	for h, list := range f.declined {
		for _, b := range list {
			declined--
			if b.state != Declined || b.client.hardware() != h || f.bindings[b.addr] != b {
				f.Fatalf("%+v among what %x declined", b, h.Addr)
			}
		}
	}
	pools, fixed := map[*pool]tally{}, map[*network]tally{}
	for a, b := range f.bindings {
		p := f.conf.poolOf(a)
		add := func(t tally) tally {
			if b.state == Active {
				t.active++
			} else if b.state == Declined {
				t.declined++
			}
			return t
		}
		switch n := f.conf.networkOf(a); {
		case f.conf.reserved[a] != nil:
			fixed[n] = add(fixed[n])
		case p != nil && !f.conf.withheld(a):
			pools[p] = add(pools[p])
		}
	}
	for _, n := range f.conf.networks {
		if n.fixed != fixed[n] {
			f.Fatalf("%s: counted %+v, there are %+v", n.Name, n.fixed, fixed[n])
		}
	}
	for _, p := range f.conf.pools {
		if p.tally != pools[p] {
			f.Fatalf("%v-%v: counted %+v, there are %+v", p.first, p.last, p.tally, pools[p])
		}
	}
	ports := map[uint64]portUse{}
	for _, b := range f.bindings {
		if b.port != 0 {
			u := ports[b.port]
			u.bindings++
			ports[b.port] = u
		}
		if b.port != 0 && b.state != Active && b.state != Declined {
			f.Fatalf("%+v counts at a port", b)
		}
	}
	for _, o := range f.offers.byAddress {
		if o.port != 0 {
			u := ports[o.port]
			u.offers++
			ports[o.port] = u
		}
	}
	if !maps.Equal(ports, f.ports) {
		f.Fatalf("at ports %v, counted %v", ports, f.ports)
	}
	chosen := map[netip.Addr]int{}
	for _, r := range f.removals {
		if !r.owned {
			chosen[r.addr]++
		}
	}
	if owned != 0 || declined != 0 || !maps.Equal(chosen, f.chosen) {
		f.Fatalf("indexes: %d owned, %d declined, removals %v, counted %v", owned, declined, chosen, f.chosen)
	}
	for key, b := range f.clients {
		for ; b != nil; b = b.sibling {
			known--
			if b.client.key() != key || !b.known() {
				f.Fatalf("%+v in the chain of %q", b, key)
			}
		}
	}
	for i := range f.ends {
		if i > 0 && f.ends[i].end < f.ends[(i-1)/4].end {
			f.Fatal("queue out of order")
		}
	}
	for _, p := range f.conf.pools {
		listed -= p.free.Len() + p.resting.Len()
	}
	order := 0
	for o := f.offers.first; o != nil; o = o.next {
		if order++; f.offers.byAddress[o.addr] != o || o.next != nil && o.next.end < o.end || o.next == nil && f.offers.last != o {
			f.Fatalf("offer %+v", o)
		}
	}
	if known != 0 || ending != len(f.ends) || listed != 0 || len(f.offers.byAddress) != len(f.offers.byClient) || order != len(f.offers.byClient) {
		f.Fatalf("indexes: %d known, %d of %d ending, %d listed, offers %d %d %d", known, ending, len(f.ends), listed,
			len(f.offers.byAddress), len(f.offers.byClient), order)
	}
}
