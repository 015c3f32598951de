package tsigkey

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// MaxFileSize bounds a key file, in octets: room for more than 10,000 keys.
const MaxFileSize = 4 << 20

// Load reads the keys of a file, in the file's order. An empty file has no keys
// and is no error, as for CoreDNS.
func Load(path string) ([]Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading TSIG keys: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	return Parse(path, f)
}

// WorldReadable reports whether every user of the machine may read or write the
// file. A key file should be mode 0640, with the group of the services that share
// it.
func WorldReadable(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, fmt.Errorf("checking the mode of a TSIG key file: %w", err)
	}
	return info.Mode().Perm()&0o007 != 0, nil
}

// Parse reads the keys from r; name stands for the file in errors. No error
// quotes a secret.
//
// The grammar is CoreDNS's. Lines are split at white space and only their first
// words count; empty lines are skipped. A line `key NAME {` opens a key, where
// NAME and the brace may touch and NAME may stand in quotation marks. Then come
// lines `algorithm A;` and `secret "S";` in any order, until a line that begins
// with `}` or `};` or the end of the file. The last secret counts. There are no
// comments.
func Parse(name string, r io.Reader) ([]Key, error) {
	p := &parser{name: name, lines: bufio.NewScanner(io.LimitReader(r, MaxFileSize+1))}
	var keys []Key
	seen := make(map[string]int)
	for p.next() {
		if p.fields[0] != "key" {
			return nil, p.errorf("%s, want a line `key NAME {`", describe(p.fields[0]))
		}
		opened := p.line
		k, err := p.key()
		if err != nil {
			return nil, err
		}
		if first, ok := seen[k.Name]; ok {
			return nil, p.errorAt(opened, "key %q stands twice, first in line %d", k.Name, first)
		}
		seen[k.Name] = opened
		keys = append(keys, k)
	}
	if err := p.failed(); err != nil {
		return nil, err
	}
	return keys, nil
}

type parser struct {
	name   string
	lines  *bufio.Scanner
	line   int // of the line in fields
	read   int // octets
	fields []string
}

// next advances to the next line that is not empty.
func (p *parser) next() bool {
	for p.lines.Scan() {
		p.line++
		p.read += len(p.lines.Bytes()) + 1
		if p.fields = strings.Fields(p.lines.Text()); len(p.fields) > 0 {
			return true
		}
	}
	return false
}

// failed reports why reading ended early, if it did.
func (p *parser) failed() error {
	switch err := p.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return p.errorAt(p.line+1, "the line is longer than %d octets", bufio.MaxScanTokenSize)
	case err != nil:
		return fmt.Errorf("reading TSIG keys from %s: %w", p.name, err)
	case p.read > MaxFileSize:
		return fmt.Errorf("%s: the key file is larger than %d octets", p.name, MaxFileSize)
	}
	return nil
}

// key parses one key, from the line that opens it to the line that closes it.
func (p *parser) key() (Key, error) {
	opened := p.line
	var name string
	if len(p.fields) > 1 {
		name = strings.Trim(p.fields[1], "\"{")
	}
	if name == "" {
		return Key{}, p.errorf("want the name of the key, as in `key \"dhcp.example.org.\" {`")
	}
	k := Key{Name: canonical(name), origin: fmt.Sprintf("%s:%d", p.name, opened)}
	if err := checkName(k.Name); err != nil {
		return Key{}, p.errorf("%w", err)
	}
	oneLine := ""
	if len(p.fields) > 2 && strings.Trim(strings.Join(p.fields[2:], ""), "{") != "" {
		oneLine = "; what follows the name in line " + fmt.Sprint(opened) + " is not read: write one statement a line"
	}
	algorithm, closed := "", false
	for !closed && p.next() {
		switch p.fields[0] {
		case "algorithm":
			if len(p.fields) > 1 {
				algorithm = strings.Trim(p.fields[1], "\";")
			}
		case "secret":
			var secret string
			if len(p.fields) > 1 {
				secret = strings.Trim(p.fields[1], "\";")
			}
			if err := checkSecret(secret); err != nil {
				return Key{}, p.errorf("key %q: %w", k.Name, err)
			}
			k.secret = func() string { return secret }
		case "}", "};":
			closed = true
		default:
			return Key{}, p.errorf("%s in key %q, want `algorithm`, `secret` or `};` at the start of a line%s", describe(p.fields[0]), k.Name, oneLine)
		}
	}
	if err := p.failed(); err != nil {
		return Key{}, err
	}
	if k.secret == nil {
		return Key{}, p.errorAt(opened, "key %q has no secret%s", k.Name, oneLine)
	}
	k.Algorithm = canonicalAlgorithm(algorithm)
	return k, nil
}

func (p *parser) errorf(format string, args ...any) error {
	return p.errorAt(p.line, format, args...)
}

func (p *parser) errorAt(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{p.name, line}, args...)...)
}

// describe says what an unexpected word is. The word itself is quoted only where
// it cannot be a secret.
func describe(word string) string {
	switch {
	case strings.HasPrefix(word, "#"), strings.HasPrefix(word, "//"), strings.HasPrefix(word, "/*"):
		return "a comment, which a key file cannot hold"
	case strings.HasPrefix(word, "\ufeff"):
		return "a byte order mark at the start of the file"
	case strings.HasPrefix(word, "secret"):
		return "unexpected text after `secret`"
	case strings.HasPrefix(word, "algorithm"):
		return "unexpected text after `algorithm`"
	}
	switch w := strings.Trim(word, "{;}"); w {
	case "key", "keys", "include", "options", "zone", "server", "controls", "acl", "view":
		return "unexpected `" + w + "`"
	}
	return "unexpected text"
}

// WriteTo writes the key, its secret included, as a statement of which each part
// has its own line: the form that CoreDNS, BIND and `nsupdate -k` all read. The
// file should be created with mode 0640 before anything is written to it.
func (k Key) WriteTo(w io.Writer) (int64, error) {
	if k.Name == "" || k.secret == nil {
		return 0, fmt.Errorf("writing a TSIG key: there is no key")
	}
	n, err := fmt.Fprintf(w, "key \"%s\" {\n\talgorithm %s;\n\tsecret \"%s\";\n};\n",
		k.Name, strings.TrimSuffix(k.Algorithm, "."), k.Secret())
	return int64(n), err
}
