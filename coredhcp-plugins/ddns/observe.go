package ddns

import (
	"context"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// leastTime and mostTime bound the lease times that other plugins give: all are noted as they are.
const leastTime, mostTime = time.Second, lease.Infinite

// config is the part of a site file that names are made from. Addresses are somebody else's business.
func config(s *site.Site) lease.Config {
	c := lease.Config{Domain: s.Domain, Hostnames: s.Hostnames()}
	for i := range s.Networks {
		n := &s.Networks[i]
		c.Networks = append(c.Networks, lease.Network{
			Name: n.Name, Prefix: n.Prefix, LeaseTime: n.LeaseTime, MinLeaseTime: leastTime, MaxLeaseTime: mostTime,
			DDNS: n.DDNS.Mode != site.DDNSOff,
			Names: lease.NamePolicy{
				Mode:    map[site.DDNSMode]lease.NameMode{site.DDNSKeepStatic: lease.NamesKeepStatic, site.DDNSLastWins: lease.NamesLastWins}[n.DDNS.Mode],
				Forward: whose[n.DDNS.Forward], Reverse: whose[n.DDNS.Reverse],
			},
		})
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		r := lease.Reservation{Device: d.Name, Hostname: d.Hostname, Publish: d.Publish != site.PublishAlways}
		for _, h := range d.HardwareAddresses {
			r.HardwareAddresses = append(r.HardwareAddresses, lease.HardwareAddress{Type: h.Type, Addr: h.Addr})
		}
		if len(d.ClientIdentifier) > 0 {
			r.ClientIdentifiers = []string{string(d.ClientIdentifier)}
		}
		c.Reservations = append(c.Reservations, r)
	}
	return c
}

var whose = map[site.DDNSScope]lease.Names{site.DDNSAll: lease.AllNames, site.DDNSFixed: lease.DeviceNames, site.DDNSNone: lease.NoNames}

// observe notes what a client was given, or gave back; reply is nil if there is none.
func (d *DDNS) observe(ctx context.Context, x *server.Exchange, reply *dhcpv4.DHCPv4) {
	r := d.running.Load()
	if r == nil || !r.own {
		return
	}
	q := lease.Query{Client: clientOf(x.Request), ServerID: x.ServerID}
	q.Hostname, q.NoNames = naming(x.Request)
	// The reply is another plugin's promise: it leaves when its name is safe, or else a moment later all the same. What is
	// lost of the name then, the next renewal brings back.
	if x.Holds() {
		q.Ahead = func(c *lease.Commit) {
			c.Then(func(err error) { d.noted(q.Client, err) })
			x.Hold(passing{c})
		}
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longestHold)
		defer cancel()
	}
	var err error
	switch t := x.Request.MessageType(); {
	case t == dhcpv4.MessageTypeRelease:
		q.ClientAddr = server.Address(x.Request.ClientIPAddr)
		_, err = r.leases.Release(ctx, q)
	case t == dhcpv4.MessageTypeDecline:
		q.Requested = server.Address(x.Request.RequestedIPAddress())
		_, err = r.leases.Decline(ctx, q)
	case t == dhcpv4.MessageTypeRequest && reply != nil && reply.MessageType() == dhcpv4.MessageTypeAck:
		a := server.Address(reply.YourIPAddr)
		q.ClientAddr, q.Requested = server.Address(x.Request.ClientIPAddr), server.Address(x.Request.RequestedIPAddress())
		q.SelectedServer = server.Address(x.Request.ServerIdentifier())
		if d.site.Current().NetworkOf(a) == nil {
			return // not of the site
		}
		err = r.leases.Note(ctx, q, a, reply.IPAddressLeaseTime(lease.Infinite))
	}
	d.noted(q.Client, err)
}

// noted counts and logs what could not be noted.
func (d *DDNS) noted(c lease.Client, err error) {
	if err != nil {
		d.unnoted.Add(1)
		d.lines.Log(d.log.Error, "what another plugin gave was not noted: DNS follows at the client's next renewal", "client", c, "error", err)
	}
}

// longestHold is how long the reply of another plugin waits for the database of names.
const longestHold = time.Second

// passing has a reply wait for a commit, but not be lost with it.
type passing struct{ commit server.Commit }

// Then is for server.Commit.
func (p passing) Then(f func(error)) {
	leave := sync.OnceFunc(func() { f(nil) })
	late := time.AfterFunc(longestHold, leave)
	p.commit.Then(func(error) {
		late.Stop()
		leave()
	})
}

func clientOf(r *dhcpv4.DHCPv4) lease.Client {
	c := lease.Client{
		HardwareType: uint8(r.HWType), HardwareAddr: string(r.ClientHWAddr), Identifier: string(r.Options.Get(dhcpv4.OptionClientIdentifier)),
	}
	if c.HardwareType == ipsecTunnel {
		c.HardwareAddr = ""
	}
	return c
}

// ipsecTunnel is the hardware type of clients whose hardware address means nothing (RFC 3456 section 4.1).
const ipsecTunnel = 31

// naming is what the client calls itself, by option 81 (RFC 4702), else by option 12, as a label, and whether it wants
// nothing of itself in DNS (the N flag of option 81).
func naming(r *dhcpv4.DHCPv4) (label string, none bool) {
	if flags, name, ok := server.FQDN(r); ok {
		return lease.Label(name), flags&8 != 0
	}
	return lease.Label(string(r.Options.Get(dhcpv4.OptionHostName))), false
}
