package dnssd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"

	"github.com/miekg/dns"
)

// fixedAddresses returns the addresses of d that are published without a lease.
// A device that is not installed has none: nobody knows that it is there.
func fixedAddresses(d *site.Device) []netip.Addr {
	if !d.Installed || d.Publish != site.PublishAlways {
		return nil
	}
	return d.Addresses
}

// hosts adds the addresses that need no lease.
func (b *builder) hosts() {
	for i := range b.site.Devices {
		d := &b.site.Devices[i]
		for _, a := range fixedAddresses(d) {
			b.address(d.Hostname, a)
		}
	}
}

// pointers adds the PTR records of the addresses that need no lease. A name
// server's address that is a device's is called by the device's name.
func (b *builder) pointers() {
	named := make(map[netip.Addr]bool)
	point := func(a netip.Addr, name string) {
		b.add(&dns.PTR{Hdr: b.header(site.ReverseName(a), dns.TypePTR), Ptr: name}, nil)
	}
	for i := range b.site.Devices {
		d := &b.site.Devices[i]
		for _, a := range d.Addresses {
			named[a] = true
		}
		for _, a := range fixedAddresses(d) {
			point(a, d.Hostname)
		}
	}
	for _, ns := range b.site.NameServers {
		if ns.Address.IsValid() && !named[ns.Address] {
			point(ns.Address, ns.Host)
		}
	}
}

// conditions returns the hosts that a service of d depends on; none if it
// always stands.
func (b *builder) conditions(d *site.Device) []Host {
	if len(fixedAddresses(d)) > 0 || !b.holds(d.Hostname) {
		return nil
	}
	for _, ns := range b.site.NameServers {
		if ns.Host == d.Hostname && ns.Address.IsValid() {
			return nil // apex publishes its address
		}
	}
	if len(d.Addresses) == 0 {
		return []Host{{Name: d.Hostname}}
	}
	hosts := make([]Host, len(d.Addresses))
	for i, a := range d.Addresses {
		hosts[i] = Host{Name: d.Hostname, Address: a}
	}
	return hosts
}

// services adds the site's other SRV records, such as the LDAP server of
// PS3.15 H.1.4.1 (RFC 2782). One at a device of the site shares its fate.
func (b *builder) services() {
	devices := make(map[string]*site.Device)
	if len(b.site.Services) > 0 {
		for i := range b.site.Devices {
			devices[b.site.Devices[i].Hostname] = &b.site.Devices[i]
		}
	}
	for _, s := range b.site.Services {
		var while []Host
		if d := devices[s.Host]; d != nil {
			if !d.Installed {
				continue
			}
			while = b.conditions(d)
		}
		name := fmt.Sprintf("_%s._%s.%s", s.Name, s.Protocol, b.site.Domain)
		if b.holds(name) {
			b.publication.others[dns.CanonicalName(name)] = true
		}
		b.add(&dns.SRV{
			Hdr:      b.header(name, dns.TypeSRV),
			Priority: s.Priority, Weight: s.Weight, Port: s.Port, Target: s.Host,
		}, while)
	}
}

// An instance is one service instance (RFC 6763 section 4.1): an application,
// or the same application on the devices of a cluster.
type instance struct {
	label    string // presentation form
	protocol string // service name without underscore
	members  []member
}

// A member is an application of a device.
type member struct {
	device      *site.Device
	application *site.Application
}

// applications adds the DICOM services (PS3.15 H.2): for each instance the PTR
// by which it is found, one SRV for each device that offers it, and one TXT;
// and what those read who know the older form.
func (b *builder) applications() {
	for _, in := range b.instances() {
		service := "_" + in.protocol + "._tcp." + b.site.Domain
		name := in.label + "." + service
		if _, ok := dns.IsDomainName(name); !ok {
			continue // a PTR to it could not be written either
		}
		if b.holds(name) {
			b.publication.instances[dns.CanonicalName(name)] = true
			if !b.publication.services[service] {
				b.publication.services[service] = true
				b.publication.instances["*."+service] = true // it would speak for each that is off (RFC 4592)
				b.add(&dns.PTR{Hdr: b.header("_services._dns-sd._udp."+b.site.Domain, dns.TypePTR), Ptr: service}, nil)
			}
		}
		about := text(in.members)
		for _, m := range in.members {
			while := b.conditions(m.device)
			srv := func(owner string) *dns.SRV {
				return &dns.SRV{
					Hdr:      b.header(owner, dns.TypeSRV),
					Priority: m.application.Priority, Weight: m.application.Weight,
					Port: m.application.Port, Target: m.device.Hostname,
				}
			}
			b.add(&dns.PTR{Hdr: b.header(service, dns.TypePTR), Ptr: name}, while)
			b.add(srv(name), while)
			b.add(&dns.TXT{Hdr: b.header(name, dns.TypeTXT), Txt: about}, while)
			for _, t := range m.device.Types {
				b.add(&dns.PTR{Hdr: b.header(subtypeLabel(t)+"._sub."+service, dns.TypePTR), Ptr: name}, while)
			}
			b.add(srv(service), while)
		}
	}
	b.texts()
}

// texts adds the TXT records of hosts, which the older form reads. It cannot
// tell which of a host's services a text is about, so there is one for each AE
// title of the host, in the order of the site file, whichever the protocol; a
// service without a title (DICOMweb) adds to the first.
//
// Whoever keeps a TXT record of his own at the host comes first. DHCP servers
// do (the interim style of dhcpd), and take back no address that stands beside
// another TXT record than theirs.
func (b *builder) texts() {
	for i := range b.site.Devices {
		d := &b.site.Devices[i]
		if !d.Installed || len(d.Applications) == 0 {
			continue
		}
		var titles [][]member
		for j := range d.Applications {
			m := member{d, &d.Applications[j]}
			at := slices.IndexFunc(titles, func(of []member) bool {
				title := m.application.AETitle
				return title == "" || title == of[0].application.AETitle
			})
			if at < 0 {
				at = len(titles)
				titles = append(titles, nil)
			}
			titles[at] = append(titles[at], m)
		}
		while := b.conditions(d)
		for _, members := range titles {
			b.put(Conditional{
				RR:    &dns.TXT{Hdr: b.header(d.Hostname, dns.TypeTXT), Txt: text(members)},
				While: while, Yields: true,
			})
		}
	}
}

// text returns the strings of the TXT record about applications that share one:
// first what DICOM defines, then what the site file adds.
func text(members []member) []string {
	var t txt
	for _, m := range members {
		if m.application.AETitle != "" {
			t.add("AET=" + m.application.AETitle)
		}
	}
	if types := deviceTypes(members); types != "" {
		t.add("PrimaryDeviceType=" + types)
	}
	for _, m := range members {
		if m.application.Path != "" {
			t.add("DICOMWebPath=" + m.application.Path)
		}
	}
	for _, m := range members {
		for _, s := range m.application.TXT {
			t.add(s)
		}
	}
	return t.rdata()
}

// deviceTypes returns the Primary Device Types of the members' devices, each
// once, separated by commas. PS3.15 H.2 has one TXT key for them and RFC 6763
// section 6.4 lets a key count once, so several types (PET and CT in one gantry)
// share its value; as many as there is room for.
func deviceTypes(members []member) string {
	const room = maxString - len("PrimaryDeviceType=")
	var types []string
	length := 0
	for _, m := range members {
		for _, t := range m.device.Types {
			if slices.Contains(types, t) || length+len(t) > room {
				continue
			}
			types = append(types, t)
			length += len(t) + 1
		}
	}
	return strings.Join(types, ",")
}

// instances returns the instances of all installed devices in the order of the
// site file. The name of an instance is the application's friendly name, else
// its AE title, as PS3.15 H.2 wants it for clients that read no TXT.
//
// Names of instances are compared without case, AE titles with it. Where two
// different applications would share a name, the later one is told apart by a
// number, as RFC 6763 appendix D does it: one owner name would mix up their
// ports and titles.
func (b *builder) instances() []*instance {
	type key struct{ protocol, label string } // label in lower case
	var (
		all    []*instance
		byName = make(map[key]*instance)
	)
	for i := range b.site.Devices {
		d := &b.site.Devices[i]
		if !d.Installed {
			continue
		}
		for j := range d.Applications {
			a := &d.Applications[j]
			m := member{device: d, application: a}
			protocol := a.Protocol.String()
			for n := 1; ; n++ {
				label := instanceLabel(instanceName(m, n))
				k := key{protocol, dns.CanonicalName(label)}
				in := byName[k]
				if in == nil {
					in = &instance{label: label, protocol: protocol}
					byName[k] = in
					all = append(all, in)
				} else if !in.takes(m) {
					continue
				}
				in.members = append(in.members, m)
				break
			}
		}
	}
	return all
}

// takes reports whether m is the same application as the members of in.
func (in *instance) takes(m member) bool {
	first := in.members[0]
	return first.application.AETitle == m.application.AETitle &&
		(first.device == m.device || first.device.Cluster != "" && first.device.Cluster == m.device.Cluster)
}

// instanceName returns the n-th choice for the name of an application.
func instanceName(m member, n int) string {
	name := m.application.InstanceName(m.device)
	if n == 1 {
		return name
	}
	suffix := fmt.Sprintf(" (%d)", n)
	return cut(name, maxLabel-len(suffix)) + suffix
}
