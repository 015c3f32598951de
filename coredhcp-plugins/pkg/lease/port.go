package lease

import "net/netip"

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

// countsAt is the port where a record counts; 0 if it counts nowhere.
func (r *record) countsAt() uint64 {
	if r.state == Active || r.state == Declined {
		return r.port
	}
	return 0
}

// port is where the asker's lease of the address with binding b counts, which is its own if same is set. What goes on with
// a lease goes on where that was: a renewal by unicast does not tell, and who could come to another port by it could
// gather there what it had at this one before.
func (w *asker) port(b *binding, same bool) uint64 {
	switch {
	case w.reservation != nil:
		return 0
	case same && b.port != 0 && w.stays:
		return b.port
	}
	return hashPort(w.Port)
}

// counts is the port at which an address counts that the asker is about to be offered or given; 0 if it counts nowhere:
// its device has a reservation, or it holds that address, or one that it gives up with it. Caller holds mu.
func (m *Manager) counts(w *asker, n *network, a netip.Addr) uint64 {
	if w.reservation != nil {
		return 0
	}
	for b := m.bindings.first(w.key); b != nil; b = m.bindings.next(b) {
		if b.held(w.t.el) && m.owns(w, b) && contains(n.wire, m.conf.networkOf(b.addr)) {
			return 0
		}
	}
	own := m.bindings.at(a)
	return w.port(own, own != nil && m.owns(w, own))
}

// full says whether clients that nobody knows took as much at the asker's port as they may, so that it can have no address
// the address. Caller holds mu.
func (m *Manager) full(w *asker, n *network, a netip.Addr) bool {
	most := m.conf.maxAt(&w.Query)
	if most == 0 {
		return false
	}
	port := m.counts(w, n, a)
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

// crowded says whether clients that nobody knows took as much of the pool, or of its network, as they may, so that the
// asker cannot have another address of it. What is on offer does not count, for a device of the site takes that. Unlike a
// port, which a packet can invent, the network of an address is what it is. Caller holds mu.
func (m *Manager) crowded(w *asker, p *pool) bool {
	if w.reservation != nil {
		return false
	}
	if p.kept > 0 && p.tally.strangers+p.kept >= p.size {
		return true
	}
	if m.conf.maxPerNet == 0 {
		return false
	}
	var all uint64
	for _, o := range p.network.pools {
		all += o.tally.strangers
	}
	return all >= m.conf.maxPerNet
}

// maxLook bounds the offers that are looked at for one that a device can take.
const maxLook = 4096

// offeredToStranger is an address of these networks' pools that the asker, a device of the site, may take although it is on
// offer to a client that nobody knows: an offer is no promise (RFC 2131 section 3.1). Caller holds mu.
func (m *Manager) offeredToStranger(w *asker, nets []*network) (netip.Addr, bool) {
	o := m.offers.first
	for range maxLook {
		if o == nil {
			break
		}
		if b := m.bindings.at(o.addr); o.port != 0 && contains(nets, m.conf.networkOf(o.addr)) && m.conf.permitted(o.addr, w) && !w.meets(o.addr) &&
			(b == nil || !b.held(w.t.el) && b.state != Declined) {
			return o.addr, true
		}
		o = o.next
	}
	return netip.Addr{}, false
}

const reasonFull = "clients without a reservation have as many addresses at this port as they may"
