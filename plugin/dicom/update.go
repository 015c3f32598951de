package dicom

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/dnssd"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/coredns/coredns/plugin/tsig"

	"github.com/miekg/dns"
)

// updateTimeout bounds how long an UPDATE waits for a disk that has stalled: its
// client has given up by then. A variable so that tests need not wait.
var updateTimeout = 10 * time.Second

// serveUpdate answers one UPDATE message (RFC 2136 section 3). Who sent it is
// known from the tsig plugin alone.
func (d *Dicom) serveUpdate(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if len(r.Question) != 1 || r.Question[0].Qtype != dns.TypeSOA || r.Question[0].Qclass != dns.ClassINET {
		return reply(w, r, dns.RcodeFormatError)
	}
	s := d.zones[dns.CanonicalName(r.Question[0].Name)]
	if s == nil {
		// Not the next plugin's turn: a read-only one might answer NOERROR
		// without doing anything.
		return reply(w, r, dns.RcodeNotAuth)
	}
	rcode := d.update(ctx, w, r, s)
	s.metrics.Load().updated(rcode)
	return reply(w, r, rcode)
}

// update carries the transaction out and returns when it is durable and
// published, or has changed nothing. Only after the timeout may the outcome be
// unknown.
func (d *Dicom) update(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, s *served) int {
	key, ok := tsig.ValidatedKeyName(ctx)
	if !ok {
		return d.refuse(s, w, notSigned, "not signed")
	}
	key = dns.CanonicalName(key)
	if !d.rules.knows(key) {
		return d.refuse(s, w, unknownKey, "no allow rule for key "+key)
	}
	z, err := d.zone(s)
	if err != nil {
		return dns.RcodeServerFailure // start has logged it
	}

	content, asked, reserved := s.content.Load(), false, false
	permit := func(name string, t uint16) bool {
		if !d.rules.allow(key, s.origin, name, t) {
			return false
		}
		if content == nil || !content.Reserves(name, t) {
			return true
		}
		// Who put something there before the site file had it may take it away.
		// What is the site's own stays in any case: the zone sees to that.
		if !asked {
			asked, reserved = true, addsReserved(content, r.Ns)
		}
		return !reserved
	}
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	rcode, err := z.Update(ctx, r.Answer, r.Ns, permit)
	switch rcode {
	case dns.RcodeServerFailure:
		d.failures.Do(func() { log.Errorf("UPDATE for %s by %s failed: %v", s.origin, key, err) })
	case dns.RcodeRefused:
		if reserved {
			err = fmt.Errorf("a service of the site: %w", zone.ErrSiteRecord)
		}
		return d.refuse(s, w, reasonOf(err), fmt.Sprintf("key %s: %v", key, err))
	}
	return rcode
}

// addsReserved reports whether one of the updates adds a record where only the
// site may speak.
func addsReserved(content *dnssd.Publication, updates []dns.RR) bool {
	return slices.ContainsFunc(updates, func(rr dns.RR) bool {
		h := rr.Header()
		return h.Class == dns.ClassINET && content.Reserves(dns.CanonicalName(h.Name), h.Rrtype)
	})
}

// refuse counts a refusal, and logs it unless there are many for this reason.
func (d *Dicom) refuse(s *served, w dns.ResponseWriter, r reason, why string) int {
	s.metrics.Load().refused(r)
	d.refusals[r].Do(func() { log.Warningf("Refusing UPDATE for %s from %s: %s", s.origin, w.RemoteAddr(), why) })
	return dns.RcodeRefused
}

// reply answers an UPDATE: header and zone section, as RFC 2136 section 3.8
// allows.
func reply(w dns.ResponseWriter, r *dns.Msg, rcode int) (int, error) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.Opcode = dns.OpcodeUpdate
	m.Rcode = rcode
	m.Authoritative = true
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil
}
