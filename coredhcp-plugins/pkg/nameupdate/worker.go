package nameupdate

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
)

const (
	// pollEvery is how often the queue is asked without a signal, so that what
	// was returned for later is taken when its time has come.
	pollEvery = time.Second

	minBackoff = time.Second
	maxBackoff = time.Minute
	// maxProbe bounds how long a server that answers again waits for us. One
	// message in five seconds troubles nobody.
	maxProbe = 5 * time.Second
	// conflictRetry is how often the owner of a name is looked at again. Mostly it
	// is there to stay.
	conflictRetry = 10 * time.Minute
)

// Stats counts what a Worker did since it was made.
type Stats struct {
	Added      uint64 // names confirmed as shown
	Removed    uint64 // names confirmed as gone
	Conflicts  uint64 // attempts that found the name to be somebody else's; where its pointer cannot be removed, that counts below too
	Unanswered uint64 // attempts that no server answered, those that were not made since none did included
	Unsigned   uint64 // attempts whose signature the server refused
	Failures   uint64 // attempts that failed otherwise
	Waiting    int    // changes that failed and are not done yet, or were superseded within the last minutes
	InFlight   int    // changes being worked on
	Servers    []ServerStats
}

// ServerStats is one server, or several that do the same.
type ServerStats struct {
	Server string // HOST:PORT, several with commas between
	Up     bool   // it answers and takes the key, as far as is known
}

// Down says whether some server does not answer or refuses the key.
func (s *Stats) Down() bool {
	return slices.ContainsFunc(s.Servers, func(s ServerStats) bool { return !s.Up })
}

// Worker makes DNS equal to what its Queue asks for.
type Worker struct {
	config Config
	queue  Queue
	routes *routes
	zones  *zones
	scout  *scout

	rekeyed chan struct{} // signalled when there are new keys

	added, removed, conflicts, unanswered, unsigned, failures atomic.Uint64
	waiting, inFlight                                         atomic.Int64

	// Everything below is Run's alone.
	history *history
	gates   map[string]*gate // by zone
	log     *journal
	outages map[*upstream]*outage
	worked  map[*upstream]bool // those that have ever answered
	rekey   time.Time          // when Run last heard of new keys
	pace    *pace
}

// outage is the time in which an upstream takes nothing.
type outage struct {
	since   time.Time
	key     bool // the server answers, but refuses the key
	delay   time.Duration
	probeAt time.Time // when the next change is tried
}

// result is what an attempt hands back to Run.
type result struct {
	change  lease.NameChange
	outcome outcome
	started time.Time
}

func newWorker(c Config, q Queue, r *routes) *Worker {
	w := &Worker{
		config:  c,
		queue:   q,
		routes:  r,
		zones:   newZones(r.of),
		rekeyed: make(chan struct{}, 1),
		history: newHistory(),
		gates:   make(map[string]*gate),
		log:     newJournal(c.Logger),
		outages: make(map[*upstream]*outage),
		worked:  make(map[*upstream]bool),
		pace:    newPace(c),
	}
	w.scout = newScout(w.zones, &w.inFlight)
	r.log = c.Logger
	if c.ReadKeys != nil {
		r.keyring = &keyring{read: c.ReadKeys, use: w.useKeys, log: c.Logger}
	}
	if r.resolver != nil {
		w.zones.elsewhere = r.found
	}
	return w
}

// Stats may be called at any time.
func (w *Worker) Stats() Stats {
	s := Stats{
		Added: w.added.Load(), Removed: w.removed.Load(), Conflicts: w.conflicts.Load(), Unanswered: w.unanswered.Load(),
		Unsigned: w.unsigned.Load(), Failures: w.failures.Load(),
		Waiting: int(w.waiting.Load()), InFlight: int(w.inFlight.Load()),
	}
	for _, u := range w.routes.upstreams() {
		up := u.heldUntil.Load() == 0
		if n := len(s.Servers); n > 0 && s.Servers[n-1].Server == u.name { // with another key
			s.Servers[n-1].Up = s.Servers[n-1].Up && up
		} else {
			s.Servers = append(s.Servers, ServerStats{u.name, up})
		}
	}
	return s
}

// Run works until ctx ends, gives back what it has in hand, and returns nil. It
// may run once.
func (w *Worker) Run(ctx context.Context) error {
	// Goroutines that stay keep their stacks: one for each attempt would spend an eighth of its time growing its own.
	work, done := make(chan lease.NameChange), make(chan result, w.config.InFlight)
	workers := 0
	defer close(work) // when all have handed back what they had
	var scouting sync.WaitGroup
	scouting.Go(func() { w.scout.run(ctx, w.queue.NamesAhead()) })
	defer scouting.Wait()
	busy := 0
	var reread time.Time // when the keys were, if a server refused one
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		if now.Sub(reread) >= pollEvery {
			reread = now
			w.routes.rereadKeys()
			w.leaveMoved(now)
		}
		changes, held := w.take(busy, now)
		for _, c := range changes {
			if busy++; busy > workers {
				workers++
				go func() {
					for c := range work {
						done <- w.attempt(ctx, c)
					}
				}()
			}
			work <- c // one of them is free
		}
		w.inFlight.Store(int64(busy))
		if len(changes) > 0 || held {
			select {
			case r := <-done:
				w.done(ctx, r, busy, time.Now())
				busy--
			default:
			}
			continue // there may be more to take
		}
		timer.Reset(w.wait(time.Now()))
		select {
		case <-ctx.Done():
		case <-w.queue.NameChanges():
		case <-timer.C:
		case <-w.rekeyed:
			w.tryKeys(time.Now())
		case r := <-done:
			w.done(ctx, r, busy, time.Now())
			busy--
		}
	}
	for ; busy > 0; busy-- {
		w.settle(ctx, <-done, time.Now())
	}
	w.inFlight.Store(0)
	w.routes.close()
	return nil
}

// done takes what became of one of the changes that are worked on.
func (w *Worker) done(ctx context.Context, r result, busy int, now time.Time) {
	if o := &r.outcome; o.err == nil && len(o.answered) > 0 {
		w.pace.answered(o.answered[0], o.took, r.started, now, busy >= w.pace.size)
	}
	w.settle(ctx, r, now)
}

// take returns changes to work on, as many as there is room for; while no server
// takes anything, one at a time. It returns none if there are none to be had now.
// Held means that there were some which their zone's gate did not let through.
func (w *Worker) take(busy int, now time.Time) (changes []lease.NameChange, held bool) {
	room := w.pace.size - busy
	if w.out() {
		if busy > 0 || now.Before(w.probeAt()) {
			return nil, false
		}
		room = 1
	}
	if room <= 0 {
		return nil, false
	}
	for _, c := range w.queue.TakeNameChanges(room) {
		if h := w.history.of(c); h != nil && h.zone != "" && !w.gate(h.zone).admits(now) {
			w.queue.ReturnNameChange(c, now.Add(jitter(backoff(h.attempts))))
			held = true
			continue
		}
		changes = append(changes, c)
	}
	return changes, held
}

// out says whether every upstream that is known of is in an outage.
func (w *Worker) out() bool {
	if len(w.outages) == 0 {
		return false
	}
	for u := range w.worked {
		if w.outages[u] == nil {
			return false
		}
	}
	return true
}

// probeAt is when the first of the outages may be over.
func (w *Worker) probeAt() time.Time {
	var first time.Time
	for _, o := range w.outages {
		if first.IsZero() || o.probeAt.Before(first) {
			first = o.probeAt
		}
	}
	return first
}

// wait is how long Run may sleep without a signal.
func (w *Worker) wait(now time.Time) time.Duration {
	if w.out() {
		return min(max(w.probeAt().Sub(now), pollEvery/10), pollEvery)
	}
	return pollEvery
}

func (w *Worker) attempt(ctx context.Context, c lease.NameChange) result {
	started := time.Now()
	return result{change: c, outcome: apply(ctx, w.zones, c, w.config.TTL(c.LeaseTime), w.scout.takes(c.Name)), started: started}
}

// settle confirms the change or returns it, and learns from what happened.
func (w *Worker) settle(ctx context.Context, r result, now time.Time) {
	c, err := r.change, r.outcome.err
	if err != nil && ctx.Err() != nil {
		w.queue.ReturnNameChange(c, now)
		return
	}
	defer func() { w.waiting.Store(int64(w.history.len())) }()

	out := w.out()
	for _, u := range r.outcome.answered {
		w.serverWorks(u, r.started, now)
	}
	if r := w.routes.resolver; r != nil && w.outages[r.up] != nil && r.up.heldUntil.Load() == 0 {
		w.outageEnds(r.up, now) // they answered: no change is theirs
	}
	if out && !w.out() {
		w.queue.HoldNameChanges("")
	}
	if p, ok := errors.AsType[*pointerError](err); ok && p.conflict {
		w.conflicts.Add(1)
		w.log.conflict(c)
	}
	refused := fails[*keyError](err)
	if from, ok := errors.AsType[*upstreamError](err); ok {
		switch {
		case errors.Is(err, errHeld):
			w.unanswered.Add(1)
			w.queue.FailNameChange(c, now.Add(jitter(2*maxProbe)), w.trouble(err))
			return
		case refused || fails[*serverError](err):
			counted := &w.unanswered
			if refused {
				counted = &w.unsigned
			}
			counted.Add(1)
			if w.outages[from.at] == nil {
				w.giveBack(c, "", err, now)
				w.serverFailed(from.at, err, refused, r.started, now)
				return
			}
			w.serverFailed(from.at, err, refused, r.started, now)
			w.history.failed(c, "", now)
			// Its own pause would have it wait for a server that is back. But the next try is another change's, if there is
			// one: this may be one that the server never answers.
			w.queue.FailNameChange(c, w.outages[from.at].probeAt.Add(jitter(maxProbe)), w.trouble(err))
			return
		case fails[*tcpError](err) && w.outages[from.at] != nil:
			// The server may be well and only its TCP port closed.
			w.probeLater(from.at, now)
		}
	}
	for _, zone := range r.outcome.zones {
		w.zoneWorks(zone)
	}
	if none := r.outcome.noReverse; none != nil {
		w.gate(parent(none.name)).opens() // what waited for it need not any more
		w.log.once(slog.LevelWarn, parent(none.name), "addresses get no names", "zone", parent(none.name), "error", none)
	}

	switch {
	case err == nil:
		w.confirm(c, now)
	case errors.Is(err, errConflict):
		w.conflicts.Add(1)
		w.history.failed(c, "", now)
		w.queue.FailNameChange(c, now.Add(jitter(conflictRetry)), conflict)
		w.log.conflict(c)
	default:
		w.failures.Add(1)
		if r.started.Before(w.rekey) {
			w.history.forget(c) // those before it failed with the key from before, and so may this one have
		}
		if zone := r.outcome.failed; zone != "" {
			w.gate(zone).closes()
		}
		w.giveBack(c, r.outcome.failed, err, now)
		w.log.problem(r.outcome.failed, err, now, "name", c.Name, "address", c.Address.String(), "remove", c.Remove)
	}
}

// conflict is what a lease is told of errConflict.
var conflict = lease.Trouble{Conflict: true, Text: errConflict.Error()}

// trouble is what a lease is told of an error.
func (w *Worker) trouble(err error) lease.Trouble {
	p, pointer := errors.AsType[*pointerError](err)
	return lease.Trouble{Conflict: pointer && p.conflict, Pointer: pointer, Text: w.log.intern(err.Error())}
}

// giveBack returns a change that failed.
func (w *Worker) giveBack(c lease.NameChange, zone string, err error, now time.Time) {
	h := w.history.failed(c, zone, now)
	w.queue.FailNameChange(c, now.Add(jitter(backoff(h.attempts))), w.trouble(err))
}

// zoneWorks records that the zone took its part of a change.
func (w *Worker) zoneWorks(zone string) {
	if g := w.gates[zone]; g != nil && g.opens() {
		w.log.line(slog.LevelInfo, "zone takes updates again", "zone", zone)
	}
}

func (w *Worker) confirm(c lease.NameChange, now time.Time) {
	if err := w.queue.ConfirmNameChange(c); err != nil {
		w.failures.Add(1)
		w.giveBack(c, "", err, now)
		w.log.problem("", err, now, "name", c.Name, "address", c.Address.String())
		return
	}
	w.history.forget(c)
	resolved := w.log.resolved(c)
	if c.Remove {
		w.removed.Add(1)
		return
	}
	w.added.Add(1)
	if resolved {
		w.log.line(slog.LevelInfo, "name is free now and taken", "name", c.Name, "address", c.Address.String())
	}
}

// serverFailed begins an outage, or goes on with it if the attempt that failed
// was begun in it.
func (w *Worker) serverFailed(u *upstream, err error, key bool, started, now time.Time) {
	o := w.outages[u]
	longest := maxProbe
	if key {
		longest = maxBackoff
	}
	switch {
	case o == nil || o.key != key:
		if o == nil {
			o = &outage{since: now}
			w.outages[u] = o
		}
		o.key, o.delay = key, minBackoff
		if w.out() {
			w.queue.HoldNameChanges(w.log.intern(err.Error()))
		}
		w.log.line(slog.LevelError, "names do not reach DNS", "server", u.name, "error", err)
	case started.Before(o.probeAt):
		return // one of those in flight when it began
	default:
		o.delay = min(2*o.delay, longest)
	}
	w.probeLater(u, now)
}

// probeLater sets the time of the next attempt in an outage.
func (w *Worker) probeLater(u *upstream, now time.Time) {
	o := w.outages[u]
	o.probeAt = now.Add(jitter(o.delay))
	u.heldUntil.Store(o.probeAt.UnixNano())
}

// serverWorks ends an outage, if the attempt that was answered began in it: an earlier one may have its answer from before.
func (w *Worker) serverWorks(u *upstream, started, now time.Time) {
	w.worked[u] = true
	if o := w.outages[u]; o != nil && !started.Before(o.since) {
		w.outageEnds(u, now)
	}
}

func (w *Worker) outageEnds(u *upstream, now time.Time) {
	w.log.line(slog.LevelInfo, "names reach DNS again", "server", u.name, "after", now.Sub(w.outages[u].since).Round(time.Millisecond))
	delete(w.outages, u)
	u.heldUntil.Store(0)
}

// leaveMoved forgets servers that resolvers told of and that take nothing, where nothing goes for longer than what is known
// of a zone holds: the zone has another primary by now.
func (w *Worker) leaveMoved(now time.Time) {
	out := w.out()
	for u, o := range w.outages {
		if now.Sub(o.since) > zoneLife && now.UnixNano()-u.wanted.Load() > int64(zoneLife) && w.routes.leave(u) {
			w.log.line(slog.LevelInfo, "server is not asked any more", "server", u.name)
			delete(w.outages, u)
			delete(w.worked, u)
			delete(w.pace.fastest, u)
		}
	}
	if out && !w.out() {
		w.queue.HoldNameChanges("")
	}
}

func (w *Worker) gate(zone string) *gate {
	g := w.gates[zone]
	if g == nil {
		if len(w.gates) >= maxZones {
			clear(w.gates)
		}
		g = new(gate)
		w.gates[zone] = g
	}
	return g
}

// backoff is how long a change waits after it failed that many times.
func backoff(attempts int) time.Duration {
	return min(minBackoff<<min(max(attempts-1, 0), 10), maxBackoff)
}

// jitter spreads what would come back together over d/2 to d.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}
