//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/integration/lab"
)

// CoreDHCP's own allocators give the addresses, in our server. Names follow from what they answer, over kills too.
func TestNamesOfOtherAllocators(t *testing.T) {
	t.Parallel()
	for name, plugins := range map[string]string{
		"range": "    - lease_time: 1h\n    - range: %[1]s/leases.sqlite3 192.0.2.100 192.0.2.159 1h\n    - ddns: %[2]s\n",
		"file":  "    - lease_time: 1h\n    - file: %[1]s/static.txt\n    - ddns: %[2]s\n",
		// A plugin that ends the chain does not hide a lease from one behind it.
		"ddns first": "    - ddns: %[2]s\n    - lease_time: 1h\n    - file: %[1]s/static.txt\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNameServers(t, rand.Uint64())
			dir := n.lab.Dir
			ddns := fmt.Sprintf("site=%s/site.yaml server=%s keys=%s key=%s database=%[1]s/names", dir, n.at, n.keys, namesKey)
			n.write("config.yml", fmt.Sprintf("server4:\n  listen: [%q]\n  plugins:\n    - server_id: 192.0.2.2\n", n.address)+fmt.Sprintf(plugins, dir, ddns))
			w := n.workers[0]
			static := ""
			for i, c := range w.clients {
				static += fmt.Sprintf("%s 192.0.2.%d\n", c.mac, 10+i)
			}
			n.write("static.txt", static)
			n.startDNS()
			n.start()
			await := func(what string) {
				t.Helper()
				var want []string
				for _, c := range w.clients {
					if c.held.IsValid() {
						b := c.held.As4()
						host, reverse := c.name+".imaging.example.org.", fmt.Sprintf("%d.2.0.192.in-addr.arpa.", b[3])
						want = append(want, host+" A "+c.held.String(), host+" DHCID", reverse+" PTR "+host, reverse+" DHCID")
					}
				}
				slices.Sort(want)
				for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
					got, err := n.shown()
					diff := differences(want, got)
					if err == nil && len(diff) == 0 {
						return
					}
					if time.Since(begin) > patience {
						t.Fatalf("%s: DNS differs (+ too many, - missing): %q, %v", what, diff, err)
					}
				}
			}
			for _, c := range w.clients {
				if err := w.get(timeout(t, patience), c); err != nil {
					t.Fatal(err)
				}
			}
			await("after the ACKs")
			n.running.Kill()
			for _, c := range w.clients[:4] {
				if err := w.release(c); err != nil {
					t.Fatal(err)
				}
			}
			// It has worked on these when it answers the next.
			if err := w.keep(timeout(t, patience), w.clients[4], true); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
			n.process.Kill()
			n.start()
			n.startDNS()
			await("after releases, and both killed")
			// The control socket tells of them, though another plugin gave them.
			n.converge(patience)
			leases, err := told[control.Lease](timeout(t, patience), n, control.Leases, control.Filter{State: control.Active})
			if err != nil || len(leases) != len(w.clients)-4 {
				t.Fatalf("%d leases, %v", len(leases), err)
			}
			for _, l := range leases {
				if l.DNS != "shown" || l.Expires == nil || l.Client.HardwareAddress == "" || l.Network != "radiology" {
					t.Errorf("%+v", l)
				}
			}
			if past, err := told[control.Event](timeout(t, patience), n, control.History, control.Address{Address: leases[0].Address}); err != nil || len(past) == 0 {
				t.Errorf("history %+v, %v", past, err)
			}
			if files, err := filepath.Glob(filepath.Join(dir, "names", "*")); err != nil || len(files) == 0 {
				t.Errorf("the database: %q, %v", files, err)
			}
		})
	}
}

// The database of names is on a disk that is full. Clients get their leases all the same, the log says what is missing, and
// with space again DNS follows.
func TestNamesOfOtherAllocatorsDiskFull(t *testing.T) {
	t.Parallel()
	if mode == lab.Loopback {
		t.Skipf("no file systems can be mounted here: %s", strings.Join(reasons, "; "))
	}
	n := newNameServers(t, rand.Uint64())
	dir := n.lab.Dir
	if err := os.Mkdir(filepath.Join(dir, "disk"), 0o700); err != nil {
		t.Fatal(err)
	}
	disk, err := n.lab.NewDisk(filepath.Join(dir, "disk"), diskSize)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, disk, diskSpace)
	n.on = disk.Namespace
	n.write("config.yml", fmt.Sprintf(`server4:
  listen: [%q]
  plugins:
    - server_id: 192.0.2.2
    - lease_time: 1h
    - file: %[2]s/static.txt
    - ddns: site=%[2]s/site.yaml server=%[3]s keys=%[4]s key=%[5]s database=%[2]s/disk/names
`, n.address, dir, n.at, n.keys, namesKey))
	w := n.workers[0]
	static := ""
	for i, c := range w.clients {
		static += fmt.Sprintf("%s 192.0.2.%d\n", c.mac, 10+i)
	}
	n.write("static.txt", static)
	n.startDNS()
	n.start()
	get := func(c *dhcpClient) {
		t.Helper()
		var err error
		if c.held.IsValid() {
			err = w.keep(timeout(t, patience), c, true)
		} else {
			err = w.get(timeout(t, patience), c)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, n.process.Tail(20))
		}
	}
	for _, c := range w.clients[:6] {
		get(c)
	}
	n.converge(patience)
	fill(t, disk, 0)
	acks := 0
	for ; lines(n.process, "was not noted") == 0; acks++ {
		if acks > 200_000 {
			t.Fatal("the disk is full, and all is noted")
		}
		get(w.clients[acks%6])
	}
	for _, c := range w.clients { // half of them are new
		get(c)
	}
	t.Logf("%d ACKs on the full disk before the first was not noted", acks)
	empty(t, disk)
	want := len(w.clients)
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		for _, c := range w.clients {
			get(c)
		}
		if leases, err := told[control.Lease](t.Context(), n, control.Leases, control.Filter{State: control.Active}); err == nil && len(leases) == want {
			break
		}
		if time.Since(begin) > patience {
			t.Fatalf("there is space, and leases are not noted\n%s", n.process.Tail(20))
		}
	}
	if names, _ := n.converge(patience); names != want {
		t.Errorf("%d names, want %d", names, want)
	}
}
