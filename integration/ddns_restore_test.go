//go:build linux

package integration

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// The zones come back from a backup, with names of leases that have ended since, that have moved, and that are called
// otherwise now. A resync makes DNS show exactly the leases.
func TestNamesOfAnOldBackup(t *testing.T) {
	t.Parallel()
	n := newNameServers(t, rand.Uint64())
	n.startDNS()
	n.start()
	w := n.workers[0]
	get := func(c *dhcpClient) {
		t.Helper()
		if err := w.get(timeout(t, patience), c); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range w.clients {
		get(c)
	}
	n.converge(patience)

	// A copy of what a server that is down has on its disk.
	n.running.Kill()
	<-n.running.Done()
	zones, backup := filepath.Join(n.lab.Dir, "zones"), filepath.Join(n.lab.Dir, "backup")
	if err := os.CopyFS(backup, os.DirFS(zones)); err != nil {
		t.Fatal(err)
	}
	n.startDNS()
	ended, other := w.clients[:len(w.clients)/2], w.clients[len(w.clients)/2:]
	for _, c := range ended {
		if err := w.release(c); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range other {
		if i%2 == 0 {
			c.name += "-again"
		}
		if err := w.keep(timeout(t, patience), c, true); err != nil {
			t.Fatal(err)
		}
	}
	n.converge(patience)

	n.restore(backup, zones)
	n.startDNS()
	n.awaitDNS()
	want, err := n.leased(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if shown, err = n.shown(); err == nil || time.Since(begin) > patience {
			break
		}
	}
	if len(differences(want, shown)) == 0 || err != nil {
		t.Fatalf("the backup shows what is right: %v", err)
	}
	answer, err := told[control.Resynced](timeout(t, patience), n, control.Resync, nil)
	if err != nil || len(answer) != 1 || answer[0].Leases != len(other) || answer[0].Ended < len(ended)+len(other)/2 {
		t.Fatalf("%+v, %v", answer, err)
	}
	n.process.Kill() // what is to be told is not forgotten
	<-n.process.Done()
	n.start()
	names, took := n.converge(patience)
	t.Logf("%+v, then %d names in %s", answer, names, took)
	if _, err := os.Stat(backup); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// The zones come back from a backup, from before the network was renumbered. A resync makes DNS show exactly the leases, and
// leaves alone what is not theirs.
func TestNamesOfARemovedNetwork(t *testing.T) {
	t.Parallel()
	n := newNameServers(t, rand.Uint64())
	n.startDNS()
	n.start()
	w := n.workers[0]
	for _, c := range w.clients {
		if err := w.get(timeout(t, patience), c); err != nil {
			t.Fatal(err)
		}
	}
	n.converge(patience)
	want, err := n.leased(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What an administrator entered, and what another server has for its client: the name is not one of ours, the address is.
	other := w.clients[0].name + "-b.imaging.example.org."
	n.insert(
		"ws-printer.imaging.example.org. 300 IN A 192.0.2.250", "250.2.0.192.in-addr.arpa. 300 IN PTR ws-printer.imaging.example.org.",
		other+" 300 IN A "+w.clients[0].held.String(), other+" 300 IN DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=")
	foreign := []string{
		"ws-printer.imaging.example.org. A 192.0.2.250", "250.2.0.192.in-addr.arpa. PTR ws-printer.imaging.example.org.",
		other + " A " + w.clients[0].held.String(), other + " DHCID",
	}

	n.running.Kill()
	<-n.running.Done()
	zones, backup := filepath.Join(n.lab.Dir, "zones"), filepath.Join(n.lab.Dir, "backup")
	if err := os.CopyFS(backup, os.DirFS(zones)); err != nil {
		t.Fatal(err)
	}
	n.startDNS()
	for _, c := range w.clients {
		if err := w.release(c); err != nil {
			t.Fatal(err)
		}
	}
	n.awaitShown(foreign)

	n.restore(backup, zones)
	n.write("site.yaml", "domain: imaging.example.org\nnetworks:\n  - {name: radiology, subnet: 192.0.2.0/26, pools: [192.0.2.10-192.0.2.60], lease-time: 12h}\n")
	if err := n.process.Stop(); err != nil { // a kill might have it forget that DNS has forgotten
		t.Fatal(err)
	}
	n.start()
	n.startDNS()
	n.awaitDNS()
	n.awaitShown(append(want, foreign...))
	answer, err := told[control.Resynced](timeout(t, patience), n, control.Resync, control.Network{Network: "radiology"})
	if err != nil || len(answer) != 1 || answer[0] != (control.Resynced{}) {
		t.Fatalf("%+v, %v", answer, err)
	}
	answer, err = told[control.Resynced](timeout(t, patience), n, control.Resync, nil)
	if err != nil || len(answer) != 1 || answer[0].Leases != 0 || answer[0].Ended != len(w.clients) {
		t.Fatalf("%+v, %v", answer, err)
	}
	n.process.Kill() // what is to be told is not forgotten
	<-n.process.Done()
	n.start()
	n.awaitShown(foreign)
}

// insert puts records into the zones with the servers' key.
func (n *nameServers) insert(records ...string) {
	n.t.Helper()
	keys, err := tsigkey.Load(n.keys)
	if err != nil {
		n.t.Fatal(err)
	}
	client := &dns.Client{Net: "tcp", Timeout: patience, TsigSecret: map[string]string{namesKey: keys[0].Secret()}}
	for _, record := range records {
		rr, err := dns.NewRR(record)
		if err != nil {
			n.t.Fatal(err)
		}
		zone := "imaging.example.org."
		if !dns.IsSubDomain(zone, rr.Header().Name) {
			zone = "2.0.192.in-addr.arpa."
		}
		m := new(dns.Msg).SetUpdate(zone)
		m.Insert([]dns.RR{rr})
		m.SetTsig(namesKey, keys[0].Algorithm, 300, time.Now().Unix())
		if r, _, err := client.Exchange(m, n.at.String()); err != nil || r.Rcode != dns.RcodeSuccess {
			n.t.Fatalf("%s: %v, %v", record, r, err)
		}
	}
}

// awaitShown waits until the zones hold exactly these records, as shown returns them.
func (n *nameServers) awaitShown(want []string) {
	n.t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		got, err := n.shown()
		diff := differences(want, got)
		if err == nil && len(diff) == 0 {
			return
		}
		if time.Since(begin) > patience {
			n.t.Fatalf("DNS differs (+ too many, - missing): %q, %v", diff, err)
		}
	}
}

// Two machines have one name, where the newest lease gets it. The address of the other has no name until that one ends.
func TestNamesSuperseded(t *testing.T) {
	t.Parallel()
	n := newNameServers(t, rand.Uint64())
	n.write("site.yaml", "domain: imaging.example.org\nnetworks:\n  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.159], lease-time: 12h, ddns: {mode: last-wins}}\n")
	n.startDNS()
	n.start()
	w := n.workers[0]
	first, second := w.clients[0], w.clients[1]
	first.name, second.name = "ws-one", "ws-one"
	shows := func(c *dhcpClient) {
		t.Helper()
		reverse, err := dns.ReverseAddr(c.held.String())
		if err != nil {
			t.Fatal(err)
		}
		n.awaitShown([]string{"ws-one.imaging.example.org. A " + c.held.String(), "ws-one.imaging.example.org. DHCID", reverse + " PTR ws-one.imaging.example.org.", reverse + " DHCID"})
	}
	for _, c := range []*dhcpClient{first, second} {
		if err := w.get(timeout(t, patience), c); err != nil {
			t.Fatal(err)
		}
		shows(c)
	}
	n.process.Kill()
	<-n.process.Done()
	n.start()
	shows(second)
	if err := w.release(second); err != nil {
		t.Fatal(err)
	}
	shows(first)
}

// restore kills the DNS server and puts a backup in the place of its zones.
func (n *nameServers) restore(backup, zones string) {
	n.t.Helper()
	n.running.Kill()
	<-n.running.Done()
	if err := errors.Join(os.RemoveAll(zones), os.Rename(backup, zones)); err != nil {
		n.t.Fatal(err)
	}
}
