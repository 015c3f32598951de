//go:build linux

package integration

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// A probedNet is a network whose addresses are tried before they are given away, and
// on which a machine that speaks no DHCP uses one of them.
type probedNet struct {
	*lab.Lab
	server  *lab.Namespace // where coredhcp runs, with its control socket and its metrics
	control string
}

var (
	squatterMAC = net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x66}
	// The clients' network of either case, and what is used there.
	probedWire  = netip.MustParsePrefix("198.51.100.1/24")
	squattedTo  = netip.MustParsePrefix("198.51.100.100/24") // the first that anybody would be given
	nextOfPool  = netip.MustParseAddr("198.51.100.101")
	relayUplink = netip.MustParsePrefix("203.0.113.254/30")
	behindRelay = netip.MustParsePrefix("203.0.113.253/30")
)

// newProbed lays a wire with clients and the squatter on it. By relay their router is
// ISC's dhcrelay, and coredhcp is behind it; else coredhcp is on the wire itself.
func newProbed(t *testing.T, probe string, relay bool) *probedNet {
	t.Helper()
	n := &probedNet{Lab: newLab(t)}
	n.server, n.control = n.Server, filepath.Join(n.Dir, "coredhcp.sock")
	squatter, err := n.NewNamespace("squatter")
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Join(lab.End{Space: n.Server, Link: "port1"}, lab.End{Space: squatter, Link: lab.Link, MAC: squatterMAC, Address: squattedTo}); err != nil {
		t.Fatal(err)
	}
	if err := n.Server.Bridge("ward0", probedWire, lab.Link, "port1"); err != nil {
		t.Fatal(err)
	}
	if err := squatter.Route(netip.MustParsePrefix("203.0.113.0/24"), probedWire.Addr()); err != nil {
		t.Fatal(err)
	}
	listen, id := "ward0", probedWire.Addr()
	if relay {
		if n.server, err = n.Attach("up0", relayUplink, behindRelay); err != nil {
			t.Fatal(err)
		}
		if err := n.Server.Forward(); err != nil {
			t.Fatal(err)
		}
		listen, id = lab.Link, behindRelay.Addr()
	}
	writeFile(t, filepath.Join(n.Dir, "site.yaml"), "domain: imaging.example.org\nnetworks:\n  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.100-198.51.100.199], probe: "+
		probe+", decline-time: 2h, options: {routers: 198.51.100.1}}\n")
	writeFile(t, filepath.Join(n.Dir, "config.yml"), "server4:\n  listen: [\"%"+listen+"\"]\n  plugins:\n    - server_id: "+id.String()+
		"\n    - leases: site="+n.Dir+"/site.yaml database="+n.Dir+"/leases\n")
	process, err := n.Start(n.server, lab.Command{Name: "coredhcp", Path: filepath.Join(binaries(t), "coredhcp"),
		Args: []string{"--conf", filepath.Join(n.Dir, "config.yml"), "--control", n.control, "--admin", "127.0.0.1:9567"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := process.WaitUDP(timeout(t, patience), 67); err != nil {
		t.Fatal(err)
	}
	if relay {
		p, err := n.Start(n.Server, lab.Command{Name: "dhcrelay", Path: "dhcrelay", Args: []string{"-4", "-d", "--no-pid", "-id", "ward0", "-iu", "up0", id.String()}})
		if err != nil {
			t.Fatal(err)
		}
		waitText(t, p, "Sending on   Socket/fallback")
	}
	n.await(t)
	return n
}

// await waits until the squatter can be reached: it refuses a connection.
func (n *probedNet) await(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		conn, err := n.server.Dial("tcp4", netip.AddrPortFrom(squattedTo.Addr(), 9))
		switch {
		case err == nil:
			_ = conn.Close()
			t.Fatal("somebody listens on the discard port")
		case errors.Is(err, syscall.ECONNREFUSED):
			return
		case time.Now().After(end):
			t.Fatalf("the machine at %s cannot be reached: %v", squattedTo.Addr(), err)
		}
	}
}

// leases is what dicomnam leases prints.
func (n *probedNet) leases(t *testing.T, args ...string) string {
	t.Helper()
	out, err := n.Output(timeout(t, patience), n.server, filepath.Join(binaries(t), "dicomnam"), append([]string{"leases", "--control", n.control}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// An address of the pool is used by a machine that nobody knows of. A client gets
// another one; the machine's rests, and the administrator is told: of a network behind
// a relay by ICMP echo, on the server's own wire by ARP.
func TestProbe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		probe, holder string
		relay         bool
	}{
		{"icmp", "00:00:00:00:00:00", true}, // an echo does not tell whose it is
		{"arp", squatterMAC.String(), false},
	} {
		t.Run(tt.probe, func(t *testing.T) {
			t.Parallel()
			if tt.relay {
				needs(t, "dhcrelay")
				if err := lab.Confined("dhcrelay"); err != nil {
					t.Skip(err)
				}
			}
			forEachProgram(t, []lab.Program{lab.Udhcpc, lab.Dhclient}, func(t *testing.T, p lab.Program) {
				n := newProbed(t, tt.probe, tt.relay)
				client, got := lease(t, n.Lab, p, radiology.Guest(0x10, ""))
				if got.Address != nextOfPool {
					t.Errorf("the client has %s, expected %s, the first that nobody uses", got.Address, nextOfPool)
				}
				var found control.Lease
				if err := json.Unmarshal([]byte(n.leases(t, "--json", "--state", control.Conflict)), &found); err != nil {
					t.Fatalf("expected one conflict: %v", err)
				}
				if found.Address != squattedTo.Addr() || found.Client.HardwareAddress != tt.holder || found.Network != "cardiology" || found.Name != "" {
					t.Errorf("conflict %+v, expected one at %s with %s", found, squattedTo.Addr(), tt.holder)
				}
				if rests := found.Expires.Sub(found.Start); rests.Round(time.Minute) != 2*time.Hour {
					t.Errorf("the address rests for %s, expected decline-time", rests)
				}
				if text := n.leases(t); !regexp.MustCompile(`(?m)^198\.51\.100\.100 +conflict +` + tt.holder + ` `).MatchString(text) {
					t.Errorf("dicomnam leases does not show it:\n%s", text)
				}
				for name, want := range map[string]string{
					`coredhcp_leases_probes_total{network="cardiology",result="conflict"}`:  "1",
					`coredhcp_leases_probes_total{network="cardiology",result="unsent"}`:    "",
					`coredhcp_leases_pool_addresses{network="cardiology",state="declined"}`: "1",
				} {
					if v := metric(t, n.server, name); v != want {
						t.Errorf("%s is %q, expected %q", name, v, want)
					}
				}
				if metric(t, n.server, `coredhcp_leases_probes_total{network="cardiology",result="free"}`) == "" {
					t.Error("no address was found free")
				}
				// Its own address is not tried again, though it answers there now.
				if again, err := client.Renew(timeout(t, patience)); err != nil || again.Address != got.Address {
					t.Errorf("renewed %+v, %v", again, err)
				}
				client.Kill()
				// Nobody else gets it either.
				_, other := lease(t, n.Lab, p, radiology.Guest(0x11, ""))
				if other.Address == squattedTo.Addr() || other.Address == got.Address {
					t.Errorf("another client has %s", other.Address)
				}
				if v := metric(t, n.server, `coredhcp_leases_probes_total{network="cardiology",result="conflict"}`); v != "1" {
					t.Errorf("%s conflicts, expected that the address was left alone", v)
				}
			})
		})
	}
}
