package server

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	// Sizes of a DHCP message with and without its IP and UDP headers.
	minMaxMessageSize = 576  // RFC 2132 section 9.10: everyone takes this much
	maxMaxMessageSize = 1500 // what an Ethernet carries in one piece
	ipUDPHeaders      = 28
	minMessage        = 300 // RFC 951: BOOTP messages are not shorter

	maxOption = 255 // octets of value in one piece
)

// sizeLimit is the number of octets that a reply to this request may have: what
// option 57 allows. A BOOTP client gives no such option; it gets the 300 octets
// that all of them take, or as many as it sent itself.
func sizeLimit(req *dhcpv4.DHCPv4, received int) int {
	if !req.Options.Has(dhcpv4.OptionDHCPMessageType) {
		return min(max(minMessage, received), minMaxMessageSize-ipUDPHeaders)
	}
	limit := minMaxMessageSize
	if v := req.Options[optMaxMessageSize]; len(v) == 2 {
		limit = min(max(limit, int(binary.BigEndian.Uint16(v))), maxMaxMessageSize)
	}
	return limit - ipUDPHeaders
}

// encode appends the reply to b, and returns the codes of the options that found
// no room within limit octets.
//
// Options stand in this order: 53, 54, 51, what option 55 of the request asks
// for in its order, the rest by number, and last 82 (RFC 3046 section 2.1). The
// subnet mask is put before the routers (RFC 2132 section 3.3). Values over 255
// octets are split (RFC 3396). What does not fit goes to the file and sname
// fields where these are empty (option overload), and what does not fit there
// either is left out, beginning at the end of the order; but 51, 53, 54, 61 and
// 82 are always sent, in the options field, beyond the limit if need be. A field
// whose content is also an option (66, 67) counts as empty then.
func encode(b []byte, req, reply *dhcpv4.DHCPv4, limit int) (packet []byte, left []uint8, err error) {
	if len(reply.ClientHWAddr) > maxHardwareLength {
		return nil, nil, fmt.Errorf("hardware address of %d octets, expected at most %d", len(reply.ClientHWAddr), maxHardwareLength)
	}
	start := len(b)
	b = append(b, byte(reply.OpCode), byte(reply.HWType), byte(len(reply.ClientHWAddr)), reply.HopCount)
	b = append(b, reply.TransactionID[:]...)
	b = binary.BigEndian.AppendUint16(b, reply.NumSeconds)
	b = binary.BigEndian.AppendUint16(b, reply.Flags)
	for _, field := range [...]struct {
		name string
		ip   net.IP
	}{
		{"ciaddr", reply.ClientIPAddr}, {"yiaddr", reply.YourIPAddr}, {"siaddr", reply.ServerIPAddr}, {"giaddr", reply.GatewayIPAddr},
	} {
		var four [net.IPv4len]byte
		if ip4 := field.ip.To4(); ip4 != nil {
			copy(four[:], ip4)
		} else if len(field.ip) != 0 {
			return nil, nil, fmt.Errorf("%s is %s, expected an IPv4 address", field.name, field.ip)
		}
		b = append(b, four[:]...)
	}
	b = append(b, make([]byte, offCookie-offHardware)...)
	copy(b[start+offHardware:], reply.ClientHWAddr)

	var l layout
	l.order(reply.Options, req.Options[optParameterList])
	left = l.place(reply, limit-offOptions-1)
	if l.overload&overloadServerName == 0 {
		copy(b[start+offServerName:start+offBootFile-1], reply.ServerHostName)
	}
	if l.overload&overloadBootFile == 0 {
		copy(b[start+offBootFile:start+offCookie-1], reply.BootFileName)
	}
	b = binary.BigEndian.AppendUint32(b, magicCookie)
	for _, code := range l.codes() {
		if l.where[code] == inOptions {
			b = appendOption(b, code, reply.Options[code])
		}
	}
	if l.overload != 0 {
		b = append(b, optOverload, 1, l.overload)
		l.fill(b[start+offBootFile:start+offBootFile:start+offCookie], inBootFile, reply.Options)
		l.fill(b[start+offServerName:start+offServerName:start+offBootFile], inServerName, reply.Options)
	}
	if v, ok := reply.Options[optRelayAgent]; ok {
		b = appendOption(b, optRelayAgent, v)
	}
	b = append(b, optEnd)
	if short := start + minMessage - len(b); short > 0 {
		b = append(b, make([]byte, short)...)
	}
	return b, left, nil
}

// Where an option is written.
const (
	inOptions = iota
	inBootFile
	inServerName
	nowhere
)

// layout says where the options of a message go.
type layout struct {
	ordered  [256]uint8 // the codes in order, without 52 and 82
	count    int        // of them
	where    [256]uint8
	overload uint8 // value of option 52, 0 for none
}

// codes are those of order. A slice of the array in a field of its own would have
// the compiler put every layout on the heap.
func (l *layout) codes() []uint8 { return l.ordered[:l.count] }

// order puts the options in order.
func (l *layout) order(options dhcpv4.Options, asked []byte) {
	var waiting [256]bool
	for code := range options {
		waiting[code] = true
	}
	for _, code := range [...]uint8{optPad, optOverload, optRelayAgent, optEnd} {
		waiting[code] = false
	}
	add := func(code uint8) {
		if waiting[code] {
			waiting[code] = false
			l.ordered[l.count] = code
			l.count++
		}
	}
	add(optMessageType)
	add(optServerID)
	add(optLeaseTime)
	for _, code := range asked {
		if code == optRouter {
			add(optSubnetMask)
		}
		add(code)
	}
	for code := range uint8(optEnd) {
		add(code)
	}
}

// place decides on every option's field, given the room in the options field,
// and returns the options that have none.
func (l *layout) place(reply *dhcpv4.DHCPv4, room int) (left []uint8) {
	var all, musts int
	for _, code := range l.codes() {
		n := optionSize(reply.Options[code])
		all += n
		if must(code) {
			musts += n
		}
	}
	if v, ok := reply.Options[optRelayAgent]; ok {
		n := optionSize(v)
		all, musts = all+n, musts+n
	}
	if all <= room {
		return nil
	}
	// What is in the header and an option too may give its field away, if the
	// option finds room.
	file, name := reply.BootFileName, reply.ServerHostName
	freeFile := file == "" || file == string(reply.Options[optBootFile])
	freeName := name == "" || name == string(reply.Options[optTFTPServer])
	left = l.fit(reply, room-musts, freeFile, freeName)
	lostFile, lostName := l.where[optBootFile] == nowhere && file != "", l.where[optTFTPServer] == nowhere && name != ""
	if freeFile && lostFile || freeName && lostName {
		l.where, l.overload = [256]uint8{}, 0
		left = l.fit(reply, room-musts, freeFile && !lostFile, freeName && !lostName)
	}
	return left
}

// fit decides so for options that do not all fit into room octets of the options
// field, beside those that must be there.
func (l *layout) fit(reply *dhcpv4.DHCPv4, room int, freeFile, freeName bool) (left []uint8) {
	// The three octets are for option 52. BOOTP clients do not know it.
	const overloadOption = 3
	var rooms [nowhere]int
	rooms[inOptions] = room
	if reply.Options.Has(dhcpv4.OptionDHCPMessageType) && (freeFile || freeName) {
		rooms[inOptions] -= overloadOption
		if freeFile {
			rooms[inBootFile] = offCookie - offBootFile - 1 // END
		}
		if freeName {
			rooms[inServerName] = offBootFile - offServerName - 1
		}
	}
next:
	for _, code := range l.codes() {
		if must(code) {
			continue
		}
		n := optionSize(reply.Options[code])
		for field := range rooms {
			if n <= rooms[field] {
				rooms[field] -= n
				l.where[code] = uint8(field)
				switch field {
				case inBootFile:
					l.overload |= overloadBootFile
				case inServerName:
					l.overload |= overloadServerName
				}
				continue next
			}
		}
		l.where[code] = nowhere
		left = append(left, code)
	}
	return left
}

// fill writes the options of an overloaded field. b has length zero and exactly
// the field's capacity; what remains of it is zero, which is PAD.
func (l *layout) fill(b []byte, field uint8, options dhcpv4.Options) {
	if field == inBootFile && l.overload&overloadBootFile == 0 || field == inServerName && l.overload&overloadServerName == 0 {
		return
	}
	for _, code := range l.codes() {
		if l.where[code] == field {
			b = appendOption(b, code, options[code])
		}
	}
	_ = append(b, optEnd)
}

// must says whether an option is sent in any case.
func must(code uint8) bool {
	switch code {
	case optMessageType, optServerID, optLeaseTime, optClientID, optRelayAgent:
		return true
	}
	return false
}

// optionSize is the number of octets that an option takes with its headers.
func optionSize(value []byte) int {
	return len(value) + 2*max(1, (len(value)+maxOption-1)/maxOption)
}

func appendOption(b []byte, code uint8, value []byte) []byte {
	for {
		n := min(len(value), maxOption)
		b = append(b, code, byte(n))
		b = append(b, value[:n]...)
		if value = value[n:]; len(value) == 0 {
			return b
		}
	}
}
