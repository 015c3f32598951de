package dicom

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// A match says which owner names a rule is about.
type match uint8

const (
	matchAll   match = iota // *: every name of the zones
	matchApex               // @: the apex of each zone
	matchExact              // name
	matchBelow              // .name: all names below it, but not the name itself
	matchSelf               // self: the name that is the key's
)

// A rule lets one key change records of some types at some names.
type rule struct {
	key      string // canonical
	match    match
	name     string // canonical; of matchExact, matchBelow and matchSelf
	types    []uint16
	allTypes bool
}

// rules allow what one of them allows, and nothing else.
type rules []rule

// knows reports whether any rule is about the key. A key without rules must
// not learn from prerequisites what a zone holds.
func (rs rules) knows(key string) bool {
	return slices.ContainsFunc(rs, func(r rule) bool { return r.key == key })
}

// allow reports whether key may change records of type t at name in the zone
// origin. Type ANY stands for the deletion of a whole name (RFC 2136 section
// 2.5.3) and must be allowed by itself.
func (rs rules) allow(key, origin, name string, t uint16) bool {
	name = dns.CanonicalName(name)
	return slices.ContainsFunc(rs, func(r rule) bool {
		return r.key == key && r.covers(origin, name) && (r.allTypes || slices.Contains(r.types, t))
	})
}

func (r rule) covers(origin, name string) bool {
	switch r.match {
	case matchAll:
		return true
	case matchApex:
		return name == origin
	case matchBelow:
		return name != r.name && dns.IsSubDomain(r.name, name)
	default:
		return name == r.name
	}
}

// parseRule reads the arguments of allow: KEY NAME TYPE [TYPE...].
func parseRule(args, zones []string) (rule, error) {
	if len(args) < 3 {
		return rule{}, fmt.Errorf("allow requires KEY NAME and at least one RR type")
	}
	key := args[0]
	r := rule{key: plugin.Name(key).Normalize()}
	if _, ok := dns.IsDomainName(r.key); !ok || strings.TrimSpace(key) == "" || key == "*" || key == "@" {
		return rule{}, fmt.Errorf("invalid TSIG key %q: expected the name of a key, and one rule for each", key)
	}

	switch name := args[1]; {
	case name == "*":
		r.match = matchAll
	case name == "@":
		r.match = matchApex
	case name == "self":
		r.match, r.name = matchSelf, r.key
	case strings.HasPrefix(name, ".") && name != ".":
		r.match, r.name = matchBelow, dns.CanonicalName(name[1:])
	default:
		r.match, r.name = matchExact, dns.CanonicalName(name)
	}
	if r.name != "" {
		_, valid := dns.IsDomainName(r.name)
		if !valid || !plugin.Zones(zones).Contains(r.name) {
			return rule{}, fmt.Errorf("allow name %q is outside zone %q: expected a whole name in it, such a name behind a dot for all below, @, self or *", args[1], strings.Join(zones, " "))
		}
	}

	for _, raw := range args[2:] {
		if raw == "*" {
			if len(args) != 3 {
				return rule{}, fmt.Errorf("wildcard RR type must be the only type in an allow rule, and here are %d: %q", len(args)-2, args[2:])
			}
			r.allTypes = true
			continue
		}
		t, ok := parseType(raw)
		if !ok {
			return rule{}, fmt.Errorf("invalid RR type %q in allow rule: expected a type of data that is not DNSSEC's, such as A or TYPE65280, ANY or *", raw)
		}
		r.types = append(r.types, t)
	}
	return r, nil
}

// parseType returns the type that may stand in a rule: a mnemonic, or TYPEn
// (RFC 3597 section 5). Types that an UPDATE cannot carry are refused.
func parseType(raw string) (uint16, bool) {
	name := strings.ToUpper(raw)
	t, ok := dns.StringToType[name]
	if !ok {
		digits, found := strings.CutPrefix(name, "TYPE")
		n, err := strconv.ParseUint(digits, 10, 16)
		if !found || err != nil {
			return 0, false
		}
		t = uint16(n)
	}
	switch t {
	case dns.TypeANY:
		return t, true
	case dns.TypeNone, dns.TypeReserved, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB,
		dns.TypeOPT, dns.TypeTKEY, dns.TypeTSIG:
		return 0, false
	}
	return t, zone.Supported(t)
}
