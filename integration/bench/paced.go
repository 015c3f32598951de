//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pace is how long the sender of a paced load sleeps.
	pace = 100 * time.Microsecond
	// catchUp is how many times as fast as its rate a sender goes that is late, and
	// catchUpStep what it sends at once at most, as the time that this should take:
	// to send all at once would be a burst that nobody asked for.
	catchUp     = 1.25
	catchUpStep = 500 * time.Microsecond
)

// A paced load is queries that are sent evenly, whether answers come or not. One
// thread sends and receives, so that it wakes as seldom as it can. What it is
// late itself is no part of a latency: that counts from when a query was
// really sent to when the kernel had the answer, by the kernel's clock.
type paced struct {
	queries [][]byte
	sockets [sockets]pacedSocket
	sent    int
	late    *sample // by how much queries were sent too late
	sample  *sample
	updates *pacedUpdates // nil: none
}

// A pacedSocket is one of them. It is no net.UDPConn, for whose answers the
// runtime would wake a thread each.
type pacedSocket struct {
	fd     int
	sentAt [1 << 16]int64 // by ID, Unix nanoseconds; 0: no such query
}

// runPaced sends queries at the rate of the load.
func (l queryLoad) runPaced(ctx context.Context) (_ *sample, err error) {
	p := &paced{queries: l.queries, late: newSample(), sample: newSample(), updates: l.updates}
	if u := l.updates; u != nil {
		if u.socket.fd, err = connect(l.to); err != nil {
			return nil, err
		}
		defer func() { _ = unix.Close(u.socket.fd) }()
	}
	for i := range p.sockets {
		p.sockets[i].fd = -1
	}
	defer func() {
		for i := range p.sockets {
			if fd := p.sockets[i].fd; fd >= 0 {
				_ = unix.Close(fd) // all is read, or not worth it
			}
		}
	}()
	for i := range p.sockets {
		if p.sockets[i].fd, err = connect(l.to); err != nil {
			return nil, err
		}
	}
	count := int(l.duration.Seconds() * l.rate)
	p.sample.latencies = make([]time.Duration, 0, count)
	p.late.latencies = make([]time.Duration, 0, count)
	// The thread ends with this function: its timers are its own.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- p.run(ctx, count, l.rate)
	}()
	if err := <-done; err != nil {
		return nil, err
	}
	p.sample.lost = p.open()
	if p.updates != nil {
		p.updates.sample.lost = p.updates.open()
	}
	p.sample.late = p.late.quantile(.99)
	return p.sample, nil
}

// connect opens a socket whose answers bear the time of their arrival.
func connect(to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// As much as the kernel allows: what is lost shall be the server's.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("opening a socket: %w", err)
	}
	return fd, nil
}

// run sends that many queries, and returns when all are answered or lost.
func (p *paced) run(ctx context.Context, count int, rate float64) error {
	// A thread may sleep 50 us longer than it wants unless it says that it minds.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	start := time.Now()
	for turn, last, ended := 0, time.Duration(0), time.Duration(0); ctx.Err() == nil; turn++ {
		elapsed := time.Since(start)
		due := min(count, int(elapsed.Seconds()*rate))
		most := 1 + int(min(elapsed-last, catchUpStep).Seconds()*rate*catchUp)
		last = elapsed
		if p.updates != nil {
			if err := p.updates.send(elapsed); err != nil {
				return err
			}
		}
		for range min(due-p.sent, most) {
			p.late.latencies = append(p.late.latencies, elapsed-time.Duration(float64(p.sent)/rate*float64(time.Second)))
			if err := p.send(); err != nil {
				return err
			}
		}
		if p.sent == count {
			if ended == 0 {
				ended = elapsed
				p.sample.elapsed = max(elapsed, time.Duration(float64(count)/rate*float64(time.Second)))
			}
			if p.open()+p.updates.open() == 0 || elapsed > ended+queryTimeout {
				return nil
			}
		}
		// One socket after the other, so that reading does not delay sending.
		if err := p.receive(&p.sockets[turn%sockets], p.take); err != nil {
			return err
		}
		if p.updates != nil && turn%sockets == 0 {
			if err := p.receive(&p.updates.socket, p.updates.take); err != nil {
				return err
			}
		}
		left := pace - (time.Since(start) - elapsed)
		if left <= 0 {
			continue
		}
		sleep := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&sleep, nil) // a signal ends it early, which does not matter
	}
	return ctx.Err()
}

// open is how many queries have no answer.
func (p *paced) open() int {
	return p.sent - len(p.sample.latencies) - p.sample.failed[wrongAnswer]
}

// send sends the next query.
func (p *paced) send() error {
	s, id := &p.sockets[p.sent%sockets], uint16(p.sent/sockets)
	q := p.queries[p.sent%len(p.queries)]
	binary.BigEndian.PutUint16(q, id)
	p.sent++
	s.sentAt[id] = time.Now().UnixNano()
	return write(s.fd, q)
}

func write(fd int, message []byte) error {
	for {
		if _, err := unix.Write(fd, message); err == nil {
			return nil
		} else if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("write", err)
		}
	}
}

// receive takes the answers that are there.
func (p *paced) receive(s *pacedSocket, take func(answer []byte, latency time.Duration)) error {
	var answer [512]byte
	var control [64]byte
	for {
		n, controls, _, _, err := unix.Recvmsg(s.fd, answer[:], control[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("recvmsg", err)
		case n < 12:
			continue
		}
		arrived, err := arrival(control[:controls])
		if err != nil {
			return err
		}
		id := binary.BigEndian.Uint16(answer[:])
		sent := s.sentAt[id]
		if sent == 0 {
			continue // answered already
		}
		s.sentAt[id] = 0
		take(answer[:n], time.Duration(max(0, arrived-sent)))
	}
}

func (p *paced) take(answer []byte, latency time.Duration) {
	if hasAnswer(answer) {
		p.sample.latencies = append(p.sample.latencies, latency)
	} else {
		p.sample.failed[wrongAnswer]++
	}
}

// arrival is the kernel's time stamp of a message, Unix nanoseconds.
func arrival(control []byte) (int64, error) {
	errNone := errors.New("an answer without a time stamp")
	if len(control) < unix.CmsgLen(16) { // two times 64 bits
		return 0, errNone
	}
	h, data, _, err := unix.ParseOneSocketControlMessage(control)
	if err != nil || h.Level != unix.SOL_SOCKET || h.Type != unix.SO_TIMESTAMPNS_NEW || len(data) < 16 {
		return 0, errors.Join(errNone, err)
	}
	return int64(binary.NativeEndian.Uint64(data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(data[8:])), nil
}
