package lease

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const killDir = "LEASE_TEST_DIR"

// TestKillChild is the child process of TestKill: it gives leases away and says so, until it is killed.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		return // not the child
	}
	m, err := Open(dir, wideConfig(1_000_000), Options{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := m.Run(t.Context()); err != nil {
			panic(err)
		}
	}()
	begin := os.Getpid() << 20
	var out sync.Mutex
	for w := range 16 {
		go func() {
			for n := begin + w; ; n += 16 {
				q := Query{Client: numbered(n), Links: []netip.Addr{wideLink}, ServerID: server, Hostname: fmt.Sprintf("h%d", n)}
				o, err := m.Discover(t.Context(), q)
				if err != nil {
					panic(err)
				}
				q.SelectedServer, q.Requested = server, o.Lease.Address
				a, err := m.Request(t.Context(), q)
				if err != nil || a.Kind != Ack {
					panic(fmt.Sprint(a, err))
				}
				out.Lock()
				fmt.Printf("%x %v\n", q.Client.HardwareAddr, a.Lease.Address)
				out.Unlock()
			}
		}()
	}
	select {}
}

// TestKill kills a server under load, several times over one database: every lease that it acknowledged is there, and
// no address went to two clients.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	acked := map[netip.Addr]string{}
	for round := range 4 {
		child := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
		child.Env = append(os.Environ(), killDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 300+100*round {
				if err := child.Process.Kill(); err != nil { // SIGKILL
					t.Fatal(err)
				}
			}
			var hw, a string
			if k, _ := fmt.Sscan(lines.Text(), &hw, &a); k != 2 {
				if n > 300 {
					break // cut off by the kill
				}
				t.Fatalf("the child says %q", lines.Text())
			}
			if o, ok := acked[addr(a)]; ok {
				t.Errorf("%s acknowledged to %s and to %s", a, o, hw)
			}
			acked[addr(a)] = hw
		}
		_ = child.Wait() // killed
		m, err := Open(dir, wideConfig(1_000_000), Options{})
		if err != nil {
			t.Fatal(err)
		}
		missing := 0
		for a, hw := range acked {
			if l, ok := m.Lease(a); !ok || l.State != Active || fmt.Sprintf("%x", l.Client.HardwareAddr) != hw || l.Name == "" {
				missing++
			}
		}
		if missing > 0 || len(acked) < 300 {
			t.Errorf("round %d: %d of %d acknowledged leases are missing", round, missing, len(acked))
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", info.Mode(), err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range files {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestOpenKeepsOthersOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := Open(dir, testConfig(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := m.Discover(context.Background(), query(client(1), link)); err != nil {
		t.Error(err)
	}
}
