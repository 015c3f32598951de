//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// dhcpcdRelease has dhcpcd give its lease back and end.
const dhcpcdRelease = syscall.SIGALRM

func (x *external) dhcpcd(self string) (Command, error) {
	// Leases lie where it was compiled to have them.
	state := x.file(".state")
	if err := os.Mkdir(state, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return Command{}, err
	}
	// By default it asks for what is in the machine's dhcpcd.conf, and probes an
	// address for five seconds before it uses it; and one that it had before it
	// gives up after five seconds without an answer.
	conf := []byte("noarp\nreboot 30\nnoipv6rs\nrequire dhcp_server_identifier\n")
	for _, o := range wanted {
		conf = fmt.Appendf(conf, "option %d\n", o.Code())
	}
	if x.machine.Hostname != "" {
		conf = fmt.Appendf(conf, "hostname %s\n", x.machine.Hostname)
	}
	if x.machine.FQDN != "" {
		conf = fmt.Appendf(conf, "hostname %s\nfqdn both\n", x.machine.FQDN)
	}
	if err := os.WriteFile(x.file(".conf"), conf, 0o644); err != nil {
		return Command{}, err
	}
	return Command{
		Name: string(Dhcpcd), Path: "dhcpcd",
		Args: []string{
			"--nobackground", "--debug", "--ipv4only", "--config", x.file(".conf"), "--script", self,
			"--env", hookEnv + "=" + x.events, "--env", reportEnv + "=1", Link,
		},
		Mounts: []Mount{{Target: "/run"}, {Source: state, Target: "/var/lib/dhcpcd"}},
		Insist: true, // it is deaf while it waits for its script
	}, nil
}

// endDhcpcd has it give its lease back, and returns when it has ended. It may not
// hear a signal that comes while its script runs, so it is told until it has.
func (x *external) endDhcpcd(ctx context.Context) error {
	for {
		if err := x.process.Signal(dhcpcdRelease); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-x.process.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end of dhcpcd: %w", ctx.Err())
		}
	}
}

// otherUsers says why a program cannot change its user: an ordinary user's
// namespace has that one user only.
func otherUsers() error {
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return err
	}
	if f := strings.Fields(string(users)); len(f) == 3 && f[2] == "1" {
		return errors.New("the user namespace has one user only")
	}
	return nil
}
