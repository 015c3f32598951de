package nameupdate

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// More changes are worked on at once where the server is far away, and no more
// where it is slow itself; fewer where it answers so late that messages are sent
// again.
func TestPace(t *testing.T) {
	const n = 1500
	for _, tt := range []struct {
		name        string
		way         time.Duration // that every answer takes
		each        time.Duration // that the server works on one message after the other
		within      time.Duration // in which all is to be done
		least, most int           // changes at once, when half is done
	}{
		{"near", 0, 0, time.Second, 0, 64},
		{"far", 200 * time.Millisecond, 0, 4 * time.Second, 200, 512}, // 9.4 s with 64 at once
		{"slow", 0, 10 * time.Millisecond, 33 * time.Second, 64, 64},
		{"far and slow", 100 * time.Millisecond, 10 * time.Millisecond, 33 * time.Second, 64, 64},
		{"too slow", 0, 50 * time.Millisecond, 170 * time.Second, 10, 45}, // 64 messages take 3.2 s, 40 of them 2 s
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var free time.Time // when the server has worked on all that it has
				b := runWorker(t, func(string) (int, error) {
					mu.Lock()
					if now := time.Now(); free.Before(now) {
						free = now
					}
					free = free.Add(tt.each)
					wait := time.Until(free) + tt.way
					mu.Unlock()
					time.Sleep(wait)
					return success, nil
				})
				start, half := time.Now(), 0
				b.queue.put(numbered(0, n, "example.org.")...)
				for done := 0; done < n; _, _, done = b.queue.state() {
					if done < n/2 {
						half = b.Stats().InFlight
					}
					time.Sleep(20 * time.Millisecond)
				}
				if d := time.Since(start); d > tt.within {
					t.Errorf("took %v, want at most %v", d, tt.within)
				}
				if half < tt.least || half > tt.most {
					t.Errorf("%d changes at once, want %d to %d", half, tt.least, tt.most)
				}
			})
		})
	}
}

// What was slowed down because messages were lost is as fast as before when they are not.
func TestPaceRecovers(t *testing.T) {
	p := newPace(Config{}.withDefaults())
	u := new(upstream)
	now := time.Now()
	answer := func(took time.Duration) {
		started := now
		now = now.Add(took)
		p.answered(u, span{took, took}, started, now, true)
	}
	answer(time.Millisecond)
	for range 64 {
		answer(p.timeout + time.Millisecond)
	}
	if p.size != leastPace {
		t.Errorf("%d at once after all was lost, want %d", p.size, leastPace)
	}
	for range 64 * 64 {
		answer(time.Millisecond)
	}
	if p.size != 64 {
		t.Errorf("%d at once after all went well, want 64", p.size)
	}
	// Those that were begun before all know of the same loss.
	started := now
	for range 64 {
		p.answered(u, span{p.timeout, p.timeout}, started, now.Add(p.timeout), true)
	}
	if p.size != 32 {
		t.Errorf("%d at once after one loss, want 32", p.size)
	}
}
