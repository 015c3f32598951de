package dicom

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/time/rate"
)

// All NOTIFY messages of a handler that have the same source go out by one
// socket, however many zones and secondaries there are: who does not answer
// costs no socket, and nobody has to wait until it is given up.
//
// What is bounded is how many go out at a time. At a start all secondaries of
// all zones are told at once. With notifyRate, ten secondaries of a thousand
// zones have heard of it after ten seconds, which is sooner than they can ask
// (BIND asks for 20 serials a second), and takes a few percent of a processor;
// the answers to notifyBurst of them fit into the socket's buffer. Those that
// did not answer the last time have their own turns, and take none of those
// that do.
const (
	notifyRate  = 1000 // a second
	notifyBurst = 100
)

var (
	errNoAnswer = errors.New("no answer")
	errNotOpen  = errors.New("server is shutting down")
	errManySent = errors.New("too many NOTIFY without an answer")
)

// turns are when the next may be sent.
type turns struct {
	heard, silent *rate.Limiter // for those that answered the last time, and for others
}

func newTurns() turns {
	return turns{rate.NewLimiter(notifyRate, notifyBurst), rate.NewLimiter(notifyRate, notifyBurst)}
}

// A post is the socket that NOTIFY messages go out by.
type post struct {
	source net.IP // nil: what the system chooses
	turns  turns

	mu      sync.Mutex
	closed  bool
	conn    *net.UDPConn          // nil while it is not open
	waiting map[letter]chan<- int // for the RCODE of the answer
	reader  sync.WaitGroup
}

// A letter is how an answer is known; without a scope, which has a name and a
// number (RFC 4007 section 11.2). Who forges one does no more harm than who
// drops a NOTIFY: the refresh timer of the secondary then has to do.
type letter struct {
	to netip.AddrPort
	id uint16
}

func newPost(source net.IP, turns turns) *post {
	return &post{source: source, turns: turns, waiting: make(map[letter]chan<- int)}
}

// run keeps the post until ctx ends.
func (p *post) run(ctx context.Context) {
	<-ctx.Done()
	p.mu.Lock()
	p.closed = true
	if p.conn != nil {
		_ = p.conn.Close() // nothing is lost that anybody waits for
	}
	p.mu.Unlock()
	p.reader.Wait()
}

// ask sends one NOTIFY, and waits for the answer for notifyTimeout.
func (p *post) ask(ctx context.Context, zone string, to netip.AddrPort) error {
	answer := make(chan int, 1)
	sent, err := p.send(zone, to, answer)
	defer p.forget(sent, answer)
	wait := notifyTimeout
	if err != nil {
		// It was not even sent: a network that is just coming up needs a moment.
		wait /= 4
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case rcode := <-answer:
		if rcode != dns.RcodeSuccess {
			return errors.New(dns.RcodeToString[rcode])
		}
		return nil
	case <-timer.C:
	}
	if err != nil {
		return err
	}
	return errNoAnswer
}

func (p *post) send(zone string, to netip.AddrPort, answer chan<- int) (letter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.openLocked(); err != nil {
		return letter{}, err
	}
	m := new(dns.Msg).SetNotify(zone)
	l := letter{withoutScope(to), m.Id}
	for try := 0; p.waiting[l] != nil; try++ {
		if try == 100 {
			return letter{}, errManySent
		}
		l.id = dns.Id()
	}
	m.Id = l.id
	wire, err := m.Pack()
	if err != nil {
		return letter{}, err
	}
	p.waiting[l] = answer
	_, err = p.conn.WriteToUDPAddrPort(wire, to)
	return l, err
}

// openLocked opens the socket where it is not open. The caller holds mu.
func (p *post) openLocked() error {
	if p.closed {
		return errNotOpen
	}
	if p.conn != nil {
		return nil
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: p.source})
	if err != nil {
		return err
	}
	p.conn = conn
	p.reader.Go(func() { p.read(conn) })
	return nil
}

// read hands the answers out, until the socket is closed or broken; it is then
// opened anew with the next NOTIFY.
func (p *post) read(conn *net.UDPConn) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.conn = nil
		_ = conn.Close() // it may be closed already
	}()
	buf := make([]byte, dns.MinMsgSize)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		var m dns.Msg
		if m.Unpack(buf[:n]) != nil || !m.Response || m.Opcode != dns.OpcodeNotify {
			continue
		}
		l := letter{withoutScope(from), m.Id}
		p.mu.Lock()
		if answer := p.waiting[l]; answer != nil {
			delete(p.waiting, l)
			answer <- m.Rcode
		}
		p.mu.Unlock()
	}
}

func withoutScope(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// forget ends the wait for an answer, unless another waits for the like by now.
func (p *post) forget(l letter, answer chan<- int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[l] == answer {
		delete(p.waiting, l)
	}
}
