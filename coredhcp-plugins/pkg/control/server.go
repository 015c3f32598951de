package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxRequest = 64 << 10 // octets of a request, its line end included
	maxClients = 32       // that are answered at one time
)

// limits are how long a client may take. Tests have shorter ones.
type limits struct {
	request time.Duration // to send its request
	stall   time.Duration // to read what fills the buffers: a pager at its first page does not read
	whole   time.Duration // from the connection to the end of the answer
	last    time.Duration // to read why there is no more, after the server was told to stop
}

var defaultLimits = limits{request: 5 * time.Second, stall: time.Minute, whole: 15 * time.Minute, last: time.Second}

var errStopping = errors.New("the server is stopping")

// Handler answers one command. args are what the client sent, nil if nothing; see [Decode]. Each value that send gets is one
// item of the answer, as JSON; send waits while the client reads slowly, and fails once the client is gone or too slow:
// return that error. What Handler returns is told to the client as text. ctx ends when the server does, or when the
// answer has taken too long.
type Handler func(ctx context.Context, args json.RawMessage, send func(v any) error) error

// Server answers commands on a Unix socket.
type Server struct {
	// Logger gets what nobody would see otherwise: panics, and failures to accept. nil: nobody. It must be set before Serve.
	Logger *slog.Logger

	limits limits

	mu       sync.Mutex // guards all below
	commands map[string]Handler
	twice    []string // commands that were registered more than once
}

// NewServer returns a server without commands.
func NewServer() *Server {
	return &Server{limits: defaultLimits, commands: map[string]Handler{}}
}

// Handle registers a command. A command that is registered twice is an error of Serve.
func (s *Server) Handle(command string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.commands[command] != nil {
		s.twice = append(s.twice, command)
	}
	s.commands[command] = h
}

func (s *Server) handler(command string) (Handler, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.commands[command]; h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("command %q: expected one of %s", command, strings.Join(slices.Sorted(maps.Keys(s.commands)), ", "))
}

// Serve answers requests on a Unix socket at path until ctx ends, and then waits for the handlers and takes the socket
// away. It returns nil after a clean stop. A socket that nobody listens on is replaced; one that is in use, a file that is
// no socket, and a directory that does not exist are errors.
func (s *Server) Serve(ctx context.Context, path string) (err error) {
	s.mu.Lock()
	twice := slices.Clone(s.twice)
	s.mu.Unlock()
	if len(twice) > 0 {
		return fmt.Errorf("control socket %s: command %q is registered twice", path, twice[0])
	}
	socket, err := listen(path)
	if err != nil {
		return fmt.Errorf("control socket %s: %w", path, err)
	}
	log := s.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() { stop(errStopping) })()
	var clients sync.WaitGroup
	defer func() {
		stop(errStopping)
		clients.Wait()
		err = errors.Join(err, socket.close())
	}()
	defer context.AfterFunc(running, socket.interrupt)()
	places := make(chan struct{}, maxClients)
	for failing := false; ; {
		conn, err := socket.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close() // nothing was promised to it
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("control socket %s: %w", path, err)
		case err != nil:
			if !failing { // most likely too many open files, which passes
				failing = true
				log.Error("control socket: accepting, trying again", "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		failing = false
		select {
		case places <- struct{}{}:
			clients.Go(func() {
				defer func() { <-places }()
				s.serve(running, conn, log)
			})
		default:
			c := newClient(running, conn, s.limits)
			c.finish(fmt.Errorf("busy with %d other requests; try again later", maxClients)) // fits into the buffer of a new connection
		}
	}
}

// serve answers the one request of a connection.
func (s *Server) serve(ctx context.Context, conn net.Conn, log *slog.Logger) {
	tooLong := fmt.Errorf("the answer took longer than %s", s.limits.whole)
	ctx, cancel := context.WithTimeoutCause(ctx, s.limits.whole, tooLong)
	defer cancel()
	c := newClient(ctx, conn, s.limits)
	// A server that stops waits for no client to send or to read.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(s.limits.last)) })()
	err := s.answer(c, log)
	if err != nil && errors.Is(err, ctx.Err()) {
		err = context.Cause(ctx)
	}
	c.finish(err)
}

func (s *Server) answer(c *client, log *slog.Logger) (err error) {
	r, err := c.request()
	if err != nil {
		return err
	}
	h, err := s.handler(r.Command)
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			log.Error("control socket: a command has panicked", "command", r.Command, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("command %s failed inside the server: %v; its log has more", r.Command, p)
		}
	}()
	return h(c.ctx, r.Args, c.send)
}

// client is one connection.
type client struct {
	ctx    context.Context
	conn   net.Conn
	limits limits
	out    *bufio.Writer
}

func newClient(ctx context.Context, conn net.Conn, l limits) *client {
	c := &client{ctx: ctx, conn: conn, limits: l}
	c.out = bufio.NewWriterSize(c, 32<<10)
	return c
}

// Write gives the connection a piece of the answer.
func (c *client) Write(b []byte) (int, error) {
	if err := c.allow(c.conn.SetWriteDeadline, c.limits.stall); err != nil {
		return 0, err
	}
	return c.conn.Write(b)
}

// allow gives the client so much time, or the last of it if the end of ctx came before.
func (c *client) allow(set func(time.Time) error, d time.Duration) error {
	err := set(time.Now().Add(d))
	if c.ctx.Err() != nil {
		err = set(time.Now().Add(c.limits.last))
	}
	return err
}

// finish ends the answer, and the connection. A client that did not read the answer will see that its end is missing.
func (c *client) finish(err error) {
	last := line{Done: true}
	if err != nil {
		last = line{Error: err.Error()}
	}
	if b, err := json.Marshal(last); err == nil {
		_, _ = c.out.Write(append(b, '\n'))
		_ = c.out.Flush()
	}
	_ = c.conn.Close()
}

// request reads the client's one line. Whatever follows it is not read.
func (c *client) request() (request, error) {
	if err := c.allow(c.conn.SetReadDeadline, c.limits.request); err != nil {
		return request{}, err
	}
	in := bufio.NewReader(io.LimitReader(c.conn, maxRequest))
	b, err := in.ReadBytes('\n')
	switch {
	case errors.Is(err, io.EOF) && len(b) >= maxRequest:
		return request{}, fmt.Errorf("request: expected at most %d octets", maxRequest)
	case errors.Is(err, io.EOF):
		// A client that closed its side instead of ending the line.
	case c.ctx.Err() != nil:
		return request{}, c.ctx.Err()
	case err != nil:
		return request{}, fmt.Errorf("request: expected one line of JSON within %s: %w", c.limits.request, err)
	}
	var r request
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return request{}, fmt.Errorf(`request: expected one line of JSON as {"command":"NAME","args":{}}: %w`, err)
	}
	if d.InputOffset() < int64(len(bytes.TrimRight(b, " \t\r\n"))) {
		return request{}, fmt.Errorf("request: expected one JSON value, found more behind offset %d", d.InputOffset())
	}
	return r, nil
}

// send writes one item of the answer.
func (c *client) send(v any) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	_, _ = c.out.WriteString(`{"item":`)
	_, _ = c.out.Write(b)
	_, err = c.out.WriteString("}\n") // the writer keeps its first error
	return err
}
