//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// updateTimeout is how long a client waits for the answer to an UPDATE.
const updateTimeout = 2 * time.Second

// repeatAfter is when a client repeats an UPDATE over UDP for the first time;
// then it waits twice as long.
const repeatAfter = 100 * time.Millisecond

// An updateLoad is clients that each send one UPDATE after the other.
type updateLoad struct {
	to       netip.AddrPort
	zone     string
	network  string // "udp" or "tcp": a connection for each client
	clients  int
	prefix   string // of the names; none may be used twice
	duration time.Duration
	limit    int // of updates
}

// A request is a signed UPDATE.
type request struct {
	id   uint16
	wire []byte
	mac  string
}

// run sends updates until the duration or the limit is reached.
func (l updateLoad) run(ctx context.Context) *sample {
	var (
		next    atomic.Int64
		wg      sync.WaitGroup
		samples = make([]*sample, l.clients)
		ready   = make([]updateClient, l.clients)
	)
	for c := range ready {
		ready[c].load = &l
		// Before the clock starts. What fails here fails again below.
		_ = ready[c].connect()
	}
	start := time.Now()
	ctx, cancel := context.WithDeadline(ctx, start.Add(l.duration))
	defer cancel()
	for c := range ready {
		s, client := newSample(), &ready[c]
		samples[c] = s
		wg.Go(func() {
			defer func() {
				client.close()
				s.repeated += client.repeated
			}()
			for {
				n := int(next.Add(1)) - 1
				if n >= l.limit {
					return
				}
				if ctx.Err() != nil {
					return
				}
				sent := time.Now()
				if err := client.update(n); err != nil {
					s.fail(err)
					continue
				}
				s.latencies = append(s.latencies, time.Since(sent))
			}
		})
	}
	wg.Wait()
	all := newSample()
	for _, s := range samples {
		all.merge(s)
	}
	all.elapsed = time.Since(start)
	return all
}

// An updateClient is one client of an updateLoad.
type updateClient struct {
	load     *updateLoad
	conn     *dns.Conn // nil before the first update and after an error
	verified bool      // one answer's signature
	repeated int       // requests
}

func (c *updateClient) connect() error {
	if c.conn != nil {
		return nil
	}
	conn, err := net.DialTimeout(c.load.network, c.load.to.String(), updateTimeout)
	if err != nil {
		return err
	}
	c.conn = &dns.Conn{Conn: conn}
	return nil
}

func (c *updateClient) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is in flight
		c.conn = nil
	}
}

// request is the UPDATE that adds the n-th name: the first step of RFC 4703
// section 5.3.1, which succeeds only if the name is not in use.
//
// It is signed here and not by the connection: dns.Conn would take the MAC of one
// request into the signature of the next, as is right within one answer only, and
// servers refuse that.
func (l updateLoad) request(n int) (request, error) {
	name := fmt.Sprintf("%s-%07d.%s", l.prefix, n, l.zone)
	header := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: 300}
	}
	a := &dns.A{Hdr: header(dns.TypeA), A: address(n).AsSlice()}
	m := new(dns.Msg).SetUpdate(l.zone)
	m.Id = uint16(n)
	m.NameNotUsed([]dns.RR{a})
	m.Insert([]dns.RR{a, &dns.DHCID{Hdr: header(dns.TypeDHCID), Digest: dhcid(name)}})
	m.SetTsig(keyName, dns.HmacSHA256, 300, time.Now().Unix())
	wire, mac, err := dns.TsigGenerate(m, secret, "", false)
	return request{m.Id, wire, mac}, err
}

// update adds the n-th name.
func (c *updateClient) update(n int) (err error) {
	r, err := c.load.request(n)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.close() // a late answer must not be taken for the next
		}
	}()
	if err := c.connect(); err != nil {
		return err
	}
	answer, again, err := c.exchange(r.wire, r.id)
	if err != nil {
		return err
	}
	return r.check(answer, again, &c.verified)
}

// check says what is wrong with the answer to a request, which may have been sent more
// than once. A signature is verified once: the time that it takes is the server's.
func (r request) check(answer []byte, again bool, verified *bool) error {
	switch rcode := int(answer[3] & 0xf); {
	case rcode == dns.RcodeYXDomain && again:
		return nil // it was done the first time, and that answer was late or lost
	case rcode != dns.RcodeSuccess:
		return errors.New(dns.RcodeToString[rcode])
	case binary.BigEndian.Uint16(answer[10:]) == 0:
		return errors.New("unsigned answer")
	case !*verified:
		*verified = true
		return dns.TsigVerify(answer, secret, r.mac, false)
	}
	return nil
}

// exchange sends a request and returns the answer, and whether the request was
// sent more than once: over UDP that is up to the client, and DHCP servers do.
func (c *updateClient) exchange(request []byte, id uint16) (answer []byte, again bool, err error) {
	end := time.Now().Add(updateTimeout)
	for wait := repeatAfter; ; wait *= 2 {
		deadline := end
		if c.load.network == "udp" && time.Until(end) > wait {
			deadline = time.Now().Add(wait)
		}
		if err := c.conn.SetDeadline(deadline); err != nil {
			return nil, again, err
		}
		if _, err := c.conn.Write(request); err != nil {
			return nil, again, err
		}
		var h dns.Header
		for {
			// Of another ID is what came late to an earlier request.
			if answer, err = c.conn.ReadMsgHeader(&h); err != nil || h.Id == id {
				break
			}
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || deadline.Equal(end) {
			return answer, again, err
		}
		again = true
		c.repeated++
	}
}

// reason is an error as the table counts it.
func reason(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.As(err, &op):
		return op.Op + " error"
	}
	return err.Error()
}
