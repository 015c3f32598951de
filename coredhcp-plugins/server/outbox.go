package server

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
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
	sent     prometheus.Counter
	at       time.Time // when the request was read
}

// packetInfo says where a datagram is sent from (IP_PKTINFO); zero values leave
// it to the kernel.
type packetInfo struct {
	source netip.Addr
	iface  int
}

// outbox gathers answers that leave together. One goroutine at a time uses it.
type outbox struct {
	server   *Server
	answers  []outgoing
	arena    []byte // what they consist of
	messages []ipv4.Message
	addrs    []net.UDPAddr
	oob      map[packetInfo][]byte // encoded
}

// oobKept bounds how many ways of sending an outbox remembers.
const oobKept = 64

// outboxes are those that wait for a use. Their memory is bounded by how many
// are in use at a time.
var outboxes = sync.Pool{New: func() any { return &outbox{oob: make(map[packetInfo][]byte)} }}

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
	o.answers = append(o.answers, a)
	return nil
}

// note remembers a client that gets no answer.
func (o *outbox) note(client net.HardwareAddr) {
	o.answers = append(o.answers, outgoing{client: client})
}

// isFor says whether something for the client was added or noted.
func (o *outbox) isFor(client net.HardwareAddr) bool {
	for i := range o.answers {
		if bytes.Equal(o.answers[i].client, client) {
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
	for len(o.messages) < len(answers) {
		o.messages = append(o.messages, ipv4.Message{Buffers: make([][]byte, 1)})
		o.addrs = append(o.addrs, net.UDPAddr{IP: make(net.IP, net.IPv4len)})
	}
	for i := range answers {
		a, m := &answers[i], &o.messages[i]
		four := a.to.Addr().As4()
		copy(o.addrs[i].IP, four[:])
		o.addrs[i].Port = int(a.to.Port())
		m.Addr, m.Buffers[0], m.OOB = &o.addrs[i], a.packet, o.control(a.info)
	}
	for sent := 0; sent < len(answers); {
		n, err := answers[sent].listener.pc.WriteBatch(o.messages[sent:len(answers)], unix.MSG_DONTWAIT)
		for range n {
			o.done(&answers[sent], nil)
			sent++
		}
		if n <= 0 {
			if err == nil {
				err = errors.New("nothing was sent")
			}
			o.done(&answers[sent], err)
			sent++
		}
	}
	for i := range answers {
		o.messages[i].Buffers[0] = nil
	}
}

// control is the control message for i.
func (o *outbox) control(i packetInfo) []byte {
	if i == (packetInfo{}) {
		return nil
	}
	if b, ok := o.oob[i]; ok {
		return b
	}
	cm := ipv4.ControlMessage{IfIndex: i.iface}
	if i.source.IsValid() {
		cm.Src = i.source.AsSlice()
	}
	if len(o.oob) == oobKept {
		clear(o.oob)
	}
	b := cm.Marshal()
	o.oob[i] = b
	return b
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
