package lease

import (
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
	clients = append(clients, client(0xc1), client(0xd1))
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
			if until, ok := list[got]; ok && o != c && until.After(now) {
				t.Fatalf("%v given to %x, promised to %x until %v, it is %v", got, c.HardwareAddr, o.HardwareAddr, until, now)
			}
		}
		if until := resting[got]; until.After(now) {
			t.Fatalf("%v given while it rests until %v", got, until)
		}
		if got == addr("192.0.2.101") || got == addr("192.0.2.102") && c != client(0xd1) || got == addr("192.0.2.11") && c != client(0xc1) {
			t.Fatalf("%v given to %x", got, c.HardwareAddr)
		}
		for o := range promised[c] {
			if wire(o) == wire(got) {
				delete(promised[c], o)
			}
		}
		promised[c][got] = now.Add(a.Duration)
		l, _ := f.Lease(got)
		if l.State != Active || l.Client.Key() != c.Key() || !l.Expires.Equal(now.Add(a.Duration)) {
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
					if o != c && other == a.Lease.Address && f.offers.byClient[o.Key()] != nil && f.offers.byClient[o.Key()].addr == other {
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
					delete(promised[c], a)
					resting[a] = f.clock.now().Add(f.conf.networkOf(a).DeclineTime)
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
	known, ending, listed := 0, 0, 0
	for a, b := range f.bindings {
		if b.addr != a || b.state == 0 {
			f.Fatalf("binding %+v under %v", b, a)
		}
		if b.known() {
			known++
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
		if b.free() && p != nil && !f.conf.withheld(a) && f.offers.of(a) == nil != b.listed {
			f.Fatalf("%v: free, listed %v", a, b.listed)
		}
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
		listed -= p.free.Len()
	}
	if known != 0 || ending != len(f.ends) || listed != 0 || len(f.offers.byAddress) != len(f.offers.byClient) || f.offers.order.Len() != len(f.offers.byClient) {
		f.Fatalf("indexes: %d known, %d of %d ending, %d listed, offers %d %d %d", known, ending, len(f.ends), listed,
			len(f.offers.byAddress), len(f.offers.byClient), f.offers.order.Len())
	}
}
