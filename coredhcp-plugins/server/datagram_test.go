package server

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// testSocket is a socket on the loopback interface, and where it can be reached.
func testSocket(t *testing.T) (datagramSocket, netip.AddrPort) {
	t.Helper()
	conn := loopbackConn(t)
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true); err != nil {
		t.Fatal(err)
	}
	s, err := newDatagramSocket(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	if err := s.gate.setDeadline(time.Now().Add(longest)); err != nil {
		t.Fatal(err)
	}
	return s, at
}

// opened says whether a gate reports something to Go's poller.
func (g *gate) opened(t *testing.T) bool {
	t.Helper()
	n := 0
	err := g.raw.Control(func(fd uintptr) {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ = unix.Poll(polled, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func TestGate(t *testing.T) {
	s, at := testSocket(t)
	peer, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	send := func() {
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Error(err)
		}
	}
	in := newInbox()
	for range 3 {
		// What comes while nobody waits wakes nobody.
		send()
		if s.gate.opened(t) {
			t.Fatal("it reports what nobody has asked for")
		}
		// What is there when somebody begins to wait is not missed.
		if err := s.gate.wait(); err != nil {
			t.Fatal(err)
		}
		send()
		if s.gate.opened(t) {
			t.Fatal("it reports twice")
		}
		for got := 0; got < 2; { // on a busy machine the second may be on its way still
			n, err := s.read(&in.datagrams, got > 0)
			if err != nil {
				t.Fatalf("%d datagrams, %v", got, err)
			}
			got += n
		}
		// What comes then is not, either.
		time.AfterFunc(5*time.Millisecond, send)
		if n, err := s.read(&in.datagrams, true); n != 1 || err != nil {
			t.Fatalf("%d datagrams, %v", n, err)
		}
	}
	if n, err := s.read(&in.datagrams, false); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%d datagrams, %v, when nothing is there", n, err)
	}
	if err := s.gate.setDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.read(&in.datagrams, true); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d datagrams, %v, when the deadline is over", n, err)
	}
}

// TestGateDeadline has something come after a wait that ended by its deadline, and
// Go's poller hear of it before the next wait begins.
func TestGateDeadline(t *testing.T) {
	s, at := testSocket(t)
	peer, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	in := newInbox()
	for range 3 {
		if err := s.gate.setDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := s.read(&in.datagrams, true); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d datagrams, %v, when the deadline is over", n, err)
		}
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		if err := s.gate.setDeadline(time.Now().Add(longest)); err != nil {
			t.Fatal(err)
		}
		if err := s.gate.wait(); err != nil {
			t.Fatalf("%v, with a datagram there", err)
		}
		if n, err := s.read(&in.datagrams, true); n != 1 || err != nil {
			t.Fatalf("%d datagrams, %v", n, err)
		}
		time.AfterFunc(5*time.Millisecond, func() { _, _ = peer.Write([]byte("x")) })
		if n, err := s.read(&in.datagrams, true); n != 1 || err != nil {
			t.Fatalf("%d datagrams, %v", n, err)
		}
	}
}

// TestDatagrams sends more than go into one system call, and some that are longer
// than what they are read into.
func TestDatagrams(t *testing.T) {
	s, at := testSocket(t)
	other, from := testSocket(t)
	const count = batch + 3
	var out datagrams
	out.prepare(count)
	for i := range count {
		octets := 100 + i
		if i%20 == 5 {
			octets = maxPacket + i%2
		}
		out.put(i, bytes.Repeat([]byte{byte(i)}, octets))
		out.address(i, at, packetInfo{})
	}
	out.address(1, at, packetInfo{source: netip.MustParseAddr("127.0.0.2")})
	for sent := 0; sent < count; {
		n, err := other.write(&out, sent, count)
		if err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	in := newInbox()
	for read := 0; read < count; {
		n, err := s.read(&in.datagrams, true)
		if err != nil {
			t.Fatal(err)
		}
		read += n
		for j := range n {
			i := int(in.octets[j][0]) // they may have overtaken each other
			want := 100 + i
			if i%20 == 5 {
				want = maxPacket + i%2
			}
			source := from
			if i == 1 {
				source = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), from.Port())
			}
			m := &in.all[j]
			to, iface, ok := in.controls[j].arrived(int(m.header.Controllen))
			if !ok || to != at.Addr() || iface != 1 || in.from(j) != source {
				t.Errorf("datagram %d: to %v on %d from %v, expected %v on 1 from %v", i, to, iface, in.from(j), at.Addr(), source)
			}
			if cut := m.header.Flags&unix.MSG_TRUNC != 0; cut != (want > maxPacket) {
				t.Errorf("datagram %d of %d octets: cut: %v", i, want, cut)
			}
			octets := in.octets[j][:m.octets]
			if len(octets) != min(want, maxPacket) || bytes.Count(octets, []byte{byte(i)}) != len(octets) {
				t.Errorf("datagram %d: %d octets, expected %d", i, len(octets), want)
			}
		}
	}
}

// TestDatagramError tells of the datagram that could not be sent, and goes on behind it.
func TestDatagramError(t *testing.T) {
	s, at := testSocket(t)
	var out datagrams
	out.prepare(3)
	for i := range 3 {
		out.put(i, []byte{byte(i)})
		out.address(i, at, packetInfo{})
	}
	out.put(1, make([]byte, 1<<16)) // more than fits
	if n, err := s.write(&out, 0, 3); n != 1 || err != nil {
		t.Fatalf("%d sent, %v", n, err)
	}
	if n, err := s.write(&out, 1, 3); n != 0 || !errors.Is(err, unix.EMSGSIZE) {
		t.Fatalf("%d sent, %v", n, err)
	}
	if n, err := s.write(&out, 2, 3); n != 1 || err != nil {
		t.Fatalf("%d sent, %v", n, err)
	}
}
