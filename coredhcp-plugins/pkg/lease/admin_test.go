package lease

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestEnd(t *testing.T) {
	f := open(t, testConfig())
	ctx := context.Background()
	l := f.get(named(1, "ws1", link2))
	f.confirm(f.wantChanges("+ws1.imaging.example.org. 198.51.100.10"))
	if ended, err := f.End(ctx, l.Address); !ended || err != nil {
		t.Fatal(ended, err)
	}
	f.wantChanges("-ws1.imaging.example.org. 198.51.100.10")
	if s := f.state("198.51.100.10"); s != Released {
		t.Errorf("the lease is %v", s)
	}
	for name, a := range map[string]string{"again": "198.51.100.10", "never used": "198.51.100.11", "no address of ours": "10.0.0.1"} {
		if ended, err := f.End(ctx, addr(a)); ended || err != nil {
			t.Errorf("%s: %v %v", name, ended, err)
		}
	}
	f.reopen(testConfig())
	f.history("198.51.100.10", "01 released 08:00-08:00 ws1")
}

func TestUnquarantine(t *testing.T) {
	f := open(t, portConfig())
	ctx := context.Background()
	q := at(query(client(1), link2), "port1")
	a := f.get(q).Address
	f.decline(q, a)
	if freed, err := f.Unquarantine(ctx, a); !freed || err != nil {
		t.Fatal(freed, err)
	}
	if freed, err := f.Unquarantine(ctx, a); freed || err != nil {
		t.Errorf("again: %v %v", freed, err)
	}
	f.check()
	f.reopen(testConfig())
	if s := f.state(a.String()); s != Expired {
		t.Errorf("it is %v", s)
	}
	w := query(client(2), link2)
	w.Requested = a
	if o := f.discover(w); o.Lease.Address != a {
		t.Errorf("offered %v", o.Lease.Address)
	}
	f.history(a.String(), "01 declined 08:00-08:00")
}

func TestAdministratorAfterClose(t *testing.T) {
	f := open(t, testConfig())
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, end := f.End(context.Background(), addr("192.0.2.100"))
	_, free := f.Unquarantine(context.Background(), addr("192.0.2.100"))
	_, bootp := f.BOOTP(context.Background(), query(client(0xc1), link))
	for name, err := range map[string]error{"End": end, "Unquarantine": free, "BOOTP": bootp, "Backup": f.Backup("copy")} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.open(testConfig())
}

func TestStats(t *testing.T) {
	f := open(t, testConfig())
	f.clock.advance(time.Second)
	f.get(query(client(0xc1), link))   // reserved
	f.get(query(client(0xd1), link))   // reserved, inside the pool
	f.get(query(client(1), link))      // 192.0.2.100
	f.discover(query(client(2), link)) // 192.0.2.103
	f.discover(query(client(1), link)) // again what it holds
	f.decline(query(client(3), link3), f.get(query(client(3), link3)).Address)
	f.release(query(client(4), link2), f.get(query(client(4), link2)).Address)
	check := func() {
		t.Helper()
		s := f.Stats()
		want := []NetworkStats{
			{Network: "radiology", Size: 2, Active: 1, Offered: 1, Fixed: 2},
			{Network: "cardiology", Size: 9, Free: 9},
			{Network: "overflow", Size: 2, Declined: 1, Free: 1},
		}
		for i, w := range want {
			if s.Networks[i] != w {
				t.Errorf("%+v, want %+v", s.Networks[i], w)
			}
		}
		if s.Bindings != 5 || s.Offers != 2 {
			t.Errorf("%+v", s)
		}
	}
	check()
	if err := f.Reload(testConfig()); err != nil {
		t.Fatal(err)
	}
	check()
}
