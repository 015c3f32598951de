//go:build linux

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// Both resolvers of the example, one after the other.
func runResolver(e example) {
	e.program("unbound")
	e.program("named")
	e.addresses("192.0.2.53", "192.0.2.4", "192.0.2.80")
	// A domain controller, as far as names go.
	writeFile(e.T, e.file("ad.zone"), strings.Join([]string{
		"$TTL 60",
		"@ IN SOA dc1 hostmaster 1 3600 600 86400 60",
		"@ IN NS dc1",
		"dc1 IN A 192.0.2.4",
		"_ldap._tcp IN SRV 0 100 389 dc1",
		"",
	}, "\n"))
	writeFile(e.T, e.file("ad.Corefile"), "ad.example.org {\n bind 192.0.2.4\n file "+e.file("ad.zone")+"\n}\n")
	e.start(e.Server, 53, "coredns", "-conf", e.file("ad.Corefile"))
	e.coredns()
	e.coredhcp()
	resolver := e.start(e.Server, 53, "unbound", "-d", "-c", e.unbound())
	_, got := e.lease(radiology.CT1.Machine)
	if len(got.DNS) != 1 || got.DNS[0] != netip.MustParseAddr("192.0.2.53") {
		e.Errorf("lease %+v", got)
	}
	check := func() {
		e.Helper()
		e.found(e.Client, "192.0.2.53", "192.0.2.11")
		e.asks(e.Client, "192.0.2.53", "_ldap._tcp.ad.example.org.", "SRV", "0 100 389 dc1.ad.example.org.")
	}
	check()
	e.stop(resolver)
	e.named("named.conf")
	check()
	e.asks(e.Client, "192.0.2.53", "www.example.org.", "A", "192.0.2.80")
}

// unbound is its configuration, which the example's lacks what a lab needs of: no
// other user, and no folder of the machine.
func (e example) unbound() string {
	writeFile(e.T, e.file("unbound-lab.conf"), fmt.Sprintf("include: %q\nserver:\n username: \"\"\n chroot: \"\"\n directory: %q\n pidfile: \"\"\n use-syslog: no\nremote-control:\n control-enable: no\n",
		e.file("unbound.conf"), e.Dir))
	return e.file("unbound-lab.conf")
}

func runSplitHorizon(e example) {
	outside, err := e.Attach("outside", netip.Prefix{}, netip.MustParsePrefix("203.0.113.20/24"))
	if err != nil {
		e.Fatal(err)
	}
	e.coredns()
	e.coredhcp()
	e.lease(radiology.CT1.Machine)
	e.found(e.Client, "192.0.2.2", "192.0.2.11")
	e.asks(outside, "192.0.2.2", ct1, "A")
	e.asks(e.Client, "192.0.2.2", "viewer.imaging.example.org.", "A", "192.0.2.7")
	e.asks(outside, "192.0.2.2", "viewer.imaging.example.org.", "A", "203.0.113.7")
}

func runDNSSEC(e example) {
	e.program("delv")
	base := strings.TrimSpace(e.output("dnssec-keygen", "-q", "-K", e.Dir, "-a", "ECDSAP256SHA256", "-f", "KSK", "imaging.example.org"))
	for _, suffix := range []string{".key", ".private"} {
		if err := os.Rename(e.file(base+suffix), e.file("imaging.example.org"+suffix)); err != nil {
			e.Fatal(err)
		}
	}
	key, err := os.ReadFile(e.file("imaging.example.org.key"))
	if err != nil {
		e.Fatal(err)
	}
	var data string
	for line := range strings.Lines(string(key)) {
		if _, after, ok := strings.Cut(line, " DNSKEY "); ok && !strings.HasPrefix(line, ";") {
			data = strings.TrimSpace(after)
		}
	}
	f := strings.Fields(data)
	if len(f) < 4 {
		e.Fatalf("no key in %s", key)
	}
	anchor := fmt.Sprintf("trust-anchors { imaging.example.org. static-key %s %s %s %q; };\n", f[0], f[1], f[2], strings.Join(f[3:], ""))
	writeFile(e.T, e.file("anchor.conf"), anchor)
	e.coredns()
	e.coredhcp()
	delv := func(name, qtype, want string) {
		e.Helper()
		out := e.output("delv", "@192.0.2.2", "-a", e.file("anchor.conf"), "+root=imaging.example.org", name, qtype)
		if !strings.Contains(out, want) || !strings.Contains(out, "fully validated") {
			e.Errorf("delv %s %s: expected %q, fully validated:\n%s", name, qtype, want, out)
		}
	}
	delv("viewer.imaging.example.org", "A", "192.0.2.7")
	delv(ct1, "A", "negative response")
	e.lease(radiology.CT1.Machine)
	e.found(e.Client, "192.0.2.2", "192.0.2.11")
	delv(ct1, "A", "192.0.2.11")
	delv(service, "SRV", "0 0 104 ct1.imaging.example.org.")
}

// The same clients, the same addresses, the same names: before and after.
func runFromDnsmasq(e example) {
	old := e.start(e.Server, 67, "dnsmasq", "-k", "-C", e.file("old-dnsmasq.conf"), "--user=root", "--group=root", "--pid-file="+e.file("dnsmasq.pid"))
	e.migrate("dnsmasq", old)
}

func runFromDHCPD(e example) {
	names := e.named("old-named.conf")
	writeFile(e.T, e.file("dhcpd.leases"), "")
	old := e.start(e.Server, 67, "dhcpd", "-4", "-f", "-d", "-cf", e.file("old-dhcpd.conf"), "-lf", e.file("dhcpd.leases"), "-pf", e.file("dhcpd.pid"), "eth0")
	e.migrate("dhcpd", old, names)
}

// migrate gives machines leases of the old servers, changes over with what they have
// written, and has the machines ask again. A machine that was not there before must
// not get what they hold.
func (e example) migrate(format string, old ...*lab.Process) {
	e.Helper()
	machines := []lab.Machine{radiology.CT1.Machine, radiology.MR1.Machine, radiology.Guest(0x10, "reading7")}
	held := make([]netip.Addr, len(machines))
	for n, m := range machines {
		c, got := e.lease(m)
		c.Kill()
		held[n] = got.Address
	}
	if held[0] != radiology.CT1.Address || held[1] == held[2] {
		e.Errorf("the old server gave %s", held)
	}
	e.asks(e.Server, "192.0.2.2", ct1, "A", "192.0.2.11")
	e.asks(e.Server, "192.0.2.2", "oldmr.imaging.example.org.", "A", "192.0.2.20")
	for _, p := range old {
		e.stop(p)
	}
	e.output("dicomnam", "import", e.file(format+".leases"), "--leases", format, "--site", e.file("site.yaml"), "--database", e.file("leases"))
	e.coredns()
	e.coredhcp()
	// Names are there before their machines ask.
	e.found(e.Server, "192.0.2.2", "192.0.2.11")
	e.asks(e.Server, "192.0.2.2", guestHost, "A", held[2].String())
	e.asks(e.Server, "192.0.2.2", "oldmr.imaging.example.org.", "A", "192.0.2.20")
	c, got := e.lease(radiology.Guest(0x20, "newcomer"))
	c.Kill()
	if slices.Contains(held, got.Address) {
		e.Errorf("%s was given to another machine", got.Address)
	}
	for n, m := range machines {
		c, got := e.lease(m)
		c.Kill()
		if got.Address != held[n] {
			e.Errorf("%s has %s, had %s", m.MAC, got.Address, held[n])
		}
	}
}

// What dynupdate holds is what dicom answers, with one word changed.
func runFromDynupdate(e example) {
	e.program("nsupdate")
	e.addresses("192.0.2.53")
	var keys string
	for _, key := range []string{"acme", "admin"} {
		e.output("dicomnam", "keygen", key+".example.org.", "--output", e.file(key+".keys"))
		data, err := os.ReadFile(e.file(key + ".keys"))
		if err != nil {
			e.Fatal(err)
		}
		keys += string(data)
	}
	writeFile(e.T, e.file("tsig.keys"), keys)
	update := func(key string, lines ...string) {
		e.Helper()
		script := "server 192.0.2.2\nzone example.org\n" + strings.Join(lines, "\n") + "\nsend\n"
		writeFile(e.T, e.file("update.txt"), script)
		e.output("nsupdate", "-k", e.file(key+".keys"), e.file("update.txt"))
	}
	zone := func() string {
		e.Helper()
		return e.output("dig", "-r", "@192.0.2.2", "-b", "192.0.2.53", "+noall", "+answer", "+onesoa", "AXFR", "example.org")
	}
	old := e.theirs("old-Corefile")
	update("admin", "update add ws7.example.org 300 A 192.0.2.107", "update delete www.example.org")
	update("acme", "update add _acme-challenge.example.org 60 TXT token")
	before := zone()
	if !strings.Contains(before, "192.0.2.107") {
		e.Fatalf("the old zone:\n%s", before)
	}
	e.stop(old)
	e.coredns()
	e.asks(e.Server, "192.0.2.2", "ws7.example.org.", "A", "192.0.2.107")
	if after := zone(); sorted(after) != sorted(before) {
		e.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if _, err := os.Stat(e.file("example.org.db.dynupdate-v1")); err != nil {
		e.Error(err)
	}
	update("acme", "update delete _acme-challenge.example.org TXT")
	e.asks(e.Server, "192.0.2.2", "_acme-challenge.example.org.", "TXT")
}

// theirs is CoreDNS with none of our plugins, where it can be built; else ours, in
// which dynupdate is the same.
func (e example) theirs(conf string) *lab.Process {
	e.Helper()
	if mode != lab.Namespaces {
		return e.start(e.Server, 53, "coredns", "-conf", e.file(conf))
	}
	p, err := e.Start(e.Server, lab.Command{Name: "theirs", Path: theForeign(e.T, "stock").program, Args: []string{"-conf", e.file(conf)}})
	if err != nil {
		e.Fatal(err)
	}
	if err := p.WaitUDP(timeout(e.T, patience), 53); err != nil {
		e.Fatal(err)
	}
	return p
}

// sorted is a zone with its lines in order, and white space made one.
func sorted(zone string) string {
	var lines []string
	for line := range strings.Lines(zone) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
