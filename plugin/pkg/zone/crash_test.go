package zone_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
	"github.com/miekg/dns"
)

const crashDir = "DICOMNAM_TEST_ZONE_CRASH"

// TestCrashChild is the process that TestCrash kills: it updates without end, and writes a line for each success.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		return // not the child
	}
	s, err := zone.Open(dir, zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	z, err := s.Zone(origin, seedOf(t, base...))
	if err != nil {
		t.Fatal(err)
	}
	const clients = 8
	first := int(z.Snapshot().Serial())
	failed := make(chan error)
	for c := range clients {
		go func() {
			for i := first*100000 + c; ; i += clients {
				rcode, err := z.Update(context.Background(), nil, []dns.RR{
					rr(t, fmt.Sprintf("a%d.example.org. 5 IN A 192.0.2.1", i)), rr(t, fmt.Sprintf("b%d.example.org. 5 IN A 192.0.2.1", i)),
				}, all)
				if rcode != dns.RcodeSuccess {
					failed <- fmt.Errorf("%d, %w", rcode, err)
					return
				}
				if _, err := fmt.Fprintf(os.Stdout, "done %d\n", i); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	t.Fatal(<-failed)
}

// SIGKILL in the middle of a stream of updates loses none that was acknowledged, and shows no half of one.
func TestCrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "zones")
	var acknowledged []int
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			i, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "done "))
			if err != nil {
				t.Errorf("child says %q", lines.Text())
				break
			}
			acknowledged = append(acknowledged, i)
			if n++; n == 40+round*61 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		s := open(t, dir, zone.Options{})
		z, err := s.Zone(origin, func() ([]dns.RR, error) { return nil, errors.New("seeded again") })
		if err != nil {
			t.Fatal(err)
		}
		updates := 0
		for r := range z.Snapshot().All() {
			if rest, ok := strings.CutPrefix(r.Header().Name, "a"); ok {
				updates++
				if z.Snapshot().RRset("b"+rest, dns.TypeA) == nil {
					t.Errorf("half an update: %s", r)
				}
			}
		}
		if got, want := z.Snapshot().Len(), len(base)+2*updates; got != want {
			t.Errorf("%d records, want %d", got, want)
		}
		if got, want := z.Snapshot().Serial(), uint32(10+updates); got != want {
			t.Errorf("serial %d with %d updates", got, updates)
		}
		serial := z.Snapshot().Serial()
		for from := max(10, serial-min(serial, 50)); from < serial; from++ {
			d, ok := z.Snapshot().Since(from)
			if !ok || len(d.Removed) != 0 || len(d.Added) != 2*int(serial-from) {
				t.Errorf("difference from serial %d to %d: %d records, %t", from, serial, len(d.Added), ok)
			}
			for _, r := range d.Added {
				if z.Snapshot().RRset(r.Header().Name, dns.TypeA) == nil {
					t.Errorf("the journal has %s, and the zone does not", r)
				}
			}
		}
		for _, i := range acknowledged {
			if z.Snapshot().RRset(fmt.Sprintf("a%d.example.org.", i), dns.TypeA) == nil {
				t.Errorf("acknowledged update %d is lost", i)
			}
		}
		closeStore(t, s)
	}
	if len(acknowledged) < 400 {
		t.Errorf("only %d updates were acknowledged", len(acknowledged))
	}
}
