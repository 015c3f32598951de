//go:build linux

package main

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// startDNS starts a DNS server on a port of its own.
func startDNS(t *testing.T, h dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := &dns.Server{Net: "udp", Addr: "127.0.0.1:0", Handler: h}
	started, ended := make(chan struct{}), make(chan error)
	s.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- s.ListenAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return netip.MustParseAddrPort(s.PacketConn.LocalAddr().String())
}

func loopback(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New(lab.Config{Mode: lab.Loopback, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// A client asks until the answer is right: there is none at first, then no such name, then another address.
func TestAwait(t *testing.T) {
	t.Parallel()
	right := netip.MustParseAddr("192.0.2.7")
	var asked atomic.Int32
	server := startDNS(t, func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		address := right
		switch asked.Add(1) {
		case 1:
			return
		case 2:
			r.Rcode, address = dns.RcodeNameError, netip.Addr{}
		case 3:
			address = netip.MustParseAddr("192.0.2.6")
		}
		if address.IsValid() {
			r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: address.AsSlice()}}
		}
		if err := w.WriteMsg(r); err != nil {
			t.Error(err)
		}
	})
	for _, rest := range []time.Duration{restAlone, restCrowd} {
		asked.Store(0)
		a, err := newAsker(loopback(t).Server, server, rest)
		if err != nil {
			t.Fatal(err)
		}
		a.patience = 30 * time.Second
		if _, err := a.await(t.Context(), "pc1."+nameZone, dns.TypeA, isAddress(right)); err != nil || asked.Load() < 4 {
			t.Errorf("rest %v: %v after %d questions, expected the address with the fourth", rest, err, asked.Load())
		}
		a.close()
	}
}

// A slow path delays answers, hands out no more than its rate, and gives each client its own.
func TestSlowPath(t *testing.T) {
	t.Parallel()
	server := startDNS(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if err := w.WriteMsg(new(dns.Msg).SetReply(m)); err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct {
		how   slowness
		least time.Duration // that 20 questions of 4 clients take
	}{
		{slowness{name: "not slow"}, 0},
		{slowness{name: "delay", delay: 50 * time.Millisecond}, 5 * 50 * time.Millisecond},
		{slowness{name: "rate", rate: 100}, 150 * time.Millisecond},
	} {
		t.Run(tt.how.name, func(t *testing.T) {
			t.Parallel()
			path, err := newSlowPath(tt.how, loopback(t).Server, netip.MustParseAddrPort("127.0.0.1:0"), server)
			if err != nil {
				t.Fatal(err)
			}
			defer path.close()
			var wg sync.WaitGroup
			begin := time.Now()
			for range 4 {
				wg.Go(func() {
					for range 5 {
						m := new(dns.Msg).SetQuestion(nameZone, dns.TypeSOA)
						c := &dns.Client{Timeout: 30 * time.Second}
						if _, _, err := c.Exchange(m, path.front.LocalAddr().String()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if took := time.Since(begin); took < tt.least {
				t.Errorf("took %v, expected at least %v", took, tt.least)
			}
		})
	}
}
