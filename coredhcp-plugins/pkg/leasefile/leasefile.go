// Package leasefile reads what other DHCP servers keep of their leases: ISC dhcpd, Kea, dnsmasq and CoreDHCP's range plugin.
//
// A change of server without it gives addresses out twice: the new server knows nobody, and the machines go on with what they have. Each of
// the formats is a log or a dump in which the last word on an address counts, so a reader returns one lease for each address. A file
// that cannot be understood is an error with the line it is in, never half of its leases: what is missing would be given out again.
package leasefile

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// State is what a lease is in.
type State uint8

// The states of a lease.
const (
	Active   State = iota // held until Expires
	Expired               // its time ran out
	Released              // given back
	Declined              // somebody else uses the address
)

// Lease is the last that a server knew of an address.
type Lease struct {
	Line             int // of the file, from 1; 0 where it has none
	Address          netip.Addr
	HardwareType     uint8  // IANA hardware type, 1 = Ethernet
	HardwareAddress  string // raw octets; "" if it is not known
	ClientIdentifier string // raw octets of option 61 with the type octet; "" if there is none, or the server keeps none
	Hostname         string // what the client calls itself; "" unless known
	State            State
	Start            time.Time     // when the client got it, or renewed it; zero if it is not known
	Expires          time.Time     // zero: never
	Duration         time.Duration // the lease time that was given; zero if it is not known
}

// Format names a kind of file.
type Format string

// The formats.
const (
	Kea     Format = "kea"     // the CSV file of Kea's memfile
	Dhcpd   Format = "dhcpd"   // ISC dhcpd.leases
	Dnsmasq Format = "dnsmasq" // dnsmasq.leases
	Range   Format = "range"   // the SQLite database of CoreDHCP's range
)

// Formats are the names of the formats.
func Formats() []string { return []string{string(Dhcpd), string(Dnsmasq), string(Kea), string(Range)} }

// MaxSize bounds a file, in octets.
const MaxSize = 1 << 30

// maxText bounds what a text in a file may be, in octets.
const maxText = 4096

// Read reads the file at path and returns its IPv4 leases in the order of their addresses.
func Read(f Format, path string) ([]Lease, error) {
	switch f {
	case Kea:
		return readKea(path)
	case Dhcpd:
		return readOne(path, parseDhcpd)
	case Dnsmasq:
		return readOne(path, parseDnsmasq)
	case Range:
		return readRange(path)
	}
	return nil, fmt.Errorf("format %q: expected one of %s", f, strings.Join(Formats(), ", "))
}

// leases are those that were read, by address: a later one replaces an earlier one.
type leases map[netip.Addr]Lease

func (l leases) sorted() []Lease {
	list := make([]Lease, 0, len(l))
	for _, lease := range l {
		list = append(list, lease)
	}
	slices.SortFunc(list, func(a, b Lease) int { return a.Address.Compare(b.Address) })
	return list
}

func readOne(path string, parse func(string, []byte, leases) error) ([]Lease, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	l := leases{}
	if err := parse(path, data, l); err != nil {
		return nil, err
	}
	return l.sorted(), nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: larger than %d octets", path, MaxSize)
	}
	return data, nil
}

// wrong is the error of a line.
func wrong(file string, line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", file, line, fmt.Sprintf(format, args...))
}

// address reads an IPv4 address of a host.
func address(v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil || !a.Is4() || a.IsUnspecified() || a.IsMulticast() {
		return netip.Addr{}, fmt.Errorf("found %.60q, expected an IPv4 address", v)
	}
	return a, nil
}

// octets reads pairs of hexadecimal digits with colons between them, at most limit; a pair may lack its first zero.
func octets(v string, limit int) (string, error) {
	parts := strings.Split(v, ":")
	if len(parts) > limit {
		return "", fmt.Errorf("found %d octets, expected at most %d", len(parts), limit)
	}
	b := make([]byte, 0, len(parts))
	for _, p := range parts {
		if len(p) == 1 {
			p = "0" + p
		}
		c, err := hex.DecodeString(p)
		if err != nil || len(c) != 1 {
			return "", fmt.Errorf("found %.60q, expected octets such as 00:00:5e:00:53:01", v)
		}
		b = append(b, c[0])
	}
	return string(b), nil
}

const (
	maxHardware   = 16  // octets of chaddr
	maxIdentifier = 255 // octets of option 61
)

// latest is the last moment that a file may speak of: what is later is a mistake.
var latest = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// moment reads seconds since 1970.
func moment(seconds int64) (time.Time, error) {
	if seconds < 0 || seconds > latest.Unix() {
		return time.Time{}, fmt.Errorf("found the time %d, expected seconds since 1970", seconds)
	}
	return time.Unix(seconds, 0), nil
}
