package nameupdate

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/miekg/dns"
)

// TestScout has names be asked for before their changes come. Those that are free take one round trip, all others two.
func TestScout(t *testing.T) {
	for _, tt := range []struct {
		name     string
		before   func(b *bench, c *lease.NameChange)
		together bool
	}{
		{"free", func(b *bench, c *lease.NameChange) { b.queue.ahead <- c.Name }, true},
		{"not asked for", func(*bench, *lease.NameChange) {}, false},
		{"asked for long ago", func(b *bench, c *lease.NameChange) {
			b.queue.ahead <- c.Name
			time.Sleep(freeLife)
		}, false},
		{"in use", func(b *bench, c *lease.NameChange) {
			b.dns.answering(func(q string, r *dns.Msg) {
				if q == c.Name {
					r.Rcode = success
				}
			})
			b.queue.ahead <- c.Name
		}, false},
		{"a server that does not know", func(b *bench, c *lease.NameChange) {
			b.dns.answering(func(_ string, r *dns.Msg) { r.Authoritative = false })
			b.queue.ahead <- c.Name
		}, false},
		{"an alias to nowhere", func(b *bench, c *lease.NameChange) {
			b.dns.answering(func(q string, r *dns.Msg) {
				if q == c.Name {
					r.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: q, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "gone.example.org."}}
				}
			})
			b.queue.ahead <- c.Name
		}, false},
		{"a zone that refused the last name", func(b *bench, c *lease.NameChange) {
			b.zones.took(c.Name, false)
			b.queue.ahead <- c.Name
		}, false},
		{"one direction", func(b *bench, c *lease.NameChange) {
			b.queue.ahead <- c.Name
			c.Make, c.Unmake = lease.Reverse, lease.Forward
		}, false},
		{"given twice", func(b *bench, c *lease.NameChange) {
			b.queue.ahead <- c.Name
			time.Sleep(time.Millisecond)
			b.queue.put(*c)
			time.Sleep(time.Second)
			c.Version++
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := runWorker(t, nil)
				changes := numbered(0, 2, "example.org.")
				b.queue.put(changes[0]) // finds the zones
				time.Sleep(time.Second)
				tt.before(b, &changes[1])
				time.Sleep(time.Millisecond)
				_, _, done := b.queue.state()
				b.queue.put(changes[1])
				time.Sleep(roundTrip + roundTrip/2)
				if _, _, now := b.queue.state(); (now > done) != tt.together {
					t.Errorf("done after one round trip: %t, want %t", now > done, tt.together)
				}
				time.Sleep(3 * roundTrip)
				b.expect(t, 0, done+1)
			})
		})
	}
}

// TestScoutCrowd has many names be offered before the first lease is given: their updates are not twice as many at a time.
func TestScoutCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runWorker(t, nil)
		changes := numbered(0, 200, "example.org.")
		b.queue.put(changes[0])
		time.Sleep(time.Second)
		for _, c := range changes[1:] {
			b.queue.ahead <- c.Name
		}
		time.Sleep(scoutRest)
		b.queue.put(changes[1:]...)
		time.Sleep(time.Second)
		b.expect(t, 0, len(changes))
		b.mu.Lock()
		defer b.mu.Unlock()
		if most := b.most; most <= b.config.InFlight || most > 100 {
			t.Errorf("%d updates at a time", most)
		}
	})
}

// TestScoutStaysHome has names come while it is of no use to ask for them.
func TestScoutStaysHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runWorker(t, nil)
		c := numbered(0, 1+scouts+1, "example.org.")
		want := func(when, want string) {
			t.Helper()
			b.queue.ahead <- "new.example.org."
			time.Sleep(roundTrip / 10)
			if got := b.dns.asked(); got != want {
				t.Errorf("%s: asked for %q, want %q", when, got, want)
			}
		}
		want("where no zone is known", "")
		b.queue.put(c[0])
		time.Sleep(time.Second)
		b.dns.asked() // for the zones
		want("with nothing to do", "new.example.org.")
		b.queue.put(c[1:]...)
		time.Sleep(roundTrip / 10)
		want("with much to do", "")
		time.Sleep(time.Second)
		up := b.routes.upstreams()[0]
		up.heldUntil.Store(time.Now().Add(time.Hour).UnixNano())
		want("in an outage", "")
		up.heldUntil.Store(0)
		want("after it", "new.example.org.")
		s := b.scout
		s.mu.Lock()
		for n := range maxFree {
			s.free[strings.Repeat("x", n)] = time.Now()
		}
		s.mu.Unlock()
		want("with many names", "new.example.org.")
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.free) > maxFree {
			t.Errorf("%d names are remembered", len(s.free))
		}
	})
}

// TestEarlyPointer has pointers be sent together with names that turn out not to be free, or whose zones do not take them.
func TestEarlyPointer(t *testing.T) {
	const (
		add      = "example.org. NONE ANY | IN A 192.0.2.101, IN DHCID ours"
		replace  = "example.org. ANY ANY, IN DHCID ours | ANY A, IN A 192.0.2.101"
		set      = "2.0.192.in-addr.arpa. NONE CNAME | ANY PTR, ANY DHCID, IN PTR pc1.example.org., IN DHCID ours"
		withdraw = "2.0.192.in-addr.arpa. IN PTR pc1.example.org., ANY DHCID | ANY PTR, ANY DHCID"
	)
	for _, tt := range []struct {
		name    string
		rcodes  map[string]int
		errs    map[string]error
		sent    []string // in any order
		want    error
		pointer bool // that is what failed
		zones   string
		answers int
	}{
		{"free", nil, nil, []string{add, set}, nil, false, "example.org. 2.0.192.in-addr.arpa.", 2},
		{"ours", map[string]int{add: yxdomain}, nil, []string{add, replace, set}, nil, false, "example.org. 2.0.192.in-addr.arpa.", 2},
		{"somebody's", map[string]int{add: yxdomain, replace: nxrrset}, nil, []string{add, replace, set, withdraw}, errConflict, false, "example.org. 2.0.192.in-addr.arpa.", 2},
		{"somebody's, the pointer is not taken", map[string]int{add: yxdomain, replace: nxrrset, set: servfail, withdraw: nxrrset}, nil, []string{add, replace, set, withdraw}, errConflict, false, "example.org. 2.0.192.in-addr.arpa.", 2},
		{"refused", map[string]int{add: refused}, nil, []string{add, set, withdraw}, &answerError{"example.org.", refused}, false, "", 1},
		{"both refused", map[string]int{add: refused, set: refused}, nil, []string{add, set}, &answerError{"example.org.", refused}, false, "", 1},
		{"no answer", nil, map[string]error{add: errTimeout}, []string{add, set, withdraw}, errTimeout, false, "", 0},
		{"the pointer refused", map[string]int{set: refused}, nil, []string{add, set}, &answerError{"2.0.192.in-addr.arpa.", refused}, true, "example.org.", 2},
		{"the pointer without answer", nil, map[string]error{set: errTimeout}, []string{add, set}, errTimeout, true, "example.org.", 1},
		{"an alias", map[string]int{set: yxrrset}, nil, []string{add, set}, nil, false, "example.org. 2.0.192.in-addr.arpa.", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var sent []string
			d := &directory{zones: []string{"example.org.", "2.0.192.in-addr.arpa."}, update: func(m *dns.Msg) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				update := m.Question[0].Name + " " + brief(m)
				sent = append(sent, update)
				return tt.rcodes[update], tt.errs[update]
			}}
			z := zonesOf(d)
			c := change("pc1.example.org.", "192.0.2.101", clientA)
			for _, name := range []string{c.Name, "101.2.0.192.in-addr.arpa."} { // where no zone is known, nothing is sent early
				if _, _, err := z.of(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			o := apply(t.Context(), z, c, time.Hour, true)
			slices.Sort(sent)
			slices.Sort(tt.sent)
			if !slices.Equal(sent, tt.sent) {
				t.Errorf("sent %q, want %q", sent, tt.sent)
			}
			if (o.err == nil) != (tt.want == nil) || tt.want != nil && !errors.Is(o.err, tt.want) && o.err.Error() != tt.want.Error() || fails[*pointerError](o.err) != tt.pointer {
				t.Errorf("got %v, want %v", o.err, tt.want)
			}
			if strings.Join(o.zones, " ") != tt.zones || len(o.answered) != tt.answers || (o.noReverse != nil) != (tt.name == "an alias") {
				t.Errorf("got %+v", o)
			}
		})
	}
}
