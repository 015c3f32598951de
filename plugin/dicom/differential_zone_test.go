package dicom

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// A sample is a random zone, small and dense enough for its names to get into
// each other's way.
type sample struct {
	origin string
	owners []string // in the order made, the apex first
	text   string   // the zone file
	types  map[string][]uint16
	next   *sample // the zone that some aliases lead to; nil without
}

// folded is the zone file with owner names in lower case and in the escapes of
// the wire.
func (s *sample) folded() string {
	var b strings.Builder
	for line := range strings.Lines(s.text) {
		owner, rest, _ := strings.Cut(line, " ")
		fmt.Fprintf(&b, "%s %s", dns.CanonicalName(normalName(owner)), rest)
	}
	return b.String()
}

// holds reports whether the zone has records at a name.
func (s *sample) holds(name string) bool {
	name = dns.CanonicalName(normalName(name))
	return slices.ContainsFunc(s.owners, func(o string) bool { return dns.CanonicalName(normalName(o)) == name })
}

// labels are few, so that owners share parents. They need no escapes, but for
// those that are here for their escapes.
var labels = []string{"a", "b", "c", "D", "Mixed", "_tcp", "w", "w1", `x\.y`, `q\@q`, `\255z`, `\000`}

func randomLabel(r *rand.Rand) string {
	if r.IntN(8) == 0 {
		return "*"
	}
	if r.IntN(3) > 0 {
		return labels[r.IntN(4)]
	}
	return labels[r.IntN(len(labels))]
}

func randomOwner(r *rand.Rand, origin string) string {
	name := origin
	for range 1 + r.IntN(1+r.IntN(4)) {
		name = randomLabel(r) + "." + name
	}
	return name
}

// empty reports whether a name, here or in the next zone, has no records but
// names with records below it.
func (s *sample) empty(name string) bool {
	if s.next != nil && dns.IsSubDomain(s.next.origin, name) {
		s = s.next
	}
	name = dns.CanonicalName(normalName(name))
	return !s.holds(name) && slices.ContainsFunc(s.owners, func(o string) bool { return dns.IsSubDomain(name, dns.CanonicalName(normalName(o))) })
}

// below reports whether an ancestor of name, here or in the next zone, has
// records of a type, other than the NS records of the zone.
func (s *sample) below(name string, t uint16) bool {
	if s.next != nil && dns.IsSubDomain(s.next.origin, name) {
		s = s.next
	}
	name = dns.CanonicalName(normalName(name))
	return slices.ContainsFunc(s.owners, func(o string) bool {
		owner := dns.CanonicalName(normalName(o))
		return owner != name && (owner != s.origin || t != dns.TypeNS) && dns.IsSubDomain(owner, name) && slices.Contains(s.types[o], t)
	})
}

// A sampler makes one sample.
type sampler struct {
	r        *rand.Rand
	origin   string
	others   []string // zones that the servers have, too
	owners   []string
	sets     map[string]map[uint16][]string // canonical owner, type -> data
	spelling map[string]string              // canonical owner -> as written
}

func newSample(r *rand.Rand, origin string, size int, others []string) *sample {
	s := &sampler{r: r, origin: origin, others: others, sets: map[string]map[uint16][]string{}, spelling: map[string]string{}}
	s.add(origin, dns.TypeSOA, "ns."+origin+" hostmaster."+origin+" 10 3600 600 86400 60")
	if r.IntN(15) == 0 { // then the servers' names cannot be in the zone
		s.add(origin, dns.TypeDNAME, s.target())
		s.add(origin, dns.TypeNS, "host0.example.net.")
	} else {
		s.add(origin, dns.TypeNS, "ns."+origin)
		s.add("ns."+origin, dns.TypeA, "192.0.2.53")
	}
	if r.IntN(3) == 0 {
		s.add(origin, dns.TypeNS, "host1.example.net.")
	}
	for range size {
		s.random()
	}
	return s.sample()
}

// target is a name that data points at: often one that exists.
func (s *sampler) target() string {
	switch n := s.r.IntN(20); {
	case n < 9:
		return s.owners[s.r.IntN(len(s.owners))]
	case n < 15:
		return randomOwner(s.r, s.origin)
	case n < 18 && len(s.others) > 0:
		return randomOwner(s.r, s.others[s.r.IntN(len(s.others))])
	default:
		return "host" + fmt.Sprint(s.r.IntN(3)) + ".example.net."
	}
}

func (s *sampler) host() string { return fmt.Sprintf("192.0.2.%d", 1+s.r.IntN(250)) }

// random adds what one device, or one administrator, would.
func (s *sampler) random() {
	owner := randomOwner(s.r, s.origin)
	if s.r.IntN(4) == 0 {
		owner = randomLabel(s.r) + "." + s.owners[s.r.IntN(len(s.owners))]
	}
	n := s.r.IntN(100)
	if n >= 64 && n < 80 && len(s.owners) > s.r.IntN(40) {
		owner = fmt.Sprintf("sub%d.%s", s.r.IntN(3), owner) // do not hide a large part of the zone
	}
	switch {
	case n < 25:
		s.add(owner, dns.TypeA, s.host())
		if s.r.IntN(3) == 0 {
			s.add(owner, dns.TypeAAAA, fmt.Sprintf("2001:db8::%x", 1+s.r.IntN(1000)))
		}
	case n < 32:
		s.add(owner, dns.TypeTXT, fmt.Sprintf(`"AET=CT%d" "k=v"`, s.r.IntN(3)))
	case n < 42:
		s.add(owner, dns.TypeSRV, fmt.Sprintf("0 %d 104 %s", s.r.IntN(3), s.target()))
	case n < 48:
		s.add(owner, dns.TypeMX, fmt.Sprintf("%d %s", s.r.IntN(3), s.target()))
	case n < 64:
		s.add(owner, dns.TypeCNAME, s.target())
	case n < 69:
		s.add(owner, dns.TypeDNAME, s.target())
	case n < 80:
		for range 1 + s.r.IntN(2) {
			ns := s.target()
			if s.r.IntN(2) == 0 {
				ns = "ns." + owner
				s.add(ns, dns.TypeA, s.host())
			}
			s.add(owner, dns.TypeNS, ns)
		}
	case n < 84:
		s.add(owner, dns.TypeHTTPS, fmt.Sprintf("%d %s", s.r.IntN(2), s.targetOrSelf()))
	case n < 87:
		s.add(owner, dns.TypeSVCB, fmt.Sprintf("%d %s", s.r.IntN(2), s.targetOrSelf()))
	case n < 92: // DNS-SD
		instance := `CT\.1.` + owner
		s.add(owner, dns.TypePTR, instance)
		s.add(instance, dns.TypeSRV, "0 0 104 "+s.target())
		s.add(instance, dns.TypeTXT, `"AET=CT1"`)
	case n < 95:
		s.add(owner, dns.TypePTR, s.target())
	case n < 97:
		s.add(owner, 65280, fmt.Sprintf(`\# 2 %04x`, s.r.IntN(3)))
	case n < 98:
		s.add(owner, dns.TypeAFSDB, "1 "+s.target())
	default:
		s.add(owner, dns.TypeNAPTR, `10 10 "u" "E2U+sip" "!^.*$!sip:info@example.org!" .`)
	}
}

func (s *sampler) targetOrSelf() string {
	if s.r.IntN(3) == 0 {
		return "."
	}
	return s.target()
}

// add adds a record where the standards allow one.
func (s *sampler) add(owner string, t uint16, data string) {
	if _, ok := dns.IsDomainName(owner); !ok {
		return
	}
	canonical := dns.CanonicalName(owner)
	sets := s.sets[canonical]
	one := t == dns.TypeCNAME || t == dns.TypeDNAME
	switch {
	case t == dns.TypeCNAME && len(sets) > 0, sets[dns.TypeCNAME] != nil,
		one && sets[t] != nil,
		t == dns.TypeDNAME && sets[dns.TypeNS] != nil && canonical != s.origin, // RFC 6672 section 2.3
		t == dns.TypeNS && sets[dns.TypeDNAME] != nil && canonical != s.origin,
		// Undefined: RFC 4592 section 4.2, RFC 6672 section 3.3.
		(t == dns.TypeNS || t == dns.TypeDNAME) && strings.HasPrefix(owner, "*."),
		slices.ContainsFunc(sets[t], func(d string) bool { return strings.EqualFold(d, data) }):
		return
	}
	if sets == nil {
		sets = map[uint16][]string{}
		s.sets[canonical] = sets
		s.spelling[canonical] = owner
		s.owners = append(s.owners, owner)
	}
	sets[t] = append(sets[t], data)
}

func (s *sampler) sample() *sample {
	out := &sample{origin: s.origin, owners: s.owners, types: map[string][]uint16{}}
	var b strings.Builder
	for _, owner := range s.owners {
		sets := s.sets[dns.CanonicalName(owner)]
		types := make([]uint16, 0, len(sets))
		for t := range sets {
			types = append(types, t)
		}
		slices.SortFunc(types, func(x, y uint16) int { // SOA first
			if x == dns.TypeSOA || y == dns.TypeSOA {
				return int(y) - int(x)
			}
			return int(x) - int(y)
		})
		out.types[owner] = types
		for _, t := range types {
			for _, data := range sets[t] {
				fmt.Fprintf(&b, "%s %d IN %s %s\n", owner, 100+int(t)%50, dns.Type(t), data)
			}
		}
	}
	out.text = b.String()
	return out
}

var askedTypes = []uint16{
	dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeSRV, dns.TypeMX, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME,
	dns.TypeDNAME, dns.TypeDS, dns.TypePTR, dns.TypeANY, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeNAPTR, 65280, 65281,
}

// question is about a name of the zone, or near one.
func (s *sample) question(r *rand.Rand) dns.Question {
	owner := s.owners[r.IntN(len(s.owners))]
	name := owner
	switch n := r.IntN(100); {
	case n < 40:
	case n < 55: // below
		for range 1 + r.IntN(2) {
			name = randomLabel(r) + "." + name
		}
	case n < 70: // above: often an empty non-terminal
		if off, end := dns.NextLabel(name, 0); !end && dns.IsSubDomain(s.origin, name[off:]) {
			name = name[off:]
		}
	case n < 85: // beside
		if off, end := dns.NextLabel(name, 0); !end && dns.IsSubDomain(s.origin, name[off:]) {
			name = randomLabel(r) + "." + name[off:]
		}
	case n < 97:
		name = randomOwner(r, s.origin)
	default:
		name = s.origin
	}
	if _, ok := dns.IsDomainName(name); !ok {
		name = owner
	}
	t := askedTypes[r.IntN(len(askedTypes))]
	if types := s.types[name]; len(types) > 0 && r.IntN(2) == 0 {
		t = types[r.IntN(len(types))]
	}
	if r.IntN(2) == 0 {
		name = randomCase(r, name)
	}
	return dns.Question{Name: normalName(name), Qtype: t, Qclass: dns.ClassINET}
}

// normalName is the name as it comes from the wire.
func normalName(name string) string {
	wire := make([]byte, 256)
	n, err := dns.PackDomainName(name, wire, 0, nil, false)
	if err != nil {
		panic(err)
	}
	name, _, err = dns.UnpackDomainName(wire[:n], 0)
	if err != nil {
		panic(err)
	}
	return name
}

func randomCase(r *rand.Rand, name string) string {
	b := []byte(name)
	for i, c := range b {
		if (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') && r.IntN(2) == 0 {
			b[i] ^= 0x20
		}
	}
	return string(b)
}
