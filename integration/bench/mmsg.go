//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// messageSize is room for any message of a DHCP load, in octets.
const messageSize = 1500

// An mmsg is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsg struct {
	header unix.Msghdr
	octets uint32 // received or sent
}

// messages are buffers that one system call fills or sends. They are used again
// and again, so that a load allocates nothing for a message.
type messages struct {
	all   []mmsg
	parts []unix.Iovec
	octet [][messageSize]byte
	name  unix.RawSockaddrInet4 // where all are sent to
}

func newMessages(n int) *messages {
	m := &messages{all: make([]mmsg, n), parts: make([]unix.Iovec, n), octet: make([][messageSize]byte, n)}
	for i := range m.all {
		m.parts[i].Base = &m.octet[i][0]
		m.parts[i].SetLen(messageSize)
		m.all[i].header.Iov = &m.parts[i]
		m.all[i].header.SetIovlen(1)
	}
	return m
}

// to has all sent to one address.
func (m *messages) to(port uint16, addr [4]byte) {
	var order [2]byte
	binary.BigEndian.PutUint16(order[:], port)
	m.name = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: binary.NativeEndian.Uint16(order[:]), Addr: addr}
	for i := range m.all {
		m.all[i].header.Name = (*byte)(unsafe.Pointer(&m.name))
		m.all[i].header.Namelen = unix.SizeofSockaddrInet4
	}
}

// receive fills messages with what is there, and returns how many those are.
func (m *messages) receive(fd int) (int, error) {
	n, err := transfer(unix.SYS_RECVMMSG, fd, m.all)
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	return n, os.NewSyscallError("recvmmsg", err)
}

// send sends the first n messages.
func (m *messages) send(fd, n int) error {
	for sent := 0; sent < n; {
		more, err := transfer(unix.SYS_SENDMMSG, fd, m.all[sent:n])
		if errors.Is(err, unix.EAGAIN) { // no room: wait for it
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
			if errors.Is(err, unix.EINTR) {
				err = nil
			}
		}
		if err != nil {
			return os.NewSyscallError("sendmmsg", err)
		}
		sent += more
	}
	return nil
}

// transfer is one system call that does not wait. Go's scheduler is not told of
// it: it would wake a thread that watches for calls that last.
func transfer(call uintptr, fd int, all []mmsg) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(all))), uintptr(len(all)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
