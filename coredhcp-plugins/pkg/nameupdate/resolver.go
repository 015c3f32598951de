package nameupdate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// resolver finds the primary server of a zone as RFC 2136 section 4.3 wants it: the MNAME of the zone's SOA record.
// What it is told is not trusted with more than that: the primary itself is asked for the zone (see zones), and it takes
// signed updates or refuses them.
type resolver struct {
	up *upstream // the resolvers

	mu    sync.Mutex
	known map[string]primaryEntry // by parent
}

type primaryEntry struct {
	servers []string
	expires time.Time
}

// foreign are primaries that stand in the SOA records which resolvers make up for zones that are nobody's (RFC 6303, RFC
// 7534, RFC 7535).
var foreign = []string{"localhost.", "prisoner.iana.org.", "blackhole.as112.arpa.", "blackhole-1.iana.org.", "blackhole-2.iana.org.", "."}

// publicLabels is how many labels a reverse zone has at the least that can be a site's: 2.0.192.in-addr.arpa. is below
// the registry's.
const publicLabels = 4

// primary returns the servers, as ADDRESS:53, of the zone that a name is in.
func (r *resolver) primary(ctx context.Context, name string) ([]string, error) {
	above := parent(name)
	r.mu.Lock()
	e, ok := r.known[above]
	r.mu.Unlock()
	if ok && time.Now().Before(e.expires) {
		return e.servers, nil
	}
	soa, err := r.soa(ctx, name)
	if err != nil {
		return nil, err
	}
	servers, err := r.addresses(ctx, soa)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxZones {
		clear(r.known)
	}
	r.known[above] = primaryEntry{servers, time.Now().Add(zoneLife)}
	return servers, nil
}

func (r *resolver) none(name, why string, args ...any) error {
	return &noZoneError{server: "found by resolver " + r.up.name, name: name, why: fmt.Sprintf(why, args...)}
}

// soa asks for the SOA record of the zone that a name is in.
func (r *resolver) soa(ctx context.Context, name string) (*dns.SOA, error) {
	for asked := name; asked != "."; asked = parent(asked) {
		answer, err := r.ask(ctx, asked, dns.TypeSOA)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(answer.Answer, isAlias) {
			continue // what follows is of its target's zone
		}
		for _, rr := range slices.Concat(answer.Answer, answer.Ns) {
			soa, ok := rr.(*dns.SOA)
			if !ok {
				continue
			}
			zone := dns.CanonicalName(soa.Hdr.Name)
			if !dns.IsSubDomain(zone, name) {
				continue
			}
			if !canBeSites(zone) {
				return nil, r.none(name, "the zone above it is %s, which is not the site's", zone)
			}
			return soa, nil
		}
	}
	return nil, r.none(name, "no answer has an SOA record")
}

// canBeSites says whether a zone can be a site's, and not a registry's: updates of its name must not go there just
// because the site's own zone is missing.
func canBeSites(zone string) bool {
	labels := dns.CountLabel(zone)
	if zone == "10.in-addr.arpa." {
		return true
	}
	if dns.IsSubDomain("arpa.", zone) {
		return labels >= publicLabels
	}
	return labels >= 2
}

// addresses are those of a zone's primary.
func (r *resolver) addresses(ctx context.Context, soa *dns.SOA) ([]string, error) {
	host := dns.CanonicalName(soa.Ns)
	if slices.Contains(foreign, host) {
		return nil, r.none(soa.Hdr.Name, "its zone has the primary %s, which stands for none", host)
	}
	var servers []string
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := r.ask(ctx, host, qtype)
		if err != nil {
			return nil, err
		}
		for _, rr := range answer.Answer {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			}
			if a, ok := netip.AddrFromSlice(ip); ok && len(servers) < 8 {
				servers = append(servers, netip.AddrPortFrom(a.Unmap(), 53).String())
			}
		}
	}
	if len(servers) == 0 {
		return nil, r.none(soa.Hdr.Name, "its primary %s has no address", host)
	}
	return servers, nil
}

func (r *resolver) ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	answer, err := r.up.exchange(ctx, new(dns.Msg).SetQuestion(name, qtype))
	switch {
	case err != nil:
		return nil, err
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("asking resolver %s for %s of %s: %s", r.up.name, dns.TypeToString[qtype], name, rcodeName(answer.Rcode))
	}
	return answer, nil
}

// SystemResolvers are the resolvers of this host, as HOST:53 (resolv.conf(5)).
func SystemResolvers() ([]string, error) {
	c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, fmt.Errorf("reading the resolvers of this host: %w", err)
	}
	var list []string
	for _, s := range c.Servers {
		if !strings.HasPrefix(s, "#") {
			list = append(list, net.JoinHostPort(s, "53"))
		}
	}
	if len(list) == 0 {
		return nil, errors.New("/etc/resolv.conf: expected a line nameserver ADDRESS")
	}
	return list, nil
}
