package lease

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"runtime"
	"slices"
)

// A reload may concern every binding, of which there may be a million, and nobody is answered while mu is held. So what
// must be worked out from the bindings for a configuration with other pools is worked out for a few of them at a time, and
// decisions are taken in between, by the configuration that is still in force. Manager.coming is the one that is to follow.
// It is kept up to date with every change from the moment it is there (list, unlist, index), just as the one in force is, for
// what was taken up into it; what was not yet, is taken up later as it is then. When all is, one assignment puts it in force.

// walkAtOnce is how many bindings a walk looks at before it lets others have the Manager.
const walkAtOnce = 1000

// Reload replaces the configuration in one step, or returns all that is wrong with it and changes nothing. Leases that it
// has no place for any more stay until they end, but are not renewed. Clients are answered meanwhile.
func (m *Manager) Reload(c Config) error {
	x, err := newIndex(c)
	if err != nil {
		return err
	}
	m.reloading.Lock()
	defer m.reloading.Unlock()
	old := m.conf
	moved, alike := x.moved(old)
	if alike = alike && len(moved) <= m.atOnce; !alike {
		if err := m.prepare(x); err != nil {
			return err
		}
	}
	again := x.renamed(old)
	if err := m.put(x, moved, alike); err != nil {
		return err
	}
	if err := m.withdrawForbidden(x); err != nil {
		return err
	}
	if len(again) == 0 && x.claimsAs(old) {
		return nil
	}
	list, err := m.collect(func(b *binding) bool { return again[x.networkOf(b.addr)] || !m.isRight(b) || m.forgot(b) })
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.renaming = list
	m.wakeRun(m.last)
	return nil
}

// prepare works out what an index needs to know of the bindings and of what is on offer, and leaves it as the one to come.
func (m *Manager) prepare(x *index) error {
	m.mu.Lock()
	m.coming, m.side = x, !m.side
	m.mu.Unlock()
	if err := walk(m, maps.Values(m.offers.byAddress), func(o *offer) { x.unlist(o.addr, m.bindings.at(o.addr)) }); err != nil {
		return err
	}
	return walk(m, m.bindings.each(), m.join)
}

// join takes a binding up into the index to come. One that was made since there is one is part of it already. Caller holds
// mu.
func (m *Manager) join(b *binding) {
	if b.side == m.side {
		return
	}
	b.side = m.side
	x := m.coming
	if p := x.poolOf(b.addr); p != nil {
		p.fresh.remove(b.addr)
	}
	x.count(b, 1)
	x.share(b)
	if m.offers.of(b.addr) == nil {
		x.list(b.addr, b)
	}
}

// put puts an index in force: the one that is to come, or else one that is like that in force but for what it says of a few
// addresses.
func (m *Manager) put(x *index, moved []netip.Addr, alike bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if !alike {
		m.conf, m.coming = x, nil
		return nil
	}
	old := m.conf
	for _, a := range moved {
		b := m.bindings.at(a)
		old.unlist(a, b)
		if b != nil {
			old.count(b, takeAway)
		}
	}
	x.inherit(old)
	m.conf = x
	for _, a := range moved {
		if b := m.bindings.at(a); b != nil {
			x.count(b, 1)
		}
		m.list(a)
	}
	return nil
}

// inherit takes what is known of the bindings from an index that is alike.
func (x *index) inherit(old *index) {
	for i, p := range x.pools {
		o := old.pools[i]
		p.tally, p.fresh, p.free, p.resting = o.tally, o.fresh, o.free, o.resting
	}
	for i, n := range x.networks {
		n.fixed = old.networks[i].fixed
	}
	x.shared = old.shared
}

// moved are the addresses that are reserved or kept out of the pools in one of two indexes only; alike says whether these,
// and what concerns no binding, are all that they differ in.
func (x *index) moved(old *index) (list []netip.Addr, alike bool) {
	alike = slices.EqualFunc(x.pools, old.pools, func(a, b *pool) bool { return a.first == b.first && a.last == b.last }) &&
		slices.EqualFunc(x.networks, old.networks, func(a, b *network) bool { return a.Prefix == b.Prefix && a.takes() == b.takes() })
	if !alike {
		return nil, false
	}
	differs := func(a netip.Addr) bool {
		return (x.reserved[a] != nil) != (old.reserved[a] != nil) || x.withheld(a) != old.withheld(a)
	}
	for _, i := range []*index{x, old} {
		for a := range i.reserved {
			if differs(a) {
				list = append(list, a)
			}
		}
		for a := range i.excluded {
			if differs(a) {
				list = append(list, a)
			}
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list), true
}

// withdrawForbidden withdraws the offers that the index in force does not permit.
func (m *Manager) withdrawForbidden(x *index) error {
	return walk(m, maps.Values(m.offers.byAddress), func(o *offer) {
		// An offer that is withdrawn needlessly does no harm: its client gets the address if it asks for it.
		w := &asker{Query: Query{Client: o.client.client()}, reservation: x.reservation(o.client.client())}
		if !x.permitted(o.addr, w) {
			m.withdraw(o)
		}
	})
}

// collect has what is chosen of the named leases looked at again, the newest last, so that they keep their order.
func (m *Manager) collect(choose func(*binding) bool) ([]*binding, error) {
	type version struct {
		n uint64
		b *binding
	}
	var found []version // as they were, since they go on to change
	err := walk(m, m.bindings.each(), func(b *binding) {
		if b.state == Active && b.name != "" && choose(b) {
			found = append(found, version{b.version, b})
		}
	})
	slices.SortFunc(found, func(a, b version) int { return cmp.Compare(a.n, b.n) })
	list := make([]*binding, len(found))
	for i := range found {
		list[i] = found[i].b
	}
	return list, err
}

// walk hands all of something that the Manager holds to f, with mu held, and lets go of mu again and again. Of what comes to
// it meanwhile it may hand over some. It ends early, with ErrClosed, when the Manager closes.
func walk[V any](m *Manager, all iter.Seq[V], f func(V)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for v := range all {
		if m.closed {
			return ErrClosed
		}
		f(v)
		// Here, where nothing of it is at hand that may be gone by then.
		if n++; n < m.atOnce {
			continue
		}
		n = 0
		m.mu.Unlock()
		if m.between != nil {
			m.between()
		}
		runtime.Gosched()
		m.mu.Lock()
	}
	return nil
}
