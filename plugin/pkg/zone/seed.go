package zone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/miekg/dns"
)

// seedBatch is about how many octets of a new zone are written at once.
const seedBatch = 1 << 20

// CheckSeed reports whether a zone can be made from rrs, as the seed of [Store.Zone], within the limits. The error names
// the record that is in the way; it wraps [ErrLimit] where a limit is.
func CheckSeed(origin string, rrs []dns.RR, limits Limits) error {
	a, err := newApex(origin)
	if err != nil {
		return fmt.Errorf("zone %q: %w", origin, err)
	}
	st, err := seedState(&a, slices.Clone(rrs), new(packer))
	if err != nil {
		return err
	}
	none := newState()
	return limits.orDefaults().check(&none, st.records, st.octets)
}

// seedState makes the first state of a zone. It clears rrs on the way, so that a large zone is not in memory twice.
func seedState(a *apex, rrs []dns.RR, p *packer) (state, error) {
	st := newState()
	for i, rr := range rrs {
		if rr == nil {
			return state{}, errors.New("record is nil")
		}
		rrs[i] = nil
		if err := st.seed(a, rr, p); err != nil {
			return state{}, recordError(rr, err)
		}
	}
	if st.soa() == nil {
		return state{}, errors.New("no SOA record")
	}
	st.tree.Scan(func(e entry) bool {
		for i := range e.node.sets {
			s := &e.node.sets[i]
			s.settle()
			s.rrs = slices.Clip(s.rrs)
			s.owned = false
			st.records += len(s.rrs)
			for _, rr := range s.rrs {
				st.octets += dns.Len(rr)
			}
		}
		if e.node.isCut(e.key) {
			st.cuts++
		}
		return true
	})
	return st, nil
}

// seed adds a record to a state that nobody else has.
func (s *state) seed(a *apex, rr dns.RR, p *packer) error {
	h := rr.Header()
	key, ok := a.keyOf(h.Name)
	switch {
	case !ok:
		return errors.New("outside the zone " + a.name)
	case h.Class != dns.ClassINET:
		return errClass
	case !Supported(h.Rrtype):
		return errors.New("type cannot be kept true while the zone changes")
	}
	r, err := p.normal(rr)
	if err != nil {
		return err
	}
	n := s.get(key)
	if n == nil {
		n = &node{name: r.Header().Name}
		s.tree.Set(entry{key, n})
	}
	set := n.set(h.Rrtype)
	if set == nil {
		set = n.insertSet(rrset{typ: h.Rrtype, owned: true})
	}
	if soa, ok := r.(*dns.SOA); ok && (key != "" || len(set.rrs) > 0 || soa.Serial == 0) {
		return errors.New("one SOA record, at the apex, with a serial other than 0")
	}
	if findData(set.rrs, r) < 0 {
		if len(set.rrs) == maxRRset {
			return tooMany()
		}
		set.rrs = append(set.rrs, own(n, r))
	}
	set.setTTL(r.Header().Ttl)
	if alias := n.set(dns.TypeCNAME); alias != nil && (len(n.sets) > 1 || len(alias.rrs) > 1) {
		return errors.New("a CNAME record stands alone at its name")
	}
	return nil
}

// create writes a new zone: first its records, in many batches, so that the memory that it takes does not depend on
// their number, and then, in the one batch that is synced, what makes them a zone. What a crash leaves half-way belongs
// to no zone, and is removed when the next one takes the number.
func (s *Store) create(a *apex, id uint32, st *state) (err error) {
	if s.db == nil {
		return nil
	}
	batch := s.db.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	for _, kind := range []byte{keyRecord, keyJournal, keyHead} {
		prefix := idKey(kind, id)
		if err := batch.DeleteRange(prefix, prefixEnd(prefix), nil); err != nil {
			return err
		}
	}
	var key, value []byte
	st.tree.Scan(func(e entry) bool {
		for i := range e.node.sets {
			for _, rr := range e.node.sets[i].rrs {
				if rr.Header().Rrtype == dns.TypeSOA {
					continue
				}
				var data []byte
				if data, err = s.pack.data(rr); err == nil {
					key = appendRecordKey(key[:0], id, e.key, rr.Header().Rrtype, data)
					value, err = appendRecordValue(value[:0], rr, false)
				}
				if err != nil {
					err = recordError(rr, err)
					return false
				}
				if err = set(batch, key, value); err != nil {
					return false
				}
			}
		}
		if batch.Len() >= seedBatch {
			if err = s.db.Apply(batch, pebble.NoSync); err == nil {
				err = s.guard.failed()
			}
			batch.Reset()
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	head, err := appendHead(nil, st, &s.pack)
	if err != nil {
		return err
	}
	name, number := zoneKey(a.name), binary.BigEndian.AppendUint32(nil, id)
	if err := errors.Join(set(batch, name, number), set(batch, idKey(keyHead, id), head)); err != nil {
		return err
	}
	return s.write(batch, func() ([]mutation, error) {
		return []mutation{{name, nil}, {idKey(keyHead, id), nil}}, nil
	})
}
