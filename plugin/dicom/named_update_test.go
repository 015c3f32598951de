package dicom

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A taker is a server that takes signed updates of the zone of the tests by TCP.
type taker struct {
	address string
	conn    *dns.Conn
}

// update sends a request that is signed, and returns the RCODE of the answer.
func (p *taker) update(t *testing.T, wire []byte, mac string) int {
	t.Helper()
	for try := 0; ; try++ {
		octets, err := p.exchange(wire)
		if err != nil && try == 0 { // the server closes what was idle
			p.conn = nil
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(octets); err != nil {
			t.Fatal(err)
		}
		if m.Rcode != dns.RcodeFormatError { // which BIND does not sign where it could not read the message
			if err := dns.TsigVerify(octets, secret, mac, false); err != nil {
				t.Fatal(err)
			}
		}
		return m.Rcode
	}
}

func (p *taker) exchange(wire []byte) ([]byte, error) {
	var err error
	if p.conn == nil {
		if p.conn, err = dns.DialTimeout("tcp", p.address, patience); err != nil {
			return nil, err
		}
	}
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := p.conn.Write(wire); err != nil {
		return nil, err
	}
	return p.conn.ReadMsgHeader(nil)
}

// startTakers runs dicom and named with one zone, which a key may change.
func startTakers(t *testing.T) (ours, theirs *taker) {
	t.Helper()
	z := &sample{origin: domain, text: keptSeed}
	statement := fmt.Sprintf("key %q { algorithm hmac-sha256; secret %q; };", strings.TrimSuffix(key, "."), secret)
	theirs = &taker{address: startNamed(t, []*sample{z}, statement, fmt.Sprintf("allow-update { key %q; };", strings.TrimSuffix(key, ".")))}
	s := start(t, strings.Replace(block(fmt.Sprintf("file %s\nallow %s * *", write(t, t.TempDir(), "zone", keptSeed), key), "transfer {\nto *\n}"), " 192.0.2.0/24:0", "", 1))
	ours = &taker{address: s.address("tcp")}
	t.Cleanup(func() {
		for _, p := range []*taker{ours, theirs} {
			if p.conn != nil {
				p.conn.Close()
			}
		}
	})
	return ours, theirs
}

// zone returns the records of the zone but the SOA record, names in lower case:
// BIND takes over the case of an equal record, and its serial then.
func (p *taker) zone(t *testing.T) []string {
	t.Helper()
	s := &server{addr: p.address}
	all := s.transfer(t)
	return all[1 : len(all)-1]
}

// judgedAlike reports whether named judges a request by the rules of RFC 2136
// alone. It has others for SOA records and for the name servers of the zone, and
// dicom for DNSSEC.
func judgedAlike(t *testing.T, q *asked) bool {
	t.Helper()
	m := q.message(t)
	return q.key == "" && !slices.ContainsFunc(append(m.Answer, m.Ns...), func(rr dns.RR) bool {
		h := rr.Header()
		return h.Rrtype == dns.TypeSOA || h.Rrtype == dns.TypeDS || h.Rrtype == dns.TypeNS && h.Class == dns.ClassINET && strings.EqualFold(h.Name, domain)
	})
}

// TestUpdatesAreThoseOfNamed sends the same UPDATE messages to BIND and to dicom.
func TestUpdatesAreThoseOfNamed(t *testing.T) {
	ours, theirs := startTakers(t)
	r := seedOf(t, 2136)
	codes := make(map[int]int)
	for n := 0; n < 1500; {
		q := randomRequest(r)
		if !judgedAlike(t, q) {
			continue
		}
		n++
		wire, mac, _ := q.wire(t)
		our, their := ours.update(t, wire, mac), theirs.update(t, wire, mac)
		codes[our]++
		switch their { // named looks at the form of the changes before the prerequisites (RFC 2136 section 3: after them)
		case dns.RcodeNotZone, dns.RcodeFormatError:
			switch our {
			case dns.RcodeYXDomain, dns.RcodeYXRrset, dns.RcodeNameError, dns.RcodeNXRrset:
				their = our
			}
		}
		if our != their {
			t.Fatalf("%s\n  ours: %s\n  theirs: %s", q, dns.RcodeToString[our], dns.RcodeToString[their])
		}
		if our != dns.RcodeSuccess && n%10 != 0 {
			continue
		}
		if ourZone, theirZone := ours.zone(t), theirs.zone(t); !slices.Equal(ourZone, theirZone) {
			t.Fatalf("%s\n  ours: %q\n  theirs: %q", q, ourZone, theirZone)
		}
	}
	t.Logf("requests by RCODE: %v", codes)
	for _, rcode := range []int{dns.RcodeSuccess, dns.RcodeFormatError, dns.RcodeNXRrset, dns.RcodeYXRrset, dns.RcodeYXDomain, dns.RcodeNotZone, dns.RcodeNameError} {
		if codes[rcode] == 0 {
			t.Errorf("no request got %s", dns.RcodeToString[rcode])
		}
	}
}

// TestDataIsTakenByNamed sends records with data that is mostly wrong. What dicom
// takes BIND must take, too: as a secondary it refuses the whole zone otherwise.
func TestDataIsTakenByNamed(t *testing.T) {
	ours, theirs := startTakers(t)
	r := seedOf(t, 3597)
	taken := make(map[uint16]int)
	types := []uint16{
		dns.TypeA, dns.TypeNS, dns.TypeCNAME, dns.TypePTR, dns.TypeHINFO, dns.TypeMINFO, dns.TypeMX, dns.TypeTXT, dns.TypeRP, dns.TypeAFSDB,
		dns.TypeAAAA, dns.TypeLOC, dns.TypeSRV, dns.TypeNAPTR, dns.TypeKX, dns.TypeCERT, dns.TypeDNAME, dns.TypeSSHFP, dns.TypeDHCID, dns.TypeTLSA,
		dns.TypeSMIMEA, dns.TypeHIP, dns.TypeOPENPGPKEY, dns.TypeSVCB, dns.TypeHTTPS, dns.TypeSPF, dns.TypeEUI48, dns.TypeEUI64, dns.TypeURI, dns.TypeCAA,
		dns.TypeAMTRELAY, dns.TypeX25, dns.TypeAPL, dns.TypeCSYNC, dns.TypeRKEY, dns.TypeEID, dns.TypeNIMLOC, dns.TypeATMA,
		typeWKS, typeNSAP, typeA6, typeSINK, typeDSYNC, typeHHIT, typeBRID, typeDOA, typeWALLET,
	}
	for range 120 {
		for _, typ := range types {
			h := dns.RR_Header{Name: "odd." + domain, Rrtype: typ, Class: dns.ClassINET, Ttl: 60}
			gone := &dns.ANY{Hdr: dns.RR_Header{Name: h.Name, Rrtype: dns.TypeANY, Class: dns.ClassANY}}
			data := oddData(r, typ)
			m := new(dns.Msg).SetUpdate(domain)
			m.Ns = []dns.RR{gone, &dns.RFC3597{Hdr: h, Rdata: fmt.Sprintf("%x", data)}}
			wire, mac, err := dns.TsigGenerate(m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix()), secret, "", false)
			if err != nil {
				t.Fatal(err)
			}
			if ours.update(t, wire, mac) != dns.RcodeSuccess {
				continue
			}
			taken[typ]++
			if their := theirs.update(t, wire, mac); their != dns.RcodeSuccess {
				t.Errorf("%s %x is taken, and BIND says %s", dns.Type(typ), data, dns.RcodeToString[their])
			}
		}
	}
	for _, typ := range []uint16{dns.TypeAMTRELAY, dns.TypeCERT, dns.TypeLOC, dns.TypeSSHFP, dns.TypeSVCB, dns.TypeHTTPS, dns.TypeTLSA, dns.TypeURI,
		dns.TypeNAPTR, dns.TypeX25, dns.TypeAPL, dns.TypeCSYNC, dns.TypeRKEY, dns.TypeATMA, typeWKS, typeA6, typeDSYNC, typeDOA, typeWALLET} {
		if taken[typ] == 0 {
			t.Errorf("no %s record was taken", dns.Type(typ))
		}
	}
}

// Types that BIND knows, and the DNS library only by number.
const (
	typeWKS    = 11
	typeNSAP   = 22
	typeA6     = 38
	typeSINK   = 40
	typeDSYNC  = 66
	typeHHIT   = 67
	typeBRID   = 68
	typeDOA    = 259
	typeWALLET = 262
)

// oddData is record data of few different octets, so that it is right at times.
func oddData(r *rand.Rand, typ uint16) []byte {
	octets := []byte{0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 'a', 'a', '0', '.', 0x12, 0x80, 0xff}
	some := func(n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = octets[r.IntN(len(octets))]
		}
		return out
	}
	one := func(choices ...string) []byte { return []byte(choices[r.IntN(len(choices))]) }
	text := func(s []byte) []byte { return append([]byte{byte(len(s))}, s...) }
	name := func() []byte { return one("\x00", "\x01a\x00", "\x01a", "\x00\x00", "\xc0\x0c") }
	switch typ {
	case dns.TypeX25:
		return text(one("3110", "311012345678", "311", "311a"))
	case dns.TypeNAPTR:
		var expression []byte
		for range 1 + r.IntN(5) {
			expression = append(expression, one("a", "(a)", "(", ")", "[a-z]", "[", "]", "*", "{1,2}", "{", "|", "^", "$", `\d`, `\1`, "[:alpha:]", "[[:alpha:]]")...)
		}
		substitution := slices.Concat([]byte("!"), expression, []byte("!"), one("b", `\1`, `\2`), one("!", "!i", "!x", ""))
		return slices.Concat(some(4), text(one("", "u", "S")), text(some(3)), text(substitution), name())
	case dns.TypeAPL:
		return slices.Concat([]byte{0, 1, 12}, one("\x02\x0a\x10", "\x02\x0a\x11", "\x01\x0a", "\x02\x0a\x00", "\x81\x0a", "\x03\x0a\x10\x01"))
	case dns.TypeCSYNC:
		return slices.Concat(some(6), one("", "\x00\x01\x60", "\x00\x02\x60\x00", "\x00\x01\x00", "\x00\x00", "\x00\x04\x60\x00\x00\x08"), one("", "\x01\x01\x40", "\x00\x01\x40", "\x01\x01"))
	case dns.TypeRKEY:
		return slices.Concat([]byte{0, byte(r.IntN(2)), 3, 5 + byte(r.IntN(2))*(dns.PRIVATEDNS-5)}, some(r.IntN(6)))
	case dns.TypeATMA:
		return append([]byte{byte(r.IntN(3))}, one("", "1", "1a", "12")...)
	case typeWKS:
		return append(some(5), some(r.IntN(3)*r.IntN(3)*1023*2+r.IntN(4))...)
	case typeA6:
		prefix := r.IntN(33) * 4
		return slices.Concat([]byte{byte(prefix)}, one("\x0f", "\x1f")[:r.IntN(2)], some((128-prefix)/8), name()[:r.IntN(2)])
	case typeDSYNC:
		return append(some(5), name()...)
	case typeDOA:
		return append(some(9), one("", "\x00", "\x01", "\x01a", "\x01ab")...)
	case typeWALLET:
		return slices.Concat(one("", "\x00", "\x01a", "\x02a"), one("", "\x00", "\x01a", "\x02a"))
	case dns.TypeAMTRELAY:
		return append([]byte{1, byte(r.IntN(4))}, some(4*r.IntN(2))...)
	case dns.TypeSVCB, dns.TypeHTTPS:
		data := []byte{0, byte(r.IntN(3)), 0}
		for k := range byte(8) {
			if r.IntN(4) > 0 {
				continue
			}
			var v []byte
			switch n := r.IntN(3); k {
			case 0: // mandatory
				for j := range byte(8) {
					if r.IntN(6) == 0 {
						v = append(v, 0, j)
					}
				}
			case 1: // alpn
				v = slices.Concat([]byte("\x02h2"), []byte("\x02h3")[:3*(n%2)])
			case 3: // port
				v = some(n)
			case 4: // ipv4hint
				v = some(4 * n)
			case 6: // ipv6hint
				v = some(16 * n)
			case 7: // dohpath
				v = []byte([]string{"", "/q{?dns}", "q{?dns}"}[n])
			}
			data = append(append(data, 0, k, 0, byte(len(v))), v...)
		}
		return data
	case dns.TypeLOC:
		return slices.Concat(some(4), []byte{0x80 + byte(r.IntN(40)) - 20}, some(3), []byte{0x80 + byte(r.IntN(80)) - 40}, some(7))
	case dns.TypeSSHFP:
		return append(some(2), some(20+r.IntN(2)*12)...)
	}
	return some(r.IntN(24))
}
