package zone

import (
	"bytes"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// samples is data of every type that a zone can have and that somebody knows, and of one that nobody does.
func samples(t testing.TB) map[uint16][]byte {
	t.Helper()
	const key = "AQIDBAUGBwgJCgsMDQ4PEA=="
	all := make(map[uint16][]byte)
	for _, text := range []string{
		"A 192.0.2.1", "NS ns.example.org.", "MD a.", "MF a.", "CNAME a.example.org.", "SOA ns.example.org. host.example.org. 1 2 3 4 5",
		"MB a.", "MG a.", "MR a.", `NULL \# 2 0001`, `TYPE11 \# 6 c00002010680`, "PTR a.example.org.", "HINFO a b", "MINFO a. b.", "MX 10 mail.example.org.",
		`TXT "txtvers=1" "AET=CT1"`, "RP a. b.", "AFSDB 1 a.", "X25 3110", "ISDN 1 2", "RT 1 a.", `TYPE22 \# 2 4700`, "NSAP-PTR a.", "PX 1 a. b.", "GPOS 1 2 3",
		"AAAA 2001:db8::1", "LOC 1 2 3 N 1 2 3 E 4m 5m 6m 7m", `EID \# 2 0001`, `NIMLOC \# 2 0001`, "SRV 1 2 104 a.example.org.", `ATMA \# 3 003132`,
		`NAPTR 1 2 "s" "SIP+D2U" "!a!b!" a.`, "KX 1 a.", "CERT 1 2 3 " + key, `TYPE38 \# 2 8000`, "DNAME a.", `TYPE40 \# 3 010101`, "APL 1:192.0.2.0/24 !2:2001:db8::/32",
		"SSHFP 1 1 0123456789abcdef0123456789abcdef01234567", "IPSECKEY 10 3 2 a.example.org. " + key, "DHCID " + key, "TLSA 3 1 1 0123456789abcdef",
		"SMIMEA 3 1 1 0123456789abcdef", "HIP 2 00112233 " + key + " a. b.example.org.", `NINFO "a" "b"`, `TYPE57 \# 5 0000030501`, "OPENPGPKEY " + key, "CSYNC 1 3 A NS AAAA",
		`TYPE66 \# 6 003b01003500`, `TYPE67 \# 1 00`, `TYPE68 \# 1 00`, `SVCB 1 a. alpn=h2 port=1 dohpath=/dns`, `HTTPS 1 . mandatory=alpn alpn=h2,h3 no-default-alpn ipv4hint=192.0.2.1 ipv6hint=2001:db8::1 ech=AAA= key667=a`,
		`SPF "v=spf1"`, `UINFO \# 2 0161`, `UID \# 4 00000001`, `GID \# 4 00000001`, `UNSPEC \# 2 0001`, "NID 1 0000:0000:0000:0001", "L32 1 192.0.2.1", "L64 1 2001:0db8:0000:0001", "LP 1 a.",
		"EUI48 00-00-5e-00-53-01", "EUI64 00-00-5e-ff-fe-00-53-01", `URI 1 2 "https://example.org/"`, `CAA 0 issue "ca.example.org"`, `AVC "a"`, `TYPE259 \# 10 00000000000000000000`,
		"AMTRELAY 10 0 3 a.example.org.", "RESINFO qnamemin", `TYPE262 \# 2 0161`, `TYPE65280 \# 2 0102`,
	} {
		rr := testRR(t, "example.org. 60 IN "+text)
		data, err := new(packer).data(rr)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		all[rr.Header().Rrtype] = slices.Clone(data)
	}
	return all
}

// TestDamagedData damages stored data of all types: what is read is what is stored, or nothing. The DNS library reads a lot
// that it would not have written.
func TestDamagedData(t *testing.T) {
	all := samples(t)
	for typ := range dns.TypeToRR {
		if !metaType(typ) && Supported(typ) && all[typ] == nil {
			t.Errorf("no sample of %s", typeName(typ))
		}
	}
	for typ, data := range all {
		t.Run(typeName(typ), func(t *testing.T) {
			var p, q packer
			if rr, err := p.unpack(typ, 60, data); err != nil {
				t.Fatalf("%x, as it is written: %v, %v", data, rr, err)
			}
			check := func(damaged []byte) {
				t.Helper()
				rr, err := p.unpack(typ, 60, damaged)
				if err != nil {
					return
				}
				if again, err := q.data(rr); err != nil || !bytes.Equal(again, damaged) {
					t.Errorf("%x is taken as %s, which is %x, %v", damaged, rr, again, err)
				}
			}
			for n := range data {
				check(data[:n])
				for _, octet := range []byte{0, 1, 0x40, 0xc0, 0xff, data[n] ^ 1, data[n] ^ 0x20, data[n] ^ 0x80} {
					damaged := slices.Clone(data)
					damaged[n] = octet
					check(damaged)
					check(append(damaged, 0))
				}
				if n > 0 { // compression
					for to := range n - 1 {
						damaged := slices.Clone(data)
						damaged[n-1], damaged[n] = 0xc0, byte(to)
						check(damaged)
						check(damaged[:n+1])
					}
				}
			}
		})
	}
}
