package lease

import (
	"math"
	"net/netip"
	"time"
)

// never is the end of a lease that does not end.
const never = math.MaxInt64

// record is what is known of an address: the part of a binding that is on disk, and that a transaction replaces as a
// whole. A record in state 0 stands for an address that was never used.
type record struct {
	client     packed
	name       string // what DNS shall show; "" unless Active
	device     *string
	start, end int64  // nanoseconds since Open; end of a free address: when it became free
	version    uint64 // of what DNS shall show
	port       uint64 // of a client that nobody knows, where it counts or counted (see port.go); 0: nowhere
	seconds    uint32 // the lease time that was given
	events     uint32 // the clients' times on the address that are over (see history.go)
	state      State
	published  bool
	owned      bool       // name is that of a site device
	shows      Directions // that DNS may show of name
	unsent     bool       // it does not: name was never taken from the queue, as far as is known since Open
	conflict   bool       // Declined, by this server
}

// binding is an address that is or was in use. There is one for each such address, for as long as the Manager lives; it
// is sized for millions.
type binding struct {
	addr netip.Addr
	record
	n       number // of the binding itself; 0: it was taken back
	sibling number // the next binding of the same client
	cousin  number // the next active one of the same machine
	heap    int32  // index in Manager.ends, -1 if it is not there
	side    bool   // see Manager.side
	shown   uint16 // hours after Open when DNS was last known to show the name
}

func hours(el int64) uint16 { return uint16(min(el/int64(time.Hour), math.MaxUint16)) }

// stale says whether it is time to tell DNS once more what it is to show, which repairs what others did to it.
func (b *binding) stale(el int64) bool {
	return hours(el)-b.shown >= uint16(repeatAfter/time.Hour)
}

func (r *record) free() bool { return r.state == Expired || r.state == Released }

// idle says whether nobody holds the address.
func (r *record) idle() bool { return r.free() || r.state == Declined }

// held says whether the record's client has the address at this moment.
func (r *record) held(el int64) bool { return r.state == Active && r.end > el }

// resting says whether the address was declined and must not be used at this moment.
func (r *record) resting(el int64) bool { return r.state == Declined && r.end > el }

// ending says whether something happens by itself at the record's end.
func (r *record) ending() bool { return (r.state == Active || r.state == Declined) && r.end != never }

// known says whether the client can find the binding as its own: not the address that it declined.
func (r *record) known() bool { return r.state != 0 && r.state != Declined && r.client != nobody }

// moment is one point in time in both clocks.
type moment struct {
	el   int64     // nanoseconds since Open; never goes back
	wall time.Time // for the disk and for people
}

func (t moment) at(el int64) time.Time {
	if el == never {
		return time.Time{}
	}
	return t.wall.Add(time.Duration(el - t.el))
}

// now reads the clock. Caller holds mu.
func (m *Manager) now() moment {
	t := m.clock()
	m.last = max(m.last, int64(t.Sub(m.opened)))
	return moment{el: m.last, wall: m.wall(t)}
}

// elapsed is a wall-clock time as an offset from Open.
func (m *Manager) elapsed(t time.Time) int64 { return int64(t.Sub(m.opened)) }

// duration is the lease time that was given.
func (r *record) duration() time.Duration { return time.Duration(r.seconds) * time.Second }

// lease shows a record to the outside. Caller holds mu.
func (m *Manager) lease(a netip.Addr, r *record, t moment) Lease {
	l := Lease{
		Address: a, State: r.state, Start: t.at(r.start), Expires: t.at(r.end),
		Name: r.name, Published: r.published, Version: r.version,
	}
	if r.conflict {
		l.State = Conflict
	}
	if r.client != "" {
		l.Client = r.client.client()
	}
	if r.device != nil {
		l.Device = *r.device
	}
	if n := m.conf.networkOf(a); n != nil {
		l.Network = n.Name
	}
	return l
}

// set replaces a binding's record and puts the binding where its new state belongs. Caller holds mu.
func (m *Manager) set(b *binding, r record) {
	m.unlist(b.addr)
	relink := b.client != r.client || b.known() != r.known()
	rejoin := b.client != r.client || (b.state == Active) != (r.state == Active)
	if relink && b.known() {
		m.bindings.unlink(b)
	}
	if rejoin && b.state == Active {
		m.bindings.part(b)
	}
	m.index(b, r)
	if relink && b.known() {
		m.bindings.link(b)
	}
	if rejoin && b.state == Active {
		m.bindings.join(b)
	}
	m.ends.fix(b)
	if b.ending() {
		m.wakeRun(b.end)
	}
	if b.idle() {
		m.list(b.addr)
	}
}

// endQueue is a heap of the bindings that end by themselves, the next to end first. Four children a node keep it flat;
// each binding knows its place, so that a renewal moves it instead of leaving a stale entry behind.
type endQueue struct {
	all  *table
	heap []endEntry
}

type endEntry struct {
	end int64
	n   number
}

// fix makes the queue agree with the binding's record.
func (q *endQueue) fix(b *binding) {
	i := int(b.heap)
	switch {
	case b.ending() && i < 0:
		q.heap = append(q.heap, endEntry{})
		q.up(len(q.heap)-1, endEntry{b.end, b.n})
	case b.ending():
		if e := (endEntry{b.end, b.n}); e.end < q.heap[i].end {
			q.up(i, e)
		} else {
			q.down(i, e)
		}
	case i >= 0:
		was, last := q.heap[i].end, q.heap[len(q.heap)-1]
		q.heap = q.heap[:len(q.heap)-1]
		b.heap = -1
		if last.n != b.n {
			if last.end < was {
				q.up(i, last)
			} else {
				q.down(i, last)
			}
		}
	}
}

// up puts e at place i or above it.
func (q *endQueue) up(i int, e endEntry) {
	h := q.heap
	for i > 0 {
		parent := (i - 1) / 4
		if h[parent].end <= e.end {
			break
		}
		h[i] = h[parent]
		q.all.get(h[i].n).heap = int32(i)
		i = parent
	}
	h[i] = e
	q.all.get(e.n).heap = int32(i)
}

// down puts e at place i or below it.
func (q *endQueue) down(i int, e endEntry) {
	h := q.heap
	for {
		least := 4*i + 1
		if least >= len(h) {
			break
		}
		for c := least + 1; c < min(4*i+5, len(h)); c++ {
			if h[c].end < h[least].end {
				least = c
			}
		}
		if h[least].end >= e.end {
			break
		}
		h[i] = h[least]
		q.all.get(h[i].n).heap = int32(i)
		i = least
	}
	h[i] = e
	q.all.get(e.n).heap = int32(i)
}
