package lease

import "time"

// Leases run on elapsed time, and on disk they end at a time of the wall clock. When that is set while the server runs, as
// that of a machine whose battery is dead is when it first hears of the time, what is on disk is of another clock: after a
// restart leases that clients hold would have ended years ago. So their times are then written again.

const (
	// clockStep is how far the wall clock must have gone its own way. Less shortens or lengthens a lease by as much, if the
	// server is then restarted.
	clockStep = time.Minute
	// clockCheck is how often that is looked at.
	clockCheck = time.Minute
)

// restate writes some of the times again that the wall clock was set away from, and returns the group that they are
// committed with, or nil if there are none. Leases that do not end are left as they are. Caller holds mu.
func (m *Manager) restate(t moment) *group {
	if base := t.at(0); base.Sub(m.base).Abs() > clockStep {
		m.log.Warn("the clock was set: writing the times of leases again", "by", base.Sub(m.base).Round(time.Second), "leases", len(m.ends))
		m.base, m.moved = base, make([]*binding, len(m.ends))
		for i := range m.ends {
			m.moved[i] = m.ends[i].b
		}
	}
	n := 0
	for ; n < expireAtOnce && len(m.moved) > 0; m.moved = m.moved[1:] {
		if b := m.moved[0]; b.ending() {
			m.change(b, b.record, t)
			n++
		}
	}
	if n == 0 {
		m.moved = nil
		return nil
	}
	return m.submit(true)
}

// restateAll begins anew with what restate has begun, since some of it was not written.
func (m *Manager) restateAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moved != nil {
		m.base = time.Time{}
	}
}
