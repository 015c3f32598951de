//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"
)

// A Resolver asks one DNS server by UDP, from a namespace. It is for one
// goroutine.
type Resolver struct {
	from   *Namespace
	server netip.AddrPort
	conn   *dns.Conn
}

const (
	askTimeout  = time.Second            // for one answer
	askAttempts = 30                     // of one question: a datagram may be lost, a machine be busy
	askInterval = 500 * time.Microsecond // between two questions that wait for a change
)

// Resolver makes a resolver; it opens its socket with the first question.
func (n *Namespace) Resolver(server netip.AddrPort) *Resolver {
	return &Resolver{from: n, server: server}
}

// Ask asks one question, again where no answer comes. What the server says,
// NXDOMAIN too, is an answer; no answer is an error.
func (r *Resolver) Ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(dns.DefaultMsgSize, false)
	m, err := r.exchange(ctx, q)
	for range askAttempts - 1 {
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			break
		}
		m, err = r.exchange(ctx, q)
	}
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("asking %s for %s %s: %w", r.server, name, dns.TypeToString[qtype], err)
	}
	return m, nil
}

func (r *Resolver) exchange(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.conn == nil {
		conn, err := r.from.Dial("udp4", r.server)
		if err != nil {
			return nil, err
		}
		r.conn = &dns.Conn{Conn: conn, UDPSize: dns.DefaultMsgSize}
	}
	deadline := time.Now().Add(askTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := r.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if err := r.conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		m, err := r.conn.ReadMsg()
		if err != nil || m.Id == q.Id {
			return m, err
		}
	}
}

// Await asks until an answer is as wanted, and returns it with the time at which
// it came. A server that does not answer is asked again; when the context ends
// the error tells the last answer.
func (r *Resolver) Await(ctx context.Context, name string, qtype uint16, wanted func(*dns.Msg) bool) (*dns.Msg, time.Time, error) {
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	answered, last := false, "none"
	for {
		m, err := r.Ask(ctx, name, qtype)
		now := time.Now()
		switch {
		case err == nil && wanted(m):
			return m, now, nil
		case err == nil:
			answered, last = true, Summary(m)
		case !answered:
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil, now, fmt.Errorf("waiting for %s %s, last answer %s: %w", name, dns.TypeToString[qtype], last, ctx.Err())
		case <-tick.C:
		}
	}
}

// Close closes the socket. The next question opens another.
func (r *Resolver) Close() error {
	if r.conn == nil {
		return nil
	}
	err := r.conn.Close()
	r.conn = nil
	return err
}

// Absent wants the answer that there is no such name (NXDOMAIN).
func Absent(m *dns.Msg) bool { return m.Rcode == dns.RcodeNameError }

// Present wants an answer that holds a record of the type that was asked for.
func Present(m *dns.Msg) bool {
	if m.Rcode != dns.RcodeSuccess {
		return false
	}
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == m.Question[0].Qtype {
			return true
		}
	}
	return false
}

// Summary is an answer in one line: its status and its records' data.
func Summary(m *dns.Msg) string {
	s := dns.RcodeToString[m.Rcode]
	if m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 {
		return s + ", no such record"
	}
	for _, rr := range m.Answer {
		s += "; " + rr.String()
	}
	return s
}
