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

// update runs an RFC 2136 transaction on the candidate, in the order of section 3: prerequisites, permission, prescan,
// then the changes. It does not count limits, derive, or number the zone.
func (c *Candidate) update(prerequisites, updates []dns.RR, permit func(string, uint16) bool) verdict {
	if v := c.prerequisites(prerequisites); v != accepted {
		return v
	}
	for _, rr := range updates {
		if rr == nil {
			return verdict{rcode: dns.RcodeFormatError}
		}
		h := rr.Header()
		if permit == nil || !permit(canonicalName(h.Name), h.Rrtype) {
			return verdict{dns.RcodeRefused, fmt.Errorf("%s %s: %w", h.Name, typeName(h.Rrtype), ErrNotPermitted)}
		}
	}
	changes := make([]change, len(updates))
	for i, rr := range updates {
		var v verdict
		if changes[i], v = c.prescan(rr); v != accepted {
			return v
		}
	}
	for _, ch := range changes {
		if err := c.apply(ch); err != nil {
			return verdict{dns.RcodeRefused, err}
		}
	}
	return accepted
}

// prerequisites is section 3.2.
func (c *Candidate) prerequisites(rrs []dns.RR) verdict {
	type setKey struct {
		name string
		typ  uint16
	}
	var wanted map[setKey][]dns.RR
	var order []setKey
	for _, rr := range rrs {
		if rr == nil {
			return verdict{rcode: dns.RcodeFormatError}
		}
		h := rr.Header()
		if h.Ttl != 0 {
			return verdict{rcode: dns.RcodeFormatError}
		}
		key, ok := c.apex.keyOf(h.Name)
		if !ok {
			return verdict{rcode: dns.RcodeNotZone}
		}
		if !Supported(h.Rrtype) {
			return verdict{rcode: dns.RcodeNotImplemented}
		}
		switch h.Class {
		case dns.ClassANY, dns.ClassNONE:
			if h.Rdlength != 0 || metaType(h.Rrtype) && h.Rrtype != dns.TypeANY {
				return verdict{rcode: dns.RcodeFormatError}
			}
			n := c.get(key)
			there := n != nil
			missing, present := dns.RcodeNameError, dns.RcodeYXDomain
			if h.Rrtype != dns.TypeANY {
				there = n.set(h.Rrtype) != nil
				missing, present = dns.RcodeNXRrset, dns.RcodeYXRrset
			}
			switch {
			case h.Class == dns.ClassANY && !there:
				return verdict{rcode: missing}
			case h.Class == dns.ClassNONE && there:
				return verdict{rcode: present}
			}
		case dns.ClassINET:
			r, err := c.pack.normal(rr)
			if err != nil {
				return verdict{rcode: dns.RcodeFormatError}
			}
			if wanted == nil {
				wanted = make(map[setKey][]dns.RR)
			}
			k := setKey{key, h.Rrtype}
			if wanted[k] == nil {
				order = append(order, k)
			}
			if findData(wanted[k], r) < 0 {
				wanted[k] = append(wanted[k], r)
			}
		default:
			return verdict{rcode: dns.RcodeFormatError}
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
func (c *Candidate) prescan(rr dns.RR) (change, verdict) {
	h := rr.Header()
	formErr := verdict{rcode: dns.RcodeFormatError}
	key, ok := c.apex.keyOf(h.Name)
	if !ok {
		return change{}, verdict{rcode: dns.RcodeNotZone}
	}
	ch := change{key: key, typ: h.Rrtype, class: h.Class}
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
	r, err := c.pack.normal(rr)
	if err != nil {
		if h.Class == dns.ClassNONE && errors.Is(err, errNoData) {
			return ch, accepted // equal to no record
		}
		return change{}, formErr
	}
	ch.rr = r
	if soa, ok := r.(*dns.SOA); ok && h.Class == dns.ClassINET && (key != "" || soa.Serial == 0) {
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
