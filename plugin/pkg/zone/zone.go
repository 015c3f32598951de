package zone

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Limits bound a zone. A value of 0 means the default. Besides, neither a seed nor UPDATE makes an RRset of more than
// 5,461 records, which is what a DNS message can hold.
type Limits struct {
	Records       int // records in the zone, SOA included; default 5,000,000
	Bytes         int // octets of all records, uncompressed; default 4 GiB
	UpdateRecords int // records in the prerequisite and update sections of one UPDATE together; default 1024
}

// maxRRset bounds the records of an RRset that a seed makes or UPDATE adds to, because finding one among them takes time. More than
// this cannot be answered: each has 12 octets of a DNS message at least. The site's records count, but are not bound.
const maxRRset = dns.MaxMsgSize / 12

// Default limits.
const (
	DefaultRecords       = 5_000_000
	DefaultBytes         = 4 << 30
	DefaultUpdateRecords = 1024
)

func (l Limits) orDefaults() Limits {
	if l.Records == 0 {
		l.Records = DefaultRecords
	}
	if l.Bytes == 0 {
		l.Bytes = DefaultBytes
	}
	if l.UpdateRecords == 0 {
		l.UpdateRecords = DefaultUpdateRecords
	}
	return l
}

// check refuses a change by so many records and octets that makes a zone that is at its limit, or, after the limit was
// lowered, over it, larger.
func (l Limits) check(base *state, grown, octets int) error {
	if grown > 0 && base.records+grown > l.Records {
		return fmt.Errorf("zone would have %d records, more than %d: %w", base.records+grown, l.Records, ErrLimit)
	}
	if octets > 0 && base.octets+octets > l.Bytes {
		return fmt.Errorf("zone would have %d octets, more than %d: %w", base.octets+octets, l.Bytes, ErrLimit)
	}
	return nil
}

// Change of a site record.
type Change struct {
	Delete bool
	RR     dns.RR // class IN; not kept, and not changed
}

// Derive returns the changes of site records that follow from what a transaction did. It runs inside each UPDATE that
// changes something, after its own changes and before the zone is numbered, so that cause and consequence have one
// serial. touched has the canonical names (lower case, with the trailing dot) whose records the transaction changed, in
// canonical order. Adding what is there and deleting what is not is no change. It runs on the goroutine that commits:
// it must be quick and must not call methods of a Zone or Store that wait.
type Derive func(c *Candidate, touched []string) []Change

// Config of a zone.
type Config struct {
	Limits Limits
	// Committed is called when a changed zone is published, once for all transactions that were committed together, and
	// before they are answered. It runs on the goroutine that commits: it must not block.
	Committed func(serial uint32)
}

// Zone is one authoritative zone of a [Store]. Its methods may be called from any goroutine.
type Zone struct {
	apex   apex
	id     uint32
	store  *Store
	config atomic.Pointer[Config]
	snap   atomic.Pointer[Snapshot]

	// The committer's own.
	master  state    // what is published, plus what the running group does
	derive  Derive   // what came with the site's records
	watches []*watch // who is to know which names change
}

func newZone(s *Store, a *apex, id uint32, st state) *Zone {
	z := &Zone{apex: *a, id: id, store: s, master: st}
	z.Configure(Config{})
	z.publish()
	return z
}

func (z *Zone) publish() { z.snap.Store(newSnapshot(&z.apex, &z.master)) }

// Configure replaces the configuration, from the next transaction on.
func (z *Zone) Configure(c Config) {
	c.Limits = c.Limits.orDefaults()
	z.config.Store(&c)
}

// Origin is the name of the zone: lower case, with the trailing dot.
func (z *Zone) Origin() string { return z.apex.name }

// Snapshot is the zone as it is published now.
func (z *Zone) Snapshot() *Snapshot { return z.snap.Load() }

// Update runs one UPDATE transaction: RFC 2136 section 3 without the zone section, which names this zone. It returns
// when the result is durable and published.
//
// The order is that of the RFC: prerequisites (section 3.2), permission (3.3), prescan (3.4.1), changes (3.4.2).
// permit is asked for every record of the update section, with its canonical name and its type, which is ANY for the
// deletion of a whole name; nil permits nothing. It is asked before the prerequisites are looked at, but what it
// says counts only where they hold.
//
// An UPDATE that in the end changes nothing leaves the serial alone, and so does one whose SOA record is not newer. The
// error explains REFUSED and SERVFAIL, and is nil with all other codes; it wraps [ErrNotPermitted], [ErrSiteRecord],
// [ErrLimit], [ErrClosed] or the context's error where one of those is the reason. If the context ends while the
// transaction waits it is not done; if it ends later, the answer is SERVFAIL and the outcome is unknown. The records
// must not be changed once they were handed in.
func (z *Zone) Update(ctx context.Context, prerequisites, updates []dns.RR, permit func(name string, t uint16) bool) (rcode int, err error) {
	if n, most := len(prerequisites)+len(updates), z.config.Load().Limits.UpdateRecords; n > most {
		return dns.RcodeRefused, fmt.Errorf("update of %d records, more than %d: %w", n, most, ErrLimit)
	}
	return z.do(z.updateJob(ctx, prerequisites, updates, permit))
}

// updateJob is the transaction of Update, as far as it can be done before it is its turn.
func (z *Zone) updateJob(ctx context.Context, prerequisites, updates []dns.RR, permit func(name string, t uint16) bool) *job {
	j := newJob(ctx)
	j.zone, j.after = z, true
	var t transaction
	if err := z.store.execute(func() error {
		t = prepare(&z.apex, prerequisites, updates, permit)
		return nil
	}); err != nil {
		t = transaction{judged: verdict{dns.RcodeServerFailure, err}}
	}
	j.run = func(c *Candidate) verdict { return c.update(&t) }
	return j
}

func (z *Zone) do(j *job) (int, error) {
	if err := z.store.submit(j); err != nil {
		return dns.RcodeServerFailure, err
	}
	return z.store.wait(j)
}
