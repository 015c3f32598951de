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

	"github.com/insomniacslk/dhcp/dhcpv4"

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
	database string
	host     *server.Host
	log      *slog.Logger
	site     *server.SiteFile

	// Lines that any stranger can cause; each has its own limit, so that none
	// hides another.
	failed, naked, released, declined *server.Limited

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
	file, err := host.Site(values["site"])
	if err != nil {
		return nil, err
	}
	return &Leases{
		database: values["database"],
		host:     host,
		log:      host.Logger(name),
		site:     file,
		failed:   server.NewLimited(),
		naked:    server.NewLimited(),
		released: server.NewLimited(),
		declined: server.NewLimited(),
	}, nil
}

// Start opens the lease database and begins to expire leases.
func (l *Leases) Start(ctx context.Context) error {
	m, err := lease.Open(l.database, config(l.site.Current()), lease.Options{Logger: l.log})
	if err != nil {
		return fmt.Errorf("opening the lease database: %w", err)
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.manager, l.expiry = m, make(chan error, 1)
	go func() { l.expiry <- m.Run(ctx) }()
	l.host.SetLeases(m)
	return nil
}

// Close ends expiry and closes the database.
func (l *Leases) Close() error {
	l.stop()
	return errors.Join(<-l.expiry, l.manager.Close())
}

// Reload gives leases by the site file as it is now.
func (l *Leases) Reload() error { return l.manager.Reload(config(l.site.Current())) }

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
	var (
		q      = query(x)
		answer lease.Answer // Silent
		ended  bool
		err    error
	)
	switch x.Request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		answer, err = l.manager.Discover(ctx, q)
	case dhcpv4.MessageTypeRequest:
		answer, err = l.manager.Request(ctx, q)
	case dhcpv4.MessageTypeRelease:
		if ended, err = l.manager.Release(ctx, q); ended {
			l.released.Log(l.log.Info, "released", "address", q.ClientAddr, "client", q.Client)
		}
	case dhcpv4.MessageTypeDecline:
		if ended, err = l.manager.Decline(ctx, q); ended {
			l.declined.Log(l.log.Warn, "declined: another machine uses this address", "address", q.Requested, "client", q.Client)
		}
	case dhcpv4.MessageTypeInform:
		return l.inform(x, q)
	}
	if err != nil {
		// No answer: the client asks again, and nothing was promised.
		l.failed.Log(l.log.Error, "no answer", "client", q.Client, "error", err)
	}
	switch answer.Kind {
	case lease.Offer, lease.Ack:
		return l.grant(x, answer)
	case lease.Nak:
		refuse(x.Reply, answer.Reason)
		l.naked.Log(l.log.Info, "nak", "client", q.Client, "reason", answer.Reason)
		return server.Stop
	default:
		l.log.Debug("silent", "client", q.Client, "reason", answer.Reason)
		return silence(x)
	}
}

func silence(x *server.Exchange) server.Verdict {
	x.Reply = nil
	return server.Stop
}

// grant writes an offer or an acknowledgement. The site file is looked at after
// the answer: it is never older than what the answer was made from.
func (l *Leases) grant(x *server.Exchange, a lease.Answer) server.Verdict {
	s := l.site.Current()
	network := s.NetworkOf(a.Lease.Address)
	if network == nil {
		return silence(x) // a reload has just taken it away
	}
	x.Reply.YourIPAddr = a.Lease.Address.AsSlice()
	setTimes(x, a.Duration)
	setOptions(x, s.OptionsFor(network, deviceOf(s, x)), a.Lease.Name)
	if a.Kind == lease.Ack {
		l.log.Info("ack", "address", a.Lease.Address, "client", a.Lease.Client,
			"device", a.Lease.Device, "name", a.Lease.Name, "for", a.Duration)
	}
	return server.Continue
}

// inform answers a client that has its address from elsewhere (RFC 2131 section
// 4.3.5): options only, no address and no lease time.
func (l *Leases) inform(x *server.Exchange, q lease.Query) server.Verdict {
	s := l.site.Current()
	network := s.NetworkOf(q.ClientAddr)
	if network == nil {
		return silence(x)
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
