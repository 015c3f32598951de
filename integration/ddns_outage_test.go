//go:build linux

package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/integration/lab"
)

// outage is how long DNS is away in TestNamesOutage. DICOMNAM_OUTAGE has it last longer: 80m is what an operator may meet.
const outage = 20 * time.Second

// drifter is a machine that comes and goes and is called otherwise now and then.
type drifter struct {
	dhcpClient
	ends time.Time // when its lease does
}

// drift has one of the machines do something: get an address, renew it, maybe under another name, give it back, or go
// away without a word, until its lease has ended.
func drift(ctx context.Context, w *dhcpWorker, drifters []*drifter, leaseTime time.Duration, free *[]string, count map[string]int) error {
	d := drifters[w.random.IntN(len(drifters))]
	now := time.Now()
	if d.ends.After(now) && !d.held.IsValid() {
		return nil // away
	}
	rename := func() {
		// Names of machines that gave their address back go to others, as where a machine is replaced.
		if n := len(*free); n > 0 && w.random.IntN(2) == 0 {
			d.name, *free = (*free)[0], (*free)[1:]
			count["names taken over"]++
			return
		}
		count["names made"]++
		d.name = fmt.Sprintf("ws-%d", count["names made"])
	}
	take := func(m *dhcpv4.DHCPv4) (bool, error) {
		r, err := w.exchange(ctx, m)
		if err != nil {
			return false, err
		}
		if r.MessageType() == dhcpv4.MessageTypeNak {
			d.held, d.ends = netip.Addr{}, time.Time{}
			count["refused"]++
			return false, nil
		}
		a, err := acknowledged(r)
		if err != nil {
			return false, err
		}
		if d.held.IsValid() && d.held != a {
			return false, fmt.Errorf("%s had %v and got %v", d.mac, d.held, a)
		}
		d.held, d.ends = a, now.Add(leaseTime)
		return true, nil
	}
	switch dice := w.random.IntN(10); {
	case !d.held.IsValid() || d.ends.Before(now):
		d.held = netip.Addr{}
		if d.name == "" {
			rename()
		}
		m, err := w.message(&d.dhcpClient, dhcpv4.MessageTypeDiscover)
		if err != nil {
			return err
		}
		offer, err := w.exchange(ctx, m)
		if err != nil {
			return err
		}
		m, err = w.message(&d.dhcpClient, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier())),
			dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)))
		if err != nil {
			return err
		}
		got, err := take(m)
		if got {
			count["leases"]++
		}
		return err
	case dice < 2:
		count["released"]++
		*free = append(*free, d.name)
		d.name, d.ends = "", time.Time{}
		return w.release(&d.dhcpClient)
	case dice < 4:
		count["went away"]++
		d.held = netip.Addr{}
		return nil
	case dice < 6:
		count["renamed"]++
		rename()
	}
	m, err := w.message(&d.dhcpClient, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(d.held.AsSlice()))
	if err != nil {
		return err
	}
	got, err := take(m)
	if got {
		count["renewed"]++
	}
	return err
}

// metrics are those of coredhcp whose names begin with a prefix, as they are written.
func metrics(admin, prefix string) (map[string]float64, error) {
	r, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	values := map[string]float64{}
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), " "); ok && strings.HasPrefix(name, prefix) {
			if values[strings.TrimPrefix(name, prefix)], err = strconv.ParseFloat(value, 64); err != nil {
				return nil, err
			}
		}
	}
	return values, nil
}

// silent takes messages at an address, answers none, and counts them.
func silent(at netip.AddrPort) (count *atomic.Int64, end func() error, err error) {
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, errors.Join(err, udp.Close())
	}
	count = new(atomic.Int64)
	go func() {
		buffer := make([]byte, 65536)
		for {
			if _, _, err := udp.ReadFromUDPAddrPort(buffer); err != nil {
				return
			}
			count.Add(1)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				count.Add(1)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return count, func() error { return errors.Join(udp.Close(), tcp.Close()) }, nil
}

// TestNamesOutage: DNS is away, half of the time its port is closed, and half of the time nothing
// answers, while machines come, go, expire, and change and exchange their names. Few messages are sent meanwhile, the log
// stays short, and soon after DNS is back it shows exactly the leases.
func TestNamesOutage(t *testing.T) {
	t.Parallel()
	length, leaseTime, pause, machines := outage, 10*time.Second, 10*time.Millisecond, 120
	if text := os.Getenv("DICOMNAM_OUTAGE"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		leaseTime, pause, machines = 5*time.Minute, 400*time.Millisecond, 256
	}
	n := newNameServers(t, rand.Uint64())
	site := func(leaseTime time.Duration) {
		t.Helper()
		n.write("site.yaml", fmt.Sprintf(`domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.3-192.0.2.254], lease-time: %[1]s, min-lease-time: %[1]s, shared-network: all}
  - {name: theatre, subnet: 198.51.100.0/24, pools: [198.51.100.1-198.51.100.100], lease-time: %[1]s, min-lease-time: %[1]s, shared-network: all}
`, leaseTime))
	}
	site(leaseTime)
	corefile, err := os.ReadFile(n.lab.Dir + "/Corefile")
	if err != nil {
		t.Fatal(err)
	}
	n.write("Corefile", strings.Replace(string(corefile), " 2.0.192.in-addr.arpa {", " 2.0.192.in-addr.arpa 100.51.198.in-addr.arpa {", 1))
	port, err := lab.FreePort(timeout(t, patience), n.at.Addr())
	if err != nil {
		t.Fatal(err)
	}
	admin := netip.AddrPortFrom(n.at.Addr(), port).String()
	n.command.Args = append(n.command.Args, "--admin", admin)
	n.startDNS()
	n.awaitDNS()
	n.start()

	w := n.workers[0]
	var drifters []*drifter
	for i := range machines {
		drifters = append(drifters, &drifter{dhcpClient: dhcpClient{mac: net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, byte(i)}}})
	}
	var free []string
	count := map[string]int{}
	state := func() map[string]float64 {
		t.Helper()
		m, err := metrics(admin, "coredhcp_ddns_")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	report := func(when string) {
		t.Helper()
		m := state()
		var memory string
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.PID())); err == nil {
			for line := range strings.Lines(string(status)) {
				if strings.HasPrefix(line, "VmRSS") {
					memory = strings.Join(strings.Fields(line)[1:], " ")
				}
			}
		}
		t.Logf("%s %s: %v; %.0f waiting, oldest %.0f s; unanswered %.0f conflict %.0f added %.0f removed %.0f failed %.0f; %d log lines, resident %s", time.Now().Format(time.TimeOnly), when, count,
			m["changes_waiting"], m["oldest_change_seconds"], m[`updates_total{result="unanswered"}`], m[`updates_total{result="conflict"}`], m[`updates_total{result="added"}`],
			m[`updates_total{result="removed"}`], m[`updates_total{result="failed"}`], strings.Count(n.process.Written(), "\n"), memory)
	}

	for begin := time.Now(); time.Since(begin) < 2*time.Second; {
		if err := drift(t.Context(), w, drifters, leaseTime, &free, count); err != nil {
			t.Fatal(err)
		}
	}
	report("before")
	n.running.Kill()
	<-n.running.Done()
	before := state()
	begin := time.Now()
	var messages *atomic.Int64
	var end func() error
	for last := begin; time.Since(begin) < length; {
		if messages == nil && time.Since(begin) > length/2 {
			if messages, end, err = silent(n.at); err != nil {
				t.Fatal(err)
			}
		}
		if err := drift(t.Context(), w, drifters, leaseTime, &free, count); err != nil {
			t.Fatal(err)
		}
		if time.Since(last) > length/20 {
			last = time.Now()
			report("away")
		}
		time.Sleep(pause)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	report("end")
	// At first the changes under way fail; then one is tried at a time, after pauses of at least half a second.
	const tries = `updates_total{result="unanswered"}`
	most := 64 + 2*length.Seconds()
	tried := state()[tries] - before[tries]
	t.Logf("%.0f changes tried in %s, %d messages in the second half", tried, length, messages.Load())
	if tried == 0 || tried > most || messages.Load() == 0 || float64(messages.Load()) > 3*most {
		t.Errorf("expected 1 to %.0f changes tried, and 1 to %.0f messages", most, 3*most)
	}

	n.startDNS()
	n.awaitDNS()
	begin = time.Now()
	// equal waits until DNS shows exactly the leases that have a name, and returns how many have, and have none.
	equal := func() (names, nameless int) {
		t.Helper()
		for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			leases, err := told[control.Lease](t.Context(), n, control.Leases, control.Filter{State: control.Active})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			names, nameless = 0, 0
			for _, l := range leases {
				if l.Name == "" {
					nameless++
					continue
				}
				names++
				reverse, err := dns.ReverseAddr(l.Address.String())
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, l.Name+" A "+l.Address.String(), l.Name+" DHCID", reverse+" PTR "+l.Name, reverse+" DHCID")
			}
			got, err := n.shown("100.51.198.in-addr.arpa.")
			diff := differences(want, got)
			if err == nil && len(diff) == 0 {
				return names, nameless
			}
			if time.Since(begin) > 2*patience {
				report("not equal")
				t.Fatalf("DNS differs (+ too many, - missing): %q, %v", diff, err)
			}
		}
	}
	names, nameless := equal()
	t.Logf("%d names, and %d leases without one, %s after DNS was back", names, nameless, time.Since(begin))
	report("equal")
	if nameless > 0 {
		t.Errorf("%d leases have no name", nameless)
	}
	n.logged("names do not reach DNS", 1)
	n.logged("names reach DNS again", 1)

	// Other names follow, also across a restart.
	site(12 * time.Hour)
	if err := n.process.Stop(); err != nil {
		t.Fatal(err)
	}
	n.start()
	for i, d := range drifters {
		d.name, d.held = fmt.Sprintf("ws-last-%d", i), netip.Addr{}
		if err := w.get(timeout(t, patience), &d.dhcpClient); err != nil {
			t.Fatal(err)
		}
	}
	for begin := time.Now(); ; time.Sleep(time.Second) {
		if names, nameless = equal(); names == machines && nameless == 0 {
			break
		}
		if time.Since(begin) > patience { // leases of before may have gone on
			t.Fatalf("%d leases have a name, and %d none, of %d", names, nameless, machines)
		}
	}
}
