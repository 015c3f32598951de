package leases

import (
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// Flags of the Client FQDN option (RFC 4702 section 2.1).
const (
	serverUpdates = 1 << iota // S: the server updates the A record
	overridden                // O: the server does otherwise than the client wanted by S
	wireForm                  // E: the name is in DNS wire form, else in ASCII
	noUpdates                 // N: the server updates nothing
)

// naming is what a message says of its client's name.
type naming struct {
	fqdn  bool  // it has option 81, and option 12 does not count (RFC 4702 section 3.1)
	flags uint8 // of option 81
	label string
}

// namingOf reads options 81 and 12.
func namingOf(r *dhcpv4.DHCPv4) naming {
	if flags, name, ok := server.FQDN(r); ok {
		return naming{fqdn: true, flags: flags, label: lease.Label(name)}
	}
	return naming{label: lease.Label(string(r.Options.Get(dhcpv4.OptionHostName)))}
}

// hostnameOf is the FQDN that a client is told: the device's, else what DNS shall
// show, else the client's own name where it may have that, else one that is
// generated. It is "" if the client wants to hear of none.
func hostnameOf(t *transaction, a *lease.Answer, s *site.Site, d *site.Device, asked *asked) string {
	switch {
	case d != nil:
		return d.Hostname
	case !t.naming.fqdn && !asked.has(dhcpv4.OptionHostName):
		return ""
	case a.Lease.Name != "":
		return a.Lease.Name
	case a.Label != "":
		return a.Label + "." + s.Domain
	case t.Request.MessageType() == dhcpv4.MessageTypeNone:
		return ""
	}
	return lease.GeneratedLabel(a.Lease.Address) + "." + s.Domain
}

// answerFQDN answers option 81 to a client that sent it, and to no other (RFC 4702
// section 4): the whole name in the form that the client chose, and what the server
// does about DNS. The RCODEs are not used any more.
func (l *Leases) answerFQDN(t *transaction, a *lease.Answer, n *site.Network, d *site.Device, hostname string) {
	code := dhcpv4.OptionFQDN.Code()
	if _, set := t.Reply.Options[code]; set || !t.naming.fqdn || hostname == "" {
		return
	}
	forward, reverse := l.updates(a, n, d)
	flags := t.naming.flags & wireForm
	if forward {
		flags |= serverUpdates
	}
	if flags&serverUpdates != t.naming.flags&serverUpdates {
		flags |= overridden
	}
	if !forward && !reverse {
		flags |= noUpdates
	}
	value := append(make([]byte, 0, 4+len(hostname)), flags, 255, 255)
	if flags&wireForm == 0 {
		value = append(value, strings.TrimSuffix(hostname, ".")...)
	} else {
		for label := range strings.SplitSeq(hostname, ".") { // the last is the root
			value = append(append(value, byte(len(label))), label...)
		}
	}
	t.Reply.Options[code] = value
}

// updates says which of the name's records the server puts into DNS.
func (l *Leases) updates(a *lease.Answer, n *site.Network, d *site.Device) (forward, reverse bool) {
	if d != nil && d.Publish == site.PublishAlways {
		return true, true // they stand there already
	}
	if a.Lease.Name == "" || n.DDNS.Mode == site.DDNSOff || !l.manager.Publishes() {
		return false, false
	}
	wanted := func(s site.DDNSScope) bool { return s == site.DDNSAll || s == site.DDNSFixed && d != nil }
	return wanted(n.DDNS.Forward), wanted(n.DDNS.Reverse)
}
