package nameupdate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/miekg/dns"
)

// exchanger sends a message, signed, and returns the verified answer; an answer
// that refuses may come unverified. It may change the message's ID.
type exchanger interface {
	exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error)
}

// maxRounds bounds the addition of a name that others add and remove meanwhile.
const maxRounds = 4

// newEntry is what the change wants DNS to show.
func newEntry(c lease.NameChange, ttl time.Duration) (entry, error) {
	e := entry{name: dns.CanonicalName(c.Name), addr: c.Address.Unmap().WithZone(""), ttl: uint32(min(max(ttl/time.Second, 0), 1<<31-1))}
	if !c.Address.IsValid() {
		return entry{}, fmt.Errorf("name %q comes without an address", c.Name)
	}
	if e.dhcid = DHCID(c.Client, e.name); e.dhcid == "" || e.name == "." {
		return entry{}, fmt.Errorf("%q is not a domain name", c.Name)
	}
	return e, nil
}

// sequence sends the messages about one zone.
type sequence struct {
	ex   exchanger
	zone string
	took *span // may be nil
}

// send returns the rcode of the answer.
func (s sequence) send(ctx context.Context, m *dns.Msg) (int, error) {
	begin := time.Now()
	r, err := s.ex.exchange(ctx, m)
	if err != nil {
		return 0, err
	}
	s.took.add(time.Since(begin))
	return r.Rcode, nil
}

func (s sequence) unexpected(rcode int) error { return &answerError{zone: s.zone, rcode: rcode} }

// add makes the name show the address: RFC 4703 section 5.3. It fails with
// errConflict if the name is somebody else's by the mode; an owned one never is.
func (s sequence) add(ctx context.Context, e entry, owned bool, mode lease.NameMode) error {
	second := replaceOwn
	switch {
	case owned || mode == lease.NamesLastWins:
		return s.take(ctx, e)
	case mode == lease.NamesKeepStatic:
		second = takeDynamic
	}
	for range maxRounds {
		rcode, err := s.send(ctx, addUnused(s.zone, e))
		switch {
		case err != nil:
			return err
		case rcode == dns.RcodeSuccess:
			return nil
		case rcode != dns.RcodeYXDomain:
			return s.unexpected(rcode)
		}
		rcode, err = s.send(ctx, second(s.zone, e))
		switch {
		case err != nil:
			return err
		case rcode == dns.RcodeSuccess:
			return nil
		case rcode == dns.RcodeNXRrset:
			return errConflict
		case rcode != dns.RcodeNameError:
			return s.unexpected(rcode)
		}
	}
	return fmt.Errorf("%s comes and goes in zone %s", e.name, s.zone)
}

func (s sequence) take(ctx context.Context, e entry) error {
	rcode, err := s.send(ctx, takeName(s.zone, e, false))
	if err == nil && rcode == dns.RcodeYXRrset {
		rcode, err = s.send(ctx, takeName(s.zone, e, true))
	}
	if err == nil && rcode != dns.RcodeSuccess {
		err = s.unexpected(rcode)
	}
	return err
}

// remove makes the name not show the address, and removes the name with its last
// address: RFC 4703 section 5.5. Of an owned name, which the site may have given
// other records, only the DHCID record is removed; and so it is where an address is
// kept: it is the site's own by now, and cannot be removed.
func (s sequence) remove(ctx context.Context, e entry, owned, kept bool) error {
	rcode, err := s.send(ctx, removeAddress(s.zone, e))
	switch {
	case err != nil:
		return err
	case rcode == dns.RcodeRefused && kept:
		return s.gone(ctx, removeClient(s.zone, e.name, e))
	case rcode == dns.RcodeNXRrset, rcode == dns.RcodeNameError:
		return nil
	case rcode != dns.RcodeSuccess:
		return s.unexpected(rcode)
	}
	rcode, err = s.send(ctx, removeName(s.zone, e, !owned))
	if err == nil && rcode == dns.RcodeRefused && !owned {
		// A key that may change addresses and DHCID records only.
		rcode, err = s.send(ctx, removeName(s.zone, e, false))
	}
	switch {
	case err != nil:
		return err
	case rcode == dns.RcodeYXRrset && kept: // the address that is left is the site's
		return s.gone(ctx, removeClient(s.zone, e.name, e))
	case rcode == dns.RcodeSuccess, rcode == dns.RcodeNXRrset, rcode == dns.RcodeYXRrset, rcode == dns.RcodeNameError:
		return nil
	}
	return s.unexpected(rcode)
}

// addPointer makes the address show the name: RFC 4703 section 5.4. It fails with
// errAlias if an alias stands there.
func (s sequence) addPointer(ctx context.Context, e entry) error {
	rcode, err := s.send(ctx, setPointer(s.zone, e))
	switch {
	case err == nil && rcode == dns.RcodeYXRrset:
		return errAlias
	case err == nil && rcode != dns.RcodeSuccess:
		return s.unexpected(rcode)
	}
	return err
}

// removePointer makes the address not show the name: RFC 4703 section 5.5. Where the
// pointer is kept, see remove.
func (s sequence) removePointer(ctx context.Context, e entry, kept bool) error {
	err := s.gone(ctx, removePointer(s.zone, e))
	if answer, ok := errors.AsType[*answerError](err); ok && answer.rcode == dns.RcodeRefused && kept {
		return s.gone(ctx, removeClient(s.zone, e.reverse(), e))
	}
	return err
}

// gone sends the removal of what need not be there.
func (s sequence) gone(ctx context.Context, m *dns.Msg) error {
	rcode, err := s.send(ctx, m)
	switch {
	case err != nil:
		return err
	case rcode == dns.RcodeSuccess, rcode == dns.RcodeNXRrset, rcode == dns.RcodeNameError:
		return nil
	}
	return s.unexpected(rcode)
}

// early is a pointer that is sent together with its name.
type early struct {
	sequence
	took span
	done chan error // its fate; nil once that was waited for
}

// sendEarly sends the pointer of an entry where it is known where to; else it returns nil.
func sendEarly(ctx context.Context, z *zones, e entry) *early {
	at, working := z.working(e.reverse())
	if !working {
		return nil
	}
	p := &early{done: make(chan error, 1)}
	p.sequence = sequence{at.at, at.zone, &p.took}
	go func() { p.done <- p.addPointer(ctx, e) }()
	return p
}

// wait returns what became of the pointer.
func (p *early) wait(took *span) error {
	err := <-p.done
	p.done = nil
	took.merge(p.took)
	return err
}

// end withdraws the pointer if nobody has waited for it: its name was not added.
func (p *early) end(ctx context.Context, e entry) {
	if p != nil && p.done != nil && p.wait(nil) == nil && ctx.Err() == nil {
		_ = p.withdrawPointer(ctx, e) // else it stays until the change, which is tried again, makes it right
	}
}

// withdrawPointer is removePointer for a name that is somebody else's now: only if the pointer was put there for a client.
func (s sequence) withdrawPointer(ctx context.Context, e entry) error {
	return s.gone(ctx, withdrawPointer(s.zone, e))
}

// outcome is what became of one change.
type outcome struct {
	err       error
	zones     []string // that took their part of it, or have the name as somebody else's; and what is above the names, if that is no zone
	answered  []*upstream
	took      span   // for their answers
	failed    string // the zone that did not, "" if none is to blame
	noReverse *noZoneError
}

// apply makes DNS as the change wants it. What is to be shown goes first, and the
// forward zone before the reverse zone: a pointer may name only what is there (RFC
// 4703 section 5.4). Where the name was free a moment ago, both go together. If the
// name is somebody else's, a pointer that it had as this client's goes. Where no server has a zone for the address, or the zone has an
// alias there, the change is done without one; a reverse zone that is missing only now, as while the server
// loads it, is waited for, also after a start.
func apply(ctx context.Context, z *zones, c lease.NameChange, ttl time.Duration, free bool) (o outcome) {
	e, err := newEntry(c, ttl)
	if err != nil {
		return outcome{err: err}
	}
	conflict := false // the name is somebody else's
	var pointer *early
	if free && c.Make == lease.Forward|lease.Reverse {
		pointer = sendEarly(ctx, z, e)
		defer func() { pointer.end(ctx, e) }()
	}
	fail := func(name, zone string, err error) outcome {
		if name != e.name {
			err = &pointerError{conflict, err} // also of a conflict: it is then tried again sooner
		}
		o.err, o.failed = err, zone
		return o
	}
	steps := [...]struct {
		wanted bool
		name   string
		do     func(sequence) error
	}{
		{c.Make&lease.Forward != 0, e.name, func(s sequence) error { return s.add(ctx, e, c.Owned, c.Mode) }},
		{c.Make&lease.Reverse != 0, e.reverse(), func(s sequence) error {
			var err error
			switch {
			case pointer != nil:
				err = pointer.wait(&o.took)
			case !conflict:
				err = s.addPointer(ctx, e)
			}
			if conflict { // whatever became of a pointer
				err = s.withdrawPointer(ctx, e)
			}
			return err
		}},
		{c.Unmake&lease.Forward != 0, e.name, func(s sequence) error { return s.remove(ctx, e, c.Owned, c.Kept) }},
		{c.Unmake&lease.Reverse != 0, e.reverse(), func(s sequence) error { return s.removePointer(ctx, e, c.Kept) }},
	}
	for _, step := range steps {
		if !step.wanted {
			continue
		}
		zone, at, err := z.of(ctx, step.name)
		var none *noZoneError
		if step.name != e.name && errors.As(err, &none) && !none.unsure {
			o.noReverse = none
			continue
		}
		if err != nil {
			return fail(step.name, parent(step.name), err)
		}
		err = step.do(sequence{at, zone, &o.took})
		if step.name == e.name && c.Make&lease.Forward != 0 {
			z.took(e.name, err == nil)
		}
		switch {
		case errors.Is(err, errConflict):
			conflict, err = true, nil
		case errors.Is(err, errAlias):
			o.noReverse, err = &noZoneError{server: at.name, name: step.name, why: errAlias.Error()}, nil
		}
		if err != nil {
			var answer *answerError
			if errors.As(err, &answer) && (answer.rcode == dns.RcodeNotAuth || answer.rcode == dns.RcodeNotZone) {
				z.forget(zone)
			}
			if answer != nil {
				o.answered = append(o.answered, at)
			}
			return fail(step.name, zone, err)
		}
		o.zones = append(o.zones, zone)
		if above := parent(step.name); above != zone { // which is what failed as long as the zone was missing
			o.zones = append(o.zones, above)
		}
		o.answered = append(o.answered, at)
	}
	if conflict {
		o.err = errConflict
	}
	return o
}
