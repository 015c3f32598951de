package dicom

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
)

// manyDevices is a site of n leased scanners with one application each, of ten
// types.
func manyDevices(n int) *site.Site {
	types := []string{"CT", "MR", "US", "CR", "DX", "MG", "XA", "NM", "PT", "ES"}
	s := &site.Site{Domain: domain, Contact: "hostmaster." + domain, TTL: time.Minute, NameServers: []site.NameServer{{Host: "ns." + domain}}}
	for i := range n {
		s.Devices = append(s.Devices, site.Device{
			Name: fmt.Sprintf("d%d", i), Hostname: fmt.Sprintf("d%d.%s", i, domain), Types: []string{types[i%len(types)]},
			DHCP: true, Installed: true, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
			Applications: []site.Application{{AETitle: fmt.Sprintf("D%d", i), Port: 104}},
		})
	}
	return s
}

// BenchmarkFollow switches one scanner of a site off and on again, all others
// being on: what the services of a site add to an update.
func BenchmarkFollow(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 5000} {
		b.Run(fmt.Sprintf("devices=%d", n), func(b *testing.B) {
			store, err := zone.Open("", zone.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			ctx := context.Background()
			content := manyDevices(n)
			z, err := store.Zone(domain, func() ([]dns.RR, error) {
				soa := soaOf(content, domain)
				soa.Serial = 1
				return []dns.RR{soa}, nil
			})
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := publish(ctx, z, content, false); err != nil {
				b.Fatal(err)
			}
			do := func(rr dns.RR) {
				if rcode, err := z.Update(ctx, nil, []dns.RR{rr}, func(string, uint16) bool { return true }); rcode != dns.RcodeSuccess {
					b.Fatal(dns.RcodeToString[rcode], err)
				}
			}
			a := func(i int, class uint16) dns.RR {
				h := dns.RR_Header{Name: content.Devices[i].Hostname, Rrtype: dns.TypeA, Class: class}
				if class == dns.ClassINET {
					h.Ttl = 60
				}
				return &dns.A{Hdr: h, A: content.Devices[i].Addresses[0].AsSlice()}
			}
			for i := range n {
				do(a(i, dns.ClassINET))
			}
			i := 0
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				do(a(i%n, dns.ClassNONE))
				do(a(i%n, dns.ClassINET))
				i++
			}
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(i), "cpu-us/op")
		})
	}
}

// BenchmarkPublish takes over a site file in which all of 5,000 devices, which
// always stand, have moved.
func BenchmarkPublish(b *testing.B) {
	var versions [2]*site.Site
	for v := range versions {
		s := manyDevices(5000)
		for i := range s.Devices {
			d := &s.Devices[i]
			d.DHCP, d.Publish = false, site.PublishAlways
			d.Addresses[0] = netip.AddrFrom4([4]byte{10, byte(v), byte(i >> 8), byte(i)})
		}
		versions[v] = s
	}
	store, err := zone.Open(filepath.Join(b.TempDir(), "zones"), zone.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	z, err := store.Zone(domain, func() ([]dns.RR, error) {
		soa := soaOf(versions[0], domain)
		soa.Serial = 1
		return []dns.RR{soa}, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before, i := processorTime(b), 0
	for b.Loop() {
		if _, changed, err := publish(context.Background(), z, versions[i%2], false); err != nil || !changed {
			b.Fatal(changed, err)
		}
		i++
	}
	b.ReportMetric(float64((processorTime(b)-before).Milliseconds())/float64(i), "cpu-ms/op")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
