package zone

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/miekg/dns"
)

// job is one transaction of a zone, or one piece of other work for the committer.
type job struct {
	ctx   context.Context
	zone  *Zone
	run   func(c *Candidate) verdict // a transaction
	after bool                       // run Derive
	site  *replacement               // a transaction that was prepared
	rules *Derive                    // that the zone gets if run succeeds; nil: it keeps its own
	exec  func() error               // other work, alone

	taken   atomic.Bool // by the committer, or by a caller that gave up
	done    chan struct{}
	rcode   int
	err     error
	changed bool
}

func newJob(ctx context.Context) *job { return &job{ctx: ctx, done: make(chan struct{})} }

func (j *job) finish(rcode int, err error) {
	j.rcode, j.err = rcode, err
	close(j.done)
}

// submit queues a job. The error is that of the job's context, or ErrClosed.
func (s *Store) submit(j *job) error {
	select {
	case <-s.quit:
		return ErrClosed
	default:
	}
	select {
	case s.jobs <- j:
	case <-s.quit:
		return ErrClosed
	case <-j.ctx.Done():
		return j.ctx.Err()
	}
	return nil
}

// wait returns when the job is answered, its caller gives up, or the committer is gone.
func (s *Store) wait(j *job) (int, error) {
	select {
	case <-j.done:
		return j.rcode, j.err
	case <-s.closed:
		select {
		case <-j.done:
			return j.rcode, j.err
		default:
			return dns.RcodeServerFailure, ErrClosed
		}
	case <-j.ctx.Done():
		if j.taken.CompareAndSwap(false, true) {
			return dns.RcodeServerFailure, j.ctx.Err() // nothing was and nothing will be done
		}
		return dns.RcodeServerFailure, fmt.Errorf("outcome unknown: %w", j.ctx.Err())
	}
}

// commitLoop is the committer.
func (s *Store) commitLoop() {
	defer close(s.closed)
	var group []*job
	for {
		var first *job
		select {
		case <-s.quit:
			s.shutdown()
			return
		case <-s.alarm.wake:
			_ = s.execute(s.heal) // the guard told why; if this fails, the next job tries again and tells
			continue
		case first = <-s.jobs:
		}
		// Whoever can run now may be about to submit a job as well: a commit for each of two groups takes longer than one.
		runtime.Gosched()
		group = append(group[:0], first)
		for len(group) < maxGroup && group[len(group)-1].exec == nil {
			select {
			case j := <-s.jobs:
				group = append(group, j)
				continue
			default:
			}
			break
		}
		last := group[len(group)-1]
		if last.exec != nil {
			group = group[:len(group)-1]
		}
		s.commit(group)
		if last.exec != nil && last.taken.CompareAndSwap(false, true) {
			last.finish(0, s.execute(last.exec))
		}
		clear(group)
	}
}

func (s *Store) shutdown() {
	for {
		select {
		case j := <-s.jobs:
			if j.taken.CompareAndSwap(false, true) {
				j.finish(dns.RcodeServerFailure, ErrClosed)
			}
			continue
		default:
		}
		break
	}
	if s.db != nil {
		cause := s.guard.failed()
		s.err = s.endDB()
		if failed := s.guard.failed(); failed != nil && !errors.Is(failed, errLeft) {
			cause = failed
		}
		if cause != nil {
			s.err = cause
		}
	}
}

func (s *Store) execute(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("zone store panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

// pending is what a group does to one zone.
type pending struct {
	zone    *Zone
	backup  state
	rules   Derive // before the group
	changes []difference
	log     []logEntry
	content bool
}

// commit applies a group of transactions, makes them durable together, publishes, and answers.
func (s *Store) commit(group []*job) {
	var zones []*pending
	var running []*job
	for _, j := range group {
		if !j.taken.CompareAndSwap(false, true) {
			continue
		}
		if err := j.ctx.Err(); err != nil {
			j.finish(dns.RcodeServerFailure, err)
			continue
		}
		running = append(running, j)
	}
	if len(running) == 0 {
		return
	}
	defer s.observed(time.Now(), len(running))
	err := s.execute(func() error {
		for _, j := range running {
			p := pendingOf(&zones, j.zone)
			if err := s.transact(j, p); err != nil {
				return err
			}
		}
		return s.writeGroup(zones)
	})
	if err != nil {
		for _, p := range zones {
			p.zone.master, p.zone.derive = p.backup, p.rules
		}
		for _, j := range running {
			j.changed = false
			j.finish(dns.RcodeServerFailure, fmt.Errorf("committing: %w", err))
		}
		return
	}
	for _, p := range zones {
		if len(p.changes) > 0 {
			p.zone.publish()
		}
	}
	for _, p := range zones {
		if p.content {
			if cfg := p.zone.config.Load(); cfg.Committed != nil {
				serial := p.zone.Snapshot().Serial()
				_ = s.execute(func() error { cfg.Committed(serial); return nil })
			}
		}
	}
	for _, j := range running {
		close(j.done)
	}
}

func pendingOf(zones *[]*pending, z *Zone) *pending {
	for _, p := range *zones {
		if p.zone == z {
			return p
		}
	}
	p := &pending{zone: z, backup: z.master.copy(), rules: z.derive}
	*zones = append(*zones, p)
	return p
}

// transact runs one transaction on the zone's master state. Its own failure is its own verdict and changes nothing; the
// error is for what leaves the master state unusable.
func (s *Store) transact(j *job, p *pending) error {
	z := p.zone
	c := newCandidate(&z.apex, &z.master, &s.pack)
	var d difference
	v := s.evaluate(j, c, &d)
	j.rcode, j.err = v.rcode, v.err
	if v != accepted {
		return nil
	}
	if j.rules != nil {
		z.derive = *j.rules
	}
	if d.empty() {
		return nil
	}
	if j.site != nil {
		z.master = j.site.state // brought up to date
	}
	c.install(&z.master, &d)
	z.tell(c, j.site)
	p.changes = append(p.changes, d)
	if d.content {
		p.log = z.master.journal.add(p.log, d.revision, z.master.octets)
	}
	p.content = p.content || d.content
	j.changed = true
	return nil
}

// evaluate is the part of a transaction that may fail, or panic, without a trace.
func (s *Store) evaluate(j *job, c *Candidate, d *difference) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("zone transaction panicked", "zone", c.apex.name, "panic", p, "stack", string(debug.Stack()))
			v = verdict{dns.RcodeServerFailure, fmt.Errorf("panic: %v", p)}
		}
	}()
	failed := func(err error) verdict { return verdict{dns.RcodeServerFailure, err} }
	if v := j.run(c); v != accepted {
		return v
	}
	var err error
	if *d, err = c.difference(); err != nil {
		return failed(err)
	}
	if j.site != nil {
		d.merge(&j.site.diff)
	}
	if d.empty() {
		return accepted
	}
	cfg := j.zone.config.Load()
	if rules := j.zone.derive; j.after && rules != nil {
		if err := c.derive(rules); err != nil {
			return failed(err)
		}
		if *d, err = c.difference(); err != nil {
			return failed(err)
		}
	}
	if d.content && !c.explicitSOA {
		if err := c.number(d); err != nil {
			return failed(err)
		}
	}
	if err := cfg.Limits.check(c.base, len(d.added)-len(d.removed), d.octets()); err != nil {
		return verdict{dns.RcodeRefused, err}
	}
	if d.content {
		if d.revision, err = d.revise(c.pack); err != nil {
			return failed(err)
		}
	}
	return accepted
}

// writeGroup makes what the group changed durable.
func (s *Store) writeGroup(zones []*pending) (err error) {
	if s.dir == "" {
		return nil
	}
	var batch *pebble.Batch
	for _, p := range zones {
		if len(p.changes) == 0 {
			continue
		}
		if batch == nil {
			if err := s.heal(); err != nil {
				return err
			}
			batch = s.db.NewBatch()
			defer func() { err = errors.Join(err, batch.Close()) }()
		}
		if err := p.write(batch, &s.pack); err != nil {
			return err
		}
	}
	if batch == nil {
		return nil
	}
	return s.write(batch, func() (undo []mutation, err error) {
		for _, p := range zones {
			if undo, err = p.undo(undo, &s.pack); err != nil {
				return nil, err
			}
		}
		return undo, nil
	})
}

// write adds what the group did to the zone to the batch.
func (p *pending) write(b *pebble.Batch, pack *packer) error {
	head, err := appendHead(nil, &p.zone.master, pack)
	if err != nil {
		return err
	}
	if err := set(b, idKey(keyHead, p.zone.id), head); err != nil {
		return err
	}
	for _, d := range p.changes {
		if err := d.write(b, p.zone.id, pack); err != nil {
			return err
		}
	}
	for _, e := range p.log {
		value := e.value
		if e.dropped {
			value = nil
		}
		if err := set(b, journalKey(p.zone.id, e.number), value); err != nil {
			return err
		}
	}
	return nil
}

// undo appends what takes all that back, if the last comes first.
func (p *pending) undo(ms []mutation, pack *packer) ([]mutation, error) {
	if len(p.changes) == 0 {
		return ms, nil
	}
	head, err := appendHead(nil, &p.backup, pack)
	if err != nil {
		return nil, err
	}
	ms = append(ms, mutation{idKey(keyHead, p.zone.id), head})
	for _, d := range p.changes {
		if ms, err = d.undo(ms, p.zone.id, pack); err != nil {
			return nil, err
		}
	}
	for _, e := range p.log {
		m := mutation{key: journalKey(p.zone.id, e.number)}
		if e.dropped {
			m.value = e.value
		}
		ms = append(ms, m)
	}
	return ms, nil
}

// write writes the batch and syncs it. If that fails, whether it is on disk is unknown; undo, of which the last comes
// first, then restores what was there before in either case.
func (s *Store) write(batch *pebble.Batch, undo func() ([]mutation, error)) error {
	failed := apply(s.db, s.guard, batch)
	if failed == nil {
		return nil
	}
	ms, err := undo()
	if err != nil {
		return errors.Join(failed, err)
	}
	slices.Reverse(ms)
	s.undo = ms
	return failed
}

// heal opens the database anew if it failed, at most once in a while.
func (s *Store) heal() error {
	if s.dir == "" {
		return nil
	}
	if s.db != nil {
		if s.guard.failed() == nil {
			return nil
		}
		_ = s.endDB() // what it says is about files that are frozen
	}
	if now := time.Now(); now.Before(s.retry) {
		return errors.New("database failed a moment ago")
	}
	s.retry = time.Now().Add(s.reopenIn) // also if it opens, and fails again at once
	if err := s.openDB(); err != nil {
		return fmt.Errorf("opening database again: %w", err)
	}
	s.recovered.Do(func() { s.log.Info("zone database works again", "dir", s.dir) })
	return nil
}

var _ pebble.Logger = (*guard)(nil)
