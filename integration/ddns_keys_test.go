//go:build linux

package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// The key is replaced while both servers run, at coredns first or at coredhcp first. Names of leases that begin and end
// meanwhile are in DNS soon after both have it, and no server was restarted.
func TestNamesKeyReplaced(t *testing.T) {
	t.Parallel()
	n := newNameServers(t, rand.Uint64())
	file := filepath.Join(n.lab.Dir, "dhcp.keys") // of coredhcp; tsig.keys is that of coredns
	put := func(text string) {
		t.Helper()
		n.write("dhcp.keys.new", text)
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	var secrets []string
	key := func() string { // that coredns reads
		t.Helper()
		text, err := os.ReadFile(n.keys)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := tsigkey.Load(n.keys)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, keys[0].Secret())
		return string(text)
	}
	config, err := os.ReadFile(filepath.Join(n.lab.Dir, "config.yml"))
	if err != nil {
		t.Fatal(err)
	}
	n.write("config.yml", strings.ReplaceAll(string(config), "keys="+n.keys, "keys="+file))
	put(key())
	n.startDNS()
	n.start()
	n.load(time.Second)
	n.converge(patience)

	t.Log("at coredns first, and coredhcp gets a file without its key in between")
	n.newKey()
	n.signal(n.running, syscall.SIGUSR1)
	n.refused()
	put(strings.ReplaceAll(key(), namesKey, "other.example.org."))
	n.logged("the keys cannot be read again", 1)
	n.logged(fmt.Sprintf("no key \\\"%s\\\" among other.example.org.", namesKey), 1)
	n.load(time.Second)
	put(key())
	n.converge(8 * patience) // a pause is a minute at most, of the server and then of the change
	n.logged("updates are signed with a new key", 1)

	t.Log("at coredhcp first")
	n.newKey()
	put(key())
	n.signal(n.process, syscall.SIGHUP)
	n.logged("updates are signed with a new key", 2)
	n.refused()
	n.signal(n.running, syscall.SIGUSR1)
	n.converge(8 * patience)

	n.logged("the keys cannot be read again", 1)
	for _, s := range secrets {
		for _, p := range []*lab.Process{n.running, n.process} {
			if strings.Contains(p.Written(), s) {
				t.Errorf("%s logs a secret", p.Name)
			}
		}
	}
}

func (n *nameServers) signal(p *lab.Process, s syscall.Signal) {
	n.t.Helper()
	if err := p.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// logged waits until coredhcp has logged a text that many times, and no more.
func (n *nameServers) logged(text string, times int) {
	n.t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		got := strings.Count(n.process.Written(), text)
		if got == times {
			return
		}
		if got > times || time.Since(begin) > 4*patience {
			n.t.Fatalf("%q stands %d times in the log, want %d:\n%s", text, got, times, n.process.Tail(30))
		}
	}
}

// refused gives and ends leases until one of them tells that DNS refuses the key.
func (n *nameServers) refused() {
	n.t.Helper()
	waiting := func() error {
		leases, err := told[control.Lease](n.t.Context(), n, control.Leases, nil)
		for _, l := range leases {
			if strings.Contains(l.Trouble, "BADSIG") {
				return err
			}
		}
		return errors.Join(err, errors.New("no lease tells that the key is refused"))
	}
	for begin := time.Now(); waiting() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > patience {
			n.t.Fatal(waiting())
		}
		n.load(100 * time.Millisecond)
	}
}
