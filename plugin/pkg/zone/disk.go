package zone

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/miekg/dns"
)

// The database. All numbers are big-endian; a zone is known by a number, so that its name stands in the keys once.
//
//	f                                 -> format: what the database is, and its version
//	z NAME                            -> id(4)                         NAME: canonical, presentation form
//	h id(4)                           -> flags(1) records(8) ttl(4) [owner] SOA data
//	r id(4) owner-key 0 type(2) data  -> flags(1) ttl(4) [owner]
//
// There is one h for each zone, written with every change: it has the SOA record and the number of all records, itself
// included. Every other record is one r: its key has the owner in canonical order, the type and the data, so that
// adding to an RRset and deleting from it touches nothing else, and so that reading the keys in order builds the tree.
// Data is in uncompressed wire form. The owner in a value is the name in wire form, and is there only if it is not all
// lower case. The keys that begin with j are the journal's (journal.go).
const (
	keyFormat = 'f'
	keyZone   = 'z'
	keyHead   = 'h'
	keyRecord = 'r'

	formatText    = "dicomnam zones "
	formatVersion = 1

	flagSite  = 1 << 0
	flagOwner = 1 << 1
)

// ErrCorrupt is wrapped by every error about stored data that is not what was written.
var ErrCorrupt = errors.New("database is corrupt")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

func formatValue() []byte { return fmt.Appendf(nil, "%s%d", formatText, formatVersion) }

// checkFormat tells a database of another kind from one of another version.
func checkFormat(value []byte) error {
	if slices.Equal(value, formatValue()) {
		return nil
	}
	var version int
	if rest, ok := strings.CutPrefix(string(value), formatText); ok {
		if n, err := fmt.Sscanf(rest, "%d", &version); n == 1 && err == nil && version > formatVersion {
			return fmt.Errorf("database has format %d, and this program knows formats up to %d: it was written by a newer one", version, formatVersion)
		}
	}
	return corrupt("format is %.40q, want %q", value, formatValue())
}

func zoneKey(name string) []byte { return append([]byte{keyZone}, name...) }

func idKey(kind byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, id)
}

// prefixEnd is the first key after all that begin with prefix.
func prefixEnd(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func appendRecordKey(dst []byte, id uint32, owner string, t uint16, data []byte) []byte {
	dst = append(dst, keyRecord)
	dst = binary.BigEndian.AppendUint32(dst, id)
	dst = append(dst, owner...)
	dst = append(dst, keyEnd)
	dst = binary.BigEndian.AppendUint16(dst, t)
	return append(dst, data...)
}

// appendOwner appends the owner name in wire form unless it is all lower case, and tells with a flag.
func appendOwner(dst []byte, name string) ([]byte, byte, error) {
	if name == canonicalName(name) {
		return dst, 0, nil
	}
	var wire [maxName]byte
	n, err := dns.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil {
		return nil, 0, err
	}
	return append(dst, wire[:n]...), flagOwner, nil
}

func appendRecordValue(dst []byte, rr dns.RR, site bool) ([]byte, error) {
	at := len(dst)
	dst = append(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, rr.Header().Ttl)
	dst, flags, err := appendOwner(dst, rr.Header().Name)
	if err != nil {
		return nil, err
	}
	if site {
		flags |= flagSite
	}
	dst[at] = flags
	return dst, nil
}

func appendHead(dst []byte, s *state, p *packer) ([]byte, error) {
	set := s.get("").set(dns.TypeSOA)
	if set == nil {
		return nil, errors.New("zone without SOA record")
	}
	return encodeHead(dst, set.rrs[0], set.site > 0, uint64(s.records), p)
}

func encodeHead(dst []byte, soa dns.RR, site bool, records uint64, p *packer) ([]byte, error) {
	data, err := p.data(soa)
	if err != nil {
		return nil, recordError(soa, err)
	}
	h := soa.Header()
	at := len(dst)
	dst = append(dst, 0)
	dst = binary.BigEndian.AppendUint64(dst, records)
	dst = binary.BigEndian.AppendUint32(dst, h.Ttl)
	dst, flags, err := appendOwner(dst, h.Name)
	if err != nil {
		return nil, err
	}
	if site {
		flags |= flagSite
	}
	dst[at] = flags
	return append(dst, data...), nil
}

// stored is one record as it was read.
type stored struct {
	key  string
	name string // "": lower case, as the key says
	rr   dns.RR // its owner name is to be filled in
	site bool
}

// cutOwner reads an owner name in wire form at the start of b, which must be that of key, in other case.
func (a *apex) cutOwner(b []byte, key string) (name string, rest []byte, err error) {
	name, n, err := dns.UnpackDomainName(b, 0)
	if err != nil {
		return "", nil, corrupt("owner name %x: %v", b, err)
	}
	if n != nameLength(b) {
		return "", nil, corrupt("owner name %x is compressed", b)
	}
	if k, ok := a.keyOf(name); !ok || k != key {
		return "", nil, corrupt("owner name %q does not belong to its key", name)
	}
	if name == canonicalName(name) {
		return "", nil, corrupt("owner name %q is stored without need", name)
	}
	return name, b[n:], nil
}

// unpack reads stored record data, which is what packing it again gives: in damaged data, the DNS library takes fields that
// are not there as 0 or empty, follows compression that was never written, and skips what it does not keep. The owner name is
// to be filled in.
func (p *packer) unpack(t uint16, ttl uint32, data []byte) (dns.RR, error) {
	switch {
	case metaType(t) || !Supported(t):
		return nil, corrupt("record of type %s", typeName(t))
	case len(data) > 1<<16-1:
		return nil, corrupt("record data of %d octets", len(data))
	case len(data) == 0 && !mayBeEmpty(t):
		return nil, corrupt("%s record without data", typeName(t))
	case ttl > maxTTL:
		return nil, corrupt("TTL %d", ttl)
	}
	h := dns.RR_Header{Name: ".", Rrtype: t, Class: dns.ClassINET, Ttl: ttl, Rdlength: uint16(len(data))}
	rr, n, err := dns.UnpackRRWithHeader(h, data, 0)
	if err != nil {
		return nil, corrupt("%s record data %.200x: %v", typeName(t), data, err)
	}
	if n != len(data) {
		return nil, corrupt("%s record data has %d octets too many", typeName(t), len(data)-n)
	}
	rr = exact(rr)
	switch t {
	case dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeDHCID: // most records of most zones, and nothing of theirs gets lost
		return rr, nil
	}
	if again, err := p.data(rr); err != nil || !bytes.Equal(again, data) {
		return nil, corrupt("%s record data %.200x would be written in another way", typeName(t), data)
	}
	return rr, nil
}

// decodeRecord reads an r. rest is its key without the r and the zone's number.
func (a *apex) decodeRecord(rest, value []byte, p *packer) (stored, error) {
	end := 0
	for end < len(rest) && rest[end] != keyEnd { // label by label to the empty one
		i := slices.Index(rest[end:], keyEnd)
		if i < 0 {
			return stored{}, corrupt("record key %.200x has no end of the owner", rest)
		}
		end += i + 1
	}
	if len(rest) < end+1+2 {
		return stored{}, corrupt("record key %.200x is too short", rest)
	}
	if len(value) < 5 || value[0]&^(flagSite|flagOwner) != 0 {
		return stored{}, corrupt("record value %.200x", value)
	}
	s := stored{key: string(rest[:end]), site: value[0]&flagSite != 0}
	owner := value[0]&flagOwner != 0
	t := binary.BigEndian.Uint16(rest[end+1:])
	if t == dns.TypeSOA {
		return stored{}, corrupt("SOA record among the others")
	}
	var err error
	if s.rr, err = p.unpack(t, binary.BigEndian.Uint32(value[1:]), rest[end+3:]); err != nil {
		return stored{}, err
	}
	value = value[5:]
	if owner {
		if s.name, value, err = a.cutOwner(value, s.key); err != nil {
			return stored{}, err
		}
	}
	if len(value) > 0 {
		return stored{}, corrupt("record value has %d octets too many", len(value))
	}
	return s, nil
}

// decodeHead reads an h.
func (a *apex) decodeHead(value []byte, p *packer) (s stored, records uint64, err error) {
	if len(value) < 13 || value[0]&^(flagSite|flagOwner) != 0 {
		return stored{}, 0, corrupt("zone head %.200x", value)
	}
	s.site = value[0]&flagSite != 0
	owner := value[0]&flagOwner != 0
	records = binary.BigEndian.Uint64(value[1:])
	ttl := binary.BigEndian.Uint32(value[9:])
	value = value[13:]
	if owner {
		if s.name, value, err = a.cutOwner(value, ""); err != nil {
			return stored{}, 0, err
		}
	}
	if s.rr, err = p.unpack(dns.TypeSOA, ttl, value); err != nil {
		return stored{}, 0, err
	}
	if soa, ok := s.rr.(*dns.SOA); !ok || soa.Serial == 0 {
		return stored{}, 0, corrupt("SOA record with serial 0")
	}
	return s, records, nil
}

// loader builds a zone from its records in the order of their keys.
type loader struct {
	apex  *apex
	state state
	key   string
	node  *node // being filled
}

func (l *loader) add(s stored) error {
	if l.node == nil || s.key != l.key {
		if l.node != nil && s.key <= l.key {
			return corrupt("keys out of order")
		}
		l.finish()
		name := s.name
		if name == "" {
			var err error
			if name, err = l.apex.nameOf(s.key); err != nil {
				return corrupt("owner key %x", s.key)
			}
		}
		l.key, l.node = s.key, &node{name: name}
	} else if s.name != l.node.name && (s.name != "" || l.node.name != canonicalName(l.node.name)) {
		return corrupt("%s is stored in two spellings", l.node.name)
	}
	h := s.rr.Header()
	h.Name = l.node.name
	set := l.node.set(h.Rrtype)
	if set == nil {
		set = l.node.insertSet(rrset{typ: h.Rrtype})
	} else if set.ttl() != h.Ttl {
		return corrupt("%s %s has two TTLs", h.Name, typeName(h.Rrtype))
	}
	if s.site {
		set.rrs = slices.Insert(set.rrs, int(set.site), s.rr)
		set.site++
	} else {
		set.rrs = append(set.rrs, s.rr)
	}
	if len(l.node.sets) > 1 && l.node.set(dns.TypeCNAME) != nil {
		return corrupt("%s has a CNAME record and others", h.Name)
	}
	l.state.records++
	l.state.octets += dns.Len(s.rr)
	return nil
}

// finish puts the node that was being filled into the tree, whose last it is.
func (l *loader) finish() {
	if l.node == nil {
		return
	}
	l.state.tree.Load(entry{key: l.key, node: l.node})
	if l.node.siteRecords() > 0 {
		l.state.site.Load(l.key)
	}
	if l.node.isCut(l.key) {
		l.state.cuts++
	}
	l.node = nil
}

// loadZone reads a zone.
func loadZone(db pebble.Reader, a *apex, id uint32, p *packer) (state, error) {
	l := loader{apex: a, state: newState()}
	value, closer, err := db.Get(idKey(keyHead, id))
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			return state{}, corrupt("zone without a head")
		}
		return state{}, err
	}
	head, records, err := a.decodeHead(value, p)
	if cerr := closer.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = l.add(head)
	}
	if err != nil {
		return state{}, err
	}
	prefix := idKey(keyRecord, id)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return state{}, err
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		var s stored
		if s, err = a.decodeRecord(it.Key()[len(prefix):], it.Value(), p); err == nil {
			err = l.add(s)
		}
	}
	if err == nil {
		err = it.Error()
	}
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return state{}, err
	}
	l.finish()
	if uint64(l.state.records) != records {
		return state{}, corrupt("zone has %d records, and its head says %d", l.state.records, records)
	}
	return l.state, nil
}

// mutation is one key to set, or, without a value, to delete.
type mutation struct{ key, value []byte }

func appendBatch(b *pebble.Batch, ms []mutation) error {
	for _, m := range ms {
		if err := set(b, m.key, m.value); err != nil {
			return err
		}
	}
	return nil
}

// set sets a key, or deletes it if the value is nil. The batch keeps neither.
func set(b *pebble.Batch, key, value []byte) error {
	if value == nil {
		return b.Delete(key, nil)
	}
	return b.Set(key, value, nil)
}

// each calls f with the key and the value of every record that the difference removes, and then of every one that it
// adds; both are valid until f returns.
func (d *difference) each(id uint32, p *packer, f func(key, value []byte, added bool) error) error {
	key, value := p.key, p.value
	defer func() { p.key, p.value = key, value }()
	for i, side := range [...][]delta{d.removed, d.added} {
		for _, x := range side {
			t := x.rr.Header().Rrtype
			if t == dns.TypeSOA {
				continue
			}
			var data []byte
			var err error
			if x.wire != nil {
				data, err = recordData(x.wire)
			} else {
				data, err = p.data(x.rr)
			}
			if err == nil {
				key = appendRecordKey(key[:0], id, x.key, t, data)
				value, err = appendRecordValue(value[:0], x.rr, x.site)
			}
			if err != nil {
				return recordError(x.rr, err)
			}
			if err := f(key, value, i == 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// write adds the difference to a batch.
func (d *difference) write(b *pebble.Batch, id uint32, p *packer) error {
	return d.each(id, p, func(key, value []byte, added bool) error {
		if !added {
			value = nil
		}
		return set(b, key, value)
	})
}

// undo appends what takes the difference back, if the last comes first.
func (d *difference) undo(ms []mutation, id uint32, p *packer) ([]mutation, error) {
	err := d.each(id, p, func(key, value []byte, added bool) error {
		m := mutation{key: slices.Clone(key)}
		if !added {
			m.value = slices.Clone(value)
		}
		ms = append(ms, m)
		return nil
	})
	return ms, err
}
