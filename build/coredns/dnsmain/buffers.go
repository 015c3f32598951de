//go:build linux

package dnsmain

import (
	"os"
	"strconv"

	"github.com/coredns/caddy"
	"golang.org/x/sys/unix"
)

// receiveBuffer, in octets, is what each UDP socket that serves may hold. The
// kernel's default has room for some 270 queries, which at 40,000 a second come
// while a processor is busy for 7 ms. Without CAP_NET_ADMIN the kernel gives at
// most net.core.rmem_max.
const receiveBuffer = 4 << 20

func init() {
	caddy.RegisterEventHook("receive_buffers", func(event caddy.EventName, _ any) error {
		if event == caddy.InstanceStartupEvent {
			enlargeBuffers()
		}
		return nil
	})
}

// enlargeBuffers gives more room to every UDP socket of this process that anyone
// may send to. CoreDNS opens them and hands them to nobody, so they are found
// among the open files. Where that fails a socket works on with what it has.
func enlargeBuffers() {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, f := range files {
		fd, err := strconv.Atoi(f.Name())
		if err != nil || !serves(fd) {
			continue
		}
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // see above
		}
	}
}

// serves says whether a file is a UDP socket that is bound and not connected. The
// number of a file that was closed meanwhile may be another's by then, which this
// asks all the same.
func serves(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_DGRAM {
		return false
	}
	if _, err := unix.Getpeername(fd); err == nil {
		return false
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		return a.Port != 0
	case *unix.SockaddrInet6:
		return a.Port != 0
	}
	return false
}
