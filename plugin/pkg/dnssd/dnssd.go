// Package dnssd makes the DNS records of a site: the names of its hosts and
// its DICOM services as DICOM PS3.15 H.2 and RFC 6763 describe them, with the
// older form of DICOM's own example beside it (RFC 2782: SRV at the service
// itself, TXT at the host).
//
// A service must not outlive the address of its host (RFC 5505 section 3.2.1):
// somebody who browses for a PACS at night must not be sent to a machine that
// left with its lease. So a publication has two parts. Some records always
// stand. Each of the others names the hosts that it depends on and stands while
// one of them has its address. Whoever holds the zone asks, inside the
// transaction that changes an address, what that means ([Publication.Touched]),
// and so a service appears and vanishes in the very serial of its address. The
// package itself keeps no state and knows no zone: it is the rule, not the data.
//
// Addresses that are leased are not made here. They come by DNS UPDATE from the
// DHCP side, which alone knows about them.
package dnssd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"

	"github.com/miekg/dns"
)

// Timers of a zone whose SOA is made from the site file. Secondaries get a
// NOTIFY for each change, so refresh is only the safety net; expire follows
// RFC 1912 section 2.2 (two to four weeks).
const (
	soaRefresh = 3600
	soaRetry   = 600
	soaExpire  = 14 * 24 * 3600
	// negativeTTL bounds how long a resolver remembers that a name is missing
	// (RFC 2308), which is how long a device that has just come up stays unseen
	// by someone who asked too early. It is the smaller of the SOA's TTL and its
	// last field, so both are set to it.
	negativeTTL = 60
)

// A Host is a name that has an address, as a condition.
type Host struct {
	Name    string     // canonical: lower case, trailing dot
	Address netip.Addr // the zero Addr means any address
}

// A View is what a publication asks about the zone.
type View interface {
	// HasAddress reports whether the host has the address.
	HasAddress(Host) bool
	// Others reports whether records of that type at the name are not the site's.
	Others(name string, rrtype uint16) bool
}

// A Conditional is a record that stands while any host of While has its address.
type Conditional struct {
	RR     dns.RR
	While  []Host // never empty
	Yields bool   // and while nobody else has records of its type at its name
}

// A Publication is what a site says about one zone. It does not change once
// made, and its records must not be changed: they are shared.
type Publication struct {
	SOA         *dns.SOA      // its serial is 0: the holder of the zone counts
	Fixed       []dns.RR      // always stand; NS of the zone first
	Conditional []Conditional // in the order of the site file

	byHost    map[string][]int // host name -> indexes in Conditional
	instances map[string]bool  // canonical names of the site's services in the zone
	services  map[string]bool  // canonical names of their types
	others    map[string]bool  // canonical names of the site's other services
}

// Publish returns what s says about zone, a domain name. A zone below
// in-addr.arpa or ip6.arpa gets the PTR records of hosts whose address is not
// leased, and where to browse from there; any other zone gets names and
// services. Only records inside the zone are returned, so a zone that has
// nothing to do with the site gets SOA and NS.
//
// A service whose host lies outside the zone is always published, since the
// zone cannot see the address of that host. So is the list of service types:
// it tells what the site has, not what is up. A name that is too long for DNS
// (255 octets) is left out.
//
// Others are zones that are served beside it: what belongs to one of them that is
// below zone lies outside of zone.
func Publish(s *site.Site, zone string, others ...string) *Publication {
	b := &builder{
		site: s,
		zone: dns.CanonicalName(zone),
		ttl:  seconds(s.TTL),
		seen: make(map[recordKey]int, 6*len(s.Devices)),
		publication: &Publication{
			byHost: make(map[string][]int, len(s.Devices)), instances: make(map[string]bool), services: make(map[string]bool),
			others: make(map[string]bool),
		},
	}
	for _, other := range others {
		if other = dns.CanonicalName(other); other != b.zone && dns.IsSubDomain(b.zone, other) {
			b.apart = append(b.apart, other)
		}
	}
	b.apex()
	if dns.IsSubDomain("in-addr.arpa.", b.zone) || dns.IsSubDomain("ip6.arpa.", b.zone) {
		b.pointers()
		b.browsedFrom()
	} else {
		b.hosts()
		b.services()
		b.browsed()
		b.applications()
	}
	return b.finish()
}

// Records returns all records that stand now, without the SOA. The view is
// asked only about hosts of While.
func (p *Publication) Records(v View) []dns.RR {
	rrs := make([]dns.RR, 0, len(p.Fixed)+len(p.Conditional))
	rrs = append(rrs, p.Fixed...)
	for _, c := range p.Conditional {
		if c.stands(v) {
			rrs = append(rrs, c.RR)
		}
	}
	return rrs
}

// Touched returns what a change at these canonical host names means: the
// records that depend on one of them and stand now, and those that do not.
// Names that no record depends on cost one look-up each.
func (p *Publication) Touched(names []string, v View) (put, drop []dns.RR) {
	var done map[int]bool
	for _, name := range names {
		for _, i := range p.byHost[name] {
			if done[i] {
				continue
			}
			if done == nil {
				done = make(map[int]bool)
			}
			done[i] = true
			if c := p.Conditional[i]; c.stands(v) {
				put = append(put, c.RR)
			} else {
				drop = append(drop, c.RR)
			}
		}
	}
	return put, drop
}

// Reserves reports whether records of that type at a canonical name are the
// site's alone, also while none is there: nobody else may speak for a service
// of the site that is switched off. PTR records beside the site's are welcome
// (RFC 6763), SRV records at the same place are not.
func (p *Publication) Reserves(name string, rrtype uint16) bool {
	return p.instances[name] || rrtype == dns.TypeSRV && (p.services[name] || p.others[name])
}

func (c Conditional) stands(v View) bool {
	if c.Yields && v.Others(c.RR.Header().Name, c.RR.Header().Rrtype) {
		return false
	}
	return slices.ContainsFunc(c.While, v.HasAddress)
}

// seconds returns d as a TTL (RFC 2181 section 8).
func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), 1<<31-1))
}

// A builder collects the records of one zone.
type builder struct {
	site  *site.Site
	zone  string   // canonical
	apart []string // zones below it, canonical
	ttl   uint32

	publication *Publication
	records     []Conditional     // without hosts: fixed
	seen        map[recordKey]int // index in records
}

// A recordKey tells records apart by owner, type and data, without the case of
// the owner.
type recordKey struct {
	owner  string
	rrtype uint16
	data   string
}

func keyOf(rr dns.RR) recordKey {
	k := recordKey{owner: dns.CanonicalName(rr.Header().Name), rrtype: rr.Header().Rrtype}
	switch r := rr.(type) {
	case *dns.PTR:
		k.data = r.Ptr
	case *dns.SRV:
		k.data = fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, r.Target)
	case *dns.TXT:
		k.data = strings.Join(r.Txt, "\x00") // which no string has: it is escaped
	default:
		k.data = strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return k
}

// add puts rr into the zone, if it belongs there. No hosts means that it always
// stands. The same record from two sources is one record that stands while
// either does.
func (b *builder) add(rr dns.RR, while []Host) { b.put(Conditional{RR: rr, While: while}) }

func (b *builder) put(c Conditional) {
	if !b.holds(c.RR.Header().Name) {
		return
	}
	key := keyOf(c.RR)
	i, dup := b.seen[key]
	if !dup {
		b.seen[key] = len(b.records)
		b.records = append(b.records, c)
		return
	}
	have := &b.records[i]
	switch {
	case len(have.While) == 0:
	case len(c.While) == 0:
		have.While = nil
	default:
		have.While = union(have.While, c.While)
	}
}

// holds reports whether the zone can have records at that name.
func (b *builder) holds(name string) bool {
	_, ok := dns.IsDomainName(name)
	return ok && dns.IsSubDomain(b.zone, name) &&
		!slices.ContainsFunc(b.apart, func(other string) bool { return dns.IsSubDomain(other, name) })
}

func union(a, b []Host) []Host {
	have := make(map[Host]bool, len(a))
	for _, h := range a {
		have[h] = true
	}
	all := slices.Clip(a) // never grow into a neighbour's array
	for _, h := range b {
		if !have[h] {
			have[h] = true
			all = append(all, h)
		}
	}
	return all
}

func (b *builder) header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: b.ttl}
}

func (b *builder) finish() *Publication {
	p := b.publication
	p.SOA = b.soa()
	p.Conditional = make([]Conditional, 0, len(b.records))
	for _, r := range b.records {
		if len(r.While) == 0 {
			p.Fixed = append(p.Fixed, r.RR)
			continue
		}
		i := len(p.Conditional)
		p.Conditional = append(p.Conditional, r)
		for _, h := range r.While {
			at := p.byHost[h.Name]
			// A host with several addresses stands several times in While.
			if len(at) == 0 || at[len(at)-1] != i {
				p.byHost[h.Name] = append(at, i)
			}
		}
	}
	return p
}

// soa returns the SOA of the zone without its serial. The first name server is
// the primary (RFC 1035 section 3.3.13).
func (b *builder) soa() *dns.SOA {
	h := b.header(b.zone, dns.TypeSOA)
	h.Ttl = negativeTTL
	soa := &dns.SOA{
		Hdr: h, Ns: b.zone, Mbox: b.site.Contact,
		Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: negativeTTL,
	}
	if len(b.site.NameServers) > 0 {
		soa.Ns = b.site.NameServers[0].Host
	}
	return soa
}

// apex adds the NS records, and the addresses of the name servers where they
// are known. The latter are glue for the parent and the answer for this zone.
func (b *builder) apex() {
	for _, ns := range b.site.NameServers {
		b.add(&dns.NS{Hdr: b.header(b.zone, dns.TypeNS), Ns: ns.Host}, nil)
	}
	for _, ns := range b.site.NameServers {
		if ns.Address.IsValid() {
			b.address(ns.Host, ns.Address)
		}
	}
}

// address adds an A or AAAA record.
func (b *builder) address(name string, a netip.Addr) {
	a = a.Unmap()
	if a.Is4() {
		b.add(&dns.A{Hdr: b.header(name, dns.TypeA), A: a.AsSlice()}, nil)
	} else {
		b.add(&dns.AAAA{Hdr: b.header(name, dns.TypeAAAA), AAAA: a.AsSlice()}, nil)
	}
}
