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

	"github.com/dicomnam/dicomnam/integration/lab"
)

const (
	namesAlone = 200  // leases one at a time
	namesMany  = 500  // leases that are taken by namesCrowd clients
	namesCrowd = 50   // clients at a time
	namesRate  = 2000 // leases a second that are to be followed
)

// named measures the time from the ACK to the first right answer: of one client at a time, of many, and at a rate; then
// how long it takes after DNS was away.
func (b *bench) named(ctx context.Context) error {
	if err := b.wire(ctx); err != nil {
		b.skip("names", err.Error())
		return nil
	}
	for i, st := range b.nameStacks() {
		s, err := b.startStack(ctx, st)
		if err != nil {
			if i == 0 || ctx.Err() != nil {
				return err
			}
			b.skip(st.name, err.Error())
			continue
		}
		err = b.measureStack(ctx, s, i == 0)
		s.kill()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measureStack(ctx context.Context, s *runningStack, ours bool) error {
	first := 20_000_000
	for _, w := range []struct {
		what          string
		clients, each int
		goal          string
	}{
		{"ACK to name, one at a time", 1, namesAlone, "goal: p50 at most 1.5 ms, p99 5 ms"},
		{fmt.Sprintf("ACK to name, %d clients at a time", namesCrowd), namesCrowd, namesMany / namesCrowd, "goal: p99 at most 20 ms"},
	} {
		b.calm(ctx)
		forward, reverse, err := b.namesOf(ctx, s, first, w.clients, w.each)
		if err != nil {
			return err
		}
		if !ours {
			w.goal = ""
		}
		first += 1_000_000
		b.add(w.what+": A", s.name, forward, "", w.goal)
		b.add(w.what+": PTR", s.name, reverse, "", w.goal)
	}
	if err := b.namesAtRate(ctx, s, first, ours); err != nil || !ours {
		return err
	}
	return b.namesAfterOutage(ctx, s, first+10_000_000)
}

// namesOf has clients take leases, each one after another, and ask for each name until it is there. An elapsed time is
// that of all together.
func (b *bench) namesOf(ctx context.Context, s *runningStack, first, clients, each int) (forward, reverse *sample, err error) {
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
			r := b.net.Client.Resolver(s.dns)
			defer func() { _ = r.Close() }() // nothing is asked any more
			for n := range each {
				f, p, err := hub.lease(ctx, r, first+c*each+n)
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
func (b *bench) namesAtRate(ctx context.Context, s *runningStack, first int, ours bool) error {
	load := b.load()
	load.first, load.rate, load.duration, load.named = first, namesRate, 30*time.Second, true
	if b.rounds == 1 { // -short
		load.duration = 5 * time.Second
	}
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
	names, err := s.await(ctx, before+len(got.latencies), 30*time.Second)
	if err != nil {
		return err
	}
	say := fmt.Sprintf("%d leases, %d lost; %d of the names there %s ms after the end", len(got.latencies), got.lost, names-before, ms(time.Since(end)))
	if ours {
		say += fmt.Sprintf("; oldest unconfirmed %s ms (goal 200)", ms(age))
	}
	b.add(fmt.Sprintf("leases with names at %d/s", namesRate), s.name, got, "", say)
	return nil
}

// namesAfterOutage gives leases while the name server is away, and measures how long it takes until all names are there.
func (b *bench) namesAfterOutage(ctx context.Context, s *runningStack, first int) error {
	before, err := s.count(ctx)
	if err != nil {
		return err
	}
	s.servers[0].Kill()
	load := b.load()
	load.first, load.limit, load.window, load.duration, load.named = first, b.leases, crowd, 0, true
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

// awaitAnswer waits for the right answer.
func awaitAnswer(ctx context.Context, r *lab.Resolver, name string, qtype uint16, right func(dns.RR) bool) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		m, err := r.Ask(ctx, name, qtype)
		if err == nil && slices.ContainsFunc(m.Answer, right) {
			return time.Now(), nil
		}
		if ctx.Err() != nil {
			return time.Time{}, fmt.Errorf("no %s", dns.TypeToString[qtype])
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func isAddress(a netip.Addr) func(dns.RR) bool {
	return func(rr dns.RR) bool {
		x, ok := rr.(*dns.A)
		return ok && x.A.String() == a.String()
	}
}

func isPointer(name string) func(dns.RR) bool {
	return func(rr dns.RR) bool {
		x, ok := rr.(*dns.PTR)
		return ok && x.Ptr == name
	}
}
