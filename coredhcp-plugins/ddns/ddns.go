// Package ddns is the CoreDHCP plugin that makes DNS show what the leases say,
// with RFC 2136 updates in the order of RFC 4703.
//
// It takes no part in an exchange: which name a lease has is committed with the
// lease, and a worker makes DNS equal to that. So no client waits for DNS, and
// what a crash or an outage interrupts is found again in the lease database. Where
// another plugin gives the addresses, that database is this plugin's own, and what
// is in it was seen in the replies.
package ddns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/nameupdate"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

const name = "ddns"

// Plugin is `ddns` for CoreDHCP's own server.
var Plugin = server.Stock(name, New)

func init() { server.Register(name, New) }

var (
	_ server.Plugin   = (*DDNS)(nil)
	_ server.Prompt   = (*DDNS)(nil)
	_ server.Reloader = (*DDNS)(nil)
	_ server.Observer = (*DDNS)(nil)
)

// DDNS runs the worker that updates DNS.
type DDNS struct {
	args   *arguments
	config nameupdate.Config
	host   *server.Host
	log    *slog.Logger
	site   *server.SiteFile
	stop   context.CancelFunc
	lines  *server.Limited // about leases that could not be noted

	unnoted atomic.Uint64           // see noted
	running atomic.Pointer[running] // nil before Start
}

// running is what Start has begun.
type running struct {
	worker *nameupdate.Worker
	leases *lease.Manager
	own    bool // leases is of this plugin's own database
	done   chan error
}

// New reads its arguments, as usage has them, and the two files. It contacts
// nobody.
func New(args []string, host *server.Host) (server.Plugin, error) {
	a, err := parse(args)
	if err != nil {
		return nil, err
	}
	d := &DDNS{args: a, host: host, log: host.Logger(name), lines: server.NewLimited()}
	d.config = nameupdate.Config{Routes: a.routes, TTL: nameupdate.TTLWithin(a.minTTL, a.maxTTL), Logger: d.log}
	if d.config.Keys, err = a.zoneKeys(); err != nil {
		return nil, err
	}
	d.config.ReadKeys = a.zoneKeys
	if d.site, err = host.Site(a.site); err != nil {
		return nil, err
	}
	if open, err := tsigkey.WorldReadable(a.keys); err == nil && open {
		d.log.Warn("everyone on this machine can read the keys; expected mode 0640", "file", a.keys)
	}
	if a.database != "" {
		records := server.Records{Manager: func() *lease.Manager { return d.running.Load().leases }, Site: d.site, Log: d.log}
		for command, h := range records.Commands() {
			host.OnControl(command, h)
		}
	}
	return d, d.register(host)
}

// resolvers are asked for the servers of zones that the arguments name none for: those of the arguments, else those that
// this host resolves names with, else those that the site's clients do.
func (d *DDNS) resolvers() ([]string, error) {
	if len(d.args.resolvers) > 0 {
		return d.args.resolvers, nil
	}
	list, err := nameupdate.SystemResolvers()
	if err == nil {
		return list, nil
	}
	list = siteResolvers(d.site.Current())
	if d.args.everywhere() { // they are asked for zones that these servers delegate alone
		return list, nil
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w; expected resolver=HOST or server=HOST:PORT, or domain-name-servers in the site file", err)
	}
	d.log.Info("the site's domain-name-servers are asked for the primaries of zones", "resolvers", list, "because", err)
	return list, nil
}

// siteResolvers are the domain-name-servers of a site file, those for every network first.
func siteResolvers(s *site.Site) []string {
	var list []string
	add := func(o *site.Options) {
		for octets := range slices.Chunk(o.Values[dhcpopt.Code(dhcpv4.OptionDomainNameServer.Code())], net.IPv4len) {
			a, _ := netip.AddrFromSlice(octets)
			if h := net.JoinHostPort(a.String(), "53"); len(list) < maxServers && !slices.Contains(list, h) {
				list = append(list, h)
			}
		}
	}
	add(&s.Options)
	for i := range s.Networks {
		add(&s.Networks[i].Options)
	}
	return list
}

// Start begins to update DNS. The leases plugin stands before this one, or
// database= says where to keep what other plugins give.
func (d *DDNS) Start(ctx context.Context) (err error) {
	leases := d.host.Leases()
	switch {
	case leases != nil && d.args.database != "":
		return errors.New("database= is for names of what other plugins give: leave it out where leases stands before ddns")
	case leases == nil && d.args.database == "":
		return errors.New("ddns needs the names of leases: put the leases plugin before it, or give database=DIR")
	}
	if d.config.Resolvers, err = d.resolvers(); err != nil {
		return err
	}
	r := &running{leases: leases, done: make(chan error, 2)}
	if leases != nil {
		leases.Publish() // before the first packet is read
	}
	ctx, d.stop = context.WithCancel(ctx)
	if leases == nil {
		if r.leases, err = lease.Open(d.args.database, config(d.site.Current()), lease.Options{Logger: d.log}); err != nil {
			d.stop()
			return fmt.Errorf("opening the database of names: %w", err)
		}
		r.own = true
		go func() { r.done <- r.leases.Run(ctx) }()
	}
	r.worker = nameupdate.New(d.config, r.leases)
	go func() { r.done <- r.worker.Run(ctx) }()
	d.running.Store(r)
	return nil
}

// Close ends the updates. What is unfinished is found in the lease database at
// the next start.
func (d *DDNS) Close() error {
	r := d.running.Load()
	d.stop()
	err := <-r.done
	if r.own {
		err = errors.Join(err, <-r.done, r.leases.Close())
	}
	return err
}

// Reload takes up the keys, and what the site file says now. Where leases gives
// addresses, the latter is for that. An error of the one does not keep the other
// from its work.
func (d *DDNS) Reload() error {
	r := d.running.Load()
	err := r.worker.ReadKeys()
	if err != nil {
		err = fmt.Errorf("updates are signed with the keys from before: %w", err)
	}
	if r.own {
		err = errors.Join(err, r.leases.Reload(config(d.site.Current())))
	}
	return err
}

// Prompt says that Handle does nothing.
func (d *DDNS) Prompt() bool { return true }

// Accepts says which messages names depend on, where leases does not give the
// addresses.
func (d *DDNS) Accepts(t dhcpv4.MessageType) bool {
	return d.args.database != "" && (t == dhcpv4.MessageTypeRequest || t == dhcpv4.MessageTypeRelease || t == dhcpv4.MessageTypeDecline)
}

// Handle leaves every exchange as it is. In a stock CoreDHCP, which has no Observe,
// it looks at the reply that the plugins before it have made.
func (d *DDNS) Handle(ctx context.Context, x *server.Exchange) server.Verdict {
	if !x.Holds() {
		d.observe(ctx, x, x.Reply)
	}
	return server.Continue
}

// Observe notes what another plugin gave to a client, or the client gave back.
func (d *DDNS) Observe(x *server.Exchange, reply *dhcpv4.DHCPv4) {
	d.observe(context.Background(), x, reply)
}
