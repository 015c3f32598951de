//go:build linux

package integration

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	leasedb "github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/integration/lab"
)

const exchanges = 2000

// The network of RFC 2544, since those of RFC 5737 have too few addresses.
var (
	perfServer = netip.MustParsePrefix("198.18.0.1/16")
	perfRelay  = netip.MustParsePrefix("198.18.0.2/16")
	perfSite   = `domain: imaging.example.org
networks:
  - name: big
    subnet: 198.18.0.0/16
    pools: [198.18.16.0-198.18.31.255]
    lease-time: 1h
`
	perfConfig = `server4:
  listen: ["%eth0"]
  plugins:
    - server_id: 198.18.0.1
    - leases: site=SITE database=DATABASE
`
)

// Kea's perfdhcp is a relay with 2,000 clients or a few more, of which some renew meanwhile.
// Each gets an answer to every message and an address that no other has, and
// what was acknowledged outlives SIGKILL.
func TestPerfdhcp(t *testing.T) { //nolint:tparallel // one try after the other
	t.Parallel()
	needs(t, "perfdhcp")
	if mode == lab.Loopback {
		t.Skip("no network namespaces here")
	}
	// perfdhcp sends nothing twice, and its socket keeps what it does not read for a fraction of a second.
	for _, rate := range []int{400, 100, 25} {
		lost := 0
		t.Run(fmt.Sprintf("%d each second", rate), func(t *testing.T) { lost = perfdhcp(t, rate) })
		if lost == 0 {
			return
		}
	}
	t.Error("datagrams were lost each time")
}

// perfdhcp is TestPerfdhcp with so many clients each second. It returns how many datagrams a full socket lost, and
// judges only where none was.
func perfdhcp(t *testing.T, rate int) (lost int) {
	t.Helper()
	l, err := lab.New(lab.Config{Mode: mode, Server: perfServer, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx := timeout(t, patience)
	if err := l.Plug(ctx, net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x20}); err != nil {
		t.Fatal(err)
	}
	err = l.Client.Do(func() error {
		link, err := netlink.LinkByName(lab.Link)
		if err != nil {
			return err
		}
		address, err := netlink.ParseAddr(perfRelay.String())
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, address)
	})
	if err != nil {
		t.Fatal(err)
	}
	site, config, database := filepath.Join(l.Dir, "site.yaml"), filepath.Join(l.Dir, "config.yml"), filepath.Join(l.Dir, "leases")
	writeFile(t, site, perfSite)
	writeFile(t, config, perfConfig)
	edit(t, config, "SITE", site)
	edit(t, config, "DATABASE", database)
	server, err := l.Start(l.Server, lab.Command{
		Name: "coredhcp", Path: filepath.Join(binaries(t), "coredhcp"), Args: []string{"--conf", config},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.WaitUDP(ctx, 67); err != nil {
		t.Fatal(err)
	}

	// Where it is late it sends a few more than it is told: those are to be other clients, and not the first again.
	count, clients := strconv.Itoa(exchanges), strconv.Itoa(2*exchanges)
	perf, err := l.Start(l.Client, lab.Command{Name: "perfdhcp", Path: "perfdhcp", Args: []string{
		"-4", "-l", lab.Link, "-b", "mac=02:00:00:00:00:00", "-u", // check that addresses are unique
		"-R", clients, "-n", count, "-r", strconv.Itoa(rate), "-f", strconv.Itoa(rate / 4), "-d", "60", "-W", "5000000", perfServer.Addr().String(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-perf.Done():
	case <-timeout(t, 2*patience).Done():
		t.Fatalf("perfdhcp does not end:\n%s", perf.Tail(20))
	}
	server.Kill()
	for _, n := range []*lab.Namespace{l.Server, l.Client} {
		lost += full(t, n)
	}
	if lost > 0 {
		t.Logf("%d datagrams were lost", lost)
		return lost
	}
	if perf.Err() != nil {
		t.Errorf("perfdhcp: %v", perf.Err())
	}
	sent := map[string]int{}
	for _, kind := range []string{"DISCOVER-OFFER", "REQUEST-ACK", `REQUEST-ACK \(renewal\)`} {
		re := regexp.MustCompile(`Statistics for: ` + kind + `\*+\nsent packets: (\d+)\nreceived packets: (\d+)\ndrops: 0\n` +
			`(?:.*\n){2}rejected leases: 0\nnon unique addresses: 0\n`)
		m := re.FindStringSubmatch(perf.Written())
		if m == nil || m[1] != m[2] || m[1] == "0" {
			t.Fatalf("%s: %q\n%s", kind, m, perf.Written())
		}
		if sent[kind], err = strconv.Atoi(m[1]); err != nil {
			t.Fatal(err)
		}
	}
	if got := sent["REQUEST-ACK"]; got < exchanges || got != sent["DISCOVER-OFFER"] {
		t.Errorf("%d clients got an offer and %d a lease, expected %d", sent["DISCOVER-OFFER"], got, exchanges)
	}

	manager, err := leasedb.Open(database, leasedb.Config{}, leasedb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	holders := map[string]netip.Addr{}
	for got, err := range manager.Leases() {
		if err != nil {
			t.Fatal(err)
		}
		if got.State == leasedb.Active {
			holders[got.Client.String()] = got.Address
		}
	}
	if want := sent["REQUEST-ACK"]; len(holders) != want {
		t.Errorf("%d clients with a lease, expected %d", len(holders), want)
	}
	return 0
}

// full is how many datagrams found a full socket in a namespace.
func full(t *testing.T, n *lab.Namespace) (datagrams int) {
	t.Helper()
	err := n.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		m := regexp.MustCompile(`(?m)^Udp: (.*)\nUdp: (.*)$`).FindSubmatch(text)
		if m == nil {
			return fmt.Errorf("no UDP counters in %q", text)
		}
		i := slices.Index(strings.Fields(string(m[1])), "RcvbufErrors")
		datagrams, err = strconv.Atoi(strings.Fields(string(m[2]))[i])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return datagrams
}
