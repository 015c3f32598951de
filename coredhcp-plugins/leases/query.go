package leases

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// ipsecTunnel is the hardware type of clients that ask through an IPsec tunnel
// (RFC 3456 section 4.1). Their hardware address means nothing.
const ipsecTunnel = 31

// query reduces a message to what decides on its answer.
func query(x *server.Exchange, marks *site.Marks, classes []*site.Class, name *naming) lease.Query {
	r := x.Request
	links, selected := links(r, x.Addresses)
	q := lease.Query{
		Client:         clientOf(r),
		Interface:      x.Interface,
		Links:          links,
		Relayed:        selected,
		Broadcast:      x.Broadcast,
		ServerID:       x.ServerID,
		SelectedServer: server.Address(r.ServerIdentifier()),
		Requested:      server.Address(r.RequestedIPAddress()),
		ClientAddr:     server.Address(r.ClientIPAddr),
		LeaseTime:      r.IPAddressLeaseTime(0),
		Hostname:       name.label,
		NoNames:        name.fqdn && name.flags&noUpdates != 0,
		CircuitID:      marks.CircuitID,
		RemoteID:       marks.RemoteID,
		Port:           port(x, marks),
	}
	for _, c := range classes {
		q.Classes = append(q.Classes, c.Name)
	}
	return q
}

func clientOf(r *dhcpv4.DHCPv4) lease.Client {
	c := lease.Client{
		HardwareType: uint8(r.HWType),
		HardwareAddr: string(r.ClientHWAddr),
		Identifier:   string(r.Options.Get(dhcpv4.OptionClientIdentifier)),
	}
	if c.HardwareType == ipsecTunnel {
		c.HardwareAddr = ""
	}
	return c
}

// links is where the client is: on the link that the relay selected (RFC 3527),
// else on the subnet that the message selects (RFC 3011), else on the relay's own,
// else on that of the interface. told says that the message told it.
func links(r *dhcpv4.DHCPv4, here []netip.Addr) (addresses []netip.Addr, told bool) {
	giaddr := server.Address(r.GatewayIPAddr)
	if giaddr.IsValid() {
		if a := server.Address(subOption(r, dhcpv4.LinkSelectionSubOption.Code())); a.IsValid() {
			return []netip.Addr{a}, true
		}
	}
	if a := server.Address(r.Options.Get(dhcpv4.OptionSubnetSelection)); a.IsValid() {
		return []netip.Addr{a}, true
	}
	if giaddr.IsValid() {
		return []netip.Addr{giaddr}, true
	}
	return here, false
}

// port is where the client is as far as the network tells: what bounds strangers
// who would take every address. A switch may say it (option 82) without being a
// relay.
func port(x *server.Exchange, marks *site.Marks) string {
	at := x.Interface
	if giaddr := server.Address(x.Request.GatewayIPAddr); giaddr.IsValid() {
		at = giaddr.String()
	}
	if marks.CircuitID == "" && marks.RemoteID == "" {
		return at
	}
	// The length keeps ("a", "bc") and ("ab", "c") apart.
	return at + " " + strconv.Itoa(len(marks.CircuitID)) + " " + marks.CircuitID + marks.RemoteID
}

// marksOf reads what classes are recognised by.
func marksOf(r *dhcpv4.DHCPv4) site.Marks {
	m := site.Marks{
		HardwareType: uint8(r.HWType),
		UserClasses:  userClasses(r.Options.Get(dhcpv4.OptionUserClassInformation)),
		VendorClass:  strings.TrimRight(string(r.Options.Get(dhcpv4.OptionClassIdentifier)), "\x00"),
	}
	if r.Options.Has(dhcpv4.OptionRelayAgentInformation) {
		m.CircuitID = string(subOption(r, dhcpv4.AgentCircuitIDSubOption.Code()))
		m.RemoteID = string(subOption(r, dhcpv4.AgentRemoteIDSubOption.Code()))
	}
	return m
}

// subOption is the value of a sub-option of option 82, nil if it is not there or
// the option is malformed (RFC 3046 section 2.0).
func subOption(r *dhcpv4.DHCPv4, code uint8) []byte {
	for b := r.Options.Get(dhcpv4.OptionRelayAgentInformation); len(b) >= 2; {
		n := int(b[1])
		if 2+n > len(b) {
			return nil
		}
		if b[0] == code {
			return b[2 : 2+n]
		}
		b = b[2+n:]
	}
	return nil
}

// userClasses reads option 77: a list of values, each after its length (RFC 3004
// section 4). Many clients send one value without its length instead, which is
// then taken as it is.
func userClasses(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	var list []string
	for b := data; len(b) > 0; {
		n := int(b[0])
		if n == 0 || 1+n > len(b) {
			return []string{strings.TrimRight(string(data), "\x00")}
		}
		list = append(list, string(b[1:1+n]))
		b = b[1+n:]
	}
	return list
}
