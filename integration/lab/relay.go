//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// relay is a client whose messages reach the server as a DHCP relay agent sends
// them (RFC 2131 section 4.1.1): by unicast, with the agent's address in giaddr.
// The agent has only an address of 127.0.0.0/8 and an unprivileged port, so it
// names the client's network by link selection (RFC 3527) and asks for replies
// to the port that it sends from (RFC 8357).
type relay struct {
	lab     *Lab
	machine Machine
	conn    *net.UDPConn
	server  netip.AddrPort
	ack     *dhcpv4.DHCPv4
}

// resend is how long the relay waits for an answer before it asks again.
const resend = time.Second

func (l *Lab) startRelay(m Machine) (Client, error) {
	if !l.DHCP.IsValid() {
		return nil, errors.New("the lab does not know where the DHCP server listens")
	}
	r := &relay{lab: l, machine: m, server: l.DHCP}
	return r, l.Client.Do(func() (err error) {
		r.conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: r.server.Addr().AsSlice()})
		if err != nil {
			return fmt.Errorf("opening the relay's socket: %w", err)
		}
		return nil
	})
}

// relayed makes a client's message one that came through the relay.
func (r *relay) relayed(d *dhcpv4.DHCPv4) {
	d.HopCount++
	d.GatewayIPAddr = r.conn.LocalAddr().(*net.UDPAddr).IP
	d.UpdateOption(dhcpv4.OptRelayAgentInfo(
		dhcpv4.OptGeneric(dhcpv4.LinkSelectionSubOption, r.lab.server.Addr().AsSlice()),
		dhcpv4.OptGeneric(dhcpv4.RelaySourcePortSubOption, nil),
	))
}

func (r *relay) send(d *dhcpv4.DHCPv4) error {
	if _, err := r.conn.WriteToUDPAddrPort(d.ToBytes(), r.server); err != nil {
		return fmt.Errorf("relaying a %s: %w", d.MessageType(), err)
	}
	from := r.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	r.lab.wire.add(Message{Time: time.Now(), Sent: true, From: from, To: r.server, DHCPv4: d})
	return nil
}

// exchange sends a message until the server answers it with a wanted type.
func (r *relay) exchange(ctx context.Context, d *dhcpv4.DHCPv4, want dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	r.relayed(d)
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		if err := r.send(d); err != nil {
			return nil, err
		}
		until := time.Now().Add(resend)
		if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
			until = deadline
		}
		if err := r.conn.SetReadDeadline(until); err != nil {
			return nil, err
		}
		for {
			n, from, err := r.conn.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("waiting for the %s: %w", want, err)
			}
			now := time.Now()
			answer, err := dhcpv4.FromBytes(buffer[:n])
			if err != nil || answer.TransactionID != d.TransactionID {
				continue
			}
			to := r.conn.LocalAddr().(*net.UDPAddr).AddrPort()
			r.lab.wire.add(Message{Time: now, From: from, To: to, DHCPv4: answer})
			switch answer.MessageType() {
			case want:
				return answer, nil
			case dhcpv4.MessageTypeNak:
				return nil, fmt.Errorf("the server refused the %s: NAK %q", d.MessageType(), answer.Message())
			}
		}
	}
	return nil, fmt.Errorf("waiting for the %s: %w", want, ctx.Err())
}

func (r *relay) Lease(ctx context.Context) (Lease, error) {
	discover, err := dhcpv4.NewDiscovery(r.machine.MAC, r.machine.modifiers()...)
	if err != nil {
		return Lease{}, fmt.Errorf("making a DISCOVER: %w", err)
	}
	offer, err := r.exchange(ctx, discover, dhcpv4.MessageTypeOffer)
	if err != nil {
		return Lease{}, err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, r.machine.modifiers()...)
	if err != nil {
		return Lease{}, fmt.Errorf("making a REQUEST: %w", err)
	}
	return r.request(ctx, request)
}

func (r *relay) Renew(ctx context.Context) (Lease, error) {
	request, err := dhcpv4.NewRenewFromAck(r.ack, r.machine.modifiers()...)
	if err != nil {
		return Lease{}, fmt.Errorf("making a REQUEST: %w", err)
	}
	return r.request(ctx, request)
}

func (r *relay) request(ctx context.Context, request *dhcpv4.DHCPv4) (Lease, error) {
	ack, err := r.exchange(ctx, request, dhcpv4.MessageTypeAck)
	if err != nil {
		return Lease{}, err
	}
	r.ack = ack
	return leaseOf(ack), nil
}

// Release goes through the relay too, as from a network whose clients cannot
// reach the server themselves.
func (r *relay) Release(context.Context) error {
	release, err := dhcpv4.NewReleaseFromACK(r.ack)
	if err != nil {
		return fmt.Errorf("making a RELEASE: %w", err)
	}
	r.relayed(release)
	return errors.Join(r.send(release), r.conn.Close())
}

func (r *relay) Kill() { _ = r.conn.Close() }
