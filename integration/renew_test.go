//go:build linux

package integration

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

var clientPrograms = []lab.Program{lab.Udhcpc, lab.Dhclient, lab.Dhcpcd, lab.Networkd}

// A REQUEST by what its sender knows (RFC 2131 section 4.3.2).
type clientState string

const (
	selecting  clientState = "SELECTING"
	initReboot clientState = "INIT-REBOOT"
	renewing   clientState = "RENEWING"
	rebinding  clientState = "REBINDING"
	otherwise  clientState = "none of RFC 2131"
)

func stateOf(m lab.Message) clientState {
	const serverID, requested = dhcpv4.OptionServerIdentifier, dhcpv4.OptionRequestedIPAddress
	broadcast := m.To.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch has, fresh := m.Options.Has, m.ClientIPAddr.IsUnspecified(); {
	case fresh && broadcast && has(serverID) && has(requested):
		return selecting
	case fresh && broadcast && has(requested):
		return initReboot
	case !fresh && !has(serverID) && !has(requested) && broadcast:
		return rebinding
	case !fresh && !has(serverID) && !has(requested):
		return renewing
	}
	return otherwise
}

// waitRequest waits for a client's REQUEST of a state.
func waitRequest(t *testing.T, l *lab.Lab, since time.Time, want clientState) lab.Message {
	t.Helper()
	m, err := l.Wire().Wait(timeout(t, 2*patience), since, func(m lab.Message) bool {
		return m.Sent && m.MessageType() == dhcpv4.MessageTypeRequest && stateOf(m) == want
	})
	if err != nil {
		t.Fatalf("%s: %v", want, err)
	}
	return m
}

// answerTo waits for the server's answer to a client's message.
func answerTo(t *testing.T, l *lab.Lab, request lab.Message) lab.Message {
	t.Helper()
	m, err := l.Wire().Wait(timeout(t, patience), request.Time, func(m lab.Message) bool {
		return !m.Sent && m.TransactionID == request.TransactionID
	})
	if err != nil {
		t.Fatalf("answer to the %s: %v", stateOf(request), err)
	}
	return m
}

// expectACK fails unless a server gives the same lease again.
func expectACK(t *testing.T, m lab.Message, server netip.Addr, got lab.Lease) {
	t.Helper()
	address, _ := netip.AddrFromSlice(m.YourIPAddr.To4())
	id, _ := netip.AddrFromSlice(m.ServerIdentifier().To4())
	if m.MessageType() != dhcpv4.MessageTypeAck || address != got.Address || id != server || m.IPAddressLeaseTime(0) != got.Duration {
		t.Errorf("%s for %s of %s by %s, expected an ACK for %s of %s by %s", m.MessageType(), address, m.IPAddressLeaseTime(0), id, got.Address, got.Duration, server)
	}
}

// A client keeps its address as long as it is there: it asks its server after
// half of the lease, any server near the end when the server is at that address
// no more, and gives it back to the one that answered.
func TestRenewAndRebind(t *testing.T) {
	t.Parallel()
	forEachProgram(t, clientPrograms, func(t *testing.T, p lab.Program) {
		// The least that dhcpcd accepts. A lease ends an eighth of its time after REBINDING began, which is soon
		// where a busy machine is to answer before.
		for _, leaseTime := range []time.Duration{20 * time.Second, time.Minute, 3 * time.Minute} {
			late := false
			t.Run(leaseTime.String(), func(t *testing.T) { late = !renewAndRebind(t, p, leaseTime) })
			if !late {
				return
			}
		}
		t.Error("the client has been without a lease each time")
	})
}

// renewAndRebind is TestRenewAndRebind with one client and leases of some time. It returns false where the client has
// been without a lease.
func renewAndRebind(t *testing.T, p lab.Program, leaseTime time.Duration) bool {
	l := newLab(t)
	n := startNetwork(t, l, radiology.Options{LeaseTime: leaseTime})
	since := time.Now()
	client, got := lease(t, l, p, radiology.Guest(0x10, "reading7"))
	if got.Duration != leaseTime {
		t.Fatalf("lease of %s, expected %s", got.Duration, leaseTime)
	}
	ack, err := l.Wire().WaitACK(timeout(t, patience), since, got.Address)
	if err != nil {
		t.Fatal(err)
	}
	// udhcpc takes no lease for shorter than 122 s, but asks when it is told to.
	askNow := func() {
		if c, ok := client.(interface{ AskNow() error }); ok && p == lab.Udhcpc {
			if err := c.AskNow(); err != nil {
				t.Fatal(err)
			}
		}
	}
	askNow()
	request := waitRequest(t, l, ack.Time, renewing)
	if after := request.Time.Sub(ack.Time); p != lab.Udhcpc && after < leaseTime/2-2*time.Second {
		t.Errorf("renewed %s after the ACK of a lease of %s", after, leaseTime)
	}
	expectACK(t, answerTo(t, l, request), radiology.Server.Addr(), got)
	await(t, n, lab.Present, names(t, guestHost, got)...)

	other := netip.MustParsePrefix("192.0.2.4/24")
	moveServer(t, l, n, other)
	askNow()
	answer, err := l.Wire().Wait(timeout(t, 2*leaseTime+patience), ack.Time, func(m lab.Message) bool {
		if m.Sent && m.MessageType() == dhcpv4.MessageTypeRequest && stateOf(m) == rebinding {
			request = m
		}
		return m.MessageType() == dhcpv4.MessageTypeDiscover || !m.Sent && stateOf(request) == rebinding && m.TransactionID == request.TransactionID
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer.MessageType() == dhcpv4.MessageTypeDiscover {
		t.Logf("the client has been without a lease, of %s", leaseTime)
		return false
	}
	expectACK(t, answer, other.Addr(), got)
	for reported := got; reported.ServerID != other.Addr(); {
		if reported, err = client.Lease(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Release(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	release, err := l.Wire().WaitRelease(timeout(t, patience), answer.Time, got.Address)
	if err != nil {
		t.Fatal(err)
	}
	// udhcpc goes on with the address of the server that it had first.
	if release.To.Addr() != other.Addr() && p != lab.Udhcpc {
		t.Errorf("released to %s, expected %s", release.To, other.Addr())
	}
	return true
}

// moveServer gives coredhcp another address on the same network, as when another
// machine takes its database over.
func moveServer(t *testing.T, l *lab.Lab, n *radiology.Network, to netip.Prefix) {
	t.Helper()
	n.DHCPServer.Kill()
	err := l.Server.Do(func() error {
		link, err := netlink.LinkByName(lab.Link)
		if err != nil {
			return err
		}
		have, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, a := range have {
			err = errors.Join(err, netlink.AddrDel(link, &a))
		}
		address, parseErr := netlink.ParseAddr(to.String())
		return errors.Join(err, parseErr, netlink.AddrAdd(link, address))
	})
	if err != nil {
		t.Fatal(err)
	}
	edit(t, n.Config, "server_id: "+radiology.Server.Addr().String(), "server_id: "+to.Addr().String())
	if err := n.StartDHCP(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
}

// A machine that is switched on again asks for the address that it remembers: it
// gets it, and if it is of no use any more a NAK and another.
func TestReboot(t *testing.T) {
	t.Parallel()
	forEachProgram(t, []lab.Program{lab.Dhclient, lab.Dhcpcd}, func(t *testing.T, p lab.Program) {
		l := newLab(t)
		n := startNetwork(t, l, radiology.Options{})
		client, got := lease(t, l, p, radiology.Guest(0x10, "reading7"))
		client.Kill()
		rebooted := time.Now()
		again, err := client.Renew(timeout(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		if again.Address != got.Address {
			t.Errorf("switched on again the client has %s, before it had %s", again.Address, got.Address)
		}
		expectACK(t, answerTo(t, l, waitRequest(t, l, rebooted, initReboot)), radiology.Server.Addr(), got)
		if discovers := discoversSince(l, rebooted); discovers != 0 {
			t.Errorf("%d DISCOVER, expected none", discovers)
		}

		n.DHCPServer.Kill()
		edit(t, n.Site, radiology.Pool[0].String()+"-", got.Address.Next().String()+"-")
		if err := n.StartDHCP(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		rebooted = time.Now()
		again, err = client.Renew(timeout(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		if !inPool(again.Address) || again.Address == got.Address {
			t.Errorf("address %s, expected another of the pool than %s", again.Address, got.Address)
		}
		answer := answerTo(t, l, waitRequest(t, l, rebooted, initReboot))
		if answer.MessageType() != dhcpv4.MessageTypeNak || answer.To.Addr() != netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			t.Errorf("%s to %s, expected a NAK by broadcast", answer.MessageType(), answer.To)
		}
	})
}

func discoversSince(l *lab.Lab, since time.Time) int {
	return len(slices.DeleteFunc(l.Wire().Messages(), func(m lab.Message) bool {
		return m.Time.Before(since) || m.MessageType() != dhcpv4.MessageTypeDiscover
	}))
}

// A client whose cable was out asks for its address again.
func TestCable(t *testing.T) {
	t.Parallel()
	forEachProgram(t, []lab.Program{lab.Dhcpcd, lab.Networkd}, func(t *testing.T, p lab.Program) {
		l := newLab(t)
		startNetwork(t, l, radiology.Options{})
		machine := radiology.Guest(0x10, "reading7")
		client, got := lease(t, l, p, machine)
		// networkd asks for its address for a few seconds only, and then for any: a busy machine may be slower.
		for again := range 5 {
			since := time.Now()
			if err := l.Plug(timeout(t, patience), machine.MAC); err != nil {
				t.Fatal(err)
			}
			next, err := client.Lease(timeout(t, patience))
			if err != nil {
				t.Fatal(err)
			}
			if next.Address != got.Address {
				t.Errorf("plugged in again the client has %s, before it had %s", next.Address, got.Address)
			}
			request := waitRequest(t, l, since, initReboot)
			discovers := discoversSince(l, since)
			if discovers != 0 && again < 4 {
				t.Logf("%d DISCOVER", discovers)
				continue
			}
			expectACK(t, answerTo(t, l, request), radiology.Server.Addr(), got)
			if discovers != 0 {
				t.Errorf("%d DISCOVER, expected none", discovers)
			}
			return
		}
	})
}
