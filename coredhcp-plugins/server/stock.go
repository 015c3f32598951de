package server

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/coredhcp/coredhcp/handler"
	"github.com/coredhcp/coredhcp/plugins"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// stockHost is what the plugins share in a stock CoreDHCP, which knows of
// nothing that belongs to one server: a process has one.
var stockHost = &Host{}

// Stock wraps a plugin as an ordinary CoreDHCP plugin, for a CoreDHCP that is
// built without this package's serve loop. It is started when CoreDHCP sets it
// up. What stock CoreDHCP cannot give it:
//
//   - messages other than DISCOVER, REQUEST, RELEASE and INFORM: DHCPDECLINE and
//     BOOTP never arrive;
//   - the interface: [Exchange.Interface] is empty. ServerID is what a `server_id`
//     that stands before has put into the reply, and Addresses has that address
//     alone, so that a client on the server's own wire is on the network of the
//     server identifier;
//   - an exchange that an earlier plugin has ended (`file` on a known address,
//     `range` on RELEASE);
//   - a stop: Close is never called and the context of Start never ends. What must
//     be durable must be so before Handle returns;
//   - a reload: a changed file is read at the next start;
//   - order: packets of one client may overtake each other.
//
// Neither are there this package's reply rules: option order, message size,
// option overload.
//
// A package that keeps it in its variable Plugin can be named to CoreDHCP's generator.
func Stock(name string, f NewFunc) plugins.Plugin {
	return plugins.Plugin{Name: name, Setup4: func(args ...string) (handler.Handler4, error) {
		ctx := context.Background()
		p, err := f(args, stockHost)
		if err != nil {
			return nil, fmt.Errorf("plugin %s: %w", name, err)
		}
		if err := p.Start(ctx); err != nil {
			return nil, fmt.Errorf("plugin %s: starting: %w", name, err)
		}
		return func(req, resp *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) {
			return handleStock(ctx, p, req, resp)
		}, nil
	}}
}

func handleStock(ctx context.Context, p Plugin, req, resp *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) {
	if resp == nil || !p.Accepts(req.MessageType()) {
		return resp, false
	}
	x := &Exchange{Request: req, Reply: resp, ServerID: Address(resp.ServerIdentifier())}
	if x.ServerID.IsValid() {
		x.Addresses = []netip.Addr{x.ServerID}
	}
	verdict := p.Handle(ctx, x)
	return x.Reply, verdict == Stop || x.Reply == nil
}
