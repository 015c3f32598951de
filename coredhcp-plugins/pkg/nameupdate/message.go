package nameupdate

import (
	"net/netip"

	"github.com/miekg/dns"
)

// entry is one name with its address, as DNS shall show it.
type entry struct {
	name  string // canonical
	addr  netip.Addr
	dhcid string // base64
	ttl   uint32 // seconds
}

// The messages of RFC 4703. Each function builds one; sequence.go sends them in
// order and reads the answers.

// addUnused adds the name unless it is in use (section 5.3.1). YXDOMAIN: it is.
func addUnused(zone string, e entry) *dns.Msg {
	m := newUpdate(zone)
	m.NameNotUsed([]dns.RR{e.any()})
	m.Insert([]dns.RR{e.address(), e.dhcidRR(e.name)})
	return m
}

// replaceOwn replaces the address of a name that is this client's (section
// 5.3.2). NXDOMAIN: the name is gone; NXRRSET: it is somebody else's.
func replaceOwn(zone string, e entry) *dns.Msg {
	m := newUpdate(zone)
	m.NameUsed([]dns.RR{e.any()})
	m.Used([]dns.RR{e.dhcidRR(e.name)})
	m.RemoveRRset([]dns.RR{e.address()})
	m.Insert([]dns.RR{e.address()})
	return m
}

// takeDynamic gives a name that was put there for some client, as its DHCID record
// tells, to this one. NXDOMAIN: the name is gone; NXRRSET: it has none.
func takeDynamic(zone string, e entry) *dns.Msg {
	m := newUpdate(zone)
	m.NameUsed([]dns.RR{e.any()})
	m.RRsetUsed([]dns.RR{e.dhcidRR(e.name)})
	m.RemoveRRset([]dns.RR{e.address(), e.dhcidRR(e.name)})
	m.Insert([]dns.RR{e.address(), e.dhcidRR(e.name)})
	return m
}

// takeName gives the name to this client whoever has it, and leaves records of
// other types alone. An alias cannot stand beside an address and a server would
// drop the address silently (RFC 2136 section 3.4.2.2), so that one must not be
// there (YXRRSET) or, with overAlias, goes.
func takeName(zone string, e entry, overAlias bool) *dns.Msg {
	m := newUpdate(zone)
	alias := aliasAt(e.name)
	if overAlias {
		m.RemoveRRset(alias)
	} else {
		m.RRsetNotUsed(alias)
	}
	m.RemoveRRset([]dns.RR{e.address(), e.dhcidRR(e.name)})
	m.Insert([]dns.RR{e.address(), e.dhcidRR(e.name)})
	return m
}

// setPointer makes the pointer of the address name this entry, and nothing else
// (section 5.4). The address is this client's by its lease, so there is nothing
// to ask for first, but an alias, beside which a server would drop the pointer
// silently. YXRRSET: there is one.
func setPointer(zone string, e entry) *dns.Msg {
	m := newUpdate(zone)
	m.RRsetNotUsed(aliasAt(e.reverse()))
	ptr, id := e.pointer(), e.dhcidRR(e.reverse())
	m.RemoveRRset([]dns.RR{ptr, id})
	m.Insert([]dns.RR{ptr, id})
	return m
}

// removeAddress removes the address from a name that is this client's (section
// 5.5). NXRRSET or NXDOMAIN: it is not, or not any more.
func removeAddress(zone string, e entry) *dns.Msg {
	m := newUpdate(zone)
	m.Used([]dns.RR{e.dhcidRR(e.name)})
	m.Remove([]dns.RR{e.address()})
	return m
}

// removeName removes a name that is this client's and has no address left
// (section 5.5): everything at it, or the DHCID record only. YXRRSET: there is an
// address.
func removeName(zone string, e entry, everything bool) *dns.Msg {
	m := newUpdate(zone)
	m.Used([]dns.RR{e.dhcidRR(e.name)})
	m.RRsetNotUsed([]dns.RR{
		&dns.ANY{Hdr: dns.RR_Header{Name: e.name, Rrtype: dns.TypeA}},
		&dns.ANY{Hdr: dns.RR_Header{Name: e.name, Rrtype: dns.TypeAAAA}},
	})
	if everything {
		m.RemoveName([]dns.RR{e.any()})
	} else {
		m.RemoveRRset([]dns.RR{e.dhcidRR(e.name)})
	}
	return m
}

// removePointer removes the pointer of the address if it is this name (section
// 5.5). NXRRSET or NXDOMAIN: it is not, or not any more.
func removePointer(zone string, e entry) *dns.Msg {
	m := newUpdate(zone)
	m.Used([]dns.RR{e.pointer()})
	m.RemoveRRset([]dns.RR{e.pointer(), e.dhcidRR(e.reverse())})
	return m
}

// removeClient removes the DHCID record of this client and nothing else. NXRRSET or
// NXDOMAIN: there is none.
func removeClient(zone, owner string, e entry) *dns.Msg {
	m := newUpdate(zone)
	m.Used([]dns.RR{e.dhcidRR(owner)})
	m.RemoveRRset([]dns.RR{e.dhcidRR(owner)})
	return m
}

// withdrawPointer removes the pointer of the address if it is this name and was put
// there for some client, as its DHCID record tells. NXRRSET or NXDOMAIN: it is not.
func withdrawPointer(zone string, e entry) *dns.Msg {
	m := removePointer(zone, e)
	m.RRsetUsed([]dns.RR{e.dhcidRR(e.reverse())})
	return m
}

func aliasAt(name string) []dns.RR {
	return []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME}}}
}

func newUpdate(zone string) *dns.Msg { return new(dns.Msg).SetUpdate(zone) }

func (e entry) any() dns.RR {
	return &dns.ANY{Hdr: dns.RR_Header{Name: e.name, Rrtype: dns.TypeANY}}
}

// address is the A or AAAA record.
func (e entry) address() dns.RR {
	if e.addr.Is4() {
		return &dns.A{Hdr: dns.RR_Header{Name: e.name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: e.ttl}, A: e.addr.AsSlice()}
	}
	return &dns.AAAA{Hdr: dns.RR_Header{Name: e.name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: e.ttl}, AAAA: e.addr.AsSlice()}
}

func (e entry) pointer() dns.RR {
	return &dns.PTR{Hdr: dns.RR_Header{Name: e.reverse(), Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: e.ttl}, Ptr: e.name}
}

// dhcidRR is the DHCID record at owner; its digest is that of the name also in
// the reverse zone (RFC 4701 section 3.5).
func (e entry) dhcidRR(owner string) dns.RR {
	return &dns.DHCID{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeDHCID, Class: dns.ClassINET, Ttl: e.ttl}, Digest: e.dhcid}
}

// reverse is the name of the address in in-addr.arpa. or ip6.arpa.
func (e entry) reverse() string {
	name, err := dns.ReverseAddr(e.addr.String())
	if err != nil { // not for a valid address without zone, which newEntry checked
		return "."
	}
	return name
}
