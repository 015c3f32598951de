//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// fakeClock is the environment in which a program that asks the C library for the time finds another one, and sets how many
// seconds that is ahead, also while the program runs. Go programs do not ask it.
func fakeClock(t *testing.T, dir string) (env []string, set func(ahead int)) {
	t.Helper()
	needs(t, "cc")
	file, library := filepath.Join(dir, "clock"), filepath.Join(dir, "clock.so")
	cmd := exec.CommandContext(timeout(t, patience), "cc", "-Wall", "-shared", "-fPIC", "-o", library, fmt.Sprintf("-DCLOCK=%q", file), "testdata/clock.c")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return []string{"LD_PRELOAD=" + library}, func(ahead int) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(strconv.Itoa(ahead)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
}

// The clock of a BIND is two hours ahead, or behind. The log says so once, with both times, each lease tells it, and the
// names are there when the clock is right again.
func TestNamesClock(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"ahead": 2 * time.Hour, "behind": -2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := lab.LookPath("named")
			if err != nil {
				t.Skip("named is not installed")
			}
			n := newNameServers(t, rand.Uint64())
			keys, err := tsigkey.Load(n.keys)
			if err != nil {
				t.Fatal(err)
			}
			n.dns = namePeers["named"](t, n, keys[0])
			n.dns.Path, n.dns.Dir = path, n.lab.Dir
			env, set := fakeClock(t, n.lab.Dir)
			n.dns.Env = env
			set(int(ahead / time.Second))
			n.startDNS()
			n.awaitDNS()
			n.start()
			w := n.workers[0]
			for _, c := range w.clients {
				if err := w.get(timeout(t, patience), c); err != nil {
					t.Fatal(err)
				}
			}
			n.logged("names do not reach DNS", 1)
			times := regexp.MustCompile(`refuses the time of our signatures \(BADTIME\): its clock is ([0-9hms]+) (ahead of|behind) this host's, 300 s are allowed: it is (\S+Z) there and (\S+Z) here`)
			// judge returns how far the server's clock is ahead by what a line says, in each of its ways.
			judge := func(line string) {
				t.Helper()
				found := times.FindStringSubmatch(line)
				if found == nil {
					t.Errorf("no time in %q", line)
					return
				}
				by, err := time.ParseDuration(found[1])
				if err != nil {
					t.Fatal(err)
				}
				if found[2] == "behind" {
					by = -by
				}
				there, err := time.Parse(time.RFC3339, found[3])
				if err != nil {
					t.Fatal(err)
				}
				here, err := time.Parse(time.RFC3339, found[4])
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range []time.Duration{by, there.Sub(here)} {
					if d < ahead-patience || d > ahead+patience {
						t.Errorf("the clock is %s ahead, and not %s: %q", ahead, d, line)
					}
				}
			}
			for line := range strings.Lines(n.process.Written()) {
				if strings.Contains(line, "names do not reach DNS") {
					judge(line)
				}
			}
			leases, err := told[control.Lease](timeout(t, patience), n, control.Leases, control.Filter{State: control.Active})
			if err != nil || len(leases) != len(w.clients) {
				t.Fatal(len(leases), err)
			}
			for _, l := range leases {
				if l.Published {
					t.Errorf("%s is shown", l.Name)
				}
				judge(l.Trouble)
			}
			if got, err := n.shown(); err != nil || len(got) > 0 {
				t.Errorf("DNS shows %q, %v", got, err)
			}

			set(0)
			names, took := n.converge(2 * patience)
			t.Logf("%d names in %s", names, took)
			n.logged("names reach DNS again", 1)
			n.logged("names do not reach DNS", 1)
			n.logged("BADTIME", 1)
		})
	}
}

// A client whose clock is wrong is told so by coredns, too, as nsupdate sees it. (coredns itself, as any Go program, asks the
// kernel for the time, and so has no other one here.)
func TestClockOfClient(t *testing.T) {
	t.Parallel()
	needs(t, "nsupdate")
	n := newNameServers(t, rand.Uint64())
	n.startDNS()
	n.awaitDNS()
	env, set := fakeClock(t, n.lab.Dir)
	update := func(ahead int) string {
		t.Helper()
		set(ahead)
		script := filepath.Join(n.lab.Dir, fmt.Sprint("update", ahead))
		if err := os.WriteFile(script, fmt.Appendf(nil, "server %s %d\nzone imaging.example.org\nupdate add ws1.imaging.example.org 300 A 192.0.2.9\nsend\n", n.at.Addr(), n.at.Port()), 0o644); err != nil {
			t.Fatal(err)
		}
		path, err := lab.LookPath("nsupdate")
		if err != nil {
			t.Fatal(err)
		}
		p, err := n.lab.Start(n.on, lab.Command{Name: fmt.Sprint("nsupdate", ahead), Path: path, Args: []string{"-k", n.keys, script}, Env: env})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.Done():
		case <-time.After(patience):
			t.Fatal("nsupdate does not end")
		}
		return p.Written()
	}
	for _, ahead := range []int{7200, -7200} {
		if said := update(ahead); !strings.Contains(said, "BADTIME") {
			t.Errorf("with a clock %d s ahead: %s", ahead, said)
		}
	}
	if got, err := n.shown(); err != nil || len(got) > 0 {
		t.Errorf("DNS shows %q, %v", got, err)
	}
	if said := update(0); said != "" {
		t.Errorf("with the right clock: %s", said)
	}
	n.awaitShown([]string{"ws1.imaging.example.org. A 192.0.2.9"})
}
