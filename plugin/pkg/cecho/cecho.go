// Package cecho asks a DICOM application entity whether it is there, by C-ECHO
// (PS3.7 section 9.1.5): the Verification SOP Class over the DICOM Upper Layer
// (PS3.8 section 9), plain or in TLS (PS3.15 annex B).
//
// It is a client of one association with one presentation context and one
// message, and nothing more: small enough to be read at one sitting by those
// who let it into their network. What it is connected to is found by browsing
// and may be anything, so whatever comes back is bounded before it is looked at:
// each PDU, what an answer may consist of, and by the context the whole time.
package cecho

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// DefaultCallingAE is the AE title of a client that sets none.
const DefaultCallingAE = "DICOMNAM"

const (
	// Timeout bounds an echo whose context has no deadline.
	Timeout = 10 * time.Second
	// releaseTimeout bounds the wait for the end of an association after the
	// answer, which is what was asked for.
	releaseTimeout = 2 * time.Second

	// implementationClass identifies this implementation (PS3.7 annex D.3.3.2),
	// made from a random number (PS3.5 annex B.2).
	implementationClass   = "2.25.102005897720203340889045339590561986870"
	implementationVersion = "DICOMNAM_1" // at most 16 characters
)

// A Client asks. The zero value is ready, and its methods may be called from any
// goroutine.
type Client struct {
	CallingAE string      // at most 16 characters; "" means DefaultCallingAE
	TLS       *tls.Config // nil: not in TLS; it needs a ServerName, or says not to verify
}

// A Result is what an echo has shown.
type Result struct {
	Connect   time.Duration // until the transport connection stood, TLS included
	Associate time.Duration // until the association stood, from the beginning
	Answer    time.Duration // until the answer came, from the beginning; 0 if none did

	// What the other side says about itself (PS3.7 annex D.3.3.2), "" if it says nothing.
	ImplementationClass, ImplementationVersion string
}

// Echo asks the application entity called at address, as in "192.0.2.11:104",
// and returns nil if it answers with success. The context bounds it; without a
// deadline, Timeout does.
//
// An error is a [*RejectedError], [*AbortedError], [*ContextError] or
// [*StatusError] where the other side speaks DICOM and declines, wraps
// [ErrProtocol] where what it says is no DICOM, and is an error of the network or
// of TLS otherwise. The result has what was found out before.
func (c *Client) Echo(ctx context.Context, address, called string) (Result, error) {
	calling := c.CallingAE
	if calling == "" {
		calling = DefaultCallingAE
	}
	for _, title := range []string{calling, called} {
		if err := CheckTitle(title); err != nil {
			return Result{}, err
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Timeout)
		defer cancel()
	}
	var r Result
	begin := time.Now()
	conn, err := c.dial(ctx, address)
	if err != nil {
		return r, explain(ctx, "connecting", err)
	}
	defer conn.Close()
	r.Connect = time.Since(begin)
	// The deadline ends reading and writing, and so does the end of the context.
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline) // of an open connection: no error
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	a := &association{conn: conn}
	step, err := a.echo(ctx, &r, begin, calling, called)
	if err != nil {
		a.abort(err)
		return r, explain(ctx, step, err)
	}
	return r, nil
}

func (c *Client) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	if c.TLS != nil {
		return (&tls.Dialer{NetDialer: &d, Config: c.TLS}).DialContext(ctx, "tcp", address)
	}
	return d.DialContext(ctx, "tcp", address)
}

// CheckTitle returns an error for what cannot be an AE title: VR AE, PS3.5
// section 6.2.
func CheckTitle(title string) error {
	blank := true
	for i := range len(title) {
		if c := title[i]; c < ' ' || c > '~' || c == '\\' {
			return fmt.Errorf("AE title %q: expected ASCII characters without backslash", title)
		}
		blank = blank && title[i] == ' '
	}
	if blank || len(title) > maxTitle {
		return fmt.Errorf("AE title %q: expected 1 to %d characters, not only spaces", title, maxTitle)
	}
	return nil
}

// explain says what was being done, and that the time was up where it was.
func explain(ctx context.Context, step string, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		err = context.Canceled
	case ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout():
		err = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	return fmt.Errorf("%s: %w", step, err)
}

// An association is one connection.
type association struct {
	conn net.Conn
	read int // octets, of all PDUs
}

// echo asks, and says at which step it failed.
func (a *association) echo(ctx context.Context, r *Result, begin time.Time, calling, called string) (step string, err error) {
	step = "association"
	if _, err := a.conn.Write(associateRQ(calling, called)); err != nil {
		return step, err
	}
	kind, body, err := a.next()
	if err != nil {
		return step, err
	}
	switch kind {
	case pduAssociateAC:
	case pduAssociateRJ:
		return step, rejected(body)
	default:
		return step, unexpected(kind, body)
	}
	accepted, err := parseAssociateAC(body)
	if err != nil {
		return step, err
	}
	r.Associate = time.Since(begin)
	r.ImplementationClass, r.ImplementationVersion = accepted.class, accepted.version
	if accepted.result != 0 {
		a.release(ctx)
		return step, &ContextError{Result: accepted.result}
	}
	step = "C-ECHO"
	if _, err := a.conn.Write(echoRQ()); err != nil {
		return step, err
	}
	status, err := a.answer()
	if err != nil {
		return step, err
	}
	r.Answer = time.Since(begin)
	a.release(ctx)
	if status != 0 {
		return step, &StatusError{Status: status}
	}
	return "", nil
}

// answer returns the status of the C-ECHO-RSP.
func (a *association) answer() (uint16, error) {
	var command []byte
	for {
		kind, body, err := a.next()
		if err != nil {
			return 0, err
		}
		if kind != pduData {
			return 0, unexpected(kind, body)
		}
		var last bool
		if command, last, err = appendCommand(command, body); err != nil {
			return 0, err
		}
		if last {
			return parseEchoRSP(command)
		}
	}
}

// release ends the association (PS3.8 section 7.2). That it does not work out is
// no news any more.
func (a *association) release(ctx context.Context) {
	if deadline, _ := ctx.Deadline(); time.Until(deadline) > releaseTimeout {
		_ = a.conn.SetDeadline(time.Now().Add(releaseTimeout))
		stop := context.AfterFunc(ctx, func() { _ = a.conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	if _, err := a.conn.Write(pdu(pduReleaseRQ, make([]byte, 4))); err != nil {
		return
	}
	for {
		switch kind, _, err := a.next(); {
		case err != nil, kind == pduReleaseRP, kind == pduAbort:
			return
		case kind == pduReleaseRQ: // both at once: section 7.2.2.7
			if _, err := a.conn.Write(pdu(pduReleaseRP, make([]byte, 4))); err != nil {
				return
			}
		}
	}
}

// abort tells the other side that it was not understood (PS3.8 section 9.3.8):
// as service provider, with reason "not specified". All else has ended already.
func (a *association) abort(err error) {
	if errors.Is(err, ErrProtocol) {
		_ = a.conn.SetWriteDeadline(time.Now().Add(releaseTimeout))
		_, _ = a.conn.Write(pdu(pduAbort, []byte{0, 0, 2, 0})) // it may be gone
	}
}
