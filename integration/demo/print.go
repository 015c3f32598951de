//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// A printer writes the demo's steps. It marks headings only on a terminal.
type printer struct {
	w    io.Writer
	step int
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintln(p.w, strings.TrimRight(fmt.Sprintf(format, args...), " \n"))
}

// heading begins the next step.
func (p *printer) heading(format string, args ...any) {
	p.step++
	text := fmt.Sprintf("%d. %s", p.step, fmt.Sprintf(format, args...))
	if terminal(p.w) {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	p.line("")
	p.line("%s", text)
}

// table writes rows with aligned columns, indented.
func (p *printer) table(rows ...[]string) {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, "   "+strings.Join(row, "\t"))
	}
	_ = t.Flush() // a Builder takes everything
	for line := range strings.Lines(text.String()) {
		p.line("%s", line)
	}
}

// terminal tells whether a person watches: NO_COLOR and pipes get plain text.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// ms is a duration as a person reads it. What was seen before its cause was, by
// less than the clocks' error, took no time.
func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(max(d, 0))/float64(time.Millisecond))
}

// span is a long duration as a person reads it: 12h, not 12h0m0s.
func span(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}
