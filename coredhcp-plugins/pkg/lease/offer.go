package lease

import (
	"container/list"
	"net/netip"
)

// offers are the addresses that clients were offered and have not asked for yet. They are in memory only: after a
// restart a client that asks for its offered address gets it if it is still free.
type offers struct {
	byClient  map[string]*offer
	byAddress map[netip.Addr]*offer
	order     *list.List // of *offer, the next to end first
}

type offer struct {
	addr   netip.Addr
	client packed
	port   uint64 // where it counts; 0: nowhere
	end    int64  // nanoseconds since Open
	place  *list.Element
}

func newOffers() offers {
	return offers{byClient: map[string]*offer{}, byAddress: map[netip.Addr]*offer{}, order: list.New()}
}

// of is the offer of an address, or nil.
func (o *offers) of(a netip.Addr) *offer { return o.byAddress[a] }

// offer keeps an address for a client for OfferTime; what the client was offered before, and whom the address was
// offered to, is forgotten. It returns false when too many addresses are on offer, which keeps no device of the site from
// an address. Caller holds mu.
func (m *Manager) offer(w *asker, n *network, a netip.Addr) bool {
	port := m.counts(w, n)
	if o := m.offers.byClient[string(w.key)]; o != nil {
		if o.addr == a && o.port == port {
			o.end = w.t.el + int64(OfferTime)
			m.offers.order.MoveToBack(o.place)
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
	o := &offer{addr: a, client: pack(w.Client), port: port, end: w.t.el + int64(OfferTime)}
	m.countPort(port, 0, 1)
	o.place = m.offers.order.PushBack(o)
	m.offers.byClient[o.client.key()] = o
	m.offers.byAddress[a] = o
	if b := m.bindings[a]; b != nil {
		m.unlist(b)
	}
	return true
}

// withdraw ends an offer; the address is free again unless it was given away. Caller holds mu.
func (m *Manager) withdraw(o *offer) {
	m.offers.order.Remove(o.place)
	delete(m.offers.byClient, o.client.key())
	delete(m.offers.byAddress, o.addr)
	m.countPort(o.port, 0, -1)
	m.list(o.addr)
}

// endOffers withdraws the offers whose time is over. Caller holds mu.
func (m *Manager) endOffers(t moment) {
	for e := m.offers.order.Front(); e != nil; e = m.offers.order.Front() {
		o := e.Value.(*offer)
		if o.end > t.el {
			return
		}
		m.withdraw(o)
	}
}
