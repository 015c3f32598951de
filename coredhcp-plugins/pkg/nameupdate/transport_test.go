package nameupdate

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// peer is a DNS server whose answers a test makes octet by octet. Respond gets
// each request, its number from 0 and how it came, and returns what to send.
type peer struct {
	t       *testing.T
	addr    string
	respond func(q request) [][]byte

	mu   sync.Mutex
	seen []request
}

type request struct {
	n    int
	tcp  bool
	msg  *dns.Msg
	size int
}

// listenBoth returns a TCP and a UDP socket of one port.
func listenBoth(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return l, u
		}
		l.Close() // the UDP port is somebody else's
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}

// patience is how long an answer that is to come is waited for, on a machine however busy.
const patience = time.Minute

func startPeer(t *testing.T, respond func(q request) [][]byte) *peer {
	t.Helper()
	l, u := listenBoth(t)
	p := &peer{t: t, addr: l.Addr().String(), respond: respond}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, answer := range p.answers(buf[:n], false) {
				_, _ = u.WriteTo(answer, from)
			}
		}
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err == nil {
				wire := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(conn, wire); err == nil {
					for _, answer := range p.answers(wire, true) {
						_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
					}
				}
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		_ = u.Close()
		wg.Wait()
	})
	return p
}

func (p *peer) answers(wire []byte, tcp bool) [][]byte {
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		p.t.Errorf("request: %v", err)
		return nil
	}
	p.mu.Lock()
	q := request{n: len(p.seen), tcp: tcp, msg: m, size: len(wire)}
	p.seen = append(p.seen, q)
	p.mu.Unlock()
	if p.respond == nil {
		return nil
	}
	return p.respond(q)
}

func (p *peer) requests() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]request(nil), p.seen...)
}

// answer is an answer to the request, signed unless secret is empty.
func answer(t *testing.T, q request, rcode int, secret string, change func(m *dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg).SetRcode(q.msg, rcode)
	if change != nil {
		change(m)
	}
	if secret == "" {
		wire, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return wire
	}
	ts := q.msg.IsTsig()
	m.SetTsig(ts.Hdr.Name, ts.Algorithm, fudge, time.Now().Unix())
	wire, _, err := dns.TsigGenerate(m, secret, ts.MAC, false)
	if err != nil {
		t.Error(err)
	}
	return wire
}

// tsigFailure is an answer to a request whose signature is refused.
func tsigFailure(t *testing.T, q request, code uint16, clock time.Time) []byte {
	t.Helper()
	m := new(dns.Msg).SetRcode(q.msg, dns.RcodeNotAuth)
	ts := *q.msg.IsTsig()
	ts.Error, ts.MAC, ts.MACSize = code, "", 0
	if code == dns.RcodeBadTime {
		ts.OtherData = hex.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(clock.Unix()))[2:])
		ts.OtherLen = 6
	}
	m.Extra = []dns.RR{&ts}
	wire, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return wire
}

func update() *dns.Msg {
	e, err := newEntry(change("pc1.imaging.example.org.", "192.0.2.101", clientA), time.Hour)
	if err != nil {
		panic(err)
	}
	return addUnused("imaging.example.org.", e)
}

func TestExchange(t *testing.T) {
	t.Parallel()
	good := func(t *testing.T, q request) []byte { return answer(t, q, dns.RcodeSuccess, secret, nil) }
	for _, tt := range []struct {
		name     string
		respond  func(t *testing.T, q request) [][]byte
		rcode    int
		err      string // part of the error, "" for none
		requests int
	}{
		{"signed success", func(t *testing.T, q request) [][]byte { return [][]byte{good(t, q)} }, dns.RcodeSuccess, "", 1},
		{"signed YXDOMAIN", func(t *testing.T, q request) [][]byte {
			return [][]byte{answer(t, q, dns.RcodeYXDomain, secret, nil)}
		}, dns.RcodeYXDomain, "", 1},
		{"first try lost", func(t *testing.T, q request) [][]byte {
			if q.n == 0 {
				return nil
			}
			return [][]byte{good(t, q)}
		}, dns.RcodeSuccess, "", 2},
		{"never answers", nil, 0, "does not answer: 3 tries", 4}, // the last by TCP
		{"unsigned success is no answer", func(t *testing.T, q request) [][]byte {
			return [][]byte{answer(t, q, dns.RcodeSuccess, "", nil)}
		}, 0, "the answer is not signed", 3},
		{"unsigned NXDOMAIN is no answer", func(t *testing.T, q request) [][]byte {
			return [][]byte{answer(t, q, dns.RcodeNameError, "", nil), good(t, q)}
		}, dns.RcodeSuccess, "", 1},
		{"unsigned refusal", func(t *testing.T, q request) [][]byte {
			return [][]byte{answer(t, q, dns.RcodeRefused, "", nil)}
		}, dns.RcodeRefused, "", 1},
		{"signed NOTAUTH", func(t *testing.T, q request) [][]byte {
			return [][]byte{answer(t, q, dns.RcodeNotAuth, secret, nil)}
		}, dns.RcodeNotAuth, "", 1},
		{"forged answers before the right one", func(t *testing.T, q request) [][]byte {
			return [][]byte{
				{1, 2, 3},
				answer(t, q, dns.RcodeSuccess, "AAAA", nil),                                                        // another secret
				answer(t, q, dns.RcodeSuccess, secret, func(m *dns.Msg) { m.Id++ }),                                // another ID
				answer(t, q, dns.RcodeRefused, "", func(m *dns.Msg) { m.Response = false }),                        // no response
				answer(t, q, dns.RcodeRefused, "", func(m *dns.Msg) { m.Opcode = dns.OpcodeQuery }),                // another kind
				answer(t, q, dns.RcodeRefused, "", func(m *dns.Msg) { m.Question[0].Name = "other.example.org." }), // another zone
				good(t, q),
			}
		}, dns.RcodeSuccess, "", 1},
		{"another secret", func(t *testing.T, q request) [][]byte {
			return [][]byte{answer(t, q, dns.RcodeSuccess, "AAAA", nil)}
		}, 0, "the signature of the answer", 3},
		{"BADKEY", func(t *testing.T, q request) [][]byte {
			return [][]byte{tsigFailure(t, q, dns.RcodeBadKey, time.Time{})}
		}, 0, "does not know key dhcp.example.org., or not with this algorithm (BADKEY)", 1},
		{"BADSIG", func(t *testing.T, q request) [][]byte {
			return [][]byte{tsigFailure(t, q, dns.RcodeBadSig, time.Time{})}
		}, 0, "has another secret for key dhcp.example.org. (BADSIG)", 1},
		{"BADTIME, server ahead", func(t *testing.T, q request) [][]byte {
			return [][]byte{tsigFailure(t, q, dns.RcodeBadTime, time.Now().Add(time.Hour+30*time.Second))}
		}, 0, "s ahead of this host's, 300 s are allowed", 1},
		{"BADTIME, server behind", func(t *testing.T, q request) [][]byte {
			return [][]byte{tsigFailure(t, q, dns.RcodeBadTime, time.Unix(0, 0))}
		}, 0, "behind this host's", 1},
		{"BADTRUNC", func(t *testing.T, q request) [][]byte {
			return [][]byte{tsigFailure(t, q, 22, time.Time{})}
		}, 0, "refuses key dhcp.example.org.: TSIG error BADTRUNC", 1},
		{"truncated", func(t *testing.T, q request) [][]byte {
			return [][]byte{answer(t, q, dns.RcodeSuccess, secret, func(m *dns.Msg) { m.Truncated = !q.tcp })}
		}, dns.RcodeSuccess, "", 2},
		{"truncated, and TCP says nothing", func(t *testing.T, q request) [][]byte {
			if q.tcp {
				return nil
			}
			return [][]byte{answer(t, q, dns.RcodeSuccess, secret, func(m *dns.Msg) { m.Truncated = true })}
		}, 0, "does not answer by TCP: EOF", 2},
		{"truncated, and TCP is unsigned", func(t *testing.T, q request) [][]byte {
			return [][]byte{answer(t, q, dns.RcodeSuccess, map[bool]string{false: secret}[q.tcp], func(m *dns.Msg) { m.Truncated = !q.tcp })}
		}, 0, "does not answer by TCP: the answer is not signed", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startPeer(t, func(q request) [][]byte {
				if tt.respond == nil {
					return nil
				}
				return tt.respond(t, q)
			})
			c := &client{server: p.addr, key: testKey(t, "dhcp.example.org", "", secret), timeout: patience, tries: 3}
			switch {
			case tt.requests >= c.tries:
				c.timeout = 500 * time.Millisecond // each of them is waited for in vain
			case tt.name == "first try lost":
				c.timeout = 3 * time.Second // once in vain
			}
			m := update()
			r, err := c.exchange(t.Context(), m)
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, %v, want an error with %q", r, err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case r.Rcode != tt.rcode:
				t.Errorf("got %s", rcodeName(r.Rcode))
			}
			seen := p.requests()
			if len(seen) != tt.requests {
				t.Errorf("%d requests, want %d", len(seen), tt.requests)
			}
			ids := make(map[uint16]bool)
			for _, q := range seen {
				ids[q.msg.Id] = true
				if q.msg.IsTsig() == nil {
					t.Error("a request is not signed")
				}
				if !q.tcp && q.size > maxUDP {
					t.Errorf("%d octets by UDP", q.size)
				}
			}
			if len(seen) > 0 && len(ids) != len(seen) {
				t.Error("two requests with one ID")
			}
			if m.IsTsig() != nil {
				t.Error("the signature stays in the message")
			}
		})
	}
}

func TestExchangeLateAnswer(t *testing.T) {
	var first request
	p := startPeer(t, func(q request) [][]byte {
		if q.n == 0 {
			first = q
			return nil
		}
		return [][]byte{answer(t, first, dns.RcodeSuccess, secret, nil)}
	})
	c := &client{server: p.addr, key: testKey(t, "dhcp.example.org", "", secret), timeout: 500 * time.Millisecond, tries: 20}
	if r, err := c.exchange(t.Context(), update()); err != nil || r.Rcode != dns.RcodeSuccess {
		t.Errorf("the answer to the first try does not count: %v", err)
	}
}

func TestExchangeLongMessage(t *testing.T) {
	p := startPeer(t, func(q request) [][]byte { return [][]byte{answer(t, q, dns.RcodeSuccess, secret, nil)} })
	label := strings.Repeat("k", 63)
	c := &client{server: p.addr, key: testKey(t, label+"."+label+"."+label+".example.org", "hmac-sha512", secret), timeout: patience, tries: 2}
	e, err := newEntry(change(strings.Repeat(label+".", 2)+"imaging.example.org.", "192.0.2.101", clientA), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second would fail if a signature covered a connection
		if r, err := c.exchange(t.Context(), addUnused("imaging.example.org.", e)); err != nil || r.Rcode != dns.RcodeSuccess {
			t.Error(err)
		}
	}
	for _, q := range p.requests() {
		if !q.tcp || q.size <= maxUDP {
			t.Errorf("%d octets, TCP %v", q.size, q.tcp)
		}
	}
}

func TestExchangeNobodyListens(t *testing.T) {
	c := &client{server: "127.0.0.1:1", timeout: patience, tries: 3} // a port that nobody is given
	start := time.Now()
	_, err := c.exchange(t.Context(), update())
	if _, ok := errors.AsType[*serverError](err); !ok || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > patience/2 {
		t.Errorf("found out after %s", d)
	}
	if _, err := c.overTCP(t.Context(), update()); err == nil || !strings.Contains(err.Error(), "does not answer by TCP") {
		t.Errorf("got %v", err)
	}
}

func TestExchangeStopsWithContext(t *testing.T) {
	p := startPeer(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	c := &client{server: p.addr, timeout: patience, tries: 3}
	start := time.Now()
	for _, name := range []string{"ends meanwhile", "ended before"} {
		if _, err := c.exchange(ctx, update()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := c.overTCP(ctx, update()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, TCP: got %v", name, err)
		}
	}
	if d := time.Since(start); d > patience/2 {
		t.Errorf("stopped after %s", d)
	}
}

// FuzzOpen: no answer makes the reader panic, and none that is not signed with
// the key counts as done.
func FuzzOpen(f *testing.F) {
	c := &client{server: "192.0.2.2:53", key: testKey(f, "dhcp.example.org", "", secret)}
	m := update()
	m.Id = 1
	for _, rcode := range []int{dns.RcodeSuccess, dns.RcodeRefused} {
		r := new(dns.Msg).SetRcode(m, rcode)
		wire, err := r.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
		r.SetTsig(c.key.Name, c.key.Algorithm, fudge, time.Now().Unix())
		if wire, err = r.Pack(); err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		if r, err := c.open(wire, m, map[uint16]string{1: "00"}); err == nil && !refusal(r.Rcode) {
			t.Errorf("%s counts", rcodeName(r.Rcode))
		}
	})
}
