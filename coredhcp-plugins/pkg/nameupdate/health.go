package nameupdate

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
)

const (
	gateAfter = 16                    // failures in a row close a zone's gate
	gateEvery = 50 * time.Millisecond // a closed gate lets one change through in this time

	maxHistory    = 1 << 20          // changes whose failures are remembered
	historySweep  = 10 * time.Minute // those not seen for two sweeps were superseded
	repeatAfter   = 10 * time.Minute // a problem that lasts is logged again after this time
	maxRemembered = 1 << 16          // names and zones that the log remembers
)

// gate holds back changes that failed before while their zone takes nothing, so
// that a zone with many names that refuses them all is not stormed. A change
// that was never tried always passes: it may be the one that works.
type gate struct {
	failures int // in a row
	next     time.Time
}

func (g *gate) admits(now time.Time) bool {
	if g.failures < gateAfter {
		return true
	}
	if now.Before(g.next) {
		return false
	}
	g.next = now.Add(gateEvery)
	return true
}

func (g *gate) closes() { g.failures++ }

// opens records a success and reports whether the gate was closed.
func (g *gate) opens() bool {
	was := g.failures >= gateAfter
	g.failures = 0
	return was
}

// history remembers the changes that failed. Run alone uses it.
type history struct {
	entries map[lease.NameChange]*past
	swept   time.Time
}

type past struct {
	attempts int
	zone     string // that did not take it, "" if it was not a zone's fault
	last     time.Time
}

func newHistory() *history { return &history{entries: make(map[lease.NameChange]*past)} }

// key leaves out what differs between two takings of what is the same to DNS.
func key(c lease.NameChange) lease.NameChange {
	c.LeaseTime, c.Version = 0, 0
	return c
}

func (h *history) of(c lease.NameChange) *past { return h.entries[key(c)] }
func (h *history) forget(c lease.NameChange)   { delete(h.entries, key(c)) }
func (h *history) len() int                    { return len(h.entries) }
func (h *history) failed(c lease.NameChange, zone string, now time.Time) *past {
	h.sweep(now)
	p := h.entries[key(c)]
	if p == nil {
		p = new(past)
		if len(h.entries) < maxHistory {
			h.entries[key(c)] = p
		}
	}
	p.attempts, p.zone, p.last = p.attempts+1, zone, now
	return p
}

// sweep drops changes that did not come back: the lease moved on.
func (h *history) sweep(now time.Time) {
	if now.Sub(h.swept) < historySweep {
		return
	}
	for k, p := range h.entries {
		if now.Sub(p.last) > 2*historySweep {
			delete(h.entries, k)
		}
	}
	h.swept = now
}

// journal writes one line for each lasting problem. Run alone uses it.
type journal struct {
	logger    *slog.Logger
	said      map[string]bool
	conflicts map[string]netip.Addr // the first address whose lease is in conflict, by name
	problems  map[string]*problem
	texts     map[string]string
}

type problem struct {
	logged time.Time
	since  int // occurrences since then
}

func newJournal(l *slog.Logger) *journal {
	return &journal{logger: l, said: make(map[string]bool), conflicts: make(map[string]netip.Addr), problems: make(map[string]*problem), texts: make(map[string]string)}
}

func (j *journal) line(level slog.Level, message string, args ...any) {
	j.logger.Log(context.Background(), level, message, args...)
}

// once logs the first time that it is called with the key.
func (j *journal) once(level slog.Level, key, message string, args ...any) {
	if j.said[key] {
		return
	}
	remember(j.said, key, true)
	j.line(level, message, args...)
}

// conflict logs that the change's name is somebody else's, once for each name.
func (j *journal) conflict(c lease.NameChange) {
	if j.conflicts[c.Name].IsValid() {
		return
	}
	remember(j.conflicts, c.Name, c.Address)
	j.line(slog.LevelWarn, "name is not this client's", "name", c.Name, "address", c.Address.String(), "error", errConflict)
}

// resolved reports whether a conflict was logged for the name at the address, and ends it.
func (j *journal) resolved(c lease.NameChange) bool {
	if j.conflicts[c.Name] != c.Address {
		return false
	}
	delete(j.conflicts, c.Name)
	return true
}

// intern returns one string for all that are equal.
func (j *journal) intern(text string) string {
	if kept, ok := j.texts[text]; ok {
		return kept
	}
	if len(j.texts) >= maxRemembered {
		clear(j.texts)
	}
	j.texts[text] = text
	return text
}

func remember[V any](m map[string]V, key string, v V) {
	if len(m) >= maxRemembered {
		clear(m)
	}
	m[key] = v
}

// problem logs that changes of the zone fail, once for each kind of failure and
// again while it lasts, with how often it happened meanwhile.
func (j *journal) problem(zone string, err error, now time.Time, args ...any) {
	kind := zone
	if answer, ok := errors.AsType[*answerError](err); ok {
		kind += " " + rcodeName(answer.rcode)
	}
	p := j.problems[kind]
	if p == nil {
		if len(j.problems) >= maxRemembered {
			clear(j.problems)
		}
		p = new(problem)
		j.problems[kind] = p
	}
	p.since++
	if now.Sub(p.logged) < repeatAfter {
		return
	}
	j.line(slog.LevelWarn, "update failed", append(args, "failures", p.since, "error", err)...)
	p.logged, p.since = now, 0
}
