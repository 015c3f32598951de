package dicom

import (
	"errors"
	"fmt"
	"os"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
)

// readSeed reads a zone file (RFC 1035 section 5) and checks that a zone can
// be made from it. It stops at the limits, so that a wrong path cannot fill
// the memory.
func readSeed(path, origin string, limits zone.Limits) ([]dns.RR, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening zone file: %w", err)
	}
	defer f.Close()

	parser := dns.NewZoneParser(f, origin, path)
	parser.SetIncludeAllowed(true)
	var records []dns.RR
	check := newSeedCheck(origin, limits)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		if err := check.add(rr); err != nil {
			return nil, fmt.Errorf("zone file %q: %w", path, err)
		}
		records = append(records, rr)
	}
	if err := parser.Err(); err != nil {
		return nil, fmt.Errorf("parsing zone file: %w", err)
	}
	if !check.soa {
		return nil, fmt.Errorf("zone file %q: zone %q has no SOA", path, origin)
	}
	return records, nil
}

// A seedCheck sees the records of a zone file one by one.
type seedCheck struct {
	origin         string
	records, bytes int64 // what is left of the limits
	soa            bool
	cname          map[string]bool // owner -> whether it is an alias
}

func newSeedCheck(origin string, limits zone.Limits) *seedCheck {
	c := &seedCheck{
		origin:  origin,
		records: int64(limits.Records),
		bytes:   int64(limits.Bytes),
		cname:   make(map[string]bool),
	}
	if c.records == 0 {
		c.records = zone.DefaultRecords
	}
	if c.bytes == 0 {
		c.bytes = zone.DefaultBytes
	}
	return c
}

func (c *seedCheck) add(rr dns.RR) error {
	h := rr.Header()
	name := dns.CanonicalName(h.Name)
	c.records--
	c.bytes -= int64(dns.Len(rr))
	switch {
	case c.records < 0 || c.bytes < 0:
		return errors.New("more than max_records or max_bytes allow")
	case h.Class != dns.ClassINET:
		return fmt.Errorf("%s: class is not IN", h.Name)
	case !dns.IsSubDomain(c.origin, name):
		return fmt.Errorf("%s is outside zone %s", h.Name, c.origin)
	case notImplemented(h.Rrtype):
		return fmt.Errorf("%s: a zone that takes updates cannot hold records of type %s", h.Name, dns.Type(h.Rrtype))
	}
	if soa, ok := rr.(*dns.SOA); ok {
		switch {
		case name != c.origin:
			return fmt.Errorf("%s: SOA is not at the apex", h.Name)
		case c.soa:
			return errors.New("more than one SOA")
		case soa.Serial == 0:
			return errors.New("serial of the SOA is zero (RFC 2136 section 7.11)")
		}
		c.soa = true
	}
	alias := h.Rrtype == dns.TypeCNAME
	if was, ok := c.cname[name]; ok && (was || alias) {
		return fmt.Errorf("%s: CNAME and other data", h.Name)
	}
	c.cname[name] = alias
	return nil
}
