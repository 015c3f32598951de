package lease

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSpans drives random changes against a set that is a map.
func TestSpans(t *testing.T) {
	for name, tc := range map[string]struct{ first, last string }{
		"in the middle":        {"192.0.2.10", "192.0.2.60"},
		"all of the last":      {"255.255.255.200", "255.255.255.255"},
		"all of the first":     {"0.0.0.0", "0.0.0.50"},
		"one address":          {"192.0.2.10", "192.0.2.10"},
		"of the other version": {"2001:db8::fff0", "2001:db8::1:10"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRand(t)
			s := newSpans(addr(tc.first), addr(tc.last))
			var all []netip.Addr
			in := map[netip.Addr]bool{}
			for a := addr(tc.first); a.IsValid() && a.Compare(addr(tc.last)) <= 0; a = a.Next() {
				all = append(all, a)
				in[a] = true
			}
			for range 5000 {
				a := all[r.IntN(len(all))]
				if in[a] = r.IntN(2) == 0; in[a] {
					s.add(a)
				} else {
					s.remove(a)
				}
				spans, first := 0, netip.Addr{}
				for i, a := range all {
					e := s.find(a)
					if got := e != nil && !e.last.Less(a); got != in[a] {
						t.Fatalf("%v: %v, want %v", a, got, in[a])
					}
					if in[a] && (i == 0 || !in[all[i-1]]) {
						spans++
					}
					if in[a] && !first.IsValid() && i%3 == 0 {
						first = a
					}
				}
				if s.tree.Len() != spans {
					t.Fatalf("%d spans, want %d", s.tree.Len(), spans)
				}
				got, ok := s.first(func(a netip.Addr) bool { return distance(all[0], a)%3 == 0 })
				if got != first || ok != first.IsValid() {
					t.Fatalf("first %v, want %v", got, first)
				}
			}
		})
	}
}

// reloads are changes of wideConfig that concern the bindings in different ways.
func reloads(last int) map[string]func(*Config) {
	return map[string]func(*Config){
		"the same": func(*Config) {},
		"excluded": func(c *Config) { c.Excluded = append(c.Excluded, wideConfig(last).Networks[0].Pools[0].First.Next()) },
		"pools": func(c *Config) {
			p := &c.Networks[0].Pools[0]
			p.Last = p.Last.Prev()
		},
		"names": func(c *Config) { c.Networks[0].Names.Mode = NamesLastWins },
		"many reservations": func(c *Config) {
			a := c.Networks[0].Pools[0].First
			for n := range 2 * walkAtOnce {
				c.Reservations = append(c.Reservations, Reservation{
					Device: fmt.Sprint("d", n), HardwareAddresses: []HardwareAddress{{1, numbered(9_000_000 + n).HardwareAddr}}, Addresses: []netip.Addr{a},
				})
				a = a.Next()
			}
		},
	}
}

// TestReloadLetsOthersIn counts how often a reload lets others have the Manager: as often as the bindings ask for, or never
// where it does not look at them.
func TestReloadLetsOthersIn(t *testing.T) {
	const held = 10 * walkAtOnce
	m := filled(t, "leases", vfs.NewMem(), held)
	defer m.Close()
	f := &fixture{T: t, Manager: m}
	n := held
	for name, change := range reloads(4_000_000) {
		t.Run(name, func(t *testing.T) {
			if err := m.Reload(wideConfig(4_000_000)); err != nil {
				t.Fatal(err)
			}
			pauses := 0
			m.between = func() {
				pauses++
				n++
				exchange(t, m, n, "")
			}
			defer func() { m.between = nil }()
			c := wideConfig(4_000_000)
			change(&c)
			if err := m.Reload(c); err != nil {
				t.Fatal(err)
			}
			if looks := name != "the same" && name != "excluded"; looks && pauses < held/walkAtOnce || !looks && pauses != 0 {
				t.Errorf("%d pauses", pauses)
			}
			n++
			exchange(t, m, n, "")
			f.check()
		})
	}
}

// TestReloadWhileServing reloads under many clients at once, and closes in the end.
func TestReloadWhileServing(t *testing.T) {
	m := filled(t, "leases", vfs.NewMem(), 3*walkAtOnce)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := range 400 {
				exchange(t, m, 100_000*(w+1)+n, "client-with-a-name")
			}
		})
	}
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		for range 3 {
			for _, change := range reloads(4_000_000) {
				c := wideConfig(4_000_000)
				change(&c)
				if err := m.Reload(c); err != nil {
					t.Error(err)
				}
			}
		}
		time.Sleep(10 * time.Millisecond)
		cancel()
	})
	wg.Wait()
	(&fixture{T: t, Manager: m}).check()
	m.between = func() {
		if err := m.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
	c := wideConfig(4_000_000)
	c.Networks[0].Pools[0].Last = c.Networks[0].Pools[0].Last.Prev().Prev()
	if err := m.Reload(c); !errors.Is(err, ErrClosed) {
		t.Errorf("closed meanwhile: %v", err)
	}
}

// BenchmarkReload tells for how long, in time of the processor, a reload with a million bindings holds others up at most.
func BenchmarkReload(b *testing.B) {
	const held = 1_000_000
	m := filled(b, "leases", vfs.NewMem(), held)
	defer m.Close()
	for name, change := range reloads(4_000_000) {
		b.Run(name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var longest, since int64
			pause := func() {
				now := threadTime()
				longest, since = max(longest, now-since), now
			}
			m.between = pause
			defer func() { m.between = nil }()
			for b.Loop() {
				for _, f := range []func(*Config){change, func(*Config) {}} {
					c := wideConfig(4_000_000)
					f(&c)
					since = threadTime()
					if err := m.Reload(c); err != nil {
						b.Fatal(err)
					}
					pause()
				}
			}
			b.ReportMetric(float64(longest)/1e6, "longest-ms")
		})
	}
}

// threadTime is the processor time that this thread used, in nanoseconds.
func threadTime() int64 {
	const thisThread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	if err := syscall.Getrusage(thisThread, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
