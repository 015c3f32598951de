package lease

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// NameState says what became of a lease's name in DNS.
type NameState uint8

// The states of a name.
const (
	NameNone       NameState = iota // there is no name, or the lease is over
	NameOff                         // its network has no names in DNS, or not this one
	NameShown                       // DNS shows it
	NameWaiting                     // DNS is to be told, and was not yet
	NameSuperseded                  // DNS shows a later lease of this name
	NameConflict                    // the name is somebody else's; it is tried again now and then
	NameFailed                      // DNS was told and did not take it; it is tried again
)

var nameStates = [...]string{"", "off", "shown", "waiting", "superseded", "conflict", "failed"}

// String is what the control socket calls it.
func (s NameState) String() string {
	if int(s) < len(nameStates) {
		return nameStates[s]
	}
	return "unknown"
}

// Trouble says why DNS does not show what it is to show.
type Trouble struct {
	Conflict bool   // the name is somebody else's
	Pointer  bool   // what failed is the address's part alone: its name is in DNS, or, with Conflict, somebody else's
	Text     string // for people; equal texts best share one string
}

// lasts says whether there is nothing to do about it but to wait until the name is free.
func (t *Trouble) lasts() bool { return t != nil && t.Conflict && !t.Pointer }

// NameStats counts what DNS is not known to show yet.
type NameStats struct {
	Waiting   int           // changes, those that are being made included
	Conflicts int           // of these: names that are somebody else's
	Oldest    time.Duration // how long the first has been waiting for DNS to confirm it of the others, and of those whose address has such a name yet
}

// FailNameChange gives a taken change back that could not be made, and says why. It is taken again, at retryAt at the
// earliest.
func (m *Manager) FailNameChange(c NameChange, retryAt time.Time, why Trouble) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.giveBack(c, retryAt, &why)
}

// retryAtOnce bounds the chains that RetryNameChanges looks at while it holds the Manager's mu.
const retryAtOnce = 1024

// RetryNameChanges has the changes taken again that failed, or were returned for later, as if their time had come: what was
// against them is over. Those that are in conflict keep their time.
func (m *Manager) RetryNameChanges() {
	m.mu.Lock()
	late := slices.Clone(m.names.delayed)
	m.mu.Unlock()
	for chains := range slices.Chunk(late, retryAtOnce) {
		m.mu.Lock()
		for _, c := range chains {
			if c.in != &m.names.delayed {
				continue // it has moved meanwhile
			}
			for i := range c.waiting {
				if w := &c.waiting[i]; !w.why.lasts() {
					w.after = math.MinInt64
				}
			}
			m.names.place(m, c)
		}
		m.mu.Unlock()
	}
}

// HoldNameChanges says why no change is made at present, for those that ask what became of a name; "" if they are made.
func (m *Manager) HoldNameChanges(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names.held = why
}

// explain notes why a change waits, or, with nil, that nothing is known against it. Caller holds the Manager's mu.
func (q *nameQueue) explain(w *waiting, why *Trouble) {
	if w.why != nil && w.why.Conflict {
		q.conflicts--
	}
	if why != nil && why.Conflict {
		q.conflicts++
	}
	w.why = why
}

// aged is a change in the order in which changes came. It is over when its chain has no such change any more.
type aged struct {
	c       *chain
	version uint64
	since   int64 // nanoseconds since Open
}

func (a *aged) over() bool {
	w := a.change()
	return w == nil || w.why.lasts()
}

func (a *aged) change() *waiting {
	for i := range a.c.waiting {
		if w := &a.c.waiting[i]; w.version == a.version {
			return w
		}
	}
	return nil
}

// confirmed says whether DNS is as a change wants it, which need not be committed yet. Caller holds mu.
func (m *Manager) confirmed(w *waiting) bool {
	if w.b == nil {
		return m.removals[w.key] == nil
	}
	return w.b.published && w.b.version == w.version
}

// age notes when a change came, and forgets those at the front that are over; all of them when there are too many.
// Caller holds the Manager's mu.
func (q *nameQueue) age(c *chain, version uint64, now int64) {
	for len(q.ages) > 0 && q.ages[0].over() {
		q.ages = q.ages[1:]
	}
	if len(q.ages) > 2*q.count+1024 {
		kept := q.ages[:0]
		for _, a := range q.ages {
			if !a.over() {
				kept = append(kept, a)
			}
		}
		clear(q.ages[len(kept):])
		q.ages = kept
	}
	q.ages = append(q.ages, aged{c, version, now})
}

// NameStats counts what waits. It costs nothing for each lease.
func (m *Manager) NameStats() NameStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := &m.names
	s := NameStats{Waiting: q.count, Conflicts: q.conflicts}
	for len(q.ages) > 0 && q.ages[0].over() {
		q.ages = q.ages[1:]
	}
	for i := range q.ages {
		if a := &q.ages[i]; !a.over() && !m.confirmed(a.change()) {
			s.Oldest = time.Duration(m.now().el - a.since)
			break
		}
	}
	return s
}

// tellName adds to a lease what became of its name. Caller holds mu.
func (m *Manager) tellName(l *Lease) {
	b := m.bindings.at(l.Address)
	if b == nil || l.State != Active || l.Name == "" || b.name != l.Name {
		return
	}
	switch c := m.names.adding[b]; {
	case m.superseded(b):
		l.NameState = NameSuperseded
	case c != nil:
		l.NameState, l.NameTrouble = NameWaiting, m.names.held
		if i := c.find(b, ""); i >= 0 && c.waiting[i].why != nil {
			why := c.waiting[i].why
			l.NameState, l.NameTrouble = NameFailed, why.Text
			if why.Conflict {
				l.NameState = NameConflict
			}
		} else if l.NameTrouble == "" {
			l.NameTrouble = m.behind(b, c)
		}
	case m.wanted(b)|b.shows == 0:
		l.NameState = NameOff
	case m.isRight(b):
		l.NameState = NameShown
	default: // it is being written that it is to be told
		l.NameState = NameWaiting
	}
}

// behind says what DNS is to forget before it is told the name of a binding, which waits in a chain; "" if nothing. Caller
// holds mu.
func (m *Manager) behind(b *binding, c *chain) string {
	if m.owing(b) {
		return "DNS is to forget other names of this address first"
	}
	for i := range c.waiting {
		w := &c.waiting[i]
		if r := m.removals[w.key]; w.b == nil && r != nil && !m.overtaken(r) {
			text := fmt.Sprintf("DNS is to forget first that %v had this name", r.addr)
			if w.why != nil {
				text += ": " + w.why.Text
			}
			return text
		}
	}
	return ""
}
