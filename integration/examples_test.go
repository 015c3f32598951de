//go:build linux

package integration

import (
	"context"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	examples "github.com/dicomnam/dicomnam/corefile-examples"
	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// An example is one of corefile-examples in a lab: its files as they stand there,
// but for the folders, which are all the lab's.
type example struct {
	*testing.T
	*lab.Lab
}

// The scenarios, by folder. clinic is what package radiology runs, and most tests.
var scenarios = map[string]struct {
	server string // address of the lab's server end
	run    func(example)
}{
	"relays":         {"198.51.100.1/24", runRelays},
	"kea":            {"192.0.2.2/24", runKea},
	"bind":           {"192.0.2.2/24", runBIND},
	"secondaries":    {"192.0.2.2/24", runSecondaries},
	"resolver":       {"192.0.2.2/24", runResolver},
	"split-horizon":  {"192.0.2.2/24", runSplitHorizon},
	"dnssec":         {"192.0.2.2/24", runDNSSEC},
	"from-dnsmasq":   {"192.0.2.2/24", runFromDnsmasq},
	"from-dhcpd":     {"192.0.2.2/24", runFromDHCPD},
	"from-dynupdate": {"192.0.2.2/24", runFromDynupdate},
}

// Every example starts and does what its README says.
func TestExamples(t *testing.T) {
	t.Parallel()
	folders, err := fs.ReadDir(examples.Files, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if _, ok := scenarios[f.Name()]; !ok && f.Name() != "clinic" {
			t.Errorf("the example %s is run by no test", f.Name())
		}
		if _, err := fs.Stat(examples.Files, f.Name()+"/README.md"); err != nil {
			t.Error(err)
		}
	}
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if mode == lab.Loopback {
				t.Skipf("no network namespaces here: %s", strings.Join(reasons, "; "))
			}
			l, err := lab.New(lab.Config{Mode: mode, Server: netip.MustParsePrefix(s.server), Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				if t.Failed() {
					logState(t, l)
				}
			})
			e := example{t, l}
			e.copy(name)
			s.run(e)
		})
	}
}

// folders are those that the examples name.
var folders = []string{
	"/etc/dicomnam", "/var/lib/dicomnam", "/etc/bind", "/var/lib/bind", "/var/lib/nsd", "/var/lib/knot", "/run/knot",
	"/var/lib/kea", "/etc/coredns", "/var/lib/coredns", "/etc/dhcp", "/var/lib/misc",
}

// copy writes an example's files, those of old/ as old-NAME, and makes its key.
func (e example) copy(name string) {
	e.Helper()
	var replace []string
	for _, f := range folders {
		replace = append(replace, f, e.Dir)
	}
	r := strings.NewReplacer(replace...)
	err := fs.WalkDir(examples.Files, name, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := examples.Files.ReadFile(file)
		if err != nil {
			return err
		}
		to := path.Base(file)
		if path.Base(path.Dir(file)) == "old" && !strings.HasSuffix(to, ".zone") {
			to = "old-" + to
		}
		return os.WriteFile(filepath.Join(e.Dir, to), []byte(r.Replace(string(text))), 0o644)
	})
	if err != nil {
		e.Fatal(err)
	}
	if _, err := os.Stat(e.file("tsig.keys")); err == nil {
		return
	}
	e.output("dicomnam", "keygen", radiology.Key, "--output", e.file("tsig.keys"))
}

func (e example) file(name string) string { return filepath.Join(e.Dir, name) }

// program is one of ours, or of the machine.
func (e example) program(name string) string {
	e.Helper()
	if slices.Contains([]string{"coredns", "coredhcp", "dicomnam"}, name) {
		return filepath.Join(binaries(e.T), name)
	}
	needs(e.T, name)
	if err := lab.Confined(name); err != nil {
		e.Skip(err)
	}
	return name
}

// output runs a program in the server's namespace to its end.
func (e example) output(name string, args ...string) string {
	e.Helper()
	out, err := e.Output(timeout(e.T, patience), e.Server, e.program(name), args...)
	if err != nil {
		e.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// start starts a program and returns when it serves a UDP port.
func (e example) start(in *lab.Namespace, port uint16, name string, args ...string) *lab.Process {
	e.Helper()
	p, err := e.Start(in, lab.Command{
		Name: name, Path: e.program(name), Args: args,
		Env: []string{"KEA_PIDFILE_DIR=" + e.Dir, "KEA_LOCKFILE_DIR=" + e.Dir},
	})
	if err != nil {
		e.Fatal(err)
	}
	if err := p.WaitUDP(timeout(e.T, patience), port); err != nil {
		e.Fatal(err)
	}
	return p
}

func (e example) coredns() *lab.Process {
	e.Helper()
	return e.start(e.Server, 53, "coredns", "-conf", e.file("Corefile"))
}

func (e example) coredhcp() *lab.Process {
	e.Helper()
	return e.start(e.Server, 67, "coredhcp", "--conf", e.file("config.yml"))
}

func (e example) named(conf string) *lab.Process {
	e.Helper()
	return e.start(e.Server, 53, "named", "-g", "-c", e.file(conf))
}

func (e example) stop(p *lab.Process) {
	e.Helper()
	if err := p.Stop(); err != nil {
		e.Fatal(err)
	}
}

// addresses gives the server's namespace further addresses.
func (e example) addresses(as ...string) {
	e.Helper()
	for _, a := range as {
		if err := e.Server.AddAddress(netip.MustParseAddr(a)); err != nil {
			e.Fatal(err)
		}
	}
}

// lease has a machine get a lease by udhcpc.
func (e example) lease(m lab.Machine) (lab.Client, lab.Lease) {
	e.Helper()
	if err := lab.Udhcpc.Check(); err != nil {
		e.Skip(err)
	}
	return lease(e.T, e.Lab, lab.Udhcpc, m)
}

// asks waits until a name server gives exactly the data of a type, in any order;
// NXDOMAIN where none is expected.
func (e example) asks(from *lab.Namespace, server, name, qtype string, want ...string) {
	e.Helper()
	r := from.Resolver(netip.AddrPortFrom(netip.MustParseAddr(server), 53))
	defer r.Close()
	slices.Sort(want)
	ctx, cancel := context.WithTimeout(e.Context(), patience)
	defer cancel()
	_, _, err := r.Await(ctx, name, dns.StringToType[qtype], func(m *dns.Msg) bool {
		var data []string
		for _, rr := range m.Answer {
			if rr.Header().Rrtype == dns.StringToType[qtype] {
				data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
		}
		slices.Sort(data)
		if len(want) == 0 {
			return lab.Absent(m)
		}
		return m.Rcode == dns.RcodeSuccess && slices.Equal(data, want)
	})
	if err != nil {
		e.Fatalf("%s should give %q: %v", server, want, err)
	}
}

const (
	ct1     = "ct1.imaging.example.org."
	service = "CT1._dicom._tcp.imaging.example.org."
)

// found expects the scanner by name, by address and as a service.
func (e example) found(from *lab.Namespace, server, address string) {
	e.Helper()
	reverse, err := dns.ReverseAddr(address)
	if err != nil {
		e.Fatal(err)
	}
	e.asks(from, server, ct1, "A", address)
	e.asks(from, server, reverse, "PTR", ct1)
	e.asks(from, server, service, "SRV", "0 0 104 "+ct1)
}

// runRelays has the lab's server end be the western router, with ISC's relay.
func runRelays(e example) {
	e.program("dhcrelay")
	main, err := e.Attach("eth1", netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24"))
	if err != nil {
		e.Fatal(err)
	}
	if err := e.Server.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
	}); err != nil {
		e.Fatal(err)
	}
	e.start(main, 53, "coredns", "-conf", e.file("Corefile"))
	e.start(main, 67, "coredhcp", "--conf", e.file("config.yml"))
	e.start(e.Server, 67, "dhcrelay", "-4", "-d", "--no-pid", "-i", "eth0", "-i", "eth1", "192.0.2.2")

	client, got := e.lease(radiology.CT1.Machine)
	if got.Prefix() != netip.MustParsePrefix("198.51.100.11/24") || !slices.Equal(got.Routers, []netip.Addr{netip.MustParseAddr("198.51.100.1")}) {
		e.Errorf("lease %+v", got)
	}
	e.found(e.Client, "192.0.2.2", "198.51.100.11")
	// Past the relay.
	if again, err := client.Renew(timeout(e.T, patience)); err != nil || again.Address != got.Address {
		e.Errorf("renewed %+v, %v", again, err)
	}
	client.Kill()

	client, got = e.lease(radiology.MR1.Machine)
	if west := netip.MustParsePrefix("198.51.100.0/24"); !west.Contains(got.Address) {
		e.Errorf("address %s, expected one of the west", got.Address)
	}
	e.asks(e.Client, "192.0.2.2", "mr1.imaging.example.org.", "A", got.Address.String())
	client.Kill()
	us1 := radiology.Guest(0x03, "")
	if _, got = e.lease(us1); got.Address != netip.MustParseAddr("198.51.100.13") {
		e.Errorf("address %s, expected that of us1 in the west", got.Address)
	}
	e.asks(e.Client, "192.0.2.2", "us1.imaging.example.org.", "A", "198.51.100.13")
}

func runKea(e example) {
	e.coredns()
	e.start(e.Server, 53001, "kea-dhcp-ddns", "-c", e.file("kea-dhcp-ddns.conf"))
	e.start(e.Server, 67, "kea-dhcp4", "-c", e.file("kea-dhcp4.conf"))
	e.asks(e.Server, "192.0.2.2", service, "SRV")
	client, got := e.lease(radiology.CT1.Machine)
	if got.Address != radiology.CT1.Address {
		e.Errorf("lease %+v", got)
	}
	e.found(e.Client, "192.0.2.2", "192.0.2.11")
	if err := client.Release(timeout(e.T, patience)); err != nil {
		e.Fatal(err)
	}
	e.asks(e.Server, "192.0.2.2", service, "SRV")
	_, got = e.lease(radiology.MR1.Machine)
	e.asks(e.Client, "192.0.2.2", "mr1.imaging.example.org.", "A", got.Address.String())
	e.asks(e.Client, "192.0.2.2", "MR1._dicom._tcp.imaging.example.org.", "SRV", "0 0 104 mr1.imaging.example.org.")
}

func runBIND(e example) {
	e.addresses("192.0.2.53")
	named := e.named("named.conf")
	e.coredhcp()
	client, got := e.lease(radiology.CT1.Machine)
	if got.Address != radiology.CT1.Address {
		e.Errorf("lease %+v", got)
	}
	e.asks(e.Client, "192.0.2.53", ct1, "A", "192.0.2.11")
	e.asks(e.Client, "192.0.2.53", "11.2.0.192.in-addr.arpa.", "PTR", ct1)
	if err := client.Release(timeout(e.T, patience)); err != nil {
		e.Fatal(err)
	}
	e.asks(e.Server, "192.0.2.53", ct1, "A")
	// A name that somebody typed in is nobody else's: BIND says what was tried.
	e.lease(radiology.Guest(0x10, "pacs"))
	waitWritten(e.T, named, `pacs\.imaging\.example\.org.*prerequisite not satisfied \(NXRRSET\)`)
	e.asks(e.Server, "192.0.2.53", "pacs.imaging.example.org.", "A", "192.0.2.6")
}

func runSecondaries(e example) {
	west, err := e.Attach("west", netip.Prefix{}, netip.MustParsePrefix("198.51.100.53/24"))
	if err != nil {
		e.Fatal(err)
	}
	north, err := e.Attach("north", netip.Prefix{}, netip.MustParsePrefix("203.0.113.53/24"))
	if err != nil {
		e.Fatal(err)
	}
	primary := e.coredns()
	// NSD writes nothing outside the lab, and stays who it is.
	e.start(west, 53, "nsd", "-d", "-c", e.file("nsd.conf"), "-P", e.file("nsd.pid"), "-u", "", "-f", "")
	e.start(north, 53, "knotd", "-c", e.file("knot.conf"))
	dhcp := e.coredhcp()
	e.lease(radiology.CT1.Machine)
	for server, from := range map[string]*lab.Namespace{"198.51.100.53": west, "203.0.113.53": north} {
		e.found(from, server, "192.0.2.11")
	}
	e.asks(west, "198.51.100.53", "imaging.example.org.", "NS", "ns1.imaging.example.org.", "ns2.example.org.", "ns3.example.org.")
	// The primary is down: the secondaries answer; it comes back: they follow.
	e.stop(primary)
	client, got := e.lease(radiology.Guest(0x10, "reading7"))
	e.found(west, "198.51.100.53", "192.0.2.11")
	e.coredns()
	for server, from := range map[string]*lab.Namespace{"198.51.100.53": west, "203.0.113.53": north} {
		e.asks(from, server, guestHost, "A", got.Address.String())
	}
	client.Kill()
	e.stop(dhcp)
}
