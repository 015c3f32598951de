// Package dhcpopt knows the DHCPv4 options: their codes, the names that administrators write, and the form of their values.
//
// An option is data, not code: one table (table.go) lists the whole IANA registry with the names of ISC dhcpd and Kea, which is
// what people have in the configuration that they come from, and gives each option one Type. A Type says how values are written in
// a file, how they stand on the wire, and what is wrong with one that is refused. So a value is checked when the file is read and
// not when a client asks, and an option that the registry lacks needs only a number and the name of a type.
//
// A value is encoded to the octets of the option without code and length: the server splits what is longer than 255 octets
// (RFC 3396), orders the options and fits them into the message.
package dhcpopt
