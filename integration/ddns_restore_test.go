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

	n.running.Kill()
	<-n.running.Done()
	if err := errors.Join(os.RemoveAll(zones), os.Rename(backup, zones)); err != nil {
		t.Fatal(err)
	}
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
		want := []string{"ws-one.imaging.example.org. A " + c.held.String(), "ws-one.imaging.example.org. DHCID", reverse + " PTR ws-one.imaging.example.org.", reverse + " DHCID"}
		for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			got, err := n.shown()
			diff := differences(want, got)
			if err == nil && len(diff) == 0 {
				return
			}
			if time.Since(begin) > patience {
				t.Fatalf("DNS differs (+ too many, - missing): %q, %v", diff, err)
			}
		}
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
