//go:build linux

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// A device's name lies in a zone that the domain's server delegates to another one. It is updated there: where the
// configuration says, else where resolvers find it.
func TestNamesInDelegatedZone(t *testing.T) {
	t.Parallel()
	needs(t, "named")
	const child = "radiology.imaging.example.org"
	for name, servers := range map[string]string{
		"server of the zone": "server=192.0.2.2 server=" + child + "=127.0.0.1",
		"resolver":           "server=192.0.2.2 resolver=127.0.0.1",
		"no server":          "resolver=127.0.0.1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			n := newNetwork(t, l, radiology.Options{})
			write := func(name, content string) string {
				t.Helper()
				path := filepath.Join(l.Dir, name)
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
				return path
			}
			path, err := lab.LookPath("named")
			if err != nil {
				t.Fatal(err)
			}
			start := func(name, address, options, zones string) {
				t.Helper()
				dir := filepath.Join(l.Dir, name)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				conf := write(name+"/named.conf", fmt.Sprintf(`include %q;
options {
    directory %q;
    pid-file none;
    lock-file none;
    session-keyfile none;
    listen-on port 53 { %s; };
    listen-on-v6 { none; };
    dnssec-validation no;
    notify no;
    %s
};
controls { };
%s`, n.Keys, dir, address, options, zones))
				p, err := l.Start(l.Server, lab.Command{Name: name, Path: path, Args: []string{"-g", "-n", "1", "-c", conf}, Dir: dir})
				if err == nil {
					err = p.WaitUDP(timeout(t, patience), 53)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			zone := func(server, name, mname, more string) string {
				t.Helper()
				write(server+"-"+name+".zone", fmt.Sprintf("$TTL 300\n@ SOA %s. hostmaster.example.org. 1 3600 600 86400 60\n@ NS %[1]s.\n%s", mname, more))
				return fmt.Sprintf("zone %q { type primary; file %q; allow-update { key %q; }; };\n", name, filepath.Join(l.Dir, server+"-"+name+".zone"), radiology.Key)
			}
			start("parent", "192.0.2.2", "recursion no;",
				zone("parent", "imaging.example.org", "ns1.imaging.example.org", "ns1.radiology A 127.0.0.1\nns1 A 192.0.2.2\nradiology NS ns1.radiology\n")+
					zone("parent", "2.0.192.in-addr.arpa", "ns1.imaging.example.org", ""))
			start("child", "127.0.0.1", "recursion yes; allow-recursion { any; }; forward only; forwarders { 192.0.2.2; };",
				zone("child", child, "ns1."+child, "ns1 A 127.0.0.1\n"))

			write("site.yaml", `domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}
devices:
  - {name: ct1, type: CT, hardware-address: 00:00:5e:00:53:01, address: 192.0.2.11, hostname: ct1.radiology}
`)
			write("config.yml", fmt.Sprintf(`server4:
  listen: ["%%%s"]
  plugins:
    - server_id: 192.0.2.2
    - leases: site=%s database=%s/leases
    - ddns: site=%[2]s keys=%[4]s key=%[5]s %[6]s
`, lab.Link, n.Site, l.Dir, n.Keys, radiology.Key, servers))
			if err := n.StartDHCP(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
			client, got := lease(t, l, lab.Builtin, radiology.CT1.Machine)
			if got.Address != radiology.CT1.Address {
				t.Fatalf("%+v", got)
			}
			await := func(wanted func(*dns.Msg) bool, at, name string, qtype uint16) {
				t.Helper()
				r := l.Server.Resolver(netip.AddrPortFrom(netip.MustParseAddr(at), 53))
				defer r.Close()
				if _, _, err := r.Await(timeout(t, patience), name, qtype, wanted); err != nil {
					t.Fatalf("%v\n%s", err, n.DHCPServer.Tail(10))
				}
			}
			await(lab.Present, "127.0.0.1", "ct1."+child+".", dns.TypeA)
			await(lab.Present, "192.0.2.2", "11.2.0.192.in-addr.arpa.", dns.TypePTR)
			if err := client.Release(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
			await(lab.Absent, "127.0.0.1", "ct1."+child+".", dns.TypeA)
			await(lab.Absent, "192.0.2.2", "11.2.0.192.in-addr.arpa.", dns.TypePTR)
		})
	}
}
