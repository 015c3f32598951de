package dicom

import (
	"crypto/ecdsa"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/coredns/coredns/plugin/dnssec"

	"github.com/miekg/dns"
)

// signedZone is what delv and the dnssec plugin share: a key.
type signedZone struct {
	key     *dns.DNSKEY
	base    string // of the key's files, as dnssec-keygen names them
	anchors string // a file that delv trusts
}

func newSignedZone(t *testing.T, dir, zone string) *signedZone {
	t.Helper()
	k := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := k.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, fmt.Sprintf("K%s+%03d+%05d", zone, k.Algorithm, k.KeyTag()))
	write(t, dir, filepath.Base(base)+".key", k.String()+"\n")
	write(t, dir, filepath.Base(base)+".private", k.PrivateKeyString(private.(*ecdsa.PrivateKey)))
	anchors := fmt.Sprintf("trust-anchors { %q static-key %d %d %d %q; };\n", zone, k.Flags, k.Protocol, k.Algorithm, k.PublicKey)
	return &signedZone{key: k, base: base, anchors: write(t, dir, "anchors", anchors)}
}

// delv asks as a validating resolver does, and returns what it says.
func (z *signedZone) delv(t *testing.T, s *server, name, typ string) string {
	t.Helper()
	path, err := exec.LookPath("delv")
	if err != nil {
		t.Skip("delv (BIND 9) is not installed")
	}
	host, port, _ := strings.Cut(s.address("tcp"), ":")
	out, err := exec.Command(path, "@"+host, "-p", port, "-a", z.anchors, "+root="+strings.TrimSuffix(z.key.Hdr.Name, "."), name, typ).CombinedOutput()
	if err != nil {
		t.Fatalf("delv %s %s: %v\n%s", name, typ, err, out)
	}
	return string(out)
}

// freePort is a port that nothing listens to by UDP or TCP: delv takes one for
// both. It is below those that the kernel gives to clients, one of which could take
// it before its server.
func freePort(t *testing.T) int {
	t.Helper()
	const lowest, above = 20_000, 24_000 // other packages' tests, at the same time, take others
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(above-lowest)))
		if err != nil {
			continue
		}
		c, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			return l.Addr().(*net.TCPAddr).Port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// TestDelvValidates puts the dnssec plugin in front, and lets delv judge what
// comes out, before and after updates.
func TestDelvValidates(t *testing.T) {
	dir := t.TempDir()
	z := newSignedZone(t, dir, domain)
	seed := seedZone + `*.w   60 IN A 192.0.2.77
*.alias 60 IN CNAME www
a.b.ent 60 IN TXT "x"
c       60 IN CNAME www
none    60 IN CNAME nowhere
sub     60 IN DNAME w
CT\.1._dicom._tcp 60 IN SRV 0 0 104 www
CT\.1._dicom._tcp 60 IN TXT "AET=CT1"
_dicom._tcp 60 IN PTR CT\.1._dicom._tcp
far     60 IN CNAME www.example.net.
ns.child 60 IN A 192.0.2.54
child   60 IN NS ns.child
`
	s := start(t, fmt.Sprintf(`%s:%d {
	bind 127.0.0.1
	errors
	tsig {
		secret %s %s
		require_opcode UPDATE
	}
	dnssec {
		key file %s
	}
	dicom {
		file %s
		allow %s * *
	}
}
`, domain, freePort(t), key, secret, z.base, write(t, dir, "zone", seed), key))

	const good, negative = "; fully validated", "; negative response, fully validated"
	check := func(t *testing.T, name, typ string, want ...string) {
		t.Helper()
		if !strings.HasSuffix(name, ".") {
			name += "." + domain
		}
		out := z.delv(t, s, name, typ)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s %s: no %q in\n%s", name, typ, w, out)
			}
		}
		if strings.Contains(out, "; unsigned answer") || strings.Contains(out, "insecurity proof failed") {
			t.Errorf("%s %s does not validate:\n%s", name, typ, out)
		}
	}
	t.Run("before", func(t *testing.T) {
		check(t, domain, "SOA", good, "hostmaster")
		check(t, domain, "NS", good)
		check(t, domain, "DNSKEY", good)
		check(t, "www", "A", good, "192.0.2.1")
		check(t, "WWW", "A", good, "192.0.2.1")
		check(t, "www", "AAAA", negative)
		check(t, "www", "TYPE65280", negative)
		check(t, "no", "A", negative)
		check(t, "a.b.no", "A", negative)
		check(t, "b.ent", "TXT", negative) // an empty non-terminal
		check(t, "any.w", "A", good, "192.0.2.77")
		check(t, "a.b.w", "A", good, "192.0.2.77")
		check(t, "any.w", "TXT", negative)
		check(t, "any.alias", "A", good, "192.0.2.1")
		check(t, "c", "A", good, "192.0.2.1")
		check(t, "h.sub", "A", good, "192.0.2.77")
		check(t, "_dicom._tcp", "PTR", good)
		check(t, `CT\.1._dicom._tcp`, "SRV", good)
		check(t, `CT\.1._dicom._tcp`, "TXT", good, "AET=CT1")
		check(t, "child", "DS", negative)
	})
	s.update(t, dns.RcodeSuccess, domain, "new.imaging.example.org. 60 IN A 192.0.2.120", "www.imaging.example.org. 60 IN A 192.0.2.2",
		"-c.imaging.example.org. 0 IN CNAME www.imaging.example.org.", "host.w.imaging.example.org. 60 IN TXT here", "!x.imaging.example.org.",
		"x.imaging.example.org. 60 IN TYPE65280 \\# 2 beef", "*.y.imaging.example.org. 60 IN A 192.0.2.78")
	t.Run("after an update", func(t *testing.T) {
		check(t, domain, "SOA", good, " 11 3600")
		check(t, "new", "A", good, "192.0.2.120")
		check(t, "www", "A", good, "192.0.2.1", "192.0.2.2")
		check(t, "c", "A", negative)
		check(t, "host.w", "A", negative)
		check(t, "host.w", "TXT", good)
		check(t, "a.host.w", "A", negative)
		check(t, "other.w", "A", good, "192.0.2.77")
		check(t, "x", "TYPE65280", good)
		check(t, "any.y", "A", good, "192.0.2.78")
	})
	s.update(t, dns.RcodeSuccess, domain, "!new.imaging.example.org.", "!*.y.imaging.example.org. A")
	t.Run("after a deletion", func(t *testing.T) {
		check(t, domain, "SOA", good, " 12 3600")
		check(t, "new", "A", negative)
		check(t, "any.y", "A", negative)
	})
	t.Run("every signature", func(t *testing.T) { signatures(t, s, z) })
}

// signatures checks each signature in each section of answers to a client that
// wants DNSSEC, and that no answer of the zone is without.
func signatures(t *testing.T, s *server, z *signedZone) {
	checked := 0
	for _, name := range []string{"", "www.", "WwW.", "no.", "a.w.", "A.W.", "q.alias.", "h.sub.", "_dicom._tcp.", `ct\.1._dicom._tcp.`, "b.ent.", "far."} {
		for _, typ := range []string{"A", "AAAA", "TXT", "SRV", "PTR", "NS", "SOA", "MX", "CNAME", "ANY"} {
			m := new(dns.Msg).SetQuestion(name+domain, dns.StringToType[typ]).SetEdns0(1232, true)
			r := s.exchange(t, "tcp", m, "", "")
			for what, section := range map[string][]dns.RR{"answer": r.Answer, "authority": r.Ns, "additional": r.Extra} {
				sets := map[string][]dns.RR{}
				sigs := map[string][]*dns.RRSIG{}
				for _, rr := range section {
					h := rr.Header()
					if sig, ok := rr.(*dns.RRSIG); ok {
						k := dns.CanonicalName(h.Name) + dns.TypeToString[sig.TypeCovered]
						sigs[k] = append(sigs[k], sig)
					} else if h.Rrtype != dns.TypeOPT {
						k := dns.CanonicalName(h.Name) + dns.TypeToString[h.Rrtype]
						sets[k] = append(sets[k], rr)
					}
				}
				for k, set := range sets {
					if len(sigs[k]) == 0 {
						t.Errorf("%s %s: %s is not signed in the %s section:\n%v", name+domain, typ, k, what, r)
					}
					for _, sig := range sigs[k] {
						checked++
						if err := sig.Verify(z.key, set); err != nil || !sig.ValidityPeriod(time.Now()) {
							t.Errorf("%s %s: signature of %s: %v", name+domain, typ, k, err)
						}
					}
				}
			}
		}
	}
	t.Logf("%d signatures", checked)
	if checked < 100 {
		t.Errorf("only %d signatures", checked)
	}
}
