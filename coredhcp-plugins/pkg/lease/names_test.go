package lease

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
)

func named(n byte, host string, l netip.Addr) Query {
	q := query(client(n), l)
	q.Hostname = host
	return q
}

// settled waits until nothing is uncommitted.
func (f *fixture) settled() {
	f.Helper()
	for {
		f.mu.Lock()
		waiting := len(f.dirty) + len(f.dirtyRemovals)
		f.mu.Unlock()
		if waiting == 0 {
			return
		}
		runtime.Gosched()
	}
}

// take takes all changes, as "+name address" and "-name address".
func (f *fixture) take(limit int) (texts []string, changes []NameChange) {
	f.Helper()
	changes = f.TakeNameChanges(limit)
	for _, c := range changes {
		sign := "+"
		if c.Remove {
			sign = "-"
		}
		texts = append(texts, sign+c.Name+" "+c.Address.String())
	}
	return texts, changes
}

func (f *fixture) wantChanges(want ...string) []NameChange {
	f.Helper()
	return f.wantTaken(100, want...)
}

func (f *fixture) wantTaken(limit int, want ...string) []NameChange {
	f.Helper()
	got, changes := f.take(limit)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.Fatalf("changes %q, want %q", got, want)
	}
	return changes
}

func (f *fixture) confirm(changes []NameChange) {
	f.Helper()
	for _, c := range changes {
		if err := f.ConfirmNameChange(c); err != nil {
			f.Fatal(err)
		}
	}
	f.settled()
}

func TestNameOfLease(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		query  Query
		want   string
	}{
		{"the client's own", nil, named(1, "WS-1", link), "ws-1.imaging.example.org."},
		{"none", nil, named(1, "", link), ""},
		{"not a label", nil, named(1, "a.b", link), ""},
		{"too long", nil, named(1, fmt.Sprintf("%064d", 1), link), ""},
		{"what all hosts trust", nil, named(1, "WPAD", link), ""},
		{"what all hosts trust too", nil, named(1, "isatap", link), ""},
		{"a device's name", nil, named(1, "ct1", link), ""},
		{"a device whatever it calls itself", nil, named(0xc1, "ws9", link), "ct1.imaging.example.org."},
		{"a device that is not published by lease", func(c *Config) { c.Reservations[0].Publish = false }, named(0xc1, "ws9", link), ""},
		{"no DDNS", func(c *Config) { c.Networks[0].DDNS = false }, named(1, "ws1", link), "ws1.imaging.example.org."},
		{"no domain", func(c *Config) { c.Domain = "" }, named(1, "ws1", link), ""},
		{"a domain without its dot", func(c *Config) { c.Domain = "Imaging.example.org" }, named(1, "ws1", link), "ws1.imaging.example.org."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := testConfig()
			if tc.change != nil {
				tc.change(&c)
			}
			f := open(t, c)
			if l := f.get(tc.query); l.Name != tc.want {
				t.Errorf("got %q, want %q", l.Name, tc.want)
			}
			if changes := f.TakeNameChanges(10); (len(changes) == 1) != (tc.want != "" && tc.name != "no DDNS") {
				t.Errorf("changes %+v", changes)
			} else if len(changes) == 1 && changes[0].Owned != (tc.query.Client == client(0xc1)) {
				t.Errorf("owned: %v", changes[0].Owned)
			}
		})
	}
}

func TestNameChanges(t *testing.T) {
	const ws1 = "ws1.imaging.example.org. 198.51.100.10"
	one := named(1, "ws1", link2)
	t.Run("added once, removed once", func(t *testing.T) {
		f := open(t, testConfig())
		a := f.get(one).Address
		select {
		case <-f.NameChanges():
		default:
			t.Error("no signal")
		}
		added := f.wantChanges("+" + ws1)
		if c := added[0]; c.LeaseTime != time.Hour || c.Client != client(1) || c.Owned {
			t.Errorf("change %+v", c)
		}
		f.wantChanges() // taken is taken
		f.confirm(added)
		if l, _ := f.Lease(a); !l.Published {
			t.Error("not published")
		}
		f.request(renewing(one, a))
		f.wantChanges() // a renewal changes nothing
		f.release(one, a)
		if l, _ := f.Lease(a); l.Name != "" || l.Published {
			t.Errorf("released: %+v", l)
		}
		f.confirm(f.wantChanges("-" + ws1))
		f.reopen(testConfig())
		f.wantChanges()
	})
	t.Run("a day later a renewal has it told again", func(t *testing.T) {
		c := testConfig()
		c.Networks[2].LeaseTime = 30 * time.Hour
		f := open(t, c)
		a := f.get(one).Address
		f.confirm(f.wantChanges("+" + ws1))
		f.clock.advance(23 * time.Hour)
		f.request(renewing(one, a))
		f.wantChanges()
		f.clock.advance(time.Hour)
		f.request(renewing(one, a))
		again := f.wantChanges("+" + ws1)
		if l, _ := f.Lease(a); l.Published {
			t.Error("published meanwhile")
		}
		f.confirm(again)
		f.request(renewing(one, a))
		f.wantChanges()
		f.reopen(c)
		f.clock.advance(25 * time.Hour)
		f.request(renewing(one, a))
		f.confirm(f.wantChanges("+" + ws1))
	})
	t.Run("another way to put names into DNS", func(t *testing.T) {
		c := testConfig()
		f := open(t, c)
		f.get(one)
		f.confirm(f.wantChanges("+" + ws1))
		reload := func() {
			if err := f.Reload(c); err != nil {
				t.Fatal(err)
			}
			f.expireAll()
			f.settled()
		}
		reload()
		f.wantChanges()
		c.Networks = slices.Clone(c.Networks)
		c.Networks[2].Names.Reverse = NoNames
		reload()
		f.confirm(f.wantChanges("+" + ws1))
		reload()
		f.wantChanges()
	})
	t.Run("expiry removes", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		f.confirm(f.wantChanges("+" + ws1))
		f.clock.advance(time.Hour)
		f.expireAll()
		f.wantChanges("-" + ws1)
	})
	t.Run("what was not confirmed is pending after a restart", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		f.wantChanges("+" + ws1)
		f.reopen(testConfig())
		f.confirm(f.wantChanges("+" + ws1))
		f.release(one, addr("198.51.100.10"))
		f.wantChanges("-" + ws1)
		f.reopen(testConfig())
		f.wantChanges("-" + ws1)
	})
	t.Run("the same name again cancels its removal", func(t *testing.T) {
		f := open(t, testConfig())
		a := f.get(one).Address
		f.confirm(f.wantChanges("+" + ws1))
		f.release(one, a)
		f.get(one)
		f.wantChanges("+" + ws1)
	})
	t.Run("a removal that is out holds the addition back", func(t *testing.T) {
		f := open(t, testConfig())
		a := f.get(one).Address
		f.confirm(f.wantChanges("+" + ws1))
		f.release(one, a)
		removal := f.wantChanges("-" + ws1)
		f.get(one)
		f.wantChanges()
		f.confirm(removal)
		f.wantChanges("+" + ws1)
	})
	t.Run("confirming what has moved on", func(t *testing.T) {
		f := open(t, testConfig())
		a := f.get(one).Address
		old := f.wantChanges("+" + ws1)
		renamed := renewing(named(1, "ws2", link2), a)
		f.request(renamed)
		f.wantChanges() // the address is taken
		f.confirm(old)
		if l, _ := f.Lease(a); l.Published || l.Name != "ws2.imaging.example.org." {
			t.Errorf("got %+v", l)
		}
		both := f.wantChanges("+ws2.imaging.example.org. 198.51.100.10")
		f.confirm(both)
		f.wantChanges("-" + ws1)
	})
	t.Run("a client that says no name keeps the one it has", func(t *testing.T) {
		f := open(t, testConfig())
		a := f.get(one).Address
		f.confirm(f.wantChanges("+" + ws1))
		f.request(renewing(named(1, "", link2), a))
		f.wantChanges()
	})
	const ct1 = "ct1.imaging.example.org. 192.0.2.11"
	firmware, system := query(Client{1, mac(0xc1), "\x00uefi"}, link), query(Client{1, mac(0xc1), "\xffos"}, link)
	t.Run("another client of the device takes the name over", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(firmware)
		f.confirm(f.wantChanges("+" + ct1))
		f.get(system)
		over := f.wantChanges("+" + ct1)
		if !over[0].Owned || over[0].Client != system.Client {
			t.Errorf("taken over by %+v", over[0])
		}
		f.ReturnNameChange(over[0], f.clock.now().Add(time.Minute))
		f.wantChanges()
		f.clock.advance(time.Minute)
		f.confirm(f.wantChanges("+" + ct1))
		f.wantChanges()
		f.reopen(testConfig())
		f.wantChanges()
		if len(f.removals) > 0 {
			t.Errorf("left: %v", f.removals)
		}
	})
	t.Run("another client of the device ends before it took the name over", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(firmware)
		f.confirm(f.wantChanges("+" + ct1))
		f.get(system)
		f.reopen(testConfig())
		f.release(system, addr("192.0.2.11"))
		var gone []Client
		for range 2 {
			c := f.wantChanges("-" + ct1)
			gone = append(gone, c[0].Client)
			f.confirm(c)
		}
		if gone[0] != system.Client || gone[1] != firmware.Client {
			t.Errorf("removed for %v, want both clients", gone)
		}
		f.wantChanges()
	})
	t.Run("a removal that cannot be made does not keep a device's name away", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(firmware)
		f.confirm(f.wantChanges("+" + ct1))
		f.release(firmware, addr("192.0.2.11"))
		f.ReturnNameChange(f.wantChanges("-" + ct1)[0], f.clock.now().Add(time.Minute))
		f.get(system)
		f.confirm(f.wantChanges("+" + ct1))
		f.clock.advance(time.Minute)
		f.wantChanges()
	})
	t.Run("newest first, one of a name at a time, removals before additions", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(named(1, "ws1", link2))
		f.get(named(2, "ws2", link2))
		f.get(named(3, "ws1", link2))
		first := f.wantChanges("+ws1.imaging.example.org. 198.51.100.13", "+ws2.imaging.example.org. 198.51.100.11")
		f.confirm(first)
		f.release(query(client(3), link2), addr("198.51.100.13"))
		gone := f.wantChanges("-ws1.imaging.example.org. 198.51.100.13")
		f.confirm(gone)
		f.wantChanges("+ws1.imaging.example.org. 198.51.100.10")
	})
	t.Run("in their order while none waits for long", func(t *testing.T) {
		f := open(t, testConfig())
		f.clock.advance(time.Second)
		f.get(named(1, "ws1", link2))
		f.clock.advance(time.Duration(orderly))
		f.get(named(2, "ws2", link2))
		f.get(named(3, "ws3", link2))
		f.confirm(f.wantTaken(1, "+"+ws1))
		first := f.wantTaken(1, "+ws2.imaging.example.org. 198.51.100.11")
		f.ReturnNameChange(first[0], f.clock.now())
		f.get(named(4, "ws4", link2))
		f.confirm(f.wantTaken(1, "+ws2.imaging.example.org. 198.51.100.11")) // what is given back is as old as it was
		f.clock.advance(time.Duration(orderly + 1))
		f.get(named(5, "ws5", link2))
		f.confirm(f.wantTaken(2, "+ws5.imaging.example.org. 198.51.100.15", "+ws4.imaging.example.org. 198.51.100.14"))
		f.confirm(f.wantTaken(2, "+ws3.imaging.example.org. 198.51.100.13"))
	})
	t.Run("newest first after a start", func(t *testing.T) {
		f := open(t, testConfig())
		f.clock.advance(time.Second)
		f.get(named(1, "ws1", link2))
		f.get(named(2, "ws2", link2))
		f.reopen(testConfig())
		f.wantTaken(1, "+ws2.imaging.example.org. 198.51.100.11")
	})
	t.Run("bounded", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(named(1, "ws1", link2))
		f.get(named(2, "ws2", link2))
		if got := f.TakeNameChanges(1); len(got) != 1 || got[0].Name != "ws2.imaging.example.org." {
			t.Fatalf("got %+v", got)
		}
		<-f.NameChanges()
		if got := f.TakeNameChanges(0); got != nil {
			t.Fatalf("got %+v", got)
		}
		f.wantChanges("+" + ws1)
	})
	t.Run("returned", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		c := f.wantChanges("+" + ws1)[0]
		f.ReturnNameChange(c, f.clock.now().Add(time.Minute))
		f.ReturnNameChange(c, f.clock.now()) // not taken any more: ignored
		f.wantChanges()
		f.get(named(2, "ws1", link2)) // another addition of the name need not wait
		f.confirm(f.wantChanges("+ws1.imaging.example.org. 198.51.100.11"))
		f.clock.advance(time.Minute)
		f.wantChanges("+" + ws1)
	})
	t.Run("a returned removal holds additions back", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		f.confirm(f.wantChanges("+" + ws1))
		f.release(one, addr("198.51.100.10"))
		f.ReturnNameChange(f.wantChanges("-" + ws1)[0], f.clock.now().Add(time.Minute))
		f.get(named(2, "ws1", link2))
		f.wantChanges()
		f.clock.advance(time.Minute)
		f.confirm(f.wantChanges("-" + ws1))
		f.wantChanges("+ws1.imaging.example.org. 198.51.100.11")
	})
	t.Run("tried again before their time", func(t *testing.T) {
		f := open(t, testConfig())
		a := f.get(one).Address
		f.confirm(f.wantChanges("+" + ws1))
		f.get(named(2, "ws2", link2))
		f.get(named(3, "ws3", link2))
		f.release(one, a)
		later := f.clock.now().Add(time.Hour)
		changes := f.wantChanges("-"+ws1, "+ws3.imaging.example.org. 198.51.100.13", "+ws2.imaging.example.org. 198.51.100.11")
		f.ReturnNameChange(changes[0], later)
		f.FailNameChange(changes[1], later, Trouble{Text: "refused"})
		f.FailNameChange(changes[2], later, Trouble{Text: "somebody else's", Conflict: true})
		f.wantChanges()
		f.RetryNameChanges()
		<-f.NameChanges()
		f.wantChanges("-"+ws1, "+ws3.imaging.example.org. 198.51.100.13")
		f.RetryNameChanges() // what is taken stays so
		f.wantChanges()
	})
	t.Run("a name that is free now is not waited for", func(t *testing.T) {
		f := open(t, testConfig())
		a := f.get(one).Address
		f.confirm(f.wantChanges("+" + ws1))
		f.get(named(2, "ws1", link2))
		const theirs = "+ws1.imaging.example.org. 198.51.100.11"
		f.FailNameChange(f.wantChanges(theirs)[0], f.clock.now().Add(time.Hour), Trouble{Text: "somebody else's", Conflict: true})
		f.release(one, a)
		f.confirm(f.wantChanges("-" + ws1))
		f.wantChanges(theirs)
	})
	t.Run("unknown changes are ignored", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		for _, c := range []NameChange{{}, {Name: "ws1.imaging.example.org.", Version: 99}, {Name: "ws1.imaging.example.org.", Remove: true}} {
			f.ReturnNameChange(c, time.Time{})
			if err := f.ConfirmNameChange(c); err != nil {
				t.Error(err)
			}
		}
		f.wantChanges("+" + ws1)
	})
	t.Run("declined", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		f.confirm(f.wantChanges("+" + ws1))
		f.decline(one, addr("198.51.100.10"))
		f.wantChanges("-" + ws1)
	})
}

// TestNameChangesNeverCollide drives random leases and a worker that keeps changes out for a while.
func TestNameChangesNeverCollide(t *testing.T) {
	f := open(t, testConfig())
	r := newRand(t)
	out := map[uint64]NameChange{}
	shown := map[string]netip.Addr{} // what DNS shows, by name
	for range 3000 {
		n := byte(1 + r.IntN(12))
		q := named(n, fmt.Sprintf("ws%d", r.IntN(4)), link2)
		switch r.IntN(6) {
		case 0, 1:
			if o := f.discover(q); o.Kind == Offer {
				f.request(selecting(q, o.Lease.Address))
			}
		case 2:
			f.mu.Lock()
			b := f.bindings.first([]byte(q.Client.Key()))
			f.mu.Unlock()
			if b != nil {
				f.release(q, b.addr)
			}
		case 3:
			f.clock.advance(time.Duration(r.IntN(20)) * time.Minute)
			f.expireAll()
		case 4:
			for _, c := range f.TakeNameChanges(3) {
				for _, o := range out {
					if o.Name == c.Name || o.Address == c.Address {
						t.Fatalf("%+v taken while %+v is out", c, o)
					}
				}
				out[c.Version] = c
			}
		case 5:
			for v, c := range out {
				delete(out, v)
				if r.IntN(3) == 0 {
					f.ReturnNameChange(c, f.clock.now().Add(time.Minute))
					continue
				}
				if c.Remove {
					if shown[c.Name] == c.Address {
						delete(shown, c.Name)
					}
				} else {
					shown[c.Name] = c.Address
				}
				f.confirm([]NameChange{c})
			}
		}
	}
	// All leases end, and the worker drains the queue: DNS must be empty, whatever went before.
	f.clock.advance(3 * time.Hour)
	f.expireAll()
	for _, c := range out {
		f.ReturnNameChange(c, f.clock.now())
	}
	for {
		changes := f.TakeNameChanges(10)
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			if !c.Remove {
				t.Fatalf("addition %+v of a lease that ended", c)
			}
			if shown[c.Name] == c.Address {
				delete(shown, c.Name)
			}
		}
		f.confirm(changes)
	}
	if len(shown) > 0 {
		t.Errorf("DNS still shows %v", shown)
	}
	if len(f.names.chains)+len(f.names.adding)+len(f.names.taken)+len(f.names.blocked)+len(f.removals) > 0 {
		t.Errorf("left in the queue: %+v, %d removals", f.names, len(f.removals))
	}
}

// TestNameBehind has leases wait until DNS has forgotten other names.
func TestNameBehind(t *testing.T) {
	f := open(t, testConfig())
	want := func(q Query, a netip.Addr, state NameState, trouble string) {
		t.Helper()
		if l, _ := f.Lease(a); l.Name != q.Hostname+".imaging.example.org." || l.NameState != state || l.NameTrouble != trouble {
			t.Errorf("the lease of %v has %q, %v, %q; want %q, %v, %q", a, l.Name, l.NameState, l.NameTrouble, q.Hostname, state, trouble)
		}
	}
	first, second := named(1, "ws", link2), named(2, "ws", link2)
	a := f.get(first).Address
	f.confirm(f.TakeNameChanges(100))
	f.release(first, a)
	b := f.get(second).Address
	want(second, b, NameWaiting, "DNS is to forget first that "+a.String()+" had this name")
	for _, c := range f.wantChanges("-ws.imaging.example.org. " + a.String()) {
		f.FailNameChange(c, f.clock.now(), Trouble{Text: "REFUSED"})
	}
	want(second, b, NameWaiting, "DNS is to forget first that "+a.String()+" had this name: REFUSED")
	f.confirm(f.wantChanges("-ws.imaging.example.org. " + a.String()))
	want(second, b, NameWaiting, "")
	f.confirm(f.TakeNameChanges(100))
	want(second, b, NameShown, "")

	for i := range maxRemovals + 1 {
		second.Hostname = fmt.Sprintf("h%d", i)
		f.request(renewing(second, b))
		for _, c := range f.TakeNameChanges(100) { // there is no answer
			f.ReturnNameChange(c, f.clock.now())
		}
	}
	want(second, b, NameWaiting, "DNS is to forget other names of this address first")
	f.HoldNameChanges("DNS is away")
	want(second, b, NameWaiting, "DNS is away")
	f.HoldNameChanges("")
	for changes := f.TakeNameChanges(100); len(changes) > 0; changes = f.TakeNameChanges(100) {
		f.confirm(changes)
	}
	want(second, b, NameShown, "")
}

// TestNamesAhead has names be told when their leases are offered, where DNS is to show them and does not yet.
func TestNamesAhead(t *testing.T) {
	f := open(t, policy(true, NamePolicy{}))
	want := func(when, want string) {
		t.Helper()
		got := ""
		select {
		case got = <-f.NamesAhead():
		default:
		}
		if got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	ws, ct := named(1, "ws1", link), query(client(0xc1), link)
	f.discover(ws)
	want("nobody updates DNS", "")
	f.Publish()
	f.discover(ws)
	want("offered", "ws1.imaging.example.org.")
	a := f.get(ws).Address
	want("and given", "ws1.imaging.example.org.")
	want("nothing is told twice", "")
	f.settled()
	f.discover(ws)
	want("DNS does not show it yet", "ws1.imaging.example.org.")
	f.confirm(f.TakeNameChanges(10))
	f.discover(ws)
	want("DNS shows it", "")
	f.discover(named(1, "ws2", link))
	want("another name", "ws2.imaging.example.org.")
	f.release(ws, a)
	f.settled()
	f.discover(ws)
	want("after the lease", "ws1.imaging.example.org.")
	f.discover(ct)
	want("a device", "ct1.imaging.example.org.")
	for range 2 * cap(f.names.ahead) {
		f.discover(ct)
	}
	if n := len(f.NamesAhead()); n != cap(f.names.ahead) {
		t.Errorf("%d names wait for nobody", n)
	}
	for len(f.NamesAhead()) > 0 {
		<-f.NamesAhead()
	}
	for _, p := range []NamePolicy{{Forward: NoNames}, {Reverse: NoNames}, {Reverse: DeviceNames}} {
		if err := f.Reload(policy(true, p)); err != nil {
			t.Fatal(err)
		}
		f.discover(ws)
		want(fmt.Sprintf("%+v", p), "")
	}
	f.discover(ct)
	want("a device, where devices have pointers", "ct1.imaging.example.org.")
}
