package zone_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
	"github.com/miekg/dns"
)

// memory2 is a zone of exactly these records.
func memory2(t testing.TB, seed []string) *zone.Zone {
	t.Helper()
	s, err := zone.Open("", zone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	z, err := s.Zone(origin, seedOf(t, seed...))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func replace(t testing.TB, z *zone.Zone, records ...string) bool {
	t.Helper()
	return replaceAnd(t, z, nil, records...)
}

// replaceAnd replaces the site records and the rules of the zone.
func replaceAnd(t testing.TB, z *zone.Zone, derive zone.Derive, records ...string) bool {
	t.Helper()
	changed, err := z.ReplaceSite(context.Background(), func(*zone.Candidate) ([]dns.RR, zone.Derive) { return rrs(t, records...), derive })
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func setDerive(t testing.TB, z *zone.Zone, derive zone.Derive) {
	t.Helper()
	replaceAnd(t, z, derive)
}

func TestSiteRecordsAreProtected(t *testing.T) {
	site := []string{
		"legacy.example.org. 300 IN A 192.0.2.20",
		"_p.example.org. 300 IN PTR a.example.org.",
		"1.example.org. 300 IN PTR a.example.org.",
		"x._tcp.example.org. 300 IN SRV 0 0 104 legacy.example.org.",
		"alias.example.org. 300 IN CNAME legacy.example.org.",
		"example.org. 300 IN NS ns2.example.org.",
		"example.org. 900 IN SOA ns2.example.org. admin.example.org. 0 1 2 3 4",
	}
	const mx = "add mx.example.org. 5 IN MX 1 a."
	tests := []struct {
		name  string
		line  string
		want  int
		check func(*zone.Snapshot) string
	}{
		{"add to its RRset", "add legacy.example.org. 300 IN A 192.0.2.21", dns.RcodeRefused, nil},
		{"change its TTL", "add legacy.example.org. 5 IN A 192.0.2.20", dns.RcodeRefused, nil},
		{"add what is there", "add legacy.example.org. 300 IN A 192.0.2.20", dns.RcodeSuccess, nil},
		{"add another type", "add legacy.example.org. 300 IN TXT a", dns.RcodeSuccess, nil},
		{"delete record", "del legacy.example.org. 0 IN A 192.0.2.20", dns.RcodeRefused, nil},
		{"delete a record that is not there", "del legacy.example.org. 0 IN A 192.0.2.99", dns.RcodeSuccess, nil},
		{"delete RRset", "delset legacy.example.org. A", dns.RcodeRefused, nil},
		{"delete another RRset", "delset legacy.example.org. AAAA", dns.RcodeSuccess, nil},
		{"delete name", "delname legacy.example.org.", dns.RcodeRefused, nil},
		{"delete name at the apex", "delname example.org.", dns.RcodeSuccess, nil},
		{"NS", "add example.org. 300 IN NS x.", dns.RcodeRefused, nil},
		{"newer SOA", "add example.org. 300 IN SOA a. b. 999 1 1 1 1", dns.RcodeRefused, nil},
		{"older SOA", "add example.org. 300 IN SOA a. b. 1 1 1 1 1", dns.RcodeSuccess, nil},
		{"replace CNAME", "add alias.example.org. 300 IN CNAME b.", dns.RcodeRefused, nil},
		{"data beside CNAME", "add alias.example.org. 300 IN A 192.0.2.1", dns.RcodeSuccess, nil},
		{"CNAME beside data", "add legacy.example.org. 300 IN CNAME b.", dns.RcodeSuccess, nil},
		{"PTR of a service beside the site's", "add _p.example.org. 5 IN PTR b.example.org.", dns.RcodeSuccess, nil},
		{"delete the site's PTR of a service", "del _p.example.org. 0 IN PTR A.example.org.", dns.RcodeRefused, nil},
		{"delete PTR RRset of services", "delset _p.example.org. PTR", dns.RcodeSuccess, nil},
		{"delete PTR name of services", "delname _p.example.org.", dns.RcodeSuccess, nil},
		{"PTR of an address beside the site's", "add 1.example.org. 300 IN PTR b.example.org.", dns.RcodeRefused, nil},
		{"add the site's PTR of an address", "add 1.example.org. 5 IN PTR A.example.org.", dns.RcodeSuccess, nil},
		{"delete PTR of an address", "del 1.example.org. 0 IN PTR A.example.org.", dns.RcodeRefused, nil},
		{"delete PTR RRset of an address", "delset 1.example.org. PTR", dns.RcodeRefused, nil},
		{"delete PTR name of an address", "delname 1.example.org.", dns.RcodeRefused, nil},
		{"redirect the zone", "add example.org. 300 IN DNAME x.", dns.RcodeRefused, nil},
		{"delegate above", "add _tcp.example.org. 300 IN NS x.", dns.RcodeRefused, nil},
		{"redirect above", "add _tcp.example.org. 300 IN DNAME x.", dns.RcodeRefused, nil},
		{"delegate the site's name", "add legacy.example.org. 300 IN NS x.", dns.RcodeRefused, nil},
		{"redirect below the site's name", "add legacy.example.org. 300 IN DNAME x.", dns.RcodeSuccess, nil},
		{"delegate below the site's name", "add a.legacy.example.org. 300 IN NS x.", dns.RcodeSuccess, nil},
		{"delegate beside", "add legac.example.org. 300 IN NS x.", dns.RcodeSuccess, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := memory(t)
			replace(t, z, site...)
			rcode, err := update(t, z, mx, tt.line)
			if rcode != tt.want || (tt.want == dns.RcodeRefused) != errors.Is(err, zone.ErrSiteRecord) {
				t.Fatalf("%s, %v", dns.RcodeToString[rcode], err)
			}
			s := z.Snapshot()
			wantText(t, "site's records", slices.Collect(s.Site()), "legacy.example.org. 300 A 192.0.2.20", "_p.example.org. 300 PTR a.example.org.",
				"1.example.org. 300 PTR a.example.org.", "x._tcp.example.org. 300 SRV 0 0 104 legacy.example.org.",
				"alias.example.org. 300 CNAME legacy.example.org.", "example.org. 300 NS ns2.example.org.",
				text([]dns.RR{s.SOA()})[0])
			if there := s.RRset("mx.example.org.", dns.TypeMX) != nil; there != (tt.want == dns.RcodeSuccess) {
				t.Error("the update was not all or nothing")
			}
		})
	}
}

func TestPTROfBoth(t *testing.T) {
	z := memory(t)
	replace(t, z, "_p.example.org. 300 IN PTR a.example.org.")
	mustUpdate(t, z, "add _p.example.org. 5 IN PTR b.example.org.", "add _p.example.org. 5 IN PTR A.example.org.")
	ptr := func(want ...string) {
		t.Helper()
		wantText(t, "PTR", z.Snapshot().RRset("_p.example.org.", dns.TypePTR), want...)
	}
	ptr("_p.example.org. 300 PTR a.example.org.", "_p.example.org. 300 PTR b.example.org.")
	replace(t, z, "_p.example.org. 60 IN PTR c.example.org.")
	ptr("_p.example.org. 60 PTR b.example.org.", "_p.example.org. 60 PTR c.example.org.")
	mustUpdate(t, z, "delset _p.example.org. PTR", "add _p.example.org. 5 IN PTR d.example.org.")
	ptr("_p.example.org. 60 PTR c.example.org.", "_p.example.org. 60 PTR d.example.org.")
	mustUpdate(t, z, "del _p.example.org. 0 IN PTR d.example.org.")
	ptr("_p.example.org. 60 PTR c.example.org.")
	mustUpdate(t, z, "add _p.example.org. 5 IN PTR e.example.org.")
	replace(t, z)
	ptr("_p.example.org. 60 PTR e.example.org.")
	mustUpdate(t, z, "delname _p.example.org.")
	ptr()
}

// What comes to the site takes the place of what others had there, also where that hides it.
func TestSiteComesLater(t *testing.T) {
	host, srv := "ct1.example.org. 300 IN A 192.0.2.11", "s._tcp.example.org. 300 IN SRV 0 0 104 ct1.example.org."
	derive := func(c *zone.Candidate, _ []string) []zone.Change {
		return []zone.Change{{Delete: c.RRset("ct1.example.org.", dns.TypeA) == nil, RR: rr(t, srv)}}
	}
	for _, foreign := range []string{
		"_tcp.example.org. 5 IN NS x.", "_tcp.example.org. 5 IN DNAME x.", "example.org. 5 IN DNAME x.",
		"s._tcp.example.org. 5 IN NS x.", "s._tcp.example.org. 5 IN CNAME x.", "s._tcp.example.org. 5 IN SRV 0 0 1 x.",
	} {
		for _, tt := range []struct {
			name string
			do   func(z *zone.Zone)
		}{
			{"with the site file", func(z *zone.Zone) {
				mustUpdate(t, z, "add "+foreign)
				replace(t, z, srv)
			}},
			{"with its host", func(z *zone.Zone) {
				setDerive(t, z, derive)
				mustUpdate(t, z, "add "+foreign)
				mustUpdate(t, z, "add "+host)
			}},
			{"with its host, at once", func(z *zone.Zone) {
				setDerive(t, z, derive)
				mustUpdate(t, z, "add "+host, "add "+foreign)
			}},
		} {
			t.Run(foreign+" "+tt.name, func(t *testing.T) {
				z := memory(t)
				tt.do(z)
				wantText(t, "answer", z.Snapshot().Lookup("s._tcp.example.org.", dns.TypeSRV).Answer, strings.Replace(srv, " IN", "", 1))
				wantText(t, "name servers", z.Snapshot().RRset(origin, dns.TypeNS), "example.org. 300 NS ns.example.org.")
				if n := len(slices.Collect(z.Snapshot().All())); n != z.Snapshot().Len() {
					t.Errorf("Len %d, and %d records", z.Snapshot().Len(), n)
				}
			})
		}
	}
	t.Run("PTR of an address", func(t *testing.T) {
		z := memory(t, "1.example.org. 5 IN PTR x.", "2.example.org. 5 IN PTR x.")
		replaceAnd(t, z, func(*zone.Candidate, []string) []zone.Change {
			return []zone.Change{{RR: rr(t, "2.example.org. 300 IN PTR ct1.example.org.")}}
		}, "1.example.org. 300 IN PTR oldmr.example.org.")
		wantText(t, "reload", z.Snapshot().RRset("1.example.org.", dns.TypePTR), "1.example.org. 300 PTR oldmr.example.org.")
		mustUpdate(t, z, "add "+host)
		wantText(t, "derive", z.Snapshot().RRset("2.example.org.", dns.TypePTR), "2.example.org. 300 PTR ct1.example.org.")
	})
}

func TestReplaceSite(t *testing.T) {
	z := memory(t, "dyn.example.org. 5 IN A 192.0.2.100", "old.example.org. 5 IN A 192.0.2.101", "c.example.org. 5 IN CNAME x.", "d.example.org. 5 IN A 192.0.2.102")
	serial := z.Snapshot().Serial()
	step := func(name string, changed bool, records ...string) {
		t.Helper()
		if got := replace(t, z, records...); got != changed {
			t.Errorf("%s: changed %t", name, got)
		}
		want := serial
		if changed {
			want++
		}
		if serial = z.Snapshot().Serial(); serial != want {
			t.Errorf("%s: serial %d, want %d", name, serial, want)
		}
	}
	a, b := "ct1.example.org. 300 IN A 192.0.2.11", "ct1.example.org. 300 IN TXT a b"
	step("nothing", false)
	step("first", true, a, b)
	step("same", false, a, b)
	step("same in other order and twice", false, b, a, a)
	step("data", true, "ct1.example.org. 300 IN A 192.0.2.12", b)
	step("TTL", true, "ct1.example.org. 60 IN A 192.0.2.12", b)
	step("case of the data", true, "ct1.example.org. 60 IN A 192.0.2.12", "ct1.example.org. 300 IN TXT A b")
	step("SOA fields", true, a, "example.org. 300 IN SOA ns.example.org. new.example.org. 0 1 2 3 4")
	if soa := z.Snapshot().SOA(); soa.Mbox != "new.example.org." || soa.Serial != serial || soa.Minttl != 4 {
		t.Errorf("SOA %v", soa)
	}
	step("SOA with any serial", false, a, "example.org. 300 IN SOA ns.example.org. new.example.org. 77 1 2 3 4")
	if changed := replace(t, z, a); !changed { // the SOA record is UPDATE's again
		t.Error("whose the SOA record is did not change")
	}
	if got := z.Snapshot().Serial(); got != serial {
		t.Error("a change that nobody can ask for took a serial")
	}
	mustUpdate(t, z, "add example.org. 300 IN SOA ns.example.org. new.example.org. 1000 1 2 3 4")
	serial = 1000
	step("over another's record", true, a, "old.example.org. 5 IN A 192.0.2.1")
	wantText(t, "old", z.Snapshot().RRset("old.example.org.", dns.TypeA), "old.example.org. 5 A 192.0.2.1")
	step("over another's CNAME, with a CNAME over another's data", true, a, "c.example.org. 5 IN A 192.0.2.1", "d.example.org. 5 IN CNAME y.")
	wantText(t, "c", z.Snapshot().Lookup("c.example.org.", dns.TypeANY).Answer, "c.example.org. 5 A 192.0.2.1")
	wantText(t, "d", z.Snapshot().Lookup("d.example.org.", dns.TypeANY).Answer, "d.example.org. 5 CNAME y.")
	if changed := replace(t, z, a, "c.example.org. 5 IN A 192.0.2.1", "d.example.org. 5 IN CNAME y.", "dyn.example.org. 5 IN A 192.0.2.100"); !changed || z.Snapshot().Serial() != serial {
		t.Error("taking over an equal record changes nothing that can be asked for")
	}
	if rcode, _ := update(t, z, "delname dyn.example.org."); rcode != dns.RcodeRefused {
		t.Error("a record that was taken over is not protected")
	}
	step("none", true)
	wantText(t, "zone", slices.Collect(z.Snapshot().Site()))
	if n := len(slices.Collect(z.Snapshot().All())); n != z.Snapshot().Len() {
		t.Errorf("Len %d, and %d records", z.Snapshot().Len(), n)
	}
}

func TestReplaceSiteRefuses(t *testing.T) {
	z := memory(t)
	replace(t, z, "a.example.org. 5 IN A 192.0.2.1")
	before := dump(z)
	for name, records := range map[string][]string{
		"outside":           {"b.example.org. 5 IN A 192.0.2.1", "a.example.net. 5 IN A 192.0.2.1"},
		"class":             {"b.example.org. 5 CH TXT a"},
		"DNSSEC":            {"b.example.org. 5 IN DS 1 8 2 00"},
		"CNAME and data":    {"b.example.org. 5 IN CNAME a.", "b.example.org. 5 IN A 192.0.2.1"},
		"two CNAME":         {"b.example.org. 5 IN CNAME a.", "b.example.org. 5 IN CNAME b."},
		"CNAME at the apex": {"example.org. 5 IN CNAME a."},
		"two SOA":           {base[0], base[0]},
		"SOA below":         {"b." + base[0]},
	} {
		t.Run(name, func(t *testing.T) {
			changed, err := z.ReplaceSite(context.Background(), func(*zone.Candidate) ([]dns.RR, zone.Derive) { return rrs(t, records...), nil })
			if changed || err == nil || !strings.Contains(err.Error(), "record ") || !slices.Equal(before, dump(z)) {
				t.Fatalf("%t, %v", changed, err)
			}
		})
	}
	t.Run("limit", func(t *testing.T) {
		z.Configure(zone.Config{Limits: zone.Limits{Records: 5}})
		_, err := z.ReplaceSite(context.Background(), func(*zone.Candidate) ([]dns.RR, zone.Derive) {
			return rrs(t, "a.example.org. 5 IN A 192.0.2.1", "b.example.org. 5 IN A 192.0.2.1"), nil
		})
		if !errors.Is(err, zone.ErrLimit) {
			t.Fatal(err)
		}
	})
}

func TestReplaceSiteSeesTheZone(t *testing.T) {
	z := memory(t)
	_, err := z.ReplaceSite(context.Background(), func(c *zone.Candidate) ([]dns.RR, zone.Derive) {
		if len(c.RRset("WWW.example.org.", dns.TypeA)) != 1 || c.RRset("example.net.", dns.TypeA) != nil ||
			c.RRset("www.example.org.", dns.TypeMX) != nil || c.RRset("..", dns.TypeMX) != nil {
			t.Error("candidate is not the zone")
		}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The rules change with the records: not without them, and also where the records stay the same.
func TestRulesComeWithRecords(t *testing.T) {
	mark := func(name string) zone.Derive {
		return func(*zone.Candidate, []string) []zone.Change {
			return []zone.Change{{RR: rr(t, name+".example.org. 5 IN TXT a")}}
		}
	}
	z := memory(t)
	there := func(name string) bool { return z.Snapshot().RRset(name+".example.org.", dns.TypeTXT) != nil }
	replaceAnd(t, z, mark("one"), "a.example.org. 5 IN A 192.0.2.1")
	z.Configure(zone.Config{Limits: zone.Limits{Records: 6}})
	_, err := z.ReplaceSite(context.Background(), func(*zone.Candidate) ([]dns.RR, zone.Derive) {
		return rrs(t, "a.example.org. 5 IN A 192.0.2.2", "b.example.org. 5 IN A 192.0.2.2", "c.example.org. 5 IN A 192.0.2.2"), mark("two")
	})
	if !errors.Is(err, zone.ErrLimit) {
		t.Fatal(err)
	}
	z.Configure(zone.Config{})
	mustUpdate(t, z, "add x.example.org. 5 IN A 192.0.2.9")
	if !there("one") || there("two") {
		t.Errorf("after a site that was refused: %q", dump(z))
	}
	if replaceAnd(t, z, mark("two"), "a.example.org. 5 IN A 192.0.2.1", "one.example.org. 5 IN TXT a") {
		t.Error("equal records change something")
	}
	mustUpdate(t, z, "delname x.example.org.")
	if !there("two") {
		t.Errorf("after other rules for the same records: %q", dump(z))
	}
	replaceAnd(t, z, nil, "a.example.org. 5 IN A 192.0.2.1")
	mustUpdate(t, z, "add x.example.org. 5 IN A 192.0.2.9")
	if there("two") {
		t.Errorf("without rules: %q", dump(z))
	}
}

// service keeps an SRV record of the site while its host has an address.
func service(t testing.TB, calls *atomic.Int32) zone.Derive {
	return func(c *zone.Candidate, touched []string) []zone.Change {
		calls.Add(1)
		if !slices.Contains(touched, "ct1.example.org.") {
			return nil
		}
		return []zone.Change{
			{Delete: len(c.RRset("ct1.example.org.", dns.TypeA)) == 0, RR: rr(t, "s.example.org. 300 IN SRV 0 0 104 ct1.example.org.")},
			{Delete: len(c.RRset("ct1.example.org.", dns.TypeA)) == 0, RR: rr(t, "_p.example.org. 300 IN PTR s.example.org.")},
		}
	}
}

func TestDerive(t *testing.T) {
	z := memory(t)
	var calls atomic.Int32
	var committed []uint32
	setDerive(t, z, service(t, &calls))
	z.Configure(zone.Config{Committed: func(s uint32) { committed = append(committed, s) }})
	srv := func() bool { return z.Snapshot().RRset("s.example.org.", dns.TypeSRV) != nil }

	mustUpdate(t, z, "add CT1.example.org. 60 IN A 192.0.2.11")
	if !srv() || z.Snapshot().Serial() != 11 {
		t.Fatalf("after the address came: %q", dump(z))
	}
	if rcode, err := update(t, z, "delname s.example.org."); rcode != dns.RcodeRefused || !errors.Is(err, zone.ErrSiteRecord) {
		t.Fatalf("a derived record can be deleted: %d, %v", rcode, err)
	}
	mustUpdate(t, z, "add ct1.example.org. 60 IN TXT a") // touched, and the service is there already
	if !srv() || z.Snapshot().Serial() != 12 {
		t.Fatal("deriving what is there changed something")
	}
	calls.Store(0)
	mustUpdate(t, z, "add ct1.example.org. 60 IN A 192.0.2.11")
	if calls.Load() != 0 {
		t.Error("derived from no change")
	}
	mustUpdate(t, z, "delset ct1.example.org. A")
	if srv() || z.Snapshot().Serial() != 13 {
		t.Fatalf("after the address went: %q", dump(z))
	}
	if n := len(slices.Collect(z.Snapshot().Site())); n != 0 {
		t.Errorf("%d records of the site are left", n)
	}
	if want := []uint32{11, 12, 13}; !slices.Equal(committed, want) {
		t.Errorf("told about %d, want %d", committed, want)
	}

	t.Run("takes over another's record", func(t *testing.T) {
		mustUpdate(t, z, "add s.example.org. 5 IN SRV 0 0 1 x.", "add _p.example.org. 5 IN PTR other.")
		mustUpdate(t, z, "add ct1.example.org. 60 IN A 192.0.2.11")
		wantText(t, "SRV", z.Snapshot().RRset("s.example.org.", dns.TypeSRV), "s.example.org. 300 SRV 0 0 104 ct1.example.org.")
		wantText(t, "PTR", z.Snapshot().RRset("_p.example.org.", dns.TypePTR), "_p.example.org. 300 PTR s.example.org.", "_p.example.org. 300 PTR other.")
	})
	t.Run("its failure is the update's", func(t *testing.T) {
		for name, derive := range map[string]zone.Derive{
			"outside": func(*zone.Candidate, []string) []zone.Change {
				return []zone.Change{{RR: rr(t, "a.example.net. 5 IN A 192.0.2.1")}}
			},
			"nil":   func(*zone.Candidate, []string) []zone.Change { return []zone.Change{{}} },
			"SOA":   func(*zone.Candidate, []string) []zone.Change { return []zone.Change{{RR: rr(t, base[0])}} },
			"panic": func(*zone.Candidate, []string) []zone.Change { panic("derive") },
		} {
			setDerive(t, z, derive)
			before := dump(z)
			rcode, err := update(t, z, "add b.example.org. 5 IN A 192.0.2.1")
			if rcode != dns.RcodeServerFailure || err == nil || !slices.Equal(before, dump(z)) {
				t.Errorf("%s: %s, %v", name, dns.RcodeToString[rcode], err)
			}
		}
	})
}

// A TXT record of the site at a host stands beside those of others there, and is not in the way of who deletes the host.
func TestTXTOfHost(t *testing.T) {
	const host = "ct1.example.org."
	site := rr(t, host+" 300 IN TXT AET=CT1")
	z := memory(t)
	setDerive(t, z, func(c *zone.Candidate, _ []string) []zone.Change {
		return []zone.Change{{Delete: c.RRset(host, dns.TypeA) == nil || c.Others(host, dns.TypeTXT), RR: site}}
	})
	txt := func(want ...string) {
		t.Helper()
		wantText(t, "TXT", z.Snapshot().RRset(host, dns.TypeTXT), want...)
	}
	mustUpdate(t, z, "add ct1.example.org. 60 IN A 192.0.2.11")
	txt(`ct1.example.org. 300 TXT "AET=CT1"`)
	if rcode, err := update(t, z, "del ct1.example.org. 0 IN TXT AET=CT1"); rcode != dns.RcodeRefused || !errors.Is(err, zone.ErrSiteRecord) {
		t.Errorf("deleting the site's: %s, %v", dns.RcodeToString[rcode], err)
	}
	mustUpdate(t, z, "delname ct1.example.org.")
	if s := z.Snapshot(); s.Serial() != 12 || s.RRset(host, dns.TypeTXT) != nil {
		t.Errorf("after the host was deleted: serial %d, %q", s.Serial(), dump(z))
	}
	mustUpdate(t, z, "add ct1.example.org. 60 IN A 192.0.2.11", "add ct1.example.org. 60 IN TXT other")
	txt(`ct1.example.org. 60 TXT "other"`)
	mustUpdate(t, z, "delset ct1.example.org. TXT")
	txt(`ct1.example.org. 300 TXT "AET=CT1"`)
	mustUpdate(t, z, "add ct1.example.org. 60 IN TXT other")
	txt(`ct1.example.org. 300 TXT "other"`)

	t.Run("without a rule", func(t *testing.T) {
		setDerive(t, z, nil)
		replace(t, z, host+" 300 IN TXT AET=CT1", "s._tcp.example.org. 300 IN TXT a")
		txt(`ct1.example.org. 300 TXT "AET=CT1"`, `ct1.example.org. 300 TXT "other"`)
		for _, line := range []string{"add s._tcp.example.org. 300 IN TXT b", "delname s._tcp.example.org."} {
			if rcode, _ := update(t, z, line); rcode != dns.RcodeRefused {
				t.Errorf("%s: %s", line, dns.RcodeToString[rcode])
			}
		}
	})
}
