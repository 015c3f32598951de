package timecheck

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// gained is what our clock has gained on our stop watch at t, most of all by being set.
func (c *Checker) gained(t time.Time) time.Duration {
	return t.Round(0).Sub(c.base.Round(0)) - c.elapsed()
}

// take notes the answer of a target to the question asked, or that there was none, and plans the next. Caller holds mu.
func (c *Checker) take(t *target, a Answer, err error) {
	now := c.o.Now()
	t.asking = false
	switch {
	case err != nil:
		if t.missed++; t.missed > maxMissed || t.answered.IsZero() { // else it is asked soon, to know
			t.interval = min(2*t.interval, maxInterval)
		}
	case a.Kiss == "RATE":
		// It goes on knowing what time it is; it wants to be asked less.
		t.kisses++
		t.rated++
		t.missed = 0
		t.interval = min(2*t.interval, maxInterval)
	case a.Kiss == "DENY" || a.Kiss == "RSTR":
		t.kisses++
		t.refused = a.Kiss
		t.missed = 0
	default:
		if a.Kiss != "" {
			t.kisses++
		}
		t.answers++
		t.missed, t.rated = 0, 0
		t.answer, t.answered = a, now
		t.clock = c.gained(now) + a.Offset
		t.interval = Interval
	}
	t.next = now.Add(t.interval + c.o.Jitter(t.interval/4))
	c.judge()
}

// alone is the verdict that a target's own answer gives. Caller holds mu.
func (t *target) alone() (Verdict, string) {
	a := &t.answer
	switch {
	case t.refused != "":
		return Bad, "it refuses to answer (kiss code " + t.refused + ")"
	case t.rated >= maxRated, t.rated > 0 && t.answered.IsZero():
		return Bad, "it asks for fewer questions (kiss code RATE)"
	case t.answered.IsZero() && t.missed > 0:
		return Bad, "no answer"
	case t.answered.IsZero():
		return Unknown, t.reason
	case t.missed >= maxMissed:
		return Bad, fmt.Sprintf("no answer to the last %d questions", t.missed)
	case a.Kiss != "":
		return Bad, "kiss code " + a.Kiss
	case a.Stratum == 0 || a.Stratum >= 16:
		return Bad, "not synchronised"
	case a.Invalid != "":
		return Bad, a.Invalid
	case a.RootDistance > maxDistance:
		return Bad, fmt.Sprintf("root distance %s: expected at most %s", a.RootDistance.Round(time.Millisecond), maxDistance)
	}
	return Good, ""
}

// judge gives every target its verdict, from what it said and from what the others did, and publishes. Caller holds mu.
func (c *Checker) judge() {
	var fit []*target
	before := map[*target]Verdict{}
	for _, t := range c.targets {
		before[t] = t.verdict
		t.verdict, t.reason = t.alone()
		t.deviation = 0
		if t.verdict == Good {
			fit = append(fit, t)
		}
	}
	if len(fit) > 1 {
		median := medianOf(fit)
		for _, t := range fit {
			t.deviation = t.clock - median
			if most := maxDeviation + t.answer.RootDistance; t.deviation.Abs() > most {
				t.verdict = Bad
				t.reason = fmt.Sprintf("%s off the median of %d servers: expected at most %s", t.deviation.Round(time.Millisecond), len(fit), most.Round(time.Millisecond))
			}
		}
	}
	c.publish()
	if c.o.Verify {
		c.tell(before)
	}
}

// medianOf is the middle of what the clocks of targets have read. Of an even number it is between the two in the middle: where half of
// the servers say this and half say that, nobody is near it, and nobody can be believed.
func medianOf(targets []*target) time.Duration {
	clocks := make([]time.Duration, len(targets))
	for i, t := range targets {
		clocks[i] = t.clock
	}
	slices.Sort(clocks)
	n := len(clocks)
	low, high := clocks[(n-1)/2], clocks[n/2]
	return low + (high-low)/2
}

// tell logs what has changed. Each server is asked once a minute at the most, which bounds the log. Caller holds mu.
func (c *Checker) tell(before map[*target]Verdict) {
	for t, was := range before {
		switch {
		case t.verdict == Bad && was != Bad:
			c.o.Logger.Warn("time server is not given to clients", "address", t.address, "reason", t.reason)
		case t.verdict == Good && was == Bad:
			c.o.Logger.Info("time server is given to clients again", "address", t.address)
		}
	}
	now := map[string]bool{}
	for _, list := range c.alarms() {
		text := strings.Join(list, " ")
		now[text] = true
		if !c.alarmed[text] {
			c.o.Logger.Error("none of the time servers is good: clients are given all of them", "servers", text)
		}
	}
	for text := range c.alarmed {
		if !now[text] {
			c.o.Logger.Info("there are good time servers again", "servers", text)
		}
	}
	c.alarmed = now
}
