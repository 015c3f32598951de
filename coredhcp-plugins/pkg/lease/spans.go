package lease

import (
	"net/netip"

	"github.com/tidwall/btree"
)

// spans is a set of addresses, of which most lie side by side: it costs what its gaps are, and not what it holds.
type spans struct {
	tree   *btree.BTreeG[*span] // by first; they neither overlap nor touch
	sought span                 // what find looks for
}

// span is all addresses from first to last.
type span struct{ first, last netip.Addr }

func newSpans(first, last netip.Addr) *spans {
	s := &spans{tree: btree.NewBTreeGOptions(func(a, b *span) bool { return a.first.Less(b.first) }, btree.Options{NoLocks: true})}
	s.tree.Set(&span{first, last})
	return s
}

// find is the last span that does not begin behind an address, or nil.
func (s *spans) find(a netip.Addr) (found *span) {
	s.sought.first = a
	s.tree.Descend(&s.sought, func(e *span) bool {
		found = e
		return false
	})
	return found
}

// remove takes an address out, if it is there.
func (s *spans) remove(a netip.Addr) {
	e := s.find(a)
	switch {
	case e == nil || e.last.Less(a):
	case e.first == e.last:
		s.tree.Delete(e)
	case e.first == a:
		e.first = a.Next() // which leaves it at its place in the tree
	case e.last == a:
		e.last = a.Prev()
	default:
		s.tree.Set(&span{a.Next(), e.last})
		e.last = a.Prev()
	}
}

// add puts an address in.
func (s *spans) add(a netip.Addr) {
	before := s.find(a)
	if before != nil && !before.last.Less(a) {
		return
	}
	var after *span
	if next := a.Next(); next.IsValid() {
		if e := s.find(next); e != nil && e.first == next {
			after = e
		}
	}
	touches := before != nil && before.last == a.Prev()
	switch {
	case touches && after != nil:
		s.tree.Delete(after)
		before.last = after.last
	case touches:
		before.last = a
	case after != nil:
		after.first = a
	default:
		s.tree.Set(&span{a, a})
	}
}

// first is the lowest address that may be chosen, and false if there is none.
func (s *spans) first(may func(netip.Addr) bool) (found netip.Addr, ok bool) {
	s.tree.Scan(func(e *span) bool {
		for a := e.first; ; a = a.Next() {
			if ok = may(a); ok {
				found = a
			}
			if ok || a == e.last {
				return !ok
			}
		}
	})
	return found, ok
}
