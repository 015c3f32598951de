package server

import (
	"context"
	"net"
	"runtime/debug"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// lane takes packets from the wire to the wire, one after the other. One
// goroutine at a time uses it.
type lane struct {
	server  *Server
	out     *outbox        // what is ready
	held    [2]*held       // what waits for the latest commits, the last first; more are never under way
	options dhcpv4.Options // of replies: one map for all, which has grown to the size that they need
}

func (s *Server) newLane() *lane {
	return &lane{server: s, out: s.newOutbox(), options: make(dhcpv4.Options)}
}

// work takes one packet through the plugins. Its reply, if it is ready, leaves
// with the next flush.
func (l *lane) work(ctx context.Context, r *received) {
	s := l.server
	if time.Since(r.at) > patience || ctx.Err() != nil {
		s.metrics.late.Inc()
		return
	}
	if s.held.Load() >= heldAnswers { // the disk has stopped, or nearly
		s.overflowed()
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.metrics.panicked.Inc()
			s.lines.panicked.Log(s.log.Error, "a plugin has panicked, request dropped",
				"panic", p, "from", r.from, "stack", string(debug.Stack()))
		}
	}()
	req, err := decode(r.packet)
	if err != nil {
		s.malformed(r, err)
		return
	}
	if !r.again {
		s.metrics.received.of(req).Inc()
	}
	i, t, ok := s.interfaces.byIndex(r.iface)
	if !ok {
		i = &netInterface{index: r.iface} // gone since; the reply may still get out
	}
	x := s.exchange(req, i, t, r.to)
	clear(l.options)
	x.options = l.options
	reply := s.answer(ctx, x)
	if x.again != nil { // nothing is decided yet
		x.again.keep(s, r)
		return
	}
	for _, l := range s.chain {
		if o, ok := l.plugin.(Observer); ok {
			o.Observe(x, reply)
		}
	}
	if reply == nil {
		s.metrics.unanswered.of(req).Inc()
		if x.commit == nil {
			return
		}
		x.Reply = nil // and yet what its client sends next is answered after the commit
	}
	if err := l.put(r, i, t, x); err != nil {
		s.metrics.failed.Inc()
		s.lines.send.Log(s.log.Warn, "reply not sent", "client", req.ClientHWAddr, "error", err)
	}
}

// put adds the reply of x, if it has one, to what leaves next, or to what waits
// for its commit. A reply also waits for those that its client was to get before.
func (l *lane) put(r *received, i *netInterface, t *interfaceTable, x *Exchange) error {
	client := x.Request.ClientHWAddr
	add := func(box *outbox) error {
		if x.Reply == nil {
			box.note(client)
			return nil
		}
		return box.add(r, i, t, x)
	}
	if x.commit != nil && l.out.isFor(client) {
		l.out.flush() // the commit may be over before the next
	}
	for _, h := range l.held {
		if h == nil {
			continue
		}
		h.mu.Lock()
		switch {
		case h.box == nil:
		case h.leaving != nil:
			if h.box.isFor(client) {
				left := h.leaving
				h.mu.Unlock()
				<-left // no longer than a few system calls take
				continue
			}
		case x.commit == h.commit, x.commit == nil && h.box.isFor(client):
			err := add(h.box)
			if err == nil {
				l.server.held.Add(1)
			}
			h.mu.Unlock()
			return err
		}
		h.mu.Unlock()
	}
	if x.commit == nil {
		return add(l.out)
	}
	box := l.server.newOutbox()
	if err := add(box); err != nil {
		box.free()
		return err
	}
	h := &held{commit: x.commit, box: box}
	l.held[0], l.held[1] = h, l.held[0]
	l.server.holding.Add(1)
	l.server.held.Add(1)
	x.commit.Then(h.release)
	return nil
}

func (s *Server) overflowed() {
	s.metrics.overflowed.Inc()
	s.lines.overflow.Log(s.log.Warn, "too many requests wait, dropping the newest")
}

// malformed counts and logs a packet that is no request. A sender without an address
// is found by its hardware address, which the packet gives if it is not too short.
func (s *Server) malformed(r *received, err error) {
	s.metrics.malformed.Inc()
	var name string
	if i, _, ok := s.interfaces.byIndex(r.iface); ok {
		name = i.name
	}
	var client net.HardwareAddr
	if len(r.packet) >= offServerName {
		client = r.packet[offHardware : offHardware+min(int(r.packet[offHardwareLength]), maxHardwareLength)]
	}
	s.lines.malformed.Log(s.log.Warn, "malformed packet dropped", "from", r.from, "interface", name, "client", client.String(), "error", err)
}
