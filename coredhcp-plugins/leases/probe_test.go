package leases

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// machine is a network namespace with a thread that is in it: a machine whose kernel
// answers ARP and ICMP by itself.
type machine struct {
	t     testing.TB
	ns    netns.NsHandle
	calls chan func() error
	done  chan error
}

func newMachine(t testing.TB) *machine {
	m := &machine{t: t, calls: make(chan func() error), done: make(chan error)}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends in its namespace
		var err error
		m.ns, err = netns.New()
		made <- err
		for f := range m.calls {
			m.done <- f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(m.calls)
		_ = m.ns.Close()
	})
	return m
}

func (m *machine) do(f func() error) {
	m.t.Helper()
	m.calls <- f
	if err := <-m.done; err != nil {
		m.t.Fatal(err)
	}
}

// address gives an interface an address and raises it.
func (m *machine) address(name, address string) {
	m.t.Helper()
	m.do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
	})
}

// await waits until an interface carries frames, which the kernel says of a new one
// within a second.
func (m *machine) await(name string) {
	m.t.Helper()
	m.do(func() error {
		for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(10 * time.Millisecond) {
			link, err := netlink.LinkByName(name)
			if err != nil || link.Attrs().OperState == netlink.OperUp {
				return err
			}
		}
		return fmt.Errorf("%s does not come up", name)
	})
}

var cables atomic.Uint32

// cable is a veth pair; its ends go into the machines, or stay here.
func (w *wire) cable(a, b *machine) (here, there string) {
	w.t.Helper()
	n := cables.Add(1)
	here, there = fmt.Sprintf("cable%da", n), fmt.Sprintf("cable%db", n)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = here
	w.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: there}))
	for name, m := range map[string]*machine{here: a, there: b} {
		if m == nil {
			continue
		}
		link, err := netlink.LinkByName(name)
		w.must(err)
		w.must(netlink.LinkSetNsFd(link, int(m.ns)))
	}
	return here, there
}

// hub makes the far end of the wire a port of a bridge, where machines can be
// plugged in; what this file reads and writes there stays as it is.
func (w *wire) hub() *netlink.Bridge {
	w.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "hub"
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	w.must(netlink.LinkAdd(bridge))
	w.t.Cleanup(func() { w.must(netlink.LinkDel(bridge)) })
	w.must(netlink.LinkSetUp(bridge))
	w.join(bridge, far)
	return bridge
}

func (w *wire) join(bridge *netlink.Bridge, name string) {
	w.t.Helper()
	link, err := netlink.LinkByName(name)
	w.must(err)
	w.must(netlink.LinkSetMaster(link, bridge))
	w.must(netlink.LinkSetUp(link))
}

// plug puts a machine with an address on the wire, and returns the name of its interface.
func (w *wire) plug(bridge *netlink.Bridge, m *machine, address string) string {
	w.t.Helper()
	here, there := w.cable(nil, m)
	w.join(bridge, here)
	m.address(there, address)
	return there
}

func (w *wire) probes(network, result string) float64 {
	w.t.Helper()
	families, err := w.registry().Gather()
	w.must(err)
	for _, f := range families {
		if f.GetName() != "coredhcp_leases_probes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == network && m.GetLabel()[1].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

const probeSite = `
domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199], probe: arp, decline-time: 2h}
  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.100-198.51.100.199], probe: icmp}
  - {name: oncology, subnet: 203.0.113.0/24, pools: [203.0.113.100-203.0.113.199], probe: arp}
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.11}
  - {name: ct2, hardware-address: "00:00:5e:00:53:02", address: 192.0.2.12}
`

// TestProbeARP has a machine use addresses on the server's own wire that it was not given.
func TestProbeARP(t *testing.T) {
	w := newWire(t, pluginLines(t, probeSite, "")...)
	squatter := newMachine(t)
	at := w.plug(w.hub(), squatter, "192.0.2.100/24")
	squatter.address(at, "192.0.2.11/24")
	squatter.await(at)
	var hardware net.HardwareAddr
	squatter.do(func() error {
		i, err := net.InterfaceByName(at)
		hardware = i.HardwareAddr
		return err
	})
	c := w.client(0x10)
	begin := time.Now()
	offer := c.send(dhcpv4.MessageTypeDiscover)
	w.want(offer, dhcpv4.MessageTypeOffer)
	if a := yours(offer); a != addr("192.0.2.101") {
		t.Fatalf("offered %s, want the first that nobody uses", a)
	}
	if took := time.Since(begin); took < probeTime {
		t.Errorf("it took %s", took)
	}
	l := w.becomes(addr("192.0.2.100"), lease.Conflict)
	if l.Client.HardwareAddr != string(hardware) || time.Until(l.Expires) < 119*time.Minute {
		t.Errorf("lease %+v, want a conflict with %s for two hours", l, hardware)
	}
	free := w.probes("radiology", "free")
	w.want(c.send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeOffer)
	w.want(c.send(dhcpv4.MessageTypeRequest, requested(yours(offer)), selected(wiredServer.Addr())), dhcpv4.MessageTypeAck)
	if used := w.probes("radiology", "conflict"); free == 0 || used != 1 {
		t.Errorf("%v addresses were found free and %v in use, want 1 and 1", free, used)
	}
	if n := w.probes("radiology", "free"); n != free {
		t.Errorf("what was offered was tried again")
	}
	t.Run("others are served meanwhile", func(t *testing.T) {
		// On a busy machine the renewal, or the second DISCOVER, may come when the
		// probe is over: then it shows nothing.
		const tries = 20
		var seen string
		for i := range byte(tries) {
			other := w.client(0x20 + i)
			discover := other.message(dhcpv4.MessageTypeDiscover)
			renewal := c.message(dhcpv4.MessageTypeRequest, ciaddr(yours(offer)))
			before := w.probes("radiology", "free")
			other.transmit(discover)
			other.transmit(discover) // impatient: no second answer, and no second probe
			c.transmit(renewal)
			var order []dhcpv4.MessageType
			for end := time.After(4 * probeTime); end != nil; {
				select {
				case r := <-w.got:
					if r.TransactionID == discover.TransactionID || r.TransactionID == renewal.TransactionID {
						order = append(order, r.MessageType())
					}
				case <-end:
					end = nil
				}
			}
			probes := w.probes("radiology", "free") - before
			if slices.Equal(order, []dhcpv4.MessageType{dhcpv4.MessageTypeAck, dhcpv4.MessageTypeOffer}) && probes == 1 {
				return
			}
			seen += fmt.Sprintf("\n%v, %v probes", order, probes)
		}
		t.Errorf("want the renewal's ACK, and then one offer after one probe; in %d tries:%s", tries, seen)
	})
	t.Run("INIT-REBOOT of a device that was never here", func(t *testing.T) {
		w.want(w.client(0x02).send(dhcpv4.MessageTypeRequest, requested(addr("192.0.2.12"))), dhcpv4.MessageTypeAck)
		w.wantNak(w.client(0x01).send(dhcpv4.MessageTypeRequest, requested(addr("192.0.2.11"))))
		if l := w.becomes(addr("192.0.2.11"), lease.Conflict); time.Until(l.Expires) > 10*time.Minute {
			t.Errorf("a device's own address rests until %s", l.Expires)
		}
		if a := yours(w.client(0x01).gets()); !within(a, "192.0.2.100", "192.0.2.199") {
			t.Errorf("meanwhile it got %s, want one of the pool", a)
		}
	})
	t.Run("the client uses the address already", func(t *testing.T) {
		// As a machine does that was restarted by a management processor: what answers is itself.
		own := newMachine(t)
		name := w.plug(mustBridge(w), own, "192.0.2.150/24")
		own.await(name)
		c := w.client(0)
		own.do(func() error {
			i, err := net.InterfaceByName(name)
			c.hardware = i.HardwareAddr
			return err
		})
		offer := c.send(dhcpv4.MessageTypeDiscover, requested(addr("192.0.2.150")))
		w.want(offer, dhcpv4.MessageTypeOffer)
		if yours(offer) != addr("192.0.2.150") {
			t.Errorf("offered %s", yours(offer))
		}
	})
	t.Run("through a relay ARP cannot ask", func(t *testing.T) {
		for i := range byte(3) {
			w.want(w.client(0x50+i, relay("203.0.113.1")).send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeOffer)
		}
		if unsent, free := w.probes("oncology", "unsent"), w.probes("oncology", "free"); unsent != 3 || free != 0 {
			t.Errorf("%v addresses were given untried and %v were tried, want 3 and 0", unsent, free)
		}
	})
}

// TestProbeBOOTP holds that a BOOTP client is not kept from its own address, which is
// the only one that it can get; the same machine's DHCP client is not either, later.
func TestProbeBOOTP(t *testing.T) {
	w := newWire(t, pluginLines(t, probeSite, "")...)
	squatter := newMachine(t)
	squatter.await(w.plug(w.hub(), squatter, "192.0.2.12/24"))
	c := w.client(0x02)
	reply := c.send(dhcpv4.MessageTypeNone)
	if reply == nil || yours(reply) != addr("192.0.2.12") {
		t.Fatalf("reply %v, want its address", reply)
	}
	w.want(c.send(dhcpv4.MessageTypeRequest, requested(addr("192.0.2.12"))), dhcpv4.MessageTypeAck)
	w.want(w.client(0x79).send(dhcpv4.MessageTypeNone), dhcpv4.MessageTypeNone) // nor is there one of a pool, which would be tried
	for _, result := range []string{"free", "conflict", "skipped", "unsent"} {
		if n := w.probes("radiology", result); n != 0 {
			t.Errorf("%v addresses were tried, with the result %q", n, result)
		}
	}
}

func mustBridge(w *wire) *netlink.Bridge {
	link, err := netlink.LinkByName("hub")
	w.must(err)
	return link.(*netlink.Bridge)
}

// TestProbeICMP has a machine behind a router use an address.
func TestProbeICMP(t *testing.T) {
	w := newWire(t, pluginLines(t, probeSite, "")...)
	router, squatter := newMachine(t), newMachine(t)
	outside := w.plug(w.hub(), router, "192.0.2.1/24")
	inside, there := w.cable(router, squatter)
	router.address(inside, "198.51.100.1/24")
	router.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	squatter.address(there, "198.51.100.100/24")
	squatter.do(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4(192, 0, 2, 0).To4(), Mask: net.CIDRMask(24, 32)}, Gw: net.IPv4(198, 51, 100, 1)})
	})
	w.must(netlink.RouteReplace(&netlink.Route{
		LinkIndex: w.link.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(198, 51, 100, 0).To4(), Mask: net.CIDRMask(24, 32)}, Gw: net.IPv4(192, 0, 2, 1),
	}))
	for name, m := range map[string]*machine{inside: router, there: squatter, outside: router} {
		m.await(name)
	}
	offer := w.client(0x10, relay("198.51.100.1")).send(dhcpv4.MessageTypeDiscover)
	w.want(offer, dhcpv4.MessageTypeOffer)
	if a := yours(offer); a != addr("198.51.100.101") {
		t.Errorf("offered %s, want the first that nobody uses", a)
	}
	w.becomes(addr("198.51.100.100"), lease.Conflict)
	if free, used := w.probes("cardiology", "free"), w.probes("cardiology", "conflict"); free == 0 || used != 1 {
		t.Errorf("%v addresses were found free and %v in use, want 1 and 1", free, used)
	}
}

// fakeMedium is a medium that answers as a test says.
type fakeMedium struct {
	mu     sync.Mutex
	asked  []netip.Addr
	err    error
	answer func(netip.Addr) (by lease.HardwareAddress, ok bool)
	hear   chan func(func(netip.Addr, lease.HardwareAddress))
	closed chan struct{}
}

func (m *fakeMedium) ask(a netip.Addr) error {
	m.mu.Lock()
	m.asked = append(m.asked, a)
	m.mu.Unlock()
	if by, ok := m.answer(a); ok {
		m.hear <- func(f func(netip.Addr, lease.HardwareAddress)) { f(a, by) }
	}
	return m.err
}

func (m *fakeMedium) listen(f func(netip.Addr, lease.HardwareAddress)) error {
	for {
		select {
		case g := <-m.hear:
			g(f)
		case <-m.closed:
			return net.ErrClosed
		}
	}
}

func (m *fakeMedium) Close() error {
	close(m.closed)
	return nil
}

// TestProber has addresses tried on a medium whose time stands still.
func TestProber(t *testing.T) {
	type result struct {
		used bool
		by   lease.HardwareAddress
		err  error
	}
	holder, self := lease.HardwareAddress{Type: 1, Addr: "holder"}, "client"
	start := func(answer func(netip.Addr) (lease.HardwareAddress, bool), askErr error) (*prober, *[]*fakeMedium) {
		p, opened := newProber(), new([]*fakeMedium)
		p.open = func(site.Probe, string) (medium, error) {
			m := &fakeMedium{err: askErr, answer: answer, hear: make(chan func(func(netip.Addr, lease.HardwareAddress)), 10), closed: make(chan struct{})}
			*opened = append(*opened, m)
			return m, nil
		}
		return p, opened
	}
	try := func(p *prober, a netip.Addr) (<-chan result, error) {
		results := make(chan result, 1)
		err := p.try(place{kind: site.ProbeICMP}, a, self, func(used bool, by lease.HardwareAddress, err error) { results <- result{used, by, err} })
		return results, err
	}
	a := addr("192.0.2.100")
	for _, tt := range []struct {
		name   string
		answer func(netip.Addr) (lease.HardwareAddress, bool)
		err    error
		want   result
		took   time.Duration
		asked  int
	}{
		{"silence", func(netip.Addr) (by lease.HardwareAddress, ok bool) { return }, nil, result{}, probeTime, 2},
		{"a machine", func(netip.Addr) (lease.HardwareAddress, bool) { return holder, true }, nil, result{used: true, by: holder}, 0, 1},
		{"a machine that cannot be known", func(netip.Addr) (by lease.HardwareAddress, ok bool) { return by, true }, nil, result{used: true}, 0, 1},
		{"the client itself", func(netip.Addr) (lease.HardwareAddress, bool) {
			return lease.HardwareAddress{Type: 1, Addr: self}, true
		}, nil, result{}, probeTime, 2},
		{"a machine, while this one is kept from running", func() func(netip.Addr) (lease.HardwareAddress, bool) {
			again := false
			return func(netip.Addr) (by lease.HardwareAddress, ok bool) {
				if !again {
					again = true
					return by, false
				}
				time.Sleep(probeTime)
				return holder, true
			}
		}(), nil, result{used: true, by: holder}, probeAgain + probeTime, 2},
		{"it cannot be sent", func(netip.Addr) (by lease.HardwareAddress, ok bool) { return }, os.ErrPermission, result{err: os.ErrPermission}, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, opened := start(tt.answer, tt.err)
				begin := time.Now()
				results, err := try(p, a)
				if err != nil {
					t.Fatal(err)
				}
				if got := <-results; got != tt.want {
					t.Errorf("result %+v, want %+v", got, tt.want)
				}
				if took := time.Since(begin); took != tt.took {
					t.Errorf("it took %s, want %s", took, tt.took)
				}
				p.close()
				if m := (*opened)[0]; len(m.asked) != tt.asked || len(*opened) != 1 {
					t.Errorf("asked %d times on %d media, want %d on one", len(m.asked), len(*opened), tt.asked)
				}
				if _, err := try(p, a); !errors.Is(err, net.ErrClosed) {
					t.Errorf("after the end: %v", err)
				}
			})
		})
	}
	t.Run("a busy machine", func(t *testing.T) {
		for _, tt := range []struct {
			name   string
			stalls int           // how many questions after the first take 0.4 s
			comes  time.Duration // when an answer is read
			want   result
			took   time.Duration
		}{
			{"an answer that was read meanwhile", 1, 450 * time.Millisecond, result{used: true, by: holder}, 500 * time.Millisecond},
			{"an answer that is read late", 1, 800 * time.Millisecond, result{used: true, by: holder}, 800 * time.Millisecond},
			{"no answer", 1, time.Hour, result{}, 900 * time.Millisecond},
			{"not for ever", maxQuestions, time.Hour, result{}, 2500 * time.Millisecond},
		} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					asked := 0
					p, opened := start(func(netip.Addr) (by lease.HardwareAddress, ok bool) {
						if asked > 0 && asked <= tt.stalls {
							time.Sleep(400 * time.Millisecond)
						}
						asked++
						return by, false
					}, nil)
					begin := time.Now()
					results, err := try(p, a)
					if err != nil {
						t.Fatal(err)
					}
					answer := time.AfterFunc(tt.comes, func() {
						(*opened)[0].hear <- func(f func(netip.Addr, lease.HardwareAddress)) { f(a, holder) }
					})
					if got, took := <-results, time.Since(begin); got != tt.want || took != tt.took {
						t.Errorf("result %+v after %s, want %+v after %s", got, took, tt.want, tt.took)
					}
					answer.Stop()
					p.close()
				})
			})
		}
	})
	t.Run("too many at once, and the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, opened := start(func(netip.Addr) (by lease.HardwareAddress, ok bool) { return }, nil)
			var all []<-chan result
			next := a
			for range maxProbes {
				results, err := try(p, next)
				if err != nil {
					t.Fatal(err)
				}
				all, next = append(all, results), next.Next()
			}
			if _, err := try(p, next); !errors.Is(err, errBusy) {
				t.Errorf("one more: %v, want %v", err, errBusy)
			}
			time.Sleep(probeTime)
			synctest.Wait()
			for _, r := range all {
				if got := <-r; got != (result{}) {
					t.Errorf("result %+v", got)
				}
			}
			results, err := try(p, a)
			if err != nil || len(*opened) != 2 {
				t.Errorf("afterwards: %v on medium %d, want a new one", err, len(*opened))
			}
			p.close()
			if got := <-results; !errors.Is(got.err, net.ErrClosed) {
				t.Errorf("at the end: %+v", got)
			}
		})
	})
}

// A server that may not open such sockets gives addresses all the same, and says so once.
func TestProbeWithoutSockets(t *testing.T) {
	l := startWith(t, t.TempDir(), new(server.Host), writeSite(t, probeSite))
	journal := record(t, logrus.InfoLevel)
	l.prober.open = func(site.Probe, string) (medium, error) { return nil, os.ErrPermission }
	for i := range byte(3) { // as a stock CoreDHCP calls it, which cannot wait
		offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x10+i, giaddr("198.51.100.1"))
		if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer {
			t.Fatalf("offer = %v", offer)
		}
	}
	if err := l.prober.try(place{}, addr("198.51.100.1"), "", nil); !errors.Is(err, os.ErrPermission) {
		t.Errorf("error %v", err)
	}
	if n := testutil.ToFloat64(l.metrics.probes.WithLabelValues("cardiology", "unsent")); n != 3 {
		t.Errorf("counted %v times, want 3", n)
	}
	if lines := journal.take(); len(lines) != 1 || !strings.Contains(lines[0], "without being tried") {
		t.Errorf("lines %q, want one", lines)
	}
}

// TestProbeBusy has more clients than addresses can be tried at a time: those that are
// too many are answered at once. On a busy machine the first addresses may be done
// with before the last client has asked; more clients come then.
func TestProbeBusy(t *testing.T) {
	const crowd = maxProbes + 60
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
networks:
  - {name: radiology, shared-network: floor, subnet: 192.0.2.0/24}
  - {name: overflow, shared-network: floor, subnet: 198.18.0.0/16, pools: [198.18.1.0-198.18.200.255], probe: arp}
`, " max-per-port=60000")...)
	clients := 0
	for late := time.Now().Add(patience); w.probes("overflow", "skipped") == 0; {
		if time.Now().After(late) {
			t.Fatalf("of %d clients none was too many", clients)
		}
		ask := map[dhcpv4.TransactionID]func(){}
		for range crowd {
			c := w.client(byte(clients))
			c.hardware[3], c.hardware[4] = 0x54, byte(clients>>8)
			clients++
			m := c.message(dhcpv4.MessageTypeDiscover)
			ask[m.TransactionID] = func() { c.transmit(m) }
		}
		for len(ask) > 0 {
			for _, f := range ask {
				f()
			}
			for again := time.After(resend); len(ask) > 0 && again != nil; {
				select {
				case r := <-w.got:
					delete(ask, r.TransactionID)
				case <-again:
					again = nil
				}
			}
			if time.Now().After(late) {
				t.Fatalf("%d of %d clients got no offer", len(ask), crowd)
			}
		}
	}
	if free, skipped := w.probes("overflow", "free"), w.probes("overflow", "skipped"); free < maxProbes || free+skipped < float64(clients) {
		t.Errorf("%v addresses were tried and %v not, want at least %d tried and %d together", free, skipped, maxProbes, clients)
	}
}

func TestARPSender(t *testing.T) {
	reply := append([]byte{0, 0, 0x5e, 0, 0x53, 1, 0, 0, 0x5e, 0, 0x53, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2}, 0, 0, 0x5e, 0, 0x53, 9, 192, 0, 2, 100, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2)
	a, by, ok := arpSender(reply)
	if !ok || a != addr("192.0.2.100") || by.String() != "00:00:5e:00:53:09" {
		t.Errorf("reply of %s at %s, %v", a, by, ok)
	}
	for name, change := range map[string]func([]byte) []byte{
		"short":         func(b []byte) []byte { return b[:ethernetSize+arpSize-1] },
		"empty":         func([]byte) []byte { return nil },
		"a probe":       func(b []byte) []byte { copy(b[28:], []byte{0, 0, 0, 0}); return b },
		"not IPv4":      func(b []byte) []byte { b[16] = 0x86; return b },
		"not ARP":       func(b []byte) []byte { b[12] = 0x81; return b },
		"other lengths": func(b []byte) []byte { b[18] = 8; return b },
	} {
		if _, _, ok := arpSender(change(append([]byte(nil), reply...))); ok {
			t.Errorf("%s: taken for an answer", name)
		}
	}
}

// TestForgedEchoReply: only replies to our own echoes count.
func TestForgedEchoReply(t *testing.T) {
	w := &icmpMedium{raw: true, id: 0x1234, seq: 0x5678}
	reply := []byte{0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78}
	if !w.ours(reply) {
		t.Error("our own is not taken")
	}
	for i := range reply {
		forged := bytes.Clone(reply)
		if forged[i]++; i != 1 && i != 2 && i != 3 && w.ours(forged) {
			t.Errorf("% x is taken", forged)
		}
		if w.ours(reply[:i]) {
			t.Errorf("% x is taken", reply[:i])
		}
	}
}
