//go:build linux

package lab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Join makes a further namespace and a wire from the server's to it. There the link
// is called name and has the address near; here it is Link, has the address far,
// and leads to everything else. Without near, the server speaks by its own address,
// as to a machine behind a router. The namespace ends with the lab.
func (l *Lab) Join(name string, near, far netip.Prefix) (*Namespace, error) {
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
	err = l.Server.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		pair := &netlink.Veth{LinkAttrs: attrs, PeerName: Link, PeerNamespace: netlink.NsFd(int(n.handle))}
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("making the veth pair %s: %w", name, err)
		}
		if err := raise(name); err != nil {
			return err
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("finding the link %s: %w", name, err)
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipv4Address(far.Masked()).IPNet, Scope: netlink.SCOPE_LINK}
		if near.IsValid() {
			if err := netlink.AddrAdd(link, ipv4Address(near)); err != nil {
				return fmt.Errorf("giving the link %s %s: %w", name, near, err)
			}
		} else {
			route.Src = l.server.Addr().AsSlice()
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("setting the route to %s: %w", far, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return n, n.Do(func() error {
		for _, name := range []string{"lo", Link} {
			if err := raise(name); err != nil {
				return err
			}
		}
		link, err := netlink.LinkByName(Link)
		if err != nil {
			return fmt.Errorf("finding the link: %w", err)
		}
		if err := netlink.AddrAdd(link, ipv4Address(far)); err != nil {
			return fmt.Errorf("giving %s %s: %w", name, far, err)
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipv4Address(netip.MustParsePrefix("0.0.0.0/0")).IPNet, Scope: netlink.SCOPE_LINK}
		if near.IsValid() {
			route.Gw, route.Scope = near.Addr().AsSlice(), netlink.SCOPE_UNIVERSE
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("setting the default route of %s: %w", name, err)
		}
		return nil
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
