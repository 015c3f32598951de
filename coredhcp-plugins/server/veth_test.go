package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const namespaceVariable = "COREDHCP_SERVER_TEST_NAMESPACE"

// inNamespace runs the calling test again in a child process that has a network
// namespace of its own, and reports whether this is that process. Any user may
// make one inside a user namespace, where the system allows that.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), namespaceVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Fatalf("in the namespace: %v\n%s", err, out)
	case err != nil:
		t.Skipf("no network namespace to be had: %v", err)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Fatalf("in the namespace the test has not passed:\n%s", out)
	}
	return false
}

var (
	serverHardware = net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 2}
	clientHardware = net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1}
)

// vlan makes a pair of interfaces: name here, with the address 192.0.2.2/24, and
// "client" in the namespace far.
func vlan(t *testing.T, name string, far netns.NsHandle) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, serverHardware
	peer := "client"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerHardwareAddr: clientHardware, PeerNamespace: netlink.NsFd(far)}))
	link, err := netlink.LinkByName(name)
	must(err)
	a, err := netlink.ParseAddr("192.0.2.2/24")
	must(err)
	must(netlink.AddrAdd(link, a))
	must(netlink.LinkSetUp(link))
	there, err := netlink.NewHandleAt(far)
	must(err)
	defer there.Close()
	link, err = there.LinkByName(peer)
	must(err)
	must(there.LinkSetUp(link))
}

// newNamespace makes the client's network namespace.
func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	type result struct {
		ns  netns.NsHandle
		err error
	}
	c := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends in its namespace
		ns, err := netns.New()
		c <- result{ns, err}
	}()
	r := <-c
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { _ = r.ns.Close() })
	return r.ns
}

// in runs f in a thread of the namespace; sockets that it opens stay there.
func in(t *testing.T, ns netns.NsHandle, f func() error) {
	t.Helper()
	if err := <-newResult(func() error {
		runtime.LockOSThread() // never unlocked, likewise
		if err := netns.Set(ns); err != nil {
			return err
		}
		return f()
	}); err != nil {
		t.Fatal(err)
	}
}

// allocator is a plugin that leases 192.0.2.100 and no other address.
func allocator() *fake {
	return &fake{handle: func(_ context.Context, x *Exchange) Verdict {
		if want := x.Request.RequestedIPAddress(); want != nil && !want.Equal(ip("192.0.2.100")) {
			x.Reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
		} else {
			x.Reply.YourIPAddr = ip("192.0.2.100")
			x.Reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(time.Hour))
		}
		x.Reply.UpdateOption(dhcpv4.OptServerIdentifier(x.ServerID.AsSlice()))
		return Continue
	}}
}

func acquire(t *testing.T, ns netns.NsHandle, modifiers ...dhcpv4.Modifier) (lease *nclient4.Lease, err error) {
	t.Helper()
	return acquireOn(t, ns, "client", modifiers...)
}

func acquireOn(t *testing.T, ns netns.NsHandle, ifname string, modifiers ...dhcpv4.Modifier) (lease *nclient4.Lease, err error) {
	t.Helper()
	var c *nclient4.Client
	in(t, ns, func() (err error) {
		c, err = nclient4.New(ifname, nclient4.WithTimeout(500*time.Millisecond), nclient4.WithRetry(10))
		return err
	})
	defer c.Close()
	return c.Request(t.Context(), modifiers...)
}

// sniffer sees the replies on the client's interface.
type sniffer struct{ conn *packet.Conn }

func newSniffer(t *testing.T, ns netns.NsHandle) *sniffer {
	t.Helper()
	s := &sniffer{}
	in(t, ns, func() error {
		ifi, err := net.InterfaceByName("client")
		if err != nil {
			return err
		}
		s.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_IP, nil)
		return err
	})
	t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

// next describes the next reply of a type to a message: who it is sent from and to,
// and its type. A client that was impatient has had more than one of a type, and the
// sniffer sees them all. The checksums must be right; where the kernel made the datagram, veth leaves that
// of UDP to a network card that is not there.
func (s *sniffer) next(t *testing.T, id dhcpv4.TransactionID, mt dhcpv4.MessageType) string {
	t.Helper()
	b := make([]byte, 2000)
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(longest)); err != nil {
			t.Fatal(err)
		}
		n, _, err := s.conn.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(b[:n], layers.LayerTypeEthernet, gopacket.Default)
		eth, _ := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
		ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		udp, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if eth == nil || ip == nil || udp == nil || udp.DstPort != clientPort {
			continue
		}
		if ip.Checksum == 0 || fold(sum(0, ip.Contents)) != 0xffff {
			t.Errorf("IPv4 checksum %04x", ip.Checksum)
		}
		m, err := dhcpv4.FromBytes(udp.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if m.TransactionID != id || m.MessageType() != mt {
			continue
		}
		return fmt.Sprintf("%s %s > %s %s:%d > %s", m.MessageType(), eth.SrcMAC, eth.DstMAC, ip.SrcIP, udp.SrcPort, ip.DstIP)
	}
}

// deniableSockets are packet sockets until the permission is taken away.
type deniableSockets struct {
	packetSockets
	denied atomic.Bool
}

func (s *deniableSockets) writeFrame(i *netInterface, frame []byte) error {
	if s.denied.Load() {
		return os.NewSyscallError("socket", unix.EPERM)
	}
	return s.packetSockets.writeFrame(i, frame)
}

func TestClientWithoutRelay(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	far := newNamespace(t)
	vlan(t, "server0", far)
	s := newServer(t, "server4: {listen: '%server0', plugins: [{"+registerFake(allocator())+": }]}")
	sockets := &deniableSockets{}
	s.frames = sockets
	runServer(t, s)
	wire := newSniffer(t, far)

	t.Run("frames to a client without address", func(t *testing.T) {
		lease, err := acquire(t, far)
		if err != nil {
			t.Fatal(err)
		}
		if !lease.ACK.YourIPAddr.Equal(ip("192.0.2.100")) || !lease.ACK.ServerIdentifier().Equal(ip("192.0.2.2")) {
			t.Errorf("ACK %v", lease.ACK.Summary())
		}
		for _, mt := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck} {
			if got, want := wire.next(t, lease.ACK.TransactionID, mt), mt.String()+" 00:00:5e:00:53:02 > 00:00:5e:00:53:01 192.0.2.2:67 > 192.0.2.100"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
	})
	t.Run("broadcast flag", func(t *testing.T) {
		lease, err := acquire(t, far, dhcpv4.WithBroadcast(true))
		if err != nil {
			t.Fatal(err)
		}
		for _, mt := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck} {
			if got, want := wire.next(t, lease.ACK.TransactionID, mt), mt.String()+" 00:00:5e:00:53:02 > ff:ff:ff:ff:ff:ff 192.0.2.2:67 > 255.255.255.255"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
	})
	t.Run("NAK is broadcast", func(t *testing.T) {
		var c *nclient4.Client
		in(t, far, func() (err error) {
			c, err = nclient4.New("client", nclient4.WithTimeout(500*time.Millisecond), nclient4.WithRetry(10))
			return err
		})
		defer c.Close()
		nak, err := c.SendAndRead(t.Context(), nclient4.DefaultServers, message(t, dhcpv4.MessageTypeRequest, 1,
			dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip("192.0.2.77")))), nclient4.IsMessageType(dhcpv4.MessageTypeNak))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := wire.next(t, nak.TransactionID, dhcpv4.MessageTypeNak), "NAK 00:00:5e:00:53:02 > ff:ff:ff:ff:ff:ff 192.0.2.2:67 > 255.255.255.255"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("renewal by unicast", func(t *testing.T) {
		var conn *net.UDPConn
		in(t, far, func() error {
			link, err := netlink.LinkByName("client")
			if err != nil {
				return err
			}
			a, err := netlink.ParseAddr("192.0.2.100/24")
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(link, a); err != nil {
				return err
			}
			conn, err = net.DialUDP("udp4", &net.UDPAddr{IP: ip("192.0.2.100"), Port: clientPort}, &net.UDPAddr{IP: ip("192.0.2.2"), Port: serverPort})
			return err
		})
		defer conn.Close()
		for _, mt := range []dhcpv4.MessageType{dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform} {
			m := message(t, mt, 1, dhcpv4.WithClientIP(ip("192.0.2.100")))
			if _, err := conn.Write(m.ToBytes()); err != nil {
				t.Fatal(err)
			}
			if got, want := wire.next(t, m.TransactionID, dhcpv4.MessageTypeAck), "ACK 00:00:5e:00:53:02 > 00:00:5e:00:53:01 192.0.2.2:67 > 192.0.2.100"; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
	})
	t.Run("no permission for frames", func(t *testing.T) {
		sockets.denied.Store(true)
		lease, err := acquire(t, far)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := wire.next(t, lease.ACK.TransactionID, dhcpv4.MessageTypeOffer), "OFFER 00:00:5e:00:53:02 > ff:ff:ff:ff:ff:ff 192.0.2.2:67 > 255.255.255.255"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// TestAnyInterface listens without naming an interface: each packet says where it
// came in.
func TestAnyInterface(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	far := newNamespace(t)
	vlan(t, "server0", far)
	interfaces := make(chan string, 1)
	note := registerFake(&fake{handle: func(_ context.Context, x *Exchange) Verdict {
		select {
		case interfaces <- fmt.Sprint(x.Interface, x.Addresses):
		default: // an impatient client; the first is looked at
		}
		return Continue
	}})
	runServer(t, newServer(t, "server4: {plugins: [{"+note+": }, {"+registerFake(allocator())+": }]}"))
	if _, err := acquire(t, far); err != nil {
		t.Fatal(err)
	}
	if got, want := <-interfaces, fmt.Sprint("server0", []netip.Addr{addr("192.0.2.2")}); got != want {
		t.Errorf("interface %s, want %s", got, want)
	}
}

// TestInterfaceComesLater starts the server before its interface exists, then
// takes the interface away and makes it anew.
func TestInterfaceComesLater(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	far := newNamespace(t)
	s := newServer(t, "server4: {listen: ['%server0', '%never0'], plugins: [{"+registerFake(allocator())+": }]}")
	runServer(t, s)
	var indexes []int
	for range 2 {
		vlan(t, "server0", far)
		link, err := netlink.LinkByName("server0")
		if err != nil {
			t.Fatal(err)
		}
		indexes = append(indexes, link.Attrs().Index)
		if _, err := acquire(t, far); err != nil {
			t.Fatal(err)
		}
		sockets := s.frames.(*packetSockets)
		sockets.mu.Lock()
		_, open := sockets.conns[link.Attrs().Index]
		sockets.mu.Unlock()
		if !open {
			t.Error("no packet socket for the interface")
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	}
	if indexes[0] == indexes[1] {
		t.Errorf("interface indexes %v: the test proves nothing", indexes)
	}
}

func TestPacketSocketsArePruned(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	vlan(t, "server0", newNamespace(t))
	i, err := listInterfaces()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(i, func(i *netInterface) bool { return i.name == "server0" })
	if at < 0 || !slices.Equal(i[at].addrs, []netip.Addr{addr("192.0.2.2")}) || i[at].hardware.String() != serverHardware.String() {
		t.Fatalf("interfaces %v", i)
	}
	s := &packetSockets{}
	frame := appendFrame(nil, [6]byte(clientHardware), serverHardware, netip.MustParseAddrPort("192.0.2.2:67"), netip.MustParseAddrPort("192.0.2.100:68"), nil)
	for range 2 {
		if err := s.writeFrame(i[at], frame); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.conns) != 1 {
		t.Errorf("%d sockets", len(s.conns))
	}
	// A socket that has died is replaced.
	if err := s.conns[i[at].index].conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.writeFrame(i[at], frame); err != nil {
		t.Error(err)
	}
	s.prune(&interfaceTable{byIndex: map[int]*netInterface{i[at].index: i[at]}})
	if len(s.conns) != 1 {
		t.Errorf("%d sockets after a prune that changes nothing", len(s.conns))
	}
	s.prune(&interfaceTable{})
	if len(s.conns) != 0 {
		t.Errorf("%d sockets after the prune", len(s.conns))
	}
	if err := s.writeFrame(&netInterface{index: 999, name: strings.Repeat("x", 5)}, frame); err == nil {
		t.Error("a frame went out through an interface that does not exist")
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
