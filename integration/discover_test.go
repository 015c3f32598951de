//go:build linux

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// discovered is what dicomnam discover writes of one service.
type discovered struct {
	Name    string `json:"name"`
	AETitle string `json:"ae_title"`
	Host    string `json:"host"`
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	Service string `json:"service"`
	Echo    struct {
		Success      bool    `json:"success"`
		Milliseconds float64 `json:"milliseconds"`
		Error        string  `json:"error"`
	} `json:"echo"`
}

// discover runs dicomnam discover beside the name server, and returns what it
// finds by AE title. An exit status of 1, where a device does not answer, is in
// the error.
func discover(t *testing.T, l *lab.Lab, args ...string) (map[string]discovered, error) {
	t.Helper()
	args = append([]string{"discover", "imaging.example.org", "--server", radiology.Server.Addr().String(), "--json"}, args...)
	out, failed := l.Output(timeout(t, patience), l.Server, filepath.Join(binaries(t), "dicomnam"), args...)
	all := make(map[string]discovered)
	for line := range strings.Lines(string(out)) {
		var d discovered
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all[d.AETitle] = d
	}
	return all, failed
}

// bonjour browses the domain with Net::Bonjour, a DNS-SD client that knows
// unicast DNS, and returns a line for each service of each type that it finds.
func bonjour(t *testing.T, l *lab.Lab) []string {
	t.Helper()
	const script = `
use Net::Bonjour;
for my $type (Net::Bonjour->all_services('imaging.example.org')) {
	$type->discover;
	for my $e ($type->entries) {
		printf "%s %s %s %s:%s AET=%s PrimaryDeviceType=%s\n", $type->service, $e->name, $e->hostname, $e->address, $e->port,
			$e->attribute('AET'), $e->attribute('PrimaryDeviceType');
	}
}`
	out, err := l.Output(timeout(t, patience), l.Client, "env", "RES_NAMESERVERS="+radiology.Server.Addr().String(), "perl", "-e", script)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	return lines
}

// scannerCertificate makes a key and a certificate for the scanner.
func scannerCertificate(t *testing.T, dir string) (key, cert string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimSuffix(radiology.CT1.Host, ".")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, cert = filepath.Join(dir, "scanner.key"), filepath.Join(dir, "scanner.pem")
	for path, block := range map[string]*pem.Block{key: {Type: "PRIVATE KEY", Bytes: keyDER}, cert: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key, cert
}

// startStorescp starts dcmtk's storescp among the clients.
func startStorescp(t *testing.T, l *lab.Lab, args ...string) {
	t.Helper()
	// It looks up who calls before it answers, so it needs the name server.
	resolv := filepath.Join(l.Dir, "resolv.conf")
	writeFile(t, resolv, "nameserver "+radiology.Server.Addr().String()+"\n")
	p, err := l.Start(l.Client, lab.Command{
		Name: "storescp-" + args[1], Path: "storescp", Args: args,
		Mounts: []lab.Mount{{Source: resolv, Target: "/etc/resolv.conf", ReadOnly: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
}

// TestDiscover: a scanner joins the network, and is found and answers, by two
// DNS-SD clients that know nothing but the domain; so does a workstation that
// registers itself. When the scanner leaves, nobody is sent there any more.
func TestDiscover(t *testing.T) { //nolint:tparallel // its parts are one story
	t.Parallel()
	needs(t, "storescp")
	needs(t, "perl")
	needs(t, "nsupdate")
	l := newLab(t)
	n := startNetwork(t, l, radiology.Options{})
	if _, err := l.Output(timeout(t, patience), l.Client, "perl", "-MNet::Bonjour", "-e", "1"); err != nil {
		t.Skipf("Net::Bonjour is not installed (package libnet-bonjour-perl): %v", err)
	}

	before, err := discover(t, l)
	if err != nil || len(before) != 1 || before["OLDMR"].Address != radiology.OldMR.Address.String() {
		t.Fatalf("before the scanner came: %v, %v", before, err)
	}
	scanner, _ := lease(t, l, lab.Builtin, radiology.CT1.Machine)
	key, cert := scannerCertificate(t, l.Dir)
	startStorescp(t, l, "-aet", "CT1", "--ignore", "104")
	startStorescp(t, l, "-aet", "CT1_TLS", "+tls", key, cert, "-ic", "--ignore", "2762")
	await(t, n, lab.Present, question{"CT1._dicom._tcp." + radiology.Domain, dns.TypeSRV})

	t.Run("echo", func(t *testing.T) {
		var all map[string]discovered
		var err error
		for deadline := time.Now().Add(patience); ; { // until storescp listens
			all, err = discover(t, l, "--echo", "--timeout", "1m")
			if all["CT1"].Echo.Success && all["CT1_TLS"].Echo.Success || time.Now().After(deadline) {
				break
			}
		}
		for title, port := range map[string]uint16{"CT1": 104, "CT1_TLS": 2762} {
			d := all[title]
			if !d.Echo.Success || d.Echo.Milliseconds <= 0 || d.Address != radiology.CT1.Address.String() || d.Port != port {
				t.Errorf("%s: %+v", title, d)
			}
			t.Logf("%s answers after %.1f ms", title, d.Echo.Milliseconds)
		}
		// It is not there, as its network card is not.
		if d := all["OLDMR"]; d.Echo.Success || d.Echo.Error == "" || err == nil || !strings.Contains(err.Error(), "1 of 3 did not answer") {
			t.Errorf("OLDMR: %+v, %v", d, err)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		if _, err := discover(t, l, "--service", "dicom-tls", "--echo", "--timeout", "1m", "--ca", cert); err != nil {
			t.Errorf("with the scanner's certificate: %v", err)
		}
		_, other := scannerCertificate(t, t.TempDir())
		if _, err := discover(t, l, "--service", "dicom-tls", "--echo", "--timeout", "1m", "--ca", other); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("with another: %v", err)
		}
	})
	t.Run("type", func(t *testing.T) {
		if all, err := discover(t, l, "--type", "CT"); err != nil || len(all) != 2 {
			t.Errorf("%v, %v", all, err)
		}
	})
	const (
		ct1   = "dicom CT1 ct1.imaging.example.org 192.0.2.11:104 AET=CT1 PrimaryDeviceType=CT"
		tls   = "dicom-tls CT1_TLS ct1.imaging.example.org 192.0.2.11:2762 AET=CT1_TLS PrimaryDeviceType=CT"
		oldmr = "dicom OLDMR oldmr.imaging.example.org 192.0.2.20:104 AET=OLDMR PrimaryDeviceType=MR"
		self  = `dicom Reading Room 7 ws7.imaging.example.org 192.0.2.77:11112 AET=WS7 PrimaryDeviceType=WSD`
	)
	check := func(t *testing.T, want ...string) {
		t.Helper()
		if got := bonjour(t, l); !slices.Equal(got, want) {
			t.Errorf("Net::Bonjour finds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	t.Run("another client", func(t *testing.T) { check(t, ct1, oldmr, tls) })
	t.Run("who registers himself", func(t *testing.T) {
		nsupdate(t, l, n, `zone imaging.example.org
update add _dicom._tcp.imaging.example.org 300 PTR Reading\032Room\0327._dicom._tcp.imaging.example.org.
update add Reading\032Room\0327._dicom._tcp.imaging.example.org 300 SRV 0 0 11112 ws7.imaging.example.org.
update add Reading\032Room\0327._dicom._tcp.imaging.example.org 300 TXT "AET=WS7" "PrimaryDeviceType=WSD"
update add ws7.imaging.example.org 300 A 192.0.2.77`)
		all, err := discover(t, l, "--type", "WSD")
		if d := all["WS7"]; err != nil || len(all) != 1 || d.Name != "Reading Room 7" || d.Address != "192.0.2.77" {
			t.Errorf("%v, %v", all, err)
		}
		check(t, ct1, oldmr, self, tls)
		// He cannot speak for others, whether they are there or not.
		for _, line := range []string{
			"add CT1._dicom._tcp.imaging.example.org 300 SRV 0 0 104 ws7.imaging.example.org.",
			"add MR1._dicom._tcp.imaging.example.org 300 SRV 0 0 104 ws7.imaging.example.org.",
			"delete OLDMR._dicom._tcp.imaging.example.org",
		} {
			out, err := runNsupdate(t, l, n, n.Keys, "zone imaging.example.org\nupdate "+line)
			if err == nil || !strings.Contains(err.Error(), "REFUSED") {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		}
	})
	t.Run("leaves", func(t *testing.T) {
		if err := scanner.Release(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		await(t, n, lab.Absent, question{radiology.CT1.Host, dns.TypeA})
		if all, err := discover(t, l); err != nil || len(all) != 2 || all["CT1"].Name != "" {
			t.Errorf("%v, %v", all, err)
		}
	})
}
