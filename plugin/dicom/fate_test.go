package dicom

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// fateSite has a device of each kind that is published in its own way.
const fateSite = `domain: imaging.example.org
name-servers: [{host: ns1, address: 192.0.2.2}]
networks:
  - {name: one, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}
  - {name: two, subnet: 198.51.100.0/24}
devices:
  - name: ct1
    type: [CT, PT]
    hardware-address: 00:00:5e:00:53:01
    address: 192.0.2.11
    applications: [{ae-title: CT1, port: 104}, {ae-title: CT1_TLS, port: 2762, protocol: dicom-tls}]
  - name: multi
    type: ARCHIVE
    hardware-address: [00:00:5e:00:53:02, 00:00:5e:00:53:03]
    address: [192.0.2.12, 198.51.100.12]
    applications: [{ae-title: MULTI, port: 104, name: "Archive No. 1"}]
  - name: us1
    type: US
    hardware-address: 00:00:5e:00:53:04
    applications: [{ae-title: US1, port: 11112, txt: [room=7]}]
  - name: pacs1
    type: ARCHIVE
    hardware-address: 00:00:5e:00:53:05
    address: 192.0.2.13
    cluster: pacs
    applications: [{ae-title: PACS, port: 104}]
  - name: pacs2
    type: WSD
    hardware-address: 00:00:5e:00:53:06
    cluster: pacs
    applications: [{ae-title: PACS, port: 105, priority: 1, weight: 5}]
  - name: web
    hardware-address: 00:00:5e:00:53:07
    applications: [{port: 443, protocol: dicomweb-tls, path: /dicom-web}]
  - name: always
    type: MR
    hardware-address: 00:00:5e:00:53:08
    address: 192.0.2.15
    publish: always
    applications: [{ae-title: ALWAYS, port: 104}]
  - name: oldmr
    type: MR
    address: 192.0.2.20
    dhcp: false
    applications: [{ae-title: OLDMR, port: 104}]
  - name: gone
    hardware-address: 00:00:5e:00:53:09
    installed: false
    applications: [{ae-title: GONE, port: 104}]
  - name: ldap
    hardware-address: 00:00:5e:00:53:0a
services:
  - {name: ldap, protocol: tcp, host: ldap, port: 389}
  - {name: ntp, protocol: udp, host: ntp.example.net, port: 123}
`

// fateService is what the site file says about one application, for comparison.
type fateService struct {
	host, service, instance, srv, text, types string
	addresses                                 []string // one of them makes it stand; none: any
}

var fateServices = []fateService{
	{"ct1", "_dicom", "CT1", "0 0 104", `"AET=CT1" "PrimaryDeviceType=CT,PT"`, "ct pt", []string{"192.0.2.11"}},
	{"ct1", "_dicom-tls", "CT1_TLS", "0 0 2762", `"AET=CT1_TLS" "PrimaryDeviceType=CT,PT"`, "ct pt", []string{"192.0.2.11"}},
	{"multi", "_dicom", `Archive\ No\.\ 1`, "0 0 104", `"AET=MULTI" "PrimaryDeviceType=ARCHIVE"`, "archive", []string{"192.0.2.12", "198.51.100.12"}},
	{"us1", "_dicom", "US1", "0 0 11112", `"AET=US1" "PrimaryDeviceType=US" "room=7"`, "us", nil},
	{"pacs1", "_dicom", "PACS", "0 0 104", `"AET=PACS" "PrimaryDeviceType=ARCHIVE,WSD"`, "archive", []string{"192.0.2.13"}},
	{"pacs2", "_dicom", "PACS", "1 5 105", `"AET=PACS" "PrimaryDeviceType=ARCHIVE,WSD"`, "wsd", nil},
	{"web", "_dicomweb-tls", "web", "0 0 443", `"DICOMWebPath=/dicom-web"`, "", nil},
	{"always", "_dicom", "ALWAYS", "0 0 104", `"AET=ALWAYS" "PrimaryDeviceType=MR"`, "mr", []string{"192.0.2.15"}},
	{"oldmr", "_dicom", "OLDMR", "0 0 104", `"AET=OLDMR" "PrimaryDeviceType=MR"`, "mr", []string{"192.0.2.20"}},
}

// fate tells what must stand beside those addresses, by host, and the records of
// the zone itself.
func fate(addresses map[string][]string) []string {
	lines := make(map[string]bool)
	add := func(owner, typ, data string) { lines[owner+"."+domain+" "+typ+" "+data] = true }
	for _, s := range fateServices {
		add("_services._dns-sd._udp", "PTR", s.service+"._tcp."+domain)
		if !slices.ContainsFunc(addresses[s.host], func(a string) bool { return s.addresses == nil || slices.Contains(s.addresses, a) }) {
			continue
		}
		service := s.service + "._tcp"
		instance := s.instance + "." + service
		host := s.host + "." + domain
		add(service, "PTR", instance+"."+domain)
		for t := range strings.FieldsSeq(s.types) {
			add("_"+t+"._sub."+service, "PTR", instance+"."+domain)
		}
		add(instance, "SRV", s.srv+" "+host)
		add(instance, "TXT", s.text)
		add(service, "SRV", s.srv+" "+host)
		switch s.host { // a host speaks for itself alone
		case "pacs1":
			add("pacs1", "TXT", `"AET=PACS" "PrimaryDeviceType=ARCHIVE"`)
		case "pacs2":
			add("pacs2", "TXT", `"AET=PACS" "PrimaryDeviceType=WSD"`)
		default:
			add(s.host, "TXT", s.text)
		}
	}
	for _, e := range []string{"b", "db", "r", "dr", "lb"} {
		add(e+"._dns-sd._udp", "PTR", domain)
	}
	if len(addresses["ldap"]) > 0 {
		add("_ldap._tcp", "SRV", "0 0 389 ldap."+domain)
	}
	add("_ntp._udp", "SRV", "0 0 123 ntp.example.net.")
	return slices.Sorted(maps.Keys(lines))
}

// checkFate compares a version of the zone with what must stand beside its own
// addresses.
func checkFate(t *testing.T, serial uint32, zone map[string]bool) {
	t.Helper()
	addresses := make(map[string][]string)
	var got []string
	for line := range zone {
		f := strings.SplitN(line, " ", 3)
		switch owner, typ, data := f[0], f[1], f[2]; typ {
		case "A":
			host := strings.TrimSuffix(owner, "."+domain)
			addresses[host] = append(addresses[host], data)
		case "NS":
		default:
			got = append(got, line)
		}
	}
	slices.Sort(got)
	want := fate(addresses)
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("serial %d, addresses %v: stands %s", serial, addresses, line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("serial %d, addresses %v: lacks %s", serial, addresses, line)
		}
	}
}

// line is a record without its TTL.
func line(rr dns.RR) string {
	return rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype] + " " + strings.TrimPrefix(rr.String(), rr.Header().String())
}

// TestFateOfEverySerial lets clients switch the devices of a site on and off, in
// one message and in many at once, and looks at each version that the zone ever
// had: the services in it are those of the addresses in it.
func TestFateOfEverySerial(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "site.yaml", fateSite)
	s := start(t, fmt.Sprintf(`imaging.example.org:0 {
	bind 127.0.0.1
	tsig {
		secret %s %s
	}
	transfer {
		to *
	}
	dicom {
		site %s
		database %s
		allow %s * *
	}
}`, key, secret, filepath.Join(dir, "site.yaml"), filepath.Join(dir, "zones"), key))

	hosts := map[string][]string{
		"ct1": {"192.0.2.11", "192.0.2.150"}, "multi": {"192.0.2.12", "198.51.100.12", "192.0.2.151"}, "us1": {"192.0.2.152", "192.0.2.153"},
		"pacs1": {"192.0.2.13"}, "pacs2": {"192.0.2.154"}, "web": {"192.0.2.155"}, "gone": {"192.0.2.156"}, "ldap": {"192.0.2.157"}, "pc": {"192.0.2.11"},
	}
	names := slices.Sorted(maps.Keys(hosts))
	r := rand.New(rand.NewPCG(1, 2))
	one := func() string {
		host := names[r.IntN(len(names))]
		owner := host + "." + domain
		address := hosts[host][r.IntN(len(hosts[host]))]
		switch r.IntN(6) {
		case 0:
			return "!" + owner
		case 1:
			return "!" + owner + " A"
		case 2:
			return "-" + owner + " A " + address
		}
		return owner + " 300 A " + address
	}
	const rounds, clients = 40, 8
	serials := 0
	for range rounds {
		before := s.serial(t, domain)
		var messages []*dns.Msg
		for range clients {
			var changes []string
			for range 1 + r.IntN(4) {
				changes = append(changes, one())
			}
			messages = append(messages, change(t, domain, changes...))
		}
		var wg sync.WaitGroup
		for _, m := range messages {
			wg.Go(func() {
				if got := s.exchange(t, "tcp", m, key, secret); got.Rcode != dns.RcodeSuccess {
					t.Errorf("UPDATE %v: %s", m.Ns, dns.RcodeToString[got.Rcode])
				}
			})
		}
		wg.Wait()
		all, err := transferIn(s.address("tcp"), new(dns.Msg).SetAxfr(domain), false)
		if err != nil {
			t.Fatal(err)
		}
		now := make(map[string]bool)
		for _, rr := range all[1 : len(all)-1] {
			now[line(rr)] = true
		}
		last := all[0].(*dns.SOA).Serial
		checkFate(t, last, now)
		for serial := before; serial != last; serial++ {
			diff, err := transferIn(s.address("tcp"), new(dns.Msg).SetIxfr(domain, serial, "ns1."+domain, "h."+domain), false)
			if err != nil {
				t.Fatal(err)
			}
			version := maps.Clone(now)
			if !undo(version, diff) {
				t.Logf("the difference from %d is the whole zone", serial)
				continue
			}
			checkFate(t, serial, version)
			serials++
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if serials < rounds*clients/2 {
		t.Errorf("looked at %d versions only", serials)
	}
}

// undo takes a condensed difference back, and false if it is none.
func undo(version map[string]bool, diff []dns.RR) bool {
	if len(diff) < 4 || diff[1].Header().Rrtype != dns.TypeSOA {
		return false
	}
	adding := false
	for _, rr := range diff[2 : len(diff)-1] {
		switch {
		case rr.Header().Rrtype == dns.TypeSOA:
			adding = true
		case adding:
			delete(version, line(rr))
		default:
			version[line(rr)] = true
		}
	}
	return true
}
