package dhcpopt

import (
	"net/netip"
	"slices"
	"strings"
)

// splitRoute splits "DESTINATION via ROUTER".
func splitRoute(v string) (destination string, router netip.Addr, ok bool) {
	f := strings.Fields(v)
	if len(f) != 3 || f[1] != "via" {
		return "", netip.Addr{}, false
	}
	router, err := netip.ParseAddr(f[2])
	return f[0], router, err == nil && router.Is4()
}

// appendRoute appends a host route as destination and router. The default route is not allowed here (RFC 2132 section 5.8).
func appendRoute(b []byte, v, expected string) ([]byte, string) {
	destination, router, ok := splitRoute(v)
	if !ok || router.IsUnspecified() {
		return nil, expected
	}
	host, err := netip.ParseAddr(destination)
	if err != nil || !host.Is4() || host.IsUnspecified() {
		return nil, expected + " (routes to networks: classless-static-route; the default route: routers)"
	}
	return appendPair(b, host, router), ""
}

// appendClasslessRoute appends prefix length, the significant octets of the prefix, and the router, which is 0.0.0.0 for what is
// reached on the link itself (RFC 3442).
func appendClasslessRoute(b []byte, v, expected string) ([]byte, string) {
	destination, router, ok := splitRoute(v)
	if !ok {
		return nil, expected
	}
	prefix := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if destination != "default" {
		var err error
		prefix, err = netip.ParsePrefix(destination)
		if err != nil || !prefix.Addr().Is4() {
			return nil, expected
		}
		if prefix != prefix.Masked() {
			return nil, "the network's own address: " + prefix.Masked().String()
		}
	}
	octets := prefix.Addr().As4()
	b = append(b, byte(prefix.Bits()))
	b = append(b, octets[:(prefix.Bits()+7)/8]...)
	return append(b, router.AsSlice()...), ""
}

// WithDefaultRoute returns the classless routes of an option 121 with a default route by the first of the routers of an option 3 behind them,
// unless they have a default route or there is no router. Neither is modified.
func WithDefaultRoute(routes, routers []byte) []byte {
	list, ok := readClasslessRoutes(routes)
	if !ok || len(routers) < 4 || slices.ContainsFunc(list, func(r classlessRoute) bool { return r.prefix.Bits() == 0 }) {
		return routes
	}
	return append(append(slices.Clip(routes), 0), routers[:4]...)
}

// classlessRoute is one element of option 121.
type classlessRoute struct {
	prefix netip.Prefix
	router netip.Addr
}

func (r classlessRoute) String() string {
	if r.prefix.Bits() == 0 {
		return "default via " + r.router.String()
	}
	return r.prefix.String() + " via " + r.router.String()
}

func readClasslessRoutes(data []byte) ([]classlessRoute, bool) {
	var routes []classlessRoute
	for len(data) > 0 {
		bits := int(data[0])
		n := (bits + 7) / 8
		if bits > 32 || len(data) < 1+n+4 {
			return nil, false
		}
		var prefix, router [4]byte
		copy(prefix[:], data[1:1+n])
		copy(router[:], data[1+n:])
		routes = append(routes, classlessRoute{netip.PrefixFrom(netip.AddrFrom4(prefix), bits).Masked(), netip.AddrFrom4(router)})
		data = data[1+n+4:]
	}
	return routes, routes != nil
}
