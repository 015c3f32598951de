// Package strictyaml reads a YAML document against a fixed schema, and reports everything that is wrong with it at once.
//
// Decoding into Go structs stops too early for files that people write by hand: it gives no column, it reports a type error
// in Go's terms, and a check that comes after it no longer knows where a value stood. So the document is read as nodes, which
// keep their positions, and each wrong node is reported where it stands, with what was found and what was expected.
//
// Only what a configuration file needs is understood: one document, no anchors and aliases (which would let a small file
// expand without bound), no explicit tags.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Reader reads nodes and reports problems. It is not safe for concurrent use.
type Reader struct {
	// Report takes one problem: its position, counted from 1, and one line of text.
	Report func(line, column int, message string)
	// Terse switches off what costs more than the check itself: suggestions. A file with thousands of errors needs none.
	Terse bool
	// Synonyms are the keys that are meant by other words, the likeliest first, by word in lower case with hyphens.
	Synonyms map[string][]string
}

// Errorf reports a problem at n.
func (r *Reader) Errorf(n *yaml.Node, format string, args ...any) {
	r.Report(n.Line, n.Column, fmt.Sprintf(format, args...))
}

// Document parses data and returns the root node, or nil after it has reported why there is none.
func (r *Reader) Document(data []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			r.Report(1, 1, "the file is empty")
			return nil
		}
		line, message := SyntaxError(data, err)
		r.Report(line, 1, message)
		return nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		r.Errorf(&second, "found a second document, expected only one in a file")
		return nil
	case !errors.Is(err, io.EOF):
		line, message := SyntaxError(data, err)
		r.Report(line, 1, message)
		return nil
	}
	if len(document.Content) == 0 || Null(document.Content[0]) {
		r.Report(1, 1, "the file is empty")
		return nil
	}
	root := document.Content[0]
	if !r.plain(root) {
		return nil
	}
	return root
}

// plain reports every anchor, alias and explicit tag below n, and returns whether there is none.
func (r *Reader) plain(n *yaml.Node) bool {
	ok := true
	switch {
	case n.Kind == yaml.AliasNode:
		r.Errorf(n, "found the alias %s, expected the value itself: anchors and aliases are not allowed", Quote("*"+n.Value))
		return false
	case n.Anchor != "":
		r.Errorf(n, "found the anchor %s, expected a value without it: anchors and aliases are not allowed", Quote("&"+n.Anchor))
		ok = false
	case n.Style&yaml.TaggedStyle != 0:
		r.Errorf(n, "found the tag %s, expected a value without it: tags are not allowed", Quote(n.Tag))
		ok = false
	}
	for _, child := range n.Content {
		ok = r.plain(child) && ok
	}
	return ok
}

var lineOf = regexp.MustCompile(`^line (\d+): `)

// hints are what to tell people about the parser's messages.
var hints = map[string]string{
	"found character that cannot start any token":     "is there a tab, or one of @ and ` at the start of a value? YAML indents with spaces",
	"found a tab character that violates indentation": "YAML indents with spaces",
	"mapping values are not allowed in this context":  "is a line indented too far, or does a value contain a colon followed by a space? Then put the value in quotes",
	"did not find expected key":                       "is the line indented like its neighbours?",
	"did not find expected '-' indicator":             "is the line indented like its neighbours?",
	"did not find expected ',' or '}'":                "is a comma missing, or a brace not closed?",
	"did not find expected ',' or ']'":                "is a comma missing, or a bracket not closed?",
	"found unexpected end of stream":                  "is a quotation mark not closed?",
	"could not find expected ':'":                     "expected KEY: VALUE",
	"invalid trailing UTF-8 octet":                    "save the file as UTF-8",
	"invalid leading UTF-8 octet":                     "save the file as UTF-8",
	"incomplete UTF-8 octet sequence":                 "save the file as UTF-8",
}

// SyntaxError returns what the YAML parser found, and the line. Its errors carry at best the line where the enclosing structure begins, which in a long
// list is pages away from the mistake; so the line of the mistake is searched for.
func SyntaxError(data []byte, err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	begin := 0
	if m := lineOf.FindStringSubmatch(message); m != nil {
		begin, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
		if strings.HasPrefix(message, "did not find expected") {
			begin++ // the library counts from 0 in these
		}
	}
	if line = failingLine(data, err.Error()); line == 0 {
		line = max(begin, 1)
	}
	message, _, _ = strings.Cut(message, "\n")
	if hint, ok := hints[message]; ok {
		message += " (" + hint + ")"
	}
	if lines := strings.Split(string(data), "\n"); line <= len(lines) && strings.ContainsRune(lines[line-1], '\u00a0') {
		message += "; the line has a no-break space, which is none for YAML: type it anew"
	}
	if begin > 0 && begin < line {
		message += fmt.Sprintf("; the part that does not fit together begins in line %d", begin)
	}
	return line, "not valid YAML: " + message
}

// maxSearch bounds the size of a file in which failingLine searches, in octets.
const maxSearch = 1 << 20

// failingLine returns the first line that makes the parser fail as it did, or 0. The parser stops at the first mistake, so every
// beginning of the file that includes it fails alike, and no shorter one does.
func failingLine(data []byte, failure string) int {
	if len(data) > maxSearch {
		return 0
	}
	var ends []int
	for i, c := range data {
		if c == '\n' || i == len(data)-1 {
			ends = append(ends, i+1)
		}
	}
	n := sort.Search(len(ends), func(i int) bool {
		decoder := yaml.NewDecoder(bytes.NewReader(data[:ends[i]]))
		for {
			var document yaml.Node
			if err := decoder.Decode(&document); err != nil {
				return err.Error() == failure
			}
		}
	})
	if n == len(ends) {
		return 0
	}
	return n + 1
}
