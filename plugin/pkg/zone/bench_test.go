package zone_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
	"github.com/miekg/dns"
)

func benchZone(b *testing.B, dir string, names int) *zone.Zone {
	b.Helper()
	s := open(b, dir, zone.Options{})
	b.Cleanup(func() { closeStore(b, s) })
	z, err := s.Zone(origin, func() ([]dns.RR, error) {
		seed := rrs(b, base...)
		for i := range names {
			name := fmt.Sprintf("h%d.example.org.", i)
			seed = append(seed,
				&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: []byte{192, 0, 2, byte(i)}},
				&dns.DHCID{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeDHCID, Class: dns.ClassINET, Ttl: 300}, Digest: "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="})
		}
		return seed, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return z
}

// BenchmarkUpdate replaces an address: durable, with a prerequisite, while another goroutine asks without pause.
func BenchmarkUpdate(b *testing.B) {
	for _, names := range []int{10_000, 100_000} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("names=%d/clients=%d", names, clients), func(b *testing.B) {
				z := benchZone(b, filepath.Join(b.TempDir(), "zones"), names)
				done := make(chan struct{})
				stop := make(chan struct{})
				go func() {
					defer close(done)
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
							z.Snapshot().Lookup(fmt.Sprintf("h%d.example.org.", i%names), dns.TypeA)
						}
					}
				}()
				var next atomic.Int64
				b.ReportAllocs()
				b.SetParallelism((clients + 1) / 2) // of two processors
				if clients == 1 {
					b.ResetTimer()
					for range b.N {
						benchUpdate(b, z, int(next.Add(1)), names)
					}
				} else {
					b.ResetTimer()
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							benchUpdate(b, z, int(next.Add(1)), names)
						}
					})
				}
				b.StopTimer()
				close(stop)
				<-done
			})
		}
	}
}

func benchUpdate(b *testing.B, z *zone.Zone, i, names int) {
	name := fmt.Sprintf("h%d.example.org.", i*7919%names)
	rcode, err := z.Update(context.Background(),
		[]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeANY, Class: dns.ClassANY}}},
		[]dns.RR{
			&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassANY}},
			&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300, Rdlength: 4}, A: []byte{198, 51, 100, byte(i)}},
		}, all)
	if rcode != dns.RcodeSuccess || err != nil {
		b.Errorf("%d, %v", rcode, err)
	}
}

// BenchmarkLargeRRset adds a record to an RRset and takes it away again, as an instance of a service comes and goes, in
// memory: what the size of the RRset costs.
func BenchmarkLargeRRset(b *testing.B) {
	for _, n := range []int{10, 1000, 5000} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			const owner = "_dicom._tcp.example.org."
			ptr := func(i int) *dns.PTR {
				return &dns.PTR{
					Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: 300, Rdlength: 1},
					Ptr: fmt.Sprintf("SCANNER%d.%s", i, owner),
				}
			}
			s := open(b, "", zone.Options{})
			b.Cleanup(func() { closeStore(b, s) })
			z, err := s.Zone(origin, func() ([]dns.RR, error) {
				seed := rrs(b, base...)
				for i := range n {
					seed = append(seed, ptr(i))
				}
				return seed, nil
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				rr := ptr(n)
				if i%2 == 1 {
					rr.Hdr.Class, rr.Hdr.Ttl = dns.ClassNONE, 0
				}
				if rcode, err := z.Update(context.Background(), nil, []dns.RR{rr}, all); rcode != dns.RcodeSuccess || err != nil {
					b.Fatal(rcode, err)
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	const names = 10_000
	z := benchZone(b, "", names)
	questions := make([]string, names)
	for i := range questions {
		questions[i] = fmt.Sprintf("h%d.example.org.", i*7919%names)
	}
	for _, tt := range []struct {
		name, prefix string
		typ          uint16
	}{{"found", "", dns.TypeA}, {"nodata", "", dns.TypeMX}, {"nxdomain", "no.", dns.TypeA}} {
		b.Run(tt.name, func(b *testing.B) {
			qs := make([]string, names)
			for i, q := range questions {
				qs[i] = tt.prefix + q
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				z.Snapshot().Lookup(qs[i%names], tt.typ)
			}
		})
	}
}

// BenchmarkOpen reads a million records: of hosts, and of services.
func BenchmarkOpen(b *testing.B) {
	const names = 200_000
	dir := filepath.Join(b.TempDir(), "zones")
	load := func(seed func() ([]dns.RR, error)) {
		s := open(b, dir, zone.Options{})
		z, err := s.Zone(origin, seed)
		if err != nil {
			b.Fatal(err)
		}
		if n := z.Snapshot().Len(); n < 5*names {
			b.Fatalf("zone has %d records", n)
		}
		closeStore(b, s)
	}
	load(func() ([]dns.RR, error) {
		seed := rrs(b, base...)
		for i := range names {
			host, instance := fmt.Sprintf("h%d.example.org.", i), fmt.Sprintf("CT%d._dicom._tcp.example.org.", i)
			h := func(name string, t uint16) dns.RR_Header {
				return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: 300}
			}
			seed = append(seed,
				&dns.A{Hdr: h(host, dns.TypeA), A: []byte{192, 0, 2, byte(i)}},
				&dns.DHCID{Hdr: h(host, dns.TypeDHCID), Digest: "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="},
				&dns.PTR{Hdr: h(fmt.Sprintf("%d.example.org.", i), dns.TypePTR), Ptr: host},
				&dns.SRV{Hdr: h(instance, dns.TypeSRV), Port: 104, Target: host},
				&dns.TXT{Hdr: h(instance, dns.TypeTXT), Txt: []string{fmt.Sprintf("AET=CT%d", i), "PrimaryDeviceType=CT"}})
		}
		return seed, nil
	})
	for b.Loop() {
		load(func() ([]dns.RR, error) { return nil, errors.New("the zone is not there") })
	}
}
