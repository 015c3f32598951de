package lease

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxEnded bounds the names of the past that one Resync has DNS told to forget.
const maxEnded = 1 << 17

// Resynced counts what a Resync has DNS told.
type Resynced struct {
	Leases int // that DNS is to show
	Ended  int // names of the past that it must not show
}

// Resync has DNS told again what it is to show of every lease of a network, of all if that is "", the newest first, and
// then to forget the names of those before them, as far as History has them: for a zone that was lost, or that came back
// from the past. Of the latter it takes the 131,072 that ended last; without a network also those of addresses that are in
// none any more. It returns when all that is on stable storage.
func (m *Manager) Resync(ctx context.Context, network string) (told Resynced, err error) {
	in := func(a netip.Addr) bool {
		n := m.conf.networkOf(a)
		return n != nil && n.Name == network || network == ""
	}
	past, err := m.past(in)
	if err != nil {
		return told, err
	}
	list, err := m.collect(func(b *binding) bool { return in(b.addr) })
	if err != nil {
		return told, err
	}
	// Of what waits for long, what is decided last is taken first.
	for len(past)+len(list) > 0 {
		g, err := func() (*group, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.closed {
				return nil, ErrClosed
			}
			var n int
			if len(past) > 0 {
				past, n = m.forget(past, m.now())
				told.Ended += n
			} else {
				list, n = m.tellAgain(list, true, m.now())
				told.Leases += n
			}
			if n == 0 {
				return nil, nil
			}
			return m.submit(true), nil
		}()
		if err == nil && g != nil {
			err = g.wait(ctx)
		}
		if err != nil {
			return told, err
		}
	}
	return told, nil
}

// ended is a name that an address had.
type ended struct {
	addr netip.Addr
	storedEvent
}

// past returns what History has of the addresses that are chosen, the latest last, as far as removalOf makes something of
// it. It holds nobody up.
func (m *Manager) past(choose func(netip.Addr) bool) ([]ended, error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, ErrClosed
	}
	m.mu.Unlock()
	view := m.store.snapshot([]byte{keyEvent}, []byte{keyEvent + 1})
	defer view.end()
	var all, page []ended
	for more := true; more; {
		var err error
		page = page[:0]
		more, err = view.read(pageSize, func(key, value []byte) error {
			a, err := parseBindingKey(bytes.Clone(key[:len(key)-1]))
			if err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
			e, err := decodeEvent(value)
			if err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
			page = append(page, ended{a, e})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading the history: %w", err)
		}
		m.mu.Lock()
		for i := range page {
			if e := &page[i]; choose(e.addr) && m.removalOf(e) != nil {
				all = append(all, *e)
			}
		}
		m.mu.Unlock()
		if len(all) >= 2*maxEnded {
			all = latest(all)
		}
	}
	all = latest(all)
	slices.Reverse(all)
	return all, nil
}

// latest returns the names that ended last, the latest first, each once.
func latest(all []ended) []ended {
	slices.SortFunc(all, func(a, b ended) int { return cmp.Or(cmp.Compare(b.end, a.end), a.addr.Compare(b.addr)) })
	seen := make(map[string]bool, min(len(all), maxEnded))
	kept := all[:0]
	for _, e := range all {
		if key := removalKey(e.name, e.addr, e.client.Key()); !seen[key] && len(kept) < maxEnded {
			seen[key] = true
			kept = append(kept, e)
		}
	}
	clear(all[len(kept):])
	return kept
}

// forget has DNS told to forget the first few of a list, and returns the rest. Caller holds mu, and submits if there were
// any.
func (m *Manager) forget(past []ended, t moment) (rest []ended, told int) {
	for len(past) > 0 && told < expireAtOnce {
		r := m.removalOf(&past[0])
		past = past[1:]
		if r == nil {
			continue
		}
		m.version++
		r.version = m.version
		m.addRemoval(r)
		told++
		// Two identifiers of one machine may have one DHCID (RFC 4701 section 3.3): then a lease that has the name there now
		// loses it too.
		if b := m.bindings.at(r.addr); b != nil && b.name == r.name && m.wanted(b) != 0 && !m.superseded(b) {
			m.republish(b, t)
		}
	}
	return past, told
}

// removalOf is what makes DNS forget the name that an address had, nil if there is no need to: it has the name, or DNS is
// about to be told already. What the site file itself has in DNS, or in another domain, is left alone. Caller holds mu.
func (m *Manager) removalOf(e *ended) *removal {
	if e.name == "" || !m.conf.published[e.name] && (m.conf.domain == "" || !strings.HasSuffix(e.name, "."+m.conf.domain)) {
		return nil
	}
	r := &removal{name: e.name, addr: e.addr, client: pack(e.client), owned: e.device != "", again: true, shows: both}
	if n := m.conf.networkOf(e.addr); n != nil { // what one that is gone had in DNS is not known
		r.shows = n.directions(r.owned)
	}
	if m.conf.keeps(e.name) {
		r.shows &^= Forward
	}
	if o := m.conf.reserved[e.addr]; o != nil && !o.Publish || o == nil && m.conf.withheld(e.addr) {
		r.shows &^= Reverse
	}
	if b := m.bindings.at(e.addr); b != nil && b.state == Active && b.name == e.name {
		if b.client.key() == r.client.key() {
			return nil
		}
		r.shows &^= Reverse
	}
	if r.shows == 0 || m.removals[r.key()] != nil {
		return nil
	}
	return r
}
