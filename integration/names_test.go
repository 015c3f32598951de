//go:build linux

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// A machine that has its name from elsewhere says so by option 81, each client
// program in its own way: it is found under that name in this domain, and told so
// in the way that it asked.
func TestFQDN(t *testing.T) {
	t.Parallel()
	forEachProgram(t, []lab.Program{lab.Udhcpc, lab.Dhclient, lab.Dhcpcd, lab.Networkd}, func(t *testing.T, p lab.Program) {
		l := newLab(t)
		n := startNetwork(t, l, radiology.Options{})
		m := radiology.Guest(0x20, "")
		m.FQDN = "Reading_9.clinic.example.com"
		if p != lab.Udhcpc && p != lab.Dhclient {
			m.FQDN = "reading-9.clinic.example.com" // these send no other than a host name
		}
		client, got := lease(t, l, p, m)
		const host = "reading-9." + radiology.Domain
		await(t, n, lab.Present, names(t, host, got)...)

		ack, err := l.Wire().WaitACK(timeout(t, patience), time.Time{}, got.Address)
		if err != nil {
			t.Fatal(err)
		}
		var asked, told []byte
		for _, m := range l.Wire().Messages() {
			if m.Sent && m.MessageType() == dhcpv4.MessageTypeRequest {
				asked = m.Options.Get(dhcpv4.OptionFQDN)
			}
		}
		if told = ack.Options.Get(dhcpv4.OptionFQDN); len(asked) < 3 || len(told) < 3 {
			t.Fatalf("option 81 % x was answered by % x", asked, told)
		}
		// RFC 4702: the form is the client's (E, 4), the server updates (S, 1), and it
		// says so if the client wanted otherwise (O, 2).
		want := asked[0]&4 | 1
		if asked[0]&1 == 0 {
			want |= 2
		}
		if told[0] != want || told[1] != 255 || told[2] != 255 {
			t.Errorf("% x was answered by % x, want flags %#x", asked[:3], told[:3], want)
		}
		name := strings.TrimSuffix(host, ".")
		if want&4 != 0 {
			var wire string
			for label := range strings.SplitSeq(name, ".") {
				wire += string(rune(len(label))) + label
			}
			name = wire + "\x00"
		}
		if string(told[3:]) != name {
			t.Errorf("told the name %q, want %q", told[3:], name)
		}
		if err := client.Release(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		await(t, n, lab.Absent, names(t, host, got)...)
	})
}

// A machine that does not say what it is called is found under a name that is made
// of its address, and so is one whose name belongs to another.
func TestGeneratedName(t *testing.T) {
	t.Parallel()
	for name, hostname := range map[string]string{"no name": "", "a device's name": "ct1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachProgram(t, []lab.Program{lab.Udhcpc, lab.Dhclient}, func(t *testing.T, p lab.Program) {
				l := newLab(t)
				n := startNetwork(t, l, radiology.Options{})
				client, got := lease(t, l, p, radiology.Guest(0x21, hostname))
				label := fmt.Sprintf("dhcp-%s", strings.ReplaceAll(got.Address.String(), ".", "-"))
				if got.Hostname != label {
					t.Errorf("told the name %q, want %q", got.Hostname, label)
				}
				questions := names(t, label+"."+radiology.Domain, got)
				await(t, n, lab.Present, questions...)
				if err := client.Release(timeout(t, patience)); err != nil {
					t.Fatal(err)
				}
				await(t, n, lab.Absent, questions...)
			})
		})
	}
}
