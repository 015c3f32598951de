//go:build linux

package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// grace is how long a process has for its own end after SIGTERM.
const grace = 30 * time.Second

// insist is the pause between two SIGTERM, where one may be lost.
const insist = 500 * time.Millisecond

// A Command is a program to start.
type Command struct {
	Name string   // names the log file, NAME.log; a restart goes on in the same file
	Path string   // the program, absolute or found in PATH
	Args []string // without the program's name
	Env  []string // added to the environment
	Dir  string   // working directory; default the lab's

	// Mounts are what the program alone sees in place of the machine's own files,
	// for those programs that cannot be told to use others.
	Mounts []Mount

	// Insist says that the program may lose a SIGTERM, and is sent it until it ends.
	Insist bool
}

// A Process is a program that runs in a namespace. Its output goes to a file.
type Process struct {
	Name  string
	Log   string        // path of the file with its standard output and error
	from  int64         // where in the file its own begins
	again time.Duration // after which Stop sends SIGTERM again
	cmd   *exec.Cmd
	done  chan struct{}
	err   error // how it ended; set before done is closed
}

// Start starts a program in the namespace. The process is stopped when the lab
// closes, and the kernel kills it when this process dies.
func (l *Lab) Start(n *Namespace, c Command) (*Process, error) {
	path, err := LookPath(c.Path)
	if err != nil {
		return nil, err
	}
	p := &Process{Name: c.Name, Log: filepath.Join(l.Dir, c.Name+".log"), done: make(chan struct{}), again: grace}
	if c.Insist {
		p.again = insist
	}
	log, err := os.OpenFile(p.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", c.Name, err)
	}
	defer func() { _ = log.Close() }() // the process has its own copy
	if p.from, err = log.Seek(0, io.SeekEnd); err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", c.Name, err)
	}
	p.cmd = exec.Command(path, c.Args...)
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Dir = l.Dir
	if c.Dir != "" {
		p.cmd.Dir = c.Dir
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A process group of its own: Ctrl-C in a terminal reaches only the lab,
	// which then stops its processes in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if len(c.Mounts) > 0 {
		if err := mountFirst(p.cmd, c.Mounts); err != nil {
			return nil, fmt.Errorf("starting %s: %w", c.Name, err)
		}
	}
	if err := n.Do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	l.mu.Lock()
	l.processes = append(l.processes, p)
	l.mu.Unlock()
	return p, nil
}

// Output runs a program in the namespace to its end and returns its standard
// output. An exit status other than 0 is an error that holds its standard error.
func (l *Lab) Output(ctx context.Context, n *Namespace, path string, args ...string) ([]byte, error) {
	path, err := LookPath(path)
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = l.Dir
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(path), err)
	}
	if err := cmd.Wait(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", filepath.Base(path), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// LookPath finds a program in PATH or where system administration programs
// live, which an ordinary user's PATH leaves out on Debian.
func LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || strings.Contains(name, "/") {
		return path, err
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// PID is the process identifier, also after the process ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended: nil while it runs and after exit status 0.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Ended is the error of who needs a process that has ended; "exit status 0" is
// one too.
func (p *Process) Ended() error {
	return fmt.Errorf("%s ended: %w", p.Name, cmp.Or(p.Err(), errors.New("exit status 0")))
}

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signalling %s: %w", p.Name, err)
	}
	return nil
}

// Stop asks the process to end (SIGTERM), kills it after a grace time, and
// returns when it has ended. A process that had to be killed is an error.
func (p *Process) Stop() error {
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
			<-p.done
			return nil
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(p.again):
		}
	}
	p.Kill()
	return fmt.Errorf("%s did not end within %s of SIGTERM", p.Name, grace)
}

// Kill ends the process and its process group with SIGKILL, as a power cut
// would, and returns when it has ended.
func (p *Process) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	// Not reaped yet in all likelihood, so the group still bears this number;
	// where it was reaped this instant, Process.Kill knows and does nothing.
	if p.cmd.Process.Signal(syscall.Signal(0)) == nil {
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Written is what the process has written up to now, "" if that cannot be read.
// A later process of the same name adds to it.
func (p *Process) Written() string {
	data, err := os.ReadFile(p.Log)
	if err != nil || int64(len(data)) < p.from {
		return ""
	}
	return string(data[p.from:])
}

// Tail returns the last lines that the process wrote.
func (p *Process) Tail(lines int) string {
	all := strings.Split(strings.TrimRight(p.Written(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// WaitUDP waits until the process has a UDP socket that is bound to port, in
// whatever namespace it runs. It fails at once when the process ends.
func (p *Process) WaitUDP(ctx context.Context, port uint16) error {
	for {
		bound, err := p.boundUDP(port)
		if err == nil && bound {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("before it listened on UDP port %d: %w", port, p.Ended())
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to listen on UDP port %d: %w", p.Name, port, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// boundUDP reads /proc/PID/net/udp and udp6: the sockets of the process's
// network namespace, of which it is checked that the process holds one.
func (p *Process) boundUDP(port uint16) (bool, error) {
	want := ":" + strings.ToUpper(hex.EncodeToString([]byte{byte(port >> 8), byte(port)}))
	inodes := map[string]bool{}
	for _, table := range []string{"udp", "udp6"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.PID(), table))
		if err != nil {
			continue // a kernel without IPv6 has no udp6
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) > 9 && strings.HasSuffix(f[1], want) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	if len(inodes) == 0 {
		return false, nil
	}
	dir := fmt.Sprintf("/proc/%d/fd", p.PID())
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && inodes[target] {
			return true, nil
		}
	}
	return false, nil
}
