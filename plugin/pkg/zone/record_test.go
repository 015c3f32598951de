package zone

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
)

// TestDataEndsBeforeName: secondaries refuse a zone with such a record, so it is malformed (RFC 2136 section 3.4.1.3).
func TestDataEndsBeforeName(t *testing.T) {
	for typ, data := range map[uint16]string{
		dns.TypeMX: "0001", dns.TypeSRV: "000000000068", dns.TypeAFSDB: "0001", dns.TypeKX: "0001", dns.TypeRP: "0161" + "00",
		dns.TypeHTTPS: "0001", dns.TypeNAPTR: "00010001000000", dns.TypeSOA: "00",
	} {
		t.Run(dns.TypeToString[typ], func(t *testing.T) {
			s, z := openMem(t, vfs.NewMem())
			defer s.Close()
			h := dns.RR_Header{Name: "a." + z.Origin(), Rrtype: typ, Class: dns.ClassINET, Ttl: 60}
			m := new(dns.Msg).SetUpdate(z.Origin())
			m.Ns = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: data}}
			wire, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Unpack(wire); err != nil {
				return // the server has answered with FORMERR
			}
			rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll)
			if rcode != dns.RcodeFormatError {
				t.Errorf("%s: %s, %v", m.Ns[0], dns.RcodeToString[rcode], err)
			}
		})
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
