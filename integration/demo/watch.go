//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// A question is what DNS is asked for.
type question struct {
	name  string
	qtype uint16
}

func (q question) String() string { return trim(q.name) + " " + dns.TypeToString[q.qtype] }

// A watch asks a question again and again until the answer is as wanted.
type watch struct {
	question
	expected string // the answer, in words
	seen     <-chan sighting
}

// A sighting is the first answer that was as wanted, and when it came.
type sighting struct {
	answer *dns.Msg
	at     time.Time
	err    error
}

// watch begins to ask, from beside the name server.
func (d *demo) watch(ctx context.Context, q question, expected string, wanted func(*dns.Msg) bool) watch {
	seen := make(chan sighting, 1)
	r := d.network.Resolver()
	go func() {
		defer func() { _ = r.Close() }() // nothing is asked any more
		m, at, err := r.Await(ctx, q.name, q.qtype, wanted)
		seen <- sighting{m, at, err}
	}()
	return watch{q, expected, seen}
}

// late is the step's failure where a watch has not ended in time.
func (w watch) late(ctx context.Context, n *radiology.Network) error {
	r := n.Resolver()
	defer func() { _ = r.Close() }() // nothing is asked any more
	found := "no answer"
	if m, err := r.Ask(ctx, w.name, w.qtype); err == nil {
		found = lab.Summary(m)
	}
	return &unmet{fmt.Sprintf("%s: %s within %s", w.question, w.expected, patience), found}
}

// data is the data of an answer's only record, "" if it has none or several.
func data(m *dns.Msg) string {
	if len(m.Answer) != 1 {
		return ""
	}
	return strings.TrimPrefix(m.Answer[0].String(), m.Answer[0].Header().String())
}

func trim(name string) string { return strings.TrimSuffix(name, ".") }

func join(fields []string) string { return strings.Join(fields, " ") }

func list(as []netip.Addr) string {
	var s []string
	for _, a := range as {
		s = append(s, a.String())
	}
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}
