package lease

// What DNS is to show of a lease follows from its name and from what its network says (NamePolicy), which a reload may
// change; what DNS may show is part of the lease on disk. Where the two differ, now or after a restart, the lease waits
// for DNS like one that is new. So a change of the policy is carried out on leases that are held, and nothing is left
// behind that nobody would ever remove.

// NamePolicy says how the names of a network's leases are put into DNS. The zero value is strict, in both directions.
type NamePolicy struct {
	Mode             NameMode
	Forward, Reverse Names // whose names have an address, whose addresses have a name
}

// NameMode says whose a name is that stands in DNS already (RFC 4703 section 5.3). A device of the site may take its own
// name in every mode.
type NameMode uint8

// The modes that there are.
const (
	NamesStrict     NameMode = iota // the client's whose DHCID record stands there
	NamesKeepStatic                 // that of the lease given last, unless there is no DHCID record
	NamesLastWins                   // that of the lease given last
)

// Names says which leases a direction is for.
type Names uint8

// The leases that there are.
const (
	AllNames    Names = iota
	DeviceNames       // those with the name of a site device
	NoNames
)

// Directions are what DNS shows of a lease: the address under the name, the name under the address.
type Directions uint8

// The directions.
const (
	Forward Directions = 1 << iota
	Reverse

	both = Forward | Reverse
)

func (n Names) includes(owned bool) bool { return n == AllNames || n == DeviceNames && owned }

// directions are those that a network wants.
func (n *network) directions(owned bool) (d Directions) {
	if n.DDNS && n.Names.Forward.includes(owned) {
		d |= Forward
	}
	if n.DDNS && n.Names.Reverse.includes(owned) {
		d |= Reverse
	}
	return d
}

// takes says whether names of the network are those of the lease given last, whosever they were.
func (n *network) takes() bool { return n.DDNS && n.Names.Mode != NamesStrict }

// claims says whether a binding, which is no device's, has a name that the site keeps for somebody else since a reload: then
// that is not its name in DNS any more, and at the next renewal the client gets another. Who may be the device, as far as the
// client itself tells, keeps it. Caller holds mu.
func (x *index) claims(b *binding) bool {
	if b.owned || !x.taken(b.name) {
		return false
	}
	if r := x.reservation(b.client.client()); r != nil {
		return r.Hostname != b.name
	}
	return !x.weak[b.name]
}

// forgot says whether a binding has the name of a device that is not in the site file any more: then it is as a client's own.
// One that is called otherwise now keeps it until it is renewed. Caller holds mu.
func (m *Manager) forgot(b *binding) bool {
	return b.state == Active && b.owned && !m.conf.taken(b.name) && m.deviceOf(b) == nil
}

// wanted are the directions that DNS is to show of a binding. Those of an address that is in no network any more stay.
// Caller holds mu.
func (m *Manager) wanted(b *binding) Directions {
	if b.state != Active || b.name == "" || m.conf.claims(b) {
		return 0
	}
	n := m.conf.networkOf(b.addr)
	if n == nil {
		return b.shows
	}
	return n.directions(b.owned)
}

// isRight says whether DNS shows of a binding what it is to show. Caller holds mu.
func (m *Manager) isRight(b *binding) bool {
	w := m.wanted(b)
	return b.shows == w && (b.published || w == 0)
}

// unstated says whether DNS is to show of a binding what is not on disk that it may: renamed is about to put that right. Until
// then DNS is not told, or nobody would know what to remove when the lease ends first. Caller holds mu.
func (m *Manager) unstated(b *binding) bool { return m.wanted(b)&^b.shows != 0 && !m.superseded(b) }

// tellAgain has DNS told again about the first few of a list, and returns the rest. Without all only where DNS may show
// something else than it is to, or nothing yet. Caller holds mu, and submits if any were told.
func (m *Manager) tellAgain(list []*binding, all bool, t moment) (rest []*binding, told int) {
	for len(list) > 0 && told < expireAtOnce {
		b := list[0]
		list = list[1:]
		if m.forgot(b) {
			m.giveWay(b, t)
			r := b.record
			r.owned = false
			m.change(b, r, t)
			told++
		}
		switch {
		case b.state != Active || b.name == "":
			continue
		case m.superseded(b):
			r := b.record
			r.published = false
			if all {
				r.shows |= m.wanted(b) & Reverse
			}
			if r == b.record {
				continue
			}
			m.change(b, r, t)
		case !all && m.isRight(b) || all && m.wanted(b)|b.shows == 0:
			continue
		default:
			m.republish(b, t)
		}
		told++
	}
	return list, told
}

// renamed continues what a reload has begun: the leases of networks whose NamePolicy changed. It returns the group that
// some of them are committed with, or nil if there are none. Caller holds mu.
func (m *Manager) renamed(t moment) *group {
	if len(m.renaming) == 0 {
		return nil
	}
	rest, told := m.tellAgain(m.renaming, false, t)
	if m.renaming = rest; len(rest) == 0 {
		m.renaming = nil
	}
	if told == 0 {
		return nil
	}
	return m.submit(true)
}
