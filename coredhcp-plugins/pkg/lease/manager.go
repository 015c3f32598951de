package lease

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// expireAtOnce bounds how many leases end in one transaction.
	expireAtOnce = 512
	// expireRetry is the pause after leases could not be ended because the database failed.
	expireRetry = time.Second
	// pageSize is how many leases Leases reads at a time.
	pageSize = 256
)

// Manager holds the leases of one server. Its methods may be called by many goroutines at once.
type Manager struct {
	clock     func() time.Time
	wall      func(time.Time) time.Time // the wall clock's part of what clock read
	opened    time.Time                 // when Open was called; moments in memory count from here
	log       *slog.Logger
	tell      func(CommitInfo) // of every batch; may be nil
	store     *store
	maxOffers int
	wake      chan struct{}             // tells Run of something sooner than it waits for
	committed chan struct{}             // closed when the committer ends
	writing   atomic.Pointer[time.Time] // when the committer began to write what it is writing; nil: nothing
	publishes atomic.Bool               // names go into DNS
	atOnce    int                       // see walk
	between   func()                    // for tests: called by walk while others may have the Manager
	reloading sync.Mutex                // held by Reload, which alone replaces conf; taken before mu

	mu            sync.Mutex // guards all below
	asker         asker      // whom it is decided about
	work          sync.Cond  // something in next, or closed
	closed        bool
	conf          *index
	coming        *index // takes the place of conf when all bindings are in it; nil but during a reload
	side          bool   // of the bindings that are in coming; of all, if there is none
	last          int64  // the latest moment that was read from the clock
	version       uint64 // the last that was given
	bindings      table
	owned         map[string][]*binding          // bindings with the name of a site device, by name
	declined      map[HardwareAddress][]*binding // resting, by who declined them
	ends          endQueue
	ports         map[uint64]portUse // by hash of Query.Port
	refused       uint64             // see Stats
	offers        offers
	removals      map[string]*removal
	chosen        map[netip.Addr]int // removals of names that clients chose, by address
	names         nameQueue
	next          *group   // what is decided and not yet in the committer's hands
	ended         []*group // those whose fate is known and was not told yet
	used          unused   // memory of groups that are over
	dirty         map[*binding]*pending
	dirtyRemovals map[string]int
	runUntil      int64      // what Run waits for
	base          time.Time  // the wall clock's time of Open, as the times on disk have it
	restating     number     // the next binding whose times on disk are to be written again, since the wall clock was set; 0: none
	renaming      []*binding // of networks whose NamePolicy changed, that were not looked at since, the newest last
}

// Open opens the lease database in dir, or creates it, and reads all leases in one pass. The directory belongs to one
// Manager at a time and is kept private to its user. A record that cannot be understood is an error that names it, and a
// directory from which files of the database are gone is an error that leaves it as it is: nothing is dropped. An error of the configuration is that of Reload. Leases that ended meanwhile are ended by Run; none
// of them is held any more.
func Open(dir string, c Config, o Options) (*Manager, error) {
	x, err := newIndex(c)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		clock: o.Now, wall: o.wall, log: o.Logger, tell: o.Committed, conf: x, maxOffers: MaxOffers, atOnce: walkAtOnce,
		wake: make(chan struct{}, 1), committed: make(chan struct{}),
		bindings: newTable(), owned: map[string][]*binding{}, declined: map[HardwareAddress][]*binding{},
		ports: map[uint64]portUse{}, offers: newOffers(), removals: map[string]*removal{}, chosen: map[netip.Addr]int{}, names: newNameQueue(), next: &group{done: make(chan struct{})},
		dirty: map[*binding]*pending{}, dirtyRemovals: map[string]int{}, runUntil: math.MaxInt64,
	}
	m.work.L, m.ends.all = &m.mu, &m.bindings
	if m.clock == nil {
		m.clock = time.Now
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.wall == nil {
		m.wall = func(t time.Time) time.Time { return t.Round(0) }
	}
	m.opened = m.clock()
	m.base = m.wall(m.opened)
	if m.store, err = openStore(dir, o, m.log); err != nil {
		return nil, err
	}
	if !o.Importing {
		err = m.store.checkImport()
	}
	if err == nil {
		err = m.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lease database %s: %w", dir, err), m.store.close())
	}
	var repaired *group
	if len(m.next.steps) > 0 { // load had something to put right
		repaired = m.submit(true)
	}
	go m.commit()
	if repaired != nil {
		if err := repaired.wait(context.Background()); err != nil {
			return nil, errors.Join(fmt.Errorf("lease database %s: %w", dir, err), m.Close())
		}
	}
	return m, nil
}

// load reads the database; nobody else knows the Manager yet.
func (m *Manager) load() error {
	wall := m.base
	devices := map[string]*string{}
	var idle, unpublished []*binding
	var removals []loadedRemoval
	pools := m.conf.pools // those that bindings may still be found in: they come in the order of addresses
	one := func(key, value []byte) error {
		var err error
		switch {
		case bytes.Equal(key, []byte{keyFormat}):
		case bytes.HasPrefix(key, []byte{keyRemoval}):
			var r loadedRemoval
			r, err = m.loadRemoval(key, value)
			removals = append(removals, r)
		case bytes.HasPrefix(key, []byte{keyBinding}):
			var b *binding
			if b, err = m.loadBinding(key, value, wall, devices); err != nil {
				break
			}
			if b.idle() {
				idle = append(idle, b)
			}
			if b.name != "" && !b.published {
				unpublished = append(unpublished, b)
			}
			for len(pools) > 0 && pools[0].last.Less(b.addr) {
				pools = pools[1:]
			}
			if len(pools) > 0 {
				pools[0].fresh.remove(b.addr)
			}
		default:
			err = errors.New("expected a binding, an event, a removal or the format")
		}
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		return nil
	}
	// Everything but the events, of which there may be many times more than of all else.
	for _, r := range []struct{ from, to []byte }{{nil, []byte{keyEvent}}, {[]byte{keyEvent + 1}, nil}} {
		if err := m.store.readAll(r.from, r.to, one); err != nil {
			return err
		}
	}
	m.bindings.reserve()
	for b := range m.bindings.each() {
		m.bindings.enter(b)
		if b.known() {
			m.bindings.link(b)
		}
		if b.state == Active {
			m.bindings.join(b)
		}
	}
	m.listAll(idle)
	m.removals, m.names.chains = make(map[string]*removal, len(removals)), make(map[string]*chain, len(removals)+len(unpublished))
	for _, r := range removals {
		m.setRemoval(r.key, r.removal)
	}
	// A lease and a removal of what it shows cannot both be true: that the removal was done, or taken back, was lost.
	t := m.now()
	for _, r := range m.removals {
		if b := m.bindings.at(r.addr); b != nil && b.state == Active && b.name == r.name && b.client.key() == r.client.key() {
			b.shows |= m.takeBack(b.name, b, b.client)
			m.republish(b, t)
		}
	}
	// The policy may have changed while the server was not running.
	var err error
	if m.renaming, err = m.collect(func(b *binding) bool {
		return m.unstated(b) || m.forgot(b) || b.published && (!m.isRight(b) || m.conf.takes && m.superseded(b))
	}); err != nil {
		return err
	}
	for _, b := range unpublished {
		m.names.settleBinding(m, b)
	}
	for _, r := range removals {
		m.names.settleRemoval(m, r.key)
	}
	m.names.loaded = m.last
	return nil
}

// listAll lists idle bindings, in the order in which the pools' trees grow fastest.
func (m *Manager) listAll(idle []*binding) {
	slices.SortFunc(idle, func(a, b *binding) int { return cmp.Or(cmp.Compare(a.end, b.end), a.addr.Compare(b.addr)) })
	for _, b := range idle {
		m.list(b.addr)
	}
}

func (m *Manager) loadBinding(key, value []byte, wall time.Time, devices map[string]*string) (*binding, error) {
	a, err := parseBindingKey(key)
	if err != nil {
		return nil, err
	}
	s, err := decodeBinding(value)
	if err != nil {
		return nil, err
	}
	r := record{
		client: pack(s.client), name: s.name, version: s.version, seconds: s.seconds, events: s.events, port: s.port, state: s.state,
		published: s.published, owned: s.owned, shows: s.shows,
		start: int64(time.UnixMilli(s.start).Sub(wall)), end: never,
	}
	if s.state == Conflict {
		r.state, r.conflict = Declined, true
	}
	if !s.infinite {
		r.end = min(int64(time.UnixMilli(s.end).Sub(wall)), m.longest(a, &r))
	}
	if s.device != "" {
		if devices[s.device] == nil {
			d := s.device
			devices[d] = &d
		}
		r.device = devices[s.device]
	}
	m.version = max(m.version, s.version)
	b := m.newBinding(a)
	m.index(b, r)
	m.ends.fix(b)
	return b, nil
}

// longest is the most that a record read from disk may still have to go. More says only that the clock was set back, as
// that of a machine with a dead battery is, and such a lease would never end.
func (m *Manager) longest(a netip.Addr, r *record) int64 {
	switch r.state {
	case Active:
		return int64(r.duration())
	case Declined:
		return int64(m.rest(a))
	}
	return 0
}

// loadedRemoval is a removal and its key.
type loadedRemoval struct {
	key     string
	removal *removal
}

func (m *Manager) loadRemoval(key, value []byte) (loadedRemoval, error) {
	r, err := decodeRemoval(value)
	if err != nil {
		return loadedRemoval{}, err
	}
	k := r.key()
	if k != string(key) {
		return loadedRemoval{}, fmt.Errorf("expected the removal of %q, %v, found that of key %q", r.name, r.addr, k)
	}
	m.version = max(m.version, r.version)
	return loadedRemoval{k, &r}, nil
}

// Close finishes what was decided, and closes the database. Calls that come later return ErrClosed.
func (m *Manager) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	m.closed = true
	m.work.Signal()
	m.mu.Unlock()
	<-m.committed
	return m.store.close()
}

// Run ends leases when their time is over, and writes their times again when the wall clock was set. It returns nil when
// ctx ends. One Run at a time.
func (m *Manager) Run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		g, until, err := m.expire()
		if err != nil {
			return err
		}
		if g != nil {
			if err := g.wait(ctx); err == nil {
				continue
			} else if ctx.Err() != nil {
				return nil
			} else {
				m.log.Error("ending leases", "error", err)
				m.restateAll()
				until = expireRetry
			}
		}
		t.Reset(min(until, clockCheck))
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-m.wake:
		}
	}
}

// expire ends leases whose time is over, and returns either the group that they are committed with, or how long it is
// until there is something to do.
func (m *Manager) expire() (*group, time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, 0, ErrClosed
	}
	t := m.now()
	m.endOffers(t)
	m.names.due(m, t.el)
	n := 0
	for ; n < expireAtOnce && len(m.ends.heap) > 0 && m.ends.heap[0].end <= t.el; n++ {
		b := m.bindings.get(m.ends.heap[0].n)
		m.finish(b, Expired, b.end, t)
	}
	if n > 0 {
		return m.submit(true), 0, nil
	}
	if g := m.renamed(t); g != nil {
		return g, 0, nil
	}
	if g, more := m.restate(t); g != nil || more {
		return g, 0, nil
	}
	m.runUntil = math.MaxInt64
	if len(m.ends.heap) > 0 {
		m.runUntil = m.ends.heap[0].end
	}
	if len(m.names.delayed) > 0 {
		m.runUntil = min(m.runUntil, m.names.delayed[0].rank)
	}
	if m.runUntil == math.MaxInt64 {
		return nil, math.MaxInt64, nil
	}
	return nil, time.Duration(m.runUntil - t.el), nil
}

// wakeRun tells Run that something happens at a moment, if it would come too late. Caller holds mu.
func (m *Manager) wakeRun(at int64) {
	if at < m.runUntil {
		m.runUntil = at
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// Lease returns the binding of an address, and false if the address was never used. It shows what is committed.
func (m *Manager) Lease(a netip.Addr) (Lease, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bindings.at(a)
	if b == nil {
		return Lease{}, false
	}
	r := b.record
	if p := m.dirty[b]; p != nil {
		r = p.committed
	}
	if r.state == 0 {
		return Lease{}, false
	}
	l := m.lease(a, &r, m.now())
	m.tellName(&l)
	return l, true
}

// Leases iterates all bindings in the order of their addresses, as they were on disk at one moment; it holds nobody up,
// however long it takes. Should the database have to be opened again meanwhile, the rest is of a later moment. An error
// comes last: those before it are not all.
func (m *Manager) Leases() iter.Seq2[Lease, error] {
	return func(yield func(Lease, error) bool) {
		view := m.store.snapshot([]byte{keyBinding}, []byte{keyBinding + 1})
		defer view.end()
		page := make([]Lease, 0, pageSize)
		for more := true; more; {
			var err error
			page = page[:0]
			more, err = view.read(pageSize, func(key, value []byte) error {
				l, err := decodeLease(key, value)
				if err == nil {
					page = append(page, l)
				}
				return err
			})
			m.mu.Lock()
			for i := range page {
				l := &page[i]
				if n := m.conf.networkOf(l.Address); n != nil {
					l.Network = n.Name
				}
				m.tellName(l)
			}
			m.mu.Unlock()
			for _, l := range page {
				if !yield(l, nil) {
					return
				}
			}
			if err != nil {
				yield(Lease{}, fmt.Errorf("reading leases: %w", err))
				return
			}
		}
	}
}

func decodeLease(key, value []byte) (Lease, error) {
	a, err := parseBindingKey(bytes.Clone(key))
	if err != nil {
		return Lease{}, fmt.Errorf("key %q: %w", key, err)
	}
	s, err := decodeBinding(value)
	if err != nil {
		return Lease{}, fmt.Errorf("key %q: %w", key, err)
	}
	l := Lease{
		Address: a, Client: s.client, Device: s.device, State: s.state, Start: time.UnixMilli(s.start),
		Name: s.name, Published: s.published, Version: s.version,
	}
	if !s.infinite {
		l.Expires = time.UnixMilli(s.end)
	}
	return l, nil
}
