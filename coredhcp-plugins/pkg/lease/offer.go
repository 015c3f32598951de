package lease

import "net/netip"

// offers are the addresses that clients were offered and have not asked for yet. They are in memory only: after a
// restart a client that asks for its offered address gets it if it is still free.
type offers struct {
	byClient    map[string]*offer
	byAddress   map[netip.Addr]*offer
	first, last *offer // the next to end first
	spare       *offer // one that is over, to be used again; chained by next
}

type offer struct {
	addr       netip.Addr
	client     packed
	port       uint64 // where it counts; 0: nowhere
	end        int64  // nanoseconds since Open
	trying     int64  // until when it is found out whether somebody uses the address, nanoseconds since Open
	tried      bool   // nobody does
	prev, next *offer
}

func newOffers() offers {
	return offers{byClient: map[string]*offer{}, byAddress: map[netip.Addr]*offer{}}
}

// of is the offer of an address, or nil.
func (o *offers) of(a netip.Addr) *offer { return o.byAddress[a] }

// append puts an offer at the end of the order.
func (o *offers) append(e *offer) {
	e.prev, e.next = o.last, nil
	if o.last == nil {
		o.first = e
	} else {
		o.last.next = e
	}
	o.last = e
}

// cut takes an offer out of the order.
func (o *offers) cut(e *offer) {
	if e.prev == nil {
		o.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		o.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next = nil, nil
}

// offer keeps an address for a client for OfferTime; what the client was offered before, and whom the address was
// offered to, is forgotten. It returns false when too many addresses are on offer, which keeps no device of the site from
// an address. Caller holds mu.
func (m *Manager) offer(w *asker, n *network, a netip.Addr) bool {
	port := m.counts(w, n, a)
	if o := m.offers.byClient[string(w.key)]; o != nil {
		if o.addr == a && o.port == port {
			o.end = w.t.el + int64(OfferTime)
			m.offers.cut(o)
			m.offers.append(o)
			return true
		}
		m.withdraw(o)
	}
	if o := m.offers.of(a); o != nil {
		m.withdraw(o)
	}
	if len(m.offers.byAddress) >= m.maxOffers && w.reservation == nil {
		return false
	}
	o := m.offers.spare
	if o == nil {
		o = new(offer)
	}
	m.offers.spare = o.next
	*o = offer{addr: a, client: pack(w.Client), port: port, end: w.t.el + int64(OfferTime)}
	m.offers.append(o)
	m.countPort(port, 0, 1)
	m.offers.byClient[o.client.key()] = o
	m.offers.byAddress[a] = o
	m.unlist(a)
	return true
}

// withdraw ends an offer, which must not be used any more; the address is free again unless it was given away. Caller
// holds mu.
func (m *Manager) withdraw(o *offer) {
	m.offers.cut(o)
	delete(m.offers.byClient, o.client.key())
	delete(m.offers.byAddress, o.addr)
	m.countPort(o.port, 0, -1)
	m.list(o.addr)
	*o = offer{next: m.offers.spare}
	m.offers.spare = o
}

// endOffers withdraws the offers whose time is over. Caller holds mu.
func (m *Manager) endOffers(t moment) {
	for m.offers.first != nil && m.offers.first.end <= t.el {
		m.withdraw(m.offers.first)
	}
}

// NamesAhead are the names of leases that are offered, and that DNS does not show yet: what is to be known of a name need not
// be waited for when its lease is given. Those that nobody receives soon are left out.
func (m *Manager) NamesAhead() <-chan string { return m.names.ahead }

// foresee tells of the name of a lease that is offered, if DNS is to show it in both directions. Caller holds mu.
func (m *Manager) foresee(n *network, r *record) {
	if !m.Publishes() || r.name == "" || r.published || n.directions(r.owned) != both {
		return
	}
	select {
	case m.names.ahead <- r.name:
	default:
	}
}
