package zone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// The site's records are replaced in two steps, so that thousands of devices do not hold up the updates of others. What
// has to change is worked out on a copy of the zone, on the goroutine that asked. The committer then takes that copy in
// place of the zone, and brings into it what happened meanwhile; that is little. For names that the replacement changes too,
// it works that out again; and where a name changed that decided what the site's records are, the new rules tell what follows.
// All has to be done again where a delegation or a DNAME record came that hides names of the site, which has to give way (others
// do not matter), or where too much has happened.

// errOvertaken says that the zone has changed under a replacement that was being prepared.
var errOvertaken = errors.New("zone has changed meanwhile")

// attempts are made beside the committer; after as many that were overtaken, it does the work itself.
const attempts = 3

// watch notes the names that change while a replacement is prepared.
type watch struct {
	touched map[string]bool // the committer's until the replacement is its
	ended   atomic.Bool
}

// replacement is a site that is prepared.
type replacement struct {
	watch  *watch
	state  state // the zone as it was, with the changes but those of the apex
	site   *siteRecords
	sorted []string         // keys of the site's names
	read   map[string]bool  // names that decided what the records are
	over   map[string]*node // names that change
	diff   difference
	derive Derive
}

// ReplaceSite makes the site's records of the zone exactly those that want returns, in one transaction with one serial;
// if nothing differs nothing happens. want gets the zone as it is before, with the site's former records. It may be
// called more than once, as the zone may change meanwhile; what counts is what it returned last. It must depend on
// nothing of the zone but what it asks c, and it may run on the goroutine that commits.
//
// want also returns the rules by which the site's records follow others from then on. They run in this transaction for those
// names alone that want asked c about and that have changed since, and must then say what want would; without rules want is
// called again. They stand or fall with it: if it fails, the former records keep their former rules.
//
// One SOA record may be among the records: all its fields but the serial are taken, and it is the site's then. Records
// of others give way to the site's: those in the same RRset, except the PTR records of service discovery, whose owner
// name begins with an underscore, and the TXT records of hosts; those that a CNAME record cannot stand beside; and
// delegations and DNAME records that would hide the site's. A record of others that equals one of the site's becomes the site's. An RRset gets the TTL of its last
// record in the list.
//
// The error names the record that cannot stand in the zone, and then nothing has changed; it wraps [ErrLimit],
// [ErrClosed] or the context's error where one of those is the reason.
func (z *Zone) ReplaceSite(ctx context.Context, want func(c *Candidate) ([]dns.RR, Derive)) (changed bool, err error) {
	for range attempts {
		if changed, err = z.replaceBeside(ctx, want); !errors.Is(err, errOvertaken) {
			return changed, err
		}
	}
	j := newJob(ctx)
	j.zone = z
	j.run = func(c *Candidate) verdict {
		records, derive := want(c)
		j.rules = &derive
		site, err := c.siteRecords(records)
		if err == nil {
			err = c.replaceSite(site, func(string) bool { return true })
		}
		if err != nil {
			return verdict{dns.RcodeServerFailure, err}
		}
		return accepted
	}
	return z.replace(j)
}

func (z *Zone) replace(j *job) (changed bool, err error) {
	rcode, err := z.do(j)
	if err != nil {
		return false, err
	}
	if rcode != dns.RcodeSuccess {
		return false, fmt.Errorf("replacing site records: %s", dns.RcodeToString[rcode])
	}
	return j.changed, nil
}

// replaceBeside is one attempt to replace the site's records without holding up the committer.
func (z *Zone) replaceBeside(ctx context.Context, want func(c *Candidate) ([]dns.RR, Derive)) (changed bool, err error) {
	r, err := z.prepareReplacement(ctx, want)
	if err != nil {
		return false, err
	}
	defer r.watch.ended.Store(true)
	return z.replace(z.replacementJob(ctx, r))
}

// prepareReplacement returns a replacement whose watch has not ended, unless it returns an error.
func (z *Zone) prepareReplacement(ctx context.Context, want func(c *Candidate) ([]dns.RR, Derive)) (*replacement, error) {
	r := &replacement{watch: &watch{touched: make(map[string]bool)}}
	begin := newJob(ctx)
	begin.exec = func() error { // alone, so that what it sees is published
		r.state = z.master.copy()
		z.watches = append(z.watches, r.watch)
		return nil
	}
	if _, err := z.do(begin); err != nil {
		r.watch.ended.Store(true) // it may begin yet
		return nil, err
	}
	if err := z.store.execute(func() error { return r.prepare(z, want) }); err != nil {
		r.watch.ended.Store(true)
		return nil, err
	}
	return r, nil
}

func (z *Zone) replacementJob(ctx context.Context, r *replacement) *job {
	j := newJob(ctx)
	j.zone, j.site, j.rules = z, r, &r.derive
	j.run = func(c *Candidate) verdict { return c.takeReplacement(r) }
	return j
}

// prepare works out what changes, but at the apex, whose SOA record changes all the time.
func (r *replacement) prepare(z *Zone, want func(c *Candidate) ([]dns.RR, Derive)) error {
	if r.state.get("").set(dns.TypeDNAME) != nil { // it hides all names of the site, and the apex is the committer's
		return errOvertaken
	}
	p, _ := packers.Get().(*packer)
	defer packers.Put(p)
	c := newCandidate(&z.apex, &r.state, p)
	c.read = make(map[string]bool)
	records, derive := want(c)
	r.read, r.over, r.derive = c.read, c.over, derive
	var err error
	if r.site, err = c.siteRecords(records); err != nil {
		return err
	}
	r.sorted = slices.Sorted(slices.Values(r.site.keys))
	if err := c.replaceSite(r.site, func(key string) bool { return key != "" }); err != nil {
		return err
	}
	if r.diff, err = c.difference(); err != nil {
		return err
	}
	for _, side := range [][]delta{r.diff.removed, r.diff.added} { // the database takes keys faster in order
		slices.SortStableFunc(side, func(a, b delta) int { return strings.Compare(a.key, b.key) })
	}
	if err := r.diff.pack(p); err != nil {
		return err
	}
	c.install(&r.state, &r.diff)
	return nil
}

// maxBoth bounds the names that change on both sides, which the committer works out again.
const maxBoth = 1024

// both returns the names that have changed meanwhile and are the replacement's too. It is false if the replacement has to
// be prepared again.
func (r *replacement) both(master *state) (keys map[string]bool, ok bool) {
	keys = make(map[string]bool)
	for key := range r.watch.touched {
		n := master.get(key)
		if key == "" {
			if r.read[""] || n.set(dns.TypeDNAME) != nil {
				return nil, false
			}
			continue
		}
		if n.isCut(key) && r.below(key) || r.read[key] && r.derive == nil {
			return nil, false
		}
		if _, changes := r.over[key]; changes || r.site.groups[key] != nil || n.siteRecords() > 0 {
			keys[key] = true
		}
	}
	return keys, len(keys) <= maxBoth
}

// below reports whether a name of the site is below key.
func (r *replacement) below(key string) bool {
	i, _ := slices.BinarySearch(r.sorted, key)
	return i < len(r.sorted) && strings.HasPrefix(r.sorted[i], key)
}

// takeReplacement makes a prepared replacement a transaction on the candidate, which then has the changes of the apex and of
// the names that have changed meanwhile.
func (c *Candidate) takeReplacement(r *replacement) verdict {
	if err := c.rebase(r); err != nil {
		return verdict{dns.RcodeServerFailure, err}
	}
	return accepted
}

func (c *Candidate) rebase(r *replacement) error {
	master := c.base
	both, ok := r.both(master)
	if !ok {
		return errOvertaken
	}
	c.base = r.rebase(master)
	// The new rules tell what the names that have changed mean for the site's records.
	changed, err := r.changed(c.apex)
	if err != nil {
		return err
	}
	follow := func() []Change {
		if len(changed) == 0 {
			return nil
		}
		return r.derive(c, changed)
	}
	for _, ch := range follow() {
		if ch.RR == nil {
			continue // siteChange tells
		}
		if key, ok := c.apex.keyOf(ch.RR.Header().Name); ok && key != "" && !both[key] {
			both[key] = true
			r.state.put(key, master.get(key))
		}
	}
	c.cuts = c.base.cuts > 0
	if len(both) > 0 {
		of := func(d delta) bool { return both[d.key] }
		r.diff.removed, r.diff.added = slices.DeleteFunc(r.diff.removed, of), slices.DeleteFunc(r.diff.added, of)
	}
	if err := c.replaceSite(r.site, func(key string) bool { return key == "" || both[key] }); err != nil {
		return err
	}
	for _, ch := range follow() {
		if err := c.siteChange(ch); err != nil {
			return fmt.Errorf("deriving site records: %w", err)
		}
	}
	for _, key := range c.order {
		if _, changes := r.over[key]; changes && !both[key] && key != "" {
			return errOvertaken // it has two differences
		}
	}
	return nil
}

// changed are the canonical names that have changed meanwhile of those that decided what the site's records are.
func (r *replacement) changed(a *apex) ([]string, error) {
	var keys []string
	for key := range r.watch.touched {
		if r.read[key] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for i, key := range keys {
		name, err := a.nameOf(key)
		if err != nil {
			return nil, fmt.Errorf("changed name %q: %w", key, err)
		}
		keys[i] = strings.ToLower(name)
	}
	return keys, nil
}

// rebase brings the prepared state up to what the master is, but for what the replacement alone changes.
func (r *replacement) rebase(master *state) *state {
	for key := range r.watch.touched {
		r.state.put(key, master.get(key))
	}
	r.state.records, r.state.octets, r.state.journal = master.records, master.octets, master.journal
	return &r.state
}

// tell notes the names that a transaction has changed for those who watch.
func (z *Zone) tell(c *Candidate, r *replacement) {
	z.watches = slices.DeleteFunc(z.watches, func(w *watch) bool { return w.ended.Load() })
	for _, w := range z.watches {
		for _, key := range c.order {
			w.touched[key] = true
		}
		if r != nil {
			for key := range r.over {
				w.touched[key] = true
			}
		}
	}
}
