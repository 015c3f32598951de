// Package leases is the CoreDHCP plugin that gives addresses: it reduces a
// message to what RFC 2131 decides on, asks package lease, and writes the answer
// with the options of the site file.
//
// The decision and the disk are lease's; nothing here remembers a client. So a
// reply that leaves this plugin with an address is already safe from a power cut.
package leases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

const name = "leases"

// Plugin is `leases` for CoreDHCP's own server.
var Plugin = server.Stock(name, New)

func init() { server.Register(name, New) }

var (
	_ server.Plugin   = (*Leases)(nil)
	_ server.Reloader = (*Leases)(nil)
	_ server.Prompt   = (*Leases)(nil)
	_ server.Readier  = (*Leases)(nil)
)

// Leases answers DHCP clients from one site file and one lease database.
type Leases struct {
	database string
	bounds   bounds
	host     *server.Host
	log      *slog.Logger
	site     *server.SiteFile
	metrics  *metrics
	lines    lines

	prober      *prober
	cannotProbe sync.Map // networks of which it was said that their addresses cannot be tried

	unwritten atomic.Pointer[error] // why the last changes could not be written; nil: they were

	manager *lease.Manager
	expiry  chan error // what lease.Manager.Run returned
	stop    context.CancelFunc
}

const usage = "leases: site=PATH database=DIR [max-per-port=NUMBER] [max-per-network=NUMBER]"

// boundLimit is the largest max-per-port and max-per-network.
const boundLimit = 1_000_000

// arguments are what a configuration says, as usage has it.
type arguments struct {
	site, database string
	bounds         bounds
}

// CheckArgs says what is wrong with arguments. It opens nothing.
func CheckArgs(args []string) error {
	_, err := parse(args)
	return err
}

func parse(args []string) (*arguments, error) {
	values, err := server.Args(args, "site", "database", "max-per-port", "max-per-network")
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"site", "database"} {
		if values[key] == "" {
			return nil, fmt.Errorf("%s= is missing: expected %s", key, usage)
		}
	}
	a := &arguments{site: values["site"], database: values["database"]}
	for key, bound := range map[string]*int{"max-per-port": &a.bounds.perPort, "max-per-network": &a.bounds.perNetwork} {
		v, given := values[key]
		if !given {
			continue
		}
		if *bound, err = strconv.Atoi(v); err != nil || *bound < 1 || *bound > boundLimit {
			return nil, fmt.Errorf("%s=%s: expected a number from 1 to %d", key, v, boundLimit)
		}
	}
	return a, nil
}

// New reads its arguments and the site file. It opens nothing.
func New(args []string, host *server.Host) (server.Plugin, error) {
	a, err := parse(args)
	if err != nil {
		return nil, err
	}
	l := &Leases{database: a.database, bounds: a.bounds, host: host, log: host.Logger(name), lines: newLines(), prober: newProber()}
	if l.site, err = host.Site(a.site); err != nil {
		return nil, err
	}
	if l.metrics, err = newMetrics(host); err != nil {
		return nil, err
	}
	for command, h := range l.commands() {
		host.OnControl(command, h)
	}
	host.OnControl(control.Plan, l.plan)
	return l, nil
}

// Start opens the lease database and begins to expire leases.
func (l *Leases) Start(ctx context.Context) error {
	m, err := lease.Open(l.database, config(l.site.Current(), l.bounds), lease.Options{Logger: l.log, Committed: l.committed})
	if err != nil {
		return fmt.Errorf("opening the lease database: %w", err)
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.manager, l.expiry = m, make(chan error, 1)
	go func() { l.expiry <- m.Run(ctx) }()
	l.host.SetLeases(m)
	stats, active := m.Stats(), uint64(0)
	for _, n := range stats.Networks {
		active += n.Active + n.Fixed
	}
	l.log.Info("the lease database is open", "directory", l.database, "addresses", stats.Bindings, "active", active)
	return nil
}

// committed is told of every batch that the lease manager wrote.
func (l *Leases) committed(c lease.CommitInfo) {
	l.metrics.committed(c)
	if c.Err != nil {
		l.unwritten.Store(&c.Err)
	} else {
		l.unwritten.Store(nil)
	}
}

// slowDisk is how long a disk may keep what is to be written before no client can
// be said to be served: by then each has asked again (RFC 2131 section 4.1).
const slowDisk = 5 * time.Second

// Ready says why no lease can be given: the last that was to be written was not,
// or the disk neither takes nor refuses what it was given.
func (l *Leases) Ready() error { return ready(l.unwritten.Load(), l.manager.Writing()) }

func ready(unwritten *error, writing time.Duration) error {
	switch {
	case writing >= slowDisk:
		return fmt.Errorf("writing leases: the disk has not answered for %s", writing.Round(time.Second))
	case unwritten != nil:
		return fmt.Errorf("writing leases: %w", *unwritten)
	}
	return nil
}

// Close ends expiry and closes the database.
func (l *Leases) Close() error {
	l.stop()
	l.prober.close()
	return errors.Join(<-l.expiry, l.manager.Close())
}

// Reload gives leases by the site file as it is now.
func (l *Leases) Reload() error {
	s := l.site.Current()
	if err := l.manager.Reload(config(s, l.bounds)); err != nil {
		return err
	}
	l.log.Info("leases are given by the site file as it is now", "file", s.File, "networks", len(s.Networks), "devices", len(s.Devices))
	return nil
}
