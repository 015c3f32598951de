package dicom

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestUpdateAuthentication sends what a friend and what a stranger would send,
// over real sockets through tsig.
func TestUpdateAuthentication(t *testing.T) {
	s := startSite(t, t.TempDir())
	const a = "pc.imaging.example.org. 300 A 192.0.2.120"
	notSOA := change(t, domain, a)
	notSOA.Question[0].Qtype = dns.TypeA
	tests := []struct {
		name        string
		m           *dns.Msg
		key, secret string
		want        int
		tsigError   uint16
	}{
		{"signed", change(t, domain, a), key, secret, dns.RcodeSuccess, 0},
		{"unsigned", change(t, domain, "-"+a), "", "", dns.RcodeRefused, 0},
		{"unknown key", change(t, domain, "-"+a), "evil.example.org.", secret, dns.RcodeNotAuth, dns.RcodeBadKey},
		{"bad signature", change(t, domain, "-"+a), key, otherSecret, dns.RcodeNotAuth, dns.RcodeBadSig},
		{"key without a rule for the name", change(t, domain, "-"+a), otherKey, otherSecret, dns.RcodeRefused, 0},
		{"key with a rule for itself", change(t, domain, otherKey+" 300 A 192.0.2.121"), otherKey, otherSecret, dns.RcodeSuccess, 0},
		{"but not for that type", change(t, domain, otherKey+" 300 TXT x"), otherKey, otherSecret, dns.RcodeRefused, 0},
		{"nor for all types", change(t, domain, "!"+otherKey), otherKey, otherSecret, dns.RcodeRefused, 0},
		{"zone below ours", change(t, "sub."+domain, "x.sub.imaging.example.org. 300 A 192.0.2.1"), key, secret, dns.RcodeNotAuth, 0},
		{"zone section is no SOA", notSOA, key, secret, dns.RcodeFormatError, 0},
		{"record outside the zone", change(t, domain, "www.example.net. 300 A 192.0.2.1"), key, secret, dns.RcodeNotZone, 0},
		{"DNSSEC type", change(t, domain, "x.imaging.example.org. 300 DS 1 8 2 00"), key, secret, dns.RcodeNotImplemented, 0},
		{"unknown type", change(t, domain, `x.imaging.example.org. 300 TYPE65280 \# 2 abcd`), key, secret, dns.RcodeSuccess, 0},
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, tt := range tests {
			t.Run(network+" "+tt.name, func(t *testing.T) {
				r := s.exchange(t, network, tt.m.Copy(), tt.key, tt.secret)
				if r.Rcode != tt.want || r.Opcode != dns.OpcodeUpdate {
					t.Errorf("%s %s, want %s", dns.OpcodeToString[r.Opcode], dns.RcodeToString[r.Rcode], dns.RcodeToString[tt.want])
				}
				if sig := r.IsTsig(); tt.key != "" && (sig == nil || sig.Error != tt.tsigError) {
					t.Errorf("signature of the answer: %v, want error %d", sig, tt.tsigError)
				}
				s.want(t, "pc."+domain, "A", "192.0.2.120")
			})
		}
	}
	t.Run("refusals are in the log", func(t *testing.T) {
		if text := logged.since(0); !strings.Contains(text, "pc.imaging.example.org. A: not permitted") {
			t.Errorf("log:\n%s", text)
		}
	})
	t.Run("metrics", func(t *testing.T) {
		if n := testutil.ToFloat64(updates.WithLabelValues(domain, "NOTIMP")); n < 2 {
			t.Errorf("%v updates counted as NOTIMP", n)
		}
		if n := testutil.ToFloat64(zoneSerial.WithLabelValues(domain)); uint32(n) != s.serial(t, domain) {
			t.Errorf("serial %v", n)
		}
		if n := testutil.ToFloat64(zoneRecords.WithLabelValues(reverse)); n != 9 { // SOA, NS, ns1, oldmr, five for browsing
			t.Errorf("%v records in %s", n, reverse)
		}
		problems, err := testutil.GatherAndLint(prometheus.DefaultGatherer,
			"coredns_dicom_updates_total", "coredns_dicom_transfers_total", "coredns_dicom_zone_serial", "coredns_dicom_zone_records")
		if err != nil || len(problems) != 0 {
			t.Errorf("promlint: %v %v", problems, err)
		}
	})
}

// TestKeyWithoutRulesLearnsNothing: prerequisites alone would tell it what the
// zone holds.
func TestKeyWithoutRulesLearnsNothing(t *testing.T) {
	mark := logged.len()
	s := start(t, block(fmt.Sprintf("site %s\nallow %s * *", write(t, t.TempDir(), "site.yaml", siteYAML), key)))
	if strings.Contains(logged.since(mark), "No tsig") {
		t.Error("warning in a block with tsig")
	}
	for name, want := range map[string]int{"oldmr." + domain: dns.RcodeSuccess, "none." + domain: dns.RcodeNameError} {
		m := new(dns.Msg).SetUpdate(domain)
		m.NameUsed([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name}}})
		if r := s.exchange(t, "tcp", m.Copy(), key, secret); r.Rcode != want {
			t.Errorf("%s, key with a rule: %s", name, dns.RcodeToString[r.Rcode])
		}
		if r := s.exchange(t, "tcp", m.Copy(), otherKey, otherSecret); r.Rcode != dns.RcodeRefused {
			t.Errorf("%s, key without: %s", name, dns.RcodeToString[r.Rcode])
		}
	}
}

// TestUpdateBehindStalledDisk: who waits gets an answer in bounded time, and
// the update is not done later.
func TestUpdateBehindStalledDisk(t *testing.T) {
	was := updateTimeout
	updateTimeout = 100 * time.Millisecond
	t.Cleanup(func() { updateTimeout = was })
	s := start(t, block(fmt.Sprintf("site %s\nallow %s * *", write(t, t.TempDir(), "site.yaml", siteYAML), key)))
	z := s.handler().zones[domain].zone.Load()
	stalled, goOn, done := make(chan bool), make(chan bool), make(chan bool)
	stall := sync.OnceFunc(func() {
		close(stalled)
		<-goOn
	})
	z.Configure(zone.Config{Committed: func(uint32) { stall() }})
	go func() {
		defer close(done)
		rcode, err := z.Update(t.Context(), nil, []dns.RR{rr(t, "x.imaging.example.org. 300 A 192.0.2.1")}, func(string, uint16) bool { return true })
		if rcode != dns.RcodeSuccess || err != nil {
			t.Errorf("the update that was held up: %s, %v", dns.RcodeToString[rcode], err)
		}
	}()
	<-stalled
	resume := sync.OnceFunc(func() { close(goOn); <-done })
	defer resume()
	s.update(t, dns.RcodeServerFailure, domain, "pc.imaging.example.org. 300 A 192.0.2.120")
	s.want(t, "oldmr."+domain, "A", "192.0.2.20")
	resume()
	// Again where a busy machine has not done it in that time.
	eventually(t, "an update when the disk answers again", func() bool {
		m := change(t, domain, "ws7.imaging.example.org. 300 A 192.0.2.121")
		return s.exchange(t, "tcp", m, key, secret).Rcode == dns.RcodeSuccess
	})
	s.want(t, "pc."+domain, "A", "NXDOMAIN")
}

func TestUpdateWithoutTSIGPlugin(t *testing.T) {
	dir := t.TempDir()
	mark := logged.len()
	s := start(t, fmt.Sprintf(`imaging.example.org:0 {
		bind 127.0.0.1
		dicom {
			site %s
			allow %s * *
		}
	}`, write(t, dir, "site.yaml", siteYAML), key))
	// Without tsig a signature means nothing, whatever it is.
	if text := logged.since(mark); strings.Count(text, "No tsig in the server block") != 1 {
		t.Errorf("no warning that allow is in vain:\n%s", text)
	}
	for _, k := range []string{"", key} {
		m := change(t, domain, "pc.imaging.example.org. 300 A 192.0.2.120")
		if k != "" {
			m.SetTsig(k, dns.HmacSHA256, 300, time.Now().Unix())
		}
		c := &dns.Client{Net: "tcp", TsigSecret: map[string]string{k: secret}}
		if r, _, err := c.Exchange(m, s.address("tcp")); r == nil || r.Rcode != dns.RcodeRefused {
			t.Errorf("key %q: %v, %v", k, r, err)
		}
	}
}

// TestNsupdateAndDig uses the tools that administrators use.
func TestNsupdateAndDig(t *testing.T) {
	for _, tool := range []string{"nsupdate", "dig"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (Debian: bind9-dnsutils)", tool)
		}
	}
	dir := t.TempDir()
	s := startSite(t, dir)
	_, port, err := net.SplitHostPort(s.address("tcp"))
	if err != nil {
		t.Fatal(err)
	}
	keys := write(t, dir, "tsig.key", fmt.Sprintf("key %q {\n\talgorithm hmac-sha256;\n\tsecret %q;\n};\n", key, secret))
	nsupdate := func(script string) (string, error) {
		c := exec.Command("nsupdate", "-v", "-k", keys)
		c.Stdin = strings.NewReader(fmt.Sprintf("server 127.0.0.1 %s\n%s\nsend\n", port, script))
		out, err := c.CombinedOutput()
		return string(out), err
	}
	dig := func(args ...string) string {
		out, err := exec.Command("dig", append([]string{"@127.0.0.1", "-p", port, "+tcp", "+short"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("dig %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	// Without "zone", nsupdate finds the zone by asking for its SOA.
	if out, err := nsupdate("prereq nxdomain ct1.imaging.example.org\nupdate add ct1.imaging.example.org 300 A 192.0.2.11"); err != nil {
		t.Fatalf("nsupdate: %v\n%s", err, out)
	}
	if out, err := nsupdate("update add 11.2.0.192.in-addr.arpa 300 PTR ct1.imaging.example.org."); err != nil {
		t.Fatalf("nsupdate: %v\n%s", err, out)
	}
	if out, err := nsupdate("update delete oldmr.imaging.example.org"); err == nil || !strings.Contains(out, "REFUSED") {
		t.Errorf("site data deleted: %v\n%s", err, out)
	}
	for _, tt := range []struct{ want, name, qtype string }{
		{"192.0.2.11", "ct1.imaging.example.org", "A"},
		{"ct1.imaging.example.org.", "11.2.0.192.in-addr.arpa", "PTR"},
		{"0 0 104 ct1.imaging.example.org.", "CT1._dicom._tcp.imaging.example.org", "SRV"},
		{`"AET=CT1" "PrimaryDeviceType=CT"`, "CT1._dicom._tcp.imaging.example.org", "TXT"},
	} {
		if got := dig(tt.name, tt.qtype); got != tt.want {
			t.Errorf("dig %s %s: %s, want %s", tt.name, tt.qtype, got, tt.want)
		}
	}
}

func TestRestartKeepsData(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, dir)
	s.update(t, dns.RcodeSuccess, domain, "ct1.imaging.example.org. 300 A 192.0.2.11", `x.imaging.example.org. 300 TXT "a b" c`)
	s.update(t, dns.RcodeSuccess, reverse, "11.2.0.192.in-addr.arpa. 300 PTR ct1.imaging.example.org.")
	serials := [2]uint32{s.serial(t, domain), s.serial(t, reverse)}
	check := func(t *testing.T, s *server) {
		t.Helper()
		s.want(t, "ct1."+domain, "A", "192.0.2.11")
		s.want(t, "x."+domain, "TXT", `"a b" "c"`)
		s.want(t, "11.2.0.192.in-addr.arpa.", "PTR", "ct1."+domain)
		s.want(t, "CT1._dicom._tcp."+domain, "SRV", "0 0 104 ct1."+domain)
		s.want(t, "oldmr."+domain, "A", "192.0.2.20")
		s.update(t, dns.RcodeRefused, domain, "!oldmr.imaging.example.org.")
		if got := [2]uint32{s.serial(t, domain), s.serial(t, reverse)}; got != serials {
			t.Errorf("serials %v, were %v", got, serials)
		}
	}
	t.Run("reload of the Corefile", func(t *testing.T) {
		for range 3 { // instances overlap each time
			i, err := s.Restart(input(string(s.Caddyfile().Body())))
			if err != nil {
				t.Fatal(err)
			}
			s.Instance = i
			check(t, s)
		}
	})
	t.Run("reload when the old instance cannot be closed", func(t *testing.T) {
		mark := logged.len()
		old := s.handler()
		release := old.release
		old.release = func() error { return errors.Join(release(), errors.New("disk gone")) }
		i, err := s.Restart(input(string(s.Caddyfile().Body())))
		if err != nil {
			t.Fatal(err)
		}
		s.Instance = i
		check(t, s)
		if text := logged.since(mark); !strings.Contains(text, "Closing database") || !strings.Contains(text, "disk gone") {
			t.Errorf("not in the log:\n%s", text)
		}
	})
	t.Run("failed reload", func(t *testing.T) {
		if _, err := s.Restart(input(strings.Replace(string(s.Caddyfile().Body()), "errors", "errors nonsense {", 1))); err == nil {
			t.Fatal("no error")
		}
		check(t, s)
	})
	t.Run("updates after reloads", func(t *testing.T) {
		s.update(t, dns.RcodeSuccess, domain, "us1.imaging.example.org. 300 A 192.0.2.150")
		s.want(t, "US1._dicom._tcp."+domain, "SRV", "0 0 11112 us1."+domain)
		serials[0]++
	})
	t.Run("restart", func(t *testing.T) {
		s.stop()
		s = startSite(t, dir)
		check(t, s)
	})
	t.Run("restart with another site file", func(t *testing.T) {
		s.stop()
		// oldmr speaks DHCP now: its address is not the site's any more, and
		// its services go with it.
		write(t, dir, "site.yaml", strings.Replace(siteYAML, "    dhcp: false\n", "    hardware-address: 00:00:5e:00:53:03\n", 1))
		s = startSite(t, dir)
		s.want(t, "ct1."+domain, "A", "192.0.2.11")
		s.want(t, "oldmr."+domain, "A", "NXDOMAIN")
		s.want(t, "OLDMR._dicom._tcp."+domain, "SRV", "NXDOMAIN")
		if got := s.serial(t, domain); got != serials[0]+1 {
			t.Errorf("serial %d, want %d", got, serials[0]+1)
		}
	})
}

func TestMemoryOnly(t *testing.T) {
	dir := t.TempDir()
	corefile := block(fmt.Sprintf("site %s\nallow %s * *", write(t, dir, "site.yaml", siteYAML), key))
	s := start(t, corefile)
	s.update(t, dns.RcodeSuccess, domain, "ct1.imaging.example.org. 300 A 192.0.2.11")
	s.want(t, "ct1."+domain, "A", "192.0.2.11")
	s.stop()
	s = start(t, corefile)
	s.want(t, "ct1."+domain, "A", "NXDOMAIN")
	s.want(t, "oldmr."+domain, "A", "192.0.2.20")
}

func TestSeed(t *testing.T) {
	dir := t.TempDir()
	seed := write(t, dir, "zone", seedZone)
	site := write(t, dir, "site.yaml", siteYAML)
	corefile := func(lines string) string {
		return fmt.Sprintf(`imaging.example.org:0 {
			bind 127.0.0.1
			root %s
			tsig {
				secret %s %s
			}
			dicom {
				file zone
				allow %s * *
				%s
			}
		}`, dir, key, secret, key, lines)
	}
	t.Run("alone, as dynupdate", func(t *testing.T) {
		s := start(t, corefile("database db"))
		s.want(t, "www."+domain, "A", "192.0.2.1")
		s.update(t, dns.RcodeSuccess, domain, "!www.imaging.example.org. A", "new.imaging.example.org. 60 A 192.0.2.5")
		if n := s.serial(t, domain); n != 11 {
			t.Errorf("serial %d, want 11", n)
		}
		s.stop()
		// From now on the database is the authority.
		if err := os.Remove(seed); err != nil {
			t.Fatal(err)
		}
		s = start(t, corefile("database db"))
		s.want(t, "www."+domain, "A", "NXDOMAIN")
		s.want(t, "new."+domain, "A", "192.0.2.5")
		write(t, dir, "zone", seedZone)
	})
	t.Run("with a site", func(t *testing.T) {
		s := start(t, corefile("site "+site))
		s.want(t, domain, "NS", "ns."+domain)
		s.want(t, "oldmr."+domain, "A", "192.0.2.20")
		r := s.query(t, domain, "SOA")
		if soa := r.Answer[0].(*dns.SOA); soa.Ns != "ns."+domain || soa.Retry != 600 || soa.Expire != 86400 {
			t.Errorf("SOA %v is not the zone file's", soa)
		}
		s.update(t, dns.RcodeSuccess, domain, "!www.imaging.example.org.")
		s.update(t, dns.RcodeRefused, domain, "!oldmr.imaging.example.org.")
	})
}

// TestFailedStartLeavesNothing: a server that does not start has created no
// database, and nothing of it runs.
func TestFailedStartLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	body := fmt.Sprintf("site %s\ndatabase %s", write(t, dir, "site.yaml", siteYAML), filepath.Join(dir, "zones"))
	for name, corefile := range map[string]string{
		"later directive": block(body) + "example.net:0 {\n\tbind 127.0.0.1\n\tdicom {\n\t}\n}\n",
		"port in use":     strings.ReplaceAll(block(body), ":0", fmt.Sprintf(":%d", taken.Addr().(*net.TCPAddr).Port)),
	} {
		t.Run(name, func(t *testing.T) {
			if i, err := caddy.Start(input(corefile)); err == nil {
				i.ShutdownCallbacks()
				_ = i.Stop() // caddy logs what fails, and returns nil
				t.Fatal("started")
			}
			if _, err := os.Stat(filepath.Join(dir, "zones")); !os.IsNotExist(err) {
				t.Errorf("database: %v", err)
			}
		})
	}
}

// TestBrokenDatabase: what cannot be read is neither served nor replaced.
func TestBrokenDatabase(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, dir)
	s.update(t, dns.RcodeSuccess, domain, "ct1.imaging.example.org. 300 A 192.0.2.11")
	s.stop()
	db := filepath.Join(dir, "zones")
	broken := 0
	err := filepath.WalkDir(db, func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), "MANIFEST") {
			broken++
			return os.WriteFile(path, []byte("nonsense"), 0o600)
		}
		return err
	})
	if err != nil || broken == 0 {
		t.Fatalf("found nothing to break: %v", err)
	}
	s = startSite(t, dir)
	for range 2 {
		s.want(t, "oldmr."+domain, "A", "SERVFAIL")
	}
	s.update(t, dns.RcodeServerFailure, domain, "ct1.imaging.example.org. 300 A 192.0.2.11")
	s.stop()
	manifests, err := filepath.Glob(filepath.Join(db, "MANIFEST*"))
	if err != nil || len(manifests) != broken {
		t.Fatalf("manifests %v, %v", manifests, err)
	}
	for _, path := range manifests {
		if text, err := os.ReadFile(path); err != nil || string(text) != "nonsense" {
			t.Errorf("%s has been changed: %v", path, err)
		}
	}
}
