package lease

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"
)

// Release ends the lease of a client that gives its address (ClientAddr) back. A client that does not hold it is ignored.
// The binding stays, so the client gets the same address again if nobody needed it. It returns when that is on stable
// storage, and says whether there was a lease to end.
func (m *Manager) Release(ctx context.Context, q Query) (ended bool, err error) {
	return m.giveUp(ctx, &q, q.ClientAddr, func(b *binding, t moment) { m.finish(b, Released, t.el, t) })
}

// Decline takes an address (Requested) that its client found in use out of service for the network's DeclineTime, one
// that is reserved for at most reservedRest. A client that does not hold it is ignored. Nobody can empty a pool by
// declining what it gets: of more than maxDeclined addresses that rest for one hardware address the first ends its rest,
// and where nothing else is left, others get what rested for leastRest. It returns when that is on stable storage, and says
// whether there was a lease to end.
func (m *Manager) Decline(ctx context.Context, q Query) (ended bool, err error) {
	return m.giveUp(ctx, &q, q.Requested, func(b *binding, t moment) {
		end := int64(never)
		if rest := m.rest(b.addr); rest < Infinite {
			end = t.el + int64(rest)
		}
		m.finish(b, Declined, end, t)
		if o := m.offers.of(b.addr); o != nil { // or its client could choose it
			m.withdraw(o)
		}
		if list := m.declined[b.client.hardware()]; len(list) > maxDeclined {
			first := slices.MinFunc(list, func(a, b *binding) int { return cmp.Compare(m.declinedAt(a), m.declinedAt(b)) })
			m.finish(first, Expired, t.el, t)
		}
	})
}

// rest is how long an address rests that was declined.
func (m *Manager) rest(a netip.Addr) time.Duration {
	rest := DefaultDeclineTime
	if n := m.conf.networkOf(a); n != nil {
		rest = n.DeclineTime
	}
	if m.conf.reserved[a] != nil {
		rest = min(rest, reservedRest)
	}
	return rest
}

// declinedAt is when a resting address was declined, or later if it rests for ever.
func (m *Manager) declinedAt(b *binding) int64 { return b.end - int64(m.rest(b.addr)) }

// giveUp ends the lease of the address as f does, if the client holds it and means this server.
func (m *Manager) giveUp(ctx context.Context, q *Query, a netip.Addr, f func(*binding, moment)) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	g, err := func() (*group, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.closed {
			return nil, ErrClosed
		}
		if !q.Client.valid() || given(q.SelectedServer) && q.SelectedServer != q.ServerID {
			return nil, nil
		}
		w := m.ask(q)
		b := m.bindings.at(a)
		if b == nil || b.state != Active || !m.owns(w, b) {
			return nil, nil
		}
		f(b, w.t)
		return m.submit(true), nil
	}()
	if err != nil || g == nil {
		return false, err
	}
	err = q.settle(ctx, g)
	return err == nil, err
}
