package server

import (
	"bytes"
	"net/netip"
	"sync"
	"time"
)

const (
	// waitingRequests is how many packets may wait in one queue.
	waitingRequests = 4096
	// heldAnswers is how many answers may wait for the disk.
	heldAnswers = 4 * waitingRequests
	// patience is how long a request may wait. A client repeats itself after 4 s
	// (RFC 2131 section 4.1); the answer to its first try would then be work for
	// nothing, and so is one that comes a little earlier and is still to travel.
	patience = 3 * time.Second
	// maxPacket is the largest packet that is accepted. Clients send about 300
	// octets, relays add to them; RFC 2131 asks for 576.
	maxPacket = 4096
)

// received is a packet as it came in.
type received struct {
	packet   []byte // of a reader, which reads into it again, until it is queued; then the packet's own
	from     netip.AddrPort
	to       netip.Addr // destination address in the IP header
	iface    int        // index of the interface
	listener *listener
	at       time.Time // when it was read
	again    bool      // it was worked on before, see Again
}

// queue holds packets that wait, in the order in which they came. DISCOVERs may
// fill no more than half of it: where a server cannot keep up, turning away those
// that ask for an offer keeps the number of clients that get an address, while
// dropping whoever comes last makes offers that nobody can accept.
type queue struct {
	mu     sync.Mutex
	ready  sync.Cond // something is there, or closed
	closed bool
	limit  int
	ring   ring
}

func newQueue(limit int) *queue {
	q := &queue{limit: limit}
	q.ready.L = &q.mu
	return q
}

// push adds a copy of a packet, or reports that there is no room: what is turned
// away costs no more than being read.
func (q *queue) push(r received) bool {
	limit := q.limit
	if isDiscover(r.packet) {
		limit = (limit + 1) / 2
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return true // and is dropped: only an Again comes so late
	}
	if q.ring.length >= limit {
		return false
	}
	r.packet = bytes.Clone(r.packet)
	q.ring.push(r)
	q.ready.Signal()
	return true
}

// pop takes the next packet.
func (q *queue) pop() (received, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.next()
}

// wait takes the next packet when there is one, or reports that the queue is
// closed and empty.
func (q *queue) wait() (received, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if r, ok := q.next(); ok || q.closed {
			return r, ok
		}
		q.ready.Wait()
	}
}

// next takes the next packet. Caller holds mu.
func (q *queue) next() (received, bool) {
	if q.ring.length == 0 {
		return received{}, false
	}
	return q.ring.pop(), true
}

// close lets wait return when the queue is empty. Nothing is pushed any more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ready.Broadcast()
}

// waiting is the number of packets in the queue.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ring.length
}

// ring is a first-in, first-out list that keeps its memory.
type ring struct {
	items        []received // a power of two of them
	head, length int
}

func (r *ring) push(p received) {
	if r.length == len(r.items) {
		items := make([]received, max(16, 2*len(r.items)))
		for i := range r.length {
			items[i] = r.items[(r.head+i)&(len(r.items)-1)]
		}
		r.items, r.head = items, 0
	}
	r.items[(r.head+r.length)&(len(r.items)-1)] = p
	r.length++
}

func (r *ring) pop() received {
	p := r.items[r.head]
	r.items[r.head] = received{} // its memory is not ours any more
	r.head = (r.head + 1) & (len(r.items) - 1)
	r.length--
	return p
}
