package zone

import (
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
		{typeWKS, "c0000201", "no protocol"}, {typeWKS, "c0000201" + "06", ""},
	} {
		h := dns.RR_Header{Name: "a." + z.Origin(), Rrtype: tt.typ, Class: dns.ClassINET, Ttl: 60}
		m := new(dns.Msg).SetUpdate(z.Origin())
		m.Ns = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: tt.data}}
		if err := throughWire(t, m); err != nil {
			t.Fatal(err)
		}
		want := dns.RcodeSuccess
		if tt.why != "" {
			want = dns.RcodeFormatError
		}
		if rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll); rcode != want || err != nil {
			t.Errorf("%s (%s): %s, %v", m.Ns[0], tt.why, dns.RcodeToString[rcode], err)
		}
		m.Ns[0].Header().Class, m.Ns[0].Header().Ttl = dns.ClassNONE, 0
		if rcode, err := z.Update(t.Context(), nil, m.Ns, permitAll); rcode != dns.RcodeSuccess || err != nil {
			t.Errorf("deleting %s: %s, %v", m.Ns[0], dns.RcodeToString[rcode], err)
		}
	}
}

// TestCompressedData: data is shorter in a message that says a name in it once than it is in the zone.
func TestCompressedData(t *testing.T) {
	const long = "a.long.name.in.the.zone."
	for _, data := range []string{
		"NS @", "CNAME @", "PTR @", "MX 1 @", "SRV 1 2 3 @", "RP @ @", "MINFO @ @", "PX 1 @ @", "NAPTR 1 1 \"s\" \"x\" \"x\" @", "KX 1 @", "AFSDB 1 @",
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
