//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Client is a DHCP client that runs in the lab for one machine.
type Client interface {
	// Lease waits for the client's first lease, and then for the next that a
	// server gave or confirmed.
	Lease(ctx context.Context) (Lease, error)
	// Renew has the server confirm the lease, and returns what it confirmed.
	// Before it, Lease must have returned one.
	Renew(ctx context.Context) (Lease, error)
	// Release gives the lease back and ends the client. It returns when the
	// message is on the wire.
	Release(ctx context.Context) error
	// Kill ends the client at once, as a power cut would: the server is not
	// told, and still counts the lease.
	Kill()
}

// A Machine is a device whose DHCP client runs in the lab.
type Machine struct {
	MAC      net.HardwareAddr
	Hostname string // what it calls itself, option 12; "": nothing
	FQDN     string // what it calls itself by option 81 instead; not for the built-in programs
	// LeaseTime is what it asks for, option 51; 0: nothing; for the built-in programs only.
	LeaseTime time.Duration
}

// A Program is a DHCP client program.
type Program string

const (
	Udhcpc   Program = "udhcpc"   // BusyBox
	Dhclient Program = "dhclient" // ISC
	Dhcpcd   Program = "dhcpcd"   // by Roy Marples
	Networkd Program = "networkd" // systemd
	Builtin  Program = "built-in" // insomniacslk/dhcp, in this process, over the wire
	Relay    Program = "relay"    // the same, as a relay that speaks to the server on loopback
)

// Programs are those that can run in a mode here, the most telling first: what
// devices have in them before what was written by those who judge it.
func Programs(m Mode) []Program {
	if m == Loopback {
		return []Program{Relay}
	}
	var ps []Program
	for _, p := range []Program{Udhcpc, Dhclient, Dhcpcd, Networkd, Builtin} {
		if p.Check() == nil {
			ps = append(ps, p)
		}
	}
	return ps
}

// Check says why a program cannot run here.
func (p Program) Check() error {
	switch p {
	case Udhcpc:
		_, _, err := udhcpcCommand()
		return err
	case Dhclient:
		// Its profile lets it write nowhere but where the machine's own leases
		// are, and run no script but the machine's own.
		if err := Confined("dhclient"); err != nil {
			return err
		}
		_, err := LookPath("dhclient")
		return err
	case Dhcpcd:
		_, err := LookPath("dhcpcd")
		return errors.Join(err, otherUsers())
	case Networkd:
		_, err := networkdAccount()
		return errors.Join(err, otherUsers())
	}
	return nil
}

// Confined says whether AppArmor keeps a program to the machine's own files, so
// that it cannot be used with a lab's.
func Confined(program string) error {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || enabled[0] != 'Y' {
		return nil //nolint:nilerr // a kernel without AppArmor has no such file
	}
	if matches, _ := filepath.Glob("/etc/apparmor.d/*" + program); len(matches) > 0 {
		return fmt.Errorf("%s: confined by AppArmor to the machine's own files", program)
	}
	return nil
}

// StartClient puts the machine on the wire and starts its DHCP client.
func (l *Lab) StartClient(ctx context.Context, p Program, m Machine) (Client, error) {
	if p == Relay {
		return l.startRelay(m)
	}
	if err := l.Plug(ctx, m.MAC); err != nil {
		return nil, fmt.Errorf("putting %s on the wire: %w", m.MAC, err)
	}
	switch p {
	case Builtin:
		return l.startBuiltin(ctx, m)
	case Networkd:
		return l.startNetworkd(m)
	case Udhcpc, Dhclient, Dhcpcd:
		x := &external{lab: l, program: p, machine: m}
		return x, x.start()
	}
	return nil, fmt.Errorf("DHCP client program %q: unknown", p)
}

// external is a client program that reports to this program as its script.
type external struct {
	lab     *Lab
	program Program
	machine Machine
	process *Process
	events  string // path
	read    int    // events that were looked at
	leases  int    // of them that brought one
	lease   Lease  // the last
}

// file is a file of the client, which belongs to the machine: a machine that is
// switched on again finds what it wrote.
func (x *external) file(suffix string) string {
	mac := strings.ReplaceAll(x.machine.MAC.String(), ":", "")
	return filepath.Join(x.lab.Dir, string(x.program)+"-"+mac+suffix)
}

func (x *external) start() error {
	x.events, x.read, x.leases = x.file(".events"), 0, 0
	if err := os.Remove(x.events); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	var c Command
	switch x.program {
	case Udhcpc:
		c, err = x.udhcpc(self)
	case Dhclient:
		c, err = x.dhclient(self)
	case Dhcpcd:
		c, err = x.dhcpcd(self)
	}
	if err != nil {
		return err
	}
	x.process, err = x.lab.Start(x.lab.Client, c)
	return err
}

// Signals that BusyBox's udhcpc obeys.
const (
	udhcpcRenew   = syscall.SIGUSR1
	udhcpcRelease = syscall.SIGUSR2
)

// udhcpcCommand is the program, and the arguments that make it udhcpc.
func udhcpcCommand() (string, []string, error) {
	path, err := LookPath("udhcpc")
	if err == nil {
		return path, nil, nil
	}
	if path, busyboxErr := LookPath("busybox"); busyboxErr == nil {
		return path, []string{"udhcpc"}, nil
	}
	return "", nil, err
}

func (x *external) udhcpc(self string) (Command, error) {
	path, args, err := udhcpcCommand()
	if err != nil {
		return Command{}, err
	}
	// In the foreground; a DISCOVER each second; only the options named.
	args = append(args, "-f", "-i", Link, "-s", self, "-t", "30", "-T", "1", "-A", "1", "-o")
	for _, o := range wanted {
		args = append(args, "-O", strconv.Itoa(int(o.Code())))
	}
	if x.machine.Hostname != "" {
		args = append(args, "-x", "hostname:"+x.machine.Hostname)
	}
	if x.machine.FQDN != "" {
		args = append(args, "-F", x.machine.FQDN)
	}
	return Command{Name: string(Udhcpc), Path: path, Args: args, Env: []string{hookEnv + "=" + x.events}}, nil
}

func (x *external) dhclient(self string) (Command, error) {
	conf := "timeout 30; retry 1; initial-interval 1; backoff-cutoff 2; reboot 30;\n" +
		"request subnet-mask, broadcast-address, time-offset, routers, domain-name,\n" +
		"  domain-name-servers, host-name, ntp-servers, interface-mtu;\n"
	if x.machine.Hostname != "" {
		conf += "send host-name \"" + x.machine.Hostname + "\";\n"
	}
	if x.machine.FQDN != "" {
		conf += "send fqdn.fqdn \"" + x.machine.FQDN + "\"; send fqdn.encoded on; send fqdn.server-update off;\n"
	}
	if err := os.WriteFile(x.file(".conf"), []byte(conf), 0o644); err != nil {
		return Command{}, err
	}
	// Left by a client that was killed; its number may be another's by now.
	if err := os.Remove(x.file(".pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Command{}, err
	}
	return Command{Name: string(Dhclient), Path: "dhclient", Args: x.dhclientArgs(self, "-d")}, nil
}

func (x *external) dhclientArgs(self, how string) []string {
	// Its script gets no environment but what it is told to hand on.
	return []string{
		"-4", how, "-sf", self, "-cf", x.file(".conf"), "-lf", x.file(".leases"), "-pf", x.file(".pid"),
		"-e", hookEnv + "=" + x.events, Link,
	}
}

// Lease waits for an event with a lease that was not looked at yet.
func (x *external) Lease(ctx context.Context) (Lease, error) {
	for {
		events, err := readEvents(x.events)
		if err != nil {
			return Lease{}, err
		}
		for x.read < len(events) {
			e := events[x.read]
			x.read++
			if e.Lease != nil {
				x.leases, x.lease = x.leases+1, *e.Lease
				return x.lease, x.settle(ctx)
			}
		}
		if err := x.pause(ctx); err != nil {
			return Lease{}, fmt.Errorf("waiting for a lease: %w", err)
		}
	}
}

// settle waits until dhclient, after its script, has written the lease to its
// file, and so knows what it may renew and release: it says so in its log.
func (x *external) settle(ctx context.Context) error {
	if x.program != Dhclient {
		return nil
	}
	for strings.Count(x.process.Written(), "\nbound to ") < x.leases {
		if err := x.pause(ctx); err != nil {
			return fmt.Errorf("waiting for the lease to be written: %w", err)
		}
	}
	return nil
}

// pause is between two looks at what the program does.
func (x *external) pause(ctx context.Context) error {
	select {
	case <-x.process.Done():
		return x.process.Ended()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Millisecond):
		return nil
	}
}

// Renew has udhcpc ask its server again (RENEWING). The others do so only when
// half of the lease has passed, so they are switched off and on again, and ask
// for the address that stands in their lease file (INIT-REBOOT).
func (x *external) Renew(ctx context.Context) (Lease, error) {
	if x.program == Udhcpc {
		if err := x.process.Signal(udhcpcRenew); err != nil {
			return Lease{}, err
		}
		return x.Lease(ctx)
	}
	x.Kill()
	if err := x.start(); err != nil {
		return Lease{}, err
	}
	return x.Lease(ctx)
}

// AskNow has udhcpc ask its server again (RENEWING), and does not wait for an
// answer. Without one it asks any server (REBINDING).
func (x *external) AskNow() error { return x.process.Signal(udhcpcRenew) }

func (x *external) Release(ctx context.Context) error {
	since := time.Now()
	switch x.program {
	case Udhcpc:
		if err := x.process.Signal(udhcpcRelease); err != nil {
			return err
		}
	case Dhcpcd:
		if err := x.endDhcpcd(ctx); err != nil {
			return err
		}
	case Dhclient:
		// A second dhclient ends the first, by the number in its file, and
		// sends the message.
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding this program: %w", err)
		}
		args := x.dhclientArgs(self, "-r")
		p, err := x.lab.Start(x.lab.Client, Command{Name: string(Dhclient), Path: "dhclient", Args: args})
		if err != nil {
			return err
		}
		select {
		case <-p.Done():
		case <-ctx.Done():
			return fmt.Errorf("waiting for dhclient -r: %w", ctx.Err())
		}
		if err := p.Err(); err != nil {
			return fmt.Errorf("dhclient -r: %w", err)
		}
	}
	if _, err := x.lab.wire.WaitRelease(ctx, since, x.lease.Address); err != nil {
		return err
	}
	return x.process.Stop()
}

func (x *external) Kill() { x.process.Kill() }
