package lease

import (
	"context"
	"net/netip"
)

// History returns who had an address, the newest first, at most limit events.
func (m *Manager) History(ctx context.Context, a netip.Addr, limit int) ([]Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, ok := m.Lease(a)
	if !ok || limit < 1 {
		return nil, nil
	}
	return []Event{{
		Address: a, Time: l.Start, State: l.State, Client: l.Client, Device: l.Device, Name: l.Name, Until: l.Expires,
	}}, nil
}
