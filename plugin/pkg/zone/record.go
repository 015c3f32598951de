package zone

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/miekg/dns"
)

// maxTTL is the largest TTL; a greater one means 0 (RFC 2181 section 8).
const maxTTL = 1<<31 - 1

// Types that the DNS library knows only by number.
const (
	typeWKS    = 11
	typeNSAP   = 22
	typeA6     = 38
	typeSINK   = 40
	typeDSYNC  = 66
	typeHHIT   = 67
	typeBRID   = 68
	typeDOA    = 259
	typeWALLET = 262
)

var (
	errNoData   = errors.New("record without data")
	errMetaType = errors.New("type is not one of data")
	errClass    = errors.New("class is not IN")
	errShort    = errors.New("record data ends early")
	errUnstable = errors.New("record data has no stable wire form")
)

// metaType reports whether no zone can hold the type: 0, OPT, and the range of question and meta types (RFC 6895
// section 3.1).
func metaType(t uint16) bool {
	return t == dns.TypeNone || t == dns.TypeOPT || t >= 128 && t <= 255
}

// Supported reports whether an UPDATE about records of the type is implemented. It is not for the types that describe
// other records of a zone, so that they would be wrong as soon as those change without being signed or digested again:
// signing happens in front of the zone (the dnssec plugin), never inside. Of types that are not of data (RFC 6895
// section 3.1) it says nothing.
func Supported(t uint16) bool {
	switch t {
	case dns.TypeSIG, dns.TypeKEY, dns.TypeNXT,
		dns.TypeDS, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeDNSKEY,
		dns.TypeNSEC3, dns.TypeNSEC3PARAM,
		dns.TypeTALINK, dns.TypeCDS, dns.TypeCDNSKEY,
		dns.TypeZONEMD, dns.TypeTA, dns.TypeDLV:
		return false
	}
	return true
}

// mayBeEmpty reports whether the data of the type may have no octet at all.
func mayBeEmpty(t uint16) bool {
	switch t {
	case dns.TypeNULL, dns.TypeAPL, dns.TypeEID, dns.TypeNIMLOC:
		return true
	}
	_, known := dns.TypeToRR[t]
	return !known
}

// missingData reports whether rr is a bare header, as deletions and prerequisites have it.
func missingData(rr dns.RR) bool {
	h := rr.Header()
	if h.Rdlength != 0 || mayBeEmpty(h.Rrtype) {
		return false
	}
	if _, ok := rr.(*dns.RR_Header); ok {
		return true
	}
	if raw, ok := rr.(*dns.RFC3597); ok {
		return raw.Rdata == ""
	}
	empty := dns.TypeToRR[h.Rrtype]()
	*empty.Header() = *h
	return dns.IsDuplicate(rr, empty)
}

// endsEarly reports whether record data of length octets in a message, which is the data of rr in uncompressed wire form,
// ended before all of its fields. The DNS library reads a name or an address that was not there as none, which secondaries would refuse the
// zone for, and numbers and strings as 0 and empty, which nobody said. Length is 0 where the data comes from no message.
func endsEarly(rr dns.RR, length, data int) bool {
	saved, lacks := names(reflect.Indirect(reflect.ValueOf(rr)))
	return lacks || length > 0 && length < data-saved
}

// names returns how many octets compression may save in the domain names of record data, or more, and whether one, or an address, lacks.
func names(v reflect.Value) (saved int, lacks bool) {
	for i := range v.NumField() {
		f, t := v.Field(i), v.Type().Field(i)
		if t.Anonymous {
			n, l := names(f)
			saved, lacks = saved+n, lacks || l
		}
		switch t.Tag.Get("dns") {
		case "domain-name", "cdomain-name":
			if f.Kind() != reflect.String { // several
				for i := range f.Len() {
					saved += f.Index(i).Len()
				}
				continue
			}
			lacks = lacks || f.Len() == 0
			saved += f.Len()
		case "ipsechost", "amtrelayhost": // may be no name
			saved += f.Len()
		case "a", "aaaa":
			lacks = lacks || f.Len() == 0
		}
	}
	return saved, lacks
}

// altered reports whether normal made another record of rr, which came in a message. Data that is longer there has something
// that the DNS library does not keep: octets of a bit map that have no bit, which may not be there (RFC 4034 section 4.1.2),
// a backslash in a URI or a CAA value. Better none than another record; but a zone file or a database that was always read is
// not refused for it.
func altered(rr, normal dns.RR) bool {
	if more := int(rr.Header().Rdlength) - int(normal.Header().Rdlength); more > 0 {
		saved, _ := names(reflect.Indirect(reflect.ValueOf(normal)))
		return more > min(saved, 2) // a name may end with a pointer to a root label, which is shorter; few types have more than two
	}
	return outsidePrefix(rr)
}

// outsidePrefix reports whether an address prefix has bits behind its end (RFC 3123 section 4), which the DNS library leaves out
// on the way back.
func outsidePrefix(rr dns.RR) bool {
	apl, ok := rr.(*dns.APL)
	return ok && slices.ContainsFunc(apl.Prefixes, func(p dns.APLPrefix) bool {
		return !p.Network.IP.Equal(p.Network.IP.Mask(p.Network.Mask))
	})
}

// exact is rr, but opaque (RFC 3597) if it is an ISDN record without a subaddress, which came in a message or from the database:
// the DNS library writes it with an empty one, and that is another record (RFC 1183 section 3.2).
func exact(rr dns.RR) dns.RR {
	r, ok := rr.(*dns.ISDN)
	if !ok || r.SubAddress != "" {
		return rr
	}
	address := octets(r.Address)
	if int(r.Hdr.Rdlength) != 1+len(address) {
		return rr
	}
	return &dns.RFC3597{Hdr: r.Hdr, Rdata: fmt.Sprintf("%02x%x", len(address), address)}
}

// packer turns records into wire form without touching them: dns.PackRR writes into the record's header, which is
// wrong for a record that others read.
type packer struct {
	msg   dns.Msg
	one   [1]dns.RR
	buf   []byte
	plain []byte // what plain.go makes
	text  []byte // scratch of it

	key, value []byte // scratch of what is written to the database
}

// packers are for those who are not the committer, which has its own.
var packers = sync.Pool{New: func() any { return new(packer) }}

const messageHeader = 12

// record returns the uncompressed wire form of rr: valid until the next call.
func (p *packer) record(rr dns.RR) ([]byte, error) {
	if wire, ok := p.plainRecord(p.plain[:0], rr); ok {
		p.plain = wire
		return wire, nil
	}
	return p.anyRecord(rr)
}

// anyRecord is record for all types.
func (p *packer) anyRecord(rr dns.RR) ([]byte, error) {
	if p.buf == nil {
		p.buf = make([]byte, 4096)
	}
	p.one[0] = rr
	p.msg.Answer = p.one[:]
	wire, err := p.msg.PackBuffer(p.buf)
	p.one[0] = nil
	if err != nil {
		return nil, err
	}
	if len(wire) > len(p.buf) {
		p.buf = wire[:cap(wire)]
	}
	return wire[messageHeader:], nil
}

// data returns the record data of rr in uncompressed wire form: valid until the next call.
func (p *packer) data(rr dns.RR) ([]byte, error) {
	if data, ok := p.plainData(p.plain[:0], rr); ok {
		p.plain = data
		return data, nil
	}
	wire, err := p.anyRecord(rr)
	if err != nil {
		return nil, err
	}
	return recordData(wire)
}

// recordData is the data of a record in uncompressed wire form.
func recordData(wire []byte) ([]byte, error) {
	i := 0
	for i < len(wire) && wire[i] != 0 {
		i += int(wire[i]) + 1
	}
	i += 1 + 10 // root label; type, class, TTL, length
	if i > len(wire) {
		return nil, errors.New("record too short")
	}
	return wire[i:], nil
}

// normal returns rr as it would come back from the wire and from the database: a record of class IN that nobody else
// holds, with names in their one presentation form. It refuses what cannot stand in a zone as a record.
func (p *packer) normal(rr dns.RR) (dns.RR, error) {
	if out := p.plainNormal(rr); out != nil {
		return out, nil
	}
	return p.anyNormal(rr)
}

// anyNormal is normal for all types.
func (p *packer) anyNormal(rr dns.RR) (dns.RR, error) {
	rr = exact(rr)
	h := rr.Header()
	if metaType(h.Rrtype) {
		return nil, errMetaType
	}
	if missingData(rr) {
		return nil, errNoData
	}
	wire, err := p.anyRecord(rr)
	if err != nil {
		return nil, err
	}
	data, err := recordData(wire)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 && !mayBeEmpty(h.Rrtype) {
		return nil, errNoData
	}
	out, next, err := dns.UnpackRR(wire, 0)
	if err != nil {
		return nil, err
	}
	if next != len(wire) {
		return nil, errUnstable
	}
	out = exact(out)
	if endsEarly(out, int(h.Rdlength), len(data)) {
		return nil, errShort
	}
	first := append(make([]byte, 0, 256), data...)
	again, err := p.data(out)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, again) {
		return nil, errUnstable
	}
	g := out.Header()
	g.Class = dns.ClassINET
	if g.Ttl > maxTTL {
		g.Ttl = 0
	}
	return out, nil
}

// sameData reports whether two records of one name and type have equal data; names in it compare without case.
// Both are normal: class IN.
func sameData(a, b dns.RR) bool { return a == b || dns.IsDuplicate(a, b) }

// findData returns the index in rrs, the records of one RRset, of the record with the data of rr, or -1. Service discovery
// has RRsets of thousands, one record for each device, so the types that it uses are compared without the owner name, and
// where they differ first. All are in normal form: equal names differ in nothing but case.
func findData(rrs []dns.RR, rr dns.RR) int {
	switch want := rr.(type) {
	case *dns.PTR:
		for i, r := range rrs {
			if x, ok := r.(*dns.PTR); ok && foldEqual(x.Ptr, want.Ptr) {
				return i
			}
		}
		return -1
	case *dns.SRV:
		for i, r := range rrs {
			if x, ok := r.(*dns.SRV); ok && x.Port == want.Port && x.Priority == want.Priority && x.Weight == want.Weight &&
				foldEqual(x.Target, want.Target) {
				return i
			}
		}
		return -1
	}
	for i, r := range rrs {
		if sameData(r, rr) {
			return i
		}
	}
	return -1
}

// foldEqual reports whether a and b differ in nothing but the case of ASCII letters.
func foldEqual(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x |= 0x20; x != y|0x20 || x < 'a' || x > 'z' {
			return false
		}
	}
	return true
}

// sameService reports whether two WKS records are about the same address and protocol: the first five octets of their
// data. RFC 2136 section 3.4.2.2 lets a newer one replace the older.
func sameService(a, b dns.RR) bool {
	x, ok1 := a.(*dns.RFC3597)
	y, ok2 := b.(*dns.RFC3597)
	const digits = 2 * 5
	return ok1 && ok2 && len(x.Rdata) >= digits && len(y.Rdata) >= digits && x.Rdata[:digits] == y.Rdata[:digits]
}

// withTTL returns a copy of rr with another TTL.
func withTTL(rr dns.RR, ttl uint32) dns.RR {
	c := dns.Copy(rr)
	c.Header().Ttl = ttl
	return c
}

// serialNewer is RFC 1982's "greater"; the undefined half-way case is not.
func serialNewer(a, b uint32) bool { return a != b && a-b < 1<<31 }

// nextSerial is the serial after s; 0 is skipped (RFC 2136 section 7.11).
func nextSerial(s uint32) uint32 {
	if s++; s == 0 {
		return 1
	}
	return s
}

// typeName is the mnemonic of a type, TYPE12345 where it has none.
func typeName(t uint16) string { return dns.Type(t).String() }

func recordError(rr dns.RR, err error) error {
	h := rr.Header()
	return fmt.Errorf("record %s %s: %w", h.Name, typeName(h.Rrtype), err)
}
