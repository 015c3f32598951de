package dnssd

import (
	"slices"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"

	"github.com/miekg/dns"
)

// enumerations are the names below _dns-sd._udp by which a client learns in
// which domains it may browse (b), browses by default (db), may register (r),
// registers by default (dr), and browses without being asked (lb): RFC 6763
// section 11. To register takes a key that the server allows (RFC 2136).
var enumerations = []string{"b", "db", "r", "dr", "lb"}

// browsed names the site's domain as the one to browse, for clients that have
// it as their domain.
func (b *builder) browsed() { b.enumerate(b.site.Domain) }

// browsedFrom names the site's domain as the one to browse for clients that
// know no more than their address and mask: they ask below the reverse name of
// their subnet's address.
func (b *builder) browsedFrom() {
	for i := range b.site.Networks {
		if p := b.site.Networks[i].Prefix; p.IsValid() {
			b.enumerate(site.ReverseName(p.Masked().Addr()))
		}
	}
}

// enumerate answers the questions of RFC 6763 section 11 below base, if there
// is anything to browse.
func (b *builder) enumerate(base string) {
	if !slices.ContainsFunc(b.site.Devices, func(d site.Device) bool { return d.Installed && len(d.Applications) > 0 }) {
		return
	}
	for _, e := range enumerations {
		b.add(&dns.PTR{Hdr: b.header(e+"._dns-sd._udp."+base, dns.TypePTR), Ptr: b.site.Domain}, nil)
	}
}
