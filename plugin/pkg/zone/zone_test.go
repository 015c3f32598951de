package zone_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
	"github.com/miekg/dns"
)

const origin = "example.org."

var base = []string{
	"example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 10 3600 600 86400 60",
	"example.org. 300 IN NS ns.example.org.",
	"ns.example.org. 300 IN A 192.0.2.53",
	"www.example.org. 300 IN A 192.0.2.1",
}

func rr(t testing.TB, text string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil || r == nil {
		t.Fatalf("record %q: %v", text, err)
	}
	return r
}

func rrs(t testing.TB, texts ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, text := range texts {
		out = append(out, rr(t, text))
	}
	return out
}

func seedOf(t testing.TB, texts ...string) func() ([]dns.RR, error) {
	return func() ([]dns.RR, error) { return rrs(t, texts...), nil }
}

// memory is a zone without a database.
func memory(t testing.TB, extra ...string) *zone.Zone {
	t.Helper()
	s, err := zone.Open("", zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	z, err := s.Zone(origin, seedOf(t, slices.Concat(base, extra)...))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func all(string, uint16) bool { return true }

// onWire sends the records through a message, as they reach a server: with RDLENGTH, and in normal form.
func onWire(t testing.TB, in []dns.RR) []dns.RR {
	t.Helper()
	m := new(dns.Msg)
	m.SetUpdate(origin)
	m.Ns = in
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out := new(dns.Msg)
	if err := out.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	return out.Ns
}

// parse reads update lines: "add RR", "del RR" (one record), "delset NAME TYPE", "delname NAME"; and prerequisites:
// "nx NAME", "yx NAME", "nxset NAME TYPE", "yxset NAME TYPE", "is RR".
func parse(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, line := range lines {
		verb, rest, _ := strings.Cut(line, " ")
		f := strings.Fields(rest)
		bare := func(class uint16) dns.RR {
			typ := dns.TypeANY
			if len(f) > 1 {
				var ok bool
				if typ, ok = dns.StringToType[f[1]]; !ok {
					t.Fatalf("type in %q", line)
				}
			}
			return &dns.ANY{Hdr: dns.RR_Header{Name: f[0], Rrtype: typ, Class: class}}
		}
		switch verb {
		case "add":
			out = append(out, rr(t, rest))
		case "del":
			r := rr(t, rest)
			r.Header().Class, r.Header().Ttl = dns.ClassNONE, 0
			out = append(out, r)
		case "delset", "delname", "yx", "yxset":
			out = append(out, bare(dns.ClassANY))
		case "nx", "nxset":
			out = append(out, bare(dns.ClassNONE))
		case "is":
			r := rr(t, rest)
			r.Header().Ttl = 0
			out = append(out, r)
		default:
			t.Fatalf("line %q", line)
		}
	}
	return onWire(t, out)
}

func update(t testing.TB, z *zone.Zone, lines ...string) (int, error) {
	t.Helper()
	return z.Update(context.Background(), nil, parse(t, lines...), all)
}

func mustUpdate(t testing.TB, z *zone.Zone, lines ...string) {
	t.Helper()
	if rcode, err := update(t, z, lines...); rcode != dns.RcodeSuccess || err != nil {
		t.Fatalf("update %q: %s, %v", lines, dns.RcodeToString[rcode], err)
	}
}

// text is the records as sorted lines without the class and with single spaces.
func text(in []dns.RR) []string {
	var out []string
	for _, r := range in {
		out = append(out, strings.ReplaceAll(strings.Join(strings.Fields(r.String()), " "), " IN ", " "))
	}
	slices.Sort(out)
	return out
}

func dump(z *zone.Zone) []string { return text(slices.Collect(z.Snapshot().All())) }

func wantText(t testing.TB, what string, got []dns.RR, want ...string) {
	t.Helper()
	slices.Sort(want)
	if g := text(got); !slices.Equal(g, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, g, want)
	}
}

func TestSeed(t *testing.T) {
	soa := base[0]
	for name, tt := range map[string]struct {
		seed []string
		want string
	}{
		"no SOA":               {[]string{"example.org. 1 IN NS ns.example.org."}, "no SOA"},
		"two SOA":              {[]string{soa, strings.Replace(soa, " 10 ", " 11 ", 1)}, "one SOA"},
		"SOA below":            {[]string{soa, "a." + soa}, "one SOA"},
		"serial 0":             {[]string{strings.Replace(soa, " 10 ", " 0 ", 1)}, "serial other than 0"},
		"outside":              {[]string{soa, "www.example.net. 1 IN A 192.0.2.1"}, "outside"},
		"class":                {[]string{soa, "www.example.org. 1 CH TXT a"}, "class"},
		"DNSSEC":               {[]string{soa, "a.example.org. 1 IN DS 1 8 2 00"}, "DS"},
		"CNAME and data":       {[]string{soa, "a.example.org. 1 IN CNAME b", "a.example.org. 1 IN A 192.0.2.1"}, "CNAME"},
		"data and CNAME":       {[]string{soa, "a.example.org. 1 IN A 192.0.2.1", "a.example.org. 1 IN CNAME b."}, "CNAME"},
		"two CNAME":            {[]string{soa, "a.example.org. 1 IN CNAME b.", "a.example.org. 1 IN CNAME c."}, "CNAME"},
		"CNAME at the apex":    {[]string{soa, "example.org. 1 IN CNAME b."}, "CNAME"},
		"suffix of other name": {[]string{soa, "badexample.org. 1 IN A 192.0.2.1"}, "outside"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := zone.Open("", zone.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Zone(origin, seedOf(t, tt.seed...)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	t.Run("its own error", func(t *testing.T) {
		s, _ := zone.Open("", zone.Options{})
		defer s.Close()
		cause := errors.New("no file")
		if _, err := s.Zone(origin, func() ([]dns.RR, error) { return nil, cause }); !errors.Is(err, cause) {
			t.Fatal(err)
		}
		if _, err := s.Zone("a..b", nil); err == nil {
			t.Fatal("zone with an empty label")
		}
	})
	t.Run("one TTL and no duplicates", func(t *testing.T) {
		z := memory(t, "a.example.org. 5 IN A 192.0.2.7", "A.example.org. 6 IN A 192.0.2.8", "a.example.org. 6 IN A 192.0.2.7")
		wantText(t, "A", z.Snapshot().RRset("a.example.org.", dns.TypeA), "a.example.org. 6 A 192.0.2.7", "a.example.org. 6 A 192.0.2.8")
	})
}

func TestPrerequisites(t *testing.T) {
	extra := []string{
		"two.example.org. 300 IN A 192.0.2.1", "two.example.org. 300 IN A 192.0.2.2",
		"mail.example.org. 300 IN MX 10 MX.example.org.",
		"a.ent.example.org. 300 IN A 192.0.2.3",
		"odd.example.org. 300 IN TYPE65280 \\# 2 abcd",
	}
	raw := func(name string, typ, class uint16, ttl uint32, rdlength uint16) dns.RR {
		return &dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: typ, Class: class, Ttl: ttl, Rdlength: rdlength}}
	}
	tests := []struct {
		name  string
		lines []string
		raw   []dns.RR
		want  int
	}{
		{name: "name is in use", lines: []string{"yx www.example.org."}, want: dns.RcodeSuccess},
		{name: "name is in use, other case", lines: []string{"yx WWW.Example.ORG."}, want: dns.RcodeSuccess},
		{name: "name is in use: it is not", lines: []string{"yx nobody.example.org."}, want: dns.RcodeNameError},
		{name: "name is in use: empty non-terminal is not", lines: []string{"yx ent.example.org."}, want: dns.RcodeNameError},
		{name: "name is not in use", lines: []string{"nx nobody.example.org."}, want: dns.RcodeSuccess},
		{name: "name is not in use: empty non-terminal", lines: []string{"nx ent.example.org."}, want: dns.RcodeSuccess},
		{name: "name is not in use: it is", lines: []string{"nx www.example.org."}, want: dns.RcodeYXDomain},
		{name: "RRset exists", lines: []string{"yxset www.example.org. A"}, want: dns.RcodeSuccess},
		{name: "RRset exists: other type", lines: []string{"yxset www.example.org. AAAA"}, want: dns.RcodeNXRrset},
		{name: "RRset exists: no name", lines: []string{"yxset nobody.example.org. A"}, want: dns.RcodeNXRrset},
		{name: "RRset exists: unknown type", raw: []dns.RR{raw("odd.example.org.", 65280, dns.ClassANY, 0, 0)}, want: dns.RcodeSuccess},
		{name: "RRset does not exist", lines: []string{"nxset www.example.org. AAAA"}, want: dns.RcodeSuccess},
		{name: "RRset does not exist: it does", lines: []string{"nxset www.example.org. A"}, want: dns.RcodeYXRrset},
		{name: "value", lines: []string{"is www.example.org. 0 IN A 192.0.2.1"}, want: dns.RcodeSuccess},
		{name: "value: other", lines: []string{"is www.example.org. 0 IN A 192.0.2.9"}, want: dns.RcodeNXRrset},
		{name: "value: no RRset", lines: []string{"is nobody.example.org. 0 IN A 192.0.2.9"}, want: dns.RcodeNXRrset},
		{name: "value: part of the RRset", lines: []string{"is two.example.org. 0 IN A 192.0.2.1"}, want: dns.RcodeNXRrset},
		{name: "value: more than the RRset", lines: []string{"is www.example.org. 0 IN A 192.0.2.1", "is www.example.org. 0 IN A 192.0.2.2"}, want: dns.RcodeNXRrset},
		{name: "value: whole RRset in any order", lines: []string{"is two.example.org. 0 IN A 192.0.2.2", "is TWO.example.org. 0 IN A 192.0.2.1"}, want: dns.RcodeSuccess},
		{name: "value: one record twice", lines: []string{"is www.example.org. 0 IN A 192.0.2.1", "is www.example.org. 0 IN A 192.0.2.1"}, want: dns.RcodeSuccess},
		{name: "value: name in the data in other case", lines: []string{"is mail.example.org. 0 IN MX 10 mx.EXAMPLE.org."}, want: dns.RcodeSuccess},
		{name: "value: unknown type", lines: []string{"is odd.example.org. 0 IN TYPE65280 \\# 2 ABCD"}, want: dns.RcodeSuccess},
		{name: "value: without data", raw: []dns.RR{raw("www.example.org.", dns.TypeA, dns.ClassINET, 0, 0)}, want: dns.RcodeFormatError},
		{name: "value: type ANY", raw: []dns.RR{raw("www.example.org.", dns.TypeANY, dns.ClassINET, 0, 0)}, want: dns.RcodeFormatError},
		{name: "TTL", raw: []dns.RR{raw("www.example.org.", dns.TypeANY, dns.ClassANY, 1, 0)}, want: dns.RcodeFormatError},
		{name: "TTL before zone", raw: []dns.RR{raw("www.example.net.", dns.TypeANY, dns.ClassANY, 1, 0)}, want: dns.RcodeFormatError},
		{name: "outside the zone", lines: []string{"yx www.example.net."}, want: dns.RcodeNotZone},
		{name: "parent of the zone", lines: []string{"yx org."}, want: dns.RcodeNotZone},
		{name: "zone before class", raw: []dns.RR{raw("www.example.net.", dns.TypeA, dns.ClassCHAOS, 0, 0)}, want: dns.RcodeNotZone},
		{name: "class", raw: []dns.RR{raw("www.example.org.", dns.TypeA, dns.ClassCHAOS, 0, 0)}, want: dns.RcodeFormatError},
		{name: "class ANY with data", raw: []dns.RR{raw("www.example.org.", dns.TypeA, dns.ClassANY, 0, 4)}, want: dns.RcodeFormatError},
		{name: "class NONE with data", raw: []dns.RR{raw("nobody.example.org.", dns.TypeA, dns.ClassNONE, 0, 4)}, want: dns.RcodeFormatError},
		{name: "type 0", raw: []dns.RR{raw("www.example.org.", dns.TypeNone, dns.ClassANY, 0, 0)}, want: dns.RcodeFormatError},
		{name: "type AXFR", raw: []dns.RR{raw("www.example.org.", dns.TypeAXFR, dns.ClassNONE, 0, 0)}, want: dns.RcodeFormatError},
		{name: "type OPT", raw: []dns.RR{raw("www.example.org.", dns.TypeOPT, dns.ClassNONE, 0, 0)}, want: dns.RcodeFormatError},
		{name: "DNSSEC type", lines: []string{"nxset www.example.org. DS"}, want: dns.RcodeNotImplemented},
		{name: "nil", raw: []dns.RR{nil}, want: dns.RcodeFormatError},
		{name: "first failure counts", lines: []string{"yx nobody.example.org.", "yx www.example.net."}, want: dns.RcodeNameError},
		{name: "value-dependent ones come last", lines: []string{"is www.example.org. 0 IN A 192.0.2.9", "yx nobody.example.org."}, want: dns.RcodeNameError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := memory(t, extra...)
			pre := append(tt.raw, parse(t, tt.lines...)...)
			rcode, err := z.Update(context.Background(), pre, parse(t, "add new.example.org. 60 IN TXT x"), all)
			if rcode != tt.want || err != nil {
				t.Fatalf("%s, %v; want %s", dns.RcodeToString[rcode], err, dns.RcodeToString[tt.want])
			}
			want, there := uint32(10), 0
			if tt.want == dns.RcodeSuccess {
				want, there = 11, 1
			}
			if got := z.Snapshot().Serial(); got != want {
				t.Errorf("serial %d, want %d", got, want)
			}
			if got := len(z.Snapshot().RRset("new.example.org.", dns.TypeTXT)); got != there {
				t.Errorf("%d records, want %d", got, there)
			}
		})
	}
}

func TestOrderOfChecks(t *testing.T) {
	z := memory(t)
	ctx := context.Background()
	outside := parse(t, "add www.example.net. 60 IN A 192.0.2.1")
	malformed := []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeA, Class: dns.ClassANY, Ttl: 1}}}
	none := func(string, uint16) bool { return false }
	for _, tt := range []struct {
		name     string
		pre, upd []dns.RR
		permit   func(string, uint16) bool
		want     int
		err      error
	}{
		{"prerequisites before permission", parse(t, "yx nobody.example.org."), outside, none, dns.RcodeNameError, nil},
		{"prerequisites before prescan", parse(t, "yx nobody.example.org."), malformed, all, dns.RcodeNameError, nil},
		{"permission before prescan", nil, malformed, none, dns.RcodeRefused, zone.ErrNotPermitted},
		{"permission before zone", nil, outside, none, dns.RcodeRefused, zone.ErrNotPermitted},
		{"prescan before changes", nil, append(parse(t, "add a.example.org. 60 IN A 192.0.2.1"), outside...), all, dns.RcodeNotZone, nil},
		{"nil permits nothing", nil, parse(t, "add a.example.org. 60 IN A 192.0.2.1"), nil, dns.RcodeRefused, zone.ErrNotPermitted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rcode, err := z.Update(ctx, tt.pre, tt.upd, tt.permit)
			if rcode != tt.want || !errors.Is(err, tt.err) {
				t.Fatalf("%s, %v", dns.RcodeToString[rcode], err)
			}
			if z.Snapshot().Serial() != 10 {
				t.Fatal("the zone changed")
			}
		})
	}
	t.Run("what permission is asked", func(t *testing.T) {
		var asked []string
		_, err := z.Update(ctx, nil, parse(t, "add WWW.example.org. 60 IN TXT a", "delname x.example.org.", "delset y.example.org. MX", "del z.example.org. 0 IN A 192.0.2.1"),
			func(name string, typ uint16) bool {
				asked = append(asked, name+" "+dns.TypeToString[typ])
				return true
			})
		want := []string{"www.example.org. TXT", "x.example.org. ANY", "y.example.org. MX", "z.example.org. A"}
		if err != nil || !slices.Equal(asked, want) {
			t.Fatalf("%q, %v", asked, err)
		}
	})
}

func TestPrescan(t *testing.T) {
	raw := func(name string, typ, class uint16, ttl uint32, rdlength uint16) []dns.RR {
		return []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: typ, Class: class, Ttl: ttl, Rdlength: rdlength}}}
	}
	const www = "www.example.org."
	none := func(line string) []dns.RR { return parse(t, line) }
	noneTTL := parse(t, "del www.example.org. 0 IN A 192.0.2.1")
	noneTTL[0].Header().Ttl = 1
	tests := []struct {
		name string
		upd  []dns.RR
		want int
	}{
		{"outside the zone", none("add www.example.net. 1 IN A 192.0.2.1"), dns.RcodeNotZone},
		{"a name that only ends alike", none("add badexample.org. 1 IN A 192.0.2.1"), dns.RcodeNotZone},
		{"nil", []dns.RR{nil}, dns.RcodeFormatError},
		{"add type ANY", raw(www, dns.TypeANY, dns.ClassINET, 1, 0), dns.RcodeFormatError},
		{"add type AXFR", raw(www, dns.TypeAXFR, dns.ClassINET, 1, 0), dns.RcodeFormatError},
		{"add type MAILB", raw(www, dns.TypeMAILB, dns.ClassINET, 1, 0), dns.RcodeFormatError},
		{"add type 0", raw(www, 0, dns.ClassINET, 1, 0), dns.RcodeFormatError},
		{"add type OPT", raw(www, dns.TypeOPT, dns.ClassINET, 1, 0), dns.RcodeFormatError},
		{"add type TSIG", raw(www, dns.TypeTSIG, dns.ClassINET, 1, 0), dns.RcodeFormatError},
		{"add another meta type", raw(www, 200, dns.ClassINET, 1, 0), dns.RcodeFormatError},
		{"add without data", onWire(t, []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: www, Rrtype: dns.TypeA, Class: dns.ClassINET}}}), dns.RcodeFormatError},
		{"add TXT without data", []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: www, Rrtype: dns.TypeTXT, Class: dns.ClassINET}}}, dns.RcodeFormatError},
		{"delete RRset with TTL", raw(www, dns.TypeA, dns.ClassANY, 1, 0), dns.RcodeFormatError},
		{"delete RRset with data", raw(www, dns.TypeA, dns.ClassANY, 0, 4), dns.RcodeFormatError},
		{"delete RRset of type AXFR", raw(www, dns.TypeAXFR, dns.ClassANY, 0, 0), dns.RcodeFormatError},
		{"delete RRset of type IXFR", raw(www, dns.TypeIXFR, dns.ClassANY, 0, 0), dns.RcodeFormatError},
		{"delete record with TTL", noneTTL, dns.RcodeFormatError},
		{"delete record of type ANY", raw(www, dns.TypeANY, dns.ClassNONE, 0, 0), dns.RcodeFormatError},
		{"delete record of type MAILA", raw(www, dns.TypeMAILA, dns.ClassNONE, 0, 0), dns.RcodeFormatError},
		{"class", raw(www, dns.TypeA, dns.ClassCHAOS, 0, 0), dns.RcodeFormatError},
		{"SOA below the apex", none("add www.example.org. 1 IN SOA a. b. 20 1 1 1 1"), dns.RcodeFormatError},
		{"SOA with serial 0", none("add example.org. 1 IN SOA a. b. 0 1 1 1 1"), dns.RcodeFormatError},
		{"add DNSSEC type", none("add www.example.org. 1 IN DS 1 8 2 00"), dns.RcodeNotImplemented},
		{"delete DNSSEC RRset", none("delset www.example.org. DNSKEY"), dns.RcodeNotImplemented},
		{"delete DNSSEC record", none("del www.example.org. 0 IN DS 1 8 2 00"), dns.RcodeNotImplemented},
		{"add KEY", raw(www, dns.TypeKEY, dns.ClassINET, 1, 0), dns.RcodeNotImplemented},
		{"add ZONEMD", none("add example.org. 1 IN ZONEMD 1 1 1 " + strings.Repeat("00", 48)), dns.RcodeNotImplemented},
		{"delete record without data", raw(www, dns.TypeA, dns.ClassNONE, 0, 0), dns.RcodeSuccess},
		{"nothing", nil, dns.RcodeSuccess},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := memory(t)
			before := dump(z)
			upd := append(parse(t, "add first.example.org. 60 IN A 192.0.2.1"), tt.upd...)
			if tt.want == dns.RcodeSuccess {
				upd = tt.upd
			}
			rcode, err := z.Update(context.Background(), nil, upd, all)
			if rcode != tt.want || err != nil {
				t.Fatalf("%s, %v; want %s", dns.RcodeToString[rcode], err, dns.RcodeToString[tt.want])
			}
			if !slices.Equal(before, dump(z)) {
				t.Fatal("a refused update changed something")
			}
		})
	}
}

func TestChanges(t *testing.T) {
	const soa = "example.org. 300 SOA ns.example.org. hostmaster.example.org. %d 3600 600 86400 60"
	const ns, nsA, www = "example.org. 300 NS ns.example.org.", "ns.example.org. 300 A 192.0.2.53", "www.example.org. 300 A 192.0.2.1"
	tests := []struct {
		name   string
		seed   []string
		lines  []string
		serial int
		want   []string // besides SOA, NS and the A of ns
	}{
		{"add", nil, []string{"add a.example.org. 60 IN A 192.0.2.2"}, 11, []string{www, "a.example.org. 60 A 192.0.2.2"}},
		{"add keeps the case of the name", nil, []string{"add CT1.example.org. 60 IN A 192.0.2.2", "add ct1.example.org. 60 IN TXT a"}, 11,
			[]string{www, "CT1.example.org. 60 A 192.0.2.2", "CT1.example.org. 60 TXT \"a\""}},
		{"add an equal record", nil, []string{"add WWW.example.org. 300 IN A 192.0.2.1"}, 10, []string{www}},
		{"add an equal record with another TTL", nil, []string{"add www.example.org. 60 IN A 192.0.2.1"}, 11, []string{"www.example.org. 60 A 192.0.2.1"}},
		{"the newest record gives the TTL", nil, []string{"add www.example.org. 60 IN A 192.0.2.2"}, 11,
			[]string{"www.example.org. 60 A 192.0.2.1", "www.example.org. 60 A 192.0.2.2"}},
		{"a TTL beyond 31 bits is 0", nil, []string{"add www.example.org. 2147483648 IN A 192.0.2.1"}, 11, []string{"www.example.org. 0 A 192.0.2.1"}},
		{"add an equal record with its name in other case", []string{"m.example.org. 5 IN MX 1 A.b."}, []string{"add m.example.org. 5 IN MX 1 a.B."}, 10,
			[]string{www, "m.example.org. 5 MX 1 A.b."}},
		{"TXT compares with case", []string{"m.example.org. 5 IN TXT A"}, []string{"add m.example.org. 5 IN TXT a"}, 11,
			[]string{www, `m.example.org. 5 TXT "A"`, `m.example.org. 5 TXT "a"`}},
		{"unknown type", nil, []string{`add u.example.org. 5 IN TYPE65281 \# 3 010203`}, 11, []string{www, `u.example.org. 5 CLASS1 TYPE65281 \# 3 010203`}},
		{"unknown type without data", nil, []string{`add u.example.org. 5 IN TYPE65281 \# 0`}, 11, []string{www, `u.example.org. 5 CLASS1 TYPE65281 \# 0`}},
		{"delete record", nil, []string{"del www.example.org. 0 IN A 192.0.2.1"}, 11, nil},
		{"delete record in other case", []string{"m.example.org. 5 IN MX 1 A.b."}, []string{"del M.example.org. 0 IN MX 1 a.B."}, 11, []string{www}},
		{"delete a record that is not there", nil, []string{"del www.example.org. 0 IN A 192.0.2.2", "del no.example.org. 0 IN A 192.0.2.2"}, 10, []string{www}},
		{"delete RRset", []string{"www.example.org. 5 IN TXT a"}, []string{"delset www.example.org. A"}, 11, []string{`www.example.org. 5 TXT "a"`}},
		{"delete RRset that is not there", nil, []string{"delset www.example.org. AAAA", "delset no.example.org. A"}, 10, []string{www}},
		{"delete name", []string{"www.example.org. 5 IN TXT a"}, []string{"delname www.example.org."}, 11, nil},
		{"delete name that is not there", nil, []string{"delname no.example.org."}, 10, []string{www}},
		{"delete name keeps names below", []string{"b.www.example.org. 5 IN TXT a"}, []string{"delname www.example.org."}, 11, []string{`b.www.example.org. 5 TXT "a"`}},
		{"delete name at the apex keeps SOA and NS", []string{"example.org. 5 IN TXT a"}, []string{"delname example.org."}, 11, []string{www}},
		{"delete SOA RRset", nil, []string{"delset example.org. SOA"}, 10, []string{www}},
		{"delete NS RRset at the apex", nil, []string{"delset example.org. NS"}, 10, []string{www}},
		{"delete SOA record", nil, []string{"del " + base[0]}, 10, []string{www}},
		{"delete the last NS at the apex", nil, []string{"del example.org. 0 IN NS ns.example.org."}, 10, []string{www}},
		{"delete an NS at the apex that is not the last", []string{"example.org. 300 IN NS b."}, []string{"del example.org. 0 IN NS b."}, 11, []string{www}},
		{"delete both NS at the apex leaves one", []string{"example.org. 300 IN NS b."}, []string{"del example.org. 0 IN NS b.", "del example.org. 0 IN NS ns.example.org."}, 11, []string{www}},
		{"delete NS below the apex", []string{"sub.example.org. 300 IN NS b."}, []string{"del sub.example.org. 0 IN NS b."}, 11, []string{www}},
		{"CNAME beside data is ignored", nil, []string{"add www.example.org. 5 IN CNAME a."}, 10, []string{www}},
		{"data beside CNAME is ignored", []string{"c.example.org. 5 IN CNAME a."}, []string{"add c.example.org. 5 IN A 192.0.2.1"}, 10, []string{www, "c.example.org. 5 CNAME a."}},
		{"CNAME replaces CNAME", []string{"c.example.org. 5 IN CNAME a."}, []string{"add c.example.org. 5 IN CNAME b."}, 11, []string{www, "c.example.org. 5 CNAME b."}},
		{"equal CNAME", []string{"c.example.org. 5 IN CNAME a."}, []string{"add c.example.org. 5 IN CNAME a."}, 10, []string{www, "c.example.org. 5 CNAME a."}},
		{"CNAME after the data is deleted", nil, []string{"delname www.example.org.", "add www.example.org. 5 IN CNAME a."}, 11, []string{"www.example.org. 5 CNAME a."}},
		{"an ignored change does not stop the others", nil, []string{"add www.example.org. 5 IN CNAME a.", "add b.example.org. 5 IN A 192.0.2.9"}, 11, []string{www, "b.example.org. 5 A 192.0.2.9"}},
		{"DNAME replaces DNAME", []string{"d.example.org. 5 IN DNAME a."}, []string{"add d.example.org. 5 IN DNAME b."}, 11, []string{www, "d.example.org. 5 DNAME b."}},
		{"DNAME beside CNAME is ignored", []string{"d.example.org. 5 IN CNAME a."}, []string{"add d.example.org. 5 IN DNAME b."}, 10, []string{www, "d.example.org. 5 CNAME a."}},
		{"CNAME beside DNAME is ignored", []string{"d.example.org. 5 IN DNAME a."}, []string{"add d.example.org. 5 IN CNAME b."}, 10, []string{www, "d.example.org. 5 DNAME a."}},
		{"WKS of one protocol replaces", []string{`w.example.org. 5 IN TYPE11 \# 6 c00002010600`}, []string{`add w.example.org. 5 IN TYPE11 \# 6 c000020106ff`}, 11,
			[]string{www, `w.example.org. 5 CLASS1 TYPE11 \# 6 c000020106ff`}},
		{"WKS of another protocol adds", []string{`w.example.org. 5 IN TYPE11 \# 6 c00002010600`}, []string{`add w.example.org. 5 IN TYPE11 \# 6 c000020111ff`}, 11,
			[]string{www, `w.example.org. 5 CLASS1 TYPE11 \# 6 c00002010600`, `w.example.org. 5 CLASS1 TYPE11 \# 6 c000020111ff`}},
		{"SOA with a newer serial", nil, []string{"add example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 20 3600 600 86400 60"}, 20, []string{www}},
		{"SOA with the same serial", nil, []string{"add example.org. 5 IN SOA x. y. 10 1 1 1 1"}, 10, []string{www}},
		{"SOA with an older serial", nil, []string{"add example.org. 5 IN SOA x. y. 9 1 1 1 1"}, 10, []string{www}},
		{"SOA half the space away", nil, []string{"add example.org. 5 IN SOA x. y. 2147483658 1 1 1 1"}, 10, []string{www}},
		{"SOA gives the serial of the whole update", nil, []string{"add example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 20 3600 600 86400 60", "delname www.example.org."}, 20, nil},
		{"what comes back is no change", nil, []string{"delname www.example.org.", "add www.example.org. 300 IN A 192.0.2.1"}, 10, []string{www}},
		{"what goes again is no change", nil, []string{"add a.example.org. 300 IN A 192.0.2.1", "delname a.example.org."}, 10, []string{www}},
		{"every octet in a label", nil, []string{`add \000\001\.\\\255.example.org. 5 IN A 192.0.2.1`}, 11, []string{www, `\000\001\.\\\255.example.org. 5 A 192.0.2.1`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := memory(t, tt.seed...)
			mustUpdate(t, z, tt.lines...)
			got := slices.Collect(z.Snapshot().All())
			wantText(t, "zone", got, append([]string{fmt.Sprintf(soa, tt.serial), ns, nsA}, tt.want...)...)
			if n := z.Snapshot().Len(); n != len(got) {
				t.Errorf("Len %d, and %d records", n, len(got))
			}
			size := 0
			for _, r := range got {
				size += dns.Len(r)
			}
			if n := z.Snapshot().Size(); n != size {
				t.Errorf("Size %d, want %d", n, size)
			}
			if got[0].Header().Rrtype != dns.TypeSOA {
				t.Error("SOA is not first")
			}
		})
	}
}

func TestSerialWraps(t *testing.T) {
	z := memory(t)
	const soa = "add example.org. 300 IN SOA ns.example.org. hostmaster.example.org. %d 3600 600 86400 60"
	mustUpdate(t, z, fmt.Sprintf(soa, 1<<31))
	mustUpdate(t, z, fmt.Sprintf(soa, uint32(1<<32-1)))
	mustUpdate(t, z, "delname www.example.org.")
	if got := z.Snapshot().Serial(); got != 1 {
		t.Fatalf("serial %d after the greatest, want 1", got)
	}
}

func TestEveryTypeIsTaken(t *testing.T) {
	z := memory(t)
	n := 0
	for typ, mk := range dns.TypeToRR {
		r := mk()
		*r.Header() = dns.RR_Header{Name: fmt.Sprintf("t%d.example.org.", typ), Rrtype: typ, Class: dns.ClassINET, Ttl: 5}
		rcode, err := z.Update(context.Background(), nil, []dns.RR{r}, all)
		switch rcode {
		case dns.RcodeSuccess, dns.RcodeFormatError, dns.RcodeNotImplemented:
			n++
		default:
			t.Errorf("%s without data: %s, %v", dns.TypeToString[typ], dns.RcodeToString[rcode], err)
		}
	}
	if n < 80 {
		t.Errorf("only %d types", n)
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"example.org.": true, "example.org": true, ".": true, "2.0.192.in-addr.arpa.": true, "0/25.2.0.192.in-addr.arpa.": true, "1.2.3.": true, "fe80.": true,
		"": false, "a..b": false, "192.0.2.1": false, "192.0.2.1.": false, "192.0.2.0/33": false, "192.0.2.0/x.": false, "2001:db8::.": false, "2001:db8::/129": false,
		"example.org,": false, "a.org,b.org.": false, "{}": false, "{$zone}.": false,
	} {
		if got := zone.ValidName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
