package lease

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// bubble opens a Manager with a running Run on synctest's clock.
func bubble(t *testing.T, c Config, test func(f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t, clock: newClock(), fs: vfs.NewMem()}
		m, err := Open("leases", c, Options{FS: f.fs})
		if err != nil {
			t.Fatal(err)
		}
		f.Manager = m
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		test(f)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestExpiry(t *testing.T) {
	a := addr("198.51.100.10")
	t.Run("at its time, not before", func(t *testing.T) {
		bubble(t, testConfig(), func(f *fixture) {
			f.get(named(1, "ws1", link2))
			f.confirm(f.wantChanges("+ws1.imaging.example.org. 198.51.100.10"))
			time.Sleep(time.Hour - time.Nanosecond)
			synctest.Wait()
			if s := f.state(a.String()); s != Active {
				t.Fatalf("%v before its time", s)
			}
			for len(f.NameChanges()) > 0 {
				<-f.NameChanges()
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			l, _ := f.Lease(a)
			if l.State != Expired || l.Client != client(1) || l.Name != "" {
				t.Fatalf("after its time: %+v", l)
			}
			<-f.NameChanges()
			f.wantChanges("-ws1.imaging.example.org. 198.51.100.10")
		})
	})
	t.Run("a renewal counts", func(t *testing.T) {
		bubble(t, testConfig(), func(f *fixture) {
			f.get(query(client(1), link2))
			time.Sleep(30 * time.Minute)
			f.request(renewing(query(client(1), link2), a))
			time.Sleep(59 * time.Minute)
			synctest.Wait()
			if s := f.state(a.String()); s != Active {
				t.Fatalf("%v after a renewal", s)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := f.state(a.String()); s != Expired {
				t.Fatalf("%v after its time", s)
			}
		})
	})
	t.Run("a shorter lease that comes later ends first", func(t *testing.T) {
		bubble(t, testConfig(), func(f *fixture) {
			f.get(query(client(1), link2))
			synctest.Wait()
			q := query(client(2), link)
			q.LeaseTime = 10 * time.Minute
			f.get(q)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if f.state("192.0.2.100") != Expired || f.state(a.String()) != Active {
				t.Fatalf("%v, %v", f.state("192.0.2.100"), f.state(a.String()))
			}
		})
	})
	t.Run("many at once", func(t *testing.T) {
		bubble(t, wideConfig(2000), func(f *fixture) {
			for n := range 2000 {
				f.get(query(numbered(n), wideLink))
			}
			time.Sleep(12 * time.Hour)
			synctest.Wait()
			for l, err := range f.Leases() {
				if err != nil {
					t.Fatal(err)
				}
				if l.State != Expired {
					t.Fatalf("%+v", l)
				}
			}
		})
	})
	t.Run("a change to be tried again is signalled", func(t *testing.T) {
		bubble(t, testConfig(), func(f *fixture) {
			f.get(named(1, "ws1", link2))
			<-f.NameChanges()
			c := f.wantChanges("+ws1.imaging.example.org. 198.51.100.10")[0]
			f.ReturnNameChange(c, time.Now().Add(time.Minute))
			start := time.Now()
			<-f.NameChanges()
			if d := time.Since(start); d != time.Minute {
				t.Errorf("signalled after %v", d)
			}
			f.wantChanges("+ws1.imaging.example.org. 198.51.100.10")
		})
	})
	t.Run("while the server was down", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(named(1, "ws1", link2))
		f.get(named(2, "ws2", link2))
		f.confirm(f.TakeNameChanges(10))
		f.clock.advance(30 * time.Minute)
		f.request(renewing(named(2, "ws2", link2), addr("198.51.100.11")))
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		f.clock.advance(45 * time.Minute)
		f.open(testConfig())
		f.expireAll()
		if f.state("198.51.100.10") != Expired || f.state("198.51.100.11") != Active {
			t.Errorf("%v, %v", f.state("198.51.100.10"), f.state("198.51.100.11"))
		}
		f.wantChanges("-ws1.imaging.example.org. 198.51.100.10")
	})
}

// TestClockNeverGoesBack holds for clocks without a monotonic reading.
func TestClockNeverGoesBack(t *testing.T) {
	f := open(t, testConfig())
	f.clock.advance(time.Hour)
	f.get(query(client(1), link2))
	f.mu.Lock()
	before := f.now().el
	f.clock.advance(-30 * time.Minute)
	if after := f.now().el; after < before {
		t.Errorf("went from %v to %v", time.Duration(before), time.Duration(after))
	}
	f.mu.Unlock()
	f.get(query(client(2), link2))
	f.clock.advance(90 * time.Minute)
	f.expireAll()
	if f.state("198.51.100.10") != Expired || f.state("198.51.100.11") != Expired {
		t.Errorf("%v, %v", f.state("198.51.100.10"), f.state("198.51.100.11"))
	}
}
