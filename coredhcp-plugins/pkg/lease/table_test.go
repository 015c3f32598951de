package lease

import (
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
	if len(table.byClient) > 8 || len(all) < 500 {
		t.Errorf("%d chains of %d bindings", len(table.byClient), len(all))
	}
}
