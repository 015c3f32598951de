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
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/time/rate"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

const name = "leases"

// Plugin is `leases` for CoreDHCP's own server.
var Plugin = server.Stock(name, New)

func init() { server.Register(name, New) }

var (
	_ server.Plugin   = (*Leases)(nil)
	_ server.Reloader = (*Leases)(nil)
)

// Leases answers DHCP clients from one site file and one lease database.
type Leases struct {
	sitePath, database string
	host               *server.Host
	log                *slog.Logger
	refusals           *rate.Limiter // lines that any stranger can cause

	site    atomic.Pointer[site.Site]
	manager *lease.Manager
	expiry  chan error // what lease.Manager.Run returned
	stop    context.CancelFunc
}

// New reads `leases: site=PATH database=DIR`. It reads the site file and opens
// nothing.
func New(args []string, host *server.Host) (server.Plugin, error) {
	values, err := server.Args(args, "site", "database")
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"site", "database"} {
		if values[key] == "" {
			return nil, fmt.Errorf("%s= is missing: expected leases: site=PATH database=DIR", key)
		}
	}
	l := &Leases{
		sitePath: values["site"],
		database: values["database"],
		host:     host,
		log:      host.Logger(name),
		refusals: rate.NewLimiter(rate.Every(time.Second), 10),
	}
	s, err := l.loadSite()
	if err != nil {
		return nil, err
	}
	l.site.Store(s)
	return l, nil
}

func (l *Leases) loadSite() (*site.Site, error) {
	s, warnings, err := site.Load(l.sitePath)
	for _, w := range warnings {
		l.log.Warn(w.String())
	}
	return s, err
}

// Start opens the lease database and begins to expire leases.
func (l *Leases) Start(ctx context.Context) error {
	m, err := lease.Open(l.database, config(l.site.Load()), lease.Options{Logger: l.log})
	if err != nil {
		return fmt.Errorf("opening the lease database: %w", err)
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.manager, l.expiry = m, make(chan error, 1)
	go func() { l.expiry <- m.Run(ctx) }()
	l.host.SetLeases(m)
	return nil
}

// Close ends expiry and closes the database. A plugin that was never started
// closes too.
func (l *Leases) Close() error {
	if l.manager == nil {
		return nil
	}
	l.stop()
	err := <-l.expiry
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, l.manager.Close())
}

// Reload reads the site file again. A wrong file changes nothing.
func (l *Leases) Reload() error {
	s, err := l.loadSite()
	if err != nil {
		return err
	}
	if err := l.manager.Reload(config(s)); err != nil {
		return fmt.Errorf("reloading %s: %w", l.sitePath, err)
	}
	l.site.Store(s)
	return nil
}

// Accepts says which messages clients' addresses depend on.
func (l *Leases) Accepts(t dhcpv4.MessageType) bool {
	switch t {
	case dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeDecline,
		dhcpv4.MessageTypeRelease, dhcpv4.MessageTypeInform:
		return true
	default:
		return false
	}
}

// Handle answers one message, or sets x.Reply to nil where RFC 2131 wants
// silence.
func (l *Leases) Handle(ctx context.Context, x *server.Exchange) server.Verdict {
	s, q := l.site.Load(), query(x)
	var answer lease.Answer
	var err error
	switch t := x.Request.MessageType(); t {
	case dhcpv4.MessageTypeDiscover:
		answer, err = l.manager.Discover(ctx, q)
	case dhcpv4.MessageTypeRequest:
		answer, err = l.manager.Request(ctx, q)
	case dhcpv4.MessageTypeRelease:
		err = l.manager.Release(ctx, q)
		l.log.Info("release", "address", q.ClientAddr, "client", q.Client)
	case dhcpv4.MessageTypeDecline:
		err = l.manager.Decline(ctx, q)
		l.log.Warn("declined: another machine uses this address", "address", q.Requested, "client", q.Client)
	case dhcpv4.MessageTypeInform:
		return l.inform(s, x, q)
	}
	if err != nil {
		// No answer: the client asks again, and nothing was promised.
		if l.refusals.Allow() {
			l.log.Error("no answer", "client", q.Client, "error", err)
		}
		answer.Kind = lease.Silent
	}
	switch answer.Kind {
	case lease.Offer, lease.Ack:
		l.grant(s, x, answer)
		return server.Continue
	case lease.Nak:
		refuse(x.Reply, answer.Reason)
		if l.refusals.Allow() {
			l.log.Info("nak", "client", q.Client, "reason", answer.Reason)
		}
	default:
		x.Reply = nil
		if answer.Reason != "" && l.refusals.Allow() {
			l.log.Debug("silent", "client", q.Client, "reason", answer.Reason)
		}
	}
	return server.Stop
}

// grant writes an offer or an acknowledgement.
func (l *Leases) grant(s *site.Site, x *server.Exchange, a lease.Answer) {
	network := s.NetworkOf(a.Lease.Address)
	x.Reply.YourIPAddr = a.Lease.Address.AsSlice()
	setTimes(x, a.Duration)
	setOptions(x, s.OptionsFor(network, deviceOf(s, x)), a.Lease.Name)
	if a.Kind == lease.Ack {
		l.log.Info("ack", "address", a.Lease.Address, "client", a.Lease.Client,
			"device", a.Lease.Device, "name", a.Lease.Name, "for", a.Duration)
	}
}

// inform answers a client that has its address from elsewhere (RFC 2131 section
// 4.3.5): options only, no address and no lease time.
func (l *Leases) inform(s *site.Site, x *server.Exchange, q lease.Query) server.Verdict {
	network := s.NetworkOf(q.ClientAddr)
	if network == nil {
		x.Reply = nil
		return server.Stop
	}
	device, hostname := deviceOf(s, x), ""
	if device != nil {
		hostname = device.Hostname
	}
	setOptions(x, s.OptionsFor(network, device), hostname)
	return server.Continue
}

func deviceOf(s *site.Site, x *server.Exchange) *site.Device {
	r := x.Request
	return s.DeviceOf(uint8(r.HWType), r.ClientHWAddr, r.Options.Get(dhcpv4.OptionClientIdentifier))
}
