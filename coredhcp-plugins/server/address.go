package server

import (
	"net"
	"net/netip"
)

// Address converts an address of the DHCP library. The zero Addr stands for
// 0.0.0.0, for none, and for what is not an IPv4 address.
func Address(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
