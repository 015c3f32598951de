package site

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// index answers the questions that every packet asks. It points into the slices of its Site.
type index struct {
	networks []*Network // by address
	hardware map[HardwareAddress]*Device
	clients  map[string]*Device
	hosts    map[string]*Device
	names    map[string]*Device
	classes  classIndex
	options  *mergedOptions
	reserved []netip.Addr
	domainAt Position // of the domain in the file
}

func (x *index) addNetworks(networks []Network) {
	for i := range networks {
		if networks[i].Prefix.IsValid() {
			x.networks = append(x.networks, &networks[i])
		}
	}
	slices.SortFunc(x.networks, func(a, b *Network) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
}

func (x *index) addDevices(devices []Device) {
	x.hardware = make(map[HardwareAddress]*Device, len(devices))
	x.clients = make(map[string]*Device)
	x.hosts = make(map[string]*Device, len(devices))
	x.names = make(map[string]*Device, len(devices))
	for i := range devices {
		d := &devices[i]
		for _, h := range d.HardwareAddresses {
			x.hardware[h] = d
		}
		if d.ClientIdentifier != nil {
			x.clients[string(d.ClientIdentifier)] = d
		}
		x.hosts[d.Hostname] = d
		x.names[d.Name] = d
	}
}

// NetworkOf returns the network whose subnet has a, or nil.
func (s *Site) NetworkOf(a netip.Addr) *Network {
	i, found := slices.BinarySearchFunc(s.index.networks, a, func(n *Network, a netip.Addr) int { return n.Prefix.Addr().Compare(a) })
	if !found {
		i-- // the last network that begins before a
	}
	if i < 0 || !s.index.networks[i].Prefix.Contains(a) {
		return nil
	}
	return s.index.networks[i]
}

// DeviceOf returns the device that a client is, or nil: the one with its hardware address, or else the one with its client
// identifier (option 61; nil where it sent none). For IPsec clients (hardware type 31, RFC 3456) the hardware address means nothing.
func (s *Site) DeviceOf(htype uint8, hw []byte, clientID []byte) *Device {
	const ipsecTunnel = 31
	if htype != ipsecTunnel {
		if d := s.index.hardware[HardwareAddress{Type: htype, Addr: string(hw)}]; d != nil {
			return d
		}
	}
	if len(clientID) == 0 {
		return nil
	}
	return s.index.clients[string(clientID)]
}

// DeviceByName returns the device of that name, or nil.
func (s *Site) DeviceByName(name string) *Device { return s.index.names[name] }

// DeviceByHostname returns the device with the fully qualified host name, or nil. Case and the trailing dot do not matter.
func (s *Site) DeviceByHostname(fqdn string) *Device {
	name := strings.ToLower(fqdn)
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	return s.index.hosts[name]
}

// ReservedAddresses returns, sorted and each once, the addresses that no pool may give to just any client: the fixed addresses of all
// devices, whether they speak DHCP or not; the addresses of name servers; and those that options name as routers or servers.
// A device still gets its own fixed address, even where an option names that too. The caller may keep the slice.
func (s *Site) ReservedAddresses() []netip.Addr { return slices.Clone(s.index.reserved) }

func (s *Site) reservedAddresses() []netip.Addr {
	var all []netip.Addr
	add := func(o *Options) {
		for code, value := range o.Values {
			if option, ok := dhcpopt.ByCode(code); ok {
				all = append(all, option.Addresses(value)...)
			}
		}
	}
	add(&s.Options)
	for i := range s.Classes {
		add(&s.Classes[i].Options)
	}
	for i := range s.Networks {
		add(&s.Networks[i].Options)
	}
	for i := range s.Devices {
		all = append(all, s.Devices[i].Addresses...)
		add(&s.Devices[i].Options)
	}
	for _, server := range s.NameServers {
		if server.Address.IsValid() {
			all = append(all, server.Address)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.Compact(all)
	if len(s.Networks) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return s.NetworkOf(a) == nil })
}

// Hostnames returns, sorted and each once, the host names below the domain that the file speaks of: those of devices,
// whether they speak DHCP or not, and of the hosts that are name servers, time servers or have a service. No other machine
// may call itself so.
func (s *Site) Hostnames() []string {
	var all []string
	times := func(o *Options) { all = append(all, o.TimeServers...) }
	times(&s.Options)
	for i := range s.Classes {
		times(&s.Classes[i].Options)
	}
	for i := range s.Networks {
		times(&s.Networks[i].Options)
	}
	for i := range s.Devices {
		all = append(all, s.Devices[i].Hostname)
		times(&s.Devices[i].Options)
	}
	for _, server := range s.NameServers {
		all = append(all, server.Host)
	}
	for _, service := range s.Services {
		all = append(all, service.Host)
	}
	all = slices.DeleteFunc(all, func(name string) bool { return !below(name, s.Domain) })
	slices.Sort(all)
	return slices.Compact(all)
}
