//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A Mode is how a lab comes by its network.
type Mode int

const (
	// Namespaces are made by this process itself, which root may.
	Namespaces Mode = iota + 1
	// UserNamespaces are made inside a user namespace, in which an ordinary
	// user is root: what `unshare -Urnm` gives.
	UserNamespaces
	// Loopback has no namespaces: the client is a DHCP relay on 127.0.0.1.
	Loopback
)

var modeNames = map[Mode]string{Namespaces: "namespaces", UserNamespaces: "user-namespaces", Loopback: "loopback"}

func (m Mode) String() string { return modeNames[m] }

// ParseMode reads a mode's name; "auto" is 0, the best mode that is possible.
func ParseMode(name string) (Mode, error) {
	if name == "auto" {
		return 0, nil
	}
	for m, n := range modeNames {
		if n == name {
			return m, nil
		}
	}
	return 0, fmt.Errorf("mode %q: expected auto, namespaces, user-namespaces or loopback", name)
}

// insideEnv says what part the re-executed program plays.
const insideEnv = "DICOMNAM_LAB_INSIDE" // "probe" or "run"

// Enter settles which mode is possible, and returns it with the reasons against
// the better ones. With want other than 0 only that mode is tried. Call it early
// in main or TestMain, before anything is made that an exit would leave behind.
//
// For [UserNamespaces] the program is executed again inside a new user, network
// and mount namespace, with the same arguments, and Enter returns there alone:
// here it waits for that process and exits with its status.
func Enter(want Mode) (Mode, []string, error) {
	switch os.Getenv(insideEnv) {
	case "probe":
		if err := try(Namespaces); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "run":
		// Not for the programs that are started from here.
		if err := os.Unsetenv(insideEnv); err != nil {
			return 0, nil, err
		}
		// This process's own network is a new one too, of which nothing is up.
		return UserNamespaces, nil, raise("lo")
	}
	var reasons []string
	if want == 0 || want == Namespaces {
		err := try(Namespaces)
		if err == nil {
			return Namespaces, nil, nil
		}
		reasons = append(reasons, err.Error())
	}
	if want == 0 || want == UserNamespaces {
		err := probe()
		if err == nil {
			status, err := reexecute("run")
			if err != nil {
				return 0, nil, err
			}
			os.Exit(status)
		}
		reasons = append(reasons, err.Error())
	}
	if want == 0 || want == Loopback {
		return Loopback, reasons, nil
	}
	return 0, nil, errors.New(strings.Join(reasons, "; "))
}

// try makes a lab and removes it: kernels and security modules forbid
// namespaces at different steps, so only doing it tells.
func try(m Mode) error {
	l, err := New(Config{Mode: m, Server: netip.MustParsePrefix("192.0.2.2/24"), Dir: os.TempDir()})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(l.Plug(ctx, serverMAC), l.Close())
}

// probe tries a lab inside a user namespace.
func probe() error {
	cmd := inside("probe")
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	runtime.LockOSThread() // see reexecute
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(output.String()); text != "" {
			return fmt.Errorf("in a user namespace: %s", text)
		}
		if errors.Is(err, syscall.ENOSPC) {
			// What the kernel means by it: user_namespaces(7) and namespaces(7).
			return errors.New("making a user namespace: the kernel's limit is reached (/proc/sys/user)")
		}
		return fmt.Errorf("making a user namespace: %w", err)
	}
	return nil
}

// reexecute runs this program again in a user namespace, hands it the signals
// that this process gets, and returns its exit status.
func reexecute(part string) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	cmd := inside(part)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// The parent-death signal comes when the thread that started the process
	// ends, so this one stays until it has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting again in a user namespace: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s)
			case <-ended:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("waiting for the program in its user namespace: %w", err)
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

// inside is this program, to be executed in a user namespace of its own, where
// its user is root and may make network namespaces.
func inside(part string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideEnv+"="+part)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGTERM,
	}
	return cmd
}
