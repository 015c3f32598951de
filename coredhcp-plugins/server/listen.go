package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// batch is how many packets one system call may read.
	batch = 32
	// receiveBuffer, in octets, holds the packets of some thousand clients that
	// come back at once after a power cut. The kernel may allow less.
	receiveBuffer = 4 << 20
)

// errAbsent says that an address cannot be listened on yet: its interface or the
// address itself does not exist.
var errAbsent = errors.New("not there yet")

// listener is the socket of one configured address.
type listener struct {
	conn  *net.UDPConn
	pc    *ipv4.PacketConn
	iface *netInterface // the interface that it is bound to, nil if none
	port  uint16
}

// listen opens the socket for an address of the configuration; its zone is the
// interface to bind to.
func (s *Server) listen(ctx context.Context, a net.UDPAddr) (*listener, error) {
	l := &listener{}
	if a.Zone != "" {
		t, err := s.interfaces.get(interfaceAge / 2)
		if err != nil {
			return nil, err
		}
		if l.iface = t.byName[a.Zone]; l.iface == nil {
			return nil, fmt.Errorf("interface %s: %w", a.Zone, errAbsent)
		}
	}
	if a.IP == nil { // CoreDHCP's default, without `listen`
		a.IP = net.IPv4zero
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, a.Zone)
	}}
	pc, err := config.ListenPacket(ctx, "udp4", net.JoinHostPort(a.IP.String(), strconv.Itoa(a.Port)))
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%w: %w", errAbsent, err)
	case err != nil:
		return nil, err
	}
	l.conn = pc.(*net.UDPConn)
	l.port = l.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	l.pc = ipv4.NewPacketConn(l.conn)
	if err := l.setUp(a); err != nil {
		return nil, errors.Join(err, l.conn.Close())
	}
	return l, nil
}

func control(c syscall.RawConn, device string) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		for _, option := range [...]int{unix.SO_REUSEADDR, unix.SO_BROADCAST} {
			if failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 1); failed != nil {
				failed = os.NewSyscallError("setsockopt", failed)
				return
			}
		}
		if device != "" {
			failed = os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(int(fd), device))
		}
	})
	return errors.Join(err, failed)
}

func (l *listener) setUp(a net.UDPAddr) error {
	if err := l.conn.SetReadBuffer(receiveBuffer); err != nil {
		return err
	}
	if err := l.pc.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true); err != nil {
		return err
	}
	if !a.IP.IsMulticast() {
		return nil
	}
	var on *net.Interface
	if l.iface != nil {
		on = &net.Interface{Index: l.iface.index, Name: l.iface.name}
	}
	return l.pc.JoinGroup(on, &net.UDPAddr{IP: a.IP})
}

// serve reads from one configured address until ctx ends, and hands the packets
// to w. l is its socket, nil if that could not be opened yet. Whenever the
// interface is not there, serve waits for it; one that comes back has a new
// index, and a socket that is bound to the old one would stay deaf. The last
// socket is left open for the replies that are still to be sent.
func (s *Server) serve(ctx context.Context, a net.UDPAddr, l *listener, w *workers) {
	log := s.log.With("address", a.String())
	for waiting := false; ; {
		for l == nil {
			var err error
			if l, err = s.listen(ctx, a); err == nil {
				s.keep(l)
				log.Info("listening")
				waiting = false
				break
			}
			if ctx.Err() != nil {
				return
			}
			if !waiting {
				log.Warn("cannot listen, trying again until it works", "error", err)
				waiting = true
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(interfaceAge):
			}
		}
		s.read(ctx, l, w)
		if ctx.Err() != nil {
			return
		}
		log.Warn("interface is gone")
		waiting = true
		s.drop(l)
		l = nil
	}
}

// read hands packets to w until ctx ends or the listener's interface is gone.
func (s *Server) read(ctx context.Context, l *listener, w *workers) {
	defer context.AfterFunc(ctx, func() {
		_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // fails only if the socket is closed
	})()
	messages := make([]ipv4.Message, batch)
	owned := make([]*[maxPacket]byte, batch)
	for i := range messages {
		owned[i] = buffers.Get().(*[maxPacket]byte)
		messages[i].Buffers = [][]byte{owned[i][:]}
		messages[i].OOB = ipv4.NewControlMessage(ipv4.FlagInterface | ipv4.FlagDst)
	}
	defer func() {
		for _, b := range owned {
			buffers.Put(b)
		}
	}()
	var checked time.Time
	for {
		if now := time.Now(); now.Sub(checked) >= interfaceAge {
			if !s.check(l) {
				return
			}
			checked = now
			_ = l.conn.SetReadDeadline(now.Add(interfaceAge)) // likewise
		}
		if ctx.Err() != nil {
			return
		}
		n, err := l.pc.ReadBatch(messages, 0)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				s.lines.read.Log(s.log.Warn, "reading", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(interfaceAge / 10):
				}
			}
			continue
		}
		at := time.Now()
		for i := range messages[:n] {
			m := &messages[i]
			if s.take(l, w, m, owned[i], at) {
				owned[i] = buffers.Get().(*[maxPacket]byte)
				m.Buffers[0] = owned[i][:]
			}
		}
	}
}

// take hands one packet, read at a moment, to w. It returns false when the buffer is still the
// caller's.
func (s *Server) take(l *listener, w *workers, m *ipv4.Message, buffer *[maxPacket]byte, at time.Time) bool {
	r := received{buffer: buffer, length: m.N, listener: l, at: at}
	if from, ok := m.Addr.(*net.UDPAddr); ok {
		r.from = netip.AddrPortFrom(Address(from.IP), uint16(from.Port))
	}
	if m.Flags&unix.MSG_TRUNC != 0 {
		s.malformed(r.from, errOversized)
		return false
	}
	var cm ipv4.ControlMessage
	if err := cm.Parse(m.OOB[:m.NN]); err == nil {
		r.to, r.iface = Address(cm.Dst), cm.IfIndex
	}
	if l.iface != nil {
		// Where interfaces are enslaved to others, the packet may name another.
		r.iface = l.iface.index
	}
	if !w.submit(r) {
		s.metrics.overflowed.Inc()
		s.lines.overflow.Log(s.log.Warn, "too many requests wait, dropping the newest")
		return false
	}
	return true
}

// check keeps the knowledge of interfaces fresh, and says whether the listener
// is still bound to an interface that exists.
func (s *Server) check(l *listener) bool {
	t, err := s.interfaces.get(interfaceAge)
	if err != nil {
		s.lines.read.Log(s.log.Warn, "interfaces", "error", err)
		return true
	}
	s.frames.prune(t)
	if l.iface == nil {
		return true
	}
	now := t.byName[l.iface.name]
	return now != nil && now.index == l.iface.index
}
