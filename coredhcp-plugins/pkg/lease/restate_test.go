package lease

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestClockIsSet has the wall clock set while leases run, and the server restarted before any of them was renewed.
func TestClockIsSet(t *testing.T) {
	for name, tt := range map[string]struct {
		by    time.Duration
		fails bool
	}{
		"forward":              {by: 3 * 365 * 24 * time.Hour},
		"back":                 {by: -3 * 365 * 24 * time.Hour},
		"while the disk fails": {by: 3 * 365 * 24 * time.Hour, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const clients = 2*expireAtOnce + 100
				var set atomic.Int64
				bad := &failing{}
				bad.kind.Store(int32(errorfs.OpFileSync))
				fs := errorfs.Wrap(vfs.NewMem(), bad)
				var lines bytes.Buffer
				run := func() (f *fixture, stop func()) {
					m, err := Open("leases", wideConfig(clients), Options{
						FS:     fs,
						Logger: slog.New(slog.NewTextHandler(&lines, nil)),
						wall:   func(t time.Time) time.Time { return t.Add(time.Duration(set.Load())).Round(0) },
					})
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithCancel(context.Background())
					done := make(chan error)
					go func() { done <- m.Run(ctx) }()
					return &fixture{T: t, clock: newClock(), Manager: m}, func() {
						cancel()
						if err := <-done; err != nil {
							t.Errorf("Run: %v", err)
						}
						if err := m.Close(); err != nil {
							t.Error(err)
						}
					}
				}
				f, stop := run()
				began := time.Now()
				for n := range clients {
					f.get(query(numbered(n), wideLink))
				}
				set.Store(int64(tt.by))
				if tt.fails {
					bad.on.Store(true)
				}
				time.Sleep(clockCheck)
				synctest.Wait()
				if tt.fails {
					time.Sleep(5 * expireRetry) // it tries, and fails, again
					synctest.Wait()
					if bad.hits.Load() == 0 {
						t.Fatal("no failure was injected")
					}
					bad.on.Store(false)
					time.Sleep(10 * time.Second)
					synctest.Wait()
				}
				f.check()
				stop()
				if said := strings.Count(lines.String(), "the clock was set"); said != 1 || !strings.Contains(lines.String(), "by="+tt.by.String()) {
					t.Errorf("said %d times that the clock was set by %v:\n%s", said, tt.by, &lines)
				}
				f, stop = run()
				defer stop()
				time.Sleep(12*time.Hour - time.Since(began) - time.Minute)
				synctest.Wait()
				count := func(want State) {
					t.Helper()
					n := 0
					for l, err := range f.Leases() {
						if err != nil {
							t.Fatal(err)
						}
						if l.State == want {
							n++
						}
					}
					if n != clients {
						t.Errorf("%d of %d leases are %v", n, clients, want)
					}
				}
				count(Active)
				time.Sleep(time.Minute + time.Second)
				synctest.Wait()
				count(Expired)
			})
		})
	}
}

// TestClockIsSetInSteps holds that no more than restateLook bindings are looked at before others have the Manager, also where
// none of them has times to be written again.
func TestClockIsSetInSteps(t *testing.T) {
	m := filled(t, "leases", vfs.NewMem(), restateLook)
	defer m.Close()
	var next atomic.Int64
	parallel(restateLook, 64, func() {
		c := numbered(int(next.Add(1) - 1))
		m.mu.Lock()
		a := m.bindings.first([]byte(c.Key())).addr
		m.mu.Unlock()
		if ended, err := m.Release(t.Context(), Query{Client: c, ServerID: server, ClientAddr: a}); err != nil || !ended {
			t.Error(ended, err)
		}
	})
	exchange(t, m, restateLook, "") // the one that is held
	m.mu.Lock()
	defer m.mu.Unlock()
	m.base = m.base.Add(-time.Hour)
	for step, want := range []struct{ group, more bool }{{false, true}, {true, false}, {false, false}} {
		g, more := m.restate(m.now())
		if (g != nil) != want.group || more != want.more {
			t.Errorf("step %d: writes %t, more %t; want %+v", step, g != nil, more, want)
		}
	}
}

// TestClockIsSetWhileEnding has the clock set while it is written that a lease ended. Should that fail the lease goes on, so
// its times are written again all the same.
func TestClockIsSetWhileEnding(t *testing.T) {
	f := open(t, testConfig())
	l := f.get(query(client(1), link))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finish(f.bindings.at(l.Address), Released, f.now().el, f.now())
	ending := f.next
	f.next = f.newGroup() // as the committer does before it writes
	f.base = f.base.Add(-time.Hour)
	g, _ := f.restate(f.now())
	f.undo(f.next, nil)
	f.undo(ending, nil)
	if g == nil {
		t.Error("nothing waits for the fate of the lease")
	}
	f.next = f.newGroup()
}
