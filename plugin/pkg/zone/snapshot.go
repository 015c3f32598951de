package zone

import (
	"iter"

	"github.com/miekg/dns"
)

// Snapshot is one immutable state of a zone: reading it takes no lock, and it stays what it is however the zone goes on.
//
// The slices and records that its methods return are shared by all readers. The caller must not change them, neither a
// header's TTL nor anything else; whoever has to, copies the record (dns.Copy) or the message first. Appending to such a
// slice is safe, because it always copies. Packing a message (dns.Msg.Pack) is safe; dns.PackRR is not, as it writes
// into the record's header.
type Snapshot struct {
	apex     *apex
	state    state
	soaSet   []dns.RR
	soa      *dns.SOA
	negative []dns.RR // the SOA record with the TTL of a negative answer
}

// newSnapshot publishes a copy of s.
func newSnapshot(a *apex, s *state) *Snapshot {
	snap := &Snapshot{apex: a, state: s.copy()}
	set := snap.state.get("").set(dns.TypeSOA)
	if set == nil {
		return snap
	}
	snap.soaSet = set.records()
	snap.soa = snap.state.soa()
	if snap.soa != nil { // RFC 2308 section 3
		negative := dns.Copy(snap.soa)
		negative.Header().Ttl = min(snap.soa.Hdr.Ttl, snap.soa.Minttl)
		snap.negative = []dns.RR{negative}
	}
	return snap
}

// Serial is the serial of the SOA record.
func (s *Snapshot) Serial() uint32 {
	if s.soa == nil {
		return 0
	}
	return s.soa.Serial
}

// SOA is the zone's SOA record, shared.
func (s *Snapshot) SOA() *dns.SOA { return s.soa }

// Len is the number of records, SOA included.
func (s *Snapshot) Len() int { return s.state.records }

// Size is the number of octets of all records in uncompressed wire form.
func (s *Snapshot) Size() int { return s.state.octets }

// RRset returns the records of a type that stand at a name, delegated or not, without wildcards and aliases.
func (s *Snapshot) RRset(name string, t uint16) []dns.RR {
	key, ok := s.apex.keyOf(name)
	if !ok {
		return nil
	}
	if set := s.state.get(key).set(t); set != nil {
		return set.records()
	}
	return nil
}

// All yields every record once: the SOA record first, then name by name in canonical order (RFC 4034 section 6.1),
// glue included. It holds no lock however long the caller takes.
func (s *Snapshot) All() iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		for _, rr := range s.soaSet {
			if !yield(rr) {
				return
			}
		}
		s.state.tree.Scan(func(e entry) bool {
			for i := range e.node.sets {
				if e.key == "" && e.node.sets[i].typ == dns.TypeSOA {
					continue
				}
				for _, rr := range e.node.sets[i].rrs {
					if !yield(rr) {
						return false
					}
				}
			}
			return true
		})
	}
}

// Site yields the records of the site file, in canonical order.
func (s *Snapshot) Site() iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		s.state.site.Scan(func(key string) bool {
			for _, set := range s.state.get(key).sets {
				for _, rr := range set.rrs[:set.site] {
					if !yield(rr) {
						return false
					}
				}
			}
			return true
		})
	}
}
