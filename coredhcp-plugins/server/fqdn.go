package server

import (
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"
)

// FQDN reads the Client FQDN option (RFC 4702 section 2): its flags, and the name as text, or in wire form (E) the octets
// of its first label, "" if it is malformed. It is not ok if the message has no such option, or one that is too short.
func FQDN(r *dhcpv4.DHCPv4) (flags uint8, name string, ok bool) {
	data := r.Options.Get(dhcpv4.OptionFQDN)
	if len(data) < 3 { // flags, two RCODEs, and then the name
		return 0, "", false
	}
	flags, rest := data[0], data[3:]
	if flags&4 != 0 {
		rest = firstLabel(rest)
	}
	return flags, string(rest), true
}

// firstLabel is that of a name in wire form, nil if it is malformed. A partial name has no root label (RFC 4702 section 2.3.1).
func firstLabel(name []byte) []byte {
	_, _, err := dns.UnpackDomainName(append(slices.Clip(name), 0), 0)
	if err != nil || len(name) == 0 || len(name) <= int(name[0]) || name[0] > 63 { // RFC 1035 section 2.3.4
		return nil
	}
	return name[1 : 1+name[0]]
}
