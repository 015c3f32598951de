package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// batch is how many packets one system call may read or write.
	batch = 64
	// maxBatches is how often a socket is read before what was read is worked on.
	maxBatches = 8
	// A socket to which packets come at busyRate a second is read again after a
	// pause, unless a batch is there at once. What comes meanwhile then shares a
	// wake-up, a group of the database and a system call for the answers, which
	// cost more than everything else. It is above what one client sends that asks
	// again as soon as it is answered (some 2,800), which would only wait. A longer
	// pause saves a tenth of the processor time at 8,000 packets a second, and has
	// each answer come later by half of it; none at all takes four times as much.
	busyRate = 5000
	pause    = time.Millisecond
	rateTime = 10 * time.Millisecond // over which the rate is taken
	// receiveBuffer, in octets, holds the packets of some thousand clients that
	// come back at once after a power cut. The kernel may allow less.
	receiveBuffer = 4 << 20
	// sendBuffer, in octets, holds their answers: nothing waits for room.
	sendBuffer = 1 << 20
)

// errAbsent says that an address cannot be listened on yet: its interface or the
// address itself does not exist.
var errAbsent = errors.New("not there yet")

// errTaken says that a process other than this one has a socket there. Both would
// answer the same clients.
var errTaken = errors.New("another DHCP server or relay is listening there")

// listener is the socket of one configured address.
type listener struct {
	socket datagramSocket
	iface  *netInterface // the interface that it is bound to, nil if none
	port   uint16
}

// place is how a message names an address of the configuration.
func place(a net.UDPAddr) string {
	switch {
	case a.Zone == "":
		return fmt.Sprintf("%s port %d", a.IP, a.Port)
	case a.IP.IsUnspecified():
		return fmt.Sprintf("%s port %d", a.Zone, a.Port)
	}
	return fmt.Sprintf("%s%%%s port %d", a.IP, a.Zone, a.Port)
}

// listen opens the socket for an address of the configuration, and keeps it; its
// zone is the interface to bind to.
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
	s.socketsMu.Lock()
	defer s.socketsMu.Unlock()
	conn, err := s.bind(ctx, a)
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%w: %w", errAbsent, err)
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("%s: %w", place(a), errTaken)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", place(a), err)
	}
	l.port = conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if err := l.setUp(conn, a); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if l.socket, err = newDatagramSocket(conn); err != nil {
		return nil, err
	}
	s.sockets = append(s.sockets, l)
	return l, nil
}

// bind opens a socket that shares its port with none of another process. With one
// of ours it may: "%eth0" and 192.0.2.2 have clients of their own, and the kernel
// takes the two for one unless both say SO_REUSEADDR. They say so for that moment
// only, lest another server join them later. Caller holds socketsMu.
func (s *Server) bind(ctx context.Context, a net.UDPAddr) (*net.UDPConn, error) {
	open := func(share bool) (*net.UDPConn, error) {
		config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			return errors.Join(socketOptions(c, a.Zone), setShared(c, share))
		}}
		conn, err := config.ListenPacket(ctx, "udp4", net.JoinHostPort(a.IP.String(), strconv.Itoa(a.Port)))
		if err != nil {
			return nil, err
		}
		return conn.(*net.UDPConn), nil
	}
	conn, err := open(false)
	if len(s.sockets) == 0 || !errors.Is(err, unix.EADDRINUSE) {
		return conn, err
	}
	share := func(share bool) (err error) {
		for _, l := range s.sockets {
			err = errors.Join(err, setShared(l.socket.raw, share))
		}
		return err
	}
	if err = share(true); err == nil {
		if conn, err = open(true); err == nil {
			var raw syscall.RawConn
			if raw, err = conn.SyscallConn(); err == nil {
				err = setShared(raw, false)
			}
		}
	}
	if err = errors.Join(err, share(false)); err != nil && conn != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, err
}

func setShared(c syscall.RawConn, share bool) error {
	value := 0
	if share {
		value = 1
	}
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt SO_REUSEADDR", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, value))
	})
	return errors.Join(err, failed)
}

func socketOptions(c syscall.RawConn, device string) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		if failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1); failed != nil {
			failed = os.NewSyscallError("setsockopt", failed)
			return
		}
		// Beyond the system's limit where we may, else up to it.
		for _, buffer := range [...]struct{ force, ask, octets int }{
			{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer},
		} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, buffer.force, buffer.octets) == nil {
				continue
			}
			if failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, buffer.ask, buffer.octets); failed != nil {
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

func (l *listener) setUp(conn *net.UDPConn, a net.UDPAddr) error {
	pc := ipv4.NewPacketConn(conn)
	if err := pc.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true); err != nil {
		return err
	}
	if !a.IP.IsMulticast() {
		return nil
	}
	var on *net.Interface
	if l.iface != nil {
		on = &net.Interface{Index: l.iface.index, Name: l.iface.name}
	}
	return pc.JoinGroup(on, &net.UDPAddr{IP: a.IP})
}

// reader reads what comes to one configured address, and works on it where no
// plugin waits for anything. Then a goroutine of its own for each request would
// cost more than the request itself.
type reader struct {
	server  *Server
	workers *workers
	lane    *lane
	queue   *queue // read and not yet worked on by the reader itself
}

// serve reads from the address a until ctx ends. l is its socket, nil if that
// could not be opened yet. Whenever the interface is not there, serve waits for
// it; one that comes back has a new index, and a socket that is bound to the old
// one would stay deaf. The last socket is left open for the replies that are
// still to be sent. working ends when those must not be waited for any longer.
func (r *reader) serve(ctx, working context.Context, a net.UDPAddr, l *listener) {
	s := r.server
	log := s.log.With("address", a.String())
	defer func() {
		for r.work(working) {
		}
	}()
	for waiting := false; ; {
		for l == nil {
			var err error
			if l, err = s.listen(ctx, a); err == nil {
				log.Info("listening")
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
		r.read(ctx, working, l)
		if ctx.Err() != nil {
			return
		}
		log.Warn("interface is gone")
		waiting = true
		s.drop(l)
		l = nil
	}
}

// read takes packets until ctx ends or the listener's interface is gone.
func (r *reader) read(ctx, working context.Context, l *listener) {
	s := r.server
	defer context.AfterFunc(ctx, func() {
		_ = l.socket.gate.setDeadline(time.Unix(1, 0)) // fails only if the socket is closed
	})()
	in := newInbox()
	var checked time.Time
	var load meter
	for more := false; ; {
		now := time.Now()
		if now.Sub(checked) >= interfaceAge {
			if !s.check(l) {
				return
			}
			checked = now
			_ = l.socket.gate.setDeadline(now.Add(interfaceAge)) // likewise
		}
		if ctx.Err() != nil {
			return
		}
		busy := load.busy(now)
		n := r.fill(ctx, l, in, !more && !busy)
		if busy && !more && n < batch {
			time.Sleep(pause)
			n += r.fill(ctx, l, in, false)
		}
		load.packets += n
		more = r.work(working)
	}
}

// fill queues the packets that are there, and returns how many those are; wait has
// it wait for the first. They are all read before more is done, lest the kernel
// drop requests of any kind while DISCOVERs are worked on.
func (r *reader) fill(ctx context.Context, l *listener, in *inbox, wait bool) (packets int) {
	s := r.server
	for range maxBatches {
		n, err := l.socket.read(&in.datagrams, wait)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.EAGAIN) {
				s.lines.read.Log(s.log.Warn, "reading", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(interfaceAge / 10):
				}
			}
			break
		}
		at := time.Now()
		for i := range n {
			r.take(l, in, i, at)
		}
		packets += n
		if wait = false; n < batch {
			break
		}
	}
	return packets
}

// inbox is what one system call reads.
type inbox struct {
	datagrams
	octets [batch][maxPacket]byte
}

func newInbox() *inbox {
	in := new(inbox)
	in.prepare(batch)
	for i := range in.octets {
		in.put(i, in.octets[i][:])
	}
	return in
}

// meter tells how fast packets come.
type meter struct {
	packets int       // since
	since   time.Time // the beginning of the present span
	fast    bool      // they came at busyRate in the span before
}

// busy says whether packets came at busyRate lately.
func (m *meter) busy(now time.Time) bool {
	if span := now.Sub(m.since); span >= rateTime {
		m.fast = float64(m.packets) >= busyRate*span.Seconds()
		m.packets, m.since = 0, now
	}
	return m.fast
}

// work works on some of what is in the queue, and says whether there is more.
func (r *reader) work(ctx context.Context) (more bool) {
	defer r.lane.out.flush()
	for range batch {
		p, ok := r.queue.pop()
		if !ok {
			return false
		}
		r.lane.work(ctx, &p)
	}
	return true
}

// take queues datagram i of those that were read at a moment.
func (r *reader) take(l *listener, in *inbox, i int, at time.Time) {
	s, m := r.server, &in.all[i]
	p := received{from: in.from(i), listener: l, at: at}
	if to, iface, ok := in.controls[i].arrived(int(m.header.Controllen)); ok {
		p.to, p.iface = to, iface
	}
	if l.iface != nil {
		// Where interfaces are enslaved to others, the packet may name another.
		p.iface = l.iface.index
	}
	if m.header.Flags&unix.MSG_TRUNC != 0 {
		s.malformed(&p, errOversized)
		return
	}
	p.packet = in.octets[i][:m.octets]
	push := r.queue.push
	if !s.prompt.Load() {
		push = r.workers.submit
	}
	if !push(p) {
		s.overflowed()
	}
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
