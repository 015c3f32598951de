package dicom

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// shorter makes the bounds of transfers short until the test ends.
func shorter(t *testing.T, transfers int, wait, yield, idle time.Duration) {
	t.Helper()
	was := boundTransfers
	t.Cleanup(func() { boundTransfers = was })
	boundTransfers = transferLimits{transfers, wait, yield, idle}
}

// startLarge runs a server with a zone of so many addresses, which anybody may
// transfer.
func startLarge(t *testing.T, names int) *server {
	t.Helper()
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString(seedZone)
	for i := range names {
		fmt.Fprintf(&b, "h%d 300 IN A 10.%d.%d.%d\n", i, i>>16, i>>8&255, i&255)
	}
	return start(t, strings.Replace(block(fmt.Sprintf("file %s\ndatabase %s\nallow %s * *",
		write(t, dir, "zone", b.String()), filepath.Join(dir, "zones"), key), "transfer {\n\tto *\n}"), "dicom {", "dicom imaging.example.org {", 1))
}

// slowClient asks for the zone and reads an octet a second until it is closed.
type slowClient struct {
	c    net.Conn
	done chan struct{}
}

func newSlowClient(t *testing.T, address string) *slowClient {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg).SetAxfr(domain)
	if err := (&dns.Conn{Conn: c}).WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	s := &slowClient{c, make(chan struct{})}
	go func() {
		defer close(s.done)
		for one := make([]byte, 1); ; time.Sleep(time.Second) {
			if _, err := c.Read(one); err != nil {
				return
			}
		}
	}()
	return s
}

func (s *slowClient) close() {
	s.c.Close()
	<-s.done
}

// heapMiB is the live heap.
func heapMiB() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// load updates the zone from several connections until stop, and counts.
type load struct {
	n    atomic.Int64
	quit chan struct{}
	wg   sync.WaitGroup
}

func newLoad(t *testing.T, s *server, names int) *load {
	l := &load{quit: make(chan struct{})}
	address := s.address("udp")
	var next atomic.Int64
	for range 16 {
		l.wg.Go(func() {
			for {
				select {
				case <-l.quit:
					return
				default:
				}
				i := int(next.Add(1))
				name := fmt.Sprintf("h%d.imaging.example.org.", i*7919%names)
				m := new(dns.Msg).SetUpdate(domain)
				m.RemoveRRset([]dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA}}})
				m.Insert([]dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.IPv4(198, 51, 100, byte(i))}})
				m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
				c := &dns.Client{Timeout: patience, TsigSecret: map[string]string{key: secret}}
				r, _, err := c.Exchange(m, address)
				if err != nil || r.Rcode != dns.RcodeSuccess {
					t.Errorf("update %d: %v, %v", i, r, err)
					return
				}
				l.n.Add(1)
			}
		})
	}
	return l
}

// rate is the number of updates a second for a while.
func (l *load) rate(d time.Duration) float64 {
	before := l.n.Load()
	time.Sleep(d)
	return float64(l.n.Load()-before) / d.Seconds()
}

func (l *load) stop() {
	close(l.quit)
	l.wg.Wait()
}

// TestSlowTransfers: clients that read an octet a second of a large zone neither
// hold up updates, nor keep an honest secondary out, nor keep versions of the
// zone in memory.
func TestSlowTransfers(t *testing.T) {
	const names, clients = 200_000, 100
	shorter(t, 8, 5*time.Second, time.Second, time.Hour)
	s := startLarge(t, names)
	lanes := s.handler().transfers
	slow := testutil.ToFloat64(failedTransfers.WithLabelValues(domain, "slow"))
	l := newLoad(t, s, names)
	stop := sync.OnceFunc(l.stop)
	defer stop()
	empty := heapMiB()
	alone := l.rate(2 * time.Second)

	var all []*slowClient
	defer func() {
		for _, c := range all {
			c.c.Close()
		}
		for _, c := range all {
			<-c.done
		}
	}()
	more := func(n int) {
		for range n {
			all = append(all, newSlowClient(t, s.address("tcp")))
		}
	}
	limit := lanes.limits.transfers
	for range limit { // each holds another version
		more(1)
		l.rate(200 * time.Millisecond)
	}
	eventually(t, "all transfers under way", func() bool { return len(lanes.slots) == limit })
	with := l.rate(2 * time.Second)
	goesOn := l.n.Load()
	eventually(t, "updates beside transfers that stand still", func() bool { return l.n.Load() > goesOn })
	held := heapMiB()

	more(clients - limit) // these take turns
	began := time.Now()
	var records []dns.RR
	for { // a secondary asks again
		var err error
		if records, err = transferIn(s.address("tcp"), new(dns.Msg).SetAxfr(domain), true); err == nil {
			break
		}
		if time.Since(began) > 5*patience {
			t.Fatalf("an honest secondary is kept out: %v", err)
		}
	}
	honest, n := time.Since(began), len(records)
	if n != names+5 {
		t.Errorf("an honest secondary got %d records", n)
	}
	most := heapMiB()
	cut := testutil.ToFloat64(failedTransfers.WithLabelValues(domain, "slow")) - slow
	stop()
	t.Logf("updates/s: %.0f alone, %.0f beside %d transfers that stand still", alone, with, limit)
	t.Logf("of %d slow clients %.0f were cut; an honest secondary got the zone after %v", clients, cut, honest.Round(time.Millisecond))
	t.Logf("live heap: %.0f MiB, %.0f with %d transfers, %.0f with %d connections", empty, held, limit, most, clients)
	if cut == 0 {
		t.Error("no transfer was cut")
	}
	if held > 3*empty || most > 3*empty {
		t.Error("memory is kept")
	}
}

// TestManyTransfers: where all transfers stand still and none has to yield yet,
// one more is refused.
func TestManyTransfers(t *testing.T) {
	shorter(t, 2, 100*time.Millisecond, time.Hour, time.Hour)
	s := startLarge(t, 120_000)
	for range 2 {
		c := newSlowClient(t, s.address("tcp"))
		defer c.close()
	}
	lanes := s.handler().transfers
	eventually(t, "transfers under way", func() bool { return len(lanes.slots) == 2 })
	if r := s.exchange(t, "tcp", new(dns.Msg).SetAxfr(domain), "", ""); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("one too many: %s", dns.RcodeToString[r.Rcode])
	}
}

// TestCutTransfer: what a client has got of a transfer that was cut does not end
// with a SOA, and a transfer that stands still is cut also when nobody waits.
func TestCutTransfer(t *testing.T) {
	shorter(t, 2, 100*time.Millisecond, time.Hour, 1500*time.Millisecond)
	s := startLarge(t, 120_000)
	slow := failedTransfers.WithLabelValues(domain, "slow")
	before := testutil.ToFloat64(slow)
	var all []*slowClient
	for range 2 {
		all = append(all, newSlowClient(t, s.address("tcp")))
	}
	eventually(t, "transfers are cut", func() bool { return testutil.ToFloat64(slow) == before+2 })
	all[1].close()
	if err := all[0].c.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	<-all[0].done
	defer all[0].close()

	var octets []byte
	for buffer := make([]byte, 1<<16); ; {
		// The server closes the connection in the end.
		if err := all[0].c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := all[0].c.Read(buffer)
		if octets = append(octets, buffer[:n]...); err != nil {
			break
		}
	}
	// The first message lacks what was read already: find the next by its header.
	soas, messages := 0, 0
	for b := octets; len(b) > 2; {
		size := int(b[0])<<8 | int(b[1])
		m := new(dns.Msg)
		if len(b) < 14 || !bytes.Equal(b[4:8], []byte{0x84, 0, 0, 1}) || len(b) < 2+size || m.Unpack(b[2:2+size]) != nil {
			b = b[1:]
			continue
		}
		messages++
		for _, rr := range m.Answer {
			if rr.Header().Rrtype == dns.TypeSOA {
				soas++
			}
		}
		b = b[2+size:]
	}
	if messages < 2 || soas != 0 {
		t.Errorf("%d SOA records in %d messages of %d octets", soas, messages, len(octets))
	}
	// The server goes on.
	eventually(t, "another transfer", func() bool {
		all, err := transferIn(s.address("tcp"), new(dns.Msg).SetAxfr(domain), false)
		return err == nil && len(all) == 120_005
	})
}
