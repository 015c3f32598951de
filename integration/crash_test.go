//go:build linux

package integration

import (
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

const guestHost = "reading7." + radiology.Domain

// Both servers are killed the moment that a client has its ACK: what the ACK
// promised is on disk, and the name that may not have reached DNS yet follows.
func TestKilledAfterACK(t *testing.T) {
	t.Parallel()
	forEachProgram(t, []lab.Program{lab.Udhcpc, lab.Dhclient, lab.Dhcpcd, lab.Networkd, lab.Builtin}, func(t *testing.T, p lab.Program) {
		l := newLab(t)
		n := startNetwork(t, l, radiology.Options{})
		guest := radiology.Guest(0x10, "reading7")
		client, got := leaseThen(t, l, p, guest, func() {
			n.DHCPServer.Kill()
			n.DNSServer.Kill()
		})
		restart(t, n)

		await(t, n, lab.Present, names(t, guestHost, got)...)
		again, err := client.Renew(timeout(t, patience))
		if err != nil {
			t.Fatal(err)
		}
		if again.Address != got.Address {
			t.Errorf("after the restart the client has %s, before it had %s", again.Address, got.Address)
		}
		client.Kill()
		_, other := lease(t, l, p, radiology.Guest(0x11, ""))
		if other.Address == got.Address {
			t.Errorf("another client got %s too", other.Address)
		}
		// Switched on again, the first finds its address kept for it.
		_, again = lease(t, l, p, guest)
		if again.Address != got.Address {
			t.Errorf("switched on again the client has %s, before it had %s", again.Address, got.Address)
		}
	})
}

// leaseThen switches a machine on, does something at the moment of its ACK, and
// returns its lease.
func leaseThen(t *testing.T, l *lab.Lab, p lab.Program, m lab.Machine, do func()) (lab.Client, lab.Lease) {
	t.Helper()
	ctx, done := timeout(t, patience), make(chan error, 1)
	go func() {
		_, err := l.Wire().Wait(ctx, time.Time{}, func(m lab.Message) bool {
			return m.MessageType() == dhcpv4.MessageTypeAck
		})
		if err == nil {
			do()
		}
		done <- err
	}()
	client, got := lease(t, l, p, m)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return client, got
}

// restart starts both servers on what they left.
func restart(t *testing.T, n *radiology.Network) {
	t.Helper()
	if err := n.Start(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
}

// What DNS showed, it shows again as soon as it answers, with nobody to tell it.
func TestNamesOutliveTheKill(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := startNetwork(t, l, radiology.Options{})
	client, got := lease(t, l, lab.Builtin, radiology.CT1.Machine)
	questions := append(names(t, radiology.CT1.Host, got),
		question{radiology.CT1.Host, dns.TypeDHCID},
		question{"CT1._dicom._tcp." + radiology.Domain, dns.TypeSRV},
		question{"CT1_TLS._dicom-tls._tcp." + radiology.Domain, dns.TypeTXT})
	await(t, n, lab.Present, questions...)

	n.DNSServer.Kill()
	n.DHCPServer.Kill()
	if err := n.StartDNS(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	expect(t, n, lab.Present, questions...)

	if err := n.StartDHCP(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	again, err := client.Renew(timeout(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	if again.Address != got.Address {
		t.Errorf("after the restart the client has %s, before it had %s", again.Address, got.Address)
	}
	// The lease that the restarted server knows is the one that it can end.
	if err := client.Release(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	await(t, n, lab.Absent, questions...)
}

// A lease that is taken while DNS is down has its name when DNS is back, and one
// that is released meanwhile has it no more.
func TestNamesFollowWhenDNSIsBack(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]bool{"coredhcp goes on": false, "coredhcp is killed too": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			n := startNetwork(t, l, radiology.Options{})
			back := func() {
				t.Helper()
				if kill {
					n.DHCPServer.Kill()
				}
				if err := n.StartDNS(timeout(t, patience)); err != nil {
					t.Fatal(err)
				}
				if kill {
					if err := n.StartDHCP(timeout(t, patience)); err != nil {
						t.Fatal(err)
					}
				}
			}
			n.DNSServer.Kill()
			client, got := lease(t, l, lab.Builtin, radiology.CT1.Machine)
			back()
			questions := append(names(t, radiology.CT1.Host, got), question{"CT1._dicom._tcp." + radiology.Domain, dns.TypeSRV})
			await(t, n, lab.Present, questions...)

			n.DNSServer.Kill()
			if err := client.Release(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
			handled(t, l, radiology.CT1.Machine)
			back()
			await(t, n, lab.Absent, questions...)
		})
	}
}

// handled returns when the server has handled every message that a machine sent:
// it keeps one client's messages in order, and a DISCOVER it answers.
func handled(t *testing.T, l *lab.Lab, m lab.Machine) {
	t.Helper()
	ctx := timeout(t, patience)
	var c *nclient4.Client
	err := l.Client.Do(func() (err error) {
		c, err = nclient4.New(lab.Link, nclient4.WithHWAddr(m.MAC))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.DiscoverOffer(ctx); err != nil {
		t.Fatal(err)
	}
}
