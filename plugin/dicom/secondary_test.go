package dicom

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/coredns/coredns/plugin/secondary"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// peer is a secondary of another make.
type peer struct {
	name  string
	whole bool // it knows no incremental transfers
	// launch starts it for the zone, with a file for what it logs.
	launch func(t *testing.T, dir string, port int, primary string, log *os.File)
}

// program returns the path of a server, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path = "/usr/sbin/" + name; !exists(path) {
			t.Skipf("%s is not installed", name)
		}
	}
	return path
}

// launch runs a program until the test ends.
func launch(t *testing.T, log *os.File, env []string, path string, args ...string) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// How it ends says nothing, and it may have ended by itself.
		_ = cmd.Process.Signal(os.Interrupt)
		ended := time.AfterFunc(3*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		ended.Stop()
	})
}

var peers = []peer{
	{"named", false, func(t *testing.T, dir string, port int, primary string, log *os.File) {
		host, p, _ := net.SplitHostPort(primary)
		conf := fmt.Sprintf(`options {
	directory "%s"; pid-file none; session-keyfile none; lock-file none;
	listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; notify no; allow-transfer { any; }; empty-zones-enable no;
	serial-query-rate 1000; check-names secondary ignore;
};
controls { };
key "%s" { algorithm hmac-sha256; secret "%s"; };
zone "imaging.example.org" { type secondary; file "zone"; masterfile-format text; primaries { %s port %s key "%s"; }; min-refresh-time 1; };
`, dir, port, key, secret, host, p, key)
		launch(t, log, nil, program(t, "named"), "-g", "-n", "1", "-c", write(t, dir, "named.conf", conf))
	}},
	{"knotd", false, func(t *testing.T, dir string, port int, primary string, log *os.File) {
		host, p, _ := net.SplitHostPort(primary)
		if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
			t.Fatal(err)
		}
		conf := fmt.Sprintf(`server:
    rundir: "%[1]s"
    listen: 127.0.0.1@%[2]d
log:
  - target: stderr
    any: info
database:
    storage: "%[1]s/db"
key:
  - id: %[3]s
    algorithm: hmac-sha256
    secret: %[4]s
remote:
  - id: primary
    address: %[5]s@%[6]s
    key: %[3]s
acl:
  - id: notify
    action: notify
    address: 127.0.0.0/8
  - id: read
    action: transfer
    address: 127.0.0.0/8
zone:
  - domain: imaging.example.org
    storage: "%[1]s"
    master: primary
    acl: [notify, read]
`, dir, port, key, secret, host, p)
		launch(t, log, nil, program(t, "knotd"), "-c", write(t, dir, "knot.conf", conf))
	}},
	{"nsd", false, func(t *testing.T, dir string, port int, primary string, log *os.File) {
		host, p, _ := net.SplitHostPort(primary)
		conf := fmt.Sprintf(`server:
	ip-address: 127.0.0.1@%[2]d
	username: ""
	chroot: ""
	zonesdir: "%[1]s"
	database: ""
	xfrdfile: "%[1]s/xfrd.state"
	xfrdir: "%[1]s"
	zonelistfile: "%[1]s/zone.list"
	pidfile: ""
	verbosity: 3
	server-count: 1
	xfrd-reload-timeout: 1
remote-control:
	control-enable: no
zone:
	name: imaging.example.org
	zonefile: "zone"
	allow-notify: 127.0.0.1 NOKEY
	request-xfr: %[3]s@%[4]s NOKEY
	provide-xfr: 127.0.0.1 NOKEY
`, dir, port, host, p)
		launch(t, log, nil, program(t, "nsd"), "-d", "-c", write(t, dir, "nsd.conf", conf))
	}},
	{"secondary", true, func(t *testing.T, dir string, port int, primary string, log *os.File) {
		corefile := write(t, dir, "Corefile", fmt.Sprintf(`imaging.example.org:%d {
	bind 127.0.0.1
	errors
	transfer {
		to *
	}
	secondary {
		transfer from %s
	}
}
`, port, primary))
		launch(t, log, []string{corefileEnv + "=" + corefile}, os.Args[0])
	}},
}

// contentOf reads the zone from a server by AXFR: its records, in order, names in
// lower case, as some servers keep them.
func contentOf(address string) ([]string, error) {
	tr := &dns.Transfer{DialTimeout: patience, ReadTimeout: patience}
	ch, err := tr.In(new(dns.Msg).SetAxfr(domain), address)
	if err != nil {
		return nil, err
	}
	var all []string
	for e := range ch {
		if e.Error != nil {
			return nil, e.Error
		}
		for _, rr := range e.RR {
			wire := make([]byte, dns.Len(rr)+1)
			n, err := dns.PackRR(rr, wire, 0, nil, false)
			if err != nil {
				return nil, err
			}
			all = append(all, string(bytes.ToLower(wire[:n])))
		}
	}
	slices.Sort(all)
	return all, nil
}

func serialAt(address string) (uint32, bool) {
	c := &dns.Client{Timeout: time.Second}
	r, _, err := c.Exchange(new(dns.Msg).SetQuestion(domain, dns.TypeSOA), address)
	if err != nil || len(r.Answer) != 1 {
		return 0, false
	}
	soa, ok := r.Answer[0].(*dns.SOA)
	if !ok {
		return 0, false
	}
	return soa.Serial, true
}

// shortDir is a temporary directory with a short path: a peer has Unix sockets in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dicom") //nolint:usetesting // its paths have the name of the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestSecondaries: real secondaries follow 10,000 updates and end with the same
// octets, and those that know incremental transfers got them.
func TestSecondaries(t *testing.T) {
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			dir := shortDir(t)
			port := freePort(t)
			address := fmt.Sprintf("127.0.0.1:%d", port)
			home := t.TempDir()
			// One port for both networks: named asks by UDP first.
			s := start(t, strings.ReplaceAll(block(fmt.Sprintf("site %s\ndatabase %s\nallow %s * *", write(t, home, "site.yaml", siteYAML), filepath.Join(home, "zones"), key),
				fmt.Sprintf("transfer {\n\t\tto %s\n\t\tto *\n\t}", address)), ":0", fmt.Sprintf(":%d", freePort(t))))
			sent := func(kind string) int { return int(testutil.ToFloat64(transfers.WithLabelValues(domain, kind))) }
			for i := range 4 { // so that differences are smaller than the zone
				var many []string
				for k := range 500 {
					many = append(many, fmt.Sprintf("old%d-%d.imaging.example.org. 300 A 198.51.100.%d", i, k, k%250+1))
				}
				s.update(t, dns.RcodeSuccess, domain, many...)
			}
			first := s.serial(t, domain)
			whole, differences := sent("axfr"), sent("ixfr")
			log, err := os.Create(filepath.Join(dir, "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			said := func() string {
				text, _ := os.ReadFile(log.Name())
				return string(text)
			}
			t.Cleanup(func() {
				if t.Failed() {
					text := said()
					t.Logf("%s:\n%s", p.name, text[max(0, len(text)-6000):])
				}
			})
			p.launch(t, dir, port, s.address("tcp"), log)
			follow := func(want uint32) {
				t.Helper()
				for deadline := time.Now().Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
					got, _ := serialAt(address)
					if got == want {
						return
					}
					if time.Now().After(deadline) {
						t.Fatalf("serial %d, want %d", got, want)
					}
				}
			}
			follow(first)

			const updates, clients = 10_000, 48
			// Not as fast as it goes, so that the journal reaches back to what a busy
			// secondary has; many at a time all the same.
			const pace, most = 800 * time.Microsecond, 1000
			began := time.Now()
			var ahead atomic.Bool // by more than most of what the secondary has
			written := make(chan struct{})
			var wg, watch sync.WaitGroup
			watch.Go(func() {
				var last uint32
				for deadline := time.Now().Add(3 * patience); ; {
					select {
					case <-written:
						return
					case <-time.After(20 * time.Millisecond):
					}
					theirs, ok := serialAt(address)
					ours, too := serialAt(s.address("udp"))
					if ok && too {
						ahead.Store(ours-theirs > most)
					}
					if ok && theirs != last { // it goes on
						last, deadline = theirs, time.Now().Add(3*patience)
					}
					if time.Now().After(deadline) {
						t.Errorf("the secondary stays behind: serial %d, want %d", theirs, ours)
						ahead.Store(false)
						return
					}
				}
			})
			for c := range clients {
				wg.Go(func() {
					for i := c; i < updates; i += clients {
						time.Sleep(time.Until(began.Add(time.Duration(i/clients*clients) * pace)))
						for ahead.Load() {
							time.Sleep(time.Millisecond)
						}
						name := fmt.Sprintf("h%d.imaging.example.org.", i*7%300)
						change := change(t, domain, fmt.Sprintf("!%s A", name), fmt.Sprintf("%s %d A 192.0.2.%d", name, 60+i%3, i%250+1))
						switch i % 5 {
						case 0:
							change.RemoveName([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: fmt.Sprintf("h%d.imaging.example.org.", i*11%300)}}})
						case 1:
							change.Insert([]dns.RR{rr(t, name+" 60 TXT \""+strconv.Itoa(i)+"\""), rr(t, "ct1.imaging.example.org. 300 A 192.0.2.11")})
						case 2:
							change.RemoveName([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: "ct1.imaging.example.org."}}})
						}
						if r := s.exchange(t, "udp", change, key, secret); r.Rcode != dns.RcodeSuccess {
							t.Errorf("update %d: %s", i, dns.RcodeToString[r.Rcode])
							return
						}
					}
				})
			}
			wg.Wait()
			close(written)
			watch.Wait()
			serial := s.serial(t, domain)
			if serial < first+updates*3/4 {
				t.Errorf("serials %d to %d", first, serial)
			}
			follow(serial)
			whole, differences = sent("axfr")-whole, sent("ixfr")-differences
			t.Logf("%d incremental transfers, %d of the whole zone", differences, whole)
			// nsd 4.6 asks for all when a NOTIFY comes while it reloads ("soa serial
			// N update failed, restarting transfer").
			if incremental := differences >= 5 && whole <= max(1, differences/2) || p.name == "nsd" && differences > 0; incremental == p.whole {
				t.Error("the wrong kind of transfers")
			}
			ours, err := contentOf(s.address("tcp"))
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := contentOf(address)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ours, theirs) {
				t.Errorf("zones differ: %d and %d records", len(ours), len(theirs))
			}
		})
	}
}
