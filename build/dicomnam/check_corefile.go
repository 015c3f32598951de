package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/coredns/caddy/caddyfile"
	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
)

// dnsConfig is what a Corefile says of dicom.
type dnsConfig struct {
	file   word
	blocks []dnsBlock // those with dicom in them
	unset  []word     // environment variables that have no value here
}

// dnsBlock is a server block.
type dnsBlock struct {
	at     word     // of dicom
	zones  []string // canonical
	ports  []string
	binds  []word
	site   *word
	store  *word // database
	allows []allow
	tsig   bool
	files  []word // of keys
	keys   []word // names of those that stand in the Corefile itself
	others []word // properties that dicom does not take, or not twice
	odd    []word // what is no zone
	small  []word // subnets whose reverse zone would not end on an octet
	lost   []word // properties of dicom that stand outside of its braces
	secret []word // lines of tsig that have too many or too few words
}

// properties are those of dicom, which itself knows what their arguments may be.
var properties = []string{"site", "file", "database", "backup", "allow", "max_records", "max_bytes", "max_update_records"}

// allow is one rule: key, name and types.
type allow struct {
	at        word
	key, name string
	types     []string
}

// readCorefile reads the configuration of coredns.
func readCorefile(path string) (*dnsConfig, error) {
	data, err := readBounded(path, maxConfig)
	if err != nil {
		return nil, err
	}
	parsed, err := caddyfile.Parse(path, bytes.NewReader(data), nil)
	if err != nil {
		return nil, err
	}
	c := &dnsConfig{file: word{path, path, 1}, unset: unset(path, data)}
	lines := strings.Split(string(data), "\n")
	for _, p := range parsed {
		if tokens := p.Tokens["dicom"]; len(tokens) > 0 {
			c.blocks = append(c.blocks, newBlock(path, lines, p, tokens))
		}
	}
	return c, nil
}

// keyLine is the line in which a key of a server block stands: the last that has it and is not after a line of the block itself. The
// parser does not tell; where an import has it, the line of the block has to do.
func keyLine(lines []string, key string, block int) int {
	for i := min(block, len(lines)); i > 0; i-- {
		words := strings.Fields(lines[i-1])
		if slices.Contains(words, key) || slices.Contains(words, key+",") {
			return i
		}
	}
	return block
}

// variable is an environment variable in a Corefile.
var variable = regexp.MustCompile(`\{\$([^}]+)\}|\{%([^%}]+)%\}`)

// unset are the environment variables of a Corefile that have no value where it is checked. coredns may have one.
func unset(path string, data []byte) []word {
	var list []word
	for i, line := range bytes.Split(data, []byte("\n")) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		for _, m := range variable.FindAllSubmatch(line, -1) {
			name := string(m[1]) + string(m[2]) // one of them is empty
			if _, found := os.LookupEnv(name); !found {
				list = append(list, word{name, path, i + 1})
			}
		}
	}
	return list
}

func newBlock(path string, lines []string, p caddyfile.ServerBlock, tokens []caddyfile.Token) dnsBlock {
	at := func(t caddyfile.Token) word {
		if t.File == "" {
			t.File = path
		}
		return word{t.Text, t.File, t.Line}
	}
	b := dnsBlock{at: at(tokens[0])}
	add := func(key string, w word) {
		zones, _, subnet := zonesOf(key)
		if !slices.ContainsFunc(zones, zone.ValidName) {
			b.odd = append(b.odd, w)
		}
		if subnet.Addr().Is4() && subnet.Bits() > 24 && subnet.Bits() < 32 {
			b.small = append(b.small, word{subnet.Masked().String(), w.file, w.line})
		}
		b.zones = append(b.zones, zones...)
	}
	root := ""
	for _, line := range statements(p.Tokens["root"]) {
		root = line[len(line)-1].Text
	}
	seen := map[string]bool{}
	for i, line := range statements(tokens) {
		args := line[1:]
		property := line[0].Text
		if i > 0 && (!slices.Contains(properties, property) || seen[property] && property != "allow") {
			b.others = append(b.others, at(line[0]))
		}
		seen[property] = i > 0
		switch property {
		case "dicom":
			for _, a := range args {
				add(a.Text, at(a))
			}
		case "site", "database":
			if len(args) != 1 {
				continue
			}
			w := at(args[0])
			if !filepath.IsAbs(w.text) {
				w.text = filepath.Join(root, w.text)
			}
			if property == "site" {
				b.site = &w
			} else {
				b.store = &w
			}
		case "allow":
			a := allow{at: at(line[0])}
			for i, t := range args {
				switch i {
				case 0:
					a.key = dns.CanonicalName(t.Text)
				case 1:
					a.name = strings.ToLower(t.Text)
				default:
					a.types = append(a.types, strings.ToUpper(t.Text))
				}
			}
			b.allows = append(b.allows, a)
		}
	}
	own := len(b.zones) > 0
	for _, key := range p.Keys {
		_, port, _ := zonesOf(key)
		b.ports = append(b.ports, port)
		if own {
			continue
		}
		w := word{key, b.at.file, b.at.line}
		if b.at.file == path {
			w.line = keyLine(lines, key, b.at.line)
		}
		add(key, w)
	}
	for _, name := range properties {
		if t := p.Tokens[name]; len(t) > 0 && name != "file" { // CoreDNS has a plugin of that name
			b.lost = append(b.lost, at(t[0]))
		}
	}
	for _, line := range statements(p.Tokens["tsig"]) {
		b.tsig = true
		switch {
		case line[0].Text == "secrets" && len(line) == 2:
			b.files = append(b.files, at(line[1]))
		case line[0].Text == "secret" && len(line) == 3:
			b.keys = append(b.keys, at(line[1]))
		case line[0].Text == "secret" || line[0].Text == "secrets":
			b.secret = append(b.secret, at(line[0]))
		}
	}
	for _, line := range statements(p.Tokens["bind"]) {
		for _, t := range line[1:] {
			b.binds = append(b.binds, at(t))
		}
	}
	return b
}

// statements are the lines of a directive without its braces, each with at least one word.
func statements(tokens []caddyfile.Token) [][]caddyfile.Token {
	var lines [][]caddyfile.Token
	for i, t := range tokens {
		if i == 0 || t.Line != tokens[i-1].Line || t.File != tokens[i-1].File || tokens[i-1].Text == "{" {
			lines = append(lines, nil)
		}
		if t.Text != "{" && t.Text != "}" {
			lines[len(lines)-1] = append(lines[len(lines)-1], t)
		}
	}
	return slices.DeleteFunc(lines, func(l []caddyfile.Token) bool { return len(l) == 0 })
}

// zonesOf are the zones that a key of a server block names, as dns://imaging.example.org:53 or 192.0.2.0/24, its port, and the subnet if it
// is one.
func zonesOf(key string) (zones []string, port string, subnet netip.Prefix) {
	if _, rest, found := strings.Cut(key, "://"); found {
		key = rest
	}
	port = "53"
	if host, p, found := strings.Cut(key, ":"); found && strings.Count(key, ":") == 1 {
		key, port = host, p
	}
	if prefix, err := netip.ParsePrefix(key); err == nil {
		return site.ReverseZone(prefix.Masked()), port, prefix
	}
	return []string{dns.CanonicalName(key)}, port, netip.Prefix{}
}

// check compares with the site, and with where ddns sends its updates if that is known; else u is nil.
func (c *dnsConfig) check(f *findings, s *site.Site, u *updates) {
	var zones []string
	for _, w := range c.unset {
		f.warnf(w, "the environment variable %s is not set here, and taken to be empty", w.text)
	}
	for i := range c.blocks {
		b := &c.blocks[i]
		for _, w := range b.others {
			if w.text == "dicom" || slices.Contains(properties, w.text) {
				f.errorf(w, "dicom: %s stands twice", w.text)
			} else {
				f.errorf(w, "dicom: unknown property %q, expected one of %s", w.text, strings.Join(properties, ", "))
			}
		}
		for _, w := range b.odd {
			f.errorf(w, "dicom: invalid zone %q: expected a domain name, or a subnet such as 192.0.2.0/24, with blanks between several", w.text)
		}
		for _, w := range b.small {
			n := netip.MustParsePrefix(w.text)
			f.errorf(w, "dicom: reverse zones are of /8, /16 or /24: found %s, expected %s, without which coredns does not start", n, netip.PrefixFrom(n.Addr(), 24).Masked())
		}
		for _, w := range b.lost {
			f.errorf(w, "%q is a property of dicom: expected it in braces behind that, as in \"dicom {\"", w.text)
		}
		for _, w := range b.secret {
			f.errorf(w, "tsig: expected \"secrets FILE\", or \"secret NAME SECRET\" for a key that stands in the Corefile")
		}
		for _, w := range b.files {
			if _, err := tsigkey.Load(w.text); err != nil {
				f.errorf(w, "tsig: %v", err)
			}
		}
		if b.site == nil {
			continue
		}
		zones = append(zones, b.zones...)
		if !sameFile(b.site.text, s.File) {
			f.warnf(*b.site, "dicom reads the site file %s, which is not the one that is checked, %s", b.site.text, s.File)
		}
	}
	if len(c.blocks) == 0 {
		f.errorf(c.file, "there is no dicom directive: nothing of the site file is published")
		return
	}
	if zones == nil {
		f.errorf(c.blocks[0].at, "dicom has no site file: nothing of it is published")
		return
	}
	for i := range c.blocks {
		c.blocks[i].checkNameServers(f, s)
	}
	for _, p := range s.OutsideZones(append(zones, c.elsewhere(f, s, zones, u)...)) {
		f.errorf(word{"", p.File, p.Line}, "%s (%s)", p.Message, c.file.text)
	}
	c.checkParts(f, s, zones)
}

// elsewhere are the reverse zones of the site that coredns does not have, and need not: since nothing is to be in them, or another server
// has them. It warns of the pointers that nobody but a person makes there.
func (c *dnsConfig) elsewhere(f *findings, s *site.Site, zones []string, u *updates) []string {
	var list []string
	for i := range s.Networks {
		n := &s.Networks[i]
		none := n.DDNS.Mode == site.DDNSOff || n.DDNS.Reverse == site.DDNSNone
		var missing []string
		for _, z := range site.ReverseZone(n.Prefix) {
			held := slices.ContainsFunc(zones, func(have string) bool { return dns.IsSubDomain(have, z) || dns.IsSubDomain(z, have) })
			if !held && (none || u != nil && !u.together(s.Domain, z)) {
				missing = append(missing, strings.TrimSuffix(z, "."))
			}
		}
		if missing == nil {
			continue
		}
		list = append(list, missing...)
		static := slices.IndexFunc(s.Devices, func(d site.Device) bool {
			return !d.DHCP && slices.ContainsFunc(d.Addresses, n.Prefix.Contains)
		})
		if static >= 0 {
			f.warnf(word{"", s.File, n.Line}, "network %q: coredns does not have the zone %s (%s): pointers of devices that do not speak DHCP, such as %q, are not published",
				n.Name, missing[0], c.file.text, s.Devices[static].Name)
		}
	}
	return list
}

// checkParts tells of a subnet longer than /24 that coredns answers for the rest of that /24 too. Nobody else can be asked for those
// pointers then (RFC 1035 section 3.5), which matters where that rest is somebody else's.
func (c *dnsConfig) checkParts(f *findings, s *site.Site, zones []string) {
	told := map[netip.Prefix]bool{}
	for i := range s.Networks {
		n := &s.Networks[i]
		if !n.Prefix.IsValid() || n.Prefix.Bits() <= 24 {
			continue
		}
		whole := netip.PrefixFrom(n.Prefix.Addr(), 24).Masked()
		z := site.ReverseZone(whole)[0]
		if told[whole] || !slices.ContainsFunc(zones, func(have string) bool { return dns.IsSubDomain(have, z) }) {
			continue
		}
		told[whole] = true
		for a := whole.Addr(); whole.Contains(a); a = a.Next() {
			if s.NetworkOf(a) == nil {
				f.warnf(word{"", s.File, n.Line}, "network %q: reverse zones are of /8, /16 or /24, so coredns answers for all of %s (%s): that %s, which is in no network of this file, has no name",
					n.Name, whole, c.file.text, a)
				break
			}
		}
	}
}

// checkNameServers says whether the name servers of the site are where the block of its domain listens.
func (b *dnsBlock) checkNameServers(f *findings, s *site.Site) {
	var bound []netip.Addr
	for _, w := range b.binds {
		a, err := netip.ParseAddr(w.text)
		if err != nil || a.IsUnspecified() {
			return // an interface's name tells no address
		}
		bound = append(bound, a)
	}
	known := false
	for _, n := range s.NameServers {
		known = known || n.Address.IsValid()
		if slices.Contains(bound, n.Address) {
			return
		}
	}
	if len(bound) > 0 && known && slices.Contains(b.zones, s.Domain) {
		f.warnf(b.binds[0], "coredns is bound to %s, which is the address of none of the site's name-servers", bound[0])
	}
}

// holding are the blocks with the zone that a name is in.
func (c *dnsConfig) holding(name string) []*dnsBlock {
	var list []*dnsBlock
	for i := range c.blocks {
		if slices.ContainsFunc(c.blocks[i].zones, func(z string) bool { return dns.IsSubDomain(z, name) }) {
			list = append(list, &c.blocks[i])
		}
	}
	return list
}

// checkUpdates compares where ddns sends its updates, and how it signs them, with what coredns takes.
func checkUpdates(f *findings, s *site.Site, dhcp *dhcpConfig, c *dnsConfig) {
	if p, _ := dhcp.plugin("ddns"); p == nil {
		f.warnf(dhcp.file, "there is no ddns plugin: coredns is not told of leases")
		return
	}
	if leases, _ := dhcp.plugin("leases"); leases != nil {
		for i := range c.blocks {
			if store := c.blocks[i].store; store != nil && leases.arg("database") != "" && sameFile(store.text, leases.arg("database")) {
				f.errorf(*store, "dicom: the database %s is that of leases (%s:%d); each needs its own", store.text, leases.at().file, leases.at().line)
			}
		}
	}
	var ignored findings // told already
	u := dhcp.updates(&ignored)
	if u == nil {
		return
	}
	forward, reverse := []string{"A", "DHCID"}, []string{"PTR", "DHCID"}
	names := map[string][]string{}
	for i := range s.Networks {
		n := &s.Networks[i]
		if n.DDNS.Mode == site.DDNSOff {
			continue
		}
		if n.DDNS.Forward != site.DDNSNone {
			names[s.Domain] = forward
		}
		for _, z := range site.ReverseZone(n.Prefix) {
			if n.DDNS.Reverse != site.DDNSNone {
				names[z] = reverse
			}
		}
	}
	type question struct {
		b            *dnsBlock
		servers, key string
	}
	asked := map[question]bool{}
	for _, name := range sortedKeys(names) {
		key, servers := u.Key(name), u.Servers(name)
		for _, b := range c.holding(name) {
			q := question{b, strings.Join(servers, ","), key}
			if !asked[q] {
				asked[q] = true
				b.checkListens(f, u.at, servers)
				b.checkKey(f, u, key)
			}
			if key == "" {
				f.errorf(u.at, "ddns: no key= is for %s", strings.TrimSuffix(name, "."))
				continue
			}
			b.checkAllows(f, u.at, key, name, names[name])
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// checkListens compares where ddns sends updates, if that is configured, with where the block listens. Of several servers one is enough.
func (b *dnsBlock) checkListens(f *findings, at word, servers []string) {
	if len(servers) == 0 || slices.ContainsFunc(servers, func(s string) bool { return b.elsewhere(s) == "" }) {
		return
	}
	f.errorf(at, "ddns: server=%s: %s", strings.Join(servers, ","), b.elsewhere(servers[0]))
}

// elsewhere says why a server, as HOST:PORT, is not this block; "" if it may be.
func (b *dnsBlock) elsewhere(server string) string {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return err.Error()
	}
	if !slices.Contains(b.ports, port) {
		return fmt.Sprintf("coredns listens on port %s for %s (%s:%d)", b.ports[0], strings.TrimSuffix(b.zones[0], "."), b.at.file, b.at.line)
	}
	a, err := netip.ParseAddr(host)
	if err != nil || len(b.binds) == 0 {
		return "" // the addresses of a name are not known here
	}
	for _, w := range b.binds {
		if other, err := netip.ParseAddr(w.text); err != nil || other == a || other.IsUnspecified() {
			return "" // an interface's name tells no address
		}
	}
	return fmt.Sprintf("coredns is bound to %s there (%s:%d)", b.binds[0].text, b.binds[0].file, b.binds[0].line)
}

// checkKey compares the key of ddns with those of tsig.
func (b *dnsBlock) checkKey(f *findings, u *updates, named string) {
	if !b.tsig {
		f.errorf(b.at, "dicom has no tsig in its server block: every update is refused")
		return
	}
	i := slices.IndexFunc(u.keys, func(k tsigkey.Key) bool { return dns.CanonicalName(k.Name) == dns.CanonicalName(named) })
	if i < 0 {
		return // it was told why
	}
	key := &u.keys[i]
	name := strings.TrimSuffix(dns.CanonicalName(key.Name), ".")
	for _, w := range b.keys {
		if dns.CanonicalName(w.text) == dns.CanonicalName(key.Name) {
			return // its secret stands in the Corefile, and is not compared
		}
	}
	for _, w := range b.files {
		keys, err := tsigkey.Load(w.text)
		if err != nil {
			return // it was told why
		}
		other, err := tsigkey.Find(keys, key.Name)
		if err != nil {
			continue
		}
		switch {
		case other.Secret() != key.Secret():
			f.errorf(w, "tsig: the key %s of %s has another secret in %s, with which ddns signs (%s:%d)", name, w.text, u.Keys, u.at.file, u.at.line)
		case other.Algorithm != key.Algorithm:
			f.warnf(w, "tsig: the key %s is of algorithm %s in %s, and of %s in %s", name, other.Algorithm, w.text, key.Algorithm, u.Keys)
		}
		return
	}
	at := b.at
	if len(b.files) > 0 {
		at = b.files[0]
	}
	f.errorf(at, "tsig does not have the key %s, with which ddns signs (%s:%d)", name, u.at.file, u.at.line)
}

// checkAllows says whether rules let the key of ddns change records of the types at names below a domain, or in a zone.
func (b *dnsBlock) checkAllows(f *findings, at word, key, domain string, types []string) {
	key = dns.CanonicalName(key)
	var missing []string
	for _, t := range types {
		allowed := slices.ContainsFunc(b.allows, func(a allow) bool {
			covers := a.name == "*" || strings.HasPrefix(a.name, ".") && dns.IsSubDomain(dns.CanonicalName(a.name[1:]), domain)
			return a.key == key && covers && (slices.Contains(a.types, "*") || slices.Contains(a.types, t))
		})
		if !allowed {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return
	}
	message := fmt.Sprintf("dicom: no allow lets the key %s change %s at all names below %s, as ddns does (%s:%d)",
		strings.TrimSuffix(key, "."), strings.Join(missing, " and "), strings.TrimSuffix(domain, "."), at.file, at.line)
	some := func(a allow) bool {
		name := dns.CanonicalName(strings.TrimPrefix(a.name, "."))
		return a.key == key && a.name != "*" && a.name != "@" && a.name != "self" && dns.IsSubDomain(domain, name)
	}
	if slices.ContainsFunc(b.allows, some) {
		f.warnf(b.at, "%s; there are allows for some of them", message)
		return
	}
	f.errorf(b.at, "%s", message)
}
