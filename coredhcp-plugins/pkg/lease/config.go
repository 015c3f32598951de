package lease

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"
)

// index is a Config made fast to ask, and what is found and counted of the bindings by it. The former never changes once
// built.
type index struct {
	domain      string
	maxPerPort  int
	maxPerNet   uint64     // 0: no bound
	homeless    uint64     // reservations without an address
	takes       bool       // in some networks names go to whoever comes last
	networks    []*network // by prefix; they do not overlap
	pools       []*pool    // by first address; they do not overlap
	interfaces  map[string][]*network
	hardware    map[HardwareAddress]*Reservation
	identifiers map[string]*Reservation
	relayPorts  map[relayPort]*Reservation
	names       map[string]*Reservation
	devices     map[string]*Reservation // that can be identified by a relay's port or by name
	reserved    map[netip.Addr]*Reservation
	excluded    map[netip.Addr]struct{}
	hostnames   map[string]struct{} // those that no client may choose
	published   map[string]bool     // of these: whether they are put into DNS with leases
	weak        map[string]bool     // of these: those of devices that a relay's port or a host name tells

	shared map[string][]*binding // bindings of names that go to whoever comes last (sharedName), by name
}

// relayPort is where a relay says that a client is; "" is what it says nothing of.
type relayPort struct{ circuit, remote string }

// wellKnown are the labels that hosts look up and trust without being told to.
var wellKnown = []string{"wpad", "isatap", "localhost"}

type network struct {
	Network
	pools []*pool
	fixed tally      // reserved addresses
	wire  []*network // this network, then those of the same shared network
}

// newIndex checks a Config; all that is wrong is in one error.
func newIndex(c Config) (*index, error) {
	x := &index{
		domain:      canonical(c.Domain),
		maxPerPort:  c.MaxPerPort,
		maxPerNet:   uint64(max(c.MaxPerNetwork, 0)),
		interfaces:  map[string][]*network{},
		hardware:    map[HardwareAddress]*Reservation{},
		identifiers: map[string]*Reservation{},
		relayPorts:  map[relayPort]*Reservation{},
		names:       map[string]*Reservation{},
		devices:     map[string]*Reservation{},
		reserved:    map[netip.Addr]*Reservation{},
		excluded:    map[netip.Addr]struct{}{},
		hostnames:   map[string]struct{}{},
		published:   map[string]bool{},
		weak:        map[string]bool{},
		shared:      map[string][]*binding{},
	}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.MaxPerPort < 0 {
		wrong("addresses for each port %d: expected 0 or more", c.MaxPerPort)
	}
	if c.MaxPerNetwork < 0 {
		wrong("addresses for each network %d: expected 0 or more", c.MaxPerNetwork)
	}
	for _, n := range c.Networks {
		x.addNetwork(n, wrong)
	}
	for i := range c.Reservations {
		x.addReservation(c.Reservations[i], wrong)
	}
	for _, a := range c.Excluded {
		x.excluded[a] = struct{}{}
	}
	for _, label := range wellKnown {
		x.hostnames[label+"."+x.domain] = struct{}{}
	}
	for _, h := range c.Hostnames {
		x.hostnames[canonical(h)] = struct{}{}
	}
	slices.SortFunc(x.networks, func(a, b *network) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	for i := 1; i < len(x.networks); i++ {
		if a, b := x.networks[i-1], x.networks[i]; a.Prefix.Overlaps(b.Prefix) {
			wrong("network %q: %v overlaps %v of network %q", b.Name, b.Prefix, a.Prefix, a.Name)
		}
	}
	slices.SortFunc(x.pools, func(a, b *pool) int { return a.first.Compare(b.first) })
	for i := 1; i < len(x.pools); i++ {
		if a, b := x.pools[i-1], x.pools[i]; b.first.Compare(a.last) <= 0 {
			wrong("network %q: pool %v-%v overlaps pool %v-%v", b.network.Name, b.first, b.last, a.first, a.last)
		}
	}
	for _, n := range x.networks {
		n.wire = []*network{n}
		for _, o := range x.networks {
			if o != n && n.SharedNetwork != "" && o.SharedNetwork == n.SharedNetwork {
				n.wire = append(n.wire, o)
			}
		}
		if n.Interface != "" {
			x.interfaces[n.Interface] = append(x.interfaces[n.Interface], n)
		}
	}
	x.measure()
	return x, errors.Join(errs...)
}

func (x *index) addNetwork(n Network, wrong func(string, ...any)) {
	if !n.Prefix.IsValid() || n.Prefix != n.Prefix.Masked() {
		wrong("network %q: prefix %v: expected the first address of a subnet and its length", n.Name, n.Prefix)
		return
	}
	if n.LeaseTime < time.Second {
		wrong("network %q: lease time %v: expected a second or more", n.Name, n.LeaseTime)
	}
	for _, t := range []struct {
		what string
		d    time.Duration
	}{
		{"lease time", n.LeaseTime}, {"least lease time", n.MinLeaseTime},
		{"greatest lease time", n.MaxLeaseTime}, {"decline time", n.DeclineTime},
	} {
		if t.d < 0 || t.d > Infinite {
			wrong("network %q: %s %v: expected 0 to %v", n.Name, t.what, t.d, Infinite)
		}
	}
	n.MinLeaseTime = cmp.Or(n.MinLeaseTime, n.LeaseTime)
	n.MaxLeaseTime = cmp.Or(n.MaxLeaseTime, n.LeaseTime)
	n.DeclineTime = cmp.Or(n.DeclineTime, DefaultDeclineTime)
	if n.MinLeaseTime > n.MaxLeaseTime {
		wrong("network %q: least lease time %v is over the greatest, %v", n.Name, n.MinLeaseTime, n.MaxLeaseTime)
	}
	nw := &network{Network: n}
	x.takes = x.takes || nw.takes()
	for _, p := range n.Pools {
		if !n.Prefix.Contains(p.First) || !n.Prefix.Contains(p.Last) || p.Last.Less(p.First) {
			wrong("network %q: pool %v-%v: expected a range of addresses inside %v", n.Name, p.First, p.Last, n.Prefix)
			continue
		}
		if p.Clients > UnknownClients {
			wrong("network %q: pool %v-%v: clients %d: expected %d to %d", n.Name, p.First, p.Last, p.Clients, AnyClient, UnknownClients)
		}
		nw.pools = append(nw.pools, newPool(nw, p))
	}
	x.pools = append(x.pools, nw.pools...)
	x.networks = append(x.networks, nw)
}

func (x *index) addReservation(r Reservation, wrong func(string, ...any)) {
	r.Hostname = canonical(r.Hostname)
	r.Addresses = slices.Clone(r.Addresses)
	for _, t := range []struct{ what, text string }{{"name", r.Device}, {"host name", r.Hostname}} {
		if len(t.text) > math.MaxUint8 {
			wrong("device %.40q: %s of %d octets: expected at most %d", r.Device, t.what, len(t.text), math.MaxUint8)
		}
	}
	if r.Hostname != "" {
		x.hostnames[r.Hostname] = struct{}{}
		x.published[r.Hostname] = x.published[r.Hostname] || r.Publish
	}
	for _, h := range r.HardwareAddresses {
		if o := x.hardware[h]; o != nil {
			wrong("device %q: hardware address %x is also that of device %q", r.Device, h.Addr, o.Device)
		}
		x.hardware[h] = &r
	}
	for _, id := range r.ClientIdentifiers {
		if o := x.identifiers[id]; o != nil {
			wrong("device %q: client identifier %x is also that of device %q", r.Device, id, o.Device)
		}
		x.identifiers[id] = &r
	}
	if at := (relayPort{r.CircuitID, r.RemoteID}); at != (relayPort{}) {
		if o := x.relayPorts[at]; o != nil {
			wrong("device %q: circuit id %x and remote id %x are also those of device %q", r.Device, at.circuit, at.remote, o.Device)
		}
		x.relayPorts[at] = &r
		x.devices[r.Device] = &r
		x.weak[r.Hostname] = true
	}
	for _, name := range r.Names {
		if cleanLabel(name) != name || name == "" {
			wrong("device %q: host name %q: expected one label in lower case", r.Device, name)
		}
		if len(r.HardwareAddresses) > 0 || len(r.ClientIdentifiers) > 0 {
			continue
		}
		if o := x.names[name]; o != nil {
			wrong("device %q: host name %q is also that of device %q", r.Device, name, o.Device)
		}
		x.names[name] = &r
		x.weak[r.Hostname] = true
		x.devices[r.Device] = &r
	}
	if len(r.Addresses) == 0 {
		x.homeless++
	}
	for _, a := range r.Addresses {
		if o := x.reserved[a]; o != nil {
			wrong("device %q: address %v is also that of device %q", r.Device, a, o.Device)
		}
		x.reserved[a] = &r
	}
}

// networkOf is the network that an address is in, or nil.
func (x *index) networkOf(a netip.Addr) *network {
	i, found := slices.BinarySearchFunc(x.networks, a, func(n *network, a netip.Addr) int { return n.Prefix.Addr().Compare(a) })
	if !found {
		i--
	}
	if i < 0 || !x.networks[i].Prefix.Contains(a) {
		return nil
	}
	return x.networks[i]
}

// poolOf is the pool that an address is in, or nil.
func (x *index) poolOf(a netip.Addr) *pool {
	i, found := slices.BinarySearchFunc(x.pools, a, func(p *pool, a netip.Addr) int { return p.first.Compare(a) })
	if !found {
		i--
	}
	if i < 0 || x.pools[i].last.Less(a) {
		return nil
	}
	return x.pools[i]
}

// reservation is that of the device which the client itself tells, or nil: hardware address first, then identifier.
func (x *index) reservation(c Client) *Reservation {
	if r := x.hardware[HardwareAddress{c.HardwareType, c.HardwareAddr}]; r != nil && c.HardwareAddr != "" {
		return r
	}
	if c.Identifier == "" {
		return nil
	}
	return x.identifiers[c.Identifier]
}

// permitted says whether the configuration lets the asker have the address at all.
func (x *index) permitted(a netip.Addr, w *asker) bool {
	if owner := x.reserved[a]; owner != nil {
		return owner == w.reservation
	}
	p := x.poolOf(a)
	return p != nil && !x.withheld(a) && p.admits(w)
}

// withheld says whether an address is kept out of its pool: reserved or excluded.
func (x *index) withheld(a netip.Addr) bool {
	if _, ok := x.excluded[a]; ok {
		return true
	}
	return x.reserved[a] != nil
}

// linked are the networks of the client's wire, the one that the first link is in first.
func (x *index) linked(q *Query) []*network {
	var nets []*network
	add := func(n *network) {
		switch {
		case n == nil || slices.Contains(nets, n):
		case nets == nil:
			nets = n.wire
		default:
			nets = append(slices.Clip(nets), n.wire...)
		}
	}
	if !q.Relayed {
		for _, n := range x.interfaces[q.Interface] {
			add(n)
		}
	}
	for _, a := range q.Links {
		add(x.networkOf(a))
	}
	return nets
}

// leaseTime is the time to give to a client that asks for one, zero if it does not.
func (n *network) leaseTime(asked time.Duration) time.Duration {
	if asked <= 0 {
		return n.LeaseTime
	}
	return min(max(asked, n.MinLeaseTime), n.MaxLeaseTime).Round(time.Second)
}

// claimsAs says whether the names that are somebody's by the site file are the same in another index, and whose they are.
func (x *index) claimsAs(o *index) bool {
	same := func(a, b *Reservation) bool { return b != nil && a.Hostname == b.Hostname }
	return maps.Equal(x.hostnames, o.hostnames) && maps.Equal(x.weak, o.weak) &&
		maps.EqualFunc(x.hardware, o.hardware, same) && maps.EqualFunc(x.identifiers, o.identifiers, same)
}

// renamed are the networks whose names are put into DNS in another way than in o.
func (x *index) renamed(o *index) map[*network]bool {
	again := map[*network]bool{}
	for _, n := range x.networks {
		if was := o.networkOf(n.Prefix.Addr()); was == nil || was.Prefix != n.Prefix || was.DDNS != n.DDNS || was.Names != n.Names {
			again[n] = true
		}
	}
	return again
}
