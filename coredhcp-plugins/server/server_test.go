package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// loopback is a configuration that listens on a free port of the loopback
// interface.
func loopback(plugins ...string) string {
	return "server4:\n  listen: '127.0.0.1:0'\n  plugins:\n    - " + strings.Join(plugins, "\n    - ") + "\n"
}

// TestStockPlugins takes clients through a chain of CoreDHCP's own plugins, over
// sockets.
func TestStockPlugins(t *testing.T) {
	dir := t.TempDir()
	known := filepath.Join(dir, "hosts")
	if err := os.WriteFile(known, []byte("00:00:5e:00:53:07 192.0.2.7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, loopback(
		"server_id: 192.0.2.2",
		"sleep: 1ms",
		"dns: 192.0.2.3 192.0.2.4",
		"mtu: 1400",
		"router: 192.0.2.1",
		"netmask: 255.255.255.0",
		"searchdomains: example.org imaging.example.org",
		"staticroute: 198.51.100.0/24,192.0.2.9",
		"lease_time: 90m",
		"ipv6only: 30m",
		"file: "+known,
		"range: "+filepath.Join(dir, "leases.sqlite")+" 192.0.2.100 192.0.2.101 60m",
		"autoconfigure: AutoConfigure",
		"nbp: tftp://192.0.2.5/boot.img",
	))
	stop := runServer(t, s)
	r := newRelay(t, s)

	everything := dhcpv4.WithRequestedOptions(dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionInterfaceMTU,
		dhcpv4.OptionRouter, dhcpv4.OptionSubnetMask, dhcpv4.OptionDomainNameServer, dhcpv4.OptionClasslessStaticRoute,
		dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName)
	discover := message(t, dhcpv4.MessageTypeDiscover, 1, everything)
	offer := r.exchange(discover)
	request := message(t, dhcpv4.MessageTypeRequest, 1, everything,
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier())))
	ack := r.exchange(request)
	for _, reply := range []struct {
		got  *dhcpv4.DHCPv4
		want dhcpv4.MessageType
	}{{offer, dhcpv4.MessageTypeOffer}, {ack, dhcpv4.MessageTypeAck}} {
		m := reply.got
		if m.MessageType() != reply.want || !m.YourIPAddr.Equal(ip("192.0.2.100")) || !m.ServerIdentifier().Equal(ip("192.0.2.2")) {
			t.Errorf("reply %v", m.Summary())
		}
		for what, ok := range map[string]bool{
			"lease time":    m.IPAddressLeaseTime(0) == time.Hour,
			"dns":           fmt.Sprint(m.DNS()) == "[192.0.2.3 192.0.2.4]",
			"mtu":           string(m.Options[26]) == "\x05\x78",
			"router":        fmt.Sprint(m.Router()) == "[192.0.2.1]",
			"netmask":       m.SubnetMask().String() == "ffffff00",
			"searchdomains": m.DomainSearch() != nil && slices.Equal(m.DomainSearch().Labels, []string{"example.org", "imaging.example.org"}),
			"staticroute":   len(m.ClasslessStaticRoute()) == 1,
			"nbp":           strings.TrimRight(m.TFTPServerName(), "\x00") == "192.0.2.5" && strings.Contains(m.BootFileNameOption(), "boot.img"),
			"option 82":     string(m.Options[82]) == string(relayInformation),
		} {
			if !ok {
				t.Errorf("%s: %s is wrong: %s", reply.want, what, m.Summary())
			}
		}
	}

	if got := r.exchange(message(t, dhcpv4.MessageTypeDiscover, 7, everything)); !got.YourIPAddr.Equal(ip("192.0.2.7")) || got.IPAddressLeaseTime(0) != 90*time.Minute {
		t.Errorf("client of `file`: %v", got.Summary())
	}
	if got := r.exchange(message(t, dhcpv4.MessageTypeDiscover, 2, dhcpv4.WithRequestedOptions(dhcpv4.OptionIPv6OnlyPreferred))); !got.YourIPAddr.IsUnspecified() {
		t.Errorf("client of `ipv6only`: %v", got.Summary())
	} else if wait, ok := got.IPv6OnlyPreferred(); !ok || wait != 30*time.Minute {
		t.Errorf("client of `ipv6only`: %v", got.Summary())
	}
	// The range has one more address. Its holder releases it: `range` sees that
	// before the next message of the same client, and so has it for another.
	second := r.exchange(message(t, dhcpv4.MessageTypeDiscover, 3, everything))
	r.send(message(t, dhcpv4.MessageTypeRelease, 3, everything, dhcpv4.WithClientIP(second.YourIPAddr)))
	r.exchange(message(t, dhcpv4.MessageTypeInform, 3, everything))
	if got := r.exchange(message(t, dhcpv4.MessageTypeDiscover, 4, everything)); !got.YourIPAddr.Equal(second.YourIPAddr) {
		t.Errorf("another client after the release: %v", got.Summary())
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	expectMetrics(t, s, map[string]float64{
		`received_total{type="discover"}`: 5, `received_total{type="request"}`: 1, `received_total{type="release"}`: 1, `received_total{type="inform"}`: 1,
		`sent_total{type="offer"}`: 5, `sent_total{type="ack"}`: 2, `unanswered_total{type="release"}`: 1, `answer_seconds_count`: 7,
	})
}

func TestReplyBytes(t *testing.T) {
	s := newServer(t, loopback("server_id: 192.0.2.2", registerFake(&fake{handle: func(_ context.Context, x *Exchange) Verdict {
		x.Reply.YourIPAddr = ip("192.0.2.100")
		x.Reply.Options[optLeaseTime] = []byte{0, 0, 14, 16}
		x.Reply.Options[optSubnetMask] = []byte{255, 255, 255, 0}
		x.Reply.Options[optRouter] = []byte{192, 0, 2, 1}
		x.Reply.Options[6] = []byte{192, 0, 2, 3}
		return Continue
	}})+":"))
	runServer(t, s)
	r := newRelay(t, s)
	r.send(message(t, dhcpv4.MessageTypeDiscover, 1, dhcpv4.WithRequestedOptions(dhcpv4.OptionDomainNameServer, dhcpv4.OptionRouter),
		dhcpv4.WithGeneric(dhcpv4.OptionClientIdentifier, []byte("id"))))
	b := make([]byte, maxPacket)
	n, err := r.conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := codes(t, b[offOptions:n]), []uint8{53, 54, 51, 6, 1, 3, 61, 82}; !slices.Equal(got, want) {
		t.Errorf("order on the wire %v, want %v", got, want)
	}
	if n != minMessage {
		t.Errorf("%d octets, want %d", n, minMessage)
	}
}

func TestHostilePackets(t *testing.T) {
	s := newServer(t, loopback(registerFake(&fake{handle: func(_ context.Context, x *Exchange) Verdict {
		if x.Request.HostName() == "panic" {
			panic("on purpose")
		}
		return Continue
	}})+":"))
	stop := runServer(t, s)
	r := newRelay(t, s)
	write := func(b []byte) {
		t.Helper()
		if _, err := r.conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		write([]byte("not DHCP"))
	}
	write(raw(53, 1, 1, 12))
	reply := raw(53, 1, 2, 255)
	reply[0] = 2
	write(reply)
	write(make([]byte, maxPacket+1))
	r.send(message(t, dhcpv4.MessageTypeDiscover, 1, dhcpv4.WithOption(dhcpv4.OptHostName("panic"))))
	// The same client again, so by the same worker: it has survived.
	r.exchange(message(t, dhcpv4.MessageTypeDiscover, 1))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	expectMetrics(t, s, map[string]float64{
		`malformed_total`: 23, `received_total{type="discover"}`: 2, `panicked_total`: 1, `sent_total{type="offer"}`: 1, `answer_seconds_count`: 1,
	})
}

// TestMalformedLine wants the sender of a malformed packet to be told in a way that
// leads to it: without an address it is 0.0.0.0 as every other.
func TestMalformedLine(t *testing.T) {
	s := newServer(t, loopback(registerFake(&fake{})+":"))
	var out bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&out, nil))
	s.interfaces.list = func() ([]*netInterface, error) { return []*netInterface{{index: 7, name: "eth7"}}, nil }
	packet := raw(53, 1, 1, 12)
	lane := s.newLane()
	for _, p := range [][]byte{packet, packet[:100], packet[:20]} {
		lane.work(t.Context(), &received{packet: p, from: netip.MustParseAddrPort("0.0.0.0:68"), iface: 7, at: time.Now()})
	}
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{
		"from=0.0.0.0:68 interface=eth7 client=00:00:5e:00:53:01 error=",
		"from=0.0.0.0:68 interface=eth7 client=00:00:5e:00:53:01 error=",
		`from=0.0.0.0:68 interface=eth7 client="" error=`,
	} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %s\nwant %s", lines[i], want)
		}
	}
}

// TestManySubOptions has a relay tell as many sub-options as a packet holds: all of
// them come back, in the order in which they came (RFC 3046 section 2.2).
func TestManySubOptions(t *testing.T) {
	s := newServer(t, loopback("server_id: 192.0.2.2", registerFake(&fake{handle: func(_ context.Context, x *Exchange) Verdict {
		x.Reply.YourIPAddr = ip("192.0.2.100")
		return Continue
	}})+":"))
	runServer(t, s)
	r := newRelay(t, s)
	req := message(t, dhcpv4.MessageTypeDiscover, 1)
	req.GatewayIPAddr = net.IPv4(127, 0, 0, 1)
	value := append(bytes.Repeat([]byte{9, 0}, 1800), relayInformation...)
	req.Options[optRelayAgent] = value
	if _, err := r.conn.Write(req.ToBytes()); err != nil {
		t.Fatal(err)
	}
	if got := r.receive().Options[optRelayAgent]; !bytes.Equal(got, value) {
		t.Errorf("%d octets came back, want the %d that were sent", len(got), len(value))
	}
}

// TestOrder sends the packets of some clients without waiting for answers.
func TestOrder(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[string][]uint16)
	s := newServer(t, loopback(registerFake(&fake{handle: func(_ context.Context, x *Exchange) Verdict {
		mu.Lock()
		defer mu.Unlock()
		seen[x.Request.ClientHWAddr.String()] = append(seen[x.Request.ClientHWAddr.String()], x.Request.NumSeconds)
		return Continue
	}})+":"))
	stop := runServer(t, s)
	r := newRelay(t, s)
	// All that is under way fits into one queue, should the clients share it.
	const clients, packets, rounds = 5, waitingRequests / workerCount / 2 / 5, 20
	stay(t)
	for round := range rounds {
		for i := range packets {
			for c := range clients {
				req := message(t, dhcpv4.MessageTypeDiscover, byte(c))
				req.NumSeconds = uint16(round*packets + i)
				r.send(req)
			}
		}
		for range clients * packets {
			r.receive()
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for client, got := range seen {
		if len(got) != rounds*packets || !slices.IsSorted(got) {
			t.Errorf("client %s: %v", client, got)
		}
	}
}

// stay keeps the rest of the test on one processor: what is sent from another one
// may overtake, on a busy machine, what was sent before.
func stay(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for i := range len(may) * strconv.IntSize {
		if may.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
}

// TestLife follows two plugins from Start to Close, with an exchange that is
// under way when the server is told to stop.
func TestLife(t *testing.T) {
	var mu sync.Mutex
	var events []string
	event := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, fmt.Sprintf(format, args...))
	}
	handling, release := make(chan struct{}), make(chan struct{})
	var life context.Context
	plugin := func(name string) *fake {
		return &fake{
			start: func(ctx context.Context) error {
				life = ctx //nolint:fatcontext // kept to ask whether it is over
				event("start %s", name)
				return nil
			},
			handle: func(ctx context.Context, _ *Exchange) Verdict {
				if name == "a" {
					close(handling)
					<-release
				}
				event("handle %s, life over: %t, no time left: %t", name, life.Err() != nil, ctx.Err() != nil)
				return Continue
			},
			reload: func() error {
				event("reload %s", name)
				return errors.New("broken " + name)
			},
			close: func() error {
				event("close %s, life over: %t", name, life.Err() != nil)
				return errors.New("no end " + name)
			},
		}
	}
	a, b := registerFake(plugin("a")), registerFake(plugin("b"))
	s := newServer(t, loopback(a+":", "server_id: 192.0.2.2", b+":"))
	if err := s.Reload(); err != nil {
		t.Errorf("Reload before Run: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := newResult(func() error { return s.Run(ctx) })
	<-s.listening
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "broken a") || !strings.Contains(err.Error(), "broken b") {
		t.Errorf("Reload: %v", err)
	}
	r := newRelay(t, s)
	r.send(message(t, dhcpv4.MessageTypeDiscover, 1))
	<-handling
	cancel()
	close(release)
	r.receive()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "no end a") || !strings.Contains(err.Error(), "no end b") {
		t.Errorf("Run: %v", err)
	}
	want := []string{
		"start a", "start b", "reload a", "reload b",
		"handle a, life over: false, no time left: false", "handle b, life over: false, no time left: false",
		"close b, life over: true", "close a, life over: true",
	}
	if !slices.Equal(events, want) {
		t.Errorf("events:\n%s", strings.Join(events, "\n"))
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("a second Run is possible")
	}
}

func newResult(f func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f() }()
	return c
}

func TestFailedStart(t *testing.T) {
	var events []string
	started := registerFake(&fake{close: func() error { events = append(events, "close first"); return nil }})
	failing := registerFake(&fake{
		start: func(context.Context) error { return errors.New("disk is full") },
		close: func() error { events = append(events, "close second"); return nil },
	})
	s := newServer(t, loopback(started+":", failing+":"))
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "starting plugin "+failing+": disk is full") {
		t.Errorf("Run: %v", err)
	}
	if !slices.Equal(events, []string{"close first"}) {
		t.Errorf("events %v", events)
	}
}

func TestStopWhileStarting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newServer(t, loopback(registerFake(&fake{start: func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}})+":"))
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestListenFailure(t *testing.T) {
	closed := false
	s := newServer(t, strings.Replace(loopback(registerFake(&fake{close: func() error { closed = true; return nil }})+":"), "127.0.0.1:0", "127.0.0.1:70000", 1))
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "127.0.0.1 port 70000: ") {
		t.Errorf("Run: %v", err)
	}
	if !closed {
		t.Error("the plugin was not closed")
	}
}

// TestDHCPv6 starts CoreDHCP's own DHCPv6 server beside ours.
func TestDHCPv6(t *testing.T) {
	probe, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skipf("no IPv6 on the loopback interface: %v", err)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	port := int(netip.MustParseAddrPort(freePort(t)).Port())
	s := newServer(t, fmt.Sprintf("server6:\n  listen: '[::1]:%d'\n  plugins:\n    - server_id: LL 00:00:5e:00:53:02\n", port)+loopback("server_id: 192.0.2.2"))
	stop := runServer(t, s)
	conn, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.IPv6loopback, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// SOLICIT with a client identifier (RFC 8415 section 8).
	if _, err := conn.Write([]byte{1, 0, 0, 7, 0, 1, 0, 10, 0, 3, 0, 1, 0, 0, 0x5e, 0, 0x53, 1}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1500)
	if err := conn.SetReadDeadline(time.Now().Add(longest)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(b); err != nil || n < 4 || b[0] != 2 || b[3] != 7 {
		t.Errorf("answer %x, %v; want an ADVERTISE", b[:n], err)
	}
	newRelay(t, s).exchange(message(t, dhcpv4.MessageTypeDiscover, 1))
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestStock(t *testing.T) {
	var got *Exchange
	p := Stock("ours", func(args []string, host *Host) (Plugin, error) {
		if host != stockHost {
			t.Error("another host")
		}
		if len(args) > 0 {
			return nil, errors.New("too many arguments")
		}
		return &fake{
			accepts: func(t dhcpv4.MessageType) bool { return t != dhcpv4.MessageTypeInform },
			handle: func(_ context.Context, x *Exchange) Verdict {
				got = x
				switch x.Request.MessageType() {
				case dhcpv4.MessageTypeRelease:
					x.Reply = nil
				case dhcpv4.MessageTypeRequest:
					return Stop
				}
				return Continue
			},
		}, nil
	})
	if p.Name != "ours" || p.Setup6 != nil {
		t.Errorf("plugin %+v", p)
	}
	if _, err := p.Setup4("x"); err == nil || !strings.Contains(err.Error(), "plugin ours: too many arguments") {
		t.Errorf("error %v", err)
	}
	handle, err := p.Setup4()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mt            dhcpv4.MessageType
		handled       bool
		replied, stop bool
	}{
		{dhcpv4.MessageTypeDiscover, true, true, false},
		{dhcpv4.MessageTypeRequest, true, true, true},
		{dhcpv4.MessageTypeRelease, true, false, true},
		{dhcpv4.MessageTypeInform, false, true, false},
	} {
		t.Run(tt.mt.String(), func(t *testing.T) {
			got = nil
			req := message(t, tt.mt, 1)
			resp := newReply(req, make(dhcpv4.Options))
			resp.UpdateOption(dhcpv4.OptServerIdentifier(ip("192.0.2.2")))
			reply, stop := handle(req, resp)
			if (reply != nil) != tt.replied || stop != tt.stop || (got != nil) != tt.handled {
				t.Errorf("reply %v, stop %t, exchange %v", reply, stop, got)
			}
			if got != nil && (got.ServerID != addr("192.0.2.2") || len(got.Addresses) != 1 || got.Interface != "") {
				t.Errorf("exchange %+v", got)
			}
		})
	}
	failing := Stock("failing", func([]string, *Host) (Plugin, error) {
		return &fake{start: func(context.Context) error { return errors.New("disk is full") }}, nil
	})
	if _, err := failing.Setup4(); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("error %v", err)
	}
}
