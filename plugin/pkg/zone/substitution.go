package zone

import (
	"bytes"
	"strings"
)

// A substitution is what the regexp field of a NAPTR record says (RFC 3402 section 3.2): a delimiter, a POSIX extended
// regular expression, the delimiter, the replacement, the delimiter, and flags. BIND checks it, and refuses the zone.

// malformedSubstitution reports whether s, octets without escapes of presentation form, is no substitution. None is none.
func malformedSubstitution(s []byte) bool {
	if len(s) == 0 {
		return false
	}
	delimiter := s[0]
	if delimiter == '\\' || delimiter == 'i' || isDigit(delimiter) || bytes.IndexByte(s, 0) >= 0 {
		return true
	}
	expression, s, ok1 := cutDelimiter(s[1:], delimiter)
	replacement, flags, ok2 := cutDelimiter(s, delimiter)
	e := extended{rest: expression}
	if !ok1 || !ok2 || len(bytes.Trim(flags, "i")) > 0 || !e.alternatives() {
		return true
	}
	for i := 0; i < len(replacement); i++ {
		if replacement[i] != '\\' {
			continue
		}
		i++ // cutDelimiter has seen that there is something
		if c := replacement[i]; c == '0' || isDigit(c) && int(c-'0') > e.groups {
			return true
		}
	}
	return false
}

// cutDelimiter cuts s at the first delimiter that has no backslash before it.
func cutDelimiter(s []byte, delimiter byte) (before, after []byte, found bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case delimiter:
			return s[:i], s[i+1:], true
		case '\\':
			i++
		}
	}
	return nil, nil, false
}

// extended reads a POSIX extended regular expression (IEEE Std 1003.1 section 9.4). Of what that leaves undefined, it takes what
// BIND takes and regcomp understands: an empty group, a back-reference, a brace that begins no interval, and a backslash
// before a character that needs none.
type extended struct {
	rest   []byte
	groups int
	depth  int // of those that are open: without one, a closing parenthesis is a character as any
}

// multiplies reports whether the rest begins with what repeats something.
func (e *extended) multiplies() bool {
	return e.next("*+?") || e.next("{") && len(e.rest) > 1 && isDigit(e.rest[1])
}

// next reports whether the rest begins with one of the characters.
func (e *extended) next(characters string) bool {
	return len(e.rest) > 0 && strings.IndexByte(characters, e.rest[0]) >= 0
}

// take removes c where the rest begins with it.
func (e *extended) take(c byte) bool {
	if len(e.rest) == 0 || e.rest[0] != c {
		return false
	}
	e.rest = e.rest[1:]
	return true
}

// ends reports whether a branch ends here.
func (e *extended) ends() bool {
	return len(e.rest) == 0 || e.next("|") || e.depth > 0 && e.next(")")
}

// alternatives are branches with | between them.
func (e *extended) alternatives() bool {
	for {
		if e.ends() {
			return false
		}
		for !e.ends() {
			if !e.piece() {
				return false
			}
		}
		if !e.take('|') {
			return true
		}
	}
}

// piece is an anchor, or something that may be repeated.
func (e *extended) piece() bool {
	switch {
	case e.take('^'), e.take('$'):
		return !e.multiplies()
	case e.multiplies():
		return false
	case e.take('('):
		e.groups++
		if e.take(')') {
			break
		}
		e.depth++
		if !e.alternatives() || !e.take(')') {
			return false
		}
		e.depth--
	case e.take('['):
		if !e.bracket() {
			return false
		}
	case e.take('\\'):
		if len(e.rest) == 0 || e.next("0") || isDigit(e.rest[0]) && int(e.rest[0]-'0') > e.groups {
			return false
		}
		e.rest = e.rest[1:]
	default:
		e.rest = e.rest[1:]
	}
	if !e.multiplies() {
		return true
	}
	if e.take('{') {
		if !e.interval() {
			return false
		}
	} else {
		e.rest = e.rest[1:]
	}
	return !e.multiplies()
}

// interval is how often something is repeated: n} or n,} or n,m}.
func (e *extended) interval() bool {
	least, ok := e.number()
	if !ok {
		return false
	}
	if e.take(',') && !e.next("}") {
		if most, ok := e.number(); !ok || most < least {
			return false
		}
	}
	return e.take('}')
}

func (e *extended) number() (n int, ok bool) {
	const most = 255 // _POSIX_RE_DUP_MAX
	for ; e.next("0123456789") && n <= most; ok = true {
		n = 10*n + int(e.rest[0]-'0')
		e.rest = e.rest[1:]
	}
	return n, ok && n <= most
}

// bracket is the rest of a bracket expression: characters, ranges and classes of them. BIND takes no hyphen behind a range, and
// has its own view of one beside an opening bracket.
func (e *extended) bracket() bool {
	e.take('^')
	for first := true; first || !e.take(']'); first = false {
		from, single, ok := e.element()
		if !ok {
			return false
		}
		if from == '[' && e.next("-") {
			return false
		}
		if len(e.rest) < 2 || e.rest[0] != '-' || e.rest[1] == ']' {
			continue
		}
		e.rest = e.rest[1:]
		if to, too, ok := e.element(); !ok || !single || !too || to < from || to == '[' || e.next("-") {
			return false
		}
	}
	return true
}

// element is a character of a bracket expression, or a class.
func (e *extended) element() (c byte, single, ok bool) {
	if len(e.rest) == 0 {
		return 0, false, false
	}
	if c, e.rest = e.rest[0], e.rest[1:]; c != '[' || !e.next(":.=") {
		return c, true, true
	}
	kind := e.rest[0]
	name, rest, ok := bytes.Cut(e.rest[1:], []byte{kind, ']'})
	e.rest = rest
	if kind != ':' { // a collating element or an equivalence class: of one character, as there is no locale
		return 0, false, ok && len(name) == 1
	}
	switch string(name) {
	case "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit":
		return 0, false, ok
	}
	return 0, false, false
}
