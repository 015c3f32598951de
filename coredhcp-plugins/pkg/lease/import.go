package lease

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
)

// importAtOnce bounds how many leases are imported in one transaction.
const importAtOnce = 512

// unknownClient stands for whoever has an address that another server has found in use without knowing by whom.
var unknownClient = Client{Identifier: "\x00unknown"}

// importedIdentifier begins the client identifier that stands for those which another server did not keep; the hardware type and address
// follow. No client sends it: of type 0 there is no such text.
const (
	importedIdentifier = "\x00imported\x00"
	importedKey        = string(rune(byIdentifier)) + importedIdentifier // begins the Key of such a client
)

// asImported has a client that nobody knows by its key be the one whose lease was imported by its hardware address alone: whatever
// identifier it sends, it is that client from its next request on. Caller holds mu.
func (m *Manager) asImported(w *asker) {
	if w.Client.HardwareAddr == "" || !m.bindings.imported {
		return
	}
	var buf [len(importedKey) + 1 + maxHardware]byte
	key := append(buf[:0], importedKey...)
	key = append(append(key, w.Client.HardwareType), w.Client.HardwareAddr...)
	if m.bindings.first(key) != nil {
		w.key = append(w.keyBuf[:0], key...)
	}
}

// Imported is what another server knows of an address.
type Imported struct {
	Address netip.Addr
	Client  Client // the zero Client where nobody knows, of a declined address
	// AnyIdentifier says that the other server kept no client identifiers: whoever comes with the hardware address has the lease.
	AnyIdentifier bool
	Hostname      string        // what the client calls itself; of a name with dots the first label counts
	State         State         // Active, Expired, Released or Declined
	Start         time.Time     // when the client got it; zero if it is not known
	Expires       time.Time     // when it ends, or did; zero: never
	Duration      time.Duration // the lease time that was given; zero if it is not known
}

// Outcome is what became of an Imported.
type Outcome struct {
	Taken bool   // it is in the database
	Note  string // why it is not, or what is to be known of it; "" if there is nothing to say
}

// Import takes over leases of another server, which must have stopped, and returns when they are on stable storage. There is one Outcome for
// each. An address that somebody holds here already stays his, and an address outside of all networks is refused; everything else is taken
// over as it is, so that nothing is given out twice: also what the configuration has no place for, which goes on until it ends and
// is not renewed. It may be repeated, and must be where it was interrupted: until then Open refuses the database, unless it is for another
// Import. Meant for a Manager that serves nobody.
func (m *Manager) Import(ctx context.Context, list []Imported) ([]Outcome, error) {
	outcomes := make([]Outcome, 0, len(list))
	if err := m.store.markImport(); err != nil {
		return nil, err
	}
	for len(list) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(len(list), importAtOnce)
		g, err := m.importSome(list[:n], &outcomes)
		if err == nil && g != nil {
			err = g.wait(ctx)
		}
		if err != nil {
			return nil, err
		}
		list = list[n:]
	}
	return outcomes, m.store.unmarkImport()
}

// importSome takes leases over in one transaction, and returns what to wait for, if anything.
func (m *Manager) importSome(list []Imported, outcomes *[]Outcome) (*group, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	changed := false
	for i := range list {
		o := m.importOne(&list[i])
		changed = changed || o.Taken
		*outcomes = append(*outcomes, o)
	}
	if !changed {
		return nil, nil
	}
	return m.submit(true), nil
}

// importOne takes one lease over. Caller holds mu and submits.
func (m *Manager) importOne(e *Imported) Outcome {
	n := m.conf.networkOf(e.Address)
	client := e.Client
	switch {
	case n == nil:
		return Outcome{Note: "the address is outside of all networks of the site"}
	case !client.valid() && e.State == Declined:
		client = unknownClient
	case !client.valid():
		return Outcome{Note: "neither a hardware address nor a client identifier is known of its client"}
	}
	label, _, _ := strings.Cut(e.Hostname, ".")
	if e.AnyIdentifier && client.HardwareAddr != "" {
		client.Identifier = importedIdentifier + string([]byte{client.HardwareType}) + client.HardwareAddr
	}
	w := m.ask(&Query{Client: client, Hostname: label})
	r := m.importedRecord(e, client, w)
	b := m.bindings.at(e.Address)
	if b != nil {
		if o, done := m.known(b, w, &r); done {
			return o
		}
	}
	b = m.bindingOf(e.Address)
	same := m.owns(w, b)
	// DNS has a name together with its client's identifier, so a client without one has no name before it renews.
	if r.state == Active && !e.AnyIdentifier {
		r.name, r.owned = m.name(w, n, e.Address, same, &b.record)
	}
	r.events, r.version = b.events, b.version
	if b.name != "" {
		m.dropName(b, w.t)
		r.version = m.version
	}
	if b.state != 0 && m.tellPast(b, w.t) {
		r.events++
	}
	if r.name != "" {
		m.version++
		r.version = m.version
		m.dropRemoval(removalKey(r.name, e.Address, r.client.key()))
	}
	m.change(b, r, w.t)
	if r.name != "" {
		m.supersede(b, w.t)
	}
	return Outcome{Taken: true, Note: m.misplaced(e.Address, w, &r)}
}

// importedRecord is the record of an imported lease, without name and history.
func (m *Manager) importedRecord(e *Imported, client Client, w *asker) record {
	r := record{client: pack(client), state: e.State, start: w.t.el, end: never}
	// No lease is longer than Infinite, and a time.Duration holds no more than two of it.
	offset := func(at time.Time) int64 { return w.t.el + int64(min(max(at.Sub(w.t.wall), -Infinite), Infinite)) }
	if !e.Expires.IsZero() {
		r.end = offset(e.Expires)
	}
	if !e.Start.IsZero() {
		r.start = min(offset(e.Start), w.t.el)
	}
	switch {
	case r.state == Declined:
		r.end = w.t.el + int64(m.rest(e.Address))
	case r.state == Active && r.end <= w.t.el:
		r.state = Expired
	case r.state != Active:
		r.end = min(r.end, w.t.el)
	}
	r.start = min(r.start, r.end)
	switch {
	case r.state == Active && r.end == never:
		r.seconds = math.MaxUint32
	case r.state == Active: // what is read from disk ends after this at the latest
		left := (time.Duration(r.end-w.t.el) + time.Second - 1) / time.Second
		r.seconds = uint32(min(max(left, e.Duration/time.Second), Infinite/time.Second-1))
		r.end = min(r.end, w.t.el+int64(r.duration()))
	}
	if w.reservation != nil {
		r.device = &w.reservation.Device
	}
	return r
}

// known says what becomes of an imported lease whose address is in the database, unless it replaces what is there.
func (m *Manager) known(b *binding, w *asker, r *record) (o Outcome, done bool) {
	el := w.t.el
	mine := m.owns(w, b) || b.state == Declined && b.client.key() == r.client.key()
	switch {
	case b.state == 0:
		return Outcome{}, false
	case mine && b.state == r.state && b.end >= r.end-int64(time.Second):
		return Outcome{Note: "is in the database already"}, true
	case b.held(el) && !mine:
		return Outcome{Note: fmt.Sprintf("conflict: the database has the address as held by %s", b.client.client())}, true
	case b.held(el) && r.state != Active:
		return Outcome{Note: "the database has a lease of this client that has not ended"}, true
	case b.held(el):
		return Outcome{}, false
	case b.resting(el) && !mine:
		return Outcome{Note: "conflict: the database has the address as declined"}, true
	case r.state != Active && b.end >= r.end:
		return Outcome{Note: "the database knows a later lease of the address"}, true
	}
	return Outcome{}, false
}

// misplaced says what will become of a lease that was taken over and that the configuration would not give.
func (m *Manager) misplaced(a netip.Addr, w *asker, r *record) string {
	if r.state != Active || m.conf.permitted(a, w) {
		return ""
	}
	if owner := m.conf.reserved[a]; owner != nil {
		return fmt.Sprintf("the address is that of device %q; its client gets another one when it renews, and the device has to wait for that", owner.Device)
	}
	return "the address is in no pool that its client may use; the client gets another one when it renews"
}
