// Package ddns is the CoreDHCP plugin that makes DNS show what the leases say,
// with RFC 2136 updates in the order of RFC 4703.
//
// It takes no part in an exchange: which name a lease has is committed with the
// lease, and a worker makes DNS equal to that. So no client waits for DNS, and
// what a crash or an outage interrupts is found again in the lease database.
package ddns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/nameupdate"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

const name = "ddns"

// Plugin is `ddns` for CoreDHCP's own server.
var Plugin = server.Stock(name, New)

func init() { server.Register(name, New) }

var _ server.Plugin = (*DDNS)(nil)

// DDNS runs the worker that updates DNS.
type DDNS struct {
	args   *arguments
	config nameupdate.Config
	host   *server.Host
	log    *slog.Logger
	site   *server.SiteFile
	stop   context.CancelFunc
	done   chan error

	running atomic.Pointer[running] // nil before Start
}

// running is what Start has begun.
type running struct {
	worker *nameupdate.Worker
	leases *lease.Manager
}

// New reads its arguments, as usage has them, and the two files. It contacts
// nobody.
func New(args []string, host *server.Host) (server.Plugin, error) {
	a, err := parse(args)
	if err != nil {
		return nil, err
	}
	d := &DDNS{args: a, host: host, log: host.Logger(name)}
	d.config = nameupdate.Config{Routes: a.routes, Logger: d.log}
	if d.config.Keys, err = a.zoneKeys(); err != nil {
		return nil, err
	}
	if d.site, err = host.Site(a.site); err != nil {
		return nil, err
	}
	if open, err := tsigkey.WorldReadable(a.keys); err == nil && open {
		d.log.Warn("everyone on this machine can read the keys; expected mode 0640", "file", a.keys)
	}
	return d, d.register(host)
}

// resolvers are asked for the servers of zones that the arguments name none for:
// those of the arguments, else this host's.
func (d *DDNS) resolvers() ([]string, error) {
	if len(d.args.resolvers) > 0 || d.args.everywhere() {
		return d.args.resolvers, nil
	}
	list, err := nameupdate.SystemResolvers()
	if err != nil {
		return nil, fmt.Errorf("%w; expected resolver=HOST or server=HOST:PORT", err)
	}
	return list, nil
}

// Start begins to update DNS. The leases plugin stands before this one.
func (d *DDNS) Start(ctx context.Context) (err error) {
	leases := d.host.Leases()
	if leases == nil {
		return errors.New("ddns needs the names of leases: put the leases plugin before it")
	}
	if d.config.Resolvers, err = d.resolvers(); err != nil {
		return err
	}
	ctx, d.stop = context.WithCancel(ctx)
	d.done = make(chan error, 1)
	worker := nameupdate.New(d.config, leases)
	d.running.Store(&running{worker, leases})
	go func() { d.done <- worker.Run(ctx) }()
	return nil
}

// Close ends the updates. What is unfinished is found in the lease database at
// the next start.
func (d *DDNS) Close() error {
	d.stop()
	return <-d.done
}

// Prompt says that Handle does nothing.
func (d *DDNS) Prompt() bool { return true }

// Accepts no message: names come from leases.
func (d *DDNS) Accepts(dhcpv4.MessageType) bool { return false }

// Handle leaves every exchange as it is.
func (d *DDNS) Handle(context.Context, *server.Exchange) server.Verdict { return server.Continue }
