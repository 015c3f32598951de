package lease

import "slices"

// DNS has one address for a name. A client that roams holds leases on several wires with one name, and so do the network
// interfaces of one device, or of one machine, which DNS cannot tell apart; and where a network's NamePolicy has names go to
// whoever comes last, so do strangers. Of such namesakes DNS is to show the one with the highest version, which was given last;
// the others are superseded: unpublished, and in the queue for DNS only until their addresses have lost the name too, since a
// pointer names only what is there (RFC 4703 section 5.4). When the one that is shown ends, the next takes its place.

// maxShared bounds the leases of one name, or one machine, that strangers choose, so that looking at them all costs little.
const maxShared = 64

// sharedName is the name of a binding if it goes to whoever comes last, and is no device's; else "". Caller holds mu.
func (x *index) sharedName(b *binding) string {
	if b.owned || b.name == "" || !x.takes {
		return ""
	}
	if n := x.networkOf(b.addr); n != nil && n.takes() {
		return b.name
	}
	return ""
}

// share has a binding found by its name, if that is shared. Of names that were not, any number may have one when a reload has
// them shared: those above maxShared, which DNS does not show, go on as where names are not. Caller holds mu.
func (x *index) share(b *binding) {
	name := x.sharedName(b)
	if name == "" {
		return
	}
	list := x.shared[name]
	if len(list) < maxShared {
		x.shared[name] = append(list, b)
	} else if i := slices.IndexFunc(list, func(o *binding) bool { return !o.published }); i >= 0 && b.published {
		list[i] = b
	}
}

// sharing are those that share the name of a binding, which is one of them; nil if its name is not shared. Caller holds mu.
func (x *index) sharing(b *binding) []*binding {
	if list := x.shared[x.sharedName(b)]; slices.Contains(list, b) {
		return list
	}
	return nil
}

// unshare takes it away again. Caller holds mu.
func (x *index) unshare(b *binding) {
	if name := x.sharedName(b); name != "" {
		without(x.shared, name, b)
	}
}

// owners are the bindings that a name of a device, or one that goes to whoever comes last, belongs to; nil if that of the
// binding is neither. Caller holds mu.
func (m *Manager) owners(b *binding) []*binding {
	if b.owned {
		return m.owned[b.name]
	}
	return m.conf.sharing(b)
}

// namesakes are the bindings whose name is, in DNS, the same client's or device's as that of b, or whoever's comes last.
// Caller holds mu.
func (m *Manager) namesakes(b *binding) []*binding {
	if b.state != Active || b.name == "" {
		return nil
	}
	var list []*binding
	all := m.owners(b)
	for _, o := range all {
		if o != b && m.wanted(o)&Forward != 0 {
			list = append(list, o)
		}
	}
	// Also the same client's that was not renewed since the device is in the site file, or not, or in a network where names are
	// not shared, and so that each is the other's namesake.
	for o := range m.bindings.kin(b) {
		if o.state == Active && o.name == b.name && m.wanted(o)&Forward != 0 && !slices.Contains(all, o) {
			list = append(list, o)
		}
	}
	if len(list) > 0 && m.wanted(b)&Forward == 0 {
		return nil
	}
	return list
}

// index gives a binding another record and keeps what is counted and found by it: Manager.owned, index.shared, Manager.declined,
// Manager.ports and Stats. Caller holds mu.
func (m *Manager) index(b *binding, r record) {
	if b.owned && (!r.owned || b.name != r.name) {
		without(m.owned, b.name, b)
	}
	renamed := b.owned != r.owned || b.name != r.name
	if renamed {
		m.conf.unshare(b)
		if m.coming != nil && b.side == m.side {
			m.coming.unshare(b)
		}
	}
	if b.state == Declined && (r.state != Declined || b.client != r.client) {
		without(m.declined, b.client.hardware(), b)
	}
	old := b.record
	counts := old.state != r.state || (old.port == 0) != (r.port == 0)
	if counts {
		m.count(b, takeAway)
	}
	b.record = r
	if counts {
		m.count(b, 1)
	}
	if p, q := old.countsAt(), r.countsAt(); p != q {
		m.countPort(p, -1, 0)
		m.countPort(q, 1, 0)
	}
	if r.owned && (!old.owned || old.name != r.name) {
		m.owned[r.name] = append(m.owned[r.name], b)
	}
	if renamed {
		m.conf.share(b)
		if m.coming != nil && b.side == m.side {
			m.coming.share(b)
		}
	}
	if r.state == Declined && (old.state != Declined || old.client != r.client) {
		h := r.client.hardware()
		m.declined[h] = append(m.declined[h], b)
	}
}

func without[K comparable](lists map[K][]*binding, key K, b *binding) {
	if list := slices.DeleteFunc(lists[key], func(o *binding) bool { return o == b }); len(list) > 0 {
		lists[key] = list
	} else {
		delete(lists, key)
	}
}

// newest is the namesake that was given last, or nil. Caller holds mu.
func (m *Manager) newest(b *binding) *binding {
	var n *binding
	for _, o := range m.namesakes(b) {
		if n == nil || o.version > n.version {
			n = o
		}
	}
	return n
}

// superseded says whether DNS is to show a namesake and not b. Caller holds mu.
func (m *Manager) superseded(b *binding) bool {
	n := m.newest(b)
	return n != nil && n.version > b.version
}

// follows says whether a binding is superseded by one that waits in the same chain: until that is shown, DNS has the name at
// the address of b, and that must not lose its pointer. Where the name is somebody else's by now, or only a pointer is not
// shown, DNS has not. Caller holds mu.
func (m *Manager) follows(c *chain, b *binding) bool {
	if len(c.waiting) == 1 {
		return false
	}
	n := m.newest(b)
	if n == nil || n.version <= b.version {
		return false
	}
	i := c.find(n, "")
	if i < 0 {
		return false
	}
	why := c.waiting[i].why
	return why == nil || !why.Conflict && !why.Pointer
}

// takesBack says whether a client that gets its lease b again gets back the name that went to a namesake: it moved. A
// renewal alone does not take the name from another network interface, or two that are both in use would take it from
// each other for ever; but where both are on one wire, a device that goes on at its own address is found there, with its
// services, and not where its other interface waits. Caller holds mu.
func (m *Manager) takesBack(w *asker, b *binding) bool {
	n := m.newest(b)
	if n == nil || n.version < b.version {
		return false
	}
	at := m.conf.networkOf(b.addr)
	own := m.conf.reserved[b.addr] != nil && m.conf.reserved[n.addr] == nil && at != nil && contains(at.wire, m.conf.networkOf(n.addr))
	return !w.stays || n.client.key() == string(w.key) || w.sharesHardware(n.client) || own
}

// supersede has DNS show b, which has the highest version now, and none of its namesakes. Caller holds mu.
func (m *Manager) supersede(b *binding, t moment) {
	for _, o := range m.namesakes(b) {
		if o.published || m.names.adding[o] != nil || m.dirty[o] != nil {
			r := o.record
			r.published = false
			m.change(o, r, t) // which also has its address lose the name
		}
	}
}

// outdo has those namesakes of b not count as shown any more that did, since DNS shows b: a reload may have made them
// namesakes. Caller holds mu.
func (m *Manager) outdo(b *binding, t moment) {
	for _, o := range m.namesakes(b) {
		if o.published {
			r := o.record
			r.published = false
			m.change(o, r, t)
			m.submit(false)
		}
	}
}

// republish has DNS shown again what it is to show for a binding. Caller holds mu.
func (m *Manager) republish(b *binding, t moment) {
	r := b.record
	m.version++
	r.published, r.version = false, m.version
	r.shows |= m.wanted(b)
	m.change(b, r, t)
}

// dropName has the name of a binding removed from DNS; a namesake takes its place. Caller holds mu and takes the name from
// the binding.
func (m *Manager) dropName(b *binding, t moment) {
	m.giveWay(b, t)
	m.version++
	if b.shows != 0 && !b.unsent {
		m.addRemoval(&removal{name: b.name, addr: b.addr, client: b.client, version: m.version, owned: b.owned, shows: b.shows})
	}
}

// giveWay has a namesake of a binding shown in its place. Where names are shared in some networks only, one of each kind may
// have had none but the binding before it. Caller holds mu, and then makes the binding none of its namesakes.
func (m *Manager) giveWay(b *binding, t moment) {
	var next [2]*binding
	for _, n := range m.namesakes(b) {
		kind := &next[0]
		if m.conf.sharing(n) != nil {
			kind = &next[1]
		}
		if *kind == nil || n.version > (*kind).version {
			*kind = n
		}
	}
	for _, n := range next {
		if n != nil && n.version < b.version {
			m.republish(n, t)
		}
	}
}

// takeBack takes a removal back, since what it is about becomes that of a lease again, and returns what DNS may still
// show of it. Caller holds mu.
func (m *Manager) takeBack(name string, b *binding, c packed) Directions {
	key := removalKey(name, b.addr, c.key())
	r := m.removals[key]
	if r == nil {
		return 0
	}
	m.dropRemoval(key)
	return r.shows
}

// overtaken says whether another client of a device, or of a name that is shared, is to have in DNS what a removal is about. Its addition replaces what
// is there, so that the name is never missing, and makes the removal needless; should it end before that, the removal is
// what is left to do. Caller holds mu.
func (m *Manager) overtaken(r *removal) bool {
	takes := func(b *binding) bool {
		return b.addr == r.addr && m.wanted(b) == both && b.client.key() != r.client.key() && !m.superseded(b) && !m.owing(b)
	}
	return m.conf.taken(r.name) && slices.ContainsFunc(m.owned[r.name], takes) || slices.ContainsFunc(m.conf.shared[r.name], takes)
}
