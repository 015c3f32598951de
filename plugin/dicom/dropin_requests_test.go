package dicom

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// asked is an UPDATE for two servers that should do the same with it. Its
// lines are records "owner TTL class type [data]", of which the owner is below
// the zone unless it ends with a dot; those of the prerequisite section begin
// with a question mark. The type * is ANY. Data that begins with \# is sent as it is (RFC 3597).
type asked struct {
	name  string // "": what lines says
	lines string
	edit  func(m *dns.Msg) // before it is signed
	key   string           // "": the one that may do everything
	sign  func(m *dns.Msg) (wire []byte, mac string, err error)
	cut   int // octets that are missing at the end
	// silent: it gets no response.
	silent bool
}

// parseRequestRecord reads a line of a request.
func parseRequestRecord(t *testing.T, line string) dns.RR {
	t.Helper()
	f := strings.SplitN(line, " ", 5)
	if len(f) < 4 {
		t.Fatalf("record %q", line)
	}
	ttl, err := strconv.ParseUint(f[1], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	h := dns.RR_Header{Name: f[0], Ttl: uint32(ttl), Class: dns.StringToClass[f[2]]}
	switch {
	case h.Name == "@":
		h.Name = domain
	case !strings.HasSuffix(h.Name, "."):
		h.Name += "." + domain
	}
	if n, ok := strings.CutPrefix(f[3], "TYPE"); ok {
		n, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		h.Rrtype = uint16(n)
	} else if h.Rrtype = dns.StringToType[strings.Replace(f[3], "*", "ANY", 1)]; h.Rrtype == 0 {
		t.Fatalf("type of %q", line)
	}
	if h.Class == 0 {
		t.Fatalf("class of %q", line)
	}
	if len(f) == 4 {
		return &dns.ANY{Hdr: h}
	}
	if data, ok := strings.CutPrefix(f[4], `\#`); ok {
		return &dns.RFC3597{Hdr: h, Rdata: strings.TrimSpace(data)}
	}
	rr, err := dns.NewRR(fmt.Sprintf("$ORIGIN %s\n%s %d IN %s %s", domain, h.Name, ttl, f[3], f[4]))
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	rr.Header().Class, rr.Header().Ttl = h.Class, h.Ttl
	return rr
}

// message is the request before it is signed.
func (r *asked) message(t *testing.T) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetUpdate(domain)
	for line := range strings.Lines(r.lines) {
		line = strings.TrimSpace(line)
		if p, ok := strings.CutPrefix(line, "?"); ok {
			m.Answer = append(m.Answer, parseRequestRecord(t, p))
		} else if line != "" {
			m.Ns = append(m.Ns, parseRequestRecord(t, line))
		}
	}
	if r.edit != nil {
		r.edit(m)
	}
	return m
}

// The keys of the two servers beside key, which may do everything.
const (
	narrowKey = otherKey // may do what the rules of dropInBlock say
	idleKey   = "idle.imaging.example.org."
)

var dropInSecrets = map[string]string{key: secret, narrowKey: otherSecret, idleKey: secret}

// wire signs the request. What it returns is sent to both servers.
func (r *asked) wire(t *testing.T) (wire []byte, mac, secretOf string) {
	t.Helper()
	m := r.message(t)
	if r.key == "" {
		r.key = key
	}
	sign := r.sign
	if sign == nil {
		sign = func(m *dns.Msg) ([]byte, string, error) {
			return dns.TsigGenerate(m.SetTsig(r.key, dns.HmacSHA256, 300, time.Now().Unix()), dropInSecrets[r.key], "", false)
		}
	}
	wire, mac, err := sign(m)
	if err != nil {
		t.Fatalf("%s: %v", r, err)
	}
	return wire[:len(wire)-r.cut], mac, dropInSecrets[r.key]
}

func (r *asked) String() string {
	if r.name != "" {
		return r.name
	}
	return strings.TrimSpace(r.lines)
}

// unsigned is a way to sign.
func unsigned(m *dns.Msg) ([]byte, string, error) {
	wire, err := m.Pack()
	return wire, "", err
}

func signedWith(key, algorithm, secret string, when time.Duration) func(m *dns.Msg) ([]byte, string, error) {
	return func(m *dns.Msg) ([]byte, string, error) {
		return dns.TsigGenerate(m.SetTsig(key, algorithm, 300, time.Now().Add(when).Unix()), secret, "", false)
	}
}

// randomRequest is about few names, so that requests meet each other's records.
func randomRequest(r *rand.Rand) *asked {
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	name := func() string {
		return pick("a", "A", "b", "b", "x.a", "*.a", "own", "*.sub", "x.sub", "c", "www", "@", pick("a", "b", "c", "@", "www.example.net."))
	}
	data := func(typ string) string {
		switch typ {
		case "A":
			return pick("192.0.2.1", "192.0.2.2", "192.0.2.3")
		case "AAAA":
			return pick("2001:db8::1", "2001:db8::2")
		case "TXT":
			return pick(`"x"`, `"z"`, `"x" "y"`)
		case "MX":
			return "10 " + pick("a", "B", "www")
		case "SRV":
			return "0 0 104 " + pick("a", "www")
		case "SOA":
			return "ns hostmaster " + strconv.Itoa(1+r.IntN(2000)) + " 3600 600 86400 60"
		case "DS":
			return "1 8 2 0000000000000000000000000000000000000000000000000000000000000000"
		case "TYPE65280":
			return pick(`\# 01`, `\# 0102`)
		default:
			return pick("a", "b", "www", "ns", "host.example.net.")
		}
	}
	typ := func() string {
		return pick("A", "A", "A", "AAAA", "TXT", "TXT", "MX", "SRV", "CNAME", "CNAME", "NS", "PTR", pick("SOA", "DS", "TYPE65280", "PTR"))
	}
	var b strings.Builder
	for range max(0, r.IntN(5)-2) { // prerequisites
		switch ty := typ(); r.IntN(6) {
		case 0:
			fmt.Fprintf(&b, "?%s %d ANY *\n", name(), r.IntN(20)/19)
		case 1:
			fmt.Fprintf(&b, "?%s 0 NONE ANY\n", name())
		case 2:
			fmt.Fprintf(&b, "?%s 0 ANY %s\n", name(), ty)
		case 3:
			fmt.Fprintf(&b, "?%s 0 NONE %s\n", name(), ty)
		default:
			fmt.Fprintf(&b, "?%s 0 IN %s %s\n", name(), ty, data(ty))
		}
	}
	for range 1 + r.IntN(4) {
		switch ty := typ(); r.IntN(10) {
		case 0:
			fmt.Fprintf(&b, "%s 0 ANY *\n", name())
		case 1, 2:
			fmt.Fprintf(&b, "%s %d ANY %s\n", name(), r.IntN(20)/19, ty)
		case 3, 4:
			fmt.Fprintf(&b, "%s %d NONE %s %s\n", name(), r.IntN(20)/19, ty, data(ty))
		default:
			owner := name()
			if ty == "NS" { // at a wildcard owner it means nothing (RFC 4592 section 4.2)
				owner = strings.TrimPrefix(owner, "*.")
			}
			fmt.Fprintf(&b, "%s %s IN %s %s\n", owner, pick("60", "60", "60", "60", "300", "0"), ty, data(ty))
		}
	}
	q := &asked{lines: b.String()}
	if r.IntN(5) == 0 {
		q.key = pick(narrowKey, narrowKey, idleKey)
	}
	return q
}

func many(n int, form string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, form+"\n", i)
	}
	return b.String()
}

// fixedRequests are sent in this order.
func fixedRequests() []asked {
	zoneIs := func(name string, typ, class uint16) func(m *dns.Msg) {
		return func(m *dns.Msg) { m.Question[0] = dns.Question{Name: name, Qtype: typ, Qclass: class} }
	}
	const a = "new 300 IN A 192.0.2.77"
	all := []asked{
		// Who may.
		{name: "unsigned", lines: a, sign: unsigned},
		{name: "unknown key", lines: a, sign: signedWith("nobody.example.org.", dns.HmacSHA256, secret, 0)},
		{name: "wrong secret", lines: a, sign: signedWith(key, dns.HmacSHA256, otherSecret, 0)},
		{name: "an hour ago", lines: a, sign: signedWith(key, dns.HmacSHA256, secret, -time.Hour)},
		{name: "in an hour", lines: a, sign: signedWith(key, dns.HmacSHA256, secret, time.Hour)},
		{name: "another algorithm", lines: a, sign: signedWith(key, dns.HmacSHA512, secret, 0)},
		{name: "no rule for the key", lines: a, key: idleKey},
		{name: "no rule for the key, and a prerequisite", lines: "?www 0 NONE ANY", key: idleKey},
		{name: "no rule for the key, nothing to do", key: idleKey},
		{name: "allowed", lines: "own 300 IN A 192.0.2.78", key: narrowKey},
		{name: "allowed in other case", lines: "OWN 300 IN TXT x", key: narrowKey},
		{name: "type not allowed", lines: "own 300 IN AAAA 2001:db8::1", key: narrowKey},
		{name: "name not allowed", lines: a, key: narrowKey},
		{name: "name below one that is allowed", lines: "x.own 300 IN A 192.0.2.78", key: narrowKey},
		{name: "wildcard owner", lines: "*.sub 300 IN A 192.0.2.79", key: narrowKey},
		{name: "below the wildcard owner", lines: "x.sub 300 IN A 192.0.2.79", key: narrowKey},
		{name: "apex", lines: "@ 300 IN MX 5 www", key: narrowKey},
		{name: "apex, type not allowed", lines: "@ 300 IN TXT x", key: narrowKey},
		{name: "deletion of a name that is allowed", lines: "own 0 ANY *", key: narrowKey},
		{name: "deletion of a name that is not", lines: "*.sub 0 ANY *", key: narrowKey},
		{name: "one of two is not allowed", lines: "own 300 IN A 192.0.2.78\nwww 300 IN A 192.0.2.78", key: narrowKey},
		{name: "not allowed, and a failing prerequisite", lines: "?none 0 ANY *\nwww 300 IN A 192.0.2.78", key: narrowKey},
		{name: "not allowed, and malformed", lines: "www 1 ANY A", key: narrowKey},
		{name: "not allowed, and out of the zone", lines: "www.example.net. 300 IN A 192.0.2.1", key: narrowKey},
		{name: "prerequisite about what is not allowed", lines: "?www 0 ANY A\nown 300 IN A 192.0.2.80", key: narrowKey},

		// The message.
		{name: "nothing"},
		{name: "class CH", lines: a, edit: zoneIs(domain, dns.TypeSOA, dns.ClassCHAOS)},
		{name: "class ANY", lines: a, edit: zoneIs(domain, dns.TypeSOA, dns.ClassANY)},
		{name: "zone of type A", lines: a, edit: zoneIs(domain, dns.TypeA, dns.ClassINET)},
		{name: "zone in other case", lines: a, edit: zoneIs("Imaging.EXAMPLE.org.", dns.TypeSOA, dns.ClassINET)},
		{name: "zone above", lines: a, edit: zoneIs("example.org.", dns.TypeSOA, dns.ClassINET)},
		{name: "zone below", lines: a, edit: zoneIs("www."+domain, dns.TypeSOA, dns.ClassINET)},
		{name: "another zone", lines: a, edit: zoneIs("example.net.", dns.TypeSOA, dns.ClassINET)},
		{name: "no zone", lines: a, edit: func(m *dns.Msg) { m.Question = nil }},
		{name: "two zones", lines: a, edit: func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }},
		{name: "flags", lines: a, edit: func(m *dns.Msg) {
			m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData, m.Zero, m.Authoritative, m.Rcode = true, true, true, true, true, 3
		}},
		{name: "a response", lines: a, edit: func(m *dns.Msg) { m.Response = true }, silent: true},
		{name: "EDNS", lines: a, edit: func(m *dns.Msg) { m.SetEdns0(1232, true) }},
		{name: "additional data", lines: a, edit: func(m *dns.Msg) { m.Extra = m.Ns }},
		{name: "cut", lines: a, sign: unsigned, cut: 5},
		{name: "cut in the header", lines: a, sign: unsigned, cut: 60, silent: true},
		{name: "20 records", lines: many(18, "many%d 300 IN A 192.0.2.90") + "?none 0 NONE ANY\n?www 0 ANY *"},
		{name: "21 records", lines: many(21, "more%d 300 IN A 192.0.2.90")},
		{name: "21 records in both sections", lines: many(19, "more%d 300 IN A 192.0.2.90") + "?none 0 NONE ANY\n?www 0 ANY *"},
		{name: "21 records with a failing prerequisite", lines: many(20, "more%d 300 IN A 192.0.2.90") + "?www 0 NONE ANY"},
	}
	// One after another, in a zone that the ones before have made.
	for lines := range strings.SplitSeq(strings.TrimSpace(fixedLines), "\n") {
		all = append(all, asked{lines: strings.ReplaceAll(lines, "|", "\n")})
	}
	// What no zone of the limits holds.
	all = append(all,
		asked{name: "20 more", lines: many(20, "b%d 300 IN A 192.0.2.90")},
		asked{name: "40 more", lines: many(20, "c%d 300 IN A 192.0.2.90")},
		asked{name: "60 more", lines: many(20, "d%d 300 IN A 192.0.2.90")},
		asked{name: "one goes, one comes", lines: "b0 0 ANY *\ne0 300 IN A 192.0.2.91"},
		asked{name: "too many octets", lines: many(10, "c%d 300 IN TXT "+strings.Repeat("x", 250)) + many(9, "b%d 300 IN TXT "+strings.Repeat("y", 250))},
	)
	return all
}

// fixedLines are requests, of which each is one line, its records between bars.
const fixedLines = `
p1 300 IN A 192.0.2.1
?www 0 ANY *|p2 300 IN A 192.0.2.1
?none 0 ANY *|p3 300 IN A 192.0.2.1
?www 0 NONE ANY|p4 300 IN A 192.0.2.1
?none 0 NONE ANY|p5 300 IN A 192.0.2.1
?www 0 ANY A|p6 300 IN A 192.0.2.1
?WWW 0 ANY AAAA|p7 300 IN A 192.0.2.1
?none 0 ANY A|p8 300 IN A 192.0.2.1
?www 0 NONE A|p9 300 IN A 192.0.2.1
?www 0 NONE TXT|p10 300 IN A 192.0.2.1
?www 0 IN A 192.0.2.1|p11 300 IN A 192.0.2.1
?www 0 IN A 192.0.2.2|p12 300 IN A 192.0.2.1
?www 0 IN A 192.0.2.1|?www 0 IN A 192.0.2.1|p13 300 IN A 192.0.2.1
?www 0 IN A 192.0.2.1|?www 0 IN A 192.0.2.2|p14 300 IN A 192.0.2.1
?@ 0 IN NS NS.imaging.example.ORG.|p15 300 IN A 192.0.2.1
?@ 0 ANY SOA|p16 300 IN A 192.0.2.1
?wild 0 ANY *|p17 300 IN A 192.0.2.1
?x.wild 0 ANY *|p18 300 IN A 192.0.2.1
?*.wild 0 ANY MX|p19 300 IN A 192.0.2.1
?www 1 ANY *
?www 1 IN A 192.0.2.1
?www 0 CH A 192.0.2.1
?www 0 ANY A 192.0.2.1
?www 0 NONE A 192.0.2.1
?www 0 IN ANY
?www 0 IN A
?www 0 IN A \# 0102
?www 0 ANY AXFR
?www 0 ANY MAILB
?www 0 ANY OPT
?www 0 ANY TYPE200
?www 0 IN TYPE251 \# 00
?www 0 ANY TYPE0
?none 0 NONE TYPE0
?www.example.net. 0 ANY *
?www.example.net. 1 ANY *
?www 0 ANY DS
?none 0 NONE DNSKEY
?none 0 NONE KEY
?www 0 IN DS 1 8 2 0000000000000000000000000000000000000000000000000000000000000000
?unknown 0 ANY TYPE65280
?unknown 0 NONE TYPE65280
?unknown 0 IN TYPE65280 \# 010203
?unknown 0 IN TYPE65280 \# 010204
?www 0 ANY TYPE65281
?none 0 NONE TYPE65281
?www 0 ANY HINFO
?none 0 ANY *|www 1 ANY A
?www 0 ANY *|www 1 ANY A
?none 0 ANY *|?www 1 ANY *
?www 1 ANY *|?none 0 ANY *
u1 300 IN A 192.0.2.1
u1 300 IN A 192.0.2.1
U1 300 IN A 192.0.2.1
u1 600 IN A 192.0.2.1
u1 300 IN A 192.0.2.1|u1 300 IN A 192.0.2.2
u1 900 IN A 192.0.2.3
u1 900 IN A 192.0.2.3|u1 901 IN A 192.0.2.3
u1 0 NONE A 192.0.2.3
u1 0 NONE A 192.0.2.9
U1 0 ANY A
u1 0 ANY A
u1 0 ANY *
u2 300 IN A 192.0.2.1|u2 0 ANY *
u2 0 ANY *|u2 300 IN A 192.0.2.1
u2 0 ANY *|u2 300 IN A 192.0.2.1
u2 0 NONE A 192.0.2.1|u2 300 IN A 192.0.2.1
u2 300 IN TXT x|u2 300 IN TXT X|u2 300 IN TXT "x" "x"
u2 0 NONE TXT X
u2 300 IN CNAME www
c1 300 IN CNAME www
c1 300 IN CNAME WWW
c1 600 IN CNAME www
c1 300 IN CNAME ns
c1 300 IN A 192.0.2.1
c1 300 IN TXT x|c1 0 ANY CNAME|c1 300 IN A 192.0.2.1
c1 0 ANY *|c1 300 IN CNAME www
c1 0 NONE CNAME ns
c1 0 NONE CNAME WWW
c1 300 IN CNAME C1
c1 0 ANY *
@ 300 IN CNAME www
@ 0 ANY *
@ 0 ANY SOA
@ 0 ANY NS
@ 0 NONE SOA ns.imaging.example.org. hostmaster.imaging.example.org. 10 3600 600 86400 60
@ 0 NONE NS ns
@ 0 NONE NS none
@ 60 IN NS www
@ 0 NONE NS ns
@ 0 NONE NS www
@ 60 IN NS ns|@ 0 NONE NS www|@ 0 NONE NS ns
@ 60 IN NS ns
@ 300 IN TXT x
@ 0 ANY *
@ 60 IN SOA ns hostmaster 10 3600 600 86400 60
@ 60 IN SOA ns hostmaster 1 3600 600 86400 60
@ 60 IN SOA ns hostmaster 0 3600 600 86400 60
@ 60 IN SOA ns hostmaster 1000 3600 600 86400 60
@ 120 IN SOA ns hostmaster 2000 3600 600 86400 61|s1 300 IN A 192.0.2.1
@ 60 IN SOA ns hostmaster 2147485648 3600 600 86400 60
@ 60 IN SOA ns hostmaster 2147485647 3600 600 86400 60
@ 60 IN SOA ns hostmaster 4294967295 3600 600 86400 60
s2 300 IN A 192.0.2.1
s2 300 IN A 192.0.2.2
s3 300 IN SOA ns hostmaster 3000 3600 600 86400 60
www 300 IN A
www 300 IN A \# 0102
www 300 IN A \# 0102030405
www 0 NONE A
www 0 NONE A \# 0102
www 300 IN AAAA \# 01
www 300 IN TXT
www 300 IN TXT \# 05
www 300 IN MX \# 0001
www 300 IN SRV \# 000000000000c000
www 300 IN TLSA \# 03
www 300 IN CAA \# 000061
?www 0 IN TLSA \# 03
www 0 NONE TLSA \# 03
www 0 NONE CAA \# 000061
www 300 IN ANY
www 0 NONE ANY
www 300 ANY *
www 0 ANY A 192.0.2.1
www 300 ANY A
www 300 NONE A 192.0.2.1
www 0 CH A 192.0.2.1
www 0 ANY AXFR
www 0 ANY MAILA
www 0 NONE TYPE253 \# 00
www 0 ANY TYPE128
www 300 IN TYPE200 \# 00
www 300 IN OPT
www 300 IN TKEY \# 00
www 300 IN TYPE0 \# 00
www 0 ANY TYPE0
www.example.net. 300 IN A 192.0.2.1
www.example.net. 300 IN ANY
example.org. 300 IN A 192.0.2.1
ximaging.example.org. 300 IN A 192.0.2.1
o1 300 IN A 192.0.2.1|www.example.net. 300 IN A 192.0.2.1
o1 300 IN A 192.0.2.1|www 1 ANY A
www 300 IN DS 1 8 2 0000000000000000000000000000000000000000000000000000000000000000
www 0 ANY DS
www 0 ANY DNSKEY
www 0 ANY RRSIG
www 0 ANY NSEC
www 0 ANY NSEC3
@ 0 ANY NSEC3PARAM
@ 0 ANY ZONEMD
@ 0 ANY CDS
www 300 IN KEY 0 3 8 AAAA
o2 300 IN A 192.0.2.1|www 0 ANY DS
www 1 ANY DS
x1 300 IN TYPE65281 \# 0102
x1 300 IN TYPE65281 \#
x1 0 NONE TYPE65281 \# 0102
x1 0 ANY TYPE65281
unknown 0 NONE TYPE65280 \# 010203
unknown 0 ANY *
t1 2147483647 IN A 192.0.2.1
t2 2147483648 IN A 192.0.2.1
t3 4294967295 IN A 192.0.2.1
t4 0 IN A 192.0.2.1
_dicom._tcp 300 IN SRV 0 0 104 www
_dicom._tcp 300 IN SRV 0 0 104 WWW
_dicom._tcp 300 IN PTR CT1._dicom._tcp
CT\0321._dicom._tcp 300 IN SRV 0 0 104 www|CT\0321._dicom._tcp 300 IN TXT "AET=CT1"
ct\0321._dicom._tcp 0 ANY SRV
*.w 300 IN A 192.0.2.1
\042.w 300 IN A 192.0.2.2
d1 300 IN DNAME example.net.
d1 300 IN DNAME example.com.
d1 300 IN A 192.0.2.1
x.d1 300 IN A 192.0.2.1
del 300 IN NS ns.del|ns.del 300 IN A 192.0.2.53
x.del 300 IN A 192.0.2.1
h1 300 IN DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=|h1 300 IN A 192.0.2.1
?h1 0 IN DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=|h1 0 ANY A|h1 300 IN A 192.0.2.2
h1 300 IN HINFO a b|h1 300 IN NAPTR 1 1 "u" "" "" .|h1 300 IN CAA 0 issue "example.org"|h1 300 IN HTTPS 1 . alpn=h2|h1 300 IN LOC 1 N 1 E 1m
h2 300 IN NULL \# 0102
h1 300 IN TYPE11 \# c000020106
h1 300 IN SPF x|h1 300 IN SSHFP 1 1 0000000000000000000000000000000000000000|h1 300 IN TLSA 1 1 1 0000|h1 300 IN OPENPGPKEY AAAA
h1 0 ANY *|del 0 ANY *|d1 0 ANY *
u2 0 ANY *|ns.del 0 ANY *|x.del 0 ANY *|x.d1 0 ANY *|t1 0 ANY *|t2 0 ANY *|t3 0 ANY *|t4 0 ANY *
`
