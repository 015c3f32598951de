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
	"net"
	"strconv"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/nameupdate"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

const name = "ddns"

// Plugin is `ddns` for CoreDHCP's own server.
var Plugin = server.Stock(name, New)

func init() { server.Register(name, New) }

var _ server.Plugin = (*DDNS)(nil)

// DDNS runs the worker that updates DNS.
type DDNS struct {
	config nameupdate.Config
	host   *server.Host
	log    *slog.Logger
	site   *server.SiteFile
	stop   context.CancelFunc
	done   chan error
}

// New reads `ddns: site=PATH server=HOST:PORT keys=PATH key=NAME`. It reads the
// two files and contacts nobody.
func New(args []string, host *server.Host) (server.Plugin, error) {
	values, err := server.Args(args, "site", "server", "keys", "key")
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"site", "server", "keys", "key"} {
		if values[key] == "" {
			return nil, fmt.Errorf("%s= is missing: expected ddns: site=PATH server=HOST:PORT keys=PATH key=NAME", key)
		}
	}
	serverHost, port, err := net.SplitHostPort(values["server"])
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || serverHost == "" || portErr != nil || n == 0 {
		return nil, fmt.Errorf("server=%s: expected HOST:PORT, as in 192.0.2.2:53", values["server"])
	}
	keys, err := tsigkey.Load(values["keys"])
	if err != nil {
		return nil, err
	}
	key, err := tsigkey.Find(keys, values["key"])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", values["keys"], err)
	}
	file, err := host.Site(values["site"])
	if err != nil {
		return nil, err
	}
	d := &DDNS{site: file, host: host, log: host.Logger(name)}
	if open, err := tsigkey.WorldReadable(values["keys"]); err == nil && open {
		d.log.Warn("everyone on this machine can read the keys; expected mode 0640", "file", values["keys"])
	}
	d.config = nameupdate.Config{Server: values["server"], Key: key, Logger: d.log, Scope: d.scope}
	return d, nil
}

// scope is what the address's network says in `ddns: {forward, reverse}`.
func (d *DDNS) scope(c lease.NameChange) nameupdate.Scope {
	network := d.site.Current().NetworkOf(c.Address)
	if network == nil {
		return nameupdate.Scope{}
	}
	wanted := func(s site.DDNSScope) bool { return s == site.DDNSAll || s == site.DDNSFixed && c.Owned }
	return nameupdate.Scope{Forward: wanted(network.DDNS.Forward), Reverse: wanted(network.DDNS.Reverse)}
}

// Start begins to update DNS. The leases plugin stands before this one.
func (d *DDNS) Start(ctx context.Context) error {
	leases := d.host.Leases()
	if leases == nil {
		return errors.New("ddns needs the names of leases: put the leases plugin before it")
	}
	ctx, d.stop = context.WithCancel(ctx)
	d.done = make(chan error, 1)
	worker := nameupdate.New(d.config, leases)
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
