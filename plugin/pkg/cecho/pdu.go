package cecho

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Types of PDU, PS3.8 section 9.3.1.
const (
	pduAssociateRQ = 1
	pduAssociateAC = 2
	pduAssociateRJ = 3
	pduData        = 4
	pduReleaseRQ   = 5
	pduReleaseRP   = 6
	pduAbort       = 7
)

const (
	maxTitle = 16
	// announced is the longest P-DATA-TF that the other side may send, without
	// its header (PS3.8 annex D.1). The answer has about a hundred octets.
	announced = 16 << 10
	// maxPDU bounds every PDU; only that of an association may need more than
	// announced, and none does that only offers what was asked for.
	maxPDU = 64 << 10
	// maxRead bounds all that is read from one connection.
	maxRead = 256 << 10
	// maxCommand bounds the command set of the answer.
	maxCommand = 8 << 10

	contextID = 1 // odd, PS3.8 section 9.3.2.2

	applicationContext = "1.2.840.10008.3.1.1.1" // PS3.7 annex A.2.1
	verification       = "1.2.840.10008.1.1"     // PS3.4 annex A.4
	implicitVR         = "1.2.840.10008.1.2"     // PS3.5 annex A.1
)

// pdu returns a PDU: type, reserved, length, body.
func pdu(kind byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind, 0}, uint32(len(body)))
	return append(b, body...)
}

// item returns an item or sub-item of an association: type, reserved, length,
// content.
func item(kind byte, content ...byte) []byte {
	return append([]byte{kind, 0, byte(len(content) >> 8), byte(len(content))}, content...)
}

// associateRQ returns an A-ASSOCIATE-RQ PDU (PS3.8 section 9.3.2).
func associateRQ(calling, called string) []byte {
	b := []byte{0, 1, 0, 0} // protocol version, reserved
	b = fmt.Appendf(b, "%-16s%-16s", called, calling)
	b = append(b, make([]byte, 32)...)
	b = append(b, item(0x10, []byte(applicationContext)...)...)
	context := []byte{contextID, 0, 0, 0}
	context = append(context, item(0x30, []byte(verification)...)...)
	context = append(context, item(0x40, []byte(implicitVR)...)...)
	b = append(b, item(0x20, context...)...)
	user := item(0x51, binary.BigEndian.AppendUint32(nil, announced)...)
	user = append(user, item(0x52, []byte(implementationClass)...)...)
	user = append(user, item(0x55, []byte(implementationVersion)...)...)
	b = append(b, item(0x50, user...)...)
	return pdu(pduAssociateRQ, b)
}

// echoRQ returns a C-ECHO-RQ in a P-DATA-TF PDU (PS3.7 section 9.3.5.1, PS3.8
// section 9.3.5).
func echoRQ() []byte {
	var command []byte
	element := func(tag uint16, value []byte) {
		command = append(command, 0, 0) // group 0000
		command = binary.LittleEndian.AppendUint16(command, tag)
		command = binary.LittleEndian.AppendUint32(command, uint32(len(value)))
		command = append(command, value...)
	}
	short := func(v uint16) []byte { return binary.LittleEndian.AppendUint16(nil, v) }
	element(tagSOPClass, []byte(verification+"\x00")) // padded to an even length
	element(tagField, short(fieldEchoRQ))
	element(tagMessageID, short(messageID))
	element(tagDataSet, short(noDataSet))
	rest := command
	command = nil
	element(tagGroupLength, binary.LittleEndian.AppendUint32(nil, uint32(len(rest))))
	command = append(command, rest...)
	b := binary.BigEndian.AppendUint32(nil, uint32(len(command)+2))
	b = append(b, contextID, controlCommand|controlLast)
	return pdu(pduData, append(b, command...))
}

// Elements of a command set, group 0000 (PS3.7 annex E.1).
const (
	tagGroupLength = 0x0000
	tagSOPClass    = 0x0002
	tagField       = 0x0100
	tagMessageID   = 0x0110
	tagRespondedTo = 0x0120
	tagDataSet     = 0x0800
	tagStatus      = 0x0900

	fieldEchoRQ  = 0x0030
	fieldEchoRSP = 0x8030
	noDataSet    = 0x0101
	messageID    = 1
)

// Bits of a message control header (PS3.8 annex E.2).
const (
	controlCommand = 1
	controlLast    = 2
)

// next reads one PDU.
func (a *association) next() (kind byte, body []byte, err error) {
	var header [6]byte
	if _, err := io.ReadFull(a.conn, header[:]); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errClosed
		}
		return 0, nil, err
	}
	kind, length := header[0], binary.BigEndian.Uint32(header[2:])
	if kind < pduAssociateRQ || kind > pduAbort {
		return 0, nil, protocolError("PDU of type %#02x, expected 01 to 07: is this DICOM?", kind)
	}
	if length > maxPDU {
		return 0, nil, protocolError("%s of %d octets, expected at most %d", pduName(kind), length, maxPDU)
	}
	if a.read += 6 + int(length); a.read > maxRead {
		return 0, nil, protocolError("more than %d octets without an answer", maxRead)
	}
	body = make([]byte, length)
	if _, err := io.ReadFull(a.conn, body); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errClosed
		}
		return 0, nil, err
	}
	return kind, body, nil
}

// accepted is what counts of an A-ASSOCIATE-AC.
type accepted struct {
	result         byte // of the presentation context; 0 is acceptance
	class, version string
}

// parseAssociateAC reads the body of an A-ASSOCIATE-AC PDU (PS3.8 section 9.3.3).
func parseAssociateAC(b []byte) (accepted, error) {
	var a accepted
	if len(b) < 68 {
		return a, protocolError("A-ASSOCIATE-AC of %d octets, expected 68 at least", len(b))
	}
	if b[1]&1 == 0 { // the other bits may stand for later versions: section 9.3.3
		return a, protocolError("A-ASSOCIATE-AC of protocol version %#02x%02x, expected bit 0", b[0], b[1])
	}
	found := false
	err := items(b[68:], func(kind byte, content []byte) error {
		switch kind {
		case 0x21:
			if len(content) < 4 {
				return protocolError("presentation context of %d octets, expected 4 at least", len(content))
			}
			if content[0] != contextID {
				return protocolError("presentation context %d, expected %d", content[0], contextID)
			}
			if found {
				return protocolError("presentation context %d stands twice", contextID)
			}
			found, a.result = true, content[2]
			if a.result != 0 {
				return nil // the transfer syntax is not significant: section 9.3.3.2
			}
			syntax := ""
			err := items(content[4:], func(kind byte, content []byte) error {
				if kind == 0x40 {
					syntax = uid(content)
				}
				return nil
			})
			if err == nil && syntax != implicitVR {
				err = protocolError("transfer syntax %q, expected %s", syntax, implicitVR)
			}
			return err
		case 0x50:
			return items(content, func(kind byte, content []byte) error {
				switch kind {
				case 0x52:
					a.class = uid(content)
				case 0x55:
					a.version = strings.TrimSpace(printable(content, maxTitle))
				}
				return nil
			})
		}
		return nil // unknown items are to be ignored: section 9.3.1
	})
	if err == nil && !found {
		err = protocolError("A-ASSOCIATE-AC without the presentation context")
	}
	return a, err
}

// items calls f with each item of b.
func items(b []byte, f func(kind byte, content []byte) error) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return protocolError("item of %d octets, expected 4 at least", len(b))
		}
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return protocolError("item %#02x of %d octets, with %d left", b[0], n, len(b))
		}
		if err := f(b[0], b[4:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// uid returns a UID without its padding, of which some send a NUL or a space.
func uid(b []byte) string { return strings.TrimRight(printable(b, 64), " ") }

// printable returns at most n octets of b, without those that a terminal acts on.
func printable(b []byte, n int) string {
	var s strings.Builder
	for _, c := range b {
		if s.Len() == n {
			break
		}
		if c >= ' ' && c <= '~' {
			s.WriteByte(c)
		}
	}
	return s.String()
}

// appendCommand appends the fragments in the body of a P-DATA-TF PDU to a
// command set, and reports whether it is complete (PS3.8 section 9.3.5 and annex
// E).
func appendCommand(command, body []byte) (_ []byte, last bool, err error) {
	if len(body) == 0 {
		return nil, false, protocolError("P-DATA-TF without a value")
	}
	for len(body) > 0 {
		if len(body) < 6 {
			return nil, false, protocolError("presentation data value of %d octets, expected 6 at least", len(body))
		}
		n := binary.BigEndian.Uint32(body)
		if n < 2 || n > uint32(len(body)-4) {
			return nil, false, protocolError("presentation data value of %d octets, with %d left", n, len(body)-4)
		}
		value := body[4 : 4+n]
		body = body[4+n:]
		switch {
		case value[0] != contextID:
			return nil, false, protocolError("data of presentation context %d, expected %d", value[0], contextID)
		case value[1]&controlCommand == 0:
			return nil, false, protocolError("a data set, expected a command")
		case last:
			return nil, false, protocolError("more after the last fragment of the answer")
		case len(command)+len(value)-2 > maxCommand:
			return nil, false, protocolError("command of more than %d octets", maxCommand)
		}
		command = append(command, value[2:]...)
		last = value[1]&controlLast != 0
	}
	return command, last, nil
}

// parseEchoRSP returns the status of a C-ECHO-RSP (PS3.7 section 9.3.5.2).
func parseEchoRSP(command []byte) (status uint16, err error) {
	values := make(map[uint16]uint16)
	before := -1
	for b := command; len(b) > 0; {
		if len(b) < 8 {
			return 0, protocolError("element of %d octets, expected 8 at least", len(b))
		}
		group, tag, length := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		switch {
		case group != 0:
			return 0, protocolError("element (%04x,%04x) in a command", group, tag)
		case int(tag) <= before:
			return 0, protocolError("element (0000,%04x) after (0000,%04x)", tag, before)
		case length > uint32(len(b)-8):
			return 0, protocolError("element (0000,%04x) of %d octets, with %d left", tag, length, len(b)-8)
		}
		if length == 2 {
			values[tag] = binary.LittleEndian.Uint16(b[8:])
		}
		before = int(tag)
		b = b[8+length:]
	}
	for _, want := range []struct {
		tag, value uint16
		name       string
	}{{tagField, fieldEchoRSP, "Command Field"}, {tagRespondedTo, messageID, "Message ID Being Responded To"}, {tagDataSet, noDataSet, "Command Data Set Type"}} {
		if got, ok := values[want.tag]; !ok || got != want.value {
			return 0, protocolError("%s (0000,%04x) %s, expected %04xH", want.name, want.tag, hex(got, ok), want.value)
		}
	}
	status, ok := values[tagStatus]
	if !ok {
		return 0, protocolError("answer without Status (0000,0900)")
	}
	return status, nil
}

func hex(v uint16, there bool) string {
	if !there {
		return "is missing"
	}
	return fmt.Sprintf("is %04xH", v)
}
