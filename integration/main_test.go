//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

var (
	mode    lab.Mode // the best that is possible here
	reasons []string // against better ones
	scratch string   // a directory for the binaries
)

func TestMain(m *testing.M) {
	lab.RunHook()
	err := fetch()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if mode, reasons, err = lab.Enter(0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := readSources(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if scratch, err = os.MkdirTemp("", "dicomnam-integration-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Other users must reach the programs.
	err = os.Chmod(scratch, 0o755)
	status := 1
	if err == nil {
		status = m.Run()
	}
	if err := errors.Join(err, os.RemoveAll(scratch)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// fetch has the modules of the binaries here before an ordinary user's tests are
// in a namespace from which nothing can be fetched.
func fetch() error {
	if os.Geteuid() == 0 || os.Getenv("DICOMNAM_BIN") != "" {
		return nil
	}
	cmd := exec.Command("go", "list", "-deps", "../build/...")
	cmd.Stderr = os.Stderr
	if _, err := cmd.Output(); err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	return nil
}

// readSources looks at every source file of the binaries, so that go test, which
// remembers what a test looked at, does not take an old result for theirs.
func readSources() error {
	for _, dir := range []string{"../plugin", "../coredhcp-plugins", "../build", "../go.mod"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			_, err = os.Stat(path)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// binaries is the directory of the built programs: that of DICOMNAM_BIN where it
// is set, else a new one.
func binaries(t *testing.T) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var build = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("DICOMNAM_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	for _, b := range []struct{ cgo, name string }{{"0", "coredns"}, {"1", "coredhcp"}, {"0", "dicomnam"}} {
		if err := goBuild("../build/"+b.name, b.name, "CGO_ENABLED="+b.cgo); err != nil {
			return "", err
		}
	}
	return scratch, nil
})

// demoBinary is the demo, built.
var demoBinary = sync.OnceValues(func() (string, error) {
	return filepath.Join(scratch, "demo"), goBuild("./demo", "demo")
})

func goBuild(dir, name string, env ...string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(scratch, name), ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", dir, err, out)
	}
	return nil
}

// patience is how long anything may take that is waited for, on a busy machine.
const patience = 2 * time.Minute

func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// newLab is a lab with namespaces that ends with the test.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	if mode == lab.Loopback {
		t.Skipf("no network namespaces here: %s", strings.Join(reasons, "; "))
	}
	return newLabOf(t, mode)
}

func newLabOf(t *testing.T, m lab.Mode) *lab.Lab {
	t.Helper()
	l, err := lab.New(lab.Config{Mode: m, Server: radiology.Server, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			logState(t, l)
		}
	})
	return l
}

// newNetwork is the radiology network, not started.
func newNetwork(t *testing.T, l *lab.Lab, o radiology.Options) *radiology.Network {
	t.Helper()
	o.Bin = binaries(t)
	n, err := radiology.New(timeout(t, patience), l, o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// startNetwork is the radiology network, with both servers running.
func startNetwork(t *testing.T, l *lab.Lab, o radiology.Options) *radiology.Network {
	t.Helper()
	n := newNetwork(t, l, o)
	if err := n.Start(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	return n
}

// logState shows what a test that failed left: every log, every DHCP message.
func logState(t *testing.T, l *lab.Lab) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(l.Dir, "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s:\n%s", filepath.Base(path), data[max(0, len(data)-8<<10):])
	}
	for _, m := range l.Wire().Messages() {
		t.Logf("%s %s -> %s %s ciaddr %s yiaddr %s", m.Time.Format("15:04:05.000000"), m.From, m.To, m.MessageType(), m.ClientIPAddr, m.YourIPAddr)
	}
}

// needs skips a test whose program is not installed.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := lab.LookPath(program); err != nil {
		t.Skipf("%s is not installed: %v", program, err)
	}
}

// forEachProgram runs a test at once with every DHCP client.
func forEachProgram(t *testing.T, programs []lab.Program, f func(*testing.T, lab.Program)) {
	for _, p := range programs {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			if err := p.Check(); err != nil {
				t.Skipf("%s cannot run here: %v", p, err)
			}
			f(t, p)
		})
	}
}

// lease switches a machine on and waits for its lease.
func lease(t *testing.T, l *lab.Lab, p lab.Program, m lab.Machine) (lab.Client, lab.Lease) {
	t.Helper()
	ctx := timeout(t, patience)
	c, err := l.StartClient(ctx, p, m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Lease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return c, got
}
