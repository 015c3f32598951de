package lease

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	server  = netip.MustParseAddr("192.0.2.2")
	other   = netip.MustParseAddr("192.0.2.3")
	link    = netip.MustParseAddr("192.0.2.1")
	link2   = netip.MustParseAddr("198.51.100.1")
	link3   = netip.MustParseAddr("203.0.113.1")
	outside = netip.MustParseAddr("192.0.2.250") // in the network, in no pool
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// mac is a documentation hardware address (RFC 7042).
func mac(n byte) string { return string([]byte{0x00, 0x00, 0x5e, 0x00, 0x53, n}) }

func client(n byte) Client { return Client{HardwareType: 1, HardwareAddr: mac(n)} }

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// testConfig is a site with two networks on one wire, one of its own, and one device in each way of having addresses.
func testConfig() Config {
	return Config{
		Domain: "imaging.example.org.",
		Networks: []Network{
			{
				Name: "radiology", Prefix: netip.MustParsePrefix("192.0.2.0/24"), SharedNetwork: "floor1", DDNS: true,
				Pools:     []Pool{{First: addr("192.0.2.100"), Last: addr("192.0.2.103")}},
				LeaseTime: time.Hour, MinLeaseTime: 10 * time.Minute, MaxLeaseTime: 2 * time.Hour, DeclineTime: 3 * time.Hour,
			},
			{
				Name: "overflow", Prefix: netip.MustParsePrefix("203.0.113.0/24"), SharedNetwork: "floor1", DDNS: true,
				Pools:     []Pool{{First: addr("203.0.113.100"), Last: addr("203.0.113.101")}},
				LeaseTime: 30 * time.Minute,
			},
			{
				Name: "cardiology", Prefix: netip.MustParsePrefix("198.51.100.0/24"), Authoritative: true, DDNS: true,
				Pools:     []Pool{{First: addr("198.51.100.10"), Last: addr("198.51.100.19")}},
				LeaseTime: time.Hour, Interface: "eth7",
			},
		},
		Reservations: []Reservation{
			{
				Device: "ct1", Hostname: "ct1.imaging.example.org.", Publish: true,
				HardwareAddresses: []HardwareAddress{{1, mac(0xc1)}, {1, mac(0xc2)}},
				ClientIdentifiers: []string{"\x00ct1"},
				Addresses:         []netip.Addr{addr("192.0.2.11")},
			},
			{
				Device: "mr1", Hostname: "mr1.imaging.example.org.", Publish: true,
				HardwareAddresses: []HardwareAddress{{1, mac(0xd1)}},
				Addresses:         []netip.Addr{addr("192.0.2.102"), addr("198.51.100.12")},
			},
		},
		Excluded: []netip.Addr{addr("192.0.2.101")},
	}
}

type fixture struct {
	*testing.T
	*Manager
	clock *clock
	fs    vfs.FS

	commitsMu sync.Mutex
	commits   []CommitInfo
}

// open opens a Manager on a file system in memory, with a clock that stands.
func open(t *testing.T, c Config) *fixture {
	t.Helper()
	f := &fixture{T: t, clock: newClock(), fs: vfs.NewMem()}
	f.open(c)
	t.Cleanup(func() { f.Close() })
	return f
}

func (f *fixture) open(c Config) {
	f.Helper()
	m, err := Open("leases", c, Options{Now: f.clock.now, FS: f.fs, Committed: f.committed})
	if err != nil {
		f.Fatal(err)
	}
	f.Manager = m
}

func (f *fixture) committed(i CommitInfo) {
	f.commitsMu.Lock()
	defer f.commitsMu.Unlock()
	f.commits = append(f.commits, i)
}

// reopen closes the Manager and opens it again.
func (f *fixture) reopen(c Config) {
	f.Helper()
	if err := f.Close(); err != nil {
		f.Fatal(err)
	}
	f.open(c)
}

// waysToConfigure are those by which a Manager gets another Config.
var waysToConfigure = map[string]func(*fixture, Config){
	"reload": func(f *fixture, c Config) {
		f.Helper()
		if err := f.Reload(c); err != nil {
			f.Fatal(err)
		}
	},
	"restart": (*fixture).reopen,
}

// expireAll ends what is due, as Run does.
func (f *fixture) expireAll() {
	f.Helper()
	for {
		g, _, err := f.expire()
		if err != nil {
			f.Fatal(err)
		}
		if g == nil {
			return
		}
		if err := g.wait(context.Background()); err != nil {
			f.Fatal(err)
		}
	}
}

func query(c Client, links ...netip.Addr) Query {
	return Query{Client: c, Links: links, ServerID: server}
}

func (f *fixture) discover(q Query) Answer {
	f.Helper()
	a, err := f.Discover(context.Background(), q)
	if err != nil {
		f.Fatalf("Discover: %v", err)
	}
	return a
}

func (f *fixture) request(q Query) Answer {
	f.Helper()
	a, err := f.Request(context.Background(), q)
	if err != nil {
		f.Fatalf("Request: %v", err)
	}
	return a
}

// selecting asks for an offered address.
func selecting(q Query, a netip.Addr) Query {
	q.SelectedServer, q.Requested = q.ServerID, a
	return q
}

// rebooting asks for a remembered address.
func rebooting(q Query, a netip.Addr) Query {
	q.Requested = a
	return q
}

// renewing asks to keep an address.
func renewing(q Query, a netip.Addr) Query {
	q.ClientAddr, q.Requested, q.SelectedServer = a, netip.Addr{}, netip.Addr{}
	return q
}

// get takes a client through DISCOVER and REQUEST.
func (f *fixture) get(q Query) Lease {
	f.Helper()
	o := f.discover(q)
	if o.Kind != Offer {
		f.Fatalf("Discover: %v: %s", o.Kind, o.Reason)
	}
	a := f.request(selecting(q, o.Lease.Address))
	if a.Kind != Ack || a.Lease.Address != o.Lease.Address {
		f.Fatalf("Request: %v %v: %s, after an offer of %v", a.Kind, a.Lease.Address, a.Reason, o.Lease.Address)
	}
	return a.Lease
}

func (f *fixture) release(q Query, a netip.Addr) {
	f.Helper()
	q.ClientAddr = a
	if _, err := f.Release(context.Background(), q); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) decline(q Query, a netip.Addr) {
	f.Helper()
	q.Requested, q.SelectedServer = a, server
	if _, err := f.Decline(context.Background(), q); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) state(a string) State {
	l, _ := f.Lease(addr(a))
	return l.State
}
