package zone

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// BenchmarkCommit adds names as a DHCP server does, with a prerequisite, an A and a DHCID record, 32 in each group, and
// tells the processor time of one: of the committer, its client's share, the disk's and the collector's.
func BenchmarkCommit(b *testing.B) {
	const group = 32
	s, err := Open(filepath.Join(b.TempDir(), "zones"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	z, err := s.Zone(testOrigin, func() ([]dns.RR, error) {
		seed, err := testSeed(b)()
		for i := range 10_000 {
			seed = append(seed, &dns.A{
				Hdr: dns.RR_Header{Name: fmt.Sprintf("h%d.example.org.", i), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
				A:   []byte{192, 0, 2, byte(i)},
			})
		}
		return seed, err
	})
	if err != nil {
		b.Fatal(err)
	}
	messages := make([]*dns.Msg, b.N)
	for i := range messages {
		h := func(t uint16) dns.RR_Header {
			return dns.RR_Header{Name: fmt.Sprintf("client-%07d.example.org.", i), Rrtype: t, Class: dns.ClassINET, Ttl: 300}
		}
		m := new(dns.Msg).SetUpdate(testOrigin)
		a := &dns.A{Hdr: h(dns.TypeA), A: []byte{198, 51, 100, byte(i)}}
		m.NameNotUsed([]dns.RR{a})
		m.Insert([]dns.RR{a, &dns.DHCID{Hdr: h(dns.TypeDHCID), Digest: "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="}})
		wire, err := m.Pack()
		if err != nil {
			b.Fatal(err)
		}
		messages[i] = new(dns.Msg)
		if err := messages[i].Unpack(wire); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	for len(messages) > 0 {
		n := min(group, len(messages))
		jobs := make([]*job, 0, group)
		for _, m := range messages[:n] {
			jobs = append(jobs, z.updateJob(context.Background(), m.Answer, m.Ns, permitAll))
		}
		messages = messages[n:]
		together := newJob(context.Background())
		together.exec = func() error { s.commit(jobs); return nil }
		if _, err := z.do(together); err != nil {
			b.Fatal(err)
		}
		for _, j := range jobs {
			if j.rcode != dns.RcodeSuccess {
				b.Fatal(dns.RcodeToString[j.rcode], j.err)
			}
		}
	}
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkReplaceSite moves all of 5,000 devices, which have an address and a service each, in a zone with a delegation,
// and tells how long the committer is held: the shortest and the median time. Meanwhile a service comes or goes, so that
// the list of all services is worked out again.
func BenchmarkReplaceSite(b *testing.B) {
	const devices = 5_000
	s, err := Open(filepath.Join(b.TempDir(), "zones"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	z, err := s.Zone(testOrigin, testSeed(b))
	if err != nil {
		b.Fatal(err)
	}
	testUpdate(b, z, testRR(b, "sub.example.org. 60 IN NS ns.example.net."))
	sites := make([][]dns.RR, 2)
	for moved := range sites {
		for i := range devices {
			host, instance := fmt.Sprintf("ct%d.example.org.", i), fmt.Sprintf("CT%d._dicom._tcp.example.org.", i)
			h := func(name string, t uint16) dns.RR_Header {
				return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: 300}
			}
			sites[moved] = append(sites[moved],
				&dns.A{Hdr: h(host, dns.TypeA), A: []byte{10, byte(moved), byte(i >> 8), byte(i)}},
				&dns.PTR{Hdr: h("_dicom._tcp.example.org.", dns.TypePTR), Ptr: instance},
				&dns.SRV{Hdr: h(instance, dns.TypeSRV), Port: 104, Target: host},
				&dns.TXT{Hdr: h(instance, dns.TypeTXT), Txt: []string{fmt.Sprintf("AET=CT%d", i), "PrimaryDeviceType=CT"}})
		}
	}
	var held []time.Duration
	for i := 0; b.Loop(); i++ {
		r, err := z.prepareReplacement(context.Background(), func(*Candidate) ([]dns.RR, Derive) { return sites[i%2], nil })
		if err != nil {
			b.Fatal(err)
		}
		foreign := testRR(b, "_dicom._tcp.example.org. 300 IN PTR foreign._dicom._tcp.example.org.")
		if i%2 == 1 {
			foreign.Header().Class, foreign.Header().Ttl = dns.ClassNONE, 0
		}
		testUpdate(b, z, foreign)
		j := z.replacementJob(context.Background(), r)
		alone := newJob(context.Background())
		alone.exec = func() error {
			start := time.Now()
			s.commit([]*job{j})
			held = append(held, time.Since(start))
			return nil
		}
		if _, err := z.do(alone); err != nil || j.err != nil || !j.changed {
			b.Fatal(err, j.err, j.changed)
		}
		r.watch.ended.Store(true)
	}
	slices.Sort(held)
	b.ReportMetric(held[0].Seconds()*1000, "shortest-ms")
	b.ReportMetric(held[len(held)/2].Seconds()*1000, "median-ms")
}
