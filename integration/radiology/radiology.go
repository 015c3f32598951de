//go:build linux

// Package radiology is a made-up radiology network for a lab: its devices, the
// configuration files that describe it, and the two servers that run it.
//
// The files are those of corefile-examples/clinic, and the servers are the built
// binaries, so that what holds here holds for whoever runs them. They can be
// killed and started again on their files and databases.
package radiology

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/miekg/dns"

	examples "github.com/dicomnam/dicomnam/corefile-examples"
	"github.com/dicomnam/dicomnam/integration/lab"
)

// What stands in the site file.
const (
	Domain    = "imaging.example.org."
	LeaseTime = 12 * time.Hour // default
	Key       = "dhcp.imaging.example.org."
	Zone      = "Europe/Berlin"
	MTU       = 1500
)

var (
	Server = netip.MustParsePrefix("192.0.2.2/24") // of both servers
	Router = netip.MustParseAddr("192.0.2.1")
	NTP    = netip.MustParseAddr("192.0.2.3")
	Pool   = [2]netip.Addr{netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("192.0.2.199")}
)

// A Device is a machine of the network.
type Device struct {
	lab.Machine
	Host    string     // fully qualified
	Address netip.Addr // fixed; the zero Addr: from the pool
}

// The devices of the site file.
var (
	CT1   = Device{Machine: machine(0x01), Host: "ct1." + Domain, Address: netip.MustParseAddr("192.0.2.11")}
	MR1   = Device{Machine: machine(0x02), Host: "mr1." + Domain}
	OldMR = Device{Host: "oldmr." + Domain, Address: netip.MustParseAddr("192.0.2.20")}
	LDAP  = Device{Host: "ldap." + Domain, Address: netip.MustParseAddr("192.0.2.5")}
)

// Guest is a machine that stands in no site file, and calls itself by a name.
func Guest(n byte, hostname string) lab.Machine {
	m := machine(n)
	m.Hostname = hostname
	return m
}

// machine has a hardware address of the range that RFC 7042 keeps for
// documentation.
func machine(n byte) lab.Machine {
	return lab.Machine{MAC: net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, n}}
}

// Options say what differs from one simulation to the next.
type Options struct {
	Bin       string        // directory of the binaries coredns and coredhcp
	LeaseTime time.Duration // whole seconds; default LeaseTime
	DHCPArgs  []string      // further arguments of coredhcp
}

// A Network is the radiology network in a lab.
type Network struct {
	Site, Config, Corefile, Keys string         // paths of the files
	DNS                          netip.AddrPort // where the name server listens
	DNSServer, DHCPServer        *lab.Process   // nil before they were started

	lab      *lab.Lab
	bin      string
	dhcpArgs []string
}

// New writes the files into the lab's directory. It starts nothing.
func New(ctx context.Context, l *lab.Lab, o Options) (*Network, error) {
	bin, err := filepath.Abs(o.Bin)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"coredns", "coredhcp"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return nil, fmt.Errorf("the programs are not built (make does it): %w", err)
		}
	}
	n := &Network{lab: l, bin: bin, dhcpArgs: o.DHCPArgs}
	for _, f := range []struct {
		path *string
		name string
	}{{&n.Site, "site.yaml"}, {&n.Config, "config.yml"}, {&n.Corefile, "Corefile"}, {&n.Keys, "tsig.keys"}} {
		*f.path = filepath.Join(l.Dir, f.name)
	}
	n.DNS = netip.AddrPortFrom(Server.Addr(), 53)
	l.DHCP = netip.AddrPortFrom(Server.Addr(), 67)
	listen := "%" + lab.Link
	if l.Mode == lab.Loopback {
		local := netip.MustParseAddr("127.0.0.1")
		for _, a := range []*netip.AddrPort{&n.DNS, &l.DHCP} {
			port, err := lab.FreePort(ctx, local)
			if err != nil {
				return nil, err
			}
			*a = netip.AddrPortFrom(local, port)
		}
		listen = l.DHCP.String()
	}
	if o.LeaseTime == 0 {
		o.LeaseTime = LeaseTime
	}
	// What the example's README has an administrator adapt, and the lease time.
	adapt := map[string]string{
		"/etc/dicomnam/":      l.Dir + "/",
		"/var/lib/dicomnam/":  l.Dir + "/",
		"bind 192.0.2.2":      "bind " + n.DNS.Addr().String(),
		"server=192.0.2.2:53": "server=" + n.DNS.String(),
		"%eth0":               listen,
		"lease-time: 12h":     "lease-time: " + strconv.Itoa(int(o.LeaseTime/time.Second)) + "s",
	}
	for _, path := range []string{n.Site, n.Config, n.Corefile} {
		text, err := examples.Files.ReadFile("clinic/" + filepath.Base(path))
		if err != nil {
			return nil, err
		}
		for old, replacement := range adapt {
			text = bytes.ReplaceAll(text, []byte(old), []byte(replacement))
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err
		}
	}
	return n, n.keygen(ctx)
}

// keygen writes the key with which coredhcp signs its updates, by dicomnam where
// it is built, else as tsig reads it.
func (n *Network) keygen(ctx context.Context) error {
	dicomnam := filepath.Join(n.bin, "dicomnam")
	if _, err := os.Stat(dicomnam); err == nil {
		_, err := n.lab.Output(ctx, n.lab.Server, dicomnam, "keygen", Key, "--output", n.Keys)
		return err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	text := fmt.Sprintf("key %q {\nalgorithm hmac-sha256;\nsecret %q;\n};\n", Key, base64.StdEncoding.EncodeToString(secret))
	return os.WriteFile(n.Keys, []byte(text), 0o640)
}

// Start starts both servers and returns when they serve.
func (n *Network) Start(ctx context.Context) error {
	if err := n.StartDNS(ctx); err != nil {
		return err
	}
	return n.StartDHCP(ctx)
}

// StartDNS starts coredns, and returns when it answers for the zone.
func (n *Network) StartDNS(ctx context.Context) error {
	p, err := n.lab.Start(n.lab.Server, lab.Command{
		Name: "coredns",
		Path: filepath.Join(n.bin, "coredns"),
		Args: []string{"-conf", n.Corefile, "-dns.port", strconv.Itoa(int(n.DNS.Port()))},
	})
	if err != nil {
		return err
	}
	n.DNSServer = p
	if err := p.WaitUDP(ctx, n.DNS.Port()); err != nil {
		return err
	}
	r := n.Resolver()
	defer func() { _ = r.Close() }() // nothing is asked any more
	_, _, err = r.Await(ctx, Domain, dns.TypeSOA, lab.Present)
	return err
}

// StartDHCP starts coredhcp, and returns when it listens.
func (n *Network) StartDHCP(ctx context.Context) error {
	p, err := n.lab.Start(n.lab.Server, lab.Command{
		Name: "coredhcp",
		Path: filepath.Join(n.bin, "coredhcp"),
		Args: append([]string{"--conf", n.Config}, n.dhcpArgs...),
	})
	if err != nil {
		return err
	}
	n.DHCPServer = p
	return p.WaitUDP(ctx, n.lab.DHCP.Port())
}

// Resolver asks the name server from beside it, so that also what happens before
// a client has an address can be seen.
func (n *Network) Resolver() *lab.Resolver { return n.lab.Server.Resolver(n.DNS) }

// ClientResolver asks the name server that a lease told the client of. Where the
// network exists only in the servers' files, it is where the server really is.
func (n *Network) ClientResolver(l lab.Lease) (*lab.Resolver, error) {
	if n.lab.Mode == lab.Loopback {
		return n.Resolver(), nil
	}
	if len(l.DNS) == 0 {
		return nil, errors.New("the lease names no DNS server")
	}
	return n.lab.Client.Resolver(netip.AddrPortFrom(l.DNS[0], n.DNS.Port())), nil
}

// Processes are the servers that were started.
func (n *Network) Processes() []*lab.Process {
	var ps []*lab.Process
	for _, p := range []*lab.Process{n.DNSServer, n.DHCPServer} {
		if p != nil {
			ps = append(ps, p)
		}
	}
	return ps
}
