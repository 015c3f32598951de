package dicom

import (
	"bytes"
	"fmt"
	golog "log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/root"
	_ "github.com/coredns/coredns/plugin/transfer"
	_ "github.com/coredns/coredns/plugin/tsig"

	"github.com/miekg/dns"
)

// Names, keys and data of all tests. The secrets are public.
const (
	domain      = "imaging.example.org."
	reverse     = "2.0.192.in-addr.arpa."
	key         = "dhcp.imaging.example.org."
	secret      = "i9M+00yrECfVZG2qCjr4mPpaGim/Bq+IWMiNrLjUO4Y="
	otherKey    = "laptop.imaging.example.org."
	otherSecret = "NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk="
)

const siteYAML = `domain: imaging.example.org
name-servers: [{host: ns1, address: 192.0.2.2}]
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    pools: [192.0.2.100-192.0.2.199]
devices:
  - name: ct1
    type: CT
    hardware-address: 00:00:5e:00:53:01
    address: 192.0.2.11
    applications:
      - {ae-title: CT1, port: 104}
  - name: us1
    type: US
    hardware-address: 00:00:5e:00:53:02
    applications:
      - {ae-title: US1, port: 11112}
  - name: oldmr
    type: MR
    address: 192.0.2.20
    dhcp: false
    applications:
      - {ae-title: OLDMR, port: 104}
services:
  - {name: ldap, protocol: tcp, host: ldap.imaging.example.org, port: 389}
`

const seedZone = `$ORIGIN imaging.example.org.
@    60 IN SOA ns.imaging.example.org. hostmaster.imaging.example.org. 10 3600 600 86400 60
@    60 IN NS ns
www  60 IN A 192.0.2.1
ns   60 IN A 192.0.2.53
`

// logged is everything that CoreDNS has logged.
var logged logBuffer

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// since returns what was logged after the first n octets.
func (l *logBuffer) since(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b.Bytes()[n:])
}

func (l *logBuffer) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Len()
}

// corefileEnv makes the test binary a CoreDNS with that Corefile, until a signal
// ends it.
const corefileEnv = "DICOM_TEST_COREFILE"

func TestMain(m *testing.M) {
	caddy.Quiet, dnsserver.Quiet = true, true
	watchInterval = 20 * time.Millisecond
	after := slices.Index(dnsserver.Directives, "dynupdate") + 1
	if err := dnsserver.SetDirectives(slices.Insert(slices.Clone(dnsserver.Directives), after, pluginName)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if corefile := os.Getenv(corefileEnv); corefile != "" {
		os.Args = []string{"coredns", "-conf", corefile}
		coremain.Run()
		return
	}
	golog.SetOutput(&logged)
	os.Exit(m.Run())
}

// server is a CoreDNS with the real plugin chain on a port of its own.
type server struct {
	*caddy.Instance
	addr string
}

func input(corefile string) caddy.Input {
	return caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile), ServerTypeName: "dns"}
}

// start runs CoreDNS until the test ends.
func start(t *testing.T, corefile string) *server {
	t.Helper()
	i, err := caddy.Start(input(corefile))
	if err != nil {
		t.Fatalf("starting CoreDNS: %v\n%s", err, corefile)
	}
	// One port number for UDP and TCP would have to be free for both: keep each.
	s := &server{Instance: i, addr: i.Servers()[0].Addr().String()}
	t.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	if s.Instance == nil {
		return
	}
	s.ShutdownCallbacks()
	_ = s.Stop() // caddy logs what fails, and returns nil
	s.Instance = nil
}

// handler returns the first dicom of the server.
func (s *server) handler() *Dicom { return s.Storage[handlersKey{}].([]*Dicom)[0] }

// address returns where the server listens for a network.
func (s *server) address(network string) string {
	if network == "udp" {
		return s.Servers()[0].LocalAddr().String()
	}
	return s.Servers()[0].Addr().String()
}

// block returns a server block for the zones of the tests with tsig and the
// given lines of dicom, and more before them.
func block(lines string, more ...string) string {
	return fmt.Sprintf(`imaging.example.org:0 192.0.2.0/24:0 {
	bind 127.0.0.1
	errors
	%s
	tsig {
		secret %s %s
		secret %s %s
		require_opcode UPDATE
	}
	dicom {
		%s
	}
}
`, strings.Join(more, "\n\t"), key, secret, otherKey, otherSecret, lines)
}

// write makes a file below dir and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startSite runs a server with the site of the tests and a database below dir.
func startSite(t *testing.T, dir string, more ...string) *server {
	t.Helper()
	path := filepath.Join(dir, "site.yaml")
	if _, err := os.Stat(path); err != nil {
		write(t, dir, "site.yaml", siteYAML)
	}
	return start(t, block(fmt.Sprintf("site %s\ndatabase %s\nallow %s * *\nallow %s self A",
		path, filepath.Join(dir, "zones"), key, otherKey), more...))
}

func rr(t *testing.T, text string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil || r == nil {
		t.Fatalf("record %q: %v", text, err)
	}
	return r
}

// change is an UPDATE for zone; records after "-" are deleted, "!" begins the
// name of an RRset or of a name that goes entirely.
func change(t *testing.T, zone string, records ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetUpdate(zone)
	for _, r := range records {
		switch r[0] {
		case '-':
			m.Remove([]dns.RR{rr(t, r[1:])})
		case '!':
			name, typ, some := strings.Cut(r[1:], " ")
			if some {
				h := dns.RR_Header{Name: name, Rrtype: dns.StringToType[typ], Class: dns.ClassANY}
				m.Ns = append(m.Ns, &dns.ANY{Hdr: h})
			} else {
				m.RemoveName([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name}}})
			}
		default:
			m.Insert([]dns.RR{rr(t, r)})
		}
	}
	return m
}

// exchange sends m, signed with the key if it has a name.
func (s *server) exchange(t *testing.T, network string, m *dns.Msg, key, secret string) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: patience} // the first waits while zones are loaded
	if key != "" {
		m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
		c.TsigSecret = map[string]string{key: secret}
	}
	r, _, err := c.Exchange(m, s.address(network))
	if r == nil {
		t.Fatalf("%s: %v", m.Question[0].String(), err)
	}
	return r
}

// update sends signed changes and checks the result code.
func (s *server) update(t *testing.T, want int, zone string, records ...string) {
	t.Helper()
	r := s.exchange(t, "tcp", change(t, zone, records...), key, secret)
	if r.Rcode != want {
		t.Fatalf("UPDATE %v: %s, want %s", records, dns.RcodeToString[r.Rcode], dns.RcodeToString[want])
	}
}

// query asks over TCP.
func (s *server) query(t *testing.T, name, typ string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, dns.StringToType[typ])
	return s.exchange(t, "tcp", m, "", "")
}

// answer returns the data of the answer, or the result code if there is none.
func (s *server) answer(t *testing.T, name, typ string) string {
	t.Helper()
	r := s.query(t, name, typ)
	if len(r.Answer) == 0 {
		return dns.RcodeToString[r.Rcode]
	}
	var all []string
	for _, rr := range r.Answer {
		all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// want checks one answer.
func (s *server) want(t *testing.T, name, typ, want string) {
	t.Helper()
	if got := s.answer(t, name, typ); got != want {
		t.Errorf("%s %s: %s, want %s", name, typ, got, want)
	}
}

func (s *server) serial(t *testing.T, zone string) uint32 {
	t.Helper()
	r := s.query(t, zone, "SOA")
	if len(r.Answer) != 1 {
		t.Fatalf("SOA of %s: %v", zone, r)
	}
	return r.Answer[0].(*dns.SOA).Serial
}

// patience is how long a test waits for what is to come, on a machine however busy.
const patience = time.Minute

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timeout: %s", what)
		}
	}
}
