//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"
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
			if files, err := filepath.Glob(filepath.Join(dir, "names", "*")); err != nil || len(files) == 0 {
				t.Errorf("the database: %q, %v", files, err)
			}
		})
	}
}
