package lease

import "context"

// BOOTP answers a BOOTREQUEST without DHCP message type: Ack with an Infinite lease of the address reserved for the
// client's device, on stable storage when it returns, else Silent (RFC 951, RFC 1534 section 2). Pools are for clients that can give
// an address back. A client of the same network interface that holds the address by DHCP stays who holds it: the lease
// becomes infinite, and finite again when that client next asks, so firmware and operating system do not take the
// address and its name from each other.
func (m *Manager) BOOTP(ctx context.Context, q Query) (Answer, error) {
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	ans, g, err := m.bootp(&q)
	if err == nil && g != nil {
		err = q.settle(ctx, g)
	}
	if err != nil {
		return Answer{}, err
	}
	return ans, nil
}

func (m *Manager) bootp(q *Query) (Answer, *group, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return Answer{}, nil, ErrClosed
	}
	if !q.Client.valid() {
		return silent("no usable hardware address"), nil, nil
	}
	w := m.ask(q)
	if w.reservation == nil {
		return silent("BOOTP client without a reservation"), nil, nil
	}
	nets := m.conf.linked(q)
	if len(nets) == 0 {
		return silent("no network of ours on this link"), nil, nil
	}
	a, ok := m.fixed(w, nets)
	if given(q.ClientAddr) { // it has an address, and asks for the rest
		a, ok = q.ClientAddr, m.conf.reserved[q.ClientAddr] == w.reservation && m.usable(w, q.ClientAddr, nets)
	}
	if !ok {
		return silent("no free address is reserved for this BOOTP client"), nil, nil
	}
	w.infinite, w.stays = true, given(q.ClientAddr)
	b := m.bindings.at(a)
	if b != nil && b.held(w.t.el) && !m.owns(w, b) { // by DHCP
		w.Client = b.client.client()
		w.key = w.Client.appendKey(w.keyBuf[:0])
	}
	if b != nil && b.held(w.t.el) && b.end == never && m.dirty[b] == nil && m.keeps(w, b) {
		return Answer{Kind: Ack, Lease: m.lease(a, &b.record, w.t), Duration: Infinite}, nil, nil
	}
	return m.grant(w, a), m.submit(true), nil
}

// keeps says whether granting the asker's lease again would change nothing.
func (m *Manager) keeps(w *asker, b *binding) bool {
	r := m.draw(w, m.conf.networkOf(b.addr), b.addr, b)
	return r == b.record && (r.name == "" || !m.takesBack(w, b) && (!r.published || !b.stale(w.t.el)))
}
