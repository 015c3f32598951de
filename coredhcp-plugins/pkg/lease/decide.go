package lease

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// asker is the client of a query, and what is known of it.
type asker struct {
	Query
	key         []byte // in keyBuf
	keyBuf      [2 + maxIdentifier]byte
	reservation *Reservation // of its device, or nil
	t           moment
	ended       bool   // a lease was ended together with the Nak
	infinite    bool   // its lease does not end
	stays       bool   // it only goes on with its lease: RENEWING or REBINDING
	label       string // of its own name, "" if it has none (see Manager.name)
}

// ask begins a decision. There is one at a time, so there is one asker. Caller holds mu.
func (m *Manager) ask(q *Query) *asker {
	t := m.now()
	m.endOffers(t)
	w := &m.asker
	w.Query, w.t, w.ended, w.infinite, w.stays = *q, t, false, false, false
	w.key = w.Client.appendKey(w.keyBuf[:0])
	if m.bindings.first(w.key) == nil {
		m.asImported(w)
	}
	w.reservation = m.identify(w)
	return w
}

// owns says whether the binding is the asker's. Devices of the site are told apart also where they send one client
// identifier: that of a disk that was copied, or one that their vendor builds in.
func (m *Manager) owns(w *asker, b *binding) bool {
	if !b.known() || b.client.key() != string(w.key) {
		return false
	}
	c := b.client.client()
	return c == w.Client || m.deviceOf(b) == w.reservation
}

// same says whether the client that was offered an address is the asker.
func (m *Manager) same(w *asker, p packed) bool {
	c := p.client()
	return c == w.Client || p.key() == string(w.key) && m.conf.reservation(c) == w.reservation
}

// sharesHardware says whether a client sits on the asker's network interface, as firmware and operating system do.
func (w *asker) sharesHardware(p packed) bool {
	c := p.client()
	return c.HardwareAddr != "" && c.HardwareAddr == w.Client.HardwareAddr && c.HardwareType == w.Client.HardwareType
}

// selects says whether a REQUEST is of the state SELECTING, or of another server's client. Some clients name their server in
// RENEWING and REBINDING too, against table 5 of RFC 2131: such a one asks for no address and has one.
func (q *Query) selects() bool {
	return given(q.SelectedServer) && (q.SelectedServer != q.ServerID || given(q.Requested) || !given(q.ClientAddr))
}

// meets says whether the address is that of the server or of the asker's relay, which nobody else may have.
func (w *asker) meets(a netip.Addr) bool { return a == w.ServerID || slices.Contains(w.Links, a) }

// given says whether an address is there: zero and 0.0.0.0 stand for none.
func given(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

func silent(reason string) Answer { return Answer{Kind: Silent, Reason: reason} }
func nak(reason string) Answer    { return Answer{Kind: Nak, Reason: reason} }

// Discover answers a DHCPDISCOVER: Offer or Silent. The address is kept for the client for OfferTime; nothing is
// written. The order of choice is that of RFC 2131 section 4.3.1: the device's reserved address, the address that the
// client holds, is being offered or had last, the one that it asks for, and then the one unused longest.
func (m *Manager) Discover(ctx context.Context, q Query) (Answer, error) {
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return Answer{}, ErrClosed
	}
	if !q.Client.valid() {
		return silent("no usable hardware address or client identifier"), nil
	}
	w := m.ask(&q)
	nets := m.conf.linked(&q)
	if len(nets) == 0 {
		return silent("no network of ours on this link"), nil
	}
	a, ok := m.pick(w, nets)
	if !ok {
		return silent("no free address"), nil
	}
	n := m.conf.networkOf(a)
	if m.full(w, n, a) {
		return silent(reasonFull), nil
	}
	if !m.offer(w, n, a) {
		return silent("too many addresses on offer"), nil
	}
	if m.untried(w, n, a) {
		return m.try(w, n, a), nil
	}
	r := m.draw(w, n, a, m.bindings.at(a))
	m.foresee(n, &r)
	l := m.lease(a, &r, w.t)
	l.State = Offered
	return Answer{Kind: Offer, Lease: l, Duration: r.duration(), Label: w.label}, nil
}

// Request answers a DHCPREQUEST by what RFC 2131 section 4.3.2 says of the state that the client is in: SELECTING with a
// selected server, RENEWING or REBINDING with its address, INIT-REBOOT with a requested address alone. An Ack is
// returned when its lease is on stable storage, and so is a Nak that ends one; an error means that it is not, and that
// nothing must be answered.
func (m *Manager) Request(ctx context.Context, q Query) (Answer, error) {
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	ans, g, err := m.request(&q)
	if err == nil && g != nil {
		err = q.settle(ctx, g)
	}
	if err != nil {
		return Answer{}, err
	}
	return ans, nil
}

func (m *Manager) request(q *Query) (Answer, *group, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return Answer{}, nil, ErrClosed
	}
	if !q.Client.valid() {
		return silent("no usable hardware address or client identifier"), nil, nil
	}
	w := m.ask(q)
	var ans Answer
	switch {
	case q.selects():
		ans = m.selecting(w)
	case given(q.ClientAddr):
		w.stays = true
		ans = m.renewing(w)
	case given(q.Requested):
		ans = m.rebooting(w)
	default:
		ans = silent("neither a server, nor an address asked for, nor one held")
	}
	if ans.Kind != Ack && !w.ended {
		return ans, nil, nil
	}
	return ans, m.submit(true), nil
}

// selecting answers a client that chose one of the offers that it got.
func (m *Manager) selecting(w *asker) Answer {
	o := m.offers.byClient[string(w.key)]
	if w.SelectedServer != w.ServerID {
		if o != nil {
			m.withdraw(o)
		}
		return silent("another server was selected")
	}
	nets := m.conf.linked(&w.Query)
	if len(nets) == 0 {
		return silent("no network of ours on this link")
	}
	if !given(w.Requested) {
		return nak("no address asked for")
	}
	// An offer that is over, or that a restart forgot, is as good as long as the address is still there for the client.
	if !m.usable(w, w.Requested, nets) || (o == nil || o.addr != w.Requested) && !m.best(w, w.Requested, nets) {
		return m.refuse(w, w.Requested, "address is not available to this client")
	}
	return m.grantTried(w, w.Requested)
}

// rebooting answers a client that remembers an address: INIT-REBOOT.
func (m *Manager) rebooting(w *asker) Answer {
	nets := m.conf.linked(&w.Query)
	if len(nets) == 0 {
		return silent("no network of ours on this link")
	}
	n := m.conf.networkOf(w.Requested)
	if !contains(nets, n) {
		return nak("wrong network")
	}
	if !m.remembers(w, nets) {
		return unknown(n)
	}
	if !m.entitled(w, w.Requested) || !m.usable(w, w.Requested, nets) || !m.best(w, w.Requested, nets) {
		return m.refuse(w, w.Requested, "wrong address")
	}
	return m.grantTried(w, w.Requested)
}

// renewing answers a client that holds an address: RENEWING and REBINDING. They differ in whom the client asks, and so
// only in what Links tells: in RENEWING, by unicast, its address is trusted to tell the network.
func (m *Manager) renewing(w *asker) Answer {
	n := m.conf.networkOf(w.ClientAddr)
	nets := m.conf.linked(&w.Query)
	own := m.bindings.at(w.ClientAddr)
	if own != nil && !m.owns(w, own) {
		own = nil
	}
	if (w.Relayed || w.Broadcast) && !contains(nets, n) {
		switch {
		case len(nets) == 0:
			return silent("no network of ours on this link")
		case w.Relayed || own != nil:
			return nak("wrong network")
		}
		return unknown(nets[0]) // it may be another server's
	}
	if n == nil {
		switch {
		case own != nil:
			return nak("address is in no network any more")
		case len(nets) > 0:
			return unknown(nets[0])
		}
		return silent("no network of ours")
	}
	if !m.remembers(w, n.wire) {
		return unknown(n)
	}
	if !m.entitled(w, w.ClientAddr) || !m.usable(w, w.ClientAddr, n.wire) || !m.best(w, w.ClientAddr, n.wire) {
		return m.refuse(w, w.ClientAddr, "wrong address")
	}
	return m.grantUnlessFull(w, w.ClientAddr)
}

func (m *Manager) grantUnlessFull(w *asker, a netip.Addr) Answer {
	if m.full(w, m.conf.networkOf(a), a) {
		return nak(reasonFull)
	}
	return m.grant(w, a)
}

// refuse answers Nak. A client that holds the address, which is another device's by now, loses it with the Nak, so that the
// device need not wait for the end of the lease.
func (m *Manager) refuse(w *asker, a netip.Addr, reason string) Answer {
	if b := m.bindings.at(a); b != nil && b.state == Active && m.owns(w, b) && m.conf.reserved[a] != nil && m.conf.reserved[a] != w.reservation {
		m.finish(b, Released, w.t.el, w.t)
		w.ended = true
	}
	return nak(reason)
}

func contains(nets []*network, n *network) bool {
	return slices.Contains(nets, n)
}

// unknown answers a client of which there is no record: another server may know it (RFC 2131 section 4.3.2).
func unknown(n *network) Answer {
	if n.Authoritative {
		return nak("no record of this client")
	}
	return silent("no record of this client")
}

// remembers says whether there is a record of the client in these networks: a lease, also one that ended, or an address
// reserved for its device.
func (m *Manager) remembers(w *asker, nets []*network) bool {
	for b := m.bindings.first(w.key); b != nil; b = m.bindings.next(b) {
		if m.owns(w, b) && contains(nets, m.conf.networkOf(b.addr)) {
			return true
		}
	}
	if w.reservation != nil {
		for _, a := range w.reservation.Addresses {
			if contains(nets, m.conf.networkOf(a)) {
				return true
			}
		}
	}
	return false
}

// entitled says whether the address is, or was last, the client's own, or is reserved for its device.
func (m *Manager) entitled(w *asker, a netip.Addr) bool {
	if b := m.bindings.at(a); b != nil && m.owns(w, b) {
		return true
	}
	return w.reservation != nil && m.conf.reserved[a] == w.reservation
}

// usable says whether the address may be given to the client: it is in one of the networks, the configuration lets the
// client have it, it is neither the server's nor the relay's, and nobody else holds it or was offered it. Of one device's
// clients those of one network interface give way to each other; another interface is another machine to ARP, and waits.
func (m *Manager) usable(w *asker, a netip.Addr, nets []*network) bool {
	if !contains(nets, m.conf.networkOf(a)) || !m.conf.permitted(a, w) || w.meets(a) {
		return false
	}
	reserved := m.conf.reserved[a] != nil // then for this client: it is permitted
	if b := m.bindings.at(a); b != nil {
		if o := m.offers.of(a); b.resting(w.t.el) && (o == nil || !m.same(w, o.client)) {
			return false // unless choose offered it
		}
		if b.held(w.t.el) && !m.owns(w, b) && (!reserved || !w.sharesHardware(b.client)) {
			return false
		}
	}
	if b := m.bindings.at(a); !reserved && (b == nil || !b.held(w.t.el)) && m.crowded(w, m.conf.poolOf(a)) {
		return false
	}
	if o := m.offers.of(a); o != nil && !m.same(w, o.client) {
		return reserved && w.sharesHardware(o.client)
	}
	return true
}

// fixed is the address reserved for the client's device that it should have in these networks: one that it holds, else
// one that a client of the same network interface holds, else any. It is false if the device has none there, or if
// somebody else keeps it from it.
func (m *Manager) fixed(w *asker, nets []*network) (best netip.Addr, ok bool) {
	if w.reservation == nil {
		return netip.Addr{}, false
	}
	held := false
	for _, a := range w.reservation.Addresses {
		if !m.usable(w, a, nets) {
			continue
		}
		b := m.bindings.at(a)
		holds := b != nil && b.held(w.t.el)
		if holds && m.owns(w, b) {
			return a, true
		}
		if !ok || holds && !held {
			best, ok, held = a, true, holds
		}
	}
	return best, ok
}

// best says whether there is no reserved address that the client should rather have.
func (m *Manager) best(w *asker, a netip.Addr, nets []*network) bool {
	if w.reservation != nil && m.conf.reserved[a] == w.reservation {
		return true
	}
	_, ok := m.fixed(w, nets)
	return !ok
}

// pick chooses the address for a client that has to have one.
func (m *Manager) pick(w *asker, nets []*network) (netip.Addr, bool) {
	if a, ok := m.fixed(w, nets); ok {
		return a, true
	}
	var held, had *binding
	for b := m.bindings.first(w.key); b != nil; b = m.bindings.next(b) {
		if !m.owns(w, b) || !m.usable(w, b.addr, nets) {
			continue
		}
		switch {
		case b.held(w.t.el) && (held == nil || b.start > held.start):
			held = b
		case !b.held(w.t.el) && (had == nil || b.end > had.end):
			had = b
		}
	}
	if held != nil {
		return held.addr, true
	}
	if o := m.offers.byClient[string(w.key)]; o != nil && m.usable(w, o.addr, nets) {
		return o.addr, true
	}
	if had != nil {
		return had.addr, true
	}
	if given(w.Requested) && m.usable(w, w.Requested, nets) {
		return w.Requested, true
	}
	return m.choose(w, nets)
}

// draw is the record of the lease that the client gets of the address with binding b, nil if it was never used.
func (m *Manager) draw(w *asker, n *network, a netip.Addr, b *binding) record {
	d := n.leaseTime(w.LeaseTime)
	if w.infinite {
		d = Infinite
	}
	r := record{start: w.t.el, end: never, seconds: uint32(min(d, Infinite) / time.Second), state: Active}
	if d < Infinite {
		r.end = w.t.el + int64(d)
	}
	var old record
	if b != nil {
		old = b.record
	}
	same := b != nil && m.owns(w, b)
	switch o := m.offers.byClient[string(w.key)]; {
	case same && b.client.client() == w.Client:
		r.client = b.client
	case o != nil && o.client.client() == w.Client:
		r.client = o.client
	default:
		r.client = pack(w.Client)
	}
	if same && old.state == Active {
		r.start = old.start
	}
	if w.reservation != nil {
		r.device = &w.reservation.Device
	}
	r.events = old.events
	r.port = w.port(b, same)
	r.name, r.owned = m.name(w, n, a, same, &old)
	r.version = old.version
	if same && old.state == Active && r.name == old.name {
		r.name = old.name // one string, not two
		r.published, r.shows, r.unsent = old.published, old.shows, old.unsent
	}
	return r
}

// grant gives the address to the client and ends what else it holds on the same wire. It does not fail; it is undone if
// it cannot be committed. Caller holds mu and submits.
func (m *Manager) grant(w *asker, a netip.Addr) Answer {
	n := m.conf.networkOf(a)
	r := m.draw(w, n, a, m.bindings.at(a))
	b := m.bindingOf(a)
	same := m.owns(w, b)
	switch {
	case b.name != "" && (!same || b.name != r.name):
		m.dropName(b, w.t)
		r.version = m.version
	case b.owned != r.owned:
		m.giveWay(b, w.t)
	}
	tell := r.name != "" && (!same || b.state != Active || b.name != r.name || b.owned != r.owned || m.takesBack(w, b) || r.published && b.stale(w.t.el))
	if tell {
		m.version++
		r.published, r.version = false, m.version
		r.unsent = r.unsent || r.shows == 0
		r.shows |= n.directions(r.owned)
	}
	switch {
	case b.state != 0 && (!same || b.state != Active):
		if m.tellPast(b, w.t) {
			r.events++
		}
	case b.name != "" && b.name != r.name:
		m.tellEnd(b, Renamed, w.t.el, w.t)
		r.events++
	}
	if r.name != "" && !r.published {
		back := m.takeBack(r.name, b, r.client)
		r.shows |= back
		r.unsent = r.unsent && back == 0
	}
	m.change(b, r, w.t)
	if tell {
		m.supersede(b, w.t)
	}
	for o := m.bindings.first(w.key); o != nil; {
		sibling := m.bindings.next(o)
		if o != b && o.held(w.t.el) && m.owns(w, o) && contains(n.wire, m.conf.networkOf(o.addr)) {
			m.finish(o, Released, w.t.el, w.t)
		}
		o = sibling
	}
	if o := m.offers.byClient[string(w.key)]; o != nil {
		m.withdraw(o)
	}
	if o := m.offers.of(a); o != nil {
		m.withdraw(o)
	}
	return Answer{Kind: Ack, Lease: m.lease(a, &r, w.t), Duration: r.duration(), Label: w.label}
}

// finish takes a binding from its client: with it goes its name. Caller holds mu and submits.
func (m *Manager) finish(b *binding, s State, end int64, t moment) {
	r := b.record
	if b.state == Active && s == Released && b.end <= t.el {
		s, end = Expired, b.end // before it was given back
	}
	if b.state == Active {
		m.tellEnd(b, s, min(end, t.el), t)
		r.events++
	}
	r.state, r.end, r.conflict = s, end, false
	if r.name != "" {
		m.dropName(b, t)
		r.name, r.published, r.owned, r.shows, r.unsent = "", false, false, 0, false
		r.version = m.version
	}
	m.change(b, r, t)
}
