//go:build linux

package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// A demoRun is one way to run the demo.
type demoRun struct {
	args    []string
	user    bool     // as an ordinary user, which only root can try
	without string   // the kind of namespace that the kernel then refuses: "user", "net"
	mode    lab.Mode // that the demo uses, or must find out
}

var demoRuns = map[string]demoRun{
	"as it comes":                          {mode: lab.Namespaces},
	"as a user":                            {user: true, mode: lab.UserNamespaces},
	"as a user without user namespaces":    {user: true, without: "user", mode: lab.Loopback},
	"as a user without network namespaces": {user: true, without: "net", mode: lab.Loopback},
	"told to use user namespaces":          {args: []string{"-mode", "user-namespaces"}, mode: lab.UserNamespaces},
	"told to use loopback":                 {args: []string{"-mode", "loopback"}, mode: lab.Loopback},
	"with dhclient":                        {args: []string{"-client", "dhclient"}, mode: lab.Namespaces},
	"with the built-in client":             {args: []string{"-client", "built-in"}, mode: lab.Namespaces},
}

// A startedDemo is a demo whose traces can be told from those of everything else.
type startedDemo struct {
	*exec.Cmd
	tmp    string          // its temporary directory
	mark   string          // in the environment of each of its processes
	output string          // path of what it prints
	links  []net.Interface // of the test's own network, before
}

const nobody = 65534

// prepare makes the command, and skips what cannot be tried here.
func (r demoRun) prepare(t *testing.T) *startedDemo {
	t.Helper()
	if mode == lab.Loopback && r.mode != lab.Loopback {
		t.Skipf("no network namespaces here: %s", strings.Join(reasons, "; "))
	}
	if r.user && mode != lab.Namespaces {
		t.Skip("only root can be another user")
	}
	if slices.Contains(r.args, "dhclient") {
		if err := lab.Dhclient.Check(); err != nil {
			t.Skip(err)
		}
	}
	demo, err := demoBinary()
	if err != nil {
		t.Fatal(err)
	}
	bin := binaries(t)
	d := &startedDemo{}
	if d.tmp, err = os.MkdirTemp("", "dicomnam-demo-"); err != nil { //nolint:usetesting // the demo runs as another user, who may not enter the test's own directory
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(d.tmp); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(d.tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	if d.links, err = net.Interfaces(); err != nil {
		t.Fatal(err)
	}
	d.mark = "DICOMNAM_DEMO_TEST=" + filepath.Base(d.tmp)
	d.Cmd = exec.CommandContext(timeout(t, 2*patience), demo, r.args...)
	d.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.without != "" {
		// In a user namespace whose limit is 0, below which it counts.
		script := "echo 0 >/proc/sys/user/max_" + r.without + "_namespaces && " +
			fmt.Sprintf(`exec setpriv --reuid=%d --regid=%[1]d --clear-groups "$@"`, nobody)
		d.Cmd = exec.CommandContext(timeout(t, 2*patience), "sh", append([]string{"-c", script, "sh", demo}, r.args...)...)
		ids := []syscall.SysProcIDMap{{Size: 1}, {ContainerID: nobody, HostID: nobody, Size: 1}}
		d.SysProcAttr = &syscall.SysProcAttr{
			Setpgid: true, Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		}
	} else if r.user {
		d.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	d.Dir = d.tmp
	d.Env = append(os.Environ(), "TMPDIR="+d.tmp, "DICOMNAM_BIN="+bin, d.mark)
	d.output = filepath.Join(t.TempDir(), "output")
	output, err := os.Create(d.output)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { output.Close() })
	d.Stdout, d.Stderr = output, output
	return d
}

// ends waits until no process of the demo is left.
func (d *startedDemo) ends(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for left := d.processes(t); len(left) > 0; left = d.processes(t) {
		if time.Now().After(deadline) {
			t.Fatalf("processes are left: %q", left)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// nothingLeft fails where a process, a file or a link of the demo is left.
func (d *startedDemo) nothingLeft(t *testing.T) {
	t.Helper()
	d.ends(t)
	files, err := os.ReadDir(d.tmp)
	if err != nil {
		t.Error(err)
	}
	if len(files) > 0 {
		t.Errorf("files are left: %v", files)
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(links, d.links) {
		t.Errorf("network interfaces: %v, before the demo %v", links, d.links)
	}
}

// processes are those that have the mark, with their command lines. Network
// namespaces without a name live only by processes.
func (d *startedDemo) processes(t *testing.T) []string {
	t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range environs {
		data, err := os.ReadFile(path)
		if err != nil || !slices.Contains(strings.Split(string(data), "\x00"), d.mark) {
			continue // gone, or another user's
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err == nil {
			found = append(found, strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

// The demo holds in each of its modes, finds out which is possible, and leaves
// nothing behind. One after the other, since it looks at all the machine's links.
func TestDemo(t *testing.T) {
	for name, r := range demoRuns {
		t.Run(name, func(t *testing.T) {
			d := r.prepare(t)
			start := time.Now()
			err := d.Run()
			t.Logf("it took %s", time.Since(start))
			if err != nil {
				t.Errorf("%v\n%s", err, d.printed(t))
			}
			for _, want := range []string{"(mode " + r.mode.String() + ")", "\n7. ", "All of it held."} {
				if !strings.Contains(d.printed(t), want) {
					t.Errorf("it does not print %q:\n%s", want, d.printed(t))
				}
			}
			if strings.Contains(d.printed(t), "\x1b") {
				t.Error("it prints colours where no terminal is")
			}
			d.nothingLeft(t)
		})
	}
}

// Ctrl-C ends the demo wherever it is, and leaves nothing behind.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	// In the middle of step 1 the servers start; dhclient takes a second for
	// its release in step 7.
	for name, r := range map[string]demoRun{
		"as it comes":          {args: []string{"-client", "dhclient"}, mode: lab.Namespaces},
		"as a user":            {args: []string{"-client", "dhclient"}, user: true, mode: lab.UserNamespaces},
		"told to use loopback": {args: []string{"-mode", "loopback"}, mode: lab.Loopback},
	} {
		for _, step := range []string{"1. ", "7. "} {
			if step == "7. " && r.mode == lab.Loopback {
				continue // over before a signal comes
			}
			t.Run(name+", step "+step, func(t *testing.T) {
				t.Parallel()
				var d *startedDemo
				var err error
				for range 10 {
					d = r.prepare(t)
					d.startUntil(t, step)
					// As a terminal does it: to every process of the foreground.
					if err := syscall.Kill(-d.Process.Pid, syscall.SIGINT); err != nil {
						t.Fatal(err)
					}
					if err = d.Wait(); err != nil || !strings.Contains(d.printed(t), "All of it held.") {
						break
					}
					t.Log("it was over before the signal came")
				}
				if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 130 {
					t.Errorf("%v, expected exit status 130\n%s", err, d.printed(t))
				}
				d.nothingLeft(t)
			})
		}
	}
}

// Even SIGKILL, after which the demo can do nothing, leaves no process, and so
// no network.
func TestDemoKilled(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]demoRun{
		"as it comes": {args: []string{"-client", "dhclient"}, mode: lab.Namespaces},
		"as a user":   {args: []string{"-client", "dhclient"}, user: true, mode: lab.UserNamespaces},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := r.prepare(t)
			d.startUntil(t, "7. ")
			if err := d.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = d.Wait()
			d.ends(t)
		})
	}
}

// startUntil starts the demo and returns when it has printed a line that begins so.
func (d *startedDemo) startUntil(t *testing.T, line string) {
	t.Helper()
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for !strings.Contains("\n"+d.printed(t), "\n"+line) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not print %q:\n%s", line, d.printed(t))
		}
		time.Sleep(time.Millisecond)
	}
}

// printed is what the demo has printed up to now.
func (d *startedDemo) printed(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(d.output)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
