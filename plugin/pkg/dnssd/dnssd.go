// Package dnssd makes the DNS records of a site: the names of its hosts and
// its DICOM services as DICOM PS3.15 H.2 and RFC 6763 describe them.
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

// A Conditional is a record that stands while any host of While has its address.
type Conditional struct {
	RR    dns.RR
	While []Host // never empty
}

// A Publication is what a site says about one zone. It does not change once
// made, and its records must not be changed: they are shared.
type Publication struct {
	SOA         *dns.SOA      // its serial is 0: the holder of the zone counts
	Fixed       []dns.RR      // always stand; NS of the zone first
	Conditional []Conditional // in the order of the site file

	byHost map[string][]int // host name -> indexes in Conditional
}

// Publish returns what s says about zone, a domain name. A zone below
// in-addr.arpa or ip6.arpa gets the PTR records of hosts whose address is not
// leased; any other zone gets names and services. Only records inside the zone
// are returned, so a zone that has nothing to do with the site gets SOA and NS.
//
// A service whose host lies outside the zone is always published, since the
// zone cannot see the address of that host. So is the list of service types:
// it tells what the site has, not what is up. A name that is too long for DNS
// (255 octets) is left out.
func Publish(s *site.Site, zone string) *Publication {
	b := &builder{
		site: s,
		zone: dns.CanonicalName(zone),
		ttl:  seconds(s.TTL),
		seen: make(map[string]int),
	}
	b.apex()
	if dns.IsSubDomain("in-addr.arpa.", b.zone) || dns.IsSubDomain("ip6.arpa.", b.zone) {
		b.pointers()
	} else {
		b.hosts()
		b.services()
		b.applications()
	}
	return b.publication()
}

// Records returns all records that stand now, without the SOA. has tells
// whether a host has its address; it is asked only about hosts of While.
func (p *Publication) Records(has func(Host) bool) []dns.RR {
	rrs := make([]dns.RR, 0, len(p.Fixed)+len(p.Conditional))
	rrs = append(rrs, p.Fixed...)
	for _, c := range p.Conditional {
		if c.stands(has) {
			rrs = append(rrs, c.RR)
		}
	}
	return rrs
}

// Touched returns what a change at these canonical host names means: the
// records that depend on one of them and stand now, and those that do not.
// Names that no record depends on cost one look-up each.
func (p *Publication) Touched(names []string, has func(Host) bool) (put, drop []dns.RR) {
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
			if c := p.Conditional[i]; c.stands(has) {
				put = append(put, c.RR)
			} else {
				drop = append(drop, c.RR)
			}
		}
	}
	return put, drop
}

func (c Conditional) stands(has func(Host) bool) bool {
	return slices.ContainsFunc(c.While, has)
}

// seconds returns d as a TTL (RFC 2181 section 8).
func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), 1<<31-1))
}

// A builder collects the records of one zone.
type builder struct {
	site *site.Site
	zone string // canonical
	ttl  uint32

	records []Conditional  // without hosts: fixed
	seen    map[string]int // recordKey -> index in records
}

// add puts rr into the zone, if it belongs there. No hosts means that it always
// stands. The same record from two sources is one record that stands while
// either does.
func (b *builder) add(rr dns.RR, while []Host) {
	owner := rr.Header().Name
	if _, ok := dns.IsDomainName(owner); !ok || !dns.IsSubDomain(b.zone, owner) {
		return
	}
	key := recordKey(rr)
	i, dup := b.seen[key]
	if !dup {
		b.seen[key] = len(b.records)
		b.records = append(b.records, Conditional{RR: rr, While: while})
		return
	}
	have := &b.records[i]
	switch {
	case len(have.While) == 0:
	case len(while) == 0:
		have.While = nil
	default:
		have.While = union(have.While, while)
	}
}

// recordKey identifies a record by owner, type and data, without the case of
// its owner.
func recordKey(rr dns.RR) string {
	return dns.CanonicalName(rr.Header().Name) + strings.TrimPrefix(rr.String(), rr.Header().Name)
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

func (b *builder) publication() *Publication {
	p := &Publication{SOA: b.soa(), byHost: make(map[string][]int)}
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
