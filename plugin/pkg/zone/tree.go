package zone

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/tidwall/btree"
)

// rrset is all records of one type at one name. They have one TTL (RFC 2181 section 5.2).
type rrset struct {
	rrs   []dns.RR // the site's first
	site  int32    // how many of rrs are the site's
	typ   uint16
	owned bool // made by the running transaction, which may change it in place; never true once published

	unsettled bool // only the first record surely has the TTL; never true once published
}

// records is what readers get: appending to it copies.
func (s *rrset) records() []dns.RR { return slices.Clip(s.rrs) }

func (s *rrset) ttl() uint32 { return s.rrs[0].Header().Ttl }

// node is an owner name that has records.
type node struct {
	name string  // as first given, case included
	sets []rrset // by type
}

// set returns the RRset of the type, nil if there is none.
func (n *node) set(t uint16) *rrset {
	if n == nil {
		return nil
	}
	for i := range n.sets {
		if n.sets[i].typ == t {
			return &n.sets[i]
		}
	}
	return nil
}

func (n *node) siteRecords() int {
	if n == nil {
		return 0
	}
	sum := 0
	for i := range n.sets {
		sum += int(n.sets[i].site)
	}
	return sum
}

// isCut reports whether names below the node are not this zone's to answer plainly: a delegation, or a DNAME.
func (n *node) isCut(key string) bool {
	return n != nil && (key != "" && n.set(dns.TypeNS) != nil || n.set(dns.TypeDNAME) != nil)
}

// entry is a node in the tree. The key stands beside the pointer so that a search touches no node but the one it finds.
type entry struct {
	key  string
	node *node
}

func entryLess(a, b entry) bool { return a.key < b.key }

// state is the contents of a zone. Copying it is cheap; the copies share what they do not change.
type state struct {
	tree    *btree.BTreeG[entry]
	site    *btree.BTreeG[string] // keys of the nodes that have records of the site
	records int
	octets  int
	cuts    int // nodes for which isCut holds
	journal journal
}

func newState() state {
	o := btree.Options{NoLocks: true}
	return state{
		tree: btree.NewBTreeGOptions(entryLess, o),
		site: btree.NewBTreeGOptions(func(a, b string) bool { return a < b }, o),
	}
}

// copy returns an independent state. It writes to s's own header, so s must not be published; the copy may be.
func (s *state) copy() state {
	c := *s
	c.tree, c.site = s.tree.Copy(), s.site.Copy()
	return c
}

func (s *state) get(key string) *node {
	e, _ := s.tree.Get(entry{key: key})
	return e.node
}

// put makes n the node at key; nil removes it. The caller keeps records and octets.
func (s *state) put(key string, n *node) {
	var old *node
	if n == nil {
		e, _ := s.tree.Delete(entry{key: key})
		old = e.node
		if old.siteRecords() > 0 {
			s.site.Delete(key)
		}
	} else {
		e, _ := s.tree.Set(entry{key: key, node: n})
		old = e.node
		if n.siteRecords() > 0 {
			s.site.Set(key)
		} else if old.siteRecords() > 0 {
			s.site.Delete(key)
		}
	}
	if old.isCut(key) {
		s.cuts--
	}
	if n.isCut(key) {
		s.cuts++
	}
}

// next returns the first entry at or after key.
func (s *state) next(key string) (entry, bool) {
	var found entry
	ok := false
	s.tree.Ascend(entry{key: key}, func(e entry) bool {
		found, ok = e, true
		return false
	})
	return found, ok
}

// previous returns the last entry at or before key.
func (s *state) previous(key string) (entry, bool) {
	var found entry
	ok := false
	s.tree.Descend(entry{key: key}, func(e entry) bool {
		found, ok = e, true
		return false
	})
	return found, ok
}

// hasBelow reports whether a name below key has records; key itself has none.
func (s *state) hasBelow(key string) bool {
	e, ok := s.next(key)
	return ok && strings.HasPrefix(e.key, key)
}

// soa is the zone's SOA record; nil only in a zone that is being made.
func (s *state) soa() *dns.SOA {
	set := s.get("").set(dns.TypeSOA)
	if set == nil {
		return nil
	}
	soa, _ := set.rrs[0].(*dns.SOA)
	return soa
}

// insertSet puts an RRset into n, which the caller may change, keeping the order by type.
func (n *node) insertSet(s rrset) *rrset {
	i, _ := slices.BinarySearchFunc(n.sets, s.typ, func(a rrset, t uint16) int { return int(a.typ) - int(t) })
	n.sets = slices.Insert(n.sets, i, s)
	return &n.sets[i]
}
