package lease

import (
	"context"
	"net/netip"
	"time"
)

// Before an address of a network with Probe goes to a client that was not the last to hold it, somebody is to look whether
// another machine uses it already. The address is on offer to the client meanwhile, so nobody else gets it, and what was
// found out lasts as long as the offer does. Looking itself is left to the caller, which is told by an answer of Kind Probe,
// says what it found by Tried or Conflict, and asks again.

// tryTime is how long the result of a Probe is waited for before the client that asks again has the address tried again.
const tryTime = 3 * time.Second

// ReasonTrying is the Reason of the Silent answer to a client that repeats itself while its address is tried.
const ReasonTrying = "its address is being tried"

// unknownHolder is the client of a conflict with a machine of which nothing is known; no client can be it. Hardware type 0 is
// none that is assigned.
var unknownHolder = Client{HardwareAddr: "\x00\x00\x00\x00\x00\x00"}

var nobody = pack(unknownHolder)

// untried says whether the address has to be tried before the asker gets it. Firmware and operating system of one machine
// are one holder. Caller holds mu.
func (m *Manager) untried(w *asker, n *network, a netip.Addr) bool {
	if !n.Probe {
		return false
	}
	if b := m.bindings.at(a); b != nil && (m.owns(w, b) || b.known() && w.sharesHardware(b.client)) {
		return false
	}
	o := m.offers.byClient[string(w.key)]
	return o == nil || o.addr != a || !o.tried
}

// try answers a client whose address, which is on offer to it, has to be tried. Caller holds mu.
func (m *Manager) try(w *asker, n *network, a netip.Addr) Answer {
	o := m.offers.byClient[string(w.key)]
	if o.trying > w.t.el {
		return silent(ReasonTrying)
	}
	o.trying = w.t.el + int64(tryTime)
	return Answer{Kind: Probe, Lease: Lease{Address: a, Client: w.Client, Network: n.Name}}
}

// grantTried is for a client that takes up an address which it does not use yet.
func (m *Manager) grantTried(w *asker, a netip.Addr) Answer {
	n := m.conf.networkOf(a)
	if m.full(w, n, a) {
		return nak(reasonFull)
	}
	if m.untried(w, n, a) && m.offer(w, n, a) {
		return m.try(w, n, a)
	}
	return m.grant(w, a)
}

// Tried says that nobody else was found at an address for which the client was answered by Probe, or that it cannot be
// found out. Asked again, the client gets the address.
func (m *Manager) Tried(c Client, a netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.offers.of(a); o != nil && o.client.client() == c {
		o.tried = true
	}
}

// Conflict takes an address for which the client was answered by Probe out of service, as Decline does, because another
// machine answered there: holder, if its hardware address is known. Asked again, the client gets another address. It
// returns when that is on stable storage, and says whether the address was still on offer to the client.
func (m *Manager) Conflict(ctx context.Context, c Client, a netip.Addr, holder HardwareAddress) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	g, err := m.conflict(c, a, holder)
	if err != nil || g == nil {
		return false, err
	}
	err = g.wait(ctx)
	return err == nil, err
}

func (m *Manager) conflict(c Client, a netip.Addr, holder HardwareAddress) (*group, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	t := m.now()
	o := m.offers.of(a)
	if o == nil || o.client.client() != c {
		return nil, nil
	}
	if b := m.bindings.at(a); b != nil && b.held(t.el) {
		return nil, nil
	}
	m.withdraw(o)
	b := m.bindingOf(a)
	r := record{client: nobody, start: t.el, end: never, state: Declined, conflict: true, events: b.events, version: b.version}
	if holder.Addr != "" && len(holder.Addr) <= maxHardware {
		r.client = pack(Client{HardwareType: holder.Type, HardwareAddr: holder.Addr})
	}
	if rest := m.rest(a); rest < Infinite {
		r.end = t.el + int64(rest)
	}
	if b.state == Active { // it is over, and Run was about to end it
		m.finish(b, Expired, b.end, t)
		r.events, r.version = b.events, b.version
	} else if b.state != 0 && m.tellPast(b, t) {
		r.events++
	}
	m.change(b, r, t)
	m.tellEnd(b, Conflict, min(r.end, t.el+int64(m.rest(a))), t)
	r.events++
	m.change(b, r, t)
	return m.submit(true), nil
}
