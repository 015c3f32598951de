package lease

import (
	"net/netip"

	"github.com/tidwall/btree"
)

// pool is a range of addresses and those of it that nobody holds. Addresses that were never used are not listed: they
// are all that the cursor has not passed, and the few it passed in vain.
type pool struct {
	network     *network
	first, last netip.Addr
	cursor      netip.Addr                // no address from here on was given by choose; zero: all were
	passed      *btree.BTreeG[netip.Addr] // before the cursor, and yet never used: offers that were not taken
	free        *btree.BTreeG[*binding]   // used before and free now, the one free for longest first
}

func newPool(n *network, p Pool) *pool {
	return &pool{
		network: n, first: p.First, last: p.Last, cursor: p.First,
		passed: btree.NewBTreeGOptions(netip.Addr.Less, btree.Options{NoLocks: true}),
		free:   btree.NewBTreeGOptions(freedBefore, btree.Options{NoLocks: true}),
	}
}

func freedBefore(a, b *binding) bool {
	if a.end != b.end {
		return a.end < b.end
	}
	return a.addr.Less(b.addr)
}

// choose returns the address of these networks' pools that was unused longest, and false if there is none free.
// Caller holds mu.
func (m *Manager) choose(w *asker, nets []*network) (netip.Addr, bool) {
	for _, n := range nets {
		for _, p := range n.pools {
			if a, ok := m.neverUsed(w, p); ok {
				return a, true
			}
		}
	}
	var oldest *binding
	for _, n := range nets {
		for _, p := range n.pools {
			if b := m.longestFree(w, p); b != nil && (oldest == nil || freedBefore(b, oldest)) {
				oldest = b
			}
		}
	}
	if oldest == nil {
		return netip.Addr{}, false
	}
	return oldest.addr, true
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

// longestFree returns the binding of a pool that is free for longest, or nil. Caller holds mu.
func (m *Manager) longestFree(w *asker, p *pool) (found *binding) {
	var gone []*binding // come back when a reload frees them
	p.free.Scan(func(b *binding) bool {
		if m.conf.withheld(b.addr) {
			gone = append(gone, b)
		} else if !w.meets(b.addr) {
			found = b
		}
		return found == nil
	})
	for _, b := range gone {
		p.free.Delete(b)
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
	case b.free() && !b.listed:
		p.free.Set(b)
		b.listed = true
	}
}

// unlist takes a binding out of its pool's free addresses. Caller holds mu; b's end is as it was when listed.
func (m *Manager) unlist(b *binding) {
	if b.listed {
		m.conf.poolOf(b.addr).free.Delete(b)
		b.listed = false
	}
}
