//go:build linux

package integration

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// A transport carries a client's message to the server, and brings the answer.
type transport interface {
	send(m *dhcpv4.DHCPv4) error
	// receive returns the next message to a client, or an error after a second.
	receive(deadline time.Time) (*dhcpv4.DHCPv4, error)
}

// frames are Ethernet frames on the wire of a namespace, to and from whatever
// hardware address.
type frames struct{ conn *packet.Conn }

func newFrames(n *lab.Namespace, link string) (*frames, error) {
	f := &frames{}
	return f, n.Do(func() error {
		ifi, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		f.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_IP, nil)
		return err
	})
}

func (f *frames) send(m *dhcpv4.DHCPv4) error {
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4zero, DstIP: net.IPv4bcast}
	udp := &layers.UDP{SrcPort: dhcpv4.ClientPort, DstPort: dhcpv4.ServerPort}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return err
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: m.ClientHWAddr, DstMAC: all, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(m.ToBytes())); err != nil {
		return err
	}
	_, err := f.conn.WriteTo(b.Bytes(), &packet.Addr{HardwareAddr: all})
	return err
}

func (f *frames) receive(deadline time.Time) (*dhcpv4.DHCPv4, error) {
	if err := f.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	buffer := make([]byte, 2048)
	for {
		n, _, err := f.conn.ReadFrom(buffer)
		if err != nil {
			return nil, err
		}
		p := gopacket.NewPacket(buffer[:n], layers.LayerTypeEthernet, gopacket.Default)
		if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok && udp.DstPort == dhcpv4.ClientPort {
			if m, err := dhcpv4.FromBytes(udp.Payload); err == nil {
				return m, nil
			}
		}
	}
}

// tunnel is what the gateway says of where a client is (RFC 3046), and that clients
// are to take it for the server (RFC 5107).
var tunnel = slices.Concat([]byte("\x01\x06tunnel\x0b\x04"), gatewayAtHome.Addr().AsSlice())

// A gateway is where the tunnels of home readers end: a relay (RFC 3456).
type gateway struct {
	conn   *net.UDPConn
	server netip.AddrPort
}

func newGateway(n *lab.Namespace, address, server netip.Addr) (*gateway, error) {
	g := &gateway{server: netip.AddrPortFrom(server, dhcpv4.ServerPort)}
	return g, n.Do(func() (err error) {
		g.conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: address.AsSlice(), Port: dhcpv4.ServerPort})
		return err
	})
}

func (g *gateway) send(m *dhcpv4.DHCPv4) error {
	m.GatewayIPAddr, m.HopCount = g.conn.LocalAddr().(*net.UDPAddr).IP, 1
	m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRelayAgentInformation, tunnel))
	_, err := g.conn.WriteToUDPAddrPort(m.ToBytes(), g.server)
	return err
}

func (g *gateway) receive(deadline time.Time) (*dhcpv4.DHCPv4, error) {
	if err := g.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	buffer := make([]byte, 2048)
	n, err := g.conn.Read(buffer)
	if err != nil {
		return nil, err
	}
	return dhcpv4.FromBytes(buffer[:n])
}

// message is what the client says.
func (p *patient) message(kind dhcpv4.MessageType, more ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.New(dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(p.mac))
	if err != nil {
		return nil, err
	}
	if p.mac == nil {
		m.HWType = iana.HWType(31)
		m.ClientHWAddr = nil
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientIdentifier, p.id))
		m.UpdateOption(dhcpv4.OptAutoConfigure(dhcpv4.AutoConfigure))
	}
	if p.pxe {
		m.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016"))
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, p.uuid()))
	}
	m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionParameterRequestList, p.asked))
	if p.says.host != "" {
		m.UpdateOption(dhcpv4.OptHostName(p.says.host))
	}
	if p.says.fqdn != "" {
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionFQDN, []byte(p.says.fqdn)))
	}
	for _, f := range more {
		f(m)
	}
	return m, nil
}

// uuid is what boot code says in option 97, and is told again.
func (p *patient) uuid() []byte {
	return append(bytes.Repeat([]byte{0}, 11), append(p.mac, p.id...)...)[:17]
}

// exchange sends a message until it is answered.
func exchange(by transport, m *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	for range 60 {
		if err := by.send(m); err != nil {
			return nil, err
		}
		for deadline := time.Now().Add(time.Second); ; {
			r, err := by.receive(deadline)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, err
			}
			if r.TransactionID == m.TransactionID && r.OpCode == dhcpv4.OpcodeBootReply {
				return r, nil
			}
		}
	}
	return nil, fmt.Errorf("no answer to the %s of %s", m.MessageType(), m.ClientHWAddr)
}

// lease has the client get an address, as when it is switched on for the first
// time (SELECTING).
func (p *patient) lease(by transport) error {
	discover, err := p.message(dhcpv4.MessageTypeDiscover)
	if err != nil {
		return err
	}
	offer, err := exchange(by, discover)
	if err != nil {
		return err
	}
	request, err := p.message(dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier())),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)))
	if err != nil {
		return err
	}
	return p.take(by, request)
}

// reboot has the client ask for the address that it has (INIT-REBOOT).
func (p *patient) reboot(by transport) error {
	request, err := p.message(dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(p.got.AsSlice())))
	if err != nil {
		return err
	}
	had := p.got
	if err := p.take(by, request); err != nil {
		return err
	}
	if p.got != had {
		return fmt.Errorf("%s has %s after %s", p.name(), p.got, had)
	}
	return nil
}

func (p *patient) take(by transport, request *dhcpv4.DHCPv4) error {
	ack, err := exchange(by, request)
	if err != nil {
		return err
	}
	got, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if ack.MessageType() != dhcpv4.MessageTypeAck || !p.ward.prefix.Contains(got) || p.address.IsValid() && got != p.address {
		return fmt.Errorf("%s of %s: %s for %s, expected an ACK for %s", p.name(), p.ward.name, ack.MessageType(), got, p.address)
	}
	p.got = got
	return nil
}

func (p *patient) name() string {
	if p.label != "" {
		return p.label
	}
	return fmt.Sprintf("guest %s%q", p.mac, p.id)
}

// clockChange is a zone of the tz database in which summer time begins at a time,
// and its rule as POSIX writes it.
func clockChange(at time.Time) (data []byte, rule string) {
	wall := at.UTC().Add(time.Hour) // standard time is an hour east of Greenwich
	rule = fmt.Sprintf("CET-1CEST,M%d.%d.%d/%d:%02d:%02d,M5.1.0", wall.Month(), (wall.Day()-1)/7+1, wall.Weekday(), wall.Hour(), wall.Minute(), wall.Second())
	block := append([]byte("TZif3"), make([]byte, 15)...)
	for _, count := range []uint32{0, 0, 0, 0, 1, 4} { // one local time type, whose name takes four octets
		block = binary.BigEndian.AppendUint32(block, count)
	}
	block = append(block, 0, 0, 0x0e, 0x10, 0, 0, 'C', 'E', 'T', 0)
	return []byte(string(block) + string(block) + "\n" + rule + "\n"), rule
}
