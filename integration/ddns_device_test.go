//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
)

// A machine calls itself what a device is called by a site file that comes later, while DNS is away. The name is gone from DNS
// until the device comes, the lease says so, and with the device gone from the site file again the machine has its name back.
func TestNamesOfANewDevice(t *testing.T) {
	t.Parallel()
	n := newNameServers(t, rand.Uint64())
	const site = "domain: imaging.example.org\nnetworks:\n  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.159], lease-time: 12h}\n"
	w := n.workers[0]
	machine, device := w.clients[0], w.clients[1]
	machine.name, device.name = "ws-one", "ws-two"
	reload := func(more string) {
		t.Helper()
		n.write("site.yaml", site+more)
		if err := n.process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	shows := func(c *dhcpClient) []string {
		t.Helper()
		reverse, err := dns.ReverseAddr(c.held.String())
		if err != nil {
			t.Fatal(err)
		}
		return []string{"ws-one.imaging.example.org. A " + c.held.String(), "ws-one.imaging.example.org. DHCID", reverse + " PTR ws-one.imaging.example.org.", reverse + " DHCID"}
	}
	state := func(want string) {
		t.Helper()
		leases, err := told[control.Lease](timeout(t, patience), n, control.Leases, control.Filter{State: control.Active})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range leases {
			if l.Address == machine.held && l.DNS != want {
				t.Errorf("%s is %s, want %s", l.Name, l.DNS, want)
			}
		}
	}
	n.write("site.yaml", site)
	n.startDNS()
	n.start()
	if err := w.get(timeout(t, patience), machine); err != nil {
		t.Fatal(err)
	}
	n.awaitShown(shows(machine))

	n.running.Kill()
	<-n.running.Done()
	reload(fmt.Sprintf("devices:\n  - {name: ws-one, hardware-address: %q}\n", device.mac))
	n.startDNS()
	n.awaitShown(nil)
	state("off")
	n.process.Kill() // what the lease is to show is found again
	<-n.process.Done()
	n.start()
	n.awaitShown(nil)
	if err := w.get(timeout(t, patience), device); err != nil {
		t.Fatal(err)
	}
	n.awaitShown(shows(device))
	state("off")
	if err := w.release(device); err != nil {
		t.Fatal(err)
	}
	n.awaitShown(nil)
	reload("")
	n.awaitShown(shows(machine))
	state("shown")
}
