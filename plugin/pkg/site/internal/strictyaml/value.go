package strictyaml

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxText bounds any value, in octets.
const maxText = 4096

// Describe says what n is, for messages: the quoted value of a scalar, bounded in length, or the kind of node.
func Describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		if len(n.Content) == 0 {
			return "an empty list"
		}
		return "a list"
	}
	if Null(n) {
		return "nothing"
	}
	return Quote(n.Value)
}

// Null reports whether n is a key's missing value, or null.
func Null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// Quoted reports whether n was written in quotes.
func Quoted(n *yaml.Node) bool { return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 }

// Quote quotes v and bounds its length.
func Quote(v string) string {
	const limit = 60
	if len(v) <= limit {
		return strconv.Quote(v)
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(v[cut]) {
		cut--
	}
	return strconv.Quote(v[:cut]) + "..."
}

// Expected reports that n is not what it should be.
func (r *Reader) Expected(n *yaml.Node, key, expected string) {
	r.Errorf(n, "%s: found %s, expected %s", key, Describe(n), expected)
}

// Scalar returns the text of n, which is not empty and has no control characters; key names it in messages.
// Numbers and booleans are text as they were written.
func (r *Reader) Scalar(n *yaml.Node, key, expected string) (string, bool) {
	if n.Kind != yaml.ScalarNode || Null(n) || n.Value == "" {
		r.Expected(n, key, expected)
		return "", false
	}
	if len(n.Value) > maxText {
		r.Errorf(n, "%s: found %d characters, expected at most %d", key, utf8.RuneCountInString(n.Value), maxText)
		return "", false
	}
	if strings.ContainsFunc(n.Value, control) {
		r.Errorf(n, "%s: found %s, expected text without control characters and line breaks", key, Quote(n.Value))
		return "", false
	}
	return n.Value, true
}

func control(c rune) bool { return c < 0x20 || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029 }

// List calls each for every element of the list n.
func (r *Reader) List(n *yaml.Node, key, expected string, each func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.Expected(n, key, expected)
		return
	}
	for _, element := range n.Content {
		each(element)
	}
}

// OneOrList calls each for n, or for every element if n is a list, which must not be empty.
func (r *Reader) OneOrList(n *yaml.Node, key, expected string, each func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		each(n)
		return
	}
	if len(n.Content) == 0 {
		r.Expected(n, key, expected+", or a list of such")
	}
	for _, element := range n.Content {
		each(element)
	}
}

// Fields are the keys and values of one mapping.
type Fields struct {
	Node   *yaml.Node
	reader *Reader
	keys   []string
	values []*yaml.Node
}

// Mapping reads the mapping n, which is a what ("a device") and may have the given keys, each at most once.
func (r *Reader) Mapping(n *yaml.Node, what string, keys []string) (*Fields, bool) {
	if n.Kind != yaml.MappingNode {
		r.Errorf(n, "found %s, expected %s: a mapping with the keys %s", Describe(n), what, strings.Join(keys, ", "))
		return nil, false
	}
	f := &Fields{Node: n, reader: r, keys: keys, values: make([]*yaml.Node, len(keys))}
	var lines []int // of the keys, made when there is a second one of the kind
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := slices.Index(keys, key.Value)
		switch {
		case key.Kind != yaml.ScalarNode || at < 0:
			r.unknownKey(key, what, keys)
		case f.values[at] != nil:
			if lines == nil {
				lines = keyLines(n, keys)
			}
			r.Errorf(key, "the key %s stands twice; the first is in line %d", Quote(key.Value), lines[at])
		default:
			f.values[at] = value
		}
	}
	return f, true
}

// keyLines returns the line of the first occurrence of each key.
func keyLines(n *yaml.Node, keys []string) []int {
	lines := make([]int, len(keys))
	for i := 0; i+1 < len(n.Content); i += 2 {
		if at := slices.Index(keys, n.Content[i].Value); at >= 0 && lines[at] == 0 {
			lines[at] = n.Content[i].Line
		}
	}
	return lines
}

func (r *Reader) unknownKey(key *yaml.Node, what string, keys []string) {
	near := r.Nearest(key.Value, keys)
	if near == "" {
		meant := r.Synonyms[strings.ReplaceAll(strings.ToLower(key.Value), "_", "-")]
		if at := slices.IndexFunc(meant, func(k string) bool { return slices.Contains(keys, k) }); at >= 0 {
			near = meant[at]
		}
	}
	if near != "" {
		r.Errorf(key, "unknown key %s; did you mean %q?", Describe(key), near)
		return
	}
	r.Errorf(key, "unknown key %s; %s has the keys %s", Describe(key), what, strings.Join(keys, ", "))
}

// Get returns the value of key, or nil.
func (f *Fields) Get(key string) *yaml.Node {
	if at := slices.Index(f.keys, key); at >= 0 {
		return f.values[at]
	}
	return nil
}

// At returns the value of key, or the mapping itself where it has none: the place for a problem with the key.
func (f *Fields) At(key string) *yaml.Node {
	if n := f.Get(key); n != nil {
		return n
	}
	return f.Node
}

// Require reports the keys that are missing; what is "a device".
func (f *Fields) Require(what string, keys ...string) {
	for _, key := range keys {
		if f.Get(key) == nil {
			f.reader.Errorf(f.Node, "%s needs the key %q, which is missing", what, key)
		}
	}
}

// Text returns the text under key, at most limit characters; "" if it is missing or wrong.
func (f *Fields) Text(key string, limit int) string {
	n := f.Get(key)
	if n == nil {
		return ""
	}
	v, ok := f.reader.Scalar(n, key, "text")
	if !ok {
		return ""
	}
	if count := utf8.RuneCountInString(v); count > limit {
		f.reader.Errorf(n, "%s: found %s with %d characters, expected at most %d", key, Quote(v), count, limit)
		return ""
	}
	if v != strings.TrimSpace(v) {
		f.reader.Expected(n, key, "text without spaces at its ends")
		return ""
	}
	return v
}

// Bool returns the boolean under key, or otherwise if it is missing or wrong.
func (f *Fields) Bool(key string, otherwise bool) bool {
	n := f.Get(key)
	if n == nil {
		return otherwise
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "true":
		return true
	case n.Kind == yaml.ScalarNode && n.Value == "false":
		return false
	}
	f.reader.Expected(n, key, "true or false")
	return otherwise
}

// Number returns the whole number under key, or 0 if it is missing or wrong.
func (f *Fields) Number(key string, low, high uint64) uint64 {
	n := f.Get(key)
	if n == nil {
		return 0
	}
	v, err := strconv.ParseUint(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || err != nil || v < low || v > high {
		f.reader.Expected(n, key, fmt.Sprintf("a whole number from %d to %d", low, high))
		return 0
	}
	return v
}

// Choice returns the index in names of the word under key, or otherwise if it is missing or wrong.
func (f *Fields) Choice(key string, names []string, otherwise int) int {
	n := f.Get(key)
	if n == nil {
		return otherwise
	}
	if at := slices.Index(names, n.Value); n.Kind == yaml.ScalarNode && at >= 0 {
		return at
	}
	f.reader.Expected(n, key, "one of "+strings.Join(names, ", "))
	return otherwise
}

// List calls each for every element of the list under key, if there is one.
func (f *Fields) List(key, expected string, each func(*yaml.Node)) {
	if n := f.Get(key); n != nil {
		f.reader.List(n, key, expected, each)
	}
}

// OneOrList calls each for the value under key, or for its elements if it is a list.
func (f *Fields) OneOrList(key, expected string, each func(*yaml.Node)) {
	if n := f.Get(key); n != nil {
		f.reader.OneOrList(n, key, expected, each)
	}
}
