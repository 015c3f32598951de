package dicom

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/coredns/coredns/plugin/file"

	"github.com/miekg/dns"
)

// foldedText is a record in lower case, as file stores most names.
func foldedText(rr dns.RR) string { return strings.ToLower(rr.String()) }

var acceptedOfFile = []accepted{
	{"one DNAME record more than once", "RFC 2181 section 5: an RRset has no duplicates", duplicate},
	{"a chain of more than 8 aliases is an error", "RFC 1034 section 3.6.2: chains should be followed", longer},
	{"the zone's NS beside a positive answer", "RFC 1034 section 4.3.2 step 3a asks for none", zoneNS},
	{"the SOA record of a negative answer keeps its own TTL", "RFC 2308 section 3", negativeTTL},
	{"ANY is NODATA, or follows aliases", "RFC 8482 section 4.1: one RRset of what is there", noANY},
	{"after an alias, no data is not said with the SOA record", "RFC 2308 section 2.2", aliasToNoData},
	{"a wildcard answers for empty non-terminals", "RFC 4592 section 2.2.2: those exist", wildcardForEmpty},
	{"a chain that ends badly in another zone has the SOA record of the first", "RFC 2308 section 2.1", otherSOA},
	{"an alias that ends at a delegation in another zone, or behind a DNAME, brings no referral", "RFC 1034 section 4.3.2 step 3b", aliasToReferral},
	{"an alias finds what a DNAME hides", "RFC 6672 section 3.2: the DNAME redirects", aliasBehindDNAME},
	{"a loop of aliases is an error without records, or none", "RFC 1034 section 3.6.2: signalled as an error", loop},
	{"addresses from below a DNAME", "RFC 6672 section 2.4: nothing may stand there", hiddenGlue},
	{"glue outside referrals", "RFC 4035 section 2.2, RFC 2181 section 5.4.1: it is not the zone's data", glueBeside},
	{"a referral's servers outside the child: their addresses, too", "RFC 1034 section 4.3.2 step 3b: whatever addresses are available", moreGlue},
	{"additional data for PTR and AFSDB, for NS behind an alias, and of other zones", "RFC 6763 section 12.1, RFC 1183 section 1, RFC 1034 section 4.3.2 step 6", moreServices},
	{"other choices beside a service binding", "RFC 9460 section 4.1: A, AAAA and SVCB of the target", aliasBeside},
}

// negativeTTL gives their SOA record in the authority section our TTL.
func negativeTTL(z *sample, q dns.Question, ours, theirs *reading) bool {
	if !ours.ns.only("soa") || len(ours.ns) != 1 || len(theirs.ns) != 1 || strings.Replace(theirs.ns[0], "\t106\t", "\t60\t", 1) != ours.ns[0] {
		return false
	}
	theirs.ns = ours.ns
	return true
}

// noANY takes one RRset, or the two that a DNAME makes.
func noANY(z *sample, q dns.Question, ours, theirs *reading) bool {
	types := ours.answer.types()
	delete(types, "dname")
	if q.Qtype != dns.TypeANY || ours.rcode != "NOERROR" || len(ours.answer) == 0 || len(types) > 1 ||
		len(theirs.answer) > 0 && !ours.answer.within(theirs.answer) {
		return false
	}
	*theirs = *ours
	return true
}

// aliasToNoData takes our SOA record for their NS records.
func aliasToNoData(z *sample, q dns.Question, ours, theirs *reading) bool {
	if ours.rcode != "NOERROR" || !ours.ns.only("soa") || !ours.answer.has("cname") || !theirs.ns.only("ns") || ours.answer.types()["cname"]+ours.answer.types()["dname"] != len(ours.answer) {
		return false
	}
	theirs.ns = ours.ns
	return true
}

// aliasToReferral takes our referral after the same answer.
func aliasToReferral(z *sample, q dns.Question, ours, theirs *reading) bool {
	if ours.rcode != "NOERROR" || !ours.ns.only("ns") || !ours.answer.has("cname") || !slices.Equal(ours.answer, theirs.answer) || theirs.rcode != "NOERROR" {
		return false
	}
	theirs.ns, theirs.extra = ours.ns, ours.extra
	return true
}

// aliasBehindDNAME takes our answer, which goes on by way of a DNAME where theirs
// stops.
func aliasBehindDNAME(z *sample, q dns.Question, ours, theirs *reading) bool {
	hidden := slices.ContainsFunc(theirs.answer, func(line string) bool {
		owner, _, _ := strings.Cut(line, "\t")
		return !(section{line}).has("cname") && z.below(owner, dns.TypeDNAME)
	})
	if !ours.answer.has("dname") || !ours.answer.has("cname") || len(theirs.answer) >= len(ours.answer) && !hidden || z.below(q.Name, dns.TypeDNAME) && !theirs.answer.has("dname") {
		return false
	}
	*theirs = *ours
	return true
}

// duplicate takes repeated records out.
func duplicate(z *sample, q dns.Question, ours, theirs *reading) bool {
	before := len(theirs.answer)
	theirs.answer = slices.Compact(slices.Clone(theirs.answer))
	return len(theirs.answer) < before
}

// loop takes a loop that is one.
func loop(z *sample, q dns.Question, ours, theirs *reading) bool {
	asked := q.Qtype == dns.TypeCNAME && theirs.rcode == "SERVFAIL" // its CNAME record is then the answer
	if ours.rcode != "SERVFAIL" && !asked || !slices.ContainsFunc(ours.answer, func(line string) bool {
		return strings.EqualFold(strings.Split(line, "\t")[0], ours.end(q.Name))
	}) {
		return false
	}
	*theirs = *ours
	return true
}

// longer takes a chain that is longer than file follows.
func longer(z *sample, q dns.Question, ours, theirs *reading) bool {
	if ours.answer.types()["cname"] < 9 || len(theirs.answer) > 0 && !theirs.answer.within(ours.answer) {
		return false
	}
	*theirs = *ours
	return true
}

// glueBeside takes addresses of delegated names out.
func glueBeside(z *sample, q dns.Question, ours, theirs *reading) bool {
	if ours.ns.only("ns") {
		return false
	}
	before := len(theirs.extra)
	theirs.extra = slices.DeleteFunc(slices.Clone(theirs.extra), func(line string) bool {
		owner, _, _ := strings.Cut(line, "\t")
		return z.below("x."+owner, dns.TypeNS)
	})
	return len(theirs.extra) < before
}

// wildcardForEmpty takes NODATA for whatever a wildcard gave.
func wildcardForEmpty(z *sample, q dns.Question, ours, theirs *reading) bool {
	if ours.rcode != "NOERROR" || !ours.ns.only("soa") || !z.empty(ours.end(q.Name)) {
		return false
	}
	*theirs = *ours
	return true
}

// otherSOA takes our SOA record for theirs after an alias.
func otherSOA(z *sample, q dns.Question, ours, theirs *reading) bool {
	if !ours.ns.only("soa") || !theirs.ns.only("soa") || !ours.answer.has("cname") || strings.HasPrefix(ours.ns[0], z.origin) {
		return false
	}
	theirs.ns = ours.ns
	return true
}

const seedVariable = "DICOM_SEED"

// seedOf is the randomness of a test: fixed, unless the environment has another
// seed.
func seedOf(t *testing.T, fixed uint64) *rand.Rand {
	t.Helper()
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if fixed, err = strconv.ParseUint(s, 0, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedVariable, fixed)
	return rand.New(rand.NewPCG(fixed, 4592))
}

// TestAnswersAreThoseOfFile compares with CoreDNS's file plugin, from which
// dynupdate takes its answers.
func TestAnswersAreThoseOfFile(t *testing.T) {
	r := seedOf(t, 1)
	var sizes []int
	for i := range 80 {
		sizes = append(sizes, 3+i/2)
	}
	zones := samples(r, true, sizes...)
	// file keeps case and escapes of an SRV record's owner and then does not find
	// it by others (RFC 4343 section 3): it gets the names in one form.
	forFile := make([]*sample, len(zones))
	for i, z := range zones {
		forFile[i] = &sample{origin: z.origin, text: z.folded()}
	}
	file := newAsker(t, serve(t, forFile, "file %s {\n\t\treload 0\n\t}").address("tcp"))
	dicom := newAsker(t, serve(t, zones, dicomDirective).address("tcp"))
	c := newComparison(acceptedOfFile)
	for _, z := range zones {
		for range 80 {
			q := z.question(r)
			c.compare(t, z, q, read(dicom.ask(t, q), foldedText), read(file.ask(t, q), foldedText))
		}
	}
	c.done(t)
}

// TestAliasToWhatIsNotHere: an alias to a name that nothing here answers for is
// a complete answer, and REFUSED or SERVFAIL would make the resolver drop it.
func TestAliasToWhatIsNotHere(t *testing.T) {
	z := write(t, t.TempDir(), "zone", seedZone+"far 60 IN CNAME www.example.net.\ngone 60 IN DNAME example.net.\n")
	for _, origin := range []string{domain + ":0", ".:0"} {
		t.Run(origin, func(t *testing.T) {
			s := start(t, fmt.Sprintf("%s {\n\tbind 127.0.0.1\n\tdicom %s {\n\t\tfile %s\n\t\tallow key. * *\n\t}\n}\n", origin, domain, z))
			for _, name := range []string{"far.", "a.gone."} {
				r := s.query(t, name+domain, "A")
				if r.Rcode != dns.RcodeSuccess || !r.Authoritative || len(r.Answer) == 0 || len(r.Ns)+len(r.Extra) > 0 {
					t.Errorf("%v", r)
				}
			}
		})
	}
}

// TestAliasKeepsTheNegativeAnswer: where a chain goes on in another zone and
// ends there without data, that zone's SOA record stands in the answer (RFC
// 2308 section 2.1), also if the other zone has an alias, too.
func TestAliasKeepsTheNegativeAnswer(t *testing.T) {
	dir := t.TempDir()
	one := write(t, dir, "one", seedZone+"c 60 IN CNAME c.example.net.\n")
	two := write(t, dir, "two", strings.ReplaceAll(seedZone, domain, "example.net.")+"c 60 IN CNAME none\n")
	s := start(t, fmt.Sprintf("%s:0 {\n\tbind 127.0.0.1\n\tdicom {\n\t\tfile %s\n\t\tallow key. * *\n\t}\n}\nexample.net:0 {\n\tbind 127.0.0.1\n\tdicom {\n\t\tfile %s\n\t\tallow key. * *\n\t}\n}\n", domain, one, two))
	r := s.query(t, "c."+domain, "A")
	if r.Rcode != dns.RcodeNameError || len(r.Answer) != 2 || len(r.Ns) != 1 || r.Ns[0].Header().Name != "example.net." {
		t.Errorf("%v", r)
	}
}

// TestDSIsTheParents: a server of both zones answers for DS from the one above
// (RFC 4035 section 3.1.4.1).
func TestDSIsTheParents(t *testing.T) {
	s := start(t, fmt.Sprintf(".:0 {\n\tbind 127.0.0.1\n\tdicom %s child.%s {\n\t\tsite %s\n\t}\n}\n", domain, domain, write(t, t.TempDir(), "site.yaml", siteYAML)))
	for q, want := range map[string]string{"child." + domain: domain, "a.child." + domain: "child." + domain, domain: domain} {
		r := s.query(t, q, "DS")
		if len(r.Ns) != 1 || r.Ns[0].Header().Name != want {
			t.Errorf("%s: %v", q, r)
		}
	}
}
