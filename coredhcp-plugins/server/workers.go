package server

import (
	"hash/maphash"
	"sync"
)

// workerCount is how many requests are worked on at a time where a plugin waits
// for something: a disk, a network.
const workerCount = 64

// workers hand out packets to a fixed number of goroutines, all packets of a
// client to the same one.
type workers struct {
	seed   maphash.Seed // chosen at start: a stranger cannot aim at one worker
	queues []*queue
	wait   sync.WaitGroup
}

// startWorkers starts n goroutines, each with a queue for length packets and a
// function that newWork has made for it.
func startWorkers(n, length int, newWork func() func(*received)) *workers {
	w := &workers{seed: maphash.MakeSeed(), queues: make([]*queue, n)}
	for i := range w.queues {
		q, work := newQueue(length), newWork()
		w.queues[i] = q
		w.wait.Go(func() {
			for r, ok := q.wait(); ok; r, ok = q.wait() {
				work(&r)
			}
		})
	}
	return w
}

// submit queues a copy of the packet, or reports that there is no room.
func (w *workers) submit(r received) bool {
	return w.queues[clientHash(w.seed, r.packet)%uint64(len(w.queues))].push(r)
}

// finish returns when the queues are empty. No packet may be submitted any more.
func (w *workers) finish() {
	for _, q := range w.queues {
		q.close()
	}
	w.wait.Wait()
}
