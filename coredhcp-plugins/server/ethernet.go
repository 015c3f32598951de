package server

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

const (
	ethernetHeader = 14
	ipv4Header     = 20
	udpHeader      = 8
	frameHeaders   = ethernetHeader + ipv4Header + udpHeader
)

// appendFrame appends to b an Ethernet frame with a UDP datagram that cannot be
// fragmented, checksums included (RFC 894, 791, 768). The payload must leave room
// for the headers in the 65,535 octets of an IPv4 packet.
func appendFrame(b []byte, destination [6]byte, source net.HardwareAddr, from, to netip.AddrPort, payload []byte) []byte {
	const (
		etherTypeIPv4 = 0x0800
		versionIHL    = 4<<4 | ipv4Header/4
		dontFragment  = 0x4000
		timeToLive    = 64
		protocolUDP   = 17
	)
	b = append(b, destination[:]...)
	b = append(b, source...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv4)

	sourceIP, destinationIP := from.Addr().As4(), to.Addr().As4()
	udpLength := uint16(udpHeader + len(payload))
	ip := len(b)
	b = append(b, versionIHL, 0)
	b = binary.BigEndian.AppendUint16(b, ipv4Header+udpLength)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, dontFragment)
	b = append(b, timeToLive, protocolUDP, 0, 0)
	b = append(b, sourceIP[:]...)
	b = append(b, destinationIP[:]...)
	binary.BigEndian.PutUint16(b[ip+10:], ^fold(sum(0, b[ip:])))

	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, udpLength)
	b = append(b, 0, 0)
	b = append(b, payload...)
	// The pseudo header: both addresses, the protocol, and the length.
	check := ^fold(sum(sum(protocolUDP+uint32(udpLength), b[ip+12:udp]), b[udp:]))
	if check == 0 {
		check = 0xffff // 0 would say that there is no checksum
	}
	binary.BigEndian.PutUint16(b[udp+6:], check)
	return b
}

// sum adds up 16-bit words (RFC 1071); an odd octet at the end counts as the
// high half of a word. 65,535 octets do not overflow it.
func sum(s uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// frameWriter sends Ethernet frames, without waiting for room. Tests have one that keeps them.
type frameWriter interface {
	writeFrame(i *netInterface, frame []byte) error
	// prune closes what belongs to interfaces that are gone.
	prune(t *interfaceTable)
	close() error
}

// packetSockets sends frames through one packet socket for each interface, which
// is opened when it is first needed. The sockets receive nothing.
type packetSockets struct {
	mu    sync.Mutex
	conns map[int]*packetSocket // by interface index; an interface that comes back has another
}

type packetSocket struct {
	conn *packet.Conn
	raw  syscall.RawConn
}

var _ frameWriter = (*packetSockets)(nil)

func (s *packetSockets) writeFrame(i *netInterface, frame []byte) error {
	for retried := false; ; retried = true {
		c, err := s.conn(i)
		if err != nil {
			return err
		}
		if err = c.write(frame); err == nil || retried {
			return err
		}
		// The socket may have outlived something about its interface.
		s.mu.Lock()
		if s.conns[i.index] == c {
			delete(s.conns, i.index)
		}
		s.mu.Unlock()
		_ = c.conn.Close() // it has failed already
	}
}

// write does not wait for room.
func (c *packetSocket) write(frame []byte) (err error) {
	failed := c.raw.Write(func(fd uintptr) bool {
		_, err = unix.SendmsgN(int(fd), frame, nil, nil, unix.MSG_DONTWAIT)
		err = os.NewSyscallError("sendmsg", err)
		return true
	})
	return errors.Join(err, failed)
}

func (s *packetSockets) conn(i *netInterface) (*packetSocket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.conns[i.index]; ok {
		return c, nil
	}
	// Protocol 0 makes a socket that the kernel hands no frames to.
	conn, err := packet.Listen(&net.Interface{Index: i.index, Name: i.name, HardwareAddr: i.hardware}, packet.Raw, 0, nil)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if s.conns == nil {
		s.conns = make(map[int]*packetSocket)
	}
	c := &packetSocket{conn, raw}
	s.conns[i.index] = c
	return c, nil
}

func (s *packetSockets) prune(t *interfaceTable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for index, c := range s.conns {
		if _, there := t.byIndex[index]; !there {
			_ = c.conn.Close() // its interface is gone
			delete(s.conns, index)
		}
	}
}

func (s *packetSockets) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for index, c := range s.conns {
		errs = append(errs, c.conn.Close())
		delete(s.conns, index)
	}
	return errors.Join(errs...)
}
