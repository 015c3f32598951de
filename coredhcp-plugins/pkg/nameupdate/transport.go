package nameupdate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
	"github.com/miekg/dns"
)

const (
	fudge      = 300  // seconds by which clocks may differ (RFC 8945 section 10)
	maxUDP     = 512  // octets of a message that any server takes by UDP (RFC 1035 section 4.2.1)
	maxUDPRead = 4096 // octets of an answer; longer ones are truncated and fail to parse
	longWait   = 4    // no try waits longer than this many timeouts
)

// client exchanges messages with one server. An exchange has a connected socket of
// its own while it lasts: the system picks its port at random, drops what comes
// from another address, and reports at once that nobody listens. A TSIG signature
// covers the one message and its answer, never a connection (with dns.Conn it
// would: it mixes the previous MAC into the next message, which the server then
// refuses).
type client struct {
	server  string
	key     tsigkey.Key
	timeout time.Duration
	tries   int

	udp, tcp pool
	// tcpUntil is the Unix time in nanoseconds until which everything goes by TCP, since UDP brought no answer and TCP did; 0: none does.
	tcpUntil atomic.Int64
}

// tcpInstead is how long a server that answers by TCP, and not by UDP, is asked by TCP alone.
const tcpInstead = time.Minute

var _ exchanger = (*client)(nil)

var (
	errUnsigned = errors.New("the answer is not signed")
	errNoAnswer = errors.New("no answer")
)

// exchange sends m by UDP, repeated with a new ID and a new time until an answer
// to any of the tries comes, or by TCP where m or the answer is too long for UDP,
// or where none comes: a firewall may let TCP through alone.
// Answers that do not verify are not answers. A *serverError means that no try was
// answered, a *keyError that the server refuses the signature.
func (c *client) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	wire, mac, err := c.sign(m)
	if err != nil {
		return nil, err
	}
	until := c.tcpUntil.Load()
	if len(wire) > maxUDP || until != 0 && !c.triesUDP(until) {
		return c.overTCP(ctx, m)
	}
	r, err := c.overUDP(ctx, m, wire, mac)
	switch {
	case err == nil && r.Truncated:
		return c.overTCP(ctx, m)
	case (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errNoAnswer)) && ctx.Err() == nil:
		if r, terr := c.overTCP(ctx, m); terr == nil || fails[*keyError](terr) {
			c.tcpUntil.Store(time.Now().Add(tcpInstead).UnixNano())
			return r, terr
		}
	}
	if until != 0 && ctx.Err() == nil { // else it was given up before UDP could show anything
		c.tcpUntil.Store(0)
	}
	return r, err
}

// triesUDP says whether an exchange is the one that finds out whether UDP brings answers by now; the others do not wait for it.
func (c *client) triesUDP(until int64) bool {
	now := time.Now()
	return now.UnixNano() >= until && c.tcpUntil.CompareAndSwap(until, now.Add(tcpInstead).UnixNano())
}

func (c *client) close() {
	c.udp.close()
	c.tcp.close()
}

// sign gives m a new ID and returns it as it goes out, with the MAC that its
// answer is signed over. m itself stays unsigned. Names are compressed where that
// is needed for UDP: it takes longer than all the rest of packing.
func (c *client) sign(m *dns.Msg) (wire []byte, mac string, err error) {
	if wire, mac, err = c.pack(m); err == nil && len(wire) > maxUDP && !m.Compress {
		m.Compress = true
		return c.pack(m)
	}
	return wire, mac, err
}

func (c *client) pack(m *dns.Msg) (wire []byte, mac string, err error) {
	m.Id = dns.Id()
	if c.key.Name == "" {
		wire, err = m.Pack()
	} else {
		m.SetTsig(c.key.Name, c.key.Algorithm, fudge, time.Now().Unix())
		wire, mac, err = dns.TsigGenerate(m, c.key.Secret(), "", false)
	}
	if err != nil {
		return nil, "", fmt.Errorf("building a message for zone %s: %w", m.Question[0].Name, err)
	}
	return wire, mac, nil
}

func (c *client) overUDP(ctx context.Context, m *dns.Msg, wire []byte, mac string) (*dns.Msg, error) {
	var err error
	conn := c.udp.get(0)
	if conn == nil {
		var dialer net.Dialer
		dialed, err := dialer.DialContext(ctx, "udp", c.server)
		if err != nil {
			return nil, c.failed(ctx, err)
		}
		conn = &socket{Conn: dialed}
	}
	answered := false
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if stop() && answered {
			c.udp.put(conn, udpLife)
		} else {
			_ = conn.Close() // what comes late goes nowhere
		}
	}()

	macs := map[uint16]string{m.Id: mac} // of the tries
	if conn.buffer == nil {
		conn.buffer = make([]byte, maxUDPRead)
	}
	buf := conn.buffer
	last := errNoAnswer
	for try := range c.tries {
		if try > 0 {
			if wire, mac, err = c.sign(m); err != nil {
				return nil, err
			}
			macs[m.Id] = mac
		}
		if _, err := conn.Write(wire); err != nil {
			// A socket that was used before tells what became of what it sent then.
			if conn.used == 0 || try > 0 || !errors.Is(err, syscall.ECONNREFUSED) {
				return nil, c.failed(ctx, err)
			}
			if _, err := conn.Write(wire); err != nil {
				return nil, c.failed(ctx, err)
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(c.timeout * time.Duration(min(1<<try, longWait))))
		if err := ctx.Err(); err != nil { // the deadline just set may have undone that of ctx
			return nil, err
		}
		for {
			n, err := conn.Read(buf)
			if err != nil {
				if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && ctx.Err() == nil {
					break // next try
				}
				return nil, c.failed(ctx, err)
			}
			r, err := c.open(buf[:n], m, macs)
			if err == nil {
				answered = try == 0
				return r, nil
			}
			if _, ok := errors.AsType[*keyError](err); ok {
				return nil, err
			}
			last = err // not from our server, or damaged: go on listening
		}
	}
	return nil, c.failed(ctx, fmt.Errorf("%d tries in %s: %w", c.tries, c.waited(), last))
}

// waited is how long all tries of an exchange take.
func (c *client) waited() time.Duration {
	var d time.Duration
	for try := range c.tries {
		d += c.timeout * time.Duration(min(1<<try, longWait))
	}
	return d
}

// failed tells the end of the worker from the failure of the server.
func (c *client) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &serverError{server: c.server, err: err}
}

// overTCP sends m over a connection that no other exchange uses. Its failure is not a *serverError:
// a server whose TCP port is closed still takes the other changes by UDP.
func (c *client) overTCP(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	r, err := c.tryTCP(ctx, m)
	if err == nil {
		return r, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if _, ok := errors.AsType[*keyError](err); ok {
		return nil, err
	}
	return nil, &tcpError{server: c.server, err: err}
}

func (c *client) tryTCP(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	wire, mac, err := c.sign(m)
	if err != nil {
		return nil, err
	}
	if len(wire) > dns.MaxMsgSize {
		return nil, fmt.Errorf("the message has %d octets", len(wire))
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if conn := c.tcp.get(tcpLife); conn != nil {
		answer, err := c.talk(ctx, conn, wire)
		if err == nil {
			return c.open(answer, m, map[uint16]string{m.Id: mac})
		}
		if ctx.Err() != nil {
			return nil, err
		} // the server closed it, as it may at any time
	}
	var dialer net.Dialer
	dialed, err := dialer.DialContext(ctx, "tcp", c.server)
	if err != nil {
		return nil, err
	}
	answer, err := c.talk(ctx, &socket{Conn: dialed}, wire)
	if err != nil {
		return nil, err
	}
	return c.open(answer, m, map[uint16]string{m.Id: mac})
}

// talk sends one message and reads one answer. It keeps or closes the connection.
func (c *client) talk(ctx context.Context, conn *socket, wire []byte) (answer []byte, err error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if stop() && err == nil {
			c.tcp.put(conn, 0)
		} else {
			_ = conn.Close()
		}
	}()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	answer = make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err = io.ReadFull(conn, answer)
	return answer, err
}

// open reads an answer to m, whose tries had these IDs and MACs, and verifies it.
//
// What makes a change count as done, or as somebody else's, must be signed. A
// refusal may be unsigned: servers refuse so where they do not know the zone or
// the key (RFC 8945 section 5.3.2), and all it does is to have the change tried
// again later.
func (c *client) open(wire []byte, m *dns.Msg, macs map[uint16]string) (*dns.Msg, error) {
	r := new(dns.Msg)
	if err := r.Unpack(wire); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	mac, ours := macs[r.Id]
	if !ours || !r.Response || r.Opcode != m.Opcode {
		return nil, errors.New("the answer is not to this message")
	}
	if len(r.Question) > 0 && (len(r.Question) > 1 || r.Question[0].Qtype != m.Question[0].Qtype ||
		dns.CanonicalName(r.Question[0].Name) != dns.CanonicalName(m.Question[0].Name)) {
		return nil, errors.New("the answer is to another question")
	}
	if c.key.Name == "" {
		return r, nil
	}
	t := r.IsTsig()
	if t == nil {
		if refusal(r.Rcode) {
			return r, nil
		}
		return nil, errUnsigned
	}
	if t.Error != dns.RcodeSuccess {
		return nil, keyErrorOf(c.server, c.key.Name, t, time.Now())
	}
	if dns.CanonicalName(t.Hdr.Name) != c.key.Name || dns.CanonicalName(t.Algorithm) != c.key.Algorithm {
		return nil, errors.New("the answer is signed with another key")
	}
	// TsigVerify cuts the signature off the message, so it comes last; it does not
	// look at the signature of a NOTAUTH, which is a refusal like others.
	if err := dns.TsigVerify(wire, c.key.Secret(), mac, false); err != nil && (!errors.Is(err, dns.ErrAuth) || r.Rcode != dns.RcodeNotAuth) {
		return nil, fmt.Errorf("the signature of the answer: %w", err)
	}
	return r, nil
}

// refusal reports whether the rcode only says that the server did nothing.
func refusal(rcode int) bool {
	switch rcode {
	case dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused, dns.RcodeNotAuth, dns.RcodeNotZone:
		return true
	}
	return false
}
