package site

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

const (
	// MaxSize bounds a site file, in octets.
	MaxSize = 16 << 20
	// maxProblems bounds the errors that are told in full, and the warnings.
	maxProblems = 1000
	// maxEach bounds lists of which no real file has many elements: the addresses of one device, the name servers.
	maxEach = 64
)

// Load reads and parses the site file at path. Warnings come beside the site. The error is of type Errors where the file is wrong,
// with all its errors at once, and otherwise the error of reading it; the site is nil then.
func Load(path string) (*Site, []Problem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the site file: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the site file: %w", err)
	}
	return Parse(path, data)
}

// Parse parses data, the content of a site file; file is the name that problems carry. It returns what Load returns.
func Parse(file string, data []byte) (*Site, []Problem, error) {
	p := &parser{file: file, site: &Site{File: file, index: index{options: &mergedOptions{merged: make(map[optionsKey]*Options)}}}}
	p.Synonyms = synonyms
	p.Report = func(line, column int, message string) {
		p.errors.add(Problem{file, Position{line, column}, message})
		p.Terse = len(p.errors.list) >= maxProblems
	}
	if len(data) > MaxSize {
		p.Report(1, 1, fmt.Sprintf("the file is larger than %d octets", MaxSize))
	} else if root := p.Document(data); root != nil {
		p.root(root)
	}
	warnings := p.warnings.sorted("warnings")
	if len(p.errors.list) > 0 {
		return nil, warnings, Errors(p.errors.sorted("errors"))
	}
	return p.site, warnings, nil
}

// parser turns the nodes of one file into a Site.
type parser struct {
	strictyaml.Reader
	file     string
	errors   problems
	warnings problems
	site     *Site
	claims   claims
}

// warn adds a warning at n.
func (p *parser) warn(n *yaml.Node, format string, args ...any) {
	p.warnings.add(Problem{p.file, position(n), fmt.Sprintf(format, args...)})
}

// errorAt adds an error at a place whose node is no longer at hand.
func (p *parser) errorAt(at Position, format string, args ...any) {
	p.Report(at.Line, at.Column, fmt.Sprintf(format, args...))
}

func position(n *yaml.Node) Position { return Position{n.Line, n.Column} }

var siteKeys = []string{"domain", "name-servers", "contact", "ttl", "options", "classes", "networks", "devices", "services"}

// synonyms are what people call keys, and keys that stand one level deeper.
var synonyms = map[string][]string{
	"ip": {"address"}, "ip-address": {"address"}, "fixed-address": {"address"},
	"mac": {"hardware-address"}, "mac-address": {"hardware-address"}, "ethernet": {"hardware-address"},
	"aet": {"ae-title", "applications"}, "ae": {"ae-title", "applications"}, "ae-title": {"applications"}, "port": {"applications"},
	"modality": {"type"}, "vendor": {"manufacturer"}, "serial": {"serial-number"}, "room": {"location"}, "comment": {"description"},
	"host": {"hostname", "name-servers"}, "range": {"pools"}, "network": {"subnet"}, "vlan": {"interface"},
	"router": {"options"}, "routers": {"options"}, "gateway": {"options"}, "dns": {"options"}, "ntp": {"options"}, "mtu": {"options"},
	"domain-name-servers": {"options"}, "ntp-servers": {"options"}, "time-zone": {"options"},
}

// root reads the whole file. The order is that of dependency and not of the file: names are relative to the domain, addresses are
// checked against the networks.
func (p *parser) root(n *yaml.Node) {
	f, ok := p.Mapping(n, "a site file", siteKeys)
	if !ok {
		return
	}
	s := p.site
	devices := 0
	if list := f.Get("devices"); list != nil {
		devices = len(list.Content)
		s.Devices = make([]Device, 0, devices)
	}
	p.claims = newClaims(devices)
	p.domain(f)
	s.TTL = p.ttl(f)
	s.Contact = p.contact(f)
	p.nameServers(f)
	s.Options = p.options(f, false)
	f.List("classes", "a list of classes", p.class)
	f.List("networks", "a list of networks", p.network)
	p.checkNetworks()
	s.index.addNetworks(s.Networks)
	f.List("devices", "a list of devices", p.device)
	f.List("services", "a list of services", p.service)
	p.checkNameServers(f)
	p.checkServices()
	if len(p.errors.list) == 0 {
		s.index.addDevices(s.Devices)
		s.index.classes = newClassIndex(s.Classes)
		s.index.reserved = s.reservedAddresses()
	}
}

// domain reads the domain. Names that are relative to a wrong one are checked all the same, below a domain that cannot be.
func (p *parser) domain(f *strictyaml.Fields) {
	p.site.Domain = "invalid."
	f.Require("a site file", "domain")
	n := f.Get("domain")
	if n == nil {
		return
	}
	p.site.index.domainAt = position(n)
	const expected = "a domain name such as imaging.example.org"
	v, ok := p.Scalar(n, "domain", expected)
	if !ok {
		return
	}
	name, ok := canonicalName(v)
	if !ok {
		p.Expected(n, "domain", expected)
		return
	}
	if len(show(name)) > maxDomain {
		p.Errorf(n, "domain: found %s with %d characters, expected at most %d, so that the names of services fit before it",
			strictyaml.Quote(v), len(show(name)), maxDomain)
		return
	}
	switch {
	case lastLabel(name) == "local":
		p.warn(n, "domain: %s is below local, where many machines ask for names by multicast and no name server (RFC 6762)", strictyaml.Quote(v))
	case name == lastLabel(name)+".":
		p.warn(n, "domain: %s is a top-level domain, where many machines ask no name server; expected one such as imaging.example.org", strictyaml.Quote(v))
	}
	p.site.Domain = name
}

// maxTTL is the largest TTL (RFC 2181 section 8).
const maxTTL = (1<<31 - 1) * time.Second

func (p *parser) ttl(f *strictyaml.Fields) time.Duration {
	ttl := p.duration(f, "ttl", DefaultTTL, false)
	if ttl > maxTTL {
		p.Expected(f.Get("ttl"), "ttl", "at most 2147483647 seconds")
	}
	return ttl
}

func (p *parser) contact(f *strictyaml.Fields) string {
	n := f.Get("contact")
	if n == nil {
		return "hostmaster." + p.site.Domain
	}
	const expected = "a mail address such as hostmaster@example.org"
	v, ok := p.Scalar(n, "contact", expected)
	if !ok {
		return ""
	}
	name, ok := mailbox(v, p.site.Domain)
	if !ok {
		p.Expected(n, "contact", expected)
	}
	return name
}

var nameServerKeys = []string{"host", "address"}

func (p *parser) nameServers(f *strictyaml.Fields) {
	if f.Get("name-servers") == nil {
		p.site.NameServers = []NameServer{{Host: "ns." + p.site.Domain}}
		return
	}
	p.List(f.Get("name-servers"), "name-servers", "a list of name servers", func(n *yaml.Node) {
		m, ok := p.Mapping(n, "a name server", nameServerKeys)
		if !ok {
			return
		}
		m.Require("a name server", "host")
		server := NameServer{Host: p.hostname(m.Get("host"), "host")}
		if a := m.Get("address"); a != nil {
			server.Address, _ = p.address(a, "address")
		}
		if len(p.site.NameServers) == maxEach {
			p.Errorf(n, "name-servers: expected at most %d", maxEach)
			return
		}
		for i, other := range p.site.NameServers {
			if server.Host != "" && other.Host == server.Host && other.Address == server.Address {
				p.Errorf(n, "the name server %s stands twice; it is number %d of the list already", show(server.Host), i+1)
				return
			}
		}
		p.site.NameServers = append(p.site.NameServers, server)
	})
	if len(p.site.NameServers) == 0 && f.Get("name-servers").Kind == yaml.SequenceNode && len(f.Get("name-servers").Content) == 0 {
		p.Errorf(f.Get("name-servers"), "name-servers: found an empty list, expected at least one name server (or leave the key out)")
	}
}

// checkServices warns of a service at a host that is no device of the file, where there is one with almost that name.
func (p *parser) checkServices() {
	if len(p.site.Services) > maxEach {
		return // nobody typed them, and the work grows with services times devices
	}
	var hosts []string
	for i := range p.site.Devices {
		hosts = append(hosts, p.relative(p.site.Devices[i].Hostname))
	}
	for _, server := range p.site.NameServers {
		hosts = append(hosts, p.relative(server.Host))
	}
	for _, s := range p.site.Services {
		host := p.relative(s.Host)
		if host == "" || slices.Contains(hosts, host) {
			continue
		}
		if near := p.Nearest(host, hosts); near != "" {
			p.warnings.add(Problem{p.file, s.Position, fmt.Sprintf("service %q: no device of this file is %s; did you mean %q?", s.Name, show(s.Host), near)})
		}
	}
}

// relative is a name below the domain without it, else "".
func (p *parser) relative(name string) string {
	relative, found := strings.CutSuffix(name, "."+p.site.Domain)
	if !found {
		return ""
	}
	return relative
}

// checkNameServers compares the name servers with the devices: a host has one set of addresses, and the file need not repeat it.
func (p *parser) checkNameServers(f *strictyaml.Fields) {
	byHost := make(map[string]*Device)
	for i := range p.site.Devices {
		byHost[p.site.Devices[i].Hostname] = &p.site.Devices[i]
	}
	for i := range p.site.NameServers {
		server := &p.site.NameServers[i]
		d := byHost[server.Host]
		if d == nil || len(d.Addresses) == 0 {
			continue
		}
		switch {
		case !server.Address.IsValid():
			server.Address = d.Addresses[0]
		case !slices.Contains(d.Addresses, server.Address):
			p.Errorf(f.At("name-servers"), "the name server %s has the address %s, but device %q in line %d has that host name and the address %s",
				show(server.Host), server.Address, d.Name, d.Line, d.Addresses[0])
		}
	}
}
