package leases

import (
	"bytes"
	"encoding/binary"
	"math"
	"net"
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
func setTimes(x *server.Exchange, d time.Duration) {
	seconds := uint64(min(d/time.Second, infinite))
	set := func(code dhcpv4.OptionCode, seconds uint64) {
		x.Reply.Options[code.Code()] = binary.BigEndian.AppendUint32(nil, uint32(seconds))
	}
	set(dhcpv4.OptionIPAddressLeaseTime, seconds)
	for code, t := range map[dhcpv4.OptionCode]uint64{
		dhcpv4.OptionRenewTimeValue:     seconds / 2,
		dhcpv4.OptionRebindingTimeValue: seconds * 7 / 8,
	} {
		if seconds != infinite && x.Request.IsOptionRequested(code) {
			set(code, t)
		}
	}
}

// setOptions writes those options that the client asked for (all of them if it
// gave no list, RFC 2131 section 3.5) and that no earlier plugin has set.
// hostname is the FQDN whose first label goes into option 12, or "".
func setOptions(x *server.Exchange, options site.Options, hostname string) {
	values := options.At(time.Now()).Clone()
	if label, _, _ := strings.Cut(hostname, "."); label != "" {
		values[dhcpopt.Code(dhcpv4.OptionHostName.Code())] = []byte(label)
	}
	for code, value := range values {
		if _, set := x.Reply.Options[uint8(code)]; !set && wanted(x.Request, dhcpv4.GenericOptionCode(code)) {
			x.Reply.Options[uint8(code)] = value
		}
	}
}

// wanted says whether the client asked for an option. Two may be given only to a
// client that knows them: Auto-Configure (RFC 2563 section 2) to one that sent
// it, IPv6-Only Preferred (RFC 8925 section 3.2) to one that listed it.
func wanted(r *dhcpv4.DHCPv4, code dhcpv4.OptionCode) bool {
	switch code.Code() {
	case dhcpv4.OptionAutoConfigure.Code():
		return r.Options.Has(code)
	case dhcpv4.OptionIPv6OnlyPreferred.Code():
		return bytes.IndexByte(r.Options.Get(dhcpv4.OptionParameterRequestList), code.Code()) >= 0
	default:
		return r.IsOptionRequested(code)
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
