package leases

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// lines are those that any stranger can cause; each has its own limit, so that
// none hides another.
type lines struct {
	leased, released, naked, declined, conflict, full, crowded, astray, failed *server.Limited
}

func newLines() lines {
	// What a network in order writes: the machines of a large site, all switched on
	// at once, are each named; what lasts longer than that is counted. A client that
	// takes a lease and releases it for ever writes some 20 MB a day of each line.
	ordinary := func() *server.Limited { return server.NewLimitedTo(2000, time.Second) }
	return lines{
		leased: ordinary(), released: ordinary(),
		naked: server.NewLimited(), declined: server.NewLimited(), conflict: server.NewLimited(), full: server.NewLimited(), crowded: server.NewLimited(),
		failed: server.NewLimited(),
		// Relays that forward everything to every server cause it for ever.
		astray: server.NewLimitedTo(5, 10*time.Minute),
	}
}

// transaction is one message on its way through the plugin.
type transaction struct {
	*server.Exchange
	query   lease.Query
	marks   site.Marks
	naming  naming
	site    *site.Site // as it was when the message came
	classes []*site.Class
	label   string // of the message type, for metrics and logs
	began   time.Time
	commit  *lease.Commit // what was decided is true when it is over; nil: it is
}

// Accepts says which messages clients' addresses depend on.
func (l *Leases) Accepts(t dhcpv4.MessageType) bool { return typeLabels[t] != "" }

// Prompt says that Handle only decides: while an address is tried nobody waits, and
// the message is worked on again when it is known.
func (l *Leases) Prompt() bool { return true }

// Handle answers one message, or sets x.Reply to nil where RFC 2131 wants
// silence.
func (l *Leases) Handle(ctx context.Context, x *server.Exchange) server.Verdict {
	t := transaction{Exchange: x, site: l.site.Current(), label: typeLabels[x.Request.MessageType()], began: time.Now().Round(0)}
	t.marks = marksOf(x.Request)
	t.classes = t.site.ClassesOf(t.marks)
	t.naming = namingOf(x.Request)
	t.query = query(x, &t.marks, t.classes, &t.naming)
	var commit *lease.Commit
	if x.Holds() { // the reply waits for the disk, not this goroutine
		t.query.Ahead = func(c *lease.Commit) {
			commit = c
			x.Hold(c)
		}
	}
	switch x.Request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		a, later, err := l.decide(ctx, &t, l.manager.Discover)
		if later {
			t.Reply = nil
			return server.Stop
		}
		return l.answer(&t, a, err)
	case dhcpv4.MessageTypeRequest:
		a, later, err := l.decide(ctx, &t, l.manager.Request)
		if later {
			t.Reply = nil
			return server.Stop
		}
		t.commit = commit
		return l.answer(&t, a, err)
	case dhcpv4.MessageTypeNone:
		if x.Request.Options.Has(dhcpv4.OptionDHCPMessageType) {
			return l.silence(&t, "no message type", nil)
		}
		a, err := l.manager.BOOTP(ctx, t.query)
		t.commit = commit
		return l.answer(&t, a, err)
	case dhcpv4.MessageTypeRelease:
		ended, err := l.manager.Release(ctx, t.query)
		t.commit = commit
		if !ended {
			return l.silence(&t, "not held by this client", err)
		}
		address, client := t.query.ClientAddr, t.query.Client
		l.settled(&t, func() {
			l.lines.released.Log(l.log.Info, "released", "address", address, "client", client)
			l.silent("release", client, "released")
		})
		t.Reply = nil
		return server.Stop
	case dhcpv4.MessageTypeDecline:
		ended, err := l.manager.Decline(ctx, t.query)
		t.commit = commit
		if !ended {
			return l.silence(&t, "not held by this client", err)
		}
		address, client, network := t.query.Requested, t.query.Client, ""
		if n := t.site.NetworkOf(address); n != nil {
			network = n.Name
		}
		l.settled(&t, func() {
			l.metrics.declines.WithLabelValues(network).Inc()
			l.lines.declined.Log(l.log.Warn, "declined: another machine uses this address",
				"address", address, "client", client, "network", network)
			l.silent("decline", client, "declined")
		})
		t.Reply = nil
		return server.Stop
	case dhcpv4.MessageTypeInform:
		return l.inform(&t)
	}
	return server.Continue
}

// answer does what the lease manager says.
func (l *Leases) answer(t *transaction, a lease.Answer, err error) server.Verdict {
	switch {
	case err != nil:
		return l.silence(t, "", err)
	case a.Kind == lease.Offer, a.Kind == lease.Ack:
		return l.grant(t, a)
	case a.Kind == lease.Nak:
		refuse(t.Reply, a.Reason)
		label, client, reason, network, address := t.label, t.query.Client, a.Reason, linkName(t), ""
		if asked := cmp.Or(t.query.Requested, t.query.ClientAddr); asked.IsValid() { // some ask for none
			address = asked.String()
		}
		l.settled(t, func() {
			l.metrics.answered(label, "nak", reason)
			l.lines.naked.Log(l.log.Info, "nak", "address", address, "client", client, "network", network, "reason", reason)
		})
		return server.Stop
	case a.Reason == noFreeAddress:
		network := linkName(t)
		l.metrics.exhausted.WithLabelValues(network).Inc()
		l.lines.full.Log(l.log.Warn, "no free address", "client", t.query.Client, "network", network)
	case a.Reason == portFull:
		l.lines.crowded.Log(l.log.Warn, "no address: too many strangers at one port (max-per-port)", "client", t.query.Client, "port", t.query.Port)
	}
	if l.withoutAddress(t) {
		l.metrics.answered(t.label, "offer", a.Reason)
		return server.Stop
	}
	return l.silence(t, a.Reason, nil)
}

// settled counts and logs, by f, what was decided, once that is on disk: before
// that it may still be taken back. f must not block.
func (l *Leases) settled(t *transaction, f func()) {
	if t.commit == nil {
		f()
		return
	}
	label, client := t.label, t.query.Client
	t.commit.Then(func(err error) {
		if err != nil {
			l.failed(label, client, err)
			return
		}
		f()
	})
}

// silence ends the exchange without an answer. After an error the client asks
// again, and nothing was promised.
func (l *Leases) silence(t *transaction, reason string, err error) server.Verdict {
	if err != nil {
		l.failed(t.label, t.query.Client, err)
	} else {
		l.silent(t.label, t.query.Client, reason)
		if reasonLabels[reason] == noNetwork && linkNetwork(t) == nil {
			l.lines.astray.Log(l.log.Warn, "no network of the site file is where this message came from",
				"client", t.query.Client, "interface", t.Interface, "from", t.query.Links)
		}
	}
	t.Reply = nil
	return server.Stop
}

func (l *Leases) failed(label string, client lease.Client, err error) {
	l.lines.failed.Log(l.log.Error, "no answer", "client", client, "error", err)
	l.metrics.answered(label, "silent", "failed")
}

func (l *Leases) silent(label string, client lease.Client, reason string) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("silent", "type", label, "client", client, "reason", reason)
	}
	l.metrics.answered(label, "silent", reason)
}

// grant writes an offer or an acknowledgement. The site file is looked at again
// after the answer: it is never older than what the answer was made from.
func (l *Leases) grant(t *transaction, a lease.Answer) server.Verdict {
	s := l.site.Current()
	network := s.NetworkOf(a.Lease.Address)
	if network == nil {
		return l.silence(t, "network is gone", nil) // a reload has just taken it away
	}
	device := s.DeviceByName(a.Lease.Device)
	t.Reply.YourIPAddr = a.Lease.Address.AsSlice()
	asked := askedBy(t.Request)
	hostname := hostnameOf(t, &a, s, device, asked)
	told := hostname // by option 12
	if t.naming.fqdn && !asked.lists(dhcpv4.OptionHostName) {
		told = "" // option 81 tells it
	}
	if t.Request.MessageType() != dhcpv4.MessageTypeNone {
		setTimes(t.Reply, asked, a.Duration)
	}
	l.configure(t, s, network, device, asked, told)
	if t.Request.MessageType() != dhcpv4.MessageTypeNone {
		l.answerFQDN(t, &a, network, device, hostname)
	}
	l.tell(t, &a, network)
	return server.Continue
}

// tell counts and logs what a client got. Only a lease that is new has a line of
// its own at the level that is usual: renewals come by themselves, many to each
// lease, and change nothing.
func (l *Leases) tell(t *transaction, a *lease.Answer, network *site.Network) {
	if a.Kind == lease.Offer {
		l.metrics.answered(t.label, "offer", "offered")
		l.line(slog.LevelDebug, l.log.Debug, "offered", a, network.Name, "")
		return
	}
	asked := t.query.Hostname
	if label, _, _ := strings.Cut(a.Lease.Name, "."); label == asked {
		asked = ""
	}
	label, given, name, renewed := t.label, *a, network.Name, a.Lease.Start.Before(t.began)
	l.settled(t, func() {
		if renewed {
			l.metrics.answered(label, "ack", "renewed")
			l.line(slog.LevelDebug, l.log.Debug, "renewed", &given, name, "")
			return
		}
		l.metrics.answered(label, "ack", "new")
		write := func(msg string, args ...any) { l.lines.leased.Log(l.log.Info, msg, args...) }
		l.line(slog.LevelInfo, write, "leased", &given, name, asked)
	})
}

// line logs what a client was told of an address of a network; asked is the host name that it wanted and did not get, "" if none.
func (l *Leases) line(level slog.Level, write func(msg string, args ...any), msg string, a *lease.Answer, network, asked string) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	args := []any{
		"address", a.Lease.Address, "client", a.Lease.Client, "network", network,
		"device", a.Lease.Device, "name", a.Lease.Name, "for", duration(a.Duration),
	}
	if asked != "" {
		args = append(args, "asked", asked)
	}
	write(msg, args...)
}

// duration is a lease time as a log line shows it.
type duration time.Duration

func (d duration) String() string {
	if time.Duration(d) >= lease.Infinite {
		return "ever"
	}
	return time.Duration(d).String()
}

// inform answers a client that has its address from elsewhere (RFC 2131 section
// 4.3.5): options only, no address and no lease time.
func (l *Leases) inform(t *transaction) server.Verdict {
	s := t.site
	at := t.query.ClientAddr
	if !at.IsValid() && len(t.query.Links) > 0 {
		at = t.query.Links[0] // it forgot to say
	}
	network := s.NetworkOf(at)
	if network == nil {
		return l.silence(t, "no network of ours", nil)
	}
	device, hostname := s.DeviceOf(t.query.Client.HardwareType, t.Request.ClientHWAddr, []byte(t.query.Client.Identifier)), ""
	// A device that is known by where it is, or by what it calls itself, is known
	// here by its lease.
	if held, ok := l.manager.Lease(t.query.ClientAddr); ok && held.State == lease.Active && held.Client == t.query.Client {
		hostname = held.Name
		if d := s.DeviceByName(held.Device); d != nil {
			device = d
		}
	}
	if device != nil {
		hostname = device.Hostname
	}
	l.configure(t, s, network, device, askedBy(t.Request), hostname)
	l.metrics.answered(t.label, "ack", "configured")
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("configured", "address", at, "client", t.query.Client, "network", network.Name)
	}
	return server.Continue
}

// configure writes the options of the site file.
func (l *Leases) configure(t *transaction, s *site.Site, n *site.Network, d *site.Device, asked *asked, hostname string) {
	if s != t.site {
		t.classes = s.ClassesOf(t.marks)
	}
	t.Options = s.OptionsFor(n, d, t.classes...)
	setOptions(t.Reply, asked, t.Options, hostname)
	setBootFields(t.Reply, t.Options, ownAddress(t), t.Request.MessageType() == dhcpv4.MessageTypeNone)
	echo(t.Reply, t.Request, asked)
}

// linkName is the name of the network that a message came from, "" if it is none of
// the site's.
func linkName(t *transaction) string {
	if n := linkNetwork(t); n != nil {
		return n.Name
	}
	return ""
}
