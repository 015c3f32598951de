//go:build linux

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// How TestDHCPKilled goes.
const (
	dhcpKills   = 200
	dhcpWorkers = 4
	dhcpClients = 12 // of each worker
	dhcpLoad    = 80 * time.Millisecond
	// dhcpResend is how long a client waits before it asks again.
	dhcpResend = 500 * time.Millisecond
)

// dhcpServer is a coredhcp with a pool that is small enough for addresses to go from one client to another.
type dhcpServer struct {
	t        *testing.T
	lab      *lab.Lab
	command  lab.Command
	address  netip.AddrPort
	database string
	process  *lab.Process
	on       *lab.Namespace // where it runs
}

// newDHCPServer writes the server's files, and starts nothing. Its database lies in the directory dir.
func newDHCPServer(t *testing.T, l *lab.Lab, dir string) *dhcpServer {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	port, err := lab.FreePort(timeout(t, patience), loopback)
	if err != nil {
		t.Fatal(err)
	}
	s := &dhcpServer{t: t, lab: l, address: netip.AddrPortFrom(loopback, port), database: filepath.Join(dir, "leases"), on: l.Server}
	for name, content := range map[string]string{
		"site.yaml": `domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.159], lease-time: 12h}
`,
		"config.yml": fmt.Sprintf(`server4:
  listen: [%q]
  plugins:
    - server_id: 192.0.2.2
    - leases: site=%s/site.yaml database=%s
`, s.address, l.Dir, s.database),
	} {
		if err := os.WriteFile(filepath.Join(l.Dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.command = lab.Command{Name: "coredhcp", Path: filepath.Join(binaries(t), "coredhcp"), Args: []string{"--conf", filepath.Join(l.Dir, "config.yml")}}
	return s
}

// launch starts the process, and does not wait until it serves.
func (s *dhcpServer) launch() {
	s.t.Helper()
	p, err := s.lab.Start(s.on, s.command)
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = p
}

// start starts the process, and returns when it listens.
func (s *dhcpServer) start() {
	s.t.Helper()
	s.launch()
	if err := s.process.WaitUDP(timeout(s.t, patience), s.address.Port()); err != nil {
		s.t.Fatalf("%v\n%s", err, s.process.Tail(20))
	}
}

// dhcpClient is a machine behind a relay.
type dhcpClient struct {
	mac  net.HardwareAddr
	name string     // option 12; "" none
	held netip.Addr // acknowledged, and not given back
}

// dhcpWorker is a relay, and the machines behind it, of which one at a time does something.
type dhcpWorker struct {
	server  *dhcpServer
	conn    *net.UDPConn
	random  *rand.Rand
	clients []*dhcpClient
	owners  *owners
	acks    int
}

// owners is what clients were promised.
type owners struct {
	sync.Mutex
	of map[netip.Addr]string // hardware address, by address
}

// give notes a promise, and tells who else holds it.
func (o *owners) give(a netip.Addr, c *dhcpClient) (other string) {
	o.Lock()
	defer o.Unlock()
	if was := o.of[a]; was != c.mac.String() {
		other = was
	}
	o.of[a] = c.mac.String()
	return other
}

func (o *owners) free(a netip.Addr) {
	o.Lock()
	defer o.Unlock()
	delete(o.of, a)
}

// newDHCPWorkers are relays with clients of which no two are alike.
func newDHCPWorkers(s *dhcpServer, seed uint64) []*dhcpWorker {
	s.t.Helper()
	o := &owners{of: map[netip.Addr]string{}}
	workers := make([]*dhcpWorker, dhcpWorkers)
	for i := range workers {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { conn.Close() })
		w := &dhcpWorker{server: s, conn: conn, random: rand.New(rand.NewPCG(seed, uint64(i))), owners: o}
		for n := range dhcpClients {
			w.clients = append(w.clients, &dhcpClient{mac: net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, byte(i*dhcpClients + n)}})
		}
		workers[i] = w
	}
	return workers
}

// message is one of a client's, as it comes through the relay: with the network's link selection (RFC 3527), and the
// relay's own port (RFC 8357).
func (w *dhcpWorker) message(c *dhcpClient, t dhcpv4.MessageType, more ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, error) {
	if c.name != "" {
		more = append(more, dhcpv4.WithOption(dhcpv4.OptHostName(c.name)))
	}
	return dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(t), dhcpv4.WithHwAddr(c.mac), dhcpv4.WithGatewayIP(net.IPv4(127, 0, 0, 1)),
		dhcpv4.WithOption(dhcpv4.OptRelayAgentInfo(
			dhcpv4.OptGeneric(dhcpv4.LinkSelectionSubOption, []byte{192, 0, 2, 1}),
			dhcpv4.OptGeneric(dhcpv4.RelaySourcePortSubOption, nil))),
	}, more...)...)
}

// exchange sends a message until it is answered, and again after dhcpResend; until ctx ends.
func (w *dhcpWorker) exchange(ctx context.Context, m *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	defer context.AfterFunc(ctx, func() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) })() // fails only if it is closed
	buffer := make([]byte, 4096)
	for {
		if _, err := w.conn.WriteToUDPAddrPort(m.ToBytes(), w.server.address); err != nil {
			return nil, err
		}
		if err := w.conn.SetReadDeadline(time.Now().Add(dhcpResend)); err != nil {
			return nil, err
		}
		for {
			n, _, err := w.conn.ReadFromUDPAddrPort(buffer)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				break // time to ask again
			}
			if r, err := dhcpv4.FromBytes(buffer[:n]); err == nil && r.TransactionID == m.TransactionID {
				return r, nil
			}
		}
	}
}

// acknowledged is the address of an ACK; other answers are errors.
func acknowledged(r *dhcpv4.DHCPv4) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(r.YourIPAddr.To4())
	if r.MessageType() != dhcpv4.MessageTypeAck || !ok {
		return netip.Addr{}, fmt.Errorf("%s of %v: %s", r.MessageType(), r.YourIPAddr, r.Message())
	}
	return a, nil
}

// get is DISCOVER and REQUEST (RFC 2131 section 3.1).
func (w *dhcpWorker) get(ctx context.Context, c *dhcpClient) error {
	m, err := w.message(c, dhcpv4.MessageTypeDiscover)
	if err != nil {
		return err
	}
	offer, err := w.exchange(ctx, m)
	if err != nil {
		return err
	}
	m, err = w.message(c, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier())),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)))
	if err != nil {
		return err
	}
	return w.take(ctx, c, m)
}

// keep is a REQUEST of a client that has an address: it renews (RFC 2131 section 4.4.5), or was switched on (3.2).
func (w *dhcpWorker) keep(ctx context.Context, c *dhcpClient, on bool) error {
	how := dhcpv4.WithClientIP(c.held.AsSlice())
	if on {
		how = dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(c.held.AsSlice()))
	}
	m, err := w.message(c, dhcpv4.MessageTypeRequest, how)
	if err != nil {
		return err
	}
	return w.take(ctx, c, m)
}

// take sends a REQUEST and holds the server's answer against what it has promised. Its error is the context's where that
// has ended.
func (w *dhcpWorker) take(ctx context.Context, c *dhcpClient, m *dhcpv4.DHCPv4) error {
	r, err := w.exchange(ctx, m)
	if err != nil {
		return err
	}
	a, err := acknowledged(r)
	if err != nil {
		return fmt.Errorf("client %s with %v: %w", c.mac, c.held, err)
	}
	if c.held.IsValid() && a != c.held {
		return fmt.Errorf("client %s had %v and got %v", c.mac, c.held, a)
	}
	if other := w.owners.give(a, c); other != "" {
		return fmt.Errorf("%v given to %s, and held by %s", a, c.mac, other)
	}
	c.held = a
	w.acks++
	return nil
}

// release gives the address back. There is no answer (RFC 2131 section 4.3.4): the client cannot know, and forgets it.
func (w *dhcpWorker) release(c *dhcpClient) error {
	m, err := w.message(c, dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(c.held.AsSlice()), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 2))))
	if err != nil {
		return err
	}
	w.owners.free(c.held)
	c.held = netip.Addr{}
	_, err = w.conn.WriteToUDPAddrPort(m.ToBytes(), w.server.address)
	return err
}

// run has the clients do one thing after another until ctx ends.
func (w *dhcpWorker) run(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		switch c := w.clients[w.random.IntN(len(w.clients))]; {
		case !c.held.IsValid():
			err = w.get(ctx, c)
		case w.random.IntN(3) == 0:
			err = w.release(c)
		default:
			err = w.keep(ctx, c, w.random.IntN(2) == 0)
		}
		if err != nil && ctx.Err() == nil {
			w.server.t.Error(err)
			return
		}
	}
}

// check has every client that holds an address ask for it.
func (w *dhcpWorker) check(ctx context.Context, on bool) {
	for _, c := range w.clients {
		if !c.held.IsValid() {
			continue
		}
		if err := w.keep(ctx, c, on); err != nil {
			w.server.t.Errorf("acknowledged, and lost: %v", err)
		}
	}
}

// all runs f for all workers at once.
func all(workers []*dhcpWorker, f func(*dhcpWorker)) {
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() { f(w) })
	}
	wg.Wait()
}

// A real coredhcp is killed 200 times, now and then while it starts, mostly while clients behind relays get, renew and
// give back addresses. Whoever was promised an address has it after the restart, renewing or switched on again, and no
// other client has it.
func TestDHCPKilled(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, lab.Loopback)
	s := newDHCPServer(t, l, l.Dir)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1000))
	workers := newDHCPWorkers(s, seed)
	var starting time.Duration
	for kill := range dhcpKills {
		if random.IntN(8) == 0 {
			s.launch()
			time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
			s.process.Kill()
		}
		begin := time.Now()
		s.start()
		starting += time.Since(begin)
		on := random.IntN(2) == 0
		all(workers, func(w *dhcpWorker) { w.check(timeout(t, patience), on) })
		if t.Failed() {
			t.Fatalf("kill %d; random numbers from %d", kill, seed)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(random.Int64N(int64(dhcpLoad))), func() {
			s.process.Kill()
			cancel()
		})
		all(workers, func(w *dhcpWorker) { w.run(ctx) })
		<-s.process.Done()
	}
	s.start()
	all(workers, func(w *dhcpWorker) { w.check(timeout(t, patience), true) })
	acks := 0
	for _, w := range workers {
		acks += w.acks
	}
	t.Logf("%d kills, %d ACKs, %s to start", dhcpKills, acks, starting/dhcpKills)
	if acks < 20*dhcpKills {
		t.Errorf("only %d ACKs", acks)
	}
}
