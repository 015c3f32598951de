//go:build linux

package integration

import (
	"bytes"
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// A formerServer is the DHCP server that a site had before.
type formerServer struct {
	name    string // default format
	format  string // of its leases, as dicomnam import has it
	program string
	file    string // with its leases
	conf    string // template of its configuration
	args    []string
	settled string // a file beside the leases that the server makes in time, and that is waited for
	named   bool   // names are published before clients renew: it keeps client identifiers
}

var formerServers = []formerServer{
	{
		format: "kea", program: "kea-dhcp4", file: "kea-leases4.csv", named: true, args: []string{"-c", "{{.Conf}}"},
		conf: `{"Dhcp4": {"interfaces-config": {"interfaces": ["{{.Link}}"]},
			"lease-database": {"type": "memfile", "persist": true, "name": "{{.File}}", "lfc-interval": 0},
			"valid-lifetime": 3600, "subnet4": [{"id": 1, "subnet": "{{.Subnet}}", "pools": [{"pool": "{{.First}}-{{.Last}}"}]}]}}`,
	},
	{
		name: "kea, cleaned up", format: "kea", program: "kea-dhcp4", file: "kea-leases4.csv", settled: "kea-leases4.csv.2", named: true, args: []string{"-c", "{{.Conf}}"},
		conf: `{"Dhcp4": {"interfaces-config": {"interfaces": ["{{.Link}}"]},
			"lease-database": {"type": "memfile", "persist": true, "name": "{{.File}}", "lfc-interval": 1},
			"valid-lifetime": 3600, "subnet4": [{"id": 1, "subnet": "{{.Subnet}}", "pools": [{"pool": "{{.First}}-{{.Last}}"}]}]}}`,
	},
	{
		format: "dhcpd", program: "dhcpd", file: "dhcpd.leases", named: true,
		args: []string{"-4", "-f", "-d", "-cf", "{{.Conf}}", "-lf", "{{.File}}", "-pf", "{{.Dir}}/dhcpd.pid", "{{.Link}}"},
		conf: "default-lease-time 3600;\nmax-lease-time 3600;\nauthoritative;\nsubnet 192.0.2.0 netmask 255.255.255.0 { range {{.First}} {{.Last}}; }\n",
	},
	{
		format: "dnsmasq", program: "dnsmasq", file: "dnsmasq.leases", named: true,
		args: []string{"-k", "-C", "{{.Conf}}"},
		conf: "port=0\nuser=root\ninterface={{.Link}}\nbind-interfaces\ndhcp-authoritative\ndhcp-range={{.First}},{{.Last}},1h\ndhcp-leasefile={{.File}}\nlog-facility=-\npid-file=\n",
	},
	{
		format: "range", program: "coredhcp", file: "leases.sqlite3", args: []string{"--conf", "{{.Conf}}"},
		conf: "server4:\n  listen: [\"%{{.Link}}\"]\n  plugins:\n    - server_id: {{.Server}}\n    - netmask: 255.255.255.0\n    - range: {{.File}} {{.First}} {{.Last}} 1h\n",
	},
}

// start starts the server, whose pool is a part of ours that ours would not begin with.
func (f *formerServer) start(t *testing.T, l *lab.Lab) *lab.Process {
	t.Helper()
	path := f.program
	if f.program == "coredhcp" {
		path = filepath.Join(binaries(t), path)
	} else {
		needs(t, path)
		if err := lab.Confined(path); err != nil {
			t.Skip(err)
		}
	}
	dir := filepath.Join(l.Dir, "former")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	values := map[string]any{
		"Dir": dir, "Conf": filepath.Join(dir, "conf.yml"), "File": filepath.Join(dir, f.file), "Link": lab.Link,
		"Subnet": radiology.Server.Masked(), "Server": radiology.Server.Addr(), "First": "192.0.2.150", "Last": "192.0.2.160",
	}
	fill := func(text string) string {
		var b bytes.Buffer
		if err := template.Must(template.New(f.format).Parse(text)).Execute(&b, values); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	writeFile(t, fill("{{.Conf}}"), fill(f.conf))
	if f.format == "dhcpd" {
		writeFile(t, fill("{{.File}}"), "")
	}
	var args []string
	for _, a := range f.args {
		args = append(args, fill(a))
	}
	p, err := l.Start(l.Server, lab.Command{Name: "former", Path: path, Args: args, Env: []string{"KEA_PIDFILE_DIR=" + dir, "KEA_LOCKFILE_DIR=" + dir}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitUDP(timeout(t, patience), 67); err != nil {
		t.Fatalf("%v\n%s", err, p.Tail(10))
	}
	return p
}

// A site changes its DHCP server: the leases of the old one go into the database
// of the new one, its clients renew and never notice, and nobody else gets what
// they have.
func TestFormerServer(t *testing.T) {
	t.Parallel()
	for _, f := range formerServers {
		t.Run(cmp.Or(f.name, f.format), func(t *testing.T) {
			t.Parallel()
			if err := lab.Udhcpc.Check(); err != nil {
				t.Skip(err)
			}
			l := newLab(t)
			n := newNetwork(t, l, radiology.Options{})
			former := f.start(t, l)
			gone, first := lease(t, l, lab.Builtin, radiology.Guest(0x20, "gone"))
			gone.Kill()
			client, got := lease(t, l, lab.Udhcpc, radiology.Guest(0x10, "reading7"))
			low, high := netip.MustParseAddr("192.0.2.150"), netip.MustParseAddr("192.0.2.160")
			for _, a := range []netip.Addr{first.Address, got.Address} {
				if a.Less(low) || high.Less(a) {
					t.Fatalf("the former server gave %s, expected one of its pool", a)
				}
			}
			if f.settled != "" {
				for ctx := timeout(t, patience); ; time.Sleep(20 * time.Millisecond) {
					if data, err := os.ReadFile(filepath.Join(l.Dir, "former", f.settled)); err == nil && bytes.Contains(data, []byte(got.Address.String())) {
						break
					}
					if ctx.Err() != nil {
						t.Fatalf("%s is not written:\n%s", f.settled, former.Tail(10))
					}
				}
			}
			if err := former.Stop(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(l.Dir, "former", f.file)
			out, err := l.Output(timeout(t, patience), l.Server, "sh", "-c", `exec "$@" 2>&1`, "sh", filepath.Join(binaries(t), "dicomnam"),
				"import", file, "--leases", f.format, "--site", n.Site, "--database", filepath.Join(l.Dir, "leases"))
			if err != nil || !strings.Contains(string(out), ": 2 leases: 2 taken over, 0 were there already, 0 not taken over") {
				content, _ := os.ReadFile(file)
				t.Fatalf("%v\n%s\n%.2000s", err, out, content)
			}
			if err := n.Start(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
			name := question{guestHost, dns.TypeA}
			if f.named {
				await(t, n, lab.Present, name)
			}
			again, err := client.Renew(timeout(t, patience))
			if err != nil || again.Address != got.Address {
				t.Fatalf("renewed: %v, %v; expected %s\n%s", again.Address, err, got.Address, n.DHCPServer.Tail(10))
			}
			await(t, n, lab.Present, names(t, guestHost, got)...)
			client.Kill()
			back, second := lease(t, l, lab.Builtin, radiology.Guest(0x20, "gone"))
			if second.Address != first.Address {
				t.Errorf("a machine that had %s and asks anew got %s", first.Address, second.Address)
			}
			back.Kill()
			_, other := lease(t, l, lab.Builtin, radiology.Guest(0x11, "stranger"))
			if other.Address == got.Address || other.Address == first.Address {
				t.Errorf("%s was given out twice", other.Address)
			}
		})
	}
}
