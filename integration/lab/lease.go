//go:build linux

package lab

import (
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// A Lease is what a DHCP client was given, as the client itself reports it.
type Lease struct {
	Address    netip.Addr    `json:"address"`
	Bits       int           `json:"bits"` // length of the network's prefix
	Broadcast  netip.Addr    `json:"broadcast"`
	Routers    []netip.Addr  `json:"routers"`
	Routes     []Route       `json:"routes,omitempty"` // option 121, as dhclient was asked to take it
	DNS        []netip.Addr  `json:"dns"`
	NTP        []netip.Addr  `json:"ntp"`
	Domain     string        `json:"domain"`
	Hostname   string        `json:"hostname"`
	TimeOffset time.Duration `json:"time-offset"` // of local time from UTC, option 2
	Duration   time.Duration `json:"duration"`
	MTU        int           `json:"mtu"` // 0: not given
	ServerID   netip.Addr    `json:"server-id"`
}

// A Route is one of the classless routes that a client was given.
type Route struct {
	To     netip.Prefix `json:"to"`
	Router netip.Addr   `json:"router"`
}

// Prefix is the address with its network's length.
func (l Lease) Prefix() netip.Prefix { return netip.PrefixFrom(l.Address, l.Bits) }

// wanted are the options that a lab's clients ask for: those of DICOM PS3.15
// table F.1-2 that every client program can report.
var wanted = []dhcpv4.OptionCode{
	dhcpv4.OptionSubnetMask,
	dhcpv4.OptionBroadcastAddress,
	dhcpv4.OptionTimeOffset,
	dhcpv4.OptionRouter,
	dhcpv4.OptionDomainName,
	dhcpv4.OptionDomainNameServer,
	dhcpv4.OptionHostName,
	dhcpv4.OptionNTPServers,
	dhcpv4.OptionInterfaceMTU,
}

// leaseOf reads a lease out of an ACK.
func leaseOf(ack *dhcpv4.DHCPv4) Lease {
	bits, _ := ack.SubnetMask().Size()
	l := Lease{
		Address:  address(ack.YourIPAddr),
		Bits:     bits,
		Domain:   ack.DomainName(),
		Hostname: ack.HostName(),
		Duration: ack.IPAddressLeaseTime(0),
		ServerID: address(ack.ServerIdentifier()),
		Routers:  addresses(ack.Router()),
		DNS:      addresses(ack.DNS()),
		NTP:      addresses(ack.NTPServers()),
	}
	l.Broadcast = address(ack.BroadcastAddress())
	if v := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(v) == 2 {
		l.MTU = int(v[0])<<8 | int(v[1])
	}
	if v := ack.Options.Get(dhcpv4.OptionTimeOffset); len(v) == 4 {
		seconds := int32(uint32(v[0])<<24 | uint32(v[1])<<16 | uint32(v[2])<<8 | uint32(v[3]))
		l.TimeOffset = time.Duration(seconds) * time.Second
	}
	return l
}

// address converts an IPv4 address; anything else becomes the zero Addr.
func address(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func addresses[T ~[]byte](ips []T) []netip.Addr {
	var as []netip.Addr
	for _, ip := range ips {
		if a := address(ip); a.IsValid() {
			as = append(as, a)
		}
	}
	return as
}
