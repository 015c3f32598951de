package dicom

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
)

// readSite reads the text of a site file.
func readSite(t *testing.T, text string) *site.Site {
	t.Helper()
	s, _, err := site.Load(write(t, t.TempDir(), "site.yaml", text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// published is a zone in memory with what a site has in it.
func published(t *testing.T, content *site.Site) *zone.Zone {
	t.Helper()
	store, err := zone.Open("", zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	z, err := store.Zone(domain, func() ([]dns.RR, error) {
		soa := soaOf(content, domain)
		soa.Serial = 1
		return []dns.RR{soa}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := publish(t.Context(), z, content, false); err != nil {
		t.Fatal(err)
	}
	return z
}

// TestRefusedSiteKeepsRules: a site that the zone does not take changes nothing,
// also not how the services of the former one follow their hosts.
func TestRefusedSiteKeepsRules(t *testing.T) {
	former := readSite(t, siteYAML)
	text := strings.Replace(siteYAML, "ct1", "ct9", 1)
	for i := range 20 {
		text += fmt.Sprintf("  - {name: s%d, protocol: tcp, host: x.example.net, port: 1}\n", i)
	}
	later := readSite(t, text)

	ctx := context.Background()
	z := published(t, former)
	host := func(class uint16) {
		t.Helper()
		rr, err := dns.NewRR("ct1.imaging.example.org. 300 IN A 192.0.2.11")
		if err != nil {
			t.Fatal(err)
		}
		if rr.Header().Class = class; class == dns.ClassNONE {
			rr.Header().Ttl = 0
		}
		if rcode, err := z.Update(ctx, nil, []dns.RR{rr}, func(string, uint16) bool { return true }); rcode != dns.RcodeSuccess {
			t.Fatalf("%s, %v", dns.RcodeToString[rcode], err)
		}
	}
	const service = "CT1._dicom._tcp.imaging.example.org."
	host(dns.ClassINET)
	if z.Snapshot().RRset(service, dns.TypeSRV) == nil {
		t.Fatal("no service while its host has an address")
	}
	z.Configure(zone.Config{Limits: zone.Limits{Bytes: 1}})
	if _, _, err := publish(ctx, z, later, false); !errors.Is(err, zone.ErrLimit) {
		t.Fatal(err)
	}
	host(dns.ClassNONE)
	if z.Snapshot().RRset(service, dns.TypeSRV) != nil {
		t.Error("the service stays without its host")
	}
}

// TestAddressBesideFormerOne: when the site's own address of a host goes, an
// address of the other family that an update brought still carries its services.
func TestAddressBesideFormerOne(t *testing.T) {
	former := readSite(t, siteYAML)
	later := readSite(t, strings.Replace(siteYAML, "    address: 192.0.2.20\n    dhcp: false\n", "    hardware-address: 00:00:5e:00:53:03\n", 1))
	ctx := context.Background()
	z := published(t, former)
	rr, err := dns.NewRR("oldmr.imaging.example.org. 300 AAAA 2001:db8::20")
	if err != nil {
		t.Fatal(err)
	}
	if rcode, err := z.Update(ctx, nil, []dns.RR{rr}, func(string, uint16) bool { return true }); rcode != dns.RcodeSuccess {
		t.Fatalf("%s, %v", dns.RcodeToString[rcode], err)
	}
	if _, _, err := publish(ctx, z, later, false); err != nil {
		t.Fatal(err)
	}
	snapshot := z.Snapshot()
	if snapshot.RRset("oldmr."+domain, dns.TypeA) != nil || snapshot.RRset("OLDMR._dicom._tcp."+domain, dns.TypeSRV) == nil {
		t.Errorf("A %v, service %v", snapshot.RRset("oldmr."+domain, dns.TypeA), snapshot.RRset("OLDMR._dicom._tcp."+domain, dns.TypeSRV))
	}
}
