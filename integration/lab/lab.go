//go:build linux

// Package lab is a laboratory network on one machine: two network namespaces
// joined by a wire, one for servers and one for a DHCP client, the processes
// that run in them, and an end to all of it.
//
// The servers under test and the clients that judge them are real programs, so
// the lab must be able to do what they do to a network (raw frames, broadcasts,
// ports below 1024, addresses that come and go) without doing it to the machine
// that it runs on. Namespaces give that, and an ordinary user gets them from a
// user namespace ([Enter]). Nothing of the lab has a name outside: namespaces
// are held by open files and threads only, processes carry a parent-death
// signal, and what they write lies in one temporary directory. So whatever way
// a lab ends, the kernel takes its network and its processes away.
//
// Where the kernel allows no namespaces the lab is a [Loopback] one: servers on
// free ports of 127.0.0.1, and a client that speaks to them as a DHCP relay.
//
// Only netlink is used, no ip command; the scripts that DHCP clients call are
// the program itself, executed again.
package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
)

// A Config says what the lab's network looks like.
type Config struct {
	Mode   Mode
	Server netip.Prefix // address and prefix of the server's end of the wire; for Loopback the network that clients ask for
	Dir    string       // directory for files; default a new temporary one, which Close removes
	Keep   bool         // Close leaves the directory
	// Unrecorded leaves the Wire empty: of a load of a million clients it would
	// keep every message, and take more of the processors than the load itself.
	Unrecorded bool
}

// A Lab is a running laboratory network.
type Lab struct {
	Mode   Mode
	Dir    string     // holds logs, and what the lab's user puts there
	Server *Namespace // where the servers run
	Client *Namespace // where the client runs; a Loopback lab has one namespace for both
	Keep   bool       // whether Close leaves the directory

	// DHCP is where the DHCP server listens. A Loopback lab must be told before
	// its clients start; the others' clients find it.
	DHCP netip.AddrPort

	wire   *Wire
	server netip.Prefix
	made   bool // Dir is the lab's own

	mu        sync.Mutex
	processes []*Process
	disks     []*Disk
	joined    []*Namespace // of NewNamespace
}

// New makes the network. What it made is removed again if it fails.
func New(c Config) (_ *Lab, err error) {
	l := &Lab{Mode: c.Mode, Dir: c.Dir, Keep: c.Keep, server: c.Server, wire: newWire()}
	defer func() {
		if err != nil {
			l.Keep = false
			err = errors.Join(err, l.Close())
		}
	}()
	if l.Dir == "" {
		if l.Dir, err = os.MkdirTemp("", "dicomnam-lab-"); err != nil {
			return nil, fmt.Errorf("making the lab's directory: %w", err)
		}
		l.made = true
	}
	isolated := c.Mode != Loopback
	if l.Server, err = newNamespace("server", isolated); err != nil {
		return nil, err
	}
	if !isolated {
		l.Client = l.Server
		return l, nil
	}
	if l.Client, err = newNamespace("client", true); err != nil {
		return nil, err
	}
	if err := connect(l.Server, l.Client, c.Server); err != nil {
		return nil, err
	}
	if c.Unrecorded {
		return l, nil
	}
	return l, l.Client.Do(l.wire.listen)
}

// Wire is what crosses the client's end of the wire, nothing in an Unrecorded lab.
func (l *Lab) Wire() *Wire { return l.wire }

// Close stops the processes, the last started first, removes the network, and
// removes the directory unless it is to be kept. A Lab that was closed may be
// closed again.
func (l *Lab) Close() error {
	l.mu.Lock()
	running := l.processes
	l.processes = nil
	l.mu.Unlock()
	var errs []error
	for _, p := range slices.Backward(running) {
		if err := p.Stop(); err != nil {
			errs = append(errs, err)
		}
	}
	l.mu.Lock()
	disks := l.disks
	l.disks = nil
	l.mu.Unlock()
	for _, d := range disks {
		errs = append(errs, d.close())
	}
	errs = append(errs, l.wire.close())
	l.mu.Lock()
	joined := l.joined
	l.joined = nil
	l.mu.Unlock()
	for _, n := range joined {
		errs = append(errs, n.close())
	}
	if l.Client != nil && l.Client != l.Server {
		errs = append(errs, l.Client.close())
	}
	if l.Server != nil {
		errs = append(errs, l.Server.close())
	}
	l.Client, l.Server = nil, nil
	if l.made && !l.Keep {
		errs = append(errs, os.RemoveAll(l.Dir))
	}
	return errors.Join(errs...)
}

// FreePort returns a port of an IPv4 address that is free for UDP and TCP, and
// no other call of this process has returned. It is below those that the kernel
// gives to outgoing connections, one of which could take it before its server:
// net.ipv4.ip_local_port_range begins at 32768, unless it was set.
func FreePort(ctx context.Context, address netip.Addr) (uint16, error) {
	const lowest, above = 10_000, 20_000 // tests of other packages, at the same time, take others
	var lc net.ListenConfig
	var err error
	for range 100 {
		port := uint16(lowest + rand.IntN(above-lowest))
		if _, taken := ports.LoadOrStore(port, true); taken {
			continue
		}
		var u net.PacketConn
		if u, err = lc.ListenPacket(ctx, "udp4", netip.AddrPortFrom(address, port).String()); err != nil {
			continue
		}
		var t net.Listener
		t, err = lc.Listen(ctx, "tcp4", netip.AddrPortFrom(address, port).String())
		if err = errors.Join(err, u.Close()); err != nil {
			continue
		}
		return port, t.Close()
	}
	return 0, fmt.Errorf("finding a free port: 100 attempts found none: %w", err)
}

var ports sync.Map // of the uint16 that FreePort returned
