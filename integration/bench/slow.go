//go:build linux

package main

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// A slowness is how a DNS server is slow.
type slowness struct {
	name  string
	delay time.Duration // of every answer
	rate  float64       // messages a second that it takes; what comes faster waits; 0: all
	share float64       // of the time of the load of a server that is not slow
}

var slownesses = []slowness{
	{name: "no delay", share: 1. / 6},
	{name: "answers after 200 ms", delay: 200 * time.Millisecond, share: 1. / 6},
	{name: "100 updates a second", rate: 100, share: 1. / 30},
}

// slowQueue is how many messages wait in front of a server: the buffer of its socket holds about as many.
const slowQueue = 512

// A slowPath makes a DNS server slow: what is sent to it by UDP comes there late, or so do the answers.
type slowPath struct {
	slowness
	from    *lab.Namespace
	to      netip.AddrPort
	front   *net.UDPConn
	waiting chan slowMessage

	mu     sync.Mutex
	backs  map[netip.AddrPort]net.Conn // to the server, by client
	closed bool
	wait   sync.WaitGroup
}

type slowMessage struct {
	octets []byte
	client netip.AddrPort
}

// newSlowPath listens at an address and leads to another, both of one namespace.
func newSlowPath(how slowness, from *lab.Namespace, at, to netip.AddrPort) (*slowPath, error) {
	s := &slowPath{slowness: how, from: from, to: to, waiting: make(chan slowMessage, slowQueue), backs: make(map[netip.AddrPort]net.Conn)}
	err := from.Do(func() (err error) {
		s.front, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening the socket of a slow path: %w", err)
	}
	s.wait.Go(s.receive)
	s.wait.Go(s.forward)
	return s, nil
}

// close ends it. What is on its way is lost.
func (s *slowPath) close() {
	_ = s.front.Close()
	s.mu.Lock()
	s.closed = true
	for _, c := range s.backs {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
}

func (s *slowPath) receive() {
	defer close(s.waiting)
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, client, err := s.front.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		select {
		case s.waiting <- slowMessage{append([]byte(nil), buf[:n]...), client}:
		default: // as a full buffer loses it
		}
	}
}

func (s *slowPath) forward() {
	next := time.Now()
	for m := range s.waiting {
		if s.rate > 0 {
			next = later(next, time.Now().Add(-time.Second/50)).Add(time.Duration(float64(time.Second) / s.rate))
			time.Sleep(time.Until(next))
		}
		if back, err := s.back(m.client); err == nil {
			_, _ = back.Write(m.octets) // what is lost is sent again
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// back is the socket to the server for what a client sends.
func (s *slowPath) back(client netip.AddrPort) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if c := s.backs[client]; c != nil {
		return c, nil
	}
	c, err := s.from.Dial("udp4", s.to)
	if err != nil {
		return nil, err
	}
	s.backs[client] = c
	s.wait.Go(func() { s.answer(client, c) })
	return c, nil
}

// slowIdle is when a client that hears nothing more has gone.
const slowIdle = 5 * time.Second

// answer hands a client its answers.
func (s *slowPath) answer(client netip.AddrPort, back net.Conn) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.backs, client)
		_ = back.Close()
	}()
	for {
		buf := make([]byte, dns.DefaultMsgSize)
		if err := back.SetReadDeadline(time.Now().Add(slowIdle)); err != nil {
			return
		}
		n, err := back.Read(buf)
		if err != nil {
			return
		}
		time.AfterFunc(s.delay, func() { _, _ = s.front.WriteToUDPAddrPort(buf[:n], client) }) // or it is lost
	}
}
