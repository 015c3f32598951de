package lease

import (
	"context"
	"testing"
	"time"
)

func (f *fixture) bootp(q Query) Answer {
	f.Helper()
	a, err := f.BOOTP(context.Background(), q)
	if err != nil {
		f.Fatal(err)
	}
	return a
}

func TestBOOTP(t *testing.T) {
	fixed := addr("192.0.2.11")
	q := query(client(0xc1), link)
	f := open(t, testConfig())
	if a := f.bootp(query(client(1), link)); a.Kind != Silent || a.Reason == "" {
		t.Errorf("a client without a reservation: %v", a.Kind)
	}
	if a := f.bootp(query(client(0xc1), link2)); a.Kind != Silent {
		t.Errorf("where nothing is reserved: %v %v", a.Kind, a.Lease.Address)
	}
	if a := f.bootp(query(client(0xc1), addr("10.0.0.1"))); a.Kind != Silent {
		t.Errorf("on no network: %v", a.Kind)
	}
	a := f.bootp(q)
	if a.Kind != Ack || a.Lease.Address != fixed || a.Duration != Infinite || !a.Lease.Expires.IsZero() {
		t.Fatalf("%+v", a)
	}
	f.confirm(f.wantChanges("+ct1.imaging.example.org. 192.0.2.11"))
	before := len(f.commits)
	for range 5 {
		if a := f.bootp(q); a.Kind != Ack || a.Lease.Address != fixed {
			t.Fatalf("again: %+v", a)
		}
	}
	if n := len(f.commits) - before; n != 0 {
		t.Errorf("asking again wrote %d times", n)
	}
	f.clock.advance(25 * time.Hour)
	f.expireAll()
	f.reopen(testConfig())
	if l, _ := f.Lease(fixed); l.State != Active || !l.Expires.IsZero() {
		t.Errorf("a day and a restart later: %+v", l)
	}
	t.Run("with ciaddr", func(t *testing.T) {
		q := query(client(0xd1), link)
		q.ClientAddr = addr("192.0.2.102")
		if a := f.bootp(q); a.Kind != Ack || a.Lease.Address != q.ClientAddr {
			t.Errorf("its own: %+v", a)
		}
		q.ClientAddr = fixed
		if a := f.bootp(q); a.Kind != Silent {
			t.Errorf("another device's: %+v", a)
		}
	})
	t.Run("another interface of the device holds the address", func(t *testing.T) {
		if a := f.bootp(query(client(0xc2), link)); a.Kind != Silent {
			t.Errorf("%+v", a)
		}
	})
}

// TestBOOTPAndDHCP boots a device by BOOTP and runs it by DHCP with a client identifier, time and again.
func TestBOOTPAndDHCP(t *testing.T) {
	fixed := addr("192.0.2.11")
	rom, system := query(client(0xc1), link), query(Client{1, mac(0xc1), "\x01" + mac(0xc1)}, link)
	f := open(t, testConfig())
	for round := range 4 {
		if a := f.bootp(rom); a.Kind != Ack || a.Lease.Address != fixed {
			t.Fatalf("BOOTP: %+v", a)
		}
		if l, _ := f.Lease(fixed); !l.Expires.IsZero() {
			t.Errorf("after BOOTP it ends %v", l.Expires)
		}
		if l := f.get(system); l.Address != fixed || l.Expires.IsZero() {
			t.Errorf("DHCP: %+v", l)
		}
		f.clock.advance(30 * time.Minute)
		if a := f.request(renewing(system, fixed)); a.Kind != Ack {
			t.Errorf("DHCP renews: %v %s", a.Kind, a.Reason)
		}
		changes := f.TakeNameChanges(10)
		if round > 0 && len(changes) > 0 {
			t.Errorf("round %d: the name changes: %+v", round, changes)
		}
		f.confirm(changes)
		f.check()
	}
}
