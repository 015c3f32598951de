package leases

import (
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// bounds are of the addresses that strangers may have; 0: the default.
type bounds struct{ perPort, perNetwork int }

// config is the part of a site file that leases are given from.
func config(s *site.Site, bounds bounds) lease.Config {
	c := lease.Config{
		Domain: s.Domain, Excluded: s.ReservedAddresses(), Hostnames: s.Hostnames(),
		MaxPerPort: bounds.perPort, MaxPerNetwork: bounds.perNetwork,
	}
	for i := range s.Networks {
		c.Networks = append(c.Networks, network(&s.Networks[i]))
	}
	for i := range s.Devices {
		if d := &s.Devices[i]; d.DHCP {
			c.Reservations = append(c.Reservations, reservation(d))
		}
	}
	return c
}

func network(n *site.Network) lease.Network {
	out := lease.Network{
		Name:          n.Name,
		Prefix:        n.Prefix,
		Interface:     n.Interface,
		SharedNetwork: n.SharedNetwork,
		LeaseTime:     n.LeaseTime,
		MinLeaseTime:  n.MinLeaseTime,
		MaxLeaseTime:  n.MaxLeaseTime,
		DeclineTime:   n.DeclineTime,
		Authoritative: n.Authoritative,
		Probe:         n.Probe != site.ProbeNone,
		DDNS:          n.DDNS.Mode != site.DDNSOff,
		Names:         lease.NamePolicy{Mode: nameModes[n.DDNS.Mode], Forward: names[n.DDNS.Forward], Reverse: names[n.DDNS.Reverse]},
	}
	for _, p := range n.Pools {
		out.Pools = append(out.Pools, lease.Pool{First: p.First, Last: p.Last, Clients: clients[p.Clients], Class: p.Class})
	}
	return out
}

var (
	nameModes = map[site.DDNSMode]lease.NameMode{
		site.DDNSStrict:     lease.NamesStrict,
		site.DDNSKeepStatic: lease.NamesKeepStatic,
		site.DDNSLastWins:   lease.NamesLastWins,
	}
	names = map[site.DDNSScope]lease.Names{
		site.DDNSAll:   lease.AllNames,
		site.DDNSFixed: lease.DeviceNames,
		site.DDNSNone:  lease.NoNames,
	}
)

var clients = map[site.Clients]lease.Clients{
	site.AnyClients:     lease.AnyClient,
	site.KnownClients:   lease.KnownClients,
	site.UnknownClients: lease.UnknownClients,
}

func reservation(d *site.Device) lease.Reservation {
	r := lease.Reservation{
		Device:    d.Name,
		Hostname:  d.Hostname,
		Addresses: d.Addresses,
		CircuitID: string(d.CircuitID),
		RemoteID:  string(d.RemoteID),
		// The name of a device that is always published is the site's own
		// record, which no update may touch.
		Publish: d.Publish != site.PublishAlways,
	}
	for _, h := range d.HardwareAddresses {
		r.HardwareAddresses = append(r.HardwareAddresses, lease.HardwareAddress{Type: h.Type, Addr: h.Addr})
	}
	if len(d.ClientIdentifier) > 0 {
		r.ClientIdentifiers = []string{string(d.ClientIdentifier)}
	}
	if label := d.SelfNamed(); label != "" {
		r.Names = []string{label}
	}
	return r
}
