package dnssd

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of the wire format.
const (
	maxLabel  = 63  // octets of one label, RFC 1035 section 2.3.4
	maxString = 255 // octets of one TXT string, RFC 6763 section 6.1
	// maxText bounds the strings of one TXT record together, in octets: what a
	// multicast answer can hold (RFC 6763 section 6.1). A message of unicast DNS
	// could have seven times as much, but then nothing else.
	maxText = 8900
)

// instanceLabel returns name as the first label of a service instance name,
// in presentation form. It escapes as the dns package does when it reads a
// name from the wire, so that a published name and a queried one are the same
// string. RFC 6763 section 4.1.1 allows any UTF-8 text of at most 63 octets;
// a longer one is cut at a character.
func instanceLabel(name string) string {
	return escape(cut(name, maxLabel), ` '@;().\"`)
}

// cut shortens s to at most n octets without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// subtypeLabel returns the label of the subtype for a Primary Device Type, in
// presentation form: _ct for CT (RFC 6763 section 7.1).
func subtypeLabel(deviceType string) string { return instanceLabel("_" + strings.ToLower(deviceType)) }

// txtString returns the value of one TXT string as the dns package holds it,
// which is its presentation form without the quotes.
func txtString(s string) string { return escape(s, `"\`) }

// escape writes the octets of special behind a backslash, and those outside
// printable ASCII as \DDD (RFC 1035 section 5.1).
func escape(s, special string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case strings.IndexByte(special, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			b.WriteByte('\\')
			d := strconv.Itoa(int(c))
			b.WriteString("000"[len(d):])
			b.WriteString(d)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// txt collects the strings of one TXT record. The first of several strings
// with the same key counts (RFC 6763 section 6.4), so the others are left out.
type txt struct {
	strings []string
	keys    map[string]bool
	octets  int
}

// add appends s, which is "key=value" or a key alone (RFC 6763 section 6.4).
func (t *txt) add(s string) {
	key, _, _ := strings.Cut(s, "=")
	// A string without a key, or with one that is not printable ASCII, is to be
	// ignored by clients (section 6.4), and one over the limit cannot be written.
	if key == "" || len(s) > maxString || t.octets+1+len(s) > maxText {
		return
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return
		}
	}
	key = strings.ToLower(key)
	if t.keys[key] {
		return
	}
	if t.keys == nil {
		t.keys = make(map[string]bool)
	}
	t.keys[key] = true
	t.strings = append(t.strings, txtString(s))
	t.octets += 1 + len(s)
}

// rdata returns the strings of the record: at least one, which is empty where
// there is nothing to say (RFC 6763 section 6.1).
func (t *txt) rdata() []string {
	if len(t.strings) == 0 {
		return []string{""}
	}
	return t.strings
}
