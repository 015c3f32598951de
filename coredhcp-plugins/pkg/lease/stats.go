package lease

import (
	"maps"
	"net/netip"
)

// tally counts addresses in one state: those of a pool, or the reserved ones of a network.
type tally struct {
	active, declined uint64
	strangers        uint64 // of both: of clients without a reservation
}

// count adds a binding in its state to what is counted by the configuration, or takes it away. Caller holds mu.
func (m *Manager) count(b *binding, add uint64) {
	m.conf.count(b, add)
	if m.coming != nil && b.side == m.side {
		m.coming.count(b, add)
	}
}

// count adds a binding in its state to what Stats tells, or takes it away. Caller holds mu.
func (x *index) count(b *binding, add uint64) {
	if b.state != Active && b.state != Declined {
		return
	}
	var t *tally
	if x.reserved[b.addr] != nil {
		if n := x.networkOf(b.addr); n != nil {
			t = &n.fixed
		}
	} else if p := x.poolOf(b.addr); p != nil && !x.withheld(b.addr) {
		t = &p.tally
	}
	switch {
	case t == nil:
	case b.state == Active:
		t.active += add
	default:
		t.declined += add
	}
	if t != nil && b.port != 0 {
		t.strangers += add
	}
}

// takeAway is what count adds to take away.
const takeAway = ^uint64(0)

// measure counts the addresses of the pools that can be given away, takes the others out, and counts those that are kept for
// devices.
func (x *index) measure() {
	for _, p := range x.pools {
		p.size = distance(p.first, p.last) + 1
	}
	withheld := maps.Clone(x.excluded)
	for a := range x.reserved {
		withheld[a] = struct{}{}
	}
	for a := range withheld {
		if p := x.poolOf(a); p != nil {
			p.size--
			p.fresh.remove(a)
		}
	}
	for _, p := range x.pools {
		if p.clients == AnyClient && p.class == "" {
			p.kept = min(x.homeless, p.size/4)
		}
	}
}

// Stats counts what is decided, also if it is not yet on stable storage. It costs what is on offer, at most MaxOffers, and
// nothing for each lease.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Stats{Bindings: m.bindings.len(), Offers: len(m.offers.byAddress), Removals: len(m.removals), Refused: m.refused}
	s.Networks = make([]NetworkStats, len(m.conf.networks))
	of := map[*network]*NetworkStats{}
	for i, n := range m.conf.networks {
		w := &s.Networks[i]
		of[n] = w
		w.Network, w.Fixed = n.Name, n.fixed.active
		for _, p := range n.pools {
			w.Size += p.size
			w.Active += p.tally.active
			w.Declined += p.tally.declined
		}
	}
	for a := range m.offers.byAddress {
		p, b := m.conf.poolOf(a), m.bindings.at(a)
		if p != nil && !m.conf.withheld(a) && (b == nil || b.state != Active && b.state != Declined) {
			of[p.network].Offered++
		}
	}
	for i := range s.Networks {
		n := &s.Networks[i]
		n.Free = n.Size - n.Active - n.Offered - n.Declined
	}
	return s
}

// distance is how far b is behind a, of the same family; the most that fits where it is more.
func distance(a, b netip.Addr) uint64 {
	x, y := a.As16(), b.As16()
	var d uint64
	for i := range x {
		if d>>56 != 0 {
			return 1<<64 - 2
		}
		d = d<<8 + uint64(y[i]) - uint64(x[i])
	}
	return d
}
