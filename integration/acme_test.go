//go:build linux

package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

const (
	acmeKey       = "acme." + radiology.Domain
	acmeChallenge = "_acme-challenge.ct1." + radiology.Domain

	acmeServer     = "127.0.0.1:14000"
	acmeManagement = "127.0.0.1:15000"
)

// An acmeLab is coredns and a certificate authority that asks it.
type acmeLab struct {
	*lab.Lab
	network *radiology.Network
	key     string         // path of a file with acmeKey
	ca      string         // path of the certificate of the authority's own HTTPS
	client  *http.Client   // for that
	mounts  []lab.Mount    // with which the lab's programs resolve names by coredns
	roots   *x509.CertPool // of the certificates that are issued
}

// An acmeClient gets a certificate for a host, and returns the path where it is.
type acmeClient func(t *testing.T, l *acmeLab, host string) (lab.Command, string)

func lego(t *testing.T, l *acmeLab, host string) (lab.Command, string) {
	t.Helper()
	dir := filepath.Join(l.Dir, "lego")
	return lab.Command{
		Name: "lego", Path: "lego",
		Args: []string{
			"--server", "https://" + acmeServer + "/dir", "--accept-tos", "--email", "admin@example.org", "--path", dir,
			"--dns", "rfc2136", "--domains", host, "run",
		},
		Env: []string{
			"LEGO_CA_CERTIFICATES=" + l.ca,
			"RFC2136_NAMESERVER=" + l.network.DNS.String(), "RFC2136_TSIG_KEY=" + acmeKey,
			"RFC2136_TSIG_ALGORITHM=" + dns.HmacSHA256, "RFC2136_TSIG_SECRET=" + secretOf(t, l.key),
		},
		Mounts: l.mounts,
	}, filepath.Join(dir, "certificates", host+".crt")
}

func certbot(t *testing.T, l *acmeLab, host string) (lab.Command, string) {
	t.Helper()
	dir, credentials := filepath.Join(l.Dir, "certbot"), filepath.Join(l.Dir, "certbot.ini")
	writeFile(t, credentials, fmt.Sprintf(
		"dns_rfc2136_server = %s\ndns_rfc2136_port = %d\ndns_rfc2136_name = %s\ndns_rfc2136_secret = %s\ndns_rfc2136_algorithm = HMAC-SHA256\n",
		l.network.DNS.Addr(), l.network.DNS.Port(), acmeKey, secretOf(t, l.key)))
	return lab.Command{
		Name: "certbot", Path: "certbot",
		Args: []string{
			"certonly", "--non-interactive", "--agree-tos", "--email", "admin@example.org", "--no-eff-email",
			"--server", "https://" + acmeServer + "/dir",
			"--config-dir", dir, "--work-dir", dir, "--logs-dir", dir,
			"--dns-rfc2136", "--dns-rfc2136-credentials", credentials, "--dns-rfc2136-propagation-seconds", "1",
			"--domain", host,
		},
		Env:    []string{"REQUESTS_CA_BUNDLE=" + l.ca},
		Mounts: l.mounts,
	}, filepath.Join(dir, "live", host, "fullchain.pem")
}

// startACME starts coredns with a key that may answer the challenge for one
// host, and pebble, the authority that the makers of Let's Encrypt test with.
func startACME(t *testing.T) *acmeLab {
	t.Helper()
	needs(t, "pebble")
	needs(t, "nsupdate")
	l := &acmeLab{Lab: newLab(t)}
	l.network = newNetwork(t, l.Lab, radiology.Options{})
	l.key, l.ca = filepath.Join(l.Dir, "acme.key"), filepath.Join(l.Dir, "pebble.crt")
	_, err := l.Output(timeout(t, patience), l.Server, filepath.Join(binaries(t), "dicomnam"), "keygen", acmeKey, "--output", l.key)
	if err != nil {
		t.Fatal(err)
	}
	edit(t, l.network.Corefile, "        allow", fmt.Sprintf("        allow %s %s TXT\n        allow", acmeKey, acmeChallenge))
	edit(t, l.network.Corefile, "    tsig {", fmt.Sprintf("    tsig {\n        secrets %s", l.key))
	// It says who was shown the challenge, which may be gone before the test asks.
	edit(t, l.network.Corefile, "    errors", "    errors\n    log . {\n        class success\n    }")
	if err := l.network.StartDNS(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}

	resolv := filepath.Join(l.Dir, "resolv.conf")
	writeFile(t, resolv, "nameserver "+l.network.DNS.Addr().String()+"\n")
	l.mounts = []lab.Mount{{Source: resolv, Target: "/etc/resolv.conf"}}
	certificate, key := selfSigned(t)
	writeFile(t, l.ca, certificate)
	writeFile(t, filepath.Join(l.Dir, "pebble.key"), key)
	config := filepath.Join(l.Dir, "pebble.json")
	writeFile(t, config, fmt.Sprintf(`{"pebble": {"listenAddress": %q, "managementListenAddress": %q,
		"certificate": %q, "privateKey": %q}}`, acmeServer, acmeManagement, l.ca, filepath.Join(l.Dir, "pebble.key")))
	p, err := l.Start(l.Server, lab.Command{
		Name: "pebble", Path: "pebble", Args: []string{"-config", config, "-dnsserver", l.network.DNS.String(), "-strict"},
		Env: []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	// It says that it listens before it does.
	for _, address := range []string{acmeServer, acmeManagement} {
		waitTCP(t, p, l.Server, netip.MustParseAddrPort(address))
	}
	own := x509.NewCertPool()
	own.AppendCertsFromPEM([]byte(certificate))
	l.client = l.https(own)
	l.roots = l.issuers(t)
	return l
}

// TestACME lets real ACME clients prove by dns-01 (RFC 8555 section 8.4) that a
// device's name is theirs: the challenge's record stands in the zone for exactly
// as long as it is needed, and a certificate comes of it.
func TestACME(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]acmeClient{"lego": lego, "certbot": certbot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needs(t, name)
			l := startACME(t)
			const host = "ct1.imaging.example.org"
			command, path := client(t, l, host)
			expect(t, l.network, lab.Absent, question{acmeChallenge, dns.TypeTXT})
			p, err := l.Start(l.Server, command)
			if err != nil {
				t.Fatal(err)
			}
			wait(t, p)
			if p.Err() != nil {
				t.Fatalf("%s: %v\n%s", name, p.Err(), p.Tail(20))
			}
			waitWritten(t, l.network.DNSServer, `TXT IN `+regexp.QuoteMeta(acmeChallenge)+` .* NOERROR `)
			expect(t, l.network, lab.Absent, question{acmeChallenge, dns.TypeTXT})
			l.verify(t, path, host)
		})
	}
}

// TestACMEKeyIsForItsChallenge: with the key nothing can be changed but the
// challenge of the one host, and so no certificate for another be had.
func TestACMEKeyIsForItsChallenge(t *testing.T) {
	t.Parallel()
	needs(t, "lego")
	l := startACME(t)
	for _, script := range []string{
		"update add " + acmeChallenge + " 60 A 192.0.2.66",
		"update add ct1." + radiology.Domain + " 60 TXT x",
		"update add a." + acmeChallenge + " 60 TXT x",
		"update add _acme-challenge." + radiology.Domain + " 60 TXT x",
		"update delete " + acmeChallenge,
		"update delete " + radiology.OldMR.Host + " A",
	} {
		if out, err := runNsupdate(t, l.Lab, l.network, l.key, "check-names off\n"+script); err == nil || !strings.Contains(err.Error(), "REFUSED") {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
	command, path := lego(t, l, "mr1.imaging.example.org")
	p, err := l.Start(l.Server, command)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, p)
	if p.Err() == nil || !strings.Contains(p.Written(), "REFUSED") {
		t.Errorf("lego: %v\n%s", p.Err(), p.Tail(20))
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("there is a certificate for another host")
	}
	expect(t, l.network, lab.Absent, question{"_acme-challenge.mr1." + radiology.Domain, dns.TypeTXT})
}

// https is a client inside the lab that trusts the roots.
func (l *acmeLab) https(roots *x509.CertPool) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig.RootCAs = roots
	transport.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		return l.Server.Dial(network, to)
	}
	return &http.Client{Transport: transport, Timeout: patience}
}

// issuers asks the authority for its root certificate.
func (l *acmeLab) issuers(t *testing.T) *x509.CertPool {
	t.Helper()
	answer, err := l.client.Get("https://" + acmeManagement + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("the root certificate: %v\n%s", err, text)
	}
	return pool
}

// verify fails unless a file holds a certificate of the authority for a host.
func (l *acmeLab) verify(t *testing.T, path, host string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s: no PEM", path)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	intermediates := x509.NewCertPool()
	intermediates.AppendCertsFromPEM(rest)
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: l.roots, Intermediates: intermediates}); err != nil {
		t.Error(err)
	}
}

// selfSigned is a certificate for 127.0.0.1 and its key.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
