package leases

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	coredhcp "github.com/coredhcp/coredhcp/config"
	"github.com/coredhcp/coredhcp/logger"
	"github.com/coredhcp/coredhcp/plugins"
	"github.com/coredhcp/coredhcp/plugins/serverid"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

const namespaceVariable = "COREDHCP_LEASES_TEST_NAMESPACE"

// TestMain runs the tests in a network namespace of their own, where that can be
// had: the wires of this file are in there.
func TestMain(m *testing.M) {
	if status, ran := inNamespace(); ran {
		os.Exit(status)
	}
	logger.GetLogger("test").Logger.SetOutput(io.Discard)
	if err := plugins.RegisterPlugin(&serverid.Plugin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server.Register("spy", func(_ []string, host *server.Host) (server.Plugin, error) {
		watched = host
		return spy{}, nil
	})
	os.Exit(m.Run())
}

// watched is the host of the server that was made last; tests look at its leases.
var watched *server.Host

// spy is a plugin that has its host known to the tests and does nothing.
type spy struct{}

func (spy) Start(context.Context) error                             { return nil }
func (spy) Accepts(dhcpv4.MessageType) bool                         { return false }
func (spy) Handle(context.Context, *server.Exchange) server.Verdict { return server.Continue }
func (spy) Close() error                                            { return nil }

// inNamespace runs this program once more in a namespace, unless that is where it
// is. Any user may make one inside a user namespace, where the system allows it.
func inNamespace() (status int, ran bool) {
	if os.Getenv(namespaceVariable) != "" {
		return 0, false
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), namespaceVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1), true
	}
	return 0, false // no namespace to be had: the tests that need one skip
}

const (
	near = "dhcp0"  // the server's end of a wire
	far  = "client" // the other

	// patience is how long a test waits for what is to come, on a machine however busy.
	patience = time.Minute
	// resend is when a client repeats itself: by then the server has answered, or has
	// given the message up.
	resend = 5 * time.Second
)

var (
	serverHardware = net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 0xfe}
	farHardware    = net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 0xfd}
	broadcast      = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	// wiredServer is the server's address on a wire; what is behind relays is
	// reached through the same wire.
	wiredServer = netip.MustParsePrefix("192.0.2.2/24")
)

// wire is an Ethernet between a server and all of its clients and relays. Frames
// are made and read here, so that what is tested is what is on the wire.
type wire struct {
	t    testing.TB
	link netlink.Link // the server's end
	conn *packet.Conn
	got  chan reply
	host *server.Host

	server *server.Server
}

// reply is what came back.
type reply struct {
	*dhcpv4.DHCPv4
	raw      []byte
	hardware net.HardwareAddr // the frame's destination
	from, to netip.AddrPort
}

// newWire lays a wire and starts a server on it with these plugins, each a line of
// config.yml.
func newWire(t testing.TB, lines ...string) *wire {
	t.Helper()
	text := "server4:\n  listen: ['%" + near + "']\n  plugins:\n"
	for _, line := range lines {
		text += "    - " + line + "\n"
	}
	return newWireWith(t, text)
}

// newWireWith does so with a config.yml whose last part is the list of plugins.
func newWireWith(t testing.TB, text string) *wire {
	t.Helper()
	if os.Getenv(namespaceVariable) == "" {
		t.Skip("no network namespace to be had")
	}
	w := &wire{t: t, got: make(chan reply, 1000)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = near, serverHardware
	w.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: far, PeerHardwareAddr: farHardware}))
	var err error
	w.link, err = netlink.LinkByName(near)
	w.must(err)
	t.Cleanup(func() {
		if err := netlink.LinkDel(w.link); err != nil && !errors.Is(err, unix.ENODEV) { // it goes with a namespace of its far end
			t.Error(err)
		}
	})
	address, err := netlink.ParseAddr(wiredServer.String())
	w.must(err)
	w.must(netlink.AddrAdd(w.link, address))
	peer, err := netlink.LinkByName(far)
	w.must(err)
	w.must(netlink.LinkSetUp(w.link))
	w.must(netlink.LinkSetUp(peer))
	for _, prefix := range []string{"198.51.100.0/24", "203.0.113.0/24"} {
		_, to, err := net.ParseCIDR(prefix)
		w.must(err)
		w.must(netlink.RouteAdd(&netlink.Route{LinkIndex: w.link.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK}))
	}
	ifi, err := net.InterfaceByName(far)
	w.must(err)
	// Everything, since a bridge that the far end may be a port of leaves nothing else;
	// but nothing takes room in the socket's buffer except what servers send.
	w.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: fromServers})
	w.must(err)
	t.Cleanup(func() { _ = w.conn.Close() })
	raw, err := w.conn.SyscallConn()
	w.must(err)
	w.must(raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) // where it is forbidden, what is lost is sent again
	}))
	go w.read()
	w.serve(text)
	return w
}

// fromServers lets through UDP from port 67, in IPv4 packets without options.
var fromServers = func() []bpf.RawInstruction {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 34, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: dhcpv4.ServerPort, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		panic(err)
	}
	return program
}()

func (w *wire) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// serve runs a server until the test ends, and returns when it answers.
func (w *wire) serve(text string) {
	w.t.Helper()
	text += "    - spy:\n"
	path := filepath.Join(w.t.TempDir(), "config.yml")
	w.must(os.WriteFile(path, []byte(text), 0o600))
	conf, err := coredhcp.Load(path)
	w.must(err)
	s, err := server.New(conf, server.Options{})
	w.must(err)
	w.host, w.server = watched, s
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		select {
		case err := <-result:
			if err != nil {
				w.t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			w.t.Error("Run has not returned")
		}
	})
	c := w.client(0xfc)
	for late := time.Now().Add(patience); time.Now().Before(late); {
		inform := c.message(dhcpv4.MessageTypeInform, ciaddr(netip.MustParseAddr("192.0.2.250")))
		c.transmit(inform)
		if r := w.next(20*time.Millisecond, inform.TransactionID); r != nil {
			return
		}
		select {
		case err := <-result:
			result <- err
			w.t.Fatalf("Run: %v", err)
		default:
		}
	}
	w.t.Fatal("the server does not answer")
}

// read takes replies off the wire until its socket is closed.
func (w *wire) read() {
	for {
		b := make([]byte, 2048)
		n, _, err := w.conn.ReadFrom(b)
		if err != nil {
			return
		}
		p := gopacket.NewPacket(b[:n], layers.LayerTypeEthernet, gopacket.Default)
		eth, _ := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
		ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		udp, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if eth == nil || ip == nil || udp == nil || udp.SrcPort != dhcpv4.ServerPort {
			continue
		}
		m, err := dhcpv4.FromBytes(udp.Payload)
		if err != nil || m.OpCode != dhcpv4.OpcodeBootReply {
			continue
		}
		w.got <- reply{m, udp.Payload, eth.DstMAC,
			netip.AddrPortFrom(server.Address(ip.SrcIP), uint16(udp.SrcPort)),
			netip.AddrPortFrom(server.Address(ip.DstIP), uint16(udp.DstPort))}
	}
}

// next returns the next reply with this transaction, nil if there is none in time.
func (w *wire) next(patience time.Duration, id dhcpv4.TransactionID) *reply {
	late := time.After(patience)
	for {
		select {
		case r := <-w.got:
			if r.TransactionID == id {
				return &r
			}
		case <-late:
			return nil
		}
	}
}

// transmit puts a client's or relay's datagram on the wire.
func (w *wire) transmit(hardware net.HardwareAddr, from, to netip.AddrPort, payload []byte) {
	w.t.Helper()
	if from.Addr().IsValid() && !from.Addr().IsUnspecified() {
		// Nobody there would answer the kernel's question where that is.
		w.must(netlink.NeighSet(&netlink.Neigh{
			LinkIndex: w.link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: from.Addr().AsSlice(), HardwareAddr: farHardware,
		}))
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())}
	w.must(udp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	w.must(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: farHardware, DstMAC: hardware, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(payload)))
	_, err := w.conn.WriteTo(b.Bytes(), &packet.Addr{HardwareAddr: hardware})
	w.must(err)
}

// client is one client, on the wire or behind a relay.
type client struct {
	*wire
	hardware   net.HardwareAddr
	always     []dhcpv4.Modifier
	broadcasts bool // although it has an address: REBINDING
}

// client returns the client with this last octet of its hardware address. What it
// always says are the modifiers.
func (w *wire) client(last byte, always ...dhcpv4.Modifier) *client {
	return &client{wire: w, hardware: net.HardwareAddr{0, 0, 0x5e, 0, 0x53, last}, always: always}
}

// message makes a message; without a type it is BOOTP.
func (c *client) message(mt dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	c.t.Helper()
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(c.hardware))
	c.must(err)
	if mt != dhcpv4.MessageTypeNone {
		m.UpdateOption(dhcpv4.OptMessageType(mt))
	}
	for _, modify := range c.always {
		modify(m)
	}
	for _, modify := range modifiers {
		modify(m)
	}
	return m
}

// transmit sends a message as its client would: from its address if it has one,
// through its relay if it says giaddr, else by broadcast.
func (c *client) transmit(m *dhcpv4.DHCPv4) {
	c.t.Helper()
	none, all := netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch gateway, own := server.Address(m.GatewayIPAddr), server.Address(m.ClientIPAddr); {
	case gateway.IsValid():
		c.wire.transmit(serverHardware, netip.AddrPortFrom(gateway, 67), netip.AddrPortFrom(wiredServer.Addr(), 67), m.ToBytes())
	case own.IsValid() && !c.broadcasts:
		c.wire.transmit(serverHardware, netip.AddrPortFrom(own, 68), netip.AddrPortFrom(wiredServer.Addr(), 67), m.ToBytes())
	case own.IsValid():
		c.wire.transmit(broadcast, netip.AddrPortFrom(own, 68), netip.AddrPortFrom(all, 67), m.ToBytes())
	default:
		c.wire.transmit(broadcast, netip.AddrPortFrom(none, 68), netip.AddrPortFrom(all, 67), m.ToBytes())
	}
}

// send sends a message and returns the answer, nil for silence. Silence is not
// guessed by waiting: the server counts what it leaves unanswered.
func (c *client) send(mt dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) *reply {
	c.t.Helper()
	m := c.message(mt, modifiers...)
	before := c.unanswered()
	for late := time.Now().Add(patience); time.Now().Before(late); {
		c.transmit(m)
		for again := time.Now().Add(resend); time.Now().Before(again); {
			if r := c.next(5*time.Millisecond, m.TransactionID); r != nil {
				return r
			}
			if c.unanswered() != before {
				return nil
			}
		}
	}
	c.t.Fatalf("%s: neither an answer nor silence", m.MessageType())
	return nil
}

// unanswered is how many messages the server has left without an answer, for
// whatever reason.
func (w *wire) unanswered() (n float64) {
	families, err := w.registry().Gather()
	w.must(err)
	for _, f := range families {
		switch f.GetName() {
		case "coredhcp_server_unanswered_total", "coredhcp_server_malformed_total", "coredhcp_server_failed_total":
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// gets takes the client through DISCOVER, OFFER, REQUEST and ACK, and returns the
// ACK.
func (c *client) gets(modifiers ...dhcpv4.Modifier) *reply {
	c.t.Helper()
	offer := c.send(dhcpv4.MessageTypeDiscover, modifiers...)
	c.want(offer, dhcpv4.MessageTypeOffer)
	ack := c.send(dhcpv4.MessageTypeRequest, append(modifiers, requested(yours(offer)), selected(wiredServer.Addr()))...)
	c.want(ack, dhcpv4.MessageTypeAck)
	if yours(ack) != yours(offer) {
		c.t.Fatalf("acknowledged %s, offered %s", yours(ack), yours(offer))
	}
	return ack
}

// lease is the binding of an address, as it is on disk.
func (w *wire) lease(a netip.Addr) (lease.Lease, bool) { return w.host.Leases().Lease(a) }

// becomes waits until the address is in a state on disk: what is not answered keeps
// nobody waiting for that.
func (w *wire) becomes(a netip.Addr, state lease.State) lease.Lease {
	w.t.Helper()
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(time.Millisecond) {
		if l, _ := w.lease(a); l.State == state {
			return l
		}
	}
	l, _ := w.lease(a)
	w.t.Fatalf("%s is %s, want it %s", a, l.State, state)
	return l
}

// holds reports it unless the client has the address.
func (w *wire) holds(c *client, a netip.Addr) {
	w.t.Helper()
	if l, _ := w.lease(a); l.State != lease.Active || l.Client.HardwareAddr != string(c.hardware) {
		w.t.Errorf("%s is %s of %s, want it held by %s", a, l.State, l.Client, c.hardware)
	}
}

// want ends the test unless the reply is of this type; none is dhcpv4.MessageTypeNone.
func (w *wire) want(r *reply, mt dhcpv4.MessageType) {
	w.t.Helper()
	switch {
	case r == nil && mt != dhcpv4.MessageTypeNone:
		w.t.Fatalf("silence, want %s", mt)
	case r != nil && mt == dhcpv4.MessageTypeNone:
		w.t.Fatalf("answer %v, want silence", r.Summary())
	case r != nil && r.MessageType() != mt:
		w.t.Fatalf("answer %v, want %s", r.Summary(), mt)
	}
}

func yours(r *reply) netip.Addr { return server.Address(r.YourIPAddr) }

func ciaddr(a netip.Addr) dhcpv4.Modifier { return dhcpv4.WithClientIP(a.AsSlice()) }

func giaddr(a string) dhcpv4.Modifier { return dhcpv4.WithGatewayIP(net.ParseIP(a)) }

func requested(a netip.Addr) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(a.AsSlice()))
}

func selected(a netip.Addr) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(a.AsSlice()))
}
