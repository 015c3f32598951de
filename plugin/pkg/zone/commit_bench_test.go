package zone

import (
	"context"
	"fmt"
	"path/filepath"
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
