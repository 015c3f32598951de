package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
	"github.com/dicomnam/dicomnam/plugin/pkg/dnssd"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// Values of change.Change.
const (
	added   = "added"
	removed = "removed"
	changed = "changed"
)

// facts are what a site file says, flat: what two files say can then be compared
// without a word on what it means.
type facts struct {
	values map[factKey]string
	keys   []factKey // in the order of the file
}

type factKey struct{ subject, key string }

func (f *facts) set(subject, key, value string) {
	k := factKey{subject, key}
	if _, there := f.values[k]; !there {
		f.keys = append(f.keys, k)
	}
	f.values[k] = value
}

// given sets what is not empty.
func (f *facts) given(subject, key, value string) {
	if value != "" {
		f.set(subject, key, value)
	}
}

// changes are what differs, in the order of the new file; what is gone stands last.
func changes(before, after *site.Site) []change {
	old, now := factsOf(before), factsOf(after)
	var list []change
	for _, k := range now.keys {
		was, there := old.values[k]
		switch is := now.values[k]; {
		case !there:
			list = append(list, change{added, k.subject, k.key, "", is})
		case was != is:
			list = append(list, change{changed, k.subject, k.key, was, is})
		}
	}
	for _, k := range old.keys {
		if _, there := now.values[k]; !there {
			list = append(list, change{removed, k.subject, k.key, old.values[k], ""})
		}
	}
	return list
}

func factsOf(s *site.Site) *facts {
	f := &facts{values: map[factKey]string{}}
	const all = "site"
	f.set(all, "domain", s.Domain)
	f.set(all, "contact", s.Contact)
	f.set(all, "ttl", lasting(s.TTL))
	f.options(all, &s.Options)
	for i := range s.Classes {
		f.class(&s.Classes[i])
	}
	for i := range s.Networks {
		f.network(&s.Networks[i])
	}
	for i := range s.Devices {
		f.device(&s.Devices[i])
	}
	f.records(s)
	return f
}

func (f *facts) class(c *site.Class) {
	subject := "class " + c.Name
	f.given(subject, "user-class", c.UserClass)
	f.given(subject, "vendor-class", c.VendorClass)
	f.given(subject, "circuit-id", octets(c.CircuitID))
	f.given(subject, "remote-id", octets(c.RemoteID))
	if c.HardwareType != 0 {
		f.set(subject, "htype", strconv.Itoa(int(c.HardwareType)))
	}
	f.options(subject, &c.Options)
}

func (f *facts) network(n *site.Network) {
	subject := "network " + n.Name
	f.set(subject, "subnet", n.Prefix.String())
	f.given(subject, "shared-network", n.SharedNetwork)
	f.given(subject, "interface", n.Interface)
	for _, p := range n.Pools {
		who := p.Clients.String()
		if p.Class != "" {
			who += ", class " + p.Class
		}
		f.set(subject, "pool "+p.String(), "for "+who)
	}
	f.set(subject, "lease-time", lasting(n.LeaseTime))
	f.set(subject, "min-lease-time", lasting(n.MinLeaseTime))
	f.set(subject, "max-lease-time", lasting(n.MaxLeaseTime))
	f.set(subject, "decline-time", lasting(n.DeclineTime))
	f.set(subject, "authoritative", strconv.FormatBool(n.Authoritative))
	f.set(subject, "probe", n.Probe.String())
	f.set(subject, "publish", n.Publish.String())
	f.set(subject, "ddns", fmt.Sprintf("mode %s, forward %s, reverse %s", n.DDNS.Mode, n.DDNS.Forward, n.DDNS.Reverse))
	f.options(subject, &n.Options)
}

func (f *facts) device(d *site.Device) {
	subject := "device " + d.Name
	f.set(subject, "host name", d.Hostname)
	f.given(subject, "address", joined(d.Addresses, netip.Addr.String))
	f.given(subject, "hardware-address", joined(d.HardwareAddresses, site.HardwareAddress.String))
	f.given(subject, "client-identifier", octets(d.ClientIdentifier))
	f.given(subject, "circuit-id", octets(d.CircuitID))
	f.given(subject, "remote-id", octets(d.RemoteID))
	if !d.DHCP {
		f.set(subject, "dhcp", "false")
	}
	f.set(subject, "publish", d.Publish.String())
	f.options(subject, &d.Options)
}

func (f *facts) options(subject string, o *site.Options) {
	codes := make([]dhcpopt.Code, 0, len(o.Values))
	for code := range o.Values {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	for _, code := range codes {
		option, known := dhcpopt.ByCode(code)
		name := "option-" + strconv.Itoa(int(code))
		value := fmt.Sprintf("%x", o.Values[code])
		if known {
			name, value = option.Name, option.Format(o.Values[code])
		}
		f.set(subject, "option "+name, value)
	}
	if o.TimeServers != nil {
		f.set(subject, "option ntp-servers", strings.Join(o.TimeServers, ", "))
	}
	if o.TimeZone != nil {
		f.set(subject, "time-zone", o.TimeZone.String())
	}
}

// records are what DNS gets from the site file below its domain, as if every device
// had its address.
func (f *facts) records(s *site.Site) {
	for _, rr := range dnssd.Publish(s, s.Domain).Records(everyone{}) {
		h := rr.Header()
		value := strings.TrimSpace(strings.TrimPrefix(rr.String(), h.String()))
		f.set("record "+h.Name, dns.TypeToString[h.Rrtype]+" "+value, "TTL "+strconv.Itoa(int(h.Ttl)))
	}
}

// everyone is a zone in which every device has its address, and nobody else is.
type everyone struct{}

func (everyone) HasAddress(dnssd.Host) bool { return true }

func (everyone) Others(string, uint16) bool { return false }

func octets(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return fmt.Sprintf("%q", b)
}

// lasting is a time as the site file writes it.
func lasting(d time.Duration) string {
	if d >= site.Infinite {
		return "infinite"
	}
	text := strings.TrimSuffix(d.String(), "m0s")
	if len(text) < len(d.String()) {
		text += "m"
	}
	if hours, ok := strings.CutSuffix(text, "h0m"); ok {
		return hours + "h"
	}
	return text
}

func joined[T any](list []T, text func(T) string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = text(v)
	}
	slices.SortFunc(texts, cmp.Compare[string])
	return strings.Join(texts, ", ")
}
