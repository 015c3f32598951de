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

// restateLook bounds how many bindings are looked at in one step for such whose times are to be written again.
const restateLook = 8 * expireAtOnce

// restate writes some of the times again that the wall clock was set away from, and returns the group that they are
// committed with, or nil if there are none among those that it looked at; more says that it is not through with all. Leases
// that do not end are left as they are. Caller holds mu.
func (m *Manager) restate(t moment) (g *group, more bool) {
	if base := t.at(0); base.Sub(m.base).Abs() > clockStep {
		m.log.Warn("the clock was set: writing the times of leases again", "by", base.Sub(m.base).Round(time.Second), "leases", len(m.ends.heap))
		m.base, m.restating = base, 1
	}
	if m.restating == 0 {
		return nil, false
	}
	n := 0
	for end := m.restating + restateLook; n < expireAtOnce && m.restating < end && m.restating <= m.bindings.made; m.restating++ {
		// One that is uncommitted may be ending again if the commit fails, and then so does ours.
		if b := m.bindings.get(m.restating); b.n != 0 && (b.ending() || m.dirty[b] != nil) {
			m.change(b, b.record, t)
			n++
		}
	}
	if more = m.restating <= m.bindings.made; !more && n == 0 {
		m.restating = 0
	}
	if n == 0 {
		return nil, more
	}
	return m.submit(true), more
}

// restateAll begins anew with what restate has begun, since some of it was not written.
func (m *Manager) restateAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.restating != 0 {
		m.restating = 1
	}
}
