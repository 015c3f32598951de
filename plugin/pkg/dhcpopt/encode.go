package dhcpopt

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxLength bounds an encoded value, in octets. No message has room for more (RFC 2131 section 2: a client that announces nothing
// takes 312 octets of options, and a UDP datagram on Ethernet fewer than 1,500).
const MaxLength = 4096

// ValueError is the error of Encode for one element of a value.
type ValueError struct {
	Index    int    // of the element in the values given to Encode; -1 for the value as a whole
	Found    string // what was there, quoted and bounded in length
	Expected string // what was expected instead
}

// Error returns "found X, expected Y".
func (e *ValueError) Error() string { return "found " + e.Found + ", expected " + e.Expected }

func (o Option) encode(values []string) ([]byte, error) {
	if o.Type == 0 || o.Type >= lastType {
		return nil, &ValueError{-1, "option " + strconv.Itoa(int(o.Code)) + " without a type", "one of " + strings.Join(typeNames[1:], ", ")}
	}
	if len(values) == 0 {
		return nil, &ValueError{-1, "no value", o.expected()}
	}
	if len(values) > 1 && !o.Type.List() {
		return nil, &ValueError{1, "a list of " + strconv.Itoa(len(values)) + " values", "a single value: " + o.expected()}
	}
	var b []byte
	for i, v := range values {
		next, expected := o.appendElement(b, i, values, strings.TrimSpace(v))
		if expected != "" {
			return nil, &ValueError{i, quote(v), expected}
		}
		if len(next) > MaxLength {
			return nil, &ValueError{i, fmt.Sprintf("a value of more than %d octets", MaxLength), "a value that fits into a DHCP message"}
		}
		b = next
	}
	if (o.Type == SLPAgents || o.Type == SLPScope) && len(values) < 2 {
		return nil, &ValueError{-1, "only " + quote(values[0]), o.expected()}
	}
	return b, nil
}

// appendElement appends the encoding of v, which is values[i], or says what was expected.
func (o Option) appendElement(b []byte, i int, values []string, v string) (_ []byte, expected string) {
	switch o.Type {
	case IPv4Address, IPv4Addresses:
		return appendAddress(b, v, o.expected())
	case IPv4Mask:
		return appendMask(b, v, o.expected())
	case IPv4Prefixes:
		p, err := netip.ParsePrefix(v)
		if err != nil || !p.Addr().Is4() {
			return nil, o.expected()
		}
		return appendPair(b, p.Addr(), maskOf(p.Bits())), ""
	case Uint8, Uint8s, Uint16, Uint16s, Uint32, Int32:
		return o.appendNumber(b, v)
	case Bool:
		on, ok := parseBool(v)
		if !ok {
			return nil, o.expected()
		}
		return appendBool(b, on), ""
	case Empty:
		if on, ok := parseBool(v); !ok || !on {
			return nil, o.expected()
		}
		return []byte{}, ""
	case Text:
		return appendText(b, values[i], o.expected())
	case DomainName:
		name, ok := cleanName(v)
		if !ok {
			return nil, o.expected()
		}
		return append(b, name...), ""
	case WireName, DomainNames:
		return appendName(b, v, o.expected())
	case SearchList:
		return appendCompressed(b, v, o.expected())
	case Routes:
		return appendRoute(b, v, o.expected())
	case ClasslessRoutes:
		return appendClasslessRoute(b, v, o.expected())
	case SLPAgents, SLPScope:
		return o.appendSLP(b, i, values, v)
	case SIPServers:
		return appendSIP(b, i, v, o.expected())
	case SubOptions:
		return appendSubOption(b, len(values) == 1, v, o.expected())
	case VendorOptions:
		return appendVendorOption(b, len(values) == 1, v, o.expected())
	default:
		return appendHex(b, v, o.expected())
	}
}

// expected says what a value of the option looks like.
func (o Option) expected() string {
	switch o.Type {
	case IPv4Address, IPv4Addresses:
		return "an IPv4 address such as 192.0.2.1"
	case IPv4Mask:
		return "a subnet mask such as 255.255.255.0"
	case IPv4Prefixes:
		return "a network such as 192.0.2.0/24"
	case Uint8, Uint8s, Uint16, Uint16s, Uint32, Int32:
		low, high, only := o.bounds()
		if only != nil {
			words := make([]string, len(only))
			for i, n := range only {
				words[i] = strconv.FormatUint(uint64(n), 10)
			}
			return "one of " + strings.Join(words, ", ")
		}
		return fmt.Sprintf("a whole number from %d to %d", low, high)
	case Bool:
		return "true or false"
	case Empty:
		return "true (the option has no value; leave it out to switch it off)"
	case Text:
		return "text of at least one character, without control characters"
	case DomainName, WireName, DomainNames, SearchList:
		return "a domain name such as imaging.example.org"
	case Routes:
		return "a host route such as 198.51.100.7 via 192.0.2.1"
	case ClasslessRoutes:
		return "a route such as 198.51.100.0/24 via 192.0.2.1, or default via 192.0.2.1"
	case SLPAgents:
		return "true or false (mandatory or not), followed by IPv4 addresses"
	case SLPScope:
		return "true or false (mandatory or not), followed by the scope list"
	case SIPServers:
		return "an IPv4 address or a domain name, all of the same kind"
	case SubOptions:
		return "CODE TYPE VALUE such as 6 uint8 8, or pairs of hexadecimal digits for all sub-options"
	case VendorOptions:
		return "ENTERPRISE CODE TYPE VALUE such as 32473 1 text abc, or pairs of hexadecimal digits for all sub-options"
	default:
		return "pairs of hexadecimal digits such as 01:0a:ff"
	}
}

// bounds returns the range of a number of the option, and the only values allowed if there are just a few.
func (o Option) bounds() (low, high int64, only []uint32) {
	if e := &table[o.Code]; e.kind == o.Type {
		if e.oneOf != nil {
			return 0, 0, e.oneOf
		}
		if e.max != 0 {
			return int64(e.min), int64(e.max), nil
		}
	}
	switch o.Type {
	case Uint8, Uint8s:
		return 0, math.MaxUint8, nil
	case Uint16, Uint16s:
		return 0, math.MaxUint16, nil
	case Uint32:
		return 0, math.MaxUint32, nil
	default:
		return math.MinInt32, math.MaxInt32, nil
	}
}

func (o Option) appendNumber(b []byte, v string) ([]byte, string) {
	n, err := strconv.ParseInt(v, 10, 64)
	low, high, only := o.bounds()
	switch {
	case err != nil:
		return nil, o.expected()
	case only != nil && (n < 0 || n > math.MaxUint32 || !slices.Contains(only, uint32(n))):
		return nil, o.expected()
	case only == nil && (n < low || n > high):
		return nil, o.expected()
	}
	switch o.Type {
	case Uint8, Uint8s:
		return append(b, byte(n)), ""
	case Uint16, Uint16s:
		return binary.BigEndian.AppendUint16(b, uint16(n)), ""
	default:
		return binary.BigEndian.AppendUint32(b, uint32(n)), ""
	}
}

func parseBool(v string) (on, ok bool) {
	switch strings.ToLower(v) {
	case "true", "yes", "on", "1":
		return true, true
	case "false", "no", "off", "0":
		return false, true
	}
	return false, false
}

func appendBool(b []byte, on bool) []byte {
	if on {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendAddress(b []byte, v, expected string) ([]byte, string) {
	a, err := netip.ParseAddr(v)
	if err != nil || !a.Is4() {
		return nil, expected
	}
	if a.IsUnspecified() {
		return nil, expected + ", not the unspecified address"
	}
	return append(b, a.AsSlice()...), ""
}

func appendMask(b []byte, v, expected string) ([]byte, string) {
	a, err := netip.ParseAddr(v)
	if err != nil || !a.Is4() {
		return nil, expected
	}
	m := binary.BigEndian.Uint32(a.AsSlice())
	if ^m&(^m+1) != 0 { // the ones do not all stand first
		return nil, expected
	}
	return append(b, a.AsSlice()...), ""
}

func maskOf(bits int) netip.Addr {
	var m [4]byte
	binary.BigEndian.PutUint32(m[:], uint32(math.MaxUint32<<(32-bits)))
	return netip.AddrFrom4(m)
}

func appendPair(b []byte, first, second netip.Addr) []byte {
	return append(append(b, first.AsSlice()...), second.AsSlice()...)
}

// appendText takes v as it is: spaces at its ends may matter to the client.
func appendText(b []byte, v, expected string) ([]byte, string) {
	if v == "" || !printable(v) {
		return nil, expected
	}
	return append(b, v...), ""
}

// printable reports whether v is UTF-8 without control characters.
func printable(v string) bool {
	return utf8.ValidString(v) && !strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 })
}

func (o Option) appendSLP(b []byte, i int, values []string, v string) ([]byte, string) {
	if i == 0 {
		mandatory, ok := parseBool(v)
		if !ok {
			return nil, o.expected()
		}
		return appendBool(b, mandatory), ""
	}
	if o.Type == SLPAgents {
		return appendAddress(b, v, "an IPv4 address such as 192.0.2.1")
	}
	if i > 1 {
		return nil, "one scope list: " + o.expected()
	}
	return appendText(b, values[i], o.expected())
}

// The encoding octet that a SIP servers option starts with (RFC 3361 section 3).
const (
	sipNames     = 0
	sipAddresses = 1
)

func appendSIP(b []byte, i int, v, expected string) ([]byte, string) {
	_, err := netip.ParseAddr(v)
	isAddress := err == nil
	if i == 0 {
		b = appendBool(b, isAddress)
	}
	switch {
	case isAddress != (b[0] == sipAddresses):
		return nil, expected
	case isAddress:
		return appendAddress(b, v, expected)
	default:
		return appendName(b, v, expected)
	}
}

// appendHex accepts "010aff", "01:0a:ff", "01-0a-ff" and "0x010aff".
func appendHex(b []byte, v, expected string) ([]byte, string) {
	if strings.ContainsAny(v, ":-") {
		separator := ":"
		if strings.Contains(v, "-") {
			separator = "-"
		}
		for part := range strings.SplitSeq(v, separator) {
			if len(part) == 0 || len(part) > 2 {
				return nil, expected
			}
			n, err := strconv.ParseUint(part, 16, 8)
			if err != nil {
				return nil, expected
			}
			b = append(b, byte(n))
		}
		return b, ""
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(v, "0x"), "0X")
	data, err := hex.DecodeString(digits)
	if err != nil || len(data) == 0 {
		return nil, expected
	}
	return append(b, data...), ""
}

// quote bounds and quotes what was found, for messages.
func quote(v string) string {
	const limit = 60
	if len(v) <= limit {
		return strconv.Quote(v)
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(v[cut]) {
		cut--
	}
	return strconv.Quote(v[:cut]) + "..."
}
