package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// series returns the server's own metrics that are not zero, without their
// common prefix; of a histogram only the count.
func series(t testing.TB, s *Server) map[string]float64 {
	t.Helper()
	families, err := s.host.registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), "coredhcp_server_")
		if !ours {
			continue
		}
		for _, m := range f.Metric {
			key, value := name, m.GetCounter().GetValue()+m.GetGauge().GetValue()
			for _, l := range m.Label {
				key += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			if m.GetHistogram() != nil {
				key, value = key+"_count", float64(m.GetHistogram().GetSampleCount())
			}
			if value != 0 {
				got[key] = value
			}
		}
	}
	return got
}

// expectMetrics wants exactly these of the server's own metrics to be other than
// zero.
func expectMetrics(t testing.TB, s *Server, want map[string]float64) {
	t.Helper()
	if got := series(t, s); !maps.Equal(got, want) {
		t.Errorf("counted %v\nwant    %v", got, want)
	}
}

// freePort returns an address that nobody listens on. Its port is below those that
// the kernel gives to clients, one of which could take it before its server.
func freePort(t testing.TB) string {
	t.Helper()
	const lowest, above = 26_000, 28_000 // other packages' tests, at the same time, take others
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(above-lowest)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// TestAdmin asks a server for its state before, while and after it serves.
func TestAdmin(t *testing.T) {
	starting, started := make(chan struct{}), make(chan struct{})
	handling, release := make(chan struct{}), make(chan struct{})
	var hosts *Host
	name := fmt.Sprintf("fake%d", fakes.Add(1))
	Register(name, func(_ []string, h *Host) (Plugin, error) {
		hosts = h
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "coredhcp_fake_total", Help: "Counter of a plugin."})
		if err := h.Metrics().Register(c); err != nil {
			return nil, err
		}
		return &fake{
			start: func(context.Context) error { close(starting); <-started; return nil },
			handle: func(_ context.Context, x *Exchange) Verdict {
				if x.Request.MessageType() == dhcpv4.MessageTypeInform {
					close(handling)
					<-release
				}
				c.Inc()
				return Continue
			},
		}, nil
	})
	s := newServer(t, loopback(name+":"))
	address := freePort(t)
	s.options.Admin = address
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := newResult(func() error { return s.Run(ctx) })
	expect := func(path string, status int, text string) {
		t.Helper()
		if got, body := get(t, "http://"+address+path); got != status || !strings.Contains(body, text) {
			t.Errorf("%s: %d %.200q, want %d and %q", path, got, body, status, text)
		}
	}

	<-starting
	expect("/health", 200, "OK")
	expect("/ready", 503, "plugins are starting")
	close(started)
	<-s.listening
	expect("/ready", 200, "OK")
	r := newRelay(t, s)
	r.exchange(message(t, dhcpv4.MessageTypeDiscover, 1))
	r.exchange(message(t, dhcpv4.MessageTypeNone, 1))
	waitFor(t, func() bool { return series(t, s)[`answer_seconds_count`] == 2 })
	for _, line := range []string{
		`coredhcp_server_received_total{type="discover"} 1`, `coredhcp_server_sent_total{type="offer"} 1`, `coredhcp_server_sockets 1`,
		`coredhcp_server_answer_seconds_count 2`, `coredhcp_server_sent_total{type="bootp"} 1`, `coredhcp_fake_total 2`, `go_goroutines`, `process_resident_memory_bytes`,
	} {
		expect("/metrics", 200, line)
	}
	expect("/debug/pprof/", 404, "")
	p, err := http.Post("http://"+address+"/metrics", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatalf("POST: %v", err)
	}
	if err := p.Body.Close(); err != nil || p.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v, %v", p, err)
	}
	if hosts.Metrics() != s.host.Metrics() {
		t.Error("the plugin has another registry")
	}

	r.send(message(t, dhcpv4.MessageTypeInform, 1))
	<-handling
	cancel()
	waitFor(t, func() bool { return s.unready() == "stopping" })
	close(release)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		c.Close()
		t.Error("the admin address is still open")
	}
}

func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longest); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it has not come about")
		}
	}
}

func TestAdminFailure(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		taken.Addr().String(): "address already in use",
		"9567":                "expected HOST:PORT",
		":9567":               "expected HOST:PORT",
	} {
		started := false
		s := newServer(t, loopback(registerFake(&fake{start: func(context.Context) error { started = true; return nil }})+":"))
		s.options.Admin = address
		if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) || started {
			t.Errorf("%s: %v, plugin started: %t; want %q", address, err, started, want)
		}
	}
}

// readier is a fake that can say that it is not ready.
type readier struct {
	fake
	why atomic.Pointer[error]
}

func (r *readier) Ready() error {
	if err := r.why.Load(); err != nil {
		return *err
	}
	return nil
}

// TestNotReadyByPlugin has the second of two plugins say so for a while.
func TestNotReadyByPlugin(t *testing.T) {
	p := &readier{}
	name := registerFake(p)
	s := newServer(t, loopback(registerFake(&fake{})+":", name+":"))
	s.options.Admin = freePort(t)
	runServer(t, s)
	expect := func(status int, body string) {
		t.Helper()
		if got, text := get(t, "http://"+s.options.Admin+"/ready"); got != status || text != body+"\n" {
			t.Errorf("%d %q, want %d %q", got, text, status, body)
		}
	}
	waitFor(t, func() bool { return s.unready() == "" })
	expect(200, "OK")
	err := errors.New("disk is full")
	p.why.Store(&err)
	expect(503, name+": disk is full")
	p.why.Store(nil)
	expect(200, "OK")
}

// TestNotReadyWithoutSocket has only an interface that does not exist.
func TestNotReadyWithoutSocket(t *testing.T) {
	s := newServer(t, "server4: {listen: '%never0', plugins: [{server_id: 192.0.2.2}]}")
	runServer(t, s)
	waitFor(t, func() bool { return s.unready() == "no address of `listen` is there yet" })
}

func TestMetricsLint(t *testing.T) {
	s := newServer(t, loopback("server_id: 192.0.2.2"))
	problems, err := testutil.GatherAndLint(s.host.registry())
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}
