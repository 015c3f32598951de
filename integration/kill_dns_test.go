//go:build linux

package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// How TestDNSKilled goes.
const (
	dnsKills   = 200
	dnsClients = 6  // half of them by UDP, half by TCP
	dnsPairs   = 40 // names that each client uses, two and two
	dnsLoad    = 80 * time.Millisecond
	dnsHistory = 4 // versions from which a secondary asks for the difference
	// Hosts that nobody changes: however many updates fit between two kills, the whole zone is longer than the difference.
	dnsHosts = 1000
)

const (
	killZone   = "kill.example.org."
	killKey    = "updates.example.org."
	killSecret = "i9M+00yrECfVZG2qCjr4mPpaGim/Bq+IWMiNrLjUO4Y="
	killSerial = 10 // of the zone file
)

// dnsClient sends signed updates, one after the other. Each gives a pair of names a value, another value, or takes both
// away, so each changes something and takes one serial.
type dnsClient struct {
	number int
	to     netip.AddrPort
	conn   *dns.Conn
	random *rand.Rand
	acked  [dnsPairs]int // value of each pair; 0: it is not there
	done   atomic.Int64  // updates that were acknowledged, or found done
	next   int           // value

	name, value int // of the update that is under way
	busy        bool
}

func (c *dnsClient) names(n int) (a, b string) {
	return fmt.Sprintf("a%d-%d.%s", c.number, n, killZone), fmt.Sprintf("b%d-%d.%s", c.number, n, killZone)
}

// records are the pair with a value. A host of a device mostly has one of the addresses that the site file gives it.
func (c *dnsClient) records(n, value int) []dns.RR {
	a, b := c.names(n)
	address := net.IPv4(10, byte(value>>16), byte(value>>8), byte(value))
	if n < dnsDevices && value%3 > 0 {
		address = deviceAddress(c.number, n, value%3-1).AsSlice()
	}
	return []dns.RR{
		&dns.A{Hdr: dns.RR_Header{Name: a, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: address},
		&dns.TXT{Hdr: dns.RR_Header{Name: b, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{strconv.Itoa(value)}},
	}
}

// choose chooses the next update.
func (c *dnsClient) choose() *dns.Msg {
	c.busy, c.name, c.value = true, c.random.IntN(dnsPairs), 0
	was := c.acked[c.name]
	if was == 0 || c.random.IntN(3) > 0 {
		c.next++
		c.value = c.next
	}
	m := new(dns.Msg).SetUpdate(killZone)
	if was != 0 {
		m.Used(c.records(c.name, was))
		for _, rr := range c.records(c.name, was) {
			m.RemoveName([]dns.RR{rr})
		}
	} else {
		m.NameNotUsed(c.records(c.name, c.value)) // so that it cannot be done twice
	}
	if c.value != 0 {
		m.Insert(c.records(c.name, c.value))
	}
	return m
}

// dnsResend is how long a client waits before it asks again: a server that is reloaded may have lost what it asked.
const dnsResend = 30 * time.Second

// exchange signs and sends one message. The connection is given up after an error, so that a late answer is not taken for
// another one.
func (c *dnsClient) exchange(ctx context.Context, m *dns.Msg, patience time.Duration) (rcode int, err error) {
	defer func() {
		if err != nil {
			c.hangUp()
		}
	}()
	wire, mac, err := dns.TsigGenerate(m.SetTsig(killKey, dns.HmacSHA256, 300, time.Now().Unix()), killSecret, "", false)
	if err != nil {
		return 0, err
	}
	if c.conn == nil {
		network := "udp"
		if c.number%2 == 1 {
			network = "tcp"
		}
		conn, err := net.DialTimeout(network, c.to.String(), patience)
		if err != nil {
			return 0, err
		}
		c.conn = &dns.Conn{Conn: conn}
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	conn := c.conn
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })() // fails only if it is closed
	if _, err := c.conn.Write(wire); err != nil {
		return 0, err
	}
	answer, err := c.conn.ReadMsgHeader(nil)
	if err != nil {
		return 0, err
	}
	r := new(dns.Msg)
	if err := r.Unpack(answer); err != nil {
		return 0, err
	}
	if r.Id != m.Id {
		return 0, fmt.Errorf("answer %d to request %d", r.Id, m.Id)
	}
	return r.Rcode, dns.TsigVerify(answer, killSecret, mac, false)
}

func (c *dnsClient) hangUp() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is in flight that counts
		c.conn = nil
	}
}

// run sends updates until ctx ends. A server that is reloaded gives up its connections: what was not answered is sent
// again, and its prerequisites tell if it was done.
func (c *dnsClient) run(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		m, again := c.choose(), false
		rcode, err := c.exchange(ctx, m, dnsResend)
		for ; err != nil && ctx.Err() == nil; rcode, err = c.exchange(ctx, m, dnsResend) {
			m.Extra, again = nil, true // the signature
			time.Sleep(time.Millisecond)
		}
		switch {
		case err != nil:
			return // killed
		case rcode == dns.RcodeSuccess:
		case again && (rcode == dns.RcodeYXDomain || rcode == dns.RcodeNXRrset):
		default:
			t.Errorf("update: %s", dns.RcodeToString[rcode])
			return
		}
		c.acknowledged()
	}
}

func (c *dnsClient) acknowledged() {
	c.acked[c.name], c.busy = c.value, false
	c.done.Add(1)
}

// settle finds out what became of the update that was not answered.
func (c *dnsClient) settle(z zoneText) {
	if !c.busy {
		return
	}
	if c.value != 0 && z[c.records(c.name, c.value)[1].String()] { // two values may have one address
		c.acknowledged()
		return
	}
	if was := c.acked[c.name]; c.value == 0 {
		gone := true
		for _, rr := range c.records(c.name, was) {
			gone = gone && !z[rr.String()]
		}
		if gone {
			c.acknowledged()
		}
	}
	c.busy = false
}

// newDNSClients are clients of which half use UDP and half TCP.
func newDNSClients(s *dnsServer, seed uint64) []*dnsClient {
	clients := make([]*dnsClient, dnsClients)
	for i := range clients {
		clients[i] = &dnsClient{number: i, to: s.address, random: rand.New(rand.NewPCG(seed, uint64(i)))}
	}
	return clients
}

// checkZone fails unless the zone holds exactly what the clients were told and what the site file says, and its serial
// counts exactly their updates and the versions of the site file.
func checkZone(t *testing.T, s *dnsServer, clients []*dnsClient) (serial uint32, z zoneText) {
	t.Helper()
	serial, z = s.zone()
	records := 3 + dnsHosts // SOA, NS, its A
	for _, c := range clients {
		c.settle(z)
		for n, value := range c.acked {
			if value == 0 {
				continue
			}
			for _, rr := range c.records(n, value) {
				records++
				if !z[rr.String()] {
					t.Errorf("acknowledged, and not there: %s", rr)
				}
			}
		}
	}
	if version := s.site.check(serial, z); version != s.site.version {
		t.Errorf("version %d of the site file, want %d", version, s.site.version)
	}
	records += len(s.site.records(s.site.version, z))
	if len(z) != records {
		t.Errorf("%d records in the zone, %d were acknowledged", len(z), records)
	}
	if done := updates(clients); serial != uint32(killSerial+1+s.site.version+done) {
		t.Errorf("serial %d after %d updates and %d changes of the site file", serial, done, s.site.version)
	}
	return serial, z
}

// updates are how many updates of the clients were done.
func updates(clients []*dnsClient) (done int) {
	for _, c := range clients {
		done += int(c.done.Load())
	}
	return done
}

// dnsKill is what TestDNSKilled knows from one kill to the next.
type dnsKill struct {
	s       *dnsServer
	random  *rand.Rand
	clients []*dnsClient

	versions map[uint32]zoneText
	serials  []uint32 // of versions
	highest  uint32   // that anyone was shown

	incremental, whole int // differences
	loads              int
	seen, reloaded     atomic.Int64 // zones that were transferred under load, and new versions of the site file in them
}

// A real coredns is killed 200 times, now and then while it starts, mostly under signed updates of several clients by UDP
// and TCP, while the site file is written anew and reloaded. No acknowledged update is lost, none is there by half, no
// service is there without its host or the other way round, the site is one whole version of its file, the serial never
// goes back, and a secondary that asks for the difference from any version gets to the one that is there.
func TestDNSKilled(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, lab.Loopback)
	s := newDNSServer(t, l, l.Dir)
	seed := rand.Uint64()
	k := &dnsKill{s: s, random: rand.New(rand.NewPCG(seed, 1000)), clients: newDNSClients(s, seed), versions: make(map[uint32]zoneText)}
	var starting time.Duration
	for kill := range dnsKills {
		if k.random.IntN(8) == 0 {
			s.launch()
			time.Sleep(time.Duration(k.random.Int64N(int64(100 * time.Millisecond))))
			s.process.Kill()
		}
		begin := time.Now()
		serial := s.start()
		starting += time.Since(begin)
		if serial < k.highest {
			t.Errorf("serial %d, and before the kill it was %d", serial, k.highest)
		}
		k.check(t)
		if t.Failed() {
			t.Fatalf("kill %d; random numbers from %d", kill, seed)
		}
		k.load(t)
	}
	s.start()
	checkZone(t, s, k.clients)
	done, seen, reloaded := updates(k.clients), k.seen.Load(), k.reloaded.Load()
	t.Logf("%d kills, %d updates, %d versions of the site file, %s to start, %d zones seen meanwhile with %d reloads, %d differences, %d whole zones",
		dnsKills, done, s.site.version, starting/dnsKills, seen, reloaded, k.incremental, k.whole)
	if done < 10*dnsKills || k.incremental < k.whole || seen < dnsKills || reloaded < dnsKills/20 {
		t.Error("too few")
	}
}

// check looks at the zone, and at the differences that lead to it.
func (k *dnsKill) check(t *testing.T) {
	t.Helper()
	serial, z := checkZone(t, k.s, k.clients)
	for _, from := range k.serials {
		got, inc := k.s.since(from, k.versions[from])
		if !maps.Equal(got, z) {
			t.Errorf("the difference from serial %d does not lead to %d", from, serial)
		}
		if inc {
			k.incremental++
		} else {
			k.whole++
		}
	}
	k.highest = serial
	if k.versions[serial] == nil {
		k.versions[serial], k.serials = z, append(k.serials, serial)
	}
	if len(k.serials) > dnsHistory {
		i := k.random.IntN(dnsHistory)
		delete(k.versions, k.serials[i])
		k.serials = append(k.serials[:i], k.serials[i+1:]...)
	}
}

// load has the clients update the zone until the server is killed. Mostly the site file becomes another one meanwhile, and
// mostly that is taken over before, or just when, the server is killed.
func (k *dnsKill) load(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, c := range k.clients {
		wg.Go(func() { c.run(ctx, t) })
	}
	version, taken := k.s.site.version, make(chan struct{})
	wg.Go(func() {
		for ctx.Err() == nil {
			now, err := k.s.serial(ctx)
			if err != nil {
				continue // killed, or not yet reloaded
			}
			if now < k.highest {
				t.Errorf("serial %d after %d", now, k.highest)
			}
			k.highest = now
			if rrs, err := k.s.tryTransfer(0); err == nil {
				if k.s.site.check(zoneOf(t, rrs)) > version {
					version++
					k.reloaded.Add(1)
					close(taken) // there is one new version at most
				}
				k.seen.Add(1)
			}
		}
	})
	pause := func() { time.Sleep(time.Duration(k.random.Int64N(int64(dnsLoad)))) }
	// A slow machine has the time to do as much between two kills, on average, as any.
	k.loads++
	for late := time.Now().Add(patience); updates(k.clients) < 10*k.loads || k.seen.Load() < int64(k.loads); time.Sleep(time.Millisecond) {
		if t.Failed() || time.Now().After(late) {
			break
		}
	}
	pause()
	if k.random.IntN(3) > 0 {
		k.s.site.next()
		if k.random.IntN(4) > 0 {
			k.s.reload()
			if k.random.IntN(4) == 0 { // it is seen, however slow the machine is
				select {
				case <-taken:
				case <-time.After(patience):
				}
			} else {
				pause()
			}
		}
	}
	k.s.process.Kill()
	cancel()
	wg.Wait()
	for _, c := range k.clients {
		c.hangUp()
	}
}
