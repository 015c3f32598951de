package lease

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// Note records that somebody else gave the address to the client of the query for a time, Infinite if for ever: for names,
// where another allocator decides on addresses. The network of the address says how long it can be at the most and at the
// least. It returns when that is on stable storage, or before that with Query.Ahead.
func (m *Manager) Note(ctx context.Context, q Query, a netip.Addr, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g, err := m.note(&q, a, d)
	if err == nil && g != nil {
		err = q.settle(ctx, g)
	}
	return err
}

func (m *Manager) note(q *Query, a netip.Addr, d time.Duration) (*group, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, ErrClosed
	case !q.Client.valid():
		return nil, fmt.Errorf("%v: no usable hardware address or client identifier", a)
	case m.conf.networkOf(a) == nil:
		return nil, fmt.Errorf("%v: expected an address in a network of the site", a)
	}
	q.LeaseTime = d
	w := m.ask(q)
	w.infinite, w.stays = d >= Infinite, !q.selects() && given(q.ClientAddr)
	m.grant(w, a)
	return m.submit(true), nil
}
