package dnssd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"

	"github.com/miekg/dns"
)

// at returns the lines of the records at a name.
func at(rrs []dns.RR, name string) []string {
	return lines(slices.DeleteFunc(slices.Clone(rrs), func(rr dns.RR) bool { return rr.Header().Name != name }))
}

func TestServiceTypes(t *testing.T) {
	d := site.Device{
		Name: "pacs", Hostname: "pacs." + domain, Types: []string{"ARCHIVE"}, Installed: true, Publish: site.PublishAlways,
		Addresses: []netip.Addr{addr("192.0.2.1")},
	}
	protocols := []site.Protocol{site.DICOM, site.DICOMTLS, site.DICOMISCL, site.DICOMWeb, site.DICOMWebTLS}
	for i, protocol := range protocols {
		a := site.Application{AETitle: "PACS", Port: uint16(100 + i), Protocol: protocol}
		if protocol.Web() {
			a.Path = "/dicom-web"
		}
		d.Applications = append(d.Applications, a)
	}
	rrs := Publish(&site.Site{Domain: domain, Devices: []site.Device{d}}, domain).Records(hosts{})
	for i, service := range []string{"_dicom", "_dicom-tls", "_dicom-iscl", "_dicomweb", "_dicomweb-tls"} {
		t.Run(service, func(t *testing.T) {
			name := service + "._tcp." + domain
			equal(t, "the service", at(rrs, name), []string{
				name + " 0 IN PTR PACS." + name, fmt.Sprintf("%s 0 IN SRV 0 0 %d pacs.%s", name, 100+i, domain),
			})
			text := `"AET=PACS" "PrimaryDeviceType=ARCHIVE"`
			if strings.Contains(service, "web") {
				text += ` "DICOMWebPath=/dicom-web"`
			}
			equal(t, "the instance", at(rrs, "PACS."+name), []string{
				fmt.Sprintf("PACS.%s 0 IN SRV 0 0 %d pacs.%s", name, 100+i, domain), "PACS." + name + " 0 IN TXT " + text,
			})
			equal(t, "the subtype", at(rrs, "_archive._sub."+name), []string{"_archive._sub." + name + " 0 IN PTR PACS." + name})
			if !slices.Contains(at(rrs, "_services._dns-sd._udp."+domain), "_services._dns-sd._udp."+domain+" 0 IN PTR "+name) {
				t.Error("not in the list of service types")
			}
		})
	}
	equal(t, "text of the host", at(rrs, "pacs."+domain), []string{
		"pacs." + domain + " 0 IN A 192.0.2.1",
		"pacs." + domain + ` 0 IN TXT "AET=PACS" "PrimaryDeviceType=ARCHIVE" "DICOMWebPath=/dicom-web"`,
	})
}

func TestTextOfHost(t *testing.T) {
	const host = "pacs." + domain
	tests := []struct {
		name         string
		applications []site.Application
		want         []string
	}{
		{"one title", []site.Application{{AETitle: "A", Port: 104}, {AETitle: "A", Port: 2762, Protocol: site.DICOMTLS}}, []string{`"AET=A"`}},
		{"two titles", []site.Application{{AETitle: "A", Port: 104}, {AETitle: "B", Port: 105}}, []string{`"AET=A"`, `"AET=B"`}},
		{"web first", []site.Application{{Protocol: site.DICOMWeb, Path: "/w"}, {AETitle: "A"}},
			[]string{`"DICOMWebPath=/w"`, `"AET=A"`}},
		{"web last", []site.Application{{AETitle: "A"}, {AETitle: "B"}, {Protocol: site.DICOMWeb, Path: "/w", TXT: []string{"x=1"}}},
			[]string{`"AET=A" "DICOMWebPath=/w" "x=1"`, `"AET=B"`}},
		{"nothing to say", []site.Application{{Protocol: site.DICOMWeb}}, []string{`""`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &site.Site{Domain: domain, Devices: []site.Device{{
				Name: "pacs", Hostname: host, DHCP: true, Installed: true, Applications: tt.applications,
			}}}
			rrs := Publish(s, domain).Records(everything{})
			var want []string
			for _, w := range tt.want {
				want = append(want, host+" 0 IN TXT "+w)
			}
			equal(t, "text", at(rrs, host), want)
		})
	}
}

// crowded is a zone where every host has its address and other TXT records.
type crowded struct{ everything }

func (crowded) Others(_ string, rrtype uint16) bool { return rrtype == dns.TypeTXT }

func TestTextYields(t *testing.T) {
	p := Publish(testSite(), domain)
	const host = "ct1." + domain
	if got := at(p.Records(everything{}), host); len(got) != 2 {
		t.Errorf("text of the host: %v", got)
	}
	if got := at(p.Records(crowded{}), host); len(got) != 0 {
		t.Errorf("beside others' text: %v", got)
	}
	put, drop := p.Touched([]string{host}, crowded{})
	if len(at(drop, host)) != 2 || len(at(put, host)) != 0 || len(at(put, "CT1._dicom._tcp."+domain)) != 2 {
		t.Errorf("put %v, drop %v", lines(put), lines(drop))
	}
}

func TestBrowseDomains(t *testing.T) {
	prefix := netip.MustParsePrefix
	s := &site.Site{Domain: domain, Networks: []site.Network{
		{Prefix: prefix("192.0.2.0/25")}, {Prefix: prefix("192.0.2.128/25")}, {Prefix: prefix("10.1.0.0/16")}, {Prefix: prefix("2001:db8:1::/64")}, {},
	}}
	browse := func(zone string) (names []string) {
		for _, line := range lines(Publish(s, zone).Fixed) {
			name, isPTR := strings.CutSuffix(line, " 0 IN PTR "+domain)
			if isPTR {
				names = append(names, name)
			}
		}
		return names
	}
	if got := browse(domain); len(got) != 0 {
		t.Errorf("without services there is nothing to browse: %v", got)
	}
	s.Devices = []site.Device{{Hostname: "a." + domain, DHCP: true, Applications: []site.Application{{AETitle: "A"}}}}
	if got := browse(domain); len(got) != 0 {
		t.Errorf("nor with one that is not installed: %v", got)
	}
	s.Devices[0].Installed = true
	for zone, bases := range map[string][]string{
		domain:                      {domain},
		"2.0.192.in-addr.arpa.":     {"0.2.0.192.in-addr.arpa.", "128.2.0.192.in-addr.arpa."},
		"1.10.in-addr.arpa.":        {"0.0.1.10.in-addr.arpa."},
		"0.0.1.10.in-addr.arpa.":    {"0.0.1.10.in-addr.arpa."},
		"1.0.1.10.in-addr.arpa.":    nil,
		"8.b.d.0.1.0.0.2.ip6.arpa.": {site.ReverseName(addr("2001:db8:1::"))},
		"example.com.":              nil,
	} {
		var want []string
		for _, base := range bases {
			for _, e := range []string{"b", "db", "r", "dr", "lb"} {
				want = append(want, e+"._dns-sd._udp."+base)
			}
		}
		equal(t, zone, browse(zone), want)
	}
}

func TestOtherServices(t *testing.T) {
	device := func(name string, d site.Device) site.Device {
		d.Name, d.Hostname = name, name+"."+domain
		return d
	}
	s := &site.Site{Domain: domain, Devices: []site.Device{
		device("leased", site.Device{DHCP: true, Installed: true}),
		device("fixed", site.Device{Installed: true, Publish: site.PublishAlways, Addresses: []netip.Addr{addr("192.0.2.1")}}),
		device("gone", site.Device{Publish: site.PublishAlways, Addresses: []netip.Addr{addr("192.0.2.2")}}),
	}}
	for i, host := range []string{"leased." + domain, "fixed." + domain, "gone." + domain, "other." + domain, "ntp.example.net."} {
		s.Services = append(s.Services, site.Service{Name: "ntp", Protocol: "udp", Host: host, Port: 123, Priority: uint16(i), Weight: 7})
	}
	p := Publish(s, domain)
	equal(t, "fixed", at(p.Fixed, "_ntp._udp."+domain), []string{
		"_ntp._udp.imaging.example.org. 0 IN SRV 1 7 123 fixed.imaging.example.org.",
		"_ntp._udp.imaging.example.org. 0 IN SRV 3 7 123 other.imaging.example.org.",
		"_ntp._udp.imaging.example.org. 0 IN SRV 4 7 123 ntp.example.net.",
	})
	if !p.Reserves("_ntp._udp."+domain, dns.TypeSRV) || p.Reserves("_ntp._udp."+domain, dns.TypeTXT) || p.Reserves("_ntp._tcp."+domain, dns.TypeSRV) {
		t.Error("others may speak for a service whose host is off, or may not for another one")
	}
	if Publish(s, "2.0.192.in-addr.arpa.").Reserves("_ntp._udp."+domain, dns.TypeSRV) {
		t.Error("a name outside the zone is reserved")
	}
	equal(t, "conditional", conditionals(p), []string{
		"_ntp._udp.imaging.example.org. 0 IN SRV 0 7 123 leased.imaging.example.org. while leased.imaging.example.org.",
	})
}

func TestReserves(t *testing.T) {
	p := Publish(testSite(), domain)
	for _, tt := range []struct {
		name   string
		rrtype uint16
		want   bool
	}{
		{"ct1._dicom._tcp." + domain, dns.TypeSRV, true},
		{"ct1._dicom._tcp." + domain, dns.TypeANY, true},
		{`old\.mr\ 1._dicom._tcp.` + domain, dns.TypeTXT, true},
		{"ct1._dicom-tls._tcp." + domain, dns.TypeSRV, false},
		{"*._dicom._tcp." + domain, dns.TypeSRV, true},
		{"_dicom._tcp." + domain, dns.TypeSRV, true},
		{"_dicom._tcp." + domain, dns.TypePTR, false},
		{"_dicomweb._tcp." + domain, dns.TypeSRV, false},
		{"gone._dicom._tcp." + domain, dns.TypeSRV, false}, // not installed
		{"ct1." + domain, dns.TypeA, false},
	} {
		if got := p.Reserves(tt.name, tt.rrtype); got != tt.want {
			t.Errorf("%s %s: %t", tt.name, dns.TypeToString[tt.rrtype], got)
		}
	}
	if Publish(testSite(), "2.0.192.in-addr.arpa.").Reserves("ct1._dicom._tcp."+domain, dns.TypeSRV) {
		t.Error("a name outside the zone is reserved")
	}
}

// FuzzNames holds that whatever stands in a site file can be written and is
// read back as it was.
func FuzzNames(f *testing.F) {
	f.Add("CT1", "Archive Nr. 1", "CT", "k=v")
	f.Add(`A"B;@()`, `a\.b`, "_x y", "=")
	f.Add("", strings.Repeat("ü", 40), strings.Repeat("T", 80), strings.Repeat("k", 300))
	f.Fuzz(func(t *testing.T, title, name, deviceType, text string) {
		if len(title) > 16 || name == "" && title == "" {
			return
		}
		s := &site.Site{Domain: domain, Devices: []site.Device{{
			Name: "d", Hostname: "d." + domain, Types: []string{deviceType}, DHCP: true, Installed: true,
			Applications: []site.Application{{AETitle: title, Name: name, Port: 1, TXT: []string{text, text + "2"}}},
		}}}
		for _, rr := range Publish(s, domain).Records(everything{}) {
			wire := make([]byte, 4096)
			n, err := dns.PackRR(rr, wire, 0, nil, false)
			if err != nil {
				t.Fatalf("%v: %v", rr, err)
			}
			back, _, err := dns.UnpackRR(wire[:n], 0)
			if err != nil || !dns.IsDuplicate(rr, back) || back.Header().Name != rr.Header().Name {
				t.Fatalf("%v read back as %v, %v", rr, back, err)
			}
		}
	})
}

func TestTextIsBounded(t *testing.T) {
	var types, more []string
	for i := range 64 {
		types = append(types, fmt.Sprintf("TYPE%012d", i))
		more = append(more, fmt.Sprintf("k%d=%s", i, strings.Repeat("x", 240)))
	}
	about := text([]member{{&site.Device{Types: types}, &site.Application{AETitle: "A", TXT: more}}})
	total := 0
	for _, s := range about {
		if len(s) > maxString {
			t.Errorf("%d octets: %s", len(s), s)
		}
		total += 1 + len(s)
	}
	if total > maxText || total < maxText-300 {
		t.Errorf("%d octets together", total)
	}
	if want := "PrimaryDeviceType=" + strings.Join(types[:14], ","); about[1] != want {
		t.Errorf("types %q, want %q", about[1], want)
	}
}
