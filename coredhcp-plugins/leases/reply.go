package leases

import (
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// infinite is the lease time that never ends (RFC 2131 section 3.3).
const infinite = math.MaxUint32

// setTimes writes the lease time and, where they were asked for, T1 and T2 at 0.5
// and 0.875 of it (RFC 2131 section 4.4.5). An infinite lease has neither.
func setTimes(reply *dhcpv4.DHCPv4, asked *asked, d time.Duration) {
	seconds := uint64(min(d/time.Second, infinite))
	set := func(code dhcpv4.OptionCode, seconds uint64) {
		reply.Options[code.Code()] = binary.BigEndian.AppendUint32(nil, uint32(seconds))
	}
	set(dhcpv4.OptionIPAddressLeaseTime, seconds)
	if seconds == infinite {
		return
	}
	if asked.has(dhcpv4.OptionRenewTimeValue) {
		set(dhcpv4.OptionRenewTimeValue, seconds/2)
	}
	if asked.has(dhcpv4.OptionRebindingTimeValue) {
		set(dhcpv4.OptionRebindingTimeValue, seconds*7/8)
	}
}

// setOptions writes those options that the client asked for and that no earlier
// plugin has set. hostname is the FQDN whose first label goes into option 12 unless
// the site file sets that, or "".
func setOptions(reply *dhcpv4.DHCPv4, asked *asked, options *site.Options, hostname string) {
	set := func(code dhcpv4.OptionCode, value []byte) {
		if !asked.has(code) {
			return
		}
		if _, set := reply.Options[code.Code()]; !set {
			reply.Options[code.Code()] = value
		}
	}
	routes, classless := options.Values[dhcpopt.Code(dhcpv4.OptionClasslessStaticRoute.Code())]
	if classless {
		set(microsoftRoutes, routes)
		// RFC 3442: who asks for these routes gets neither routers (3) nor classful
		// routes (33) with them, which it would ignore.
		classless = asked.lists(dhcpv4.OptionClasslessStaticRoute)
	}
	for code, value := range options.All(time.Now()) {
		switch code := dhcpv4.GenericOptionCode(code); {
		case classless && (code.Code() == dhcpv4.OptionRouter.Code() || code.Code() == dhcpv4.OptionStaticRoutingTable.Code()):
		default:
			set(code, value)
		}
	}
	if label, _, _ := strings.Cut(hostname, "."); label != "" {
		set(dhcpv4.OptionHostName, []byte(label))
	}
}

// microsoftRoutes is where Windows before Vista, which is in many a device still,
// looks for classless routes. IANA has it among the options of private use.
const microsoftRoutes = dhcpv4.GenericOptionCode(249)

// asked are the options that a client wants: those of its parameter request list
// (55), or all where it gave none (RFC 2131 section 3.5). Some may be given only to
// a client that knows them: Auto-Configure (RFC 2563 section 2) to one that sent it,
// IPv6-Only Preferred (RFC 8925 section 3.2) to one that listed it, and Microsoft's
// routes likewise.
type asked struct {
	all           bool
	listed        [4]uint64
	autoConfigure bool
}

func askedBy(r *dhcpv4.DHCPv4) *asked {
	a := &asked{all: true, autoConfigure: r.Options.Has(dhcpv4.OptionAutoConfigure)}
	for _, code := range r.Options.Get(dhcpv4.OptionParameterRequestList) {
		a.all = false
		a.listed[code/64] |= 1 << (code % 64)
	}
	return a
}

func (a *asked) lists(code dhcpv4.OptionCode) bool {
	c := code.Code()
	return a.listed[c/64]&(1<<(c%64)) != 0
}

func (a *asked) has(code dhcpv4.OptionCode) bool {
	switch code.Code() {
	case dhcpv4.OptionAutoConfigure.Code():
		return a.autoConfigure
	case dhcpv4.OptionIPv6OnlyPreferred.Code(), microsoftRoutes.Code():
		return a.lists(code)
	default:
		return a.all || a.lists(code)
	}
}

// withoutAddress makes an offer without an address to a client that gets none
// here, if the site file says what such a client does: whether it gives itself a
// link-local address (116, RFC 2563 section 2.3), or for how long it goes without
// IPv4 (108, RFC 8925 section 3.3). It reports whether there is anything to say to
// this client.
func (l *Leases) withoutAddress(t *transaction) bool {
	network := linkNetwork(t)
	if network == nil || t.Request.MessageType() != dhcpv4.MessageTypeDiscover {
		return false
	}
	device := t.site.DeviceOf(t.query.Client.HardwareType, t.Request.ClientHWAddr, []byte(t.query.Client.Identifier))
	options, asked, told := t.site.OptionsFor(network, device, t.classes...), askedBy(t.Request), false
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionAutoConfigure, dhcpv4.OptionIPv6OnlyPreferred} {
		if value, ok := options.Values[dhcpopt.Code(code.Code())]; ok && asked.has(code) {
			t.Reply.Options[code.Code()], told = value, true
		}
	}
	return told
}

// linkNetwork is the network that a message came from, nil if it is none of the
// site's.
func linkNetwork(t *transaction) *site.Network {
	if !t.query.Relayed {
		for i := range t.site.Networks {
			if n := &t.site.Networks[i]; n.Interface != "" && n.Interface == t.Interface {
				return n
			}
		}
	}
	for _, a := range t.query.Links {
		if n := t.site.NetworkOf(a); n != nil {
			return n
		}
	}
	return nil
}

// setBootFields writes into the header what a client boots from: its server's
// address and name, and the file (RFC 951 section 3), as the options
// tftp-server-name (66), boot-file-name (67) and tftp-server-address (150) say.
// There a BOOTP client and the boot code of many a network card look for them, not
// asking for options. What is in the header already stays, and what does not fit is
// left to the options. A BOOTP client gets none twice: there is little room.
func setBootFields(reply *dhcpv4.DHCPv4, options *site.Options, own netip.Addr, bootp bool) {
	const lastOfName, lastOfFile = 63, 127 // a field ends with a zero (RFC 2131 section 2)
	value := func(code dhcpv4.OptionCode) []byte {
		if v, ok := reply.Options[code.Code()]; ok {
			return v // of an earlier plugin
		}
		return options.Values[dhcpopt.Code(code.Code())]
	}
	name, file := string(value(dhcpv4.OptionTFTPServerName)), string(value(dhcpv4.OptionBootfileName))
	if now := server.Address(reply.ServerIPAddr); !now.IsValid() || now == own { // server_id puts itself there
		a, err := netip.ParseAddr(name)
		servers := value(dhcpv4.OptionTFTPServerAddress)
		switch {
		case err == nil && a.Is4():
			reply.ServerIPAddr = a.AsSlice()
		case len(servers) >= net.IPv4len:
			reply.ServerIPAddr = servers[:net.IPv4len:net.IPv4len]
		case own.IsValid() && (bootp || name == "" && file != ""):
			reply.ServerIPAddr = own.AsSlice()
		}
	}
	if reply.ServerHostName == "" && len(name) <= lastOfName {
		reply.ServerHostName = name
		if bootp {
			delete(reply.Options, dhcpv4.OptionTFTPServerName.Code())
		}
	}
	if reply.BootFileName == "" && len(file) <= lastOfFile {
		reply.BootFileName = file
		if bootp {
			delete(reply.Options, dhcpv4.OptionBootfileName.Code())
		}
	}
}

// ownAddress is the server's own address as a client knows it: the server identifier,
// unless a relay has put its own in that place (RFC 5107), where nobody can boot from.
func ownAddress(t *transaction) netip.Addr {
	switch a := server.Address(t.Reply.ServerIdentifier()); {
	case a.IsValid(): // of server_id
		return a
	case len(t.Addresses) > 0 && subOption(t.Request, dhcpv4.ServerIdentifierOverrideSubOption.Code()) != nil:
		return t.Addresses[0]
	}
	return t.ServerID
}

// echo copies those options of a request that the answer has as they came: subnet
// selection (118, RFC 3011 section 2), and the machine's UUID (97), by which boot
// code that asks for it tells its answers from others'.
func echo(reply, request *dhcpv4.DHCPv4, asked *asked) {
	if v := request.Options.Get(dhcpv4.OptionSubnetSelection); len(v) == net.IPv4len {
		reply.Options[dhcpv4.OptionSubnetSelection.Code()] = v
	}
	if v := request.Options.Get(dhcpv4.OptionClientMachineIdentifier); v != nil && asked.lists(dhcpv4.OptionClientMachineIdentifier) {
		reply.Options[dhcpv4.OptionClientMachineIdentifier.Code()] = v
	}
}

// refuse turns a reply into a DHCPNAK.
func refuse(reply *dhcpv4.DHCPv4, reason string) {
	reply.YourIPAddr = net.IPv4zero
	reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
	if reason != "" {
		reply.UpdateOption(dhcpv4.OptMessage(reason))
	}
}
