package dnssd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"

	"github.com/miekg/dns"
)

const domain = "imaging.example.org."

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// testSite has one device of each kind that is published in its own way.
func testSite() *site.Site {
	return &site.Site{
		Domain:  domain,
		Contact: "hostmaster.imaging.example.org.",
		TTL:     5 * time.Minute,
		NameServers: []site.NameServer{
			{Host: "ns1.imaging.example.org.", Address: addr("192.0.2.2")},
			{Host: "ns2.imaging.example.org.", Address: addr("2001:db8::2")},
			{Host: "ns.example.net."},
		},
		Devices: []site.Device{
			{
				Name: "ct1", Hostname: "ct1.imaging.example.org.", Types: []string{"CT", "PT"},
				Addresses: []netip.Addr{addr("192.0.2.11"), addr("198.51.100.11")}, DHCP: true, Installed: true,
				Applications: []site.Application{
					{AETitle: "CT1", Port: 104},
					{AETitle: "CT1_TLS", Port: 2762, Protocol: site.DICOMTLS, TXT: []string{"note=north", "AET=other", "plain"}},
				},
			},
			{
				Name: "oldmr", Hostname: "oldmr.imaging.example.org.", Types: []string{"MR"},
				Addresses: []netip.Addr{addr("192.0.2.20")}, Installed: true, Publish: site.PublishAlways,
				Applications: []site.Application{{AETitle: "OLD.MR 1", Port: 104, Priority: 3, Weight: 4}},
			},
			{
				Name: "us1", Hostname: "us1.imaging.example.org.", DHCP: true, Installed: true,
				Applications: []site.Application{{AETitle: "US1", Name: "Ultrasound \"A\"\\ö", Port: 11112}},
			},
			{
				Name: "gone", Hostname: "gone.imaging.example.org.", Publish: site.PublishAlways,
				Addresses:    []netip.Addr{addr("192.0.2.30")},
				Applications: []site.Application{{AETitle: "GONE", Port: 104}},
			},
		},
		Services: []site.Service{{
			Name: "ldap", Protocol: "tcp", Host: "ldap.imaging.example.org.", Port: 389, Priority: 1, Weight: 2,
		}},
	}
}

func lines(rrs []dns.RR) []string {
	var all []string
	for _, rr := range rrs {
		all = append(all, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return all
}

func conditionals(p *Publication) []string {
	var all []string
	for _, c := range p.Conditional {
		var hosts []string
		for _, h := range c.While {
			if h.Address.IsValid() {
				hosts = append(hosts, h.Name+"="+h.Address.String())
			} else {
				hosts = append(hosts, h.Name)
			}
		}
		all = append(all, lines([]dns.RR{c.RR})[0]+" while "+strings.Join(hosts, " "))
	}
	return all
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got:\n  %s\nwant:\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestPublishForward(t *testing.T) {
	p := Publish(testSite(), "Imaging.Example.ORG")
	equal(t, "SOA", lines([]dns.RR{p.SOA}), []string{
		"imaging.example.org. 60 IN SOA ns1.imaging.example.org. hostmaster.imaging.example.org. 0 3600 600 1209600 60",
	})
	equal(t, "fixed", lines(p.Fixed), []string{
		"imaging.example.org. 300 IN NS ns1.imaging.example.org.",
		"imaging.example.org. 300 IN NS ns2.imaging.example.org.",
		"imaging.example.org. 300 IN NS ns.example.net.",
		"ns1.imaging.example.org. 300 IN A 192.0.2.2",
		"ns2.imaging.example.org. 300 IN AAAA 2001:db8::2",
		"oldmr.imaging.example.org. 300 IN A 192.0.2.20",
		"_ldap._tcp.imaging.example.org. 300 IN SRV 1 2 389 ldap.imaging.example.org.",
		"b._dns-sd._udp.imaging.example.org. 300 IN PTR imaging.example.org.",
		"db._dns-sd._udp.imaging.example.org. 300 IN PTR imaging.example.org.",
		"r._dns-sd._udp.imaging.example.org. 300 IN PTR imaging.example.org.",
		"dr._dns-sd._udp.imaging.example.org. 300 IN PTR imaging.example.org.",
		"lb._dns-sd._udp.imaging.example.org. 300 IN PTR imaging.example.org.",
		"_services._dns-sd._udp.imaging.example.org. 300 IN PTR _dicom._tcp.imaging.example.org.",
		"_services._dns-sd._udp.imaging.example.org. 300 IN PTR _dicom-tls._tcp.imaging.example.org.",
		`_dicom._tcp.imaging.example.org. 300 IN PTR OLD\.MR\ 1._dicom._tcp.imaging.example.org.`,
		`OLD\.MR\ 1._dicom._tcp.imaging.example.org. 300 IN SRV 3 4 104 oldmr.imaging.example.org.`,
		`OLD\.MR\ 1._dicom._tcp.imaging.example.org. 300 IN TXT "AET=OLD.MR 1" "PrimaryDeviceType=MR"`,
		`_mr._sub._dicom._tcp.imaging.example.org. 300 IN PTR OLD\.MR\ 1._dicom._tcp.imaging.example.org.`,
		"_dicom._tcp.imaging.example.org. 300 IN SRV 3 4 104 oldmr.imaging.example.org.",
		`oldmr.imaging.example.org. 300 IN TXT "AET=OLD.MR 1" "PrimaryDeviceType=MR"`,
	})
	ct1 := " while ct1.imaging.example.org.=192.0.2.11 ct1.imaging.example.org.=198.51.100.11"
	us1 := " while us1.imaging.example.org."
	us1Name := `Ultrasound\ \"A\"\\\195\182._dicom._tcp.imaging.example.org.`
	equal(t, "conditional", conditionals(p), []string{
		"_dicom._tcp.imaging.example.org. 300 IN PTR CT1._dicom._tcp.imaging.example.org." + ct1,
		"CT1._dicom._tcp.imaging.example.org. 300 IN SRV 0 0 104 ct1.imaging.example.org." + ct1,
		`CT1._dicom._tcp.imaging.example.org. 300 IN TXT "AET=CT1" "PrimaryDeviceType=CT,PT"` + ct1,
		"_ct._sub._dicom._tcp.imaging.example.org. 300 IN PTR CT1._dicom._tcp.imaging.example.org." + ct1,
		"_pt._sub._dicom._tcp.imaging.example.org. 300 IN PTR CT1._dicom._tcp.imaging.example.org." + ct1,
		"_dicom._tcp.imaging.example.org. 300 IN SRV 0 0 104 ct1.imaging.example.org." + ct1,
		"_dicom-tls._tcp.imaging.example.org. 300 IN PTR CT1_TLS._dicom-tls._tcp.imaging.example.org." + ct1,
		"CT1_TLS._dicom-tls._tcp.imaging.example.org. 300 IN SRV 0 0 2762 ct1.imaging.example.org." + ct1,
		`CT1_TLS._dicom-tls._tcp.imaging.example.org. 300 IN TXT "AET=CT1_TLS" "PrimaryDeviceType=CT,PT" "note=north" "plain"` + ct1,
		"_ct._sub._dicom-tls._tcp.imaging.example.org. 300 IN PTR CT1_TLS._dicom-tls._tcp.imaging.example.org." + ct1,
		"_pt._sub._dicom-tls._tcp.imaging.example.org. 300 IN PTR CT1_TLS._dicom-tls._tcp.imaging.example.org." + ct1,
		"_dicom-tls._tcp.imaging.example.org. 300 IN SRV 0 0 2762 ct1.imaging.example.org." + ct1,
		"_dicom._tcp.imaging.example.org. 300 IN PTR " + us1Name + us1,
		us1Name + " 300 IN SRV 0 0 11112 us1.imaging.example.org." + us1,
		us1Name + ` 300 IN TXT "AET=US1"` + us1,
		"_dicom._tcp.imaging.example.org. 300 IN SRV 0 0 11112 us1.imaging.example.org." + us1,
		`ct1.imaging.example.org. 300 IN TXT "AET=CT1" "PrimaryDeviceType=CT,PT"` + ct1,
		`ct1.imaging.example.org. 300 IN TXT "AET=CT1_TLS" "PrimaryDeviceType=CT,PT" "note=north" "plain"` + ct1,
		`us1.imaging.example.org. 300 IN TXT "AET=US1"` + us1,
	})
}

func TestPublishOtherZones(t *testing.T) {
	tests := []struct {
		name, zone string
		want       []string // fixed, without NS
	}{
		{"reverse", "2.0.192.in-addr.arpa.", []string{
			"20.2.0.192.in-addr.arpa. 300 IN PTR oldmr.imaging.example.org.",
			"2.2.0.192.in-addr.arpa. 300 IN PTR ns1.imaging.example.org.",
		}},
		{"reverse of leases only", "100.51.198.in-addr.arpa.", nil},
		{"reverse v6", "8.b.d.0.1.0.0.2.ip6.arpa.", []string{
			"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 300 IN PTR ns2.imaging.example.org.",
		}},
		{"unrelated", "example.com.", nil},
		{"below the domain", "oldmr.imaging.example.org.", []string{
			"oldmr.imaging.example.org. 300 IN A 192.0.2.20",
			`oldmr.imaging.example.org. 300 IN TXT "AET=OLD.MR 1" "PrimaryDeviceType=MR"`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Publish(testSite(), tt.zone)
			want := []string{
				tt.zone + " 300 IN NS ns1.imaging.example.org.",
				tt.zone + " 300 IN NS ns2.imaging.example.org.",
				tt.zone + " 300 IN NS ns.example.net.",
			}
			equal(t, "fixed", lines(p.Fixed), append(want, tt.want...))
			if p.SOA.Hdr.Name != tt.zone {
				t.Errorf("SOA at %s", p.SOA.Hdr.Name)
			}
			if len(p.Conditional) != 0 {
				t.Errorf("conditional records: %v", conditionals(p))
			}
		})
	}
}

// hosts is a set of addresses that hosts have.
type hosts map[Host]bool

func (h hosts) Others(string, uint16) bool { return false }

func (h hosts) HasAddress(want Host) bool {
	if want.Address.IsValid() {
		return h[want]
	}
	for have := range h {
		if have.Name == want.Name {
			return true
		}
	}
	return false
}

// everything is a zone in which every host has its address.
type everything struct{ hosts }

func (everything) HasAddress(Host) bool { return true }

func TestRecordsFollowAddresses(t *testing.T) {
	p := Publish(testSite(), domain)
	const ct1, us1 = "ct1.imaging.example.org.", "us1.imaging.example.org."
	tests := []struct {
		name  string
		have  hosts
		stand string // the instances beside the fixed one
	}{
		{"none", nil, ""},
		{"fixed address", hosts{{ct1, addr("192.0.2.11")}: true}, "CT1 CT1_TLS"},
		{"its other fixed address", hosts{{ct1, addr("198.51.100.11")}: true}, "CT1 CT1_TLS"},
		{"fixed device with a foreign address", hosts{{ct1, addr("192.0.2.99")}: true}, ""},
		{"pool device", hosts{{us1, addr("192.0.2.150")}: true}, "US1"},
		{"both", hosts{{ct1, addr("192.0.2.11")}: true, {us1, addr("192.0.2.150")}: true}, "CT1 CT1_TLS US1"},
		{"a stranger", hosts{{"pc.imaging.example.org.", addr("192.0.2.11")}: true}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var titles []string
			rrs := p.Records(tt.have)
			for _, rr := range rrs[len(p.Fixed):] {
				if x, ok := rr.(*dns.TXT); ok && strings.Contains(x.Hdr.Name, "._tcp.") {
					titles = append(titles, strings.TrimPrefix(x.Txt[0], "AET="))
				}
			}
			if got := strings.Join(titles, " "); got != tt.stand {
				t.Errorf("services of %q stand, want %q", got, tt.stand)
			}
			// What Touched says about every host is the same truth.
			put, drop := p.Touched([]string{ct1, us1, ct1, "x.imaging.example.org."}, tt.have)
			equal(t, "put", slices.Sorted(slices.Values(lines(put))), slices.Sorted(slices.Values(lines(rrs[len(p.Fixed):]))))
			if len(put)+len(drop) != len(p.Conditional) {
				t.Errorf("put %d, dropped %d of %d", len(put), len(drop), len(p.Conditional))
			}
		})
	}
	t.Run("only what is touched", func(t *testing.T) {
		put, drop := p.Touched([]string{us1}, hosts{})
		if len(put) != 0 || len(drop) != 5 {
			t.Errorf("put %v, drop %v", put, drop)
		}
	})
}

func TestCluster(t *testing.T) {
	s := &site.Site{Domain: domain, TTL: time.Minute}
	for i := 1; i <= 3; i++ {
		s.Devices = append(s.Devices, site.Device{
			Name: fmt.Sprintf("pacs%d", i), Hostname: fmt.Sprintf("pacs%d.%s", i, domain), Cluster: "pacs",
			Types: []string{"ARCHIVE"}, DHCP: true, Installed: true,
			Applications: []site.Application{{AETitle: "PACS", Port: 11112, Priority: uint16(i)}},
		})
	}
	instance := []string{
		`PACS._dicom._tcp.imaging.example.org. 60 IN TXT "AET=PACS" "PrimaryDeviceType=ARCHIVE"`,
		"_archive._sub._dicom._tcp.imaging.example.org. 60 IN PTR PACS._dicom._tcp.imaging.example.org.",
		"_dicom._tcp.imaging.example.org. 60 IN PTR PACS._dicom._tcp.imaging.example.org.",
	}
	member := func(i int) []string {
		return []string{
			fmt.Sprintf("PACS._dicom._tcp.imaging.example.org. 60 IN SRV %d 0 11112 pacs%d.imaging.example.org.", i, i),
			fmt.Sprintf("_dicom._tcp.imaging.example.org. 60 IN SRV %d 0 11112 pacs%d.imaging.example.org.", i, i),
			fmt.Sprintf(`pacs%d.imaging.example.org. 60 IN TXT "AET=PACS" "PrimaryDeviceType=ARCHIVE"`, i),
		}
	}
	check := func(t *testing.T, what string, p *Publication, have hosts, want ...[]string) {
		t.Helper()
		got := lines(p.Records(have))
		got = slices.DeleteFunc(got, func(line string) bool { return strings.Contains(line, "_dns-sd") })
		equal(t, what, slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(slices.Concat(want...))))
	}
	p := Publish(s, domain)
	up := hosts{{"pacs1." + domain, addr("192.0.2.1")}: true, {"pacs3." + domain, addr("192.0.2.3")}: true}
	check(t, "two of three up", p, up, instance, member(1), member(3))
	check(t, "none up", p, hosts{})
	put, drop := p.Touched([]string{"pacs2." + domain}, up)
	equal(t, "what stays when one goes", slices.Sorted(slices.Values(lines(put))), slices.Sorted(slices.Values(instance)))
	equal(t, "what goes with it", slices.Sorted(slices.Values(lines(drop))), slices.Sorted(slices.Values(member(2))))

	t.Run("one member always there", func(t *testing.T) {
		s.Devices[1].DHCP, s.Devices[1].Publish = false, site.PublishAlways
		s.Devices[1].Addresses = []netip.Addr{addr("192.0.2.2")}
		check(t, "none leased", Publish(s, domain), hosts{}, instance, member(2),
			[]string{"pacs2.imaging.example.org. 60 IN A 192.0.2.2"})
	})
}

func TestInstances(t *testing.T) {
	long := strings.Repeat("ü", 32) // 64 octets
	device := func(name, cluster string, a ...site.Application) site.Device {
		return site.Device{
			Name: name, Hostname: name + "." + domain, Cluster: cluster, Installed: true, Publish: site.PublishAlways,
			Addresses: []netip.Addr{addr("192.0.2.1")}, Applications: a,
		}
	}
	tests := []struct {
		name    string
		devices []site.Device
		want    []string // instance: TXT
	}{
		{"AE titles that differ in case", []site.Device{
			device("a", "", site.Application{AETitle: "PACS"}), device("b", "", site.Application{AETitle: "pacs"}),
		}, []string{`PACS: "AET=PACS"`, `pacs\ \(2\): "AET=pacs"`}},
		{"same friendly name", []site.Device{
			device("a", "", site.Application{AETitle: "A", Name: "Archive"}),
			device("b", "", site.Application{AETitle: "B", Name: "Archive"}),
			device("c", "", site.Application{AETitle: "C", Name: "archive"}),
		}, []string{`Archive: "AET=A"`, `Archive\ \(2\): "AET=B"`, `archive\ \(3\): "AET=C"`}},
		{"one title on two ports", []site.Device{
			device("a", "", site.Application{AETitle: "A", Port: 104}, site.Application{AETitle: "A", Port: 11112}),
		}, []string{`A: "AET=A"`}},
		{"same title in other protocols", []site.Device{
			device("a", "", site.Application{AETitle: "A"}, site.Application{AETitle: "A", Protocol: site.DICOMISCL}),
		}, []string{`A: "AET=A"`, `A: "AET=A"`}},
		{"web", []site.Device{
			device("a", "", site.Application{Protocol: site.DICOMWebTLS, Path: "/dicom-web"}),
		}, []string{`a: "DICOMWebPath=/dicom-web"`}},
		{"web without anything to say", []site.Device{
			device("a", "", site.Application{Protocol: site.DICOMWeb}),
		}, []string{`a: ""`}},
		{"long names", []site.Device{
			device("a", "", site.Application{AETitle: "A", Name: long}),
			device("b", "", site.Application{AETitle: "B", Name: long}),
		}, []string{
			strings.Repeat(`\195\188`, 31) + `: "AET=A"`,
			strings.Repeat(`\195\188`, 29) + `\ \(2\): "AET=B"`,
		}},
		{"hostile text", []site.Device{
			device("a", "", site.Application{AETitle: "A", TXT: []string{
				"=nokey", "", "k\xc3\xa4y=1", "k\x07=1", `q="\`, "big=" + strings.Repeat("x", 255), "aet=B", "q=again",
			}}),
		}, []string{`A: "AET=A" "q=\"\\"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Publish(&site.Site{Domain: domain, Devices: tt.devices}, domain)
			var got []string
			for _, rr := range p.Records(hosts{}) {
				// Every name and string must survive the wire as it is.
				wire := make([]byte, 1024)
				n, err := dns.PackRR(rr, wire, 0, nil, false)
				if err != nil {
					t.Fatalf("%v: %v", rr, err)
				}
				back, _, err := dns.UnpackRR(wire[:n], 0)
				if err != nil || back.String() != rr.String() {
					t.Errorf("read back as %v, %v; want %v", back, err, rr)
				}
				if x, ok := rr.(*dns.TXT); ok && strings.Contains(x.Hdr.Name, "._tcp.") {
					instance, _, _ := strings.Cut(x.Hdr.Name, "._dicom")
					got = append(got, instance+": "+strings.TrimPrefix(x.String(), x.Hdr.String()))
				}
			}
			equal(t, "instances", got, tt.want)
		})
	}
}

func TestPublishKeepsOutWhatDNSCannotHold(t *testing.T) {
	label := strings.Repeat("d", 60)
	d := strings.Join([]string{label, label, label, "example.org."}, ".")
	s := &site.Site{Domain: d, TTL: time.Minute, Devices: []site.Device{{
		Name: "ct1", Hostname: "ct1." + d, Installed: true, DHCP: true,
		Applications: []site.Application{{AETitle: "A_TITLE", Name: strings.Repeat("n", 63), Port: 104}},
	}}}
	for _, rr := range Publish(s, d).Records(everything{}) {
		if _, err := dns.PackRR(rr, make([]byte, 1024), 0, nil, false); err != nil {
			t.Errorf("%v: %v", rr, err)
		}
		if strings.HasPrefix(rr.Header().Name, "nnn") {
			t.Errorf("published %v", rr)
		}
	}
}

func TestServiceOfHostElsewhere(t *testing.T) {
	s := &site.Site{Domain: domain, Devices: []site.Device{{
		Name: "ws", Hostname: "ws.example.net.", DHCP: true, Installed: true,
		Applications: []site.Application{{AETitle: "WS", Port: 104}},
	}}}
	p := Publish(s, domain)
	equal(t, "fixed", lines(p.Fixed)[len(enumerations):], []string{
		"_services._dns-sd._udp.imaging.example.org. 0 IN PTR _dicom._tcp.imaging.example.org.",
		"_dicom._tcp.imaging.example.org. 0 IN PTR WS._dicom._tcp.imaging.example.org.",
		"WS._dicom._tcp.imaging.example.org. 0 IN SRV 0 0 104 ws.example.net.",
		`WS._dicom._tcp.imaging.example.org. 0 IN TXT "AET=WS"`,
		"_dicom._tcp.imaging.example.org. 0 IN SRV 0 0 104 ws.example.net.",
	})
	if len(p.Conditional) != 0 {
		t.Errorf("fixed %v, conditional %v", lines(p.Fixed), conditionals(p))
	}
}

// TestServiceOfHostInOtherZone: a host in a zone below, which is served beside
// this one, lies elsewhere, with its address and its text.
func TestServiceOfHostInOtherZone(t *testing.T) {
	s := &site.Site{Domain: domain, Devices: []site.Device{
		{
			Name: "ws", Hostname: "ws.ward." + domain, DHCP: true, Installed: true,
			Applications: []site.Application{{AETitle: "WS", Port: 104}},
		},
		{Name: "old", Hostname: "old.ward." + domain, Installed: true, Publish: site.PublishAlways, Addresses: []netip.Addr{addr("192.0.2.1")}},
	}}
	p := Publish(s, domain, domain, "example.net", "Ward."+domain)
	if len(p.Conditional) != 0 || len(p.Fixed) != len(enumerations)+5 {
		t.Errorf("fixed %v, conditional %v", lines(p.Fixed), conditionals(p))
	}
	equal(t, "below", lines(Publish(s, "ward."+domain, domain, "ward."+domain).Fixed), []string{
		"old.ward.imaging.example.org. 0 IN A 192.0.2.1",
	})
}

// TestPortBesideDigit: the end of a port and the digits that a host name begins
// with are told apart.
func TestPortBesideDigit(t *testing.T) {
	s := &site.Site{Domain: domain}
	for host, port := range map[string]uint16{"2ct": 1111, "ct": 11112} {
		s.Devices = append(s.Devices, site.Device{
			Name: host, Hostname: host + "." + domain, Installed: true, Publish: site.PublishAlways, Addresses: []netip.Addr{addr("192.0.2.1")},
			Applications: []site.Application{{AETitle: host, Port: port}},
		})
	}
	if found := at(Publish(s, domain).Fixed, "_dicom._tcp."+domain); len(found) != 4 {
		t.Errorf("%v, want two PTR and two SRV records", found)
	}
}

func TestServiceOfNameServer(t *testing.T) {
	s := testSite()
	s.NameServers[0].Host, s.NameServers[0].Address = s.Devices[0].Hostname, s.Devices[0].Addresses[0]
	for _, c := range Publish(s, domain).Conditional {
		if c.While[0].Name == s.Devices[0].Hostname {
			t.Errorf("%v depends on a lease, though its host is a name server", c.RR)
		}
	}
}

// BenchmarkPublish is the work of one reload of a large site file.
func BenchmarkPublish(b *testing.B) {
	s := &site.Site{Domain: domain, TTL: time.Minute, NameServers: []site.NameServer{{Host: "ns." + domain}}}
	for i := range 5000 {
		s.Devices = append(s.Devices, site.Device{
			Name: fmt.Sprintf("d%d", i), Hostname: fmt.Sprintf("d%d.%s", i, domain), Types: []string{"CT"},
			DHCP: true, Installed: true, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, byte(i / 200), byte(i % 200)})},
			Applications: []site.Application{{AETitle: fmt.Sprintf("D%d", i), Port: 104}},
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		if p := Publish(s, domain); len(p.Conditional) != 30000 {
			b.Fatalf("%d conditional records", len(p.Conditional))
		}
	}
}
