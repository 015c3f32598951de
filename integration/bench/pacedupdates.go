//go:build linux

package main

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"
)

// pacedUpdates are signed UPDATEs that a paced load sends evenly beside its queries,
// by the same thread: clients of their own would take the processor from the server
// whose answers are measured.
type pacedUpdates struct {
	requests []request // at most 65,536, with their numbers as IDs
	rate     float64   // a second
	socket   pacedSocket
	sent     int
	waiting  []repetition // in the order of their times
	repeated map[int]bool
	verified bool // one answer's signature
	sample   *sample
}

// newPacedUpdates signs what the updates of one duration need, so that it takes no time
// for that from the server. None of the names may have been used.
func newPacedUpdates(prefix string, d time.Duration) (*pacedUpdates, error) {
	u := &pacedUpdates{rate: mixedUpdates, repeated: map[int]bool{}, sample: newSample()}
	l := updateLoad{zone: zoneName, prefix: prefix}
	for n := range int(u.rate * d.Seconds()) {
		r, err := l.request(n)
		if err != nil {
			return nil, err
		}
		u.requests = append(u.requests, r)
	}
	return u, nil
}

// A repetition is of a request that has no answer yet.
type repetition struct {
	n         int
	wait, due time.Duration
}

// open is how many updates have no answer.
func (u *pacedUpdates) open() int {
	if u == nil {
		return 0
	}
	open := u.sent - len(u.sample.latencies)
	for _, n := range u.sample.failed {
		open -= n
	}
	return open
}

// send sends what is due.
func (u *pacedUpdates) send(elapsed time.Duration) error {
	for ; u.sent < len(u.requests) && float64(u.sent) <= elapsed.Seconds()*u.rate; u.sent++ {
		u.socket.sentAt[u.sent] = time.Now().UnixNano()
		u.await(u.sent, repeatAfter, elapsed)
		if err := write(u.socket.fd, u.requests[u.sent].wire); err != nil {
			return err
		}
	}
	for len(u.waiting) > 0 && u.waiting[0].due <= elapsed {
		r := u.waiting[0]
		u.waiting = u.waiting[1:]
		if u.socket.sentAt[r.n] == 0 {
			continue // answered
		}
		u.sample.repeated++
		u.repeated[r.n] = true
		u.await(r.n, 2*r.wait, elapsed)
		if err := write(u.socket.fd, u.requests[r.n].wire); err != nil {
			return err
		}
	}
	return nil
}

func (u *pacedUpdates) await(n int, wait, elapsed time.Duration) {
	due := elapsed + wait
	at, _ := slices.BinarySearchFunc(u.waiting, due, func(r repetition, due time.Duration) int { return cmp.Compare(r.due, due) })
	u.waiting = slices.Insert(u.waiting, at, repetition{n, wait, due})
}

// take takes an answer.
func (u *pacedUpdates) take(answer []byte, latency time.Duration) {
	n := int(binary.BigEndian.Uint16(answer))
	if err := u.requests[n].check(answer, u.repeated[n], &u.verified); err != nil {
		u.sample.fail(err)
		return
	}
	u.sample.latencies = append(u.sample.latencies, latency)
}
