package zone

import (
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// verdict is a result code other than NOERROR, with the reason where a client cannot guess it.
type verdict struct {
	rcode int
	err   error
}

var accepted = verdict{rcode: dns.RcodeSuccess}

// transaction is an UPDATE as far as it can be judged without the zone's state: on the goroutine of its client, and not
// where all the others wait for it.
type transaction struct {
	prerequisites []prerequisite
	judged        verdict // by permission and prescan; counts once the prerequisites hold
	changes       []change
}

// prerequisite is one checked record of a prerequisite section.
type prerequisite struct {
	key    string
	typ    uint16
	class  uint16
	rr     dns.RR  // normal; only of class IN
	judged verdict // if it is not accepted, whatever the zone holds
}

// owner remembers the forms of a name, since the records of an update mostly have the same.
type owner struct {
	name, canonical, key string
	inside               bool
}

func (o *owner) is(a *apex, name string) {
	if name == "" || name != o.name {
		o.name, o.canonical = name, canonicalName(name)
		o.key, o.inside = a.keyOf(name)
	}
}

// prepare does all of an RFC 2136 transaction that needs no state of the zone. What it finds is told by
// [Candidate.update], in the order of section 3: prerequisites, permission, prescan.
func prepare(a *apex, prerequisites, updates []dns.RR, permit func(string, uint16) bool) transaction {
	p, _ := packers.Get().(*packer)
	defer packers.Put(p)
	var o owner
	var t transaction
	if len(prerequisites) > 0 {
		t.prerequisites = make([]prerequisite, len(prerequisites))
	}
	for i, rr := range prerequisites {
		q := &t.prerequisites[i]
		if *q = examine(a, &o, rr, p); q.judged != accepted {
			t.prerequisites = t.prerequisites[:i+1] // it goes no further
			return t
		}
	}
	for _, rr := range updates {
		if rr == nil {
			t.judged = verdict{rcode: dns.RcodeFormatError}
			return t
		}
		h := rr.Header()
		if o.is(a, h.Name); permit == nil || !permit(o.canonical, h.Rrtype) {
			t.judged = verdict{dns.RcodeRefused, fmt.Errorf("%s %s: %w", h.Name, typeName(h.Rrtype), ErrNotPermitted)}
			return t
		}
	}
	t.changes = make([]change, len(updates))
	for i, rr := range updates {
		if t.changes[i], t.judged = prescan(a, &o, rr, p); t.judged != accepted {
			return t
		}
	}
	return t
}

// update runs an RFC 2136 transaction on the candidate. It does not count limits, derive, or number the zone.
func (c *Candidate) update(t *transaction) verdict {
	if v := c.prerequisites(t.prerequisites); v != accepted {
		return v
	}
	if t.judged != accepted {
		return t.judged
	}
	for _, ch := range t.changes {
		if err := c.apply(ch); err != nil {
			return verdict{dns.RcodeRefused, err}
		}
	}
	return accepted
}

// examine checks the form of a prerequisite (section 3.2.5).
func examine(a *apex, o *owner, rr dns.RR, p *packer) prerequisite {
	formErr := prerequisite{judged: verdict{rcode: dns.RcodeFormatError}}
	if rr == nil {
		return formErr
	}
	h := rr.Header()
	if h.Ttl != 0 {
		return formErr
	}
	if o.is(a, h.Name); !o.inside {
		return prerequisite{judged: verdict{rcode: dns.RcodeNotZone}}
	}
	if !Supported(h.Rrtype) {
		return prerequisite{judged: verdict{rcode: dns.RcodeNotImplemented}}
	}
	q := prerequisite{key: o.key, typ: h.Rrtype, class: h.Class}
	switch h.Class {
	case dns.ClassANY, dns.ClassNONE:
		if h.Rdlength != 0 || metaType(h.Rrtype) && h.Rrtype != dns.TypeANY {
			return formErr
		}
	case dns.ClassINET:
		var err error
		if q.rr, err = p.normal(rr); err != nil || altered(rr, q.rr) {
			return formErr
		}
	default:
		return formErr
	}
	return q
}

// prerequisites is section 3.2.
func (c *Candidate) prerequisites(qs []prerequisite) verdict {
	type setKey struct {
		name string
		typ  uint16
	}
	var wanted map[setKey][]dns.RR
	var order []setKey
	for i := range qs {
		q := &qs[i]
		if q.judged != accepted {
			return q.judged
		}
		if q.class == dns.ClassINET {
			if wanted == nil {
				wanted = make(map[setKey][]dns.RR)
			}
			k := setKey{q.key, q.typ}
			if wanted[k] == nil {
				order = append(order, k)
			}
			if findData(wanted[k], q.rr) < 0 {
				wanted[k] = append(wanted[k], q.rr)
			}
			continue
		}
		n := c.get(q.key)
		there := n != nil
		missing, present := dns.RcodeNameError, dns.RcodeYXDomain
		if q.typ != dns.TypeANY {
			there = n.set(q.typ) != nil
			missing, present = dns.RcodeNXRrset, dns.RcodeYXRrset
		}
		switch {
		case q.class == dns.ClassANY && !there:
			return verdict{rcode: missing}
		case q.class == dns.ClassNONE && there:
			return verdict{rcode: present}
		}
	}
	for _, k := range order {
		set := c.get(k.name).set(k.typ)
		if set == nil || len(set.rrs) != len(wanted[k]) {
			return verdict{rcode: dns.RcodeNXRrset}
		}
		for _, rr := range wanted[k] {
			if findData(set.rrs, rr) < 0 {
				return verdict{rcode: dns.RcodeNXRrset}
			}
		}
	}
	return accepted
}

// change is one checked record of an update section.
type change struct {
	key   string
	typ   uint16
	class uint16
	rr    dns.RR // normal; nil where the change has no data
}

// prescan is section 3.4.1.
func prescan(a *apex, o *owner, rr dns.RR, p *packer) (change, verdict) {
	h := rr.Header()
	formErr := verdict{rcode: dns.RcodeFormatError}
	if o.is(a, h.Name); !o.inside {
		return change{}, verdict{rcode: dns.RcodeNotZone}
	}
	ch := change{key: o.key, typ: h.Rrtype, class: h.Class}
	if metaType(h.Rrtype) && (h.Rrtype != dns.TypeANY || h.Class != dns.ClassANY) {
		return change{}, formErr
	}
	switch h.Class {
	case dns.ClassINET:
	case dns.ClassANY:
		if h.Ttl != 0 || h.Rdlength != 0 {
			return change{}, formErr
		}
	case dns.ClassNONE:
		if h.Ttl != 0 {
			return change{}, formErr
		}
	default:
		return change{}, formErr
	}
	if !Supported(h.Rrtype) {
		return change{}, verdict{rcode: dns.RcodeNotImplemented}
	}
	if h.Class == dns.ClassANY {
		return ch, accepted
	}
	r, err := p.normal(rr)
	if err != nil {
		if h.Class == dns.ClassNONE && errors.Is(err, errNoData) {
			return ch, accepted // equal to no record
		}
		return change{}, formErr
	}
	if altered(rr, r) || h.Class == dns.ClassINET && malformed(r) {
		return change{}, formErr
	}
	ch.rr = r
	if soa, ok := r.(*dns.SOA); ok && h.Class == dns.ClassINET && (o.key != "" || soa.Serial == 0) {
		return change{}, formErr // section 7.11: serial 0 is avoided
	}
	return ch, accepted
}

// apply is section 3.4.2. Its only error is that a record is the site's.
func (c *Candidate) apply(ch change) error {
	switch {
	case ch.class == dns.ClassINET:
		return c.add(ch.key, ch.rr)
	case ch.class == dns.ClassANY && ch.typ == dns.TypeANY:
		return c.removeName(ch.key)
	case ch.class == dns.ClassANY:
		return c.removeSet(ch.key, ch.typ)
	case ch.rr != nil:
		return c.removeRecord(ch.key, ch.rr)
	}
	return nil
}
