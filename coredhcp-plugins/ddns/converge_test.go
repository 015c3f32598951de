package ddns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/nameupdate"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
)

// bad is a DNS server of real zones, on a bad day: it does not get what it is sent, does what it is told and its answer is
// lost, gets it twice and answers twice, fails, refuses, or is silent altogether for a while.
type bad struct {
	t      *testing.T
	conn   *net.UDPConn
	key    tsigkey.Key
	zones  map[string]*zone.Zone
	random *rand.Rand   // of the one goroutine that reads
	well   atomic.Bool  // nothing goes wrong any more
	silent atomic.Int64 // until when, Unix nanoseconds
	done   chan struct{}
}

func startBad(t *testing.T, key tsigkey.Key, seed uint64) *bad {
	t.Helper()
	store, err := zone.Open("", zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	b := &bad{t: t, conn: conn, key: key, zones: map[string]*zone.Zone{}, random: rand.New(rand.NewPCG(seed, 2)), done: make(chan struct{})}
	for _, origin := range []string{"imaging.example.org.", "2.0.192.in-addr.arpa."} {
		z, err := store.Zone(origin, func() ([]dns.RR, error) {
			var seed []dns.RR
			p := dns.NewZoneParser(strings.NewReader("$TTL 300\n@ SOA ns1.example.org. hostmaster.example.org. 1 3600 600 86400 60\n@ NS ns1.example.org.\n"), origin, "")
			for rr, ok := p.Next(); ok; rr, ok = p.Next() {
				seed = append(seed, rr)
			}
			return seed, p.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		b.zones[origin] = z
	}
	go b.serve()
	t.Cleanup(func() {
		if err := errors.Join(conn.Close(), store.Close()); err != nil {
			t.Error(err)
		}
		<-b.done
	})
	return b
}

func (b *bad) serve() {
	defer close(b.done)
	buffer := make([]byte, 65536)
	for {
		n, from, err := b.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		fate := b.random.IntN(20)
		if b.well.Load() {
			fate = 100
		} else if time.Now().UnixNano() < b.silent.Load() {
			fate = 0
		}
		rcode, times, lost := 0, 1, false
		switch fate {
		case 0:
			continue
		case 1:
			lost = true
		case 2:
			times = 2
		case 3:
			rcode = dns.RcodeServerFailure
		case 4:
			rcode = dns.RcodeRefused
		}
		for range times {
			answer := b.answer(buffer[:n], rcode)
			if answer != nil && !lost {
				_, _ = b.conn.WriteToUDPAddrPort(answer, from) // whoever asked may be gone
			}
		}
	}
}

// answer does what a message says, unless it is to fail, and returns the signed answer.
func (b *bad) answer(wire []byte, rcode int) []byte {
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		b.t.Errorf("%v: % x", err, wire)
		return nil
	}
	if err := dns.TsigVerify(slices.Clone(wire), b.key.Secret(), "", false); err != nil {
		b.t.Errorf("%v: %v", err, m)
		return nil
	}
	r := new(dns.Msg).SetRcode(m, rcode)
	r.Authoritative = true
	name := dns.CanonicalName(m.Question[0].Name)
	var z *zone.Zone
	for origin, candidate := range b.zones {
		if dns.IsSubDomain(origin, name) {
			z = candidate
		}
	}
	switch {
	case z == nil:
		r.Rcode = dns.RcodeRefused
	case rcode != 0:
	case m.Opcode == dns.OpcodeUpdate:
		var err error
		r.Rcode, err = z.Update(context.Background(), m.Answer, m.Ns, func(string, uint16) bool { return true })
		if err != nil && r.Rcode != dns.RcodeRefused {
			b.t.Errorf("%v: %v", err, m)
		}
	default:
		r.Ns = []dns.RR{z.Snapshot().SOA()}
	}
	r.SetTsig(b.key.Name, b.key.Algorithm, 300, time.Now().Unix())
	out, _, err := dns.TsigGenerate(r, b.key.Secret(), m.IsTsig().MAC, false)
	if err != nil {
		b.t.Error(err)
		return nil
	}
	return out
}

// enter has a name have a record that is entered by hand, and nothing else.
func (b *bad) enter(record string) {
	b.t.Helper()
	rr, err := dns.NewRR(record)
	if err != nil {
		b.t.Fatal(err)
	}
	updates := []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: rr.Header().Name, Rrtype: dns.TypeANY, Class: dns.ClassANY}}, rr}
	if rcode, err := b.zones["imaging.example.org."].Update(b.t.Context(), nil, updates, func(string, uint16) bool { return true }); rcode != 0 || err != nil {
		b.t.Fatal(rcode, err)
	}
}

// records are what the zones hold beside their apexes.
func (b *bad) records() map[string]bool {
	got := map[string]bool{}
	for origin, z := range b.zones {
		for rr := range z.Snapshot().All() {
			if dns.CanonicalName(rr.Header().Name) != origin {
				got[dataOf(rr)] = true
			}
		}
	}
	return got
}

// dataOf is a record without its class and TTL.
func dataOf(rr dns.RR) string {
	f := strings.Fields(rr.String())
	return strings.Join(append([]string{f[0]}, f[3:]...), " ")
}

// fickle is a worker and a lease store that are stopped and begun again.
type fickle struct {
	t       *testing.T
	dir     string
	config  nameupdate.Config
	manager *lease.Manager
	stop    func()
}

func (f *fickle) open() {
	f.t.Helper()
	c := lease.Config{Domain: "imaging.example.org.", Networks: []lease.Network{{
		Name: "radiology", Prefix: netip.MustParsePrefix("192.0.2.0/24"), LeaseTime: time.Hour, MinLeaseTime: leastTime, MaxLeaseTime: mostTime, DDNS: true,
	}}}
	var err error
	if f.manager, err = lease.Open(f.dir, c, lease.Options{}); err != nil {
		f.t.Fatal(err)
	}
	f.begin()
}

func (f *fickle) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	worker := nameupdate.New(f.config, f.manager)
	go func() { ended <- worker.Run(ctx) }()
	go func() { ended <- f.manager.Run(ctx) }()
	f.stop = func() {
		f.t.Helper()
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			f.t.Error(err)
		}
	}
}

func (f *fickle) close() {
	f.t.Helper()
	f.stop()
	if err := f.manager.Close(); err != nil {
		f.t.Error(err)
	}
}

// TestConverges has machines come, go, expire, move, and be called otherwise, also as others are and as what was entered by
// hand, while the DNS server has a bad day and the rest is stopped now and then. In the end DNS holds exactly what the leases
// want: of a name that several want it has one of them, and what was entered by hand stays.
func TestConverges(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	key, err := tsigkey.Generate(keyName)
	if err != nil {
		t.Fatal(err)
	}
	b := startBad(t, key, seed)
	static := map[string]bool{"ws0.imaging.example.org. A 192.0.2.250": true, "ws1.imaging.example.org. TXT \"by hand\"": true}
	for record := range static {
		b.enter(record)
	}
	f := &fickle{t: t, dir: t.TempDir(), config: nameupdate.Config{
		Routes:  []nameupdate.Route{{Zone: ".", Servers: []string{b.conn.LocalAddr().String()}}},
		Keys:    []nameupdate.ZoneKey{{Zone: ".", Key: key}},
		Timeout: 50 * time.Millisecond,
	}}
	f.open()
	defer func() { f.close() }()

	// Half of them are the interfaces of machines that DNS knows by their DUIDs (RFC 4361).
	client := func() lease.Client {
		n := random.IntN(40)
		c := lease.Client{HardwareType: 1, HardwareAddr: "\x00\x00\x5e\x00\x53" + string(rune(n))}
		if n < 20 {
			c.Identifier = "\xff\x00\x00\x00" + string(rune(n)) + "\x00\x04machine" + string(rune(n/3))
		}
		return c
	}
	address := func() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + random.IntN(48))}) }
	done, said := map[string]int{}, map[netip.Addr]lease.Query{}
	for range 800 {
		time.Sleep(5 * time.Millisecond)
		var err error
		switch n := random.IntN(100); {
		case n < 60:
			done["leases"]++
			a, q := address(), lease.Query{Client: client(), Hostname: fmt.Sprintf("ws%d", random.IntN(16)), NoNames: random.IntN(10) == 0}
			said[a] = q
			err = f.manager.Note(t.Context(), q, a, []time.Duration{time.Second, 2 * time.Second, time.Hour, time.Hour}[random.IntN(4)])
		case n < 95:
			a := address()
			if l, ok := f.manager.Lease(a); ok {
				done["releases"]++
				_, err = f.manager.Release(t.Context(), lease.Query{Client: l.Client, ClientAddr: a})
			}
		case n < 97:
			done["silences"]++
			b.silent.Store(time.Now().Add(500 * time.Millisecond).UnixNano())
		case n < 99:
			done["workers"]++
			f.stop()
			f.begin()
		default:
			done["stores"]++
			f.close()
			f.open()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b.well.Store(true)
	settle := func() (names int) {
		t.Helper()
		for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			wrong, names := f.compare(b.records(), static)
			s := f.manager.NameStats()
			if len(wrong) == 0 && s.Waiting == s.Conflicts {
				t.Logf("%d names, %d in conflict, after %s", names, s.Conflicts, time.Since(begin))
				return names
			}
			if time.Since(begin) > 3*time.Minute {
				t.Fatalf("random numbers from %d; %v; %+v: %q", seed, done, s, wrong)
			}
		}
	}
	names := settle()
	if names == 0 {
		t.Errorf("no names; random numbers from %d", seed)
	}
	// Of what DNS had too much to forget for none is left without its name.
	for l, err := range f.manager.Leases() {
		if err != nil {
			t.Fatal(err)
		}
		q := said[l.Address]
		if want := q.Hostname + ".imaging.example.org."; l.State == lease.Active && q.Client == l.Client && !q.NoNames && l.Name != want {
			t.Errorf("the lease of %v has %q, want %q; random numbers from %d", l.Address, l.Name, want, seed)
		}
	}
	t.Log(done)

	// The names of some are given to others by hand. When DNS is told again, the addresses lose them too.
	given := 0
	for l, err := range f.manager.Leases() {
		if err != nil {
			t.Fatal(err)
		}
		if l.NameState == lease.NameShown && given < 3 {
			given++
			record := l.Name + " A 192.0.2.25" + fmt.Sprint(given)
			static[record] = true
			b.enter(record)
		}
	}
	if _, err := f.manager.Resync(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if left := settle(); given == 0 || left != names-given {
		t.Errorf("%d names after %d of %d were given to others; random numbers from %d", left, given, names, seed)
	}
}

// compare returns what is wrong with the records of the zones, and how many names are right.
func (f *fickle) compare(got, static map[string]bool) (wrong []string, names int) {
	byName := map[string][]lease.Lease{}
	for l, err := range f.manager.Leases() {
		if err != nil {
			f.t.Fatal(err)
		}
		if l.State == lease.Active && time.Until(l.Expires) < time.Minute {
			wrong = append(wrong, fmt.Sprintf("the lease of %v is about to end", l.Address))
		}
		if l.State == lease.Active && l.Name != "" {
			byName[l.Name] = append(byName[l.Name], l)
		}
	}
	left := maps.Clone(got)
	take := func(record string) {
		if !left[record] {
			wrong = append(wrong, "missing: "+record)
		}
		delete(left, record)
	}
	taken := map[string]bool{}
	for record := range static {
		take(record)
		taken[strings.Fields(record)[0]] = true
	}
	for name, list := range byName {
		if taken[name] {
			continue
		}
		// Of several clients' any may be shown; of one machine's leases the latest.
		shown := slices.IndexFunc(list, func(l lease.Lease) bool { return left[name+" A "+l.Address.String()] })
		if shown < 0 {
			wrong = append(wrong, "not shown: "+name)
			continue
		}
		l := list[shown]
		for _, o := range list {
			if nameupdate.DHCID(o.Client, name) == nameupdate.DHCID(l.Client, name) && o.Version > l.Version {
				wrong = append(wrong, fmt.Sprintf("%s is shown at %v and not at %v", name, l.Address, o.Address))
			}
		}
		names++
		reverse, err := dns.ReverseAddr(l.Address.String())
		if err != nil {
			f.t.Fatal(err)
		}
		id := nameupdate.DHCID(l.Client, name)
		take(name + " A " + l.Address.String())
		take(name + " DHCID " + id)
		take(reverse + " PTR " + name)
		take(reverse + " DHCID " + id)
	}
	for record := range left {
		wrong = append(wrong, "too many: "+record)
	}
	return wrong, names
}
