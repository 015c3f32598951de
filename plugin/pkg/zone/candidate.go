package zone

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Why an UPDATE was refused; the error of Update wraps one of them.
var (
	ErrNotPermitted = errors.New("not permitted")
	ErrSiteRecord   = errors.New("record belongs to the site file")
	ErrLimit        = errors.New("limit exceeded")
)

// Candidate is the zone as a running transaction sees it: what the transactions before it left, with its own changes.
// It is valid only during the call that it was handed to, and only on that goroutine.
type Candidate struct {
	apex  *apex
	base  *state
	over  map[string]*node // nodes that differ from base, perhaps; nil: removed
	order []string         // keys of over, as they came
	pack  *packer

	read map[string]bool // if not nil: the keys that were asked for from outside

	explicitSOA bool // an SOA record of the transaction itself gave the serial
	cuts        bool // there may be a node for which isCut holds
}

func newCandidate(a *apex, base *state, p *packer) *Candidate {
	return &Candidate{apex: a, base: base, over: make(map[string]*node), order: make([]string, 0, 4), pack: p, cuts: base.cuts > 0}
}

// RRset returns the records of a type at a name; nil if there are none. The caller must not change them.
func (c *Candidate) RRset(name string, t uint16) []dns.RR {
	key, ok := c.apex.keyOf(name)
	if !ok {
		return nil
	}
	if c.read != nil {
		c.read[key] = true
	}
	if set := c.get(key).set(t); set != nil {
		return set.records()
	}
	return nil
}

// Others reports whether records of a type at a name are not the site's.
func (c *Candidate) Others(name string, t uint16) bool {
	key, ok := c.apex.keyOf(name)
	if !ok {
		return false
	}
	if c.read != nil {
		c.read[key] = true
	}
	set := c.get(key).set(t)
	return set != nil && int(set.site) < len(set.rrs)
}

func (c *Candidate) get(key string) *node {
	if n, ok := c.over[key]; ok {
		return n
	}
	return c.base.get(key)
}

// edit returns the node at key for changing, and makes it if there is none. A name that had records when the
// transaction began keeps its case.
func (c *Candidate) edit(key, name string) *node {
	n, mine := c.over[key]
	if mine && n != nil {
		return n
	}
	if old := c.base.get(key); old != nil {
		if mine { // removed, and now there again
			n = &node{name: old.name}
		} else {
			n = &node{name: old.name, sets: slices.Clone(old.sets)}
		}
	} else {
		n = &node{name: name}
	}
	if !mine {
		c.order = append(c.order, key)
	}
	c.over[key] = n
	return n
}

// editSet returns the RRset for changing in place, and makes an empty one if there is none.
func (c *Candidate) editSet(key, name string, t uint16) *rrset {
	n := c.edit(key, name)
	s := n.set(t)
	if s == nil {
		return n.insertSet(rrset{typ: t, owned: true})
	}
	if !s.owned {
		s.rrs = append(make([]dns.RR, 0, len(s.rrs)+1), s.rrs...)
		s.owned = true
	}
	return s
}

// tidy removes RRsets without records, and the node if none is left.
func (c *Candidate) tidy(key string) {
	n := c.over[key]
	if n == nil {
		return
	}
	n.sets = slices.DeleteFunc(n.sets, func(s rrset) bool { return len(s.rrs) == 0 })
	if len(n.sets) == 0 {
		c.over[key] = nil
	}
}

// own returns rr with the owner name of the node, so that all its records share one string.
func own(n *node, rr dns.RR) dns.RR {
	rr.Header().Name = n.name
	return rr
}

// setTTL gives an owned RRset the TTL: its first record now, the others when it settles.
func (s *rrset) setTTL(ttl uint32) {
	if s.ttl() != ttl {
		s.rrs[0] = withTTL(s.rrs[0], ttl)
	}
	s.unsettled = true
}

// settle gives every record the TTL of the first.
func (s *rrset) settle() {
	if !s.unsettled {
		return
	}
	s.unsettled = false
	ttl := s.ttl()
	for i, rr := range s.rrs {
		if rr.Header().Ttl != ttl {
			s.rrs[i] = withTTL(rr, ttl)
		}
	}
}

func (s *rrset) remove(i int) {
	if i == 0 {
		s.settle()
	}
	s.rrs = slices.Delete(s.rrs, i, i+1)
	if i < int(s.site) {
		s.site--
	}
}

func tooMany() error { return fmt.Errorf("RRset of more than %d records: %w", maxRRset, ErrLimit) }

func siteError(n *node, t uint16) error {
	return fmt.Errorf("%s %s: %w", n.name, typeName(t), ErrSiteRecord)
}

// add is RFC 2136 section 3.4.2.2 for a normal record. What the section ignores silently is no error.
func (c *Candidate) add(key string, rr dns.RR) error {
	h := rr.Header()
	n := c.get(key)
	set := n.set(h.Rrtype)
	switch h.Rrtype {
	case dns.TypeSOA:
		return c.addSOA(key, n, set, rr)
	case dns.TypeCNAME:
		if n != nil && set == nil {
			return nil // other data stands here
		}
		return c.replaceOnly(key, n, set, rr)
	}
	if n.set(dns.TypeCNAME) != nil {
		return nil
	}
	if set == nil && (h.Rrtype == dns.TypeDNAME || h.Rrtype == dns.TypeNS && key != "") {
		if c.hidesSite(key, h.Rrtype) {
			return fmt.Errorf("%s %s would hide the site's records: %w", h.Name, typeName(h.Rrtype), ErrSiteRecord)
		}
		c.cuts = true
	}
	if h.Rrtype == dns.TypeDNAME { // RFC 6672 section 5.2
		return c.replaceOnly(key, n, set, rr)
	}
	if set == nil {
		s := c.editSet(key, h.Name, h.Rrtype)
		s.rrs = append(s.rrs, own(c.over[key], rr))
		return nil
	}
	i := findData(set.rrs, rr)
	replaces := i
	if i < 0 && h.Rrtype == typeWKS {
		replaces = slices.IndexFunc(set.rrs, func(r dns.RR) bool { return sameService(r, rr) })
	}
	if set.site > 0 {
		switch {
		case i >= 0 && (h.Rrtype == dns.TypePTR || h.Ttl == set.ttl()):
			return nil
		case !joint(key, h.Rrtype):
			return siteError(n, h.Rrtype)
		}
		h.Ttl = set.ttl()
	}
	if i >= 0 && h.Ttl == set.ttl() {
		return nil
	}
	if replaces < 0 && len(set.rrs) >= maxRRset {
		return recordError(rr, tooMany())
	}
	s := c.editSet(key, h.Name, h.Rrtype)
	if replaces >= 0 {
		s.rrs[replaces] = own(c.over[key], rr)
	} else {
		s.rrs = append(s.rrs, own(c.over[key], rr))
	}
	s.setTTL(h.Ttl)
	return nil
}

// joint reports whether records of others may stand in one RRset with the site's, and take their TTL: the PTR records
// of service discovery (RFC 6763), which every service adds to, and whose owner begins with an underscore, and the TXT
// records of hosts, which are there for whatever anybody has to say, and must not be in the way of who deletes a host by
// its name. The PTR records of addresses are not, nor is what stands at a service.
func joint(key string, t uint16) bool {
	switch {
	case key == "":
		return false
	case t == dns.TypePTR:
		label := strings.LastIndexByte(key[:len(key)-1], keyEnd) + 1
		return key[label] == '_'
	case t == dns.TypeTXT:
		return key[0] != '_' && !strings.Contains(key, "\x00_")
	}
	return false
}

// hidesSite reports whether a delegation (NS) or a DNAME record at key takes names away that have records of the site:
// those below it, and with NS its own.
func (c *Candidate) hidesSite(key string, t uint16) (hides bool) {
	c.base.site.Ascend(key, func(k string) bool {
		hides = strings.HasPrefix(k, key) && (t == dns.TypeNS || k != key)
		return t == dns.TypeDNAME && k == key
	})
	return hides
}

// addSOA takes an SOA record with a newer serial (RFC 1982) and ignores any other.
func (c *Candidate) addSOA(key string, n *node, set *rrset, rr dns.RR) error {
	soa, ok := rr.(*dns.SOA)
	if !ok || set == nil {
		return nil
	}
	current, ok := set.rrs[0].(*dns.SOA)
	if !ok || !serialNewer(soa.Serial, current.Serial) {
		return nil
	}
	if set.site > 0 {
		return siteError(n, dns.TypeSOA)
	}
	s := c.editSet(key, n.name, dns.TypeSOA)
	s.rrs[0] = own(c.over[key], rr)
	c.explicitSOA = true
	return nil
}

// replaceOnly makes rr the one record of its RRset, for the types of which a name has one at most.
func (c *Candidate) replaceOnly(key string, n *node, set *rrset, rr dns.RR) error {
	h := rr.Header()
	if set != nil && len(set.rrs) == 1 && h.Ttl == set.ttl() && sameData(set.rrs[0], rr) {
		return nil
	}
	if set != nil && set.site > 0 {
		return siteError(n, h.Rrtype)
	}
	s := c.editSet(key, h.Name, h.Rrtype)
	s.rrs = append(s.rrs[:0], own(c.over[key], rr))
	return nil
}

// removeName deletes all RRsets at a name (section 3.4.2.3), at the apex all but SOA and NS.
func (c *Candidate) removeName(key string) error {
	n := c.get(key)
	if n == nil {
		return nil
	}
	for _, set := range n.sets { // first look, then touch
		if !keptAtApex(key, set.typ) && set.site > 0 && !joint(key, set.typ) {
			return siteError(n, set.typ)
		}
	}
	types := make([]uint16, 0, len(n.sets))
	for _, set := range n.sets {
		types = append(types, set.typ)
	}
	for _, t := range types {
		if err := c.removeSet(key, t); err != nil {
			return err
		}
	}
	return nil
}

// removeSet deletes an RRset (section 3.4.2.3); of a joint one, the records that are not the site's.
func (c *Candidate) removeSet(key string, t uint16) error {
	n := c.get(key)
	set := n.set(t)
	if set == nil || keptAtApex(key, t) {
		return nil
	}
	if set.site > 0 && !joint(key, t) {
		return siteError(n, t)
	}
	if int(set.site) == len(set.rrs) {
		return nil
	}
	s := c.editSet(key, n.name, t)
	clear(s.rrs[s.site:])
	s.rrs = s.rrs[:s.site]
	c.tidy(key)
	return nil
}

func keptAtApex(key string, t uint16) bool {
	return key == "" && (t == dns.TypeSOA || t == dns.TypeNS)
}

// removeRecord deletes one record (section 3.4.2.4).
func (c *Candidate) removeRecord(key string, rr dns.RR) error {
	t := rr.Header().Rrtype
	n := c.get(key)
	set := n.set(t)
	if set == nil || key == "" && (t == dns.TypeSOA || t == dns.TypeNS && len(set.rrs) == 1) {
		return nil
	}
	i := findData(set.rrs, rr)
	if i < 0 {
		return nil
	}
	if i < int(set.site) {
		return siteError(n, t)
	}
	c.editSet(key, n.name, t).remove(i)
	c.tidy(key)
	return nil
}

// delta is one record that a transaction takes from the zone or adds to it.
type delta struct {
	key  string // of its owner
	rr   dns.RR
	site bool
	wire []byte // of rr, if it is known already
}

// difference is what a transaction changes in the end, whatever the way there.
type difference struct {
	removed, added []delta
	content        bool     // false: nothing that anyone can ask for; only whose some records are
	revision       revision // of a change of content that was accepted
}

// merge adds a difference at other names.
func (d *difference) merge(o *difference) {
	d.removed, d.added = append(o.removed, d.removed...), append(o.added, d.added...)
	d.content = d.content || o.content
}

// octets is by how much the difference makes the zone larger, uncompressed.
func (d *difference) octets() int {
	octets := 0
	for _, x := range d.added {
		octets += dns.Len(x.rr)
	}
	for _, x := range d.removed {
		octets -= dns.Len(x.rr)
	}
	return octets
}

func (d *difference) empty() bool { return len(d.removed) == 0 && len(d.added) == 0 }

// difference compares the candidate with its base and forgets what came out the same.
func (c *Candidate) difference() (difference, error) {
	var d difference
	keep := c.order[:0]
	d.removed, d.added = make([]delta, 0, 2), make([]delta, 0, 4) // what an update of one name mostly has
	for _, key := range c.order {
		c.over[key].settle()
		before := len(d.removed) + len(d.added)
		if err := c.compareNode(key, &d); err != nil {
			return difference{}, err
		}
		if len(d.removed)+len(d.added) == before {
			delete(c.over, key)
		} else {
			keep = append(keep, key)
		}
	}
	c.order = keep
	return d, nil
}

func (c *Candidate) compareNode(key string, d *difference) error {
	was, is := c.base.get(key), c.over[key]
	i, j := 0, 0
	var none rrset
	for (was != nil && i < len(was.sets)) || (is != nil && j < len(is.sets)) {
		a, b := &none, &none
		switch {
		case was == nil || i == len(was.sets) || is != nil && j < len(is.sets) && is.sets[j].typ < was.sets[i].typ:
			b = &is.sets[j]
			j++
		case is == nil || j == len(is.sets) || was.sets[i].typ < is.sets[j].typ:
			a = &was.sets[i]
			i++
		default:
			a, b = &was.sets[i], &is.sets[j]
			i++
			j++
		}
		if err := c.compareSet(key, a, b, d); err != nil {
			return err
		}
	}
	return nil
}

// compareSet finds what differs between two states of an RRset. Records that nobody touched are the same pointers in
// the same order, so that the work is about as much as the change.
func (c *Candidate) compareSet(key string, was, is *rrset, d *difference) error {
	a, b := was.rrs, is.rrs
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] &&
		(head < int(was.site)) == (head < int(is.site)) {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head {
		x, y := len(a)-1-tail, len(b)-1-tail
		if a[x] != b[y] || (x < int(was.site)) != (y < int(is.site)) {
			break
		}
		tail++
	}
	if len(a) == head+tail || len(b) == head+tail { // nothing to compare with
		for i := head; i < len(a)-tail; i++ {
			d.removed = append(d.removed, delta{key: key, rr: a[i], site: i < int(was.site)})
		}
		for j := head; j < len(b)-tail; j++ {
			d.added = append(d.added, delta{key: key, rr: b[j], site: j < int(is.site)})
		}
		d.content = d.content || len(a) != len(b)
		return nil
	}
	old := make(map[string]int, len(a)-head-tail)
	for i := head; i < len(a)-tail; i++ {
		data, err := c.pack.data(a[i])
		if err != nil {
			return recordError(a[i], err)
		}
		old[string(data)] = i
	}
	for j := head; j < len(b)-tail; j++ {
		data, err := c.pack.data(b[j])
		if err != nil {
			return recordError(b[j], err)
		}
		if i, ok := old[string(data)]; ok && a[i].Header().Ttl == b[j].Header().Ttl {
			sameOwner := (i < int(was.site)) == (j < int(is.site))
			delete(old, string(data))
			if sameOwner {
				continue
			}
			d.removed = append(d.removed, delta{key: key, rr: a[i], site: i < int(was.site)})
			d.added = append(d.added, delta{key: key, rr: b[j], site: j < int(is.site)})
			continue
		}
		d.added = append(d.added, delta{key: key, rr: b[j], site: j < int(is.site)})
		d.content = true
	}
	if len(old) == 0 {
		return nil
	}
	d.content = true
	for i := head; i < len(a)-tail; i++ { // in order, not as the map has it
		data, err := c.pack.data(a[i])
		if err != nil {
			return recordError(a[i], err)
		}
		if k, ok := old[string(data)]; ok && k == i {
			d.removed = append(d.removed, delta{key: key, rr: a[i], site: i < int(was.site)})
		}
	}
	return nil
}

// touched returns the canonical names of the nodes that the candidate changed, in canonical order.
func (c *Candidate) touched() ([]string, error) {
	keys := slices.Sorted(slices.Values(c.order))
	names := make([]string, len(keys))
	for i, key := range keys {
		n := c.over[key]
		if n == nil {
			n = c.base.get(key)
		}
		if n == nil {
			return nil, fmt.Errorf("changed name without a node: %q", key)
		}
		names[i] = strings.ToLower(n.name)
	}
	return names, nil
}

// number gives the zone its next serial, and adds that to the difference, which has no SOA record's serial in it yet.
func (c *Candidate) number(d *difference) error {
	set := c.get("").set(dns.TypeSOA)
	if set == nil {
		return errors.New("zone without SOA record")
	}
	soa, ok := dns.Copy(set.rrs[0]).(*dns.SOA)
	if !ok {
		return errors.New("zone without SOA record")
	}
	soa.Serial = nextSerial(soa.Serial)
	s := c.editSet("", c.apex.name, dns.TypeSOA)
	s.rrs[0] = soa
	isSOA := func(x delta) bool { return x.rr.Header().Rrtype == dns.TypeSOA }
	d.removed = slices.DeleteFunc(d.removed, isSOA)
	d.added = slices.DeleteFunc(d.added, isSOA)
	was := c.base.get("").set(dns.TypeSOA)
	d.removed = append(d.removed, delta{rr: was.rrs[0], site: was.site > 0})
	d.added = append(d.added, delta{rr: soa, site: s.site > 0})
	return nil
}

func (n *node) settle() {
	if n == nil {
		return
	}
	for i := range n.sets {
		n.sets[i].settle()
	}
}

// seal makes the nodes of the candidate immutable.
func (n *node) seal() {
	if n == nil {
		return
	}
	for i := range n.sets {
		if s := &n.sets[i]; s.owned {
			if cap(s.rrs) > len(s.rrs)+1 {
				s.rrs = slices.Clone(s.rrs)
			}
			s.owned = false
		}
	}
}

// install puts the candidate's nodes into s, which is the state that it was made from.
func (c *Candidate) install(s *state, d *difference) {
	for _, key := range c.order {
		n := c.over[key]
		n.seal()
		s.put(key, n)
	}
	s.records += len(d.added) - len(d.removed)
	s.octets += d.octets()
}
