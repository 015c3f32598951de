//go:build linux

package integration

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// An optionCase is one option of a site file, and how other servers' files say
// the same.
type optionCase struct {
	dhcpopt.Option
	values []string // as the site file has them
	want   string   // octets in hexadecimal digits that an RFC prints, "" where none does
	// The values in the language of other servers; "" where the server has no
	// name or no encoding of its own for the option.
	dhcpd, kea, dnsmasq string
}

// optionValues are values of options for which those of their type will not do.
var optionValues = map[string][]string{
	"broadcast-address":           {"192.0.2.255"},
	"boot-file-name":              {"pxelinux.0"},
	"classless-static-route":      {"198.51.100.0/24 via 192.0.2.3", "203.0.113.128/25 via 192.0.2.4", "10.198.122.47/32 via 192.0.2.5", "default via 192.0.2.1"},
	"domain-name":                 {"imaging.example.org"},
	"domain-search":               {"eng.apple.com", "marketing.apple.com"},
	"host-name":                   {"ct1"},
	"interface-mtu":               {"1400"},
	"max-dgram-reassembly":        {"576"},
	"netbios-node-type":           {"8"},
	"path-mtu-plateau-table":      {"68", "1500"},
	"pcode":                       {"CET-1CEST,M3.5.0,M10.5.0/3"},
	"sip-servers":                 {"sip1.example.org"},
	"subnet-mask":                 {"255.255.255.0"},
	"tcode":                       {"Europe/Berlin"},
	"tftp-server-name":            {"tftp.example.org"},
	"time-offset":                 {"-18000"},
	"vendor-encapsulated-options": {"6 uint8 8", "71 ipv4-addresses 192.0.2.7, 192.0.2.8", "9 text Press F8"},
	"vivco-suboptions":            {"00:00:7e:d9:03:61:62:63"},
	"vivso-suboptions":            {"32473 1 text abc", "32473 2 ipv4-address 192.0.2.9"},
}

// printedOctets are those that RFCs print, or that follow from their pictures
// where no server has the option.
var printedOctets = map[string]string{
	"domain-search":    "03656e67056170706c6503636f6d00096d61726b6574696e67c004", // RFC 3397 section 2
	"v4-access-domain": "0361626307" + hex.EncodeToString([]byte("example")) + "036f726700",
}

// otherNames are what servers call options by another name; "-" stands for an
// option that the server does not know, or takes as octets only.
var otherNames = map[string]map[string]string{
	"dhcpd": {
		"name-servers": "ien116-name-servers", "nwip-domain-name": "nwip-domain", "nisplus-domain-name": "nisplus-domain",
		"boot-file-name": "bootfile-name", "v4-captive-portal": "default-url", "configuration-file": "loader-configfile",
		"path-prefix": "loader-pathprefix", "reboot-time": "loader-reboottime",
	},
	"dnsmasq": {
		"tftp-server-name": "-", "boot-file-name": "-", // with a zero at the end
	},
	"kea": {
		"domain-search":      "-", // without compression
		"ipv4-address-andsf": "-", "tftp-server-address": "-", "configuration-file": "-", "path-prefix": "-", "reboot-time": "-",
	},
}

// optionCases has every option that a site file may set.
func optionCases(t *testing.T) []optionCase {
	t.Helper()
	var cases []optionCase
	for _, name := range dhcpopt.Names() {
		o, ok := dhcpopt.ByName(name)
		if !ok {
			t.Fatalf("no option %s", name)
		}
		c := optionCase{Option: o, values: optionValues[name], want: printedOctets[name]}
		typed, ok := typedCases[name]
		switch {
		case typed.value != "":
			c.values = []string{typed.value}
		case c.values == nil:
			c.values = valuesOfType(t, o.Type)
		}
		c.dhcpd, c.kea, c.dnsmasq = elsewhere(c)
		if ok {
			c.dhcpd, c.kea = typed.elsewhere(o.Code)
		} else if o.Type == dhcpopt.Bytes {
			t.Errorf("%s: octets of which nobody else knows the types", o)
		}
		cases = append(cases, c)
	}
	return cases
}

func valuesOfType(t *testing.T, kind dhcpopt.Type) []string {
	t.Helper()
	switch kind {
	case dhcpopt.IPv4Address:
		return []string{"192.0.2.7"}
	case dhcpopt.IPv4Addresses:
		return []string{"192.0.2.7", "192.0.2.8"}
	case dhcpopt.IPv4Prefixes:
		return []string{"198.51.100.0/24", "203.0.113.0/25"}
	case dhcpopt.Routes:
		return []string{"198.51.100.7 via 192.0.2.3", "203.0.113.9 via 192.0.2.4"}
	case dhcpopt.Uint8:
		return []string{"64"}
	case dhcpopt.Uint16:
		return []string{"1000"}
	case dhcpopt.Uint16s:
		return []string{"6", "44"}
	case dhcpopt.Uint32:
		return []string{"86400"}
	case dhcpopt.Bool:
		return []string{"true"}
	case dhcpopt.Text:
		return []string{"some text"}
	case dhcpopt.WireName:
		return []string{"abc.example.org"}
	case dhcpopt.DomainNames:
		return []string{"a.example.org", "b.example.net"}
	case dhcpopt.SLPAgents:
		return []string{"true", "192.0.2.7", "192.0.2.8"}
	case dhcpopt.SLPScope:
		return []string{"false", "imaging"}
	}
	t.Fatalf("no values of the type %s", kind)
	return nil
}

// elsewhere is the case in the languages of dhcpd, Kea and dnsmasq.
func elsewhere(c optionCase) (dhcpd, kea, dnsmasq string) {
	name := func(server string) string {
		if other, ok := otherNames[server][c.Name]; ok {
			return other
		}
		return c.Name
	}
	list := strings.Join(c.values, ", ")
	plain := strings.NewReplacer(" via ", " ", "/24", " 255.255.255.0", "/25", " 255.255.255.128").Replace
	switch c.Type {
	case dhcpopt.IPv4Address, dhcpopt.IPv4Addresses, dhcpopt.IPv4Mask, dhcpopt.Uint8, dhcpopt.Uint16, dhcpopt.Uint16s, dhcpopt.Uint32, dhcpopt.Int32, dhcpopt.Bool:
		dhcpd, kea = list, list
	case dhcpopt.IPv4Prefixes, dhcpopt.Routes:
		dhcpd, kea = plain(list), strings.ReplaceAll(plain(list), " ", ", ")
		kea = strings.ReplaceAll(kea, ",,", ",")
	case dhcpopt.Text, dhcpopt.DomainName:
		dhcpd, kea = `"`+list+`"`, strings.ReplaceAll(list, ",", `\\,`)
	case dhcpopt.WireName, dhcpopt.DomainNames, dhcpopt.SearchList:
		dhcpd, kea = `"`+strings.Join(c.values, `", "`)+`"`, list
	case dhcpopt.SLPAgents:
		dhcpd, kea = c.values[0]+" "+strings.Join(c.values[1:], ", "), list
	case dhcpopt.SLPScope:
		dhcpd, kea = c.values[0]+` "`+c.values[1]+`"`, list
	}
	switch {
	case c.Name == "auto-config":
		dhcpd, kea = "1", "1"
	case c.Type == dhcpopt.WireName:
		dhcpd = list
	}
	if dhcpd != "" && name("dhcpd") != "-" {
		dhcpd = fmt.Sprintf("option %s %s;", name("dhcpd"), dhcpd)
	} else {
		dhcpd = ""
	}
	if c.Type == dhcpopt.SubOptions {
		dhcpd = `vendor-option-space SUB; option SUB.control 8; option SUB.prompt "Press F8"; option SUB.servers 192.0.2.7, 192.0.2.8;`
	}
	if kea != "" && name("kea") != "-" {
		kea = fmt.Sprintf(`{"name": %q, "data": "%s"}`, name("kea"), kea)
	} else {
		kea = ""
	}
	switch c.Type {
	case dhcpopt.IPv4Address, dhcpopt.IPv4Addresses, dhcpopt.IPv4Mask, dhcpopt.Text, dhcpopt.DomainName:
		dnsmasq = fmt.Sprintf("%d,%s", c.Code, strings.ReplaceAll(list, ", ", ","))
		if c.Type == dhcpopt.Text {
			dnsmasq = fmt.Sprintf("%d,%q", c.Code, list)
		}
	case dhcpopt.IPv4Prefixes, dhcpopt.Routes:
		dnsmasq = fmt.Sprintf("%d,%s", c.Code, strings.NewReplacer(", ", ",", " ", ",").Replace(plain(list)))
	case dhcpopt.SearchList, dhcpopt.SIPServers, dhcpopt.Bytes:
		dnsmasq = fmt.Sprintf("%d,%s", c.Code, strings.ReplaceAll(list, ", ", ","))
	case dhcpopt.ClasslessRoutes:
		dnsmasq = fmt.Sprintf("%d,%s", c.Code, strings.NewReplacer(", ", ",", " via ", ",", "default", "0.0.0.0/0").Replace(list))
	case dhcpopt.VendorOptions:
		dnsmasq = "vi-encap:32473,2,192.0.2.9\ndhcp-option=vi-encap:32473,1,abc" // the last comes first
	}
	if name("dnsmasq") == "-" {
		dnsmasq = ""
	}
	return dhcpd, kea, dnsmasq
}

// yamlOf is the case in a site file.
func (c optionCase) yamlOf() string {
	quoted := make([]string, len(c.values))
	for i, v := range c.values {
		quoted[i] = fmt.Sprintf("%q", v)
	}
	return fmt.Sprintf("%s: [%s]", c.Name, strings.Join(quoted, ", "))
}

// optionsSite is a site file that sets every option. The host name is one of the
// device's.
func optionsSite(cases []optionCase) string {
	var b strings.Builder
	b.WriteString("domain: imaging.example.org\nnetworks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}]\noptions:\n")
	for _, c := range cases {
		if c.Name != "host-name" {
			b.WriteString("  " + c.yamlOf() + "\n")
		}
	}
	b.WriteString("devices: [{name: ct1, hardware-address: \"00:00:5e:00:53:01\", address: 192.0.2.11, options: {host-name: ct1}}]\n")
	return b.String()
}

// batches are the codes of cases, few enough at a time for one message, and 121
// apart from 3 and 33.
func batches(cases []optionCase) [][]byte {
	var codes []byte
	for _, c := range cases {
		if c.Code != 121 {
			codes = append(codes, byte(c.Code))
		}
	}
	return append(slices.Collect(slices.Chunk(codes, 8)), []byte{121})
}
