package dhcpopt

import (
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"
)

// Code is a DHCPv4 option code (RFC 2132 section 2), 1 to 254; 0 (pad) and 255 (end) are framing and no options.
type Code uint8

// Option is one DHCP option: its code, the name people write, and how its value is written and encoded.
// The zero value is no option.
type Option struct {
	Code Code
	Name string
	Type Type
}

// ByName returns the option with the given name: the spelling of ISC dhcpd and Kea ("routers", "domain-name-servers"),
// or the IANA registry's where those two have none. Names are compared without regard to case.
func ByName(name string) (Option, bool) {
	c, ok := codes[strings.ToLower(name)]
	if !ok {
		return Option{}, false
	}
	return ByCode(c)
}

// ByCode returns the option that the IANA registry ("BOOTP Vendor Extensions and DHCP Options") lists under c.
func ByCode(c Code) (Option, bool) {
	e := &table[c]
	if e.name == "" {
		return Option{}, false
	}
	return Option{Code: c, Name: e.name, Type: e.kind}, true
}

// Names returns the preferred name of every option that a site file may set, in the order of their codes.
func Names() []string {
	var names []string
	for c := range table {
		if o, ok := ByCode(Code(c)); ok && !o.Reserved() {
			names = append(names, o.Name)
		}
	}
	return names
}

// Reserved reports whether only the protocol itself sets the option: message framing, what the server computes for each
// answer (message type, lease time, server identifier), what clients and relays send, and lease queries.
// Such an option must not come from a configuration file.
func (o Option) Reserved() bool { return reserved(o.Code) }

// String returns name and code, as in "routers (3)".
func (o Option) String() string {
	if o.Name == "" {
		return fmt.Sprintf("option %d", o.Code)
	}
	return o.Name + " (" + strconv.Itoa(int(o.Code)) + ")"
}

// Encode returns the option's value as it goes on the wire, without code and length, from the values as people write
// them (see Type). The values of a list come one per element. A result may be longer than 255 octets: RFC 3396 splits it.
// The error says what was found and what was expected.
func (o Option) Encode(values []string) ([]byte, error) { return o.encode(values) }

// Decode is the inverse of Encode for what stands in an option on the wire. It returns an error for a malformed value.
func (o Option) Decode(data []byte) ([]string, error) { return o.decode(data) }

// Format returns the value for people to read: as Encode takes it, with ", " between the values of a list,
// and as hexadecimal digits where it is malformed.
func (o Option) Format(data []byte) string {
	values, err := o.decode(data)
	if err != nil {
		return hexadecimal(data)
	}
	return strings.Join(values, ", ")
}

// Addresses returns the IPv4 addresses of hosts that the value names: servers, routers, and the next hops of routes.
// It returns nothing for options that hold no host addresses (a mask, a broadcast address) and for malformed values.
func (o Option) Addresses(data []byte) []netip.Addr { return o.addresses(data) }

// Set holds encoded option values by code.
type Set map[Code][]byte

// Clone returns a copy of the set; the values, which nobody modifies, are shared. The copy is never nil.
func (s Set) Clone() Set {
	c := make(Set, len(s))
	maps.Copy(c, s)
	return c
}

// Merge returns a new set with the options of both; where both have an option, over's value stands. Neither is modified.
func (s Set) Merge(over Set) Set {
	m := make(Set, len(s)+len(over))
	maps.Copy(m, s)
	maps.Copy(m, over)
	return m
}
