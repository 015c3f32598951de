//go:build linux

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
)

// How TestNamesKilledInReload goes.
const (
	reloadKills = 10
	reloadLoad  = 300 * time.Millisecond
)

// variant is a site file: what machines are called in DNS by it.
type variant struct {
	site    string
	domain  string
	devices map[string]string // host name, by hardware address
	static  []string          // what DNS shows beside the leases, as shown returns it
	taken   []string          // names that are no client's: one who says so has another
}

// variants differ in the domain, in the mode, and in that the last has devices of which one is called as another machine
// calls itself, and one, which does not speak DHCP, as a third one does.
var variants = [3]variant{
	{
		site: `domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.159], lease-time: 12h}
`,
		domain: "imaging.example.org.",
	},
	{
		site: `domain: ward.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.159], lease-time: 12h, ddns: {mode: last-wins}}
`,
		domain: "ward.example.org.",
	},
	{
		site: `domain: ward.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.159], lease-time: 12h, ddns: {mode: keep-static}}
devices:
  - {name: ws5, hardware-address: "00:00:5e:00:53:01"}
  - {name: ws7, dhcp: false, address: 192.0.2.20}
`,
		domain:  "ward.example.org.",
		devices: map[string]string{"00:00:5e:00:53:01": "ws5"},
		static:  []string{"20.2.0.192.in-addr.arpa. PTR ws7.ward.example.org.", "ws7.ward.example.org. A 192.0.2.20"},
		taken:   []string{"ws5", "ws7"},
	},
}

// reload puts a variant in the place of the site file, as a whole, which coredns watches, and tells coredhcp if it runs.
func (n *nameServers) reload(v *variant) {
	n.t.Helper()
	n.write("site.yaml.new", v.site)
	path := filepath.Join(n.lab.Dir, "site.yaml")
	if err := os.Rename(path+".new", path); err != nil {
		n.t.Fatal(err)
	}
	_ = n.process.Signal(syscall.SIGHUP) // one that was killed reads the file when it starts
}

// records are what all zones hold beside what the name server itself needs.
func (n *nameServers) records() ([]string, error) {
	var got []string
	for _, zone := range []string{"imaging.example.org.", "ward.example.org.", "2.0.192.in-addr.arpa."} {
		envelopes, err := (&dns.Transfer{DialTimeout: patience, ReadTimeout: patience}).In(new(dns.Msg).SetAxfr(zone), n.at.String())
		if err != nil {
			return nil, err
		}
		for e := range envelopes {
			if e.Error != nil {
				return nil, e.Error
			}
			for _, rr := range e.RR {
				name := rr.Header().Name
				switch rr := rr.(type) {
				case *dns.SOA, *dns.NS:
				case *dns.A:
					if !strings.HasPrefix(name, "ns.") {
						got = append(got, name+" A "+rr.A.String())
					}
				case *dns.PTR:
					if !strings.HasPrefix(rr.Ptr, "ns.") {
						got = append(got, name+" PTR "+rr.Ptr)
					}
				case *dns.DHCID:
					got = append(got, name+" DHCID")
				default:
					got = append(got, rr.String())
				}
			}
		}
	}
	slices.Sort(got)
	return got, nil
}

// named is what DNS has to show by the leases, as records returns it. Each has the name that its client is to have.
func (n *nameServers) named(ctx context.Context, v *variant) ([]string, error) {
	leases, err := told[control.Lease](ctx, n, control.Leases, control.Filter{State: control.Active})
	if err != nil {
		return nil, err
	}
	clients := make(map[string]*dhcpClient)
	for _, w := range n.workers {
		for _, c := range w.clients {
			clients[c.mac.String()] = c
		}
	}
	want := slices.Clone(v.static)
	for _, l := range leases {
		c := clients[l.Client.HardwareAddress]
		if c == nil || c.held != l.Address {
			return nil, fmt.Errorf("%v is leased to %+v", l.Address, l.Client)
		}
		label := c.name
		if device := v.devices[c.mac.String()]; device != "" {
			label = device
		} else if slices.Contains(v.taken, label) {
			label = "dhcp-" + strings.ReplaceAll(l.Address.String(), ".", "-")
		}
		if l.Name != label+"."+v.domain {
			return nil, fmt.Errorf("%v of %s is called %s, want %s.%s", l.Address, c.mac, l.Name, label, v.domain)
		}
		reverse, err := dns.ReverseAddr(l.Address.String())
		if err != nil {
			return nil, err
		}
		want = append(want, l.Name+" A "+l.Address.String(), l.Name+" DHCID", reverse+" PTR "+l.Name, reverse+" DHCID")
		delete(clients, c.mac.String())
	}
	for mac, c := range clients {
		if c.held.IsValid() {
			return nil, fmt.Errorf("%s has lost %v", mac, c.held)
		}
	}
	return want, nil
}

// renew has all machines renew their leases, or get one.
func (n *nameServers) renew() {
	n.t.Helper()
	all(n.workers, func(w *dhcpWorker) {
		for _, c := range w.clients {
			do := w.get
			if c.held.IsValid() {
				do = func(ctx context.Context, c *dhcpClient) error { return w.keep(ctx, c, false) }
			}
			if err := do(timeout(n.t, patience), c); err != nil {
				n.t.Error(err)
			}
		}
	})
}

// settle waits until the zones hold exactly what the leases say, and coredhcp knows, and returns how long that took. With
// renew all machines renew their leases before, which is when their names follow the site file: also again, because
// coredhcp may not have read it.
func (n *nameServers) settle(v *variant, renew bool) time.Duration {
	n.t.Helper()
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if renew {
			n.renew()
		}
		var got []string
		var leases []control.Lease
		want, err := n.named(n.t.Context(), v)
		if err == nil {
			renew = false
			got, err = n.records()
		}
		diff := differences(want, got)
		if err == nil && len(diff) == 0 {
			leases, err = told[control.Lease](n.t.Context(), n, control.Leases, control.Filter{State: control.Active})
			if err == nil && !slices.ContainsFunc(leases, func(l control.Lease) bool { return l.DNS != "shown" }) {
				return time.Since(begin)
			}
		}
		if n.t.Failed() || time.Since(begin) > patience {
			n.t.Fatalf("DNS differs (+ too many, - missing): %q, %v; leases %+v", diff, err, leases)
		}
	}
}

// Both servers are killed again and again while machines come and go, and the site file changes between two domains, three
// modes, and who has two of the names. In the end the zones hold exactly what the leases say.
func TestNamesKilledInReload(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 3000))
	n := newNameServers(t, seed)
	corefile, err := os.ReadFile(filepath.Join(n.lab.Dir, "Corefile"))
	if err != nil {
		t.Fatal(err)
	}
	n.write("Corefile", "ward.example.org "+string(corefile))
	n.startDNS()
	n.start()
	for kill := range reloadKills {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			all(n.workers, func(w *dhcpWorker) { w.run(ctx) })
		}()
		pause := func() { time.Sleep(time.Duration(random.Int64N(int64(reloadLoad)))) }
		dhcp, after := random.IntN(2) == 0, random.IntN(2) == 0
		change := func() {
			n.reload(&variants[random.IntN(len(variants))])
			pause()
		}
		pause()
		if !after {
			change()
		}
		if dhcp {
			n.process.Kill()
			cancel() // they cannot know what the last one was answered
		} else {
			n.running.Kill()
			pause()
		}
		if after {
			change()
		}
		cancel()
		<-ended
		if dhcp {
			n.start()
			all(n.workers, func(w *dhcpWorker) { w.check(timeout(t, patience), true) })
		} else {
			n.startDNS()
		}
		if t.Failed() {
			t.Fatalf("kill %d; random numbers from %d", kill, seed)
		}
	}
	for i := range variants {
		v := &variants[i]
		n.reload(v)
		took := n.settle(v, true)
		n.running.Kill()
		for _, w := range n.workers {
			for _, c := range w.clients {
				if random.IntN(2) == 0 {
					if err := w.release(c); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		n.startDNS()
		t.Logf("after %d kills DNS is as in %s in %s, and half of it in %s; random numbers from %d", reloadKills, v.domain, took, n.settle(v, false), seed)
	}
}
