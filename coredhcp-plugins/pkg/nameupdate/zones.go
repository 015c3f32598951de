package nameupdate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	zoneLife = 5 * time.Minute  // how long a zone is taken to be where it was found
	missLife = 30 * time.Second // how long a missing zone is taken to be missing, and has been before that counts
	newLife  = 2 * time.Second  // the same where no zone was found yet
	lostLife = time.Hour        // how long a zone that went missing is waited for
	maxZones = 65536            // parents remembered
)

// zones learns which zone a name is in by asking its server (see routes) for the name's SOA.
// What it learns counts for all names with the same parent: names side by side
// are in the same zone unless one of them is a zone's apex itself, and updating
// that one in its parent's zone finds it in use. A suffix alone would not do: a
// name under a zone may be in a zone below it.
type zones struct {
	route func(ctx context.Context, name string) (*upstream, error)
	// elsewhere is where the zone of a name is updated that its server has given to another one; nil: that is not known.
	elsewhere func(ctx context.Context, name string) (*upstream, error)

	asking singleflight.Group

	mu    sync.Mutex
	known map[string]zoneEntry // by parent
	again time.Time            // when forgetMissing was called
}

type zoneEntry struct {
	zone    string       // canonical
	at      *upstream    // that has the zone
	err     *noZoneError // instead of both
	asked   time.Time    // when that was
	expires time.Time
	seen    time.Time // when a zone was last found, zero if never
	missed  time.Time // since when it is missing
	takes   bool      // the zone took the last name that was to be added
}

func newZones(route func(context.Context, string) (*upstream, error)) *zones {
	return &zones{route: route, known: make(map[string]zoneEntry)}
}

// parent is the name without its first label.
func parent(name string) string {
	i, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

// of returns the zone that the canonical name is in and where it is updated, or a
// *noZoneError if there is none.
func (z *zones) of(ctx context.Context, name string) (string, *upstream, error) {
	above := parent(name)
	if e, ok := z.remembered(above); ok {
		if e.err != nil {
			return "", nil, e.err
		}
		return e.zone, e.at, nil
	}
	// All callers share the worker's context, so one may ask for all.
	asked, err, _ := z.asking.Do(above, func() (any, error) {
		begin := time.Now()
		e, err := z.find(ctx, name)
		e.asked = begin
		return e, err
	})
	e, _ := asked.(zoneEntry)
	var none *noZoneError
	switch {
	case err == nil && e.zone == name:
		return name, e.at, nil // an apex says nothing about its neighbours
	case err == nil && !dns.IsSubDomain(e.zone, name):
		e, err = z.find(ctx, name) // the neighbour that was asked for was an apex
	case err == nil:
		z.learn(above, e)
	case errors.As(err, &none):
		err = z.learn(above, zoneEntry{err: none, asked: e.asked}).err
	}
	if err != nil {
		return "", nil, err
	}
	return e.zone, e.at, nil
}

// remembered is what is known of the names below a parent.
func (z *zones) remembered(above string) (zoneEntry, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	e, ok := z.known[above]
	return e, ok && time.Now().Before(e.expires)
}

// working is where a name is updated, if that is known without asking and the server answers as far as is known.
func (z *zones) working(name string) (zoneEntry, bool) {
	e, ok := z.remembered(parent(name))
	return e, ok && e.err == nil && e.at.heldUntil.Load() == 0
}

// took notes whether the zone of a name took it.
func (z *zones) took(name string, took bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if e, ok := z.known[parent(name)]; ok && e.takes != took {
		e.takes = took
		z.known[parent(name)] = e
	}
}

// find asks where the zone of a name is updated, and the server there for the zone. A zone that is delegated below those
// of the server is another one's: as long as it cannot be found out whose, it is not a missing one.
func (z *zones) find(ctx context.Context, name string) (e zoneEntry, err error) {
	if e.at, err = z.route(ctx, name); err != nil {
		return e, err
	}
	e.zone, err = ask(ctx, e.at, name)
	none, is := errors.AsType[*noZoneError](err)
	if !is || none.delegated == "" || z.elsewhere == nil {
		return e, err
	}
	at, err := z.elsewhere(ctx, name)
	switch {
	case fails[*noZoneError](err):
		none.why += "; " + err.Error()
		return e, none
	case err != nil: // there is a zone; where, is not known at present
		return e, fmt.Errorf("%s; %w", none.Error(), err)
	}
	e.at = at
	e.zone, err = ask(ctx, at, name)
	return e, err
}

// learn keeps what was found, and returns it with what was known before.
func (z *zones) learn(above string, e zoneEntry) zoneEntry {
	now := time.Now()
	z.mu.Lock()
	defer z.mu.Unlock()
	old := z.known[above]
	if e.err == nil {
		e.seen, e.expires = now, now.Add(zoneLife)
		e.takes = old.takes && old.zone == e.zone && old.at == e.at
	} else {
		e.seen, e.missed, e.expires = old.seen, old.missed, now.Add(missLife)
		if e.missed.IsZero() {
			e.missed = now
		}
		none := *e.err // which others have as well that asked at the same time
		none.unsure = now.Sub(e.missed) < missLife || !e.seen.IsZero() && now.Sub(e.seen) < lostLife
		if none.unsure && e.seen.IsZero() {
			e.expires = now.Add(newLife)
		}
		e.err = &none
		if e.asked.Before(z.again) {
			e.expires = time.Time{}
		}
	}
	if len(z.known) >= maxZones {
		for k, old := range z.known {
			if len(z.known) >= maxZones/2 || now.After(old.expires) {
				delete(z.known, k)
			}
		}
	}
	z.known[above] = e
	return e
}

// forget makes the next change ask for the zone again.
func (z *zones) forget(zone string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for k, e := range z.known {
		if e.zone == zone {
			e.expires = time.Time{}
			z.known[k] = e
		}
	}
}

// forgetMissing makes the next change ask again for zones that were missing, or are by an answer that is under way.
func (z *zones) forgetMissing() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.again = time.Now()
	for k, e := range z.known {
		if e.err != nil {
			e.expires = time.Time{}
			z.known[k] = e
		}
	}
}

// ask asks the server. The SOA of the zone that holds the name stands in the
// answer if the name is its apex, else in the authority section (RFC 2308
// section 3). An alias at the name may lead into another zone; then the parent is
// asked for.
func ask(ctx context.Context, at *upstream, name string) (string, error) {
	for asked := name; ; asked = parent(asked) {
		m := new(dns.Msg).SetQuestion(asked, dns.TypeSOA)
		// No recursion: what the server knows from others is of no use here, and
		// finding it out would take it long.
		m.RecursionDesired = false
		r, err := at.exchange(ctx, m)
		if err != nil {
			return "", err
		}
		switch {
		case r.Rcode == dns.RcodeServerFailure:
			return "", fmt.Errorf("asking server %s for the zone of %s: %s", at.name, name, rcodeName(r.Rcode))
		case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError:
			return "", &noZoneError{server: at.name, name: name, why: rcodeName(r.Rcode)}
		case !r.Authoritative:
			none := &noZoneError{server: at.name, name: name, why: "it answers without authority"}
			if none.delegated = delegation(r, name); none.delegated != "" {
				none.why = fmt.Sprintf("it delegates %s; expected server=%[1]s=HOST", strings.TrimSuffix(none.delegated, "."))
			}
			return "", none
		}
		alias := slices.ContainsFunc(r.Answer, isAlias) // then the SOA record is that of its target's zone
		for _, rr := range append(r.Answer, r.Ns...) {
			if zone := dns.CanonicalName(rr.Header().Name); !alias && rr.Header().Rrtype == dns.TypeSOA && dns.IsSubDomain(zone, name) {
				return zone, nil
			}
		}
		if !alias || asked == "." {
			return "", &noZoneError{server: at.name, name: name, why: fmt.Sprintf("its answer has no SOA of a zone above %s", strings.TrimSuffix(asked, "."))}
		}
	}
}

func isAlias(rr dns.RR) bool {
	return rr.Header().Rrtype == dns.TypeCNAME || rr.Header().Rrtype == dns.TypeDNAME
}

// delegation is the zone, above the name, that an answer refers to other servers for, "" if it does not.
func delegation(r *dns.Msg, name string) string {
	if r.Rcode != dns.RcodeSuccess || len(r.Answer) > 0 {
		return ""
	}
	for _, rr := range r.Ns {
		if zone := dns.CanonicalName(rr.Header().Name); rr.Header().Rrtype == dns.TypeNS && dns.IsSubDomain(zone, name) && canBeSites(zone) {
			return zone
		}
	}
	return ""
}
