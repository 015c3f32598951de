package dicom

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// An asker asks one server over one TCP connection: nothing is lost or cut.
type asker struct {
	conn *dns.Conn
	id   uint16
}

func newAsker(t *testing.T, address string) *asker {
	t.Helper()
	conn, err := dns.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &asker{conn: conn}
}

func (a *asker) ask(t *testing.T, q dns.Question) *dns.Msg {
	t.Helper()
	a.id++
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: a.id}, Question: []dns.Question{q}}
	if err := a.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := a.conn.WriteMsg(m); err != nil {
		t.Fatalf("asking %s: %v", q.String(), err)
	}
	r, err := a.conn.ReadMsg()
	if err != nil {
		t.Fatalf("asking %s: %v", q.String(), err)
	}
	if r.Id != a.id || len(r.Question) != 1 || r.Question[0] != q {
		t.Fatalf("asking %s: answer to another question: %v", q.String(), r)
	}
	return r
}

// samples makes random zones. If they are linked, some aliases of one zone
// point into the next.
func samples(r *rand.Rand, linked bool, sizes ...int) []*sample {
	origins := make([]string, len(sizes))
	for i := range origins {
		origins[i] = fmt.Sprintf("z%d.example.org.", i)
	}
	out := make([]*sample, len(sizes))
	for i, size := range sizes {
		var others []string
		if linked {
			others = origins[(i+1)%len(origins):][:1]
		}
		out[i] = newSample(r, origins[i], size, others)
	}
	for i, z := range out {
		if linked {
			z.next = out[(i+1)%len(out)]
		}
	}
	return out
}

const dicomDirective = "dicom {\n\t\tfile %s\n\t\tallow key. * *\n\t}"

// serve starts one CoreDNS that has all the zones by the given plugin.
func serve(t *testing.T, zones []*sample, directive string) *server {
	t.Helper()
	dir := t.TempDir()
	var corefile strings.Builder
	for _, z := range zones {
		path := write(t, dir, z.origin+"zone", z.text)
		fmt.Fprintf(&corefile, "%s:0 {\n\tbind 127.0.0.1\n\t%s\n}\n", z.origin, fmt.Sprintf(directive, path))
	}
	return start(t, corefile.String())
}

func exactText(rr dns.RR) string { return rr.String() }

// A reading is what of a response is compared.
type reading struct {
	rcode             string
	aa                bool
	answer, ns, extra section
}

// A section is a set of records, sorted.
type section []string

func read(m *dns.Msg, text func(dns.RR) string) *reading {
	sect := func(rrs []dns.RR) section {
		var out section
		for _, rr := range rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				out = append(out, text(rr))
			}
		}
		slices.Sort(out)
		return out
	}
	return &reading{rcode: dns.RcodeToString[m.Rcode], aa: m.Authoritative, answer: sect(m.Answer), ns: sect(m.Ns), extra: sect(m.Extra)}
}

func (r *reading) String() string {
	return fmt.Sprintf("%s aa=%t\n    answer     %s\n    authority  %s\n    additional %s", r.rcode, r.aa,
		strings.Join(r.answer, "\n               "), strings.Join(r.ns, "\n               "), strings.Join(r.extra, "\n               "))
}

// differ tells what differs between two readings: a set of rcode, aa, answer,
// authority, additional; "" if nothing.
func differ(a, b *reading) string {
	var out []string
	if a.rcode != b.rcode {
		out = append(out, "rcode")
	}
	if a.aa != b.aa {
		out = append(out, "aa")
	}
	if !slices.Equal(a.answer, b.answer) {
		out = append(out, "answer")
	}
	if !slices.Equal(a.ns, b.ns) {
		out = append(out, "authority")
	}
	if !slices.Equal(a.extra, b.extra) {
		out = append(out, "additional")
	}
	return strings.Join(out, " ")
}

// types counts the records of a section by type.
func (s section) types() map[string]int {
	out := map[string]int{}
	for _, line := range s {
		out[strings.ToLower(strings.Split(line, "\t")[3])]++
	}
	return out
}

// only reports whether all records of a section, and at least one, have the type.
func (s section) only(t string) bool { return len(s) > 0 && s.types()[t] == len(s) }

func (s section) has(t string) bool { return s.types()[t] > 0 }

// within reports whether s is a subset of o.
func (s section) within(o section) bool {
	return !slices.ContainsFunc(s, func(line string) bool { return !slices.Contains(o, line) })
}

// end is the name at which the aliases of the answer end.
func (r *reading) end(name string) string {
	for range r.answer {
		for _, line := range r.answer {
			f := strings.Split(line, "\t")
			if strings.EqualFold(f[3], "CNAME") && strings.EqualFold(f[0], name) {
				name = f[4]
			}
		}
	}
	return name
}

// An accepted difference is one that is not a bug of ours.
type accepted struct {
	name string
	rfc  string // what settles it
	// applies judges the two responses, and changes theirs to what remains to
	// be compared.
	applies func(z *sample, q dns.Question, ours, theirs *reading) bool
}

// A comparison applies what is accepted, and counts.
type comparison struct {
	list  []accepted
	used  []int
	asked int
	wrong int
}

func newComparison(list []accepted) *comparison {
	return &comparison{list: list, used: make([]int, len(list))}
}

const maxWrong = 12 // differences shown

// compare reports every difference that is not accepted. The records of the
// zone are shown with it.
func (c *comparison) compare(t *testing.T, s *sample, q dns.Question, ours, theirs *reading) {
	t.Helper()
	c.asked++
	before := *theirs
	for i, a := range c.list {
		if differ(ours, theirs) == "" {
			return
		}
		was := *theirs
		if a.applies(s, q, ours, theirs) {
			c.used[i]++
		} else {
			*theirs = was
		}
	}
	what := differ(ours, theirs)
	if what == "" {
		return
	}
	if c.wrong++; c.wrong > maxWrong {
		return
	}
	text := s.text
	if len(text) > 5000 {
		path := filepath.Join(os.TempDir(), "dicom-differential-"+s.origin+"zone")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
		text = path
	}
	t.Errorf("%s %s differs in %s\n  ours: %s\n  theirs: %s\n%s", q.Name, dns.Type(q.Qtype), what, ours, &before, text)
}

// done checks that the list is no longer than it must be.
func (c *comparison) done(t *testing.T) {
	t.Helper()
	for i, a := range c.list {
		t.Logf("%6d of %d  %s (%s)", c.used[i], c.asked, a.name, a.rfc)
		if c.used[i] == 0 && os.Getenv(seedVariable) == "" {
			t.Errorf("no answer differs as accepted: %s (%s)", a.name, a.rfc)
		}
	}
	if c.wrong > 0 {
		t.Errorf("%d of %d answers differ", c.wrong, c.asked)
	}
}
