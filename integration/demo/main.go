//go:build linux

// Command demo lets one scanner join a made-up radiology network and leave it
// again, and shows what everyone else sees of it: `make demo`.
//
// Every step asks the running servers and says what it expected where that is
// not what it found, so the exit status tells whether the promise holds on this
// machine: 0 if it does, 1 if it does not, 130 after Ctrl-C.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// limit is how long the demo may take where something hangs.
const limit = 3 * time.Minute

func main() {
	lab.RunHook()
	bin := flag.String("bin", cmp.Or(os.Getenv("DICOMNAM_BIN"), "bin"), "directory of the binaries coredns and coredhcp")
	mode := flag.String("mode", "auto", "how to get a network: auto, namespaces, user-namespaces or loopback")
	program := flag.String("client", "", "DHCP client: udhcpc, dhclient or built-in; default the first that is installed")
	keep := flag.Bool("keep", false, "keep the configuration files, databases and logs")
	flag.Parse()

	want, err := lab.ParseMode(*mode)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(2)
	}
	// Before anything is made: in a user namespace the program starts again.
	got, reasons, err := lab.Enter(want)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: no network:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Stdout, options{
		bin: *bin, mode: got, reasons: reasons, program: lab.Program(*program), keep: *keep,
	}))
}

type options struct {
	bin     string
	mode    lab.Mode
	reasons []string // against the better modes
	program lab.Program
	keep    bool
}

// run is the demo from a new lab to none, and its exit status.
func run(ctx context.Context, w io.Writer, o options) (status int) {
	start := time.Now()
	p := &printer{w: w}
	l, err := lab.New(lab.Config{Mode: o.mode, Server: radiology.Server, Keep: o.keep})
	if err != nil {
		p.line("demo: making the network: %v", err)
		return 1
	}
	// Deferred, so that a panic too leaves nothing behind.
	defer func() {
		if err := l.Close(); err != nil {
			p.line("demo: cleaning up: %v", err)
			status = max(status, 1)
		}
		if o.keep {
			p.line("Files, databases and logs are kept in %s", l.Dir)
		}
	}()
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	d := &demo{printer: p, options: o, lab: l}
	if err = d.steps(bounded); err != nil {
		// Ctrl-C also ends a program that is only just being started, and the
		// news of that can be here before the signal is.
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second): // on a busy machine
		}
	}
	switch {
	case ctx.Err() != nil:
		p.line("")
		p.line("Interrupted; everything is stopped and removed.")
		return 130
	case err != nil:
		d.explain(err)
		return 1
	}
	p.line("")
	p.line("All of it held. It took %.1f seconds.", time.Since(start).Seconds())
	return 0
}

// unmet is a step that does not hold.
type unmet struct{ expected, found string }

func (u *unmet) Error() string { return "expected " + u.expected + ", found " + u.found }

// explain tells why the demo ended early: what was expected, what was found, and
// what the two servers wrote last.
func (d *demo) explain(err error) {
	d.line("")
	d.line("FAILED in step %d", d.step)
	if u := (*unmet)(nil); errors.As(err, &u) {
		d.line("  expected  %s", u.expected)
		d.line("  found     %s", u.found)
	} else {
		d.line("  %v", err)
	}
	if d.network == nil {
		return
	}
	for _, p := range d.network.Processes() {
		d.line("")
		d.line("the last lines of %s", p.Log)
		d.line("%s", p.Tail(20))
	}
	if !d.keep {
		d.line("")
		d.line("The files are removed; with -keep they stay.")
	}
}
