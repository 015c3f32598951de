package inventory

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// yamlWriter writes devices as the site file has them, and remembers which cell stands where.
type yamlWriter struct {
	b            strings.Builder
	line, column int // of what is written next, from 1, columns in characters
	places       map[[2]int]place
	rows         map[int]place // of lines: the row that they were made of
	row          place
	dash         string // indentation of a device's dash
}

// newYAMLWriter begins at the given line of a file.
func newYAMLWriter(line int, dash string) *yamlWriter {
	return &yamlWriter{line: line, column: 1, places: map[[2]int]place{}, rows: map[int]place{}, dash: dash}
}

func (w *yamlWriter) text(s string) {
	w.rows[w.line] = w.row
	w.b.WriteString(s)
	if s == "\n" {
		w.line++
		w.column = 1
		return
	}
	w.column += utf8.RuneCountInString(s)
}

// value writes a scalar that was made of a cell.
func (w *yamlWriter) value(s string, at place) {
	w.places[[2]int{w.line, w.column}] = at
	w.text(s)
}

// device writes one device.
func (w *yamlWriter) device(d *device) {
	w.row = d.place
	w.text(w.dash + "- ")
	first := true
	for _, key := range columns {
		f, ok := d.fields[key]
		if !ok || implied[key+" "+f.values[0]] {
			continue
		}
		if !first {
			w.text(w.dash + "  ")
		}
		first = false
		w.text(key + ": ")
		w.list(key, f)
		w.text("\n")
	}
	if len(d.apps) == 0 {
		return
	}
	w.text(w.dash + "  applications:")
	w.text("\n")
	for i := range d.apps {
		w.application(&d.apps[i])
	}
}

// implied is what a site file need not say.
var implied = map[string]bool{"dhcp true": true, "installed true": true, "protocol dicom": true}

// applicationKeys are the keys of an application in the order in which they are written.
var applicationKeys = []string{"ae-title", "port", "protocol", "name", "path", "priority", "weight", "txt"}

func (w *yamlWriter) application(a *application) {
	w.row = a.place
	w.text(w.dash + "    - ")
	w.value("{", a.place)
	first := true
	for _, key := range applicationKeys {
		f, ok := a.fields[key]
		if !ok || implied[key+" "+f.values[0]] {
			continue
		}
		if !first {
			w.text(", ")
		}
		first = false
		w.text(key + ": ")
		if key == "txt" {
			w.flow(key, f)
		} else {
			w.value(scalar(key, f.values[0]), f.at)
		}
	}
	w.text("}")
	w.text("\n")
}

// list writes the value of a key, or several as a list.
func (w *yamlWriter) list(key string, f field) {
	if len(f.values) == 1 {
		w.value(scalar(key, f.values[0]), f.at)
		return
	}
	w.flow(key, f)
}

func (w *yamlWriter) flow(key string, f field) {
	w.value("[", f.at)
	for i, v := range f.values {
		if i > 0 {
			w.text(", ")
		}
		w.value(scalar(key, v), f.at)
	}
	w.text("]")
}

// plainText is what needs no quotes in YAML, neither in blocks nor in braces, whatever reads it.
var plainText = regexp.MustCompile(`^[\pL\pN][\pL\pN ._/()+-]*$`)

var plainValue = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z:./-]*[0-9A-Za-z])?$`)

// scalar writes one value of a key so that it stays what it is.
func scalar(key, v string) string {
	switch key {
	case "hardware-address", "address", "dhcp", "installed", "port", "priority", "weight":
		if plainValue.MatchString(v) {
			return v // octets, numbers and true have no other form
		}
	case "client-identifier", "circuit-id", "remote-id":
		if !octets(v) {
			return quoted(v)
		}
	}
	if plainText.MatchString(v) && !strings.HasSuffix(v, " ") && !special(v) {
		return v
	}
	return quoted(v)
}

// octets says whether an identifier is written as octets, which the site file then takes it for.
func octets(v string) bool {
	for p := range strings.SplitSeq(v, ":") {
		if _, err := hex.DecodeString(p); err != nil || len(p) != 2 {
			return false
		}
	}
	return true
}

// special says whether a text would be something else without quotes: a number, a date, true or null.
func special(v string) bool {
	switch strings.ToLower(v) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		return true
	}
	return v[0] >= '0' && v[0] <= '9' || !utf8.ValidString(v)
}

func quoted(v string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range v {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\ufeff' || r >= 0x80 && !unicode.IsPrint(r) || r < 0x20 || r == 0x7f:
			if r > 0xffff {
				fmt.Fprintf(&b, `\U%08x`, r)
			} else {
				fmt.Fprintf(&b, `\u%04x`, r)
			}
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// where returns the cell, or else the row, that a place in the written lines was made of; the zero place if it is elsewhere.
func (w *yamlWriter) where(line, column int) place {
	if at, ok := w.places[[2]int{line, column}]; ok {
		return at
	}
	return w.rows[line]
}

var lineNumber = regexp.MustCompile(`\bline (\d+)`)

// message tells of rows of the sheet where site tells of lines that were made of them, and else of lines of file.
func (w *yamlWriter) message(text, file string) string {
	return lineNumber.ReplaceAllStringFunc(text, func(match string) string {
		n, err := strconv.Atoi(strings.TrimPrefix(match, "line "))
		if err != nil {
			return match
		}
		if at, ok := w.rows[n]; ok && at.row > 0 {
			return "row " + strconv.Itoa(at.row)
		}
		if file == "" {
			return match
		}
		return match + " of " + file
	})
}
