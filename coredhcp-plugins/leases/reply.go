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
	for code, value := range options.All(time.Now()) {
		set(dhcpv4.GenericOptionCode(code), value)
	}
	if label, _, _ := strings.Cut(hostname, "."); label != "" {
		set(dhcpv4.OptionHostName, []byte(label))
	}
}

// asked are the options that a client wants: those of its parameter request list
// (55), or all where it gave none (RFC 2131 section 3.5). Two may be given only to a
// client that knows them: Auto-Configure (RFC 2563 section 2) to one that sent it,
// IPv6-Only Preferred (RFC 8925 section 3.2) to one that listed it.
type asked struct {
	all                     bool
	listed                  [4]uint64
	autoConfigure, ipv6Only bool
}

func askedBy(r *dhcpv4.DHCPv4) *asked {
	a := &asked{all: true, autoConfigure: r.Options.Has(dhcpv4.OptionAutoConfigure)}
	for _, code := range r.Options.Get(dhcpv4.OptionParameterRequestList) {
		a.all = false
		a.listed[code/64] |= 1 << (code % 64)
	}
	a.ipv6Only = a.lists(dhcpv4.OptionIPv6OnlyPreferred.Code())
	return a
}

func (a *asked) lists(code uint8) bool { return a.listed[code/64]&(1<<(code%64)) != 0 }

func (a *asked) has(code dhcpv4.OptionCode) bool {
	switch code.Code() {
	case dhcpv4.OptionAutoConfigure.Code():
		return a.autoConfigure
	case dhcpv4.OptionIPv6OnlyPreferred.Code():
		return a.ipv6Only
	default:
		return a.all || a.lists(code.Code())
	}
}

// setBootFields writes what a BOOTP client looks for in the header, where DHCP has
// options: its server, and what it boots from (RFC 951 section 3). What stands there
// already stays, and what does not fit is left to the options.
func setBootFields(reply *dhcpv4.DHCPv4, serverID netip.Addr) {
	const lastOfName, lastOfFile = 63, 127 // a field ends with a zero (RFC 2131 section 2)
	boot := string(reply.Options.Get(dhcpv4.OptionTFTPServerName))
	if !server.Address(reply.ServerIPAddr).IsValid() {
		if a, err := netip.ParseAddr(boot); err == nil && a.Is4() {
			reply.ServerIPAddr = a.AsSlice()
		} else if serverID.IsValid() {
			reply.ServerIPAddr = serverID.AsSlice()
		}
	}
	if reply.ServerHostName == "" && len(boot) <= lastOfName {
		reply.ServerHostName = boot
		delete(reply.Options, dhcpv4.OptionTFTPServerName.Code())
	}
	if file := string(reply.Options.Get(dhcpv4.OptionBootfileName)); reply.BootFileName == "" && len(file) <= lastOfFile {
		reply.BootFileName = file
		delete(reply.Options, dhcpv4.OptionBootfileName.Code())
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
