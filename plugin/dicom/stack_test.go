package dicom

import (
	"sync"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

type decoratedWriter struct{ dns.Writer }

// TestRoomy: who decorates writers goes on doing so, and nobody else's change.
func TestRoomy(t *testing.T) {
	var w dns.Writer = decoratedWriter{}
	server := new(dnsserver.Server)
	if got := roomy(nil)(server)(w); got != w {
		t.Errorf("writer %v", got)
	}
	asked := 0
	decorate := roomy(func(s *dnsserver.Server) dns.DecorateWriter {
		if s != server {
			t.Error("another server")
		}
		asked++
		return func(w dns.Writer) dns.Writer { return &decoratedWriter{w} }
	})(server)
	for range 2 {
		if got, ok := decorate(w).(*decoratedWriter); !ok || got.Writer != w {
			t.Errorf("writer %v", got)
		}
	}
	if asked != 1 {
		t.Errorf("asked for a decorator %d times", asked)
	}
	if enlargeStack(true) != 0 {
		t.Error("the frame is not what was written to it")
	}
}

// BenchmarkStack is a goroutine that calls as deep as a query does, with and
// without room on its stack from the beginning.
func BenchmarkStack(b *testing.B) {
	for name, before := range map[string]func(){"grows": func() {}, "roomy": func() { enlargeStack(false) }} {
		b.Run(name, func(b *testing.B) {
			var wg sync.WaitGroup
			for b.Loop() {
				wg.Go(func() {
					before()
					deep(16)
				})
				wg.Wait()
			}
		})
	}
}

// deep calls itself with frames of some 200 octets.
//
//go:noinline
func deep(n int) (sum int) {
	var frame [20]int
	for i := range frame {
		frame[i] = n
	}
	if n > 0 {
		sum = deep(n - 1)
	}
	return sum + frame[n]
}
