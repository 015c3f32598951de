package zone

import (
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// siteRecords are the site's records by owner and type.
type siteRecords struct {
	groups map[string]map[uint16]*siteGroup
	keys   []string // of groups, as they came
	soa    *dns.SOA // nil: the site has none
}

type siteGroup struct {
	name string
	rrs  []dns.RR
}

// siteRecords sorts want, and refuses what cannot be the site's.
func (c *Candidate) siteRecords(want []dns.RR) (*siteRecords, error) {
	site := &siteRecords{groups: make(map[string]map[uint16]*siteGroup, len(want)/2)}
	for _, rr := range want {
		if rr == nil {
			return nil, errors.New("site record is nil")
		}
		h := rr.Header()
		key, ok := c.apex.keyOf(h.Name)
		switch {
		case !ok:
			return nil, recordError(rr, errors.New("outside the zone "+c.apex.name))
		case h.Class != dns.ClassINET:
			return nil, recordError(rr, errClass)
		case metaType(h.Rrtype) || !Supported(h.Rrtype):
			return nil, recordError(rr, errMetaType)
		}
		if s, ok := rr.(*dns.SOA); ok {
			if key != "" || site.soa != nil {
				return nil, recordError(rr, errors.New("one SOA record, at the apex"))
			}
			site.soa = s
			continue
		}
		types := site.groups[key]
		if types == nil {
			types = make(map[uint16]*siteGroup, 2)
			site.groups[key] = types
			site.keys = append(site.keys, key)
		}
		g := types[h.Rrtype]
		if g == nil {
			g = &siteGroup{name: h.Name}
			types[h.Rrtype] = g
		}
		g.rrs = append(g.rrs, rr)
	}
	return site, nil
}

// replaceSite makes the site's records exactly those, at the names that which accepts. Of the SOA record all but the
// serial counts.
func (c *Candidate) replaceSite(site *siteRecords, which func(key string) bool) error {
	if which("") {
		if err := c.siteSOA(site.soa); err != nil {
			return err
		}
	}
	gone := func(key string) {
		for _, set := range c.base.get(key).sets {
			if set.site > 0 && set.typ != dns.TypeSOA && site.groups[key][set.typ] == nil {
				c.setSite(key, "", set.typ, nil)
			}
		}
		c.tidy(key)
	}
	c.base.site.Scan(func(key string) bool {
		if which(key) {
			gone(key)
		}
		return true
	})
	for _, key := range site.keys {
		if !which(key) {
			continue
		}
		types := site.groups[key]
		if types[dns.TypeCNAME] != nil && (len(types) > 1 || len(types[dns.TypeCNAME].rrs) > 1 || key == "") {
			return recordError(types[dns.TypeCNAME].rrs[0], errors.New("a CNAME record stands alone at its name"))
		}
		for t, g := range types {
			rrs, err := c.siteSet(key, t, g.rrs)
			if err != nil {
				return err
			}
			if rrs != nil {
				c.setSite(key, g.name, t, rrs)
			}
		}
		c.yieldToSite(key)
		c.tidy(key)
	}
	return nil
}

// siteSet returns what the site's part of an RRset has to be, nil if it already is. Records that stay are kept.
func (c *Candidate) siteSet(key string, t uint16, want []dns.RR) ([]dns.RR, error) {
	ttl := want[len(want)-1].Header().Ttl
	set := c.get(key).set(t)
	if set != nil && int(set.site) == len(want) && set.ttl() == ttl {
		same := true
		for i, rr := range want {
			if !equalExactly(set.rrs[i], rr) {
				same = false
				break
			}
		}
		if same {
			return nil, nil
		}
	}
	kept := make(map[string]dns.RR)
	if set != nil {
		for _, rr := range set.rrs {
			data, err := c.pack.data(rr)
			if err != nil {
				return nil, recordError(rr, err)
			}
			kept[string(data)] = rr
		}
	}
	out := make([]dns.RR, 0, len(want))
	seen := make(map[string]bool, len(want))
	for _, rr := range want {
		r, err := c.pack.normal(rr)
		if err != nil {
			return nil, recordError(rr, err)
		}
		data, err := c.pack.data(r)
		if err != nil {
			return nil, recordError(rr, err)
		}
		if seen[string(data)] {
			continue
		}
		seen[string(data)] = true
		switch old := kept[string(data)]; {
		case old != nil && old.Header().Ttl == ttl:
			r = old
		case r.Header().Ttl != ttl:
			r.Header().Ttl = ttl
		}
		out = append(out, r)
	}
	return out, nil
}

// equalExactly reports whether want, which may be in any presentation form, is surely what stands there.
func equalExactly(have, want dns.RR) bool {
	if have.Header().Rrtype != want.Header().Rrtype || have.Header().Ttl != want.Header().Ttl {
		return false
	}
	switch a := have.(type) {
	case *dns.A:
		b, ok := want.(*dns.A)
		return ok && a.A.Equal(b.A)
	case *dns.PTR:
		b, ok := want.(*dns.PTR)
		return ok && a.Ptr == b.Ptr
	case *dns.SRV:
		b, ok := want.(*dns.SRV)
		return ok && a.Target == b.Target && a.Port == b.Port && a.Priority == b.Priority && a.Weight == b.Weight
	case *dns.TXT:
		b, ok := want.(*dns.TXT)
		return ok && slices.Equal(a.Txt, b.Txt)
	}
	return false
}

// setSite makes rrs the site's part of an RRset. Records that are not the site's stay as long as the site has none, or
// beside it in a joint RRset.
func (c *Candidate) setSite(key, name string, t uint16, rrs []dns.RR) {
	s := c.editSet(key, name, t)
	n := c.over[key]
	others := slices.Clone(s.rrs[s.site:])
	if len(rrs) > 0 && !joint(key, t) {
		others = nil
	}
	s.rrs = append(s.rrs[:0:0], rrs...)
	for i, rr := range s.rrs {
		if rr.Header().Name != n.name {
			s.rrs[i] = own(n, dns.Copy(rr))
		}
	}
	s.site = int32(len(rrs))
	for _, rr := range others {
		if findData(rrs, rr) < 0 {
			s.rrs = append(s.rrs, rr)
		}
	}
	if len(rrs) > 0 {
		s.setTTL(rrs[0].Header().Ttl)
	}
}

// yieldToSite removes what cannot stand beside the site's records at key, or hides them: a CNAME beside its data, data
// beside its CNAME, a delegation there or above, a DNAME above.
func (c *Candidate) yieldToSite(key string) {
	if c.cuts {
		c.removeCut(key, dns.TypeNS)
		parentKeys(key, func(parent string) bool {
			c.removeCut(parent, dns.TypeNS)
			c.removeCut(parent, dns.TypeDNAME)
			return true
		})
	}
	n := c.get(key)
	cname := n.set(dns.TypeCNAME)
	if cname == nil || len(n.sets) == 1 {
		return
	}
	n = c.edit(key, n.name)
	alias := cname.site > 0
	n.sets = slices.DeleteFunc(n.sets, func(s rrset) bool { return (s.typ == dns.TypeCNAME) != alias })
}

// removeCut removes an RRset that is not the site's, and not the apex's NS.
func (c *Candidate) removeCut(key string, t uint16) {
	n := c.get(key)
	if set := n.set(t); set == nil || set.site > 0 || keptAtApex(key, t) {
		return
	}
	c.editSet(key, n.name, t).rrs = nil
	c.tidy(key)
}

// siteSOA gives the zone the fields of the site's SOA record, or, if the site has none, leaves the record to UPDATE.
func (c *Candidate) siteSOA(want *dns.SOA) error {
	set := c.get("").set(dns.TypeSOA)
	if set == nil {
		return errors.New("zone without SOA record")
	}
	have, ok := set.rrs[0].(*dns.SOA)
	if !ok {
		return errors.New("zone without SOA record")
	}
	if want == nil {
		if set.site > 0 {
			c.editSet("", c.apex.name, dns.TypeSOA).site = 0
		}
		return nil
	}
	numbered, ok := dns.Copy(want).(*dns.SOA)
	if !ok {
		return recordError(want, errClass)
	}
	numbered.Serial = have.Serial
	rr, err := c.pack.normal(numbered)
	if err != nil {
		return recordError(want, err)
	}
	if set.site > 0 && rr.Header().Ttl == have.Hdr.Ttl && sameData(rr, have) {
		return nil
	}
	s := c.editSet("", c.apex.name, dns.TypeSOA)
	s.rrs[0] = own(c.over[""], rr)
	s.site = 1
	return nil
}

// derive lets the site's records follow what the transaction changed.
func (c *Candidate) derive(f Derive) error {
	touched, err := c.touched()
	if err != nil || len(touched) == 0 {
		return err
	}
	for _, ch := range f(c, touched) {
		if err := c.siteChange(ch); err != nil {
			return fmt.Errorf("deriving site records: %w", err)
		}
	}
	return nil
}

// siteChange adds or deletes one record of the site.
func (c *Candidate) siteChange(ch Change) error {
	if ch.RR == nil {
		return errors.New("site record is nil")
	}
	h := ch.RR.Header()
	key, ok := c.apex.keyOf(h.Name)
	switch {
	case !ok:
		return recordError(ch.RR, errors.New("outside the zone "+c.apex.name))
	case h.Rrtype == dns.TypeSOA || !Supported(h.Rrtype):
		return recordError(ch.RR, errMetaType)
	}
	rr, err := c.pack.normal(ch.RR)
	if err != nil {
		return recordError(ch.RR, err)
	}
	n := c.get(key)
	set := n.set(h.Rrtype)
	i := -1
	if set != nil {
		i = findData(set.rrs, rr)
	}
	if ch.Delete {
		if i >= 0 && i < int(set.site) {
			c.editSet(key, n.name, h.Rrtype).remove(i)
			c.tidy(key)
		}
		return nil
	}
	if i >= 0 && i < int(set.site) && rr.Header().Ttl == set.ttl() {
		return nil
	}
	s := c.editSet(key, h.Name, h.Rrtype)
	own(c.over[key], rr)
	if i >= 0 && i < int(s.site) {
		s.rrs[i] = rr
	} else {
		if i >= 0 {
			s.rrs = slices.Delete(s.rrs, i, i+1)
		}
		if !joint(key, h.Rrtype) {
			s.rrs = s.rrs[:s.site]
		}
		s.rrs = slices.Insert(s.rrs, int(s.site), rr)
		s.site++
	}
	s.setTTL(rr.Header().Ttl)
	c.yieldToSite(key)
	return nil
}
