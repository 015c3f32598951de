package server

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// gate tells when something has come to a socket, if it is asked to, and once.
//
// Go's poller is told of every packet that comes to a socket which it knows, and
// wakes a thread for it, also while nobody wants to read: under load that is most
// of the wake-ups of the process. So it is not told of the socket, but of an
// epoll(7) instance that the socket is in, and that reports it when it is armed.
type gate struct {
	socket int
	file   *os.File // of the epoll instance
	raw    syscall.RawConn
	armed  bool
}

// newGate makes a gate for a socket, which is not armed. The socket must be closed after it.
func newGate(socket int) (*gate, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // has Go's poller take it
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fd))
	}
	g := &gate{socket: socket, file: os.NewFile(uintptr(fd), "epoll")}
	if g.raw, err = g.file.SyscallConn(); err == nil {
		err = g.control(unix.EPOLL_CTL_ADD, 0)
	}
	if err != nil {
		return nil, errors.Join(err, g.file.Close())
	}
	return g, nil
}

func (g *gate) control(what int, events uint32) error {
	var err error
	failed := g.raw.Control(func(fd uintptr) {
		err = unix.EpollCtl(int(fd), what, g.socket, &unix.EpollEvent{Events: events | unix.EPOLLONESHOT})
	})
	return errors.Join(os.NewSyscallError("epoll_ctl", err), failed)
}

// setDeadline has wait return os.ErrDeadlineExceeded at a moment.
func (g *gate) setDeadline(at time.Time) error { return g.file.SetReadDeadline(at) }

// wait returns when there is something to read. One goroutine at a time waits.
func (g *gate) wait() error {
	var err error
	failed := g.raw.Read(func(fd uintptr) bool {
		if !g.armed {
			err = unix.EpollCtl(int(fd), unix.EPOLL_CTL_MOD, g.socket, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT})
			g.armed = err == nil
			return err != nil
		}
		// Read begins by forgetting what the poller has told. If the gate is still
		// armed from a wait that its deadline ended, that is asked for here: the
		// poller is not told of the same twice.
		var event unix.EpollEvent // taking it disarms the gate
		n, errno := uintptr(0), unix.EINTR
		for errno == unix.EINTR {
			n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&event)), 1, 0, 0, 0)
		}
		if errno != 0 {
			err = errno
			return true
		}
		g.armed = n == 0
		return n == 1
	})
	if failed != nil {
		return failed
	}
	return os.NewSyscallError("epoll", err)
}

func (g *gate) close() error { return g.file.Close() }
