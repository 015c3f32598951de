//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// A table is what was found, in the order in which it was.
type table struct {
	rows    []row
	skipped []string
}

// A row is one line of the table. What does not apply is "".
type row struct {
	what, server           string
	rate, p50, p99         string
	cpu, others, peer, say string
}

// add makes a row of a sample, and says it at once. A sample without CPU time is
// one of which it is not known.
func (b *bench) add(what, server string, s *sample, peer, say string) *row {
	if f := s.failures(); f != "" {
		say = strings.TrimPrefix(say+"; failed: "+f, "; ")
	}
	r := row{
		what: what, server: server,
		rate: fmt.Sprintf("%.0f", s.rate()), p50: ms(s.quantile(.5)), p99: ms(s.quantile(.99)),
		others: percent(s.others), peer: peer, say: say,
	}
	if s.cpu > 0 {
		r.cpu = fmt.Sprintf("%.1f", float64(s.perOp())/float64(time.Microsecond))
	}
	b.note("%s, %s: %s/s, p50 %s ms, p99 %s ms, CPU %s us/op, others %s; %s %s", what, server, r.rate, r.p50, r.p99, r.cpu, r.others, peer, say)
	b.table.rows = append(b.table.rows, r)
	return &b.table.rows[len(b.table.rows)-1]
}

// tell adds a row that is words only.
func (b *bench) tell(what, server, peer, say string) {
	b.note("%s, %s: %s %s", what, server, peer, say)
	b.table.rows = append(b.table.rows, row{what: what, server: server, peer: peer, say: say})
}

func (t *table) print(w io.Writer) {
	var aligned bytes.Buffer
	tw := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "measurement\tserver\top/s\tp50 ms\tp99 ms\tCPU us/op\tothers\tdicom : peer\tremarks")
	for i, r := range t.rows {
		if i > 0 && r.what == t.rows[i-1].what {
			r.what = ""
		}
		fmt.Fprintln(tw, strings.Join([]string{r.what, r.server, r.rate, r.p50, r.p99, r.cpu, r.others, r.peer, r.say}, "\t"))
	}
	_ = tw.Flush() // into memory
	fmt.Fprintln(w)
	for line := range strings.Lines(aligned.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	for _, s := range t.skipped {
		fmt.Fprintln(w, "Skipped:", s)
	}
}

// times is how much more of a rate we have than a peer, and the goal.
func times(ours, theirs float64, goal string) string {
	if theirs == 0 {
		return ""
	}
	ratio := fmt.Sprintf("x %.2f", ours/theirs)
	if goal != "" {
		ratio += " (goal " + goal + ")"
	}
	return ratio
}

// compare is how much more dicom does in a second, and for the same CPU time.
func compare(ours, theirs *sample, goal string) string {
	said := times(ours.rate(), theirs.rate(), goal)
	if ours.perOp() > 0 && theirs.perOp() > 0 {
		said += ", by CPU " + times(theirs.perOp().Seconds(), ours.perOp().Seconds(), "")
	}
	return said
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// thousands writes a number with commas: 10,000.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
