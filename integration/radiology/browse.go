//go:build linux

package radiology

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// An Instance is a DICOM service that was found by browsing (RFC 6763).
type Instance struct {
	Name    string // the instance's domain name
	AETitle string // of its TXT record
	Type    string // Primary Device Types, of its TXT record
	Host    string
	Port    uint16
	Address netip.Addr
}

// Browse finds the instances of a service, as in "_dicom._tcp", in the domain,
// by nothing but questions: PTR, then SRV, TXT and A of each.
func Browse(ctx context.Context, r *lab.Resolver, service string) ([]Instance, error) {
	name := service + "." + Domain
	m, err := r.Ask(ctx, name, dns.TypePTR)
	if err != nil {
		return nil, err
	}
	var found []Instance
	for _, rr := range m.Answer {
		ptr, ok := rr.(*dns.PTR)
		if !ok {
			continue
		}
		i, err := Resolve(ctx, r, ptr.Ptr)
		if err != nil {
			return nil, err
		}
		found = append(found, i)
	}
	slices.SortFunc(found, func(a, b Instance) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}

// Resolve finds out where an instance is.
func Resolve(ctx context.Context, r *lab.Resolver, name string) (Instance, error) {
	i := Instance{Name: name}
	srv, err := one[*dns.SRV](ctx, r, name, dns.TypeSRV)
	if err != nil {
		return i, err
	}
	i.Host, i.Port = srv.Target, srv.Port
	txt, err := one[*dns.TXT](ctx, r, name, dns.TypeTXT)
	if err != nil {
		return i, err
	}
	for _, s := range txt.Txt {
		key, value, _ := strings.Cut(s, "=")
		switch {
		case strings.EqualFold(key, "AET"):
			i.AETitle = value
		case strings.EqualFold(key, "PrimaryDeviceType"):
			i.Type = value
		}
	}
	a, err := one[*dns.A](ctx, r, i.Host, dns.TypeA)
	if err != nil {
		return i, err
	}
	i.Address, _ = netip.AddrFromSlice(a.A.To4())
	return i, nil
}

// one asks for the only record of a type at a name.
func one[T dns.RR](ctx context.Context, r *lab.Resolver, name string, qtype uint16) (T, error) {
	var none T
	m, err := r.Ask(ctx, name, qtype)
	if err != nil {
		return none, err
	}
	if len(m.Answer) == 1 {
		if rr, ok := m.Answer[0].(T); ok {
			return rr, nil
		}
	}
	return none, fmt.Errorf("%s %s: expected one record, found %s", name, dns.TypeToString[qtype], lab.Summary(m))
}
