package server

import "sync"

// Again is a request that is worked on once more, from the beginning of the chain,
// when the plugin that wants it has what it waits for: the answer of a machine on
// the network, say. Nobody waits meanwhile, neither a goroutine nor another client.
type Again struct {
	mu     sync.Mutex // guards the rest
	server *Server    // nil until the chain has ended
	packet received
	asked  bool
}

// Later ends the exchange, which has no answer yet; the plugin sets Reply to nil
// and returns. It is nil in a stock CoreDHCP, where a request is worked on once.
func (x *Exchange) Later() *Again {
	if !x.holds {
		return nil
	}
	x.again = &Again{}
	return x.again
}

// Now takes Later back: the exchange goes on and is answered as any other. Do must
// not be called then.
func (x *Exchange) Now() { x.again = nil }

// Do has the request worked on again. It does not wait, and is called once, by any
// goroutine. Where the request has become too old meanwhile, or the server stops,
// nothing happens: the client repeats itself.
func (a *Again) Do() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = true
	a.submit()
}

// keep takes the packet, when the chain has ended.
func (a *Again) keep(s *Server, r *received) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.server, a.packet = s, *r
	a.packet.again = true
	a.submit()
}

// submit queues the packet once both are there: the packet, and the wish. Caller
// holds mu.
func (a *Again) submit() {
	if a.server == nil || !a.asked {
		return
	}
	if !a.server.workers.submit(a.packet) {
		a.server.overflowed()
	}
}
