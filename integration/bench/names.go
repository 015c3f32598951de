//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	namesAlone = 200  // leases one at a time
	namesMany  = 500  // leases that are taken by namesCrowd clients
	namesCrowd = 50   // clients at a time
	namesRate  = 2000 // leases a second that are to be followed

	// How long a client rests before it asks again: one by itself hardly at all, many so that most of what the servers do
	// is not answering them.
	restAlone = 200 * time.Microsecond
	restCrowd = 2 * time.Millisecond
)

// namesAlike runs a measurement of our servers and of the peers, each time on new databases. Updates go to a port of the
// name server's address.
func (b *bench) namesAlike(ctx context.Context, updates uint16, measure func(s *runningStack, ours bool) error) error {
	for i, st := range b.nameStacks(updates) {
		if slices.Contains(b.missing, st.name) {
			continue
		}
		s, err := b.startStack(ctx, st)
		if err != nil {
			if i == 0 || ctx.Err() != nil {
				return err
			}
			b.skip(st.name, err.Error())
			b.missing = append(b.missing, st.name)
			continue
		}
		err = measure(s, i == 0)
		s.kill()
		if err != nil {
			return err
		}
	}
	return nil
}

// named measures the time from the ACK to the first right answer: of one client at a time, and of many.
func (b *bench) named(ctx context.Context) error {
	return b.namesAlike(ctx, dnsPort, func(s *runningStack, ours bool) error {
		first := 20_000_000
		for _, w := range []struct {
			what          string
			clients, each int
			rest          time.Duration
			goal          string
		}{
			{"ACK to name, one at a time", 1, namesAlone, restAlone, "goal: p50 at most 1.5 ms, p99 5 ms"},
			{fmt.Sprintf("ACK to name, %d clients at a time", namesCrowd), namesCrowd, namesMany / namesCrowd, restCrowd, "goal: p99 at most 20 ms"},
		} {
			forward, reverse := newSample(), newSample()
			for range b.rounds {
				b.calm(ctx)
				f, p, err := b.namesOf(ctx, s, first, w.clients, w.each, w.rest)
				if err != nil {
					return err
				}
				forward.merge(f)
				reverse.merge(p)
				first += 1_000_000
			}
			if !ours {
				w.goal = ""
			}
			b.add(w.what+": A", s.name, forward, "", w.goal)
			b.add(w.what+": PTR", s.name, reverse, "", w.goal)
		}
		return nil
	})
}

// followed measures leases at a rate, and counts the names that are there at last.
func (b *bench) followed(ctx context.Context) error {
	return b.namesAlike(ctx, dnsPort, func(s *runningStack, ours bool) error {
		return b.namesAtRate(ctx, s, fmt.Sprintf("leases with names at %d/s for %s", namesRate, b.follow), b.follow, ours, " (goal 200)")
	})
}

// slowed does the same with DNS servers that are slow, and for less long: they cannot follow.
func (b *bench) slowed(ctx context.Context) error {
	for _, how := range slownesses {
		err := b.namesAlike(ctx, slowPort, func(s *runningStack, ours bool) error {
			path, err := newSlowPath(how, b.net.Server, netip.AddrPortFrom(dhcpServer.Addr(), slowPort), s.dns)
			if err != nil {
				return err
			}
			defer path.close()
			load := time.Duration(float64(b.follow) * how.share)
			return b.namesAtRate(ctx, s, fmt.Sprintf("leases at %d/s for %s, DNS with %s", namesRate, load, how.name), load, ours, "")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// caughtUp measures how long names take that changed while DNS was away.
func (b *bench) caughtUp(ctx context.Context) error {
	return b.namesAlike(ctx, dnsPort, func(s *runningStack, ours bool) error {
		if !ours { // D2 gives up what no server takes
			return nil
		}
		return b.namesAfterOutage(ctx, s)
	})
}

// namesOf has clients take leases, each one after another, and ask for each name until it is there. An elapsed time is
// that of all together.
func (b *bench) namesOf(ctx context.Context, s *runningStack, first, clients, each int, rest time.Duration) (forward, reverse *sample, err error) {
	hub, err := b.newNameHub()
	if err != nil {
		return nil, nil, err
	}
	defer hub.close()
	forward, reverse = newSample(), newSample()
	begin, cpu := time.Now(), s.cpu()
	own, machine := cpuOfSelf(), cpuOfMachine()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			a, err := newAsker(b.net.Client, s.dns, rest)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				forward.fail(err)
				return
			}
			defer a.close()
			for n := range each {
				f, p, err := hub.lease(ctx, a, first+c*each+n)
				mu.Lock()
				if err != nil {
					forward.fail(err)
				} else {
					forward.latencies = append(forward.latencies, f)
					reverse.latencies = append(reverse.latencies, p)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	used, elapsed := s.cpu()-cpu, time.Since(begin)
	others := max(0, (cpuOfMachine()-machine-used-(cpuOfSelf()-own)).Seconds()/(elapsed.Seconds()*float64(processors())))
	for _, x := range []*sample{forward, reverse} {
		x.elapsed, x.others = elapsed, others
	}
	forward.cpu = used
	return forward, reverse, ctx.Err()
}

// namesAtRate gives leases at a rate, and then counts the names that are there at last.
func (b *bench) namesAtRate(ctx context.Context, s *runningStack, what string, duration time.Duration, ours bool, goal string) error {
	load := b.load()
	load.first, load.rate, load.duration, load.named = 20_000_000, namesRate, duration, true
	before, err := s.count(ctx)
	if err != nil {
		return err
	}
	b.calm(ctx)
	watching, stop := context.WithCancel(ctx)
	oldest := make(chan time.Duration, 1)
	go func() { oldest <- s.watchOldest(watching) }()
	cpu, own, machine, begin := s.cpu(), cpuOfSelf(), cpuOfMachine(), time.Now()
	got, err := load.run(ctx)
	stop()
	age := <-oldest
	if err != nil {
		return err
	}
	got.cpu = s.cpu() - cpu
	got.others = max(0, (cpuOfMachine()-machine-got.cpu-(cpuOfSelf()-own)).Seconds()/(time.Since(begin).Seconds()*float64(processors())))
	end := time.Now()
	names, err := s.await(ctx, before+len(got.latencies), 10*time.Second)
	if err != nil {
		return err
	}
	say := fmt.Sprintf("%d leases, %d lost; %d of the names there %s ms after the end", len(got.latencies), got.lost, names-before, ms(time.Since(end)))
	if ours {
		say += fmt.Sprintf("; oldest unconfirmed %s ms", ms(age)) + goal
	}
	b.add(what, s.name, got, "", say)
	return nil
}

// namesAfterOutage gives leases while the name server is away, and measures how long it takes until all names are there.
func (b *bench) namesAfterOutage(ctx context.Context, s *runningStack) error {
	before, err := s.count(ctx)
	if err != nil {
		return err
	}
	s.servers[0].Kill()
	load := b.load()
	load.first, load.limit, load.window, load.duration, load.named = 20_000_000, b.leases, crowd, 0, true
	if _, err := load.run(ctx); err != nil {
		return err
	}
	cpu, begin := s.cpu(), time.Now()
	if err := s.startDNS(ctx, b); err != nil {
		return err
	}
	names, err := s.await(ctx, before+b.leases, 5*time.Minute)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	b.tell(fmt.Sprintf("%s leases that changed while DNS was away", thousands(b.leases)), s.name, "",
		fmt.Sprintf("%d names there after %.1f s (goal 60 at 100,000), %.0f us CPU a name", names-before, took.Seconds(), float64((s.cpu()-cpu).Microseconds())/float64(max(1, names-before))))
	return nil
}

// count is how many names clients have, by a zone transfer.
func (s *runningStack) count(ctx context.Context) (int, error) {
	conn, err := s.from.Dial("tcp", s.dns)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // only read from
	t := &dns.Transfer{Conn: &dns.Conn{Conn: conn}, ReadTimeout: 10 * time.Second}
	envelopes, err := t.In(new(dns.Msg).SetAxfr(nameZone), "")
	if err != nil {
		return 0, err
	}
	n := 0
	for e := range envelopes {
		if e.Error != nil {
			err = e.Error
			continue
		}
		for _, rr := range e.RR {
			if rr.Header().Rrtype == dns.TypeA && strings.HasPrefix(rr.Header().Name, namePrefix) {
				n++
			}
		}
	}
	return n, errors.Join(err, ctx.Err())
}

// await waits until there are so many names, or the number stops growing for a while.
func (s *runningStack) await(ctx context.Context, want int, patience time.Duration) (int, error) {
	last, grown := -1, time.Now()
	for {
		begin := time.Now()
		n, err := s.count(ctx)
		pause := max(100*time.Millisecond, 20*time.Since(begin)) // a transfer takes the server's time
		switch {
		case ctx.Err() != nil:
			return n, ctx.Err()
		case err == nil && n >= want:
			return n, nil
		case err == nil && n != last:
			last, grown = n, time.Now()
		case time.Since(grown) > patience:
			return max(last, 0), nil
		}
		time.Sleep(pause)
	}
}

// watchOldest is the longest that a name was seen to wait, where the server tells that.
func (s *runningStack) watchOldest(ctx context.Context) time.Duration {
	var longest time.Duration
	for s.admin.IsValid() && ctx.Err() == nil {
		text, err := s.metrics(ctx)
		for line := range strings.Lines(text) {
			if v, ok := strings.CutPrefix(line, "coredhcp_ddns_oldest_change_seconds "); ok && err == nil {
				if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
					longest = max(longest, time.Duration(f*float64(time.Second)))
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return longest
}
