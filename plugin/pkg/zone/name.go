package zone

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// An owner name is kept as a key: its labels below the zone's apex, the outermost (nearest the apex) first, in lower
// case, each followed by keyEnd. Compared octet by octet, keys stand in the canonical order of RFC 4034 section 6.1,
// and the key of a name is a prefix of exactly the keys of the names below it. The apex is the empty key. So that
// keyEnd sorts before, and differs from, every octet of a label, an octet 0 is written keyEscape 1 and an octet 1
// keyEscape 2.
const (
	keyEnd    = 0
	keyEscape = 1
	maxLabels = 128 // a name of 255 octets has at most 127
	maxLabel  = 63
	maxName   = 255
)

var errName = errors.New("not a domain name")

// apex is the name of a zone in the forms that are needed again and again.
type apex struct {
	name string // canonical: lower case, with the trailing dot
	key  string // full key, from the root
}

func newApex(name string) (apex, error) {
	canonical := dns.CanonicalName(name)
	key, ok := appendFullKey(nil, canonical)
	if !ok {
		return apex{}, errName
	}
	return apex{name: canonical, key: string(key)}, nil
}

// ValidName reports whether a zone can be meant by a name: not by an address, alone or with what is no length of its prefix,
// where somebody meant a reverse zone, nor by several names with commas, nor by a piece of a configuration.
func ValidName(name string) bool {
	_, ok := dns.IsDomainName(name)
	address, _, _ := strings.Cut(strings.TrimSuffix(name, "."), "/")
	_, err := netip.ParseAddr(address)
	return ok && err != nil && !strings.ContainsAny(name, ",{}")
}

// canonicalName is the name as it is compared: lower case, with the trailing dot.
func canonicalName(name string) string { return dns.CanonicalName(name) }

// keyBuffer is room for the key of nearly every name; longer ones allocate.
type keyBuffer [128]byte

// appendKey appends the key of name to dst, and false if name is not the apex or below it.
func (a *apex) appendKey(dst []byte, name string) ([]byte, bool) {
	full, ok := appendFullKey(dst, name)
	if !ok || len(full) < len(a.key) || string(full[:len(a.key)]) != a.key {
		return nil, false
	}
	return full[len(a.key):], true
}

// keyOf is appendKey as a string.
func (a *apex) keyOf(name string) (string, bool) {
	var buf keyBuffer
	k, ok := a.appendKey(buf[:0], name)
	return string(k), ok
}

// appendFullKey appends the key of name counted from the root.
// name is in presentation form, escapes included, with or without the trailing dot.
func appendFullKey(dst []byte, name string) ([]byte, bool) {
	if name == "." {
		return dst, true
	}
	if name == "" || len(name) > 4*maxName {
		return nil, false
	}
	var starts [maxLabels + 1]uint16
	n, octets := 0, 1
	for i := 0; i < len(name); {
		if n == maxLabels {
			return nil, false
		}
		starts[n] = uint16(i)
		n++
		length := 0
		for i < len(name) && name[i] != '.' {
			if name[i] == '\\' {
				_, width := unescape(name[i:])
				if width == 0 {
					return nil, false
				}
				i += width
			} else {
				i++
			}
			length++
		}
		if length == 0 || length > maxLabel {
			return nil, false
		}
		octets += length + 1
		i++ // the dot
	}
	if octets > maxName {
		return nil, false
	}
	for l := n - 1; l >= 0; l-- {
		for i := int(starts[l]); i < len(name) && name[i] != '.'; {
			c := name[i]
			if c == '\\' {
				var width int
				c, width = unescape(name[i:])
				i += width
			} else {
				i++
			}
			switch {
			case c >= 'A' && c <= 'Z':
				dst = append(dst, c+'a'-'A')
			case c <= keyEscape:
				dst = append(dst, keyEscape, c+1)
			default:
				dst = append(dst, c)
			}
		}
		dst = append(dst, keyEnd)
	}
	return dst, true
}

// unescape reads \DDD or \X at the start of s; width 0 means that it is neither.
func unescape(s string) (c byte, width int) {
	if len(s) >= 4 && isDigit(s[1]) && isDigit(s[2]) && isDigit(s[3]) {
		v := int(s[1]-'0')*100 + int(s[2]-'0')*10 + int(s[3]-'0')
		if v > 255 {
			return 0, 0
		}
		return byte(v), 4
	}
	if len(s) >= 2 && !isDigit(s[1]) {
		return s[1], 2
	}
	return 0, 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// nameOf is the canonical presentation form of the name with this key.
func (a *apex) nameOf(key string) (string, error) {
	var labels [maxLabels + 1][]byte
	n := 0
	var label []byte
	for i := 0; i < len(key); i++ {
		switch c := key[i]; {
		case c == keyEnd:
			if len(label) == 0 || len(label) > maxLabel || n == maxLabels {
				return "", errName
			}
			labels[n] = label
			n++
			label = nil
		case c == keyEscape:
			i++
			if i == len(key) || key[i] < 1 || key[i] > 2 {
				return "", errName
			}
			label = append(label, key[i]-1)
		case c >= 'A' && c <= 'Z':
			return "", errName
		default:
			label = append(label, c)
		}
	}
	if len(label) != 0 {
		return "", errName
	}
	wire := make([]byte, 0, maxName)
	for i := n - 1; i >= 0; i-- {
		wire = append(append(wire, byte(len(labels[i]))), labels[i]...)
	}
	wire = append(wire, 0)
	if len(wire) > maxName {
		return "", errName
	}
	name, _, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		return "", errName
	}
	if n == 0 {
		return a.name, nil
	}
	if a.name != "." {
		name += a.name
	}
	if _, ok := dns.IsDomainName(name); !ok {
		return "", errName
	}
	return name, nil
}

// parentKeys calls f with the key of every proper ancestor of key inside the zone, the apex first, until f returns false.
func parentKeys(key string, f func(parent string) bool) {
	if key == "" || !f("") {
		return
	}
	for i := 0; ; {
		j := strings.IndexByte(key[i:], keyEnd)
		i += j + 1
		if j < 0 || i >= len(key) || !f(key[:i]) {
			return
		}
	}
}

// commonAncestor is the key of the nearest name that is both a and b or above them.
func commonAncestor(a, b string) string {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	return a[:strings.LastIndexByte(a[:i], keyEnd)+1]
}

// labelCount is the number of labels of the name with this key, below the apex.
func labelCount(key string) int { return strings.Count(key, "\x00") }
