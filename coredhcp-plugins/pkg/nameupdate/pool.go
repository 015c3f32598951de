package nameupdate

import (
	"net"
	"sync"
	"time"
)

const (
	// udpLife is how many exchanges a UDP socket is for: its port is random, and does not stay long enough to be guessed.
	udpLife = 256
	// tcpLife is how long a connection may be idle. CoreDNS closes one after 10 s.
	tcpLife = 8 * time.Second
	// maxIdle bounds the sockets that wait for another exchange.
	maxIdle = 64
)

// pool keeps sockets that are connected to one server. One exchange at a time uses a socket: CoreDNS works on the
// messages of one connection one after another, so many messages at a time want many connections.
type pool struct {
	mu   sync.Mutex
	idle []*socket
	shut bool
}

type socket struct {
	net.Conn
	used   int       // exchanges
	since  time.Time // when it became idle
	buffer []byte    // to read into; nil at first
}

// get returns an idle socket that is not older than age (0: of any age), the one used last, or nil.
func (p *pool) get(age time.Duration) *socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	s := p.idle[n-1]
	if age > 0 && time.Since(s.since) > age { // and all before it
		for _, s := range p.idle {
			_ = s.Close() // nothing is lost with it
		}
		p.idle = nil
		return nil
	}
	p.idle = p.idle[:n-1]
	return s
}

// put gives a socket back after an exchange that was answered.
func (p *pool) put(s *socket, life int) {
	s.used++
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut || len(p.idle) >= maxIdle || life > 0 && s.used >= life {
		_ = s.Close()
		return
	}
	s.since = time.Now()
	p.idle = append(p.idle, s)
}

// close closes the idle sockets, and those that are given back later.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	for _, s := range p.idle {
		_ = s.Close()
	}
	p.idle = nil
}
