package lease

import (
	"cmp"
	"container/heap"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/tidwall/btree"
)

// nameQueue is what DNS does not show yet. Changes of one name are a chain, of which one is taken at a time: its removals
// first, then its additions, the newest first in both; of namesakes only one is in the queue. Chains that can go on are
// ordered by the change that is next: in the order in which they came while none has waited for longer than orderly, so
// that where DNS stood still for a moment nobody waits much longer than that. Else the newest first: the device that was
// switched on just now does not wait behind what an outage of DNS left over.
type nameQueue struct {
	chains  map[string]*chain
	adding  map[*binding]*chain   // bindings that wait in a chain
	ready   *btree.BTreeG[*chain] // by version of the next change
	loaded  int64                 // nanoseconds since Open: what was there until then has waited for who knows how long
	delayed chainHeap             // by the time when there is a next change
	taken   map[netip.Addr]*chain
	blocked map[netip.Addr][]*chain // the next change is about an address that is taken
	signal  chan struct{}
	ahead   chan string // see NamesAhead

	slab      []chain // those that were not made yet
	count     int     // changes that wait
	conflicts int     // of these: those whose trouble is a conflict
	held      string  // why none is made at present; "" if nothing is known against it
	ages      []aged  // changes in the order in which they came, some of which are over
}

// chain is the changes of one name.
type chain struct {
	name    string
	waiting []waiting
	first   [1]waiting // room for what is waiting mostly
	ready   bool       // it is in nameQueue.ready
	taken   bool       // one is out, inFlight
	flight  NameChange

	behind netip.Addr // the address that it is blocked by, if valid

	in    *chainHeap // that the chain is in, or nil
	place int
	rank  int64 // order in that heap, or in nameQueue.ready
}

// comesBefore is the order in nameQueue.ready.
func (c *chain) comesBefore(o *chain) bool {
	return c.rank < o.rank || c.rank == o.rank && c.name < o.name
}

// orderly is how long a change waits at most while changes are made in the order in which they came.
const orderly = int64(time.Second)

// lookAgain is when a chain is looked at again of which nothing is left but removals that are overtaken: that may end with a
// lease that is in no chain.
const lookAgain = int64(time.Minute)

// waiting is one change of a name: an addition of what binding b says, or the removal under key.
type waiting struct {
	b       *binding
	key     string
	version uint64
	since   int64 // when it came, nanoseconds since Open
	after   int64 // not to be taken before
	why     *Trouble
}

func newNameQueue() nameQueue {
	return nameQueue{
		chains: map[string]*chain{}, adding: map[*binding]*chain{},
		ready: btree.NewBTreeGOptions((*chain).comesBefore, btree.Options{NoLocks: true}),
		taken: map[netip.Addr]*chain{}, blocked: map[netip.Addr][]*chain{},
		signal: make(chan struct{}, 1), ahead: make(chan string, 16),
	}
}

// settleBinding makes the queue agree with a binding that has no uncommitted change. Caller holds the Manager's mu.
func (q *nameQueue) settleBinding(m *Manager, b *binding) {
	want := b.state == Active && b.name != "" && !b.published && b.shows|m.wanted(b) != 0
	if want && m.superseded(b) {
		want = b.shows&Reverse != 0
	}
	if c := q.adding[b]; c != nil {
		i := c.find(b, "")
		stays := want && c.name == b.name && c.waiting[i].version == b.version
		if !stays {
			q.remove(c, i)
			delete(q.adding, b)
		}
		q.place(m, c)
		if stays {
			return
		}
	}
	if want {
		c := q.add(m, b.name, waiting{b: b, version: b.version, after: math.MinInt64})
		q.adding[b] = c
	}
}

// settleRemoval makes the queue agree with a removal that has no uncommitted change. Caller holds the Manager's mu.
func (q *nameQueue) settleRemoval(m *Manager, key string) {
	r := m.removals[key]
	name := nameOfRemoval(key)
	if c := q.chains[name]; c != nil {
		if i := c.find(nil, key); i >= 0 {
			stays := r != nil && c.waiting[i].version == r.version
			if !stays {
				q.remove(c, i)
			}
			q.place(m, c)
			if stays {
				return
			}
		}
	}
	if r != nil {
		q.add(m, name, waiting{key: key, version: r.version, after: math.MinInt64})
	}
}

// add lets a change wait in the chain of its name. Caller holds the Manager's mu.
func (q *nameQueue) add(m *Manager, name string, w waiting) *chain {
	c := q.chains[name]
	if c == nil {
		if len(q.slab) == 0 {
			q.slab = make([]chain, 32)
		}
		c, q.slab = &q.slab[0], q.slab[1:]
		c.name, c.waiting = name, c.first[:0]
		q.chains[name] = c
	}
	w.since = m.last
	c.waiting = append(c.waiting, w)
	q.count++
	q.age(c, w.version, m.last)
	q.place(m, c)
	return c
}

func nameOfRemoval(key string) string { return key[2 : 2+int(key[1])] }

func (c *chain) find(b *binding, key string) int {
	for i := range c.waiting {
		if c.waiting[i].b == b && c.waiting[i].key == key {
			return i
		}
	}
	return -1
}

func (q *nameQueue) remove(c *chain, i int) {
	q.explain(&c.waiting[i], nil)
	q.count--
	last := len(c.waiting) - 1
	c.waiting[i] = c.waiting[last]
	c.waiting[last] = waiting{}
	c.waiting = c.waiting[:last]
}

// freed has those tried again whose name was somebody else's, since it may be free now.
func (c *chain) freed() {
	for i := range c.waiting {
		if w := &c.waiting[i]; w.why != nil && w.why.Conflict {
			w.after = math.MinInt64
		}
	}
}

// next is the change that comes next, or when there will be one. A removal that must wait holds the additions back.
func (c *chain) next(m *Manager, now int64) (w *waiting, at int64) {
	at = math.MaxInt64
	removals, overtaken := false, false
	for i := range c.waiting {
		e := &c.waiting[i]
		if r := m.removals[e.key]; e.b == nil && r != nil && m.overtaken(r) {
			overtaken = true
			continue
		}
		if e.b == nil && !removals {
			removals, w, at = true, nil, math.MaxInt64
		}
		if removals != (e.b == nil) || m.uncommitted(e) || e.b != nil && (m.owing(e.b) || m.unstated(e.b) || m.follows(c, e.b)) {
			continue // what is uncommitted is placed again once it is settled
		}
		if e.after > now {
			at = min(at, e.after)
		} else if w == nil || e.version > w.version {
			w = e
		}
	}
	if overtaken && w == nil && at == math.MaxInt64 {
		at = now + lookAgain
	}
	return w, at
}

// owing says whether DNS is to forget so many names of an address that its lease waits with the one that it has now. Until
// that is sent there is nothing to forget of it, so that a client which changes its name all the time does not fill the disk
// while DNS is away. Caller holds mu.
func (m *Manager) owing(b *binding) bool { return !b.owned && m.chosen[b.addr] >= maxRemovals }

func (m *Manager) uncommitted(w *waiting) bool {
	if w.b != nil {
		return m.dirty[w.b] != nil
	}
	return m.dirtyRemovals[w.key] != 0
}

// place puts a chain where its next change belongs. Caller holds the Manager's mu.
func (q *nameQueue) place(m *Manager, c *chain) {
	if c.in != nil {
		heap.Remove(c.in, c.place)
	}
	if c.ready {
		q.unready(c)
	}
	if c.behind.IsValid() {
		q.blocked[c.behind] = slices.DeleteFunc(q.blocked[c.behind], func(o *chain) bool { return o == c })
		c.behind = netip.Addr{}
	}
	if c.taken {
		return
	}
	if len(c.waiting) == 0 {
		delete(q.chains, c.name)
		return
	}
	switch w, at := c.next(m, m.last); {
	case w != nil:
		c.ready, c.rank = true, int64(w.version)
		q.ready.Set(c)
		q.wake()
	case at != math.MaxInt64:
		c.rank = at
		q.delayed.add(c)
		m.wakeRun(at)
	}
}

// placeLease puts the chain where it belongs in which the lease of an address waits, if there is one. Caller holds the
// Manager's mu.
func (q *nameQueue) placeLease(m *Manager, a netip.Addr) {
	if b := m.bindings.at(a); b != nil && q.adding[b] != nil {
		q.place(m, q.adding[b])
	}
}

func (q *nameQueue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// due makes the changes ready whose time to try again has come. Caller holds the Manager's mu.
func (q *nameQueue) due(m *Manager, now int64) {
	for len(q.delayed) > 0 && q.delayed[0].rank <= now {
		q.place(m, q.delayed[0])
	}
}

// first is the chain of those that are ready, one at least, that goes on first.
func (q *nameQueue) first(m *Manager, now int64) *chain {
	c, _ := q.ready.Min()
	if w, _ := c.next(m, now); w != nil && (w.since <= q.loaded || now-w.since > orderly) {
		c, _ = q.ready.Max()
	}
	return c
}

// unready takes a chain out of those that can go on.
func (q *nameQueue) unready(c *chain) {
	q.ready.Delete(c)
	c.ready = false
}

// TakeNameChanges returns at most limit changes that DNS does not show yet, and marks them as taken: they
// are not returned again before ConfirmNameChange or ReturnNameChange. A name's removals come before its additions, and
// of all that is taken no two share a name or an address, so they may be made in any order and at the same time. They
// come in the order of the leases; when one of them waits for more than a second, the newest first.
func (m *Manager) TakeNameChanges(limit int) []NameChange {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := &m.names
	t := m.now()
	q.due(m, t.el)
	var list []NameChange
	for len(list) < limit && q.ready.Len() > 0 {
		c := q.first(m, t.el)
		q.unready(c)
		w, _ := c.next(m, t.el)
		if w == nil { // became uncommitted since it was placed
			q.place(m, c)
			continue
		}
		n := m.nameChange(w)
		if q.taken[n.Address] != nil {
			q.blocked[n.Address] = append(q.blocked[n.Address], c)
			c.behind = n.Address
			continue
		}
		if w.b != nil {
			w.b.unsent = false
		}
		c.taken, c.flight = true, n
		q.taken[n.Address] = c
		list = append(list, n)
	}
	if q.ready.Len() > 0 {
		q.wake()
	}
	return list
}

// nameChange shows a waiting change to the outside. Caller holds mu.
func (m *Manager) nameChange(w *waiting) NameChange {
	if w.b == nil {
		r := m.removals[w.key]
		return NameChange{
			Remove: true, Name: r.name, Address: r.addr, Client: r.client.client(), Owned: r.owned, Unmake: r.shows, Version: r.version,
			Kept: m.conf.keeps(r.name),
		}
	}
	c := NameChange{
		Name: w.b.name, Address: w.b.addr, Client: w.b.client.client(), Owned: w.b.owned && m.conf.taken(w.b.name),
		LeaseTime: w.b.duration(), Make: m.wanted(w.b), Version: w.b.version, Kept: m.conf.keeps(w.b.name),
	}
	if m.superseded(w.b) {
		c.Make, c.Unmake = 0, w.b.shows&Reverse // the addition of its namesake replaces the address
	} else {
		c.Unmake = w.b.shows &^ c.Make
	}
	if n := m.conf.networkOf(w.b.addr); n != nil && (w.b.owned || m.conf.sharing(w.b) != nil) {
		c.Mode = n.Names.Mode
	}
	return c
}

// NameChanges is signalled when TakeNameChanges may return something new. It holds one signal, which may come without
// reason. Signals for changes that were returned to be tried later need Run.
func (m *Manager) NameChanges() <-chan struct{} { return m.names.signal }

// ConfirmNameChange says that DNS shows a taken change, or that it cannot and shall not be tried again. It is on disk
// with the next lease that is; lost in a crash before, the change is taken again, which does no harm. When the lease has
// a newer Version by now, that one is taken next.
func (m *Manager) ConfirmNameChange(c NameChange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	t := m.now()
	ch := m.names.untake(m, c)
	if ch == nil {
		return nil
	}
	if c.Remove {
		key := removalKey(c.Name, c.Address, c.Client.Key())
		if r := m.removals[key]; r != nil && r.version == c.Version {
			m.dropRemoval(key)
			m.submit(false)
		}
		ch.freed()
		m.names.place(m, ch)
		return nil
	}
	if c.Unmake&Forward != 0 {
		ch.freed()
	}
	if (c.Owned || c.Mode != NamesStrict) && c.Make == both { // it replaced what others had there
		for _, w := range ch.waiting {
			if r := m.removals[w.key]; w.b == nil && r != nil && r.addr == c.Address && r.client.key() != c.Client.Key() {
				m.dropRemoval(w.key)
				m.submit(false)
			}
		}
	}
	if b := m.bindings.at(c.Address); b != nil && b.version == c.Version && b.state == Active && !b.published {
		r := b.record
		superseded := m.superseded(b)
		switch {
		case !superseded:
			r.published, r.shows = c.Make != 0, b.shows&^c.Unmake|c.Make // it may have been superseded when it was taken
			b.shown = hours(t.el)
		case c.Make == 0:
			r.shows &^= c.Unmake
		} // else it was taken before its namesake came
		switch {
		case r != b.record:
			m.change(b, r, t)
			m.submit(false)
		case m.dirty[b] == nil: // a reload may have left nothing to do
			m.names.settleBinding(m, b)
		}
		if !superseded && c.Make&Forward != 0 {
			m.outdo(b, t)
		}
	}
	m.names.place(m, ch)
	return nil
}

// ReturnNameChange gives a change back that could not be made. It is taken again, at retryAt at the earliest.
func (m *Manager) ReturnNameChange(c NameChange, retryAt time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.giveBack(c, retryAt, nil)
}

// giveBack ends the time in which a change is out; why is nil if nothing is known that was not before. Caller holds mu.
func (m *Manager) giveBack(c NameChange, retryAt time.Time, why *Trouble) {
	m.now()
	ch := m.names.untake(m, c)
	if ch == nil {
		return
	}
	for i := range ch.waiting {
		if w := &ch.waiting[i]; w.version == c.Version {
			w.after = m.elapsed(retryAt)
			if why != nil {
				m.names.explain(w, why)
			}
		}
	}
	m.names.place(m, ch)
}

// untake ends the time in which a change is out, and places what waited for its address. It returns the change's chain,
// which the caller places, or nil if the change was not taken.
func (q *nameQueue) untake(m *Manager, n NameChange) *chain {
	c := q.chains[n.Name]
	if c == nil || !c.taken || c.flight.Version != n.Version || c.flight.Remove != n.Remove {
		return nil
	}
	n = c.flight
	c.taken, c.flight = false, NameChange{}
	delete(q.taken, n.Address)
	waiters := q.blocked[n.Address]
	delete(q.blocked, n.Address)
	for _, w := range waiters {
		w.behind = netip.Addr{}
		q.place(m, w)
	}
	return c
}

// chainHeap is a heap of chains by rank.
type chainHeap []*chain

func (h *chainHeap) Len() int           { return len(*h) }
func (h *chainHeap) Less(i, j int) bool { return cmp.Less((*h)[i].rank, (*h)[j].rank) }

func (h *chainHeap) Swap(i, j int) {
	s := *h
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

// Push is for package heap; use add.
func (h *chainHeap) Push(x any) {
	c := x.(*chain)
	c.in, c.place = h, len(*h)
	*h = append(*h, c)
}

// Pop is for package heap; use heap.Remove.
func (h *chainHeap) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	c.in = nil
	return c
}

func (h *chainHeap) add(c *chain) { heap.Push(h, c) }
