package leases

import (
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
	links, relayed := links(x)
	return lease.Query{
		Client: lease.Client{
			HardwareType: uint8(r.HWType),
			HardwareAddr: string(r.ClientHWAddr),
			Identifier:   string(r.Options.Get(dhcpv4.OptionClientIdentifier)),
		},
		Interface:      x.Interface,
		Links:          links,
		Relayed:        relayed,
		ServerID:       x.ServerID,
		SelectedServer: server.Address(r.ServerIdentifier()),
		Requested:      server.Address(r.RequestedIPAddress()),
		ClientAddr:     server.Address(r.ClientIPAddr),
		LeaseTime:      r.IPAddressLeaseTime(0),
		Hostname:       hostname(r),
	}
}

// links is where the client is: on the link that the relay selected (RFC 3527), or
// else the relay's own, or else that of the interface.
func links(x *server.Exchange) (addresses []netip.Addr, relayed bool) {
	giaddr := server.Address(x.Request.GatewayIPAddr)
	if !giaddr.IsValid() {
		return x.Addresses, false
	}
	if agent := x.Request.RelayAgentInfo(); agent != nil {
		if selected := server.Address(agent.Get(dhcpv4.LinkSelectionSubOption)); selected.IsValid() {
			return []netip.Addr{selected}, true
		}
	}
	return []netip.Addr{giaddr}, true
}

// hostname is the first label of the name that the client gave itself, in lower
// case: of option 81 (RFC 4702) if it sent one, else of option 12; "" if that is
// not a host name (RFC 1123 section 2.1).
func hostname(r *dhcpv4.DHCPv4) string {
	name := r.HostName()
	if fqdn := r.Options.Get(dhcpv4.OptionFQDN); fqdn != nil {
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
	if len(data) < 3 {
		return ""
	}
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
