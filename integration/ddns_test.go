//go:build linux

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// How TestNamesKilled goes.
const (
	nameKills = 60
	nameLoad  = 150 * time.Millisecond
)

// nameServers are coredhcp with machines behind relays, and the coredns that it tells their names.
type nameServers struct {
	*dhcpServer
	dns     lab.Command
	running *lab.Process // coredns
	at      netip.AddrPort
	keys    string
	control string
	workers []*dhcpWorker
}

const namesKey = "dhcp.imaging.example.org."

// newNameServers writes the files, and starts nothing.
func newNameServers(t *testing.T, seed uint64) *nameServers {
	t.Helper()
	l := newLabOf(t, lab.Loopback)
	n := &nameServers{dhcpServer: newDHCPServer(t, l, l.Dir), keys: filepath.Join(l.Dir, "tsig.keys"), control: filepath.Join(l.Dir, "control.sock")}
	loopback := netip.MustParseAddr("127.0.0.1")
	port, err := lab.FreePort(timeout(t, patience), loopback)
	if err != nil {
		t.Fatal(err)
	}
	n.at = netip.AddrPortFrom(loopback, port)
	n.newKey()
	n.write("config.yml", fmt.Sprintf(`server4:
  listen: [%q]
  plugins:
    - server_id: 192.0.2.2
    - leases: site=%s/site.yaml database=%s
    - ddns: site=%[2]s/site.yaml server=%[4]s keys=%[5]s key=%[6]s
`, n.address, l.Dir, n.database, n.at, n.keys, namesKey))
	n.write("Corefile", fmt.Sprintf(`imaging.example.org 2.0.192.in-addr.arpa {
    bind 127.0.0.1
    errors
    tsig {
        secrets %s
        require_opcode UPDATE
    }
    transfer {
        to *
    }
    dicom {
        site %s/site.yaml
        database %[2]s/zones
        allow %[3]s * *
    }
}
`, n.keys, l.Dir, namesKey))
	n.command.Args = append(n.command.Args, "--control", n.control)
	n.dns = lab.Command{Name: "coredns", Path: filepath.Join(binaries(t), "coredns"), Args: []string{"-conf", filepath.Join(l.Dir, "Corefile"), "-dns.port", strconv.Itoa(int(port))}}
	n.workers = newDHCPWorkers(n.dhcpServer, seed)
	for i, w := range n.workers {
		for k, c := range w.clients {
			c.name = fmt.Sprintf("ws%d", i*dhcpClients+k)
		}
	}
	return n
}

func (n *nameServers) write(name, content string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.lab.Dir, name), []byte(content), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// newKey writes another key of the same name.
func (n *nameServers) newKey() {
	n.t.Helper()
	key, err := tsigkey.Generate(namesKey)
	if err != nil {
		n.t.Fatal(err)
	}
	var text strings.Builder
	if _, err := key.WriteTo(&text); err != nil {
		n.t.Fatal(err)
	}
	n.write("tsig.keys", text.String())
}

// startDNS starts coredns, and does not wait until it serves.
func (n *nameServers) startDNS() {
	n.t.Helper()
	p, err := n.lab.Start(n.on, n.dns)
	if err != nil {
		n.t.Fatal(err)
	}
	n.running = p
}

// told calls a command of the control socket.
func told[T any](ctx context.Context, n *nameServers, command string, args any) ([]T, error) {
	var items []T
	err := control.Call(ctx, n.control, command, args, func(item json.RawMessage) error {
		var v T
		if err := json.Unmarshal(item, &v); err != nil {
			return err
		}
		items = append(items, v)
		return nil
	})
	return items, err
}

// leased is what DNS has to show, as "NAME TYPE DATA".
func (n *nameServers) leased(ctx context.Context) ([]string, error) {
	leases, err := told[control.Lease](ctx, n, control.Leases, control.Filter{State: control.Active})
	if err != nil {
		return nil, err
	}
	var want []string
	for _, l := range leases {
		if l.Name == "" {
			return nil, fmt.Errorf("%v has no name", l.Address)
		}
		reverse, err := dns.ReverseAddr(l.Address.String())
		if err != nil {
			return nil, err
		}
		want = append(want, l.Name+" A "+l.Address.String(), l.Name+" DHCID", reverse+" PTR "+l.Name, reverse+" DHCID")
	}
	slices.Sort(want)
	return want, nil
}

// shown is what both zones, and others, hold beside their SOA and NS records and the names of the name server.
func (n *nameServers) shown(others ...string) ([]string, error) {
	var got []string
	for _, zone := range append([]string{"imaging.example.org.", "2.0.192.in-addr.arpa."}, others...) {
		m := new(dns.Msg).SetAxfr(zone)
		envelopes, err := (&dns.Transfer{DialTimeout: patience, ReadTimeout: patience}).In(m, n.at.String())
		if err != nil {
			return nil, err
		}
		for e := range envelopes {
			if e.Error != nil {
				return nil, e.Error
			}
			for _, rr := range e.RR {
				switch rr := rr.(type) {
				case *dns.A:
					if strings.HasPrefix(rr.Hdr.Name, "ws") {
						got = append(got, rr.Hdr.Name+" A "+rr.A.String())
					}
				case *dns.PTR:
					if strings.HasPrefix(rr.Ptr, "ws") {
						got = append(got, rr.Hdr.Name+" PTR "+rr.Ptr)
					}
				case *dns.DHCID:
					got = append(got, rr.Hdr.Name+" DHCID")
				}
			}
		}
	}
	slices.Sort(got)
	return got, nil
}

// differences are what DNS shows and is not to, and the other way round.
func differences(want, got []string) []string {
	counts := map[string]int{}
	for _, w := range want {
		counts[w]++
	}
	for _, g := range got {
		counts[g]--
	}
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 0 })
	var list []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%+d %s", -counts[k], k))
	}
	return list
}

// converge waits until DNS shows exactly the leases, and returns how many names these are, and how long it took.
func (n *nameServers) converge(within time.Duration) (names int, took time.Duration) {
	n.t.Helper()
	begin := time.Now()
	var diff []string
	for {
		want, err := n.leased(n.t.Context())
		var got []string
		if err == nil {
			got, err = n.shown()
		}
		if err == nil {
			if diff = differences(want, got); len(diff) == 0 {
				return len(want) / 4, time.Since(begin)
			}
		}
		if time.Since(begin) > within {
			n.t.Fatalf("after %s DNS differs (+ too many, - missing): %q, %v", within, diff, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// load has the machines do one thing after another for a while. If something is killed meanwhile they stop.
func (n *nameServers) load(d time.Duration) {
	ctx, cancel := context.WithTimeout(n.t.Context(), d)
	defer cancel()
	all(n.workers, func(w *dhcpWorker) { w.run(ctx) })
}

// Both servers are killed again and again under load. At the end DNS shows exactly the leases.
func TestNamesKilled(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 2000))
	n := newNameServers(t, seed)
	n.startDNS()
	n.start()
	for kill := range nameKills {
		ctx, cancel := context.WithCancel(t.Context())
		dhcp := random.IntN(2) == 0
		time.AfterFunc(time.Duration(random.Int64N(int64(nameLoad))), func() {
			if dhcp {
				n.process.Kill()
				cancel()
				return
			}
			n.running.Kill()
			time.AfterFunc(nameLoad/4, cancel) // clients go on
		})
		all(n.workers, func(w *dhcpWorker) { w.run(ctx) })
		if dhcp {
			<-n.process.Done()
			n.start()
			all(n.workers, func(w *dhcpWorker) { w.check(timeout(t, patience), true) })
		} else {
			<-n.running.Done()
			n.startDNS()
		}
		if t.Failed() {
			t.Fatalf("kill %d; random numbers from %d", kill, seed)
		}
	}
	names, took := n.converge(2 * patience)
	t.Logf("%d kills, then %d names in %s", nameKills, names, took)
	if names == 0 {
		t.Error("no names")
	}
}

// DNS is away, takes another key, or forgets everything. It shows exactly the leases soon after it is back.
func TestNamesConverge(t *testing.T) {
	t.Parallel()
	n := newNameServers(t, rand.Uint64())
	n.startDNS()
	n.start()
	n.load(time.Second)
	n.converge(patience)

	t.Log("DNS is away, while leases begin and end")
	n.running.Kill()
	n.load(3 * time.Second)
	ended := n.workers[0].clients[0]
	if !ended.held.IsValid() {
		if err := n.workers[0].get(timeout(t, patience), ended); err != nil {
			t.Fatal(err)
		}
	}
	n.startDNS()
	n.converge(patience)
	n.running.Kill()
	if err := n.workers[0].release(ended); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	n.process.Kill() // the name goes all the same
	n.start()
	n.startDNS()
	n.converge(patience)

	t.Log("another key")
	n.running.Kill()
	n.newKey()
	n.startDNS()
	n.load(time.Second)
	n.converge(8 * patience)

	t.Log("the zones are lost")
	n.running.Kill()
	if err := os.RemoveAll(filepath.Join(n.lab.Dir, "zones")); err != nil {
		t.Fatal(err)
	}
	n.startDNS()
	time.Sleep(time.Second)
	answer, err := told[control.Resynced](timeout(t, patience), n, control.Resync, nil)
	if err != nil || len(answer) != 1 || answer[0].Leases == 0 {
		t.Fatalf("%+v, %v", answer, err)
	}
	n.converge(patience)

	t.Log("another mode, by a reload")
	site := "domain: imaging.example.org\nnetworks:\n  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.159], lease-time: 12h%s}\n"
	reload := func(ddns string) {
		t.Helper()
		n.write("site.yaml", fmt.Sprintf(site, ddns))
		if err := n.process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	reload(", ddns: {mode: off}")
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		got, err := n.shown()
		if err == nil && len(got) == 0 {
			break
		}
		if time.Since(begin) > patience {
			t.Fatalf("with mode off DNS shows %q, %v", got, err)
		}
	}
	reload("")
	n.converge(patience)
}
