package lease

import (
	"net/netip"
	"strings"
)

// generatedPrefix is how names begin that are made of an address. No client may choose such a name, so they are unique by
// construction.
const generatedPrefix = "dhcp-"

// Label is the host name label (RFC 1123 section 2.1), in lower case, that becomes of the name by which a client calls
// itself, or "" if none does: what follows the first dot, in whatever domain that is, or the first zero octet, is left out;
// every run of octets other than letters, digits and hyphens becomes one hyphen; hyphens at both ends are left out, and so
// is what is over 63 octets. An IP address is no name, and neither is the "(none)" of a machine that was not given any.
func Label(name string) string {
	name, _, _ = strings.Cut(name, "\x00")
	label, domain, qualified := strings.Cut(name, ".")
	if clean := cleanLabel(label); clean != "" && !qualified {
		return clean
	}
	if label == "(none)" {
		return ""
	}
	if qualified && domain != "" {
		if _, err := netip.ParseAddr(name); err == nil {
			return ""
		}
	}
	b := make([]byte, 0, len(label))
	for i := range len(label) {
		switch c := label[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
			b = append(b, c)
		case c >= 'A' && c <= 'Z':
			b = append(b, c+'a'-'A')
		case len(b) > 0 && label[i-1] != '-' && isPlain(label[i-1]):
			b = append(b, '-')
		}
	}
	s := strings.TrimLeft(string(b), "-")
	return strings.TrimRight(s[:min(len(s), 63)], "-")
}

// isPlain says whether an octet stands in a label as it is.
func isPlain(c byte) bool {
	return c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// GeneratedLabel is the label of a client that has no name of its own: "dhcp-192-0-2-150" at 192.0.2.150.
func GeneratedLabel(a netip.Addr) string {
	return generatedPrefix + strings.Map(func(r rune) rune {
		if r == '.' || r == ':' {
			return '-'
		}
		return r
	}, a.StringExpanded())
}

// isGenerated says whether a label is that of an address.
func isGenerated(label string) bool {
	rest, ok := strings.CutPrefix(label, generatedPrefix)
	if !ok {
		return false
	}
	for _, separator := range []string{".", ":"} {
		if _, err := netip.ParseAddr(strings.ReplaceAll(rest, "-", separator)); err == nil {
			return true
		}
	}
	return false
}

// Publish says that names go into DNS from now on: leases of clients that have no name get one that is generated, when
// they are given or renewed. Whoever takes name changes says so before the first lease.
func (m *Manager) Publish() { m.publishes.Store(true) }

// Publishes says whether Publish was called.
func (m *Manager) Publishes() bool { return m.publishes.Load() }

// name is what DNS shall show for the lease, and whether it is a site device's name. It is the device's; else the one that
// the client gave itself, unless that is somebody else's; else one that is generated, where names go into DNS. A client
// that says nothing keeps the name that it has. The asker's label becomes the name of its own that it may have, in DNS or
// not.
func (m *Manager) name(w *asker, n *network, a netip.Addr, same bool, old *record) (name string, owned bool) {
	w.label = ""
	if r := w.reservation; r != nil {
		if !r.Publish {
			return "", false
		}
		return r.Hostname, r.Hostname != ""
	}
	present := ""
	if same && !old.owned && old.name != "" {
		label, _, _ := strings.Cut(old.name, ".")
		present = qualify(old.name, label, m.conf.domain) // the domain may be another one by now
		if m.conf.taken(present) {
			present = ""
		}
	}
	if label := cleanLabel(w.Hostname); label != "" && !isGenerated(label) {
		name = qualify(present, label, m.conf.domain)
		if m.conf.taken(name) || name != present && n.takes() && len(m.conf.shared[name]) >= maxShared {
			name = ""
		} else {
			w.label = label
		}
	}
	switch {
	case m.conf.domain == "", w.NoNames:
		return "", false
	case name != "":
	case w.Hostname == "" && present != "":
		name = present
	case m.Publishes() && n.DDNS:
		if name = qualify(present, GeneratedLabel(a), m.conf.domain); m.conf.taken(name) {
			name = ""
		}
	}
	return name, false
}

// qualify is the label below the domain; the same string as present where that is it.
func qualify(present, label, domain string) string {
	if len(present) == len(label)+1+len(domain) && present[:len(label)] == label && present[len(label)] == '.' && present[len(label)+1:] == domain {
		return present
	}
	return label + "." + domain
}

// keeps says whether the site has records of a name in DNS that are no lease's.
func (x *index) keeps(name string) bool {
	_, taken := x.hostnames[name]
	return taken && !x.published[name]
}

// taken says whether the site keeps a name from clients that choose their own, or DNS cannot have it.
func (x *index) taken(name string) bool {
	_, taken := x.hostnames[name]
	return taken || len(name) > 254
}
