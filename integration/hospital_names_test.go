//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/integration/lab"
)

const hospitalDomain = "imaging.example.org"

// squatted is an address of radiology's pool that a machine has which nobody knows of.
var squatted = netip.MustParseAddr("192.0.2.150")

// A saying is what a client says of its name, and what becomes of that if it is a
// guest's: "%d" is its number, of three digits.
type saying struct {
	host string // option 12
	fqdn string // option 81
	told string // host name label; "": one that is made of the address
}

// sayings are the ways in which the machines of asking say it.
var sayings = [][]saying{
	{ // dhclient: as the machine is called, or as its configuration says
		{host: "viewer%d", told: "viewer%d"},
		{host: "Reading_Room %d.local", told: "reading-room-%d"},
		{fqdn: "\x04\x00\x00\x09Tablet%d\x06clinic\x07example\x03com\x00", told: "tablet%d"},
		{host: "ct3"}, // a device's
		{},
		{host: "other%d", fqdn: "\x01\x00\x00cart%d.clinic.example.com", told: "cart%d"},
	},
	{ // Windows: option 12, and 81 in ASCII with or without a domain
		{host: "DESKTOP-%d", fqdn: "\x00\x00\x00DESKTOP-%d", told: "desktop-%d"},
		{host: "WS%d", fqdn: "\x00\x00\x00WS%d.clinic.example.com", told: "ws%d"},
		{host: "XA2", fqdn: "\x01\x00\x00XA2.clinic.example.com"}, // a device's
		{host: "OLDWIN%d", told: "oldwin%d"},
		{host: "dhcp-192-0-2-1", fqdn: "\x00\x00\x00dhcp-192-0-2-1.clinic.example.com"}, // as of an address
	},
	{ // embedded systems
		{host: "(none)"},
		{host: "lamp%d", fqdn: "\x01", told: "lamp%d"}, // malformed, and so not there
		{},
		{fqdn: "\x01\xff\xff192.0.2.77"}, // no name
	},
	nil, // boot code does not know the machine's name
	{ // systemd-networkd: one of both, 81 in wire form, without the root if there is no domain
		{host: "station%d", told: "station%d"},
		{fqdn: "\x05\x00\x00\x07pump%d\x06clinic\x07example\x03com\x00", told: "pump%d"},
		{fqdn: "\x05\x00\x00\x08robot%d", told: "robot%d"},
		{fqdn: "\x0c\x00\x00\x0aprivate%d\x06clinic\x07example\x03com\x00", told: "private%d"}, // no updates
		{fqdn: "\x05\x00\x00\x03ct1\x00"},                                                      // a device's
	},
}

// numbered puts a client's number into the texts that have a place for it.
func (s saying) numbered(n int) saying {
	number := func(text string) string { return strings.ReplaceAll(text, "%d", fmt.Sprintf("%03d", n)) }
	return saying{number(s.host), number(s.fqdn), number(s.told)}
}

// Flags of option 81 (RFC 4702 section 2.1).
const flagS, flagO, flagE, flagN = 1, 2, 4, 8

// updates are the flags S and N of an answer: what the site file has the server do.
func (p *patient) updates() byte {
	switch {
	case p.ward.name == "cardiology", p.label == "" && len(p.says.fqdn) > 3 && p.says.fqdn[0]&flagN != 0:
		return flagN
	case p.ward.name == "home":
		return 0 // the PTR record only
	}
	return flagS
}

// told are the host name and the value of option 81 that the client is told with an
// address, nil if it is told none.
func (p *patient) told(a netip.Addr) (label string, fqdn []byte) {
	label = p.says.told
	switch {
	case p.label != "":
		label = p.label
	case label == "":
		label = "dhcp-" + strings.ReplaceAll(a.String(), ".", "-")
	}
	if len(p.says.fqdn) < 3 {
		return label, nil
	}
	asked, flags := p.says.fqdn[0], p.updates()
	if flags&flagS != asked&flagS {
		flags |= flagO
	}
	name := label + "." + hospitalDomain
	if asked&flagE != 0 {
		name = fmt.Sprintf("%c%s\x07imaging\x07example\x03org\x00", len(label), label)
	}
	return label, append([]byte{flags | asked&flagE, 255, 255}, name...)
}

// startDNS starts coredns with the zones of all networks.
func (h *hospitalNet) startDNS(t *testing.T) {
	t.Helper()
	keys := filepath.Join(h.Dir, "tsig.keys")
	if _, err := h.Output(timeout(t, patience), h.Server, filepath.Join(binaries(t), "dicomnam"), "keygen", "dhcp."+hospitalDomain, "--output", keys); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(h.Dir, "Corefile"), hospitalDomain+` 192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 {
    bind 192.0.2.2
    errors
    tsig {
        secrets `+keys+`
        require_opcode UPDATE
    }
    dicom {
        site `+h.Dir+`/site.yaml
        database `+h.Dir+`/zones
        allow dhcp.`+hospitalDomain+`. * *
    }
}
`)
	p, err := h.Start(h.Server, lab.Command{Name: "coredns", Path: filepath.Join(binaries(t), "coredns"), Args: []string{"-conf", filepath.Join(h.Dir, "Corefile")},
		Env: []string{"ZONEINFO=" + filepath.Join(h.Dir, "zoneinfo")}})
	if err != nil {
		t.Fatal(err)
	}
	waitText(t, p, "CoreDNS-")
}

// judgeNames compares DNS with the names that clients were told.
func (h *hospitalNet) judgeNames(t *testing.T, patients []*patient) {
	t.Helper()
	r := h.Server.Resolver(netip.MustParseAddrPort("192.0.2.2:53"))
	defer r.Close()
	ctx := timeout(t, patience)
	is := func(name string, kind uint16, value string) {
		t.Helper()
		_, _, err := r.Await(ctx, name, kind, func(m *dns.Msg) bool {
			return len(m.Answer) == 1 && strings.HasSuffix(m.Answer[0].String(), "\t"+value) || value == "" && len(m.Answer) == 0
		})
		if err != nil {
			t.Errorf("%s %s: expected %q: %v", name, dns.TypeToString[kind], value, err)
		}
	}
	for _, p := range patients {
		label, _ := p.told(p.got)
		reverse, err := dns.ReverseAddr(p.got.String())
		if err != nil {
			t.Fatal(err)
		}
		name := label + "." + hospitalDomain + "."
		switch p.updates() {
		case flagS:
			is(name, dns.TypeA, p.got.String())
			is(reverse, dns.TypePTR, name)
		case 0:
			is(name, dns.TypeA, "")
			is(reverse, dns.TypePTR, name)
		default:
			is(reverse, dns.TypePTR, "")
		}
	}
}

// judgeConflicts holds that the administrator is told of the address that a machine
// uses on its own.
func (h *hospitalNet) judgeConflicts(t *testing.T, by net.HardwareAddr) {
	t.Helper()
	out, err := h.Output(timeout(t, patience), h.Server, filepath.Join(binaries(t), "dicomnam"),
		"leases", "--control", filepath.Join(h.Dir, "coredhcp.sock"), "--state", control.Conflict, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var found control.Lease
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("expected one conflict: %v\n%s", err, out)
	}
	if found.Address != squatted || found.State != control.Conflict || found.Client.HardwareAddress != by.String() || found.Name != "" {
		t.Errorf("a conflict at %s with %s, expected one at %s with %s", found.Address, found.Client, squatted, by)
	}
}
