package lease

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
)

// TestTable holds a table against the plainest there is, while bindings come and go. Few bits of a hash count, so that
// clients share chains.
func TestTable(t *testing.T) {
	r, table := newRand(t), newTable()
	table.bits = 7
	var all []*binding
	held := map[packed][]*binding{} // by client, the last first
	for range 20_000 {
		if r.IntN(5) > 1 || len(all) == 0 {
			a := netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(8)), byte(r.IntN(256))})
			if table.at(a) != nil {
				continue
			}
			b := table.add(a)
			b.client = pack(numbered(r.IntN(200)))
			table.enter(b)
			table.link(b)
			all, held[b.client] = append(all, b), slices.Insert(held[b.client], 0, b)
		} else {
			i := r.IntN(len(all))
			b := all[i]
			if table.at(b.addr) != b {
				t.Fatalf("%v is not found", b.addr)
			}
			table.unlink(b)
			table.leave(b)
			table.remove(b)
			all = slices.Delete(all, i, i+1)
			held[b.client] = slices.DeleteFunc(held[b.client], func(o *binding) bool { return o == b })
			if table.at(b.addr) != nil {
				t.Fatalf("%v is found when it is gone", b.addr)
			}
		}
	}
	for p, want := range held {
		var got []*binding
		for b := table.first([]byte(p.key())); b != nil; b = table.next(b) {
			got = append(got, b)
		}
		if !slices.Equal(got, want) {
			t.Errorf("client %x has %d bindings, want %d", p.key(), len(got), len(want))
		}
	}
	seen := map[*binding]bool{}
	for b := range table.each() {
		seen[b] = true
		if table.at(b.addr) != b || table.get(b.n) != b {
			t.Errorf("%v is not found", b.addr)
		}
	}
	if len(seen) != len(all) || table.len() != len(all) || len(table.spare) != int(table.made)-len(all) {
		t.Errorf("%d are there and %d entered, want %d; %d spare of %d", len(seen), table.len(), len(all), len(table.spare), table.made)
	}
	if table.heads(0).used > 8 || len(all) < 500 {
		t.Errorf("%d chains of %d bindings", table.heads(0).used, len(all))
	}
}

// TestKin holds the bindings of one machine against the plainest there is, while they come and go, and has one machine make up
// more network interfaces than are looked at.
func TestKin(t *testing.T) {
	inserted := func(table *table, i int, identifier string) *binding {
		b := table.add(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		c := numbered(i)
		c.Identifier = identifier
		b.client = pack(c)
		table.enter(b)
		table.link(b)
		table.join(b)
		return b
	}
	kin := func(table *table, b *binding) map[*binding]bool {
		found := map[*binding]bool{}
		for o := range table.kin(b) {
			found[o] = true
		}
		return found
	}
	t.Run("come and go", func(t *testing.T) {
		r, table := newRand(t), newTable()
		all, among := map[int]*binding{}, map[int]string{} // by address; what their client is known by
		for range 5000 {
			i := r.IntN(200)
			if b := all[i]; b != nil {
				table.part(b)
				table.unlink(b)
				table.leave(b)
				table.remove(b)
				delete(all, i)
				continue
			}
			machine, netif := string(rune('a'+r.IntN(8))), string(rune('0'+r.IntN(3)))
			switch r.IntN(3) {
			case 0: // not by RFC 4361: each is a client of its own
				all[i], among[i] = inserted(&table, i, "\x01"+machine), "\x01"+machine
			default:
				all[i], among[i] = inserted(&table, i, "\xff\x00\x00\x00"+netif+"\x00\x04"+machine), machine
			}
			want := map[*binding]bool{}
			for j, o := range all {
				if j != i && among[j] == among[i] {
					want[o] = true
				}
			}
			if got := kin(&table, all[i]); !maps.Equal(got, want) {
				t.Fatalf("%d of %q, want %d", len(got), among[i], len(want))
			}
		}
	})
	t.Run("made up", func(t *testing.T) {
		table := newTable()
		var all []*binding
		for i := range 1000 {
			all = append(all, inserted(&table, i, fmt.Sprintf("\xff%04d\x00\x04duid", i)))
		}
		if n := len(kin(&table, all[999])); n != maxShared {
			t.Errorf("%d are looked at, want %d", n, maxShared)
		}
		for _, b := range all {
			table.part(b)
		}
		if len(table.machines) != 0 {
			t.Errorf("%d machines are left", len(table.machines))
		}
	})
}

// TestMachineOfManyInterfaces has a machine that makes a network interface up for each wireless network, as dhcpcd does of
// hardware addresses by chance: what it had before does not keep those that it has now from being told apart.
func TestMachineOfManyInterfaces(t *testing.T) {
	f, d := open(t, wideConfig(200)), fakeDNS{}
	interfaceOf := func(i int) Query {
		q := query(numbered(i), wideLink)
		q.Client.Identifier, q.Hostname = fmt.Sprintf("\xff%04d\x00\x04duid", i), "ws7"
		return q
	}
	for i := range 2 * maxShared {
		q := interfaceOf(i)
		f.release(q, f.get(q).Address)
	}
	f.reopen(wideConfig(200))
	for round := range 2 {
		wired, wireless := interfaceOf(1000), interfaceOf(0)
		a := f.get(wired).Address
		f.wantShown(d, "ws7.example.org.", a.String())
		b := f.get(wireless).Address
		f.wantShown(d, "ws7.example.org.", b.String())
		f.release(wireless, b)
		f.wantShown(d, "ws7.example.org.", a.String())
		f.check()
		f.release(wired, a)
		f.wantShown(d, "ws7.example.org.", "")
		if round == 0 {
			f.reopen(wideConfig(200))
		}
	}
}
