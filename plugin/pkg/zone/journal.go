package zone

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/miekg/dns"
)

// The journal of a zone is what its last changes did, one revision for each serial, so that a secondary gets the
// differences and not the whole zone (RFC 1995). It is part of the zone's state: published with it, undone with it, and
// written in the same batch as the change that it describes.
//
//	j id(4) number(8) -> SOA before, SOA after, removed(4) records
//
// Revisions are numbered without a gap, since a serial may jump and wraps. The value has the SOA record before and after,
// how many records the change removed, then those, then the ones that it added; all in uncompressed wire form. A
// revision begins with the SOA record with which the one before it ends, and the last ends with the zone's.
//
// The journal is read and checked when the zone is loaded: revisions that do not lead to the zone as it is are an error
// like all other damage, since the zone was then written by something that does not understand it. A journal that is not
// there at all is none: a zone begins with an empty one.
const (
	// keyJournal is the first octet of a revision's key.
	keyJournal = 'j'

	// A journal keeps at most maxRevisions changes, and as many octets as the zone has, but not less than
	// minJournal, nor more than maxJournal. What does not fit is dropped, oldest first.
	maxRevisions = 10_000
	minJournal   = 1 << 20
	maxJournal   = 16 << 20
)

// revision is one change of a zone.
type revision struct {
	from  uint32 // the serial before
	value []byte // as on disk
}

// journal is a list of revisions that is copied by assignment. Copies share the array below: only the committer appends
// to it, behind the end of all that was published.
type journal struct {
	first     uint64 // number of the first revision
	revisions []revision
	octets    int // of all values
}

func journalKey(id uint32, number uint64) []byte {
	key := append(make([]byte, 0, 1+4+8), keyJournal)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(key, id), number)
}

// logEntry is a revision that a transaction added to a journal or dropped from it.
type logEntry struct {
	number  uint64
	value   []byte
	dropped bool
}

// add appends a revision, and drops what does not fit beside a zone of the size. It tells both in the order of doing.
func (j *journal) add(log []logEntry, r revision, size int) []logEntry {
	most := min(max(size, minJournal), maxJournal)
	drop := func() {
		old := j.revisions[0].value
		log = append(log, logEntry{number: j.first, value: old, dropped: true})
		j.first++
		j.revisions = j.revisions[1:]
		j.octets -= len(old)
	}
	if len(r.value) > most { // those before it would no longer lead to the zone
		for len(j.revisions) > 0 {
			drop()
		}
		return log
	}
	log = append(log, logEntry{number: j.first + uint64(len(j.revisions)), value: r.value})
	j.revisions = append(j.revisions, r)
	j.octets += len(r.value)
	for len(j.revisions) > maxRevisions || j.octets > most {
		drop()
	}
	return log
}

// revise returns the revision that the difference makes, and gives its records their wire form.
func (d *difference) revise(p *packer) (revision, error) {
	size := 4
	for _, x := range d.removed {
		size += dns.Len(x.rr)
	}
	for _, x := range d.added {
		size += dns.Len(x.rr)
	}
	value := make([]byte, 0, size)
	pack := func(x *delta) (err error) {
		value, err = x.pack(value, p)
		return err
	}
	var from uint32
	soas := 0
	for _, side := range [][]delta{d.removed, d.added} {
		for i := range side {
			if soa, ok := side[i].rr.(*dns.SOA); ok {
				if soas++; soas == 1 {
					from = soa.Serial
				}
				if err := pack(&side[i]); err != nil {
					return revision{}, err
				}
			}
		}
	}
	if soas != 2 {
		return revision{}, errors.New("change without a serial")
	}
	value = binary.BigEndian.AppendUint32(value, uint32(len(d.removed)-1))
	for _, side := range [][]delta{d.removed, d.added} {
		for i := range side {
			if side[i].rr.Header().Rrtype != dns.TypeSOA {
				if err := pack(&side[i]); err != nil {
					return revision{}, err
				}
			}
		}
	}
	return revision{from, value}, nil
}

// pack appends the wire form of the record to dst, and keeps it.
func (x *delta) pack(dst []byte, p *packer) ([]byte, error) {
	wire := x.wire
	if wire == nil {
		var err error
		if wire, err = p.record(x.rr); err != nil {
			return nil, recordError(x.rr, err)
		}
	}
	at := len(dst)
	dst = append(dst, wire...)
	x.wire = dst[at:len(dst):len(dst)]
	return dst, nil
}

// pack gives the records of the difference their wire form.
func (d *difference) pack(p *packer) error {
	buf := make([]byte, 0, 1<<12)
	for _, side := range [][]delta{d.removed, d.added} {
		for i := range side {
			if len(buf)+1<<10 > cap(buf) { // so that it is not copied as it grows
				buf = make([]byte, 0, 2*cap(buf))
			}
			var err error
			if buf, err = side[i].pack(buf, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// cutRecord takes a record in uncompressed wire form from the start of b; nil if there is none.
func cutRecord(b []byte) (wire, rest []byte) {
	i := 0
	for i < len(b) && b[i] != 0 && b[i] < 0x40 {
		i += int(b[i]) + 1
	}
	if len(b) < i+11 || b[i] != 0 {
		return nil, nil
	}
	i += 11
	if i += int(binary.BigEndian.Uint16(b[i-2:])); len(b) < i {
		return nil, nil
	}
	return b[:i:i], b[i:]
}

// parts of a revision's value; the slices are parts of it.
type parts struct {
	was, is        []byte // SOA records
	removed, added [][]byte
}

func splitRevision(value []byte) (p parts, ok bool) {
	if p.was, value = cutRecord(value); p.was == nil {
		return parts{}, false
	}
	if p.is, value = cutRecord(value); p.is == nil || len(value) < 4 {
		return parts{}, false
	}
	n := binary.BigEndian.Uint32(value)
	value = value[4:]
	var all [][]byte
	for len(value) > 0 {
		var wire []byte
		if wire, value = cutRecord(value); wire == nil {
			return parts{}, false
		}
		all = append(all, wire)
	}
	if uint64(n) > uint64(len(all)) {
		return parts{}, false
	}
	p.removed, p.added = all[:n], all[n:]
	return p, true
}

// decodeWire reads a record of the zone.
func (a *apex) decodeWire(wire []byte, p *packer) (dns.RR, error) {
	name, n, err := dns.UnpackDomainName(wire, 0)
	if err != nil || len(wire) < n+10 {
		return nil, corrupt("record %.200x in the journal", wire)
	}
	key, ok := a.keyOf(name)
	if !ok {
		return nil, corrupt("record of %q in the journal", name)
	}
	t := binary.BigEndian.Uint16(wire[n:])
	if class := binary.BigEndian.Uint16(wire[n+2:]); class != dns.ClassINET || t == dns.TypeSOA && key != "" {
		return nil, corrupt("%s record of class %d at %s in the journal", typeName(t), class, name)
	}
	rr, err := p.unpack(t, binary.BigEndian.Uint32(wire[n+4:]), wire[n+10:])
	if err != nil {
		return nil, err
	}
	rr.Header().Name = name
	return rr, nil
}

// decodeRevision reads a revision completely.
func (a *apex) decodeRevision(value []byte, p *packer) (revision, parts, error) {
	ps, ok := splitRevision(value)
	if !ok {
		return revision{}, parts{}, corrupt("revision %.200x", value)
	}
	var serials [2]uint32
	for i, wire := range [][]byte{ps.was, ps.is} {
		rr, err := a.decodeWire(wire, p)
		if err != nil {
			return revision{}, parts{}, err
		}
		soa, ok := rr.(*dns.SOA)
		if !ok || soa.Serial == 0 {
			return revision{}, parts{}, corrupt("revision without a serial")
		}
		serials[i] = soa.Serial
	}
	if !serialNewer(serials[1], serials[0]) {
		return revision{}, parts{}, corrupt("revision from serial %d to %d", serials[0], serials[1])
	}
	for _, wires := range [][][]byte{ps.removed, ps.added} {
		for _, wire := range wires {
			rr, err := a.decodeWire(wire, p)
			if err != nil {
				return revision{}, parts{}, err
			}
			if rr.Header().Rrtype == dns.TypeSOA {
				return revision{}, parts{}, corrupt("SOA record among the others in the journal")
			}
		}
	}
	return revision{serials[0], value}, ps, nil
}

// loadJournal reads the journal of the zone that s is.
func loadJournal(db pebble.Reader, a *apex, id uint32, s *state, p *packer) (err error) {
	prefix := idKey(keyJournal, id)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	j := &s.journal
	var last []byte // SOA record
	for it.First(); it.Valid(); it.Next() {
		rest := it.Key()[len(prefix):]
		if len(rest) != 8 {
			return corrupt("journal key %x", it.Key())
		}
		number := binary.BigEndian.Uint64(rest)
		if len(j.revisions) == 0 {
			j.first = number
		} else if number != j.first+uint64(len(j.revisions)) {
			return corrupt("journal has a gap before revision %d", number)
		}
		r, ps, err := a.decodeRevision(slices.Clone(it.Value()), p)
		if err != nil {
			return err
		}
		if last != nil && !bytes.Equal(ps.was, last) {
			return corrupt("journal has a gap before serial %d", r.from)
		}
		last = ps.is
		j.revisions = append(j.revisions, r)
		j.octets += len(r.value)
	}
	if err := it.Error(); err != nil || last == nil {
		return err
	}
	soa := s.get("").set(dns.TypeSOA).rrs[0]
	now, err := p.record(soa)
	if err != nil {
		return recordError(soa, err)
	}
	if !bytes.Equal(now, last) {
		return corrupt("journal does not end with the zone's SOA record")
	}
	return nil
}

// Difference is what leads from one version of a zone to a later one. SOA records are not among the others.
type Difference struct {
	From, To       *dns.SOA
	Removed, Added []dns.RR
}

// Since returns the difference between the version with the serial and this one, as one step: a record that came and
// went, or went and came back, is not in it. It is false where the journal does not know, or no longer knows, exactly one
// such version, where that is this one, and where the difference is larger than the zone. It takes time in proportion to
// what the journal holds since then, 16 MiB at most, and no lock. The records are the caller's, but To is shared.
//
// The records of one owner name have its spelling, and all records of an RRset are in the difference if its TTL changed.
func (s *Snapshot) Since(serial uint32) (Difference, bool) {
	at := -1
	revisions := s.state.journal.revisions
	for i := range revisions {
		if revisions[i].from != serial {
			continue
		}
		if at >= 0 { // the serial has gone round
			return Difference{}, false
		}
		at = i
	}
	if at < 0 || serial == s.Serial() {
		return Difference{}, false
	}
	d := Difference{To: s.soa}
	net := make(map[string]int8) // 1: added, -1: removed, 0: as it was
	for i, r := range revisions[at:] {
		p, ok := splitRevision(r.value)
		if !ok {
			return Difference{}, false // not for what was checked or made here
		}
		if i == 0 {
			rr, _, err := dns.UnpackRR(p.was, 0)
			if err != nil {
				return Difference{}, false
			}
			if d.From, ok = rr.(*dns.SOA); !ok {
				return Difference{}, false
			}
		}
		for _, wire := range p.removed {
			net[string(wire)]--
		}
		for _, wire := range p.added {
			net[string(wire)]++
		}
	}
	octets := 0
	maps.DeleteFunc(net, func(wire string, n int8) bool {
		if n != 0 {
			octets += len(wire)
		}
		return n == 0
	})
	if octets > s.state.octets {
		return Difference{}, false
	}
	for _, wire := range slices.Sorted(maps.Keys(net)) {
		rr, _, err := dns.UnpackRR([]byte(wire), 0)
		if err != nil {
			return Difference{}, false
		}
		if net[wire] < 0 {
			d.Removed = append(d.Removed, exact(rr))
		} else {
			d.Added = append(d.Added, exact(rr))
		}
	}
	return d, true
}
