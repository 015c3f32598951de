package site

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"strings"
	"sync"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// OptionsFor returns the options for a client on network n: those of the site, overridden by those of the classes in their order, of the
// network and of the device; and, unless one of them sets it, what follows from the network: subnet mask (1), broadcast address
// (28) and domain name (15). The routes of option 121 get the first of the routers as default route, unless they have one: a client that
// takes 121 uses no router of option 3 (RFC 3442). n and d may be nil. The result is shared and must not be changed.
func (s *Site) OptionsFor(n *Network, d *Device, classes ...*Class) *Options {
	if d != nil && d.Options.empty() {
		d = nil // which most devices are to this
	}
	var places [8]byte // of the classes, in few octets for few classes
	key := places[:0]
	for _, c := range classes {
		key = binary.AppendUvarint(key, uint64(c.place))
	}
	cache := s.index.options
	cache.mu.RLock()
	o := cache.merged[optionsKey{n, d, string(key)}]
	cache.mu.RUnlock()
	if o != nil {
		return o
	}
	o = s.merge(n, d, classes)
	cache.mu.Lock()
	defer cache.mu.Unlock()
	if len(cache.merged) < maxMerged {
		cache.merged[optionsKey{n, d, string(key)}] = o
	}
	return o
}

// maxMerged bounds the options that are kept merged, some KiB each; clients choose by their marks which combinations of classes there are.
const maxMerged = 4096

// mergedOptions are the results of OptionsFor: most clients of a network get the same.
type mergedOptions struct {
	mu     sync.RWMutex
	merged map[optionsKey]*Options
}

type optionsKey struct {
	network *Network
	device  *Device
	classes string // their places, each as a varint
}

func (s *Site) merge(n *Network, d *Device, classes []*Class) *Options {
	o := &Options{Values: make(dhcpopt.Set, len(s.Options.Values)+8)}
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
	if routes, ok := o.Values[codeClasslessRoutes]; ok {
		o.Values[codeClasslessRoutes] = dhcpopt.WithDefaultRoute(routes, o.Values[codeRouters])
	}
	o.encoded = o.encode()
	return o
}

// empty reports whether no option is set.
func (o *Options) empty() bool {
	return len(o.Values) == 0 && o.TimeServers == nil && o.TimeZone == nil
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
