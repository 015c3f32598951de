//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// serve starts a name server on 127.0.0.1, until end is called.
func serve(t *testing.T, s *dns.Server) (to netip.AddrPort, end func()) {
	t.Helper()
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	ended := make(chan error, 1)
	go func() { ended <- s.ListenAndServe() }()
	select {
	case <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	address := func() string {
		if s.Net == "udp" {
			return s.PacketConn.LocalAddr().String()
		}
		return s.Listener.Addr().String()
	}
	return netip.MustParseAddrPort(address()), func() {
		t.Helper()
		if err := errors.Join(s.Shutdown(), <-ended); err != nil {
			t.Error(err)
		}
	}
}

// A client signs each message for itself: on a connection that is used again,
// every second message would fail otherwise.
func TestUpdatesOnOneConnection(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			names := make(chan string, 10)
			s := &dns.Server{
				Net: network, Addr: "127.0.0.1:0", TsigSecret: map[string]string{keyName: secret},
				MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
				Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
					r := new(dns.Msg).SetReply(m)
					if m.IsTsig() == nil || w.TsigStatus() != nil || m.Len() > dns.MinMsgSize {
						r.Rcode = dns.RcodeRefused
					} else {
						names <- m.Ns[0].Header().Name
					}
					r.SetTsig(keyName, dns.HmacSHA256, 300, time.Now().Unix())
					if err := w.WriteMsg(r); err != nil {
						t.Error(err)
					}
				}),
			}
			to, end := serve(t, s)
			got := updateLoad{
				to: to, zone: zoneName, network: network, clients: 1,
				prefix: "u", duration: time.Minute, limit: 10,
			}.run(t.Context())
			if len(got.latencies) != 10 || got.failures() != "" {
				t.Errorf("%d updates succeeded, failed: %s", len(got.latencies), got.failures())
			}
			end()
			close(names)
			seen := map[string]bool{}
			for name := range names {
				if seen[name] {
					t.Errorf("%s was added twice", name)
				}
				seen[name] = true
			}
		})
	}
}

// Queries without an answer are counted, and do not end the measurement.
func TestLostQueries(t *testing.T) {
	t.Parallel()
	s := &dns.Server{Net: "udp", Addr: "127.0.0.1:0", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		name := m.Question[0].Name
		if name == hostName(0) {
			return
		}
		r := new(dns.Msg).SetReply(m)
		r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: address(1).AsSlice()}}
		if err := w.WriteMsg(r); err != nil {
			t.Error(err)
		}
	})}
	to, end := serve(t, s)
	queries, err := packQueries(4)
	if err != nil {
		t.Fatal(err)
	}
	for name, rate := range map[string]float64{"closed": 0, "paced": 800} {
		got, err := queryLoad{
			to: to, queries: queries,
			duration: time.Second, rate: rate,
		}.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.lost == 0 || len(got.latencies) < got.lost || got.failures() != "" {
			t.Errorf("%s: %d answered, %d lost, failed: %s", name, len(got.latencies), got.lost, got.failures())
		}
		if total := len(got.latencies) + got.lost; rate > 0 && (total != 800 || got.rate() > rate) {
			t.Errorf("%s: %d queries, %.0f answers a second, expected 800 queries", name, total, got.rate())
		}
	}
	end()
}

// Updates beside queries: each is signed, of another name, and sent again if it is not answered.
func TestPacedUpdates(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	s := &dns.Server{
		Net: "udp", Addr: "127.0.0.1:0", TsigSecret: map[string]string{keyName: secret},
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
	}
	var mu sync.Mutex
	s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		mu.Lock()
		defer mu.Unlock()
		r := new(dns.Msg).SetReply(m)
		if m.Opcode == dns.OpcodeUpdate {
			if m.IsTsig() == nil || w.TsigStatus() != nil {
				t.Errorf("signature of %s: %v", m.Ns[0].Header().Name, w.TsigStatus())
			}
			name := m.Ns[0].Header().Name
			seen[name]++
			switch {
			case m.Id%4 == 1 && seen[name] == 1:
				return // is sent again
			case m.Id%4 == 1:
				r.Rcode = dns.RcodeYXDomain // as if the first answer had been lost
			case m.Id%4 == 2:
				r.Rcode = dns.RcodeServerFailure
			}
			r.SetTsig(keyName, dns.HmacSHA256, 300, time.Now().Unix())
		}
		if err := w.WriteMsg(r); err != nil {
			t.Error(err)
		}
	})
	to, end := serve(t, s)
	u, err := newPacedUpdates("u", 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if u.socket.fd, err = connect(to); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	p := paced{updates: u}
	for u.sent < 20 || u.open() > 0 {
		if time.Since(start) > 30*time.Second {
			t.Fatalf("%d of %d updates have no answer", u.open(), u.sent)
		}
		if err := errors.Join(u.send(time.Since(start)), p.receive(&u.socket, u.take)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if err := unix.Close(u.socket.fd); err != nil {
		t.Error(err)
	}
	end()
	if len(seen) != 20 || len(u.sample.latencies) != 15 || u.sample.failures() != "5 SERVFAIL" || u.sample.repeated < 5 {
		t.Errorf("%d names, %d updates succeeded, %d were sent again, failed: %s",
			len(seen), len(u.sample.latencies), u.sample.repeated, u.sample.failures())
	}
}

// What others have disturbed is measured again, but not for ever.
func TestQuietly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		others []float64 // by try
		wait   time.Duration
		want   float64
	}{
		{[]float64{.01}, time.Second, .01},
		{[]float64{.3, .02}, time.Second, .02},
		{[]float64{.3, .2, .1}, time.Second, .1},
		{[]float64{.3}, 0, .3},
	} {
		got, err := quietly(&bench{options: options{wait: tt.wait}}, func(try int) (*sample, error) {
			return &sample{others: tt.others[try]}, nil
		})
		if err != nil || got.others != tt.want {
			t.Errorf("%v: %+v %v", tt.others, got, err)
		}
	}
}

func TestArrival(t *testing.T) {
	t.Parallel()
	control := make([]byte, unix.CmsgSpace(16))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW
	h.SetLen(unix.CmsgLen(16))
	binary.NativeEndian.PutUint64(control[unix.CmsgLen(0):], 1_700_000_000)
	binary.NativeEndian.PutUint64(control[unix.CmsgLen(8):], 5)
	if got, err := arrival(control); err != nil || got != 1_700_000_000_000_000_005 {
		t.Errorf("%d %v", got, err)
	}
	h.Type = unix.SO_RXQ_OVFL
	for name, control := range map[string][]byte{"none": nil, "other": control, "short": control[:8]} {
		if _, err := arrival(control); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRatio(t *testing.T) {
	t.Parallel()
	var m mixture
	for i := range 8 {
		m.idle = append(m.idle, &sample{latencies: []time.Duration{10}})
		m.beside = append(m.beside, &sample{latencies: []time.Duration{time.Duration(10 * (i + 1))}})
	}
	if got, want := m.ratio("at most 2"), "x 5.00 (goal at most 2), half of the windows 3.00-7.00"; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
}

func TestCompareTurns(t *testing.T) {
	t.Parallel()
	var few, many []*sample
	for i := range 8 { // few are as fast as the machine is, many by some tenths less
		few = append(few, &sample{latencies: make([]time.Duration, 1000<<i), elapsed: time.Second})
		many = append(many, &sample{latencies: make([]time.Duration, (1000<<i)*(i+1)/10), elapsed: time.Second})
	}
	if got, want := compareTurns(few, many), "x 0.50 (goal 0.9), half of the turns 0.30-0.70"; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
}

func TestSite(t *testing.T) {
	t.Parallel()
	for _, moved := range []int{0, 1, 5000} {
		_, warnings, err := site.Parse("site.yaml", siteFile(5000, moved))
		if err != nil || len(warnings) > 0 {
			t.Errorf("%d moved: %v %v", moved, warnings, err)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	s := newSample()
	if got := s.quantile(.99); got != 0 {
		t.Errorf("p99 of nothing: %v", got)
	}
	for i := 100; i > 0; i-- {
		s.latencies = append(s.latencies, time.Duration(i))
	}
	for p, want := range map[float64]time.Duration{0: 1, .5: 51, .99: 100, 1: 100} {
		if got := s.quantile(p); got != want {
			t.Errorf("quantile %v: %d, expected %d", p, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	var all []*sample
	for _, n := range []int{7, 1, 3} {
		all = append(all, &sample{elapsed: time.Second, latencies: make([]time.Duration, n)})
	}
	if got := len(median(all).latencies); got != 3 {
		t.Errorf("median of 7, 1, 3: %d", got)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	const stat = "42 (a) name) (x) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 9 0 100 0 0"
	for in, want := range map[string]time.Duration{stat: 3 * time.Second, "": 0, "42 (short) S 1": 0} {
		if got := parseStat(in); got != want {
			t.Errorf("%q: %v, expected %v", in, got, want)
		}
	}
}

func TestParseDrops(t *testing.T) {
	t.Parallel()
	const table = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 0100007F:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11 2 0000000000000000 12
  101: 0100007F:14EA 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0000000000000000 5
`
	if got := parseDrops(table, "0100007F:14E9"); got != 12 {
		t.Errorf("%d, expected 12", got)
	}
}

func TestParseDNSPerf(t *testing.T) {
	t.Parallel()
	got, err := parseDNSPerf([]byte(`Statistics:

  Queries sent:         2010
  Queries completed:    2000 (99.50%)
  Queries lost:         10 (0.50%)

  Run time (s):         2.000000
  Queries per second:   1000.000000

  Average Latency (s):  0.001500 (min 0.000040, max 0.020000)
`))
	if err != nil {
		t.Fatal(err)
	}
	if got.rate() != 1000 || got.lost != 10 || got.quantile(.5) != 1500*time.Microsecond {
		t.Errorf("%.0f/s, %d lost, mean %v", got.rate(), got.lost, got.quantile(.5))
	}
	if _, err := parseDNSPerf([]byte("Error: no such file")); err == nil {
		t.Error("an error message was taken for figures")
	}
}

func TestParsePerfdhcp(t *testing.T) {
	t.Parallel()
	got, err := parsePerfdhcp([]byte(`***Statistics for: DISCOVER-OFFER***
sent packets: 4000
received packets: 3999
drops: 1
avg delay: 1.250 ms
***Statistics for: REQUEST-ACK***
sent packets: 3999
received packets: 3990
drops: 9
avg delay: 0.750 ms
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.latencies) != 3990 || got.lost != 10 || got.quantile(.5) != 2*time.Millisecond {
		t.Errorf("%d exchanges, %d lost, mean %v", len(got.latencies), got.lost, got.quantile(.5))
	}
	if _, err := parsePerfdhcp([]byte("sent packets: 9\nreceived packets: 0\navg delay: n/a\n")); err == nil {
		t.Error("a server that answers nothing was taken for one")
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	tab := table{
		rows:    []row{{what: "updates", server: "dicom", rate: "2000"}, {what: "updates", server: "BIND", rate: "1000", peer: times(2000, 1000, "3")}},
		skipped: []string{"Knot: knotd: not installed"},
	}
	tab.print(&out)
	for _, want := range []string{"x 2.00 (goal 3)\n", "Skipped: Knot: knotd: not installed\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "updates"); n != 1 {
		t.Errorf("the measurement is named %d times:\n%s", n, out.String())
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-short -full", "-only nothing", "-sizes x", "-sizes 0", "-names 5000000", "-rounds -1", "left over"} {
		if o, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%q is accepted: %+v", args, o)
		}
	}
	o, err := parse([]string{"-short", "-sizes", "100,200", "-d", "2s"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.sizes) != 2 || o.duration != 2*time.Second || o.rounds != 1 || o.wait != 0 {
		t.Errorf("%+v", o)
	}
}
