//go:build linux

package dnsmain

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Sockets that serve get more room than the kernel gives by itself; one that asks
// another server keeps what it has.
func TestEnlargeBuffers(t *testing.T) {
	listen := func(network, address string) *net.UDPConn {
		t.Helper()
		c, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.UDPConn)
	}
	serving := listen("udp4", "127.0.0.1:0")
	asking, err := net.Dial("udp4", serving.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { asking.Close() })
	before := room(t, serving)
	enlargeBuffers()
	if after := room(t, serving); after <= before {
		t.Errorf("a socket that serves has room for %d octets, had %d", after, before)
	}
	if after := room(t, asking.(*net.UDPConn)); after != before {
		t.Errorf("a socket that asks has room for %d octets, had %d", after, before)
	}
}

func room(t *testing.T, c syscall.Conn) (size int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		size, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return size
}
