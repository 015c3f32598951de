package site

import (
	"maps"
	"net/netip"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// OptionsFor returns the options for a client on network n: those of the site, overridden by those of the classes in their order, of the
// network and of the device; and, unless one of them sets it, what follows from the network: subnet mask (1), broadcast address
// (28) and domain name (15). n and d may be nil. The result is the caller's.
func (s *Site) OptionsFor(n *Network, d *Device, classes ...*Class) Options {
	o := Options{Values: make(dhcpopt.Set, len(s.Options.Values)+8)}
	o.override(&s.Options)
	for _, c := range classes {
		o.override(&c.Options)
	}
	if n != nil {
		o.override(&n.Options)
	}
	if d != nil {
		o.override(&d.Options)
	}
	if n != nil {
		o.derive(codeSubnetMask, netMask(n.Prefix))
		if hasEnds(n.Prefix) {
			o.derive(codeBroadcast, lastAddress(n.Prefix).AsSlice())
		}
		o.derive(codeDomainName, []byte(strings.TrimSuffix(s.Domain, ".")))
	}
	return o
}

// override puts over's options over o's. Time servers replace each other as a whole, whether they are addresses or names, and so do the
// ways to say the time zone: a mixture of two levels would contradict itself.
func (o *Options) override(over *Options) {
	if over.TimeServers != nil {
		delete(o.Values, codeNTPServers)
		o.TimeServers = over.TimeServers
	}
	if over.TimeZone != nil || hasTime(over.Values) {
		for _, code := range codesOfTime {
			delete(o.Values, code)
		}
		o.TimeZone, o.posix = over.TimeZone, over.posix
	}
	maps.Copy(o.Values, over.Values)
}

func hasTime(values dhcpopt.Set) bool {
	for _, code := range codesOfTime {
		if _, ok := values[code]; ok {
			return true
		}
	}
	return false
}

// derive sets an option that no level of the file sets.
func (o *Options) derive(code dhcpopt.Code, value []byte) {
	if _, ok := o.Values[code]; !ok {
		o.Values[code] = value
	}
}

// netMask returns the mask of the IPv4 network p as an option holds it.
func netMask(p netip.Prefix) []byte {
	m := ^uint32(0) << (32 - p.Bits())
	return []byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}
}
