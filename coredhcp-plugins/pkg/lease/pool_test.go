package lease

import (
	"testing"
	"time"
)

// TestPoolsForSome has pools for known and unknown clients, and for one class.
func TestPoolsForSome(t *testing.T) {
	config := func() Config {
		c := testConfig()
		c.Networks[2].Pools = []Pool{
			{First: addr("198.51.100.10"), Last: addr("198.51.100.11"), Clients: KnownClients},
			{First: addr("198.51.100.20"), Last: addr("198.51.100.21"), Clients: UnknownClients},
			{First: addr("198.51.100.30"), Last: addr("198.51.100.31"), Class: "phones"},
		}
		return c
	}
	stranger := query(client(1), link2)
	phone := query(client(2), link2)
	phone.Classes = []string{"printers", "phones"}
	device := query(client(0xc1), link2)
	f := open(t, config())
	for name, tc := range map[string]struct {
		q    Query
		want []string
	}{
		"stranger": {stranger, []string{"198.51.100.20", "198.51.100.21"}},
		"phone":    {phone, []string{"198.51.100.20", "198.51.100.21", "198.51.100.30", "198.51.100.31"}},
		"device":   {device, []string{"198.51.100.10", "198.51.100.11"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, config())
			got := map[string]bool{}
			for _, a := range []string{"198.51.100.10", "198.51.100.11", "198.51.100.20", "198.51.100.21", "198.51.100.30", "198.51.100.31"} {
				if f.request(selecting(tc.q, addr(a))).Kind == Ack {
					got[a] = true
				}
				q := tc.q
				q.Requested = addr(a)
				if o := f.discover(q); (o.Lease.Address == addr(a)) != got[a] {
					t.Errorf("asked for %s, offered %v", a, o.Lease.Address)
				}
				f.release(tc.q, addr(a))
			}
			for _, a := range tc.want {
				if !got[a] {
					t.Errorf("%s refused", a)
				}
			}
			if len(got) != len(tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	t.Run("renewals", func(t *testing.T) {
		f.request(selecting(phone, addr("198.51.100.30")))
		bare := phone
		bare.Classes = nil
		if a := f.request(renewing(bare, addr("198.51.100.30"))); a.Kind != Ack {
			t.Errorf("by unicast, without the relay's option: %v %s", a.Kind, a.Reason)
		}
		bare.Relayed = true
		if a := f.request(renewing(bare, addr("198.51.100.30"))); a.Kind != Nak {
			t.Errorf("by broadcast, out of the class: %v", a.Kind)
		}
		if o := f.discover(bare); o.Lease.Address == addr("198.51.100.30") {
			t.Error("offered again out of the class")
		}
	})
	t.Run("a DISCOVER that gives an address is no renewal", func(t *testing.T) {
		f := open(t, config())
		for n := byte(1); n <= 2; n++ {
			f.get(query(client(n), link2))
		}
		q := query(client(5), link2)
		q.ClientAddr = addr("198.51.100.99")
		if o := f.discover(q); o.Kind != Silent {
			t.Errorf("offered %v, which a REQUEST would not get", o.Lease.Address)
		}
	})
	t.Run("unused longest among those it may have", func(t *testing.T) {
		f := open(t, config())
		for n := byte(1); n <= 2; n++ {
			f.get(query(client(n), link2))
			f.clock.advance(time.Second)
		}
		p := phone
		p.Client = client(3)
		f.get(p)
		if o := f.discover(query(client(4), link2)); o.Kind != Silent {
			t.Errorf("offered %v", o.Lease.Address)
		}
		f.release(query(client(1), link2), addr("198.51.100.20"))
		if o := f.discover(query(client(4), link2)); o.Lease.Address != addr("198.51.100.20") {
			t.Errorf("offered %v %s", o.Lease.Address, o.Reason)
		}
	})
	t.Run("a reload that closes a pool", func(t *testing.T) {
		f := open(t, config())
		a := f.get(stranger).Address
		c := config()
		c.Networks[2].Pools[1].Clients = KnownClients
		if err := f.Reload(c); err != nil {
			t.Fatal(err)
		}
		if got := f.request(renewing(stranger, a)); got.Kind != Nak {
			t.Errorf("renewed: %v", got.Kind)
		}
	})
}
