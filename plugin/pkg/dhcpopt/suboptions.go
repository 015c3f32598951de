package dhcpopt

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// Codes of sub-options that cannot be set: framing of the options that RFC 2132 section 8.4 encapsulates.
const (
	subPad = 0
	subEnd = 255
)

// maxPiece is the most octets of value that one code and length carry.
const maxPiece = 255

// appendSubOption appends "CODE TYPE VALUE" as code, length and value, with ", " between the values of a list. A value that is alone may
// be hexadecimal digits instead, for all sub-options together: that is what people have in the configuration that they come from.
func appendSubOption(b []byte, alone bool, v, expected string) ([]byte, string) {
	code, rest, found := strings.Cut(v, " ")
	if !found {
		if !alone {
			return nil, expected
		}
		return appendHex(b, v, expected)
	}
	n, err := strconv.ParseUint(code, 10, 8)
	if err != nil || n == subPad || n == subEnd {
		return nil, expected + ", with a code from 1 to 254"
	}
	name, value, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kind, ok := ParseType(name)
	if !ok || kind == SubOptions || kind == VendorOptions {
		return nil, expected + ", with a type that is one of those for options given by number"
	}
	values := []string{value}
	if kind.List() {
		values = strings.Split(value, ",")
	}
	data, err := Option{Type: kind}.encode(values)
	if err != nil {
		return nil, "sub-option " + code + ": " + err.Error()
	}
	if len(data) > maxPiece {
		return nil, "sub-option " + code + ": a value of at most 255 octets"
	}
	return append(append(b, byte(n), byte(len(data))), data...), ""
}

// readSubOptions is the inverse of appendSubOption for all of them. Their types are not known. What is malformed, or has padding or an end,
// is not taken apart: it would not be encoded to the same octets again.
func readSubOptions(data []byte) []string {
	var values []string
	for rest := data; len(rest) > 0; {
		if len(rest) < 2 || rest[0] == subPad || rest[0] == subEnd || len(rest) < 2+int(rest[1]) {
			return []string{hexadecimal(data)}
		}
		values = append(values, subOptionText(rest))
		rest = rest[2+int(rest[1]):]
	}
	return values
}

func subOptionText(b []byte) string {
	code := strconv.Itoa(int(b[0]))
	if b[1] == 0 {
		return code + " empty true"
	}
	return code + " bytes " + hexadecimal(b[2:2+int(b[1])])
}

// appendVendorOption appends "ENTERPRISE CODE TYPE VALUE": the sub-option joins those of the same enterprise that stand just before
// (RFC 3925 section 4), where there is room for it.
func appendVendorOption(b []byte, alone bool, v, expected string) ([]byte, string) {
	number, rest, found := strings.Cut(v, " ")
	if !found {
		if !alone {
			return nil, expected
		}
		return appendHex(b, v, expected)
	}
	enterprise, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return nil, expected + ", with an enterprise number"
	}
	option, wrong := appendSubOption(nil, false, strings.TrimSpace(rest), expected)
	if wrong != "" {
		return nil, wrong
	}
	if len(option) > maxPiece {
		return nil, "a sub-option of at most 253 octets"
	}
	last := -1
	for at := 0; at < len(b); at += vendorHeader + int(b[at+vendorHeader-1]) {
		last = at
	}
	if last < 0 || binary.BigEndian.Uint32(b[last:]) != uint32(enterprise) || int(b[last+vendorHeader-1])+len(option) > maxPiece {
		last = len(b)
		b = append(binary.BigEndian.AppendUint32(b, uint32(enterprise)), 0)
	}
	b[last+vendorHeader-1] += byte(len(option))
	return append(b, option...), ""
}

// vendorHeader is the length of an enterprise number and of the length of its data, in octets.
const vendorHeader = 5

// readVendorOptions is the inverse of appendVendorOption for all of them, as readSubOptions is.
func readVendorOptions(data []byte) []string {
	var values []string
	whole := []string{hexadecimal(data)}
	var before uint32
	room := -1 // of the block before; -1: there is none
	for rest := data; len(rest) > 0; {
		if len(rest) < vendorHeader || len(rest) < vendorHeader+int(rest[vendorHeader-1]) {
			return whole
		}
		enterprise := binary.BigEndian.Uint32(rest)
		block := rest[vendorHeader : vendorHeader+int(rest[vendorHeader-1])]
		rest = rest[vendorHeader+len(block):]
		if len(block) < 2 || block[0] == subPad || block[0] == subEnd {
			return whole
		}
		if room >= 0 && enterprise == before && 2+int(block[1]) <= room {
			return whole // it would have joined
		}
		before, room = enterprise, maxPiece-len(block)
		for _, option := range readSubOptions(block) {
			if !strings.Contains(option, " ") {
				return whole
			}
			values = append(values, strconv.FormatUint(uint64(enterprise), 10)+" "+option)
		}
	}
	return values
}
