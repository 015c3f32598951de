//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// zoneFile is the two zones at first.
const zoneFile = "$TTL 300\n@ SOA ns1.example.org. hostmaster.example.org. 1 3600 600 86400 60\n@ NS ns1.example.org.\n"

var nameZones = []string{"imaging.example.org", "2.0.192.in-addr.arpa"}

// namePeers are the servers of others that names are sent to. Each writes its files and says how it is started.
var namePeers = map[string]func(t *testing.T, n *nameServers, key tsigkey.Key) lab.Command{
	"named": func(_ *testing.T, n *nameServers, _ tsigkey.Key) lab.Command {
		conf := fmt.Sprintf(`include "%[1]s/tsig.keys";
options {
    directory "%[1]s";
    pid-file none;
    lock-file none;
    session-keyfile none;
    listen-on port %[2]d { 127.0.0.1; };
    listen-on-v6 { none; };
    recursion no;
    dnssec-validation no;
    allow-transfer { any; };
    notify no;
};
controls { };
`, n.lab.Dir, n.at.Port())
		for _, zone := range nameZones {
			n.write(zone+".zone", zoneFile)
			conf += fmt.Sprintf("zone %q { type primary; file %q; allow-update { key %q; }; };\n", zone, zone+".zone", namesKey)
		}
		n.write("named.conf", conf)
		return lab.Command{Name: "named", Args: []string{"-g", "-n", "1", "-c", filepath.Join(n.lab.Dir, "named.conf")}}
	},
	"knotd": func(_ *testing.T, n *nameServers, key tsigkey.Key) lab.Command {
		conf := fmt.Sprintf(`server:
    rundir: %[1]s
    listen: 127.0.0.1@%[2]d
    pidfile: %[1]s/knot.pid
database:
    storage: %[1]s
log:
  - target: stderr
    any: warning
key:
  - id: %[3]s
    algorithm: hmac-sha256
    secret: %[4]s
acl:
  - id: update
    key: %[3]s
    action: update
  - id: transfer
    action: transfer
zone:
`, n.lab.Dir, n.at.Port(), namesKey, key.Secret())
		for _, zone := range nameZones {
			n.write(zone+".zone", zoneFile)
			conf += fmt.Sprintf("  - domain: %s\n    storage: %s\n    file: %s.zone\n    zonefile-load: whole\n    zonefile-sync: -1\n    acl: [update, transfer]\n", zone, n.lab.Dir, zone)
		}
		n.write("knot.conf", conf)
		return lab.Command{Name: "knotd", Args: []string{"-c", filepath.Join(n.lab.Dir, "knot.conf")}}
	},
	"pdns_server": func(t *testing.T, n *nameServers, key tsigkey.Key) lab.Command {
		needs(t, "sqlite3")
		needs(t, "pdnsutil")
		dir := n.lab.Dir
		n.write("pdns.conf", fmt.Sprintf(`launch=gsqlite3
gsqlite3-database=%[1]s/pdns.sqlite3
local-address=127.0.0.1
local-port=%[2]d
socket-dir=%[1]s
dnsupdate=yes
allow-axfr-ips=127.0.0.0/8
disable-axfr=no
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
guardian=no
daemon=no
`, dir, n.at.Port()))
		run := func(program string, args ...string) {
			t.Helper()
			path, err := lab.LookPath(program)
			if err == nil {
				_, err = n.lab.Output(timeout(t, patience), n.on, path, args...)
			}
			if err != nil {
				t.Fatalf("%s %q: %v", program, args, err)
			}
		}
		util := func(args ...string) { t.Helper(); run("pdnsutil", append([]string{"--config-dir=" + dir}, args...)...) }
		run("sqlite3", filepath.Join(dir, "pdns.sqlite3"), ".read /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
		util("import-tsig-key", "dhcp.imaging.example.org", "hmac-sha256", key.Secret())
		for _, zone := range nameZones {
			n.write(zone+".zone", zoneFile)
			util("load-zone", zone, filepath.Join(dir, zone+".zone"))
			util("set-meta", zone, "TSIG-ALLOW-DNSUPDATE", "dhcp.imaging.example.org")
			util("set-meta", zone, "ALLOW-DNSUPDATE-FROM", "127.0.0.0/8")
		}
		return lab.Command{Name: "pdns_server", Args: []string{"--config-dir=" + dir}}
	},
}

// Names reach the servers of others, also over a kill of each side. At the end DNS shows exactly the leases.
func TestNamesAtPeers(t *testing.T) {
	t.Parallel()
	for program, prepare := range namePeers {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			path, err := lab.LookPath(program)
			if err != nil {
				t.Skipf("%s is not installed", program)
			}
			n := newNameServers(t, rand.Uint64())
			keys, err := tsigkey.Load(n.keys)
			if err != nil {
				t.Fatal(err)
			}
			n.dns = prepare(t, n, keys[0])
			n.dns.Path, n.dns.Dir = path, n.lab.Dir
			n.startDNS()
			n.start()
			n.awaitDNS()
			n.load(2 * time.Second)
			names, took := n.converge(patience)
			t.Logf("%d names in %s", names, took)
			n.running.Kill()
			n.load(500 * time.Millisecond)
			n.process.Kill()
			n.startDNS()
			n.start()
			n.converge(2 * patience)
			for _, w := range n.workers {
				for _, c := range w.clients {
					if c.held.IsValid() {
						if err := w.release(c); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			time.Sleep(100 * time.Millisecond)
			n.converge(patience)
			if _, err := os.Stat(n.database); err != nil {
				t.Error(err)
			}
		})
	}
}

// awaitDNS waits until the name server answers.
func (n *nameServers) awaitDNS() {
	n.t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		m := new(dns.Msg).SetQuestion("imaging.example.org.", dns.TypeSOA)
		if r, _, err := (&dns.Client{Timeout: time.Second}).Exchange(m, n.at.String()); err == nil && len(r.Answer) > 0 {
			return
		}
		if time.Since(begin) > patience {
			n.t.Fatalf("no answer\n%s", n.running.Tail(20))
		}
	}
}
