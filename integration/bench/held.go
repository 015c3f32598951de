//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dicomnam/dicomnam/integration/lab"
)

const (
	fewHeld   = 10_000  // leases of the server that others are compared with
	startHeld = 100_000 // of the start that has a goal of its own
	keaHeld   = 100_000 // of Kea at most: it takes minutes for more

	// A slice is long beside one exchange, and short beside what changes a machine's
	// speed. An exchange is lost after heldPatience, lest what a server drops at the
	// beginning of each slice keep the others waiting.
	heldSlice    = 100 * time.Millisecond
	heldPatience = 250 * time.Millisecond
)

// A holder is a DHCP server with leases, on a network of its own.
type holder struct {
	*server
	net    *lab.Lab
	leases int   // that it was filled with
	fresh  int   // number of the next new client
	back   int   // of the next exchange of one that comes back
	known  []int // clients that hold the leases, in any order

	began     time.Duration // CPU time before the first slice
	exchanges int           // since
	added     int           // leases, since
	rested    time.Duration // while the other was measured
	idle      time.Duration // CPU time that it took meanwhile
}

// A visit is which clients come to a holder.
type visit struct {
	what  string
	share int // one of so many slices
	load  func(*holder) (exchangeLoad, error)
	took  func(*holder, *sample)
}

// visits are those that are measured. Clients that come back, in any order, leave the
// number of leases as it is, and each of them needs another piece of the server's
// memory and of its disk. New clients are what the part `exchanges` measures too; what
// is theirs lies side by side. Each makes one lease more, so that they come last, and
// not for long: the few are to stay few.
var visits = [...]visit{
	{
		what: "clients that come back", share: 1,
		load: func(h *holder) (exchangeLoad, error) { return exchangeLoad{first: 1<<30 + h.back, back: h.known}, nil },
		took: func(h *holder, got *sample) { h.back += done(got) + crowd },
	},
	{
		what: "new clients", share: 4,
		load: func(h *holder) (exchangeLoad, error) {
			// No more than there are addresses for.
			l := exchangeLoad{first: h.fresh, limit: dhcpPoolSize - h.fresh - 2*crowd}
			if l.limit <= 0 {
				return l, errors.New("the pool is used up: fewer rounds, or shorter ones")
			}
			return l, nil
		},
		took: func(h *holder, got *sample) {
			h.fresh += done(got) + crowd
			h.added += len(got.latencies)
		},
	},
}

// done is how many exchanges were begun.
func done(s *sample) int {
	n := len(s.latencies) + s.lost
	for _, failed := range s.failed {
		n += failed
	}
	return n
}

// held measures the start with many leases, and exchanges while they are held.
func (b *bench) held(ctx context.Context) (err error) {
	if err := b.wire(ctx); err != nil {
		b.skip("held", err.Error())
		return nil
	}
	second, err := b.newWire(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, second.Close()) }()
	leases, kea, _ := b.dhcpKinds()
	turns := max(1, int(time.Duration(b.rounds)*b.duration/(2*heldSlice)))
	ours := map[int]time.Duration{} // of starts, by leases
	if b.leases > startHeld {
		many, err := b.started(ctx, second, leases, startHeld, ours)
		if err != nil {
			return err
		}
		many.Kill()
	}
	if err := b.holding(ctx, second, leases, b.leases, turns, ours); err != nil {
		return err
	}
	// Kea has fewer, and takes fewer turns: it needs minutes for more.
	if err := b.holding(ctx, second, kea, min(b.leases, keaHeld), (turns+2)/3, ours); err != nil {
		if ctx.Err() != nil {
			return err
		}
		b.skip(kea.name, err.Error())
	}
	return nil
}

// holding measures a server with many leases, and beside it one with few.
func (b *bench) holding(ctx context.Context, l *lab.Lab, k kind, leases, turns int, ours map[int]time.Duration) error {
	many, err := b.started(ctx, l, k, leases, ours)
	if err != nil {
		return err
	}
	defer many.Kill()
	few, err := b.fill(ctx, b.net, k, min(fewHeld, leases))
	if err != nil {
		return err
	}
	defer few.Kill()
	return b.compareHolders(ctx, turns, few, many)
}

// started measures a server's start with leases.
func (b *bench) started(ctx context.Context, l *lab.Lab, k kind, leases int, ours map[int]time.Duration) (*holder, error) {
	h, err := b.fill(ctx, l, k, leases)
	if err != nil {
		return nil, err
	}
	peer := ""
	if took, ok := ours[leases]; ok {
		peer = times(h.took.Seconds(), took.Seconds(), "")
	} else {
		ours[leases] = h.took
	}
	size := resident(h.PID())
	b.tell("start to first OFFER with "+thousands(leases)+" leases", k.name, peer,
		fmt.Sprintf("%s ms (goal 300 at 100,000, 3000 at 1,000,000); %.0f MB resident, %d bytes a lease", ms(h.took), float64(size)/1e6, size/int64(leases)))
	return h, nil
}

// fill starts a server on a new directory, gives away leases, and starts it again,
// so that how it got them has no part in what is measured.
func (b *bench) fill(ctx context.Context, l *lab.Lab, k kind, leases int) (*holder, error) {
	s, err := b.startDHCPOn(ctx, l, k)
	if err != nil {
		return nil, err
	}
	h := &holder{server: s, net: l, leases: leases}
	err = func() error {
		load := b.loadOn(l)
		load.window, load.duration = crowd, 0
		for held := 0; held < leases; {
			load.first, load.limit = h.fresh, leases-held
			got, err := load.run(ctx)
			if err == nil && len(got.latencies) == 0 {
				err = fmt.Errorf("%s gives no lease beyond %d\n%s", s.Name, held, s.Tail(10))
			}
			if err != nil {
				return err
			}
			held += len(got.latencies)
			h.fresh += load.limit
		}
		if err := s.Stop(); err != nil {
			return err
		}
		return b.launchDHCPOn(ctx, l, s)
	}()
	if err != nil {
		s.Kill()
		return nil, err
	}
	h.known = rand.New(rand.NewPCG(1, 2)).Perm(h.fresh) // the same in each run
	return h, nil
}

// compareHolders measures two servers of one kind in short slices that take turns: a
// machine whose speed changes is then as fast for the one as for the other. A turn is
// four slices, of which the first and the last are of the same server.
func (b *bench) compareHolders(ctx context.Context, turns int, few, many *holder) error {
	holders := [2]*holder{few, many}
	for _, h := range holders {
		h.began = cpuOf(h.PID())
	}
	for _, v := range visits {
		var found [2][]*sample // by turn
		for turn := range (turns + v.share - 1) / v.share {
			b.calm(ctx)
			sums := [2]*sample{newSample(), newSample()}
			for _, n := range [...]int{0, 1, 1, 0} {
				i := (n + turn) % 2
				got, err := b.slice(ctx, &v, holders[i], holders[1-i])
				if err != nil {
					return err
				}
				sums[i].merge(got)
			}
			b.note("%s, %s, turn %d: %.0f/s with few leases held, %.0f/s with many; others %s, %s",
				v.what, few.name, turn+1, sums[0].rate(), sums[1].rate(), percent(sums[0].others), percent(sums[1].others))
			for i := range sums {
				found[i] = append(found[i], sums[i])
			}
		}
		b.addHolders(&v, holders, found)
	}
	perOp := func(h *holder) float64 {
		return float64((cpuOf(h.PID()) - h.began).Microseconds()) / float64(max(1, h.exchanges))
	}
	for _, h := range holders {
		ratio := ""
		if h == many {
			ratio = " (" + times(perOp(few), perOp(many), "") + " for the same CPU)"
		}
		b.tell("all of them with "+thousands(h.leases)+" leases held", h.name, "", fmt.Sprintf(
			"%.1f us of CPU each with what came after the slices%s; idle beside the other %.1f %% of one processor; %s leases at the end, %.0f MB resident",
			perOp(h), ratio, 100*h.idle.Seconds()/h.rested.Seconds(), thousands(h.leases+h.added), float64(resident(h.PID()))/1e6))
	}
	return nil
}

// slice measures a server when both have nothing left to do from the slice before.
func (b *bench) slice(ctx context.Context, v *visit, h, other *holder) (*sample, error) {
	load, err := v.load(h)
	if err != nil {
		return nil, err
	}
	from := b.loadOn(h.net)
	load.from, load.relay, load.to = from.from, from.relay, from.to
	load.window, load.duration, load.patience = crowd, min(heldSlice, b.duration), heldPatience
	b.settle(ctx, h.server)
	b.settle(ctx, other.server)
	start, idle := time.Now(), cpuOf(other.PID())
	got, err := b.observe(h.server, func() (*sample, error) { return load.run(ctx) })
	if err != nil {
		return nil, err
	}
	other.idle += cpuOf(other.PID()) - idle
	other.rested += time.Since(start)
	h.exchanges += len(got.latencies)
	v.took(h, got)
	return got, nil
}

// addHolders makes the rows of one kind of visit.
func (b *bench) addHolders(v *visit, holders [2]*holder, found [2][]*sample) {
	var all [2]*sample
	for i, h := range holders {
		all[i] = newSample()
		for _, s := range found[i] {
			all[i].merge(s)
		}
		say := ""
		if i > 0 {
			say = fmt.Sprintf("%s; all together x %.2f; ", compareTurns(found[0], found[1]), all[1].rate()/max(1, all[0].rate()))
		}
		say += fmt.Sprintf("median of the turns %.0f/s; at most %s ms without an ACK", median(found[i]).rate(), ms(all[i].gap))
		b.add("exchanges of "+v.what+" with "+thousands(h.leases)+" leases held", h.name, all[i], "", strings.TrimSpace(say+" "+lostOf(all[i])))
	}
}

// compareTurns says how many times the rate with few leases the one with many is: the
// median of the turns, and between which values the middle half of them is.
func compareTurns(few, many []*sample) string {
	ratios := make([]float64, len(many))
	for i := range ratios {
		ratios[i] = many[i].rate() / max(1, few[i].rate())
	}
	slices.Sort(ratios)
	return fmt.Sprintf("%s, half of the turns %.2f-%.2f", times(ratios[len(ratios)/2], 1, "0.9"), ratios[len(ratios)/4], ratios[len(ratios)*3/4])
}
