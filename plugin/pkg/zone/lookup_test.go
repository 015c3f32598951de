package zone_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

const negSOA = "example.org. 60 SOA ns.example.org. hostmaster.example.org. 10 3600 600 86400 60"

func TestLookup(t *testing.T) {
	nsA := "ns.example.org. 300 A 192.0.2.53"
	tests := []struct {
		name   string
		seed   []string
		q      string
		rcode  int
		answer []string
		ns     []string
		extra  []string
		noAA   bool
		target string
	}{
		{name: "exact", q: "www.example.org. A", answer: []string{"www.example.org. 300 A 192.0.2.1"}},
		{name: "exact in other case keeps the stored case", seed: []string{"CT1.example.org. 5 IN A 192.0.2.7"}, q: "cT1.EXAMPLE.org. A", answer: []string{"CT1.example.org. 5 A 192.0.2.7"}},
		{name: "escaped name", seed: []string{`CT\.1\032x.example.org. 5 IN A 192.0.2.7`}, q: `ct\.1\ x.example.org. A`, answer: []string{`CT\.1\ x.example.org. 5 A 192.0.2.7`}},
		{name: "NODATA", q: "www.example.org. AAAA", ns: []string{negSOA}},
		{name: "NXDOMAIN", q: "no.example.org. A", rcode: dns.RcodeNameError, ns: []string{negSOA}},
		{name: "NXDOMAIN far below", q: "a.b.c.d.example.org. A", rcode: dns.RcodeNameError, ns: []string{negSOA}},
		{name: "NXDOMAIN below a name", q: "a.www.example.org. A", rcode: dns.RcodeNameError, ns: []string{negSOA}},
		{name: "a longer label is not a name below", seed: []string{"wwwx.example.org. 5 IN A 192.0.2.7"}, q: "ww.example.org. A", rcode: dns.RcodeNameError, ns: []string{negSOA}},
		{name: "empty non-terminal", seed: []string{"a.b.c.example.org. 5 IN A 192.0.2.7"}, q: "c.example.org. A", ns: []string{negSOA}},
		{name: "empty non-terminal, asked for ANY", seed: []string{"a.b.c.example.org. 5 IN A 192.0.2.7"}, q: "b.c.example.org. ANY", ns: []string{negSOA}},
		{name: "outside the zone", q: "www.example.net. A", rcode: dns.RcodeRefused, noAA: true},
		{name: "above the zone", q: "org. A", rcode: dns.RcodeRefused, noAA: true},
		{name: "SOA", q: "example.org. SOA", answer: []string{"example.org. 300 SOA ns.example.org. hostmaster.example.org. 10 3600 600 86400 60"}},
		{name: "NS at the apex", q: "example.org. NS", answer: []string{"example.org. 300 NS ns.example.org."}, extra: []string{nsA}},
		{name: "ANY is one RRset", seed: []string{"www.example.org. 5 IN TXT a"}, q: "www.example.org. ANY", answer: []string{"www.example.org. 300 A 192.0.2.1"}},
		{name: "ANY does not follow CNAME", seed: []string{"c.example.org. 5 IN CNAME www"}, q: "c.example.org. ANY", answer: []string{"c.example.org. 5 CNAME www."}},

		{name: "wildcard", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7"}, q: "Any.w.example.org. A", answer: []string{"Any.w.example.org. 5 A 192.0.2.7"}},
		{name: "wildcard several labels deep", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7"}, q: "a.b.w.example.org. A", answer: []string{"a.b.w.example.org. 5 A 192.0.2.7"}},
		{name: "wildcard at the apex", seed: []string{"*.example.org. 5 IN A 192.0.2.7"}, q: "a.b.example.org. A", answer: []string{"a.b.example.org. 5 A 192.0.2.7"}},
		{name: "wildcard without the type", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7"}, q: "a.w.example.org. AAAA", ns: []string{negSOA}},
		{name: "wildcard does not match its own parent", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7"}, q: "w.example.org. A", ns: []string{negSOA}},
		{name: "wildcard asked for itself", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7"}, q: "*.w.example.org. A", answer: []string{"*.w.example.org. 5 A 192.0.2.7"}},
		{name: "wildcard blocked by a name", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7", "h.w.example.org. 5 IN TXT a"}, q: "h.w.example.org. A", ns: []string{negSOA}},
		{name: "wildcard blocked by a name above", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7", "h.w.example.org. 5 IN TXT a"}, q: "a.h.w.example.org. A", rcode: dns.RcodeNameError, ns: []string{negSOA}},
		{name: "wildcard blocked by an empty non-terminal", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7", "x.e.w.example.org. 5 IN TXT a"}, q: "a.e.w.example.org. A", rcode: dns.RcodeNameError, ns: []string{negSOA}},
		{name: "wildcard does not match an empty non-terminal", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7", "x.e.w.example.org. 5 IN TXT a"}, q: "e.w.example.org. A", ns: []string{negSOA}},
		{name: "wildcard that is an empty non-terminal", seed: []string{"a.*.w.example.org. 5 IN A 192.0.2.7"}, q: "b.w.example.org. A", ns: []string{negSOA}},
		{name: "wildcard not in the middle", seed: []string{"x.*.w.example.org. 5 IN A 192.0.2.7"}, q: "x.a.w.example.org. A", ns: []string{negSOA}},
		{name: "wildcard CNAME", seed: []string{"*.w.example.org. 5 IN CNAME www.example.org."}, q: "a.w.example.org. A", answer: []string{"a.w.example.org. 5 CNAME www.example.org.", "www.example.org. 300 A 192.0.2.1"}},
		{name: "wildcard ANY", seed: []string{"*.w.example.org. 5 IN A 192.0.2.7"}, q: "a.w.example.org. ANY", answer: []string{"a.w.example.org. 5 A 192.0.2.7"}},
		{name: "wildcard of RFC 4592: host1 has a CNAME's type", seed: []string{"*.example.org. 5 IN TXT wild", "*.example.org. 5 IN MX 10 host1.example.org.", "sub.*.example.org. 5 IN TXT a", "host1.example.org. 5 IN A 192.0.2.1"},
			q: "host3.example.org. MX", answer: []string{"host3.example.org. 5 MX 10 host1.example.org."}, extra: []string{"host1.example.org. 5 A 192.0.2.1"}},
		{name: "wildcard of RFC 4592: sub.* exists", seed: []string{"*.example.org. 5 IN TXT wild", "sub.*.example.org. 5 IN TXT a"}, q: "sub.*.example.org. MX", ns: []string{negSOA}},
		{name: "wildcard of RFC 4592: ghost.*", seed: []string{"*.example.org. 5 IN TXT wild", "sub.*.example.org. 5 IN TXT a"}, q: "ghost.*.example.org. MX", rcode: dns.RcodeNameError, ns: []string{negSOA}},

		{name: "CNAME", seed: []string{"c.example.org. 5 IN CNAME www.example.org."}, q: "c.example.org. A", answer: []string{"c.example.org. 5 CNAME www.example.org.", "www.example.org. 300 A 192.0.2.1"}},
		{name: "CNAME asked for", seed: []string{"c.example.org. 5 IN CNAME www.example.org."}, q: "c.example.org. CNAME", answer: []string{"c.example.org. 5 CNAME www.example.org."}},
		{name: "CNAME to NODATA", seed: []string{"c.example.org. 5 IN CNAME www.example.org."}, q: "c.example.org. MX", answer: []string{"c.example.org. 5 CNAME www.example.org."}, ns: []string{negSOA}},
		{name: "CNAME to nothing", seed: []string{"c.example.org. 5 IN CNAME no.example.org."}, q: "c.example.org. A", rcode: dns.RcodeNameError, answer: []string{"c.example.org. 5 CNAME no.example.org."}, ns: []string{negSOA}},
		{name: "CNAME out of the zone", seed: []string{"c.example.org. 5 IN CNAME d.example.org.", "d.example.org. 5 IN CNAME www.example.net."}, q: "c.example.org. A",
			answer: []string{"c.example.org. 5 CNAME d.example.org.", "d.example.org. 5 CNAME www.example.net."}, target: "www.example.net."},
		{name: "CNAME loop", seed: []string{"c.example.org. 5 IN CNAME d.example.org.", "d.example.org. 5 IN CNAME C.example.org."}, q: "c.example.org. A", rcode: dns.RcodeServerFailure,
			answer: []string{"c.example.org. 5 CNAME d.example.org.", "d.example.org. 5 CNAME C.example.org."}},
		{name: "CNAME to itself", seed: []string{"c.example.org. 5 IN CNAME c.example.org."}, q: "c.example.org. A", rcode: dns.RcodeServerFailure, answer: []string{"c.example.org. 5 CNAME c.example.org."}},
		{name: "CNAME into a delegation", seed: []string{"c.example.org. 5 IN CNAME a.sub.example.org.", "sub.example.org. 5 IN NS x.example.net."}, q: "c.example.org. A",
			answer: []string{"c.example.org. 5 CNAME a.sub.example.org."}, ns: []string{"sub.example.org. 5 NS x.example.net."}},

		{name: "DNAME", seed: []string{"d.example.org. 5 IN DNAME example.org."}, q: "www.D.example.org. A",
			answer: []string{"d.example.org. 5 DNAME example.org.", "www.D.example.org. 5 CNAME www.example.org.", "www.example.org. 300 A 192.0.2.1"}},
		{name: "DNAME out of the zone", seed: []string{"d.example.org. 5 IN DNAME example.net."}, q: "a.b.d.example.org. A",
			answer: []string{"d.example.org. 5 DNAME example.net.", "a.b.d.example.org. 5 CNAME a.b.example.net."}, target: "a.b.example.net."},
		{name: "DNAME to the root", seed: []string{"d.example.org. 5 IN DNAME ."}, q: "a.d.example.org. A",
			answer: []string{"d.example.org. 5 DNAME .", "a.d.example.org. 5 CNAME a."}, target: "a."},
		{name: "DNAME does not redirect its owner", seed: []string{"d.example.org. 5 IN DNAME example.net."}, q: "d.example.org. A", ns: []string{negSOA}},
		{name: "DNAME asked for", seed: []string{"d.example.org. 5 IN DNAME example.net."}, q: "d.example.org. DNAME", answer: []string{"d.example.org. 5 DNAME example.net."}},
		{name: "DNAME hides what is below", seed: []string{"d.example.org. 5 IN DNAME example.net.", "a.d.example.org. 5 IN A 192.0.2.9"}, q: "a.d.example.org. A",
			answer: []string{"d.example.org. 5 DNAME example.net.", "a.d.example.org. 5 CNAME a.example.net."}, target: "a.example.net."},
		{name: "DNAME, asked for CNAME", seed: []string{"d.example.org. 5 IN DNAME example.org."}, q: "www.d.example.org. CNAME",
			answer: []string{"d.example.org. 5 DNAME example.org.", "www.d.example.org. 5 CNAME www.example.org."}},
		{name: "DNAME onto itself stays bounded", seed: []string{"d.example.org. 5 IN DNAME d.example.org."}, q: "a.d.example.org. A", rcode: dns.RcodeServerFailure,
			answer: []string{"d.example.org. 5 DNAME d.example.org.", "a.d.example.org. 5 CNAME a.d.example.org."}},
		{name: "DNAME too long", seed: []string{"d.example.org. 5 IN DNAME " + strings.Repeat(strings.Repeat("x", 60)+".", 4)}, q: strings.Repeat("y", 20) + ".d.example.org. A",
			rcode: dns.RcodeYXDomain, answer: []string{"d.example.org. 5 DNAME " + strings.Repeat(strings.Repeat("x", 60)+".", 4)}},
		{name: "DNAME at the apex", seed: []string{"example.org. 5 IN DNAME example.net."}, q: "www.example.org. A",
			answer: []string{"example.org. 5 DNAME example.net.", "www.example.org. 5 CNAME www.example.net."}, target: "www.example.net."},

		{name: "delegation", seed: []string{"sub.example.org. 5 IN NS ns.sub.example.org.", "sub.example.org. 5 IN NS x.example.net.", "ns.sub.example.org. 5 IN A 192.0.2.9", "ns.sub.example.org. 5 IN AAAA 2001:db8::9"},
			q: "a.sub.example.org. A", noAA: true, ns: []string{"sub.example.org. 5 NS ns.sub.example.org.", "sub.example.org. 5 NS x.example.net."},
			extra: []string{"ns.sub.example.org. 5 A 192.0.2.9", "ns.sub.example.org. 5 AAAA 2001:db8::9"}},
		{name: "delegation asked for NS", seed: []string{"sub.example.org. 5 IN NS x.example.net."}, q: "sub.example.org. NS", noAA: true, ns: []string{"sub.example.org. 5 NS x.example.net."}},
		{name: "delegation asked for ANY", seed: []string{"sub.example.org. 5 IN NS x.example.net."}, q: "sub.example.org. ANY", noAA: true, ns: []string{"sub.example.org. 5 NS x.example.net."}},
		{name: "delegation asked for glue", seed: []string{"sub.example.org. 5 IN NS ns.sub.example.org.", "ns.sub.example.org. 5 IN A 192.0.2.9"}, q: "ns.sub.example.org. A", noAA: true,
			ns: []string{"sub.example.org. 5 NS ns.sub.example.org."}, extra: []string{"ns.sub.example.org. 5 A 192.0.2.9"}},
		{name: "delegation asked for DS", seed: []string{"sub.example.org. 5 IN NS x.example.net."}, q: "sub.example.org. DS", ns: []string{negSOA}},
		{name: "delegation asked for DS below", seed: []string{"sub.example.org. 5 IN NS x.example.net."}, q: "a.sub.example.org. DS", noAA: true, ns: []string{"sub.example.org. 5 NS x.example.net."}},
		{name: "delegation inside a delegation is not seen", seed: []string{"sub.example.org. 5 IN NS x.example.net.", "a.sub.example.org. 5 IN NS y.example.net."}, q: "b.a.sub.example.org. A", noAA: true,
			ns: []string{"sub.example.org. 5 NS x.example.net."}},
		{name: "delegation hides a wildcard", seed: []string{"sub.example.org. 5 IN NS x.example.net.", "*.example.org. 5 IN A 192.0.2.9"}, q: "a.sub.example.org. A", noAA: true,
			ns: []string{"sub.example.org. 5 NS x.example.net."}},

		{name: "SRV brings addresses", seed: []string{"s.example.org. 5 IN SRV 0 0 104 www.example.org.", "www.example.org. 300 IN AAAA 2001:db8::1"}, q: "s.example.org. SRV",
			answer: []string{"s.example.org. 5 SRV 0 0 104 www.example.org."}, extra: []string{"www.example.org. 300 A 192.0.2.1", "www.example.org. 300 AAAA 2001:db8::1"}},
		{name: "two SRV of one host bring it once", seed: []string{"s.example.org. 5 IN SRV 0 0 104 www.example.org.", "s.example.org. 5 IN SRV 0 0 105 www.example.org."}, q: "s.example.org. SRV",
			answer: []string{"s.example.org. 5 SRV 0 0 104 www.example.org.", "s.example.org. 5 SRV 0 0 105 www.example.org."}, extra: []string{"www.example.org. 300 A 192.0.2.1"}},
		{name: "SRV of a host outside", seed: []string{"s.example.org. 5 IN SRV 0 0 104 www.example.net."}, q: "s.example.org. SRV", answer: []string{"s.example.org. 5 SRV 0 0 104 www.example.net."}},
		{name: "MX brings addresses", seed: []string{"m.example.org. 5 IN MX 10 www.example.org."}, q: "m.example.org. MX", answer: []string{"m.example.org. 5 MX 10 www.example.org."}, extra: []string{"www.example.org. 300 A 192.0.2.1"}},
		{name: "HTTPS brings addresses", seed: []string{"h.example.org. 5 IN HTTPS 1 www.example.org."}, q: "h.example.org. HTTPS", answer: []string{"h.example.org. 5 HTTPS 1 www.example.org."}, extra: []string{"www.example.org. 300 A 192.0.2.1"}},
		{name: "PTR of DNS-SD brings the service", seed: []string{"_dicom._tcp.example.org. 5 IN PTR CT1._dicom._tcp.example.org.", "CT1._dicom._tcp.example.org. 5 IN SRV 0 0 104 www.example.org.", "CT1._dicom._tcp.example.org. 5 IN TXT AET=CT1"},
			q: "_dicom._tcp.example.org. PTR", answer: []string{"_dicom._tcp.example.org. 5 PTR CT1._dicom._tcp.example.org."},
			extra: []string{"CT1._dicom._tcp.example.org. 5 SRV 0 0 104 www.example.org.", `CT1._dicom._tcp.example.org. 5 TXT "AET=CT1"`, "www.example.org. 300 A 192.0.2.1"}},
		{name: "PTR of a host brings nothing", seed: []string{"p.example.org. 5 IN PTR www.example.org."}, q: "p.example.org. PTR", answer: []string{"p.example.org. 5 PTR www.example.org."}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := memory(t, tt.seed...)
			i := strings.LastIndexByte(tt.q, ' ')
			got := z.Snapshot().Lookup(tt.q[:i], dns.StringToType[tt.q[i+1:]])
			if got.Rcode != tt.rcode {
				t.Errorf("%s, want %s", dns.RcodeToString[got.Rcode], dns.RcodeToString[tt.rcode])
			}
			if got.Authoritative == tt.noAA {
				t.Errorf("authoritative: %t", got.Authoritative)
			}
			if got.Target != tt.target {
				t.Errorf("target %q, want %q", got.Target, tt.target)
			}
			wantText(t, "answer", got.Answer, tt.answer...)
			wantText(t, "authority", got.Ns, tt.ns...)
			wantText(t, "additional", got.Extra, tt.extra...)
		})
	}
}

func TestAnswerFollowsTheChain(t *testing.T) {
	z := memory(t, "c.example.org. 5 IN CNAME d.example.org.", "d.example.org. 5 IN CNAME www.example.org.")
	var owners []string
	for _, r := range z.Snapshot().Lookup("c.example.org.", dns.TypeA).Answer {
		owners = append(owners, r.Header().Name)
	}
	if want := []string{"c.example.org.", "d.example.org.", "www.example.org."}; !slices.Equal(owners, want) {
		t.Fatalf("%q", owners)
	}
}

func TestLongChainIsBounded(t *testing.T) {
	var seed []string
	for i := range 100 {
		seed = append(seed, fmt.Sprintf("c%d.example.org. 5 IN CNAME c%d.example.org.", i, i+1))
	}
	res := memory(t, seed...).Snapshot().Lookup("c0.example.org.", dns.TypeA)
	if len(res.Answer) != 16 || res.Rcode != dns.RcodeSuccess {
		t.Fatalf("%d records, %s", len(res.Answer), dns.RcodeToString[res.Rcode])
	}
}

func TestAdditionalIsBounded(t *testing.T) {
	var seed []string
	for i := range 500 {
		seed = append(seed, fmt.Sprintf("_d.example.org. 5 IN PTR i%d._d.example.org.", i),
			fmt.Sprintf("i%d._d.example.org. 5 IN SRV 0 0 104 www.example.org.", i),
			fmt.Sprintf("i%d._d.example.org. 5 IN TXT a", i))
	}
	res := memory(t, seed...).Snapshot().Lookup("_d.example.org.", dns.TypePTR)
	if len(res.Answer) != 500 || len(res.Extra) > 128 || len(res.Extra) < 100 {
		t.Fatalf("%d and %d records", len(res.Answer), len(res.Extra))
	}
}

func TestSnapshotStays(t *testing.T) {
	z := memory(t, "a.example.org. 5 IN A 192.0.2.1")
	old := z.Snapshot()
	before := text(slices.Collect(old.All()))
	answer := old.Lookup("a.example.org.", dns.TypeA).Answer
	_ = append(answer, rr(t, "z.example.org. 1 IN A 192.0.2.200")) // must not reach the shared array
	for i := range 300 {
		mustUpdate(t, z, fmt.Sprintf("add a.example.org. %d IN A 192.0.2.%d", i+10, i%200+2), fmt.Sprintf("add n%d.example.org. 1 IN A 192.0.2.1", i))
	}
	mustUpdate(t, z, "delname a.example.org.")
	if after := text(slices.Collect(old.All())); !slices.Equal(before, after) {
		t.Fatalf("a published snapshot changed:\n%q\n%q", before, after)
	}
	if got := z.Snapshot().Serial(); got != 311 {
		t.Fatalf("serial %d", got)
	}
}

func TestAllIsInCanonicalOrder(t *testing.T) {
	// The example of RFC 4034 section 6.1.
	want := []string{"example.org.", "a.example.org.", "yljkjljk.a.example.org.", "Z.a.example.org.", "zABC.a.EXAMPLE.org.", "z.example.org.", `\001.z.example.org.`, "*.z.example.org.", `\200.z.example.org.`}
	seed := []string{"example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 10 3600 600 86400 60"}
	for i := len(want) - 1; i > 0; i-- {
		seed = append(seed, want[i]+" 5 IN A 192.0.2.1")
	}
	s := memory2(t, seed)
	var got []string
	for r := range s.Snapshot().All() {
		got = append(got, r.Header().Name)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
	for range s.Snapshot().All() {
		break // must not go on
	}
}
