package zone

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	maxChain      = 16  // CNAME and DNAME steps inside the zone
	maxAdditional = 128 // records in the additional section
)

// Result is the answer to one question. The records are shared: see [Snapshot].
type Result struct {
	Rcode             int
	Answer, Ns, Extra []dns.RR
	// Authoritative is false for a referral, and for a name that is not in the zone.
	Authoritative bool
	// Target is the name outside the zone at which a chain of aliases ends: the caller may go on there. Else "".
	Target string

	referral bool // the records in Ns delegate
}

// Lookup answers a question of class IN (RFC 1034 section 4.3.2, RFC 4592, RFC 6672).
//
// Records are returned with their owner name as stored; those that come from a wildcard, with the name that was asked
// for. ANY is answered with one RRset (RFC 8482 section 4.1). A negative answer has the SOA record in Ns, with the TTL
// of RFC 2308. Positive answers have no authority section: RFC 1034 asks for none, no resolver needs it, and two NS records
// make a small answer half as long again and signed ones much longer. A loop of aliases is SERVFAIL. A name outside the zone is REFUSED. Transfers are the
// caller's to answer, from [Snapshot.All].
func (s *Snapshot) Lookup(qname string, qtype uint16) Result {
	res := Result{Authoritative: true}
	var visited []string
	for name := qname; ; {
		key, ok := s.apex.keyOf(name)
		if !ok {
			if len(res.Answer) == 0 {
				return Result{Rcode: dns.RcodeRefused}
			}
			res.Target = name
			return res
		}
		if slices.Contains(visited, key) {
			res.Rcode = dns.RcodeServerFailure // a loop is signalled as an error (RFC 1034 section 3.6.2)
			return res
		}
		if len(visited) == maxChain {
			return res // what was found is true, and the resolver can go on from there
		}
		next, done := s.step(&res, name, key, qtype)
		if done {
			return res
		}
		visited = append(visited, key)
		name = next
	}
}

// step answers for one name, and returns the name to go on with unless it is done.
func (s *Snapshot) step(res *Result, name, key string, qtype uint16) (next string, done bool) {
	if s.state.cuts > 0 {
		if at, n := s.cut(key, qtype); n != nil {
			if set := n.set(dns.TypeDNAME); set != nil && at != key && (at == "" || n.set(dns.TypeNS) == nil) {
				return s.redirect(res, name, at, set, qtype)
			}
			s.refer(res, n)
			return "", true
		}
	}
	n := s.state.get(key)
	wildcard := false
	if n == nil {
		below, ok := s.state.next(key)
		if ok && strings.HasPrefix(below.key, key) {
			s.deny(res, dns.RcodeSuccess)
			return "", true
		}
		source := s.encloser(key, below.key) + "*\x00"
		if n = s.state.get(source); n == nil {
			if s.state.hasBelow(source) {
				s.deny(res, dns.RcodeSuccess)
			} else {
				s.deny(res, dns.RcodeNameError)
			}
			return "", true
		}
		wildcard = true
	}
	var set *rrset
	switch alias := n.set(dns.TypeCNAME); {
	case qtype == dns.TypeANY:
		set = &n.sets[0]
	case alias != nil:
		set = alias
	default:
		set = n.set(qtype)
	}
	if set == nil {
		s.deny(res, dns.RcodeSuccess)
		return "", true
	}
	rrs := set.records()
	if wildcard {
		rrs = synthesize(rrs, name)
	}
	res.answer(rrs)
	if set.typ == dns.TypeCNAME && qtype != dns.TypeCNAME && qtype != dns.TypeANY {
		if cname, ok := rrs[0].(*dns.CNAME); ok {
			return cname.Target, false
		}
	}
	if qtype != dns.TypeANY { // the answer is to be small
		s.additional(res, rrs)
	}
	return "", true
}

// cut returns the first node on the way from the apex to key that takes the names below it away: a delegation, or a
// DNAME above key. The DS records of a delegation are still this zone's (RFC 4035 section 3.1.4.1).
func (s *Snapshot) cut(key string, qtype uint16) (at string, found *node) {
	parentKeys(key, func(parent string) bool {
		n := s.state.get(parent)
		if n != nil && (parent != "" && n.set(dns.TypeNS) != nil || n.set(dns.TypeDNAME) != nil) {
			at, found = parent, n
			return false
		}
		return true
	})
	if found != nil || key == "" || qtype == dns.TypeDS {
		return at, found
	}
	if n := s.state.get(key); n.set(dns.TypeNS) != nil {
		return key, n
	}
	return "", nil
}

// encloser is the key of the closest encloser (RFC 4592 section 3.3.1) of a name without a node of its own and with
// none below it: its nearest ancestor that exists is on the way to the name before it or to the one after it.
func (s *Snapshot) encloser(key, after string) string {
	closest := commonAncestor(key, after)
	if before, ok := s.state.previous(key); ok {
		if c := commonAncestor(key, before.key); len(c) > len(closest) {
			closest = c
		}
	}
	return closest
}

// deny makes the answer negative: NXDOMAIN, or NOERROR without data. After an alias the code is that of its target
// (RFC 6604 section 3).
func (s *Snapshot) deny(res *Result, rcode int) {
	res.Rcode = rcode
	res.Ns = s.negative
}

// refer makes the answer a referral. After an alias inside the zone the answer as a whole stays authoritative.
func (s *Snapshot) refer(res *Result, n *node) {
	res.Authoritative = len(res.Answer) > 0
	set := n.set(dns.TypeNS)
	res.Ns = set.records()
	res.referral = true
	s.additional(res, set.rrs)
}

// redirect follows a DNAME (RFC 6672 section 3.2): its record, and the CNAME record that it means for name.
func (s *Snapshot) redirect(res *Result, name, at string, set *rrset, qtype uint16) (next string, done bool) {
	dname, ok := set.rrs[0].(*dns.DNAME)
	if !ok {
		s.deny(res, dns.RcodeServerFailure)
		return "", true
	}
	res.answer(set.records())
	start, over := dns.PrevLabel(name, labelCount(at)+dns.CountLabel(s.apex.name))
	if over {
		s.deny(res, dns.RcodeServerFailure)
		return "", true
	}
	target := name[:start]
	if dname.Target != "." {
		target += dname.Target
	}
	if _, ok := dns.IsDomainName(target); !ok {
		res.Rcode = dns.RcodeYXDomain // too long (section 2.2)
		return "", true
	}
	res.Answer = append(res.Answer, &dns.CNAME{
		Hdr:    dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: dname.Hdr.Ttl},
		Target: target,
	})
	return target, qtype == dns.TypeCNAME || qtype == dns.TypeANY
}

// synthesize returns the records of a wildcard with the name that was asked for.
func synthesize(rrs []dns.RR, name string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = name
	}
	return out
}

// additional adds what the reader of these records will ask for next, as far as it is in the zone: addresses of hosts
// (RFC 1035, RFC 1183, RFC 2230, RFC 2782, RFC 9460 section 4.1), and for the PTR records of service discovery the
// services behind them (RFC 6763 section 12.1). Glue belongs to referrals alone: elsewhere it would be taken for data of
// the zone, and signed as such by who signs answers (RFC 4035 section 2.2).
func (s *Snapshot) additional(res *Result, rrs []dns.RR) {
	for _, rr := range rrs {
		if len(res.Extra) >= maxAdditional {
			return
		}
		switch r := rr.(type) {
		case *dns.NS:
			s.addresses(res, r.Ns)
		case *dns.MX:
			s.addresses(res, r.Mx)
		case *dns.SRV:
			s.addresses(res, r.Target)
		case *dns.SVCB:
			s.binding(res, r)
		case *dns.HTTPS:
			s.binding(res, &r.SVCB)
		case *dns.PTR:
			s.service(res, r.Ptr)
		case *dns.AFSDB:
			s.addresses(res, r.Hostname)
		case *dns.RT:
			s.addresses(res, r.Host)
		case *dns.KX:
			s.addresses(res, r.Exchanger)
		default:
			return
		}
	}
}

// binding adds what a service binding (SVCB, HTTPS) leads to: the addresses of its host, which is the owner where the
// target is "." (RFC 9460 section 2.5.2), and for an alias the bindings there. An alias to "." leads nowhere.
func (s *Snapshot) binding(res *Result, r *dns.SVCB) {
	host := r.Target
	switch {
	case r.Priority == 0:
		res.extra(s.within(host, false).set(r.Hdr.Rrtype))
	case host == ".":
		host = r.Hdr.Name
	}
	s.addresses(res, host)
}

// within returns the node at name if its data is the zone's to tell: not below a DNAME, and if it is at a
// delegation or below one, only as glue.
func (s *Snapshot) within(name string, glue bool) *node {
	key, ok := s.apex.keyOf(name)
	if !ok {
		return nil
	}
	n := s.state.get(key)
	if n != nil && s.state.cuts > 0 {
		if _, cut := s.cut(key, dns.TypeNone); cut != nil && (!glue || cut.set(dns.TypeNS) == nil) {
			return nil
		}
	}
	return n
}

func (s *Snapshot) addresses(res *Result, host string) {
	n := s.within(host, res.referral)
	res.extra(n.set(dns.TypeA))
	res.extra(n.set(dns.TypeAAAA))
}

func (s *Snapshot) service(res *Result, instance string) {
	n := s.within(instance, false)
	srv := n.set(dns.TypeSRV)
	if srv == nil {
		return
	}
	res.extra(srv)
	res.extra(n.set(dns.TypeTXT))
	for _, rr := range srv.rrs {
		if r, ok := rr.(*dns.SRV); ok {
			s.addresses(res, r.Target)
		}
	}
}

// answer adds an RRset to the answer, unless it is there already: aliases may pass the same DNAME more than once.
func (r *Result) answer(rrs []dns.RR) {
	switch {
	case r.Answer == nil:
		r.Answer = rrs
	case !slices.Contains(r.Answer, rrs[0]):
		r.Answer = append(r.Answer, rrs...)
	}
}

// extra adds an RRset to the additional section, unless it is there or in the answer already.
func (r *Result) extra(set *rrset) {
	if set == nil || len(r.Extra)+len(set.rrs) > maxAdditional ||
		slices.Contains(r.Extra, set.rrs[0]) || slices.Contains(r.Answer, set.rrs[0]) {
		return
	}
	r.Extra = append(r.Extra, set.rrs...)
}
