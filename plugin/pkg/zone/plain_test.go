package zone

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What plain.go makes is what the DNS library makes.
func checkPlain(t testing.TB, rr dns.RR) (plain bool) {
	t.Helper()
	var p, q packer
	before := dns.Copy(rr)
	if wire, ok := p.plainRecord(nil, rr); ok {
		plain = true
		if want, err := q.anyRecord(rr); err != nil || !bytes.Equal(wire, want) {
			t.Errorf("%s: wire form %x, want %x, %v", rr, wire, want, err)
		}
	}
	if data, ok := p.plainData(nil, rr); ok {
		named := dns.Copy(rr)
		named.Header().Name = "a." // which plainData does not look at
		wire, err := q.anyRecord(named)
		if err == nil {
			wire, err = recordData(wire)
		}
		if err != nil || !bytes.Equal(data, wire) {
			t.Errorf("%s: data %x, want %x, %v", rr, data, wire, err)
		}
	}
	if out := p.plainNormal(rr); out != nil {
		want, err := q.anyNormal(rr)
		if err != nil || !reflect.DeepEqual(out, want) {
			t.Errorf("%s: normal %#v, want %#v, %v", rr, out, want, err)
		}
	}
	if !reflect.DeepEqual(dns.Copy(rr), before) {
		t.Errorf("%s has changed, was %s", rr, before)
	}
	return plain
}

func TestPlain(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := strings.Repeat(label+".", 3)
	h := func(name string, typ uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET, Ttl: 300}
	}
	a := []byte{192, 0, 2, 1}
	for name, tt := range map[string]struct {
		rr    dns.RR
		plain bool
	}{
		"A":                      {testRR(t, "A-1.example.org. 5 IN A 192.0.2.1"), false}, // 16 octets when parsed
		"A on the wire":          {&dns.A{Hdr: h("A-1._x.Example.org.", dns.TypeA), A: a}, true},
		"A of class NONE":        {&dns.A{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeA, Class: dns.ClassNONE}, A: a}, true},
		"A without data":         {&dns.A{Hdr: h("a.", dns.TypeA)}, false},
		"A at the root":          {&dns.A{Hdr: h(".", dns.TypeA), A: a}, false},
		"A without a name":       {&dns.A{Hdr: h("", dns.TypeA), A: a}, false},
		"A of a relative name":   {&dns.A{Hdr: h("a", dns.TypeA), A: a}, false},
		"A with an escape":       {&dns.A{Hdr: h(`a\.b.`, dns.TypeA), A: a}, false},
		"A with a blank":         {&dns.A{Hdr: h("a b.", dns.TypeA), A: a}, false},
		"A with an empty label":  {&dns.A{Hdr: h("a..b.", dns.TypeA), A: a}, false},
		"A with a first dot":     {&dns.A{Hdr: h(".a.", dns.TypeA), A: a}, false},
		"A of the longest label": {&dns.A{Hdr: h(label+".", dns.TypeA), A: a}, true},
		"A of a longer label":    {&dns.A{Hdr: h(label+"a.", dns.TypeA), A: a}, false},
		"A of the longest name":  {&dns.A{Hdr: h(long+label[:61]+".", dns.TypeA), A: a}, true},
		"A of a longer name":     {&dns.A{Hdr: h(long+label[:62]+".", dns.TypeA), A: a}, false},
		"A that says TXT":        {&dns.A{Hdr: h("a.", dns.TypeTXT), A: a}, true},
		"A of a great TTL":       {&dns.A{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1 << 31}, A: a}, true},
		"AAAA":                   {testRR(t, "a.example.org. 5 IN AAAA 2001:db8::1"), true},
		"AAAA of IPv4":           {testRR(t, "a.example.org. 5 IN AAAA ::ffff:192.0.2.1"), true},
		"PTR":                    {testRR(t, "1.2.0.192.in-addr.arpa. 5 IN PTR A.example.org."), true},
		"PTR with an escape":     {testRR(t, `_d._tcp.example.org. 5 IN PTR a\032b.example.org.`), false},
		"PTR of the root":        {testRR(t, "a. 5 IN PTR ."), false},
		"SRV":                    {testRR(t, "a._d._tcp.example.org. 5 IN SRV 1 2 104 a.example.org."), true},
		"SRV of no service":      {testRR(t, "a._d._tcp.example.org. 5 IN SRV 0 0 0 ."), false},
		"DHCID":                  {testRR(t, "a. 5 IN DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="), true},
		"DHCID of two lines":     {&dns.DHCID{Hdr: h("a.", dns.TypeDHCID), Digest: "AAIB\nY2/A"}, false},
		"DHCID of odd bits":      {&dns.DHCID{Hdr: h("a.", dns.TypeDHCID), Digest: "AAJ="}, false},
		"DHCID without data":     {&dns.DHCID{Hdr: h("a.", dns.TypeDHCID)}, false},
		"DHCID that is none":     {&dns.DHCID{Hdr: h("a.", dns.TypeDHCID), Digest: "?"}, false},
		"SOA":                    {testRR(t, "a. 5 IN SOA ns.a. host.a. 1 2 3 4 4294967295"), true},
		"SOA with an escape":     {testRR(t, `a. 5 IN SOA ns.a. a\.b.a. 1 2 3 4 5`), false},
		"SOA of no server":       {testRR(t, "a. 5 IN SOA . host.a. 1 2 3 4 5"), false},
		"TXT":                    {testRR(t, "a. 5 IN TXT b"), false},
		"header":                 {&dns.ANY{Hdr: h("a.", dns.TypeA)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := checkPlain(t, tt.rr); got != tt.plain {
				t.Errorf("plain: %t, want %t", got, tt.plain)
			}
		})
	}
}

// FuzzPlain looks at records as they come from the wire.
func FuzzPlain(f *testing.F) {
	for _, text := range []string{
		"A-1._x.example.org. 5 IN A 192.0.2.1", "a.example.org. 5 IN AAAA 2001:db8::1", `b\032c. 5 IN PTR d\.e.example.org.`,
		"a. 5 IN SRV 1 2 104 a.example.org.", "a. 5 IN DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=",
	} {
		m := &dns.Msg{Answer: []dns.RR{testRR(f, text)}}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		for _, rr := range append(append(m.Answer, m.Ns...), m.Extra...) {
			checkPlain(t, rr)
		}
	})
}
