package lease

import "net/netip"

// Stats counts what is decided, also if it is not yet on stable storage.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Stats{Bindings: len(m.bindings), Offers: len(m.offers.byAddress), Removals: len(m.removals), Refused: m.refused}
	of := map[*network]*NetworkStats{}
	s.Networks = make([]NetworkStats, len(m.conf.networks))
	for i, n := range m.conf.networks {
		s.Networks[i].Network = n.Name
		of[n] = &s.Networks[i]
		for _, p := range n.pools {
			s.Networks[i].Size += distance(p.first, p.last) + 1
		}
	}
	for a := range m.conf.reserved {
		if p := m.conf.poolOf(a); p != nil {
			of[p.network].Size--
		}
	}
	for a := range m.conf.excluded {
		if p := m.conf.poolOf(a); p != nil && m.conf.reserved[a] == nil {
			of[p.network].Size--
		}
	}
	for a, b := range m.bindings {
		n := m.conf.networkOf(a)
		if n == nil {
			continue
		}
		switch pooled := m.conf.poolOf(a) != nil && !m.conf.withheld(a); {
		case m.conf.reserved[a] != nil && b.state == Active:
			of[n].Fixed++
		case pooled && b.state == Active:
			of[n].Active++
		case pooled && b.state == Declined:
			of[n].Declined++
		}
	}
	for a := range m.offers.byAddress {
		p, b := m.conf.poolOf(a), m.bindings[a]
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
