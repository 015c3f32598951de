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

// appendCompressed appends v in DNS wire format. What it ends with and what stands in b already, which is names only, is a pointer to there
// (RFC 1035 section 4.1.4), counted from the start of b.
func appendCompressed(b []byte, v, expected string) ([]byte, string) {
	whole, expected := appendName(nil, v, expected)
	if expected != "" {
		return nil, expected
	}
	for at := 0; whole[at] != 0; at += 1 + int(whole[at]) {
		if to := suffixAt(b, whole[at:]); to >= 0 {
			return append(append(b, whole[:at]...), 0xc0|byte(to>>8), byte(to)), ""
		}
	}
	return append(b, whole...), ""
}

// suffixAt returns the first offset in the names b at which the name with the encoding want begins, -1 if there is none. Names keep their
// case, so only what is equal in case is the same. A value is at most MaxLength octets long, which a pointer of 14 bits reaches.
func suffixAt(b, want []byte) int {
	for at := 0; at < len(b); {
		switch n := int(b[at]); {
		case n&0xc0 == 0xc0:
			at += 2
			continue
		case n == 0:
		default:
			if sameName(b, at, want) {
				return at
			}
			at += n
		}
		at++
	}
	return -1
}

// sameName reports whether the name at b[at] is want, which has no pointers.
func sameName(b []byte, at int, want []byte) bool {
	for {
		for b[at]&0xc0 == 0xc0 {
			at = int(b[at]&0x3f)<<8 | int(b[at+1])
		}
		n := 1 + int(b[at])
		if len(want) < n || string(b[at:at+n]) != string(want[:n]) {
			return false
		}
		if n == 1 {
			return true
		}
		at, want = at+n, want[n:]
	}
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
