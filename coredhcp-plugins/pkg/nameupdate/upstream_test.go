package nameupdate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// switchable is a server that can be away.
type switchable struct {
	exchanger
	mu    sync.Mutex
	err   error // nil: it answers
	asked int
}

func (s *switchable) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	s.mu.Lock()
	s.asked++
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.exchanger.exchange(ctx, m)
}

func (s *switchable) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *switchable) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.asked
	s.asked = 0
	return n
}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{zones: []string{"example.org."}}
		first, second := &switchable{exchanger: d, err: errTimeout}, &switchable{exchanger: d}
		u := &upstream{name: "both", servers: []exchanger{first, second}}
		want := func(a, b int, fails bool) {
			t.Helper()
			_, err := u.exchange(t.Context(), update())
			if x, y := first.count(), second.count(); x != a || y != b || (err != nil) != fails {
				t.Errorf("asked %d and %d times, want %d and %d: %v", x, y, a, b, err)
			}
		}
		want(1, 1, false)
		want(0, 1, false) // the one that answered
		time.Sleep(preferAgain + time.Second)
		want(1, 1, false)
		want(0, 1, false)
		first.set(nil)
		time.Sleep(preferAgain + time.Second)
		want(1, 0, false)
		want(1, 0, false)
		first.set(&keyError{server: "a", key: "k"}) // it is there
		want(1, 0, true)
		first.set(errTimeout)
		second.set(&tcpError{server: "b", err: errors.New("refused")})
		want(1, 1, true)
	})
}

// TestFailoverIsLogged has one server of two away for long, and back: the log has a line for each, whatever is sent.
func TestFailoverIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{zones: []string{"example.org."}}
		first, second := &switchable{exchanger: d, err: errTimeout}, &switchable{exchanger: d}
		log := new(logBuffer)
		u := &upstream{name: "192.0.2.2:53,192.0.2.3:53", hosts: []string{"192.0.2.2:53", "192.0.2.3:53"}, servers: []exchanger{first, second}, log: slog.New(slog.NewTextHandler(log, nil))}
		for minutes, want := range []int{1, 1, 1, 2, 2} {
			if minutes == 3 {
				first.set(nil)
			}
			for range 5 {
				if _, err := u.exchange(t.Context(), update()); err != nil {
					t.Fatal(err)
				}
			}
			if n := strings.Count(log.String(), "server=192.0.2.2:53"); n != want {
				t.Errorf("after %d minutes %d lines, want %d:\n%s", minutes, n, want, log)
			}
			time.Sleep(preferAgain + time.Second)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "server does not answer") || !strings.Contains(log.String(), "server answers again") {
			t.Errorf("log:\n%s", log)
		}
	})
}

// TestFailoverOfZone has the first server not able, or not willing, to do what is asked about one zone: the next one is
// asked (RFC 2136 section 4), and the first again for what comes then. One that does not answer is not waited for each time.
func TestFailoverOfZone(t *testing.T) {
	answers := func(rcode int) *directory {
		return &directory{zones: []string{"example.org."}, update: func(m *dns.Msg) (int, error) {
			if m.Question[0].Name == "example.org." {
				return rcode, nil
			}
			return success, nil
		}}
	}
	for _, rcode := range []int{servfail, dns.RcodeNotImplemented, notauth, refused} {
		t.Run(rcodeName(rcode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second := &switchable{exchanger: answers(rcode)}, &switchable{exchanger: answers(success)}
				u := &upstream{name: "both", servers: []exchanger{first, second}}
				want := func(zone string, a, b, rcode int) {
					t.Helper()
					r, err := u.exchange(t.Context(), new(dns.Msg).SetUpdate(zone))
					if x, y := first.count(), second.count(); x != a || y != b || err != nil || r.Rcode != rcode {
						t.Errorf("asked %d and %d times, want %d and %d: %v %v", x, y, a, b, err, r)
					}
				}
				want("example.org.", 1, 1, success)
				want("example.net.", 1, 0, success)
				want("example.org.", 1, 1, success)
				second.set(errTimeout) // then what the first said is what there is
				want("example.org.", 1, 1, rcode)
				want("example.org.", 1, 0, rcode)
				time.Sleep(preferAgain + time.Second)
				want("example.org.", 1, 1, rcode)
				want("example.org.", 1, 0, rcode)
				second.exchanger = answers(nxrrset)
				second.set(nil)
				time.Sleep(preferAgain + time.Second)
				want("example.org.", 1, 1, nxrrset)
				want("example.org.", 1, 1, nxrrset)
				second.exchanger = answers(rcode)
				want("example.org.", 1, 1, rcode)
				first.exchanger = answers(yxdomain) // that is an answer
				want("example.org.", 1, 0, yxdomain)
				first.set(errTimeout)
				want("example.net.", 1, 1, success)
				want("example.org.", 0, 1, rcode) // by the second one
				second.set(errTimeout)
				first.set(nil)
				want("example.org.", 1, 1, yxdomain)
			})
		})
	}
}

// TestOneServerDown has the server of the reverse zones away: names have their addresses all the same, and the pointers
// follow when it is back.
func TestOneServerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		made := map[string]int{}
		d := &directory{zones: []string{"example.org.", "2.0.192.in-addr.arpa.", "3.0.192.in-addr.arpa.", "4.0.192.in-addr.arpa.", "5.0.192.in-addr.arpa."}, update: func(m *dns.Msg) (int, error) {
			mu.Lock()
			made[m.Ns[0].Header().Name]++
			mu.Unlock()
			time.Sleep(roundTrip)
			return success, nil
		}}
		forward, reverse := &switchable{exchanger: d}, &switchable{exchanger: d}
		log, q := new(logBuffer), newFakeQueue()
		w := newWorker(Config{Logger: slog.New(slog.NewTextHandler(log, nil))}.withDefaults(), q, &routes{
			routes: []Route{{"example.org.", []string{"192.0.2.2:53"}}, {"in-addr.arpa.", []string{"192.0.2.3:53"}}}, made: make(map[string]*upstream),
			dial: func(server string, _ tsigkey.Key, _ bool) exchanger {
				return map[string]exchanger{"192.0.2.2:53": forward, "192.0.2.3:53": reverse}[server]
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		q.put(numbered(0, 10, "example.org.")...)
		time.Sleep(time.Second)
		reverse.set(errTimeout)
		q.put(numbered(10, 500, "example.org.")...)
		time.Sleep(2 * time.Second)
		mu.Lock()
		there := 0
		for name := range made {
			if strings.HasSuffix(name, ".example.org.") {
				there++
			}
		}
		mu.Unlock()
		if _, _, done := q.state(); there != 510 || done != 10 {
			t.Errorf("%d names have an address, %d are done", there, done)
		}
		s := w.Stats()
		if fmt.Sprint(s.Servers) != "[{192.0.2.2:53 true} {192.0.2.3:53 false}]" {
			t.Errorf("servers %v", s.Servers)
		}
		reverse.count()
		time.Sleep(time.Minute)
		if n := reverse.count(); n > 30 {
			t.Errorf("the server that is away was asked %d times in a minute", n)
		}
		reverse.set(nil)
		time.Sleep(30 * time.Second)
		if _, _, done := q.state(); done != 510 {
			t.Errorf("%d are done half a minute after the return", done)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("log:\n%s", log)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestRoutes(t *testing.T) {
	key := func(name string) tsigkey.Key { return testKey(t, name, "hmac-sha256", secret) }
	r := &routes{
		routes: []Route{{".", []string{"192.0.2.2:53"}}, {"2.0.192.in-addr.arpa.", []string{"192.0.2.3:53", "192.0.2.4:53"}}},
		keys:   []ZoneKey{{".", key("all.")}, {"example.org.", key("org.")}, {"sub.example.org.", key("sub.")}},
		made:   make(map[string]*upstream),
		dial: func(server string, key tsigkey.Key, _ bool) exchanger {
			return &client{server: server, key: key}
		},
	}
	for name, want := range map[string]string{
		"pc.example.net.":           "192.0.2.2:53 all.",
		"pc.example.org.":           "192.0.2.2:53 org.",
		"pc.sub.example.org.":       "192.0.2.2:53 sub.",
		"7.2.0.192.in-addr.arpa.":   "192.0.2.3:53,192.0.2.4:53 all.",
		"notexample.org.":           "192.0.2.2:53 all.",
		"7.12.0.192.in-addr.arpa.":  "192.0.2.2:53 all.",
		"2.0.192.in-addr.arpa.":     "192.0.2.3:53,192.0.2.4:53 all.",
		"7.2.0.192.in-addr.arpa.x.": "192.0.2.2:53 all.",
	} {
		u, err := r.of(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.name + " " + u.servers[0].(*client).key.Name; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if n := len(r.upstreams()); n != 4 {
		t.Errorf("%d upstreams", n)
	}
	none := &routes{made: make(map[string]*upstream)}
	if _, err := none.of(t.Context(), "a.example."); err == nil || !strings.Contains(err.Error(), "no server is given") {
		t.Error(err)
	}
}

// TestResolverDown has the resolvers away at the start, and later again: what they are asked for waits, and of each outage
// the log says when it begins and when it is over.
func TestResolverDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := &switchable{exchanger: resolving{
			"zone example.org.": "ns.example.org.", "zone example.net.": "ns.example.org.", "zone 192.in-addr.arpa.": "ns.example.org.", "ns.example.org.": "192.0.2.2",
			"zone 0.192.in-addr.arpa.": "ns.example.org.", "zone 2.0.192.in-addr.arpa.": "ns.example.org.",
		}, err: errTimeout}
		d := &directory{zones: []string{"example.org.", "example.net.", "2.0.192.in-addr.arpa."}}
		log, q := new(logBuffer), newFakeQueue()
		r := &routes{made: make(map[string]*upstream), dial: func(string, tsigkey.Key, bool) exchanger { return d }}
		r.resolver = &resolver{up: &upstream{name: "192.0.2.53:53", servers: []exchanger{known}}, known: make(map[string]primaryEntry)}
		w := newWorker(Config{Logger: slog.New(slog.NewTextHandler(log, nil))}.withDefaults(), q, r)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		want := func(done, lines int, held bool) {
			t.Helper()
			if _, _, n := q.state(); n != done {
				t.Errorf("%d changes are done, want %d", n, done)
			}
			if n := strings.Count(log.String(), "\n"); n != lines || strings.Count(log.String(), "reach DNS again") != lines/2 {
				t.Errorf("log:\n%s", log)
			}
			if s := w.Stats(); (q.heldBy() != "") != held || s.Down() != (lines%2 == 1) {
				t.Errorf("held %q, servers %v", q.heldBy(), s.Servers)
			}
		}
		q.put(numbered(1, 1, "example.org.")...)
		time.Sleep(time.Minute)
		want(0, 1, true)
		known.set(nil)
		time.Sleep(time.Minute)
		want(1, 2, false)
		known.set(errTimeout)
		q.put(numbered(2, 1, "example.net.")...)
		time.Sleep(time.Minute)
		want(1, 3, false)
		q.put(numbered(3, 1, "example.org.")...)
		time.Sleep(time.Second)
		want(2, 3, false)
		known.set(nil)
		time.Sleep(time.Minute)
		want(3, 4, false)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestPrimaryMoves has the primary move while it does not answer: what waits goes to where it is then, and the old one is
// not down for ever. One that is configured stays down.
func TestPrimaryMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := new(moving)
		move := func(address string) {
			known.Store(&resolving{"zone example.org.": "ns.example.org.", "zone 2.0.192.in-addr.arpa.": "ns.example.org.", "ns.example.org.": address})
		}
		move("192.0.2.2")
		d := &directory{zones: []string{"example.org.", "2.0.192.in-addr.arpa."}}
		servers := map[string]*switchable{"192.0.2.2:53": {exchanger: d}, "192.0.2.3:53": {exchanger: d}, "192.0.2.9:53": {exchanger: d}}
		log, q := new(logBuffer), newFakeQueue()
		r := &routes{
			routes: []Route{{"example.net.", []string{"192.0.2.9:53"}}}, made: make(map[string]*upstream),
			dial: func(server string, _ tsigkey.Key, _ bool) exchanger { return servers[server] },
		}
		r.resolver = &resolver{up: &upstream{name: "192.0.2.53:53", servers: []exchanger{known}}, known: make(map[string]primaryEntry)}
		w := newWorker(Config{Logger: slog.New(slog.NewTextHandler(log, nil))}.withDefaults(), q, r)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		want := func(done int, server ...string) {
			t.Helper()
			_, _, n := q.state()
			if got := fmt.Sprint(w.Stats().Servers); n != done || got != "["+strings.Join(server, " ")+"]" {
				t.Errorf("%d changes are done, want %d; servers %s, want %s", n, done, got, server)
			}
		}
		const resolvers = "{192.0.2.53:53 true}"
		q.put(numbered(1, 1, "example.org.")...)
		time.Sleep(time.Minute)
		want(1, "{192.0.2.2:53 true}", resolvers)
		servers["192.0.2.2:53"].set(errTimeout)
		servers["192.0.2.9:53"].set(errTimeout)
		q.put(numbered(2, 1, "example.org.")...)
		q.put(numbered(3, 1, "example.net.")...)
		time.Sleep(3 * zoneLife) // what waits keeps it
		want(1, "{192.0.2.2:53 false}", resolvers, "{192.0.2.9:53 false}")
		move("192.0.2.3")
		time.Sleep(3*zoneLife + time.Minute)
		want(2, "{192.0.2.3:53 true}", resolvers, "{192.0.2.9:53 false}")
		if n := strings.Count(log.String(), "is not asked any more"); n != 1 {
			t.Errorf("log:\n%s", log)
		}
		move("192.0.2.2") // and back
		servers["192.0.2.2:53"].set(nil)
		time.Sleep(2*zoneLife + time.Minute)
		q.put(numbered(4, 1, "example.org.")...)
		time.Sleep(time.Minute)
		want(3, "{192.0.2.2:53 true}", "{192.0.2.3:53 true}", resolvers, "{192.0.2.9:53 false}")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// resolving is a resolver that knows some zones and addresses.
type resolving map[string]string // zone: MNAME, host: address

func (r resolving) exchange(_ context.Context, m *dns.Msg) (*dns.Msg, error) {
	a := new(dns.Msg).SetReply(m)
	q := m.Question[0]
	if q.Qtype == dns.TypeSOA {
		if target, ok := r["alias "+q.Name]; ok {
			a.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: target}}
			q.Name = target
		}
		for zone := q.Name; ; zone = parent(zone) {
			if mname, ok := r["zone "+zone]; ok {
				soa := &dns.SOA{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: mname, Mbox: "x."}
				if zone == q.Name {
					a.Answer = []dns.RR{soa}
				} else {
					a.Rcode, a.Ns = nxdomain, []dns.RR{soa}
				}
				return a, nil
			}
			if zone == "." {
				a.Rcode = servfail
				return a, nil
			}
		}
	}
	if address, ok := r[q.Name]; ok && q.Qtype == dns.TypeA {
		a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(address)}}
	}
	return a, nil
}

// moving is a resolver that learns.
type moving struct{ atomic.Pointer[resolving] }

func (m *moving) exchange(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	return m.Load().exchange(ctx, q)
}

func TestResolver(t *testing.T) {
	known := resolving{
		"zone example.org.": "Primary.example.org.", "primary.example.org.": "192.0.2.2",
		"zone 2.0.192.in-addr.arpa.": "ns.example.net.", "ns.example.net.": "198.51.100.2",
		"zone org.": "a0.org.example.", "a0.org.example.": "203.0.113.1",
		"zone 192.in-addr.arpa.": "z.arin.example.", "z.arin.example.": "203.0.113.2",
		"zone 10.in-addr.arpa.": "prisoner.iana.org.", "prisoner.iana.org.": "192.175.48.1",
		"zone 16.172.in-addr.arpa.": "localhost.", "localhost.": "127.0.0.1",
		"zone lost.example.":    "nowhere.example.",
		"zone sub.example.org.": "ns.example.net.", "alias www.sub.example.org.": "pc.example.org.",
	}
	for name, want := range map[string]string{
		"pc.example.org.":          "192.0.2.2:53",
		"example.org.":             "192.0.2.2:53",
		"7.2.0.192.in-addr.arpa.":  "198.51.100.2:53",
		"pc.missing.org.":          "the zone above it is org., which is not the site's",
		"7.3.0.192.in-addr.arpa.":  "the zone above it is 192.in-addr.arpa., which is not the site's",
		"7.0.0.10.in-addr.arpa.":   "has the primary prisoner.iana.org., which stands for none",
		"7.0.16.172.in-addr.arpa.": "has the primary localhost., which stands for none",
		"pc.lost.example.":         "its primary nowhere.example. has no address",
		"pc.example.com.":          "SERVFAIL",
		"www.sub.example.org.":     "198.51.100.2:53",
	} {
		r := &routes{made: make(map[string]*upstream), dial: func(server string, _ tsigkey.Key, _ bool) exchanger { return &client{server: server} }}
		r.resolver = &resolver{up: &upstream{name: "192.0.2.53:53", servers: []exchanger{known}}, known: make(map[string]primaryEntry)}
		for range 2 {
			u, err := r.of(t.Context(), name)
			got := fmt.Sprint(err)
			if err == nil {
				got = u.name
			}
			if err == nil && got != want || !strings.Contains(got, want) {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
}

// tcpServer answers everything over TCP at an address where nobody takes UDP, and tells how many connections there were.
func tcpServer(t *testing.T, key tsigkey.Key) (addr string, connections func() int) {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]bool{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{
		Listener: l, TsigSecret: map[string]string{key.Name: key.Secret()},
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			mu.Lock()
			seen[w.RemoteAddr().String()] = true
			mu.Unlock()
			m := new(dns.Msg).SetReply(r)
			if w.TsigStatus() != nil {
				m.Rcode = dns.RcodeNotAuth
			}
			m.SetTsig(key.Name, key.Algorithm, fudge, time.Now().Unix())
			if w.TsigStatus() != nil {
				m.IsTsig().Error = dns.RcodeBadSig
			}
			_ = w.WriteMsg(m)
		}),
	}
	go func() { _ = srv.ActivateAndServe() }()
	t.Cleanup(func() { _ = srv.Shutdown() })
	return l.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
}

// TestTCPInstead asks a server that refuses UDP. Connections are used again, and each message is signed by itself.
func TestTCPInstead(t *testing.T) {
	key := testKey(t, "dhcp.example.org", "hmac-sha256", secret)
	addr, connections := tcpServer(t, key)
	c := &client{server: addr, key: key, timeout: patience, tries: 2}
	for range 50 {
		r, err := c.exchange(t.Context(), update())
		if err != nil || r.Rcode != success {
			t.Fatal(r, err)
		}
	}
	if n := connections(); n != 1 {
		t.Errorf("%d connections for one exchange after another", n)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				if r, err := c.exchange(t.Context(), update()); err != nil || r.Rcode != success {
					t.Error(r, err)
				}
			}
		})
	}
	wg.Wait()
	if n := connections(); n > 17 {
		t.Errorf("%d connections for 16 exchanges at a time", n)
	}
	c.close()
	if r, err := c.exchange(t.Context(), update()); err != nil || r.Rcode != success {
		t.Error(r, err)
	}
}

// TestTCPWhereUDPIsSilent asks a server whose answers come by TCP alone: of an exchange that UDP fails, and of those that follow.
func TestTCPWhereUDPIsSilent(t *testing.T) {
	key := testKey(t, "dhcp.example.org", "hmac-sha256", secret)
	addr, connections := tcpServer(t, key)
	silent, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := &client{server: addr, key: key, timeout: 3 * time.Second, tries: 1}
	for range 3 {
		if r, err := c.exchange(t.Context(), update()); err != nil || r.Rcode != success {
			t.Fatal(r, err)
		}
	}
	asked := func() (n int) {
		_ = silent.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		for buffer := make([]byte, maxUDPRead); ; n++ {
			if _, _, err := silent.ReadFrom(buffer); err != nil {
				return n
			}
		}
	}
	if messages, n := asked(), connections(); messages != 1 || n != 1 {
		t.Errorf("%d messages by UDP, %d connections", messages, n)
	}
	c.tcpUntil.Store(time.Now().Add(-time.Second).UnixNano()) // one exchange tries again
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if r, err := c.exchange(t.Context(), update()); err != nil || r.Rcode != success {
				t.Error(r, err)
			}
		})
	}
	wg.Wait()
	if n := asked(); n != 1 {
		t.Errorf("%d messages by UDP, 16 exchanges later", n)
	}
	c.tcpUntil.Store(time.Now().Add(-time.Second).UnixNano()) // one does that is given up, and knows no better
	hasty, cancel := context.WithCancel(t.Context())
	_ = silent.SetReadDeadline(time.Time{})
	wg.Go(func() {
		_, _, _ = silent.ReadFrom(make([]byte, maxUDPRead))
		cancel()
	})
	if _, err := c.exchange(hasty, update()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wg.Wait()
	if r, err := c.exchange(t.Context(), update()); err != nil || r.Rcode != success {
		t.Error(r, err)
	}
	if n := asked(); n != 0 {
		t.Errorf("%d messages by UDP after one was given up", n)
	}
	other := &client{server: addr, key: testKey(t, "dhcp.example.org", "hmac-sha256", strings.Repeat("b3Ro", 8)), timeout: c.timeout, tries: 1}
	if _, err := other.exchange(t.Context(), update()); !fails[*keyError](err) {
		t.Error(err)
	}
}

// TestTCPClosedByServer uses a connection that the server closed meanwhile.
func TestTCPClosedByServer(t *testing.T) {
	key := testKey(t, "dhcp.example.org", "hmac-sha256", secret)
	addr, connections := tcpServer(t, key)
	c := &client{server: addr, key: key, timeout: patience, tries: 2}
	for n := range 3 {
		if _, err := c.exchange(t.Context(), update()); err != nil {
			t.Fatal(err)
		}
		c.tcp.mu.Lock()
		for _, s := range c.tcp.idle {
			_ = s.Conn.(*net.TCPConn).CloseWrite()
		}
		c.tcp.mu.Unlock()
		if got := connections(); got != n+1 {
			t.Errorf("%d connections after %d were closed", got, n)
		}
	}
}
