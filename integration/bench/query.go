//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
)

const (
	sockets = 8  // of a query load, so that no one buffer holds all
	window  = 16 // queries that wait for an answer, a socket, where no rate is given
	batch   = 32 // messages of one system call

	wrongAnswer = "wrong answer" // one without an address

	// queryTimeout is when a query counts as lost.
	queryTimeout = time.Second
)

// A queryLoad is UDP queries for the addresses of names in turn, many of them at
// a time.
type queryLoad struct {
	to       netip.AddrPort
	queries  [][]byte // packed; the first two octets, the ID, are replaced
	duration time.Duration
	rate     float64       // a second, whether answers come or not; 0: as fast as answers come
	updates  *pacedUpdates // beside queries that have a rate; nil: none
}

// packQueries makes queries for up to 10,000 hosts of a zone, in random order.
func packQueries(hosts int) ([][]byte, error) {
	queries := make([][]byte, 0, 10_000)
	for _, i := range rand.Perm(hosts) {
		m := new(dns.Msg).SetQuestion(hostName(i), dns.TypeA)
		m.RecursionDesired = false
		q, err := m.Pack()
		if err != nil {
			return nil, err
		}
		if queries = append(queries, q); len(queries) == cap(queries) {
			break
		}
	}
	return queries, nil
}

func (l queryLoad) run(ctx context.Context) (*sample, error) {
	if l.rate > 0 {
		return l.runPaced(ctx)
	}
	var (
		wg    sync.WaitGroup
		errs  [sockets]error
		all   = newSample()
		used  [sockets]*socket
		start = time.Now()
	)
	defer func() {
		for _, s := range used {
			if s != nil {
				_ = s.udp.Close() // all is read, or not worth it
			}
		}
	}()
	for i := range used {
		s, err := l.dial(i)
		if err != nil {
			return nil, err
		}
		used[i] = s
	}
	for i, s := range used {
		wg.Go(func() {
			errs[i] = s.closed(ctx, start, l.duration)
		})
	}
	wg.Wait()
	for _, s := range used {
		s.sample.lost = s.sent - len(s.sample.latencies) - s.wrong
		if s.wrong > 0 {
			s.sample.failed[wrongAnswer] = s.wrong
		}
		all.merge(s.sample)
	}
	all.elapsed = l.duration
	return all, cmp.Or(ctx.Err(), errors.Join(errs[:]...))
}

// A socket is one of a query load.
type socket struct {
	udp     *net.UDPConn
	conn    *ipv4.PacketConn
	queries [][]byte
	start   time.Time
	sentAt  [1 << 16]int64 // by ID, ns since start; 0: no such query
	sent    int
	wrong   int // answers without an address
	sample  *sample
	out, in []ipv4.Message
}

func (l queryLoad) dial(i int) (*socket, error) {
	udp, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(l.to))
	if err != nil {
		return nil, err
	}
	// As much as the kernel allows: what is lost shall be the server's.
	_ = udp.SetReadBuffer(4 << 20)
	s := &socket{
		udp: udp, conn: ipv4.NewPacketConn(udp), start: time.Now(), sample: newSample(),
		queries: slices.Concat(l.queries[i*len(l.queries)/sockets:], l.queries[:i*len(l.queries)/sockets]),
	}
	for range batch {
		s.out = append(s.out, ipv4.Message{Buffers: [][]byte{make([]byte, 0, 512)}})
		s.in = append(s.in, ipv4.Message{Buffers: [][]byte{make([]byte, 512)}})
	}
	return s, nil
}

// send sends the next n queries, at most a batch.
func (s *socket) send(n int) error {
	now := int64(time.Since(s.start))
	for i := range n {
		id := uint16(s.sent + i)
		q := append(s.out[i].Buffers[0][:0], s.queries[(s.sent+i)%len(s.queries)]...)
		binary.BigEndian.PutUint16(q, id)
		s.out[i].Buffers[0] = q
		s.sentAt[id] = now
	}
	for done := 0; done < n; {
		k, err := s.conn.WriteBatch(s.out[done:n], 0)
		if err != nil {
			return err
		}
		done += k
	}
	s.sent += n
	return nil
}

// receive takes the answers that are there, or waits for one until the deadline,
// and returns their number.
func (s *socket) receive() (int, error) {
	n, err := s.conn.ReadBatch(s.in, 0)
	if err != nil {
		return 0, err
	}
	now, answers := int64(time.Since(s.start)), 0
	for _, m := range s.in[:n] {
		var a []byte
		if a = m.Buffers[0][:m.N]; len(a) < 12 {
			continue
		}
		id := binary.BigEndian.Uint16(a)
		sent := s.sentAt[id]
		if sent == 0 {
			continue // answered already
		}
		s.sentAt[id] = 0
		answers++
		if hasAnswer(a) {
			s.sample.latencies = append(s.sample.latencies, time.Duration(now-sent))
		} else {
			s.wrong++
		}
	}
	return answers, nil
}

// hasAnswer says whether a message is a response with answers and no error.
func hasAnswer(m []byte) bool {
	return m[2]&0x80 != 0 && m[3]&0xf == 0 && binary.BigEndian.Uint16(m[6:]) > 0
}

// closed keeps a window of queries under way. Where no answer comes in time, all
// of them are lost, and a new window begins.
func (s *socket) closed(ctx context.Context, start time.Time, d time.Duration) error {
	for waiting := 0; ; {
		ended := time.Since(start) >= d || ctx.Err() != nil
		if ended && waiting == 0 {
			return nil
		}
		if !ended {
			if err := s.send(window - waiting); err != nil {
				return err
			}
			waiting = window
		}
		if err := s.udp.SetReadDeadline(time.Now().Add(queryTimeout)); err != nil {
			return err
		}
		n, err := s.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			clear(s.sentAt[:])
			n = waiting
		} else if err != nil {
			return err
		}
		waiting -= n
	}
}

// dropped is how many datagrams the kernel has thrown away because the buffer of
// the socket on 127.0.0.1:port was full: those that a server was too slow to take.
func dropped(port uint16) int {
	data, err := os.ReadFile("/proc/self/net/udp")
	if err != nil {
		return 0
	}
	return parseDrops(string(data), fmt.Sprintf("0100007F:%04X", port))
}
