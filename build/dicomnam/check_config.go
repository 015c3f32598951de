package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/ddns"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/leases"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/ntp"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// maxConfig bounds a configuration file, in octets.
const maxConfig = 1 << 20

// dhcpConfig is what a config.yml says of DHCPv4.
type dhcpConfig struct {
	file    word
	listen  []word
	plugins []usedPlugin
}

// usedPlugin is one plugin with its arguments.
type usedPlugin struct {
	name word
	args []string
}

// arg is the value of an argument of the form key=value, "" if there is none.
func (p *usedPlugin) arg(key string) string {
	for _, a := range p.args {
		if v, ok := strings.CutPrefix(a, key+"="); ok {
			return v
		}
	}
	return ""
}

// at is a place in the line of the plugin.
func (p *usedPlugin) at() word { return p.name }

// readConfig reads the configuration of coredhcp: what of it concerns DHCPv4.
func readConfig(path string) (*dhcpConfig, error) {
	data, err := readBounded(path, maxConfig)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, errors.New(site.SyntaxProblem(path, data, err).String())
	}
	c := &dhcpConfig{file: word{path, path, 1}}
	server4 := value(&doc, "server4")
	if server4 == nil {
		return nil, fmt.Errorf("%s:1: there is no server4: expected the configuration of a DHCPv4 server", path)
	}
	at := func(n *yaml.Node) word { return word{n.Value, path, n.Line} }
	if n := value(server4, "listen"); n != nil {
		nodes := []*yaml.Node{n}
		if n.Kind == yaml.SequenceNode {
			nodes = n.Content
		}
		for _, l := range nodes {
			c.listen = append(c.listen, at(meant(l)))
		}
	}
	list := value(server4, "plugins")
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("%s:%d: server4 has no list of plugins", path, server4.Line)
	}
	for _, n := range list.Content {
		n = meant(n)
		if n.Kind != yaml.MappingNode || len(n.Content) != 2 {
			return nil, fmt.Errorf("%s:%d: expected one plugin, as \"- NAME: ARGUMENTS\"", path, n.Line)
		}
		c.plugins = append(c.plugins, usedPlugin{at(n.Content[0]), strings.Fields(meant(n.Content[1]).Value)})
	}
	return c, nil
}

// value is what stands under a key of a document or mapping, or nil.
func value(n *yaml.Node, key string) *yaml.Node {
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return meant(n.Content[i+1])
		}
	}
	return nil
}

// meant is the node itself, or the one that an alias (*NAME) stands for.
func meant(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// plugin is the first of a name, and its place in the chain; nil, -1 if there is none.
func (c *dhcpConfig) plugin(name string) (*usedPlugin, int) {
	for i := range c.plugins {
		if c.plugins[i].name.text == name {
			return &c.plugins[i], i
		}
	}
	return nil, -1
}

// checkArgs are what our plugins say of arguments; updates says it of those of ddns.
var checkArgs = map[string]func([]string) error{
	"leases": leases.CheckArgs,
	"ntp":    ntp.CheckArgs,
	"ddns":   func([]string) error { return nil },
}

// check compares with the site.
func (c *dhcpConfig) check(f *findings, s *site.Site) {
	leases, first := c.plugin("leases")
	updates := c.updates(f)
	alone := updates != nil && updates.Database != "" // ddns works on what other plugins give, wherever it stands
	if leases == nil && !alone {
		f.errorf(c.file, "there is no leases plugin: nobody gets an address of the site file")
	}
	if leases != nil && len(s.Networks) == 0 {
		f.errorf(word{"", s.File, 1}, "there are no networks: nobody gets an address of leases (%s:%d)", leases.at().file, leases.at().line)
	}
	seen := map[string]bool{}
	others := map[string]bool{} // site files that it was told of
	for i := range c.plugins {
		p := &c.plugins[i]
		name := p.name.text
		argsOf := checkArgs[name]
		if argsOf == nil { // the plugin of somebody else
			if p.arg("site") != "" {
				f.errorf(p.at(), "%s: found site=, which only leases, ntp and ddns take; is one of them meant?", name)
			}
			continue
		}
		if seen[name] {
			f.errorf(p.at(), "%s stands twice", name)
		}
		seen[name] = true
		if leases != nil && name != "leases" && i < first && (name != "ddns" || !alone) {
			f.errorf(p.at(), "%s stands before leases, and works on what that gives: put it behind", name)
		}
		if err := argsOf(p.args); err != nil {
			f.errorf(p.at(), "%s: %v", name, err)
		}
		if path := p.arg("site"); path != "" && !others[path] && !sameFile(path, s.File) {
			others[path] = true
			f.warnf(p.at(), "%s reads the site file %s, which is not the one that is checked, %s", name, path, s.File)
		}
	}
	c.checkAddresses(f, s)
}

// checkAddresses compares the addresses and interfaces of the server with those of the site.
func (c *dhcpConfig) checkAddresses(f *findings, s *site.Site) {
	interfaces := map[string]bool{}
	everywhere := len(c.listen) == 0
	for _, l := range c.listen {
		host, link, _ := strings.Cut(l.text, "%")
		link, _, _ = strings.Cut(link, ":")
		if link == "" {
			everywhere = true
		}
		interfaces[link] = true
		if !strings.HasPrefix(host, "[") {
			host, _, _ = strings.Cut(host, ":")
		}
		a, err := netip.ParseAddr(strings.Trim(host, "[]"))
		switch {
		case err != nil && host != "":
			f.errorf(l, "listen: found %q, expected an interface such as \"%%eth0\", or an address such as 192.0.2.2", l.text)
		case err == nil && a.Is4() && !a.IsUnspecified():
			ownAddress(f, s, l, "listen", a)
		}
	}
	for i := range s.Networks {
		n := &s.Networks[i]
		if n.Interface != "" && !everywhere && !interfaces[n.Interface] {
			f.errorf(word{"", s.File, n.Line}, "network %q is at the interface %s, where coredhcp does not listen (%s:%d)", n.Name, n.Interface, c.file.text, c.listen[0].line)
		}
	}
	id, _ := c.plugin("server_id")
	if id == nil {
		return
	}
	a, err := netip.ParseAddr(strings.Join(id.args, " "))
	switch {
	case err != nil || !a.Is4():
		f.errorf(id.at(), "server_id: found %q, expected an IPv4 address", strings.Join(id.args, " "))
	default:
		ownAddress(f, s, id.at(), "server_id", a)
	}
}

// ownAddress checks an address of the server.
func ownAddress(f *findings, s *site.Site, at word, what string, a netip.Addr) {
	for i := range s.Devices {
		d := &s.Devices[i]
		for _, other := range d.Addresses {
			if other == a && d.DHCP {
				f.errorf(at, "%s: %s is the address of the device %q (%s:%d)", what, a, d.Name, s.File, d.Line)
			}
		}
	}
	n := s.NetworkOf(a)
	if n == nil {
		f.warnf(at, "%s: %s is in none of the networks of the site; clients reach it by a router only", what, a)
		return
	}
	if a == n.Prefix.Masked().Addr() {
		f.errorf(at, "%s: %s is the address of the network %q, expected that of a host", what, a, n.Name)
	}
	for _, p := range n.Pools {
		if p.First.Compare(a) <= 0 && a.Compare(p.Last) <= 0 && !slices.Contains(s.ReservedAddresses(), a) {
			f.warnf(at, "%s: %s is in a pool of the network %q (%s:%d); let the pool leave it out, or name it in name-servers", what, a, n.Name, s.File, n.Line)
		}
	}
}

// updates is what the arguments of ddns say; nil if there is no ddns, or after it was told what is wrong with them.
func (c *dhcpConfig) updates(f *findings) *updates {
	p, _ := c.plugin("ddns")
	if p == nil {
		return nil
	}
	settings, err := ddns.ParseSettings(p.args)
	if err != nil {
		f.errorf(p.at(), "ddns: %v", err)
		return nil
	}
	u := &updates{Settings: settings, at: p.at()}
	if u.keys, err = settings.LoadKeys(); err != nil {
		f.errorf(p.at(), "ddns: %v", err)
	}
	return u
}

// updates is where ddns sends updates, and how it signs them.
type updates struct {
	*ddns.Settings
	at   word
	keys []tsigkey.Key // none if the file of keys lacks any
}

// together says whether updates of two names go to the same server, as far as the configuration tells.
func (u *updates) together(a, b string) bool {
	servers := u.Servers(b)
	return slices.ContainsFunc(u.Servers(a), func(s string) bool { return slices.Contains(servers, s) })
}

// sameFile says whether two paths are of one file, as far as can be seen from here.
func sameFile(a, b string) bool {
	if x, err := os.Stat(a); err == nil {
		if y, err := os.Stat(b); err == nil {
			return os.SameFile(x, y)
		}
	}
	x, err1 := filepath.Abs(a)
	y, err2 := filepath.Abs(b)
	return errors.Join(err1, err2) == nil && x == y
}
