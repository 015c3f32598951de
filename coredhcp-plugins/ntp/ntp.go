// Package ntp is the CoreDHCP plugin that tells clients their time servers: the
// site file's ntp-servers in option 42 (RFC 2132 section 8.3), as DICOM PS3.15
// G.1.1 asks of a DHCP server.
//
// DHCP carries addresses and an administrator writes names, so names are resolved
// here, ahead of every client and again and again: a time server that moved is
// followed, and no client waits for DNS.
package ntp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

const (
	name            = "ntp"
	resolveInterval = 5 * time.Minute
	resolveTimeout  = 10 * time.Second
)

// Plugin is `ntp` for CoreDHCP's own server.
var Plugin = server.Stock(name, New)

func init() { server.Register(name, New) }

var (
	_ server.Plugin   = (*NTP)(nil)
	_ server.Reloader = (*NTP)(nil)
)

// NTP writes option 42.
type NTP struct {
	site   *server.SiteFile
	log    *slog.Logger
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	resolved  atomic.Pointer[map[string][]netip.Addr] // by host name
	reloaded  chan struct{}
	stop      context.CancelFunc
	done      sync.WaitGroup
	misplaced sync.Once
}

// New reads `ntp: site=PATH verify=true|false`. It reads the site file and asks
// nobody.
func New(args []string, host *server.Host) (server.Plugin, error) {
	values, err := server.Args(args, "site", "verify")
	if err != nil {
		return nil, err
	}
	if values["site"] == "" {
		return nil, errors.New("site= is missing: expected ntp: site=PATH verify=true|false")
	}
	switch verify := values["verify"]; verify {
	case "", "false":
	case "true":
		host.Logger(name).Warn("verify=true has no effect in this version: servers are given out whether they keep the time or not")
	default:
		return nil, fmt.Errorf("verify=%s: expected true or false", verify)
	}
	file, err := host.Site(values["site"])
	if err != nil {
		return nil, err
	}
	n := &NTP{
		site:     file,
		log:      host.Logger(name),
		lookup:   net.DefaultResolver.LookupNetIP,
		reloaded: make(chan struct{}, 1),
	}
	n.resolved.Store(&map[string][]netip.Addr{})
	return n, nil
}

// Start begins to resolve the names of time servers.
func (n *NTP) Start(ctx context.Context) error {
	ctx, n.stop = context.WithCancel(ctx)
	n.done.Go(func() {
		ticker := time.NewTicker(resolveInterval)
		defer ticker.Stop()
		for {
			n.resolve(ctx)
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case <-n.reloaded:
			}
		}
	})
	return nil
}

// Close ends the resolving.
func (n *NTP) Close() error {
	n.stop()
	n.done.Wait()
	return nil
}

// Reload resolves the names that stand in the site file now.
func (n *NTP) Reload() error {
	select {
	case n.reloaded <- struct{}{}:
	default:
	}
	return nil
}

// resolve asks for every time server that is given by name. One that gives no
// answer keeps the addresses it had.
func (n *NTP) resolve(ctx context.Context) {
	before, now := *n.resolved.Load(), map[string][]netip.Addr{}
	for _, host := range hosts(n.site.Current()) {
		ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
		addresses, err := n.lookup(ctx, "ip4", host)
		cancel()
		if err != nil {
			n.log.Warn("time server not found", "host", host, "error", err)
			addresses = before[host]
		}
		now[host] = addresses
	}
	n.resolved.Store(&now)
}

// hosts are the time servers of a site that are given by name, each once.
func hosts(s *site.Site) []string {
	seen := map[string]bool{}
	var names []string
	add := func(o site.Options) {
		for _, server := range o.TimeServers {
			if _, err := netip.ParseAddr(server); err != nil && !seen[server] {
				seen[server] = true
				names = append(names, server)
			}
		}
	}
	add(s.Options)
	for i := range s.Classes {
		add(s.Classes[i].Options)
	}
	for i := range s.Networks {
		add(s.Networks[i].Options)
	}
	for i := range s.Devices {
		add(s.Devices[i].Options)
	}
	return names
}

// Prompt says that Handle only looks at what is known.
func (n *NTP) Prompt() bool { return true }

// Accepts says that every message that is answered may carry time servers.
func (n *NTP) Accepts(t dhcpv4.MessageType) bool {
	switch t {
	case dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform:
		return true
	default:
		return false
	}
}

// Handle sets option 42 where the client asked for it, in place of what an
// earlier plugin has set: this one knows the addresses of names too.
func (n *NTP) Handle(_ context.Context, x *server.Exchange) server.Verdict {
	if !x.Request.IsOptionRequested(dhcpv4.OptionNTPServers) {
		return server.Continue
	}
	if x.Request.MessageType() != dhcpv4.MessageTypeInform && !server.Address(x.Reply.YourIPAddr).IsValid() {
		n.misplaced.Do(func() {
			n.log.Warn("no time servers are given: put ntp after the plugin that gives addresses, whose network they depend on")
		})
		return server.Continue
	}
	if servers := n.servers(x); len(servers) > 0 {
		x.Reply.Options[dhcpv4.OptionNTPServers.Code()] = servers
	}
	return server.Continue
}

// servers is the value of option 42 for the client: as the plugin that gave the
// address says, else of the network of that address.
func (n *NTP) servers(x *server.Exchange) []byte {
	options := x.Options
	if options == nil {
		s, r := n.site.Current(), x.Request
		network := s.NetworkOf(clientAddress(x))
		device := s.DeviceOf(uint8(r.HWType), r.ClientHWAddr, r.Options.Get(dhcpv4.OptionClientIdentifier))
		options = s.OptionsFor(network, device)
	}
	resolved := *n.resolved.Load()
	var value []byte
	for _, server := range options.TimeServers {
		addresses := resolved[server]
		if a, err := netip.ParseAddr(server); err == nil {
			addresses = []netip.Addr{a}
		}
		for _, a := range addresses {
			if a = a.Unmap(); a.Is4() {
				value = append(value, a.AsSlice()...)
			}
		}
	}
	return value
}

// clientAddress is the address given, or the one that an INFORM says it has.
func clientAddress(x *server.Exchange) netip.Addr {
	if given := server.Address(x.Reply.YourIPAddr); given.IsValid() {
		return given
	}
	return server.Address(x.Request.ClientIPAddr)
}
