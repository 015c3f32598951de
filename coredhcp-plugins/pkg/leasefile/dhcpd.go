package leasefile

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// hardwareTypes are the words of "hardware" in dhcpd.leases.
var hardwareTypes = map[string]uint8{"ethernet": 1, "token-ring": 6, "fddi": 8, "infiniband": 32}

// parseDhcpd reads dhcpd.leases, a log of declarations of which those of leases count. A later one of an address replaces an earlier one.
func parseDhcpd(file string, data []byte, l leases) error {
	s := &scanner{file: file, data: data, line: 1}
	for {
		t, err := s.next()
		if err != nil {
			return err
		}
		switch {
		case t.end:
			return nil
		case t.text == "lease" && !t.quoted:
			lease, err := s.lease()
			if err != nil {
				return err
			}
			l[lease.Address] = lease
		default:
			if err := s.skip(t); err != nil {
				return err
			}
		}
	}
}

// scanner takes dhcpd's files apart: words, strings in quotation marks, and the characters ; { and }.
type scanner struct {
	file string
	data []byte
	at   int
	line int
}

type token struct {
	text   string
	quoted bool
	end    bool // of the file
}

func (s *scanner) fail(format string, args ...any) error {
	return wrong(s.file, s.line, format, args...)
}

func (s *scanner) next() (token, error) {
	for s.at < len(s.data) {
		switch c := s.data[s.at]; {
		case c == '\n':
			s.line++
			s.at++
		case c == ' ' || c == '\t' || c == '\r':
			s.at++
		case c == '#':
			for s.at < len(s.data) && s.data[s.at] != '\n' {
				s.at++
			}
		case c == '"':
			return s.quoted()
		case strings.IndexByte(";{}=", c) >= 0:
			s.at++
			return token{text: string(c)}, nil
		default:
			from := s.at
			for s.at < len(s.data) && strings.IndexByte(" \t\r\n;{}=\"#", s.data[s.at]) < 0 {
				s.at++
			}
			if s.at-from > maxText {
				return token{}, s.fail("a word of %d characters, expected at most %d", s.at-from, maxText)
			}
			return token{text: string(s.data[from:s.at])}, nil
		}
	}
	return token{end: true}, nil
}

// quoted reads a string, with dhcpd's escapes: three octal digits, or the character itself.
func (s *scanner) quoted() (token, error) {
	s.at++
	var b []byte
	for s.at < len(s.data) && len(b) <= maxText {
		c := s.data[s.at]
		s.at++
		switch {
		case c == '"':
			return token{text: string(b), quoted: true}, nil
		case c == '\n':
			return token{}, s.fail("a string without its second quotation mark")
		case c != '\\' || s.at == len(s.data):
			b = append(b, c)
		default:
			n := s.at
			for n < len(s.data) && n < s.at+3 && s.data[n] >= '0' && s.data[n] <= '7' {
				n++
			}
			if n == s.at+3 {
				v, err := strconv.ParseUint(string(s.data[s.at:n]), 8, 8)
				if err != nil {
					return token{}, s.fail("found the escape \\%s, expected an octet in octal digits", s.data[s.at:n])
				}
				b = append(b, byte(v))
				s.at = n
				continue
			}
			escapes := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', 'b': '\b'}
			if e, ok := escapes[s.data[s.at]]; ok {
				b = append(b, e)
			} else {
				b = append(b, s.data[s.at])
			}
			s.at++
		}
	}
	return token{}, s.fail("a string that does not end, or is longer than %d characters", maxText)
}

// skip reads the rest of a statement that begins with t: to its semicolon, or to the end of its braces.
func (s *scanner) skip(t token) error {
	depth := 0
	for {
		switch {
		case t.end:
			return s.fail("the file ends inside a declaration: it is cut off")
		case t.quoted:
		case t.text == "{":
			depth++
		case t.text == "}":
			depth--
			if depth < 0 {
				return s.fail("found }, expected a declaration")
			}
			if depth == 0 {
				return nil
			}
		case t.text == ";" && depth == 0:
			return nil
		}
		var err error
		if t, err = s.next(); err != nil {
			return err
		}
	}
}

// statement reads the words of one statement of a lease, without its semicolon; nil at the closing brace.
func (s *scanner) statement() ([]token, error) {
	var words []token
	for {
		t, err := s.next()
		switch {
		case err != nil:
			return nil, err
		case t.end:
			return nil, s.fail("the file ends inside a lease: it is cut off")
		case t.quoted:
		case t.text == ";":
			if len(words) > 0 {
				return words, nil
			}
			continue
		case t.text == "}" && len(words) == 0:
			return nil, nil
		case t.text == "{", t.text == "}": // "on expiry { ... }" needs no semicolon
			if err := s.skip(token{text: "{"}); err != nil {
				return nil, err
			}
			return words, nil
		}
		words = append(words, t)
		if len(words) > maxText {
			return nil, s.fail("a statement of more than %d words", maxText)
		}
	}
}

func (s *scanner) lease() (Lease, error) {
	lease := Lease{Line: s.line}
	t, err := s.next()
	if err != nil {
		return lease, err
	}
	if lease.Address, err = address(t.text); err != nil {
		return lease, s.fail("lease: %v", err)
	}
	if t, err = s.next(); err != nil || t.text != "{" || t.quoted {
		return lease, s.fail("found %.60q, expected { behind the address of a lease", t.text)
	}
	var ends time.Time
	state := ""
	for {
		words, err := s.statement()
		if err != nil {
			return lease, err
		}
		if words == nil {
			break
		}
		switch key := words[0].text; {
		case key == "starts":
			lease.Start, err = dhcpdTime(words[1:])
		case key == "ends":
			ends, err = dhcpdTime(words[1:])
		case key == "abandoned":
			state = key
		case key == "binding" && len(words) == 3:
			state = words[2].text
		case key == "hardware":
			err = dhcpdHardware(&lease, words[1:])
		case key == "uid" && len(words) == 2:
			lease.ClientIdentifier = words[1].text
			if !words[1].quoted {
				lease.ClientIdentifier, err = octets(words[1].text, maxIdentifier)
			}
			if len(lease.ClientIdentifier) > maxIdentifier {
				err = fmt.Errorf("found %d octets, expected at most %d", len(lease.ClientIdentifier), maxIdentifier)
			}
		case key == "client-hostname" && len(words) == 2:
			lease.Hostname = words[1].text
		}
		if err != nil {
			return lease, s.fail("lease %s: %s: %v", lease.Address, words[0].text, err)
		}
	}
	lease.Expires = ends
	if !ends.IsZero() && ends.After(lease.Start) && !lease.Start.IsZero() {
		lease.Duration = ends.Sub(lease.Start)
	}
	switch state {
	case "", "active", "bootp":
		lease.State = Active
	case "free", "backup", "expired", "reset":
		lease.State = Expired
	case "released":
		lease.State = Released
	case "abandoned":
		lease.State = Declined
	default:
		return lease, s.fail("lease %s: binding state %.60q: expected active, free, backup, expired, reset, released, abandoned or bootp", lease.Address, state)
	}
	return lease, nil
}

func dhcpdHardware(lease *Lease, words []token) error {
	if len(words) != 2 {
		return fmt.Errorf("found %d words, expected a type and an address", len(words))
	}
	kind, ok := hardwareTypes[words[0].text]
	if !ok {
		n, err := strconv.ParseUint(strings.TrimPrefix(words[0].text, "unknown-"), 10, 8)
		if err != nil {
			return fmt.Errorf("found the type %.60q, expected one such as ethernet", words[0].text)
		}
		kind = uint8(n)
	}
	var err error
	lease.HardwareType = kind
	lease.HardwareAddress, err = octets(words[1].text, maxHardware)
	return err
}

// dhcpdTime reads "4 2026/11/19 08:00:00" (the day of the week, and UTC), "epoch SECONDS" and "never".
func dhcpdTime(words []token) (time.Time, error) {
	switch {
	case len(words) == 1 && words[0].text == "never":
		return time.Time{}, nil
	case len(words) == 2 && words[0].text == "epoch":
		n, err := strconv.ParseInt(words[1].text, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("found %.60q, expected seconds since 1970", words[1].text)
		}
		return moment(n)
	case len(words) == 3:
		text := words[1].text + " " + words[2].text
		t, err := time.Parse("2006/01/02 15:04:05", text)
		if err != nil {
			return time.Time{}, fmt.Errorf("found %.60q, expected a time such as 2026/11/19 08:00:00", text)
		}
		return t, nil
	}
	return time.Time{}, fmt.Errorf("found %d words, expected a time", len(words))
}
