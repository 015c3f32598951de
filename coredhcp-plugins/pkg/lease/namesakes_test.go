package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// fakeDNS is what RFC 4703 makes of the changes: one address for a name, guarded by its client.
type fakeDNS map[string]fakeName

type fakeName struct {
	addr   netip.Addr
	client string
}

func (d fakeDNS) make(c NameChange) {
	was, there := d[c.Name]
	switch {
	case c.Make&Forward != 0 && (c.Owned || !there || was.client == whose(c)):
		d[c.Name] = fakeName{c.Address, whose(c)}
	case c.Remove && was == (fakeName{c.Address, whose(c)}):
		delete(d, c.Name)
	}
}

// whose is what a DHCID record tells the client of a change by (RFC 4701 section 3.3).
func whose(c NameChange) string {
	if id := c.Client.Identifier; len(id) > 5 && id[0] == 255 {
		return "DUID " + id[5:]
	}
	return c.Client.Key()
}

// drain makes everything that waits.
func (f *fixture) drain(d fakeDNS) {
	f.Helper()
	f.settled()
	for n := 0; ; n++ {
		changes := f.TakeNameChanges(10)
		if len(changes) == 0 {
			return
		}
		for _, c := range changes {
			d.make(c)
		}
		f.confirm(changes)
		if n > 1000 {
			f.Fatalf("changes without end, the last %+v", changes)
		}
	}
}

func (f *fixture) wantShown(d fakeDNS, name, a string) {
	f.Helper()
	f.drain(d)
	if got := d[name].addr; a == "" && got.IsValid() || a != "" && got != addr(a) {
		f.Fatalf("DNS shows %s at %v, want %q", name, got, a)
	}
}

// TestNamesakes has one client, or one device, hold leases on several wires. DNS has one address for their name.
func TestNamesakes(t *testing.T) {
	const us7, ct1 = "us7.imaging.example.org.", "ct1.imaging.example.org."
	here, there := named(1, "us7", link), named(1, "us7", link2)
	a, b := addr("192.0.2.100"), addr("198.51.100.10")
	t.Run("a device that roams and comes back", func(t *testing.T) {
		for name, back := range map[string]Query{"init-reboot": rebooting(here, a), "renewing": renewing(here, a), "selecting": selecting(here, a)} {
			t.Run(name, func(t *testing.T) {
				f, d := open(t, testConfig()), fakeDNS{}
				f.get(here)
				f.wantShown(d, us7, a.String())
				f.clock.advance(10 * time.Minute)
				f.get(there)
				f.wantShown(d, us7, b.String())
				if l, _ := f.Lease(a); l.Published {
					t.Error("the lease before is still said to be shown")
				}
				f.clock.advance(10 * time.Minute)
				f.request(back)
				f.wantShown(d, us7, a.String())
				f.reopen(testConfig())
				f.clock.advance(50 * time.Minute)
				f.expireAll()
				f.wantShown(d, us7, a.String())
				if l, _ := f.Lease(a); !l.Published || f.state(b.String()) != Expired {
					t.Errorf("%+v, and the other one %v", l, f.state(b.String()))
				}
				f.release(here, a)
				f.wantShown(d, us7, "")
			})
		}
	})
	t.Run("the newer lease ends first", func(t *testing.T) {
		f, d := open(t, testConfig()), fakeDNS{}
		f.get(here)
		f.wantShown(d, us7, a.String())
		f.get(there)
		f.wantShown(d, us7, b.String())
		f.release(there, b)
		f.wantShown(d, us7, a.String())
	})
	t.Run("the newer lease gets another name", func(t *testing.T) {
		f, d := open(t, testConfig()), fakeDNS{}
		f.get(here)
		f.get(there)
		f.wantShown(d, us7, b.String())
		f.request(renewing(named(1, "us8", link2), b))
		f.wantShown(d, us7, a.String())
		f.wantShown(d, "us8.imaging.example.org.", b.String())
	})
	t.Run("all of it while DNS is down", func(t *testing.T) {
		f, d := open(t, testConfig()), fakeDNS{}
		f.get(here)
		f.get(there)
		f.reopen(testConfig())
		f.wantShown(d, us7, b.String())
		f.release(there, b)
		f.wantShown(d, us7, a.String())
	})
	t.Run("an addition that is out when the newer lease comes", func(t *testing.T) {
		f, d := open(t, testConfig()), fakeDNS{}
		f.get(here)
		out := f.TakeNameChanges(1)
		f.get(there)
		d.make(out[0])
		f.confirm(out)
		if l, _ := f.Lease(a); l.Published {
			t.Error("published, and a newer one waits")
		}
		f.wantShown(d, us7, b.String())
	})
	t.Run("two interfaces of one machine", func(t *testing.T) {
		f, d := open(t, testConfig()), fakeDNS{}
		wired, wireless := named(1, "us7", link), named(2, "us7", link2)
		wired.Client.Identifier, wireless.Client.Identifier = "\xff\x00\x00\x00\x01\x00\x04duid", "\xff\x00\x00\x00\x02\x00\x04duid"
		f.get(wired)
		f.wantShown(d, us7, a.String())
		f.get(wireless)
		f.wantShown(d, us7, b.String())
		if l, _ := f.Lease(a); l.Published {
			t.Error("the lease before is still said to be shown")
		}
		f.request(renewing(wired, a))
		f.wantShown(d, us7, b.String()) // both are in use: a renewal is no reason to change
		f.reopen(testConfig())
		f.release(wireless, b)
		f.wantShown(d, us7, a.String())
		f.get(wireless)
		f.wantShown(d, us7, b.String())
		f.release(wired, a)
		f.wantShown(d, us7, b.String())
		f.release(wireless, b)
		f.wantShown(d, us7, "")
		f.check()
	})
	t.Run("two interfaces of one device", func(t *testing.T) {
		f, d := open(t, testConfig()), fakeDNS{}
		one, two := query(client(0xc1), link), query(client(0xc2), link2)
		f.get(one)
		f.wantShown(d, ct1, "192.0.2.11")
		f.get(two)
		f.wantShown(d, ct1, "198.51.100.10")
		f.request(renewing(one, addr("192.0.2.11")))
		f.wantShown(d, ct1, "198.51.100.10") // both are in use: a renewal is no reason to change
		f.request(rebooting(one, addr("192.0.2.11")))
		f.wantShown(d, ct1, "192.0.2.11")
		f.release(one, addr("192.0.2.11"))
		f.wantShown(d, ct1, "198.51.100.10")
		f.release(two, addr("198.51.100.10"))
		f.wantShown(d, ct1, "")
	})
	t.Run("two interfaces of one device on one wire", func(t *testing.T) {
		f, d := open(t, testConfig()), fakeDNS{}
		one, two := query(client(0xc1), link), query(client(0xc2), link)
		f.get(one)
		waits := f.get(two).Address
		f.wantShown(d, ct1, waits.String()) // the first may have been unplugged
		for range 2 {
			f.request(renewing(one, addr("192.0.2.11"))) // and was not
			f.wantShown(d, ct1, "192.0.2.11")
			f.request(renewing(two, waits))
			f.wantShown(d, ct1, "192.0.2.11")
		}
		f.release(one, addr("192.0.2.11"))
		f.wantShown(d, ct1, waits.String())
	})
}

// TestSupersededPointer has leases give their name to another address. Theirs loses the pointer with the name, and gets both
// back when it is the newest again.
func TestSupersededPointer(t *testing.T) {
	const first, second = "us7=192.0.2.100 192.0.2.100=us7", "us7=198.51.100.10 198.51.100.10=us7"
	here, there := named(1, "us7", link), named(1, "us7", link2)
	a, b := addr("192.0.2.100"), addr("198.51.100.10")
	t.Run("the client roams", func(t *testing.T) {
		f, z := open(t, testConfig()), newZones()
		f.get(here)
		z.want(f, first)
		f.clock.advance(30 * time.Minute)
		f.get(there)
		z.want(f, second)
		if l, _ := f.Lease(a); l.State != Active || l.NameState != NameSuperseded {
			t.Errorf("%+v", l)
		}
		writes := z.writes
		f.request(renewing(there, b))
		f.reopen(testConfig())
		z.want(f, second)
		if z.writes != writes {
			t.Errorf("%d updates where nothing changed", z.writes-writes)
		}
		f.clock.advance(45 * time.Minute) // the first ends
		z.want(f, second)
		if f.state(a.String()) != Expired || f.state(b.String()) != Active {
			t.Errorf("%v, %v", f.state(a.String()), f.state(b.String()))
		}
		f.release(there, b)
		z.want(f, "")
	})
	t.Run("it comes back", func(t *testing.T) {
		f, z := open(t, testConfig()), newZones()
		f.get(here)
		f.get(there)
		z.want(f, second)
		f.request(rebooting(here, a))
		z.want(f, first)
		f.release(here, a)
		z.want(f, second)
	})
	t.Run("the newer lease ends while the pointer is on its way out", func(t *testing.T) {
		for _, confirmed := range []bool{true, false} {
			f, z := open(t, testConfig()), newZones()
			f.get(here)
			z.want(f, first)
			f.get(there)
			f.settled()
			newer := f.TakeNameChanges(10)
			z.make(newer[0])
			f.confirm(newer)
			out := f.TakeNameChanges(10)
			if len(newer) != 1 || len(out) != 1 || out[0].Address != a || out[0].Make != 0 || out[0].Unmake != Reverse {
				t.Fatalf("%+v, %+v", newer, out)
			}
			f.release(there, b)
			z.make(out[0])
			if confirmed {
				f.confirm(out)
			}
			f.reopen(testConfig())
			z.want(f, first)
		}
	})
	t.Run("the server crashes first", func(t *testing.T) {
		f, z := open(t, testConfig()), newZones()
		f.get(here)
		z.want(f, first)
		f.get(there)
		f.reopen(testConfig())
		z.want(f, second)
	})
	t.Run("another address on the same wire", func(t *testing.T) {
		f, z := open(t, testConfig()), newZones()
		for n := range byte(2) { // the pools of both networks of the wire
			f.get(named(n+1, fmt.Sprintf("ws%d", n+1), link))
		}
		z.want(f, "ws1=192.0.2.100 ws2=192.0.2.103 192.0.2.100=ws1 192.0.2.103=ws2")
		f.request(selecting(named(1, "ws1", link), addr("203.0.113.100")))
		z.want(f, "ws1=203.0.113.100 ws2=192.0.2.103 192.0.2.103=ws2 203.0.113.100=ws1")
	})
	t.Run("a stranger takes the name", func(t *testing.T) {
		for _, restart := range []bool{true, false} {
			c := policy(true, NamePolicy{})
			f, z := open(t, c), newZones()
			f.get(named(1, "ws1", link))
			z.converge(f)
			f.get(named(2, "ws1", link))
			z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1") // strict: a conflict
			c = policy(true, NamePolicy{Mode: NamesLastWins})
			if restart {
				f.reopen(c)
			} else if err := f.Reload(c); err != nil {
				t.Fatal(err)
			}
			z.want(f, "ws1=192.0.2.103 192.0.2.103=ws1")
			f.release(named(2, "ws1", link), addr("192.0.2.103"))
			z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
		}
	})
}

// TestNamesakesAgainstModel drives clients that roam and interfaces of one device at random. Whenever DNS has caught up, a
// name shows an address that its client or device holds, that address shows the name, and nothing else is there.
func TestNamesakesAgainstModel(t *testing.T) {
	r := newRand(t)
	config := testConfig()
	config.Reservations[0].Addresses = append(config.Reservations[0].Addresses, addr("192.0.2.12"))
	f, z := open(t, config), newZones()
	clients := []Client{
		client(1), client(2), {1, mac(3), "\x01three"}, {1, mac(0xc1), "\x00uefi"}, {1, mac(0xc1), "\xffos"}, client(0xc2), client(0xd1),
	}
	names := []string{"ws1", "ws2", "ws3", "ct1", "ct1", "ct1", "mr1"}
	var out []NameChange
	for range 4000 {
		i := r.IntN(len(clients))
		q := query(clients[i], []netip.Addr{link, link2}[r.IntN(2)])
		q.Hostname = names[i]
		var mine []netip.Addr
		for b := range f.bindings.each() {
			a := b.addr
			if b.state == Active && b.client.client() == q.Client {
				mine = append(mine, a)
			}
		}
		slices.SortFunc(mine, netip.Addr.Compare)
		switch n := r.IntN(10); {
		case n < 3:
			if o := f.discover(q); o.Kind == Offer {
				f.request(selecting(q, o.Lease.Address))
			}
		case n == 3 && len(mine) > 0:
			f.request(rebooting(q, mine[r.IntN(len(mine))]))
		case n == 4 && len(mine) > 0:
			f.request(renewing(q, mine[r.IntN(len(mine))]))
		case n == 5 && len(mine) > 0:
			f.release(q, mine[r.IntN(len(mine))])
		case n == 6:
			f.clock.advance(time.Duration(r.IntN(20)) * time.Minute)
			f.expireAll()
		case n == 7:
			out = append(out, f.TakeNameChanges(2)...)
		case n == 8:
			for _, c := range out {
				if r.IntN(3) == 0 {
					f.ReturnNameChange(c, f.clock.now().Add(time.Minute))
					continue
				}
				if !z.make(c) {
					t.Fatalf("refused: %+v", c)
				}
				f.confirm([]NameChange{c})
			}
			out = nil
			if r.IntN(8) == 0 {
				f.reopen(config)
			}
		case n == 9 && r.IntN(5) == 0:
			for _, c := range out {
				f.ReturnNameChange(c, f.clock.now())
			}
			out = nil
			f.clock.advance(time.Minute)
			z.converge(f)
			held := map[string]map[netip.Addr]bool{}
			for l, err := range f.Leases() {
				if err != nil {
					t.Fatal(err)
				}
				if l.State == Active && l.Name != "" {
					if held[l.Name] == nil {
						held[l.Name] = map[netip.Addr]bool{}
					}
					held[l.Name][l.Address] = true
				}
			}
			for name, list := range held {
				if a := z.forward[name].addr; !list[a] || z.reverse[a] != name {
					t.Fatalf("DNS shows %v, held are %v", z, held)
				}
			}
			if len(z.forward) != len(held) || len(z.reverse) != len(held) {
				t.Fatalf("DNS shows %v, held are %v", z, held)
			}
			for _, r := range f.removals {
				if !f.overtaken(r) {
					t.Fatalf("left: %+v", r)
				}
			}
		}
		f.check()
	}
}

// TestPointerOfSuperseded has DNS not take the newest of two leases of a client, or not all of it: the one before has its
// pointer for as long as its address has the name.
func TestPointerOfSuperseded(t *testing.T) {
	const us7 = "us7.imaging.example.org."
	a, b := addr("192.0.2.100"), addr("198.51.100.10")
	for _, tt := range []struct {
		why  Trouble
		kept bool // the pointer of the one before, until DNS takes the newest
	}{
		{Trouble{Text: "refused"}, true},
		{Trouble{Text: "somebody else's", Conflict: true}, false},
		{Trouble{Text: "refused by the reverse zone", Pointer: true}, false},
	} {
		t.Run(tt.why.Text, func(t *testing.T) {
			f := open(t, testConfig())
			lose := func() {
				t.Helper()
				changes := f.wantChanges("+" + us7 + " " + a.String())
				if changes[0].Make != 0 || changes[0].Unmake != Reverse {
					t.Errorf("got %+v", changes[0])
				}
				f.confirm(changes)
			}
			f.get(named(1, "us7", link))
			f.confirm(f.wantChanges("+" + us7 + " " + a.String()))
			f.get(named(1, "us7", link2))
			for i := range 2 {
				for _, c := range f.wantChanges("+" + us7 + " " + b.String()) {
					f.FailNameChange(c, f.clock.now().Add(time.Second), tt.why)
				}
				if i == 0 && !tt.kept {
					lose()
				}
				f.wantChanges()
				f.clock.advance(time.Second)
			}
			f.confirm(f.wantChanges("+" + us7 + " " + b.String()))
			if tt.kept {
				lose()
			}
			f.wantChanges()
		})
	}
}

// TestDeviceRemoved has a device's two network interfaces hold its name, and the site file lose the device. The one that
// DNS does not show gets the name when the other one, which is called so by itself, lets it go, and does not take it before.
func TestDeviceRemoved(t *testing.T) {
	const name = "ws1.imaging.example.org."
	stranger := testConfig()
	device := stranger
	device.Reservations = append(slices.Clone(stranger.Reservations), Reservation{
		Device: "ws1", Hostname: name, Publish: true, HardwareAddresses: []HardwareAddress{{1, mac(1)}, {1, mac(2)}},
	})
	f, z := open(t, device), newZones()
	first, second := named(1, "ws1", link), named(2, "ws1", link2)
	b := f.get(second).Address
	a := f.get(first).Address
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
	if err := f.Reload(stranger); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(10 * time.Minute)
	f.request(renewing(first, a))
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
	if l, _ := f.Lease(b); l.NameState != NameConflict {
		t.Errorf("%v is %v", b, l.NameState)
	}
	f.release(first, a)
	z.want(f, fmt.Sprintf("ws1=%v %[1]v=ws1", b))
}

// TestDeviceForgotten has the site file lose a device that holds a lease: it has its name as any other client has one.
func TestDeviceForgotten(t *testing.T) {
	for name, again := range waysToConfigure {
		t.Run(name, func(t *testing.T) {
			device := policy(true, NamePolicy{Mode: NamesKeepStatic, Forward: DeviceNames})
			device.Reservations = append(slices.Clone(device.Reservations), Reservation{
				Device: "ws1", Hostname: "ws1.imaging.example.org.", Publish: true, HardwareAddresses: []HardwareAddress{{1, mac(1)}},
			})
			f, z := open(t, device), newZones()
			a := f.get(named(1, "ws1", link)).Address
			z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
			moved := device
			moved.Reservations = slices.Clone(device.Reservations)
			moved.Reservations[len(moved.Reservations)-1].Hostname = "ws2.imaging.example.org."
			again(f, moved) // the name goes with a renewal
			z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
			again(f, policy(true, NamePolicy{Mode: NamesKeepStatic, Forward: DeviceNames}))
			z.want(f, "192.0.2.100=ws1")
			again(f, policy(true, NamePolicy{Mode: NamesKeepStatic}))
			z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
			b := f.get(named(2, "ws1", link)).Address
			z.want(f, fmt.Sprintf("ws1=%v %[1]v=ws1", b))
			if l, _ := f.Lease(a); l.NameState != NameSuperseded {
				t.Errorf("%v is %v", a, l.NameState)
			}
			f.release(named(2, "ws1", link), b)
			z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
		})
	}
}

// TestDeviceAdded has a client hold leases on two wires by the name of a device that it is after a reload. DNS goes on to
// show the lease given last.
func TestDeviceAdded(t *testing.T) {
	const name = "ws1.imaging.example.org."
	stranger := testConfig()
	device := stranger
	device.Reservations = append(slices.Clone(stranger.Reservations), Reservation{
		Device: "ws1", Hostname: name, Publish: true, HardwareAddresses: []HardwareAddress{{1, mac(1)}},
	})
	f, z := open(t, stranger), newZones()
	here, there := named(1, "ws1", link), named(1, "ws1", link2)
	a, b := f.get(here).Address, f.get(there).Address
	second := fmt.Sprintf("ws1=%v %[1]v=ws1", b)
	z.want(f, second)
	if err := f.Reload(device); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(10 * time.Minute)
	f.request(renewing(there, b))
	z.want(f, second)
	if l, _ := f.Lease(a); l.NameState != NameSuperseded {
		t.Errorf("%v is %v", a, l.NameState)
	}
	f.release(there, b)
	z.want(f, fmt.Sprintf("ws1=%v %[1]v=ws1", a))
}
