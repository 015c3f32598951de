//go:build linux

package integration

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// firstDiscover waits for a client's DISCOVER and returns the address that it asks for in it.
func firstDiscover(t *testing.T, l *lab.Lab, since time.Time) netip.Addr {
	t.Helper()
	m, err := l.Wire().Wait(timeout(t, patience), since, func(m lab.Message) bool { return m.Sent })
	if err != nil {
		t.Fatal(err)
	}
	if m.MessageType() != dhcpv4.MessageTypeDiscover {
		t.Fatalf("%s comes first, expected a DISCOVER", m.MessageType())
	}
	a, _ := netip.AddrFromSlice(m.RequestedIPAddress().To4())
	return a
}

// The client of systemd-networkd (seen: 252) knows nothing of its lease when it is
// started anew, although its files are there: it sends a DISCOVER without an address
// (option 50) and chooses (SELECTING). INIT-REBOOT it sends only after its cable was
// out (TestCable). It is the server that remembers.
func TestRebootNetworkd(t *testing.T) {
	t.Parallel()
	forEachProgram(t, []lab.Program{lab.Networkd}, func(t *testing.T, p lab.Program) {
		l := newLab(t)
		startNetwork(t, l, radiology.Options{})
		client, got := lease(t, l, p, radiology.Guest(0x10, "reading7"))
		client.Kill()
		rebooted := time.Now()
		again, err := client.Renew(timeout(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		if asked := firstDiscover(t, l, rebooted); asked.IsValid() {
			t.Errorf("asks for %s, expected for no address", asked)
		}
		expectACK(t, answerTo(t, l, waitRequest(t, l, rebooted, selecting)), radiology.Server.Addr(), got)
		if again.Address != got.Address {
			t.Errorf("switched on again the client has %s, before it had %s", again.Address, got.Address)
		}
	})
}

// udhcpc (seen: BusyBox 1.35) remembers nothing, but its user may tell it an address
// with -r: it sends a DISCOVER with that (option 50), not INIT-REBOOT, and chooses what
// it is offered (SELECTING). That is its own, whatever it asked for, and there is no NAK.
func TestRebootUdhcpc(t *testing.T) {
	t.Parallel()
	forEachProgram(t, []lab.Program{lab.Udhcpc}, func(t *testing.T, p lab.Program) {
		l := newLab(t)
		startNetwork(t, l, radiology.Options{})
		machine := radiology.Guest(0x10, "reading7")
		client, got := lease(t, l, p, machine)
		client.Kill()
		for _, tc := range []struct {
			name      string
			ask, want netip.Addr
		}{
			{"its own", got.Address, got.Address},
			{"a free one, while it has its own", got.Address.Next(), got.Address},
			{"the server's", radiology.Server.Addr(), got.Address},
			{"one of no network", netip.MustParseAddr("203.0.113.9"), got.Address},
		} {
			since := time.Now()
			again, err := l.Start(l.Client, lab.Command{Name: "udhcpc-r", Path: "busybox", Args: []string{
				"udhcpc", "-f", "-q", "-n", "-t", "30", "-i", lab.Link, "-s", "/bin/true", "-r", tc.ask.String()}})
			if err != nil {
				t.Fatal(err)
			}
			if asked := firstDiscover(t, l, since); asked != tc.ask {
				t.Errorf("%s: asks for %s, expected %s", tc.name, asked, tc.ask)
			}
			answer := answerTo(t, l, waitRequest(t, l, since, selecting))
			if have, _ := netip.AddrFromSlice(answer.YourIPAddr.To4()); answer.MessageType() != dhcpv4.MessageTypeAck || have != tc.want {
				t.Errorf("%s: %s for %s, expected an ACK for %s", tc.name, answer.MessageType(), have, tc.want)
			}
			select {
			case <-again.Done():
			case <-timeout(t, patience).Done():
				t.Fatalf("%s: udhcpc goes on\n%s", tc.name, again.Tail(10))
			}
		}
	})
}
