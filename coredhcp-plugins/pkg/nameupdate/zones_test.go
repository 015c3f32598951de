package nameupdate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

func TestZones(t *testing.T) {
	for _, tt := range []struct {
		name   string
		zones  []string
		answer func(q string, r *dns.Msg)
		of     []string // names
		want   []string // zone, or part of the error
		asked  string
	}{
		{"one question for all neighbours", []string{"example.org."}, nil,
			[]string{"a.example.org.", "b.example.org.", "a.example.org."}, []string{"example.org.", "example.org.", "example.org."}, "a.example.org."},
		{"a zone below", []string{"example.org.", "sub.example.org."}, nil,
			[]string{"a.example.org.", "a.sub.example.org.", "b.example.org."}, []string{"example.org.", "sub.example.org.", "example.org."}, "a.example.org. a.sub.example.org."},
		{"a zone above", []string{"example.org."}, nil,
			[]string{"a.b.c.example.org."}, []string{"example.org."}, "a.b.c.example.org."},
		{"an apex says nothing about its neighbours", []string{"example.org.", "sub.example.org."}, nil,
			[]string{"sub.example.org.", "a.example.org.", "b.example.org."}, []string{"sub.example.org.", "example.org.", "example.org."}, "sub.example.org. a.example.org."},
		{"not served", []string{"example.org."}, nil,
			[]string{"a.example.net.", "b.example.net."}, []string{"server 192.0.2.2:53 is not authoritative for a.example.net.: REFUSED", "not authoritative"}, "a.example.net."},
		{"a referral", []string{"example.org."}, func(_ string, r *dns.Msg) {
			r.Authoritative, r.Rcode, r.Ns = false, success, []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeNS}}}
		}, []string{"a.example.org."}, []string{"is not authoritative for a.example.org.: it delegates example.org; expected server=example.org=HOST"}, "a.example.org."},
		{"no authority", []string{"example.org."}, func(_ string, r *dns.Msg) { r.Authoritative = false },
			[]string{"a.example.org."}, []string{"is not authoritative for a.example.org.: it answers without authority"}, "a.example.org."},
		{"another zone's SOA", []string{"example.org."}, func(_ string, r *dns.Msg) { r.Ns[0].Header().Name = "example.net." },
			[]string{"a.example.org."}, []string{"no SOA of a zone above a.example.org"}, "a.example.org."},
		{"a longer SOA", []string{"example.org."}, func(_ string, r *dns.Msg) { r.Ns[0].Header().Name = "b.a.example.org." },
			[]string{"a.example.org."}, []string{"no SOA of a zone above"}, "a.example.org."},
		{"an alias out of the zone", []string{"example.org."}, func(q string, r *dns.Msg) {
			if q == "a.example.org." {
				r.Ns = nil
				r.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: q, Rrtype: dns.TypeCNAME}, Target: "example.net."}}
			}
		}, []string{"a.example.org."}, []string{"example.org."}, "a.example.org. example.org."},
		{"an alias into the zone above", []string{"example.org.", "sub.example.org."}, func(q string, r *dns.Msg) {
			if q == "a.sub.example.org." {
				r.Ns[0].Header().Name = "example.org." // the target's
				r.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: q, Rrtype: dns.TypeCNAME}, Target: "b.example.org."}}
			}
		}, []string{"a.sub.example.org.", "b.sub.example.org."}, []string{"sub.example.org.", "sub.example.org."}, "a.sub.example.org. sub.example.org."},
		{"aliases all the way up", []string{"."}, func(q string, r *dns.Msg) {
			r.Ns, r.Answer = nil, []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: q, Rrtype: dns.TypeCNAME}, Target: "example.net."}}
		}, []string{"a.example.org."}, []string{"no SOA"}, "a.example.org. example.org. org. ."},
		{"the server is ill", []string{"example.org."}, func(_ string, r *dns.Msg) { r.Rcode = servfail },
			[]string{"a.example.org.", "a.example.org."}, []string{"for the zone of a.example.org.: SERVFAIL", "SERVFAIL"}, "a.example.org. a.example.org."}, //nolint:dupword // it is asked twice
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &directory{zones: tt.zones, answer: tt.answer}
			z := zonesOf(d)
			for i, name := range tt.of {
				got, _, err := z.of(t.Context(), name)
				if err != nil {
					got = err.Error()
				}
				if !strings.Contains(got, tt.want[i]) || err == nil && got != tt.want[i] {
					t.Errorf("%s: got %s, want %s", name, got, tt.want[i])
				}
			}
			if got := d.asked(); got != tt.asked {
				t.Errorf("asked for %s, want %s", got, tt.asked)
			}
		})
	}
}

func TestZonesAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{zones: []string{"example.org."}}
		z := zonesOf(d)
		of := func(name string) (asked bool, err error) {
			_, _, err = z.of(t.Context(), name)
			return d.asked() != "", err
		}
		if asked, err := of("a.example.org."); !asked || err != nil {
			t.Fatal(asked, err)
		}
		time.Sleep(zoneLife - time.Second)
		if asked, _ := of("a.example.org."); asked {
			t.Error("asked too early")
		}
		time.Sleep(time.Second)
		d.zones = nil
		var none *noZoneError
		if asked, err := of("a.example.org."); !asked || !errors.As(err, &none) || !none.unsure {
			t.Errorf("a zone that went away: asked %v, %v", asked, err)
		}
		time.Sleep(missLife - time.Second)
		if asked, _ := of("a.example.org."); asked {
			t.Error("asked too early for a missing zone")
		}
		time.Sleep(lostLife)
		if asked, err := of("a.example.org."); !asked || !errors.As(err, &none) || none.unsure {
			t.Errorf("a zone that stays away: asked %v, %v", asked, err)
		}
		d.zones = []string{"example.org."}
		time.Sleep(missLife)
		if asked, err := of("a.example.org."); !asked || err != nil {
			t.Errorf("a zone that came back: asked %v, %v", asked, err)
		}
	})
}

// A zone that was never found may be about to be loaded: it is asked for again soon, and missing only when it has been
// for a while.
func TestZonesBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{}
		z := zonesOf(d)
		for begin := time.Now(); ; time.Sleep(newLife) {
			_, _, err := z.of(t.Context(), "a.example.org.")
			none, is := errors.AsType[*noZoneError](err)
			if !is || d.asked() == "" {
				t.Fatalf("after %s: %v", time.Since(begin), err)
			}
			if none.unsure != (time.Since(begin) < missLife) {
				t.Fatalf("after %s: unsure %v", time.Since(begin), none.unsure)
			}
			if !none.unsure {
				break
			}
		}
		time.Sleep(missLife - time.Second)
		if _, _, err := z.of(t.Context(), "a.example.org."); err == nil || d.asked() != "" {
			t.Errorf("asked too early for a zone that is missing for sure: %v", err)
		}
	})
}

// slow answers SOA queries after a second.
type slow struct{ *directory }

func (s slow) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	time.Sleep(time.Second)
	return s.directory.exchange(ctx, m)
}

func TestZonesAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{zones: []string{"example.org."}}
		z := zonesOf(slow{d})
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if zone, _, err := z.of(t.Context(), fmt.Sprintf("pc%d.example.org.", i)); zone != "example.org." || err != nil {
					t.Error(zone, err)
				}
			})
		}
		wg.Wait()
		if got := len(strings.Fields(d.asked())); got != 1 {
			t.Errorf("%d questions", got)
		}
	})
}

// TestZonesMissOnce has many changes at once hear that there is no zone.
func TestZonesMissOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := zonesOf(slow{&directory{}})
		for _, unsure := range []bool{true, false} {
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					_, _, err := z.of(t.Context(), fmt.Sprintf("pc%d.example.org.", i))
					if none, is := errors.AsType[*noZoneError](err); !is || none.unsure != unsure {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			time.Sleep(missLife)
		}
	})
}

func TestZonesAreBounded(t *testing.T) {
	z := zonesOf(&directory{})
	for i := range 2 * maxZones {
		z.learn(fmt.Sprintf("%d.example.org.", i), zoneEntry{zone: "example.org."})
	}
	if len(z.known) > maxZones {
		t.Errorf("%d parents remembered", len(z.known))
	}
}

// A zone that the server delegates is found by the resolvers, where there are any.
func TestDelegatedZone(t *testing.T) {
	parent := &directory{zones: []string{"example.org."}, answer: func(q string, r *dns.Msg) {
		if dns.IsSubDomain("child.example.org.", q) {
			r.Authoritative, r.Rcode = false, success
			r.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: "child.example.org.", Rrtype: dns.TypeNS}, Ns: "ns.child.example.org."}}
		}
	}}
	child := &directory{zones: []string{"child.example.org."}}
	known := resolving{"zone child.example.org.": "ns.child.example.org.", "ns.child.example.org.": "192.0.2.3", "zone example.org.": "ns.example.org.", "ns.example.org.": "192.0.2.2"}
	r := &routes{routes: []Route{{".", []string{"192.0.2.2:53"}}}, made: make(map[string]*upstream)}
	r.dial = func(server string, _ tsigkey.Key, _ bool) exchanger {
		if server == "192.0.2.3:53" {
			return child
		}
		return parent
	}
	alone := newWorker(Config{}.withDefaults(), nil, r)
	if _, _, err := alone.zones.of(t.Context(), "ct1.child.example.org."); err == nil || !strings.Contains(err.Error(), "expected server=child.example.org=HOST") {
		t.Errorf("without resolvers: %v", err)
	}
	r.resolver = &resolver{up: &upstream{name: "192.0.2.53:53", servers: []exchanger{known}}, known: make(map[string]primaryEntry)}
	w := newWorker(Config{}.withDefaults(), nil, r)
	for range 2 {
		for name, want := range map[string]string{
			"pc.example.org.": "example.org. 192.0.2.2:53", "ct1.child.example.org.": "child.example.org. 192.0.2.3:53",
		} {
			zone, at, err := w.zones.of(t.Context(), name)
			if err != nil || zone+" "+at.name != want {
				t.Errorf("%s: %s at %v, %v", name, zone, at, err)
			}
		}
	}
}

// While the resolvers do not answer it is not known whether there is a zone, so the change waits, pointer and all.
func TestDelegatedZoneWaits(t *testing.T) {
	parent := &directory{zones: []string{"192.in-addr.arpa."}, answer: func(q string, r *dns.Msg) {
		r.Authoritative, r.Rcode = false, success
		r.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: "2.0.192.in-addr.arpa.", Rrtype: dns.TypeNS}, Ns: "ns.example.org."}}
	}}
	for name, silent := range map[string]exchanger{
		"no answer": &switchable{err: errTimeout},
		"ill":       &directory{zones: []string{"."}, answer: func(_ string, r *dns.Msg) { r.Rcode = servfail }},
	} {
		r := &routes{routes: []Route{{".", []string{"192.0.2.2:53"}}}, made: make(map[string]*upstream)}
		r.dial = func(string, tsigkey.Key, bool) exchanger { return parent }
		r.resolver = &resolver{up: &upstream{name: "192.0.2.53:53", servers: []exchanger{silent}}, known: make(map[string]primaryEntry)}
		w := newWorker(Config{}.withDefaults(), nil, r)
		c := numbered(0, 1, "example.org.")[0]
		c.Make = lease.Reverse
		for range 2 {
			if o := apply(t.Context(), w.zones, c, time.Minute, false); o.err == nil || o.noReverse != nil {
				t.Errorf("%s: done without a pointer: %v", name, o.noReverse)
			}
		}
	}
}
