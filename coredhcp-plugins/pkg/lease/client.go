package lease

import (
	"fmt"
	"net"
	"slices"
)

// identity octets that stand before a client's key: which of the two kinds of key it is.
const (
	byHardware   = 0
	byIdentifier = 1
)

// Key is the client's identity: two Clients with one Key are one client, unless a Reservation tells them apart. It is not
// meant for people.
func (c Client) Key() string { return string(c.appendKey(nil)) }

func (c Client) appendKey(b []byte) []byte {
	if c.Identifier != "" {
		return append(append(b, byIdentifier), c.Identifier...)
	}
	return append(append(b, byHardware, c.HardwareType), c.HardwareAddr...)
}

// machine is what DNS knows a client by that has an identifier of RFC 4361 (RFC 4701 section 3.3): the DUID without the network
// interface, so that all of a machine's have one name; "" of any other client.
func (p packed) machine() string {
	const duid, before = 255, 6 // the octet for the kind of key, the identifier's type, the interface
	if key := p.key(); len(key) > before && key[0] == byIdentifier && key[1] == duid {
		return key[before:]
	}
	return ""
}

// String is the client as logs show it: its hardware address, and its client identifier in hexadecimal.
func (c Client) String() string {
	s := net.HardwareAddr(c.HardwareAddr).String()
	if c.Identifier != "" {
		s += fmt.Sprintf(" id %x", c.Identifier)
	}
	return s
}

// valid says whether the client can be told from others, within the bounds of what a message can carry.
func (c Client) valid() bool { return c.fits() && c != unknownHolder }

// fits says whether there is something of the client, within those bounds.
func (c Client) fits() bool {
	return len(c.HardwareAddr) <= maxHardware && len(c.Identifier) <= maxIdentifier &&
		(c.HardwareAddr != "" || c.Identifier != "")
}

// packed is a Client in one string, of which its Key is a part: a binding then costs one allocation for its client, and
// the map of clients none. It is the length of the identifier, the key, and what the key does not hold of the hardware.
type packed string

func pack(c Client) packed {
	b := make([]byte, 0, 4+len(c.Identifier)+len(c.HardwareAddr))
	b = append(b, byte(len(c.Identifier)))
	b = c.appendKey(b)
	if c.Identifier != "" {
		b = append(append(b, c.HardwareType), c.HardwareAddr...)
	}
	return packed(b)
}

// key is the Key of the client.
func (p packed) key() string {
	if n := int(p[0]); n > 0 {
		return string(p[1 : 2+n])
	}
	return string(p[1:])
}

func (p packed) client() Client {
	n := int(p[0])
	return Client{
		HardwareType: p[2+n],
		HardwareAddr: string(p[3+n:]),
		Identifier:   string(p[2 : 2+n]),
	}
}

func (p packed) hardware() HardwareAddress {
	c := p.client()
	return HardwareAddress{c.HardwareType, c.HardwareAddr}
}

// String names the state in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

var stateNames = []string{Offered: "offered", Active: "active", Expired: "expired", Released: "released", Declined: "declined", Conflict: "conflict", Renamed: "renamed"}

// String names the answer in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

var kindNames = []string{Silent: "silent", Offer: "offer", Ack: "ack", Nak: "nak", Probe: "probe"}

// cleanLabel returns a host name label in lower case, or "" if it is none (RFC 1123 section 2.1).
func cleanLabel(s string) string {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return ""
	}
	lower := true
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
		case c >= 'A' && c <= 'Z':
			lower = false
		default:
			return ""
		}
	}
	if lower {
		return s
	}
	return lowerASCII(s)
}

// canonical returns a domain name in lower case with its trailing dot; "" stays "".
func canonical(name string) string {
	if name == "" {
		return ""
	}
	if name[len(name)-1] != '.' {
		name += "."
	}
	return lowerASCII(name)
}

func lowerASCII(s string) string {
	b := []byte(s)
	if !slices.ContainsFunc(b, func(c byte) bool { return c >= 'A' && c <= 'Z' }) {
		return s
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
