package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// logs collects what a server logs.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start serves until the test ends, or stop is called, which returns what Serve did.
func start(t *testing.T, s *Server, path string) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, path) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			return errors.New("Serve has not returned")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			_ = conn.Close()
			return stop
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("Serve: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
}

// collect calls a command and returns its items.
func collect(t *testing.T, path, command string, args any) (items []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = Call(ctx, path, command, args, func(item json.RawMessage) error {
		items = append(items, string(item))
		return nil
	})
	return items, err
}

// raw sends octets to the server and returns all that it answers.
func raw(t *testing.T, path, send string) string {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, send) // the server may refuse before it has all
	b, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	return string(b)
}

// echo answers with its arguments, so often.
func echo(_ context.Context, args json.RawMessage, send func(any) error) error {
	var a struct {
		Text  string `json:"text"`
		Times int    `json:"times"`
	}
	if err := Decode(args, &a); err != nil {
		return err
	}
	for range a.Times {
		if err := send(a.Text); err != nil {
			return err
		}
	}
	return nil
}

type echoArgs struct {
	Text  string `json:"text"`
	Times int    `json:"times"`
}

func TestCall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	out := &logs{}
	s := NewServer()
	s.Logger = slog.New(slog.NewTextHandler(out, nil))
	s.Handle("echo", echo)
	s.Handle("panic", func(_ context.Context, _ json.RawMessage, send func(any) error) error {
		_ = send(1)
		panic("at the disco")
	})
	s.Handle("half", func(_ context.Context, _ json.RawMessage, send func(any) error) error {
		_ = send("one")
		return errors.New("no second one:\na \x1b[31mline\xff")
	})
	s.Handle("odd", func(_ context.Context, _ json.RawMessage, send func(any) error) error {
		return send(func() {})
	})
	start(t, s, path)

	tests := []struct {
		name, command string
		args          any
		want          []string
		err           string // "" none
	}{
		{"none", "echo", nil, nil, ""},
		{"two", "echo", echoArgs{"a\nb<", 2}, []string{`"a\nb\u003c"`, `"a\nb\u003c"`}, ""},
		{"unknown", "ech", nil, nil, `command "ech": expected one of echo, half, odd, panic`},
		{"unknown field", "echo", map[string]int{"time": 1}, nil, `arguments: json: unknown field "time"`},
		{"wrong type", "echo", map[string]string{"times": "1"}, nil, "arguments: json: cannot unmarshal string into Go struct field .times of type int"},
		{"panic", "panic", nil, []string{"1"}, "command panic failed inside the server: at the disco; its log has more"},
		{"error behind items", "half", nil, []string{`"one"`}, "no second one:\na \x1b[31mline\uFFFD"},
		{"unencodable", "odd", nil, nil, "encoding the answer: json: unsupported type: func()"},
		{"still there", "echo", echoArgs{"x", 1}, []string{`"x"`}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			items, err := collect(t, path, tt.command, tt.args)
			if !slices.Equal(items, tt.want) {
				t.Errorf("items %q, want %q", items, tt.want)
			}
			if tt.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := new(Error); !errors.As(err, &e) || e.Message != tt.err || e.Command != tt.command {
				t.Errorf("error %q, want %q", err, tt.err)
			}
		})
	}
	if log := out.String(); !strings.Contains(log, "at the disco") || !strings.Contains(log, "control_test.go") {
		t.Errorf("the panic is not in the log with its place: %s", log)
	}
}

func TestRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	s := NewServer()
	s.limits.request = time.Minute
	s.Handle("echo", echo)
	start(t, s, path)
	impatient, hasty := filepath.Join(t.TempDir(), "control.sock"), NewServer()
	hasty.limits.request = 200 * time.Millisecond
	hasty.Handle("echo", echo)
	start(t, hasty, impatient)
	tests := []struct{ name, send, want string }{
		{"plain", `{"command":"echo","args":{"text":"a","times":1}}` + "\n", `{"item":"a"}` + "\n" + `{"done":true}` + "\n"},
		{"no JSON", "leases\n", `{"error":"request: expected one line of JSON as`},
		{"an array", "[]\n", `{"error":"request: expected one line of JSON as`},
		{"two values", `{"command":"echo"} {"command":"echo"}` + "\n", `{"error":"request: expected one JSON value, found more behind offset 18"}`},
		{"unknown field", `{"command":"echo","argv":1}` + "\n", `json: unknown field`},
		{"no command", "{}\n", `{"error":"command \"\": expected one of echo"}`},
		{"arguments of another type", `{"command":"echo","args":7}` + "\n", `{"error":"arguments: json: cannot unmarshal number`},
		{"no line end", `{"command":"echo"}`, `{"error":"request: expected one line of JSON within 200ms: `},
		{"nothing", "", `{"error":"request: expected one line of JSON within 200ms: `},
		{"too long", `{"command":"` + strings.Repeat("x", maxRequest), `{"error":"request: expected at most 65536 octets"}`},
		{"much too long", `{"command":"` + strings.Repeat("x", 1<<20) + `"}` + "\n", `{"error":"request: expected at most 65536 octets"}`},
		{"deep", `{"command":"echo","args":` + strings.Repeat("[", 60000) + "\n", `{"error":"request: `},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := path
			if strings.Contains(tt.want, "within") {
				path = impatient
			}
			if got := raw(t, path, tt.send); !strings.Contains(got, tt.want) || strings.Count(got, "\n") != strings.Count(tt.want, "\n")+btoi(!strings.HasSuffix(tt.want, "\n")) {
				t.Errorf("answer %.300q, want %q", got, tt.want)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestHalfClosed is a client such as socat, which closes its side behind the request.
func TestHalfClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	s := NewServer()
	s.Handle("echo", echo)
	start(t, s, path)
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, `{"command":"echo","args":{"text":"a","times":1}}`); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "{\"item\":\"a\"}\n{\"done\":true}\n" {
		t.Errorf("answer %q, %v", b, err)
	}
}

// TestStreamed holds both sides to what a window of the answer costs them: the second half is made after the first was read.
func TestStreamed(t *testing.T) {
	const n = 50_000
	path := filepath.Join(t.TempDir(), "control.sock")
	s := NewServer()
	var sent, read atomic.Int64
	var ahead int64
	s.Handle("count", func(_ context.Context, _ json.RawMessage, send func(any) error) error {
		for i := range n {
			if err := send(strings.Repeat("x", 100)); err != nil {
				return err
			}
			sent.Store(int64(i + 1))
		}
		return nil
	})
	start(t, s, path)
	err := Call(t.Context(), path, "count", nil, func(json.RawMessage) error {
		if read.Add(1) == 1 {
			time.Sleep(200 * time.Millisecond) // all that the server can be ahead, it is
		}
		ahead = max(ahead, sent.Load()-read.Load())
		return nil
	})
	if err != nil || read.Load() != n {
		t.Fatalf("%d items, %v", read.Load(), err)
	}
	if ahead == 0 || ahead > n/4 {
		t.Errorf("the server was %d items ahead of its client", ahead)
	}
}

// TestSlowReader is a client that hangs in the middle of its answer. Another one is answered meanwhile.
func TestSlowReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	s := NewServer()
	s.limits.stall = 200 * time.Millisecond
	s.Handle("echo", echo)
	ended := make(chan error, 1)
	s.Handle("endless", func(_ context.Context, _ json.RawMessage, send func(any) error) error {
		for {
			if err := send(strings.Repeat("x", 1000)); err != nil {
				ended <- err
				return err
			}
		}
	})
	start(t, s, path)
	n := 0
	err := Call(t.Context(), path, "endless", nil, func(json.RawMessage) error {
		if n++; n == 1 {
			if _, err := collect(t, path, "echo", echoArgs{"a", 1}); err != nil {
				t.Errorf("another client: %v", err)
			}
			select {
			case err := <-ended:
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("send: %v", err)
				}
			case <-time.After(time.Minute):
				t.Error("the handler still waits for a client that hangs")
			}
		}
		return nil
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("the client took a part for the answer: %v", err)
	}
}

// TestWholeTime is a client that reads just fast enough never to stall.
func TestWholeTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	s := NewServer()
	s.limits.whole = 300 * time.Millisecond
	s.Handle("wait", func(ctx context.Context, _ json.RawMessage, _ func(any) error) error {
		<-ctx.Done()
		return ctx.Err()
	})
	s.Handle("endless", func(_ context.Context, _ json.RawMessage, send func(any) error) error {
		for {
			if err := send(1); err != nil {
				return err
			}
		}
	})
	start(t, s, path)
	for _, command := range []string{"wait", "endless"} {
		if _, err := collect(t, path, command, nil); err == nil || err.Error() != "the answer took longer than 300ms" {
			t.Errorf("%s: %v", command, err)
		}
	}
}

func TestTooManyClients(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	s := NewServer()
	release := make(chan struct{})
	var waiting sync.WaitGroup
	s.Handle("wait", func(context.Context, json.RawMessage, func(any) error) error {
		waiting.Done()
		<-release
		return nil
	})
	s.Handle("echo", echo)
	start(t, s, path)
	waiting.Add(maxClients)
	var calls sync.WaitGroup
	busy := fmt.Sprintf("busy with %d other requests; try again later", maxClients)
	// A place is free a moment after its client has the answer, also that of the one that start looked with.
	patiently := func(command string) {
		err := Call(t.Context(), path, command, nil, nil)
		for err != nil && err.Error() == busy {
			err = Call(t.Context(), path, command, nil, nil)
		}
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
	for range maxClients {
		calls.Go(func() { patiently("wait") })
	}
	waiting.Wait()
	if _, err := collect(t, path, "echo", nil); err == nil || err.Error() != busy {
		t.Errorf("one more: %v", err)
	}
	close(release)
	calls.Wait()
	patiently("echo")
}

// TestStop ends a server while clients send nothing, read nothing and wait: none of them holds it up, and those that listen
// are told.
func TestStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	before := runtime.NumGoroutine()
	s := NewServer()
	s.limits.last = 2 * time.Second
	stalled := make(chan struct{})
	s.Handle("endless", func(_ context.Context, _ json.RawMessage, send func(any) error) error {
		close(stalled)
		for {
			if err := send(strings.Repeat("x", 1000)); err != nil {
				return err
			}
		}
	})
	waiting := make(chan struct{})
	s.Handle("wait", func(ctx context.Context, _ json.RawMessage, _ func(any) error) error {
		close(waiting)
		<-ctx.Done()
		return fmt.Errorf("waiting: %w", ctx.Err())
	})
	stop := start(t, s, path)
	for _, send := range []string{"", `{"command":"endless"}` + "\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, send); err != nil {
			t.Fatal(err)
		}
	}
	told := make(chan error, 1)
	go func() { told <- Call(t.Context(), path, "wait", nil, nil) }()
	<-stalled
	<-waiting
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err == nil || err.Error() != "the server is stopping" {
		t.Errorf("a waiting client: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		b := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before\n%s", n, before, b[:runtime.Stack(b, true)])
	}
}

func TestTwice(t *testing.T) {
	s := NewServer()
	s.Handle("echo", echo)
	s.Handle("echo", echo)
	if err := s.Serve(t.Context(), filepath.Join(t.TempDir(), "s")); err == nil || !strings.Contains(err.Error(), `command "echo" is registered twice`) {
		t.Error(err)
	}
}

// TestCallFails are servers that are none.
func TestCallFails(t *testing.T) {
	dir := t.TempDir()
	answer := func(name, text string, hang bool) string {
		path := filepath.Join(dir, name)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 1000))
				_, _ = io.WriteString(conn, text)
				if !hang {
					_ = conn.Close()
				}
			}
		}()
		return path
	}
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	tests := []struct {
		name, path, want string
		is               error
	}{
		{"no socket", filepath.Join(dir, "none"), "no such file", fs.ErrNotExist},
		{"nobody listens", dead, "connection refused", syscall.ECONNREFUSED},
		{"says nothing", answer("a", "", false), "cut off", io.ErrUnexpectedEOF},
		{"cut off in an item", answer("b", `{"item":1}`+"\n"+`{"item":`, false), "cut off", io.ErrUnexpectedEOF},
		{"cut off behind an item", answer("c", `{"item":1}`+"\n", false), "cut off", io.ErrUnexpectedEOF},
		{"something else", answer("d", "220 mail.example.org ESMTP\r\n", false), "expected one JSON value a line", nil},
		{"empty object", answer("e", "{}\n", false), "expected an item, an error or the end", nil},
		{"endless line", answer("f", strings.Repeat("x", 2*maxLine), false), "token too long", nil},
		{"hangs", answer("g", `{"item":1}`+"\n", true), "context deadline exceeded", context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			patience := time.Minute
			if errors.Is(tt.is, context.DeadlineExceeded) {
				patience = 500 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := Call(ctx, tt.path, "x", nil, func(json.RawMessage) error { return nil })
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("each fails", func(t *testing.T) {
		want := errors.New("disk full")
		if err := Call(t.Context(), answer("h", `{"item":1}`+"\n", true), "x", nil, func(json.RawMessage) error { return want }); !errors.Is(err, want) {
			t.Error(err)
		}
	})
}

func FuzzRequest(f *testing.F) {
	path := filepath.Join(f.TempDir(), "control.sock")
	s := NewServer()
	s.limits.request = 50 * time.Millisecond
	s.Handle("echo", func(ctx context.Context, args json.RawMessage, send func(any) error) error {
		var a Filter
		return Decode(args, &a)
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, path) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	for late := time.Now().Add(time.Minute); time.Now().Before(late); time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(path); err == nil {
			break
		}
	}
	f.Add(`{"command":"echo","args":{"network":"a"}}`)
	f.Add(`{"command":"echo","args":{}}}`)
	f.Add("\x00")
	f.Fuzz(func(t *testing.T, request string) {
		got := raw(t, path, request+"\n")
		var l line
		if err := json.Unmarshal([]byte(got), &l); err != nil || strings.Count(got, "\n") != 1 {
			t.Fatalf("request %q, answer %q", request, got)
		}
		if l.Done == (l.Error != "") {
			t.Fatalf("request %q, answer %q", request, got)
		}
	})
}
