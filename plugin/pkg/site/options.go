package site

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

// Codes of the options that this package treats in particular.
const (
	codeSubnetMask = 1
	codeTimeOffset = 2
	codeRouters    = 3
	codeHostName   = 12
	codeDomainName = 15
	codeBroadcast  = 28
	codeNTPServers = 42
	codePCode      = 100 // RFC 4833: the time zone as POSIX writes it
	codeTCode      = 101 // RFC 4833: its name in the tz database

	codeClasslessRoutes = 121
)

// codesOfTime are what a time zone gives.
var codesOfTime = []dhcpopt.Code{codeTimeOffset, codePCode, codeTCode}

// maxValues bounds the list of one option; no message has room for more.
const maxValues = 1024

// keyTimeZone is the one key of options that is no option.
const keyTimeZone = "time-zone"

// ownKeyOf says, for options that the file does not set as such, where what they do is configured.
var ownKeyOf = map[dhcpopt.Code]string{
	51: `; use the key "lease-time" of the network`,
	54: "; it is the argument of the plugin server_id in config.yml",
	61: `; a device is recognised by its key "client-identifier"`,
	77: `; clients are told apart by "classes"`,
	81: `; a device's name is its key "hostname"`,
	82: `; clients are told apart by "classes", and devices by "circuit-id" and "remote-id"`,
}

// options reads the key "options" of f, which is a device or is not.
func (p *parser) options(f *strictyaml.Fields, device bool) Options {
	n := f.Get("options")
	if n == nil {
		return Options{}
	}
	if n.Kind != yaml.MappingNode {
		p.Expected(n, "options", "a mapping such as {routers: [192.0.2.1]}")
		return Options{}
	}
	o := Options{Values: make(dhcpopt.Set, len(n.Content)/2)}
	keys := make(map[dhcpopt.Code]*yaml.Node, len(n.Content)/2)
	var zone *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Value == keyTimeZone && key.Kind == yaml.ScalarNode {
			if zone != nil {
				p.Errorf(key, "the key %q stands twice; the first is in line %d", keyTimeZone, zone.Line)
				continue
			}
			zone = key
			p.timeZone(value, &o)
			continue
		}
		option, value, ok := p.optionOf(key, value)
		if !ok {
			continue
		}
		if first := keys[option.Code]; first != nil {
			p.Errorf(key, "%s stands twice; the first is in line %d, as %s", optionText(option), first.Line, strictyaml.Quote(first.Value))
			continue
		}
		keys[option.Code] = key
		if option.Code == codeHostName && !device {
			p.Errorf(key, "%s would give every client the same name; it is only for a device, whose key \"hostname\" sets it too", optionText(option))
			continue
		}
		p.optionValue(key.Value, value, option, &o)
	}
	if zone != nil {
		for _, code := range codesOfTime {
			if key := keys[code]; key != nil {
				p.Errorf(key, "found both %s and %q (line %d), which gives that option; expected one of them", strictyaml.Quote(key.Value), keyTimeZone, zone.Line)
			}
		}
	}
	return o
}

var typedKeys = []string{"type", "value"}

// optionOf finds the option that key names, and the node of its value: an option that is given by number may bring its type.
func (p *parser) optionOf(key, value *yaml.Node) (option dhcpopt.Option, _ *yaml.Node, ok bool) {
	number, byNumber := strings.CutPrefix(strings.ToLower(key.Value), "option-")
	code, err := strconv.ParseUint(number, 10, 16)
	if key.Kind != yaml.ScalarNode || err != nil || !byNumber && number != key.Value {
		option, ok = dhcpopt.ByName(key.Value)
		if key.Kind != yaml.ScalarNode || !ok {
			p.unknownOption(key)
			return option, nil, false
		}
		return option, value, p.settable(key, option)
	}
	if code > 255 {
		p.Errorf(key, "found option number %d, expected 1 to 254", code)
		return option, nil, false
	}
	option, registered := dhcpopt.ByCode(dhcpopt.Code(code))
	if !registered {
		option = dhcpopt.Option{Code: dhcpopt.Code(code)}
	}
	if !p.settable(key, option) {
		return option, nil, false
	}
	if value.Kind != yaml.MappingNode {
		if !registered {
			p.Errorf(value, "%s: found %s, expected {type: TYPE, value: VALUE}: option %d has no name and no type of its own", key.Value, strictyaml.Describe(value), code)
		}
		return option, value, registered
	}
	return p.typedOption(value, option)
}

// typedOption reads {type: TYPE, value: VALUE}.
func (p *parser) typedOption(n *yaml.Node, option dhcpopt.Option) (dhcpopt.Option, *yaml.Node, bool) {
	f, ok := p.Mapping(n, "an option given by number", typedKeys)
	if !ok {
		return option, nil, false
	}
	f.Require("an option given by number", "type", "value")
	if f.Get("type") == nil || f.Get("value") == nil {
		return option, nil, false
	}
	option.Type, ok = dhcpopt.ParseType(f.Get("type").Value)
	if !ok || f.Get("type").Kind != yaml.ScalarNode {
		p.Expected(f.Get("type"), "type", "one of "+strings.Join(dhcpopt.TypeNames(), ", "))
		return option, nil, false
	}
	return option, f.Get("value"), true
}

func (p *parser) unknownOption(key *yaml.Node) {
	names := append(dhcpopt.Names(), keyTimeZone)
	if near := p.Nearest(key.Value, names); near != "" {
		p.Errorf(key, "unknown option %s; did you mean %q?", strictyaml.Describe(key), near)
		return
	}
	p.Errorf(key, "unknown option %s; expected an option name such as routers, or a number such as option-224", strictyaml.Describe(key))
}

// optionText names an option in messages.
func optionText(o dhcpopt.Option) string {
	if o.Name == "" {
		return o.String()
	}
	return "option " + o.String()
}

func (p *parser) settable(key *yaml.Node, option dhcpopt.Option) bool {
	if !option.Reserved() {
		return true
	}
	p.Errorf(key, "%s belongs to the protocol itself and cannot be set here%s", optionText(option), ownKeyOf[option.Code])
	return false
}

// optionValue encodes the value n of option into o.
func (p *parser) optionValue(key string, n *yaml.Node, option dhcpopt.Option, o *Options) {
	var elements []*yaml.Node
	var values []string
	valid := true
	if n.Kind == yaml.MappingNode {
		p.Errorf(n, "%s: found a mapping, expected a value or a list of values", key)
		return
	}
	p.OneOrList(n, key, "a value", func(element *yaml.Node) {
		if element.Kind != yaml.ScalarNode || strictyaml.Null(element) {
			p.Errorf(element, "%s: found %s, expected a value", key, strictyaml.Describe(element))
			valid = false
			return
		}
		elements = append(elements, element)
		values = append(values, element.Value)
	})
	if !valid || len(values) == 0 {
		return
	}
	if len(values) > maxValues {
		p.Errorf(n, "%s: found a list of %d values, expected at most %d", key, len(values), maxValues)
		return
	}
	if option.Code == codeNTPServers && option.Type == dhcpopt.IPv4Addresses {
		p.timeServers(key, elements, option, o)
		return
	}
	data, err := option.Encode(values)
	if err != nil {
		at := n
		var wrong *dhcpopt.ValueError
		if errors.As(err, &wrong) && wrong.Index >= 0 && wrong.Index < len(elements) {
			at = elements[wrong.Index]
		}
		p.Errorf(at, "%s: %v", key, err)
		return
	}
	o.Values[option.Code] = data
}

// timeServers reads addresses and host names. The option itself holds addresses only.
func (p *parser) timeServers(key string, elements []*yaml.Node, option dhcpopt.Option, o *Options) {
	var addresses []string
	for _, n := range elements {
		v := n.Value
		if _, err := netip.ParseAddr(v); err == nil {
			if a, ok := p.address(n, key); ok {
				addresses = append(addresses, a.String())
				v = a.String()
			}
		} else if name, ok := completeName(v, p.site.Domain); ok && !allDigits(lastLabel(name)) {
			v = name
		} else {
			p.Expected(n, key, "an IPv4 address such as 192.0.2.3, or a host name such as ntp.example.org")
			continue
		}
		if slices.Contains(o.TimeServers, v) {
			p.Errorf(n, "%s: %s stands twice", key, strictyaml.Quote(n.Value))
			continue
		}
		o.TimeServers = append(o.TimeServers, v)
	}
	if addresses == nil {
		return
	}
	if data, err := option.Encode(addresses); err == nil {
		o.Values[codeNTPServers] = data
	}
}

// allDigits reports whether v is a number, as in an address with a mistake in it.
func allDigits(v string) bool {
	return strings.Trim(v, "0123456789") == ""
}
