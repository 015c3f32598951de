package dhcpopt

import (
	"fmt"
	"slices"
	"strings"
)

// Type is how an option's value is written in a file and encoded on the wire. The zero Type is none.
type Type uint8

// The types. The name that a file gives to one stands first in its comment.
const (
	_               Type = iota
	IPv4Address          // ipv4-address: 192.0.2.1
	IPv4Addresses        // ipv4-addresses: one or more
	IPv4Mask             // ipv4-mask: 255.255.255.0
	IPv4Prefixes         // ipv4-prefixes: 192.0.2.0/24, one or more, as pairs of address and mask
	Uint8                // uint8: 0 to 255
	Uint8s               // uint8-list: one or more
	Uint16               // uint16: 0 to 65535
	Uint16s              // uint16-list: one or more
	Uint32               // uint32: 0 to 4294967295
	Int32                // int32: -2147483648 to 2147483647
	Bool                 // bool: true or false, one octet
	Empty                // empty: true; an option of no octets
	Text                 // text: at least one character, UTF-8, not terminated
	DomainName           // domain-name: a name as text, without the trailing dot
	WireName             // dns-name: one name in DNS wire format (RFC 1035 section 3.1)
	DomainNames          // domain-names: one or more names in DNS wire format; read with compression, written without
	SearchList           // search-list: the same, written with compression (RFC 3397 section 2)
	Routes               // routes: DESTINATION via ROUTER, one or more host routes (RFC 2132 section 5.8)
	ClasslessRoutes      // classless-routes: PREFIX via ROUTER or default via ROUTER, one or more (RFC 3442)
	SLPAgents            // slp-agents: true or false (mandatory), then addresses (RFC 2610)
	SLPScope             // slp-scope: true or false (mandatory), then the scope list (RFC 2610)
	SIPServers           // sip-servers: addresses or names, not both (RFC 3361)
	Bytes                // bytes: hexadecimal digits, with or without colons
	SubOptions           // sub-options: CODE TYPE VALUE, one or more (RFC 2132 section 8.4); or all of them as bytes
	VendorOptions        // vendor-options: ENTERPRISE CODE TYPE VALUE, one or more (RFC 3925 section 4); or all of them as bytes
	lastType
)

var typeNames = [lastType]string{
	IPv4Address: "ipv4-address", IPv4Addresses: "ipv4-addresses", IPv4Mask: "ipv4-mask", IPv4Prefixes: "ipv4-prefixes",
	Uint8: "uint8", Uint8s: "uint8-list", Uint16: "uint16", Uint16s: "uint16-list", Uint32: "uint32", Int32: "int32",
	Bool: "bool", Empty: "empty", Text: "text", DomainName: "domain-name", WireName: "dns-name", DomainNames: "domain-names", SearchList: "search-list",
	Routes: "routes", ClasslessRoutes: "classless-routes", SLPAgents: "slp-agents", SLPScope: "slp-scope",
	SIPServers: "sip-servers", Bytes: "bytes", SubOptions: "sub-options", VendorOptions: "vendor-options",
}

// typeAliases are the names that ISC dhcpd and Kea have for the same.
var typeAliases = map[string]Type{
	"ip-address": IPv4Address, "ip-addresses": IPv4Addresses, "boolean": Bool, "string": Text,
	"binary": Bytes, "hex": Bytes, "fqdn": WireName, "domain-list": DomainNames,
}

// ParseType returns the type with the given name, for options given by number: see the constants, and TypeNames.
func ParseType(name string) (Type, bool) {
	name = strings.ToLower(name)
	if name == "" {
		return 0, false
	}
	if i := slices.Index(typeNames[:], name); i > 0 {
		return Type(i), true
	}
	t, ok := typeAliases[name]
	return t, ok
}

// TypeNames returns the names of all types, for messages.
func TypeNames() []string { return slices.Clone(typeNames[1:]) }

// String returns the name as ParseType takes it.
func (t Type) String() string {
	if t == 0 || t >= lastType {
		return fmt.Sprintf("type %d", uint8(t))
	}
	return typeNames[t]
}

// List reports whether a value of the type may have several elements.
func (t Type) List() bool {
	switch t {
	case IPv4Addresses, IPv4Prefixes, Uint8s, Uint16s, DomainNames, SearchList, SubOptions, VendorOptions, Routes, ClasslessRoutes, SLPAgents, SLPScope, SIPServers:
		return true
	}
	return false
}
