package lease

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no prefix", func(c *Config) { c.Networks[0].Prefix = netip.Prefix{} }, `network "radiology": prefix`},
		{"host bits in the prefix", func(c *Config) { c.Networks[0].Prefix = netip.MustParsePrefix("192.0.2.1/24") }, "expected the first address"},
		{"no lease time", func(c *Config) { c.Networks[0].LeaseTime = 0 }, "expected a second or more"},
		{"lease time over infinite", func(c *Config) { c.Networks[0].MaxLeaseTime = Infinite + 1 }, "greatest lease time"},
		{"negative decline time", func(c *Config) { c.Networks[0].DeclineTime = -1 }, "decline time"},
		{"least over greatest", func(c *Config) { c.Networks[0].MinLeaseTime = 3 * time.Hour }, "is over the greatest"},
		{"pool outside", func(c *Config) { c.Networks[0].Pools[0].Last = addr("192.0.3.1") }, "inside 192.0.2.0/24"},
		{"pool backwards", func(c *Config) { c.Networks[0].Pools[0].Last = addr("192.0.2.99") }, "expected a range"},
		{"pool without addresses", func(c *Config) { c.Networks[0].Pools[0] = Pool{} }, "expected a range"},
		{"networks overlap", func(c *Config) {
			c.Networks[1].Prefix = netip.MustParsePrefix("192.0.2.128/25")
			c.Networks[1].Pools = nil
		}, "overlaps 192.0.2.0/24"},
		{"pools overlap", func(c *Config) { c.Networks[0].Pools = append(c.Networks[0].Pools, c.Networks[0].Pools[0]) }, "overlaps pool"},
		{"hardware address twice", func(c *Config) { c.Reservations[1].HardwareAddresses[0].Addr = mac(0xc1) }, "00005e0053c1 is also that of"},
		{"identifier twice", func(c *Config) { c.Reservations[1].ClientIdentifiers = []string{"\x00ct1"} }, "client identifier 00637431"},
		{"device name too long", func(c *Config) { c.Reservations[0].Device = strings.Repeat("x", 256) }, "name of 256 octets: expected at most 255"},
		{"host name too long", func(c *Config) { c.Reservations[0].Hostname = strings.Repeat("x", 255) }, "host name of 256 octets"},
		{"address twice", func(c *Config) { c.Reservations[1].Addresses[0] = addr("192.0.2.11") }, "address 192.0.2.11 is also"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := testConfig()
			tc.change(&c)
			_, err := newIndex(c)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
			f := open(t, testConfig())
			if err := f.Reload(c); err == nil {
				t.Error("reloaded")
			}
			if f.discover(query(client(1), link)).Kind != Offer {
				t.Error("the configuration before is gone")
			}
		})
	}
}

func TestReload(t *testing.T) {
	one := query(client(1), link2)
	t.Run("a network that is gone", func(t *testing.T) {
		c := testConfig()
		f := open(t, c)
		a := f.get(one).Address
		f.discover(query(client(2), link2))
		c.Networks = c.Networks[:2]
		if err := f.Reload(c); err != nil {
			t.Fatal(err)
		}
		if l, _ := f.Lease(a); l.State != Active || l.Network != "" {
			t.Errorf("the lease: %+v", l)
		}
		if got := f.request(renewing(one, a)); got.Kind != Nak {
			t.Errorf("renewal: %v", got.Kind)
		}
		f.check()
		f.clock.advance(time.Hour)
		f.expireAll()
		if f.state(a.String()) != Expired {
			t.Error("did not end")
		}
		f.check()
		if err := f.Reload(testConfig()); err != nil {
			t.Fatal(err)
		}
		f.check()
		if got := f.get(one).Address; got != a {
			t.Errorf("had %v, got %v when the network was back", a, got)
		}
	})
	t.Run("a pool that shrank", func(t *testing.T) {
		c := testConfig()
		f := open(t, c)
		a := f.get(one).Address
		c.Networks[2].Pools = []Pool{{First: addr("198.51.100.15"), Last: addr("198.51.100.19")}}
		if err := f.Reload(c); err != nil {
			t.Fatal(err)
		}
		if got := f.request(renewing(one, a)); got.Kind != Nak {
			t.Errorf("renewal outside the pool: %v", got.Kind)
		}
		if got := f.get(one).Address; got != addr("198.51.100.15") {
			t.Errorf("got %v", got)
		}
		if f.state(a.String()) != Released {
			t.Error("the lease before did not end")
		}
		f.check()
	})
	t.Run("an address that is not kept back any more", func(t *testing.T) {
		c := testConfig()
		f := open(t, c)
		for n := byte(1); n <= 4; n++ { // the whole wire: 101 is excluded, 102 reserved
			f.get(query(client(n), link))
		}
		if got := f.discover(query(client(5), link)); got.Kind != Silent {
			t.Fatalf("offered %v", got.Lease.Address)
		}
		c.Excluded = nil
		if err := f.Reload(c); err != nil {
			t.Fatal(err)
		}
		if got := f.get(query(client(5), link)).Address; got != addr("192.0.2.101") {
			t.Errorf("got %v", got)
		}
		// Reserved now, and free: nobody gets it; then not reserved any more: again in the pool.
		f.release(query(client(5), link), addr("192.0.2.101"))
		if err := f.Reload(testConfig()); err != nil {
			t.Fatal(err)
		}
		if got := f.discover(query(client(6), link)); got.Kind != Silent {
			t.Errorf("offered %v", got.Lease.Address)
		}
		f.check()
		if err := f.Reload(c); err != nil {
			t.Fatal(err)
		}
		f.check()
		if got := f.get(query(client(6), link)).Address; got != addr("192.0.2.101") {
			t.Errorf("got %v", got)
		}
	})
	t.Run("an offer that is not allowed any more", func(t *testing.T) {
		c := testConfig()
		f := open(t, c)
		a := f.discover(one).Lease.Address
		c.Excluded = append(c.Excluded, a)
		if err := f.Reload(c); err != nil {
			t.Fatal(err)
		}
		if got := f.request(selecting(one, a)); got.Kind != Nak {
			t.Errorf("got %v", got.Kind)
		}
		c = testConfig()
		a = f.discover(query(client(3), link2)).Lease.Address
		c.Reservations[0].Addresses = append(c.Reservations[0].Addresses, a)
		if err := f.Reload(c); err != nil {
			t.Fatal(err)
		}
		if got := f.discover(query(client(0xc1), link2)).Lease.Address; got != a {
			t.Errorf("the device is offered %v, want %v, which an offer to another kept", got, a)
		}
	})
}

func TestLeases(t *testing.T) {
	f := open(t, wideConfig(1000))
	for n := range 3*pageSize + 1 {
		f.get(query(numbered(n), wideLink))
	}
	var last netip.Addr
	n := 0
	for l, err := range f.Leases() {
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && !last.Less(l.Address) {
			t.Fatalf("%v after %v", l.Address, last)
		}
		last = l.Address
		if n++; n == 10 { // a lease that comes later is not part of the view
			f.get(query(numbered(5000), wideLink))
		}
	}
	if n != 3*pageSize+1 {
		t.Errorf("%d leases", n)
	}
	var err error
	for _, err = range f.Leases() {
		break
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(f.store.all) != 0 {
		t.Error("a view was left open")
	}
}
