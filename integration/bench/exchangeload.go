//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// exchangeTimeout is when an exchange counts as lost: the load does not repeat
// what it sent.
const exchangeTimeout = time.Second

const (
	relayBatch = 128              // messages of one system call
	relayLook  = time.Millisecond // how often a load with a rate and no rest looks for what is due
)

// An exchangeLoad is a relay agent with clients behind it, each of which goes
// through DISCOVER, OFFER, REQUEST and ACK. It is one goroutine and one
// socket, which read and write many messages in one system call and allocate for
// none, so that it leaves the processors to the server.
type exchangeLoad struct {
	from     *lab.Namespace
	relay    netip.AddrPort // giaddr, and where it listens
	to       netip.AddrPort
	first    int           // number of the first client, and of its exchange; no two loads may share any
	back     []int         // clients that come back, over and over; nil: all are new
	window   int           // exchanges at a time, where no rate is given
	rate     float64       // exchanges a second, whether answers come or not; 0: as fast as answers come
	rest     time.Duration // between two looks at answers and at what is due, which a rate then bears; 0: answers wake the load
	duration time.Duration // of starting exchanges; 0: until the limit
	limit    int           // of exchanges; 0: none
	patience time.Duration // after which an exchange is lost; 0: exchangeTimeout
	named    bool          // clients say a host name, clientName
}

// What is in a message (RFC 951, RFC 2131 section 2).
const (
	offXID, offYiaddr, offGiaddr, offChaddr = 4, 16, 24, 28
	offOptions                              = 240
	minBOOTP                                = 300
)

// A relayed is a load that runs.
type relayed struct {
	exchangeLoad
	fd     int
	start  time.Time
	turned time.Duration   // when exchanges were begun last, since start
	began  []time.Duration // by client, since start; what was answered with ACK, or lost, is done
	done   []bool
	oldest int           // no client before it is open
	last   time.Duration // when the last was answered with ACK, since start
	open   int
	out    *messages
	queued int // of out: to be sent
	in     *messages
	sample *sample
}

// run does the exchanges. What is unanswered at the end of the duration gets
// exchangeTimeout to come; where answers then still come, the sample lasts until
// the last of them.
func (l exchangeLoad) run(ctx context.Context) (*sample, error) {
	l.patience = cmp.Or(l.patience, exchangeTimeout)
	r := &relayed{exchangeLoad: l, sample: newSample(), in: newMessages(relayBatch), out: newMessages(relayBatch)}
	r.out.to(l.to.Port(), l.to.Addr().As4())
	if count := int(l.rate * l.duration.Seconds()); count > 0 {
		r.began, r.done = make([]time.Duration, 0, count), make([]bool, 0, count)
		r.sample.latencies = make([]time.Duration, 0, count)
	}
	err := l.from.Do(func() (err error) {
		r.fd, err = bindRelay(l.relay)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening the relay's socket: %w", err)
	}
	defer func() { _ = unix.Close(r.fd) }() // all is sent, or not worth it
	r.start = time.Now()
	for ctx.Err() == nil {
		now := time.Since(r.start)
		r.expire(now)
		more, err := r.begin(now)
		if !more && r.open == 0 {
			break
		}
		if err := errors.Join(err, r.flush(), r.receive(now)); err != nil {
			return nil, err
		}
	}
	r.sample.elapsed = time.Since(r.start)
	if l.duration > 0 {
		r.sample.elapsed = min(r.sample.elapsed, max(l.duration, r.last))
	}
	if r.sample.missed, err = missed(r.fd); err != nil {
		return nil, err
	}
	return r.sample, ctx.Err()
}

// bindRelay opens the socket of a relay.
func bindRelay(relay netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// As much as the kernel allows: what is lost shall be the server's.
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 8<<20)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(relay.Port()), Addr: relay.Addr().As4()}); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// missed is how many messages the kernel has thrown away because the load was too
// slow to read them (SK_MEMINFO_DROPS of SO_MEMINFO).
func missed(fd int) (int, error) {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("getsockopt SO_MEMINFO", errno)
	}
	return int(info[8]), nil
}

// begin starts what is due, and says whether more will be.
func (r *relayed) begin(now time.Duration) (more bool, err error) {
	if r.duration > 0 && now >= r.duration {
		return false, nil
	}
	due, most := len(r.began)+r.window-r.open, relayBatch
	if r.rate > 0 {
		due = int(r.rate * now.Seconds())
		// A load that is late catches up slowly: a burst is what nobody asked for.
		most = 1 + int(min(now-r.turned, 4*relayLook).Seconds()*r.rate*catchUp)
		r.turned = now
	}
	if r.limit > 0 {
		due = min(due, r.limit)
	}
	// Never all at once: answers are waiting meanwhile.
	for n := 0; len(r.began) < due && n < most && err == nil; n++ {
		err = r.queue(len(r.began), 1, nil, nil)
		r.began = append(r.began, now)
		r.done = append(r.done, false)
		r.open++
	}
	return r.limit == 0 || len(r.began) < r.limit, err
}

// expire gives up what is too old; clients are in the order of their start.
func (r *relayed) expire(now time.Duration) {
	for ; r.oldest < len(r.began) && (r.done[r.oldest] || now-r.began[r.oldest] > r.patience); r.oldest++ {
		if !r.done[r.oldest] {
			r.done[r.oldest] = true
			r.open--
			r.sample.lost++
		}
	}
}

// flush sends what is queued.
func (r *relayed) flush() error {
	n := r.queued
	r.queued = 0
	return r.out.send(r.fd, n)
}

// receive takes what has come, and waits where nothing has; a load with a rest
// first sleeps for what is left of it in the turn that began at a moment.
func (r *relayed) receive(began time.Duration) error {
	if left := r.rest - (time.Since(r.start) - began); r.rest > 0 && left > 0 {
		sleep := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&sleep, nil) // a signal ends it early, which does not matter
	}
	n, err := r.in.receive(r.fd)
	if n == 0 && err == nil && r.rest == 0 {
		wait := 20 * time.Millisecond
		if r.rate > 0 {
			wait = relayLook
		}
		timeout := unix.NsecToTimespec(int64(min(wait, r.patience)))
		if _, err := unix.Ppoll([]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("ppoll", err)
		}
		n, err = r.in.receive(r.fd)
	}
	for n > 0 && err == nil {
		now := time.Since(r.start)
		for i := 0; i < n && err == nil; i++ {
			err = r.take(r.in.octet[i][:min(r.in.all[i].octets, messageSize)], now)
		}
		if n < relayBatch || err != nil {
			break
		}
		n, err = r.in.receive(r.fd)
	}
	return err
}

// take answers an OFFER, and counts an ACK.
func (r *relayed) take(m []byte, now time.Duration) error {
	if len(m) < offOptions {
		return nil
	}
	n := int(binary.BigEndian.Uint32(m[offXID:])) - r.first
	if n < 0 || n >= len(r.began) || r.done[n] {
		return nil
	}
	messageType, serverID := answerOf(m[offOptions:])
	switch messageType {
	case 2:
		return r.queue(n, 3, m[offYiaddr:offYiaddr+4], serverID)
	case 5:
		r.sample.latencies = append(r.sample.latencies, now-r.began[n])
		r.sample.gap, r.last = max(r.sample.gap, now-r.last), now
	default:
		r.sample.failed[fmt.Sprintf("message type %d", messageType)]++
	}
	r.done[n] = true
	r.open--
	return nil
}

// answerOf finds options 53 and 54.
func answerOf(options []byte) (messageType byte, serverID []byte) {
	for len(options) > 1 && options[0] != 255 {
		if options[0] == 0 {
			options = options[1:]
			continue
		}
		end := 2 + int(options[1])
		if end > len(options) {
			break
		}
		switch value := options[2:end]; {
		case options[0] == 53 && len(value) == 1:
			messageType = value[0]
		case options[0] == 54 && len(value) == 4:
			serverID = value
		}
		options = options[end:]
	}
	return messageType, serverID
}

// queue makes the n-th exchange's message and puts it into the next batch, which
// leaves when it is full.
func (r *relayed) queue(n int, messageType byte, requested, serverID []byte) error {
	m := r.message(r.out.octet[r.queued][:0], r.first+n, messageType, requested, serverID)
	r.out.parts[r.queued].SetLen(len(m))
	if r.queued++; r.queued < relayBatch {
		return nil
	}
	return r.flush()
}

// client is the number of the client of exchange n.
func (l exchangeLoad) client(n int) int {
	if l.back == nil {
		return n
	}
	return l.back[n%len(l.back)]
}

// message makes one of exchange n in the memory of m, which is empty.
func (l exchangeLoad) message(m []byte, n int, messageType byte, requested, serverID []byte) []byte {
	m = m[:minBOOTP]
	clear(m)
	copy(m, []byte{1, 1, 6, 1}) // BOOTREQUEST, Ethernet, one hop
	hardware := [7]byte{1, 2, 0}
	client := l.client(n)
	binary.BigEndian.PutUint32(hardware[3:], uint32(client))
	binary.BigEndian.PutUint32(m[offXID:], uint32(n))
	giaddr := l.relay.Addr().As4()
	copy(m[offGiaddr:], giaddr[:])
	copy(m[offChaddr:], hardware[1:])
	copy(m[offOptions-4:], []byte{99, 130, 83, 99})
	m = append(m[:offOptions], 53, 1, messageType, 61, byte(len(hardware)))
	m = append(m, hardware[:]...)
	m = append(m, 55, 6, 1, 3, 6, 15, 28, 42)
	if requested != nil {
		m = append(append(m, 50, 4), requested...)
		m = append(append(m, 54, byte(len(serverID))), serverID...)
	}
	if l.named {
		name := clientName(client)
		m = append(append(m, 12, byte(len(name))), name...)
	}
	m = append(m, 255)
	return m[:max(len(m), minBOOTP)] // the rest is 0
}
