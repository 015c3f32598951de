package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// tableAhead is how many rows a table looks at before it decides how wide its
// columns are. So a short table is neat, and a long one is not held in memory.
const tableAhead = 512

// table writes rows of cells in columns, with two blanks at least between them.
// No cell is empty or has a blank in it, so scripts can split at white space.
type table struct {
	w      io.Writer
	widths []int
	rows   [][]string // that wait for the widths; nil once they are decided
	line   []byte
}

// column is a column's header, and the least that it is wide.
type column struct {
	name  string
	width int
}

func newTable(w io.Writer, columns ...column) *table {
	t := &table{w: w}
	var header []string
	for _, c := range columns {
		header = append(header, c.name)
		t.widths = append(t.widths, c.width)
	}
	t.rows = append(t.rows, header)
	return t
}

// row writes a row, sooner or later.
func (t *table) row(cells ...string) error {
	for i, c := range cells {
		cells[i] = cell(c)
	}
	if t.rows == nil {
		return t.write(cells)
	}
	t.rows = append(t.rows, cells)
	if len(t.rows) <= tableAhead {
		return nil
	}
	return t.flush()
}

// flush writes the rows that wait. Later ones have the widths that these need.
func (t *table) flush() error {
	rows := t.rows
	t.rows = nil
	for _, cells := range rows {
		for i, c := range cells {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, cells := range rows {
		if err := t.write(cells); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) write(cells []string) error {
	t.line = t.line[:0]
	for i, c := range cells {
		if i == len(cells)-1 {
			t.line = append(t.line, c...)
			break
		}
		t.line = fmt.Appendf(t.line, "%-*s  ", t.widths[i], c)
	}
	_, err := t.w.Write(append(t.line, '\n'))
	return err
}

// cell is text as a table shows it: "-" for nothing, and characters that would
// break the table, or do something to the terminal, as Go writes them ("\x20").
func cell(s string) string {
	if s == "" {
		return "-"
	}
	harmless := func(r rune) bool {
		return r != utf8.RuneError && r != '\\' && unicode.IsGraphic(r) && !unicode.IsSpace(r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !harmless(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case harmless(r):
			b.WriteRune(r)
		case r < 0x80 || r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// moment is a time in a table: RFC 3339, in the local time zone.
func moment(t time.Time) string { return t.Local().Format(time.RFC3339) }

// until is the end of something that may have none.
func until(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return moment(*t)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
