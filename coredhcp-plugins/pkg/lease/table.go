package lease

import (
	"hash/maphash"
	"iter"
	"math"
	"net/netip"
	"strings"
)

// table is all bindings. They are numbered, and what finds them, by address, by client or by their end, knows their numbers: the
// garbage collector follows every pointer that there is, each time, and while it does clients wait. With a million bindings behind
// maps of pointers it took four times as long.
type table struct {
	chunks   []*[chunk]binding
	made     number              // the last that was given
	spare    []number            // of bindings that were taken back
	blocks   map[[16]byte]*block // those that are entered, by the first address of their block
	entered  int
	latest   *binding          // that was found last: one decision asks for the same a dozen times; nil: none
	byClient [256]heads        // by the first octet and the rest of the hash of Key: the first of a chain, which other clients with that hash are part of
	machines map[uint32]number // by hash of the machine: the first of a chain of at most maxShared that are active
	imported bool              // a client was linked that importedIdentifier stands for
	seed     maphash.Seed
	bits     uint32 // of a hash that count: all, but in tests
}

// number is which of the bindings; 0 is none.
type number uint32

// chunk is how many bindings are made at once: as many as fill some pages.
const chunk = 1024

// block is the bindings of addresses side by side, by the end of the address. New clients get addresses side by side, so that
// what is looked at for one is at hand for the next; a map of a million addresses is out of reach of the processor's caches.
type block [64]number

// place is where the binding of an address is: its block, and which of it.
func place(a netip.Addr) (first [16]byte, i int) {
	first = a.As16()
	i = int(first[15]) % len(block{})
	first[15] -= byte(i)
	return first, i
}

func newTable() table {
	return table{blocks: map[[16]byte]*block{}, machines: map[uint32]number{}, seed: maphash.MakeSeed(), bits: math.MaxUint32}
}

// get is the binding of a number, nil of 0.
func (t *table) get(n number) *binding {
	if n == 0 {
		return nil
	}
	n--
	return &t.chunks[n/chunk][n%chunk]
}

// at is the binding of an address, nil if there is none.
func (t *table) at(a netip.Addr) *binding {
	if t.latest != nil && t.latest.addr == a {
		return t.latest
	}
	first, i := place(a)
	if k := t.blocks[first]; k != nil {
		if b := t.get(k[i]); b != nil && b.addr == a {
			t.latest = b
			return b
		}
	}
	return nil
}

// len is how many addresses have a binding.
func (t *table) len() int { return t.entered }

// each is all bindings in the order of their numbers, which after a start is that of the addresses. Of those that are made
// meanwhile it may have some.
func (t *table) each() iter.Seq[*binding] {
	return func(yield func(*binding) bool) {
		for n := number(1); n <= t.made; n++ {
			if b := t.get(n); b.n != 0 && !yield(b) {
				return
			}
		}
	}
}

// add makes a binding in state 0, which is not found before it is entered.
func (t *table) add(a netip.Addr) *binding {
	var n number
	if last := len(t.spare) - 1; last >= 0 {
		n, t.spare = t.spare[last], t.spare[:last]
	} else {
		if int(t.made) == chunk*len(t.chunks) {
			t.chunks = append(t.chunks, new([chunk]binding))
		}
		t.made++
		n = t.made
	}
	b := t.get(n)
	*b = binding{addr: a, n: n, heap: -1}
	return b
}

func (t *table) enter(b *binding) {
	first, i := place(b.addr)
	k := t.blocks[first]
	if k == nil {
		k = new(block)
		t.blocks[first] = k
	}
	k[i] = b.n
	t.entered++
}

// leave is the opposite of enter.
func (t *table) leave(b *binding) {
	first, i := place(b.addr)
	t.blocks[first][i] = 0
	t.entered--
	t.latest = nil
}

// remove takes back a binding that nothing refers to any more.
func (t *table) remove(b *binding) {
	t.spare = append(t.spare, b.n)
	b.n = 0
}

// reserve makes the tables of clients as large as they will be: growing them takes as long as reading the disk.
func (t *table) reserve() {
	for i := range t.byClient {
		t.byClient[i].reserve(int(t.made) / len(t.byClient))
	}
}

// heads are those that a hash is among. They are in many parts, lest a client wait while the whole of a million is moved.
func (t *table) heads(hash uint32) *heads { return &t.byClient[hash>>24] }

// first is the binding that the client with a Key got last, nil if it has none.
func (t *table) first(key []byte) *binding {
	h := uint32(maphash.Bytes(t.seed, key)) & t.bits
	b := t.get(t.heads(h).get(h))
	for b != nil && b.client.key() != string(key) {
		b = t.get(b.sibling)
	}
	if b != nil {
		t.latest = b // as where a client was before, its address is asked for next
	}
	return b
}

// next is the binding of the same client behind b, nil if there is none.
func (t *table) next(b *binding) *binding {
	o := t.get(b.sibling)
	for o != nil && o.client.key() != b.client.key() {
		o = t.get(o.sibling)
	}
	return o
}

func (t *table) hash(p packed) uint32 { return uint32(maphash.String(t.seed, p.key())) & t.bits }

// link puts a binding at the head of its client's chain.
func (t *table) link(b *binding) {
	t.imported = t.imported || strings.HasPrefix(b.client.key(), importedKey)
	hash := t.hash(b.client)
	heads := t.heads(hash)
	b.sibling = heads.get(hash)
	heads.set(hash, b.n)
}

// unlink takes a binding out of its client's chain.
func (t *table) unlink(b *binding) {
	hash := t.hash(b.client)
	heads := t.heads(hash)
	switch first := heads.get(hash); {
	case first != b.n:
		o := t.get(first)
		for o.sibling != b.n {
			o = t.get(o.sibling)
		}
		o.sibling = b.sibling
	case b.sibling != 0:
		heads.set(hash, b.sibling)
	default:
		heads.remove(hash)
	}
	b.sibling = 0
}

// kin is the other bindings whose client is, in DNS, the same as that of b; of a machine those that are active.
func (t *table) kin(b *binding) iter.Seq[*binding] {
	return func(yield func(*binding) bool) {
		machine := b.client.machine()
		if machine == "" {
			for o := t.first([]byte(b.client.key())); o != nil; o = t.next(o) {
				if o != b && !yield(o) {
					return
				}
			}
			return
		}
		for o := t.get(t.machines[t.hashMachine(machine)]); o != nil; o = t.get(o.cousin) {
			if o != b && o.client.machine() == machine && !yield(o) {
				return
			}
		}
	}
}

func (t *table) hashMachine(machine string) uint32 {
	return uint32(maphash.String(t.seed, machine)) & t.bits
}

// join puts a binding that is active now into its machine's chain, unless that is full: who makes up network interfaces shall
// not have every lease of theirs looked at for each.
func (t *table) join(b *binding) {
	machine := b.client.machine()
	if machine == "" {
		return
	}
	hash, n := t.hashMachine(machine), 0
	for o := t.get(t.machines[hash]); o != nil; o = t.get(o.cousin) {
		if n++; n == maxShared {
			return
		}
	}
	b.cousin, t.machines[hash] = t.machines[hash], b.n
}

// part takes a binding out of its machine's chain, if it is there.
func (t *table) part(b *binding) {
	machine := b.client.machine()
	if machine == "" {
		return
	}
	hash := t.hashMachine(machine)
	if t.machines[hash] == b.n {
		if t.machines[hash] = b.cousin; b.cousin == 0 {
			delete(t.machines, hash)
		}
		b.cousin = 0
		return
	}
	for o := t.get(t.machines[hash]); o != nil; o = t.get(o.cousin) {
		if o.cousin == b.n {
			o.cousin, b.cousin = b.cousin, 0
			return
		}
	}
}
