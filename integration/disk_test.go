//go:build linux

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
)

const (
	diskSize  = 64 << 20
	diskSpace = 3 << 20 // that is left when a server starts: less than its log would like to have
	// recovery is how long a server may take to notice that there is space again.
	recovery = patience
)

// newDisk is a small disk for databases, and a lab whose processes use the caller's network.
func newDisk(t *testing.T) (*lab.Lab, *lab.Disk) {
	t.Helper()
	if mode == lab.Loopback {
		t.Skipf("no file systems can be mounted here: %s", strings.Join(reasons, "; "))
	}
	l := newLabOf(t, lab.Loopback)
	dir := filepath.Join(l.Dir, "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := l.NewDisk(dir, diskSize)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, d, diskSpace)
	return l, d
}

func fill(t *testing.T, d *lab.Disk, but int64) {
	t.Helper()
	if err := d.Fill(but); err != nil {
		t.Fatal(err)
	}
}

func empty(t *testing.T, d *lab.Disk) {
	t.Helper()
	if err := d.Empty(); err != nil {
		t.Fatal(err)
	}
}

// afterKill starts a server while its disk is full. It may serve, or end and say why; it must not touch what is there, so
// that it serves when there is space. It returns true if the server is running.
func afterKill(t *testing.T, p *lab.Process, serves func() bool) bool {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.Done():
			t.Logf("started on a full disk, it ended: %v\n%s", p.Err(), p.Tail(5))
			if !strings.Contains(p.Written(), "no space left on device") {
				t.Errorf("it does not say why:\n%s", p.Tail(20))
			}
			return false
		default:
		}
		if serves() {
			t.Log("started on a full disk, it serves")
			return true
		}
	}
	t.Fatalf("started on a full disk, it neither serves nor ends:\n%s", p.Tail(20))
	return false
}

// lines is how many lines of a log hold a text.
func lines(p *lab.Process, text string) int { return strings.Count(p.Written(), text) }

// A full disk makes coredns answer SERVFAIL to updates and go on answering questions. With space again it takes updates
// again, by itself; what it acknowledged is there, also when it was killed and started on the full disk.
func TestDNSDiskFull(t *testing.T) {
	t.Parallel()
	l, disk := newDisk(t)
	s := newDNSServer(t, l, disk.Dir)
	s.on = disk.Namespace
	s.start()
	clients := newDNSClients(s, 1)
	update := func(c *dnsClient) (rcode int) {
		t.Helper()
		rcode, err := c.exchange(t.Context(), c.choose(), patience)
		switch {
		case err != nil:
			t.Fatalf("update: %v\n%s", err, s.process.Tail(20))
		case rcode == dns.RcodeSuccess:
			c.acknowledged()
		case rcode == dns.RcodeServerFailure:
			c.busy = false // nothing was done
		default:
			t.Fatalf("update: %s", dns.RcodeToString[rcode])
		}
		return rcode
	}
	exhaust := func() {
		t.Helper()
		fill(t, disk, 0)
		for n := range 100_000 {
			if update(clients[n%len(clients)]) != dns.RcodeSuccess {
				t.Logf("%d updates on the full disk", n)
				return
			}
		}
		t.Fatal("the disk is full, and updates succeed")
	}
	recovers := func() {
		t.Helper()
		for begin := time.Now(); update(clients[0]) != dns.RcodeSuccess; time.Sleep(50 * time.Millisecond) {
			if time.Since(begin) > recovery {
				t.Fatalf("there is space, and updates fail\n%s", s.process.Tail(20))
			}
		}
		for _, c := range clients {
			if rcode := update(c); rcode != dns.RcodeSuccess {
				t.Errorf("update: %s", dns.RcodeToString[rcode])
			}
		}
		checkZone(t, s, clients)
	}
	for range 20 {
		for _, c := range clients {
			if rcode := update(c); rcode != dns.RcodeSuccess {
				t.Fatalf("update: %s\n%s", dns.RcodeToString[rcode], s.process.Tail(20))
			}
		}
	}
	exhaust()
	failed, asked := 0, 0
	for begin := time.Now(); time.Since(begin) < 3*time.Second; asked++ {
		if update(clients[asked%len(clients)]) != dns.RcodeSuccess {
			failed++
		}
		_, err := s.serial(t.Context())
		for again := time.Now().Add(patience); err != nil && time.Now().Before(again); { // it asks for 0.2 s
			_, err = s.serial(t.Context())
		}
		if err != nil {
			t.Errorf("question beside failing updates: %v", err)
		}
	}
	checkZone(t, s, clients)
	logged := strings.Count(s.process.Written(), "\n")
	t.Logf("%d of %d updates failed, the log has %d lines:\n%s", failed, asked, logged, s.process.Tail(4))
	if failed == 0 || logged > 30 || lines(s.process, "no space left on device") == 0 {
		t.Errorf("%d updates failed, %d lines in the log, %d that say why", failed, logged, lines(s.process, "no space left on device"))
	}
	empty(t, disk)
	recovers()

	exhaust()
	s.process.Kill()
	for _, c := range clients {
		c.hangUp()
	}
	s.launch()
	// It answers with what is on the disk.
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err := s.serial(t.Context()); err == nil {
			break
		}
		if time.Since(begin) > patience {
			t.Fatalf("started on a full disk, it does not serve the zone\n%s", s.process.Tail(20))
		}
	}
	if lines(s.process, "no space left on device") == 0 {
		t.Errorf("it does not say that the disk is full:\n%s", s.process.Tail(20))
	}
	checkZone(t, s, clients)
	empty(t, disk)
	recovers()
	s.process.Kill()
	s.start()
	checkZone(t, s, clients)
}

// A full disk makes coredhcp acknowledge nothing. With space again it does, by itself; what it acknowledged is there, also
// when it was killed and started on the full disk.
func TestDHCPDiskFull(t *testing.T) {
	t.Parallel()
	l, disk := newDisk(t)
	s := newDHCPServer(t, l, disk.Dir)
	s.on = disk.Namespace
	s.start()
	w := newDHCPWorkers(s, 1)[0]
	// try is one thing that a client does; false if it was not answered.
	try := func(c *dhcpClient, patience time.Duration) bool {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var err error
		if c.held.IsValid() {
			err = w.keep(ctx, c, false)
		} else {
			err = w.get(ctx, c)
		}
		if err != nil && ctx.Err() == nil {
			t.Fatalf("%v\n%s", err, s.process.Tail(20))
		}
		return err == nil
	}
	exhaust := func() {
		t.Helper()
		fill(t, disk, 0)
		failed := 0 // in succession: one alone may be a busy machine
		for n := range 200_000 {
			if try(w.clients[n%6], 2*time.Second) {
				failed = 0
			} else if failed++; failed == 3 {
				t.Logf("%d ACKs on the full disk", n-2)
				return
			}
		}
		t.Fatal("the disk is full, and leases are given")
	}
	recovers := func() {
		t.Helper()
		for begin := time.Now(); !try(w.clients[0], time.Second); {
			if time.Since(begin) > recovery {
				t.Fatalf("there is space, and no lease is given\n%s", s.process.Tail(20))
			}
		}
		for _, c := range w.clients {
			if !try(c, patience) {
				t.Errorf("no lease for %s\n%s", c.mac, s.process.Tail(20))
			}
		}
	}
	for _, c := range w.clients[:6] {
		if !try(c, patience) {
			t.Fatalf("no lease\n%s", s.process.Tail(20))
		}
	}
	exhaust()
	leased := lines(s.process, "msg=leased")
	for _, c := range w.clients[6:9] { // new ones: they are offered an address, or not
		if try(c, 800*time.Millisecond) {
			t.Errorf("%s got %v on a full disk", c.mac, c.held)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	discover, err := w.message(w.clients[9], dhcpv4.MessageTypeDiscover)
	if err != nil {
		t.Fatal(err)
	}
	offer, err := w.exchange(ctx, discover)
	logged := strings.Count(s.process.Written(), "\n") - lines(s.process, "ack")
	t.Logf("DISCOVER on a full disk: %v, %v; the log has %d lines beside ACKs:\n%s", fmt.Sprintf("%.40v", offer), err, logged, s.process.Tail(4))
	if logged > 60 || lines(s.process, "no space left on device") == 0 {
		t.Errorf("%d lines in the log, %d that say why", logged, lines(s.process, "no space left on device"))
	}
	if n := lines(s.process, "msg=leased"); n != leased || lines(s.process, `msg="no answer"`) == 0 {
		t.Errorf("the log names %d leases that nobody got, and %d requests that failed", n-leased, lines(s.process, `msg="no answer"`))
	}
	empty(t, disk)
	recovers()

	exhaust()
	s.process.Kill()
	s.launch()
	running := afterKill(t, s.process, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return s.process.WaitUDP(ctx, s.address.Port()) == nil
	})
	empty(t, disk)
	if !running {
		s.start()
	}
	recovers()
	s.process.Kill()
	s.start()
	w.check(timeout(t, patience), true)
}
