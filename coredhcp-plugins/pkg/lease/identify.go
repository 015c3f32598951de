package lease

import "slices"

// identify finds the asker's device in the order: hardware address, client identifier, port of the relay, host name. The
// last two are weak: they tell a place and a claim, not a machine. So whoever has a living lease as that device keeps its
// address and name from any other machine at that port or with that name. Caller holds mu.
func (m *Manager) identify(w *asker) *Reservation {
	x := m.conf
	if r := x.reservation(w.Client); r != nil || len(x.devices) == 0 {
		return r
	}
	r := x.atPort(w.CircuitID, w.RemoteID)
	if r == nil && w.Hostname != "" {
		r = x.names[cleanLabel(w.Hostname)]
	}
	if r == nil {
		r = m.wasDevice(w)
	}
	if r == nil || m.taken(w, r) {
		return nil
	}
	return r
}

// atPort is the reservation of the device at a relay's port, or nil.
func (x *index) atPort(circuit, remote string) *Reservation {
	if circuit == "" && remote == "" {
		return nil
	}
	for _, at := range []relayPort{{circuit, remote}, {circuit: circuit}, {remote: remote}} {
		if r := x.relayPorts[at]; r != nil && at != (relayPort{}) {
			return r
		}
	}
	return nil
}

// wasDevice is the reservation that the asker holds a lease by, if its message only does not say what told it then: a
// renewal by unicast is without the relay's option.
func (m *Manager) wasDevice(w *asker) *Reservation {
	for b := m.bindings.first(w.key); b != nil; b = m.bindings.next(b) {
		if !b.held(w.t.el) || b.device == nil || b.client.client() != w.Client {
			continue
		}
		switch r := m.conf.devices[*b.device]; {
		case r == nil:
		case r.CircuitID != "" || r.RemoteID != "":
			if w.CircuitID == "" && w.RemoteID == "" {
				return r
			}
		case w.Hostname == "":
			return r
		}
	}
	return nil
}

// taken says whether another machine holds a lease as the device.
func (m *Manager) taken(w *asker, r *Reservation) bool {
	other := func(b *binding) bool {
		return b != nil && b.held(w.t.el) && b.client.client() != w.Client && !w.sharesHardware(b.client)
	}
	for _, a := range r.Addresses {
		if other(m.bindings.at(a)) {
			return true
		}
	}
	return slices.ContainsFunc(m.owned[r.Hostname], other)
}

// deviceOf is the reservation of the device that a binding's client is, or nil.
func (m *Manager) deviceOf(b *binding) *Reservation {
	r := m.conf.reservation(b.client.client())
	if r == nil && b.device != nil {
		r = m.conf.devices[*b.device]
	}
	return r
}
