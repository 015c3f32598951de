package zone

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
)

// TestDataEndsEarly: what was not sent must not be made up, and a secondary may refuse a zone with such a record, so it is
// malformed (RFC 2136 section 3.4.1.3).
func TestDataEndsEarly(t *testing.T) {
	s, z := openMem(t, vfs.NewMem())
	defer s.Close()
	for typ, data := range map[uint16]string{
		dns.TypeMX: "0001", dns.TypeSRV: "000000000068", dns.TypeAFSDB: "0001", dns.TypeKX: "0001", dns.TypeRP: "016100",
		dns.TypeHTTPS: "0001", dns.TypeNAPTR: "00010001000000", dns.TypeSOA: "0000", dns.TypeMINFO: "00",
		dns.TypeHINFO: "0161", dns.TypeGPOS: "0131", dns.TypeLOC: "00", dns.TypeCERT: "000100", dns.TypeSSHFP: "04",
		dns.TypeIPSECKEY: "0a", dns.TypeAMTRELAY: "0a", dns.TypeTLSA: "03", dns.TypeSMIMEA: "0301", dns.TypeHIP: "04",
		dns.TypeRKEY: "0000", dns.TypeNID: "0001", dns.TypeL32: "0001", dns.TypeL64: "0001", dns.TypeURI: "0001", dns.TypeCAA: "00",
	} {
		t.Run(dns.TypeToString[typ], func(t *testing.T) {
			h := dns.RR_Header{Name: z.Origin(), Rrtype: typ, Class: dns.ClassINET, Ttl: 60}
			for _, class := range []uint16{dns.ClassINET, dns.ClassNONE} {
				m := new(dns.Msg).SetUpdate(z.Origin())
				if h.Class = class; class == dns.ClassNONE {
					h.Ttl = 0
				}
				m.Ns = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: data}}
				if throughWire(t, m) != nil {
					return // the server has answered with FORMERR
				}
				rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll)
				if rcode != dns.RcodeFormatError {
					t.Errorf("%s: %s, %v", m.Ns[0], dns.RcodeToString[rcode], err)
				}
			}
		})
	}
}

// throughWire makes of a message what comes out of its octets.
func throughWire(t *testing.T, m *dns.Msg) error {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return m.Unpack(wire)
}

// TestMalformedData has data that the DNS library reads and BIND does not, so that it would refuse the zone.
func TestMalformedData(t *testing.T) {
	s, z := openMem(t, vfs.NewMem())
	defer s.Close()
	const loc, digest = "001216138000000080000000" + "00989680", "0123456789abcdef0123456789abcdef01234567"
	long := strings.Repeat("3f"+strings.Repeat("61", 63), 4) + "00" // 257 octets
	naptr := func(flags, services, regexp, replacement string) string {
		data := "00010001"
		for _, s := range []string{flags, services, regexp} {
			data += fmt.Sprintf("%02x%x", len(s), s)
		}
		return data + replacement
	}
	for _, tt := range []struct {
		typ       uint16
		data, why string // "": it is well-formed
	}{
		{dns.TypeCAA, "0000" + "61", "no tag"}, {dns.TypeCAA, "0003612d62", "tag with a hyphen"}, {dns.TypeCAA, "000349737361", ""},
		{dns.TypeCERT, "0001000105", "no certificate"}, {dns.TypeCERT, "000100010501", ""},
		{dns.TypeHIP, "00020001ff", "no tag"}, {dns.TypeHIP, "01020000ff", "no key"}, {dns.TypeHIP, "01020001ffff", ""},
		{dns.TypeIPSECKEY, "0a0402", "type of gateway"}, {dns.TypeIPSECKEY, "0a0002", "no key"}, {dns.TypeIPSECKEY, "0a0000ff", "a key of none"}, {dns.TypeIPSECKEY, "0a0002ff", ""},
		{dns.TypeIPSECKEY, "0a0100", "no gateway"}, {dns.TypeIPSECKEY, "0a0300", "no gateway"}, {dns.TypeIPSECKEY, "0a0000", ""}, {dns.TypeIPSECKEY, "0a0102c0000201ff", ""},
		{dns.TypeAMTRELAY, "0a01", "no relay"}, {dns.TypeAMTRELAY, "0a02", "no relay"}, {dns.TypeAMTRELAY, "0a83", "no relay"},
		{dns.TypeAMTRELAY, "0a00", ""}, {dns.TypeAMTRELAY, "0a01c0000201", ""}, {dns.TypeAMTRELAY, "0a0300", ""},
		{dns.TypeLOC, loc, ""}, {dns.TypeLOC, "01" + loc[2:], "version"}, {dns.TypeLOC, "00ff" + loc[4:], "size"}, {dns.TypeLOC, "00120a" + loc[6:], "precision"}, {dns.TypeLOC, "0000" + loc[4:], ""}, {dns.TypeLOC, "0002" + loc[4:], "size of nothing"},
		{dns.TypeLOC, loc[:8] + "ffffffff" + loc[16:], "latitude"}, {dns.TypeLOC, loc[:16] + "00000000" + loc[24:], "longitude"},
		{dns.TypeSSHFP, "0101" + digest, ""}, {dns.TypeSSHFP, "0102" + digest, "digest of another"}, {dns.TypeSSHFP, "0103", "no digest"}, {dns.TypeSSHFP, "0103ffff", ""},
		{dns.TypeTLSA, "030101", "no data"}, {dns.TypeTLSA, "030101ff", ""}, {dns.TypeSMIMEA, "030101", "no data"},
		{dns.TypeSVCB, "0001" + "00" + "00000000", "nothing is mandatory"}, {dns.TypeHTTPS, "0001" + "00" + "000000020003", "what is mandatory is not there"},
		{dns.TypeHTTPS, "0001" + "00" + "000000020000", "mandatory is mandatory"}, {dns.TypeHTTPS, "0001" + "00" + "000000020003" + "000300020050", ""},
		{dns.TypeHTTPS, "0001" + "00" + "00020000", "no protocol"}, {dns.TypeHTTPS, "0001" + "00" + "00010003026832" + "00020000", ""},
		{dns.TypeSVCB, "0001" + "00" + "00070000", "no path"}, {dns.TypeSVCB, "0001" + "00" + "00070008" + "2f717b3f646e737d", ""},
		{typeWKS, "c0000201", "no protocol"}, {typeWKS, "c0000201" + "06", ""}, {typeWKS, "c0000201" + "06" + "0080", ""},
		{typeWKS, "c0000201" + "06" + "8000", "an octet without a bit"}, {typeWKS, "c0000201" + "06" + "00", "an octet without a bit"},
		{typeWKS, "c0000201" + "06" + strings.Repeat("01", 8192), ""}, {typeWKS, "c0000201" + "06" + strings.Repeat("01", 8193), "more than all ports"},
		{dns.TypeX25, "0433313130", ""}, {dns.TypeX25, "03333131", "three digits"}, {dns.TypeX25, "0433313161", "a letter"}, {dns.TypeX25, "00", "nothing"},
		{dns.TypeNAPTR, naptr("s", "SIP+D2U", "", "0161016100"), ""}, {dns.TypeNAPTR, naptr("", "", "", "00"), ""},
		{dns.TypeNAPTR, naptr("u", "E2U+sip", `!^\+49(.*)$!sip:\1@example.org!`, "00"), ""}, {dns.TypeNAPTR, naptr("!", "", "", "00"), "flags"},
		{dns.TypeNAPTR, naptr("u", "E2U+sip", `!^.*$!sip:\1@example.org!`, "00"), "no such group"}, {dns.TypeNAPTR, naptr("u", "", "!^.*$!sip:a", "00"), "no end"},
		{dns.TypeRKEY, "00000305" + "01", ""}, {dns.TypeRKEY, "00010305" + "01", "flags"}, {dns.TypeRKEY, "00000305", "no key"},
		{dns.TypeRKEY, "000003fd" + "016100", ""}, {dns.TypeRKEY, "000003fd" + "0161", "whose algorithm"}, {dns.TypeRKEY, "000003fd" + "01", "whose algorithm"},
		{dns.TypeCSYNC, "000000010003" + "000260", "a window without its length"}, {dns.TypeCSYNC, "000000010003" + "00016000" + "010140", "a window without its length"},
		{dns.TypeCSYNC, "000000010003" + "000160" + "010140", ""}, {dns.TypeCSYNC, "000000010003", ""}, {dns.TypeCSYNC, "00000001fffc" + "000160", ""},
		{dns.TypeEID, "", "nothing"}, {dns.TypeEID, "00", ""}, {dns.TypeNIMLOC, "", "nothing"}, {dns.TypeNIMLOC, "00", ""},
		{typeNSAP, "", "nothing"}, {typeNSAP, "47", ""}, {typeHHIT, "", "nothing"}, {typeHHIT, "00", ""}, {typeBRID, "", "nothing"}, {typeBRID, "00", ""},
		{dns.TypeATMA, "00", "no address"}, {dns.TypeATMA, "0047", ""}, {dns.TypeATMA, "0131", ""}, {dns.TypeATMA, "013161", "a letter"},
		{typeA6, "", "nothing"}, {typeA6, "81", "prefix"}, {typeA6, "80", "no name"}, {typeA6, "8000", ""}, {typeA6, "8000" + "00", "more behind the name"},
		{typeA6, "00" + strings.Repeat("ff", 16), ""}, {typeA6, "00" + strings.Repeat("ff", 16) + "00", "a name for nothing"}, {typeA6, "00" + strings.Repeat("ff", 15), "address"},
		{typeA6, "7c" + "0f" + "016100", ""}, {typeA6, "7c" + "1f" + "016100", "a bit of the prefix"},
		{typeSINK, "0101", "no subcoding"}, {typeSINK, "010101", ""},
		{typeDSYNC, "003b01" + "0035" + "016100", ""}, {typeDSYNC, "003b01" + "0035", "no target"}, {typeDSYNC, "003b01" + "0035" + "0161", "no end of the target"},
		{typeDSYNC, "003b01" + "0035" + "c00c", "compressed"}, {typeDSYNC, "003b01" + "0035" + "00" + "00", "more behind the target"}, {typeDSYNC, "003b01" + "0035" + long, "a long target"},
		{typeDOA, "0000000000000000" + "00" + "00", ""}, {typeDOA, "0000000000000000" + "00", "no media type"}, {typeDOA, "0000000000000000" + "00" + "01", "media type"}, {typeDOA, "0000000000000000" + "00" + "0161" + "ff", ""},
		{typeWALLET, "", "nothing"}, {typeWALLET, "00", ""}, {typeWALLET, "0161" + "00", ""}, {typeWALLET, "0261", "a string without its end"},
	} {
		h := dns.RR_Header{Name: "a." + z.Origin(), Rrtype: tt.typ, Class: dns.ClassINET, Ttl: 60}
		m := new(dns.Msg).SetUpdate(z.Origin())
		m.Ns = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: tt.data}}
		before := contents(z)
		if err := throughWire(t, m); err != nil {
			if tt.why == "" {
				t.Errorf("%s %s: %v", dns.TypeToString[tt.typ], tt.data, err)
			}
			continue // the server has answered with FORMERR
		}
		want := dns.RcodeSuccess
		if tt.why != "" {
			want = dns.RcodeFormatError
		}
		if rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll); rcode != want || err != nil {
			t.Errorf("%s (%s): %s, %v", m.Ns[0], tt.why, dns.RcodeToString[rcode], err)
		}
		if now := contents(z); (len(now) == len(before)+1) != (tt.why == "") {
			t.Errorf("%s (%s): %q, before %q", m.Ns[0], tt.why, now, before)
		}
		m.Ns[0].Header().Class, m.Ns[0].Header().Ttl = dns.ClassNONE, 0
		if rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll); rcode != dns.RcodeSuccess || err != nil {
			t.Errorf("deleting %s: %s, %v", m.Ns[0], dns.RcodeToString[rcode], err)
		}
	}
}

// TestDataThatChanges has data that the DNS library reads and writes as another: nobody has sent that.
func TestDataThatChanges(t *testing.T) {
	s, z := openMem(t, vfs.NewMem())
	defer s.Close()
	before := contents(z)
	for _, tt := range []struct {
		typ       uint16
		data, why string
	}{
		{dns.TypeCSYNC, "000000010003" + "00026000", "an octet without a bit"}, {dns.TypeCSYNC, "000000010003" + "000100", "a window without a bit"},
		{dns.TypeCSYNC, "000000010003" + "000160" + "010200" + "40" + "020100", "a window without a bit"},
		{dns.TypeAPL, "00010c02" + "0a11", "bits behind the prefix"}, {dns.TypeAPL, "00010802" + "0a01", "an octet behind the prefix"},
		{dns.TypeAPL, "00021002" + "2001" + "00021003" + "2001ff", "an octet behind the second prefix"},
		{dns.TypeURI, "00010001" + "613a5c62", "backslash"}, {dns.TypeCAA, "0005697373756561" + "5c62", "backslash"},
	} {
		for _, class := range []uint16{dns.ClassINET, dns.ClassNONE} {
			h := dns.RR_Header{Name: "a." + z.Origin(), Rrtype: tt.typ, Class: class, Ttl: 60}
			if class == dns.ClassNONE {
				h.Ttl = 0
			}
			m := new(dns.Msg).SetUpdate(z.Origin())
			m.Ns = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: tt.data}}
			if err := throughWire(t, m); err != nil {
				t.Fatal(err)
			}
			if rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll); rcode != dns.RcodeFormatError || err != nil {
				t.Errorf("%s (%s): %s, %v", m.Ns[0], tt.why, dns.RcodeToString[rcode], err)
			}
		}
	}
	if now := contents(z); !slices.Equal(now, before) {
		t.Errorf("%q, before %q", now, before)
	}
}

// TestSeedThatChanges: what a zone file or an old database has is not lost for such data, but read as it was always read.
func TestSeedThatChanges(t *testing.T) {
	for _, data := range []string{
		`CSYNC \# 10 000000010003 00026000`, `APL \# 6 00010c02 0a11`, `APL \# 6 00010802 0a01`, `URI \# 8 00010001 613a5c62`, `CAA \# 9 0005697373756561 5c`,
	} {
		soa, rr := testRR(t, "example.org. 60 IN SOA a. b. 1 1 1 1 1"), testRR(t, "a.example.org. 60 IN "+data)
		if err := CheckSeed("example.org.", []dns.RR{soa, rr}, Limits{}); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	}
}

// TestMalformedDataOfBefore: what no UPDATE adds any more, but a zone has, stays and can be removed, record by record.
func TestMalformedDataOfBefore(t *testing.T) {
	fs := vfs.NewMem()
	seed := testSeed(t)
	var odd []dns.RR
	for i, data := range []string{
		`X25 \# 4 03333131`, `NAPTR 1 1 "!" "" "(" .`, `NAPTR 1 1 "u" "" "!(!c!" .`, `TYPE57 \# 4 00010305`, `TYPE11 \# 7 c0000201068000`, `TYPE34 \# 1 00`,
		`TYPE38 \# 1 80`, `TYPE40 \# 2 0101`, `TYPE66 \# 5 003b010035`, `TYPE259 \# 9 000000000000000000`, `TYPE262 \# 1 02`, `TLSA \# 3 010101`, `LOC \# 16 01121613800000008000000000989680`,
		`TYPE31 \# 0`, `TYPE22 \# 0`, `TYPE67 \# 0`,
	} {
		odd = append(odd, testRR(t, fmt.Sprintf("odd%d.%s 60 IN %s", i, testOrigin, data)))
	}
	open := func() (*Store, *Zone) {
		s, err := Open("db", Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		z, err := s.Zone(testOrigin, func() ([]dns.RR, error) {
			rrs, err := seed()
			rrs = append(rrs, testRR(t, "text."+testOrigin+" 60 IN TXT"+strings.Repeat(" "+strings.Repeat("a", 200), 10))) // the difference is smaller
			return append(rrs, odd...), err
		})
		if err != nil {
			t.Fatal(err)
		}
		return s, z
	}
	s, z := open()
	first, was := z.Snapshot().Serial(), version(z.Snapshot())
	for i, rr := range odd {
		before := len(contents(z))
		m := new(dns.Msg).SetUpdate(z.Origin())
		m.Ns = []dns.RR{dns.Copy(rr)}
		if err := throughWire(t, m); err != nil {
			t.Fatalf("%s: %v", rr, err)
		}
		if rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll); rcode != dns.RcodeFormatError || err != nil {
			t.Errorf("%s is added: %s, %v", rr, dns.RcodeToString[rcode], err)
		}
		m.Remove(m.Ns)
		m.Ns = m.Ns[len(m.Ns)-1:]
		if err := throughWire(t, m); err != nil {
			t.Fatalf("%s: %v", rr, err)
		}
		if rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll); rcode != dns.RcodeSuccess || err != nil || len(contents(z)) != before-1 {
			t.Errorf("%s is not removed: %s, %v", rr, dns.RcodeToString[rcode], err)
		}
		if i%4 == 0 { // it is read from the database, and with those removed from the journal
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, z = open()
		}
	}
	defer s.Close()
	d, ok := z.Snapshot().Since(first)
	if !ok || len(d.Removed) != len(odd) || !sameVersion(applyDifference(t, was, d), version(z.Snapshot())) {
		t.Errorf("the difference has %d records of %d: %v", len(d.Removed), len(odd), ok)
	}
}

// TestSubstitution has what stands in the regexp field of NAPTR records.
func TestSubstitution(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "!a!b!": true, "!a!b!i": true, "!a!!": true, "/a/b/": true, "|a|b|": true, `!a\!b!c\!d!`: true, `!a!b\c!`: true,
		"!": false, "!a": false, "!a!": false, "!a!b": false, "!a!b!c": false, "!a!b!!": false, "!a!b!I": false, `!a!b\!`: false, `!a\!b!`: false,
		"iaibi": false, "1a1b1": false, `\a\b\`: false, "\x00a\x00b\x00": false, "!a\x00!b!": false, "!!b!": false,
		`!(a)(b)!\1\2!`: true, `!(a)(b)!\3!`: false, `!((a))!\2!`: true, `!a!\0!`: false, `!a!\1!`: false, `!\(a\)!\1!`: false,
		"!a|b!c!": true, "!a|!c!": false, "!|a!c!": false, "!a||b!c!": false, "!(|a)!c!": false, "!(a|)!c!": false,
		"!()!c!": true, "!(()!c!": false, "!(a|()b)!c!": true, "!()+!c!": true, "!(a!c!": false, "!a)!c!": true, "!(a))!c!": true, "!((a)!c!": false, "!(a|b)+c!d!": true,
		"!a*!c!": true, "!a+b?!c!": true, "!*!c!": false, "!(+a)!c!": false, "!a|?!c!": false, "!a**!c!": false, "!^*!c!": false, "!$+!c!": false, "!^a$!c!": true,
		"!a{1}!c!": true, "!a{1,}!c!": true, "!a{1,2}!c!": true, "!a{2,1}!c!": false, "!a{,1}!c!": true, "!a{}!c!": true, "!{!c!": true, "!a*{x!c!": true, "!a{1!c!": false, "!a{1,x}!c!": false,
		"!{1}!c!": false, "!a{255}!c!": true, "!a{256}!c!": false, "!a{99999999999999999999}!c!": false, "!a{1}{2}!c!": false, "!a{1}*!c!": false, "!a}!c!": true,
		"![a]!c!": true, "![^a-z0-9]*!c!": true, "![]a]!c!": true, "![^]]!c!": true, "![a-]!c!": true, "![-a]!c!": true, "![*(]!c!": true,
		"![!c!": false, "![a!c!": false, "![]!c!": false, "![^]!c!": false, "![z-a]!c!": false, "![a-c-]!c!": false, "![a-c-e]!c!": false, "![a-[]!c!": false, "![[-a]!c!": false, "![-[]!c!": true, "![a-!c!": false,
		"![[:digit:]]!c!": true, "![[:digits:]]!c!": false, "![[:digit:]-z]!c!": false, "![a-[:digit:]]!c!": false, "![[:digit]!c!": false, "![[.a.]]!c!": true, "![[=a=]b]!c!": true, "![[.ab.]]!c!": false, "![[.a]!c!": false,
		`!a\.b\d!c!`: true, `!(a)\1*!c!`: true, `!(a)\2!c!`: false, `!(a)\0!c!`: false, "!\xff.!c!": true,
	} {
		if got := !malformedSubstitution([]byte(s)); got != want {
			t.Errorf("%q is well-formed: %v", s, got)
		}
	}
}

// TestSubstitutionsAreTakenByBIND: what it does not take, a secondary refuses the zone for. What it takes, its users may have,
// but for hyphens beside brackets, and collating elements.
func TestSubstitutionsAreTakenByBIND(t *testing.T) {
	if _, err := exec.LookPath("named-checkzone"); err != nil {
		t.Skip(err)
	}
	r := rand.New(rand.NewPCG(3402, 0))
	text := func(choices string, n int) (s []byte) {
		for range n {
			s = append(s, choices[r.IntN(len(choices))])
		}
		return s
	}
	const ours = 3 // lines before
	zone := []byte("$TTL 60\n@ SOA a. b. 1 1 1 1 1\n@ NS a.\n")
	var all [][]byte
	for len(all) < 20000 {
		expression := text(`ab()[]{}*+?|^$\.,-:1239=!i`, 1+r.IntN(9))
		if len(all)%2 > 0 {
			expression = append([]byte("["), text(`[[]]^--acz:.=`, 1+r.IntN(9))...)
		}
		s := slices.Concat([]byte("!"), expression, []byte("!"), text(`c\123i`, r.IntN(4)), []byte("!"), text("i", r.IntN(2)))
		all = append(all, s)
		zone = fmt.Appendf(zone, "a%d NAPTR \\# %d 00010001017500%02x%x00\n", len(all), 4+2+1+1+len(s)+1, len(s), s)
	}
	path := filepath.Join(t.TempDir(), "zone")
	if err := os.WriteFile(path, zone, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("named-checkzone", "example.org", path).CombinedOutput() // it fails, and says where
	refused := make(map[int]bool)
	for _, m := range regexp.MustCompile(`/zone:(\d+): near`).FindAllSubmatch(out, -1) {
		line, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		refused[line-1-ours] = true
	}
	if taken := len(all) - len(refused); len(refused) < 1000 || taken < 1000 {
		t.Fatalf("BIND takes %d, and refuses %d: %.1000s", taken, len(refused), out)
	}
	odd := regexp.MustCompile(`\[-|-\[|\[\.|\[=`)
	for i, s := range all {
		switch malformed := malformedSubstitution(s); {
		case !malformed && refused[i]:
			t.Errorf("%q is taken, and BIND refuses it", s)
		case malformed && !refused[i] && !odd.Match(s):
			t.Errorf("%q is refused, and BIND takes it", s)
		}
	}
}

func FuzzSubstitution(f *testing.F) {
	for _, s := range []string{`!^\+49(.*)$!sip:\1@example.org!i`, "![]a-z[:alpha:][.-.]]{1,2}|(b)+!c!", "!(a!"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		if malformedSubstitution(s) || len(s) == 0 {
			return
		}
		if n := bytes.Count(s, s[:1]); n < 3 || s[0] == 'i' {
			t.Errorf("%q is taken", s)
		}
	})
}

// TestCompressedData: data is shorter in a message that says a name in it once than it is in the zone.
func TestCompressedData(t *testing.T) {
	const long = "a.long.name.in.the.zone."
	for _, data := range []string{
		"NS @", "CNAME @", "PTR @", "MX 1 @", "SRV 1 2 3 @", "RP @ @", "MINFO @ @", "PX 1 @ @", "NAPTR 1 1 \"s\" \"x\" \"\" @", "KX 1 @", "AFSDB 1 @",
		"SVCB 1 @", "HTTPS 1 . port=1", "SOA @ @ 4000000000 0 0 0 0", "IPSECKEY 10 3 2 @ AQ==", "AMTRELAY 10 0 3 @", "HIP 2 00 AA== @ @",
		"ISDN 1 2", "CAA 0 issue \"\"", "URI 1 1 \"\"", "TXT \"\"", "HINFO \"\" \"\"", "LOC 0 0 0 N 0 0 0 E 0 0 0 0", "L64 0 0000:0000:0000:0000",
	} {
		t.Run(data, func(t *testing.T) {
			s, z := openMem(t, vfs.NewMem())
			defer s.Close()
			text := strings.ReplaceAll(data, "@", long+z.Origin())
			m := new(dns.Msg).SetUpdate(z.Origin())
			name := "below." + long + z.Origin()
			if strings.HasPrefix(data, "SOA") {
				name = z.Origin()
			}
			m.Ns = []dns.RR{testRR(t, name+" 60 IN "+text), testRR(t, name+" 60 IN "+text)}
			m.Compress = true
			if err := throughWire(t, m); err != nil {
				t.Fatal(err)
			}
			full, err := new(packer).data(m.Ns[0])
			if err != nil {
				t.Fatal(err)
			}
			rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll)
			if rcode != dns.RcodeSuccess || err != nil {
				t.Errorf("%d octets of %d: %s, %v", m.Ns[0].Header().Rdlength, len(full), dns.RcodeToString[rcode], err)
			}
		})
	}
}

// TestPointerToRoot: a pointer to a root label is longer than the label, and means the same.
func TestPointerToRoot(t *testing.T) {
	s, z := openMem(t, vfs.NewMem())
	defer s.Close()
	root := fmt.Sprintf("c0%02x", messageHeader+len(z.Origin()))
	for typ, data := range map[uint16]string{
		dns.TypeMX: "0001" + root, dns.TypePTR: "0161" + root, dns.TypeSRV: "000000000000" + root, dns.TypeMINFO: "0161" + root + "0162" + root,
	} {
		m := new(dns.Msg).SetUpdate(z.Origin())
		h := dns.RR_Header{Name: "a." + z.Origin(), Rrtype: typ, Class: dns.ClassINET, Ttl: 60}
		m.Ns = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: data}}
		if err := throughWire(t, m); err != nil {
			t.Fatal(err)
		}
		if rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll); rcode != dns.RcodeSuccess || err != nil {
			t.Errorf("%s: %s, %v", m.Ns[0], dns.RcodeToString[rcode], err)
		}
	}
}

// TestISDN: a record without a subaddress (RFC 1183 section 3.2) is another than one with an empty one.
func TestISDN(t *testing.T) {
	fs := vfs.NewMem()
	s, z := openMem(t, fs)
	before := contents(z)
	update := func(class uint16, data string) {
		t.Helper()
		m := new(dns.Msg).SetUpdate(z.Origin())
		h := dns.RR_Header{Name: "a." + z.Origin(), Rrtype: dns.TypeISDN, Class: class, Ttl: 60}
		if class == dns.ClassNONE {
			h.Ttl = 0
		}
		m.Ns = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: data}}
		if err := throughWire(t, m); err != nil {
			t.Fatal(err)
		}
		if rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll); rcode != dns.RcodeSuccess || err != nil {
			t.Fatalf("%s: %s, %v", data, dns.RcodeToString[rcode], err)
		}
	}
	have := func(rrs []dns.RR, want ...string) {
		t.Helper()
		var all []string
		for _, rr := range rrs {
			data, err := new(packer).data(rr)
			if err != nil {
				t.Fatal(err)
			}
			if rr.Header().Rrtype == dns.TypeISDN {
				all = append(all, fmt.Sprintf("%x", data))
			}
		}
		if slices.Sort(all); !slices.Equal(all, want) {
			t.Errorf("%q, want %q", all, want)
		}
	}
	serial := z.Snapshot().Serial()
	for _, data := range []string{"0131", "013100", "00", "0131" + "0132", `025c31`, "0131"} {
		update(dns.ClassINET, data)
	}
	all := []string{"00", "0131", "013100", "01310132", "025c31"}
	have(slices.Collect(z.Snapshot().All()), all...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, z = openMem(t, fs)
	defer s.Close()
	have(slices.Collect(z.Snapshot().All()), all...)
	update(dns.ClassNONE, "013100")
	have(slices.Collect(z.Snapshot().All()), "00", "0131", "01310132", "025c31")
	d, ok := z.Snapshot().Since(serial)
	if !ok {
		t.Error("no difference")
	}
	have(d.Added, "00", "0131", "01310132", "025c31")
	for _, data := range []string{"0131", "00", "0131" + "0132", "025c31"} {
		update(dns.ClassNONE, data)
	}
	if now := contents(z); len(now) != len(before) {
		t.Errorf("%q is left", now)
	}
}

// TestFindData holds that the short ways of findData find what comparing whole records finds.
func TestFindData(t *testing.T) {
	var all []dns.RR
	for _, line := range []string{
		"PTR a.example.org.", "PTR A.Example.ORG.", "PTR b.example.org.", "PTR aa.example.org.", "PTR .", `PTR @.org.`, "PTR `.org.",
		`PTR [.org.`, `PTR {.org.`, `PTR \195\164.org.`, `PTR \195\165.org.`, `PTR a\.example.org.`,
		"SRV 0 0 104 a.", "SRV 0 0 104 A.", "SRV 0 0 105 a.", "SRV 1 0 104 a.", "SRV 0 1 104 a.", "SRV 0 0 104 b.", "SRV 0 0 104 .",
		"TXT a", "TXT A", "MX 1 a.", "MX 1 A.",
	} {
		rr, err := dns.NewRR("x.example.org. 60 IN " + line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	for i, a := range all {
		for j, b := range all {
			if a.Header().Rrtype != b.Header().Rrtype {
				continue
			}
			if got := findData([]dns.RR{a}, dns.Copy(b)) == 0; got != sameData(a, b) {
				t.Errorf("%v and %v (%d, %d) are the same: %v", a, b, i, j, got)
			}
		}
	}
}
