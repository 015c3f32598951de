package leases

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

const (
	// probeTime is how long an address is listened for. A machine on the wire
	// answers within a millisecond, one behind routers within a few dozen.
	probeTime = 300 * time.Millisecond
	// probeAgain is when a second question follows, since the first may be lost.
	probeAgain = 100 * time.Millisecond
	// probeLag is how late the end of that time may be noticed. On a machine that is
	// busier an answer may have come that was not read: it asks again, maxQuestions
	// in all.
	probeLag     = 20 * time.Millisecond
	maxQuestions = 5
	// maxProbes bounds the addresses that are tried at one time, and so what
	// strangers who ask for addresses can have sent: 1,700 questions a second.
	maxProbes = 256
)

// errBusy says that an address cannot be tried because too many are.
var errBusy = errors.New("too many addresses are being tried")

// medium asks for addresses at one place of the network.
type medium interface {
	// ask sends one question for the address.
	ask(netip.Addr) error
	// listen hands on who answers, as often as it does, with the hardware address
	// if that can be known, until the medium is closed. It returns why it has ended.
	listen(func(netip.Addr, lease.HardwareAddress)) error
	io.Closer
}

// prober tries addresses. Media are open only while one is tried there: what comes
// in on them, all ARP of a network, would cost more than the probes.
type prober struct {
	open func(site.Probe, string) (medium, error) // the kind, and the interface for ARP

	mu      sync.Mutex // guards the rest
	closed  bool
	running int
	media   map[place]*openMedium
	probes  sync.WaitGroup
	ended   chan struct{} // closed with closed
}

// place is where a medium is.
type place struct {
	kind          site.Probe
	interfaceName string // of ARP
}

// openMedium is a medium that is in use.
type openMedium struct {
	medium
	users int
	heard map[netip.Addr]chan lease.HardwareAddress // by address that is tried
	done  chan struct{}                             // closed when listen has returned
}

func newProber() *prober {
	return &prober{open: openMediumOf, media: map[place]*openMedium{}, ended: make(chan struct{})}
}

func openMediumOf(kind site.Probe, interfaceName string) (medium, error) {
	if kind == site.ProbeARP {
		return openARP(interfaceName)
	}
	return openICMP()
}

// try finds out whether another machine than the client with this hardware address
// uses the address, and calls then: with the one that does, if any, or with why it
// cannot be found out. It returns an error at once where it cannot even begin, and
// then is not called.
func (p *prober) try(at place, a netip.Addr, client string, then func(used bool, by lease.HardwareAddress, err error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return net.ErrClosed
	case p.running >= maxProbes:
		return errBusy
	}
	w := p.media[at]
	if w == nil {
		opened, err := p.open(at.kind, at.interfaceName)
		if err != nil {
			return err
		}
		w = &openMedium{medium: opened, heard: map[netip.Addr]chan lease.HardwareAddress{}, done: make(chan struct{})}
		p.media[at] = w
		p.probes.Go(func() {
			defer close(w.done)
			_ = w.listen(func(a netip.Addr, by lease.HardwareAddress) { p.hear(w, a, by) }) // closed, or its interface is gone
		})
	}
	heard := make(chan lease.HardwareAddress, 4)
	w.heard[a] = heard // one client at a time is offered an address, so there is no other
	w.users++
	p.running++
	p.probes.Go(func() {
		used, by, err := p.wait(w, a, client, heard)
		p.leave(at, w, a, heard)
		then(used, by, err)
	})
	return nil
}

// wait asks for the address and listens.
func (p *prober) wait(w *openMedium, a netip.Addr, client string, heard <-chan lease.HardwareAddress) (used bool, by lease.HardwareAddress, err error) {
	if err := w.ask(a); err != nil {
		return false, by, err
	}
	// The time to listen begins with each question: a process that was kept from
	// running all the while has not listened.
	late := time.NewTimer(probeAgain)
	defer late.Stop()
	var end time.Time // of listening after the last question
	for questions := 1; ; {
		select {
		case by := <-heard:
			if by.Addr == "" || by.Addr != client { // it may have the address already: it is its own then
				return true, by, nil
			}
		case <-late.C:
			if len(heard) > 0 { // that goes first
				late.Reset(0)
				continue
			}
			if questions > 1 && time.Since(end) <= probeLag || questions == maxQuestions {
				return false, by, nil
			}
			questions++
			end = time.Now().Add(probeTime - probeAgain)
			_ = w.ask(a) // the first one was sent
			late.Reset(probeTime - probeAgain)
		case <-w.done:
			return false, by, errors.New("the interface is gone")
		case <-p.ended:
			return false, by, net.ErrClosed
		}
	}
}

// hear tells the probe of an address that somebody answers there.
func (p *prober) hear(w *openMedium, a netip.Addr, by lease.HardwareAddress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case w.heard[a] <- by: // nil, which is never ready, if nobody asked
	default:
	}
}

// leave ends a probe, and closes the medium after the last.
func (p *prober) leave(at place, w *openMedium, a netip.Addr, heard chan lease.HardwareAddress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
	if w.heard[a] == heard {
		delete(w.heard, a)
	}
	if w.users--; w.users == 0 {
		delete(p.media, at)
		_ = w.Close() // nothing was to be written
	}
}

// close ends all probes and waits for them; what they were for is not called any
// more but with an error.
func (p *prober) close() {
	p.mu.Lock()
	p.closed = true
	close(p.ended)
	p.mu.Unlock()
	p.probes.Wait()
}

// decide has the manager decide about a message. Where the address that it has
// chosen must be tried first, it says that the exchange goes on later; the message
// is then worked on from the beginning.
func (l *Leases) decide(ctx context.Context, t *transaction, f func(context.Context, lease.Query) (lease.Answer, error)) (a lease.Answer, later bool, err error) {
	a, err = f(ctx, t.query)
	if err != nil || a.Kind != lease.Probe {
		return a, false, err
	}
	address, client, network := a.Lease.Address, a.Lease.Client, a.Lease.Network
	switch err := l.try(t, address, client, network); {
	case err == nil:
		return a, true, nil
	case errors.Is(err, errBusy):
		l.metrics.probes.WithLabelValues(network, "skipped").Inc()
	default:
		l.unsent(network, err)
	}
	// It can still be caught by the client itself (RFC 2131 section 4.4.1).
	l.manager.Tried(client, address)
	a, err = f(ctx, t.query)
	return a, false, err
}

// try begins to try an address for a client.
func (l *Leases) try(t *transaction, a netip.Addr, client lease.Client, network string) error {
	n := t.site.NetworkOf(a)
	if n == nil || n.Probe == site.ProbeNone {
		return errBusy // a reload has just changed it
	}
	at := place{kind: n.Probe}
	if n.Probe == site.ProbeARP {
		if gateway := t.Request.GatewayIPAddr; len(gateway) > 0 && !gateway.IsUnspecified() || t.Interface == "" || t.Request.HWType == ipsecTunnel {
			return errors.New("its clients are not on a wire of this server, where ARP could ask; expected probe: icmp")
		}
		at.interfaceName = t.Interface
	}
	again := t.Later()
	if again == nil {
		return errors.New("this server (stock CoreDHCP) has no way to wait")
	}
	err := l.prober.try(at, a, string(t.Request.ClientHWAddr), func(used bool, by lease.HardwareAddress, err error) {
		switch {
		case used:
			l.conflict(a, client, by, network)
		case errors.Is(err, net.ErrClosed):
			return // the server stops
		case err != nil:
			l.unsent(network, err)
			l.manager.Tried(client, a)
		default:
			l.sent(network)
			l.metrics.probes.WithLabelValues(network, "free").Inc()
			l.manager.Tried(client, a)
		}
		again.Do()
	})
	if err != nil {
		t.Now()
	}
	return err
}

// conflict takes an address out of service that another machine uses.
func (l *Leases) conflict(a netip.Addr, client lease.Client, by lease.HardwareAddress, network string) {
	l.sent(network)
	l.metrics.probes.WithLabelValues(network, "conflict").Inc()
	l.lines.conflict.Log(l.log.Warn, "conflict: another machine uses this address",
		"address", a, "holder", net.HardwareAddr(by.Addr).String(), "client", client, "network", network)
	// The message is worked on again once it is on disk, and its client gets another.
	if _, err := l.manager.Conflict(context.Background(), client, a, by); err != nil {
		l.failed("discover", client, fmt.Errorf("keeping %v out of use: %w", a, err))
	}
}

// unsent logs that addresses of a network cannot be tried, once until they can.
func (l *Leases) unsent(network string, err error) {
	l.metrics.probes.WithLabelValues(network, "unsent").Inc()
	if _, told := l.cannotProbe.LoadOrStore(network, true); !told {
		l.log.Warn("addresses are given without being tried", "network", network, "error", err)
	}
}

func (l *Leases) sent(network string) { l.cannotProbe.Delete(network) }
