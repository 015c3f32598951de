package leases

import (
	"net"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// query reduces a message to what decides on its answer.
func query(x *server.Exchange) lease.Query {
	r := x.Request
	links, giaddr := x.Addresses, address(r.GatewayIPAddr)
	if giaddr.IsValid() {
		links = []netip.Addr{giaddr}
	}
	return lease.Query{
		Client: lease.Client{
			HardwareType: uint8(r.HWType),
			HardwareAddr: string(r.ClientHWAddr),
			Identifier:   string(r.Options.Get(dhcpv4.OptionClientIdentifier)),
		},
		Interface:      x.Interface,
		Links:          links,
		Relayed:        giaddr.IsValid(),
		ServerID:       x.ServerID,
		SelectedServer: address(r.ServerIdentifier()),
		Requested:      address(r.RequestedIPAddress()),
		ClientAddr:     address(r.ClientIPAddr),
		LeaseTime:      r.IPAddressLeaseTime(0),
		Hostname:       hostname(r),
	}
}

// address is the zero Addr for a field or option that is absent or 0.0.0.0.
func address(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// hostname is the first label of the name that the client gave itself, in lower
// case: of option 81 (RFC 4702) if it sent one, else of option 12; "" if that is
// not a host name (RFC 1123 section 2.1).
func hostname(r *dhcpv4.DHCPv4) string {
	name := r.HostName()
	if fqdn := r.Options.Get(dhcpv4.OptionFQDN); len(fqdn) > 3 {
		name = fqdnName(fqdn)
	}
	label, _, _ := strings.Cut(strings.ToLower(strings.TrimRight(name, "\x00")), ".")
	if !isHostLabel(label) {
		return ""
	}
	return label
}

// fqdnName reads the name of option 81: flags, two RCODEs, then the name in wire
// form where the E flag (4) is set, else in ASCII (RFC 4702 section 2.3).
func fqdnName(data []byte) string {
	flags, name := data[0], data[3:]
	if flags&4 == 0 {
		return string(name)
	}
	// A partial name has no root label (RFC 4702 section 2.3.1).
	if s, _, err := dns.UnpackDomainName(append(name[:len(name):len(name)], 0), 0); err == nil {
		return s
	}
	return ""
}

func isHostLabel(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
