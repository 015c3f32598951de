package lease

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/tidwall/btree"
)

// check holds the Manager's indexes against its bindings.
func (f *fixture) check() {
	f.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if b := f.bindings.latest; b != nil {
		if f.bindings.latest = nil; f.bindings.at(b.addr) != b {
			f.Fatalf("%+v was found last, and is not there", b)
		}
	}
	known, ending, owned, declined, joined := 0, 0, 0, 0, 0
	for b := range f.bindings.each() {
		a := b.addr
		if b.addr != a || b.state == 0 {
			f.Fatalf("binding %+v under %v", b, a)
		}
		if b.known() {
			known++
		}
		if b.state == Active && b.client.machine() != "" {
			joined++
		}
		if b.owned {
			owned++
		}
		if b.state == Declined {
			declined++
		}
		if b.ending() {
			ending++
			if f.ends.heap[b.heap].n != b.n || f.ends.heap[b.heap].end != b.end {
				f.Fatalf("%v is not at its place in the queue", a)
			}
		}
		if f.coming == nil && b.side != f.side {
			f.Fatalf("%v was left out by a reload", a)
		}
	}
	for name, list := range f.owned {
		for _, b := range list {
			owned--
			if !b.owned || b.name != name || f.bindings.at(b.addr) != b {
				f.Fatalf("%+v among the owners of %q", b, name)
			}
		}
	}
	for h, list := range f.declined {
		for _, b := range list {
			declined--
			if b.state != Declined || b.client.hardware() != h || f.bindings.at(b.addr) != b {
				f.Fatalf("%+v among what %x declined", b, h.Addr)
			}
		}
	}
	f.checkIndex(f.conf, func(*binding) bool { return true })
	if f.coming != nil {
		f.checkIndex(f.coming, func(b *binding) bool { return b.side == f.side })
	}
	ports := map[uint64]portUse{}
	for b := range f.bindings.each() {
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
		if r.counts() {
			chosen[r.addr]++
		}
	}
	if owned != 0 || declined != 0 || !maps.Equal(chosen, f.chosen) {
		f.Fatalf("indexes: %d owned, %d declined, removals %v, counted %v", owned, declined, chosen, f.chosen)
	}
	for i := range f.bindings.byClient {
		for _, place := range f.bindings.byClient[i].places {
			hash := uint32(place >> 32)
			for b := f.bindings.get(number(place)); b != nil; b = f.bindings.get(b.sibling) {
				known--
				if f.bindings.hash(b.client) != hash || !b.known() || f.bindings.at(b.addr) != b {
					f.Fatalf("%+v in the chain of %x", b, hash)
				}
			}
		}
	}
	for _, n := range f.bindings.machines {
		for b := f.bindings.get(n); b != nil; b = f.bindings.get(b.cousin) {
			joined--
			if b.state != Active || f.bindings.at(b.addr) != b || f.bindings.machines[f.bindings.hashMachine(b.client.machine())] != n {
				f.Fatalf("%+v in the chain of a machine", b)
			}
		}
	}
	if joined != 0 {
		f.Fatalf("%d active bindings are in no chain of their machine", joined)
	}
	if all := len(f.bindings.spare) + f.bindings.len(); all != int(f.bindings.made) {
		f.Fatalf("%d bindings were made, %d are there or spare", f.bindings.made, all)
	}
	for i := range f.ends.heap {
		if i > 0 && f.ends.heap[i].end < f.ends.heap[(i-1)/4].end {
			f.Fatal("queue out of order")
		}
	}
	order := 0
	for o := f.offers.first; o != nil; o = o.next {
		if order++; f.offers.byAddress[o.addr] != o || o.next != nil && o.next.end < o.end || o.next == nil && f.offers.last != o {
			f.Fatalf("offer %+v", o)
		}
	}
	if known != 0 || ending != len(f.ends.heap) || len(f.offers.byAddress) != len(f.offers.byClient) || order != len(f.offers.byClient) {
		f.Fatalf("indexes: %d known, %d of %d ending, offers %d %d %d", known, ending, len(f.ends.heap),
			len(f.offers.byAddress), len(f.offers.byClient), order)
	}
}

// checkIndex holds an index against the bindings that were taken up into it. Caller holds mu.
func (f *fixture) checkIndex(x *index, in func(*binding) bool) {
	f.Helper()
	pools, fixed, shared := map[*pool]tally{}, map[*network]tally{}, 0
	for b := range f.bindings.each() {
		a := b.addr
		if !in(b) {
			continue
		}
		p := x.poolOf(a)
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
		switch n := x.networkOf(a); {
		case x.reserved[a] != nil:
			fixed[n] = add(fixed[n])
		case p != nil && !x.withheld(a):
			pools[p] = add(pools[p])
		}
		if p != nil {
			_, free := p.free.Get(b)
			_, resting := p.resting.Get(b)
			listed := b.idle() && !x.withheld(a) && f.offers.of(a) == nil
			if free != (listed && b.state != Declined) || resting != (listed && b.state == Declined) {
				f.Fatalf("%v: %v, among the free %v, among those that rest %v", a, b.state, free, resting)
			}
		}
		if name := x.sharedName(b); name != "" {
			switch list := x.shared[name]; {
			case slices.Contains(list, b):
				shared++
			case len(list) < maxShared:
				f.Fatalf("%v is not found by %q", a, name)
			}
		}
	}
	for _, n := range x.networks {
		if n.fixed != fixed[n] {
			f.Fatalf("%s: counted %+v, there are %+v", n.Name, n.fixed, fixed[n])
		}
	}
	for _, list := range x.shared {
		shared -= len(list)
	}
	if shared != 0 {
		f.Fatalf("%d too few bindings found by a name that is shared", shared)
	}
	for _, p := range x.pools {
		if p.tally != pools[p] {
			f.Fatalf("%v-%v: counted %+v, there are %+v", p.first, p.last, p.tally, pools[p])
		}
		for _, tree := range []*btree.BTreeG[*binding]{p.free, p.resting} {
			tree.Scan(func(b *binding) bool {
				if f.bindings.at(b.addr) != b || !b.idle() || x.poolOf(b.addr) != p || x.withheld(b.addr) || p.tree(b) != tree {
					f.Fatalf("%+v is listed", b)
				}
				return true
			})
		}
		if p.size > 4096 {
			continue
		}
		for a := p.first; a.Compare(p.last) <= 0; a = a.Next() {
			e := p.fresh.find(a)
			got := e != nil && !e.last.Less(a)
			b, o := f.bindings.at(a), f.offers.of(a)
			want := b == nil && o == nil && !x.withheld(a)
			if got != want && (x == f.conf || b != nil && in(b) || b == nil && o == nil) {
				f.Fatalf("%v: among those never used %v, want %v", a, got, want)
			}
		}
	}
}
