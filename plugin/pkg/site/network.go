package site

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

// maxNameText bounds the names of networks, classes, devices and clusters, in characters.
const maxNameText = 64

var networkKeys = []string{
	"name", "subnet", "pools", "shared-network", "interface", "lease-time", "min-lease-time", "max-lease-time", "decline-time",
	"authoritative", "probe", "publish", "ddns", "options",
}

func (p *parser) network(n *yaml.Node) {
	f, ok := p.Mapping(n, "a network", networkKeys)
	if !ok {
		return
	}
	f.Require("a network", "name", "subnet")
	net := Network{
		Position:      position(n),
		Name:          f.Text("name", maxNameText),
		Prefix:        p.subnet(f),
		SharedNetwork: f.Text("shared-network", maxNameText),
		Interface:     p.interfaceName(f),
		DeclineTime:   p.duration(f, "decline-time", DefaultDeclineTime, false),
		Authoritative: f.Bool("authoritative", false),
		Probe:         Probe(f.Choice("probe", probeNames, 0)),
		Publish:       Publish(f.Choice("publish", publishNames, 0)),
		DDNS:          p.ddns(f.Get("ddns")),
		Options:       p.options(f, false),
	}
	p.claim(p.claims.networks, f, "name", net.Name, "network")
	p.leaseTimes(f, &net)
	f.List("pools", "a list of pools", func(n *yaml.Node) { p.pool(n, &net) })
	p.site.Networks = append(p.site.Networks, net)
}

func (p *parser) subnet(f *strictyaml.Fields) netip.Prefix {
	n := f.Get("subnet")
	if n == nil {
		return netip.Prefix{}
	}
	const expected = "an IPv4 network such as 192.0.2.0/24"
	v, ok := p.Scalar(n, "subnet", expected)
	if !ok {
		return netip.Prefix{}
	}
	prefix, err := netip.ParsePrefix(v)
	switch {
	case err != nil || !prefix.Addr().Is4():
		p.Expected(n, "subnet", expected)
	case prefix != prefix.Masked():
		p.Expected(n, "subnet", "the network's own address: "+prefix.Masked().String())
	case prefix.Bits() < 8:
		p.Expected(n, "subnet", "a network with a prefix length of at least 8")
	case prefix.Addr().IsMulticast() || prefix.Addr().IsLoopback() || prefix.Addr().As4()[0] == 0 || prefix.Addr().As4()[0] >= 240:
		p.Expected(n, "subnet", "a network of addresses that hosts can have")
	default:
		return prefix
	}
	return netip.Prefix{}
}

// interfaceName reads the name of a network interface, which Linux bounds to 15 octets.
func (p *parser) interfaceName(f *strictyaml.Fields) string {
	name := f.Text("interface", 15)
	if strings.ContainsAny(name, " /") || name == "." || name == ".." {
		p.Expected(f.Get("interface"), "interface", "the name of a network interface such as eth0")
		return ""
	}
	return name
}

// leaseTimes reads the three lease times. What is not given follows from the default lease time and from those that are.
func (p *parser) leaseTimes(f *strictyaml.Fields, net *Network) {
	shortest := p.duration(f, "min-lease-time", 0, true)
	longest := p.duration(f, "max-lease-time", 0, true)
	lease := p.duration(f, "lease-time", 0, true)
	for _, key := range []string{"lease-time", "min-lease-time", "max-lease-time", "decline-time"} {
		p.wantUnit(f, key)
	}
	if lease == 0 {
		lease = max(DefaultLeaseTime, shortest)
		if longest != 0 {
			lease = min(lease, max(longest, shortest))
		}
	}
	net.LeaseTime, net.MinLeaseTime, net.MaxLeaseTime = lease, cmp.Or(shortest, lease), cmp.Or(longest, lease)
	if shortest != 0 && longest != 0 && shortest > longest {
		p.Expected(f.Get("min-lease-time"), "min-lease-time", "at most max-lease-time, which is "+f.Get("max-lease-time").Value)
		return
	}
	if shortest > lease {
		p.Expected(f.Get("lease-time"), "lease-time", "at least min-lease-time, which is "+f.Get("min-lease-time").Value)
	}
	if longest != 0 && longest < lease {
		p.Expected(f.Get("lease-time"), "lease-time", "at most max-lease-time, which is "+f.Get("max-lease-time").Value)
	}
}

var ddnsKeys = []string{"mode", "forward", "reverse"}

func (p *parser) ddns(n *yaml.Node) DDNS {
	if n == nil {
		return DDNS{}
	}
	f, ok := p.Mapping(n, "ddns", ddnsKeys)
	if !ok {
		return DDNS{}
	}
	return DDNS{
		Mode:    DDNSMode(f.Choice("mode", ddnsModeNames, 0)),
		Forward: p.ddnsScope(f, "forward"),
		Reverse: p.ddnsScope(f, "reverse"),
	}
}

// ddnsScope reads a scope; true and false are understood as all and none.
func (p *parser) ddnsScope(f *strictyaml.Fields, key string) DDNSScope {
	if n := f.Get(key); n != nil && n.Kind == yaml.ScalarNode {
		switch n.Value {
		case "true":
			return DDNSAll
		case "false":
			return DDNSNone
		}
	}
	return DDNSScope(f.Choice(key, ddnsScopeNames, 0))
}

var poolKeys = []string{"range", "class", "clients"}

func (p *parser) pool(n *yaml.Node, net *Network) {
	pool, at := Pool{}, n
	if n.Kind == yaml.MappingNode {
		f, ok := p.Mapping(n, "a pool", poolKeys)
		if !ok {
			return
		}
		f.Require("a pool", "range")
		at = f.Get("range")
		pool.Class = f.Text("class", maxNameText)
		pool.Clients = Clients(f.Choice("clients", clientsNames, 0))
		if pool.Class != "" {
			p.knownClass(f.Get("class"), pool.Class)
		}
		if at == nil {
			return
		}
	}
	if !p.poolRange(at, &pool) || !net.Prefix.IsValid() {
		return
	}
	if p.poolInside(at, pool, net) {
		p.claims.pools = append(p.claims.pools, placedPool{pool, net.Name, position(at)})
		net.Pools = append(net.Pools, pool)
	}
}

func (p *parser) knownClass(n *yaml.Node, name string) {
	if _, ok := p.claims.classes[name]; ok {
		return
	}
	if near := p.Nearest(name, slices.Sorted(maps.Keys(p.claims.classes))); near != "" {
		p.Errorf(n, "class: found %s, which is not among the classes; did you mean %q?", strictyaml.Quote(name), near)
		return
	}
	p.Errorf(n, "class: found %s, expected the name of one of the classes of this file", strictyaml.Quote(name))
}

// poolRange reads FIRST-LAST, or one address.
func (p *parser) poolRange(n *yaml.Node, pool *Pool) bool {
	const expected = "a range of addresses such as 192.0.2.100-192.0.2.199"
	v, ok := p.Scalar(n, "pool", expected)
	if !ok {
		return false
	}
	first, last, found := strings.Cut(v, "-")
	if !found {
		last = first
	}
	a, err1 := netip.ParseAddr(strings.TrimSpace(first))
	b, err2 := netip.ParseAddr(strings.TrimSpace(last))
	switch {
	case err1 != nil || err2 != nil || !a.Is4() || !b.Is4():
		p.Expected(n, "pool", expected)
		return false
	case b.Less(a):
		p.Expected(n, "pool", "the smaller address first: "+b.String()+"-"+a.String())
		return false
	}
	pool.First, pool.Last = a, b
	return true
}

func (p *parser) poolInside(n *yaml.Node, pool Pool, net *Network) bool {
	switch {
	case !net.Prefix.Contains(pool.First) || !net.Prefix.Contains(pool.Last):
		p.Expected(n, "pool", "addresses inside the subnet "+net.Prefix.String())
	case hasEnds(net.Prefix) && pool.First == net.Prefix.Addr():
		p.Expected(n, "pool", "a range without the network address "+pool.First.String())
	case hasEnds(net.Prefix) && pool.Last == lastAddress(net.Prefix):
		p.Expected(n, "pool", "a range without the broadcast address "+pool.Last.String())
	default:
		return true
	}
	return false
}

// String returns the range as the site file writes it.
func (p Pool) String() string {
	if p.First == p.Last {
		return p.First.String()
	}
	return p.First.String() + "-" + p.Last.String()
}

// hasEnds reports whether the first and the last address of the IPv4 network p are no hosts' (RFC 3021: in a /31 both are).
func hasEnds(p netip.Prefix) bool { return p.Bits() < 31 }

// lastAddress returns the last address of the IPv4 network p.
func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | uint32(1<<(32-p.Bits())-1)
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}

// placedPool is a pool and where it stands.
type placedPool struct {
	Pool
	network string
	Position
}

// checkNetworks refuses networks and pools that overlap, and wires that end in two interfaces.
func (p *parser) checkNetworks() {
	order := make([]*Network, 0, len(p.site.Networks))
	wires := make(map[string]*Network)
	for i := range p.site.Networks {
		n := &p.site.Networks[i]
		if n.Prefix.IsValid() {
			order = append(order, n)
		}
		if n.SharedNetwork == "" || n.Interface == "" {
			continue
		}
		if first := wires[n.SharedNetwork]; first == nil {
			wires[n.SharedNetwork] = n
		} else if first.Interface != n.Interface {
			p.errorAt(n.Position, "network %q is on the interface %s, but network %q in line %d, of the same shared network, is on %s",
				n.Name, n.Interface, first.Name, first.Line, first.Interface)
		}
	}
	slices.SortStableFunc(order, func(a, b *Network) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	for i, last := 1, 0; i < len(order); i++ {
		if !order[last].Prefix.Overlaps(order[i].Prefix) {
			last = i
			continue
		}
		first, second := order[last], order[i]
		if second.Line < first.Line {
			first, second = second, first
		}
		p.errorAt(second.Position, "network %q: the subnet %s overlaps %s of network %q in line %d",
			second.Name, second.Prefix, first.Prefix, first.Name, first.Line)
	}
	p.checkRouters()
	p.checkPools()
}

// checkRouters warns of a network whose own router no client of it can reach.
func (p *parser) checkRouters() {
	routers, _ := dhcpopt.ByCode(codeRouters)
	for i := range p.site.Networks {
		n := &p.site.Networks[i]
		for _, router := range routers.Addresses(n.Options.Values[codeRouters]) {
			if n.Prefix.IsValid() && !p.onWire(n, router) {
				p.warnings.add(Problem{p.file, n.Position, fmt.Sprintf("network %q: the router %s is not inside the subnet %s", n.Name, router, n.Prefix)})
			}
		}
	}
}

// onWire reports whether a is in the subnet of n, or in one that shares its wire.
func (p *parser) onWire(n *Network, a netip.Addr) bool {
	if n.Prefix.Contains(a) || n.SharedNetwork == "" {
		return n.Prefix.Contains(a)
	}
	for i := range p.site.Networks {
		if other := &p.site.Networks[i]; other.SharedNetwork == n.SharedNetwork && other.Prefix.Contains(a) {
			return true
		}
	}
	return false
}

func (p *parser) checkPools() {
	pools := p.claims.pools
	slices.SortStableFunc(pools, func(a, b placedPool) int { return a.First.Compare(b.First) })
	for i, last := 1, 0; i < len(pools); i++ {
		if pools[last].Last.Less(pools[i].First) {
			last = i
			continue
		}
		first, second := pools[last], pools[i]
		if second.Line < first.Line || second.Line == first.Line && second.Column < first.Column {
			first, second = second, first
		}
		p.errorAt(second.Position, "pool: %s overlaps %s in line %d", second.Pool, first.Pool, first.Line)
		if pools[last].Last.Less(pools[i].Last) {
			last = i
		}
	}
}
