// Package ntp is the CoreDHCP plugin that tells clients their time servers: the
// site file's ntp-servers in option 42 (RFC 2132 section 8.3), as DICOM PS3.15
// G.1.1 asks of a DHCP server.
//
// DHCP carries addresses and an administrator writes names, so names are resolved
// ahead of every client and again and again: a time server that moved is followed,
// and no client waits for DNS. With verify a server is told only while it keeps the
// time; package timecheck judges that, in the background too.
package ntp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/timecheck"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

const name = "ntp"

// Plugin is `ntp` for CoreDHCP's own server.
var Plugin = server.Stock(name, New)

func init() { server.Register(name, New) }

var (
	_ server.Plugin   = (*NTP)(nil)
	_ server.Reloader = (*NTP)(nil)
	_ server.Prompt   = (*NTP)(nil)
)

// NTP writes option 42.
type NTP struct {
	site    *server.SiteFile
	log     *slog.Logger
	checker *timecheck.Checker

	stop      context.CancelFunc
	done      sync.WaitGroup
	misplaced sync.Once
}

// New reads `ntp: site=PATH verify=true|false`. It reads the site file and asks
// nobody.
func New(args []string, host *server.Host) (server.Plugin, error) {
	return newNTP(args, host, timecheck.Options{})
}

// CheckArgs says what is wrong with arguments. It opens nothing.
func CheckArgs(args []string) error {
	_, _, err := parse(args)
	return err
}

func parse(args []string) (site string, verify bool, err error) {
	values, err := server.Args(args, "site", "verify")
	if err != nil {
		return "", false, err
	}
	if values["site"] == "" {
		return "", false, errors.New("site= is missing: expected ntp: site=PATH verify=true|false")
	}
	switch v := values["verify"]; v {
	case "", "false":
	case "true":
		verify = true
	default:
		return "", false, fmt.Errorf("verify=%s: expected true or false", v)
	}
	return values["site"], verify, nil
}

func newNTP(args []string, host *server.Host, o timecheck.Options) (*NTP, error) {
	path, verify, err := parse(args)
	if err != nil {
		return nil, err
	}
	o.Verify = verify
	file, err := host.Site(path)
	if err != nil {
		return nil, err
	}
	o.Logger = host.Logger(name)
	n := &NTP{site: file, log: o.Logger, checker: timecheck.New(o)}
	n.checker.SetLists(lists(file.Current()))
	if err := host.Metrics().Register(metrics{n.checker}); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	host.OnControl(control.Time, n.tell)
	return n, nil
}

// Start begins to resolve the names of time servers, and to ask them.
func (n *NTP) Start(ctx context.Context) error {
	ctx, n.stop = context.WithCancel(ctx)
	n.done.Go(func() { n.checker.Run(ctx) })
	return nil
}

// Close ends that.
func (n *NTP) Close() error {
	n.stop()
	n.done.Wait()
	return nil
}

// Reload takes up the servers that stand in the site file now.
func (n *NTP) Reload() error {
	n.checker.SetLists(lists(n.site.Current()))
	return nil
}

// lists are the lists of time servers that a site has, each once.
func lists(s *site.Site) [][]string {
	var all [][]string
	add := func(o site.Options) {
		if len(o.TimeServers) > 0 && !slices.ContainsFunc(all, func(l []string) bool { return slices.Equal(l, o.TimeServers) }) {
			all = append(all, o.TimeServers)
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
	return all
}

// tell answers control.Time.
func (n *NTP) tell(_ context.Context, args json.RawMessage, send func(any) error) error {
	if err := control.Decode(args, &struct{}{}); err != nil {
		return err
	}
	for _, s := range n.checker.Status() {
		err := send(control.TimeServer{
			Server: s.Server, Address: s.Address, Verdict: verdicts[s.Verdict], Reason: s.Reason, Stratum: s.Stratum,
			RootDistance: s.RootDistance.Seconds(), Deviation: s.Deviation.Seconds(), RoundTrip: s.RTT.Seconds(),
			Answered: moment(s.Answered), Next: moment(s.Next), Questions: s.Questions, Answers: s.Answers, Kisses: s.Kisses,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var verdicts = map[timecheck.Verdict]string{timecheck.Good: control.TimeGood, timecheck.Bad: control.TimeBad, timecheck.Unknown: control.TimeUnknown}

// moment is a time as the control socket tells it.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Round(0)
	return &t
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
	if len(options.TimeServers) == 0 {
		return nil
	}
	var value []byte
	for _, a := range n.checker.Choose(options.TimeServers) {
		value = append(value, a.AsSlice()...)
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
