//go:build linux

package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
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

// dnsServer is a coredns whose zone takes signed updates and is on disk.
type dnsServer struct {
	t        *testing.T
	lab      *lab.Lab
	command  lab.Command
	address  netip.AddrPort
	database string
	process  *lab.Process
	on       *lab.Namespace // where it runs
}

// newDNSServer writes the server's files, and starts nothing. Its database lies in the directory dir.
func newDNSServer(t *testing.T, l *lab.Lab, dir string) *dnsServer {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	port, err := lab.FreePort(timeout(t, patience), loopback)
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{t: t, lab: l, address: netip.AddrPortFrom(loopback, port), database: filepath.Join(dir, "zones"), on: l.Server}
	for name, content := range map[string]string{
		"Corefile": strings.TrimSuffix(killZone, ".") + ` {
    bind 127.0.0.1
    errors
    tsig {
        secrets ` + l.Dir + `/tsig.keys
        require_opcode UPDATE
    }
    transfer {
        to *
    }
    dicom {
        file ` + l.Dir + `/seed.zone
        database ` + s.database + `
        allow ` + killKey + ` * *
    }
}
`,
		"tsig.keys": fmt.Sprintf("key %q {\nalgorithm hmac-sha256;\nsecret %q;\n};\n", killKey, killSecret),
		"seed.zone": fmt.Sprintf("$ORIGIN %s\n$TTL 300\n@ IN SOA ns hostmaster %d 3600 600 86400 60\nns IN A 192.0.2.2\n@ IN NS ns\n"+
			"$GENERATE 1-%d host$ A 192.0.2.3\n", killZone, killSerial, dnsHosts),
	} {
		if err := os.WriteFile(filepath.Join(l.Dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.command = lab.Command{Name: "coredns", Path: filepath.Join(binaries(t), "coredns"),
		Args: []string{"-conf", filepath.Join(l.Dir, "Corefile"), "-dns.port", strconv.Itoa(int(port))}}
	return s
}

// launch starts the process, and does not wait until it serves.
func (s *dnsServer) launch() {
	s.t.Helper()
	p, err := s.lab.Start(s.on, s.command)
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = p
}

// start starts the process, and returns the serial with which it serves.
func (s *dnsServer) start() uint32 {
	s.t.Helper()
	s.launch()
	ctx := timeout(s.t, patience)
	for {
		if serial, err := s.serial(ctx); err == nil {
			return serial
		}
		select {
		case <-s.process.Done():
			s.t.Fatalf("coredns ended: %v\n%s", s.process.Err(), s.process.Tail(20))
		case <-ctx.Done():
			s.t.Fatalf("coredns does not answer\n%s", s.process.Tail(20))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// serial asks for the zone's serial, until ctx ends at the latest.
func (s *dnsServer) serial(ctx context.Context) (uint32, error) {
	client := &dns.Client{Timeout: 200 * time.Millisecond}
	conn, err := client.DialContext(ctx, s.address.String())
	if err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // or below
	defer conn.Close()
	r, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion(killZone, dns.TypeSOA), conn)
	if err != nil {
		return 0, err
	}
	if len(r.Answer) == 1 {
		if soa, ok := r.Answer[0].(*dns.SOA); ok && r.Authoritative {
			return soa.Serial, nil
		}
	}
	return 0, fmt.Errorf("no SOA record in %v", r)
}

// transfer asks for the zone, or with since for the difference from that serial, as a secondary does.
func (s *dnsServer) transfer(since uint32) []dns.RR {
	s.t.Helper()
	m := new(dns.Msg).SetAxfr(killZone)
	if since != 0 {
		m.SetIxfr(killZone, since, "ns."+killZone, "hostmaster."+killZone)
	}
	tr := &dns.Transfer{DialTimeout: patience, ReadTimeout: patience}
	parts, err := tr.In(m, s.address.String())
	if err != nil {
		s.t.Fatal(err)
	}
	var rrs []dns.RR
	for part := range parts {
		if part.Error != nil {
			s.t.Fatalf("transfer since %d: %v\n%s", since, part.Error, s.process.Tail(20))
		}
		rrs = append(rrs, part.RR...)
	}
	return rrs
}

// zoneText is a zone as a secondary holds it: the text of its records.
type zoneText map[string]bool

// zone transfers the whole zone.
func (s *dnsServer) zone() (serial uint32, z zoneText) {
	s.t.Helper()
	rrs := s.transfer(0)
	z = make(zoneText)
	for _, rr := range rrs[:len(rrs)-1] { // the SOA record stands at both ends
		if z[rr.String()] {
			s.t.Errorf("%s is there twice", rr)
		}
		z[rr.String()] = true
	}
	return rrs[0].(*dns.SOA).Serial, z
}

// since transfers the difference and applies it to a copy of the old version (RFC 1995 section 4); incremental is false
// where the server sent the whole zone.
func (s *dnsServer) since(serial uint32, old zoneText) (z zoneText, incremental bool) {
	s.t.Helper()
	rrs := s.transfer(serial)
	if len(rrs) == 1 { // nothing new
		return old, true
	}
	z = maps.Clone(old)
	second, ok := rrs[1].(*dns.SOA)
	if !ok {
		clear(z)
		for _, rr := range rrs[:len(rrs)-1] {
			z[rr.String()] = true
		}
		return z, false
	}
	if second.Serial != serial {
		s.t.Errorf("the difference from serial %d begins at %d", serial, second.Serial)
	}
	removing := false
	for _, rr := range rrs[1 : len(rrs)-1] {
		if rr.Header().Rrtype == dns.TypeSOA {
			removing = !removing
		}
		if z[rr.String()] != removing {
			s.t.Errorf("difference from serial %d: %s, removed %t, there %t", serial, rr, removing, z[rr.String()])
		}
		if removing {
			delete(z, rr.String())
		} else {
			z[rr.String()] = true
		}
	}
	return z, true
}

// dnsClient sends signed updates, one after the other. Each gives a pair of names a value, another value, or takes both
// away, so each changes something and takes one serial.
type dnsClient struct {
	number int
	to     netip.AddrPort
	conn   *dns.Conn
	random *rand.Rand
	acked  [dnsPairs]int // value of each pair; 0: it is not there
	done   int           // updates that were acknowledged, or found done
	next   int           // value

	name, value int // of the update that is under way
	busy        bool
}

func (c *dnsClient) names(n int) (a, b string) {
	return fmt.Sprintf("a%d-%d.%s", c.number, n, killZone), fmt.Sprintf("b%d-%d.%s", c.number, n, killZone)
}

// records are the pair with a value.
func (c *dnsClient) records(n, value int) []dns.RR {
	a, b := c.names(n)
	return []dns.RR{
		&dns.A{Hdr: dns.RR_Header{Name: a, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(10, byte(value>>16), byte(value>>8), byte(value))},
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
	}
	if c.value != 0 {
		m.Insert(c.records(c.name, c.value))
	}
	return m
}

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

// run sends updates until one is not answered, or ctx ends.
func (c *dnsClient) run(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		rcode, err := c.exchange(ctx, c.choose(), patience)
		if err != nil {
			return // killed
		}
		if rcode != dns.RcodeSuccess {
			t.Errorf("update: %s", dns.RcodeToString[rcode])
			return
		}
		c.acknowledged()
	}
}

func (c *dnsClient) acknowledged() {
	c.acked[c.name], c.busy = c.value, false
	c.done++
}

// settle finds out what became of the update that was not answered.
func (c *dnsClient) settle(z zoneText) {
	if !c.busy {
		return
	}
	for _, rr := range c.records(c.name, c.value) {
		if c.value != 0 && z[rr.String()] {
			c.acknowledged()
			return
		}
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

// checkZone fails unless the zone holds exactly what the clients were told, and its serial counts exactly their updates.
func checkZone(t *testing.T, s *dnsServer, clients []*dnsClient) (serial uint32, z zoneText) {
	t.Helper()
	serial, z = s.zone()
	records, done := 3+dnsHosts, 0 // SOA, NS, its A
	for _, c := range clients {
		c.settle(z)
		done += c.done
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
	if len(z) != records {
		t.Errorf("%d records in the zone, %d were acknowledged", len(z), records)
	}
	if serial != uint32(killSerial+done) {
		t.Errorf("serial %d after %d updates", serial, done)
	}
	return serial, z
}

// A real coredns is killed 200 times, now and then while it starts, mostly under signed updates of several clients by UDP
// and TCP. No acknowledged update is lost, none is there by half, the serial never goes back, and a secondary that asks
// for the difference from any version gets to the one that is there.
func TestDNSKilled(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, lab.Loopback)
	s := newDNSServer(t, l, l.Dir)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1000))
	clients := newDNSClients(s, seed)
	versions := map[uint32]zoneText{}
	var serials []uint32 // of versions
	var highest uint32   // that anyone was shown
	var starting time.Duration
	incremental, whole := 0, 0
	for kill := range dnsKills {
		if random.IntN(8) == 0 {
			s.launch()
			time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
			s.process.Kill()
		}
		begin := time.Now()
		serial := s.start()
		starting += time.Since(begin)
		if serial < highest {
			t.Errorf("serial %d, and before the kill it was %d", serial, highest)
		}
		serial, z := checkZone(t, s, clients)
		for _, from := range serials {
			got, inc := s.since(from, versions[from])
			if !maps.Equal(got, z) {
				t.Errorf("the difference from serial %d does not lead to %d", from, serial)
			}
			if inc {
				incremental++
			} else {
				whole++
			}
		}
		if t.Failed() {
			t.Fatalf("kill %d; random numbers from %d", kill, seed)
		}
		if versions[serial] == nil {
			versions[serial], serials = z, append(serials, serial)
		}
		if len(serials) > dnsHistory {
			i := random.IntN(dnsHistory)
			delete(versions, serials[i])
			serials = append(serials[:i], serials[i+1:]...)
		}

		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(func() { c.run(ctx, t) })
		}
		wg.Go(func() {
			highest = serial
			for ctx.Err() == nil {
				now, err := s.serial(ctx)
				if err != nil {
					return // killed
				}
				if now < highest {
					t.Errorf("serial %d after %d", now, highest)
				}
				highest = now
			}
		})
		time.Sleep(time.Duration(random.Int64N(int64(dnsLoad))))
		s.process.Kill()
		cancel()
		wg.Wait()
		for _, c := range clients {
			c.hangUp()
		}
	}
	s.start()
	checkZone(t, s, clients)
	done := 0
	for _, c := range clients {
		done += c.done
	}
	t.Logf("%d kills, %d updates, %s to start, %d differences, %d whole zones", dnsKills, done, starting/dnsKills, incremental, whole)
	if done < 10*dnsKills || incremental < whole {
		t.Errorf("too few: %d updates, %d differences, %d whole zones", done, incremental, whole)
	}
}
