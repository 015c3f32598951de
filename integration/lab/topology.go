//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
)

// NewNamespace makes another network namespace, with nothing in it but its
// loopback link. It ends with the lab.
func (l *Lab) NewNamespace(name string) (*Namespace, error) {
	if l.Mode == Loopback {
		return nil, errNotLinked
	}
	n, err := newNamespace(name, true)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.joined = append(l.joined, n)
	l.mu.Unlock()
	return n, n.Do(func() error { return raise("lo") })
}

// An End is one end of a wire.
type End struct {
	Space   *Namespace
	Link    string           // name of the network interface
	MAC     net.HardwareAddr // nil: one of the kernel's choice
	Address netip.Prefix     // the zero Prefix: none
}

// Join joins two namespaces by a wire.
func Join(a, b End) error {
	err := a.Space.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = a.Link, a.MAC
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b.Link, PeerHardwareAddr: b.MAC, PeerNamespace: netlink.NsFd(int(b.Space.handle))})
	})
	if err != nil {
		return fmt.Errorf("joining %s and %s: %w", a.Link, b.Link, err)
	}
	for _, end := range []End{a, b} {
		if err := end.Space.Do(func() error { return errors.Join(end.address(), raise(end.Link)) }); err != nil {
			return err
		}
	}
	return nil
}

func (e End) address() error {
	if !e.Address.IsValid() {
		return nil
	}
	link, err := netlink.LinkByName(e.Link)
	if err != nil {
		return fmt.Errorf("finding the link %s: %w", e.Link, err)
	}
	if err := netlink.AddrAdd(link, ipv4Address(e.Address)); err != nil {
		return fmt.Errorf("giving %s the address %s: %w", e.Link, e.Address, err)
	}
	return nil
}

// Bridge makes links of the namespace the ports of a bridge, so that the machines
// behind them are on one wire. The bridge has the address, and none of its ports has
// one any more.
func (n *Namespace) Bridge(name string, address netip.Prefix, ports ...string) error {
	return n.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = name, bridgeMAC // else it changes with the ports
		bridge := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("making the bridge %s: %w", name, err)
		}
		for _, port := range ports {
			link, err := netlink.LinkByName(port)
			if err != nil {
				return fmt.Errorf("finding the link %s: %w", port, err)
			}
			if err := errors.Join(unconfigure(link), netlink.LinkSetMaster(link, bridge)); err != nil {
				return fmt.Errorf("making %s a port of %s: %w", port, name, err)
			}
		}
		if err := netlink.AddrAdd(bridge, ipv4Address(address)); err != nil {
			return fmt.Errorf("giving %s the address %s: %w", name, address, err)
		}
		return raise(name)
	})
}

// bridgeMAC is a bridge's own, from the range that RFC 7042 keeps for documentation.
var bridgeMAC = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0xfd}

// Route has the namespace send what goes to a network to a router.
func (n *Namespace) Route(to netip.Prefix, router netip.Addr) error {
	return n.Do(func() error {
		if err := netlink.RouteReplace(&netlink.Route{Dst: ipv4Address(to).IPNet, Gw: router.AsSlice()}); err != nil {
			return fmt.Errorf("setting the route to %s by %s: %w", to, router, err)
		}
		return nil
	})
}

// Forward makes the namespace a router.
func (n *Namespace) Forward() error {
	return n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) })
}

// SetMAC gives a link of the namespace a hardware address.
func (n *Namespace) SetMAC(name string, mac net.HardwareAddr) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("finding the link %s: %w", name, err)
		}
		return netlink.LinkSetHardwareAddr(link, mac)
	})
}

// AddAddress gives the namespace one more address, of no network.
func (n *Namespace) AddAddress(a netip.Addr) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("finding lo: %w", err)
		}
		if err := netlink.AddrAdd(link, ipv4Address(netip.PrefixFrom(a, a.BitLen()))); err != nil {
			return fmt.Errorf("adding the address %s: %w", a, err)
		}
		return nil
	})
}
