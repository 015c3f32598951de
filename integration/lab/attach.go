//go:build linux

package lab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Attach makes a further namespace, joined to the server's by a wire. There the link
// is called name and has the address near; here it is Link, has the address far,
// and leads to everything else. Without near, the server speaks by its own address,
// as to a machine behind a router. The namespace ends with the lab.
func (l *Lab) Attach(name string, near, far netip.Prefix) (*Namespace, error) {
	n, err := l.NewNamespace(name)
	if err != nil {
		return nil, err
	}
	if err := Join(End{Space: l.Server, Link: name, Address: near}, End{Space: n, Link: Link, Address: far}); err != nil {
		return nil, err
	}
	out := netlink.Route{Dst: ipv4Address(far.Masked()).IPNet, Scope: netlink.SCOPE_LINK}
	back := netlink.Route{Dst: ipv4Address(netip.PrefixFrom(netip.IPv4Unspecified(), 0)).IPNet}
	if near.IsValid() {
		back.Gw = near.Addr().AsSlice()
	} else {
		out.Src, back.Scope = l.server.Addr().AsSlice(), netlink.SCOPE_LINK
	}
	if err := l.Server.route(name, out); err != nil {
		return nil, err
	}
	return n, n.route(Link, back)
}

// route has the namespace send what goes to r.Dst by a link.
func (n *Namespace) route(name string, r netlink.Route) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("finding the link %s: %w", name, err)
		}
		r.LinkIndex = link.Attrs().Index
		if err := netlink.RouteReplace(&r); err != nil {
			return fmt.Errorf("setting the route to %s by %s: %w", r.Dst, name, err)
		}
		return nil
	})
}
