package site

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// exampleFile is the example of the documentation.
const exampleFile = `domain: imaging.example.org
name-servers: [{host: ns1, address: 192.0.2.2}]   # the zones' NS; default ns.DOMAIN at the server's address
options:                             # for every network; class, network and device override in that order
  domain-name-servers: [192.0.2.2]   # what clients resolve with; never taken for the zone's NS
  ntp-servers: [192.0.2.3]
  time-zone: Europe/Berlin           # gives time-offset (2), and RFC 4833 (100, 101)
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    pools: [192.0.2.100-192.0.2.199]
    lease-time: 12h
    options: {routers: [192.0.2.1], interface-mtu: 1500}
devices:
  - name: ct1                        # DICOM Device Name; also the host name unless hostname is set
    type: CT                         # Primary Device Type, DICOM CID 30; one or a list
    hardware-address: 00:00:5e:00:53:01
    address: 192.0.2.11              # fixed; leave out for a pool address; a list for several networks
    applications:
      - {ae-title: CT1, port: 104}
      - {ae-title: CT1_TLS, port: 2762, protocol: dicom-tls}
  - name: oldmr                      # does not speak DHCP: its address is kept out of every pool,
    type: MR                         # and its name is published all the same
    address: 192.0.2.20
    dhcp: false
    applications: [{ae-title: OLDMR, port: 104}]
services:                            # other SRV records: PS3.15 H.1.4.1 needs _ldap._tcp
  - {name: ldap, protocol: tcp, host: ldap.imaging.example.org, port: 389, priority: 0, weight: 0}
`

// wholeFile uses every key of the schema.
const wholeFile = `domain: Imaging.Example.ORG.
contact: it.support@example.org
ttl: 90
name-servers:
  - {host: ns1}
  - {host: ns.example.net., address: 203.0.113.2}
options:
  domain-name-servers: 192.0.2.2
  ntp-servers: [ntp, 192.0.2.3, ntp.example.net]
  option-252: {type: text, value: "http://192.0.2.4/wpad.dat"}
  tcode: UTC
classes:
  - {name: pxe, vendor-class: PXEClient, options: {boot-file-name: pxelinux.0}}
  - {name: home, user-class: home}
  - {name: port, circuit-id: "port-17"}
  - {name: switch, remote-id: 00:00:5e:00:53:fe}
  - {name: ipsec, htype: 31}
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    shared-network: floor1
    interface: eth0.7
    authoritative: true
    lease-time: 1d12h
    min-lease-time: 5m
    max-lease-time: infinite
    decline-time: 1w
    probe: arp
    publish: always
    ddns: {mode: last-wins, forward: fixed, reverse: false}
    pools:
      - 192.0.2.100 - 192.0.2.149
      - 192.0.2.99
      - {range: 192.0.2.150-192.0.2.159, class: pxe, clients: unknown}
    options: {routers: [192.0.2.1], time-zone: Europe/Berlin}
  - {name: link, subnet: 198.51.100.0/31, shared-network: floor1, probe: icmp, pools: [198.51.100.0-198.51.100.1], max-lease-time: 1h}
devices:
  - name: PET 1
    hostname: pet1
    type: [PT, CT]
    hardware-address: [00:00:5e:00:53:01, 00-00-5E-00-53-02, 0000.5e00.5303, 6/00:00:5e:00:53:04]
    client-identifier: 01:00:00:5e:00:53:01
    circuit-id: "port-1"
    remote-id: 00:01
    address: [192.0.2.11, 198.51.100.0]
    publish: leased
    installed: false
    cluster: pets
    description: PET/CT in room 5
    manufacturer: Example
    model: "7"
    serial-number: 0815
    station-name: PET1
    location: Cellar
    options: {domain-name: pets.example.org, time-offset: -3600, ntp-servers: [ntp2.example.net]}
    applications:
      - {ae-title: " PET 1 ", name: Röntgen 5. Stock, port: 104, priority: 1, weight: 2, txt: [room=5, quiet]}
      - {port: 443, protocol: dicomweb-tls, path: /dicom-web}
      - {ae-title: QR, port: 2761, protocol: dicom-iscl}
  - {name: ns1, address: 192.0.2.2, dhcp: false}
  - {name: ct9, address: 192.0.2.9}
services:
  - {name: LDAP, protocol: tcp, host: ldap, port: 389, priority: 10, weight: 20}
  - {name: ntp, protocol: udp, host: ntp.example.net, port: 123}
`

func mustParse(t testing.TB, file string) *Site {
	t.Helper()
	s, warnings, err := Parse("site.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	return s
}

func addresses(list ...string) []netip.Addr {
	var a []netip.Addr
	for _, v := range list {
		a = append(a, netip.MustParseAddr(v))
	}
	return a
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\ngot  %+v\nwant %+v", what, got, want)
	}
}

func TestExample(t *testing.T) {
	s := mustParse(t, exampleFile)
	equal(t, "domain", s.Domain, "imaging.example.org.")
	equal(t, "contact", s.Contact, "hostmaster.imaging.example.org.")
	equal(t, "TTL", s.TTL, 5*time.Minute)
	equal(t, "name servers", s.NameServers, []NameServer{{"ns1.imaging.example.org.", netip.MustParseAddr("192.0.2.2")}})
	equal(t, "options", s.Options.Values, dhcpopt.Set{6: {192, 0, 2, 2}, 42: {192, 0, 2, 3}})
	equal(t, "time servers", s.Options.TimeServers, []string{"192.0.2.3"})
	equal(t, "time zone", s.Options.TimeZone.String(), "Europe/Berlin")
	equal(t, "networks", s.Networks, []Network{{
		Position: Position{8, 5}, Name: "radiology", Prefix: netip.MustParsePrefix("192.0.2.0/24"),
		Pools:     []Pool{{First: netip.MustParseAddr("192.0.2.100"), Last: netip.MustParseAddr("192.0.2.199")}},
		LeaseTime: 12 * time.Hour, MinLeaseTime: 12 * time.Hour, MaxLeaseTime: 12 * time.Hour, DeclineTime: 24 * time.Hour,
		Options: Options{Values: dhcpopt.Set{3: {192, 0, 2, 1}, 26: {5, 220}}},
	}})
	equal(t, "devices", s.Devices, []Device{
		{
			Position: Position{14, 5}, Name: "ct1", Hostname: "ct1.imaging.example.org.", Types: []string{"CT"},
			HardwareAddresses: []HardwareAddress{{1, "\x00\x00\x5e\x00\x53\x01"}}, Addresses: addresses("192.0.2.11"), DHCP: true, Installed: true,
			Applications: []Application{
				{Position: Position{19, 9}, AETitle: "CT1", Port: 104},
				{Position: Position{20, 9}, AETitle: "CT1_TLS", Port: 2762, Protocol: DICOMTLS},
			},
		},
		{
			Position: Position{21, 5}, Name: "oldmr", Hostname: "oldmr.imaging.example.org.", Types: []string{"MR"},
			Addresses: addresses("192.0.2.20"), Installed: true, Publish: PublishAlways,
			Applications: []Application{{Position: Position{25, 20}, AETitle: "OLDMR", Port: 104}},
		},
	})
	equal(t, "services", s.Services, []Service{{Position{27, 5}, "ldap", "tcp", "ldap.imaging.example.org.", 389, 0, 0}})
	equal(t, "reserved", s.ReservedAddresses(), addresses("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.11", "192.0.2.20"))
}

func TestWholeSchema(t *testing.T) {
	s := mustParse(t, wholeFile)
	equal(t, "domain", s.Domain, "imaging.example.org.")
	equal(t, "contact", s.Contact, `it\.support.example.org.`)
	equal(t, "TTL", s.TTL, 90*time.Second)
	equal(t, "name servers", s.NameServers, []NameServer{
		{"ns1.imaging.example.org.", netip.MustParseAddr("192.0.2.2")}, // the device's address
		{"ns.example.net.", netip.MustParseAddr("203.0.113.2")},
	})
	equal(t, "options", s.Options.Values, dhcpopt.Set{
		6: {192, 0, 2, 2}, 42: {192, 0, 2, 3}, 252: []byte("http://192.0.2.4/wpad.dat"), 101: []byte("UTC"),
	})
	equal(t, "time servers", s.Options.TimeServers, []string{"ntp.imaging.example.org.", "192.0.2.3", "ntp.example.net."})
	equal(t, "classes", s.Classes, []Class{
		{Position: Position{13, 5}, Name: "pxe", VendorClass: "PXEClient", Options: Options{Values: dhcpopt.Set{67: []byte("pxelinux.0")}}},
		{Position: Position{14, 5}, Name: "home", UserClass: "home", place: 1},
		{Position: Position{15, 5}, Name: "port", CircuitID: []byte("port-17"), place: 2},
		{Position: Position{16, 5}, Name: "switch", RemoteID: []byte{0, 0, 0x5e, 0, 0x53, 0xfe}, place: 3},
		{Position: Position{17, 5}, Name: "ipsec", HardwareType: 31, place: 4},
	})
	n := s.Networks[0]
	equal(t, "time zone", n.Options.TimeZone.String(), "Europe/Berlin")
	n.Options = Options{}
	equal(t, "network", n, Network{
		Position: Position{19, 5}, Name: "radiology", Prefix: netip.MustParsePrefix("192.0.2.0/24"), SharedNetwork: "floor1", Interface: "eth0.7",
		Authoritative: true, LeaseTime: 36 * time.Hour, MinLeaseTime: 5 * time.Minute, MaxLeaseTime: Infinite, DeclineTime: 7 * 24 * time.Hour,
		Probe: ProbeARP, Publish: PublishAlways, DDNS: DDNS{DDNSLastWins, DDNSFixed, DDNSNone},
		Pools: []Pool{
			{First: netip.MustParseAddr("192.0.2.100"), Last: netip.MustParseAddr("192.0.2.149")},
			{First: netip.MustParseAddr("192.0.2.99"), Last: netip.MustParseAddr("192.0.2.99")},
			{First: netip.MustParseAddr("192.0.2.150"), Last: netip.MustParseAddr("192.0.2.159"), Class: "pxe", Clients: UnknownClients},
		},
	})
	link := s.Networks[1]
	equal(t, "lease times from the maximum", [3]time.Duration{link.LeaseTime, link.MinLeaseTime, link.MaxLeaseTime}, [3]time.Duration{time.Hour, time.Hour, time.Hour})
	equal(t, "probe", link.Probe, ProbeICMP)
	d := s.Devices[0]
	equal(t, "device", d, Device{
		Position: Position{38, 5}, Name: "PET 1", Hostname: "pet1.imaging.example.org.", Types: []string{"PT", "CT"},
		HardwareAddresses: []HardwareAddress{
			{1, "\x00\x00\x5e\x00\x53\x01"}, {1, "\x00\x00\x5e\x00\x53\x02"}, {1, "\x00\x00\x5e\x00\x53\x03"}, {6, "\x00\x00\x5e\x00\x53\x04"},
		},
		ClientIdentifier: []byte{1, 0, 0, 0x5e, 0, 0x53, 1}, CircuitID: []byte("port-1"), RemoteID: []byte{0, 1},
		Addresses: addresses("192.0.2.11", "198.51.100.0"), DHCP: true, Publish: PublishLeased, Cluster: "pets",
		Description: "PET/CT in room 5", Manufacturer: "Example", Model: "7", SerialNumber: "0815", StationName: "PET1", Location: "Cellar",
		Options: Options{
			Values:      dhcpopt.Set{15: []byte("pets.example.org"), 2: {0xff, 0xff, 0xf1, 0xf0}},
			TimeServers: []string{"ntp2.example.net."},
		},
		Applications: []Application{
			{Position: Position{57, 9}, AETitle: "PET 1", Name: "Röntgen 5. Stock", Port: 104, Priority: 1, Weight: 2, TXT: []string{"room=5", "quiet"}},
			{Position: Position{58, 9}, Port: 443, Protocol: DICOMWebTLS, Path: "/dicom-web"},
			{Position: Position{59, 9}, AETitle: "QR", Port: 2761, Protocol: DICOMISCL},
		},
	})
	equal(t, "published as its network says", s.Devices[2].Publish, PublishAlways)
	equal(t, "services", s.Services, []Service{
		{Position{63, 5}, "ldap", "tcp", "ldap.imaging.example.org.", 389, 10, 20},
		{Position{64, 5}, "ntp", "udp", "ntp.example.net.", 123, 0, 0},
	})
	for _, keys := range [][]string{siteKeys, nameServerKeys, classKeys, networkKeys, ddnsKeys, poolKeys, deviceKeys, applicationKeys, serviceKeys, typedKeys} {
		for _, key := range append(keys, keyTimeZone) {
			if key != "dhcp" && !strings.Contains(wholeFile, key+":") {
				t.Errorf("the test does not use the key %q", key)
			}
		}
	}
}

func TestInstanceName(t *testing.T) {
	d := mustParse(t, wholeFile).Devices[0]
	for i, want := range []string{"Röntgen 5. Stock", "PET 1", "QR"} {
		equal(t, "instance name", d.Applications[i].InstanceName(&d), want)
	}
}

func TestWarnings(t *testing.T) {
	const file = `domain: example.org
networks:
  - {name: a, subnet: 192.0.2.0/24, options: {routers: [198.51.100.1]}}
  - {name: b, subnet: 203.0.113.0/25, shared-network: w, options: {routers: [203.0.113.129, 198.51.100.1]}}
  - {name: c, subnet: 203.0.113.128/25, shared-network: w, min-lease-time: 1m, lease-time: 60, max-lease-time: 90, decline-time: 24}
  - {name: d, subnet: 198.51.100.0/25, lease-time: 12}
  - {name: e, subnet: 198.51.100.128/25, lease-time: 12s}
devices:
  - {name: ct1, type: [CT, ct, XYZ]}
  - name: ct2
    applications:
      - ae-title: A
        port: 104
        txt: [` + "A, B, C, D, E, F" + `]
`
	long := strings.NewReplacer("A,", strings.Repeat("a", 250)+",", "B", strings.Repeat("b", 250), "C,", strings.Repeat("c", 250)+",",
		"D", strings.Repeat("d", 250), "E", strings.Repeat("e", 250), "F", strings.Repeat("f", 100))
	head, txt, _ := strings.Cut(file, "txt: ")
	s, warnings, err := Parse("site.yaml", []byte(head+"txt: "+long.Replace(txt)))
	if err != nil || s == nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, w.String())
	}
	equal(t, "warnings", got, []string{
		`site.yaml:3:5: network "a": the router 198.51.100.1 is not inside the subnet 192.0.2.0/24`,
		`site.yaml:4:5: network "b": the router 198.51.100.1 is not inside the subnet 203.0.113.0/25`,
		`site.yaml:5:130: decline-time: 24 is 24 seconds; with a unit it is clear, as in 24h or 24s`,
		`site.yaml:6:52: lease-time: 12 is 12 seconds; with a unit it is clear, as in 12h or 12s`,
		`site.yaml:9:28: type: "ct" is not a Primary Device Type of DICOM (CID 30); did you mean "CT"?`,
		`site.yaml:9:32: type: "XYZ" is not a Primary Device Type of DICOM (CID 30), such as CT, MR or ARCHIVE`,
		`site.yaml:14:14: txt: the strings take 1356 octets together; above 1300 an answer may not fit into one packet`,
	})
	equal(t, "types", s.Devices[0].Types, []string{"CT", "ct", "XYZ"})
}

// What looks like a mistake and may be meant is a warning.
func TestLikelyMistakes(t *testing.T) {
	const radiology = "networks:\n- {name: a, subnet: 192.0.2.0/24, options: {routers: [192.0.2.1]}}\n"
	for _, test := range []struct{ name, file, want string }{
		{"domain of multicast DNS", "domain: imaging.local\n",
			`site.yaml:1:9: domain: "imaging.local" is below local, where many machines ask for names by multicast and no name server (RFC 6762)`},
		{"top-level domain", "domain: imaging\n",
			`site.yaml:1:9: domain: "imaging" is a top-level domain, where many machines ask no name server; expected one such as imaging.example.org`},
		{"a domain", "domain: imaging.localnet.example\n", ""},
		{"address of the router", "domain: example.org\n" + radiology + "devices:\n- {name: ct1, address: 192.0.2.1}\n",
			`site.yaml:5:24: address: 192.0.2.1 is that of a router of network "a", and is given to device "ct1"`},
		{"the router itself", "domain: example.org\n" + radiology + "devices:\n- {name: gate, address: 192.0.2.1, dhcp: false}\n", ""},
		{"address of a name server", "domain: example.org\nname-servers: [{host: ns1, address: 192.0.2.2}]\n" + radiology + "devices:\n- {name: ct1, address: 192.0.2.2}\n",
			`site.yaml:6:24: address: 192.0.2.2 is that of the name server ns1.example.org, and is given to device "ct1"`},
		{"the name server itself", "domain: example.org\nname-servers: [{host: ns1, address: 192.0.2.2}]\n" + radiology + "devices:\n- {name: ns1, address: 192.0.2.2}\n", ""},
		{"host name of another domain", "domain: example.org\ndevices:\n- {name: ct1, hostname: ct1.example.com}\n- {name: ct2, hostname: ct2.west}\n",
			`site.yaml:3:25: hostname: "ct1.example.com" means ct1.example.com.example.org; if it is complete, end it in a dot`},
		{"host of a service, misspelt", "domain: example.org\ndevices:\n- {name: ldap}\nservices:\n- {name: ldap, protocol: tcp, host: ldpa, port: 389}\n",
			`site.yaml:5:3: service "ldap": no device of this file is ldpa.example.org; did you mean "ldap"?`},
		{"host of a service that stands nowhere", "domain: example.org\nservices:\n- {name: ldap, protocol: tcp, host: ldap, port: 389}\n- {name: ntp, protocol: udp, host: time.example.com, port: 123}\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, warnings, err := Parse("site.yaml", []byte(test.file))
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, w := range warnings {
				got = append(got, w.String())
			}
			if test.want != "" {
				want = []string{test.want}
			}
			equal(t, "warnings", got, want)
		})
	}
}

func TestTXTThatCannotBePublished(t *testing.T) {
	file := "domain: example.org\ndevices:\n- name: ct1\n  address: 192.0.2.1\n  dhcp: false\n  applications:\n  - ae-title: A\n    port: 104\n    txt:\n"
	for i := range 40 {
		file += fmt.Sprintf("    - k%d=%s\n", i, strings.Repeat("x", 240))
	}
	_, _, err := Parse("site.yaml", []byte(file))
	if want := "site.yaml:10:5: txt: the strings take 9790 octets together, expected at most 8000"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestDDNS(t *testing.T) {
	tests := map[string]DDNS{
		"{}":                                 {},
		"{mode: off}":                        {Mode: DDNSOff}, // which YAML 1.1 takes for false
		"{mode: keep-static, forward: true}": {Mode: DDNSKeepStatic, Forward: DDNSAll},
		"{mode: strict, forward: none, reverse: fixed}": {Forward: DDNSNone, Reverse: DDNSFixed},
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			s := mustParse(t, "domain: example.org\nnetworks: [{name: a, subnet: 192.0.2.0/24, ddns: "+text+"}]\n")
			equal(t, "ddns", s.Networks[0].DDNS, want)
		})
	}
}

func TestWithoutNetworks(t *testing.T) {
	s := mustParse(t, "domain: example.org\ndevices: [{name: ct1, address: 192.0.2.11}, {name: ct2, dhcp: false, address: 198.51.100.1}]\n")
	equal(t, "reserved", s.ReservedAddresses(), addresses("192.0.2.11", "198.51.100.1"))
	equal(t, "name servers", s.NameServers, []NameServer{{Host: "ns.example.org."}})
}

func TestBounds(t *testing.T) {
	t.Run("size", func(t *testing.T) {
		data := append([]byte("domain: example.org\n"), slices.Repeat([]byte("#\n"), MaxSize/2)...)
		_, _, err := Parse("site.yaml", data)
		if err == nil || err.Error() != "site.yaml:1:1: the file is larger than 16777216 octets" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("errors", func(t *testing.T) {
		_, _, err := Parse("site.yaml", []byte(strings.Repeat("wrong: 1\n", 5000)))
		var found Errors
		if !errors.As(err, &found) || len(found) != maxProblems+1 || found[maxProblems].Message != "and 4001 more errors, which are not listed" {
			t.Errorf("got %d errors, the last %v", len(found), found[len(found)-1])
		}
	})
	t.Run("addresses of a device", func(t *testing.T) {
		var file strings.Builder
		file.WriteString("domain: example.org\ndevices:\n  - name: a\n    dhcp: false\n    address:\n")
		for i := range 70 {
			file.WriteString("      - 192.0.2." + itoa(i+1) + "\n")
		}
		_, _, err := Parse("site.yaml", []byte(file.String()))
		var found Errors
		if !errors.As(err, &found) || len(found) != 6 || found[0].String() != "site.yaml:70:9: address: expected at most 64 at one device" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("depth", func(t *testing.T) {
		if _, _, err := Parse("site.yaml", []byte("domain: "+strings.Repeat("[", 100_000))); err == nil {
			t.Error("got no error")
		}
	})
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "site.yaml")
	if _, _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: got %v", err)
	}
	if _, _, err := Load(filepath.Dir(path)); err == nil {
		t.Error("a directory: got no error")
	}
	if err := os.WriteFile(path, []byte(exampleFile), 0o600); err != nil {
		t.Fatal(err)
	}
	s, warnings, err := Load(path)
	if err != nil || len(warnings) > 0 || s.File != path {
		t.Errorf("got %v, %v, %v", s, warnings, err)
	}
	if err := os.WriteFile(path, []byte("domain: -\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var found Errors
	if s, _, err := Load(path); !errors.As(err, &found) || s != nil || found[0].File != path {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestDuration(t *testing.T) {
	day := 24 * time.Hour
	tests := map[string]time.Duration{
		"1": time.Second, "90": 90 * time.Second, "90s": 90 * time.Second, "30m": 30 * time.Minute, "12h": 12 * time.Hour, "1d": day, "2w": 14 * day,
		"1d12h": 36 * time.Hour, "1w2d3h4m5s": 9*day + 3*time.Hour + 4*time.Minute + 5*time.Second, "4294967294": Infinite - time.Second, "0": 0,
		"": -1, "s": -1, "1x": -1, "-1s": -1, "1.5h": -1, "1h30": -1, "1 h": -1, "4294967295": -1, "4294967296": -1, "7102w": -1, "99999999999999999999": -1,
		"7101w7101w": -1, "1h ": -1, "١h": -1,
	}
	for v, want := range tests {
		t.Run(v, func(t *testing.T) {
			got, ok := parseDuration(v)
			if ok != (want >= 0) || ok && got != want {
				t.Errorf("got %v, %v, want %v", got, ok, want)
			}
		})
	}
}

func TestEnums(t *testing.T) {
	for _, names := range [][]string{protocolNames, probeNames, publishNames, clientsNames, ddnsModeNames, ddnsScopeNames} {
		if slices.Contains(names, "") {
			t.Errorf("a name is missing: %q", names)
		}
	}
	for got, want := range map[string]string{
		DICOMWebTLS.String(): "dicomweb-tls", ProbeICMP.String(): "icmp", PublishAlways.String(): "always", UnknownClients.String(): "unknown",
		DDNSOff.String(): "off", DDNSNone.String(): "none", Protocol(99).String(): "99",
	} {
		equal(t, "name", got, want)
	}
}
