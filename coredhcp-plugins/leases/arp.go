package leases

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
)

const (
	etherTypeARP  = 0x0806
	ethernetSize  = 14
	arpSize       = 28 // of ARP for IPv4 on Ethernet (RFC 826)
	smallestFrame = 60 // without its checksum
)

var everyStation = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// arpMedium asks by ARP on one Ethernet.
type arpMedium struct {
	own  net.HardwareAddr
	conn *packet.Conn
}

func openARP(interfaceName string) (medium, error) {
	i, err := net.InterfaceByName(interfaceName)
	if err != nil {
		return nil, fmt.Errorf("ARP on %s: %w", interfaceName, err)
	}
	if len(i.HardwareAddr) != len(everyStation) {
		return nil, fmt.Errorf("ARP on %s: found hardware address %q, expected an Ethernet", interfaceName, i.HardwareAddr)
	}
	conn, err := packet.Listen(i, packet.Raw, etherTypeARP, nil)
	if err != nil {
		return nil, fmt.Errorf("ARP on %s: %w", interfaceName, err)
	}
	return &arpMedium{own: i.HardwareAddr, conn: conn}, nil
}

// ask sends an ARP Probe: the sender has no address yet, so nobody's cache learns
// anything from it (RFC 5227 section 2.1.1).
func (w *arpMedium) ask(a netip.Addr) error {
	target := a.As4()
	b := make([]byte, 0, smallestFrame)
	b = append(append(b, everyStation...), w.own...)
	b = binary.BigEndian.AppendUint16(b, etherTypeARP)
	b = append(b, 0, 1, 0x08, 0x00, 6, 4, 0, 1) // Ethernet, IPv4, their lengths, request
	b = append(append(b, w.own...), 0, 0, 0, 0)
	b = append(append(b, 0, 0, 0, 0, 0, 0), target[:]...)
	if _, err := w.conn.WriteTo(b[:smallestFrame], &packet.Addr{HardwareAddr: everyStation}); err != nil {
		return fmt.Errorf("ARP: %w", err)
	}
	return nil
}

func (w *arpMedium) listen(f func(netip.Addr, lease.HardwareAddress)) error {
	b := make([]byte, 128)
	for {
		n, _, err := w.conn.ReadFrom(b)
		if err != nil {
			return err
		}
		if a, by, ok := arpSender(b[:n]); ok && !bytes.Equal(by, w.own) {
			f(a, lease.HardwareAddress{Type: 1, Addr: string(by)})
		}
	}
}

// arpSender is who says by an ARP request or reply that it uses an address; none is
// said by a probe.
func arpSender(frame []byte) (a netip.Addr, by net.HardwareAddr, ok bool) {
	if len(frame) < ethernetSize+arpSize || binary.BigEndian.Uint16(frame[12:]) != etherTypeARP {
		return a, nil, false
	}
	arp := frame[ethernetSize:]
	if !bytes.Equal(arp[:6], []byte{0, 1, 0x08, 0x00, 6, 4}) {
		return a, nil, false
	}
	a = netip.AddrFrom4([4]byte(arp[14:18]))
	return a, net.HardwareAddr(arp[8:14]), !a.IsUnspecified()
}

func (w *arpMedium) Close() error { return w.conn.Close() }
