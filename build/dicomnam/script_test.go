package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"dicomnam": main}) }

// patience is how long anything may take that is waited for, on a busy machine.
const patience = 2 * time.Minute

// TestScripts runs dicomnam as a process. The server that some scripts start is
// this test: the socket and what crosses it are real, the leases are those below,
// since no network has them all. What a real coredhcp answers is tested in
// package integration.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":   serve,
			"deadend": deadend,
			"exits":   exits,
			"latin1":  latin1,

			"nameserver": nameserver,
		},
	})
}

// serve answers at control.sock with the leases below.
func serve(ts *testscript.TestScript, _ bool, _ []string) {
	s := control.NewServer()
	s.Handle(control.Leases, answerLeases)
	s.Handle(control.Resync, answerResync)
	s.Handle(control.Plan, answerPlan)
	s.Handle(control.History, answerHistory)
	s.Handle(control.Release, func(_ context.Context, args json.RawMessage, send func(any) error) error {
		return answerAct(args, control.Active, control.Released, send)
	})
	s.Handle(control.Unquarantine, func(_ context.Context, args json.RawMessage, send func(any) error) error {
		return answerAct(args, control.Declined, control.Expired, send)
	})
	s.Handle(control.Time, func(_ context.Context, _ json.RawMessage, send func(any) error) error {
		err := send(control.TimeServer{Server: "ntp.example.org.", Address: netip.MustParseAddr("192.0.2.3"), Verdict: control.TimeGood, Stratum: 2, RootDistance: 0.0123, Deviation: -0.001, Answered: at(3)})
		return errors.Join(err, send(control.TimeServer{Server: "192.0.2.4", Address: netip.MustParseAddr("192.0.2.4"), Verdict: control.TimeBad, Reason: "not synchronised"}))
	})
	stop, err := start(s, ts.MkAbs("control.sock"))
	ts.Check(err)
	ts.Defer(func() { ts.Check(stop()) })
}

// start serves at path until stop is called.
func start(s *control.Server, path string) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, path) }()
	for begin := time.Now(); time.Since(begin) < patience; {
		if _, err := os.Lstat(path); err == nil {
			return func() error {
				cancel()
				return <-done
			}, nil
		}
		select {
		case err := <-done:
			cancel()
			return nil, err
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	return nil, errors.Join(fmt.Errorf("no socket after %s", patience), <-done)
}

// deadend leaves a socket at control.sock that nobody listens on.
func deadend(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs("control.sock"), Net: "unix"})
	ts.Check(err)
	l.SetUnlinkOnClose(false)
	ts.Check(l.Close())
}

// latin1 FILE writes a spreadsheet in Latin-1, which no txtar file can hold.
func latin1(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("Name,Comment\nct1,S\xfcd\n"), 0o600))
}

// exits CODE PROGRAM [ARG...] runs a program and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, expected %d", got, want)
	}
}

func day(hour int) time.Time { return time.Date(2026, 1, 2, hour, 0, 0, 0, time.UTC) }

func at(hour int) *time.Time {
	t := day(hour)
	return &t
}

func ethernet(n int) control.Client {
	return control.Client{HardwareType: 1, HardwareAddress: fmt.Sprintf("00:00:5e:00:53:%02x", n)}
}

var someLeases = []control.Lease{
	{Address: netip.MustParseAddr("192.0.2.11"), State: control.Active, Client: ethernet(1), Network: "radiology", Device: "ct1",
		Name: "ct1.imaging.example.org.", Published: true, DNS: "shown", Start: day(3), Expires: at(15)},
	{Address: netip.MustParseAddr("192.0.2.12"), State: control.Active, Client: ethernet(2), Network: "radiology", Device: "mr1",
		Name: "mr1.imaging.example.org.", DNS: "conflict", Trouble: "it is\tsomebody else's", Start: day(3)},
	{Address: netip.MustParseAddr("192.0.2.100"), State: control.Expired, Client: control.Client{ClientIdentifier: "00746573740a"}, Network: "radiology",
		Name: "evil name\x1b[31m\u202eexe\\.imaging.example.org.", Start: day(3), Expires: at(4)},
	{Address: netip.MustParseAddr("192.0.2.101"), State: control.Declined, Client: ethernet(3), Network: "radiology", Start: day(3), Expires: at(23)},
	{Address: netip.MustParseAddr("198.51.100.7"), State: control.Released, Client: ethernet(4), Network: "office", Start: day(1), Expires: at(2)},
}

func answerResync(_ context.Context, args json.RawMessage, send func(any) error) error {
	var n control.Network
	if err := control.Decode(args, &n); err != nil {
		return err
	}
	if n.Network == "" {
		return send(control.Resynced{Leases: 7, Ended: 5})
	}
	return send(control.Resynced{Leases: 3})
}

func answerLeases(_ context.Context, args json.RawMessage, send func(any) error) error {
	var f control.Filter
	if err := control.Decode(args, &f); err != nil {
		return err
	}
	for _, l := range someLeases {
		if f.Network != "" && f.Network != l.Network || f.State != "" && f.State != l.State || f.Device != "" && f.Device != l.Device {
			continue
		}
		if err := send(l); err != nil {
			return err
		}
	}
	if f.Network == "broken" {
		_ = send(someLeases[0])
		return errors.New("reading leases: input/output error")
	}
	return nil
}

func answerHistory(_ context.Context, args json.RawMessage, send func(any) error) error {
	var a control.Address
	if err := control.Decode(args, &a); err != nil {
		return err
	}
	for i, e := range []control.Event{
		{State: control.Active, Client: ethernet(1), Device: "ct1", Name: "ct1.imaging.example.org.", Start: day(3)},
		{State: control.Released, Client: ethernet(4), Start: day(1), Until: at(2)},
	} {
		if a.Limit > 0 && i >= a.Limit {
			break
		}
		e.Address = a.Address
		if err := send(e); err != nil {
			return err
		}
	}
	return nil
}

func answerAct(args json.RawMessage, from, to string, send func(any) error) error {
	var a control.Address
	if err := control.Decode(args, &a); err != nil {
		return err
	}
	i := slices.IndexFunc(someLeases, func(l control.Lease) bool { return l.Address == a.Address && l.State == from })
	if i < 0 {
		return fmt.Errorf("%v is not %s", a.Address, from)
	}
	l := someLeases[i]
	l.State = to
	return send(l)
}

// TestManyLeases lists more leases than either side may hold at once.
func TestManyLeases(t *testing.T) {
	const n, bound = 200_000, 16 << 20 // octets; as text they take 21 MB, as JSON 57 MB
	s := control.NewServer()
	s.Handle(control.Leases, func(_ context.Context, _ json.RawMessage, send func(any) error) error {
		l := someLeases[0]
		for i := range n {
			l.Address = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			if err := send(l); err != nil {
				return err
			}
		}
		return nil
	})
	path := filepath.Join(t.TempDir(), "control.sock")
	stop, err := start(s, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"--json=false", "--json"} {
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		out := &lineCounter{}
		cmd := root()
		cmd.SetArgs([]string{"leases", "--control", path, format})
		cmd.SetOut(out)
		if code := execute(t.Context(), cmd); code != exitOK {
			t.Fatalf("exit code %d", code)
		}
		if want := n + 1 - btoi(format == "--json"); out.lines != want {
			t.Errorf("%s: %d lines, want %d", format, out.lines, want)
		}
		if grown := int64(out.heap) - int64(before.HeapInuse); grown > bound {
			t.Errorf("%s: both sides held %d octets, want %d at the most", format, grown, bound)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// lineCounter counts lines, and looks at the heap now and then.
type lineCounter struct {
	lines, writes int
	heap          uint64 // the most that was in use
}

func (c *lineCounter) Write(b []byte) (int, error) {
	c.lines += bytes.Count(b, []byte{'\n'})
	if c.writes++; c.writes%100 == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		c.heap = max(c.heap, m.HeapInuse)
	}
	return len(b), nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestManPages checks that each command has a page, and that it names each flag.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := run("gen", dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range root().Commands() {
		path := filepath.Join(dir, "dicomnam-"+c.Name()+".8")
		_, err := os.Stat(path)
		if known := !c.Hidden; known != (err == nil) {
			t.Errorf("%s: hidden %v, page %v", c.Name(), c.Hidden, err)
		}
	}
}
