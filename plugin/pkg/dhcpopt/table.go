package dhcpopt

import (
	"slices"
	"strings"
)

// entry describes one registered option.
type entry struct {
	code     Code
	name     string // preferred spelling
	kind     Type
	min, max uint32   // bounds of a number; both 0: those of its type
	oneOf    []uint32 // if not nil, the only numbers allowed
	aliases  string   // further names, separated by spaces
}

// registry is IANA's "BOOTP Vendor Extensions and DHCP Options". The names are those of ISC dhcpd and Kea where they have one,
// and otherwise the registry's own in the same style; where the two servers differ, the other name is an alias.
var registry = []entry{
	// RFC 2132 section 3: vendor extensions of RFC 1497.
	{code: 1, name: "subnet-mask", kind: IPv4Mask},
	{code: 2, name: "time-offset", kind: Int32},
	{code: 3, name: "routers", kind: IPv4Addresses, aliases: "router"},
	{code: 4, name: "time-servers", kind: IPv4Addresses},
	{code: 5, name: "name-servers", kind: IPv4Addresses, aliases: "ien116-name-servers"},
	{code: 6, name: "domain-name-servers", kind: IPv4Addresses, aliases: "dns-servers domain-name-server"},
	{code: 7, name: "log-servers", kind: IPv4Addresses},
	{code: 8, name: "cookie-servers", kind: IPv4Addresses, aliases: "quotes-servers"},
	{code: 9, name: "lpr-servers", kind: IPv4Addresses},
	{code: 10, name: "impress-servers", kind: IPv4Addresses},
	{code: 11, name: "resource-location-servers", kind: IPv4Addresses},
	{code: 12, name: "host-name", kind: DomainName, aliases: "hostname"},
	{code: 13, name: "boot-size", kind: Uint16, aliases: "boot-file-size"},
	{code: 14, name: "merit-dump", kind: Text, aliases: "merit-dump-file"},
	{code: 15, name: "domain-name", kind: DomainName},
	{code: 16, name: "swap-server", kind: IPv4Address},
	{code: 17, name: "root-path", kind: Text},
	{code: 18, name: "extensions-path", kind: Text, aliases: "extension-file"},
	// Section 4: IP layer, per host.
	{code: 19, name: "ip-forwarding", kind: Bool},
	{code: 20, name: "non-local-source-routing", kind: Bool},
	{code: 21, name: "policy-filter", kind: IPv4Prefixes},
	{code: 22, name: "max-dgram-reassembly", kind: Uint16, min: 576, max: 65535},
	{code: 23, name: "default-ip-ttl", kind: Uint8, min: 1, max: 255},
	{code: 24, name: "path-mtu-aging-timeout", kind: Uint32},
	{code: 25, name: "path-mtu-plateau-table", kind: Uint16s, min: 68, max: 65535},
	// Section 5: IP layer, per interface.
	{code: 26, name: "interface-mtu", kind: Uint16, min: 68, max: 65535, aliases: "mtu"},
	{code: 27, name: "all-subnets-local", kind: Bool},
	{code: 28, name: "broadcast-address", kind: IPv4Address},
	{code: 29, name: "perform-mask-discovery", kind: Bool},
	{code: 30, name: "mask-supplier", kind: Bool},
	{code: 31, name: "router-discovery", kind: Bool},
	{code: 32, name: "router-solicitation-address", kind: IPv4Address},
	{code: 33, name: "static-routes", kind: Routes, aliases: "static-route"},
	// Section 6: link layer, and section 7: TCP.
	{code: 34, name: "trailer-encapsulation", kind: Bool},
	{code: 35, name: "arp-cache-timeout", kind: Uint32},
	{code: 36, name: "ieee802-3-encapsulation", kind: Bool},
	{code: 37, name: "default-tcp-ttl", kind: Uint8, min: 1, max: 255},
	{code: 38, name: "tcp-keepalive-interval", kind: Uint32},
	{code: 39, name: "tcp-keepalive-garbage", kind: Bool},
	// Section 8: applications and services.
	{code: 40, name: "nis-domain", kind: Text},
	{code: 41, name: "nis-servers", kind: IPv4Addresses},
	{code: 42, name: "ntp-servers", kind: IPv4Addresses},
	{code: 43, name: "vendor-encapsulated-options", kind: SubOptions},
	{code: 44, name: "netbios-name-servers", kind: IPv4Addresses},
	{code: 45, name: "netbios-dd-server", kind: IPv4Addresses},
	{code: 46, name: "netbios-node-type", kind: Uint8, oneOf: []uint32{1, 2, 4, 8}},
	{code: 47, name: "netbios-scope", kind: Text},
	{code: 48, name: "font-servers", kind: IPv4Addresses},
	{code: 49, name: "x-display-manager", kind: IPv4Addresses},
	// Section 9: DHCP itself.
	{code: 50, name: "dhcp-requested-address", kind: IPv4Address},
	{code: 51, name: "dhcp-lease-time", kind: Uint32},
	{code: 52, name: "dhcp-option-overload", kind: Uint8, min: 1, max: 3},
	{code: 53, name: "dhcp-message-type", kind: Uint8},
	{code: 54, name: "dhcp-server-identifier", kind: IPv4Address},
	{code: 55, name: "dhcp-parameter-request-list", kind: Uint8s},
	{code: 56, name: "dhcp-message", kind: Text},
	{code: 57, name: "dhcp-max-message-size", kind: Uint16, min: 576, max: 65535},
	{code: 58, name: "dhcp-renewal-time", kind: Uint32},
	{code: 59, name: "dhcp-rebinding-time", kind: Uint32},
	{code: 60, name: "vendor-class-identifier", kind: Text},
	{code: 61, name: "dhcp-client-identifier", kind: Bytes},
	{code: 62, name: "nwip-domain-name", kind: Text, aliases: "nwip-domain"},
	{code: 63, name: "nwip-suboptions", kind: Bytes},
	{code: 64, name: "nisplus-domain-name", kind: Text, aliases: "nisplus-domain"},
	{code: 65, name: "nisplus-servers", kind: IPv4Addresses},
	{code: 66, name: "tftp-server-name", kind: Text},
	{code: 67, name: "boot-file-name", kind: Text, aliases: "bootfile-name"},
	{code: 68, name: "mobile-ip-home-agent", kind: IPv4Addresses},
	{code: 69, name: "smtp-server", kind: IPv4Addresses},
	{code: 70, name: "pop-server", kind: IPv4Addresses},
	{code: 71, name: "nntp-server", kind: IPv4Addresses},
	{code: 72, name: "www-server", kind: IPv4Addresses},
	{code: 73, name: "finger-server", kind: IPv4Addresses},
	{code: 74, name: "irc-server", kind: IPv4Addresses},
	{code: 75, name: "streettalk-server", kind: IPv4Addresses},
	{code: 76, name: "streettalk-directory-assistance-server", kind: IPv4Addresses},
	// After RFC 2132.
	{code: 77, name: "user-class", kind: Bytes},                                                                                            // RFC 3004
	{code: 78, name: "slp-directory-agent", kind: SLPAgents},                                                                               // RFC 2610
	{code: 79, name: "slp-service-scope", kind: SLPScope},                                                                                  // RFC 2610
	{code: 80, name: "rapid-commit", kind: Empty},                                                                                          // RFC 4039
	{code: 81, name: "fqdn", kind: Bytes, aliases: "client-fqdn"},                                                                          // RFC 4702
	{code: 82, name: "dhcp-agent-options", kind: Bytes, aliases: "relay-agent-information"},                                                // RFC 3046
	{code: 83, name: "isns", kind: Bytes},                                                                                                  // RFC 4174
	{code: 85, name: "nds-servers", kind: IPv4Addresses},                                                                                   // RFC 2241
	{code: 86, name: "nds-tree-name", kind: Text},                                                                                          // RFC 2241
	{code: 87, name: "nds-context", kind: Text},                                                                                            // RFC 2241
	{code: 88, name: "bcms-controller-names", kind: DomainNames},                                                                           // RFC 4280
	{code: 89, name: "bcms-controller-address", kind: IPv4Addresses},                                                                       // RFC 4280
	{code: 90, name: "authenticate", kind: Bytes, aliases: "authentication"},                                                               // RFC 3118
	{code: 91, name: "client-last-transaction-time", kind: Uint32},                                                                         // RFC 4388
	{code: 92, name: "associated-ip", kind: IPv4Addresses},                                                                                 // RFC 4388
	{code: 93, name: "client-system", kind: Uint16s, aliases: "pxe-system-type"},                                                           // RFC 4578
	{code: 94, name: "client-ndi", kind: Bytes, aliases: "pxe-interface-id"},                                                               // RFC 4578
	{code: 95, name: "ldap", kind: Text},                                                                                                   // RFC 3679
	{code: 97, name: "uuid-guid", kind: Bytes, aliases: "pxe-client-id"},                                                                   // RFC 4578
	{code: 98, name: "uap-servers", kind: Text},                                                                                            // RFC 2485
	{code: 99, name: "geoconf-civic", kind: Bytes},                                                                                         // RFC 4776
	{code: 100, name: "pcode", kind: Text, aliases: "posix-timezone new-posix-timezone"},                                                   // RFC 4833
	{code: 101, name: "tcode", kind: Text, aliases: "tzdb-timezone new-tzdb-timezone"},                                                     // RFC 4833
	{code: 108, name: "v6-only-preferred", kind: Uint32, aliases: "ipv6-only-preferred"},                                                   // RFC 8925
	{code: 109, name: "dhcp4o6-s46-saddr", kind: Bytes},                                                                                    // RFC 8539
	{code: 112, name: "netinfo-server-address", kind: IPv4Addresses},                                                                       // RFC 3679
	{code: 113, name: "netinfo-server-tag", kind: Text},                                                                                    // RFC 3679
	{code: 114, name: "v4-captive-portal", kind: Text, aliases: "captive-portal default-url"},                                              // RFC 8910
	{code: 116, name: "auto-config", kind: Bool, aliases: "auto-configure"},                                                                // RFC 2563
	{code: 117, name: "name-service-search", kind: Uint16s},                                                                                // RFC 2937
	{code: 118, name: "subnet-selection", kind: IPv4Address},                                                                               // RFC 3011
	{code: 119, name: "domain-search", kind: SearchList},                                                                                   // RFC 3397
	{code: 120, name: "sip-servers", kind: SIPServers},                                                                                     // RFC 3361
	{code: 121, name: "classless-static-route", kind: ClasslessRoutes, aliases: "classless-static-routes rfc3442-classless-static-routes"}, // RFC 3442
	{code: 122, name: "cablelabs-client-configuration", kind: Bytes},                                                                       // RFC 3495
	{code: 123, name: "geoconf", kind: Bytes},                                                                                              // RFC 6225
	{code: 124, name: "vivco-suboptions", kind: Bytes, aliases: "vivco"},                                                                   // RFC 3925
	{code: 125, name: "vivso-suboptions", kind: VendorOptions, aliases: "vivso"},                                                           // RFC 3925
	{code: 136, name: "pana-agent", kind: IPv4Addresses},                                                                                   // RFC 5192
	{code: 137, name: "v4-lost", kind: WireName},                                                                                           // RFC 5223
	{code: 138, name: "capwap-ac-v4", kind: IPv4Addresses},                                                                                 // RFC 5417
	{code: 139, name: "ipv4-address-mos", kind: Bytes},                                                                                     // RFC 5678
	{code: 140, name: "ipv4-fqdn-mos", kind: Bytes},                                                                                        // RFC 5678
	{code: 141, name: "sip-ua-cs-domains", kind: DomainNames},                                                                              // RFC 6011
	{code: 142, name: "ipv4-address-andsf", kind: IPv4Addresses},                                                                           // RFC 6153
	{code: 143, name: "v4-sztp-redirect", kind: Bytes},                                                                                     // RFC 8572
	{code: 144, name: "geoloc", kind: Bytes},                                                                                               // RFC 6225
	{code: 145, name: "forcerenew-nonce-capable", kind: Bytes},                                                                             // RFC 6704
	{code: 146, name: "rdnss-selection", kind: Bytes},                                                                                      // RFC 6731
	{code: 147, name: "v4-dots-ri", kind: WireName},                                                                                        // RFC 8973
	{code: 148, name: "v4-dots-address", kind: IPv4Addresses},                                                                              // RFC 8973
	{code: 150, name: "tftp-server-address", kind: IPv4Addresses},                                                                          // RFC 5859
	{code: 151, name: "status-code", kind: Bytes},                                                                                          // RFC 6926
	{code: 152, name: "base-time", kind: Uint32},                                                                                           // RFC 6926
	{code: 153, name: "start-time-of-state", kind: Uint32},                                                                                 // RFC 6926
	{code: 154, name: "query-start-time", kind: Uint32},                                                                                    // RFC 6926
	{code: 155, name: "query-end-time", kind: Uint32},                                                                                      // RFC 6926
	{code: 156, name: "dhcp-state", kind: Uint8},                                                                                           // RFC 6926
	{code: 157, name: "data-source", kind: Uint8},                                                                                          // RFC 6926
	{code: 158, name: "v4-pcp-server", kind: Bytes},                                                                                        // RFC 7291
	{code: 159, name: "v4-portparams", kind: Bytes},                                                                                        // RFC 7618
	{code: 161, name: "mud-url-v4", kind: Text},                                                                                            // RFC 8520
	{code: 162, name: "v4-dnr", kind: Bytes},                                                                                               // RFC 9463
	{code: 208, name: "pxelinux-magic", kind: Bytes},                                                                                       // RFC 5071
	{code: 209, name: "configuration-file", kind: Text, aliases: "config-file pxelinux-config loader-configfile"},                          // RFC 5071
	{code: 210, name: "path-prefix", kind: Text, aliases: "pxelinux-path-prefix loader-pathprefix"},                                        // RFC 5071
	{code: 211, name: "reboot-time", kind: Uint32, aliases: "pxelinux-reboot-time loader-reboottime"},                                      // RFC 5071
	{code: 212, name: "option-6rd", kind: Bytes, aliases: "6rd"},                                                                           // RFC 5969
	{code: 213, name: "v4-access-domain", kind: WireName},                                                                                  // RFC 5986
	{code: 220, name: "subnet-allocation", kind: Bytes},                                                                                    // RFC 6656
	{code: 221, name: "virtual-subnet-selection", kind: Bytes, aliases: "vss"},                                                             // RFC 6607
}

// reservedCodes are what no configuration may set: see Option.Reserved. 0 and 255 are framing.
var reservedCodes = []Code{
	0, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 61, 77, 80, 81, 82, 90, 91, 92, 93, 94, 97,
	118, 145, 151, 152, 153, 154, 155, 156, 157, 255,
}

// table and codes are the registry by code and by name. They are written once, before main, and only read after.
var table, codes = func() (t [256]entry, byName map[string]Code) {
	byName = make(map[string]Code, 2*len(registry))
	for _, e := range registry {
		t[e.code] = e
		byName[e.name] = e.code
		for alias := range strings.FieldsSeq(e.aliases) {
			byName[alias] = e.code
		}
	}
	return t, byName
}()

func reserved(c Code) bool { return slices.Contains(reservedCodes, c) }
