package dicom

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// An outcome is all that is seen of a request: the response, and the zone after it.
type outcome struct {
	response string
	rcode    int
	zone     []string
}

// send sends the octets of a request and reads the response.
func (s *server) send(network string, wire []byte, mac, secret string, silent bool) (string, int, error) {
	c, err := dns.DialTimeout(network, s.address(network), patience)
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	late := patience
	if silent {
		late = 300 * time.Millisecond
	}
	if err := c.SetDeadline(time.Now().Add(late)); err != nil {
		return "", 0, err
	}
	if _, err := c.Write(wire); err != nil {
		return "", 0, err
	}
	octets, err := c.ReadMsgHeader(nil)
	if err != nil && silent {
		return "no response", -1, nil
	}
	if err != nil {
		return "", 0, err
	}
	m := new(dns.Msg)
	if err := m.Unpack(octets); err != nil {
		return "", 0, err
	}
	signature := "not signed"
	if sig := m.IsTsig(); sig != nil {
		signature = fmt.Sprintf("signed by %s with %s, error %s, MAC of %d", sig.Hdr.Name, sig.Algorithm, dns.RcodeToString[int(sig.Error)], sig.MACSize)
		if sig.MACSize > 0 {
			if err := dns.TsigVerify(octets, secret, mac, false); err != nil {
				signature += ": " + err.Error()
			}
		}
		m.Extra = m.Extra[:len(m.Extra)-1]
	}
	return fmt.Sprintf("%v\n%v\n%v\n%v\n%v\n%s", m.MsgHdr, m.Question, m.Answer, m.Ns, m.Extra, signature), m.Rcode, nil
}

// do sends the request and tells what came of it.
func (s *server) do(t *testing.T, network string, wire []byte, mac, secret string, silent bool) outcome {
	t.Helper()
	var o outcome
	var err error
	if o.response, o.rcode, err = s.send(network, wire, mac, secret, silent); err != nil {
		t.Fatal(err)
	}
	o.zone = s.transfer(t)
	return o
}

// transfer returns the zone with its names in lower case: file, which answers for
// dynupdate, does not keep the case of most (RFC 4343 section 4.1 does).
func (s *server) transfer(t *testing.T) []string {
	t.Helper()
	all := s.axfr(t)
	for i, line := range all {
		f := strings.SplitN(line, "\t", 5)
		f[0] = strings.ToLower(f[0])
		switch f[3] {
		case "NS", "MX", "SRV", "CNAME", "DNAME", "PTR", "SOA":
			f[4] = strings.ToLower(f[4])
		}
		all[i] = strings.Join(f, "\t")
	}
	slices.Sort(all[1 : len(all)-1])
	return all
}

// dropInBlock is a Corefile of dynupdate. For dicom the word changes.
func dropInBlock(dir, word, tsig string) string {
	return fmt.Sprintf(`imaging.example.org:0 {
	bind 127.0.0.1
	errors
	tsig {
		secret %s %s
		secret %s %s
		secret %s %s
		%s
	}
	transfer {
		to *
	}
	%s {
		file %s
		database %s
		max_records 80
		max_bytes 8000
		max_update_records 20
		allow %s * *
		allow %s *.sub.imaging.example.org A TXT
		allow %s own.imaging.example.org A TXT ANY
		allow %s @ MX
	}
}
`, key, secret, narrowKey, otherSecret, idleKey, secret, tsig, word, filepath.Join(dir, "zone"), filepath.Join(dir, "db"),
		key, narrowKey, narrowKey, narrowKey)
}

// A pair is a server with dynupdate and one with dicom, of the same Corefile but
// for that word.
type pair struct {
	ours, theirs       *server
	ourZone, theirZone []string
	used               []int // of acceptedOfDynupdate
}

func (p *pair) start(t *testing.T, dir, tsig string) {
	t.Helper()
	for word, s := range map[string]**server{"dicom": &p.ours, "dynupdate": &p.theirs} {
		below := filepath.Join(dir, word)
		if err := os.Mkdir(below, 0o700); err == nil {
			write(t, below, "zone", keptSeed)
		} else if !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
		*s = start(t, dropInBlock(below, word, tsig))
	}
	p.ourZone, p.theirZone = p.ours.transfer(t), p.theirs.transfer(t)
	if !slices.Equal(p.ourZone[1:], p.theirZone[1:]) {
		t.Fatalf("the zones differ at the start\n  ours: %v\n  theirs: %v", p.ourZone, p.theirZone)
	}
}

// A deviation is a difference from dynupdate that is intended.
type deviation struct {
	name string
	why  string
	// applies reports whether the difference is this one, and no other.
	applies func(m *dns.Msg, before []string, ours, theirs *outcome) bool
}

var acceptedOfDynupdate = []deviation{
	{"an RRset may have several TTLs", "RFC 2181 section 5.2: it has one", oneTTL},
	{"what adds and takes away again takes a serial", "RFC 2136 section 3.6: the serial follows a change of the zone", nothingInAll},
	{"types that the library does not know are malformed", "RFC 3597 section 3: servers treat them as opaque data", unknownType},
	{"NXNAME is a type of data", "RFC 9824 section 3.4: NXNAME is a meta type, RFC 2136 section 3.4.1.2: those are malformed", metaTypes},
	{"data may be missing, or end before its name", "RFC 2136 section 3.4.1.3, RFC 1035 sections 3.3.9, 3.3.14 and 3.4.1: that is malformed", withoutData},
	{"data may end early, or be what its type does not allow", "RFC 2136 section 3.4.1.3, RFC 6698 section 2.1, RFC 8659 section 4.1: that is malformed", oddlyFormed},
	{"a TTL may have its highest bit set", "RFC 2181 section 8: it is then 0", largeTTL},
	{"a name may have several DNAME records", "RFC 6672 section 2.4: it has one, and the last replaces it as RFC 2136 section 3.4.2.2 has it for CNAME", oneDNAME},
}

// oneTTL takes the TTL of our RRset, which a record of the request has.
func oneTTL(m *dns.Msg, before []string, ours, theirs *outcome) bool {
	plain := func(lines []string) (out []string) {
		for _, line := range lines {
			f := strings.SplitN(line, "\t", 5)
			f[1] = ""
			out = append(out, strings.Join(f, "\t"))
		}
		slices.Sort(out)
		return out
	}
	odd := only(ours.zone, theirs.zone)
	for _, line := range odd {
		f := strings.Fields(line)
		if !slices.ContainsFunc(m.Ns, func(rr dns.RR) bool {
			h := rr.Header()
			return h.Class == dns.ClassINET && strings.EqualFold(h.Name, f[0]) && dns.Type(h.Rrtype).String() == f[3] && fmt.Sprint(h.Ttl) == f[1]
		}) {
			return false
		}
	}
	return ours.response == theirs.response && ours.zone[0] == theirs.zone[0] && slices.Equal(plain(odd), plain(only(theirs.zone, ours.zone)))
}

// alike compares all but those records that differ, for which is holds.
func alike(ours, theirs *outcome, is func(line string) bool) bool {
	odd := append(only(ours.zone, theirs.zone), only(theirs.zone, ours.zone)...)
	return ours.response == theirs.response && ours.zone[0] == theirs.zone[0] && !slices.ContainsFunc(odd, func(line string) bool { return !is(line) })
}

func largeTTL(m *dns.Msg, before []string, ours, theirs *outcome) bool {
	return alike(ours, theirs, func(line string) bool {
		ttl, err := strconv.ParseUint(strings.Fields(line)[1], 10, 32)
		return err == nil && (ttl == 0 || ttl > 1<<31-1)
	})
}

func oneDNAME(m *dns.Msg, before []string, ours, theirs *outcome) bool {
	owners := make(map[string]bool)
	for _, line := range ours.zone {
		if f := strings.Fields(line); f[3] == "DNAME" {
			if owners[f[0]] {
				return false
			}
			owners[f[0]] = true
		}
	}
	return alike(ours, theirs, func(line string) bool { return strings.Fields(line)[3] == "DNAME" })
}

// nothingInAll takes our serial where the zone is as it was.
func nothingInAll(m *dns.Msg, before []string, ours, theirs *outcome) bool {
	return ours.rcode == dns.RcodeSuccess && ours.response == theirs.response && slices.Equal(ours.zone, before) && len(m.Ns) > 1 &&
		len(only(ours.zone, theirs.zone))+len(only(theirs.zone, ours.zone)) == 0
}

// anyRecord reports whether a record of either section is so.
func anyRecord(m *dns.Msg, is func(h *dns.RR_Header) bool) bool {
	return slices.ContainsFunc(append(slices.Clone(m.Answer), m.Ns...), func(rr dns.RR) bool { return is(rr.Header()) })
}

func unknownType(m *dns.Msg, before []string, ours, theirs *outcome) bool {
	return theirs.rcode == dns.RcodeFormatError && ours.rcode != dns.RcodeFormatError && slices.Equal(theirs.zone, before) && anyRecord(m, func(h *dns.RR_Header) bool {
		_, known := dns.TypeToRR[h.Rrtype]
		return !known && (h.Rrtype < 128 || h.Rrtype > 255)
	})
}

func metaTypes(m *dns.Msg, before []string, ours, theirs *outcome) bool {
	return ours.rcode == dns.RcodeFormatError && slices.Equal(ours.zone, before) && anyRecord(m, func(h *dns.RR_Header) bool { return h.Rrtype == dns.TypeNXNAME })
}

func withoutData(m *dns.Msg, before []string, ours, theirs *outcome) bool {
	empty := func(rr dns.RR) bool {
		_, bare := rr.(*dns.ANY)
		raw, short := rr.(*dns.RFC3597)
		return (bare || short && raw.Hdr.Rrtype == dns.TypeMX) && rr.Header().Class == dns.ClassINET && rr.Header().Rrtype != dns.TypeANY
	}
	return ours.rcode == dns.RcodeFormatError && slices.Equal(ours.zone, before) && (slices.ContainsFunc(m.Answer, empty) || slices.ContainsFunc(m.Ns, empty))
}

func oddlyFormed(m *dns.Msg, before []string, ours, theirs *outcome) bool {
	odd := func(rr dns.RR) bool {
		t := rr.Header().Rrtype
		return t == dns.TypeTLSA || t == dns.TypeCAA && rr.Header().Class == dns.ClassINET
	}
	return ours.rcode == dns.RcodeFormatError && slices.Equal(ours.zone, before) && (slices.ContainsFunc(m.Answer, odd) || slices.ContainsFunc(m.Ns, odd))
}

// run sends a request to both servers, compares the outcomes, and returns our
// RCODE.
func (p *pair) run(t *testing.T, r *asked, network string) (rcode int) {
	t.Helper()
	wire, mac, secret := r.wire(t)
	ours := p.ours.do(t, network, wire, mac, secret, r.silent)
	theirs := p.theirs.do(t, network, wire, mac, secret, r.silent)
	before := p.ourZone
	p.ourZone, p.theirZone = ours.zone, theirs.zone
	if ours.response == theirs.response && slices.Equal(ours.zone, theirs.zone) {
		return ours.rcode
	}
	m := r.message(t)
	known := slices.IndexFunc(acceptedOfDynupdate, func(d deviation) bool { return d.applies(m, before, &ours, &theirs) })
	if known >= 0 {
		p.used[known]++
	} else {
		t.Errorf("%s\n%s\n  ours: %s\n%s\n%q\n  theirs: %s\n%s\n%q", r, r.lines,
			ours.response, ours.zone[0], only(ours.zone, theirs.zone), theirs.response, theirs.zone[0], only(theirs.zone, ours.zone))
	}
	p.align(t)
	return ours.rcode
}

// only returns the records, but the SOA, that are in a alone.
func only(a, b []string) (out []string) {
	for _, line := range a[1 : len(a)-1] {
		if !slices.Contains(b, line) {
			out = append(out, line)
		}
	}
	return out
}

// align gives both servers the same records and the same serial after a
// difference, so that the next is seen by itself. Records are those of dicom but
// for types that dynupdate does not take.
func (p *pair) align(t *testing.T) {
	t.Helper()
	odd := make(map[string]bool) // names
	send := func(s *server, rrs ...dns.RR) {
		m := new(dns.Msg).SetUpdate(domain)
		m.Ns = rrs
		if r := s.exchange(t, "tcp", m, key, secret); r.Rcode != dns.RcodeSuccess {
			t.Fatalf("aligning: %s\n%v", dns.RcodeToString[r.Rcode], m)
		}
	}
	for _, line := range append(only(p.theirZone, p.ourZone), only(p.ourZone, p.theirZone)...) {
		odd[strings.Fields(line)[0]] = true
	}
	for name := range odd {
		theirs := []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeANY, Class: dns.ClassANY}}}
		for _, line := range p.ourZone[1 : len(p.ourZone)-1] {
			f := strings.Fields(line)
			if f[0] != name {
				continue
			}
			if n, ok := strings.CutPrefix(f[3], "TYPE"); ok {
				n, err := strconv.ParseUint(n, 10, 16)
				if err != nil {
					t.Fatal(err)
				}
				send(p.ours, &dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: uint16(n), Class: dns.ClassANY}})
			} else {
				theirs = append(theirs, rr(t, line))
			}
		}
		send(p.theirs, theirs...)
	}
	soa := rr(t, p.ours.transfer(t)[0]).(*dns.SOA)
	soa.Serial = max(soa.Serial, rr(t, p.theirs.transfer(t)[0]).(*dns.SOA).Serial) + 1
	send(p.ours, soa)
	send(p.theirs, soa)
	p.ourZone, p.theirZone = p.ours.transfer(t), p.theirs.transfer(t)
	if !slices.Equal(p.ourZone, p.theirZone) {
		t.Fatalf("aligned, and still\n  ours: %q\n  theirs: %q", p.ourZone, p.theirZone)
	}
}

// ask asks both servers about names of the zone and near it.
func (p *pair) ask(t *testing.T, r *rand.Rand, n int, c *comparison) {
	t.Helper()
	z := &sample{origin: domain, types: map[string][]uint16{}, text: strings.Join(p.ourZone, "\n")}
	for _, line := range p.ourZone {
		h := rr(t, line).Header()
		if !slices.Contains(z.owners, h.Name) {
			z.owners = append(z.owners, h.Name)
		}
		z.types[h.Name] = append(z.types[h.Name], h.Rrtype)
	}
	ours, theirs := newAsker(t, p.ours.address("tcp")), newAsker(t, p.theirs.address("tcp"))
	for range n {
		q := z.question(r)
		if q.Qtype == dns.TypeSOA { // the serial is compared by itself
			continue
		}
		c.compare(t, z, q, read(ours.ask(t, q), withoutSerial), read(theirs.ask(t, q), withoutSerial))
	}
}

func withoutSerial(rr dns.RR) string {
	if soa, ok := rr.(*dns.SOA); ok {
		copied := *soa
		copied.Serial = 0
		rr = &copied
	}
	return foldedText(rr)
}

// TestDropIn sends the same requests to dynupdate and to dicom.
func TestDropIn(t *testing.T) {
	used := make([]int, len(acceptedOfDynupdate))
	for _, tsig := range []string{"require_opcode UPDATE", ""} {
		t.Run("fixed "+tsig, func(t *testing.T) {
			p := &pair{used: used}
			p.start(t, t.TempDir(), tsig)
			for _, q := range fixedRequests() {
				p.run(t, &q, "tcp")
			}
		})
	}
	t.Run("random", func(t *testing.T) {
		r, dir := seedOf(t, 2136), t.TempDir()
		p := &pair{used: used}
		p.start(t, dir, "require_opcode UPDATE")
		c := newComparison(acceptedOfFile)
		codes := make(map[int]int)
		for i := range 600 {
			q := randomRequest(r)
			codes[p.run(t, q, []string{"tcp", "udp"}[r.IntN(2)])]++
			if i%10 == 0 {
				p.ask(t, r, 20, c)
			}
			if i%200 == 199 { // what is on disk
				was := p.ourZone
				p.ours.stop()
				p.theirs.stop()
				p.start(t, dir, "require_opcode UPDATE")
				if !slices.Equal(was, p.ourZone) {
					t.Errorf("started anew\n  was: %q\n  is: %q", was, p.ourZone)
				}
			}
			if t.Failed() {
				t.FailNow()
			}
		}
		t.Logf("requests by RCODE: %v; %d questions", codes, c.asked)
		for _, rcode := range []int{dns.RcodeSuccess, dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeRefused, dns.RcodeNXRrset, dns.RcodeYXRrset, dns.RcodeYXDomain, dns.RcodeNotZone, dns.RcodeNameError} {
			if codes[rcode] == 0 && os.Getenv(seedVariable) == "" {
				t.Errorf("no request got %s", dns.RcodeToString[rcode])
			}
		}
	})
	for i, d := range acceptedOfDynupdate {
		t.Logf("%6d  %s (%s)", used[i], d.name, d.why)
		if used[i] == 0 && os.Getenv(seedVariable) == "" {
			t.Errorf("nothing differs as accepted: %s (%s)", d.name, d.why)
		}
	}
}
