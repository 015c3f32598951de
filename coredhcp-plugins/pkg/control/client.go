package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

const (
	maxLine = 1 << 20 // octets of one line of an answer
	// patience is how long a server may take for the next piece of its answer: making a backup says nothing until it is done.
	patience = 5 * time.Minute
)

// Error is what a server said instead of an answer, or behind the part of it that it could give.
type Error struct {
	Command string
	Message string
}

func (e *Error) Error() string { return e.Message }

// Call asks the server at path and hands each item of the answer to each, which must not keep it; an error of each ends the
// call and is returned. args are encoded as JSON, nil for none. The error is an *Error if the server said so; else it says
// what failed, wraps what the system said (no such file: there is no socket; connection refused: nobody listens), and
// what was handed to each may be a part of the answer only. The end of ctx ends the call.
func Call(ctx context.Context, path, command string, args any, each func(json.RawMessage) error) error {
	err := call(ctx, path, command, args, each)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func call(ctx context.Context, path, command string, args any, each func(json.RawMessage) error) error {
	r := request{Command: command}
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			return fmt.Errorf("encoding the arguments of %s: %w", command, err)
		}
		r.Args = b
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	// A server that refuses the client may close before it has read the request: what it said comes first.
	wrote := error(nil)
	if _, err := conn.Write(append(b, '\n')); err != nil {
		wrote = fmt.Errorf("control socket %s: sending the request: %w", path, err)
	}
	lines := bufio.NewScanner(&patient{ctx, conn})
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLines)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("control socket %s: expected one JSON value a line: %w", path, err)
		}
		switch {
		case l.Error != "":
			return &Error{Command: command, Message: l.Error}
		case l.Done:
			return nil
		case l.Item == nil:
			return fmt.Errorf("control socket %s: expected an item, an error or the end, found %.100q", path, lines.Bytes())
		}
		if err := each(l.Item); err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case wrote != nil:
		return wrote
	case err == nil, errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("control socket %s: the answer was cut off: %w", path, io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("control socket %s: reading the answer: %w", path, err)
	}
}

// wholeLines is bufio.ScanLines without a last line that has no end: it is a part of one.
func wholeLines(data []byte, _ bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}

// patient reads from a server that has so much time for each piece.
type patient struct {
	ctx  context.Context
	conn net.Conn
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if err := p.ctx.Err(); err != nil {
		return 0, err // its end may have come before the deadline was set anew
	}
	return p.conn.Read(b)
}

// refused says that a socket is there and nobody listens on it.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
