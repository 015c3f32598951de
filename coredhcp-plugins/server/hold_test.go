package server

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// promptFake is a fake that never waits.
type promptFake struct{ fake }

func (*promptFake) Prompt() bool { return true }

// fakeCommit is a commit that a test ends.
type fakeCommit struct {
	mu   sync.Mutex
	over bool
	err  error
	then []func(error)
}

func (c *fakeCommit) Then(f func(error)) {
	c.mu.Lock()
	over := c.over
	if !over {
		c.then = append(c.then, f)
	}
	c.mu.Unlock()
	if over {
		f(c.err)
	}
}

// asked is how many wait for the commit.
func (c *fakeCommit) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.then)
}

func (c *fakeCommit) end(err error) {
	c.mu.Lock()
	c.over, c.err = true, err
	then := c.then
	c.mu.Unlock()
	for _, f := range then {
		f(err)
	}
}

// TestHold has REQUESTs wait for commits while a DISCOVER that comes later is
// answered. It runs where requests are worked on by the reader, and where by
// workers.
func TestHold(t *testing.T) {
	for name, prompt := range map[string]bool{"reader": true, "workers": false} {
		t.Run(name, func(t *testing.T) {
			commits := map[uint16]*fakeCommit{1: {}, 2: {}}
			f := fake{handle: func(_ context.Context, x *Exchange) Verdict {
				if c := commits[x.Request.NumSeconds]; c != nil && x.Holds() {
					x.Hold(c)
				}
				return Continue
			}}
			var p Plugin = &f
			if prompt {
				p = &promptFake{f}
			}
			s := newServer(t, loopback("server_id: 192.0.2.2", registerFake(p)+":"))
			stop := runServer(t, s)
			if s.prompt.Load() != prompt {
				t.Fatalf("prompt: %t", s.prompt.Load())
			}
			r := newRelay(t, s)
			request := func(client byte, commit uint16) {
				req := message(t, dhcpv4.MessageTypeRequest, client)
				req.NumSeconds = commit
				r.send(req)
			}
			for client := range byte(3) {
				request(client, 1)
			}
			request(3, 2)
			waitFor(t, func() bool { return series(t, s)[`received_total{type="request"}`] == 4 && commits[2].asked() == 1 })
			if got := r.exchange(message(t, dhcpv4.MessageTypeDiscover, 9)); got.MessageType() != dhcpv4.MessageTypeOffer {
				t.Errorf("got %s while the others wait", got.MessageType())
			}
			// A second message of a client whose first answer waits: it waits too.
			inform := message(t, dhcpv4.MessageTypeInform, 0)
			inform.ClientIPAddr = ip("127.0.0.1")
			inform.NumSeconds = 9
			r.send(inform)
			waitFor(t, func() bool { return series(t, s)[`received_total{type="inform"}`] == 1 })
			if got := series(t, s)[`sent_total{type="ack"}`]; got != 0 {
				t.Errorf("%v answers have overtaken the first of their client", got)
			}
			if prompt && commits[1].asked() != 1 {
				t.Errorf("%d wait for one commit: they do not leave together", commits[1].asked())
			}
			commits[1].end(nil)
			for range 3 {
				if got := r.receive(); got.MessageType() != dhcpv4.MessageTypeAck || got.ClientHWAddr[5] > 2 {
					t.Errorf("got %s for %s", got.MessageType(), got.ClientHWAddr)
				}
			}
			request(4, 1) // it is over already
			if got := r.receive(); got.ClientHWAddr[5] != 4 {
				t.Errorf("got %s", got.Summary())
			}
			// The server is told to stop: it waits for the last commit, which fails.
			stopped := newResult(stop)
			waitFor(t, func() bool { return s.unready() == "stopping" })
			select {
			case err := <-stopped:
				t.Errorf("stopped before the commit: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			commits[2].end(errors.New("disk is full"))
			if err := <-stopped; err != nil {
				t.Fatal(err)
			}
			want := map[string]float64{
				`received_total{type="request"}`: 5, `received_total{type="discover"}`: 1, `received_total{type="inform"}`: 1,
				`sent_total{type="ack"}`: 5, `sent_total{type="offer"}`: 1, `failed_total`: 1, `answer_seconds_count`: 6,
			}
			expectMetrics(t, s, want)
		})
	}
}

func TestHoldTwice(t *testing.T) {
	for name, errs := range map[string][2]error{"both": {}, "first fails": {errors.New("a"), nil}, "second fails": {nil, errors.New("b")}} {
		t.Run(name, func(t *testing.T) {
			var a, b fakeCommit
			x := &Exchange{}
			x.Hold(&a)
			x.Hold(&b)
			var got []error
			x.commit.Then(func(err error) { got = append(got, err) })
			b.end(errs[1])
			if len(got) != 0 {
				t.Error("only one of them is over")
			}
			a.end(errs[0])
			if want := []error{cmp.Or(errs[0], errs[1])}; !slices.Equal(got, want) {
				t.Errorf("called with %v, want %v", got, want)
			}
		})
	}
}

// slowFrames are told by the last octet of their transaction; those that a test
// has not let go wait.
type slowFrames struct {
	mu      sync.Mutex // guards written
	written []byte
	reached chan byte
	release chan struct{}
}

func (f *slowFrames) writeFrame(_ *netInterface, frame []byte) error {
	n := frame[ethernetHeader+20+8+offTransaction+3]
	if n == 1 {
		f.reached <- n
		<-f.release
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written = append(f.written, n)
	return nil
}

func (f *slowFrames) prune(*interfaceTable) {}
func (f *slowFrames) close() error          { return nil }

func (f *slowFrames) order() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.written)
}

// TestHoldKeepsOrder has a client's second answer be ready while the first, whose
// commit is over, is just being sent, and while the first is ready and not sent yet.
func TestHoldKeepsOrder(t *testing.T) {
	frames := &slowFrames{reached: make(chan byte), release: make(chan struct{})}
	s := newServer(t, loopback("server_id: 192.0.2.2"))
	s.frames = frames
	eth := &netInterface{index: 3, name: "eth0", hardware: net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 2}, addrs: []netip.Addr{addr("192.0.2.2")}}
	lane := s.newLane()
	put := func(client, transaction byte, c Commit) {
		t.Helper()
		req := message(t, dhcpv4.MessageTypeDiscover, client)
		req.TransactionID[3] = transaction
		x := &Exchange{Request: req, Reply: newReply(req, make(dhcpv4.Options)), ServerID: addr("192.0.2.2")}
		x.Reply.YourIPAddr = ip("192.0.2.100")
		if c != nil {
			x.Hold(c)
		}
		if err := lane.put(&received{listener: &listener{port: serverPort}, at: time.Now()}, eth, &interfaceTable{}, x); err != nil {
			t.Error(err)
		}
	}
	first := &fakeCommit{}
	put(1, 1, first)
	go first.end(nil)
	<-frames.reached
	put(2, 2, nil) // another client does not wait
	second := make(chan struct{})
	go func() {
		defer close(second)
		put(1, 3, nil)
		lane.out.flush()
	}()
	select {
	case <-second:
		t.Errorf("sent while the answer before it was being sent: %v", frames.order())
	case <-time.After(50 * time.Millisecond):
	}
	close(frames.release)
	<-second
	if got := frames.order(); !slices.Equal(got, []byte{1, 2, 3}) {
		t.Errorf("sent in the order %v", got)
	}
	put(1, 4, nil)
	put(1, 5, first) // which is over already
	lane.out.flush()
	if got := frames.order(); !slices.Equal(got, []byte{1, 2, 3, 4, 5}) {
		t.Errorf("sent in the order %v", got)
	}
	s.holding.Wait()
	if n := s.held.Load(); n != 0 {
		t.Errorf("%d answers are still held", n)
	}
}

// TestLate holds that a request that has waited too long is dropped.
func TestLate(t *testing.T) {
	s := newServer(t, loopback("server_id: 192.0.2.2"))
	l := s.newLane()
	r := testPacket(dhcpv4.MessageTypeDiscover, 1, 1)
	r.listener, r.from = &listener{port: serverPort}, netip.MustParseAddrPort("192.0.2.1:67")
	r.at = time.Now().Add(-patience - time.Second)
	l.work(t.Context(), &r)
	expectMetrics(t, s, map[string]float64{"late_total": 1})
}

// TestPrompt holds that only chains of plugins that never wait are prompt.
func TestPrompt(t *testing.T) {
	prompt := &promptFake{}
	ours, other := registerFake(prompt), registerFake(&fake{})
	for name, tt := range map[string]struct {
		plugins []string
		want    bool
	}{
		"stock":           {[]string{"server_id: 192.0.2.2", "lease_time: 1h"}, true},
		"ours":            {[]string{"server_id: 192.0.2.2", ours + ":"}, true},
		"one that waits":  {[]string{ours + ":", other + ":"}, false},
		"stock and waits": {[]string{ours + ":", "sleep: 1ms"}, false},
	} {
		if s := newServer(t, loopback(tt.plugins...)); s.isPrompt() != tt.want {
			t.Errorf("%s: %t", name, !tt.want)
		}
	}
}
