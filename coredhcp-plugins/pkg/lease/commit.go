package lease

import (
	"context"
	"net/netip"
	"time"
)

// group is the transactions that are committed together: everything that was decided while the group before it was
// being synced. Manager.mu guards it until the committer takes it; err is written before done is closed.
type group struct {
	steps  []step
	writes batch
	sync   bool // false: only confirmations, which may be lost
	count  int  // transactions
	done   chan struct{}
	err    error
	after  after
}

// unused is memory of groups that are over, for those to come.
type unused struct {
	steps   []step
	writes  batch
	pending []*pending
}

// maxUnused bounds what is kept of one group, in changes.
const maxUnused = 4096

// step is one change in memory and how to take it back.
type step struct {
	b             *binding // nil if it is a change of a removal
	before, after record   // before in state 0: there was no binding

	key     string   // of the removal
	removal *removal // before; nil: there was none
}

// pending is what must be known of a binding whose last changes are not committed yet.
type pending struct {
	changes   int
	committed record // in state 0: there is no binding
}

// newGroup begins a group. Caller holds mu.
func (m *Manager) newGroup() *group {
	g := &group{done: make(chan struct{}), steps: m.used.steps, writes: m.used.writes}
	m.used.steps, m.used.writes = nil, batch{}
	return g
}

// reuse keeps the memory of a group that is over. Caller holds mu.
func (m *Manager) reuse(g *group) {
	if cap(g.steps) <= maxUnused {
		clear(g.steps)
		m.used.steps = g.steps[:0]
		m.used.writes = batch{g.writes.data[:0], g.writes.changes[:0]}
	}
	g.steps, g.writes = nil, batch{}
}

// change replaces a binding's record, as part of the transactions that are committed next. Caller holds mu.
func (m *Manager) change(b *binding, r record, t moment) {
	p := m.dirty[b]
	if p == nil {
		if n := len(m.used.pending); n > 0 {
			p, m.used.pending = m.used.pending[n-1], m.used.pending[:n-1]
		} else {
			p = new(pending)
		}
		p.committed = b.record
		m.dirty[b] = p
	}
	p.changes++
	m.next.steps = append(m.next.steps, step{b: b, before: b.record, after: r})
	m.set(b, r)
	m.next.writes.set(
		func(buf []byte) []byte { return appendBindingKey(buf, b.addr) },
		func(buf []byte) []byte { return m.encode(buf, &r, t) })
}

// bindingOf returns the binding of an address; it makes one, in state 0, if there is none. Caller holds mu.
func (m *Manager) bindingOf(a netip.Addr) *binding {
	b := m.bindings.at(a)
	if b == nil {
		m.unlist(a)
		b = m.newBinding(a)
		m.bindings.enter(b)
	}
	return b
}

// newBinding makes a binding in state 0, which is not found yet. Caller holds mu.
func (m *Manager) newBinding(a netip.Addr) *binding {
	b := m.bindings.add(a)
	b.side = m.side
	return b
}

// addRemoval says that a name must go away. Caller holds mu.
func (m *Manager) addRemoval(r *removal) {
	m.changeRemoval(r.key(), r)
	m.next.writes.set(literal(r.key()), r.append)
}

// dropRemoval takes it back, because it is done or because the name is wanted again. Caller holds mu.
func (m *Manager) dropRemoval(key string) {
	if m.removals[key] != nil {
		m.changeRemoval(key, nil)
		m.next.writes.remove(literal(key))
	}
}

func (m *Manager) changeRemoval(key string, r *removal) {
	m.dirtyRemovals[key]++
	m.next.steps = append(m.next.steps, step{key: key, removal: m.removals[key]})
	m.setRemoval(key, r)
}

// setRemoval also counts the removals of names that clients have just chosen.
func (m *Manager) setRemoval(key string, r *removal) {
	if old := m.removals[key]; old != nil && old.counts() {
		if m.chosen[old.addr]--; m.chosen[old.addr] == 0 {
			delete(m.chosen, old.addr)
		}
		defer m.names.placeLease(m, old.addr)
	}
	if r == nil {
		delete(m.removals, key)
		return
	}
	m.removals[key] = r
	if r.counts() {
		m.chosen[r.addr]++
	}
}

// submit hands what was changed to the committer and returns the group to wait for. Caller holds mu.
func (m *Manager) submit(sync bool) *group {
	m.next.sync = m.next.sync || sync
	m.next.count++
	m.work.Signal()
	return m.next
}

// wait returns when the group is on stable storage, or with the reason why it will never be. When ctx ends first the
// group is committed all the same.
func (g *group) wait(ctx context.Context) error {
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commit is the committer: it writes one group after another until the Manager closes and nothing is left.
func (m *Manager) commit() {
	defer close(m.committed)
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		m.call()
		for len(m.next.steps) == 0 && !m.closed {
			m.work.Wait()
		}
		if len(m.next.steps) == 0 {
			return
		}
		g := m.next
		m.next = m.newGroup()
		m.mu.Unlock()
		begin := time.Now()
		m.writing.Store(&begin)
		doubt, err := m.store.write(&g.writes, g.sync)
		m.writing.Store(nil)
		if m.tell != nil {
			m.tell(CommitInfo{Transactions: g.count, Took: time.Since(begin), Err: err})
		}
		m.mu.Lock()
		if err != nil {
			// What was decided meanwhile may build on what is now taken back, so it goes first.
			late := m.next
			m.next = m.newGroup()
			m.undo(late, err)
			m.undo(g, err)
			if doubt {
				m.repair(g)
			}
			continue
		}
		for i := range g.steps {
			m.settle(&g.steps[i], true)
		}
		m.reuse(g)
		m.end(g)
	}
}

// Writing is how long the disk has kept the oldest of the transactions that wait for it; zero if none does. It tells of a
// disk that neither takes nor refuses what is written. It waits for nothing.
func (m *Manager) Writing() time.Duration {
	if begin := m.writing.Load(); begin != nil {
		return time.Since(*begin)
	}
	return 0
}

// undo takes a group's changes back, the last first, and gives its callers the error. Caller holds mu.
func (m *Manager) undo(g *group, err error) {
	for i := len(g.steps) - 1; i >= 0; i-- {
		s := &g.steps[i]
		if s.b == nil {
			m.setRemoval(s.key, s.removal)
			continue
		}
		m.set(s.b, s.before)
		if s.before.state == 0 {
			m.bindings.leave(s.b)
			m.list(s.b.addr)
		}
	}
	for i := range g.steps {
		m.settle(&g.steps[i], false)
	}
	g.err = err
	m.end(g)
}

// settle ends the time in which a step was neither committed nor undone. Caller holds mu.
func (m *Manager) settle(s *step, committed bool) {
	if s.b != nil {
		p := m.dirty[s.b]
		if p.changes--; p.changes > 0 {
			if committed {
				p.committed = s.after
			}
			return
		}
		delete(m.dirty, s.b)
		if *p = (pending{}); len(m.used.pending) < maxUnused {
			m.used.pending = append(m.used.pending, p)
		}
		m.names.settleBinding(m, s.b)
		if s.b.state == 0 {
			m.bindings.remove(s.b)
		}
		return
	}
	if m.dirtyRemovals[s.key]--; m.dirtyRemovals[s.key] > 0 {
		return
	}
	delete(m.dirtyRemovals, s.key)
	m.names.settleRemoval(m, s.key)
}

// repair has the store write what is true over every key of a group whose write failed. Caller holds mu; nothing is
// uncommitted.
func (m *Manager) repair(g *group) {
	t := m.now()
	for _, s := range g.steps {
		switch {
		case s.b == nil && m.removals[s.key] == nil:
			m.store.repair(s.key, nil)
		case s.b == nil:
			m.store.repair(s.key, m.removals[s.key].append(nil))
		case m.bindings.at(s.b.addr) == nil:
			m.store.repair(string(appendBindingKey(nil, s.b.addr)), nil)
		default:
			b := m.bindings.at(s.b.addr)
			m.store.repair(string(appendBindingKey(nil, b.addr)), m.encode(nil, &b.record, t))
		}
	}
}

// encode appends a record as it goes to disk. Caller holds mu.
func (m *Manager) encode(buf []byte, r *record, t moment) []byte {
	s := storedBinding{
		client: r.client.client(), state: r.state, published: r.published, owned: r.owned, infinite: r.end == never,
		version: r.version, start: milliseconds(t.at(r.start)), seconds: r.seconds, events: r.events, port: r.port, name: r.name, shows: r.shows,
	}
	if !s.infinite {
		s.end = millisecondsUp(t.at(r.end))
	}
	if r.conflict {
		s.state = Conflict
	}
	if r.device != nil {
		s.device = *r.device
	}
	return s.append(buf)
}
