package server

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

const (
	// workerCount is the number of requests that are worked on at a time. It is
	// far above the number of processors because a worker mostly waits: an ACK
	// leaves after its lease is on disk, and all requests that wait for the disk
	// together share one sync.
	workerCount = 64
	// queueLength is the number of packets that wait for one worker. What waits
	// longer than a client (4 s before it repeats itself, RFC 2131 section 4.1) is
	// work for nothing.
	queueLength = 32
	// maxPacket is the largest packet that is accepted. Clients send about 300
	// octets, relays add to them; RFC 2131 asks for 576.
	maxPacket = 4096
)

// received is a packet as it came in.
type received struct {
	buffer   *[maxPacket]byte // from buffers
	length   int
	from     netip.AddrPort
	to       netip.Addr // destination address in the IP header
	iface    int        // index of the interface
	listener *listener
	at       time.Time // when it was read
}

var buffers = sync.Pool{New: func() any { return new([maxPacket]byte) }}

// workers hand out packets to a fixed number of goroutines, all packets of a
// client to the same one.
type workers struct {
	seed   maphash.Seed // chosen at start: a stranger cannot aim at one worker
	queues []chan received
	wait   sync.WaitGroup
}

// startWorkers starts n goroutines that call work for one packet after the
// other. When ctx ends they drop what is still in their queues.
func startWorkers(ctx context.Context, n, length int, work func(*scratch, received)) *workers {
	w := &workers{seed: maphash.MakeSeed(), queues: make([]chan received, n)}
	for i := range w.queues {
		queue := make(chan received, length)
		w.queues[i] = queue
		w.wait.Go(func() {
			var s scratch
			for r := range queue {
				if ctx.Err() != nil {
					buffers.Put(r.buffer)
					continue
				}
				work(&s, r)
			}
		})
	}
	return w
}

// submit queues the packet, or reports that there is no room.
func (w *workers) submit(r received) bool {
	select {
	case w.queues[clientHash(w.seed, r.buffer[:r.length])%uint64(len(w.queues))] <- r:
		return true
	default:
		return false
	}
}

// waiting is the number of packets in the queues.
func (w *workers) waiting() int {
	n := 0
	for _, queue := range w.queues {
		n += len(queue)
	}
	return n
}

// finish lets the workers empty their queues; done is closed when they have. No
// packet may be submitted any more.
func (w *workers) finish() (done <-chan struct{}) {
	for _, queue := range w.queues {
		close(queue)
	}
	c := make(chan struct{})
	go func() {
		w.wait.Wait()
		close(c)
	}()
	return c
}

// scratch is memory that a worker uses for one packet after the other.
type scratch struct {
	packet, frame []byte
}
