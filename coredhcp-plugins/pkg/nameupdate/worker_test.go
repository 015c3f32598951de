package nameupdate

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/miekg/dns"
)

func TestWorkerConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runWorker(t, nil)
		synctest.Wait()
		start := time.Now()
		b.queue.put(numbered(0, 1000, "example.org.")...)
		gone := numbered(1000, 1, "example.org.")[0]
		b.queue.put(removal(gone))
		synctest.Wait()
		for {
			if _, _, done := b.queue.state(); done == 1001 {
				break
			}
			time.Sleep(roundTrip)
			synctest.Wait()
		}
		if d, want := time.Since(start), 2*1001/64*roundTrip; d > 2*want {
			t.Errorf("took %s, want about %s", d, want)
		}
		if b.most != 64 {
			t.Errorf("%d updates in flight at most, want 64", b.most)
		}
		if s := b.Stats(); s.Added != 1000 || s.Removed != 1 || s.Failures != 0 || s.Waiting != 0 || s.InFlight != 0 || s.Down() {
			t.Errorf("stats %+v", s)
		}
		b.queue.mu.Lock()
		takings := b.queue.takings
		b.queue.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		b.queue.mu.Lock()
		defer b.queue.mu.Unlock()
		if n := b.queue.takings - takings; n > 70 {
			t.Errorf("an idle worker asked %d times in a minute", n)
		}
		if b.log.String() != "" {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

func TestWorkerHealsAfterOutage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		within time.Duration // of the return until all is done
		line   string
	}{
		{"server down", errTimeout, 2*maxProbe + 2*time.Second, "does not answer"},
		{"key refused", &keyError{server: "192.0.2.2:53", key: "dhcp.example.org.", code: dns.RcodeBadKey}, maxBackoff + maxProbe + 2*time.Second, "BADKEY"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				down := true
				b := runWorker(t, func(string) (int, error) {
					mu.Lock()
					defer mu.Unlock()
					if down {
						return 0, tt.err
					}
					return success, nil
				})
				const n = 5000
				b.queue.put(numbered(0, n, "example.org.")...)
				time.Sleep(time.Minute)
				b.sent()
				time.Sleep(time.Hour)
				if sent := b.sent(); sent > 3600/2 {
					t.Errorf("%d updates in an hour of outage", sent)
				}
				if s := b.Stats(); !s.Down() || s.Added != 0 {
					t.Errorf("stats %+v", s)
				}
				if held := b.queue.heldBy(); !strings.Contains(held, tt.line) {
					t.Errorf("held by %q", held)
				}
				if got := strings.Count(b.log.String(), "\n"); got != 1 || b.lines(tt.line) != 1 {
					t.Errorf("log in the outage:\n%s", b.log)
				}
				mu.Lock()
				down = false
				mu.Unlock()
				time.Sleep(tt.within) // also for those that were tried in the outage
				b.expect(t, 0, n)
				if b.lines("names reach DNS again") != 1 || strings.Count(b.log.String(), "\n") != 2 {
					t.Errorf("log:\n%s", b.log)
				}
				if held := b.queue.heldBy(); held != "" {
					t.Errorf("held by %q after the outage", held)
				}
				if s := b.Stats(); s.Down() || s.Waiting != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

// A server that goes while changes wait for the second of their answers has answered none of them since.
func TestWorkerAnswersBeforeOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		b := runWorker(t, func(zone string) (int, error) {
			switch reverse := zone == "192.in-addr.arpa."; {
			case !down.Load():
				return success, nil
			case reverse:
				time.Sleep(3 * time.Second)
			}
			return 0, errTimeout
		})
		b.queue.put(numbered(0, 1, "example.org.")...) // finds the zones
		time.Sleep(time.Second)
		b.expect(t, 0, 1)

		const n = 10
		b.queue.put(numbered(1, n, "example.org.")...)
		time.Sleep(roundTrip + roundTrip/2) // their names are in DNS
		down.Store(true)
		b.queue.put(numbered(1+n, 1, "example.org.")...)
		time.Sleep(5 * time.Second)
		if got := strings.Count(b.log.String(), "\n"); got != 1 || !b.down() {
			t.Errorf("log in the outage:\n%s", b.log)
		}
		down.Store(false)
		time.Sleep(2*maxProbe + 2*time.Second)
		b.expect(t, 0, 1+n+1)
		if b.lines("names reach DNS again") != 1 || strings.Count(b.log.String(), "\n") != 2 {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

// The few names that wait for a server have all been tried often. They need not wait longer for that when it is back.
func TestWorkerHealsFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		down := true
		b := runWorker(t, func(string) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return 0, errTimeout
			}
			return success, nil
		})
		const n = 3
		b.queue.put(numbered(0, n, "example.org.")...)
		time.Sleep(time.Hour)
		if sent := b.sent(); sent > 3600/2 || sent < 3600/10 {
			t.Errorf("%d updates in an hour of outage", sent)
		}
		mu.Lock()
		down = false
		mu.Unlock()
		time.Sleep(2*maxProbe + 2*pollEvery)
		b.expect(t, 0, n)
	})
}

// A zone that refuses all its names is not stormed, does not hold up another
// zone, and heals soon after it takes updates again.
func TestWorkerRefusingZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		refusing := true
		b := runWorker(t, func(zone string) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if refusing && zone == "other.example.org." {
				return refused, nil
			}
			return success, nil
		})
		const n = 2000
		b.queue.put(numbered(0, n, "other.example.org.")...)
		time.Sleep(30 * time.Second)
		b.sent()
		time.Sleep(3 * time.Minute)
		if sent := b.sent(); sent > 180*25 || sent < 180 {
			t.Errorf("%d updates of %d refused names in three minutes", sent, n)
		}
		b.queue.put(numbered(n, 100, "example.org.")...)
		time.Sleep(time.Second)
		synctest.Wait()
		if _, _, done := b.queue.state(); done != 100 {
			t.Errorf("%d of 100 names of the other zone are done", done)
		}
		if got := strings.Count(b.log.String(), "\n"); got > 3 || b.lines("update failed") == 0 || b.lines("REFUSED") == 0 {
			t.Errorf("log:\n%s", b.log)
		}
		if s := b.Stats(); s.Waiting != n || s.Down() {
			t.Errorf("stats %+v", s)
		}
		mu.Lock()
		refusing = false
		mu.Unlock()
		time.Sleep(maxBackoff + 10*time.Second)
		b.expect(t, 0, n+100)
		if b.lines("zone takes updates again") != 1 {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

// TestWorkerZoneMissing has the zone above the names' domain come back after a while: all go there at once then.
func TestWorkerZoneMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5000
		var missing atomic.Bool
		missing.Store(true)
		b := runWorker(t, nil)
		b.dns.answer = func(q string, r *dns.Msg) {
			if missing.Load() && dns.IsSubDomain("org.", q) {
				r.Rcode, r.Authoritative, r.Ns = refused, false, nil
			}
		}
		b.queue.put(numbered(0, n, "imaging.example.org.")...)
		time.Sleep(10 * time.Minute)
		b.expect(t, n, 0)
		missing.Store(false)
		time.Sleep(2 * maxBackoff)
		b.expect(t, 0, n)
		if b.lines("zone takes updates again") != 1 {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

// TestWorkerConflictOfOthers has a name be told again for the client that has it, while another one's is in conflict.
func TestWorkerConflictOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runWorker(t, nil)
		changes := numbered(0, 3, "example.org.")
		changes[1].Name, changes[2].Name = changes[0].Name, changes[0].Name
		b.dns.update = func(m *dns.Msg) (int, error) {
			for _, rr := range m.Ns {
				if a, ok := rr.(*dns.A); ok && a.A.String() == changes[0].Address.String() {
					return success, nil
				}
			}
			switch {
			case m.Question[0].Name != "example.org.":
				return nxdomain, nil
			case m.Answer[0].Header().Class == dns.ClassNONE:
				return yxdomain, nil
			}
			return nxrrset, nil
		}
		b.queue.put(changes[1:]...)
		time.Sleep(time.Minute)
		changes[0].Make = lease.Forward
		for version := range uint64(5) {
			changes[0].Version = 100 + version
			b.queue.put(changes[0])
			time.Sleep(conflictRetry)
		}
		if strings.Count(b.log.String(), "\n") != 1 {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

func TestWorkerConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := true
		pointers := 0 // updates of the reverse zone
		b := runWorker(t, nil)
		b.dns.update = func(m *dns.Msg) (int, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if m.Question[0].Name != "example.org." {
				pointers++
				if taken && brief(m) != "IN PTR pc0.example.org., ANY DHCID | ANY PTR, ANY DHCID" {
					t.Errorf("sent %s", brief(m))
				}
				if !taken {
					return success, nil
				}
				return nxdomain, nil
			}
			b.updates++
			if !taken {
				return success, nil
			}
			if m.Answer[0].Header().Class == dns.ClassNONE {
				return yxdomain, nil
			}
			return nxrrset, nil
		}
		b.queue.put(numbered(0, 1, "example.org.")...)
		time.Sleep(4 * time.Minute)
		if sent := b.sent(); sent != 2 {
			t.Errorf("%d updates at first, want 2", sent)
		}
		b.mu.Lock()
		if pointers != 1 {
			t.Errorf("%d updates of the pointer at first, want 1", pointers)
		}
		b.mu.Unlock()
		time.Sleep(56 * time.Minute)
		if sent := b.sent(); sent < 10 || sent > 24 {
			t.Errorf("%d updates in an hour", sent)
		}
		if b.lines("not this client's") != 1 || strings.Count(b.log.String(), "\n") != 1 {
			t.Errorf("log:\n%s", b.log)
		}
		if s := b.Stats(); s.Conflicts < 5 || s.Failures != 0 {
			t.Errorf("stats %+v", s)
		}
		b.mu.Lock()
		taken = false
		b.mu.Unlock()
		time.Sleep(conflictRetry)
		b.expect(t, 0, 1)
		if b.lines("name is free now") != 1 {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

// A conflict whose reverse zone does not let go of the pointer is tried again with
// pauses, and is a conflict as any other when it does.
func TestWorkerConflictKeepsPointer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusing := true
		b := runWorker(t, nil)
		b.dns.update = func(m *dns.Msg) (int, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			switch {
			case m.Question[0].Name == "example.org.":
				if m.Answer[0].Header().Class == dns.ClassNONE {
					return yxdomain, nil
				}
				return nxrrset, nil
			case refusing:
				b.updates++
				return refused, nil
			}
			return success, nil
		}
		trouble := func() lease.Trouble {
			b.queue.mu.Lock()
			defer b.queue.mu.Unlock()
			return b.queue.why
		}
		b.queue.put(numbered(0, 1, "example.org.")...)
		time.Sleep(time.Hour)
		if sent := b.sent(); sent < 60 || sent > 130 {
			t.Errorf("%d updates of the pointer in an hour", sent)
		}
		if why := trouble(); !why.Conflict || !why.Pointer || !strings.Contains(why.Text, "another client") || !strings.Contains(why.Text, "REFUSED") {
			t.Errorf("its lease is told %+v", why)
		}
		s := b.Stats()
		if s.Conflicts < 60 || s.Failures != s.Conflicts {
			t.Errorf("stats %+v", s)
		}
		if b.lines("not this client's") != 1 {
			t.Errorf("log:\n%s", b.log)
		}
		b.mu.Lock()
		refusing = false
		b.mu.Unlock()
		time.Sleep(maxBackoff + 2*pollEvery)
		if why := trouble(); why != conflict {
			t.Errorf("its lease is told %+v", why)
		}
		if now := b.Stats(); now.Conflicts != s.Conflicts+1 || now.Failures != s.Failures {
			t.Errorf("stats %+v, before %+v", now, s)
		}
	})
}

func TestWorkerBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var times []time.Time
		b := runWorker(t, func(string) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
			return servfail, nil
		})
		b.queue.put(numbered(0, 1, "example.org.")...)
		time.Sleep(10 * time.Minute)
		b.stop()
		if len(times) < 12 || len(times) > 30 {
			t.Fatalf("%d attempts in ten minutes", len(times))
		}
		for i := 1; i < len(times); i++ {
			want := min(time.Second<<(i-1), maxBackoff)
			if d := times[i].Sub(times[i-1]); d < want/2 || d > want+2*pollEvery {
				t.Errorf("attempt %d after %s, want up to %s", i, d, want)
			}
		}
	})
}

func TestWorkerNoReverseZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runWorker(t, nil)
		b.dns.zones = []string{"example.org."}
		b.queue.put(numbered(0, 200, "example.org.")...)
		time.Sleep(missLife - time.Second)
		b.expect(t, 200, 0) // the server may be loading it
		time.Sleep(2 * maxBackoff)
		b.expect(t, 0, 200)
		b.queue.put(numbered(200, 50, "example.org.")...)
		time.Sleep(time.Second)
		b.expect(t, 0, 250)
		if b.lines("addresses get no names") != 1 || b.lines("zone=2.0.192.in-addr.arpa.") != 1 {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

// A reverse zone that the server loads after the worker's start is waited for: pointers are neither forgotten nor left.
func TestWorkerReverseZoneComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late atomic.Bool
		b := runWorker(t, nil)
		b.dns.answer = func(q string, r *dns.Msg) {
			if !late.Load() && dns.IsSubDomain("in-addr.arpa.", q) {
				r.Rcode, r.Authoritative, r.Ns = refused, false, nil
			}
		}
		changes := numbered(0, 2, "example.org.")
		b.queue.put(changes[0], removal(changes[1]))
		time.Sleep(5 * time.Second)
		b.expect(t, 2, 0)
		late.Store(true)
		time.Sleep(15 * time.Second)
		b.expect(t, 0, 2)
		if b.lines("addresses get no names") > 0 {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

func TestWorkerBadName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runWorker(t, nil)
		b.queue.put(numbered(0, 1, ".example.org.")...)
		b.queue.put(numbered(1, 50, "example.org.")...)
		time.Sleep(time.Hour)
		b.expect(t, 1, 50)
		if n := strings.Count(b.log.String(), "\n"); n == 0 || n > 8 || b.lines("is not a domain name") != n {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

// A change that only TCP can carry must not stop the others where TCP is closed.
func TestWorkerTCPClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := "other.example.org."
		b := runWorker(t, func(zone string) (int, error) {
			if zone == long {
				return 0, &tcpError{server: "192.0.2.2:53", err: errors.New("connection refused")}
			}
			return success, nil
		})
		b.queue.put(numbered(0, 50, long)...)
		time.Sleep(time.Minute)
		b.queue.put(numbered(50, 500, "example.org.")...)
		time.Sleep(time.Second)
		b.expect(t, 50, 500)
		if b.down() || b.lines("by TCP") != 1 {
			t.Errorf("log:\n%s", b.log)
		}
	})
}

func TestWorkerConfirmFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := runWorker(t, nil)
		b.queue.confirmErr = errors.New("disk full")
		b.queue.put(numbered(0, 10, "example.org.")...)
		time.Sleep(9 * time.Minute)
		if b.lines("disk full") != 1 {
			t.Errorf("log:\n%s", b.log)
		}
		b.queue.mu.Lock()
		b.queue.confirmErr = nil
		b.queue.mu.Unlock()
		time.Sleep(maxBackoff + 2*pollEvery)
		b.expect(t, 0, 10)
	})
}

// hanging is a server that never answers; the exchange ends with its context.
type hanging struct{}

func (hanging) exchange(ctx context.Context, _ *dns.Msg) (*dns.Msg, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestWorkerGivesBackAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue()
		w := newWorker(Config{InFlight: 8}.withDefaults(), q, routesTo(hanging{}))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		q.put(numbered(0, 100, "example.org.")...)
		time.Sleep(time.Second)
		if _, taken, _ := q.state(); taken != 8 {
			t.Errorf("%d taken", taken)
		}
		start := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if waiting, taken, done := q.state(); waiting != 100 || taken != 0 || done != 0 {
			t.Errorf("%d wait, %d are taken, %d are done", waiting, taken, done)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("stopping took %s", d)
		}
		if s := w.Stats(); s.Failures != 0 || s.InFlight != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestHistoryForgetsSuperseded(t *testing.T) {
	h := newHistory()
	now := time.Unix(1e9, 0)
	for _, c := range numbered(0, 100, "example.org.") {
		h.failed(c, "example.org.", now)
	}
	last := numbered(100, 1, "example.org.")[0]
	if p := h.failed(last, "", now.Add(3*historySweep)); p.attempts != 1 || h.len() != 1 {
		t.Errorf("%d remembered", h.len())
	}
	last.Version, last.LeaseTime = 7, 0
	if p := h.failed(last, "", now.Add(3*historySweep)); p.attempts != 2 {
		t.Errorf("%d attempts after a renewal", p.attempts)
	}
}
