//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// exchangeTimeout is when an exchange counts as lost: the load does not repeat
// what it sent.
const exchangeTimeout = time.Second

// An exchangeLoad is a relay agent with new clients behind it, each of which
// goes once through DISCOVER, OFFER, REQUEST and ACK. It is one goroutine and one
// socket, which read and write many messages in one system call, so that it
// leaves the processors to the server.
type exchangeLoad struct {
	from     *lab.Namespace
	relay    netip.AddrPort // giaddr, and where it listens
	to       netip.AddrPort
	first    int           // number of the first client; no two loads may share any
	window   int           // exchanges at a time, where no rate is given
	rate     float64       // exchanges a second, whether answers come or not; 0: as fast as answers come
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
	udp    *net.UDPConn
	conn   *ipv4.PacketConn
	start  time.Time
	began  []time.Duration // by client, since start; what was answered with ACK, or lost, is done
	done   []bool
	oldest int           // no client before it is open
	last   time.Duration // when the last was answered with ACK, since start
	open   int
	out    []ipv4.Message // to be sent
	in     []ipv4.Message
	sample *sample
}

// run does the exchanges. What is unanswered at the end of the duration gets
// exchangeTimeout to come.
func (l exchangeLoad) run(ctx context.Context) (*sample, error) {
	l.patience = cmp.Or(l.patience, exchangeTimeout)
	r := &relayed{exchangeLoad: l, sample: newSample(), in: make([]ipv4.Message, batch)}
	err := l.from.Do(func() (err error) {
		r.udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(l.relay))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening the relay's socket: %w", err)
	}
	defer func() { _ = r.udp.Close() }() // all is sent, or not worth it
	_ = r.udp.SetReadBuffer(8 << 20)     // as much as the kernel allows
	_ = r.udp.SetWriteBuffer(8 << 20)
	r.conn = ipv4.NewPacketConn(r.udp)
	for i := range r.in {
		r.in[i].Buffers = [][]byte{make([]byte, 2048)}
	}
	r.start = time.Now()
	for ctx.Err() == nil {
		now := time.Since(r.start)
		r.expire(now)
		more := r.begin(now)
		if !more && r.open == 0 {
			break
		}
		if err := r.flush(); err != nil {
			return nil, err
		}
		if err := r.receive(); err != nil {
			return nil, err
		}
	}
	r.sample.elapsed = time.Since(r.start)
	if l.duration > 0 {
		r.sample.elapsed = min(r.sample.elapsed, l.duration)
	}
	return r.sample, ctx.Err()
}

// begin starts what is due, and says whether more will be.
func (r *relayed) begin(now time.Duration) bool {
	if r.duration > 0 && now >= r.duration {
		return false
	}
	due := len(r.began) + r.window - r.open
	if r.rate > 0 {
		due = int(r.rate * now.Seconds())
	}
	if r.limit > 0 {
		due = min(due, r.limit)
	}
	// Never more at once than one batch: answers are waiting meanwhile.
	for n := 0; len(r.began) < due && n < batch; n++ {
		r.discover(len(r.began))
		r.began = append(r.began, now)
		r.done = append(r.done, false)
		r.open++
	}
	return r.limit == 0 || len(r.began) < r.limit
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

func (r *relayed) flush() error {
	for len(r.out) > 0 {
		n, err := r.conn.WriteBatch(r.out, 0)
		if err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		r.out = r.out[n:]
	}
	r.out = nil
	return nil
}

// receive takes what has come, and waits a moment where nothing has.
func (r *relayed) receive() error {
	wait := 20 * time.Millisecond
	if r.rate > 0 {
		wait = time.Millisecond
	}
	wait = min(wait, r.patience)
	if err := r.udp.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	n, err := r.conn.ReadBatch(r.in, 0)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		return fmt.Errorf("receiving: %w", err)
	}
	now := time.Since(r.start)
	for i := range r.in[:n] {
		r.take(r.in[i].Buffers[0][:r.in[i].N], now)
	}
	return nil
}

// take answers an OFFER, and counts an ACK.
func (r *relayed) take(m []byte, now time.Duration) {
	if len(m) < offOptions {
		return
	}
	n := int(binary.BigEndian.Uint32(m[offXID:])) - r.first
	if n < 0 || n >= len(r.began) || r.done[n] {
		return
	}
	messageType, serverID := answerOf(m[offOptions:])
	switch messageType {
	case 2:
		r.queue(n, 3, m[offYiaddr:offYiaddr+4], serverID)
	case 5:
		r.done[n] = true
		r.open--
		r.sample.latencies = append(r.sample.latencies, now-r.began[n])
		r.sample.gap, r.last = max(r.sample.gap, now-r.last), now
	default:
		r.done[n] = true
		r.open--
		r.sample.failed[fmt.Sprintf("message type %d", messageType)]++
	}
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

func (r *relayed) discover(n int) { r.queue(n, 1, nil, nil) }

// queue makes the n-th client's message and puts it into the next batch.
func (r *relayed) queue(n int, messageType byte, requested, serverID []byte) {
	m := r.message(r.first+n, messageType, requested, serverID)
	r.out = append(r.out, ipv4.Message{Buffers: [][]byte{m}, Addr: net.UDPAddrFromAddrPort(r.to)})
}

// message is one of a client's.
func (r *relayed) message(n int, messageType byte, requested, serverID []byte) []byte {
	m := make([]byte, offOptions, minBOOTP)
	client := uint32(n)
	copy(m, []byte{1, 1, 6, 1}) // BOOTREQUEST, Ethernet, one hop
	binary.BigEndian.PutUint32(m[offXID:], client)
	giaddr := r.relay.Addr().As4()
	copy(m[offGiaddr:], giaddr[:])
	hardware := append([]byte{1, 2, 0}, binary.BigEndian.AppendUint32(nil, client)...)
	copy(m[offChaddr:], hardware[1:])
	copy(m[offOptions-4:], []byte{99, 130, 83, 99})
	m = append(m, 53, 1, messageType, 61, byte(len(hardware)))
	m = append(m, hardware...)
	m = append(m, 55, 6, 1, 3, 6, 15, 28, 42)
	if requested != nil {
		m = append(append(m, 50, 4), requested...)
		m = append(append(m, 54, byte(len(serverID))), serverID...)
	}
	if r.named {
		name := clientName(n)
		m = append(append(m, 12, byte(len(name))), name...)
	}
	m = append(m, 255)
	if len(m) < minBOOTP {
		return m[:minBOOTP]
	}
	return m
}
