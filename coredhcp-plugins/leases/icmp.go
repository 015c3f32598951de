package leases

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
)

// icmpMedium asks by ICMP echo, wherever an address is routed to.
type icmpMedium struct {
	conn *icmp.PacketConn
	raw  bool
	id   int
}

// openICMP opens a raw socket, or else the one that the system gives to ordinary
// users (net.ipv4.ping_group_range).
func openICMP() (medium, error) {
	id := rand.IntN(1 << 16) //nolint:gosec // tells our echoes from those of others, no secret
	conn, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err == nil {
		return &icmpMedium{conn: conn, raw: true, id: id}, nil
	}
	if conn, pingErr := icmp.ListenPacket("udp4", "0.0.0.0"); pingErr == nil {
		return &icmpMedium{conn: conn, id: id}, nil
	}
	return nil, fmt.Errorf("ICMP: %w", err)
}

func (w *icmpMedium) ask(a netip.Addr) error {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: w.id, Seq: 1, Data: []byte("is this address free?")}}
	b, err := m.Marshal(nil)
	if err != nil {
		return fmt.Errorf("ICMP: %w", err)
	}
	var to net.Addr = &net.UDPAddr{IP: a.AsSlice()}
	if w.raw {
		to = &net.IPAddr{IP: a.AsSlice()}
	}
	if _, err := w.conn.WriteTo(b, to); err != nil {
		return fmt.Errorf("ICMP: %w", err)
	}
	return nil
}

// listen takes every echo reply: whom an address answers does not matter.
func (w *icmpMedium) listen(f func(netip.Addr, lease.HardwareAddress)) error {
	b := make([]byte, 1500)
	for {
		n, peer, err := w.conn.ReadFrom(b)
		if err != nil {
			return err
		}
		if n == 0 || b[0] != byte(ipv4.ICMPTypeEchoReply) {
			continue
		}
		var from net.IP
		switch p := peer.(type) {
		case *net.UDPAddr:
			from = p.IP
		case *net.IPAddr:
			from = p.IP
		}
		if a, ok := netip.AddrFromSlice(from.To4()); ok {
			f(a, lease.HardwareAddress{})
		}
	}
}

func (w *icmpMedium) Close() error { return w.conn.Close() }
