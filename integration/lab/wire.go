//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// A Message is a DHCP message that crossed the client's end of the wire.
type Message struct {
	Time time.Time // when the kernel took it from or put it on the wire
	Sent bool      // by the client
	From netip.AddrPort
	To   netip.AddrPort
	*dhcpv4.DHCPv4
}

// A Wire records the DHCP messages of the client, whichever program that is.
// Its times are the kernel's, so that what happens after an ACK can be measured
// from the ACK's arrival, and not from when a client program had worked it up.
type Wire struct {
	mu       sync.Mutex
	messages []Message
	more     chan struct{} // closed and replaced when a message is added
	socket   *os.File
	done     chan struct{}
}

func newWire() *Wire { return &Wire{more: make(chan struct{})} }

// Messages returns what was recorded, in its order.
func (w *Wire) Messages() []Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.messages)
}

// Wait returns the first message since a moment for which match holds.
func (w *Wire) Wait(ctx context.Context, since time.Time, match func(Message) bool) (Message, error) {
	seen := 0
	for {
		w.mu.Lock()
		fresh, more := w.messages[seen:], w.more
		seen = len(w.messages)
		w.mu.Unlock()
		for _, m := range fresh {
			if !m.Time.Before(since) && match(m) {
				return m, nil
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Message{}, fmt.Errorf("waiting for a DHCP message: %w", ctx.Err())
		}
	}
}

// WaitACK waits for an ACK that gives the address.
func (w *Wire) WaitACK(ctx context.Context, since time.Time, address netip.Addr) (Message, error) {
	m, err := w.Wait(ctx, since, func(m Message) bool {
		got, _ := netip.AddrFromSlice(m.YourIPAddr.To4())
		return !m.Sent && m.MessageType() == dhcpv4.MessageTypeAck && got == address
	})
	if err != nil {
		return m, fmt.Errorf("ACK for %s: %w", address, err)
	}
	return m, nil
}

// WaitRelease waits for a client's RELEASE of the address.
func (w *Wire) WaitRelease(ctx context.Context, since time.Time, address netip.Addr) (Message, error) {
	m, err := w.Wait(ctx, since, func(m Message) bool {
		got, _ := netip.AddrFromSlice(m.ClientIPAddr.To4())
		return m.Sent && m.MessageType() == dhcpv4.MessageTypeRelease && got == address
	})
	if err != nil {
		return m, fmt.Errorf("RELEASE of %s: %w", address, err)
	}
	return m, nil
}

func (w *Wire) add(m Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.messages = append(w.messages, m)
	close(w.more)
	w.more = make(chan struct{})
}

// listen starts the recording on every link of the current namespace.
func (w *Wire) listen() error {
	// Protocol 0 until it is bound, so that nothing is received before.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("opening a packet socket: %w", err)
	}
	w.socket = os.NewFile(uintptr(fd), "wire")
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("asking for time stamps: %w", err)
	}
	ifi, err := net.InterfaceByName(Link)
	if err != nil {
		return fmt.Errorf("finding the client's link: %w", err)
	}
	// ETH_P_ALL, because only that also shows frames that are sent.
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}); err != nil {
		return fmt.Errorf("binding the packet socket: %w", err)
	}
	conn, err := w.socket.SyscallConn()
	if err != nil {
		return err
	}
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		packet, control := make([]byte, 64<<10), make([]byte, 256)
		for {
			var (
				n, oobn int
				from    unix.Sockaddr
				recvErr error
			)
			err := conn.Read(func(fd uintptr) bool {
				n, oobn, _, from, recvErr = unix.Recvmsg(int(fd), packet, control, 0)
				return !errors.Is(recvErr, unix.EAGAIN)
			})
			if err != nil {
				return // closed
			}
			if recvErr != nil {
				continue // the link went down; its frames come again when it is up
			}
			m, ok := decode(packet[:n])
			if !ok {
				continue
			}
			m.Time = timestamp(control[:oobn])
			if ll, ok := from.(*unix.SockaddrLinklayer); ok {
				m.Sent = ll.Pkttype == unix.PACKET_OUTGOING
			}
			w.add(m)
		}
	}()
	return nil
}

func (w *Wire) close() error {
	if w.socket == nil {
		return nil
	}
	err := w.socket.Close()
	if w.done != nil {
		<-w.done
	}
	w.socket = nil
	return err
}

// timestamp is the time that the kernel gave a packet.
func timestamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS &&
			len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			return time.Unix((*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Unix())
		}
	}
	return time.Now()
}

// decode reads a DHCP message out of an IPv4 packet.
func decode(packet []byte) (Message, bool) {
	const udp = 17
	if len(packet) < 20 || packet[0]>>4 != 4 || packet[9] != udp {
		return Message{}, false
	}
	header := int(packet[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(packet[2:]))
	if header < 20 || total < header+8 || len(packet) < total {
		return Message{}, false
	}
	datagram := packet[header:total]
	source, destination := binary.BigEndian.Uint16(datagram), binary.BigEndian.Uint16(datagram[2:])
	if !slices.Contains([]uint16{67, 68}, destination) {
		return Message{}, false
	}
	d, err := dhcpv4.FromBytes(slices.Clone(datagram[8:]))
	if err != nil {
		return Message{}, false
	}
	return Message{
		From:   netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[12:16])), source),
		To:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[16:20])), destination),
		DHCPv4: d,
	}, true
}
