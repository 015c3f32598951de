package lease

import (
	"net/netip"
	"slices"

	"github.com/tidwall/btree"
)

// pool is a range of addresses and those of it that nobody holds. Addresses that were never used are not listed: they
// are all that the cursor has not passed, and the few it passed in vain.
type pool struct {
	network     *network
	first, last netip.Addr
	clients     Clients
	class       string
	size        uint64                    // addresses that can be given away
	kept        uint64                    // of these: not for strangers
	tally       tally                     // of these
	cursor      netip.Addr                // no address from here on was given by choose; zero: all were
	passed      *btree.BTreeG[netip.Addr] // before the cursor, and yet never used: offers that were not taken
	free        *btree.BTreeG[*binding]   // used before and free now, the one free for longest first
	resting     *btree.BTreeG[*binding]   // declined, the one whose rest ends next first
}

func newPool(n *network, p Pool) *pool {
	return &pool{
		network: n, first: p.First, last: p.Last, clients: p.Clients, class: p.Class, cursor: p.First,
		passed:  btree.NewBTreeGOptions(netip.Addr.Less, btree.Options{NoLocks: true}),
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
		return p.class == "" || slices.Contains(w.Classes, p.class) || w.stays() && !w.Relayed
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

// neverUsed returns the lowest address of a pool that has no binding, is on offer to nobody and is not withheld. Every
// address is passed once, so this costs nothing that grows with the pool. Caller holds mu.
func (m *Manager) neverUsed(w *asker, p *pool) (found netip.Addr, ok bool) {
	untouched := func(a netip.Addr) bool {
		return m.bindings[a] == nil && m.offers.of(a) == nil && !m.conf.withheld(a)
	}
	var gone []netip.Addr // come back when their offer ends or a reload frees them
	p.passed.Scan(func(a netip.Addr) bool {
		if !untouched(a) {
			gone = append(gone, a)
		} else if !w.meets(a) {
			found, ok = a, true
		}
		return !ok
	})
	for _, a := range gone {
		p.passed.Delete(a)
	}
	for !ok && p.cursor.IsValid() {
		a := p.cursor
		if untouched(a) {
			if !w.meets(a) {
				return a, true
			}
			p.passed.Set(a)
		}
		p.pass()
	}
	return found, ok
}

// pass moves the cursor on by one address.
func (p *pool) pass() {
	if p.cursor == p.last {
		p.cursor = netip.Addr{}
	} else {
		p.cursor = p.cursor.Next()
	}
}

// first returns the first binding of those in one of a pool's trees that the asker may have, or nil. Caller holds mu.
func (m *Manager) first(w *asker, tree *btree.BTreeG[*binding]) (found *binding) {
	var gone []*binding // come back when a reload frees them
	tree.Scan(func(b *binding) bool {
		switch {
		case m.conf.withheld(b.addr):
			gone = append(gone, b)
		case w.meets(b.addr) || b.state == Declined && w.sharesHardware(b.client):
		case b.state == Declined && m.declinedAt(b)+int64(leastRest) > w.t.el:
			return false // nor have those after it rested long enough
		default:
			found = b
		}
		return found == nil
	})
	for _, b := range gone {
		tree.Delete(b)
		b.listed = false
	}
	return found
}

// list puts an address that nobody holds, and that is on offer to nobody, where choose finds it. Caller holds mu.
func (m *Manager) list(a netip.Addr) {
	p := m.conf.poolOf(a)
	if p == nil || m.conf.withheld(a) || m.offers.of(a) != nil {
		return
	}
	switch b := m.bindings[a]; {
	case b == nil:
		if !p.cursor.IsValid() || a.Less(p.cursor) {
			p.passed.Set(a)
		}
	case b.idle() && !b.listed:
		p.tree(b).Set(b)
		b.listed = true
	}
}

// unlist takes a binding out of its pool's lists. Caller holds mu; b's record is as it was when listed.
func (m *Manager) unlist(b *binding) {
	if b.listed {
		m.conf.poolOf(b.addr).tree(b).Delete(b)
		b.listed = false
	}
}

// tree is where an idle binding is listed.
func (p *pool) tree(b *binding) *btree.BTreeG[*binding] {
	if b.state == Declined {
		return p.resting
	}
	return p.free
}
