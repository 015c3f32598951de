package server

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// datagramSocket reads and writes many datagrams in one system call, which never
// waits: the gate does, before a read. So the calls are made without telling Go's
// scheduler, to which each would be one more that may last. It wakes a thread that
// watches for those, and that took more processor time than any part of the work
// on a request.
type datagramSocket struct {
	file *os.File // not known to Go's poller
	raw  syscall.RawConn
	gate *gate
}

// newDatagramSocket takes the socket over from conn, which is closed.
func newDatagramSocket(conn *net.UDPConn) (s datagramSocket, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return s, errors.Join(err, conn.Close())
	}
	socket := -1
	failed := raw.Control(func(fd uintptr) {
		if socket, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(socket, false) // what is in this mode stays out of the poller
		}
	})
	if err := errors.Join(os.NewSyscallError("fcntl", err), failed, conn.Close()); err != nil {
		if socket >= 0 {
			err = errors.Join(err, unix.Close(socket))
		}
		return s, err
	}
	s.file = os.NewFile(uintptr(socket), "udp")
	if s.raw, err = s.file.SyscallConn(); err == nil {
		s.gate, err = newGate(socket)
	}
	if err != nil {
		return s, errors.Join(err, s.file.Close())
	}
	return s, nil
}

func (s datagramSocket) close() error { return errors.Join(s.gate.close(), s.file.Close()) }

// datagram is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type datagram struct {
	header unix.Msghdr
	octets uint32 // received or sent
}

// packetInfo is what the kernel is told, and tells, of the way of a datagram
// (IP_PKTINFO, ip(7)).
type packetInfo struct {
	source netip.Addr // to be sent from; zero: the kernel's choice
	iface  int        // index; 0: by the routing table
}

// pktinfo is a control message with a packetInfo.
type pktinfo struct {
	header unix.Cmsghdr
	info   unix.Inet4Pktinfo
}

func (c *pktinfo) set(i packetInfo) {
	*c = pktinfo{info: unix.Inet4Pktinfo{Ifindex: int32(i.iface)}}
	c.header.Level, c.header.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	c.header.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	if i.source.IsValid() {
		c.info.Spec_dst = i.source.As4()
	}
}

// arrived is where a datagram was sent to, and the interface that it came in on;
// false if the kernel did not tell.
func (c *pktinfo) arrived(octets int) (to netip.Addr, iface int, ok bool) {
	if octets < unix.CmsgLen(unix.SizeofInet4Pktinfo) || c.header.Level != unix.IPPROTO_IP || c.header.Type != unix.IP_PKTINFO {
		return netip.Addr{}, 0, false
	}
	return netip.AddrFrom4(c.info.Addr), int(c.info.Ifindex), true
}

// datagrams is room for what one system call reads or writes. It must not be
// copied once it was prepared: its parts point to one another.
type datagrams struct {
	all      []datagram
	parts    []unix.Iovec
	names    []unix.RawSockaddrInet4
	controls []pktinfo
}

// prepare makes room for n datagrams.
func (m *datagrams) prepare(n int) {
	if len(m.all) >= n {
		return
	}
	m.all, m.parts = make([]datagram, n), make([]unix.Iovec, n)
	m.names, m.controls = make([]unix.RawSockaddrInet4, n), make([]pktinfo, n)
	for i := range m.all {
		h := &m.all[i].header
		h.Name = (*byte)(unsafe.Pointer(&m.names[i]))
		h.Iov = &m.parts[i]
		h.SetIovlen(1)
	}
}

// put has datagram i carry p, or be read into it.
func (m *datagrams) put(i int, p []byte) {
	m.parts[i].Base = unsafe.SliceData(p)
	m.parts[i].SetLen(len(p))
}

// address has datagram i sent to an address, in a way.
func (m *datagrams) address(i int, to netip.AddrPort, info packetInfo) {
	h := &m.all[i].header
	m.names[i] = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: to.Addr().As4()}
	h.Namelen = unix.SizeofSockaddrInet4
	if info == (packetInfo{}) {
		h.Control = nil
		h.SetControllen(0)
		return
	}
	m.controls[i].set(info)
	h.Control = (*byte)(unsafe.Pointer(&m.controls[i]))
	h.SetControllen(int(unsafe.Sizeof(m.controls[i])))
}

// from is the sender of datagram i.
func (m *datagrams) from(i int) netip.AddrPort {
	n := &m.names[i]
	if n.Family != unix.AF_INET {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom4(n.Addr), networkOrder(n.Port))
}

// networkOrder converts a port to and from the order in which octets are sent.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// read reads datagrams into those that were prepared and put, and returns how
// many. wait has it wait for the first, as long as the gate's deadline allows;
// without it unix.EAGAIN says that there is none.
func (s datagramSocket) read(m *datagrams, wait bool) (n int, err error) {
	for i := range m.all {
		h := &m.all[i].header
		h.Namelen, h.Flags = unix.SizeofSockaddrInet4, 0
		h.Control = (*byte)(unsafe.Pointer(&m.controls[i]))
		h.SetControllen(int(unsafe.Sizeof(m.controls[i])))
	}
	for {
		failed := s.raw.Read(func(fd uintptr) bool {
			n, err = transfer(unix.SYS_RECVMMSG, fd, m.all)
			return true
		})
		switch {
		case failed != nil:
			return 0, failed
		case !wait || !errors.Is(err, unix.EAGAIN):
			return n, os.NewSyscallError("recvmmsg", err)
		}
		if err := s.gate.wait(); err != nil {
			return 0, err
		}
	}
}

// write sends the datagrams from the first on and before the last, and returns how many have
// left. It does not wait for room; with none left the error is that of the first.
func (s datagramSocket) write(m *datagrams, first, last int) (n int, err error) {
	failed := s.raw.Write(func(fd uintptr) bool {
		n, err = transfer(unix.SYS_SENDMMSG, fd, m.all[first:last])
		return true
	})
	if failed != nil {
		return 0, failed
	}
	return n, os.NewSyscallError("sendmmsg", err)
}

// transfer is one system call, as long as a few dozen datagrams take.
func transfer(call, fd uintptr, all []datagram) (int, error) {
	all = all[:min(len(all), batch)]
	for {
		n, _, errno := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(all))), uintptr(len(all)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return 0, errno
		default:
			return int(n), nil
		}
	}
}
