package leases

import (
	"encoding/binary"
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
	// id and seq are those of all our echoes: who cannot see them cannot answer them. Without raw the kernel chooses id, and
	// hands over no replies but those to it.
	id, seq uint16
}

// openICMP opens a raw socket, or else the one that the system gives to ordinary
// users (net.ipv4.ping_group_range).
func openICMP() (medium, error) {
	r := rand.Uint32() //nolint:gosec // ChaCha8 with a random seed, which is enough to be unknown for 0.3 s
	id, seq := uint16(r>>16), uint16(r)
	conn, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err == nil {
		return &icmpMedium{conn: conn, raw: true, id: id, seq: seq}, nil
	}
	if conn, pingErr := icmp.ListenPacket("udp4", "0.0.0.0"); pingErr == nil {
		return &icmpMedium{conn: conn, seq: seq}, nil
	}
	return nil, fmt.Errorf("ICMP: %w", err)
}

func (w *icmpMedium) ask(a netip.Addr) error {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(w.id), Seq: int(w.seq), Data: []byte("is this address free?")}}
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

// listen takes the replies to our echoes.
func (w *icmpMedium) listen(f func(netip.Addr, lease.HardwareAddress)) error {
	b := make([]byte, 1500)
	for {
		n, peer, err := w.conn.ReadFrom(b)
		if err != nil {
			return err
		}
		if !w.ours(b[:n]) {
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

// ours says whether an ICMP message is the reply to an echo of ours.
func (w *icmpMedium) ours(b []byte) bool {
	return len(b) >= 8 && b[0] == byte(ipv4.ICMPTypeEchoReply) &&
		(!w.raw || binary.BigEndian.Uint16(b[4:]) == w.id) && binary.BigEndian.Uint16(b[6:]) == w.seq
}

func (w *icmpMedium) Close() error { return w.conn.Close() }
