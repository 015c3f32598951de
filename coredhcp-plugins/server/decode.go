package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Offsets in a DHCP message (RFC 2131 section 2).
const (
	offHardwareType   = 1
	offHardwareLength = 2
	offHops           = 3
	offTransaction    = 4
	offSeconds        = 8
	offFlags          = 10
	offClient         = 12
	offYour           = 16
	offServer         = 20
	offGateway        = 24
	offHardware       = 28
	offServerName     = 44
	offBootFile       = 108
	offCookie         = 236
	offOptions        = 240
)

const (
	magicCookie       = 0x63825363
	maxHardwareLength = 16
	usualOptions      = 12 // of a request
	bootRequest       = 1

	optPad            = 0
	optSubnetMask     = 1
	optRouter         = 3
	optRequestedIP    = 50
	optLeaseTime      = 51
	optOverload       = 52
	optMessageType    = 53
	optServerID       = 54
	optParameterList  = 55
	optMessage        = 56
	optMaxMessageSize = 57
	optRenewalTime    = 58
	optRebindingTime  = 59
	optClientID       = 61
	optTFTPServer     = 66
	optBootFile       = 67
	optRelayAgent     = 82
	optEnd            = 255

	overloadBootFile   = 1
	overloadServerName = 2
)

// errOversized stands for a datagram of more than maxPacket octets.
var errOversized = fmt.Errorf("longer than %d octets", maxPacket)

// decode checks a client's or relay's packet and parses it. The packet becomes
// part of the result and must not be changed any more.
//
// The DHCP library drops a message whose options have no END, forgets the options
// in overloaded fields, and copies every field by itself; the result is that of
// the library for the same message with all options in the options field. A
// message whose vendor area is not in use at all is BOOTP without options.
func decode(packet []byte) (*dhcpv4.DHCPv4, error) {
	if len(packet) < offOptions {
		return nil, fmt.Errorf("%d octets, a message has at least %d", len(packet), offOptions)
	}
	if packet[0] != bootRequest {
		return nil, fmt.Errorf("op is %d, expected %d (BOOTREQUEST)", packet[0], bootRequest)
	}
	if packet[offHardwareLength] > maxHardwareLength {
		return nil, fmt.Errorf("hardware address of %d octets, expected at most %d", packet[offHardwareLength], maxHardwareLength)
	}
	flat, err := flatten(packet)
	if err != nil {
		return nil, err
	}
	req := parse(flat)
	if t, ok := req.Options[optMessageType]; ok && len(t) != 1 {
		return nil, fmt.Errorf("message type (53) of %d octets, expected 1", len(t))
	}
	return req, nil
}

// parse reads a message that flatten has returned, and shares its memory. Slices
// have no room behind them, so that whoever appends to one gets another.
func parse(flat []byte) *dhcpv4.DHCPv4 {
	field := func(at, length int) []byte { return flat[at : at+length : at+length] }
	text := func(at, length int) string {
		b := field(at, length)
		if end := bytes.IndexByte(b, 0); end >= 0 {
			b = b[:end]
		}
		return string(b)
	}
	m := &dhcpv4.DHCPv4{
		OpCode:         dhcpv4.OpcodeType(flat[0]),
		HWType:         iana.HWType(flat[offHardwareType]),
		HopCount:       flat[offHops],
		TransactionID:  dhcpv4.TransactionID(flat[offTransaction:offSeconds]),
		NumSeconds:     binary.BigEndian.Uint16(flat[offSeconds:]),
		Flags:          binary.BigEndian.Uint16(flat[offFlags:]),
		ClientIPAddr:   field(offClient, net.IPv4len),
		YourIPAddr:     field(offYour, net.IPv4len),
		ServerIPAddr:   field(offServer, net.IPv4len),
		GatewayIPAddr:  field(offGateway, net.IPv4len),
		ClientHWAddr:   field(offHardware, int(flat[offHardwareLength])),
		ServerHostName: text(offServerName, offBootFile-offServerName),
		BootFileName:   text(offBootFile, offCookie-offBootFile),
		Options:        make(dhcpv4.Options, usualOptions),
	}
	_, _ = walk(flat[offOptions:], func(code byte, value, _ []byte) error { // flatten has walked it
		if before, ok := m.Options[code]; ok {
			value = append(before, value...) // RFC 3396
		}
		m.Options[code] = slices.Clip(value)
		return nil
	})
	return m
}

// messageType is what the library's method of this name returns, which makes a
// buffer for it.
func messageType(m *dhcpv4.DHCPv4) dhcpv4.MessageType {
	if v := m.Options[optMessageType]; len(v) == 1 {
		return dhcpv4.MessageType(v[0])
	}
	return dhcpv4.MessageTypeNone
}

// isDiscover says whether a packet, which may be malformed, is a DHCPDISCOVER. It
// looks for option 53 outside of overloaded fields, where it usually comes first.
func isDiscover(packet []byte) bool {
	for i := offOptions; i+2 < len(packet) && packet[i] != optEnd; {
		switch packet[i] {
		case optPad:
			i++
			continue
		case optMessageType:
			return packet[i+1] == 1 && packet[i+2] == byte(dhcpv4.MessageTypeDiscover)
		}
		i += 2 + int(packet[i+1])
	}
	return false
}

// flatten returns the same message with all its options in one options field
// that ends with END. Overloaded fields (option 52) are moved there: after the
// options field comes file, then sname (RFC 2131 section 4.1), so that parts of
// one option are joined in the order of RFC 3396 section 6. The packet is at
// least offOptions octets long; it is not changed, and is returned itself where
// nothing needs to be moved.
func flatten(packet []byte) ([]byte, error) {
	switch binary.BigEndian.Uint32(packet[offCookie:]) {
	case magicCookie:
	case 0:
		flat := make([]byte, offOptions, offOptions+1)
		copy(flat, packet[:offCookie])
		binary.BigEndian.PutUint32(flat[offCookie:], magicCookie)
		return append(flat, optEnd), nil
	default:
		return nil, fmt.Errorf("magic cookie is %x", packet[offCookie:offOptions])
	}
	var overload byte
	var overloads int
	end, err := walk(packet[offOptions:], func(code byte, value, _ []byte) error {
		if code == optOverload {
			overloads++
			if len(value) != 1 || value[0] == 0 || value[0] > overloadBootFile|overloadServerName {
				return fmt.Errorf("option overload (52) is %x, expected 01, 02 or 03", value)
			}
			overload = value[0]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if overloads > 1 {
		return nil, errors.New("option overload (52) stands twice")
	}
	if end += offOptions; overload == 0 && end < len(packet) {
		return packet[:end+1], nil
	}

	flat := make([]byte, offOptions, end+offCookie-offServerName+1)
	copy(flat, packet)
	move := func(code byte, _, whole []byte) error {
		if code != optOverload { // it has no meaning inside an overloaded field
			flat = append(flat, whole...)
		}
		return nil
	}
	if _, err := walk(packet[offOptions:end], move); err != nil {
		return nil, err
	}
	if overload&overloadBootFile != 0 {
		clear(flat[offBootFile:offCookie])
		if _, err := walk(packet[offBootFile:offCookie], move); err != nil {
			return nil, fmt.Errorf("file: %w", err)
		}
	}
	if overload&overloadServerName != 0 {
		clear(flat[offServerName:offBootFile])
		if _, err := walk(packet[offServerName:offBootFile], move); err != nil {
			return nil, fmt.Errorf("sname: %w", err)
		}
	}
	return append(flat, optEnd), nil
}

// walk visits the options of one field in order, each with its value and its
// whole encoding, up to END or the end of the field, and returns the index where
// that is.
func walk(field []byte, visit func(code byte, value, whole []byte) error) (end int, err error) {
	for i := 0; i < len(field); {
		code := field[i]
		if code == optPad {
			i++
			continue
		}
		if code == optEnd {
			return i, nil
		}
		next := i + 2
		if next <= len(field) {
			next += int(field[i+1])
		}
		if next > len(field) {
			return 0, fmt.Errorf("option %d is longer than its field", code)
		}
		if err := visit(code, field[i+2:next], field[i:next]); err != nil {
			return 0, err
		}
		i = next
	}
	return len(field), nil
}

// clientHash is equal for all packets of one client: by its client identifier
// (option 61), else by its hardware address. The packet may be malformed.
func clientHash(seed maphash.Seed, packet []byte) uint64 {
	if len(packet) < offOptions {
		return 0
	}
	for i := offOptions; i+1 < len(packet) && packet[i] != optEnd; {
		if packet[i] == optPad {
			i++
			continue
		}
		next := i + 2 + int(packet[i+1])
		if packet[i] == optClientID && next <= len(packet) && next > i+2 {
			return maphash.Bytes(seed, packet[i:next])
		}
		i = next
	}
	var key [1 + maxHardwareLength]byte
	key[0] = packet[offHardwareType]
	n := copy(key[1:], packet[offHardware:offHardware+min(int(packet[offHardwareLength]), maxHardwareLength)])
	return maphash.Bytes(seed, key[:1+n])
}

// subOption finds a sub-option in the value of option 82 (RFC 3046 section 2.0).
func subOption(relayAgent []byte, code byte) (value []byte, ok bool) {
	for i := 0; i+1 < len(relayAgent); {
		next := i + 2 + int(relayAgent[i+1])
		if next > len(relayAgent) {
			return nil, false
		}
		if relayAgent[i] == code {
			return relayAgent[i+2 : next], true
		}
		i = next
	}
	return nil, false
}
