package nameupdate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
	"github.com/miekg/dns"
)

// overTCP is a client that uses TCP alone.
type overTCP struct{ *client }

func (o overTCP) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	return o.overTCP(ctx, m)
}

// deaf is a client that does not hear what the server answers to updates of a zone.
type deaf struct {
	*client
	zone string
}

func (d deaf) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	r, err := d.client.exchange(ctx, m)
	if err == nil && m.Opcode == dns.OpcodeUpdate && m.Question[0].Name == d.zone {
		return nil, &upstreamError{nil, errTimeout}
	}
	return r, err
}

// TestBIND runs the sequences against a real server. Whether it is asked for names before makes no difference to what it
// has afterwards.
func TestBIND(t *testing.T) {
	t.Run("at once", func(t *testing.T) { testBIND(t, false) })
	t.Run("asked before", func(t *testing.T) {
		if free := testBIND(t, true); free < 5 {
			t.Errorf("%d names were found free", free)
		}
	})
}

// testBIND counts the names that were found free.
func testBIND(t *testing.T, ask bool) (found int) {
	n := startNamed(t)
	c := n.client("hmac-sha256")
	z := zonesOf(c)
	do := func(t *testing.T, c2 lease.NameChange) outcome {
		t.Helper()
		s := newScout(z, new(atomic.Int64))
		if ask {
			s.ask(t.Context(), c2.Name)
		}
		free := s.takes(c2.Name)
		if free {
			found++
		}
		return apply(t.Context(), z, c2, TTL(c2.LeaseTime), free)
	}
	must := func(t *testing.T, c2 lease.NameChange) {
		t.Helper()
		if o := do(t, c2); o.err != nil || o.noReverse != nil {
			t.Fatalf("%v: %v, %v", c2, o.err, o.noReverse)
		}
	}
	// A zone that was never found is waited for at first.
	withoutReverse := func(t *testing.T, c2 lease.NameChange) {
		t.Helper()
		if none, is := errors.AsType[*noZoneError](do(t, c2).err); !is || !none.unsure {
			t.Fatalf("%v: %v", c2, none)
		}
		above := parent(reverseOf(t, c2.Address.String()))
		z.mu.Lock()
		e := z.known[above]
		e.missed, e.expires = e.missed.Add(-missLife), time.Time{}
		z.known[above] = e
		z.mu.Unlock()
		if o := do(t, c2); o.err != nil || o.noReverse == nil {
			t.Errorf("%v: %v, reverse zone %v", c2, o.err, o.noReverse)
		}
	}
	host := func(label string) string { return label + ".imaging.example.org." }

	t.Run("add, renew and remove", func(t *testing.T) {
		a := change(host("pc1"), "192.0.2.101", clientA)
		id, rev := DHCID(clientA, a.Name), reverseOf(t, "192.0.2.101")
		must(t, a)
		n.expect(t, a.Name, "A 192.0.2.101", "DHCID "+id)
		n.expect(t, rev, "PTR "+a.Name, "DHCID "+id)
		must(t, a)
		n.expect(t, a.Name, "A 192.0.2.101", "DHCID "+id)
		n.expect(t, rev, "PTR "+a.Name, "DHCID "+id)
		must(t, removal(a))
		n.expect(t, a.Name)
		n.expect(t, rev)
		must(t, removal(a)) // once more
	})
	t.Run("TTL is a third of the lease", func(t *testing.T) {
		a := change(host("ttl"), "192.0.2.102", clientA)
		a.LeaseTime = 12 * time.Hour
		must(t, a)
		for _, q := range []struct {
			name string
			t    uint16
		}{{a.Name, dns.TypeA}, {a.Name, dns.TypeDHCID}, {reverseOf(t, "192.0.2.102"), dns.TypePTR}} {
			r, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion(q.name, q.t), n.addr)
			if err != nil || len(r.Answer) != 1 || r.Answer[0].Header().Ttl != 4*3600 {
				t.Errorf("%v, %v", r, err)
			}
		}
	})
	t.Run("change of address", func(t *testing.T) {
		a, b := change(host("moved"), "192.0.2.103", clientA), change(host("moved"), "192.0.2.104", clientA)
		must(t, a)
		must(t, b)
		n.expect(t, a.Name, "A 192.0.2.104", "DHCID "+DHCID(clientA, a.Name))
		must(t, removal(a)) // the old address, late: must not touch the new one
		n.expect(t, a.Name, "A 192.0.2.104", "DHCID "+DHCID(clientA, a.Name))
		n.expect(t, reverseOf(t, "192.0.2.103"))
		n.expect(t, reverseOf(t, "192.0.2.104"), "PTR "+a.Name, "DHCID "+DHCID(clientA, a.Name))
	})
	t.Run("change of name", func(t *testing.T) {
		a, b := change(host("before"), "192.0.2.105", clientA), change(host("after"), "192.0.2.105", clientA)
		must(t, a)
		must(t, b)
		must(t, removal(a)) // after the new name took the pointer
		n.expect(t, a.Name)
		n.expect(t, reverseOf(t, "192.0.2.105"), "PTR "+b.Name, "DHCID "+DHCID(clientA, b.Name))
	})
	t.Run("conflict between clients", func(t *testing.T) {
		a, b := change(host("shared"), "192.0.2.106", clientA), change(host("shared"), "192.0.2.107", clientB)
		must(t, a)
		if o := do(t, b); !errors.Is(o.err, errConflict) {
			t.Errorf("got %v", o.err)
		}
		n.expect(t, a.Name, "A 192.0.2.106", "DHCID "+DHCID(clientA, a.Name))
		n.expect(t, reverseOf(t, "192.0.2.107"))
		must(t, removal(b)) // leaves the other's name alone
		n.expect(t, a.Name, "A 192.0.2.106", "DHCID "+DHCID(clientA, a.Name))
		must(t, removal(a))
		must(t, b)
		n.expect(t, a.Name, "A 192.0.2.107", "DHCID "+DHCID(clientB, a.Name))
	})
	t.Run("conflict of a name that was ours", func(t *testing.T) {
		lost := func(t *testing.T, c2 lease.NameChange) { // the pointer is set, and the answer that says so is lost
			ex := deaf{c, "2.0.192.in-addr.arpa."}
			if o := apply(t.Context(), zonesOf(ex), c2, time.Hour, false); !fails[*serverError](o.err) {
				t.Fatalf("got %v", o.err)
			}
		}
		without := func(c2 lease.NameChange) lease.NameChange {
			c2.Make, c2.Unmake = lease.Forward, lease.Reverse
			return c2
		}
		byClient := "DHCID " + DHCID(clientB, host("given"))
		for _, tt := range []struct {
			name    string
			before  func(*testing.T, lease.NameChange)
			given   []string // what stands at the name then
			change  func(lease.NameChange) lease.NameChange
			pointer []string // what stands at the address then; nil: as it was
			left    []string // of that
		}{
			{"renewed, entered by hand", must, []string{"A 192.0.2.250"}, nil, nil, nil},
			{"renewed, another client's", must, []string{"A 192.0.2.250", byClient}, nil, nil, nil},
			{"renewed, an alias now", must, []string{"CNAME static.imaging.example.org."}, nil, nil, nil},
			{"answer lost", lost, []string{"A 192.0.2.250", byClient}, nil, nil, nil},
			{"pointers not wanted any more", must, []string{"A 192.0.2.250", byClient}, without, nil, nil},
			{"pointer of another client that had both", must, []string{"A 192.0.2.250"}, nil, []string{"PTR " + host("given"), byClient}, nil},
			{"pointer entered by hand", must, []string{"A 192.0.2.250"}, nil, []string{"PTR " + host("given")}, []string{"PTR " + host("given")}},
			{"pointer to another name", must, []string{"A 192.0.2.250"}, nil, []string{"PTR " + host("static"), byClient}, []string{"PTR " + host("static"), byClient}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				a := change(host("given"), "192.0.2.120", clientA)
				rev := reverseOf(t, "192.0.2.120")
				tt.before(t, a)
				n.expect(t, rev, "PTR "+a.Name, "DHCID "+DHCID(clientA, a.Name))
				n.put(t, "imaging.example.org.", a.Name, tt.given...)
				if tt.pointer != nil {
					n.put(t, "2.0.192.in-addr.arpa.", rev, tt.pointer...)
				}
				again := a
				if tt.change != nil {
					again = tt.change(a)
				}
				for range 2 { // again when it is tried again
					if o := do(t, again); !errors.Is(o.err, errConflict) {
						t.Errorf("got %v", o.err)
					}
					n.expect(t, a.Name, tt.given...)
					n.expect(t, rev, tt.left...)
				}
				n.put(t, "2.0.192.in-addr.arpa.", rev)
				n.put(t, "imaging.example.org.", a.Name) // it is free again
				must(t, a)
				n.expect(t, a.Name, "A 192.0.2.120", "DHCID "+DHCID(clientA, a.Name))
				n.expect(t, rev, "PTR "+a.Name, "DHCID "+DHCID(clientA, a.Name))
				must(t, removal(a))
			})
		}
	})
	t.Run("conflict with names entered by hand", func(t *testing.T) {
		for _, label := range []string{"static", "alias", "ns1"} {
			if o := do(t, change(host(label), "192.0.2.108", clientA)); !errors.Is(o.err, errConflict) {
				t.Errorf("%s: got %v", label, o.err)
			}
			must(t, removal(change(host(label), "192.0.2.108", clientA)))
		}
		n.expect(t, host("static"), "A 192.0.2.3")
		n.expect(t, host("alias"), "CNAME static.imaging.example.org.")
		n.expect(t, reverseOf(t, "192.0.2.108"))
	})
	t.Run("a site device takes its name", func(t *testing.T) {
		must(t, change(host("ct1"), "192.0.2.109", clientB))
		a := owned(change(host("ct1"), "192.0.2.110", clientA))
		must(t, a)
		n.expect(t, a.Name, "A 192.0.2.110", "DHCID "+DHCID(clientA, a.Name))
		n.update(t, func(m *dns.Msg) {
			m.RemoveName([]dns.RR{mustRR(t, "ct2.imaging.example.org. A 192.0.2.1")})
			m.Insert([]dns.RR{mustRR(t, "ct2.imaging.example.org. CNAME ct1.imaging.example.org.")})
		})
		b := owned(change(host("ct2"), "192.0.2.111", clientA))
		must(t, b)
		n.expect(t, b.Name, "A 192.0.2.111", "DHCID "+DHCID(clientA, b.Name))
	})
	t.Run("a site device leaves its other records", func(t *testing.T) {
		a := owned(change(host("mr1"), "192.0.2.112", clientA))
		must(t, a)
		n.update(t, func(m *dns.Msg) {
			m.Insert([]dns.RR{mustRR(t, "mr1.imaging.example.org. 60 TXT \"AET=MR1\"")})
		})
		must(t, a)
		must(t, removal(a))
		n.expect(t, a.Name, "TXT \"AET=MR1\"")
	})
	t.Run("a name with another address keeps it", func(t *testing.T) {
		a := change(host("dual"), "192.0.2.113", clientA)
		must(t, a)
		n.update(t, func(m *dns.Msg) { m.Insert([]dns.RR{mustRR(t, "dual.imaging.example.org. 60 AAAA 2001:db8::1")}) })
		must(t, removal(a))
		n.expect(t, a.Name, "AAAA 2001:db8::1", "DHCID "+DHCID(clientA, a.Name))
		withoutReverse(t, removal(change(host("dual"), "2001:db8::1", clientA)))
		n.expect(t, a.Name)
	})
	t.Run("a key that may change addresses only", func(t *testing.T) {
		a := change("pc.limited.example.org.", "192.0.2.114", clientA)
		must(t, a)
		must(t, removal(a))
		n.expect(t, a.Name)
	})
	t.Run("refused", func(t *testing.T) {
		o := do(t, change("pc.readonly.example.org.", "192.0.2.115", clientA))
		if o.err == nil || !strings.Contains(o.err.Error(), "updating zone readonly.example.org.: REFUSED") || o.failed != "readonly.example.org." {
			t.Errorf("got %v", o.err)
		}
		n.expect(t, reverseOf(t, "192.0.2.115"))
	})
	t.Run("no such zones", func(t *testing.T) {
		o := do(t, change("pc.example.net.", "192.0.2.116", clientA))
		if o.err == nil || !strings.Contains(o.err.Error(), " is not authoritative for pc.example.net.") {
			t.Errorf("got %v", o.err)
		}
		withoutReverse(t, change(host("elsewhere"), "198.51.100.1", clientA))
		n.expect(t, host("elsewhere"), "A 198.51.100.1", "DHCID "+DHCID(clientA, host("elsewhere")))
	})
	t.Run("a pointer that is delegated", func(t *testing.T) {
		const alias = "CNAME 117.0-127.2.0.192.in-addr.arpa." // RFC 2317 section 4
		reverse := reverseOf(t, "192.0.2.117")
		n.put(t, "2.0.192.in-addr.arpa.", reverse, alias)
		c2 := change(host("delegated"), "192.0.2.117", clientA)
		if o := do(t, c2); o.err != nil || o.noReverse == nil || !strings.Contains(o.noReverse.Error(), "not authoritative for "+reverse+": it has an alias there") {
			t.Errorf("%v, %v", o.err, o.noReverse)
		}
		n.expect(t, c2.Name, "A 192.0.2.117", "DHCID "+DHCID(clientA, c2.Name))
		must(t, removal(c2))
		n.expect(t, c2.Name)
		n.expect(t, reverse, alias)
	})
	t.Run("by TCP", func(t *testing.T) {
		a := change(host("tcp"), "192.0.2.117", clientA)
		z := zonesOf(overTCP{c})
		for _, step := range []lease.NameChange{a, a, removal(a), a} {
			if o := apply(t.Context(), z, step, time.Hour, false); o.err != nil {
				t.Fatal(o.err)
			}
		}
		n.expect(t, a.Name, "A 192.0.2.117", "DHCID "+DHCID(clientA, a.Name))
	})
	t.Run("upper case", func(t *testing.T) {
		a := change("PC9.Imaging.Example.ORG", "192.0.2.118", clientA)
		must(t, a)
		n.expect(t, host("pc9"), "A 192.0.2.118", "DHCID "+DHCID(clientA, host("pc9")))
	})
	t.Run("algorithms", func(t *testing.T) {
		for algorithm := range n.keys {
			c := n.client(algorithm)
			a := change(host(algorithm), "192.0.2.119", clientA)
			for _, step := range []lease.NameChange{a, a, removal(a)} {
				if o := apply(t.Context(), zonesOf(c), step, time.Hour, false); o.err != nil {
					t.Errorf("%s: %v", algorithm, o.err)
				}
			}
		}
	})
	t.Run("keys", func(t *testing.T) {
		for _, tt := range []struct {
			name, want string
			key        tsigkey.Key
		}{
			{"unknown", "does not know key nobody.example.org.", testKey(t, "nobody.example.org", "hmac-sha256", secret)},
			{"wrong secret", "has another secret for key hmac-sha256.dhcp.example.org.", testKey(t, "hmac-sha256.dhcp.example.org", "hmac-sha256", "AAAA")},
			{"wrong algorithm", "does not know key hmac-sha256.dhcp.example.org.", testKey(t, "hmac-sha256.dhcp.example.org", "hmac-sha512", secret)},
		} {
			c := &client{server: n.addr, key: tt.key, timeout: patience, tries: 1}
			o := apply(t.Context(), zonesOf(c), change(host("pc1"), "192.0.2.101", clientA), time.Hour, false)
			if o.err == nil || !strings.Contains(o.err.Error(), tt.want) {
				t.Errorf("%s: got %v", tt.name, o.err)
			}
		}
		c := &client{server: n.addr, timeout: patience, tries: 1}
		o := apply(t.Context(), zonesOf(c), change(host("pc1"), "192.0.2.101", clientA), time.Hour, false)
		if o.err == nil || !strings.Contains(o.err.Error(), "REFUSED") {
			t.Errorf("no key: got %v", o.err)
		}
	})
	return found
}

// TestWorkerWithBIND lets a server be killed while names change, and finds DNS
// equal to what was asked for soon after it is back.
func TestWorkerWithBIND(t *testing.T) {
	n := startNamed(t)
	q := newFakeQueue()
	w := New(Config{Routes: []Route{{".", []string{n.addr}}}, Keys: []ZoneKey{{".", n.keys["hmac-sha256"]}}, Timeout: 2 * time.Second}, q)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	waitFor := func(done int) {
		t.Helper()
		for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			if _, _, d := q.state(); d == done {
				return
			} else if time.Since(start) > 2*patience {
				t.Fatalf("%d of %d changes are done: %+v", d, done, w.Stats())
			}
		}
	}
	first, second := numbered(0, 50, "imaging.example.org."), numbered(50, 50, "imaging.example.org.")
	q.put(first...)
	waitFor(50)
	n.kill()
	q.put(second...)
	for _, c := range first {
		q.put(removal(c))
	}
	down := func() bool { s := w.Stats(); return s.Down() }
	for start := time.Now(); !down(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatal("the outage is not noticed")
		}
	}
	n.start(t)
	waitFor(150)
	for _, c := range first {
		n.expect(t, c.Name)
		n.expect(t, reverseOf(t, c.Address.String()))
	}
	for _, c := range second {
		id := "DHCID " + DHCID(c.Client, c.Name)
		n.expect(t, c.Name, "A "+c.Address.String(), id)
		n.expect(t, reverseOf(t, c.Address.String()), "PTR "+c.Name, id)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if s := w.Stats(); s.Added != 100 || s.Removed != 50 || s.Down() {
		t.Errorf("stats %+v", s)
	}
}

// BenchmarkBIND measures one new name, A and PTR, one at a time and 32 at a time.
func BenchmarkBIND(b *testing.B) {
	for _, inFlight := range []int{1, 32} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			n := startNamed(b)
			c := n.client("hmac-sha256")
			z := zonesOf(c)
			slots := make(chan struct{}, inFlight)
			b.ResetTimer()
			for i := range b.N {
				slots <- struct{}{}
				go func() {
					name := fmt.Sprintf("pc%d.imaging.example.org.", i)
					addr := fmt.Sprintf("192.0.2.%d", i%200)
					if o := apply(context.Background(), z, change(name, addr, clientA), time.Hour, false); o.err != nil {
						b.Error(o.err)
					}
					<-slots
				}()
			}
			for range inFlight {
				slots <- struct{}{}
			}
		})
	}
}
