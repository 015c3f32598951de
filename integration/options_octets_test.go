//go:build linux

package integration

import (
	"fmt"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// A typedCase is an option for which servers have no name, or which is octets in a
// site file: what its RFC says that it consists of, told to servers that can be told
// the types of an option's parts, and the values of the parts.
type typedCase struct {
	value      string // octets in the site file; "": those of optionValues
	dhcpdType  string // what comes behind "option typed-CODE code CODE ="; "": dhcpd has it by the name in dhcpdValue
	dhcpdValue string // "": dhcpd is not asked
	keaType    string // of its option-def; "": Kea has it by the name in keaName
	keaName    string
	keaValue   string // "": Kea is not asked
	// What tshark has for the innermost fields; nil: it takes the option for octets.
	tshark []string
	// Why nobody judges what the octets mean, but dnsmasq alone that they are there as
	// they are.
	framing string
}

// typedCases hold every option that is octets in a site file.
var typedCases = map[string]typedCase{
	"nwip-suboptions": { // RFC 2242: NSQ broadcast, preferred DSS, autoretries; each with its length and octets
		value:  "05:01:01:06:04:c0:00:02:07:08:01:05",
		tshark: []string{"1", "01", "1", "4", "c0:00:02:07", "192.0.2.7", "1", "05", "5"},
	},
	"isns": { // RFC 4174
		value:      "00:07:00:0d:00:03:00:00:00:03:c0:00:02:07:c0:00:02:08:c0:00:02:09",
		dhcpdType:  "{ unsigned integer 16, unsigned integer 16, unsigned integer 16, unsigned integer 32, ip-address,ip-address,ip-address }",
		dhcpdValue: "7 13 3 3 192.0.2.7 192.0.2.8 192.0.2.9",
		keaType:    "uint16,uint16,uint16,uint32,ipv4-address,ipv4-address,ipv4-address",
		keaValue:   "7, 13, 3, 3, 192.0.2.7, 192.0.2.8, 192.0.2.9",
		tshark: []string{ // bit by bit, with the reserved ones of each field
			"1", "1", "1", "0x0000", "1", "0", "1", "1", "0", "0", "0x0000", "1", "1", "0", "0", "0x0000", "1", "1", "0", "0", "0", "0", "0", "0x0000",
			"192.0.2.7", "192.0.2.8", "192.0.2.9",
		},
	},
	"geoconf-civic": { // RFC 4776: for the client, in Germany, in the city of Berlin
		value:      "01:44:45:03:06:42:65:72:6c:69:6e",
		dhcpdType:  "{ unsigned integer 8, unsigned integer 16, unsigned integer 8, unsigned integer 8, text }",
		dhcpdValue: `1 17477 3 6 "Berlin"`,
		tshark:     []string{"1", "DE", "3", "6", "Berlin"},
	},
	"dhcp4o6-s46-saddr": { // RFC 8539
		value:      "20:01:0d:b8:00:00:00:00:00:00:00:00:00:00:00:07",
		dhcpdType:  "ip6-address",
		dhcpdValue: "2001:db8::7",
		keaType:    "ipv6-address",
		keaValue:   "2001:db8::7",
	},
	"cablelabs-client-configuration": { // RFC 3495: the primary and the secondary DHCP server
		value:      "01:04:c0:00:02:07:02:04:c0:00:02:08",
		dhcpdType:  "encapsulate CCC",
		dhcpdValue: "option CCC.primary 192.0.2.7; option CCC.secondary 192.0.2.8;",
	},
	// RFC 6225 section 2.2: 52.5 N, 13.25 E, 34 m above sea level, in fields of 6, 34, 6, 34,
	// 4, 6, 30, 2, 3 and 3 bits, for which no server has types.
	"geoconf": {
		value:  location + ":01",
		tshark: []string{"52.5", "13.25", "0.0009765625", "0.0009765625", "34", "0.5", "1", "1"}, // and how exact each is
	},
	"vivco-suboptions": { // RFC 3925
		keaName:  "vivco-suboptions",
		keaValue: "32473, 03616263",
		tshark:   []string{"32473", "3", "abc"},
	},
	"ipv4-address-mos": { // RFC 5678: information services, command services
		value:      "01:04:c0:00:02:07:02:08:c0:00:02:08:c0:00:02:09",
		dhcpdType:  "encapsulate MOSA",
		dhcpdValue: "option MOSA.is 192.0.2.7; option MOSA.cs 192.0.2.8, 192.0.2.9;",
	},
	"ipv4-fqdn-mos": { // RFC 5678
		value:      "01:1d:02:69:73:07:65:78:61:6d:70:6c:65:03:6f:72:67:00:07:65:78:61:6d:70:6c:65:03:6e:65:74:00",
		dhcpdType:  "encapsulate MOSF",
		dhcpdValue: `option MOSF.is "is.example.org", "example.net";`,
	},
	"v4-sztp-redirect": { // RFC 8572
		value:      "00:18:68:74:74:70:73:3a:2f:2f:73:7a:74:70:2e:65:78:61:6d:70:6c:65:2e:6f:72:67",
		dhcpdType:  "{ unsigned integer 16, text }",
		dhcpdValue: `24 "https://sztp.example.org"`,
		keaType:    "uint16,string",
		keaValue:   "24, https://sztp.example.org",
	},
	"geoloc": { // RFC 6225
		value:   location + ":41",
		framing: "its fields are those of geoconf, but for the version, and tshark does not look into it",
	},
	"rdnss-selection": { // RFC 6731
		value:      "01:c0:00:02:07:c0:00:02:08:07:65:78:61:6d:70:6c:65:03:6f:72:67:00",
		dhcpdType:  "{ unsigned integer 8, ip-address,ip-address, domain-list }",
		dhcpdValue: `1 192.0.2.7 192.0.2.8 "example.org"`,
		keaName:    "rdnss-selection",
		keaValue:   "1, 192.0.2.7, 192.0.2.8, example.org",
		tshark:     []string{"0x00", "1", "192.0.2.7", "192.0.2.8", "example.org"},
	},
	"v4-dots-ri": { // RFC 8973 section 5.2.1
		dhcpdType:  "domain-list",
		dhcpdValue: `"abc.example.org"`,
		keaType:    "fqdn",
		keaValue:   "abc.example.org",
	},
	"v4-dots-address": { // RFC 8973 section 5.2.2
		dhcpdType:  "array of ip-address",
		dhcpdValue: "192.0.2.7, 192.0.2.8",
		keaType:    "ipv4-address,ipv4-address",
		keaValue:   "192.0.2.7, 192.0.2.8",
	},
	"v4-pcp-server": { // RFC 7291; of two addresses tshark 4.0 loses its way
		value:      "04:c0:00:02:07",
		dhcpdType:  "{ unsigned integer 8, ip-address }",
		dhcpdValue: "4 192.0.2.7",
		keaType:    "uint8,ipv4-address",
		keaValue:   "4, 192.0.2.7",
	},
	"v4-portparams": { // RFC 7618: the ports of which the first eight bits behind six others are 52
		value:      "06:08:34:00",
		dhcpdType:  "{ unsigned integer 8, unsigned integer 8, unsigned integer 16 }",
		dhcpdValue: "6 8 13312",
		keaName:    "v4-portparams",
		keaValue:   "6, 52/8",
		tshark:     []string{"6", "8", "34:00"},
	},
	"ldap": { // RFC 3679
		dhcpdType:  "text",
		dhcpdValue: `"some text"`,
		keaType:    "string",
		keaValue:   "some text",
	},
	"mud-url-v4": { // RFC 8520
		dhcpdType:  "text",
		dhcpdValue: `"some text"`,
		keaType:    "string",
		keaValue:   "some text",
	},
	"v4-dnr": { // RFC 9463: one resolver, which speaks DNS over TLS
		value:    "00:21:00:01:11:03:64:6e:73:07:65:78:61:6d:70:6c:65:03:6f:72:67:00:04:c0:00:02:07:00:01:00:04:03:64:6f:74",
		keaType:  "uint16,uint16,uint8,fqdn,uint8,ipv4-address,uint16,uint16,uint8,string",
		keaValue: "33, 1, 17, dns.example.org, 4, 192.0.2.7, 1, 4, 3, dot",
	},
	"pxelinux-magic": { // RFC 5071
		value:      "f1:00:74:7e",
		dhcpdType:  "unsigned integer 32",
		dhcpdValue: "4043338878",
		keaType:    "uint32",
		keaValue:   "4043338878",
	},
	"option-6rd": { // RFC 5969
		value:      "08:20:20:01:0d:b8:00:00:00:00:00:00:00:00:00:00:00:00:c0:00:02:07",
		dhcpdType:  "{ unsigned integer 8, unsigned integer 8, ip6-address, ip-address }",
		dhcpdValue: "8 32 2001:db8:: 192.0.2.7",
		keaName:    "option-6rd",
		keaValue:   "8, 32, 2001:db8::, 192.0.2.7",
		tshark:     []string{"8", "32", "2001:db8::", "192.0.2.7"},
	},
	"subnet-allocation": { // RFC 6656: one network
		value:      "00:02:08:00:c6:33:64:00:18:00:00",
		dhcpdType:  "{ unsigned integer 8, unsigned integer 8, unsigned integer 8, unsigned integer 8, ip-address, unsigned integer 8, unsigned integer 8, unsigned integer 8 }",
		dhcpdValue: "0 2 8 0 198.51.100.0 24 0 0",
		keaType:    "uint8,uint8,uint8,uint8,ipv4-address,uint8,uint8,uint8",
		keaValue:   "0, 2, 8, 0, 198.51.100.0, 24, 0, 0",
	},
	"virtual-subnet-selection": { // RFC 6607: by name
		value:      "00:72:61:64:69:6f:6c:6f:67:79",
		dhcpdType:  "{ unsigned integer 8, text }",
		dhcpdValue: `0 "radiology"`,
		keaType:    "uint8,string",
		keaValue:   "0, radiology",
	},
}

// location is the part that both options of RFC 6225 have in common.
const location = "48:69:00:00:00:48:1a:80:00:00:15:80:00:22:00"

// dhcpdTypes declares the types, and the sub-options of the case of option 43.
func dhcpdTypes(cases []optionCase) string {
	var b strings.Builder
	b.WriteString("option space SUB;\noption SUB.control code 6 = unsigned integer 8;\noption SUB.prompt code 9 = text;\noption SUB.servers code 71 = array of ip-address;\n" +
		"option space CCC;\noption CCC.primary code 1 = ip-address;\noption CCC.secondary code 2 = ip-address;\n" +
		"option space MOSA;\noption MOSA.is code 1 = array of ip-address;\noption MOSA.cs code 2 = array of ip-address;\n" +
		"option space MOSF;\noption MOSF.is code 1 = domain-list;\n")
	for _, c := range cases {
		if typed := typedCases[c.Name]; typed.dhcpdType != "" {
			fmt.Fprintf(&b, "option typed-%d code %d = %s;\n", c.Code, c.Code, typed.dhcpdType)
		}
	}
	return b.String()
}

// keaTypes declares the types.
func keaTypes(cases []optionCase) string {
	var defs []string
	for _, c := range cases {
		switch typed := typedCases[c.Name]; {
		case strings.Contains(typed.keaType, ","):
			defs = append(defs, fmt.Sprintf(`{"name": "typed-%d", "code": %d, "type": "record", "record-types": %q}`, c.Code, c.Code, typed.keaType))
		case typed.keaType != "":
			defs = append(defs, fmt.Sprintf(`{"name": "typed-%d", "code": %d, "type": %q}`, c.Code, c.Code, typed.keaType))
		}
	}
	return strings.Join(defs, ",\n")
}

// elsewhere is the case in the languages of dhcpd and Kea; "" where they are not asked.
func (t typedCase) elsewhere(code dhcpopt.Code) (dhcpd, kea string) {
	switch {
	case t.dhcpdType != "" && !strings.HasPrefix(t.dhcpdType, "encapsulate "):
		dhcpd = fmt.Sprintf("option typed-%d %s;", code, t.dhcpdValue)
	default:
		dhcpd = t.dhcpdValue
	}
	name := t.keaName
	if t.keaType != "" {
		name = fmt.Sprintf("typed-%d", code)
	}
	if name != "" {
		kea = fmt.Sprintf(`{"name": %q, "data": "%s"}`, name, t.keaValue)
	}
	return dhcpd, kea
}
