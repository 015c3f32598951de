//go:build linux

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// startChrony starts chronyd at an address of the server's machine. With -x it
// touches no clock: what it serves is what it holds for the time.
func startChrony(t *testing.T, l *lab.Lab, address, source string) *lab.Process {
	t.Helper()
	err := l.Server.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(address + "/32")
		if err != nil {
			return err
		}
		return netlink.AddrReplace(lo, a)
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(l.Dir, "chrony-"+address)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "chrony.conf")
	writeFile(t, conf, fmt.Sprintf("bindaddress %s\nbindacqaddress %[1]s\nport 123\ncmdport 0\nbindcmdaddress %s\npidfile %s\nallow\n%s\n",
		address, filepath.Join(dir, "sock"), filepath.Join(dir, "pid"), source))
	p, err := l.Start(l.Server, lab.Command{Name: "chronyd-" + address, Path: "chronyd", Args: []string{"-x", "-d", "-u", "root", "-f", conf}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitUDP(timeout(t, patience), 123); err != nil {
		t.Fatalf("%v\n%s", err, p.Tail(5))
	}
	return p
}

// timeServers asks coredhcp by dicomnam time until f says that it is what was waited for.
func timeServers(t *testing.T, l *lab.Lab, socket string, within time.Duration, f func(map[string]control.TimeServer) bool) map[string]control.TimeServer {
	t.Helper()
	ctx := timeout(t, within)
	for {
		out, err := l.Output(ctx, l.Server, filepath.Join(binaries(t), "dicomnam"), "time", "--json", "--control", socket)
		if err != nil {
			t.Fatal(err)
		}
		servers := map[string]control.TimeServer{}
		for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
			var s control.TimeServer
			if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
				t.Fatal(err)
			}
			servers[s.Address.String()] = s
		}
		if f(servers) {
			return servers
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still not as expected:\n%s", out)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Of five time servers, real chronyds, two are right, one is not synchronised, one is
// ten seconds off and one is not there: clients are told the two, the nearest to
// the reference first. When nobody is good any more they are told all, and a
// metric says so.
func TestTimeServers(t *testing.T) {
	t.Parallel()
	needs(t, "chronyd")
	if err := lab.Confined("chronyd"); err != nil {
		t.Skip(err)
	}
	l := newLab(t)
	socket := filepath.Join(l.Dir, "control.sock")
	n := newNetwork(t, l, radiology.Options{DHCPArgs: []string{"--control", socket, "--admin", "127.0.0.1:9567"}})
	edit(t, n.Site, "ntp-servers: [192.0.2.3]", "ntp-servers: [192.0.2.4, 192.0.2.5, 192.0.2.6, 192.0.2.3, 192.0.2.7]")
	edit(t, n.Config, "- ntp: site="+n.Site, "- ntp: site="+n.Site+" verify=true")
	const follow = "server 192.0.2.3 iburst minpoll -4 maxpoll -4"
	startChrony(t, l, "192.0.2.3", "local stratum 5")
	second := startChrony(t, l, "192.0.2.4", follow)
	startChrony(t, l, "192.0.2.5", "")
	wrong := startChrony(t, l, "192.0.2.6", follow+" offset 10\nmaxslewrate 100000")
	waitWritten(t, second, "Selected source 192.0.2.3")
	waitWritten(t, wrong, "System clock wrong by")
	if err := n.Start(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]struct {
		verdict, reason string
		stratum         uint8
	}{
		"192.0.2.3": {control.TimeGood, "", 5},
		"192.0.2.4": {control.TimeGood, "", 6},
		"192.0.2.5": {control.TimeBad, "not synchronised", 0},
		"192.0.2.6": {control.TimeBad, "off the median of 3 servers", 6},
		"192.0.2.7": {control.TimeBad, "no answer", 0},
	}
	// On a busy machine an answer may come too late, and the next be waited for.
	servers := timeServers(t, l, socket, 3*patience, func(s map[string]control.TimeServer) bool {
		for a, want := range wanted {
			if s := s[a]; s.Verdict != want.verdict || !strings.Contains(s.Reason, want.reason) || s.Stratum != want.stratum {
				return false
			}
		}
		return len(s) == len(wanted)
	})
	if d := servers["192.0.2.6"].Deviation; d < 9 || d > 11 {
		t.Errorf("192.0.2.6 is %v s ahead, expected 10", d)
	}
	client, got := lease(t, l, lab.Builtin, radiology.Guest(0x10, "reading7"))
	if fmt.Sprint(got.NTP) != "[192.0.2.3 192.0.2.4]" {
		t.Errorf("the client was told %v, expected 192.0.2.3 and 192.0.2.4\n%s", got.NTP, n.DHCPServer.Tail(5))
	}
	client.Kill()
	if got := metric(t, l.Server, "coredhcp_ntp_lists_without_good_server"); got != "0" {
		t.Errorf("lists without a good server: %s", got)
	}

	// A list on which nobody is good is given as it is.
	edit(t, n.Site, "[192.0.2.4, 192.0.2.5, 192.0.2.6, 192.0.2.3, 192.0.2.7]", "[192.0.2.7, 192.0.2.5]")
	if err := n.DHCPServer.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	timeServers(t, l, socket, patience, func(s map[string]control.TimeServer) bool { return len(s) == 2 })
	_, got = lease(t, l, lab.Builtin, radiology.Guest(0x11, "reading8"))
	if fmt.Sprint(got.NTP) != "[192.0.2.7 192.0.2.5]" {
		t.Errorf("the client was told %v, expected the list as it is configured", got.NTP)
	}
	if got := metric(t, l.Server, "coredhcp_ntp_lists_without_good_server"); got != "1" {
		t.Errorf("lists without a good server: %s", got)
	}
}
