package lease

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// The present of an address is its binding. Its past is on disk alone: when a client's time on it is over, that is written
// as one event in the batch that ends it, and so is its time under a name that it gives up. So an ACK of an address that is
// free, and a renewal, write no event, and history takes no memory but the count of events in the binding.
//
// An address has a ring of maxEvents places on disk, and an event takes the place of the one maxEvents before it; nothing
// has to be looked for to keep the bound. Each event has its number, which tells it from what an earlier round, or a
// batch that failed, left in the place.
const (
	// maxEvents bounds the past events of one address. It is part of the format on disk.
	maxEvents = 32
	// maxHistory bounds the events of all addresses: where more than maxHistory/maxEvents addresses are in use each keeps
	// fewer, as it gets new ones, but leastEvents at the least.
	maxHistory  = 4 << 20
	leastEvents = 4
)

// tellEnd writes that a client's time on an address ended. Caller holds mu, and counts the event.
func (m *Manager) tellEnd(b *binding, s State, end int64, t moment) {
	e := storedEvent{
		number: b.events, state: s, start: milliseconds(t.at(b.start)), end: millisecondsUp(t.at(end)),
		client: b.client.client(), name: b.name,
	}
	if b.device != nil {
		e.device = *b.device
	}
	m.next.writes.set(func(buf []byte) []byte { return appendEventKey(buf, b.addr, e.number) }, e.append)
	if keep := m.eventsKept(); keep < maxEvents && e.number >= keep {
		m.next.writes.remove(func(buf []byte) []byte { return appendEventKey(buf, b.addr, e.number-keep) })
	}
}

// eventsKept is how many events an address that gets one keeps. Caller holds mu.
func (m *Manager) eventsKept() uint32 {
	return uint32(min(maxEvents, max(leastEvents, maxHistory/max(1, m.bindings.len()))))
}

// tellPast writes what is not written yet of the client that had an address which another one, or the same one anew, is
// about to get, and says whether it did. Caller holds mu, and counts the event.
func (m *Manager) tellPast(b *binding, t moment) bool {
	switch {
	case b.state == Active && b.end <= t.el: // Run was about to end it
		m.tellEnd(b, Expired, b.end, t)
	case b.state == Active: // gives way
		m.tellEnd(b, Released, t.el, t)
	case b.events == 0: // it ended in a database of format 1
		m.tellEnd(b, b.state, min(b.end, t.el), t)
	default:
		return false
	}
	return true
}

// History returns which clients had an address, the newest first, at most limit of them. It shows what is on stable
// storage: the client that has it, and the last 32 that had it before; fewer where more than 131,072 addresses are in use,
// so that all addresses together keep about 4 million, but not fewer than 4.
func (m *Manager) History(ctx context.Context, a netip.Addr, limit int) ([]Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, past, err := m.present(a)
	if err != nil || l.State == 0 || limit < 1 {
		return nil, err
	}
	var list []Event
	if l.State == Active || past == 0 {
		list = append(list, Event{
			Address: a, Time: l.Start, State: l.State, Client: l.Client, Device: l.Device, Name: l.Name, Until: l.Expires,
		})
	}
	if past == 0 {
		return list, nil
	}
	var ring [maxEvents]*storedEvent
	from, to := appendEventKey(nil, a, 0), appendEventKey(nil, a, maxEvents-1)
	to[len(to)-1]++
	err = m.store.readAll(from, to, func(key, value []byte) error {
		e, err := decodeEvent(value)
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		ring[e.number%maxEvents] = &e
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history of %v: %w", a, err)
	}
	for n := past; n > 0 && past-n < maxEvents && len(list) < limit; n-- {
		e := ring[(n-1)%maxEvents]
		if e == nil || e.number != n-1 {
			break
		}
		list = append(list, Event{
			Address: a, Time: time.UnixMilli(e.start), State: e.state, Client: e.client, Device: e.device, Name: e.name,
			Until: time.UnixMilli(e.end),
		})
	}
	return list, nil
}

// present is the committed binding of an address, in state 0 if there is none, and the number of its past events.
func (m *Manager) present(a netip.Addr) (Lease, uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return Lease{}, 0, ErrClosed
	}
	b := m.bindings.at(a)
	if b == nil {
		return Lease{}, 0, nil
	}
	r := b.record
	if p := m.dirty[b]; p != nil {
		r = p.committed
	}
	if r.state == 0 {
		return Lease{}, 0, nil
	}
	return m.lease(a, &r, m.now()), r.events, nil
}
