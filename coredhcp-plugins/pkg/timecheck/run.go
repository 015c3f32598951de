package timecheck

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/beevik/ntp"
)

const (
	queryTimeout = 5 * time.Second
	lostAlike    = 10 * time.Minute // between two lines of the log about one name
)

// Run asks servers and resolves names until ctx ends, and returns when all that it began has ended. One Run at a time.
func (c *Checker) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	places := make(chan struct{}, maxAtOnce)
	resolving := make(chan struct{}, 1) // holds a value while names are being resolved
	lost := map[string]time.Time{}      // when it was last told that a name is not found; whoever resolves has it
	timer := time.NewTimer(0)
	defer timer.Stop()
	var resolved time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		now := c.o.Now()
		c.mu.Lock()
		fresh := c.fresh
		c.mu.Unlock()
		wait := ResolveInterval - now.Sub(resolved)
		if fresh || resolved.IsZero() || wait <= 0 {
			select {
			case resolving <- struct{}{}:
				resolved, wait = now, ResolveInterval
				c.mu.Lock()
				c.fresh = false
				c.mu.Unlock()
				work.Go(func() {
					c.resolve(ctx, lost)
					<-resolving
					c.nudge()
				})
			default:
				wait = time.Second // the last round goes on
			}
		}
		for _, t := range c.due(now) {
			work.Go(func() {
				select {
				case places <- struct{}{}:
				case <-ctx.Done():
					return
				}
				defer func() { <-places }()
				a, err := c.o.Query(ctx, t.address)
				if ctx.Err() != nil {
					return
				}
				c.mu.Lock()
				c.take(t, a, err)
				c.mu.Unlock()
				c.nudge()
			})
		}
		timer.Reset(min(wait, c.pause(now)))
	}
}

// nudge has Run look again at what there is to do.
func (c *Checker) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// due returns the targets to ask now, which counts as asking them.
func (c *Checker) due(now time.Time) []*target {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.o.Verify {
		return nil
	}
	var list []*target
	for _, t := range c.targets {
		if !t.asking && t.refused == "" && !t.next.After(now) {
			t.asking = true
			t.questions++
			list = append(list, t)
		}
	}
	return list
}

// pause is how long it is until the next target is to be asked.
func (c *Checker) pause(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := maxInterval
	if !c.o.Verify {
		return wait
	}
	for _, t := range c.targets {
		if !t.asking && t.refused == "" {
			wait = min(wait, max(0, t.next.Sub(now)))
		}
	}
	return wait
}

// resolve asks for the addresses of every server that is given by name. One that gives no answer keeps those it had.
func (c *Checker) resolve(ctx context.Context, lost map[string]time.Time) {
	c.mu.Lock()
	servers, before := c.servers(), c.resolved
	c.mu.Unlock()
	now := map[string][]netip.Addr{}
	for _, host := range servers {
		if _, err := netip.ParseAddr(host); err == nil {
			continue
		}
		one, cancel := context.WithTimeout(ctx, resolveTimeout)
		found, err := c.o.Lookup(one, host)
		cancel()
		if ctx.Err() != nil {
			return
		}
		var addresses []netip.Addr
		for _, a := range found {
			if a = a.Unmap(); a.Is4() && !slices.Contains(addresses, a) {
				addresses = append(addresses, a)
			}
		}
		if err != nil || len(addresses) == 0 {
			if t := c.o.Now(); t.Sub(lost[host]) >= lostAlike {
				lost[host] = t
				c.o.Logger.Warn("time server not found", "host", host, "error", err)
			}
			addresses = before[host]
		} else {
			delete(lost, host)
		}
		slices.SortFunc(addresses, netip.Addr.Compare) // resolvers turn them round
		now[host] = addresses
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resolved = now
	c.retarget()
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
}

func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// query asks a server by NTP version 4.
func query(ctx context.Context, server netip.Addr) (Answer, error) {
	const port = 123
	return ask(ctx, netip.AddrPortFrom(server, port))
}

func ask(ctx context.Context, server netip.AddrPort) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	r, err := ntp.QueryWithOptions(server.String(), ntp.QueryOptions{
		Timeout: queryTimeout,
		Dialer: func(_, address string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "udp4", address)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = conn.Close() }) // nobody waits for the answer any more
			}
			return conn, err
		},
	})
	if err != nil {
		return Answer{}, err
	}
	return answerOf(r), nil
}

// answerOf reduces a response to what it is judged by.
func answerOf(r *ntp.Response) Answer {
	a := Answer{Stratum: r.Stratum, Offset: r.ClockOffset, RootDistance: r.RootDistance, RTT: r.RTT}
	if r.Stratum == 0 && len(strings.Trim(r.KissCode, "\x00 ")) == 4 {
		a.Kiss = r.KissCode
	}
	switch err := r.Validate(); {
	case err == nil, r.Stratum == 0, r.Stratum >= 16:
	case errors.Is(err, ntp.ErrInvalidLeapSecond):
		a.Invalid = "not synchronised"
	default:
		a.Invalid = err.Error()
	}
	return a
}
