package lease

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guarded is DNS as a worker leaves it by RFC 4703: what stands there is some client's.
type guarded struct {
	forward map[string]guardedBy     // A and DHCID
	reverse map[netip.Addr]guardedBy // PTR and DHCID
}

type guardedBy struct {
	addr  netip.Addr
	name  string
	whose string
}

// make does what a change says, and reports whether the name was not somebody else's.
func (d *guarded) make(c NameChange) bool {
	r := guardedBy{c.Address, c.Name, whose(c)}
	was, there := d.forward[c.Name]
	conflict := c.Make&Forward != 0 && there && was.whose != r.whose && c.Mode == NamesStrict && !c.Owned
	if c.Make&Forward != 0 && !conflict {
		d.forward[c.Name] = r
	}
	at, points := d.reverse[c.Address]
	switch {
	case c.Make&Reverse == 0:
	case !conflict:
		d.reverse[c.Address] = r
	case points && at == r:
		delete(d.reverse, c.Address)
	}
	if c.Unmake&Forward != 0 && d.forward[c.Name] == r {
		delete(d.forward, c.Name)
	}
	if at, points := d.reverse[c.Address]; c.Unmake&Reverse != 0 && points && at.name == c.Name {
		delete(d.reverse, c.Address)
	}
	return !conflict
}

// randomPolicy is a site as an administrator may have changed it.
func randomPolicy(r *rand.Rand) Config {
	c := testConfig()
	c.Domain = []string{"imaging.example.org.", "imaging.example.org.", "imaging.example.org.", "radiology.example.org."}[r.IntN(4)]
	modes := []NameMode{NamesStrict, NamesLastWins, NamesKeepStatic}
	mode, each := modes[r.IntN(3)], r.IntN(4) == 0
	for i := range c.Networks {
		n := &c.Networks[i]
		n.DDNS = r.IntN(8) > 0
		n.Names = NamePolicy{Mode: mode}
		if each {
			n.Names.Mode = modes[r.IntN(3)]
		}
		if r.IntN(3) == 0 {
			n.Names.Forward, n.Names.Reverse = Names(r.IntN(3)), Names(r.IntN(3))
		}
	}
	c.Reservations = slices.Clone(c.Reservations)
	for i := range c.Reservations {
		c.Reservations[i].Publish = r.IntN(6) > 0
	}
	if r.IntN(2) == 0 {
		c.Reservations = append(c.Reservations, Reservation{
			Device: "ws2", Hostname: "ws2.imaging.example.org.", Publish: true, HardwareAddresses: []HardwareAddress{{1, mac(2)}},
		})
	}
	if r.IntN(8) == 0 {
		c.Networks = c.Networks[:2]
	}
	if r.IntN(4) == 0 {
		c.Hostnames = []string{"ws1." + c.Domain}
	}
	return c
}

// mixed says whether names go to whoever comes last in some networks only.
func mixed(c Config) bool {
	return slices.ContainsFunc(c.Networks, func(n Network) bool {
		return (n.Names.Mode == NamesStrict) != (c.Networks[0].Names.Mode == NamesStrict)
	})
}

// TestPoliciesAgainstModel drives clients of all kinds, and an administrator who changes the site while changes are on their
// way to DNS, with restarts, also of a server that was killed. Whenever DNS has caught up and clients were heard again, it shows
// what the site wants of the leases, and nothing else.
func TestPoliciesAgainstModel(t *testing.T) {
	r := newRand(t)
	config := randomPolicy(r)
	disk := vfs.NewCrashableMem()
	f, d := &fixture{T: t, clock: newClock(), fs: disk}, &guarded{map[string]guardedBy{}, map[netip.Addr]guardedBy{}}
	f.open(config)
	t.Cleanup(func() { f.Close() })
	f.Publish()
	machine := "\xff\x00\x00\x00"
	clients := []Client{
		client(1), client(2), client(3), {1, mac(4), "\x01four"}, {1, mac(0xc1), "\x00uefi"}, {1, mac(0xc1), "\xffos"}, client(0xc2), client(0xd1),
		{1, mac(5), machine + "\x01machine"}, {1, mac(6), machine + "\x02machine"},
	}
	names := []string{"ws1", "ws2", "ws1", "ws2", "ct1", "ct1", "", "mr1", "ws5", "ws5"}
	ask := func(i int, links ...netip.Addr) Query {
		q := query(clients[i], links...)
		if r.IntN(4) > 0 {
			q.Hostname = names[i]
		}
		q.NoNames = r.IntN(20) == 0
		return q
	}
	held := func(c Client) (mine []netip.Addr) {
		for b := range f.bindings.each() {
			if b.state == Active && b.client.client() == c {
				mine = append(mine, b.addr)
			}
		}
		slices.SortFunc(mine, netip.Addr.Compare)
		return mine
	}
	var out []NameChange
	var done []string
	well := false // no answer is lost
	answer := func(c NameChange) {
		lost := r.IntN(8) == 0 && !well
		ok := d.make(c)
		done = append(done, fmt.Sprintf("%+v %v %v", c, ok, lost))
		switch {
		case lost:
			f.FailNameChange(c, f.clock.now().Add(time.Minute), Trouble{Text: "no answer"})
		case ok:
			f.confirm([]NameChange{c})
		default:
			f.FailNameChange(c, f.clock.now().Add(time.Minute), Trouble{Conflict: true, Text: "somebody else's"})
		}
	}
	drain := func() {
		for _, c := range out {
			answer(c)
		}
		out = nil
		for n := range 12 {
			well = n > 8
			f.clock.advance(time.Minute)
			for n := 0; ; n++ {
				f.expireAll()
				f.settled()
				changes := f.TakeNameChanges(10)
				if len(changes) == 0 {
					break
				}
				for _, c := range changes {
					answer(c)
				}
				if n > 1000 {
					t.Fatalf("changes without end, the last %+v", changes)
				}
			}
		}
		well = false
	}
	checks := 0
	for range 6000 {
		i := r.IntN(len(clients))
		mine := held(clients[i])
		switch n := r.IntN(40); {
		case n < 12:
			q := ask(i, []netip.Addr{link, link2}[r.IntN(2)])
			if o := f.discover(q); o.Kind == Offer {
				a := f.request(selecting(q, o.Lease.Address))
				done = append(done, fmt.Sprintf("GET %v %q: %v %v %v", clients[i], q.Hostname, a.Kind, a.Lease.Address, a.Lease.Name))
			}
		case n < 18 && len(mine) > 0:
			q := renewing(ask(i, link), mine[r.IntN(len(mine))])
			a := f.request(q)
			done = append(done, fmt.Sprintf("RENEW %v %q %v: %v %v", clients[i], q.Hostname, q.ClientAddr, a.Kind, a.Lease.Name))
		case n < 21 && len(mine) > 0:
			a := mine[r.IntN(len(mine))]
			f.release(query(clients[i], link), a)
			done = append(done, fmt.Sprintf("RELEASE %v %v", clients[i], a))
		case n == 21:
			f.clock.advance(time.Duration(r.IntN(30)) * time.Minute)
			f.expireAll()
		case n < 27:
			out = append(out, f.TakeNameChanges(2)...)
		case n < 31:
			for _, c := range out {
				answer(c)
			}
			out = nil
		case n == 31:
			f.expireAll() // which has a reload carried out
		case n < 35:
			config = randomPolicy(r)
			done = append(done, fmt.Sprintf("reload %+v", config))
			if err := f.Reload(config); err != nil {
				t.Fatal(err)
			}
		case n == 35 && r.IntN(3) == 0:
			if r.IntN(2) == 0 {
				config = randomPolicy(r)
			}
			out = nil
			killed := r.IntN(2) == 0 // it loses what nobody was to wait for
			done = append(done, fmt.Sprintf("restart, killed %v: %+v", killed, config))
			if killed {
				after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(5) * 25, RNG: r})
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				disk, f.fs = after, after
				f.open(config)
			} else {
				f.reopen(config)
			}
			f.Publish()
		case n == 36 && r.IntN(4) == 0:
			if _, err := f.Resync(context.Background(), ""); err != nil {
				t.Fatal(err)
			}
		case n == 37 && r.IntN(2) == 0:
			drain()
			for i := range clients {
				for _, a := range held(clients[i]) {
					ans := f.request(renewing(ask(i, a), a))
					done = append(done, fmt.Sprintf("AGAIN %v %v: %v %v", clients[i], a, ans.Kind, ans.Lease.Name))
					if ans.Kind != Ack { // it would keep its name until its time is over
						f.release(query(clients[i], a), a)
					}
				}
			}
			if mixed(config) { // a lease whose name goes to one in another mode hears of it when DNS is told again
				drain()
				if _, err := f.Resync(context.Background(), ""); err != nil {
					t.Fatal(err)
				}
			}
			drain()
			checks++
			if wrong := f.wrongIn(d); len(wrong) > 0 {
				for _, line := range done[max(0, len(done)-100):] {
					t.Log(line)
				}
				t.Fatalf("%q", wrong)
			}
		}
		f.check()
	}
	if checks < 20 {
		t.Errorf("%d checks", checks)
	}
}

// wrongIn is what DNS shows otherwise than it should.
func (f *fixture) wrongIn(d *guarded) (wrong []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	forward, reverse := map[string][]*binding{}, map[netip.Addr]bool{}
	for b := range f.bindings.each() {
		wanted := f.wanted(b)
		if wanted&Forward != 0 {
			forward[b.name] = append(forward[b.name], b)
		}
		shown := wanted&Forward == 0 || d.forward[b.name].addr == b.addr
		if got := d.reverse[b.addr].name; wanted&Reverse != 0 && shown && got != b.name {
			say("%v is to show %s and shows %q", b.addr, b.name, got)
		}
		if wanted&Reverse != 0 && shown {
			reverse[b.addr] = true
		}
	}
	for name, list := range forward {
		if !slices.ContainsFunc(list, func(b *binding) bool { return d.forward[name].addr == b.addr }) {
			say("%s is to show %v, and shows %v", name, list[0].addr, d.forward[name])
		}
	}
	for name, r := range d.forward {
		if forward[name] == nil {
			say("%s is to show nothing, and shows %v", name, r)
		}
	}
	for a, r := range d.reverse {
		if !reverse[a] {
			say("%v is to show nothing, and shows %v", a, r)
		}
	}
	for key, r := range f.removals {
		if !f.overtaken(r) {
			say("left to remove: %s", strings.ToValidUTF8(key, "?"))
		}
	}
	return wrong
}
