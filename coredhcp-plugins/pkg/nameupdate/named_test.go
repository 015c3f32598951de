package nameupdate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
	"github.com/miekg/dns"
)

const secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func testKey(t testing.TB, name, algorithm, secret string) tsigkey.Key {
	t.Helper()
	k, err := tsigkey.New(name, algorithm, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// named is a running BIND with these zones:
//
//	imaging.example.org      the key may change everything
//	limited.example.org      the key may change A and DHCID
//	readonly.example.org     nobody may change anything
//	2.0.192.in-addr.arpa     the key may change everything
//
// Its first zone has static names: ns1 (A), static (A), alias (CNAME).
type named struct {
	addr   string
	keys   map[string]tsigkey.Key // by algorithm
	path   string
	conf   string // path of named.conf
	output *bytes.Buffer
	cmd    *exec.Cmd
}

func startNamed(t testing.TB) *named {
	t.Helper()
	path, err := exec.LookPath("named")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/named"); err != nil {
			t.Skip("BIND is not installed (Debian package bind9)")
		}
	}
	dir := t.TempDir()
	n := &named{
		addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), keys: make(map[string]tsigkey.Key),
		path: path, conf: filepath.Join(dir, "named.conf"), output: new(bytes.Buffer),
	}
	var conf strings.Builder
	var grants, limited []string
	for _, algorithm := range []string{"hmac-sha256", "hmac-sha384", "hmac-sha512"} {
		k := testKey(t, algorithm+".dhcp.example.org.", algorithm, secret)
		n.keys[algorithm] = k
		if _, err := k.WriteTo(&conf); err != nil {
			t.Fatal(err)
		}
		grants = append(grants, fmt.Sprintf("key %q;", k.Name))
		limited = append(limited, fmt.Sprintf("grant %q zonesub A DHCID;", k.Name))
	}
	_, port, _ := net.SplitHostPort(n.addr)
	fmt.Fprintf(&conf, `
options {
	directory %q;
	pid-file none;
	lock-file none;
	session-keyfile none;
	listen-on port %s { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
	allow-transfer { any; };
	notify no;
};
controls { };
`, dir, port)
	zone := func(name, policy, records string) {
		file := filepath.Join(dir, name+"db")
		text := "$TTL 300\n@ SOA ns1.imaging.example.org. hostmaster.example.org. 1 3600 600 86400 60\n@ NS ns1.imaging.example.org.\n" + records
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&conf, "zone %q { type primary; file %q; %s };\n", name, file, policy)
	}
	all := "allow-update { " + strings.Join(grants, " ") + " };"
	zone("imaging.example.org.", all, "ns1 A 192.0.2.2\nstatic A 192.0.2.3\nalias CNAME static\n")
	zone("limited.example.org.", "update-policy { "+strings.Join(limited, " ")+" };", "")
	zone("readonly.example.org.", "allow-update { none; };", "")
	zone("2.0.192.in-addr.arpa.", all, "")
	if err := os.WriteFile(n.conf, []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("named:\n%s", n.output)
		}
	})
	return n
}

// start starts the server on its files and waits until it answers.
func (n *named) start(t testing.TB) {
	t.Helper()
	n.cmd = exec.Command(n.path, "-g", "-n", "1", "-c", n.conf)
	n.cmd.Stdout, n.cmd.Stderr = n.output, n.output
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		m := new(dns.Msg).SetQuestion("2.0.192.in-addr.arpa.", dns.TypeSOA)
		if r, _, err := (&dns.Client{Timeout: time.Second}).Exchange(m, n.addr); err == nil && r.Rcode == dns.RcodeSuccess {
			return
		}
		if time.Since(start) > patience {
			n.kill()
			t.Fatalf("named does not answer:\n%s", n.output)
		}
	}
}

// kill ends the server as a power cut would.
func (n *named) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

// freePort is a port that nothing listens to by UDP or TCP, below those that the
// kernel gives to clients, one of which could take it before its server.
func freePort(t testing.TB) int {
	t.Helper()
	const lowest, above = 28_000, 30_000 // other packages' tests, at the same time, take others
	for range 100 {
		port := lowest + rand.IntN(above-lowest)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		_ = l.Close()
		if err == nil {
			_ = p.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func (n *named) client(algorithm string) *client {
	return &client{server: n.addr, key: n.keys[algorithm], timeout: patience, tries: 3}
}

// records returns what stands at the name, without TTLs, sorted.
func (n *named) records(t testing.TB, name string) []string {
	t.Helper()
	var got []string
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeDHCID, dns.TypePTR, dns.TypeTXT, dns.TypeCNAME} {
		m := new(dns.Msg).SetQuestion(name, qtype)
		r, _, err := new(dns.Client).Exchange(m, n.addr)
		if err != nil {
			t.Fatal(err)
		}
		for _, rr := range r.Answer {
			if h := rr.Header(); h.Name == name && h.Rrtype == qtype {
				got = append(got, dns.TypeToString[qtype]+" "+strings.TrimPrefix(rr.String(), h.String()))
			}
		}
	}
	sort.Strings(got)
	return got
}

func (n *named) expect(t testing.TB, name string, want ...string) {
	t.Helper()
	sort.Strings(want)
	if got := n.records(t, name); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s has %q, want %q", name, got, want)
	}
}

// update changes the first zone behind the back of the code under test.
func (n *named) update(t testing.TB, change func(m *dns.Msg)) {
	t.Helper()
	m := new(dns.Msg).SetUpdate("imaging.example.org.")
	change(m)
	n.send(t, m)
}

// put has a name of a zone have these records, as records returns them, and no others.
func (n *named) put(t testing.TB, zone, name string, records ...string) {
	t.Helper()
	m := new(dns.Msg).SetUpdate(zone)
	m.RemoveName([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name}}})
	for _, r := range records {
		m.Insert([]dns.RR{mustRR(t, name+" 60 "+r)})
	}
	n.send(t, m)
}

func (n *named) send(t testing.TB, m *dns.Msg) {
	t.Helper()
	r, err := n.client("hmac-sha256").exchange(t.Context(), m)
	if err != nil || r.Rcode != dns.RcodeSuccess {
		t.Fatal(r, err)
	}
}

func mustRR(t testing.TB, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

var (
	clientA = lease.Client{HardwareType: 1, HardwareAddr: "\x00\x00\x5e\x00\x53\x01"}
	clientB = lease.Client{HardwareType: 1, HardwareAddr: "\x00\x00\x5e\x00\x53\x02"}
)

func change(name, addr string, client lease.Client) lease.NameChange {
	return lease.NameChange{Name: name, Address: netip.MustParseAddr(addr), Client: client, LeaseTime: time.Hour, Make: both}
}

func removal(c lease.NameChange) lease.NameChange {
	c.Remove, c.LeaseTime, c.Make, c.Unmake = true, 0, 0, both
	return c
}

func owned(c lease.NameChange) lease.NameChange {
	c.Owned = true
	return c
}

func reverseOf(t testing.TB, addr string) string {
	t.Helper()
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
