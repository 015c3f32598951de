//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

var (
	testMode    Mode
	testReasons []string
	testServer  = netip.MustParsePrefix("192.0.2.2/24")
	testMAC     = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x01}
)

// victimEnv makes the test binary a program that ends badly inside a lab.
const victimEnv = "DICOMNAM_LAB_TEST_VICTIM"

func TestMain(m *testing.M) {
	RunHook()
	var err error
	if testMode, testReasons, err = Enter(0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if how := os.Getenv(victimEnv); how != "" {
		victim(how)
	}
	os.Exit(m.Run())
}

func testLab(t *testing.T) *Lab {
	t.Helper()
	if testMode == Loopback {
		t.Skipf("no network namespaces here: %s", strings.Join(testReasons, "; "))
	}
	l, err := New(Config{Mode: testMode, Server: testServer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(l.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory %s is left: %v", l.Dir, err)
		}
	})
	return l
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// The two ends reach each other and nothing else: not the machine, not the ends
// of another lab with the same names and addresses.
func TestNetwork(t *testing.T) {
	a, b := testLab(t), testLab(t)
	var servers []net.PacketConn
	for _, l := range []*Lab{a, b} {
		if err := l.Plug(testContext(t), testMAC); err != nil {
			t.Fatal(err)
		}
		err := l.Client.Do(func() error {
			link, err := netlink.LinkByName(Link)
			if err != nil {
				return err
			}
			if got := link.Attrs().HardwareAddr.String(); got != testMAC.String() {
				t.Errorf("hardware address %s, expected %s", got, testMAC)
			}
			return configure(link, Lease{Address: netip.MustParseAddr("192.0.2.11"), Bits: 24})
		})
		if err != nil {
			t.Fatal(err)
		}
		err = l.Server.Do(func() error {
			conn, err := net.ListenPacket("udp4", "192.0.2.2:53") // both at once
			servers = append(servers, conn)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer servers[len(servers)-1].Close()
	}
	conn, err := b.Client.Dial("udp4", netip.MustParseAddrPort("192.0.2.2:53"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("to b")); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 16)
	_ = servers[1].SetReadDeadline(time.Now().Add(2 * time.Minute))
	n, from, err := servers[1].ReadFrom(buffer)
	if err != nil || string(buffer[:n]) != "to b" {
		t.Fatalf("the server of b got %q from %v: %v", buffer[:n], from, err)
	}
	if from, _, _ := net.SplitHostPort(from.String()); from != "192.0.2.11" {
		t.Errorf("from %s, expected 192.0.2.11", from)
	}
	_ = servers[0].SetReadDeadline(time.Now())
	if n, from, err := servers[0].ReadFrom(buffer); err == nil {
		t.Errorf("the server of a got %q from %v", buffer[:n], from)
	}

	// Another machine at the same end knows nothing of the one before.
	if err := b.Plug(testContext(t), net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x02}); err != nil {
		t.Fatal(err)
	}
	if conn, err := b.Client.Dial("udp4", netip.MustParseAddrPort("192.0.2.2:53")); err == nil {
		conn.Close()
		t.Error("a machine without an address reaches the server")
	}
}

// Nobody listens on the wire of a lab that records nothing.
func TestUnrecorded(t *testing.T) {
	if recorded := testLab(t); recorded.wire.socket == nil {
		t.Error("a lab does not listen on its wire")
	}
	l, err := New(Config{Mode: testMode, Server: testServer, Unrecorded: true})
	if err != nil {
		t.Fatal(err)
	}
	if l.wire.socket != nil {
		t.Error("an unrecorded lab listens on its wire")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestPanicComesUpInCaller(t *testing.T) {
	n, err := newNamespace("test", false)
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if r := recover(); r != "there" {
				t.Errorf("recovered %v, expected there", r)
			}
		}()
		_ = n.Do(func() error { panic("there") })
	}()
	if err := n.Do(func() error { return nil }); err != nil {
		t.Errorf("after a panic: %v", err)
	}
	if err := n.close(); err != nil {
		t.Error(err)
	}
	if err := n.Do(func() error { return nil }); err == nil {
		t.Error("a closed namespace runs a function")
	}
}

func shell(t *testing.T, l *Lab, name, script string) *Process {
	t.Helper()
	p, err := l.Start(l.Server, Command{Name: name, Path: "sh", Args: []string{"-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// waitLog waits until a process has written a line.
func waitLog(t *testing.T, p *Process, line string) {
	t.Helper()
	for ctx := testContext(t); !strings.Contains("\n"+p.Tail(100)+"\n", "\n"+line+"\n"); {
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not write %q: %s", p.Name, line, p.Tail(100))
		case <-time.After(time.Millisecond):
		}
	}
}

func TestProcess(t *testing.T) {
	l := testLab(t)
	t.Run("stops at SIGTERM", func(t *testing.T) {
		p := shell(t, l, "polite", `trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.01; done`)
		waitLog(t, p, "ready")
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		if p.Err() == nil || p.Tail(1) != "stopping" {
			t.Errorf("ended with %v after %q", p.Err(), p.Tail(1))
		}
	})
	t.Run("is killed with its children", func(t *testing.T) {
		p := shell(t, l, "parent", `trap '' TERM; sleep 1000 & echo $!; wait; wait`)
		var child int
		for ctx := testContext(t); child == 0 && ctx.Err() == nil; {
			child, _ = strconv.Atoi(p.Tail(1))
		}
		p.Kill()
		gone(t, child)
	})
	t.Run("log goes on after a restart", func(t *testing.T) {
		for range 2 {
			p := shell(t, l, "twice", "echo once")
			<-p.Done()
			if p.Written() != "once\n" {
				t.Errorf("it wrote %q", p.Written())
			}
		}
		data, err := os.ReadFile(filepath.Join(l.Dir, "twice.log"))
		if err != nil || string(data) != strings.Repeat("once\n", 2) {
			t.Errorf("log %q, %v", data, err)
		}
	})
	t.Run("output and its failure", func(t *testing.T) {
		out, err := l.Output(testContext(t), l.Server, "sh", "-c", "echo out; echo why >&2; exit 1")
		if string(out) != "out\n" || err == nil || !strings.Contains(err.Error(), "why") {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("ends before it listens", func(t *testing.T) {
		if err := shell(t, l, "short", "exit 0").WaitUDP(testContext(t), 67); err == nil {
			t.Error("a process that ended listens")
		}
	})
}

// gone waits until there is no process of a number, or only its corpse.
func gone(t *testing.T, pid int) {
	t.Helper()
	for ctx := testContext(t); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("process %d is left: %s", pid, stat)
		case <-time.After(time.Millisecond):
		}
	}
}

// victim ends badly inside a lab, and tells before what it leaves to clean up.
func victim(how string) {
	l, err := New(Config{Mode: testMode, Server: testServer})
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	defer l.Close()
	p, err := l.Start(l.Client, Command{Name: "sleep", Path: "sleep", Args: []string{"1000"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	fmt.Println(p.PID(), l.Dir)
	switch how {
	case "panic":
		panic("on purpose")
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	os.Exit(2)
}

// Whatever way a program with a lab ends, no process survives it; by any but
// SIGKILL no file does either.
func TestBadEnd(t *testing.T) {
	if testMode == Loopback {
		t.Skipf("no network namespaces here: %s", strings.Join(testReasons, "; "))
	}
	for how, files := range map[string]bool{"panic": false, "kill": true} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.CommandContext(testContext(t), os.Args[0])
			cmd.Env = append(os.Environ(), victimEnv+"="+how, "TMPDIR="+t.TempDir())
			out, err := cmd.Output()
			if err == nil {
				t.Error("exit status 0")
			}
			var (
				pid int
				dir string
			)
			if _, err := fmt.Sscan(string(out), &pid, &dir); err != nil {
				t.Fatalf("%q: %v", out, err)
			}
			gone(t, pid)
			if _, err := os.Stat(dir); (err == nil) != files {
				t.Errorf("the directory %s: %v", dir, err)
			}
		})
	}
}

func TestFreePort(t *testing.T) {
	seen := map[uint16]bool{}
	for range 20 {
		port, err := FreePort(t.Context(), netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		if port == 0 || seen[port] {
			t.Errorf("port %d twice", port)
		}
		seen[port] = true
	}
}

// A program with mounts sees other files, and nothing else does.
func TestMounts(t *testing.T) {
	l := testLab(t)
	hosts, dir := filepath.Join(l.Dir, "hosts"), filepath.Join(l.Dir, "state")
	if err := errors.Join(os.WriteFile(hosts, []byte("other\n"), 0o644), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	p, err := l.Start(l.Server, Command{
		Name: "mounts", Path: "sh", Args: []string{"-c", `cat /etc/hosts; echo x 2>/dev/null >/etc/hosts && echo written; ls -A /mnt; echo kept >/mnt/state/file; echo $$`},
		Mounts: []Mount{{hosts, "/etc/hosts", true}, {Target: "/mnt"}, {dir, "/mnt/state", false}},
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if want := fmt.Sprintf("other\nstate\n%d\n", p.PID()); p.Err() != nil || p.Written() != want {
		t.Errorf("%v, it wrote %q, expected %q", p.Err(), p.Written(), want)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != "kept\n" {
		t.Errorf("what it wrote: %q, %v", text, err)
	}
	if text, err := os.ReadFile("/etc/hosts"); err != nil || string(text) == "other\n" {
		t.Errorf("the machine's file: %q, %v", text, err)
	}
	if _, err := os.Stat("/mnt/state"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the machine's directory: %v", err)
	}
	p, err = l.Start(l.Server, Command{Name: "wrong", Path: "true", Mounts: []Mount{{Source: "/nonexistent", Target: "/mnt"}}})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if p.Err() == nil || !strings.Contains(p.Written(), `mounting "/nonexistent" on /mnt`) {
		t.Errorf("%v, it wrote %q", p.Err(), p.Written())
	}
}
