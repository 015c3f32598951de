package lease

import (
	"context"
	"net/netip"
)

// End takes the address from the client that holds it, as RELEASE does: its name goes too. The client does not know, and
// goes on until its next renewal, which gives it the address again if nobody took it; end the lease of a machine that is
// gone. It returns when that is on stable storage, and says whether there was a lease to end.
func (m *Manager) End(ctx context.Context, a netip.Addr) (bool, error) {
	return m.alter(ctx, a, func(b *binding, t moment) bool {
		if b.state != Active {
			return false
		}
		m.finish(b, Released, t.el, t)
		return true
	})
}

// Unquarantine frees an address that was declined before its rest is over. It returns when that is on stable storage, and
// says whether the address rested.
func (m *Manager) Unquarantine(ctx context.Context, a netip.Addr) (bool, error) {
	return m.alter(ctx, a, func(b *binding, t moment) bool {
		if b.state != Declined {
			return false
		}
		m.finish(b, Expired, t.el, t)
		return true
	})
}

// alter does what an administrator says to a binding, and waits until that is on stable storage.
func (m *Manager) alter(ctx context.Context, a netip.Addr, f func(*binding, moment) bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	g, err := func() (*group, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.closed {
			return nil, ErrClosed
		}
		t := m.now()
		m.endOffers(t)
		b := m.bindings.at(a)
		if b == nil || !f(b, t) {
			return nil, nil
		}
		return m.submit(true), nil
	}()
	if err != nil || g == nil {
		return false, err
	}
	err = g.wait(ctx)
	return err == nil, err
}
