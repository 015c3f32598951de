package lease

// Whoever invents hardware addresses could take every address of a pool. So what clients without a reservation take at one
// Query.Port is counted and bounded: addresses that they hold, that they declined and that rest, and that are on offer to
// them. A binding carries the hash of its port, on disk too, so that the counts are right after a restart; a collision
// only makes two ports share a bound.

// portUse is what clients that nobody knows took at one port.
type portUse struct{ bindings, offers int }

// hashPort is a port as a binding carries it: FNV-1a of 64 bits, and not 0. It is part of the format on disk.
func hashPort(port string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(port) {
		h = (h ^ uint64(port[i])) * 1099511628211
	}
	return max(h, 1)
}

// countPort adds to what is counted at a port; 0 is none. Caller holds mu.
func (m *Manager) countPort(port uint64, bindings, offers int) {
	if port == 0 {
		return
	}
	u := m.ports[port]
	u.bindings += bindings
	u.offers += offers
	if u == (portUse{}) {
		delete(m.ports, port)
	} else {
		m.ports[port] = u
	}
}

// maxAt is how much clients that nobody knows may take at the port of a query; 0: any number.
func (x *index) maxAt(q *Query) int {
	if x.maxPerPort == 0 && q.CircuitID != "" {
		return DefaultMaxPerPort
	}
	return x.maxPerPort
}

// counts is the port at which an address counts that the asker is about to be offered or given; 0 if it counts nowhere:
// its device has a reservation, or it holds that address, or one that it gives up with it. Caller holds mu.
func (m *Manager) counts(w *asker, n *network) uint64 {
	if w.reservation != nil {
		return 0
	}
	for b := m.clients[string(w.key)]; b != nil; b = b.sibling {
		if b.held(w.t.el) && m.owns(w, b) && contains(n.wire, m.conf.networkOf(b.addr)) {
			return 0
		}
	}
	return hashPort(w.Port)
}

// full says whether clients that nobody knows took as much at the asker's port as they may, so that it can have no address
// of the network. Caller holds mu.
func (m *Manager) full(w *asker, n *network) bool {
	most := m.conf.maxAt(&w.Query)
	if most == 0 {
		return false
	}
	port := m.counts(w, n)
	if port == 0 {
		return false
	}
	u := m.ports[port]
	taken := u.bindings + u.offers
	if o := m.offers.byClient[string(w.key)]; o != nil && o.port == port {
		taken-- // this offer is what becomes the lease
	}
	if taken < most {
		return false
	}
	m.refused++
	return true
}

const reasonFull = "clients without a reservation have as many addresses at this port as they may"
