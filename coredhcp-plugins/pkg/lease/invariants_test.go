package lease

import (
	"maps"
	"net/netip"
)

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
			switch b.state {
			case Active:
				t.active++
			case Declined:
				t.declined++
			}
			if b.countsAt() != 0 {
				t.strangers++
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
		if b.port != 0 && (b.state == Active || b.state == Declined) {
			u := ports[b.port]
			u.bindings++
			ports[b.port] = u
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
