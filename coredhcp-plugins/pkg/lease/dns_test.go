package lease

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// zones is DNS as RFC 4703 and the modes of NameMode leave it, in both directions.
type zones struct {
	forward map[string]fakeName
	reverse map[netip.Addr]string
	static  map[string]bool // names without a DHCID record
	writes  int
}

func newZones() *zones {
	return &zones{forward: map[string]fakeName{}, reverse: map[netip.Addr]string{}, static: map[string]bool{}}
}

// make does what a change says, and reports whether it could.
func (z *zones) make(c NameChange) bool {
	z.writes++
	was, there := z.forward[c.Name]
	ours := was == fakeName{c.Address, c.Client.Key()}
	if c.Make&Forward != 0 {
		switch {
		case c.Owned, c.Mode == NamesLastWins:
			delete(z.static, c.Name)
		case z.static[c.Name], there && was.client != c.Client.Key() && c.Mode == NamesStrict:
			return false
		}
		z.forward[c.Name] = fakeName{c.Address, c.Client.Key()}
	}
	if c.Unmake&Forward != 0 && ours {
		delete(z.forward, c.Name)
	}
	if c.Make&Reverse != 0 {
		z.reverse[c.Address] = c.Name
	}
	if c.Unmake&Reverse != 0 && z.reverse[c.Address] == c.Name {
		delete(z.reverse, c.Address)
	}
	return true
}

// converge makes all changes, again and again those that fail, until only they are left.
func (z *zones) converge(f *fixture) {
	f.Helper()
	f.expireAll()
	f.settled()
	for n := 0; ; n++ {
		changes := f.TakeNameChanges(10)
		if len(changes) == 0 {
			return
		}
		for _, c := range changes {
			if z.make(c) {
				f.confirm([]NameChange{c})
			} else {
				f.FailNameChange(c, f.clock.now().Add(time.Minute), Trouble{Conflict: true, Text: "somebody else's"})
			}
		}
		if n > 1000 {
			f.Fatalf("changes without end, the last %+v", changes)
		}
	}
}

func (z *zones) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(z.forward)) {
		parts = append(parts, fmt.Sprintf("%s=%v", strings.TrimSuffix(name, ".imaging.example.org."), z.forward[name].addr))
	}
	for _, a := range slices.SortedFunc(maps.Keys(z.reverse), netip.Addr.Compare) {
		parts = append(parts, fmt.Sprintf("%v=%s", a, strings.TrimSuffix(z.reverse[a], ".imaging.example.org.")))
	}
	return strings.Join(parts, " ")
}

func (z *zones) want(f *fixture, want string) {
	f.Helper()
	z.converge(f)
	if got := z.String(); got != want {
		f.Fatalf("DNS shows %q, want %q", got, want)
	}
}

// policy is testConfig with a policy for the first network.
func policy(ddns bool, p NamePolicy) Config {
	c := testConfig()
	c.Networks = slices.Clone(c.Networks)
	c.Networks[0].DDNS, c.Networks[0].Names = ddns, p
	return c
}

// TestPolicyOfHeldLeases changes the policy under a device's lease and a stranger's, by Reload and by a restart, and
// expects DNS to follow without a renewal.
func TestPolicyOfHeldLeases(t *testing.T) {
	const all = "ct1=192.0.2.11 ws1=192.0.2.100 192.0.2.11=ct1 192.0.2.100=ws1"
	for name, again := range waysToConfigure {
		t.Run(name, func(t *testing.T) {
			f, z := open(t, policy(true, NamePolicy{})), newZones()
			f.get(query(client(0xc1), link))
			f.get(named(1, "ws1", link))
			z.want(f, all)
			for _, step := range []struct {
				config Config
				want   string
			}{
				{policy(true, NamePolicy{Reverse: NoNames}), "ct1=192.0.2.11 ws1=192.0.2.100"},
				{policy(true, NamePolicy{Forward: NoNames}), "192.0.2.11=ct1 192.0.2.100=ws1"},
				{policy(true, NamePolicy{Forward: DeviceNames, Reverse: DeviceNames}), "ct1=192.0.2.11 192.0.2.11=ct1"},
				{policy(false, NamePolicy{}), ""},
				{policy(true, NamePolicy{Forward: DeviceNames}), "ct1=192.0.2.11 192.0.2.11=ct1 192.0.2.100=ws1"},
				{policy(false, NamePolicy{Mode: NamesLastWins}), ""},
				{policy(true, NamePolicy{Mode: NamesLastWins}), all},
				{policy(true, NamePolicy{}), all},
			} {
				again(f, step.config)
				z.want(f, step.want)
				for l, err := range f.Leases() {
					if state := (step.want != "") && strings.Contains(step.want, l.Address.String()); err != nil || state != (l.NameState == NameShown) {
						t.Errorf("with %q shown %v is %v: %v", step.want, l.Address, l.NameState, err)
					}
				}
			}
			writes := z.writes
			again(f, policy(true, NamePolicy{}))
			z.want(f, all)
			if z.writes != writes {
				t.Errorf("%d updates where nothing changed", z.writes-writes)
			}
			f.release(named(1, "ws1", link), addr("192.0.2.100"))
			z.want(f, "ct1=192.0.2.11 192.0.2.11=ct1")
		})
	}
}

// TestReloadsOneAfterAnother has a name go to whoever comes last, and another reload come before that is carried out.
func TestReloadsOneAfterAnother(t *testing.T) {
	f, z := open(t, policy(true, NamePolicy{})), newZones()
	f.get(named(1, "ws1", link))
	z.converge(f)
	f.get(named(2, "ws1", link))
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1") // a conflict
	c := policy(true, NamePolicy{Mode: NamesLastWins})
	other := policy(true, NamePolicy{Mode: NamesLastWins})
	other.Networks[2].Names.Forward = NoNames
	for _, c := range []Config{c, other} {
		if err := f.Reload(c); err != nil {
			t.Fatal(err)
		}
	}
	z.want(f, "ws1=192.0.2.103 192.0.2.103=ws1")
}

// TestReloadMakesNamesakes has a reload give a client's later lease the name, which its earlier one has, or is about to have:
// nothing is left to be told of that but what its address loses.
func TestReloadMakesNamesakes(t *testing.T) {
	for _, confirmed := range []bool{true, false} {
		for reverse, before := range map[Names]string{
			AllNames: "ws1=192.0.2.100 192.0.2.100=ws1 198.51.100.10=ws1", NoNames: "ws1=192.0.2.100 198.51.100.10=ws1",
		} {
			c := policy(true, NamePolicy{Reverse: reverse})
			c.Networks[2].Names.Forward = NoNames
			f, z := open(t, c), newZones()
			f.get(named(1, "ws1", link))
			f.get(named(1, "ws1", link2))
			if confirmed {
				z.want(f, before)
			}
			c = policy(true, NamePolicy{Reverse: reverse})
			if err := f.Reload(c); err != nil {
				t.Fatal(err)
			}
			z.want(f, "ws1=198.51.100.10 198.51.100.10=ws1")
			f.release(named(1, "ws1", link2), addr("198.51.100.10"))
			z.want(f, map[Names]string{AllNames: "ws1=192.0.2.100 192.0.2.100=ws1", NoNames: "ws1=192.0.2.100"}[reverse])
		}
	}
}

// TestReloadEndsSupersession has an address about to lose its pointer to the name of a later lease, which DNS did not take, while
// a reload turns names off: that it lost the pointer does not have the name itself forgotten.
func TestReloadEndsSupersession(t *testing.T) {
	f, z := open(t, policy(true, NamePolicy{})), newZones()
	f.get(named(1, "ws1", link))
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
	f.get(named(1, "ws1", link2))
	f.FailNameChange(f.wantChanges("+ws1.imaging.example.org. 198.51.100.10")[0], f.clock.now().Add(time.Minute), Trouble{Conflict: true})
	changes := f.wantChanges("+ws1.imaging.example.org. 192.0.2.100")
	if changes[0].Make != 0 || changes[0].Unmake != Reverse {
		t.Fatalf("%+v", changes[0])
	}
	c := policy(false, NamePolicy{})
	c.Networks[2].Names.Forward = NoNames
	if err := f.Reload(c); err != nil {
		t.Fatal(err)
	}
	z.make(changes[0])
	f.confirm(changes)
	z.want(f, "198.51.100.10=ws1")
}

// TestOvertakenForAMoment has a reload let a client have the name that its address is about to lose for another one, and the
// client change its name before it is put into DNS.
func TestOvertakenForAMoment(t *testing.T) {
	f, z := open(t, policy(true, NamePolicy{Mode: NamesLastWins})), newZones()
	a := f.get(named(1, "ws1", link)).Address
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
	if err := f.Reload(policy(true, NamePolicy{Mode: NamesLastWins, Forward: DeviceNames, Reverse: DeviceNames})); err != nil {
		t.Fatal(err)
	}
	f.release(named(1, "ws1", link), a)
	f.request(selecting(named(2, "ws1", link), a))
	if err := f.Reload(policy(true, NamePolicy{Mode: NamesLastWins})); err != nil {
		t.Fatal(err)
	}
	f.settled()
	f.wantChanges()
	f.request(renewing(named(2, "ws2", link), a))
	f.clock.advance(2 * time.Minute)
	z.want(f, "ws2=192.0.2.100 192.0.2.100=ws2")
}

// TestNetworksJoined has a reload make one network of two that had their names in DNS in different ways.
func TestNetworksJoined(t *testing.T) {
	split := func(first, second bool) Config {
		c := policy(true, NamePolicy{})
		n := c.Networks[0]
		n.Prefix, n.DDNS, n.SharedNetwork = netip.MustParsePrefix("192.0.2.0/25"), first, ""
		n.Pools = []Pool{{First: addr("192.0.2.110"), Last: addr("192.0.2.119")}}
		c.Networks[0] = n
		n.Name, n.Prefix, n.DDNS = "second", netip.MustParsePrefix("192.0.2.128/25"), second
		n.Pools = []Pool{{First: addr("192.0.2.200"), Last: addr("192.0.2.209")}}
		c.Networks, c.Reservations, c.Excluded = append(c.Networks, n), nil, nil
		return c
	}
	joined := split(true, true)
	joined.Networks[0].Prefix = netip.MustParsePrefix("192.0.2.0/24")
	joined.Networks[0].Pools = append(joined.Networks[0].Pools, joined.Networks[3].Pools...)
	joined.Networks = joined.Networks[:3]
	off := split(false, false)
	off.Networks[0].Prefix, off.Networks = joined.Networks[0].Prefix, off.Networks[:3]
	off.Networks[0].Pools = joined.Networks[0].Pools

	f, z := open(t, split(true, false)), newZones()
	f.get(named(1, "ws1", addr("192.0.2.129")))
	z.want(f, "")
	if err := f.Reload(joined); err != nil {
		t.Fatal(err)
	}
	z.want(f, "ws1=192.0.2.200 192.0.2.200=ws1")
	if err := f.Reload(split(true, false)); err != nil {
		t.Fatal(err)
	}
	z.want(f, "")
	if err := f.Reload(split(false, true)); err != nil {
		t.Fatal(err)
	}
	z.want(f, "ws1=192.0.2.200 192.0.2.200=ws1")
	if err := f.Reload(off); err != nil {
		t.Fatal(err)
	}
	z.want(f, "")
}

// TestBecomesDevice has a client become a device of the site with the name that it has, and be none any more.
func TestBecomesDevice(t *testing.T) {
	stranger := policy(true, NamePolicy{Forward: DeviceNames})
	device := stranger
	device.Reservations = append(slices.Clone(stranger.Reservations), Reservation{
		Device: "ws1", Hostname: "ws1.imaging.example.org.", Publish: true, HardwareAddresses: []HardwareAddress{{1, mac(1)}},
	})
	f, z := open(t, stranger), newZones()
	q := named(1, "ws1", link)
	a := f.get(q).Address
	z.want(f, "192.0.2.100=ws1")
	for range 2 {
		for _, step := range []struct {
			config Config
			want   string
		}{{device, "ws1=192.0.2.100 192.0.2.100=ws1"}, {stranger, "192.0.2.100=ws1"}} {
			if err := f.Reload(step.config); err != nil {
				t.Fatal(err)
			}
			f.clock.advance(10 * time.Minute)
			f.request(renewing(q, a))
			z.want(f, step.want)
		}
	}
}

// TestNameBecomesDevices has a name that a client chose become a device's, or a host's, by a reload or a restart. Nobody has it
// in DNS until the device comes, and when the site file forgets the device the client has it again.
func TestNameBecomesDevices(t *testing.T) {
	for name, again := range waysToConfigure {
		t.Run(name, func(t *testing.T) {
			const host = "ws1.imaging.example.org."
			strangers := policy(true, NamePolicy{})
			with := func(r Reservation) Config {
				c := strangers
				r.Device, r.Hostname, r.Publish = "ws1", host, true
				c.Reservations = append(slices.Clone(strangers.Reservations), r)
				return c
			}
			other := with(Reservation{HardwareAddresses: []HardwareAddress{{1, mac(9)}}})
			itself := with(Reservation{HardwareAddresses: []HardwareAddress{{1, mac(1)}}})
			unknown := with(Reservation{CircuitID: "port 7"})
			static := strangers
			static.Hostnames = []string{host}

			f, z := open(t, strangers), newZones()
			q := named(1, "ws1", link)
			a := f.get(q).Address
			const shown = "ws1=192.0.2.100 192.0.2.100=ws1"
			z.want(f, shown)
			for _, step := range []struct {
				config Config
				want   string
			}{{other, ""}, {itself, shown}, {static, ""}, {unknown, shown}, {other, ""}, {strangers, shown}, {other, ""}} {
				again(f, step.config)
				z.want(f, step.want)
				state := NameShown
				if step.want == "" {
					state = NameOff
				}
				if l, _ := f.Lease(a); l.NameState != state || l.Name != host {
					t.Errorf("%q is %v, want %v", l.Name, l.NameState, state)
				}
			}
			b := f.get(query(client(9), link)).Address
			z.want(f, fmt.Sprintf("ws1=%v %[1]v=ws1", b))
			f.Publish()
			f.request(renewing(q, a))
			z.want(f, fmt.Sprintf("dhcp-192-0-2-100=%v ws1=%v %[1]v=dhcp-192-0-2-100 %v=ws1", a, b, b))
		})
	}
}

// TestOffNeverTellsDNS has leases begin and end where DNS is off.
func TestOffNeverTellsDNS(t *testing.T) {
	f, z := open(t, policy(false, NamePolicy{})), newZones()
	a := f.get(named(1, "ws1", link)).Address
	f.request(renewing(named(1, "ws2", link), a))
	f.release(named(1, "ws2", link), a)
	z.want(f, "")
	if z.writes != 0 {
		t.Errorf("%d updates", z.writes)
	}
}

// TestUnconfirmedDirection has a change in flight while a reload wants another direction, and crashes.
func TestUnconfirmedDirection(t *testing.T) {
	for _, confirmed := range []bool{true, false} {
		f, z := open(t, policy(true, NamePolicy{})), newZones()
		f.get(named(1, "ws1", link))
		changes := f.wantChanges("+ws1.imaging.example.org. 192.0.2.100")
		z.make(changes[0])
		if err := f.Reload(policy(true, NamePolicy{Forward: NoNames})); err != nil {
			t.Fatal(err)
		}
		if confirmed {
			f.confirm(changes)
		}
		f.reopen(policy(true, NamePolicy{Forward: NoNames}))
		z.want(f, "192.0.2.100=ws1")
	}
}

// TestToldBeforeOnDisk has names come into DNS that were off, and their leases end before DNS has confirmed them, with and
// without a crash: they go again.
func TestToldBeforeOnDisk(t *testing.T) {
	for name, again := range map[string]func(*fixture, Config){
		"reload": func(f *fixture, c Config) {
			if err := f.Reload(c); err != nil {
				f.Fatal(err)
			}
			f.request(renewing(named(1, "ws1", link), addr("192.0.2.100")))
		},
		"restart": (*fixture).reopen,
	} {
		for _, crash := range []bool{true, false} {
			f, z := open(t, policy(false, NamePolicy{})), newZones()
			q := named(1, "ws1", link)
			a := f.get(q).Address
			f.settled()
			again(f, policy(true, NamePolicy{}))
			f.settled()
			for range 2 {
				for _, c := range f.TakeNameChanges(10) {
					z.make(c)
				}
				f.expireAll() // which has the reload carried out
				f.settled()
			}
			if z.String() != "ws1=192.0.2.100 192.0.2.100=ws1" {
				t.Errorf("%s: DNS shows %v", name, z)
			}
			if crash {
				f.reopen(policy(true, NamePolicy{}))
			}
			f.release(q, a)
			for n := range f.names.taken {
				f.ReturnNameChange(f.names.taken[n].flight, f.clock.now())
			}
			z.want(f, "")
		}
	}
}

// TestSharedNames has strangers take one name, in each mode.
func TestSharedNames(t *testing.T) {
	a, b := named(1, "ws1", link), named(2, "ws1", link)
	for _, tc := range []struct {
		mode                   NameMode
		both, secondGone, over string
	}{
		{NamesStrict, "192.0.2.100", "192.0.2.100", ""},
		{NamesKeepStatic, "192.0.2.103", "192.0.2.100", ""},
		{NamesLastWins, "192.0.2.103", "192.0.2.100", "static"},
	} {
		t.Run(fmt.Sprint(tc.mode), func(t *testing.T) {
			c := policy(true, NamePolicy{Mode: tc.mode})
			f, z := open(t, c), newZones()
			shows := func(name, want string) {
				t.Helper()
				z.converge(f)
				if got := z.forward[name+".imaging.example.org."].addr; want == "" && got.IsValid() || want != "" && got.String() != want {
					t.Fatalf("%s is %v, want %q", name, got, want)
				}
			}
			first := f.get(a).Address
			shows("ws1", first.String())
			f.clock.advance(time.Second)
			second := f.get(b).Address
			shows("ws1", tc.both)
			state := NameSuperseded
			if tc.mode == NamesStrict {
				state = NameShown
			}
			if l, _ := f.Lease(first); l.NameState != state {
				t.Errorf("the first is %v", l.NameState)
			}
			if l, _ := f.Lease(second); (l.NameState == NameConflict) != (tc.mode == NamesStrict) || l.NameState == NameConflict && l.NameTrouble == "" {
				t.Errorf("the second is %v, %q", l.NameState, l.NameTrouble)
			}
			f.request(renewing(a, first)) // a renewal does not take it back
			shows("ws1", tc.both)
			f.reopen(c)
			shows("ws1", tc.both)
			f.release(b, second)
			shows("ws1", tc.secondGone)

			z.static["pacs.imaging.example.org."] = true
			f.get(named(2, "pacs", link))
			z.converge(f)
			f.clock.advance(time.Minute)
			if got := z.forward["pacs.imaging.example.org."].addr; got.IsValid() != (tc.over != "") {
				t.Errorf("a static name is %v", got)
			}
		})
	}
}

// TestNamesakesInTwoModes has a client, and a stranger, hold leases of one name in a strict network and in others where names go
// to whoever comes last: those of the client are namesakes of each other whatever the networks' modes are, and when a lease of
// it ends that alone has kept others from the name, nobody is forgotten.
func TestNamesakesInTwoModes(t *testing.T) {
	c := policy(true, NamePolicy{})
	c.Networks[2].Names.Mode = NamesLastWins
	f, z := open(t, c), newZones()
	here, there := named(1, "ws1", link), named(1, "ws1", link2)
	a, b := f.get(here).Address, addr("198.51.100.10")
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
	f.get(there)
	z.want(f, "ws1=198.51.100.10 198.51.100.10=ws1")
	f.request(renewing(here, a)) // it moved back
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
	f.release(there, b)
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")

	stranger := f.get(named(2, "ws1", link2)).Address
	z.converge(f)
	f.get(there)
	z.converge(f)
	f.request(renewing(here, a))
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
	f.release(there, b)
	z.converge(f)
	f.release(here, a)
	f.clock.advance(2 * time.Minute)
	z.want(f, fmt.Sprintf("ws1=%v %[1]v=ws1", stranger))
}

// TestModeChangeFreesConflict has a client in conflict get its name when the mode allows it, without waiting.
func TestModeChangeFreesConflict(t *testing.T) {
	f, z := open(t, policy(true, NamePolicy{})), newZones()
	f.get(named(1, "ws1", link))
	z.converge(f)
	second := f.get(named(2, "ws1", link)).Address
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
	if s := f.NameStats(); s.Waiting != 1 || s.Conflicts != 1 || s.Oldest != 0 {
		t.Errorf("%+v", s)
	}
	if err := f.Reload(policy(true, NamePolicy{Mode: NamesLastWins})); err != nil {
		t.Fatal(err)
	}
	z.want(f, fmt.Sprintf("ws1=%v %v=ws1", second, second))
	if s := f.NameStats(); s != (NameStats{}) {
		t.Errorf("%+v", s)
	}
}

// TestPolicyFreesName has a client in conflict get its name as soon as the other one's network has no names any more.
func TestPolicyFreesName(t *testing.T) {
	f, z := open(t, policy(true, NamePolicy{})), newZones()
	f.get(named(1, "ws1", link))
	z.converge(f)
	second := f.get(named(2, "ws1", link2)).Address
	z.want(f, "ws1=192.0.2.100 192.0.2.100=ws1")
	if s := f.NameStats(); s.Conflicts != 1 {
		t.Fatalf("%+v", s)
	}
	if err := f.Reload(policy(true, NamePolicy{Forward: NoNames, Reverse: NoNames})); err != nil {
		t.Fatal(err)
	}
	z.want(f, fmt.Sprintf("ws1=%v %[1]v=ws1", second))
	if s := f.NameStats(); s != (NameStats{}) {
		t.Errorf("%+v", s)
	}
}
