package dicom

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/dnssd"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
)

// randomSite has a few devices that are published in all ways.
func randomSite(r *rand.Rand) *site.Site {
	s := &site.Site{Domain: domain, Contact: fmt.Sprintf("h%d.%s", r.IntN(2), domain), TTL: time.Duration(1+r.IntN(2)) * time.Minute,
		NameServers: []site.NameServer{{Host: "ns." + domain}}}
	for i := range 6 {
		if r.IntN(6) == 0 {
			continue
		}
		d := site.Device{
			Name: fmt.Sprintf("h%d", i), Hostname: fmt.Sprintf("h%d.%s", i, domain), Installed: r.IntN(8) > 0,
			Types: []string{[]string{"CT", "MR"}[r.IntN(2)]}, DHCP: true,
		}
		if r.IntN(2) == 0 {
			d.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(4))})}
			if r.IntN(2) == 0 {
				d.Publish = site.PublishAlways
			}
		}
		if r.IntN(3) == 0 {
			d.Cluster = "c"
		}
		for j := range r.IntN(3) {
			title := fmt.Sprintf("%s%d", []string{"AE", "ae"}[r.IntN(2)], i)
			if d.Cluster != "" && j == 0 {
				title = "CLUSTER"
			}
			d.Applications = append(d.Applications, site.Application{AETitle: title, Port: uint16(104 + j), Name: []string{"", "A. B"}[r.IntN(2)]})
		}
		s.Devices = append(s.Devices, d)
		if r.IntN(4) == 0 {
			s.Services = append(s.Services, site.Service{Name: "ldap", Protocol: "tcp", Host: d.Hostname, Port: 389})
		}
	}
	return s
}

// randomUpdate is what anybody may send.
func randomUpdate(t *testing.T, r *rand.Rand) []dns.RR {
	var rrs []dns.RR
	for range 1 + r.IntN(3) {
		host := fmt.Sprintf("h%d.%s", r.IntN(6), domain)
		instance := fmt.Sprintf("%s%d._dicom._tcp.%s", []string{"AE", "ae"}[r.IntN(2)], r.IntN(6), domain)
		const service = "_dicom._tcp." + domain
		lines := []string{
			fmt.Sprintf("%s 300 A 192.0.2.%d", host, r.IntN(4)),
			fmt.Sprintf("%s 300 A 192.0.2.%d", host, r.IntN(4)),
			fmt.Sprintf("%s 300 AAAA 2001:db8::%d", host, r.IntN(2)),
			host + " 300 TXT mark",
			host + " 300 CNAME x." + domain,
			service + " 300 PTR " + instance,
			service + " 300 SRV 0 0 104 x." + domain,
			service + " 300 CNAME x." + domain,
			instance + " 300 SRV 0 0 104 x." + domain,
			instance + " 300 TXT AET=x",
			instance + " 300 CNAME x." + domain,
			"_tcp." + domain + " 300 NS ns.example.net.",
			"_sub." + service + " 300 DNAME example.net.",
			host + " 300 NS ns.example.net.",
			"_ldap._tcp." + domain + " 300 SRV 0 0 1 x." + domain,
			domain + " 300 TXT apex",
		}
		rr, err := dns.NewRR(lines[r.IntN(len(lines))])
		if err != nil {
			t.Fatal(err)
		}
		switch r.IntN(5) {
		case 0:
			rr = &dns.ANY{Hdr: dns.RR_Header{Name: rr.Header().Name, Rrtype: rr.Header().Rrtype, Class: dns.ClassANY}}
		case 1:
			rr = &dns.ANY{Hdr: dns.RR_Header{Name: rr.Header().Name, Rrtype: dns.TypeANY, Class: dns.ClassANY}}
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// TestReplacingBesideUpdates: a site that was prepared while updates came is what
// it would be had they come before.
func TestReplacingBesideUpdates(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		contents := []*site.Site{randomSite(r), randomSite(r), randomSite(r)}
		open := func() *zone.Zone {
			store, err := zone.Open("", zone.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			z, err := store.Zone(domain, func() ([]dns.RR, error) {
				soa := soaOf(contents[0], domain)
				soa.Serial = 1
				return []dns.RR{soa}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return z
		}
		beside, before := open(), open()
		ctx := context.Background()
		update := func(z *zone.Zone, rrs []dns.RR) int {
			copies := make([]dns.RR, len(rrs))
			for i, rr := range rrs {
				copies[i] = dns.Copy(rr)
			}
			rcode, _ := z.Update(ctx, nil, copies, func(string, uint16) bool { return true })
			return rcode
		}
		for version, content := range contents {
			var first, meanwhile [][]dns.RR
			for range r.IntN(6) {
				first = append(first, randomUpdate(t, r))
			}
			for n := r.IntN(6); version == len(contents)-1 && n > 0; n-- {
				meanwhile = append(meanwhile, randomUpdate(t, r))
			}
			for _, rrs := range first {
				if a, b := update(beside, rrs), update(before, rrs); a != b {
					t.Fatalf("seed %d: %d and %d for %v", seed, a, b, rrs)
				}
			}
			publication := dnssd.Publish(content, domain)
			var codes []int
			replace := func(z *zone.Zone, injected [][]dns.RR) {
				former := siteAddresses(z)
				if _, err := z.ReplaceSite(ctx, func(c *zone.Candidate) ([]dns.RR, zone.Derive) {
					records := append(publication.Records(view{c, former}), publication.SOA)
					for _, rrs := range injected {
						codes = append(codes, update(z, rrs))
					}
					injected = nil
					return records, follow(publication)
				}); err != nil {
					t.Fatalf("seed %d version %d: %v", seed, version, err)
				}
			}
			replace(beside, meanwhile)
			for i, rrs := range meanwhile {
				if rcode := update(before, rrs); rcode != codes[i] {
					t.Fatalf("seed %d: %d and %d for %v", seed, codes[i], rcode, rrs)
				}
			}
			replace(before, nil)
			if a, b := settled(t, publication, beside), settled(t, publication, before); !slices.Equal(a, b) {
				for _, line := range a {
					if !slices.Contains(b, line) {
						t.Errorf("only beside: %s", line)
					}
				}
				for _, line := range b {
					if !slices.Contains(a, line) {
						t.Errorf("only before: %s", line)
					}
				}
				t.Fatalf("seed %d version %d differs: first %v, meanwhile %v", seed, version, first, meanwhile)
			}
		}
	}
}

// settled are the records of a zone, with those that are the site's, as far as
// they must not depend on when a site came: what gives way to a service of the
// site may have done so just before its host has gone.
func settled(t *testing.T, publication *dnssd.Publication, z *zone.Zone) []string {
	t.Helper()
	var lines []string
	snapshot := z.Snapshot()
	n, octets := 0, 0
	for rr := range snapshot.All() {
		n, octets = n+1, octets+dns.Len(rr)
		switch h := rr.Header(); {
		case h.Rrtype == dns.TypeCNAME, h.Rrtype == dns.TypeNS, h.Rrtype == dns.TypeDNAME:
		case publication.Reserves(dns.CanonicalName(h.Name), h.Rrtype):
		case h.Rrtype == dns.TypeSOA:
		default:
			lines = append(lines, line(rr)) // in a joint RRset it has the TTL of the site's that stood there last
		}
	}
	for rr := range snapshot.Site() {
		if soa, ok := rr.(*dns.SOA); ok {
			numberless := *soa
			numberless.Serial = 0
			rr = &numberless
		}
		lines = append(lines, "site "+rr.String())
	}
	if n != snapshot.Len() || octets != snapshot.Size() {
		t.Errorf("%d records of %d octets, and it says %d of %d", n, octets, snapshot.Len(), snapshot.Size())
	}
	slices.Sort(lines)
	return lines
}
