package zone_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
	"github.com/miekg/dns"
)

func TestLimits(t *testing.T) {
	refused := func(t *testing.T, z *zone.Zone, lines ...string) {
		t.Helper()
		before := dump(z)
		rcode, err := update(t, z, lines...)
		if rcode != dns.RcodeRefused || !errors.Is(err, zone.ErrLimit) {
			t.Fatalf("%s, %v", dns.RcodeToString[rcode], err)
		}
		if !slices.Equal(before, dump(z)) {
			t.Fatal("a refused update changed something")
		}
	}
	t.Run("records", func(t *testing.T) {
		z := memory(t)
		z.Configure(zone.Config{Limits: zone.Limits{Records: 5}})
		mustUpdate(t, z, "add a.example.org. 1 IN A 192.0.2.1")
		refused(t, z, "add b.example.org. 1 IN A 192.0.2.1")
		mustUpdate(t, z, "del a.example.org. 0 IN A 192.0.2.1", "add b.example.org. 1 IN A 192.0.2.1")
		z.Configure(zone.Config{Limits: zone.Limits{Records: 2}})
		mustUpdate(t, z, "delname b.example.org.") // over a lowered limit, but smaller than before
	})
	t.Run("records of an RRset", func(t *testing.T) {
		z := memory(t)
		z.Configure(zone.Config{Limits: zone.Limits{UpdateRecords: 20_000}})
		big := func(from, to int, ttl uint32) (out []dns.RR) {
			for i := from; i < to; i++ {
				out = append(out, &dns.PTR{
					Hdr: dns.RR_Header{Name: "_p.example.org.", Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl, Rdlength: 1},
					Ptr: fmt.Sprintf("a%d.example.org.", i),
				})
			}
			return out
		}
		want := func(n int, ttl uint32) {
			t.Helper()
			set := z.Snapshot().RRset("_p.example.org.", dns.TypePTR)
			if len(set) != n {
				t.Fatalf("%d records, want %d", len(set), n)
			}
			for _, r := range set {
				if r.Header().Ttl != ttl {
					t.Fatalf("%s, want TTL %d", r, ttl)
				}
			}
		}
		if rcode, err := z.Update(context.Background(), nil, big(0, 5_461, 5), all); rcode != dns.RcodeSuccess {
			t.Fatal(err)
		}
		refused(t, z, "add _p.example.org. 5 IN PTR b.example.org.")
		// Every record changes the TTL of all; a copy of the RRset for each would take long.
		start := time.Now()
		mixed := big(4_461, 5_461, 6)
		for i := range mixed {
			mixed[i].Header().Ttl += uint32(i % 2)
		}
		if rcode, err := z.Update(context.Background(), nil, mixed, all); rcode != dns.RcodeSuccess {
			t.Fatal(err)
		}
		t.Logf("1,000 records, each with another TTL: %v", time.Since(start))
		want(5_461, 7)
		mustUpdate(t, z, "add _p.example.org. 8 IN PTR a5.example.org.", "del _p.example.org. 0 IN PTR a0.example.org.")
		want(5_460, 8)
		if err := zone.CheckSeed(origin, append(rrs(t, base...), big(0, 5_462, 5)...), zone.Limits{}); !errors.Is(err, zone.ErrLimit) {
			t.Errorf("seed: %v", err)
		}
	})
	t.Run("octets", func(t *testing.T) {
		z := memory(t)
		z.Configure(zone.Config{Limits: zone.Limits{Bytes: z.Snapshot().Size() + 40}})
		mustUpdate(t, z, "add a.example.org. 1 IN A 192.0.2.1")
		refused(t, z, "add b.example.org. 1 IN A 192.0.2.1")
	})
	t.Run("records of an update", func(t *testing.T) {
		z := memory(t)
		z.Configure(zone.Config{Limits: zone.Limits{UpdateRecords: 2}})
		pre := parse(t, "yx www.example.org.")
		rcode, err := z.Update(context.Background(), pre, parse(t, "delname a.example.org.", "delname b.example.org."), all)
		if rcode != dns.RcodeRefused || !errors.Is(err, zone.ErrLimit) {
			t.Fatalf("%s, %v", dns.RcodeToString[rcode], err)
		}
		mustUpdate(t, z, "delname a.example.org.", "delname b.example.org.")
	})
}
