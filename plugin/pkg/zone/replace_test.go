package zone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
)

// The site of these tests: hosts that are published as services while they have an address, and fixed ones with an
// address that tells the version.
const testHosts = 12

func service(i int) string { return fmt.Sprintf("s%d._d._tcp.example.org.", i) }
func host(i int) string    { return fmt.Sprintf("h%d.example.org.", i) }

func serviceRecords(t testing.TB, i int) []dns.RR {
	return []dns.RR{
		testRR(t, fmt.Sprintf("%s 60 IN SRV 0 0 104 %s", service(i), host(i))),
		testRR(t, fmt.Sprintf("_d._tcp.example.org. 60 IN PTR %s", service(i))),
	}
}

// fixedAddress tells the version.
func fixedAddress(version int) string { return fmt.Sprintf("192.0.%d.%d", version>>8, version&255) }

// below is a name that has none of the site's below it but in one version of three.
func below(version int) string { return fmt.Sprintf("v%d.example.org.", version%3) }

// hostsIn is how many of the hosts a version has services of, where versions differ in that.
func hostsIn(version int) int { return testHosts - version%4 }

// siteVersion is the version of the site in a zone, 0 if it has none.
func siteVersion(t testing.TB, s *Snapshot) (version int) {
	t.Helper()
	if label, ok := strings.CutPrefix(s.SOA().Mbox, "version-"); ok {
		if _, err := fmt.Sscanf(label, "%d.", &version); err != nil {
			t.Error(err)
		}
	}
	return version
}

func wantSite(t testing.TB, version, hosts int) func(c *Candidate) ([]dns.RR, Derive) {
	return func(c *Candidate) ([]dns.RR, Derive) {
		records := []dns.RR{
			testRR(t, fmt.Sprintf("example.org. 300 IN SOA ns.example.org. version-%d.example.org. 1 3600 600 86400 60", version)),
			testRR(t, "example.org. 60 IN NS ns.example.org."),
		}
		records = append(records, testRR(t, fmt.Sprintf("x.%s 60 IN A %s", below(version), fixedAddress(version))))
		for i := range testHosts {
			records = append(records, testRR(t, fmt.Sprintf("f%d.example.org. 60 IN A %s", i, fixedAddress(version))))
		}
		for i := range hosts {
			if c.RRset(host(i), dns.TypeA) != nil {
				records = append(records, serviceRecords(t, i)...)
			}
		}
		return records, func(c *Candidate, touched []string) (changes []Change) {
			for i := range hosts {
				if slices.Contains(touched, host(i)) {
					for _, rr := range serviceRecords(t, i) {
						changes = append(changes, Change{Delete: c.RRset(host(i), dns.TypeA) == nil, RR: rr})
					}
				}
			}
			return changes
		}
	}
}

// checkSite fails unless the snapshot has one version, that one unless it is 0, and exactly the services whose hosts have
// an address.
func checkSite(t testing.TB, s *Snapshot, version, hosts int) {
	t.Helper()
	found := siteVersion(t, s)
	if version > 0 && found != version {
		t.Errorf("serial %d: version %d, want %d", s.Serial(), found, version)
	}
	for i := range testHosts {
		set := s.RRset(fmt.Sprintf("f%d.example.org.", i), dns.TypeA)
		if len(set) != 1 || set[0].(*dns.A).A.String() != fixedAddress(found) {
			t.Errorf("serial %d of version %d: fixed addresses %v", s.Serial(), found, set)
		}
		alive := i < hosts && s.RRset(host(i), dns.TypeA) != nil
		if found := s.RRset(service(i), dns.TypeSRV) != nil; found != alive {
			t.Errorf("serial %d: service %d: %t, want %t", s.Serial(), i, found, alive)
		}
		found := slices.ContainsFunc(s.RRset("_d._tcp.example.org.", dns.TypePTR), func(rr dns.RR) bool {
			return rr.(*dns.PTR).Ptr == service(i)
		})
		if found != alive {
			t.Errorf("serial %d: service %d is listed: %t, want %t", s.Serial(), i, found, alive)
		}
	}
	if s.RRset("x."+below(found), dns.TypeA) == nil {
		t.Errorf("serial %d of version %d: nothing below %s", s.Serial(), found, below(found))
	}
	cuts := 0
	s.state.tree.Scan(func(e entry) bool {
		if e.node.isCut(e.key) {
			cuts++
		}
		if e.node.siteRecords() == 0 || e.key == "" {
			return true
		}
		parentKeys(e.key, func(parent string) bool {
			if s.state.get(parent).isCut(parent) {
				t.Errorf("serial %d: %s is hidden by %q", s.Serial(), e.node.name, parent)
			}
			return true
		})
		if e.node.set(dns.TypeNS) != nil {
			t.Errorf("serial %d: %s is delegated", s.Serial(), e.node.name)
		}
		return true
	})
	if cuts != s.state.cuts {
		t.Errorf("serial %d: %d delegations and DNAME records, and it says %d", s.Serial(), cuts, s.state.cuts)
	}
	octets, records := 0, 0
	for rr := range s.All() {
		records++
		octets += dns.Len(rr)
	}
	if records != s.Len() || octets != s.Size() {
		t.Errorf("serial %d: %d records of %d octets, and it says %d of %d", s.Serial(), records, octets, s.Len(), s.Size())
	}
}

func testUpdate(t testing.TB, z *Zone, rrs ...dns.RR) {
	t.Helper()
	if rcode, err := z.Update(context.Background(), nil, rrs, permitAll); rcode != dns.RcodeSuccess || err != nil {
		t.Errorf("%s, %v", dns.RcodeToString[rcode], err)
	}
}

// sorted is the zone's contents without the order of records in an RRset, which the database does not keep.
func sorted(z *Zone) []string { return slices.Sorted(slices.Values(contents(z))) }

func deletion(name string, typ uint16) dns.RR {
	return &dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassANY}}
}

// What happens while a replacement is prepared stays, and decides where it has to.
func TestReplaceSiteWhileUpdated(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(z *Zone)
		always    bool // in every attempt
		calls     int
		check     func(t *testing.T, s *Snapshot)
	}{
		"nothing": {func(*Zone) {}, true, 1, nil},
		"other names": {func(z *Zone) {
			testUpdate(t, z, testRR(t, "other.example.org. 60 IN A 192.0.2.9"), deletion("gone.example.org.", dns.TypeANY))
		}, true, 1, func(t *testing.T, s *Snapshot) {
			if s.RRset("other.example.org.", dns.TypeA) == nil || s.RRset("gone.example.org.", dns.TypeA) != nil {
				t.Error("an update is lost")
			}
		}},
		"an address comes": {func(z *Zone) {
			testUpdate(t, z, testRR(t, host(3)+" 60 IN A 192.0.2.9"))
		}, true, 1, nil},
		"an address goes": {func(z *Zone) { testUpdate(t, z, deletion(host(1), dns.TypeA)) }, true, 1, nil},
		"addresses come and go": {func(z *Zone) {
			for i := range testHosts {
				testUpdate(t, z, testRR(t, host(i)+" 60 IN A 192.0.2.9"))
			}
			for i := range testHosts / 2 {
				testUpdate(t, z, deletion(host(2*i), dns.TypeA))
			}
		}, true, 1, nil},
		"a host goes that the new site has not": {func(z *Zone) {
			testUpdate(t, z, deletion(host(10), dns.TypeA))
		}, true, 1, nil},
		"a host comes that the new site has not": {func(z *Zone) {
			testUpdate(t, z, testRR(t, host(11)+" 60 IN A 192.0.2.9"))
		}, true, 1, nil},
		"a record beside the site's": {func(z *Zone) {
			testUpdate(t, z, testRR(t, "_d._tcp.example.org. 60 IN PTR foreign._d._tcp.example.org."))
		}, true, 1, func(t *testing.T, s *Snapshot) {
			if set := s.RRset("_d._tcp.example.org.", dns.TypePTR); !slices.ContainsFunc(set, func(rr dns.RR) bool { return strings.Contains(rr.String(), "foreign") }) {
				t.Error("a record beside the site's is lost")
			}
		}},
		"a delegation": {func(z *Zone) {
			testUpdate(t, z, testRR(t, "sub.example.org. 60 IN NS ns.example.net."), testRR(t, "a.s.example.org. 60 IN DNAME example.net."))
		}, true, 1, func(t *testing.T, s *Snapshot) {
			if s.state.cuts != 2 {
				t.Errorf("%d cuts", s.state.cuts)
			}
		}},
		"a delegation above the site's": {func(z *Zone) {
			testUpdate(t, z, testRR(t, below(2)+" 60 IN NS ns.example.net."))
		}, false, 2, func(t *testing.T, s *Snapshot) {
			if s.state.cuts != 0 {
				t.Errorf("%d cuts", s.state.cuts)
			}
		}}, // which gives way the second time
		"a DNAME record above the site's, and a delegation elsewhere": {func(z *Zone) {
			testUpdate(t, z, testRR(t, below(2)+" 60 IN DNAME example.net."), testRR(t, below(3)+" 60 IN NS ns.example.net."))
		}, false, 2, func(t *testing.T, s *Snapshot) {
			if s.state.cuts != 1 {
				t.Errorf("%d cuts", s.state.cuts)
			}
		}},
		"a delegation at the site's": {func(z *Zone) {
			testUpdate(t, z, testRR(t, "x."+below(2)+" 60 IN NS ns.example.net."))
		}, false, 2, func(t *testing.T, s *Snapshot) {
			if s.state.cuts != 0 {
				t.Errorf("%d cuts", s.state.cuts)
			}
		}},
		"again and again": {func() func(z *Zone) {
			n := 0
			return func(z *Zone) {
				n++
				testUpdate(t, z, testRR(t, fmt.Sprintf("%s 60 IN NS ns%d.example.net.", below(2), n)))
			}
		}(), true, 4, nil},
		"another site": {func(z *Zone) {
			if _, err := z.ReplaceSite(context.Background(), wantSite(t, 7, testHosts)); err != nil {
				t.Error(err)
			}
		}, false, 1, nil},
		"more than is worked out again": {func(z *Zone) {
			var rrs []dns.RR
			for i := range maxBoth + 1 {
				rrs = append(rrs, testRR(t, fmt.Sprintf("i%d._d._tcp.example.org. 60 IN A 192.0.2.9", i)))
			}
			site := wantSite(t, 7, testHosts)
			if _, err := z.ReplaceSite(context.Background(), func(c *Candidate) ([]dns.RR, Derive) {
				all, derive := site(c)
				return append(all, rrs...), derive
			}); err != nil {
				t.Error(err)
			}
		}, false, 2, nil},
		"only the serial": {func(z *Zone) { testUpdate(t, z, testRR(t, "example.org. 60 IN TXT a")) }, true, 1, func(t *testing.T, s *Snapshot) {
			if s.RRset("example.org.", dns.TypeTXT) == nil {
				t.Error("a record of the apex is lost")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s, z := openMem(t, fs)
			if _, err := z.ReplaceSite(context.Background(), wantSite(t, 1, testHosts)); err != nil {
				t.Fatal(err)
			}
			testUpdate(t, z, testRR(t, host(0)+" 60 IN A 192.0.2.1"), testRR(t, host(1)+" 60 IN A 192.0.2.1"),
				testRR(t, host(10)+" 60 IN A 192.0.2.1"), testRR(t, "gone.example.org. 60 IN A 192.0.2.1"))
			checkSite(t, z.Snapshot(), 1, testHosts)
			calls := 0
			want := wantSite(t, 2, testHosts-2)
			changed, err := z.ReplaceSite(context.Background(), func(c *Candidate) ([]dns.RR, Derive) {
				calls++
				records, derive := want(c)
				if calls <= attempts && (tt.always || calls == 1) { // after those it runs on the committer
					tt.meanwhile(z)
				}
				return records, derive
			})
			if err != nil || !changed || calls != tt.calls {
				t.Errorf("%t, %v, %d calls, want %d", changed, err, calls, tt.calls)
			}
			checkSite(t, z.Snapshot(), 2, testHosts-2)
			if tt.check != nil {
				tt.check(t, z.Snapshot())
			}
			checkJournal(t, z)
			testUpdate(t, z, testRR(t, host(5)+" 60 IN A 192.0.2.1"), testRR(t, host(11)+" 60 IN A 192.0.2.2"))
			checkSite(t, z.Snapshot(), 2, testHosts-2)
			before := sorted(z)
			serial := z.Snapshot().Serial()
			if changed, err := z.ReplaceSite(context.Background(), want); err != nil || changed || z.Snapshot().Serial() != serial {
				t.Errorf("the same again: %t, %v", changed, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, z = openMem(t, fs)
			defer s.Close()
			if !slices.Equal(sorted(z), before) {
				t.Errorf("on disk is %q, published was %q", sorted(z), before)
			}
			checkJournal(t, z)
		})
	}
}

// Delegations and DNAME records that are there give way to the site's names below them, and others stay, without a second
// attempt unless they change meanwhile.
func TestReplaceSiteAmongDelegations(t *testing.T) {
	for name, tt := range map[string]struct {
		apex      string // data of a DNAME record at the apex
		meanwhile func(z *Zone)
		calls     int
	}{
		"they stay":           {"", func(*Zone) {}, 1},
		"one goes":            {"", func(z *Zone) { testUpdate(t, z, deletion(below(2), dns.TypeNS)) }, 1},
		"one changes":         {"", func(z *Zone) { testUpdate(t, z, testRR(t, below(2)+" 60 IN NS ns2.example.net.")) }, 2},
		"another one changes": {"", func(z *Zone) { testUpdate(t, z, testRR(t, "sub.example.org. 60 IN NS ns2.example.net.")) }, 1},
		"DNAME at the apex":   {"example.net.", func(*Zone) {}, 1}, // on the committer
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open("", Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			z, err := s.Zone(testOrigin, func() ([]dns.RR, error) {
				rrs, err := testSeed(t)()
				rrs = append(rrs, testRR(t, below(2)+" 60 IN NS ns.example.net."), testRR(t, "sub.example.org. 60 IN NS ns.example.net."),
					testRR(t, "d.example.org. 60 IN DNAME example.net."))
				if tt.apex != "" {
					rrs = append(rrs, testRR(t, "example.org. 60 IN DNAME "+tt.apex))
				}
				return rrs, err
			})
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			want := wantSite(t, 2, testHosts)
			changed, err := z.ReplaceSite(context.Background(), func(c *Candidate) ([]dns.RR, Derive) {
				if calls++; calls == 1 {
					tt.meanwhile(z)
				}
				return want(c)
			})
			if err != nil || !changed || calls != tt.calls {
				t.Errorf("%t, %v, %d calls, want %d", changed, err, calls, tt.calls)
			}
			checkSite(t, z.Snapshot(), 2, testHosts)
			if n := z.Snapshot().state.cuts; n != 2 {
				t.Errorf("%d delegations and DNAME records, want 2", n)
			}
			checkJournal(t, z)
		})
	}
}

// Replacements and updates from all sides never leave a service without a host, two versions, or a gap in the journal.
func TestReplaceSiteAmongUpdates(t *testing.T) {
	fs := vfs.NewMem()
	s, z := openMem(t, fs)
	if _, err := z.ReplaceSite(context.Background(), wantSite(t, 1, hostsIn(1))); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	running := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	for c := range 3 {
		wg.Go(func() {
			for n := 0; running(); n++ {
				switch i := (n*7 + c) % testHosts; {
				case n%5 != 0:
					testUpdate(t, z, testRR(t, fmt.Sprintf("c%d-%d.example.org. 60 IN A 192.0.2.%d", c, n%50, n%250)))
				case n%2 == 0:
					testUpdate(t, z, testRR(t, fmt.Sprintf("%s 60 IN A 192.0.2.%d", host(i), c)))
				default:
					testUpdate(t, z, deletion(host(i), dns.TypeA))
				}
			}
		})
	}
	wg.Go(func() { // delegations and DNAME records, which are refused where they would hide the site's
		refused, done := 0, 0
		for n := 0; running(); n++ {
			name := below(n)
			rr := testRR(t, []string{name, "x." + name}[n/7%2]+[]string{" 60 IN NS ns.example.net.", " 60 IN DNAME example.net."}[n/5%2])
			for _, update := range []dns.RR{rr, deletion(rr.Header().Name, rr.Header().Rrtype)} {
				switch rcode, err := z.Update(context.Background(), nil, []dns.RR{update}, permitAll); {
				case rcode == dns.RcodeSuccess:
					done++
				case errors.Is(err, ErrSiteRecord):
					refused++
				default:
					t.Errorf("%s, %v", dns.RcodeToString[rcode], err)
				}
			}
		}
		if refused == 0 || done == 0 {
			t.Errorf("%d refused, %d done", refused, done)
		}
	})
	wg.Go(func() {
		for running() {
			snap := z.Snapshot()
			checkSite(t, snap, 0, hostsIn(siteVersion(t, snap)))
		}
	})
	for version := 2; version < 150; version++ {
		if changed, err := z.ReplaceSite(context.Background(), wantSite(t, version, hostsIn(version))); err != nil || !changed {
			t.Errorf("version %d: %t, %v", version, changed, err)
		}
		checkSite(t, z.Snapshot(), version, hostsIn(version))
	}
	close(stop)
	wg.Wait()
	checkJournal(t, z)
	before := sorted(z)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, z = openMem(t, fs)
	defer s.Close()
	if !slices.Equal(sorted(z), before) {
		t.Error("the disk has something else than what was published")
	}
	checkJournal(t, z)
}
