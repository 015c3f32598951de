package server

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestAgain has a DISCOVER worked on twice, while others are answered: where
// requests are worked on by the reader, and where by workers.
func TestAgain(t *testing.T) {
	for name, prompt := range map[string]bool{"reader": true, "workers": false} {
		t.Run(name, func(t *testing.T) {
			var (
				mu      sync.Mutex
				waiting []*Again
				times   int
			)
			f := fake{handle: func(_ context.Context, x *Exchange) Verdict {
				if x.Request.NumSeconds == 0 {
					return Continue
				}
				mu.Lock()
				defer mu.Unlock()
				if times++; times > 1 {
					return Continue
				}
				again := x.Later()
				if x.Request.NumSeconds == 3 {
					x.Now()
					return Continue
				}
				waiting = append(waiting, again)
				if x.Request.NumSeconds == 2 {
					again.Do() // before the chain has ended
				}
				x.Reply = nil
				return Stop
			}}
			var p Plugin = &f
			if prompt {
				p = &promptFake{f}
			}
			s := newServer(t, loopback("server_id: 192.0.2.2", registerFake(p)+":"))
			stop := runServer(t, s)
			r := newRelay(t, s)
			put := func(client byte, seconds uint16) *dhcpv4.DHCPv4 {
				m := message(t, dhcpv4.MessageTypeDiscover, client)
				m.NumSeconds = seconds
				r.send(m)
				return m
			}
			m := put(1, 1)
			waitFor(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(waiting) == 1
			})
			if got := r.exchange(message(t, dhcpv4.MessageTypeDiscover, 2)); got.ClientHWAddr[5] != 2 {
				t.Errorf("got %s while the other waits", got.Summary())
			}
			waiting[0].Do()
			if got := r.receive(); got.TransactionID != m.TransactionID || got.MessageType() != dhcpv4.MessageTypeOffer {
				t.Errorf("got %s", got.Summary())
			}
			reset := func() {
				mu.Lock()
				defer mu.Unlock()
				times = 0
			}
			reset()
			if m = put(3, 2); r.receive().TransactionID != m.TransactionID {
				t.Error("no answer to what was wanted again at once")
			}
			reset()
			if m = put(5, 3); r.receive().TransactionID != m.TransactionID {
				t.Error("no answer to what was not to wait after all")
			}
			// One is still asked for when the server stops.
			reset()
			put(4, 1)
			waitFor(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(waiting) == 3
			})
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			waiting[2].Do()
			time.Sleep(10 * time.Millisecond)
			expectMetrics(t, s, map[string]float64{
				`received_total{type="discover"}`: 5, `sent_total{type="offer"}`: 4, `answer_seconds_count`: 4,
			})
		})
	}
	if x := (&Exchange{}); x.Later() != nil {
		t.Error("a stock CoreDHCP works on a request once")
	}
}
