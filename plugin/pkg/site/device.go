package site

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

// maxInfo bounds the texts that only people read, in characters.
const maxInfo = 1024

// claim is who has something that only one may have, and where.
type claim struct {
	who  string
	line int
}

// claims are what must be unique in the file, by value.
type claims struct {
	networks, classes, devices map[string]claim
	hosts, clients             map[string]claim
	addresses                  map[netip.Addr]claim
	hardware                   map[HardwareAddress]claim
	titles                     map[string]titleClaim
	instances                  map[instanceKey]instanceClaim
	services                   map[Service]claim
	pools                      []placedPool
}

// newClaims returns claims with room for the given number of devices.
func newClaims(devices int) claims {
	return claims{
		networks: make(map[string]claim), classes: make(map[string]claim), devices: make(map[string]claim, devices),
		hosts: make(map[string]claim, devices), clients: make(map[string]claim),
		addresses: make(map[netip.Addr]claim, devices), hardware: make(map[HardwareAddress]claim, devices),
		titles: make(map[string]titleClaim, devices), instances: make(map[instanceKey]instanceClaim, devices),
		services: make(map[Service]claim),
	}
}

// claim records that name, the value of key in f, is taken by a what, or reports who has it already.
func (p *parser) claim(taken map[string]claim, f *strictyaml.Fields, key, name, what string) {
	if name == "" {
		return
	}
	if first, ok := taken[name]; ok {
		p.Errorf(f.At(key), "%s: %s %s stands in line %d already", key, what, strictyaml.Quote(name), first.line)
		return
	}
	taken[name] = claim{name, f.At(key).Line}
}

func itoa(n int) string { return strconv.Itoa(n) }

var deviceKeys = []string{
	"name", "type", "hardware-address", "client-identifier", "circuit-id", "remote-id", "address", "hostname", "dhcp", "installed",
	"publish", "cluster", "description", "manufacturer", "model", "serial-number", "station-name", "location", "options", "applications",
}

func (p *parser) device(n *yaml.Node) {
	f, ok := p.Mapping(n, "a device", deviceKeys)
	if !ok {
		return
	}
	f.Require("a device", "name")
	d := Device{
		Position:         position(n),
		Name:             f.Text("name", maxNameText),
		ClientIdentifier: p.identifier(f.Get("client-identifier"), "client-identifier", 2),
		CircuitID:        p.identifier(f.Get("circuit-id"), "circuit-id", 1),
		RemoteID:         p.identifier(f.Get("remote-id"), "remote-id", 1),
		DHCP:             f.Bool("dhcp", true),
		Installed:        f.Bool("installed", true),
		Cluster:          f.Text("cluster", maxNameText),
		Description:      f.Text("description", maxInfo),
		Manufacturer:     f.Text("manufacturer", maxInfo),
		Model:            f.Text("model", maxInfo),
		SerialNumber:     f.Text("serial-number", maxInfo),
		StationName:      f.Text("station-name", maxInfo),
		Location:         f.Text("location", maxInfo),
		Options:          p.options(f, true),
	}
	p.claim(p.claims.devices, f, "name", d.Name, "device")
	p.deviceHost(f, &d)
	f.OneOrList("type", "a Primary Device Type such as CT", func(n *yaml.Node) { p.deviceType(n, &d) })
	f.OneOrList("hardware-address", "an Ethernet address", func(n *yaml.Node) { p.deviceHardware(n, &d) })
	f.OneOrList("address", "an IPv4 address", func(n *yaml.Node) { p.deviceAddress(n, &d) })
	p.deviceClient(f, &d)
	p.devicePublish(f, &d)
	if !d.DHCP && f.Get("address") == nil {
		p.Errorf(f.At("dhcp"), "device %q does not speak DHCP (dhcp: false) and so needs the key \"address\", which is missing", d.Name)
	}
	f.List("applications", "a list of applications", func(n *yaml.Node) { p.application(n, &d) })
	p.site.Devices = append(p.site.Devices, d)
}

// deviceHost finds the host name: the key, or else the device's name.
func (p *parser) deviceHost(f *strictyaml.Fields, d *Device) {
	key := "hostname"
	if f.Get(key) != nil {
		d.Hostname = p.hostname(f.Get(key), key)
	} else if d.Name != "" {
		key = "name"
		if !hostLabel(d.Name) {
			p.Errorf(f.At(key), "name: %s is not a host name (letters, digits and hyphens); set the key \"hostname\" beside it", strictyaml.Quote(d.Name))
			return
		}
		name, ok := completeName(d.Name, p.site.Domain)
		if !ok {
			p.Errorf(f.At(key), "name: %s is longer than %d characters with the domain; set the key \"hostname\" beside it", strictyaml.Quote(d.Name), maxName)
			return
		}
		d.Hostname = name
	}
	if d.Hostname == "" {
		return
	}
	if first, ok := p.claims.hosts[d.Hostname]; ok {
		defer func() { d.Hostname = "" }() // one error is enough
		if first.who == d.Name && f.Get("hostname") == nil {
			return // that the name stands twice is reported already
		}
		p.Errorf(f.At(key), "%s: the host name %s is that of device %q in line %d already", key, show(d.Hostname), first.who, first.line)
		return
	}
	p.claims.hosts[d.Hostname] = claim{d.Name, f.At(key).Line}
}

func (p *parser) deviceType(n *yaml.Node, d *Device) {
	const expected = "a Primary Device Type such as CT"
	v, ok := p.Scalar(n, "type", expected)
	if !ok || p.tooMany(n, "type", len(d.Types)) {
		return
	}
	if _, ok := aeTitle(v); !ok { // VR CS has the same bounds, and this goes into TXT records
		p.Expected(n, "type", expected)
		return
	}
	if slices.Contains(d.Types, v) {
		p.Errorf(n, "type: %s stands twice", strictyaml.Quote(v))
		return
	}
	d.Types = append(d.Types, v)
	if PrimaryDeviceType(v) {
		return
	}
	if upper := asciiUpper(v); PrimaryDeviceType(upper) {
		p.warn(n, "type: %s is not a Primary Device Type of DICOM (CID 30); did you mean %q?", strictyaml.Quote(v), upper)
		return
	}
	p.warn(n, "type: %s is not a Primary Device Type of DICOM (CID 30), such as CT, MR or ARCHIVE", strictyaml.Quote(v))
}

func (p *parser) deviceHardware(n *yaml.Node, d *Device) {
	h, ok := p.hardwareAddress(n)
	if !ok || p.tooMany(n, "hardware-address", len(d.HardwareAddresses)) {
		return
	}
	if first, ok := p.claims.hardware[h]; ok {
		p.Errorf(n, "hardware-address: %s is that of device %q in line %d already", h, first.who, first.line)
		return
	}
	p.claims.hardware[h] = claim{d.Name, n.Line}
	d.HardwareAddresses = append(d.HardwareAddresses, h)
}

func (p *parser) deviceAddress(n *yaml.Node, d *Device) {
	a, ok := p.address(n, "address")
	if !ok || p.tooMany(n, "address", len(d.Addresses)) {
		return
	}
	if first, ok := p.claims.addresses[a]; ok {
		p.Errorf(n, "address: %s is that of device %q in line %d already", a, first.who, first.line)
		return
	}
	p.claims.addresses[a] = claim{d.Name, n.Line}
	net := p.site.NetworkOf(a)
	switch {
	case net == nil && len(p.site.index.networks) < len(p.site.Networks):
		// A network has no valid subnet: which addresses are inside is not known.
	case net == nil && len(p.site.Networks) > 0:
		p.Errorf(n, "address: %s is in none of the networks of this file; expected one inside %s", a, p.subnets())
	case net == nil:
	case hasEnds(net.Prefix) && a == net.Prefix.Addr():
		p.Errorf(n, "address: %s is the network address of %s, expected the address of a host", a, net.Prefix)
	case hasEnds(net.Prefix) && a == lastAddress(net.Prefix):
		p.Errorf(n, "address: %s is the broadcast address of %s, expected the address of a host", a, net.Prefix)
	case d.DHCP:
		for _, other := range d.Addresses {
			if net.Prefix.Contains(other) {
				p.Errorf(n, "address: %s and %s are both in network %q, expected at most one address for each network", a, other, net.Name)
			}
		}
		p.warnOfServer(n, a, net, d)
	}
	d.Addresses = append(d.Addresses, a)
}

// warnOfServer warns of a device that would be given the address of a router or a name server.
func (p *parser) warnOfServer(n *yaml.Node, a netip.Addr, net *Network, d *Device) {
	routers, _ := dhcpopt.ByCode(codeRouters)
	if slices.Contains(routers.Addresses(net.Options.Values[codeRouters]), a) {
		p.warn(n, "address: %s is that of a router of network %q, and is given to device %q", a, net.Name, d.Name)
	}
	for _, server := range p.site.NameServers {
		if server.Address == a && server.Host != d.Hostname {
			p.warn(n, "address: %s is that of the name server %s, and is given to device %q", a, show(server.Host), d.Name)
		}
	}
}

// tooMany reports that a device has more of something than it may.
func (p *parser) tooMany(n *yaml.Node, key string, have int) bool {
	if have < maxEach {
		return false
	}
	p.Errorf(n, "%s: expected at most %d at one device", key, maxEach)
	return true
}

// subnets lists the file's subnets for a message, not too many of them.
func (p *parser) subnets() string {
	const most = 4
	var text string
	for i, n := range p.site.Networks {
		switch {
		case i == most:
			return text + " or " + itoa(len(p.site.Networks)-most) + " others"
		case i > 0:
			text += ", "
		}
		text += n.Prefix.String()
	}
	return text
}

// deviceClient claims what else the device is recognised by.
func (p *parser) deviceClient(f *strictyaml.Fields, d *Device) {
	if d.ClientIdentifier != nil {
		p.claimClient(f, "client-identifier", string(d.ClientIdentifier), d)
	}
	if d.CircuitID != nil || d.RemoteID != nil {
		key := "circuit-id"
		if d.CircuitID == nil {
			key = "remote-id"
		}
		// Lengths keep ("a", "bc") and ("ab", "c") apart.
		p.claimClient(f, key, itoa(len(d.CircuitID))+":"+string(d.CircuitID)+string(d.RemoteID), d)
	}
	if label := d.SelfNamed(); label != "" {
		if first, ok := p.claims.clients["label:"+label]; ok {
			p.Errorf(f.At("name"), "device %q can be recognised by the host name %s alone, as device %q in line %d can; give one of them a hardware address",
				d.Name, strictyaml.Quote(label), first.who, first.line)
			return
		}
		p.claims.clients["label:"+label] = claim{d.Name, f.At("name").Line}
	}
}

// SelfNamed returns the label, in lower case, by which alone the device is recognised when it asks for an address: the first of its host
// name. It is "" for a device that has something better, or that does not speak DHCP.
func (d *Device) SelfNamed() string {
	if !d.DHCP || len(d.HardwareAddresses) > 0 || d.ClientIdentifier != nil || d.CircuitID != nil || d.RemoteID != nil {
		return ""
	}
	label, _, _ := strings.Cut(d.Hostname, ".")
	return label
}

func (p *parser) claimClient(f *strictyaml.Fields, key, value string, d *Device) {
	kind := "client:"
	if key != "client-identifier" {
		kind = "relay:"
	}
	if first, ok := p.claims.clients[kind+value]; ok {
		what := strictyaml.Describe(f.Get(key))
		if kind == "relay:" && d.CircuitID != nil && d.RemoteID != nil {
			what += " with the same remote-id"
		}
		p.Errorf(f.Get(key), "%s: %s stands at device %q in line %d already", key, what, first.who, first.line)
		return
	}
	p.claims.clients[kind+value] = claim{d.Name, f.Get(key).Line}
}

// devicePublish resolves when the device is published.
func (p *parser) devicePublish(f *strictyaml.Fields, d *Device) {
	switch n := f.Get("publish"); {
	case n != nil:
		d.Publish = Publish(f.Choice("publish", publishNames, 0))
		if !d.DHCP && n.Value == PublishLeased.String() {
			p.Errorf(n, "publish: found \"leased\" at a device that never has a lease (dhcp: false), expected always")
		}
		if d.Publish == PublishAlways && f.Get("address") == nil {
			p.Errorf(n, "publish: found \"always\" at a device without a fixed address, expected leased")
		}
	case !d.DHCP:
		d.Publish = PublishAlways
	case len(d.Addresses) > 0:
		if net := p.site.NetworkOf(d.Addresses[0]); net != nil {
			d.Publish = net.Publish
		}
	}
}
