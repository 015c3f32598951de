package dicom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	coreparse "github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/coredns/coredns/plugin/transfer"
)

// The transfer plugin tells one secondary after the other, and waits six seconds
// for each that does not answer. It shows nobody whom it tells. So that those who
// are there need not wait for one that is not, dicom reads from the Corefile what
// transfer has read there, and tells each by itself.

const (
	notifyTries   = 3
	notifyTimeout = 2 * time.Second // of each
)

// A secondary is told by NOTIFY (RFC 1996).
type secondary struct {
	address string // with the port
	source  net.IP // nil: what the system chooses
}

// An addressee is a secondary that is told about one zone.
type addressee struct {
	secondary
	post   *post
	silent bool // it did not answer the last time
}

// Notify implements [notifier]. Only one may be under way.
func (a *addressee) Notify(ctx context.Context, zone string) error {
	to, err := netip.ParseAddrPort(a.address)
	if err != nil {
		return err
	}
	for range notifyTries {
		turn := a.post.turns.heard
		if a.silent {
			turn = a.post.turns.silent
		}
		if err = turn.Wait(ctx); err != nil {
			break
		}
		err = a.post.ask(ctx, zone, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
		a.silent = err != nil
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("secondary %s: %w", a.address, err)
}

// oneByOne is the transfer plugin, where it cannot be known whom it tells.
type oneByOne struct{ *transfer.Transfer }

// Notify implements [notifier].
func (o oneByOne) Notify(_ context.Context, zone string) error { return o.Transfer.Notify(zone) }

var _, _ notifier = (*addressee)(nil), oneByOne{}

// A transferBlock is one transfer directive.
type transferBlock struct {
	zones       plugin.Zones
	secondaries []secondary
}

// readTransfers reads the transfer directives of a server block, counted from 0,
// whose keys are given as CoreDNS has expanded them.
func readTransfers(corefile caddy.Input, block int, keys []string) ([]transferBlock, error) {
	blocks, err := caddyfile.Parse(corefile.Path(), bytes.NewReader(corefile.Body()), caddy.ValidDirectives(corefile.ServerType()))
	if err != nil {
		return nil, err
	}
	if block >= len(blocks) || len(blocks[block].Tokens["transfer"]) == 0 {
		return nil, errors.New("no transfer is found where CoreDNS has found one")
	}
	var all []transferBlock
	c := caddyfile.NewDispenserTokens(corefile.Path(), blocks[block].Tokens["transfer"])
	for c.Next() {
		b := transferBlock{zones: plugin.OriginsFromArgsOrServerBlock(c.RemainingArgs(), keys)}
		var source net.IP
		for c.NextBlock() {
			switch property := c.Val(); property {
			case "to":
				for _, to := range c.RemainingArgs() {
					if to == "*" {
						continue
					}
					address, err := coreparse.HostPort(to, transport.Port)
					if err != nil {
						return nil, err
					}
					if !slices.ContainsFunc(b.secondaries, func(s secondary) bool { return s.address == address }) {
						b.secondaries = append(b.secondaries, secondary{address: address})
					}
				}
			case "source":
				if args := c.RemainingArgs(); len(args) == 1 {
					source = net.ParseIP(args[0])
				}
			default:
				return nil, c.Errf("property %q of transfer is unknown here", property)
			}
		}
		for i := range b.secondaries {
			b.secondaries[i].source = source
		}
		all = append(all, b)
	}
	return all, nil
}

// secondariesOf returns whom transfer tells about a zone: those of the directive
// that matches it best, the first of several.
func secondariesOf(blocks []transferBlock, zone string) []secondary {
	var best []secondary
	longest := 0
	for _, b := range blocks {
		if match := b.zones.Matches(zone); len(match) > longest {
			best, longest = b.secondaries, len(match)
		}
	}
	return best
}

// know tells the handler whom to notify, once it starts, from the Corefile that its
// instance is being made from. What that imports was read a moment ago.
func (d *Dicom) know() {
	if d.transfer == nil {
		return
	}
	var blocks []transferBlock
	corefile, err := d.corefile()
	if err == nil {
		blocks, err = readTransfers(corefile, d.block, d.keys)
	}
	if err != nil {
		log.Warningf("NOTIFY goes to one secondary after the other, and waits for each: %v", err)
	}
	d.notifiers = make(map[string][]notifier)
	posts, turns := make(map[string]*post), newTurns()
	for _, origin := range d.config.zones {
		if err != nil {
			d.notifiers[origin] = []notifier{oneByOne{d.transfer}}
			continue
		}
		for _, s := range secondariesOf(blocks, origin) {
			source := s.source.String()
			if posts[source] == nil {
				posts[source] = newPost(s.source, turns)
			}
			d.notifiers[origin] = append(d.notifiers[origin], &addressee{secondary: s, post: posts[source]})
		}
	}
	d.posts = slices.Collect(maps.Values(posts))
}

// corefile returns what the instance of the handler was made from.
func (d *Dicom) corefile() (caddy.Input, error) {
	for _, i := range caddy.Instances() {
		i.StorageMu.RLock()
		handlers, _ := i.Storage[handlersKey{}].([]*Dicom)
		i.StorageMu.RUnlock()
		if slices.Contains(handlers, d) {
			return i.Caddyfile(), nil
		}
	}
	return nil, errors.New("the Corefile cannot be found")
}

// notify begins to notify those that know has found.
func (d *Dicom) notify(background func(func(context.Context))) {
	for _, p := range d.posts {
		background(p.run)
	}
	for origin, to := range d.notifiers {
		s := d.zones[origin]
		all := make([]notices, len(to))
		for i := range all {
			all[i] = newNotices()
			all[i].changed() // it may have missed something
		}
		s.told.Store(&all) // before the first is told: what changes after that is told again
		for i, n := range to {
			background(func(ctx context.Context) { all[i].run(ctx, origin, n, s.metrics.Load()) })
		}
	}
}
