package lease

import (
	"fmt"
	"net/netip"
	"strings"
)

// Outlook is what a configuration would mean for a lease when its client next renews it, which it does by unicast.
type Outlook struct {
	Refused string // why the renewal would be answered by Nak; "" if the client keeps the address
	Device  string // the site's device that the client would be; "" if none
	// Name is what DNS would show, if the client calls itself as it does now. A client that was a device and is none any
	// more may have a name of its own, which is not known.
	Name string
}

// Preview tells what Reload with a configuration would mean for the leases that are active now, one after another in the
// order of their addresses, and ends with the first error of each. An error of the configuration is that of Reload.
func (m *Manager) Preview(c Config, each func(Lease, Outlook) error) error {
	x, err := newIndex(c)
	if err != nil {
		return err
	}
	for l, err := range m.Leases() {
		if err != nil {
			return err
		}
		if l.State != Active {
			continue
		}
		if err := each(l, m.preview(x, &l)); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) preview(x *index, l *Lease) Outlook {
	r := x.reservation(l.Client)
	if r == nil && l.Device != "" {
		r = x.devices[l.Device] // known by its port or its name
	}
	var o Outlook
	if r != nil {
		o.Device = r.Device
	}
	o.Refused = m.whyRefused(x, l, r)
	if o.Refused == "" {
		o.Name = m.nameUnder(x, l, r)
	}
	return o
}

// whyRefused says why the client of a lease, which would be the device with the reservation r, would lose the address.
func (m *Manager) whyRefused(x *index, l *Lease, r *Reservation) string {
	n := x.networkOf(l.Address)
	if n == nil {
		return "the address is in no network"
	}
	if owner := x.reserved[l.Address]; owner != nil {
		switch {
		case owner == r:
			return ""
		case l.Device == owner.Device:
			return fmt.Sprintf("the client is not device %q any more, whose address this is", owner.Device)
		}
		return fmt.Sprintf("the address is reserved for device %q", owner.Device)
	}
	if r != nil {
		for _, a := range r.Addresses {
			if contains(n.wire, x.networkOf(a)) && !m.heldByOther(l.Client, a) {
				return fmt.Sprintf("device %q has the address %v", r.Device, a)
			}
		}
	}
	p := x.poolOf(l.Address)
	switch {
	case p == nil:
		return "the address is in no pool"
	case x.withheld(l.Address):
		return "the address is that of a machine that does not ask for it"
	case !p.admits(&asker{reservation: r, stays: true}):
		return "the pool is not for this client"
	}
	return ""
}

// heldByOther says whether a machine other than the client has the address at present.
func (m *Manager) heldByOther(c Client, a netip.Addr) bool {
	l, ok := m.Lease(a)
	return ok && l.State == Active && l.Client.HardwareAddr != c.HardwareAddr
}

// nameUnder is the name that a lease would have.
func (m *Manager) nameUnder(x *index, l *Lease, r *Reservation) string {
	switch {
	case r != nil && r.Publish:
		return r.Hostname
	case r != nil, x.domain == "":
		return ""
	}
	if l.Name != "" && l.Device == "" {
		label, _, _ := strings.Cut(l.Name, ".")
		if name := qualify(l.Name, label, x.domain); !x.taken(name) {
			return name
		}
	}
	if m.Publishes() && x.networkOf(l.Address).DDNS {
		if name := qualify("", GeneratedLabel(l.Address), x.domain); !x.taken(name) {
			return name
		}
	}
	return ""
}
