package dicom

import (
	"context"
	"net/netip"
	"slices"

	"github.com/dicomnam/dicomnam/plugin/pkg/dnssd"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
)

// publish makes the site records of z, one of the zones, those of content, which
// is nil without a site file. seeded says that SOA and NS are those of a zone file. The zone keeps
// the rules by which services follow addresses, with the records. The publication
// is nil without a site file.
func publish(ctx context.Context, z *zone.Zone, content *site.Site, seeded bool, zones ...string) (p *dnssd.Publication, changed bool, err error) {
	if content == nil {
		changed, err = z.ReplaceSite(ctx, func(*zone.Candidate) ([]dns.RR, zone.Derive) { return nil, nil })
		return nil, changed, err
	}
	publication := dnssd.Publish(content, z.Origin(), zones...)
	// A service follows the addresses that updates brought. Those that the old
	// site file brought go in this very transaction.
	former := siteAddresses(z)
	changed, err = z.ReplaceSite(ctx, func(c *zone.Candidate) ([]dns.RR, zone.Derive) {
		records := publication.Records(view{c, former})
		if seeded {
			records = slices.DeleteFunc(records, func(rr dns.RR) bool {
				return rr.Header().Rrtype == dns.TypeNS && rr.Header().Name == z.Origin()
			})
		} else {
			records = append(records, publication.SOA)
		}
		return records, follow(publication)
	})
	return publication, changed, err
}

// A view shows a publication the zone as a transaction sees it.
type view struct {
	*zone.Candidate
	former map[addressSet]bool // those that go in this transaction
}

// An addressSet is the RRset of a host's addresses of a family.
type addressSet struct {
	host   string // canonical
	rrtype uint16 // A or AAAA
}

// HasAddress implements [dnssd.View].
func (v view) HasAddress(h dnssd.Host) bool {
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		if v.former[addressSet{h.Name, t}] {
			continue
		}
		for _, rr := range v.RRset(h.Name, t) {
			if !h.Address.IsValid() || addressOf(rr) == h.Address {
				return true
			}
		}
	}
	return false
}

var _ dnssd.View = view{}

// follow returns the [zone.Derive] of a publication: which services appear and
// which vanish because of a change at the touched names.
func follow(publication *dnssd.Publication) zone.Derive {
	return func(c *zone.Candidate, touched []string) []zone.Change {
		put, drop := publication.Touched(touched, view{Candidate: c})
		changes := make([]zone.Change, 0, len(put)+len(drop))
		for _, rr := range drop {
			changes = append(changes, zone.Change{Delete: true, RR: rr})
		}
		for _, rr := range put {
			changes = append(changes, zone.Change{RR: rr})
		}
		return changes
	}
}

// siteAddresses returns the address records that are the site's. An RRset of
// addresses with site records has no others.
func siteAddresses(z *zone.Zone) map[addressSet]bool {
	sets := make(map[addressSet]bool)
	for rr := range z.Snapshot().Site() {
		if t := rr.Header().Rrtype; t == dns.TypeA || t == dns.TypeAAAA {
			sets[addressSet{dns.CanonicalName(rr.Header().Name), t}] = true
		}
	}
	return sets
}

// addressOf returns the address of an A or AAAA record.
func addressOf(rr dns.RR) netip.Addr {
	var a netip.Addr
	switch rr := rr.(type) {
	case *dns.A:
		a, _ = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		a, _ = netip.AddrFromSlice(rr.AAAA)
	}
	return a.Unmap()
}

// soaOf returns the SOA that the site gives to a zone, without a serial.
func soaOf(content *site.Site, origin string) *dns.SOA {
	return dnssd.Publish(content, origin).SOA
}
