package nameupdate

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// scouts is how many names are asked for at once, and while how many changes are worked on: with more to do than that,
	// asking takes from them what one of them gains.
	scouts = 2
	// scoutRest is how long one asks nothing after that: who floods coredhcp does not flood the DNS server by it.
	scoutRest = time.Millisecond
	// scoutTimeout is how long an answer is waited for.
	scoutTimeout = 500 * time.Millisecond
	// freeLife is how long a name is taken to be free that was, unless a change with it comes before.
	freeLife = 2 * time.Second
	// maxFree bounds the names that are remembered. Each makes two updates of a change in flight, and BIND takes 100 at a time.
	maxFree = 16
)

// scout asks for names before their leases are given. The pointer to one that nobody has is sent together with it, and not
// after the answer (RFC 4703 section 5.4): an address whose name is somebody else's would point there for a moment, and
// resolvers keep that.
type scout struct {
	zones *zones
	busy  *atomic.Int64 // changes that are worked on

	mu   sync.Mutex
	free map[string]time.Time // names that nobody had, and until when that counts
}

func newScout(z *zones, busy *atomic.Int64) *scout {
	return &scout{zones: z, busy: busy, free: make(map[string]time.Time)}
}

// run asks for names until ctx ends.
func (s *scout) run(ctx context.Context, names <-chan string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range scouts {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case name := <-names:
					if s.busy.Load() <= scouts {
						s.ask(ctx, name)
						time.Sleep(scoutRest)
					}
				}
			}
		})
	}
}

// ask finds out whether a name is free, where its zone takes updates and its server answers.
func (s *scout) ask(ctx context.Context, name string) {
	canonical := dns.CanonicalName(name)
	e, working := s.zones.working(canonical)
	if !working || !e.takes {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, scoutTimeout)
	defer cancel()
	m := new(dns.Msg).SetQuestion(canonical, dns.TypeDHCID)
	m.RecursionDesired = false
	r, err := e.at.exchange(ctx, m)
	if err != nil || r.Rcode != dns.RcodeNameError || !r.Authoritative || len(r.Answer) > 0 { // an alias to a name that is not there
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) >= maxFree {
		clear(s.free)
	}
	s.free[name] = now.Add(freeLife)
}

// takes says whether a name was free a moment ago, once.
func (s *scout) takes(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, free := s.free[name]
	delete(s.free, name)
	return free && time.Now().Before(until)
}
