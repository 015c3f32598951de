package lease

import (
	"net/netip"
	"slices"

	"github.com/tidwall/btree"
)

// pool is a range of addresses and those of it that nobody holds.
type pool struct {
	network     *network
	first, last netip.Addr
	clients     Clients
	class       string
	size        uint64 // addresses that can be given away
	kept        uint64 // of these: not for strangers
	tally       tally  // of these
	// Those that are not withheld and on offer to nobody:
	fresh   *spans                  // never used
	free    *btree.BTreeG[*binding] // used before and free now, the one free for longest first
	resting *btree.BTreeG[*binding] // declined, the one whose rest ends next first
}

func newPool(n *network, p Pool) *pool {
	return &pool{
		network: n, first: p.First, last: p.Last, clients: p.Clients, class: p.Class,
		fresh:   newSpans(p.First, p.Last),
		free:    btree.NewBTreeGOptions(freedBefore, btree.Options{NoLocks: true}),
		resting: btree.NewBTreeGOptions(freedBefore, btree.Options{NoLocks: true}),
	}
}

// admits says whether the pool is for the asker. A lease that is renewed by unicast is not asked for its class, for what
// the relay tells is missing then.
func (p *pool) admits(w *asker) bool {
	switch {
	case p.clients == KnownClients && w.reservation == nil, p.clients == UnknownClients && w.reservation != nil:
		return false
	default:
		return p.class == "" || slices.Contains(w.Classes, p.class) || w.stays && !w.Relayed
	}
}

func freedBefore(a, b *binding) bool {
	if a.end != b.end {
		return a.end < b.end
	}
	return a.addr.Less(b.addr)
}

// choose returns the address of these networks' pools that was unused longest, and false if there is none. Where no other
// is left it is one that another client declined leastRest ago or more: whoever declines what it gets must not empty the pools.
// A device of the site then takes what is on offer to a stranger. Caller holds mu.
func (m *Manager) choose(w *asker, nets []*network) (netip.Addr, bool) {
	for _, n := range nets {
		for _, p := range n.pools {
			if !p.admits(w) || m.crowded(w, p) {
				continue
			}
			if a, ok := m.neverUsed(w, p); ok {
				return a, true
			}
		}
	}
	free := func(p *pool) *btree.BTreeG[*binding] { return p.free }
	resting := func(p *pool) *btree.BTreeG[*binding] { return p.resting }
	for _, tree := range []func(*pool) *btree.BTreeG[*binding]{free, resting} {
		var oldest *binding
		for _, n := range nets {
			for _, p := range n.pools {
				if !p.admits(w) || m.crowded(w, p) {
					continue
				}
				if b := m.first(w, tree(p)); b != nil && (oldest == nil || freedBefore(b, oldest)) {
					oldest = b
				}
			}
		}
		if oldest != nil {
			return oldest.addr, true
		}
	}
	if w.reservation == nil {
		return netip.Addr{}, false
	}
	return m.offeredToStranger(w, nets)
}

// neverUsed returns the lowest address of a pool that has no binding, is on offer to nobody and is not withheld. Caller holds mu.
func (m *Manager) neverUsed(w *asker, p *pool) (netip.Addr, bool) {
	return p.fresh.first(func(a netip.Addr) bool { return !w.meets(a) })
}

// first returns the first binding of those in one of a pool's trees that the asker may have, or nil. Caller holds mu.
func (m *Manager) first(w *asker, tree *btree.BTreeG[*binding]) (found *binding) {
	tree.Scan(func(b *binding) bool {
		switch {
		case w.meets(b.addr) || b.state == Declined && w.sharesHardware(b.client):
		case b.state == Declined && m.declinedAt(b)+int64(leastRest) > w.t.el:
			return false // nor have those after it rested long enough
		default:
			found = b
		}
		return found == nil
	})
	return found
}

// list puts an address that nobody holds, and that is on offer to nobody, where choose finds it. Caller holds mu.
func (m *Manager) list(a netip.Addr) {
	if m.offers.of(a) != nil {
		return
	}
	b := m.bindings.at(a)
	m.conf.list(a, b)
	if m.coming != nil {
		m.coming.list(a, b)
	}
}

// unlist takes an address from where choose finds it. Caller holds mu; a binding's record is as it was when listed.
func (m *Manager) unlist(a netip.Addr) {
	b := m.bindings.at(a)
	m.conf.unlist(a, b)
	if m.coming != nil {
		m.coming.unlist(a, b)
	}
}

// list lists an address with binding b, nil if it was never used, unless it is in no pool, withheld, or held.
func (x *index) list(a netip.Addr, b *binding) {
	p := x.poolOf(a)
	switch {
	case p == nil || x.withheld(a):
	case b == nil:
		p.fresh.add(a)
	case b.idle():
		p.tree(b).Set(b)
	}
}

// unlist takes an address out again, if it is listed.
func (x *index) unlist(a netip.Addr, b *binding) {
	p := x.poolOf(a)
	switch {
	case p == nil:
	case b == nil:
		p.fresh.remove(a)
	case b.idle():
		p.tree(b).Delete(b)
	}
}

// tree is where an idle binding is listed.
func (p *pool) tree(b *binding) *btree.BTreeG[*binding] {
	if b.state == Declined {
		return p.resting
	}
	return p.free
}
