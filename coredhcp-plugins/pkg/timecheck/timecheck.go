package timecheck

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Interval is the least time between two questions to a server.
	Interval = 64 * time.Second
	// maxInterval is the most that questions to a server that does not answer are apart.
	maxInterval = 1024 * time.Second
	// ResolveInterval is how often names are resolved.
	ResolveInterval = 5 * time.Minute
	resolveTimeout  = 10 * time.Second

	maxTargets   = 128 // addresses that are asked
	maxAtOnce    = 8   // questions that wait for an answer at one time
	maxMissed    = 3   // questions without an answer until a good server is out
	maxRated     = 8   // questions with the kiss code RATE for an answer, likewise
	maxDistance  = 1500 * time.Millisecond
	maxDeviation = 128 * time.Millisecond // the step threshold of RFC 5905
)

// Options are what a Checker needs. The zero Options are those of a server.
type Options struct {
	Verify bool // ask the servers; else names are resolved, and that is all
	Logger *slog.Logger

	Lookup func(ctx context.Context, host string) ([]netip.Addr, error) // default the system's resolver
	Query  func(ctx context.Context, server netip.Addr) (Answer, error) // default NTP, port 123
	Now    func() time.Time                                             // default time.Now
	Jitter func(time.Duration) time.Duration                            // returns a random part of a time
}

// Answer is what a server has said of itself and of the time.
type Answer struct {
	Stratum      uint8         // 1 to 15; 0 or 16: it is not synchronised
	Kiss         string        // four characters, with stratum 0 (RFC 5905 section 7.4); "" if it is none
	Invalid      string        // why the answer cannot be used for another reason; "" if there is none
	Offset       time.Duration // of its clock from ours
	RootDistance time.Duration // to its reference clock, by way of our network
	RTT          time.Duration
}

// Verdict is what is held of one server.
type Verdict string

// The verdicts.
const (
	Unknown Verdict = "unknown" // not asked yet
	Good    Verdict = "good"
	Bad     Verdict = "bad"
)

// Status is what is known of one address of a configured server.
type Status struct {
	Server  string     // as the site file has it
	Address netip.Addr // the zero Addr where the name has none
	Verdict Verdict
	Reason  string // why it is not good; "" if it is

	Stratum      uint8 // of the last answer, as the next ones
	RootDistance time.Duration
	RTT          time.Duration
	Deviation    time.Duration // from the median of all servers that are synchronised; positive: it is ahead
	Answered     time.Time     // when it answered last; zero: never
	Next         time.Time     // when it is asked again; zero: never

	Questions, Answers, Kisses uint64
}

// target is one address that is asked. Checker.mu guards it.
type target struct {
	address  netip.Addr
	answer   Answer
	answered time.Time     // by our clock, with its monotonic reading
	clock    time.Duration // what its clock has read, less what our stop watch has
	missed   int           // questions since the last answer
	rated    int           // of the last questions, those that were answered by the kiss code RATE
	asking   bool
	next     time.Time
	interval time.Duration
	refused  string // the kiss code by which it does not want to be asked any more

	verdict   Verdict
	reason    string
	deviation time.Duration

	questions, answers, kisses uint64
}

// view is what readers see.
type view struct {
	resolved map[string][]netip.Addr
	verdicts map[netip.Addr]ranked
}

type ranked struct {
	verdict  Verdict
	stratum  uint8
	distance time.Duration // in steps, so that the order of equals is the configured one
}

// Checker judges time servers. Its methods may be called by many goroutines at once.
type Checker struct {
	o    Options
	base time.Time // our clock at the beginning
	// elapsed is our stop watch: what has passed since then, whatever our clock says.
	elapsed func() time.Duration
	wake    chan struct{}
	view    atomic.Pointer[view]

	mu       sync.Mutex // guards all below
	lists    [][]string
	resolved map[string][]netip.Addr
	targets  map[netip.Addr]*target
	alarmed  map[string]bool // lists of which nobody is good, by their text
	crowded  bool
	fresh    bool // names are to be resolved now
}

// New returns a checker without servers.
func New(o Options) *Checker {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Lookup == nil {
		o.Lookup = lookup
	}
	if o.Query == nil {
		o.Query = query
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Jitter == nil {
		o.Jitter = jitter
	}
	c := &Checker{o: o, base: o.Now(), wake: make(chan struct{}, 1), resolved: map[string][]netip.Addr{}, targets: map[netip.Addr]*target{}, alarmed: map[string]bool{}}
	begin := time.Now()
	c.elapsed = func() time.Duration { return time.Since(begin) }
	c.publish()
	return c
}

// SetLists says which lists of servers there are: addresses and host names, each list as some clients are told it. Servers that were
// there before keep what is known of them, but one that refused to be asked is asked once more.
func (c *Checker) SetLists(lists [][]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists = lists
	c.fresh = true
	for _, t := range c.targets {
		if t.refused != "" {
			t.refused, t.next = "", c.o.Now().Add(Interval)
		}
	}
	c.retarget()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// retarget makes the targets those of the lists and of what names resolve to. Caller holds mu.
func (c *Checker) retarget() {
	now := c.o.Now()
	keep := map[netip.Addr]bool{}
	for _, server := range c.servers() {
		for _, a := range addressesOf(c.resolved, server) {
			if keep[a] {
				continue
			}
			if len(keep) >= maxTargets {
				if !c.crowded {
					c.o.Logger.Warn("too many time servers: the rest is given without being asked", "most", maxTargets)
				}
				c.crowded = true
				break
			}
			keep[a] = true
			if c.targets[a] == nil {
				// The first questions are apart too: not all servers of a large site at one moment.
				c.targets[a] = &target{address: a, verdict: Unknown, reason: "not asked yet", interval: Interval, next: now.Add(c.o.Jitter(time.Second))}
			}
		}
	}
	for a := range c.targets {
		if !keep[a] {
			delete(c.targets, a)
		}
	}
	c.judge()
}

// servers are the configured servers, each once. Caller holds mu.
func (c *Checker) servers() []string {
	var all []string
	seen := map[string]bool{}
	for _, list := range c.lists {
		for _, s := range list {
			if !seen[s] {
				seen[s] = true
				all = append(all, s)
			}
		}
	}
	return all
}

// addressesOf are the IPv4 addresses of a server: itself, or what its name resolved to.
func addressesOf(resolved map[string][]netip.Addr, server string) []netip.Addr {
	if a, err := netip.ParseAddr(server); err == nil {
		if a = a.Unmap(); !a.Is4() {
			return nil
		}
		return []netip.Addr{a}
	}
	return resolved[server]
}

// publish shows readers what is known. Caller holds mu, or is New.
func (c *Checker) publish() {
	v := &view{resolved: c.resolved, verdicts: make(map[netip.Addr]ranked, len(c.targets))}
	for a, t := range c.targets {
		const step = 10 * time.Millisecond
		v.verdicts[a] = ranked{t.verdict, t.answer.Stratum, t.answer.RootDistance / step}
	}
	c.view.Store(v)
}

// Choose returns the addresses to tell a client of, for a list of servers: those that are good, the best first, and behind them those that
// were not asked yet. If none is left, and where servers are not verified, it is all of them in the order of the list. Each address
// stands once.
func (c *Checker) Choose(list []string) []netip.Addr {
	v := c.view.Load()
	var all []netip.Addr
	for _, server := range list {
		for _, a := range addressesOf(v.resolved, server) {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	if !c.o.Verify {
		return all
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return v.verdicts[a].verdict == Bad })
	if len(chosen) == 0 {
		return all
	}
	slices.SortStableFunc(chosen, func(a, b netip.Addr) int {
		x, y := v.verdicts[a], v.verdicts[b]
		if g, h := x.verdict == Good, y.verdict == Good; g != h || !g {
			return boolOrder(g, h)
		}
		return cmp.Or(cmp.Compare(x.stratum, y.stratum), cmp.Compare(x.distance, y.distance))
	})
	return chosen
}

// boolOrder puts true first.
func boolOrder(a, b bool) int {
	switch {
	case a && !b:
		return -1
	case b && !a:
		return 1
	}
	return 0
}

// Status returns what is known of all servers, in the order in which they are configured.
func (c *Checker) Status() []Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Status
	for _, server := range c.servers() {
		addresses := addressesOf(c.resolved, server)
		if len(addresses) == 0 {
			list = append(list, Status{Server: server, Verdict: Bad, Reason: "the name has no address"})
		}
		for _, a := range addresses {
			s := Status{Server: server, Address: a, Verdict: Unknown, Reason: "not asked"}
			if t := c.targets[a]; t != nil && c.o.Verify {
				s = Status{
					Server: server, Address: a, Verdict: t.verdict, Reason: t.reason, Stratum: t.answer.Stratum, RootDistance: t.answer.RootDistance,
					RTT: t.answer.RTT, Deviation: t.deviation, Answered: t.answered, Questions: t.questions, Answers: t.answers, Kisses: t.kisses,
				}
				if t.refused == "" {
					s.Next = t.next
				}
			}
			list = append(list, s)
		}
	}
	return list
}

// Alarms returns the lists of which no server is good, though all have been asked.
func (c *Checker) Alarms() [][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alarms()
}

// alarms is Alarms. Caller holds mu.
func (c *Checker) alarms() [][]string {
	if !c.o.Verify {
		return nil
	}
	var bad [][]string
	for _, list := range c.lists {
		hopeless := len(list) > 0
		for _, server := range list {
			addresses := addressesOf(c.resolved, server)
			if _, known := c.resolved[server]; len(addresses) == 0 && !known {
				hopeless = false // its name is being resolved for the first time
			}
			for _, a := range addresses {
				if t := c.targets[a]; t == nil || t.verdict != Bad {
					hopeless = false
				}
			}
		}
		if hopeless {
			bad = append(bad, list)
		}
	}
	return bad
}
