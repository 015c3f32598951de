package server

import (
	"bytes"
	"errors"
	"hash/maphash"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// outgoing is an answer on its way out.
type outgoing struct {
	packet   []byte // the encoded DHCP message, nil if there is no answer
	frame    []byte // the Ethernet frame with it, nil if it is sent as a datagram
	iface    *netInterface
	listener *listener
	to       netip.AddrPort // of the datagram
	info     packetInfo
	client   net.HardwareAddr // for the log
	next     int              // in the list of outbox.clients, 0 at its end
	sent     prometheus.Counter
	at       time.Time // when the request was read
}

// outbox gathers answers that leave together. One goroutine at a time uses it.
type outbox struct {
	server  *Server
	answers []outgoing
	arena   []byte // what they consist of
	// clients finds the answers of a client: by hash, the number of the latest, from 1
	// on, of those with that hash. Under load hundreds wait for a commit, and each
	// request asks.
	clients [clientHashes]int
	out     datagrams
}

// clientHashes is about how many answers wait for one commit under load.
const clientHashes = 512

// clientSeed is chosen at start: a stranger cannot aim at one hash.
var clientSeed = maphash.MakeSeed()

// outboxes are those that wait for a use. Their memory is bounded by how many
// are in use at a time.
var outboxes = sync.Pool{New: func() any { return new(outbox) }}

func (s *Server) newOutbox() *outbox {
	o := outboxes.Get().(*outbox)
	o.server = s
	return o
}

// free gives an empty outbox back.
func (o *outbox) free() {
	o.server = nil
	outboxes.Put(o)
}

// add encodes the reply of x and keeps it until flush. The request r came in on i.
func (o *outbox) add(r *received, i *netInterface, t *interfaceTable, x *Exchange) error {
	s := o.server
	start := len(o.arena)
	b, left, err := encode(o.arena, x.Request, x.Reply, sizeLimit(x.Request, len(r.packet)))
	if err != nil {
		return err
	}
	o.arena = b
	if len(left) > 0 {
		s.log.Debug("options without room in the reply", "client", x.Request.ClientHWAddr, "options", left)
	}
	a := outgoing{
		packet: b[start:len(b):len(b)], iface: i, listener: r.listener, client: x.Reply.ClientHWAddr,
		sent: s.metrics.sent.of(x.Reply), at: r.at,
	}
	to := routeOf(x.Request, x.Reply, r.from)
	a.info.source = s.source(i, t, r.to, x.ServerID)
	if to.kind == toHardware {
		if source, ok := s.frameSource(i, to, x); ok {
			start := len(o.arena)
			o.arena = appendFrame(o.arena, to.hardware, i.hardware, netip.AddrPortFrom(source, r.listener.port), to.to, a.packet)
			a.frame = o.arena[start:len(o.arena):len(o.arena)]
		}
		to = everyone // should there be no frame, or should it not get out
	}
	a.to = to.to
	if to.kind == toAll || to.to.Addr().IsLinkLocalUnicast() {
		// Others go where the routing table says.
		a.info.iface = i.index
	}
	o.append(a)
	return nil
}

// note remembers a client that gets no answer.
func (o *outbox) note(client net.HardwareAddr) {
	o.append(outgoing{client: client})
}

func (o *outbox) append(a outgoing) {
	latest := o.latest(a.client)
	a.next = *latest
	o.answers = append(o.answers, a)
	*latest = len(o.answers)
}

// latest is where the list begins that has all answers of a client.
func (o *outbox) latest(client net.HardwareAddr) *int {
	return &o.clients[maphash.Bytes(clientSeed, client)%clientHashes]
}

// isFor says whether something for the client was added or noted.
func (o *outbox) isFor(client net.HardwareAddr) bool {
	for n := *o.latest(client); n > 0; n = o.answers[n-1].next {
		if bytes.Equal(o.answers[n-1].client, client) {
			return true
		}
	}
	return false
}

// flush sends what was added. It never waits for the network: an answer for
// which there is no room is lost like any other packet.
func (o *outbox) flush() {
	if len(o.answers) > 0 {
		o.send()
		o.clear()
	}
}

// send is flush but for the clearing: meanwhile others may ask isFor.
func (o *outbox) send() {
	for rest := o.answers; len(rest) > 0; {
		if rest[0].packet == nil {
			rest = rest[1:]
			continue
		}
		if rest[0].frame != nil && o.sendFrame(&rest[0]) {
			o.done(&rest[0], nil)
			rest = rest[1:]
			continue
		}
		n := 1 // datagrams that leave by one socket
		for n < len(rest) && rest[n].packet != nil && rest[n].frame == nil && rest[n].listener == rest[0].listener {
			n++
		}
		o.sendDatagrams(rest[:n])
		rest = rest[n:]
	}
}

// fail gives up what was added, without clearing it.
func (o *outbox) fail(err error) {
	for i := range o.answers {
		if o.answers[i].packet != nil {
			o.done(&o.answers[i], err)
		}
	}
}

func (o *outbox) clear() {
	clear(o.answers)
	clear(o.clients[:])
	o.answers, o.arena = o.answers[:0], o.arena[:0]
}

// done accounts for one answer.
func (o *outbox) done(a *outgoing, err error) {
	s := o.server
	if err != nil {
		s.metrics.failed.Inc()
		s.lines.send.Log(s.log.Warn, "reply not sent", "client", a.client, "error", err)
		return
	}
	a.sent.Inc()
	s.metrics.seconds.Observe(time.Since(a.at).Seconds())
}

// sendFrame sends an answer straight to the client's hardware address. It
// reports false where it is to be broadcast instead.
func (o *outbox) sendFrame(a *outgoing) bool {
	s := o.server
	err := s.frames.writeFrame(a.iface, a.frame)
	switch {
	case err == nil:
		return true
	case errors.Is(err, os.ErrPermission):
		if !s.noFrames.Swap(true) {
			s.log.Warn("no permission for packet sockets (CAP_NET_RAW): replies to clients without an address are broadcast", "error", err)
		}
	default:
		s.lines.send.Log(s.log.Warn, "frame not sent, broadcasting the reply", "interface", a.iface.name, "error", err)
	}
	return false
}

// sendDatagrams sends answers by the socket that they all have in common, as
// many as possible in one system call.
func (o *outbox) sendDatagrams(answers []outgoing) {
	o.out.prepare(min(len(answers), batch))
	for len(answers) > 0 {
		n := min(len(answers), batch)
		for i := range answers[:n] {
			o.out.put(i, answers[i].packet)
			o.out.address(i, answers[i].to, answers[i].info)
		}
		for sent := 0; sent < n; {
			left, err := answers[sent].listener.socket.write(&o.out, sent, n)
			for range left {
				o.done(&answers[sent], nil)
				sent++
			}
			if left <= 0 {
				if err == nil {
					err = errors.New("nothing was sent")
				}
				o.done(&answers[sent], err)
				sent++
			}
		}
		answers = answers[n:]
	}
}

// held are answers that wait for one commit.
type held struct {
	commit  Commit
	mu      sync.Mutex    // guards the rest
	box     *outbox       // nil when they have left
	leaving chan struct{} // nil until the commit is over: nothing is added then; closed when they have left
}

// release sends the answers, or gives them up. It runs once, where commits are
// made, and does not wait for anything.
func (h *held) release(err error) {
	h.mu.Lock()
	box, left := h.box, make(chan struct{})
	h.leaving = left
	h.mu.Unlock()
	s := box.server
	s.held.Add(-int64(len(box.answers)))
	defer s.holding.Done()
	if err != nil {
		box.fail(err)
	} else {
		box.send()
	}
	h.mu.Lock()
	h.box = nil
	h.mu.Unlock()
	close(left)
	box.clear()
	box.free()
}
