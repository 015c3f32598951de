package timecheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// world is servers that say what a test has them say, and counts questions.
type world struct {
	mu      sync.Mutex
	answers map[string]func() (Answer, error)
	names   map[string][]string
	asked   map[string][]time.Time
	lookups int
}

func (w *world) query(_ context.Context, a netip.Addr) (Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[a.String()] = append(w.asked[a.String()], time.Now())
	if f := w.answers[a.String()]; f != nil {
		return f()
	}
	return Answer{}, errors.New("timeout")
}

func (w *world) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookups++
	var list []netip.Addr
	for _, a := range w.names[host] {
		list = append(list, netip.MustParseAddr(a))
	}
	if list == nil {
		return nil, errors.New("no such host")
	}
	return list, nil
}

func (w *world) say(address string, a Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[address] = func() (Answer, error) { return a, nil }
}

func (w *world) silence(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.answers, address)
}

func (w *world) count(address string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked[address])
}

// good is the answer of a server whose clock is off ours by a time.
func good(stratum uint8, offset time.Duration) Answer {
	return Answer{Stratum: stratum, Offset: offset, RootDistance: 20 * time.Millisecond}
}

// run has a checker judge lists in a bubble of time, without jitter.
func run(t *testing.T, verify bool, lists [][]string, f func(*world, *Checker, *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{answers: map[string]func() (Answer, error){}, names: map[string][]string{}, asked: map[string][]time.Time{}}
		var log bytes.Buffer
		c := New(Options{
			Verify: verify, Lookup: w.lookup, Query: w.query, Jitter: func(time.Duration) time.Duration { return 0 },
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		c.SetLists(lists)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		start := func() {
			go func() { c.Run(ctx); close(done) }()
			synctest.Wait()
		}
		w.answers["start"] = func() (Answer, error) { start(); return Answer{}, nil }
		f(w, c, &log)
		cancel()
		<-done
	})
}

func (w *world) start() { _, _ = w.answers["start"]() }

func chosen(c *Checker, list ...string) string {
	var s []string
	for _, a := range c.Choose(list) {
		s = append(s, a.String())
	}
	return strings.Join(s, " ")
}

var four = []string{"192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"}

func TestVerdicts(t *testing.T) {
	unsynchronised := Answer{Stratum: 0}
	for _, tt := range []struct {
		name    string
		answers map[string]Answer
		want    string            // of Choose
		reasons map[string]string // of servers that are bad
		alarm   bool
	}{
		{"all good: the best first", map[string]Answer{"192.0.2.3": good(3, 0), "192.0.2.4": good(2, 0), "192.0.2.5": good(1, 0), "192.0.2.6": {Stratum: 2, RootDistance: time.Millisecond}},
			"192.0.2.5 192.0.2.6 192.0.2.4 192.0.2.3", nil, false},
		{"equals stay as they are configured", map[string]Answer{"192.0.2.3": {Stratum: 2, RootDistance: 24 * time.Millisecond}, "192.0.2.4": good(2, 0), "192.0.2.5": good(2, 0), "192.0.2.6": good(2, 0)},
			"192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6", nil, false},
		{"one does not answer, one is not synchronised, one is ten seconds off",
			map[string]Answer{"192.0.2.3": unsynchronised, "192.0.2.4": good(2, 10*time.Second), "192.0.2.5": good(2, 0), "192.0.2.6": good(3, time.Millisecond)},
			"192.0.2.5 192.0.2.6", map[string]string{"192.0.2.3": "not synchronised", "192.0.2.4": "9.999s off the median of 3 servers"}, false},
		{"ours is off, and nobody else is", map[string]Answer{"192.0.2.3": good(2, time.Hour), "192.0.2.4": good(2, time.Hour), "192.0.2.5": good(2, time.Hour)},
			"192.0.2.3 192.0.2.4 192.0.2.5", map[string]string{"192.0.2.6": "no answer"}, false},
		{"two against two: nobody is believed", map[string]Answer{"192.0.2.3": good(2, 0), "192.0.2.4": good(2, 0), "192.0.2.5": good(2, time.Minute), "192.0.2.6": good(2, time.Minute)},
			strings.Join(four, " "), map[string]string{"192.0.2.3": "-30s off the median of 4"}, true},
		{"root distance", map[string]Answer{"192.0.2.3": {Stratum: 2, RootDistance: 2 * time.Second}, "192.0.2.4": good(2, 0)},
			"192.0.2.4", map[string]string{"192.0.2.3": "root distance 2s: expected at most 1.5s"}, false},
		{"kiss codes", map[string]Answer{"192.0.2.3": {Kiss: "DENY"}, "192.0.2.4": {Kiss: "RSTR"}, "192.0.2.5": {Kiss: "RATE"}, "192.0.2.6": good(15, 0)},
			"192.0.2.6", map[string]string{"192.0.2.3": "DENY", "192.0.2.4": "RSTR", "192.0.2.5": "RATE"}, false},
		{"none answers: the list as it is", nil, strings.Join(four, " "), map[string]string{"192.0.2.6": "no answer"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, true, [][]string{four}, func(w *world, c *Checker, log *bytes.Buffer) {
				if got := chosen(c, four...); got != strings.Join(four, " ") {
					t.Errorf("before anybody was asked: %s", got)
				}
				for a, answer := range tt.answers {
					w.say(a, answer)
				}
				w.start()
				time.Sleep(time.Second)
				synctest.Wait()
				if got := chosen(c, four...); got != tt.want {
					t.Errorf("chosen %s, want %s\n%s", got, tt.want, log)
				}
				for _, s := range c.Status() {
					if want := tt.reasons[s.Address.String()]; want != "" && (s.Verdict != Bad || !strings.Contains(s.Reason, want)) {
						t.Errorf("%v: %s, %q, want bad and %q in it", s.Address, s.Verdict, s.Reason, want)
					}
				}
				if got := len(c.Alarms()) > 0; got != tt.alarm || got != strings.Contains(log.String(), "none of the time servers is good") {
					t.Errorf("alarm %v, want %v; log:\n%s", got, tt.alarm, log)
				}
			})
		})
	}
}

// A server is asked once in 64 s at the most, more rarely when it does not answer or says RATE, and not at all after DENY.
func TestPolite(t *testing.T) {
	run(t, true, [][]string{four}, func(w *world, c *Checker, _ *bytes.Buffer) {
		w.say("192.0.2.3", good(2, 0))
		w.say("192.0.2.4", Answer{Kiss: "RATE"})
		w.say("192.0.2.5", Answer{Kiss: "DENY"})
		w.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		for a, want := range map[string][2]int{"192.0.2.3": {55, 57}, "192.0.2.4": {6, 8}, "192.0.2.5": {1, 1}, "192.0.2.6": {6, 8}} {
			if n := w.count(a); n < want[0] || n > want[1] {
				t.Errorf("%s was asked %d times in an hour, want %d to %d", a, n, want[0], want[1])
			}
			for i, at := range w.asked[a][1:] {
				if at.Sub(w.asked[a][i]) < Interval {
					t.Errorf("%s was asked after %s", a, at.Sub(w.asked[a][i]))
				}
			}
		}
		// A reload asks who refused once more, and others no sooner.
		before := w.count("192.0.2.3")
		c.SetLists([][]string{four})
		time.Sleep(Interval + time.Second)
		synctest.Wait()
		if n := w.count("192.0.2.5"); n != 2 {
			t.Errorf("who said DENY was asked %d times, want once more after a reload", n)
		}
		if n := w.count("192.0.2.3") - before; n > 2 {
			t.Errorf("a reload asked %d times", n)
		}
	})
}

func TestOutAndBack(t *testing.T) {
	run(t, true, [][]string{four[:2]}, func(w *world, c *Checker, log *bytes.Buffer) {
		w.say("192.0.2.3", good(2, 0))
		w.say("192.0.2.4", good(1, 0))
		w.start()
		expect := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := chosen(c, four[:2]...); got != want {
				t.Errorf("chosen %s, want %s\n%s", got, want, log)
			}
		}
		expect(time.Second, "192.0.2.4 192.0.2.3")
		w.silence("192.0.2.4")
		expect(2*Interval, "192.0.2.4 192.0.2.3") // one lost packet is nothing
		expect(2*Interval, "192.0.2.3")
		w.say("192.0.2.4", good(1, 0))
		expect(maxInterval, "192.0.2.4 192.0.2.3")
		w.say("192.0.2.4", Answer{Stratum: 0})
		expect(Interval, "192.0.2.3") // it says so itself
		w.say("192.0.2.4", good(1, 0))
		expect(Interval, "192.0.2.4 192.0.2.3")
	})
}

// RATE asks for less; it does not say that the server does not know the time.
func TestRate(t *testing.T) {
	run(t, true, [][]string{four[:2]}, func(w *world, c *Checker, _ *bytes.Buffer) {
		w.say("192.0.2.3", good(2, 0))
		w.say("192.0.2.4", good(1, 0))
		w.start()
		time.Sleep(time.Second)
		w.say("192.0.2.4", Answer{Kiss: "RATE"})
		time.Sleep(5 * Interval)
		synctest.Wait()
		if got := chosen(c, four[:2]...); got != "192.0.2.4 192.0.2.3" {
			t.Errorf("chosen %s", got)
		}
		time.Sleep(10 * maxInterval)
		synctest.Wait()
		if got := chosen(c, four[:2]...); got != "192.0.2.3" {
			t.Errorf("after a long time of RATE: chosen %s", got)
		}
	})
}

func TestNames(t *testing.T) {
	list := []string{"ntp.example.org.", "192.0.2.9"}
	run(t, false, [][]string{list, {"other.example.org."}}, func(w *world, c *Checker, log *bytes.Buffer) {
		w.names["ntp.example.org."] = []string{"192.0.2.6", "::ffff:192.0.2.5", "2001:db8::1", "192.0.2.6"}
		if got := chosen(c, list...); got != "192.0.2.9" {
			t.Errorf("before names are resolved: %s", got)
		}
		w.start()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := chosen(c, list...); got != "192.0.2.5 192.0.2.6 192.0.2.9" {
			t.Errorf("chosen %s", got)
		}
		w.mu.Lock()
		w.names["ntp.example.org."] = []string{"192.0.2.7"}
		w.mu.Unlock()
		time.Sleep(ResolveInterval)
		synctest.Wait()
		if got := chosen(c, list...); got != "192.0.2.7 192.0.2.9" {
			t.Errorf("after it moved: %s", got)
		}
		w.mu.Lock()
		w.names["ntp.example.org."] = nil
		w.mu.Unlock()
		time.Sleep(2 * ResolveInterval)
		synctest.Wait()
		if got := chosen(c, list...); got != "192.0.2.7 192.0.2.9" {
			t.Errorf("without an answer: %s", got)
		}
		if n := strings.Count(log.String(), "host=other.example.org."); n > 2 {
			t.Errorf("a name that is not found was told %d times in 15 minutes", n)
		}
		if len(w.asked) > 0 {
			t.Errorf("servers were asked without verify: %v", w.asked)
		}
		if c.Alarms() != nil {
			t.Error("an alarm without verify")
		}
	})
}

// Setting our clock changes no judgement: what servers said before and after it is compared by a clock that nobody sets.
func TestOurClockIsSet(t *testing.T) {
	now := time.Now()
	c := New(Options{Verify: true, Now: func() time.Time { return now }, Jitter: func(time.Duration) time.Duration { return 0 }})
	c.SetLists([][]string{four[:2]})
	var elapsed time.Duration
	c.elapsed = func() time.Duration { return elapsed }
	a, b := c.targets[netip.MustParseAddr(four[0])], c.targets[netip.MustParseAddr(four[1])]
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(a, good(2, 0), nil)
	// A minute later our clock was set an hour ahead, and the servers are that much behind it.
	elapsed += time.Minute
	now = now.Add(time.Minute + time.Hour)
	c.take(b, good(2, -time.Hour), nil)
	if a.verdict != Good || b.verdict != Good || a.deviation.Abs() > time.Millisecond {
		t.Errorf("verdicts %s %q, %s %q", a.verdict, a.reason, b.verdict, b.reason)
	}
	c.take(b, good(2, 0), nil)
	if b.verdict != Bad {
		t.Errorf("an hour off: verdict %s", b.verdict)
	}
}

func TestBounded(t *testing.T) {
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250))
	}
	run(t, true, [][]string{many}, func(w *world, c *Checker, log *bytes.Buffer) {
		w.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(w.asked) != maxTargets || strings.Count(log.String(), "too many time servers") != 1 {
			t.Errorf("%d servers were asked\n%.300s", len(w.asked), log)
		}
		if got := c.Choose(many); len(got) != 300-maxTargets {
			t.Errorf("%d are given, want those that were not asked: %d", len(got), 300-maxTargets)
		}
		if len(c.Status()) != 300 {
			t.Errorf("%d in Status", len(c.Status()))
		}
	})
}

func TestChooseOnce(t *testing.T) {
	c := New(Options{})
	got := c.Choose([]string{"192.0.2.3", "192.0.2.3", "2001:db8::1"})
	if !slices.Equal(got, []netip.Addr{netip.MustParseAddr("192.0.2.3")}) {
		t.Errorf("chosen %v", got)
	}
}
