package dhcpopt

import (
	"errors"
	"strings"
)

// Limits of RFC 1035 section 2.3.4, in octets; a name without its trailing dot is at most 253 characters long.
const (
	maxLabel = 63
	maxName  = 253
)

// cleanName returns v without the trailing dot, if it is a domain name of letters, digits, hyphens and underscores.
func cleanName(v string) (string, bool) {
	v = strings.TrimSuffix(v, ".")
	if v == "" || len(v) > maxName {
		return "", false
	}
	for label := range strings.SplitSeq(v, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for i := range len(label) {
			if !nameOctet(label[i]) {
				return "", false
			}
		}
	}
	return v, true
}

func nameOctet(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// appendName appends v in DNS wire format.
func appendName(b []byte, v, expected string) ([]byte, string) {
	name, ok := cleanName(v)
	if !ok {
		return nil, expected
	}
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0), ""
}

var errName = errors.New("malformed domain name")

// readNames reads the names in DNS wire format that fill data. Compression pointers count from the start of data and must point
// backwards (RFC 3397 section 2).
func readNames(data []byte) ([]string, error) {
	var names []string
	for at := 0; at < len(data); {
		name, next, err := readName(data, at)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		at = next
	}
	if names == nil {
		return nil, errName
	}
	return names, nil
}

// readName reads the name at offset at, and returns the offset behind it.
func readName(data []byte, at int) (name string, next int, err error) {
	var b strings.Builder
	limit := at // a pointer must go to somewhere before
	for {
		if at >= len(data) {
			return "", 0, errName
		}
		n := int(data[at])
		switch {
		case n == 0:
			if next == 0 {
				next = at + 1
			}
			name, ok := cleanName(b.String())
			if !ok {
				return "", 0, errName
			}
			return name, next, nil
		case n&0xc0 == 0xc0:
			if at+1 >= len(data) {
				return "", 0, errName
			}
			if next == 0 {
				next = at + 2
			}
			at = (n&0x3f)<<8 | int(data[at+1])
			if at >= limit {
				return "", 0, errName
			}
			limit = at
		case n > maxLabel || at+1+n > len(data) || b.Len()+n > maxName:
			return "", 0, errName
		default:
			label := data[at+1 : at+1+n]
			for _, c := range label {
				if !nameOctet(c) {
					return "", 0, errName
				}
			}
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.Write(label)
			at += 1 + n
		}
	}
}
