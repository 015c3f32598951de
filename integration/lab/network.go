//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
)

// Link is the name of the network interface inside each of the two namespaces.
const Link = "eth0"

// serverMAC is the server's end of the wire, from the range that RFC 7042 keeps
// for documentation.
var serverMAC = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0xfe}

// connect joins two namespaces by a veth pair, of which both ends are named
// Link, and gives the server's end its address. Nothing is made outside them.
func connect(server, client *Namespace, address netip.Prefix) error {
	err := server.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = Link
		attrs.HardwareAddr = serverMAC
		pair := &netlink.Veth{
			LinkAttrs:     attrs,
			PeerName:      Link,
			PeerNamespace: netlink.NsFd(int(client.handle)),
		}
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("making the veth pair: %w", err)
		}
		if err := raise("lo"); err != nil {
			return err
		}
		link, err := netlink.LinkByName(Link)
		if err != nil {
			return fmt.Errorf("finding the server's link: %w", err)
		}
		if err := netlink.AddrAdd(link, ipv4Address(address)); err != nil {
			return fmt.Errorf("giving the server %s: %w", address, err)
		}
		return raise(Link)
	})
	if err != nil {
		return err
	}
	return client.Do(func() error {
		return errors.Join(raise("lo"), raise(Link))
	})
}

// raise sets a link of the current namespace up.
func raise(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding the link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting the link %s up: %w", name, err)
	}
	return nil
}

func ipv4Address(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{
		IP:   p.Addr().AsSlice(),
		Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
	}}
}

// Plug puts another machine at the client's end of the wire: its link loses
// every address and route and takes the machine's hardware address, and the
// server forgets whom it knew there. It returns when the link carries frames.
func (l *Lab) Plug(ctx context.Context, mac net.HardwareAddr) error {
	if l.Mode == Loopback {
		return errNotLinked
	}
	err := l.Client.Do(func() error {
		link, err := netlink.LinkByName(Link)
		if err != nil {
			return fmt.Errorf("finding the client's link: %w", err)
		}
		if err := unconfigure(link); err != nil {
			return err
		}
		if err := netlink.LinkSetDown(link); err != nil {
			return fmt.Errorf("setting the client's link down: %w", err)
		}
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("giving the client's link the hardware address %s: %w", mac, err)
		}
		return raise(Link)
	})
	if err != nil {
		return err
	}
	return l.Server.Do(func() error {
		link, err := netlink.LinkByName(Link)
		if err != nil {
			return fmt.Errorf("finding the server's link: %w", err)
		}
		for link.Attrs().OperState != netlink.OperUp {
			select {
			case <-ctx.Done():
				return fmt.Errorf("waiting for the link to come up: %w", ctx.Err())
			case <-time.After(time.Millisecond):
			}
			if link, err = netlink.LinkByName(Link); err != nil {
				return fmt.Errorf("finding the server's link: %w", err)
			}
		}
		neighbours, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
		if err != nil {
			return fmt.Errorf("listing the server's neighbours: %w", err)
		}
		for _, n := range neighbours {
			if err := netlink.NeighDel(&n); err != nil {
				return fmt.Errorf("forgetting the server's neighbour %s: %w", n.IP, err)
			}
		}
		return nil
	})
}

// configure gives a link of the current namespace what a lease says: address
// with mask and broadcast address, the classless routes or else the first router
// as default route, and MTU.
func configure(link netlink.Link, lease Lease) error {
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting the link up: %w", err)
	}
	if lease.MTU > 0 {
		if err := netlink.LinkSetMTU(link, lease.MTU); err != nil {
			return fmt.Errorf("setting the MTU %d: %w", lease.MTU, err)
		}
	}
	want := ipv4Address(lease.Prefix())
	if lease.Broadcast.IsValid() {
		want.Broadcast = lease.Broadcast.AsSlice()
	}
	have, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("listing the addresses: %w", err)
	}
	for _, a := range have {
		if !a.Equal(*want) {
			if err := netlink.AddrDel(link, &a); err != nil {
				return fmt.Errorf("removing the address %s: %w", a.IPNet, err)
			}
		}
	}
	if err := netlink.AddrReplace(link, want); err != nil {
		return fmt.Errorf("setting the address %s: %w", want.IPNet, err)
	}
	for _, r := range lease.Routes {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipv4Address(r.To).IPNet, Gw: r.Router.AsSlice()}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("setting the route to %s by %s: %w", r.To, r.Router, err)
		}
	}
	if len(lease.Routes) > 0 || len(lease.Routers) == 0 {
		return nil
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: lease.Routers[0].AsSlice()}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("setting the default route by %s: %w", lease.Routers[0], err)
	}
	return nil
}

// unconfigure takes every IPv4 address from a link of the current namespace;
// the routes that need them go with them.
func unconfigure(link netlink.Link) error {
	have, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("listing the addresses: %w", err)
	}
	for _, a := range have {
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("removing the address %s: %w", a.IPNet, err)
		}
	}
	return nil
}
