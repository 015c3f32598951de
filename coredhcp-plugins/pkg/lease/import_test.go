package lease

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// bring imports leases and returns what became of each.
func (f *fixture) bring(list ...Imported) []Outcome {
	f.Helper()
	o, err := f.Import(f.Context(), list)
	if err != nil {
		f.Fatal(err)
	}
	if len(o) != len(list) {
		f.Fatalf("%d outcomes of %d leases", len(o), len(list))
	}
	return o
}

// lasting is a lease of another server that ends after a time.
func (f *fixture) lasting(address string, c Client, d time.Duration) Imported {
	now := f.clock.now()
	return Imported{Address: addr(address), Client: c, State: Active, Start: now.Add(-time.Hour), Expires: now.Add(d), Duration: d + time.Hour}
}

func TestImport(t *testing.T) {
	identified := client(2)
	identified.Identifier = "\x01" + identified.HardwareAddr
	f := open(t, testConfig())
	held := f.get(query(client(9), link2)) // of cardiology, before the import
	list := []Imported{
		f.lasting("192.0.2.100", client(1), 2*time.Hour),
		f.lasting("192.0.2.103", identified, time.Hour),
		f.lasting("198.51.100.11", client(3), -time.Hour),
		{Address: addr("198.51.100.13"), State: Declined},
		{Address: addr("198.51.100.14"), Client: client(4), State: Active, Hostname: "Reading7.elsewhere.example.org"},
		f.lasting("10.0.0.1", client(5), time.Hour),
		f.lasting(held.Address.String(), client(6), time.Hour),
		f.lasting("192.0.2.11", client(7), time.Hour),
		f.lasting("192.0.2.50", client(8), time.Hour),
		{Address: addr("198.51.100.15"), State: Active},
		f.lasting(held.Address.String(), client(9), 20*time.Hour),
	}
	want := []struct {
		taken bool
		note  string
	}{
		{true, ""},
		{true, ""},
		{true, ""},
		{true, ""},
		{true, ""},
		{false, "outside of all networks"},
		{false, "conflict: the database has the address as held by 00:00:5e:00:53:09"},
		{true, `that of device "ct1"`},
		{true, "in no pool"},
		{false, "neither a hardware address nor a client identifier"},
		{true, ""},
	}
	for round, o := range [][]Outcome{f.bring(list...), f.bring(list...)} {
		for i, w := range want {
			taken, note := w.taken, w.note
			if round == 1 && w.taken {
				taken, note = false, "is in the database already"
			}
			if o[i].Taken != taken || !strings.Contains(o[i].Note, note) || note == "" && o[i].Note != "" {
				t.Errorf("round %d, %v: %+v, want taken %v, %q", round, list[i].Address, o[i], taken, note)
			}
		}
	}
	f.reopen(testConfig())
	for address, w := range map[string]struct {
		state State
		c     Client
		left  time.Duration // 0: not compared; -1: never
		name  string
	}{
		"192.0.2.100":         {Active, client(1), 2 * time.Hour, ""},
		"192.0.2.103":         {Active, identified, time.Hour, ""},
		"198.51.100.11":       {Expired, client(3), -time.Hour, ""},
		"198.51.100.13":       {Declined, unknownClient, DefaultDeclineTime, ""},
		"198.51.100.14":       {Active, client(4), -1, "reading7.imaging.example.org."},
		"192.0.2.11":          {Active, client(7), time.Hour, ""},
		held.Address.String(): {Active, client(9), 20 * time.Hour, ""},
	} {
		l, _ := f.Lease(addr(address))
		left := l.Expires.Sub(f.clock.now())
		if l.Expires.IsZero() {
			left = -1
		}
		if l.State != w.state || l.Client != w.c || l.Name != w.name || left != w.left {
			t.Errorf("%s: %+v, %v left; want %+v", address, l, left, w)
		}
	}
	t.Run("renewed", func(t *testing.T) {
		for address, c := range map[string]Client{"192.0.2.100": client(1), "192.0.2.103": identified} {
			if a := f.request(renewing(query(c, link), addr(address))); a.Kind != Ack || a.Lease.Address != addr(address) {
				t.Errorf("%s: %v %s", address, a.Kind, a.Reason)
			}
		}
	})
	t.Run("who had it gets it again", func(t *testing.T) {
		if l := f.get(query(client(3), link2)); l.Address != addr("198.51.100.11") {
			t.Errorf("got %v", l.Address)
		}
	})
	t.Run("nothing is given out twice", func(t *testing.T) {
		for n := range byte(20) {
			o := f.discover(query(client(0x40+n), link2))
			switch a := o.Lease.Address.String(); {
			case o.Kind != Offer:
			case a == "198.51.100.13", a == "198.51.100.14", a == held.Address.String():
				t.Errorf("%s was offered to a stranger", a)
			}
		}
	})
}

// Nobody is served from a database that has a part of an import, until it is repeated.
func TestImportInterrupted(t *testing.T) {
	f := open(t, testConfig())
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := Options{Now: f.clock.now, FS: f.fs, Committed: func(CommitInfo) { cancel() }, Importing: true}
	m, err := Open("leases", testConfig(), o)
	if err != nil {
		t.Fatal(err)
	}
	var list []Imported
	for n, network := range []string{"192.0.2", "203.0.113", "198.51.100"} {
		for host := range 200 {
			c := client(byte(host))
			c.HardwareType = uint8(n + 1)
			list = append(list, f.lasting(fmt.Sprintf("%s.%d", network, host+1), c, time.Hour))
		}
	}
	if len(list) <= importAtOnce {
		t.Fatal("they are imported at once")
	}
	if _, err := m.Import(ctx, list); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	o = Options{Now: f.clock.now, FS: f.fs}
	if m, err := Open("leases", testConfig(), o); err == nil {
		_ = m.Close()
		t.Fatal("half of an import was opened")
	} else if !strings.Contains(err.Error(), "lease database leases: an import of leases into it was interrupted") {
		t.Errorf("error %v", err)
	}
	o.Importing = true
	if m, err = Open("leases", testConfig(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Import(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	f.open(testConfig())
	for _, l := range list {
		if got, _ := f.Lease(l.Address); got.State != Active || got.Client != l.Client {
			t.Errorf("%s: %+v", l.Address, got)
		}
	}
}

// A lease that comes without client identifiers is that of whoever has the hardware address, with the identifier that it sends.
func TestImportWithoutIdentifiers(t *testing.T) {
	for i, id := range []string{"", "\x01" + mac(1), "\xff\x00\x00\x00\x01\x00\x01duid"} {
		t.Run(fmt.Sprintf("%x", id), func(t *testing.T) {
			f := open(t, testConfig())
			l := f.lasting("192.0.2.103", client(1), time.Hour)
			l.AnyIdentifier, l.Hostname = true, "reading7"
			f.bring(l)
			f.reopen(testConfig())
			c := client(1)
			c.Identifier = id
			q := query(c, link)
			q.Hostname = "reading7"
			if i == 0 {
				// A stranger does not get it, whatever it sends.
				s := client(2)
				s.Identifier = id
				if a := f.request(renewing(query(s, link), addr("192.0.2.103"))); a.Kind == Ack {
					t.Fatal("a stranger renewed the lease")
				}
			}
			for range 2 { // an offer does not shut its own client out
				if o := f.discover(q); o.Kind != Offer || o.Lease.Address != addr("192.0.2.103") {
					t.Fatalf("Discover: %v %v %s", o.Kind, o.Lease.Address, o.Reason)
				}
			}
			a := f.request(renewing(q, addr("192.0.2.103")))
			if a.Kind != Ack || a.Lease.Client != c || a.Lease.Name != "reading7.imaging.example.org." {
				t.Fatalf("Request: %v %s, lease %+v", a.Kind, a.Reason, a.Lease)
			}
			changes := f.TakeNameChanges(10)
			if len(changes) != 1 || changes[0].Client != c {
				t.Errorf("name changes %+v, want one of the client as it is", changes)
			}
			if a := f.request(renewing(q, addr("192.0.2.103"))); a.Kind != Ack {
				t.Errorf("second renewal: %v %s", a.Kind, a.Reason)
			}
		})
	}
}

// Many leases are more than one transaction.
func TestImportMany(t *testing.T) {
	f := open(t, testConfig())
	var list []Imported
	for i := range 3 * importAtOnce / 2 {
		l := f.lasting("198.51.100.10", client(1), time.Duration(i+1)*time.Hour)
		list = append(list, l)
	}
	for i, o := range f.bring(list...) {
		if !o.Taken {
			t.Fatalf("%d: %+v", i, o)
		}
	}
	if l, _ := f.Lease(addr("198.51.100.10")); l.Expires.Sub(f.clock.now()) != time.Duration(len(list))*time.Hour {
		t.Errorf("lease %+v", l)
	}
}
