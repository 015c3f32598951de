package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredhcp/coredhcp/config"
	"github.com/coredhcp/coredhcp/logger"
	"github.com/coredhcp/coredhcp/plugins"
	"github.com/coredhcp/coredhcp/plugins/autoconfigure"
	"github.com/coredhcp/coredhcp/plugins/dns"
	"github.com/coredhcp/coredhcp/plugins/file"
	"github.com/coredhcp/coredhcp/plugins/ipv6only"
	"github.com/coredhcp/coredhcp/plugins/leasetime"
	"github.com/coredhcp/coredhcp/plugins/mtu"
	"github.com/coredhcp/coredhcp/plugins/nbp"
	"github.com/coredhcp/coredhcp/plugins/netmask"
	"github.com/coredhcp/coredhcp/plugins/prefix"
	rangeplugin "github.com/coredhcp/coredhcp/plugins/range"
	"github.com/coredhcp/coredhcp/plugins/router"
	"github.com/coredhcp/coredhcp/plugins/searchdomains"
	"github.com/coredhcp/coredhcp/plugins/serverid"
	"github.com/coredhcp/coredhcp/plugins/sleep"
	"github.com/coredhcp/coredhcp/plugins/staticroute"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// longest is how long a test waits for what is to come, on a machine however busy.
const longest = time.Minute

func TestMain(m *testing.M) {
	logger.GetLogger("test").Logger.SetOutput(io.Discard)
	for _, p := range []*plugins.Plugin{
		&autoconfigure.Plugin, &dns.Plugin, &file.Plugin, &ipv6only.Plugin, &leasetime.Plugin, &mtu.Plugin, &nbp.Plugin,
		&netmask.Plugin, &prefix.Plugin, &rangeplugin.Plugin, &router.Plugin, &searchdomains.Plugin, &serverid.Plugin,
		&sleep.Plugin, &staticroute.Plugin,
	} {
		if err := plugins.RegisterPlugin(p); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// fake is a plugin whose methods are functions; those that are nil do nothing.
type fake struct {
	start   func(context.Context) error
	accepts func(dhcpv4.MessageType) bool
	handle  func(context.Context, *Exchange) Verdict
	reload  func() error
	close   func() error
}

func (f *fake) Start(ctx context.Context) error {
	if f.start == nil {
		return nil
	}
	return f.start(ctx)
}

func (f *fake) Accepts(t dhcpv4.MessageType) bool {
	return f.accepts == nil || f.accepts(t)
}

func (f *fake) Handle(ctx context.Context, x *Exchange) Verdict {
	if f.handle == nil {
		return Continue
	}
	return f.handle(ctx, x)
}

func (f *fake) Reload() error {
	if f.reload == nil {
		return nil
	}
	return f.reload()
}

func (f *fake) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close()
}

var fakes atomic.Uint64

// registerFake registers the plugin under a name of its own and returns the name.
func registerFake(p Plugin) string {
	name := fmt.Sprintf("fake%d", fakes.Add(1))
	Register(name, func([]string, *Host) (Plugin, error) { return p, nil })
	return name
}

// newServer makes a server from the text of a configuration file.
func newServer(t testing.TB, yaml string) *Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(conf, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runServer runs the server until stop is called, which returns what Run did, or
// until the test ends.
func runServer(t testing.TB, s *Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	stopped := false
	stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		select {
		case err := <-result:
			return err
		case <-time.After(longest):
			return fmt.Errorf("Run has not returned")
		}
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-s.listening:
	case err := <-result:
		stopped = true
		t.Fatalf("Run: %v", err)
	}
	return stop
}

// relay is a relay agent on the loopback interface.
type relay struct {
	t    testing.TB
	conn *net.UDPConn
}

// newRelay makes a relay that talks to the server's first socket.
func newRelay(t testing.TB, s *Server) *relay {
	t.Helper()
	s.socketsMu.Lock()
	port := s.sockets[0].port
	s.socketsMu.Unlock()
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &relay{t, conn}
}

// relayInformation asks for the answer at the port of the request (RFC 8357).
var relayInformation = []byte{1, 3, 'p', 'o', '1', subRelaySourcePort, 0}

// send sends the message as a relay does.
func (r *relay) send(req *dhcpv4.DHCPv4) {
	r.t.Helper()
	req.GatewayIPAddr = net.IPv4(127, 0, 0, 1)
	req.Options[optRelayAgent] = relayInformation
	if _, err := r.conn.Write(req.ToBytes()); err != nil {
		r.t.Fatal(err)
	}
}

// receive waits for the next answer.
func (r *relay) receive() *dhcpv4.DHCPv4 {
	r.t.Helper()
	b := make([]byte, maxPacket)
	if err := r.conn.SetReadDeadline(time.Now().Add(longest)); err != nil {
		r.t.Fatal(err)
	}
	n, err := r.conn.Read(b)
	if err != nil {
		r.t.Fatal(err)
	}
	reply, err := dhcpv4.FromBytes(b[:n])
	if err != nil {
		r.t.Fatal(err)
	}
	return reply
}

func (r *relay) exchange(req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	r.t.Helper()
	r.send(req)
	reply := r.receive()
	if reply.TransactionID != req.TransactionID {
		r.t.Fatalf("answer to %s, want %s", reply.TransactionID, req.TransactionID)
	}
	return reply
}

// message makes a request of the given type from the client with the last octet
// of its hardware address; MessageTypeNone makes a BOOTP request.
func message(t testing.TB, mt dhcpv4.MessageType, client byte, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(net.HardwareAddr{0, 0, 0x5e, 0, 0x53, client}))
	if err != nil {
		t.Fatal(err)
	}
	if mt != dhcpv4.MessageTypeNone {
		m.UpdateOption(dhcpv4.OptMessageType(mt))
	}
	for _, modify := range modifiers {
		modify(m)
	}
	return m
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func ip(s string) net.IP { return net.ParseIP(s) }
