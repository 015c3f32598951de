package nameupdate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

const (
	// preferAgain is how often the first server of a list is tried again while another one does its work.
	preferAgain = time.Minute
	// maxUpstreams bounds the primaries that are found by asking a resolver.
	maxUpstreams = 1024
)

// Route says which servers take the updates of a zone and of those below it.
type Route struct {
	Zone    string   // canonical; "." for every zone
	Servers []string // HOST:PORT, the first one preferred
}

// ZoneKey says which key signs the updates of a zone and of those below it.
type ZoneKey struct {
	Zone string // canonical; "." for every zone
	Key  tsigkey.Key
}

// upstream is where the updates of some zones go: one server or several that do the same, and one key. What is known of
// one says nothing of another.
type upstream struct {
	name    string       // the servers, for people
	hosts   []string     // the servers, as HOST:PORT
	key     string       // name of the key, "" for none
	keyring *keyring     // may be nil
	log     *slog.Logger // may be nil
	found   bool         // the resolvers told of it, and no route does; routes.mu is held

	mu      sync.Mutex
	servers []exchanger // replaced with the key
	current int         // of servers, the one that answered last
	prefer  time.Time   // when the first one is tried again
	// silent are those of servers that did not answer, and when each is asked again for what another one passes on: until
	// then, who waits for it holds up others for nothing.
	silent map[int]time.Time

	refused atomic.Bool // what it answered last may mean that it has another key

	// heldUntil is the Unix time in nanoseconds before which exchanges fail at once, since they would anyway: Worker sets
	// it. Then one may try.
	heldUntil atomic.Int64
	// wanted is the Unix time in nanoseconds of the last exchange that was asked for while heldUntil was set.
	wanted atomic.Int64
}

var _ exchanger = (*upstream)(nil)

// errHeld is the failure of an exchange that was not tried.
var errHeld = errors.New("it did not answer a moment ago")

// exchange asks the server that answered last, and the others if it does not answer, or if it could not or would not do
// what it was asked (RFC 2136 section 4): it may have lost the one zone.
func (u *upstream) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	var probe int64
	if until := u.heldUntil.Load(); until != 0 {
		now := time.Now()
		u.wanted.Store(now.UnixNano())
		probe = now.Add(maxProbe).UnixNano()
		if now.UnixNano() < until || !u.heldUntil.CompareAndSwap(until, probe) {
			return nil, &upstreamError{u, &serverError{server: u.name, err: errHeld}}
		}
	}
	if u.refused.Load() {
		u.keyring.check()
	}
	servers, first := u.first()
	var answer *dns.Msg // the first one, or a better one
	var last error
	refused := false
	for i := range servers {
		n := (first + i) % len(servers)
		if answer != nil && !u.worthAsking(n) {
			continue
		}
		r, err := servers[n].exchange(ctx, m)
		done := err == nil && !passes(r.Rcode)
		refused = !done && (refused || refuses(r, err))
		if len(servers) > 1 {
			u.heard(n, err, answer == nil)
		}
		if done || err == nil && answer == nil {
			answer = r
		}
		if last = err; done || err != nil && !fails[*serverError](err) && !fails[*tcpError](err) {
			break // it is not the server's absence
		}
	}
	u.refused.Store(refused)
	switch {
	case answer != nil:
		if probe != 0 {
			u.heldUntil.CompareAndSwap(probe, 0)
		}
		return answer, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, &upstreamError{u, last}
}

// passes says whether an answer leaves it to the next server of several.
func passes(rcode int) bool {
	switch rcode {
	case dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused, dns.RcodeNotAuth:
		return true
	}
	return false
}

// first is the servers, and which to begin with.
func (u *upstream) first() ([]exchanger, int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.current == 0 {
		return u.servers, 0
	}
	if now := time.Now(); now.After(u.prefer) {
		u.prefer = now.Add(preferAgain)
		return u.servers, 0
	}
	return u.servers, u.current
}

// replace puts others in the place of the servers, in the same order, and returns those from before; with nil it only
// returns them.
func (u *upstream) replace(servers []exchanger) (before []exchanger) {
	u.mu.Lock()
	defer u.mu.Unlock()
	before = u.servers
	if servers != nil {
		u.servers = servers
	}
	return before
}

// heard notes whether a server of several answers, and begins with it from now on if none before it did.
func (u *upstream) heard(n int, err error, first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case fails[*serverError](err):
		if u.silent == nil {
			u.silent = make(map[int]time.Time)
		}
		if u.silent[n].IsZero() {
			u.say(slog.LevelWarn, "server does not answer, the others of its zones are asked", n, "error", err)
		}
		u.silent[n] = time.Now().Add(preferAgain)
	case err == nil:
		if !u.silent[n].IsZero() {
			u.say(slog.LevelInfo, "server answers again", n)
		}
		delete(u.silent, n)
		if first && n != u.current {
			u.current, u.prefer = n, time.Now().Add(preferAgain)
		}
	}
}

// say writes a line about one server of several.
func (u *upstream) say(level slog.Level, message string, n int, args ...any) {
	if u.log != nil && n < len(u.hosts) {
		u.log.Log(context.Background(), level, message, append(args, "server", u.hosts[n], "of", u.name)...)
	}
}

// worthAsking says whether a server is asked for what another one passes on. One that is silent has one such question in
// preferAgain.
func (u *upstream) worthAsking(n int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	again, silent := u.silent[n]
	if now := time.Now(); silent {
		if now.Before(again) {
			return false
		}
		u.silent[n] = now.Add(preferAgain)
	}
	return true
}

// upstreamError says whose an error is.
type upstreamError struct {
	at  *upstream
	err error
}

func (e *upstreamError) Error() string { return e.err.Error() }
func (e *upstreamError) Unwrap() error { return e.err }

func fails[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

// routes finds the upstream of a name.
type routes struct {
	routes   []Route
	keyring  *keyring     // may be nil
	log      *slog.Logger // may be nil
	resolver *resolver    // for zones that no route is for, or that its servers delegate; may be nil
	asked    atomic.Bool  // the resolver was
	dial     func(server string, key tsigkey.Key, alone bool) exchanger

	mu   sync.Mutex
	keys []ZoneKey
	made map[string]*upstream // by servers and name of the key
}

// of returns where the zone of a name is to be updated. It is not asked whether there is such a zone.
func (r *routes) of(ctx context.Context, name string) (*upstream, error) {
	servers := longest(r.routes, name, func(x *Route) string { return x.Zone })
	if servers != nil {
		return r.at(servers.Servers, name, false)
	}
	if r.resolver == nil {
		return nil, &noZoneError{server: "configuration", name: name, why: "no server is given for it"}
	}
	return r.found(ctx, name)
}

// found returns the upstream that the resolvers know of for the zone of a name.
func (r *routes) found(ctx context.Context, name string) (*upstream, error) {
	r.asked.Store(true)
	found, err := r.resolver.primary(ctx, name)
	if err != nil {
		return nil, err
	}
	return r.at(found, name, true)
}

// at returns the upstream of these servers with the key of a name.
func (r *routes) at(servers []string, name string, found bool) (*upstream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var key tsigkey.Key
	if k := longest(r.keys, name, func(x *ZoneKey) string { return x.Zone }); k != nil {
		key = k.Key
	}
	list := strings.Join(servers, ",")
	id := list + " " + key.Name
	if u := r.made[id]; u != nil {
		u.found = u.found && found
		return u, nil
	}
	if len(r.made) >= maxUpstreams {
		return nil, fmt.Errorf("the zone of %s: more than %d servers", name, maxUpstreams)
	}
	u := &upstream{name: list, hosts: servers, key: key.Name, keyring: r.keyring, log: r.log, found: found, servers: r.dialAll(servers, key)}
	r.made[id] = u
	return u, nil
}

// leave forgets an upstream that the resolvers told of, and reports whether they did.
func (r *routes) leave(u *upstream) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !u.found {
		return false
	}
	if id := u.name + " " + u.key; r.made[id] == u {
		delete(r.made, id)
	}
	closeClients(u.replace(nil))
	return true
}

func (r *routes) dialAll(hosts []string, key tsigkey.Key) []exchanger {
	var servers []exchanger
	for _, h := range hosts {
		servers = append(servers, r.dial(h, key, len(hosts) == 1))
	}
	return servers
}

// longest is the entry for the longest zone that a name is in, or nil.
func longest[T any](list []T, name string, zone func(*T) string) *T {
	var best *T
	for i := range list {
		if e := &list[i]; dns.IsSubDomain(zone(e), name) && (best == nil || len(zone(e)) > len(zone(best))) {
			best = e
		}
	}
	return best
}

// upstreams are those that are in use, by name.
func (r *routes) upstreams() []*upstream {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*upstream, 0, len(r.made)+1)
	for _, u := range r.made {
		list = append(list, u)
	}
	if r.asked.Load() {
		list = append(list, r.resolver.up)
	}
	slices.SortFunc(list, func(a, b *upstream) int { return strings.Compare(a.name, b.name) })
	return list
}

// close closes what connections are open.
func (r *routes) close() {
	for _, u := range r.upstreams() {
		closeClients(u.replace(nil))
	}
}

func closeClients(servers []exchanger) {
	for _, s := range servers {
		if c, ok := s.(*client); ok {
			c.close()
		}
	}
}
