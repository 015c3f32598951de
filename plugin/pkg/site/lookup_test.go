package site

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

const lookupFile = `domain: example.org
networks:
  - {name: c, subnet: 198.51.100.0/24}
  - {name: a, subnet: 192.0.2.0/25}
  - {name: b, subnet: 192.0.2.128/26}
devices:
  - {name: ct1, hardware-address: 00:00:5e:00:53:01, client-identifier: "pump"}
  - {name: ct2, hardware-address: 00:00:5e:00:53:02, client-identifier: 01:00:00:5e:00:53:02}
  - {name: ct3, hardware-address: 6/00:00:5e:00:53:01}
`

func TestNetworkOf(t *testing.T) {
	s := mustParse(t, lookupFile)
	tests := map[string]string{
		"192.0.2.0": "a", "192.0.2.127": "a", "192.0.2.128": "b", "192.0.2.191": "b", "192.0.2.192": "", "192.0.1.255": "",
		"198.51.100.7": "c", "198.51.101.0": "", "0.0.0.0": "", "255.255.255.255": "", "2001:db8::1": "",
	}
	for a, want := range tests {
		t.Run(a, func(t *testing.T) {
			got := ""
			if n := s.NetworkOf(netip.MustParseAddr(a)); n != nil {
				got = n.Name
			}
			equal(t, "network", got, want)
		})
	}
	if s.NetworkOf(netip.Addr{}) != nil || mustParse(t, "domain: example.org").NetworkOf(netip.MustParseAddr("192.0.2.1")) != nil {
		t.Error("found a network where none is")
	}
}

func TestDeviceOf(t *testing.T) {
	s := mustParse(t, lookupFile)
	first, second, strange := []byte{0, 0, 0x5e, 0, 0x53, 1}, []byte{0, 0, 0x5e, 0, 0x53, 2}, []byte{0, 0, 0x5e, 0, 0x53, 9}
	tests := []struct {
		name         string
		htype        uint8
		hardware, id []byte
		want         string
	}{
		{"hardware address", 1, first, nil, "ct1"},
		{"any client identifier comes with the hardware address", 1, first, []byte("firmware"), "ct1"},
		{"hardware address before client identifier", 1, second, []byte("pump"), "ct2"},
		{"client identifier alone", 1, strange, []byte("pump"), "ct1"},
		{"other hardware type", 6, first, nil, "ct3"},
		{"hardware type nobody has", 7, first, nil, ""},
		{"IPsec: the hardware address means nothing", 31, first, []byte("stranger"), ""},
		{"IPsec: client identifier", 31, first, []byte("pump"), "ct1"},
		{"stranger", 1, strange, []byte("stranger"), ""},
		{"nothing", 0, nil, nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if d := s.DeviceOf(test.htype, test.hardware, test.id); d != nil {
				got = d.Name
			}
			equal(t, "device", got, test.want)
		})
	}
}

func TestDeviceByHostname(t *testing.T) {
	s := mustParse(t, lookupFile)
	for name, want := range map[string]bool{"ct1.example.org.": true, "CT1.Example.Org": true, "ct1": false, "ct9.example.org.": false, "": false} {
		if got := s.DeviceByHostname(name) == &s.Devices[0]; got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

func TestReservedAddresses(t *testing.T) {
	s := mustParse(t, `domain: example.org
name-servers: [{host: ns1, address: 192.0.2.2}, {host: ns2, address: 203.0.113.2}]
options: {domain-name-servers: [192.0.2.2, 203.0.113.2], ntp-servers: [192.0.2.3]}
classes: [{name: c, htype: 1, options: {log-servers: 192.0.2.5}}]
networks:
  - name: a
    subnet: 192.0.2.0/24
    options: {routers: 192.0.2.1, classless-static-route: [203.0.113.0/24 via 192.0.2.4], broadcast-address: 192.0.2.255, subnet-mask: 255.255.255.0}
devices:
  - {name: ct1, address: 192.0.2.11}
  - {name: ct2, address: 192.0.2.12, dhcp: false, options: {lpr-servers: 192.0.2.6}}
`)
	want := addresses("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.11", "192.0.2.12")
	equal(t, "reserved", s.ReservedAddresses(), want)
	s.ReservedAddresses()[0] = netip.Addr{}
	equal(t, "reserved, after the caller changed its copy", s.ReservedAddresses(), want)
}

func TestOptionsFor(t *testing.T) {
	s := mustParse(t, `domain: example.org
options: {routers: 192.0.2.1, log-servers: 192.0.2.1, lpr-servers: 192.0.2.1, cookie-servers: 192.0.2.1, ntp-servers: [192.0.2.3, ntp], time-zone: Europe/Berlin}
classes:
  - {name: c1, htype: 1, options: {routers: 192.0.2.2, log-servers: 192.0.2.2, lpr-servers: 192.0.2.2}}
  - {name: c2, htype: 1, options: {routers: 192.0.2.3, log-servers: 192.0.2.3}}
networks:
  - {name: a, subnet: 192.0.2.0/24, options: {routers: 192.0.2.4}}
  - {name: b, subnet: 198.51.100.0/31, options: {subnet-mask: 255.255.255.0, domain-name: b.example.org, ntp-servers: ntp.example.net, time-offset: 0}}
devices:
  - {name: ct1, options: {routers: 192.0.2.5, time-zone: UTC}}
`)
	a, b, d, c1, c2 := &s.Networks[0], &s.Networks[1], &s.Devices[0], &s.Classes[0], &s.Classes[1]
	one := func(last byte) []byte { return []byte{192, 0, 2, last} }
	mask, broadcast, name := []byte{255, 255, 255, 0}, one(255), []byte("example.org")
	tests := []struct {
		name        string
		got         *Options
		want        dhcpopt.Set
		timeServers []string
		zone        string
	}{
		{"site", s.OptionsFor(nil, nil), dhcpopt.Set{3: one(1), 7: one(1), 9: one(1), 8: one(1), 42: one(3)}, []string{"192.0.2.3", "ntp.example.org."}, "Europe/Berlin"},
		{"network", s.OptionsFor(a, nil), dhcpopt.Set{1: mask, 28: broadcast, 15: name, 3: one(4), 7: one(1), 9: one(1), 8: one(1), 42: one(3)}, []string{"192.0.2.3", "ntp.example.org."}, "Europe/Berlin"},
		{"classes", s.OptionsFor(a, nil, c1, c2), dhcpopt.Set{1: mask, 28: broadcast, 15: name, 3: one(4), 7: one(3), 9: one(2), 8: one(1), 42: one(3)}, []string{"192.0.2.3", "ntp.example.org."}, "Europe/Berlin"},
		{"device", s.OptionsFor(a, d, c1), dhcpopt.Set{1: mask, 28: broadcast, 15: name, 3: one(5), 7: one(2), 9: one(2), 8: one(1), 42: one(3)}, []string{"192.0.2.3", "ntp.example.org."}, "UTC"},
		{
			"set explicitly, without broadcast, time servers by name, offset instead of zone", s.OptionsFor(b, nil),
			dhcpopt.Set{1: mask, 15: []byte("b.example.org"), 3: one(1), 7: one(1), 9: one(1), 8: one(1), 2: {0, 0, 0, 0}}, []string{"ntp.example.net."}, "",
		},
		{"zone instead of offset", s.OptionsFor(b, d), dhcpopt.Set{1: mask, 15: []byte("b.example.org"), 3: one(5), 7: one(1), 9: one(1), 8: one(1)}, []string{"ntp.example.net."}, "UTC"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			equal(t, "values", test.got.Values, test.want)
			equal(t, "time servers", test.got.TimeServers, test.timeServers)
			zone := ""
			if test.got.TimeZone != nil {
				zone = test.got.TimeZone.String()
			}
			equal(t, "time zone", zone, test.zone)
		})
	}
	equal(t, "the site's own options, after all that", s.Options.Values, dhcpopt.Set{3: one(1), 7: one(1), 9: one(1), 8: one(1), 42: one(3)})
}

// TestOptionsForIsShared holds that the same options are merged once, those of other clients apart from them, and that clients cannot fill the
// memory by the marks they carry.
func TestOptionsForIsShared(t *testing.T) {
	var text strings.Builder
	text.WriteString("domain: example.org\nclasses:\n")
	for i := range 300 {
		fmt.Fprintf(&text, "  - {name: c%d, user-class: u%d, options: {option-224: {type: uint16, value: %d}}}\n", i, i, i)
	}
	text.WriteString("networks: [{name: a, subnet: 192.0.2.0/24}, {name: b, subnet: 198.51.100.0/24}]\n")
	text.WriteString("devices: [{name: ct1, options: {routers: 192.0.2.5}}, {name: mr1}]\n")
	s := mustParse(t, text.String())
	a, b, ct1, mr1 := &s.Networks[0], &s.Networks[1], &s.Devices[0], &s.Devices[1]
	plain, first := s.OptionsFor(a, nil), s.OptionsFor(a, nil, &s.Classes[1])
	for name, same := range map[string]bool{
		"again":                      s.OptionsFor(a, nil) == plain,
		"a device without options":   s.OptionsFor(a, mr1) == plain,
		"another network":            s.OptionsFor(b, nil) != plain,
		"a device with options":      s.OptionsFor(a, ct1) != plain,
		"a class":                    s.OptionsFor(a, nil, &s.Classes[1]) == first,
		"another class":              s.OptionsFor(a, nil, &s.Classes[2]) != first,
		"two classes of one or none": s.OptionsFor(a, nil, &s.Classes[1], &s.Classes[200]) != s.OptionsFor(a, nil, &s.Classes[200]),
	} {
		if !same {
			t.Error(name)
		}
	}
	for i := range s.Classes {
		for j := range 30 {
			got := s.OptionsFor(a, nil, &s.Classes[i], &s.Classes[j])
			equal(t, "the last class", got.Values[224], []byte{byte(j >> 8), byte(j)})
		}
	}
	if n := len(s.index.options.merged); n != maxMerged {
		t.Errorf("%d merged options are kept, want %d", n, maxMerged)
	}
}

// TestDefaultRoute gives the routes of option 121 the default route that clients without it get by option 3.
func TestDefaultRoute(t *testing.T) {
	s := mustParse(t, `domain: example.org
options: {classless-static-route: 198.51.100.0/24 via 192.0.2.254}
networks:
  - {name: a, subnet: 192.0.2.0/24, options: {routers: [192.0.2.1, 192.0.2.2]}}
  - {name: b, subnet: 203.0.113.0/24}
devices:
  - {name: ct1, options: {classless-static-route: [203.0.113.0/24 via 192.0.2.254, default via 192.0.2.9]}}
`)
	o, _ := dhcpopt.ByCode(codeClasslessRoutes)
	for name, test := range map[string]struct {
		options *Options
		want    string
	}{
		"routers of the network":   {s.OptionsFor(&s.Networks[0], nil), "198.51.100.0/24 via 192.0.2.254, default via 192.0.2.1"},
		"no routers":               {s.OptionsFor(&s.Networks[1], nil), "198.51.100.0/24 via 192.0.2.254"},
		"a default route is there": {s.OptionsFor(&s.Networks[0], &s.Devices[0]), "203.0.113.0/24 via 192.0.2.254, default via 192.0.2.9"},
	} {
		equal(t, name, o.Format(test.options.Values[codeClasslessRoutes]), test.want)
	}
	equal(t, "the site's own routes, after all that", o.Format(s.Options.Values[codeClasslessRoutes]), "198.51.100.0/24 via 192.0.2.254")
}

func TestReverse(t *testing.T) {
	names := map[string]string{
		"192.0.2.11":         "11.2.0.192.in-addr.arpa.",
		"::ffff:192.0.2.11":  "11.2.0.192.in-addr.arpa.",
		"2001:db8::567:89ab": "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
	}
	for a, want := range names {
		equal(t, a, ReverseName(netip.MustParseAddr(a)), want)
	}
	equal(t, "zero Addr", ReverseName(netip.Addr{}), "")
	zones := map[string][]string{
		"192.0.2.0/24":     {"2.0.192.in-addr.arpa."},
		"192.0.2.128/25":   {"2.0.192.in-addr.arpa."},
		"192.0.2.77/32":    {"2.0.192.in-addr.arpa."},
		"192.0.2.0/23":     {"2.0.192.in-addr.arpa.", "3.0.192.in-addr.arpa."},
		"192.0.254.0/23":   {"254.0.192.in-addr.arpa.", "255.0.192.in-addr.arpa."},
		"10.0.0.0/8":       {"10.in-addr.arpa."},
		"10.8.0.0/15":      {"8.10.in-addr.arpa.", "9.10.in-addr.arpa."},
		"0.0.0.0/0":        {"in-addr.arpa."},
		"2001:db8::/32":    {"8.b.d.0.1.0.0.2.ip6.arpa."},
		"2001:db8::/31":    {"8.b.d.0.1.0.0.2.ip6.arpa.", "9.b.d.0.1.0.0.2.ip6.arpa."},
		"2001:db8::/35":    {"0.8.b.d.0.1.0.0.2.ip6.arpa.", "1.8.b.d.0.1.0.0.2.ip6.arpa."},
		"2001:db8:80::/41": {"8.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", "9.0.0.8.b.d.0.1.0.0.2.ip6.arpa."},
	}
	for p, want := range zones {
		prefix := netip.MustParsePrefix(p)
		got := ReverseZone(prefix)
		if len(got) > 2 {
			got = got[:2]
		}
		equal(t, p, got, want)
	}
	equal(t, "number of zones of a /20", len(ReverseZone(netip.MustParsePrefix("192.0.0.0/20"))), 16)
	equal(t, "number of zones of a /41", len(ReverseZone(netip.MustParsePrefix("2001:db8:80::/41"))), 8)
	equal(t, "zero Prefix", ReverseZone(netip.Prefix{}), []string(nil))
}

func TestOutsideZones(t *testing.T) {
	s := mustParse(t, `domain: imaging.example.org
networks:
  - {name: a, subnet: 192.0.2.0/24}
  - {name: b, subnet: 10.0.0.0/22}
devices:
  - {name: ct1, address: 192.0.2.11}
  - {name: ct2, address: 10.0.1.1}
  - {name: ct3, hostname: ct3.example.net.}
`)
	tests := []struct {
		name  string
		zones []string
		want  []string
	}{
		{"all", []string{"Imaging.Example.org", "2.0.192.in-addr.arpa.", "10.in-addr.arpa", "example.net."}, nil},
		{"the root", []string{".", "."}, nil},
		{"no host names", []string{"192.in-addr.arpa.", "10.in-addr.arpa."}, []string{
			"site.yaml:1:9: domain: none of the zones holds imaging.example.org, so its names and services are not published",
			`site.yaml:8:5: device "ct3": none of the zones holds its host name ct3.example.net`,
		}},
		{"no addresses", []string{"example.org.", "example.net"}, []string{
			`site.yaml:3:5: network "a": none of the zones holds the reverse names of 192.0.2.0/24; expected 2.0.192.in-addr.arpa`,
			`site.yaml:4:5: network "b": none of the zones holds the reverse names of 10.0.0.0/22; expected 0.0.10.in-addr.arpa and 3 others`,
		}},
		{"a part of the addresses", []string{"example.org.", "example.net", "2.0.192.in-addr.arpa.", "0.0.10.in-addr.arpa."}, []string{
			`site.yaml:4:5: network "b": none of the zones holds the reverse names of 10.0.0.0/22; expected 1.0.10.in-addr.arpa and 2 others`,
		}},
		{"a part of an octet-bound zone", []string{"example.org.", "example.net", "11.2.0.192.in-addr.arpa.", "2.1.0.10.in-addr.arpa", "0.0.10.in-addr.arpa", "2.0.10.in-addr.arpa", "3.0.10.in-addr.arpa"}, []string{
			`site.yaml:7:5: device "ct2": none of the zones holds the reverse name of its address 10.0.1.1`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, p := range s.OutsideZones(test.zones) {
				got = append(got, p.String())
			}
			equal(t, "warnings", got, test.want)
		})
	}
}
