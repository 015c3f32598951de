package zone_test

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// ask looks a question up that stands in one string: name, type.
func ask(t *testing.T, q string, seed ...string) []string {
	t.Helper()
	i := strings.LastIndexByte(q, ' ')
	res := memory(t, seed...).Snapshot().Lookup(q[:i], dns.StringToType[q[i+1:]])
	out := []string{dns.RcodeToString[res.Rcode]}
	for _, section := range [][]dns.RR{res.Answer, res.Ns, res.Extra} {
		out = append(out, strings.Join(text(section), "; "))
	}
	return out
}

func wantSections(t *testing.T, got []string, want ...string) {
	t.Helper()
	for i, name := range []string{"rcode", "answer", "authority", "additional"} {
		if got[i] != want[i] {
			t.Errorf("%s\n got %s\nwant %s", name, got[i], want[i])
		}
	}
}

func TestLoopIsAnError(t *testing.T) { // RFC 1034 section 3.6.2
	tests := []struct {
		name, q string
		seed    []string
		answer  string
	}{
		{"CNAME", "c.example.org. A", []string{"c.example.org. 5 IN CNAME d.example.org.", "d.example.org. 5 IN CNAME C.example.org."},
			"c.example.org. 5 CNAME d.example.org.; d.example.org. 5 CNAME C.example.org."},
		{"CNAME to itself", "c.example.org. A", []string{"c.example.org. 5 IN CNAME c.example.org."}, "c.example.org. 5 CNAME c.example.org."},
		{"wildcard", "a.w.example.org. A", []string{"*.w.example.org. 5 IN CNAME b.w.example.org."},
			"a.w.example.org. 5 CNAME b.w.example.org.; b.w.example.org. 5 CNAME b.w.example.org."},
		{"DNAME", "a.d.example.org. A", []string{"d.example.org. 5 IN DNAME d.example.org."},
			"a.d.example.org. 5 CNAME a.d.example.org.; d.example.org. 5 DNAME d.example.org."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantSections(t, ask(t, tt.q, tt.seed...), "SERVFAIL", tt.answer, "", "")
		})
	}
}

func TestAliasThatIsAskedForIsNoLoop(t *testing.T) {
	wantSections(t, ask(t, "c.example.org. CNAME", "c.example.org. 5 IN CNAME c.example.org."), "NOERROR", "c.example.org. 5 CNAME c.example.org.", "", "")
}

func TestDNAMEStandsInTheAnswerOnce(t *testing.T) { // RFC 2181 section 5
	seed := []string{"b.example.org. 5 IN DNAME example.org."}
	for _, tt := range []struct{ name, q, answer string }{
		{"passed twice", "www.b.b.example.org. A", "b.example.org. 5 DNAME example.org.; www.b.b.example.org. 5 CNAME www.b.example.org.; www.b.example.org. 5 CNAME www.example.org.; www.example.org. 300 A 192.0.2.1"},
		{"passed and asked for", "b.b.example.org. DNAME", "b.b.example.org. 5 CNAME b.example.org.; b.example.org. 5 DNAME example.org."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantSections(t, ask(t, tt.q, seed...), "NOERROR", tt.answer, "", "")
		})
	}
}

func TestGrowingDNAMEIsBounded(t *testing.T) {
	res := memory(t, "d.example.org. 5 IN DNAME d.d.example.org.").Snapshot().Lookup("a.d.example.org.", dns.TypeA)
	if res.Rcode != dns.RcodeSuccess || len(res.Answer) != 17 { // 16 CNAME and the DNAME
		t.Fatalf("%s, %d records", dns.RcodeToString[res.Rcode], len(res.Answer))
	}
}
