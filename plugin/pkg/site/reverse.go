package site

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ReverseName returns the owner name of a's PTR record, canonical: 11.2.0.192.in-addr.arpa. for 192.0.2.11 (RFC 1035 section 3.5),
// and the name under ip6.arpa. (RFC 3596 section 2.5) for IPv6. It returns "" for the zero Addr.
func ReverseName(a netip.Addr) string {
	a = a.Unmap()
	switch {
	case a.Is4():
		return reverse4(a, 4)
	case a.Is6():
		return reverse6(a, 32)
	}
	return ""
}

// ReverseZone returns the reverse zones that hold the addresses of p, in the order of the addresses. An IPv4 zone ends on an octet: a
// prefix longer than /24 belongs to the zone of its /24, and one that ends inside an octet has a zone for each of its parts. An IPv6
// zone ends on four bits. It returns nil for the zero Prefix.
func ReverseZone(p netip.Prefix) []string {
	if !p.IsValid() {
		return nil
	}
	step, longest, name := 8, 24, reverse4
	if p.Addr().Is6() {
		step, longest, name = 4, 128, reverse6
	}
	bits := min((p.Bits()+step-1)/step*step, longest)
	a := netip.PrefixFrom(p.Addr(), min(p.Bits(), bits)).Masked().Addr()
	count := 1 << max(0, bits-p.Bits())
	zones := make([]string, 0, count)
	for range count {
		zones = append(zones, name(a, bits/step))
		if bits == 0 {
			break
		}
		a = addAt(a, (bits-1)/8, byte(1<<((8-bits%8)%8)))
	}
	return zones
}

// addAt adds n to octet i of a, without carry: the octet's parts belong to one prefix.
func addAt(a netip.Addr, i int, n byte) netip.Addr {
	b := a.AsSlice()
	b[i] += n
	sum, _ := netip.AddrFromSlice(b)
	return sum
}

// reverse4 returns the name of the first n octets of a.
func reverse4(a netip.Addr, n int) string {
	octets := a.As4()
	b := make([]byte, 0, len("255.255.255.255.in-addr.arpa."))
	for i := n - 1; i >= 0; i-- {
		b = append(strconv.AppendUint(b, uint64(octets[i]), 10), '.')
	}
	return string(b) + "in-addr.arpa."
}

// reverse6 returns the name of the first n half-octets of a.
func reverse6(a netip.Addr, n int) string {
	const digits = "0123456789abcdef"
	octets := a.As16()
	b := make([]byte, 0, 2*32+len("ip6.arpa."))
	for i := n - 1; i >= 0; i-- {
		half := octets[i/2] >> 4
		if i%2 == 1 {
			half = octets[i/2] & 15
		}
		b = append(b, digits[half], '.')
	}
	return string(b) + "ip6.arpa."
}

// OutsideZones returns a warning for everything of the site that none of the zones holds: the domain, where services stand; host names of
// devices; and addresses, whose PTR records would be missing. Zones are domain names; their case and trailing dots do not matter.
func (s *Site) OutsideZones(zones []string) []Problem {
	var found problems
	add := func(at Position, format string, args ...any) {
		found.add(Problem{s.File, at, fmt.Sprintf(format, args...)})
	}
	canonical := make([]string, len(zones))
	for i, z := range zones {
		canonical[i] = strings.ToLower(strings.TrimSuffix(z, ".")) + "."
	}
	inside := func(name string) bool {
		for _, z := range canonical {
			if below(name, z) {
				return true
			}
		}
		return false
	}
	domainInside := inside(s.Domain)
	if !domainInside {
		add(s.index.domainAt, "domain: none of the zones holds %s, so its names and services are not published", show(s.Domain))
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		if !inside(d.Hostname) && (domainInside || !below(d.Hostname, s.Domain)) {
			add(d.Position, "device %q: none of the zones holds its host name %s", d.Name, show(d.Hostname))
		}
	}
	s.outsideReverse(canonical, inside, add)
	return found.sorted("warnings")
}

// outsideReverse warns once for a network that no zone holds any part of, and for each single device elsewhere.
func (s *Site) outsideReverse(zones []string, inside func(string) bool, add func(Position, string, ...any)) {
	warned := make(map[*Network]bool)
	for i := range s.Networks {
		n := &s.Networks[i]
		var missing []string
		for _, z := range ReverseZone(n.Prefix) {
			if !inside(z) && !anyBelow(zones, z) {
				missing = append(missing, show(z))
			}
		}
		if missing == nil {
			continue
		}
		text := missing[0]
		if len(missing) > 1 {
			text = fmt.Sprintf("%s and %d others", missing[0], len(missing)-1)
		}
		warned[n] = true
		add(n.Position, "network %q: none of the zones holds the reverse names of %s; expected %s", n.Name, n.Prefix, text)
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		for _, a := range d.Addresses {
			if !inside(ReverseName(a)) && !warned[s.NetworkOf(a)] {
				add(d.Position, "device %q: none of the zones holds the reverse name of its address %s", d.Name, a)
			}
		}
	}
}

func anyBelow(zones []string, name string) bool {
	for _, z := range zones {
		if below(z, name) {
			return true
		}
	}
	return false
}
