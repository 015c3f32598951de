// Package dicom is a CoreDNS plugin that is the primary server of the zones of
// an imaging network. It answers for them, takes RFC 2136 updates, shows the
// DICOM services of a site file, and hands the zones to secondaries.
//
// The package is an adapter. It turns a Corefile into validated configuration
// and messages into calls; what a zone is and how it changes is package zone,
// what a site publishes is package dnssd.
//
// The handler opens its database only after the whole server has started, by
// an event of caddy and else with the first request, because a start-up that
// fails runs no callbacks. Once it is open, a query takes no lock: it reads the
// snapshot that is published at that moment. All that runs in the background,
// one watcher of the site file, one maker of backups, one notifier for each
// secondary of each zone and the sockets that those use, belongs to the handler and has ended when its shutdown callback returns;
// a transfer that is under way then goes on, within its bounds, from its
// snapshot. Instances that overlap while a Corefile is reloaded share one store.
package dicom

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/dnssd"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
	"golang.org/x/time/rate"
)

const pluginName = "dicom"

var (
	_ plugin.Handler      = (*Dicom)(nil)
	_ transfer.Transferer = (*Dicom)(nil) //nolint:misspell // the interface is called so
)

// Dicom serves the zones of one server block.
type Dicom struct {
	Next plugin.Handler

	*config
	zones     map[string]*served // by origin; the map does not change
	transfers *lanes
	upstream  *upstream.Upstream
	now       func() time.Time // for the serial of a new zone and for retries

	block    int                // the server block in the Corefile, from 0
	keys     []string           // of the server block
	transfer *transfer.Transfer // nil: not in the server block

	notifiers map[string][]notifier // by zone; does not change once it has started
	posts     []*post               // of the notifiers

	refusals refusalLines
	failures *rate.Sometimes // log lines

	replaced atomic.Bool // its instance is being replaced by another one

	waiting atomic.Int32 // requests that wait for a start
	mu      sync.Mutex   // guards what follows
	started bool
	closed  bool
	failed  error          // why the last start failed
	retryAt time.Time      // when the next may be tried
	release func() error   // gives the store back, and the metrics
	stop    func()         // ends the goroutines
	tasks   sync.WaitGroup // the goroutines
}

// served is one zone. It is nil inside until the handler has started.
type served struct {
	origin  string
	zone    atomic.Pointer[zone.Zone]
	metrics atomic.Pointer[zoneMetrics]
	content atomic.Pointer[dnssd.Publication] // nil without a site file
	told    atomic.Pointer[[]notices]         // one for each secondary; nil until they are known
}

func newDicom(cfg *config) *Dicom {
	d := &Dicom{
		config:    cfg,
		zones:     make(map[string]*served, len(cfg.zones)),
		transfers: newLanes(),
		upstream:  upstream.New(),
		now:       time.Now,
		refusals:  newRefusalLines(),
		failures:  sparing(),
	}
	for _, origin := range cfg.zones {
		d.zones[origin] = &served{origin: origin}
	}
	return d
}

// Name implements [plugin.Handler].
func (d *Dicom) Name() string { return pluginName }

// CacheBypassZones keeps the zones out of the cache plugin (its ZoneBypasser):
// an answer from there would hide the update that was acknowledged a moment ago.
func (d *Dicom) CacheBypassZones() []string { return d.config.zones }

// Ready tells the ready plugin (its Readiness) whether the zones are loaded. It
// does not wait while they are.
func (d *Dicom) Ready() bool {
	if !d.mu.TryLock() {
		return false
	}
	defer d.mu.Unlock()
	return d.startLocked() == nil
}

// ServeDNS implements [plugin.Handler].
func (d *Dicom) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	switch r.Opcode {
	case dns.OpcodeQuery:
	case dns.OpcodeUpdate:
		return d.serveUpdate(ctx, w, r)
	default:
		return d.serveOther(ctx, w, r)
	}
	q := r.Question[0] // the server has dropped messages without one
	s := d.zoneOf(q.Name)
	if q.Qtype == dns.TypeDS {
		s = d.parentOf(q.Name, s)
	}
	if s == nil || q.Qclass != dns.ClassINET {
		if loop, _ := ctx.Value(dnsserver.LoopKey{}).(int); loop > 0 && d.Next == nil {
			return dns.RcodeRefused, nil // to follow: SERVFAIL would spoil the alias
		}
		return plugin.NextOrFailure(d.Name(), d.Next, ctx, w, r)
	}
	if q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return dns.RcodeRefused, nil // the transfer plugin answers those it permits
	}
	z, err := d.zone(s)
	if err != nil {
		// start has logged why; as an error it would be logged for each query.
		return dns.RcodeServerFailure, nil //nolint:nilerr // see above
	}

	result := z.Snapshot().Lookup(q.Name, q.Qtype)
	m := new(dns.Msg)
	m.SetReply(r)
	m.Rcode = result.Rcode
	m.Authoritative = result.Authoritative
	// The server appends to these, and their arrays may be the zone's.
	m.Answer, m.Ns, m.Extra = slices.Clip(result.Answer), slices.Clip(result.Ns), slices.Clip(result.Extra)
	if result.Target != "" {
		d.follow(ctx, w, r, m, result.Target)
	}
	leaveOut(w, r, m)
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil
}

// serveOther takes the opcodes that are neither QUERY nor UPDATE.
func (d *Dicom) serveOther(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if d.zoneOf(r.Question[0].Name) == nil {
		return plugin.NextOrFailure(d.Name(), d.Next, ctx, w, r)
	}
	if r.Opcode == dns.OpcodeNotify {
		// A primary has nobody to be notified by (RFC 1996 section 3.10).
		log.Debugf("Dropping NOTIFY from %s for %s", w.RemoteAddr(), r.Question[0].Name)
		return dns.RcodeSuccess, nil
	}
	return dns.RcodeNotImplemented, nil
}

// zoneOf returns the zone that name belongs to: the longest one.
func (d *Dicom) zoneOf(name string) *served {
	name = dns.CanonicalName(name)
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if s, ok := d.zones[name[off:]]; ok {
			return s
		}
	}
	return d.zones["."]
}

// parentOf returns the zone that answers for the DS records of name: where name
// is the apex of the zone s, the zone above it, if that is here (RFC 4035
// section 3.1.4.1).
func (d *Dicom) parentOf(name string, s *served) *served {
	if s == nil || s.origin == "." || dns.CanonicalName(name) != s.origin {
		return s
	}
	off, _ := dns.NextLabel(s.origin, 0)
	above := "."
	if off < len(s.origin) {
		above = s.origin[off:]
	}
	if parent := d.zoneOf(above); parent != nil {
		return parent
	}
	return s
}

// zone returns the zone of s. It starts the handler where nothing has done so
// yet.
func (d *Dicom) zone(s *served) (*zone.Zone, error) {
	if z := s.zone.Load(); z != nil {
		return z, nil
	}
	if err := d.start(); err != nil {
		return nil, err
	}
	return s.zone.Load(), nil
}

// maxAliases bounds how often one question may come back to the server by way
// of aliases between its zones.
const maxAliases = 8

// follow resolves the target of an alias that leaves its zone, by asking this
// CoreDNS, and adds to m what comes back. The answer is worth what the target
// is worth (RFC 6604 section 3). A target that this CoreDNS does not answer for
// is the resolver's to ask for elsewhere: the alias alone is then the whole
// answer, and no error.
func (d *Dicom) follow(ctx context.Context, w dns.ResponseWriter, r, m *dns.Msg, target string) {
	loop, _ := ctx.Value(dnsserver.LoopKey{}).(int)
	if loop >= maxAliases {
		m.Rcode = dns.RcodeServerFailure
		return
	}
	ctx = context.WithValue(ctx, dnsserver.LoopKey{}, loop+1)
	state := request.Request{W: w, Req: r}
	reply, err := d.upstream.Lookup(ctx, state, target, r.Question[0].Qtype)
	if err != nil {
		m.Rcode = dns.RcodeServerFailure
		return
	}
	if reply == nil {
		return
	}
	switch reply.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError, dns.RcodeServerFailure, dns.RcodeYXDomain:
		m.Rcode = reply.Rcode
	default:
		return
	}
	m.Answer = append(m.Answer, reply.Answer...)
	m.Ns = append(m.Ns, reply.Ns...)
	for _, rr := range reply.Extra {
		if rr.Header().Rrtype != dns.TypeOPT { // which the server adds itself
			m.Extra = append(m.Extra, rr)
		}
	}
}
