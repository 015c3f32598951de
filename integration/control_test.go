//go:build linux

package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// TestControl has an administrator work on servers that run: each script has a
// radiology network of its own, on free ports of 127.0.0.1. Clients get their
// leases through a relay; dicomnam asks coredhcp at its control socket.
func TestControl(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/control/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("scripts: %q, %v", scripts, err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			t.Parallel()
			l := newLabOf(t, lab.Loopback)
			socket := filepath.Join(l.Dir, "control.sock")
			c := &controlled{t: t, lab: l, network: newNetwork(t, l, radiology.Options{DHCPArgs: []string{"--control", socket}})}
			testscript.Run(t, testscript.Params{
				Files:               []string{script},
				RequireExplicitExec: true,
				Setup: func(e *testscript.Env) error {
					e.Setenv("PATH", binaries(t)+":"+e.Getenv("PATH"))
					e.Setenv("SOCKET", socket)
					e.Setenv("DIR", l.Dir)
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"start":      c.start,
					"stop":       c.stop,
					"sigkill":    c.kill,
					"lease":      c.lease,
					"decline":    c.decline,
					"resolve":    c.resolve,
					"eventually": c.eventually,
					"exits":      c.exits,
				},
			})
		})
	}
}

// controlled is the network of one script.
type controlled struct {
	t       *testing.T
	lab     *lab.Lab
	network *radiology.Network
}

// start starts coredns, unless it runs, and coredhcp.
func (c *controlled) start(ts *testscript.TestScript, _ bool, _ []string) {
	ctx := timeout(c.t, patience)
	if c.network.DNSServer == nil {
		ts.Check(c.network.StartDNS(ctx))
	}
	ts.Check(c.network.StartDHCP(ctx))
}

// stop tells coredhcp to end.
func (c *controlled) stop(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(c.network.DHCPServer.Stop())
}

// kill ends coredhcp as a power cut would.
func (c *controlled) kill(_ *testscript.TestScript, _ bool, _ []string) { c.network.DHCPServer.Kill() }

// lease N VARIABLE gets a lease for the machine whose hardware address ends in N,
// and keeps its address.
func (c *controlled) lease(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lease N VARIABLE")
	}
	ctx := timeout(c.t, patience)
	client, err := c.lab.StartClient(ctx, lab.Relay, machine(ts, args[0]))
	ts.Check(err)
	got, err := client.Lease(ctx)
	ts.Check(err)
	client.Kill()
	ts.Setenv(args[1], got.Address.String())
}

func machine(ts *testscript.TestScript, n string) lab.Machine {
	last, err := strconv.ParseUint(n, 10, 8)
	ts.Check(err)
	return radiology.Guest(byte(last), "")
}

// decline N ADDRESS tells coredhcp that the machine found another one there. It
// has no answer: see the state of the address.
func (c *controlled) decline(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: decline N ADDRESS")
	}
	a, err := netip.ParseAddr(args[1])
	ts.Check(err)
	m, err := dhcpv4.New(
		dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline),
		dhcpv4.WithHwAddr(machine(ts, args[0]).MAC),
		dhcpv4.WithGatewayIP(net.IPv4(127, 0, 0, 1)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(radiology.Server.Addr().AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(a.AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptRelayAgentInfo(
			dhcpv4.OptGeneric(dhcpv4.LinkSelectionSubOption, radiology.Server.Addr().AsSlice()),
		)),
	)
	ts.Check(err)
	conn, err := net.Dial("udp4", c.lab.DHCP.String())
	ts.Check(err)
	defer conn.Close()
	_, err = conn.Write(m.ToBytes())
	ts.Check(err)
}

// resolve NAME waits until coredns knows the name; ! resolve NAME until it does not.
func (c *controlled) resolve(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] resolve NAME")
	}
	wanted := lab.Present
	if neg {
		wanted = lab.Absent
	}
	r := c.network.Resolver()
	defer r.Close()
	_, _, err := r.Await(timeout(c.t, patience), args[0], dns.TypeA, wanted)
	ts.Check(err)
}

// eventually PATTERN PROGRAM [ARG...] runs a program until its output matches.
func (c *controlled) eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually PATTERN PROGRAM [ARG...]")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no match for %q after %v (%v)", args[0], patience, err)
		}
	}
}

// exits CODE PROGRAM [ARG...] runs a program and checks its exit code.
func (c *controlled) exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, expected %s", code, args[0])
	}
}

// metric is the value of a metric of coredhcp with its labels, "" if there is none.
func metric(t *testing.T, at *lab.Namespace, name string) string {
	t.Helper()
	conn, err := at.Dial("tcp4", netip.MustParseAddrPort("127.0.0.1:9567"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return v
		}
	}
	return ""
}
