package dicom

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// startNamed runs BIND's server with the zones until the test ends. Its configuration begins with
// statements, and has options in the block of each zone.
func startNamed(t *testing.T, zones []*sample, statements, options string) (address string) {
	t.Helper()
	path, err := exec.LookPath("named")
	if err != nil {
		if path = "/usr/sbin/named"; !exists(path) {
			t.Skip("named (BIND 9) is not installed")
		}
	}
	dir := t.TempDir()
	port := freePort(t)
	address = fmt.Sprintf("127.0.0.1:%d", port)
	conf := fmt.Sprintf(`options {
	directory "%s"; pid-file none; session-keyfile none; lock-file none;
	listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; notify no; allow-transfer { 127.0.0.1; }; empty-zones-enable no;
	minimal-responses no; zero-no-soa-ttl no; check-integrity no; check-names primary ignore; check-mx ignore; check-wildcard no;
};
controls { };
%s
`, dir, port, statements)
	for _, z := range zones {
		conf += fmt.Sprintf("zone %q { type primary; file %q; %s };\n", strings.TrimSuffix(z.origin, "."), write(t, dir, z.origin+"zone", z.text), options)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(path, "-g", "-n", "1", "-c", write(t, dir, "named.conf", conf))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// How it ends says nothing, and it may have ended by itself.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		said, _ := os.ReadFile(log.Name())
		if strings.Contains(string(said), "not loaded due to errors") {
			t.Fatalf("named does not load a zone:\n%s", said)
		}
		if strings.Contains(string(said), "\nrunning") || strings.Contains(string(said), " running\n") {
			return address
		}
		if time.Now().After(deadline) {
			t.Fatalf("named does not start:\n%s", said)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

var acceptedOfNamed = []accepted{
	{"the zone's NS beside a positive answer", "RFC 1034 section 4.3.2 step 3a asks for none", zoneNS},
	{"the case of names made from a wildcard or a DNAME", "RFC 4343 section 4.1: those have no case of their own", synthesizedCase},
	{"ANY brings all RRsets", "RFC 8482 section 4.1: one is enough", oneOfAny},
	{"a chain of more than 11 aliases is an error", "RFC 1034 section 3.6.2: chains should be followed", longChain},
	{"other choices beside a service binding", "RFC 9460 section 4.1: A, AAAA and SVCB of the target", aliasBeside},
	{"addresses from below a DNAME", "RFC 6672 section 2.4: nothing may stand there", hiddenGlue},
	{"additional data from wildcards", "RFC 1034 section 4.3.2 step 6: may be useful", wildcardBeside},
	{"additional data for PTR", "RFC 6763 section 12.1", moreServices},
	{"a referral's servers outside the child: their addresses, too", "RFC 1034 section 4.3.2 step 3b: whatever addresses are available", moreGlue},
}

// moreGlue accepts more addresses in a referral than theirs.
func moreGlue(z *sample, q dns.Question, ours, theirs *reading) bool {
	if !ours.ns.only("ns") || !slices.Equal(ours.ns, theirs.ns) || !theirs.extra.within(ours.extra) {
		return false
	}
	theirs.extra = ours.extra
	return true
}

// moreServices accepts more beside records that point at services.
func moreServices(z *sample, q dns.Question, ours, theirs *reading) bool {
	alias := ours.answer.has("cname") // into another zone, for file
	if !alias && !ours.answer.has("ptr") && !ours.answer.has("afsdb") || !theirs.extra.within(ours.extra) {
		return false
	}
	theirs.extra = ours.extra
	return true
}

// aliasBeside accepts other additional data of service bindings, if what both
// send is the same. How far named follows aliases, and which, is its own.
func aliasBeside(z *sample, q dns.Question, ours, theirs *reading) bool {
	if !ours.answer.has("https") && !ours.answer.has("svcb") {
		return false
	}
	sets := func(s, o section) section { // the records of s whose RRset o has, too
		of := func(line string) string { return strings.Join(strings.Split(line, "\t")[:4], " ") }
		return slices.DeleteFunc(slices.Clone(s), func(line string) bool {
			return !slices.ContainsFunc(o, func(other string) bool { return of(other) == of(line) })
		})
	}
	if !slices.Equal(sets(ours.extra, theirs.extra), sets(theirs.extra, ours.extra)) {
		return false
	}
	theirs.extra = ours.extra
	return true
}

// hiddenGlue takes addresses out that stand below a DNAME.
func hiddenGlue(z *sample, q dns.Question, ours, theirs *reading) bool {
	before := len(theirs.extra)
	theirs.extra = slices.DeleteFunc(slices.Clone(theirs.extra), func(line string) bool {
		owner, _, _ := strings.Cut(line, "\t")
		return z.below(owner, dns.TypeDNAME)
	})
	return len(theirs.extra) < before
}

// longChain accepts more of a chain than named follows: it gives up at 12.
func longChain(z *sample, q dns.Question, ours, theirs *reading) bool {
	if theirs.rcode != "SERVFAIL" || theirs.answer.types()["cname"] < 12 || !theirs.answer.within(ours.answer) {
		return false
	}
	*theirs = *ours
	return true
}

// wildcardBeside takes additional data out that theirs made from a wildcard.
func wildcardBeside(z *sample, q dns.Question, ours, theirs *reading) bool {
	before := len(theirs.extra)
	theirs.extra = slices.DeleteFunc(slices.Clone(theirs.extra), func(line string) bool {
		owner, _, _ := strings.Cut(line, "\t")
		return !z.holds(owner)
	})
	return len(theirs.extra) < before
}

// zoneNS takes the NS records of the zone, and the addresses that came with
// them, out of an answer that is neither a referral nor negative.
func zoneNS(z *sample, q dns.Question, ours, theirs *reading) bool {
	if len(theirs.answer) == 0 || len(ours.ns) > 0 || !theirs.ns.only("ns") {
		return false
	}
	hosts := map[string]bool{}
	for _, line := range theirs.ns {
		hosts[strings.ToLower(line[strings.LastIndexByte(line, '\t')+1:])] = true
	}
	theirs.ns = nil
	theirs.extra = slices.DeleteFunc(slices.Clone(theirs.extra), func(line string) bool {
		owner, _, _ := strings.Cut(line, "\t")
		return hosts[owner] && !slices.Contains(ours.extra, line)
	})
	return true
}

// synthesizedCase takes the case of our answers' names where theirs differ in
// nothing else and are not the zone's.
func synthesizedCase(z *sample, q dns.Question, ours, theirs *reading) bool {
	changed := false
	theirs.answer = slices.Clone(theirs.answer)
	for i, line := range theirs.answer {
		owner, data, _ := strings.Cut(line, "\t")
		for _, our := range ours.answer {
			ourOwner, ourData, _ := strings.Cut(our, "\t")
			if owner != ourOwner && strings.EqualFold(owner, ourOwner) && strings.EqualFold(data, ourData) && !z.holds(owner) {
				theirs.answer[i] = our
				changed = true
			}
		}
	}
	slices.Sort(theirs.answer)
	return changed
}

// oneOfAny takes what is one RRset of several for all.
func oneOfAny(z *sample, q dns.Question, ours, theirs *reading) bool {
	if q.Qtype != dns.TypeANY || len(ours.answer) == 0 || len(ours.answer.types()) > 1 || !ours.answer.within(theirs.answer) {
		return false
	}
	theirs.answer = ours.answer
	return true
}

func TestAnswersAreThoseOfNamed(t *testing.T) {
	r := seedOf(t, 1)
	sizes := []int{600}
	for i := range 60 {
		sizes = append(sizes, 3+i)
	}
	zones := samples(r, false, sizes...)
	named := newAsker(t, startNamed(t, zones, "", ""))
	dicom := newAsker(t, serve(t, zones, dicomDirective).address("tcp"))
	c := newComparison(acceptedOfNamed)
	for i, z := range zones {
		n := 60
		if i == 0 {
			n = 2000
		}
		for range n {
			q := z.question(r)
			c.compare(t, z, q, read(dicom.ask(t, q), exactText), read(named.ask(t, q), exactText))
		}
	}
	c.done(t)
}
