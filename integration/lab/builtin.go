//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

// modifiers are what a client built on insomniacslk/dhcp says of its machine.
func (m Machine) modifiers() []dhcpv4.Modifier {
	mods := []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(wanted...)}
	if m.Hostname != "" {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptHostName(m.Hostname)))
	}
	if m.LeaseTime != 0 {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(m.LeaseTime)))
	}
	return mods
}

// builtin is a client in this process, over the wire.
type builtin struct {
	lab     *Lab
	machine Machine
	client  *nclient4.Client
	lease   *nclient4.Lease
}

func (l *Lab) startBuiltin(ctx context.Context, m Machine) (Client, error) {
	b := &builtin{lab: l, machine: m}
	return b, l.Client.Do(func() (err error) {
		b.client, err = nclient4.New(Link, nclient4.WithTimeout(time.Second), nclient4.WithRetry(60))
		if err != nil {
			return fmt.Errorf("starting the built-in DHCP client: %w", err)
		}
		return ctx.Err()
	})
}

func (b *builtin) Lease(ctx context.Context) (Lease, error) {
	l, err := b.client.Request(ctx, b.machine.modifiers()...)
	if err != nil {
		return Lease{}, fmt.Errorf("asking for a lease: %w", err)
	}
	return b.take(l)
}

func (b *builtin) Renew(ctx context.Context) (Lease, error) {
	l, err := b.client.Renew(ctx, b.lease, b.machine.modifiers()...)
	if err != nil {
		return Lease{}, fmt.Errorf("renewing the lease: %w", err)
	}
	return b.take(l)
}

func (b *builtin) take(l *nclient4.Lease) (Lease, error) {
	b.lease = l
	lease := leaseOf(l.ACK)
	return lease, b.onLink(func(link netlink.Link) error { return configure(link, lease) })
}

func (b *builtin) onLink(f func(netlink.Link) error) error {
	return b.lab.Client.Do(func() error {
		link, err := netlink.LinkByName(Link)
		if err != nil {
			return fmt.Errorf("finding the client's link: %w", err)
		}
		return f(link)
	})
}

// Release sends the message from the leased address, as RFC 2131 section 4.4.4
// has it; nclient4 would send it from 0.0.0.0.
func (b *builtin) Release(ctx context.Context) error {
	release, err := dhcpv4.NewReleaseFromACK(b.lease.ACK)
	if err != nil {
		return fmt.Errorf("making a RELEASE: %w", err)
	}
	since := time.Now()
	err = b.onLink(func(link netlink.Link) error {
		from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(address(b.lease.ACK.YourIPAddr), nclient4.ClientPort))
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(address(b.lease.ACK.ServerIdentifier()), nclient4.ServerPort))
		conn, err := net.DialUDP("udp4", from, to)
		if err != nil {
			return fmt.Errorf("sending a RELEASE: %w", err)
		}
		_, err = conn.Write(release.ToBytes())
		return errors.Join(err, conn.Close())
	})
	if err != nil {
		return err
	}
	if _, err := b.lab.wire.WaitRelease(ctx, since, address(b.lease.ACK.YourIPAddr)); err != nil {
		return err
	}
	return errors.Join(b.onLink(unconfigure), b.client.Close())
}

func (b *builtin) Kill() { _ = b.client.Close() }
