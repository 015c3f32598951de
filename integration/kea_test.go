//go:build linux

package integration

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// keaDHCP4 is the configuration of Kea's DHCP server: the radiology network's
// pool, and names made of what clients call themselves.
var keaDHCP4 = template.Must(template.New("dhcp4.json").Parse(`{"Dhcp4": {
	"interfaces-config": {"interfaces": ["{{.Link}}"]},
	"lease-database": {"type": "memfile", "persist": true, "name": "{{.Dir}}/kea-leases4.csv"},
	"expired-leases-processing": {"reclaim-timer-wait-time": 1},
	"valid-lifetime": {{.Seconds}},
	"subnet4": [{"id": 1, "subnet": "{{.Subnet}}", "pools": [{"pool": "{{.First}}-{{.Last}}"}],
		"option-data": [{"name": "domain-name-servers", "data": "{{.Server}}"}]}],
	"dhcp-ddns": {"enable-updates": true, "server-ip": "127.0.0.1", "server-port": 53001},
	"ddns-send-updates": true, "ddns-override-client-update": true, "ddns-qualifying-suffix": "{{.Domain}}",
	"loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}]
}}`))

// keaD2 is the configuration of D2, which sends Kea's updates.
var keaD2 = template.Must(template.New("d2.json").Parse(`{"DhcpDdns": {
	"ip-address": "127.0.0.1", "port": 53001, "dns-server-timeout": 2000,
	"tsig-keys": [{"name": "{{.Key}}", "algorithm": "HMAC-SHA256", "secret": "{{.Secret}}"}],
	"forward-ddns": {"ddns-domains": [{"name": "{{.Domain}}", "key-name": "{{.Key}}", "dns-servers": [{"ip-address": "{{.Server}}"}]}]},
	"reverse-ddns": {"ddns-domains": [{"name": "{{.Reverse}}", "key-name": "{{.Key}}", "dns-servers": [{"ip-address": "{{.Server}}"}]}]},
	"loggers": [{"name": "kea-dhcp-ddns", "severity": "INFO", "output_options": [{"output": "stdout"}]}]
}}`))

// A kea is ISC's Kea in the place of coredhcp, with coredns as its name server.
type kea struct {
	*radiology.Network
	d2 *lab.Process
}

// startKea starts coredns, D2 and Kea's DHCP server with a lease time.
func startKea(t *testing.T, l *lab.Lab, leaseTime time.Duration) *kea {
	t.Helper()
	for _, program := range []string{"kea-dhcp4", "kea-dhcp-ddns"} {
		needs(t, program)
		if err := lab.Confined(program); err != nil {
			t.Skip(err)
		}
	}
	k := &kea{Network: newNetwork(t, l, radiology.Options{})}
	if err := k.StartDNS(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	values := map[string]any{
		"Link": lab.Link, "Dir": l.Dir, "Seconds": int(leaseTime / time.Second),
		"Subnet": radiology.Server.Masked(), "First": radiology.Pool[0], "Last": radiology.Pool[1],
		"Server": radiology.Server.Addr(), "Domain": radiology.Domain, "Reverse": "2.0.192.in-addr.arpa.",
		"Key": radiology.Key, "Secret": secretOf(t, k.Keys),
	}
	start := func(program string, config *template.Template, port uint16) *lab.Process {
		var text bytes.Buffer
		if err := config.Execute(&text, values); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(l.Dir, config.Name())
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := l.Start(l.Server, lab.Command{
			Name: program, Path: program, Args: []string{"-c", path},
			Env: []string{"KEA_PIDFILE_DIR=" + l.Dir, "KEA_LOCKFILE_DIR=" + l.Dir},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.WaitUDP(timeout(t, patience), port); err != nil {
			t.Fatalf("%v\n%s", err, p.Tail(5))
		}
		return p
	}
	k.d2 = start("kea-dhcp-ddns", keaD2, 53001)
	start("kea-dhcp4", keaDHCP4, 67)
	return k
}

// Kea's leases are found by name and by address for as long as they last, with
// the DHCID that RFC 4701 has for the client.
func TestKea(t *testing.T) {
	t.Parallel()
	forEachProgram(t, []lab.Program{lab.Udhcpc, lab.Dhclient}, func(t *testing.T, p lab.Program) {
		needs(t, "dig")
		l := newLab(t)
		k := startKea(t, l, time.Hour)
		client, got := lease(t, l, p, radiology.Guest(0x10, "reading7"))
		if !inPool(got.Address) {
			t.Errorf("address %s, expected one of the pool", got.Address)
		}
		questions := names(t, guestHost, got)
		await(t, k.Network, lab.Present, questions...)
		request, err := l.Wire().Wait(timeout(t, patience), time.Time{}, func(m lab.Message) bool {
			return m.MessageType() == dhcpv4.MessageTypeRequest
		})
		if err != nil {
			t.Fatal(err)
		}
		expectDig(t, l, l.Client, guestHost, "A", got.Address.String())
		expectDig(t, l, l.Client, questions[1].name, "PTR", guestHost)
		expectDHCID(t, l, guestHost, wantDHCID(t, request.DHCPv4, guestHost))
		expectDHCID(t, l, questions[1].name, wantDHCID(t, request.DHCPv4, guestHost))

		if err := client.Release(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		await(t, k.Network, lab.Absent, questions...)
		expectNXDOMAIN(t, l, l.Server, guestHost, "DHCID")
	})
}

// The names of a client that is gone without a word go with its lease.
func TestKeaExpiry(t *testing.T) {
	t.Parallel()
	const leaseTime = 20 * time.Second // in which the names are seen
	l := newLab(t)
	k := startKea(t, l, leaseTime)
	since := time.Now()
	client, got := lease(t, l, lab.Builtin, radiology.Guest(0x10, "reading7"))
	client.Kill()
	request := waitRequest(t, l, since, selecting)
	questions := append(names(t, guestHost, got), question{guestHost, dns.TypeDHCID})
	await(t, k.Network, lab.Present, questions...)
	for _, q := range questions {
		at := await(t, k.Network, lab.Absent, q)
		if after := at.Sub(request.Time); after < leaseTime-time.Second {
			t.Errorf("%s %s vanished %s after the REQUEST of a lease of %s", q.name, dns.TypeToString[q.qtype], after, leaseTime)
		}
	}
}

// D2 asks by prerequisites whose a name is, and leaves it to whoever has it: to
// another client, to a record that stands there without a DHCID, to the site file.
func TestKeaConflict(t *testing.T) {
	t.Parallel()
	needs(t, "nsupdate")
	l := newLab(t)
	k := startKea(t, l, time.Hour)
	const static = "printer." + radiology.Domain
	nsupdate(t, l, k.Network, "update add "+static+" 300 A 192.0.2.30")
	holder, first := lease(t, l, lab.Builtin, radiology.Guest(0x10, "reading7"))
	holder.Kill()
	holderNames := append(names(t, guestHost, first), question{guestHost, dns.TypeDHCID})
	await(t, k.Network, lab.Present, holderNames...)
	_, dhcid := dig(timeout(t, patience), t, l, l.Server, guestHost, "DHCID")

	for i, tc := range []struct {
		host    string
		address netip.Addr
	}{
		{guestHost, first.Address},
		{static, netip.MustParseAddr("192.0.2.30")},
		{radiology.OldMR.Host, radiology.OldMR.Address},
	} {
		label, _, _ := strings.Cut(tc.host, ".")
		client, got := lease(t, l, lab.Builtin, radiology.Guest(0x11+byte(i), label))
		// NXRRSET: the name is in use, and its DHCID is another (RFC 4703 section 5.3.2).
		waitWritten(t, k.d2, "FORWARD_REPLACE_REJECTED .* FQDN, "+regexp.QuoteMeta(tc.host)+`, with an RCODE: 8\n`)
		expectDig(t, l, l.Server, tc.host, "A", tc.address.String())
		expect(t, k.Network, lab.Absent, names(t, tc.host, got)[1])
		client.Kill()
	}
	expectDHCID(t, l, guestHost, dhcid...)
	expectDig(t, l, l.Server, holderNames[1].name, "PTR", guestHost)
}
