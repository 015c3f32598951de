//go:build linux

package integration

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// await waits until every name of a type is answered as wanted, and returns when
// the last was.
func await(t *testing.T, n *radiology.Network, wanted func(*dns.Msg) bool, questions ...question) time.Time {
	t.Helper()
	r := n.Resolver()
	defer r.Close()
	ctx := timeout(t, patience)
	var last time.Time
	for _, q := range questions {
		_, at, err := r.Await(ctx, q.name, q.qtype, wanted)
		if err != nil {
			t.Fatal(err)
		}
		last = at
	}
	return last
}

// expect fails unless the first answer is as wanted.
func expect(t *testing.T, n *radiology.Network, wanted func(*dns.Msg) bool, questions ...question) {
	t.Helper()
	r := n.Resolver()
	defer r.Close()
	ctx := timeout(t, patience)
	for _, q := range questions {
		m, err := r.Ask(ctx, q.name, q.qtype)
		for err != nil && ctx.Err() == nil { // a busy machine, or a lost datagram
			m, err = r.Ask(ctx, q.name, q.qtype)
		}
		if err != nil {
			t.Error(err)
		} else if !wanted(m) {
			t.Errorf("%s %s: %s", q.name, dns.TypeToString[q.qtype], lab.Summary(m))
		}
	}
}

type question struct {
	name  string
	qtype uint16
}

// names are the questions for a host and its address.
func names(t *testing.T, host string, l lab.Lease) []question {
	t.Helper()
	reverse, err := dns.ReverseAddr(l.Address.String())
	if err != nil {
		t.Fatal(err)
	}
	return []question{{host, dns.TypeA}, {reverse, dns.TypePTR}}
}

var (
	digStatus = regexp.MustCompile(`status: ([A-Z]+)`)
	spaces    = regexp.MustCompile(`\s+`)
)

// dig asks the name server with dig from a namespace, and returns the status and
// the data of the answers of the type, sorted.
func dig(ctx context.Context, t *testing.T, l *lab.Lab, from *lab.Namespace, name, qtype string) (string, []string) {
	t.Helper()
	out, err := l.Output(ctx, from, "dig", "-r", "@"+radiology.Server.Addr().String(),
		"+noall", "+comments", "+answer", "+tries=20", "+time=2", name, qtype)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	status := digStatus.FindSubmatch(out)
	if status == nil {
		t.Fatalf("dig %s %s: no status in %q", name, qtype, out)
	}
	var data []string
	for line := range strings.Lines(string(out)) {
		// Owner, TTL, class, type, data.
		f := spaces.Split(strings.TrimSpace(line), 5)
		if len(f) == 5 && !strings.HasPrefix(line, ";") && f[3] == qtype {
			data = append(data, f[4])
		}
	}
	slices.Sort(data)
	return string(status[1]), data
}

// expectDig fails unless dig finds exactly the data.
func expectDig(t *testing.T, l *lab.Lab, from *lab.Namespace, name, qtype string, want ...string) {
	t.Helper()
	slices.Sort(want)
	status, got := dig(timeout(t, patience), t, l, from, name, qtype)
	if status != "NOERROR" || !slices.Equal(got, want) {
		t.Errorf("dig %s %s: %s %q, expected %q", name, qtype, status, got, want)
	}
}

// expectNXDOMAIN fails unless dig learns that there is no such name.
func expectNXDOMAIN(t *testing.T, l *lab.Lab, from *lab.Namespace, name, qtype string) {
	t.Helper()
	if status, got := dig(timeout(t, patience), t, l, from, name, qtype); status != "NXDOMAIN" {
		t.Errorf("dig %s %s: %s %q, expected NXDOMAIN", name, qtype, status, got)
	}
}
