package dicom

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/time/rate"
)

// A hearer is a secondary that answers each NOTIFY as its function says.
type hearer struct {
	address string

	mu    sync.Mutex
	zones map[string]int // how often each was told
}

func newHearer(t *testing.T, answer func(c net.PacketConn, to net.Addr, m *dns.Msg)) *hearer {
	t.Helper()
	return newHearerAt(t, "127.0.0.1:0", answer)
}

func newHearerAt(t *testing.T, address string, answer func(c net.PacketConn, to net.Addr, m *dns.Msg)) *hearer {
	t.Helper()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	h := &hearer{address: c.LocalAddr().String(), zones: make(map[string]int)}
	done := make(chan struct{})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			m := new(dns.Msg)
			if err := m.Unpack(buf[:n]); err != nil || m.Opcode != dns.OpcodeNotify || !m.Authoritative {
				t.Errorf("%v, %v", m, err)
				continue
			}
			h.mu.Lock()
			h.zones[m.Question[0].Name]++
			h.mu.Unlock()
			answer(c, from, new(dns.Msg).SetReply(m))
		}
	}()
	return h
}

func (h *hearer) told() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.zones)
}

// say sends a message.
func say(c net.PacketConn, to net.Addr, m *dns.Msg) {
	if wire, err := m.Pack(); err == nil {
		_, _ = c.WriteTo(wire, to) // as on every network
	}
}

// sockets counts those of this process.
func sockets(t *testing.T) (n int) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, fd := range all {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// TestNotifyTakesFewSockets: at a start all secondaries of all zones are told, and
// wait for answers that most of them do not give.
func TestNotifyTakesFewSockets(t *testing.T) {
	const zones, dead = 200, 9
	live := newHearer(t, say)
	to := "to " + live.address
	for range dead {
		to += "\nto " + silent(t)
	}
	var names []string
	for i := range zones {
		names = append(names, fmt.Sprintf("z%d.example.net", i))
	}
	before := sockets(t)
	s := start(t, fmt.Sprintf(".:0 {\nbind 127.0.0.1\ntransfer {\n%s\n}\ndicom %s {\nsite %s\n}\n}\n", to, strings.Join(names, " "), write(t, t.TempDir(), "site.yaml", siteYAML)))
	most := 0
	gaveUp := func() bool {
		most = max(most, sockets(t))
		for _, z := range names {
			if testutil.ToFloat64(notifies.WithLabelValues(z+".", "failure")) == 0 {
				return false
			}
		}
		return true
	}
	eventually(t, "NOTIFY of all zones", func() bool { most = max(most, sockets(t)); return live.told() == zones })
	eventually(t, "giving up the dead", gaveUp)
	// Its own are two, for UDP and TCP.
	if most > before+10 {
		t.Errorf("%d sockets, %d before", most, before)
	}
	s.stop()
	if now := sockets(t); now > before {
		t.Errorf("%d sockets are left of %d", now-before, most)
	}
}

// asking makes a post for a test.
func asking(t *testing.T, turns turns) *post {
	t.Helper()
	p := newPost(nil, turns)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		p.run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if len(p.waiting) > 0 || p.conn != nil {
			t.Errorf("%d are waiting, socket %v", len(p.waiting), p.conn)
		}
	})
	return p
}

// TestTurns: however many do not answer, those who do have turns of their own.
func TestTurns(t *testing.T) {
	never := rate.NewLimiter(rate.Every(24*time.Hour), 1)
	never.Allow()
	p := asking(t, turns{heard: rate.NewLimiter(rate.Inf, 1), silent: never})
	live := &addressee{secondary: secondary{address: newHearer(t, say).address}, post: p}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 50 {
		dead := &addressee{secondary: secondary{address: silent(t)}, post: p}
		wg.Go(func() {
			if err := dead.Notify(ctx, domain); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	eventually(t, "waiting for another turn", func() bool { return never.Tokens() < -49 })
	for range 100 {
		if err := live.Notify(ctx, domain); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSilentFirst: who does not answer once has its next turn among those, until it
// answers.
func TestSilentFirst(t *testing.T) {
	var mute bool
	h := newHearer(t, func(c net.PacketConn, to net.Addr, m *dns.Msg) {
		if mute = !mute; !mute {
			say(c, to, m)
		}
	})
	silent := rate.NewLimiter(rate.Every(24*time.Hour), 10)
	p := asking(t, turns{heard: rate.NewLimiter(rate.Inf, 1), silent: silent})
	a := &addressee{secondary: secondary{address: h.address}, post: p}
	for n := range 2 {
		if err := a.Notify(t.Context(), domain); err != nil {
			t.Fatal(err)
		}
		if used := 10 - silent.Tokens(); used < float64(n)+0.9 || used > float64(n)+1.1 || a.silent {
			t.Errorf("%v turns, silent: %v", used, a.silent)
		}
	}
}

// TestPost has answers that are none, and others.
func TestPost(t *testing.T) {
	t.Parallel()
	other, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() }) // after those that run in parallel
	p := asking(t, newTurns())
	for _, tt := range []struct {
		name   string
		answer func(c net.PacketConn, to net.Addr, m *dns.Msg)
		err    string
	}{
		{"answer", say, ""},
		{"refusal", func(c net.PacketConn, to net.Addr, m *dns.Msg) { m.Rcode = dns.RcodeNotAuth; say(c, to, m) }, "NOTAUTH"},
		{"nothing", func(net.PacketConn, net.Addr, *dns.Msg) {}, errNoAnswer.Error()},
		{"another ID", func(c net.PacketConn, to net.Addr, m *dns.Msg) { m.Id++; say(c, to, m) }, errNoAnswer.Error()},
		{"another sender", func(_ net.PacketConn, to net.Addr, m *dns.Msg) { say(other, to, m) }, errNoAnswer.Error()},
		{"a question", func(c net.PacketConn, to net.Addr, m *dns.Msg) { m.Response = false; say(c, to, m) }, errNoAnswer.Error()},
		{"another opcode", func(c net.PacketConn, to net.Addr, m *dns.Msg) { m.Opcode = dns.OpcodeQuery; say(c, to, m) }, errNoAnswer.Error()},
		{"nonsense", func(c net.PacketConn, to net.Addr, _ *dns.Msg) { _, _ = c.WriteTo([]byte("?"), to) }, errNoAnswer.Error()},
		{"nonsense and others before", func(c net.PacketConn, to net.Addr, m *dns.Msg) {
			_, _ = c.WriteTo([]byte("?"), to)
			m.Id++
			say(c, to, m)
			m.Id--
			say(c, to, m)
			say(c, to, m)
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			to := netip.MustParseAddrPort(newHearer(t, tt.answer).address)
			if err := p.ask(t.Context(), domain, to); err == nil && tt.err != "" || err != nil && err.Error() != tt.err {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestPostOpensAgain: a socket that breaks is replaced.
func TestPostOpensAgain(t *testing.T) {
	p := asking(t, newTurns())
	a := &addressee{secondary: secondary{address: newHearer(t, say).address}, post: p}
	for range 3 {
		if err := a.Notify(t.Context(), domain); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		err := p.conn.Close()
		p.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "closed", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.conn == nil
		})
	}
}

// TestPostOfASource: NOTIFY comes from where transfer has it.
func TestPostOfASource(t *testing.T) {
	from := make(chan string, 1)
	h := newHearer(t, func(c net.PacketConn, to net.Addr, m *dns.Msg) {
		from <- to.(*net.UDPAddr).IP.String()
		say(c, to, m)
	})
	startSite(t, t.TempDir(), fmt.Sprintf("transfer imaging.example.org {\nto %s\nsource 127.0.0.7\n}", h.address))
	select {
	case got := <-from:
		if got != "127.0.0.7" {
			t.Errorf("from %s", got)
		}
	case <-time.After(patience):
		t.Error("no NOTIFY")
	}
}

// TestPostToAScope: the scope of an address may be a name or a number, and the answer has what the system makes of it.
func TestPostToAScope(t *testing.T) {
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(all, func(i net.Interface) bool { return i.Flags&net.FlagLoopback != 0 })
	if try, err := net.ListenPacket("udp", "[::1]:0"); at < 0 || err != nil {
		t.Skip(err)
	} else if err := try.Close(); err != nil {
		t.Fatal(err)
	}
	lo := all[at]
	_, port, err := net.SplitHostPort(newHearerAt(t, "[::1]:0", say).address)
	if err != nil {
		t.Fatal(err)
	}
	p := asking(t, newTurns())
	for _, host := range []string{"::1", "::1%" + lo.Name, fmt.Sprintf("::1%%%d", lo.Index)} {
		a := &addressee{secondary: secondary{address: net.JoinHostPort(host, port)}, post: p}
		if err := a.Notify(t.Context(), domain); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}
