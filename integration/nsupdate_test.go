//go:build linux

package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// An updater runs the update client's commands in one script, and returns the
// name of the RCODE with which the server answered the last message.
type updater func(t *testing.T, l *lab.Lab, n *radiology.Network, commands ...string) string

// updaters are the update clients of BIND and of Knot, which understand the same
// commands.
var updaters = map[string]updater{
	"nsupdate": func(t *testing.T, l *lab.Lab, n *radiology.Network, commands ...string) string {
		return rcodeOf(t, l, n, []string{"nsupdate", "-k", n.Keys}, "check-names off", commands)
	},
	"knsupdate": func(t *testing.T, l *lab.Lab, n *radiology.Network, commands ...string) string {
		key := fmt.Sprintf("hmac-sha256:%s:%s", radiology.Key, secretOf(t, n.Keys))
		// By TCP, since it does not choose that itself for a message over 512 octets.
		rcode := rcodeOf(t, l, n, []string{"knsupdate", "-v", "-y", key}, "", commands)
		if rcode == "NOTIMPL" {
			return "NOTIMP"
		}
		return rcode
	},
}

func rcodeOf(t *testing.T, l *lab.Lab, n *radiology.Network, program []string, first string, commands []string) string {
	t.Helper()
	path := filepath.Join(l.Dir, program[0]+".txt")
	writeFile(t, path, fmt.Sprintf("server %s %d\n%s\nzone %s\n%s\nsend\nanswer\n",
		n.DNS.Addr(), n.DNS.Port(), first, radiology.Domain, strings.Join(commands, "\n")))
	// An RCODE other than 0 is an exit status and also stands in the answer.
	out, err := l.Output(timeout(t, patience), l.Server, program[0], append(program[1:], path)...)
	status := digStatus.FindSubmatch(out)
	if status == nil {
		t.Fatalf("%s %q: %v\n%s", program[0], commands, err, out)
	}
	if !strings.Contains(string(out), "TSIG") {
		t.Errorf("%s %q: the answer is not signed:\n%s", program[0], commands, out)
	}
	return string(status[1])
}

// forEachUpdater runs a test with each update client and a name server of its own.
func forEachUpdater(t *testing.T, f func(t *testing.T, l *lab.Lab, n *radiology.Network, update func(rcode string, commands ...string))) {
	for name, run := range updaters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needs(t, name)
			needs(t, "dig")
			l := newLab(t)
			n := newNetwork(t, l, radiology.Options{})
			if err := n.StartDNS(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
			f(t, l, n, func(rcode string, commands ...string) {
				t.Helper()
				if got := run(t, l, n, commands...); got != rcode {
					t.Errorf("%q: %s, expected %s", commands, got, rcode)
				}
			})
		})
	}
}

// Every prerequisite of RFC 2136 section 2.4 is met and is not met, as the update
// clients send it.
func TestPrerequisites(t *testing.T) {
	t.Parallel()
	forEachUpdater(t, func(t *testing.T, l *lab.Lab, n *radiology.Network, update func(string, ...string)) {
		const there, absent = "there." + radiology.Domain, "absent." + radiology.Domain
		update("NOERROR", "update add "+there+" 300 A 192.0.2.31", "update add "+there+" 300 A 192.0.2.32")
		for _, tc := range []struct{ prerequisite, rcode string }{
			{"nxdomain " + absent, "NOERROR"},
			{"nxdomain " + there, "YXDOMAIN"},
			{"yxdomain " + there, "NOERROR"},
			{"yxdomain " + absent, "NXDOMAIN"},
			{"nxrrset " + there + " TXT", "NOERROR"},
			{"nxrrset " + there + " A", "YXRRSET"},
			{"nxrrset " + absent + " TYPE65280", "NOERROR"},
			{"yxrrset " + there + " A", "NOERROR"},
			{"yxrrset " + there + " TXT", "NXRRSET"},
			{"yxrrset THERE." + radiology.Domain + " A 192.0.2.32\nprereq yxrrset " + there + " A 192.0.2.31", "NOERROR"},
			{"yxrrset " + there + " A 192.0.2.31", "NXRRSET"},
			{"yxrrset " + there + " A 192.0.2.31\nprereq nxdomain " + absent, "NXRRSET"},
		} {
			update("NOERROR", "update delete result."+radiology.Domain+" TXT")
			update(tc.rcode, "prereq "+tc.prerequisite, "update add result."+radiology.Domain+" 300 TXT done")
			if tc.rcode == "NOERROR" {
				expectDig(t, l, l.Server, "result."+radiology.Domain, "TXT", `"done"`)
			} else {
				expectNXDOMAIN(t, l, l.Server, "result."+radiology.Domain, "TXT")
			}
		}
	})
}

// What the update clients can write is served as it was written, and is deleted
// by its data alone.
func TestTypes(t *testing.T) {
	t.Parallel()
	forEachUpdater(t, func(t *testing.T, l *lab.Lab, n *radiology.Network, update func(string, ...string)) {
		long := `"` + strings.Repeat("x", 255) + `"`
		for i, tc := range []struct{ qtype, data string }{
			{"A", "192.0.2.33"},
			{"AAAA", "2001:db8::33"},
			{"CNAME", "oldmr." + radiology.Domain},
			{"DNAME", "example.net."},
			{"PTR", `a\.b._dicom._tcp.` + radiology.Domain},
			{"MX", "10 mail.example.org."},
			{"TXT", `"AET=CT1" "" "semi;colon \"quoted\" back\\slash \200"`},
			{"TXT", strings.Join([]string{long, long, long, long}, " ")}, // beyond 512 octets: by TCP
			{"SPF", `"v=spf1 -all"`},
			{"SRV", "0 5 2762 oldmr." + radiology.Domain},
			{"NAPTR", `100 50 "s" "http+E2U" "" _http._tcp.example.org.`},
			{"CAA", `0 issue "ca.example.org"`},
			{"URI", `10 1 "https://example.org/"`},
			{"TLSA", "3 1 1 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF01234567 89ABCDEF"},
			{"SMIMEA", "3 1 1 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF01234567 89ABCDEF"},
			{"SSHFP", "4 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF01234567 89ABCDEF"},
			{"DHCID", "AAABxLmlskllE0MVjd57zHcWmEH3pCQ6VytcKD//7es/deY="},
			{"OPENPGPKEY", "mDMEXEcE6RYJKwYBBAHaRw8BAQdA"},
			{"CERT", "PKIX 12345 RSASHA256 AQIDBA=="},
			{"IPSECKEY", "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="},
			{"KX", "10 kx.example.org."},
			{"AFSDB", "1 db.example.org."},
			{"RP", "admin.example.org. info.example.org."},
			{"HINFO", `"PC" "Linux"`},
			{"LOC", "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m"},
			{"EUI48", "00-00-5e-00-53-01"},
			{"EUI64", "00-00-5e-ef-10-00-00-01"},
			{"SVCB", "1 oldmr." + radiology.Domain + " port=104"},
			{"HTTPS", "1 . alpn=\"h2,h3\""},
			{"TYPE65280", `\# 4 ABCDEF01`},
			{"TYPE65280", `\# 0`},
		} {
			name := fmt.Sprintf("type%d.%s", i, radiology.Domain)
			update("NOERROR", fmt.Sprintf("update add %s 300 %s %s", name, tc.qtype, tc.data))
			expectDig(t, l, l.Server, name, tc.qtype, tc.data)
			update("NOERROR", fmt.Sprintf("update delete %s %s %s", name, tc.qtype, tc.data))
			expectNXDOMAIN(t, l, l.Server, name, tc.qtype)
		}
		for _, data := range []string{
			"DS 1 8 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF",
			"DNSKEY 256 3 8 AwEAAQ==",
		} {
			update("NOTIMP", "update add signed."+radiology.Domain+" 300 "+data)
		}
	})
}

// What is deleted is gone, and nothing else: one record, an RRset, a name; not
// the apex's SOA and last NS, and nothing by a message of which one part fails.
func TestDeletes(t *testing.T) {
	t.Parallel()
	forEachUpdater(t, func(t *testing.T, l *lab.Lab, n *radiology.Network, update func(string, ...string)) {
		const name, domain = "ws7." + radiology.Domain, radiology.Domain
		update("NOERROR",
			"update add "+name+" 300 A 192.0.2.31", "update add "+name+" 300 A 192.0.2.32", "update add "+name+" 300 A 192.0.2.33",
			"update add "+name+" 300 TXT one", "update add "+name+" 300 TYPE65280 \\# 1 00")
		update("NOERROR", "update delete "+name+" A 192.0.2.32", "update delete "+name+" A 192.0.2.99")
		expectDig(t, l, l.Server, name, "A", "192.0.2.31", "192.0.2.33")
		update("NOERROR", "update delete "+name+" A", "update add "+name+" 300 A 192.0.2.34")
		expectDig(t, l, l.Server, name, "A", "192.0.2.34")
		expectDig(t, l, l.Server, name, "TXT", `"one"`)
		// Beside other records a CNAME is ignored, and the other way round.
		update("NOERROR", "update add "+name+" 300 CNAME example.net.", "update add alias."+domain+" 300 CNAME example.net.")
		update("NOERROR", "update add alias."+domain+" 300 A 192.0.2.35")
		expectDig(t, l, l.Server, name, "CNAME")
		expectDig(t, l, l.Server, "alias."+domain, "A")

		_, soa := dig(timeout(t, patience), t, l, l.Server, domain, "SOA")
		update("REFUSED", "update delete "+name+" A", "update delete "+radiology.OldMR.Host+" A")
		update("NOTZONE", "update delete "+name+" A", "update add example.net. 300 A 192.0.2.36")
		update("NXRRSET", "prereq yxrrset "+name+" MX", "update delete "+name)
		expectDig(t, l, l.Server, name, "A", "192.0.2.34")
		expectDig(t, l, l.Server, domain, "SOA", soa...)

		update("NOERROR", "update delete "+name)
		expectNXDOMAIN(t, l, l.Server, name, "TYPE65280")
		_, ns := dig(timeout(t, patience), t, l, l.Server, domain, "NS")
		if len(ns) == 0 {
			t.Error("no NS at the apex")
		}
		update("NOERROR", "update delete "+domain+" SOA")
		expectDig(t, l, l.Server, domain, "NS", ns...)
		if status, soa := dig(timeout(t, patience), t, l, l.Server, domain, "SOA"); status != "NOERROR" || len(soa) != 1 {
			t.Errorf("SOA %s %q", status, soa)
		}
	})
}
