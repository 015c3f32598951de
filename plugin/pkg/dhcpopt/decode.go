package dhcpopt

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (o Option) decode(data []byte) ([]string, error) {
	values, ok := o.elements(data)
	if !ok {
		return nil, fmt.Errorf("malformed %s: %s is not of type %s", o, hexadecimal(data[:min(len(data), 64)]), o.Type)
	}
	return values, nil
}

// elements decodes data; it reports false where data is malformed.
func (o Option) elements(data []byte) ([]string, bool) {
	switch o.Type {
	case IPv4Address:
		return addresses(data, len(data) == 4)
	case IPv4Addresses:
		return addresses(data, true)
	case IPv4Mask:
		if len(data) != 4 {
			return nil, false
		}
		if _, expected := appendMask(nil, addressAt(data, 0).String(), "a mask"); expected != "" {
			return nil, false
		}
		return addresses(data, true)
	case IPv4Prefixes:
		return pairs(data, prefixText)
	case Routes:
		return pairs(data, func(destination, router []byte) (string, bool) {
			return addressAt(destination, 0).String() + " via " + addressAt(router, 0).String(), true
		})
	case Uint8, Uint8s, Uint16, Uint16s, Uint32, Int32:
		return o.numbers(data)
	case Bool:
		if len(data) != 1 || data[0] > 1 {
			return nil, false
		}
		return []string{strconv.FormatBool(data[0] == 1)}, true
	case Empty:
		return []string{"true"}, len(data) == 0
	case Text:
		return text(data)
	case DomainName:
		v := strings.TrimRight(string(data), "\x00")
		_, ok := cleanName(v)
		return []string{v}, ok
	case WireName:
		names, err := readNames(data)
		return names, err == nil && len(names) == 1
	case DomainNames, SearchList:
		names, err := readNames(data)
		return names, err == nil
	case ClasslessRoutes:
		routes, ok := readClasslessRoutes(data)
		values := make([]string, len(routes))
		for i, r := range routes {
			values[i] = r.String()
		}
		return values, ok
	case SLPAgents, SLPScope:
		return o.slp(data)
	case SIPServers:
		return sip(data)
	case Bytes:
		return []string{hexadecimal(data)}, len(data) > 0
	case SubOptions:
		return readSubOptions(data), len(data) > 0
	case VendorOptions:
		return readVendorOptions(data), len(data) > 0
	}
	return nil, false
}

func addressAt(data []byte, i int) netip.Addr { return netip.AddrFrom4([4]byte(data[i : i+4])) }

func addresses(data []byte, ok bool) ([]string, bool) {
	if !ok || len(data) == 0 || len(data)%4 != 0 {
		return nil, false
	}
	var values []string
	for i := 0; i < len(data); i += 4 {
		values = append(values, addressAt(data, i).String())
	}
	return values, true
}

func pairs(data []byte, format func(first, second []byte) (string, bool)) ([]string, bool) {
	if len(data) == 0 || len(data)%8 != 0 {
		return nil, false
	}
	var values []string
	for pair := range slices.Chunk(data, 8) {
		v, ok := format(pair[:4], pair[4:])
		if !ok {
			return nil, false
		}
		values = append(values, v)
	}
	return values, true
}

func prefixText(address, mask []byte) (string, bool) {
	m := binary.BigEndian.Uint32(mask)
	n := bits.LeadingZeros32(^m)
	return netip.PrefixFrom(addressAt(address, 0), n).String(), bits.OnesCount32(m) == n
}

func (o Option) numbers(data []byte) ([]string, bool) {
	size := 4
	switch o.Type {
	case Uint8, Uint8s:
		size = 1
	case Uint16, Uint16s:
		size = 2
	}
	if len(data) == 0 || len(data)%size != 0 || !o.Type.List() && len(data) != size {
		return nil, false
	}
	var values []string
	for word := range slices.Chunk(data, size) {
		var n int64
		switch {
		case size == 1:
			n = int64(word[0])
		case size == 2:
			n = int64(binary.BigEndian.Uint16(word))
		case o.Type == Int32:
			n = int64(int32(binary.BigEndian.Uint32(word)))
		default:
			n = int64(binary.BigEndian.Uint32(word))
		}
		values = append(values, strconv.FormatInt(n, 10))
	}
	return values, true
}

// text decodes a string; trailing null octets do not belong to it (RFC 2132 section 2).
func text(data []byte) ([]string, bool) {
	v := strings.TrimRight(string(data), "\x00")
	return []string{v}, v != "" && printable(v)
}

func (o Option) slp(data []byte) ([]string, bool) {
	if len(data) < 2 || data[0] > 1 {
		return nil, false
	}
	var rest []string
	var ok bool
	if o.Type == SLPAgents {
		rest, ok = addresses(data[1:], true)
	} else {
		rest, ok = text(data[1:])
	}
	return append([]string{strconv.FormatBool(data[0] == 1)}, rest...), ok
}

func sip(data []byte) ([]string, bool) {
	if len(data) < 2 {
		return nil, false
	}
	switch data[0] {
	case sipAddresses:
		return addresses(data[1:], true)
	case sipNames:
		names, err := readNames(data[1:])
		return names, err == nil
	}
	return nil, false
}

func (o Option) addresses(data []byte) []netip.Addr {
	if o.Code == 28 || o.Code == 32 { // broadcast address, and where to solicit routers: no host's own
		return nil
	}
	values, ok := o.elements(data)
	if !ok {
		return nil
	}
	var hosts []netip.Addr
	add := func(v string) {
		if a, err := netip.ParseAddr(v); err == nil && !a.IsUnspecified() {
			hosts = append(hosts, a)
		}
	}
	for _, v := range values {
		switch o.Type {
		case IPv4Address, IPv4Addresses, SLPAgents, SIPServers:
			add(v)
		case Routes, ClasslessRoutes:
			_, router, _ := splitRoute(v)
			add(router.String())
		}
	}
	return hosts
}

func hexadecimal(data []byte) string {
	b := make([]byte, 0, 3*len(data))
	for i, c := range data {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, []byte{c})
	}
	return string(b)
}
