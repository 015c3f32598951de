package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestVLANs serves an interface, two VLANs on it and a relay by addresses of
// their own, while one VLAN goes and comes back and the cable is pulled.
func TestVLANs(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	far := newNamespace(t)
	vlan(t, "server0", far)
	there, err := netlink.NewHandleAt(far)
	must(err)
	defer there.Close()
	here, err := netlink.NewHandle()
	must(err)
	defer here.Close()
	lo, err := here.LinkByName("lo")
	must(err)
	must(here.LinkSetUp(lo))
	// tagged makes server0.ID with an address, and client.ID there. Where the kernel
	// has no VLANs a pair of interfaces has the names and the hardware addresses.
	tagged := func(id int, address string) netlink.Link {
		t.Helper()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("server0.%d", id)
		on, err := here.LinkByName("server0")
		must(err)
		attrs.ParentIndex = on.Attrs().Index
		client := netlink.NewLinkAttrs()
		client.Name = fmt.Sprintf("client.%d", id)
		on, err = there.LinkByName("client")
		must(err)
		client.ParentIndex = on.Attrs().Index
		err = here.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: id})
		switch {
		case errors.Is(err, unix.EOPNOTSUPP):
			t.Logf("no VLANs in this kernel: %s is an interface by itself", attrs.Name)
			attrs.ParentIndex, attrs.HardwareAddr = 0, serverHardware
			must(here.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: client.Name, PeerHardwareAddr: clientHardware, PeerNamespace: netlink.NsFd(far)}))
		default:
			must(err)
			if _, err := there.LinkByName(client.Name); err != nil {
				must(there.LinkAdd(&netlink.Vlan{LinkAttrs: client, VlanId: id}))
			}
		}
		link, err := here.LinkByName(attrs.Name)
		must(err)
		a, err := netlink.ParseAddr(address)
		must(err)
		must(here.AddrAdd(link, a))
		must(here.LinkSetUp(link))
		peer, err := there.LinkByName(client.Name)
		must(err)
		must(there.LinkSetUp(peer))
		return link
	}
	tagged(10, "198.51.100.2/24")
	gone := tagged(20, "203.0.113.2/24")

	var mu sync.Mutex
	interfaces := map[dhcpv4.TransactionID][]string{}
	note := registerFake(&fake{handle: func(_ context.Context, x *Exchange) Verdict {
		mu.Lock()
		defer mu.Unlock()
		id := x.Request.TransactionID
		interfaces[id] = append(interfaces[id], x.Interface)
		return Continue
	}})
	s := newServer(t, "server4: {listen: ['127.0.0.1:0', '%server0', '%server0.10', '%server0.20'], plugins: [{"+
		note+": }, {"+registerFake(allocator())+": }]}")
	stop := runServer(t, s)
	get := func(client, server, id string) {
		t.Helper()
		lease, err := acquireOn(t, far, client)
		if err != nil {
			t.Fatalf("%s: %v", client, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if got := slices.Compact(interfaces[lease.ACK.TransactionID]); !slices.Equal(got, []string{server}) {
			t.Errorf("%s came in on %q, want %s alone", client, got, server)
		}
		if got := lease.ACK.ServerIdentifier(); !got.Equal(ip(id)) {
			t.Errorf("%s: server identifier %s, want %s", client, got, id)
		}
	}
	get("client", "server0", "192.0.2.2")
	get("client.10", "server0.10", "198.51.100.2")
	get("client.20", "server0.20", "203.0.113.2")
	if got := newRelay(t, s).exchange(message(t, dhcpv4.MessageTypeDiscover, 7)); !got.YourIPAddr.Equal(ip("192.0.2.100")) {
		t.Errorf("by relay: %s", got.Summary())
	}

	must(here.LinkDel(gone))
	waitFor(t, func() bool { return s.openSockets() == 3 })
	get("client.10", "server0.10", "198.51.100.2")
	tagged(20, "203.0.113.2/24")
	waitFor(t, func() bool { return s.openSockets() == 4 })
	get("client.20", "server0.20", "203.0.113.2")

	parent, err := here.LinkByName("server0")
	must(err)
	must(here.LinkSetDown(parent))
	must(here.LinkSetUp(parent))
	for _, name := range []string{"server0.10", "server0.20"} { // they went down with it
		link, err := here.LinkByName(name)
		must(err)
		must(here.LinkSetUp(link))
	}
	get("client", "server0", "192.0.2.2")
	get("client.10", "server0.10", "198.51.100.2")
	must(stop())
}
