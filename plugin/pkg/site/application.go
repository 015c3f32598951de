package site

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

const (
	maxTXT      = 255  // octets of one string (RFC 1035 section 3.3)
	maxAllTXT   = 1300 // octets of all strings with their lengths, that RFC 6763 section 6.2 recommends not to exceed
	mostTXT     = 8000 // octets of all strings that can be published, with those of other keys (RFC 6763 section 6.1: 8,900)
	maxInstance = 63   // octets of an instance name (RFC 6763 section 4.1.1)
)

// InstanceName returns the application's DNS-SD instance name on device d: its friendly name, else its AE title (which PS3.15 H.2
// makes the default), else, for DICOMweb without either, the device's name.
func (a *Application) InstanceName(d *Device) string {
	switch {
	case a.Name != "":
		return a.Name
	case a.AETitle != "":
		return a.AETitle
	}
	return d.Name
}

// titleClaim is who has an AE title.
type titleClaim struct {
	claim
	cluster string
	device  Position
	ports   map[portKey]int // line, by connection
}

// portKey is one connection of an AE.
type portKey struct {
	device   Position
	protocol Protocol
	port     uint16
}

// instanceKey is what tells DNS-SD instances apart.
type instanceKey struct {
	protocol Protocol
	name     string // folded
}

type instanceClaim struct {
	claim
	name, title, cluster string
}

var applicationKeys = []string{"ae-title", "port", "name", "protocol", "path", "priority", "weight", "txt"}

func (p *parser) application(n *yaml.Node, d *Device) {
	f, ok := p.Mapping(n, "an application", applicationKeys)
	if !ok {
		return
	}
	a := Application{
		Position: position(n),
		Protocol: Protocol(f.Choice("protocol", protocolNames, 0)),
		Port:     uint16(f.Number("port", 1, 65535)),
		Priority: uint16(f.Number("priority", 0, 65535)),
		Weight:   uint16(f.Number("weight", 0, 65535)),
		Name:     p.instanceName(f),
		AETitle:  p.aeTitle(f),
		Path:     p.path(f),
	}
	if a.Protocol.Web() {
		f.Require("an application", "port")
	} else {
		f.Require("an application", "ae-title", "port")
	}
	if f.Get("path") != nil && !a.Protocol.Web() {
		p.Errorf(f.Get("path"), "path: only for the protocols dicomweb and dicomweb-tls, not for %s", a.Protocol)
	}
	p.txt(f, &a)
	p.claimTitle(f, &a, d)
	p.claimInstance(f, &a, d)
	d.Applications = append(d.Applications, a)
}

func (p *parser) aeTitle(f *strictyaml.Fields) string {
	n := f.Get("ae-title")
	if n == nil {
		return ""
	}
	const expected = "an AE title: 1 to 16 ASCII characters without backslash, not only spaces"
	v, ok := p.Scalar(n, "ae-title", expected)
	if !ok {
		return ""
	}
	title, ok := aeTitle(v)
	if !ok {
		p.Expected(n, "ae-title", expected)
	}
	return title
}

// instanceName reads a friendly name: UTF-8 without control characters, and bounded in octets, not characters.
func (p *parser) instanceName(f *strictyaml.Fields) string {
	v := f.Text("name", maxInstance)
	if len(v) > maxInstance {
		p.Errorf(f.Get("name"), "name: found %s with %d octets, expected at most %d", strictyaml.Quote(v), len(v), maxInstance)
		return ""
	}
	return v
}

func (p *parser) path(f *strictyaml.Fields) string {
	v := f.Text("path", maxTXT-len("DICOMWebPath="))
	for i := range len(v) {
		if v[i] <= 0x20 || v[i] > 0x7e {
			p.Expected(f.Get("path"), "path", "a path such as /dicom-web, of ASCII characters without spaces")
			return ""
		}
	}
	return v
}

// ownKeys are the TXT keys that other keys of the site file set, in lower case.
var ownKeys = map[string]string{"aet": "ae-title", "primarydevicetype": "type", "dicomwebpath": "path"}

func (p *parser) txt(f *strictyaml.Fields, a *Application) {
	const expected = "a string such as key=value"
	seen := make(map[string]bool)
	total := 0
	f.List("txt", "a list of strings such as key=value", func(n *yaml.Node) {
		v, ok := p.Scalar(n, "txt", expected)
		if !ok {
			return
		}
		key := fold(txtKey(v))
		switch {
		case key == "":
			p.Expected(n, "txt", expected+", whose key is ASCII and not empty")
		case len(v) > maxTXT:
			p.Errorf(n, "txt: found %s with %d octets, expected at most %d", strictyaml.Quote(v), len(v), maxTXT)
		case ownKeys[key] != "":
			p.Errorf(n, "txt: found %s, expected the key %q of the %s for that", strictyaml.Quote(v), ownKeys[key], ownerOf(key))
		case seen[key]:
			p.Errorf(n, "txt: the key %s stands twice", strictyaml.Quote(key))
		default:
			a.TXT = append(a.TXT, v)
		}
		seen[key] = true
		total += len(v) + 1
	})
	switch {
	case total > mostTXT:
		p.Errorf(f.Get("txt"), "txt: the strings take %d octets together, expected at most %d", total, mostTXT)
	case total > maxAllTXT:
		p.warn(f.Get("txt"), "txt: the strings take %d octets together; above %d an answer may not fit into one packet", total, maxAllTXT)
	}
}

func ownerOf(key string) string {
	if key == "primarydevicetype" {
		return "device"
	}
	return "application"
}

// claimTitle holds that an AE title stands at one AE of the site: on one device, where it may be reached by several protocols
// (PS3.15 H.1.1.4: a Network AE has one or more connections), or on the devices of one cluster.
func (p *parser) claimTitle(f *strictyaml.Fields, a *Application, d *Device) {
	if a.AETitle == "" {
		return
	}
	connection := portKey{d.Position, a.Protocol, a.Port}
	first, ok := p.claims.titles[a.AETitle]
	if !ok {
		p.claims.titles[a.AETitle] = titleClaim{
			claim:   claim{d.Name, f.At("ae-title").Line},
			cluster: d.Cluster, device: d.Position, ports: map[portKey]int{connection: f.At("ae-title").Line},
		}
		return
	}
	if line, ok := first.ports[connection]; ok {
		p.Errorf(f.At("ae-title"), "ae-title: %s stands with the same protocol and port in line %d already", strictyaml.Quote(a.AETitle), line)
		return
	}
	sameCluster := d.Cluster != "" && d.Cluster == first.cluster
	if !sameCluster && (first.device != d.Position || sameProtocol(first.ports, connection)) {
		p.Errorf(f.At("ae-title"), "ae-title: %s stands at device %q in line %d already; only devices with the same \"cluster\" may share it",
			strictyaml.Quote(a.AETitle), first.who, first.line)
		return
	}
	first.ports[connection] = f.At("ae-title").Line
}

// sameProtocol reports whether the device of c has another connection with c's protocol.
func sameProtocol(ports map[portKey]int, c portKey) bool {
	for other := range ports {
		if other.device == c.device && other.protocol == c.protocol {
			return true
		}
	}
	return false
}

// claimInstance holds that the DNS-SD names of two AEs differ in more than the case of their letters.
func (p *parser) claimInstance(f *strictyaml.Fields, a *Application, d *Device) {
	name := a.InstanceName(d)
	wrong := a.AETitle == "" && (!a.Protocol.Web() || f.Get("ae-title") != nil)
	if name == "" || wrong {
		return // reported already
	}
	at := f.At("name")
	if f.Get("name") == nil {
		at = f.At("ae-title")
	}
	if len(name) > maxInstance {
		p.Errorf(at, "the device's name %s would be the name of this service and is longer than %d octets; give it the key \"name\"", strictyaml.Quote(name), maxInstance)
		return
	}
	key := instanceKey{a.Protocol, fold(name)}
	first, ok := p.claims.instances[key]
	switch {
	case !ok:
		p.claims.instances[key] = instanceClaim{claim{d.Name, at.Line}, name, a.AETitle, d.Cluster}
	case first.title == a.AETitle && a.AETitle != "":
		// One AE; claimTitle has judged it.
	case first.title == "" && a.AETitle == "" && d.Cluster != "" && d.Cluster == first.cluster && first.name == name:
		// One DICOMweb service of several devices.
	case first.name == name:
		p.Errorf(at, "the %s service %s of device %q in line %d has that name already; give one of them another \"name\"",
			a.Protocol, strictyaml.Quote(name), first.who, first.line)
	default:
		p.Errorf(at, "%s differs only in upper and lower case from %s of device %q in line %d, which DNS does not tell apart; give one of them another \"name\"",
			strictyaml.Quote(name), strictyaml.Quote(first.name), first.who, first.line)
	}
}

var serviceKeys = []string{"name", "protocol", "host", "port", "priority", "weight"}

func (p *parser) service(n *yaml.Node) {
	f, ok := p.Mapping(n, "a service", serviceKeys)
	if !ok {
		return
	}
	f.Require("a service", "name", "protocol", "host", "port")
	s := Service{
		Name:     strings.ToLower(f.Text("name", maxInfo)),
		Host:     p.anyHost(f.Get("host"), "host"),
		Port:     uint16(f.Number("port", 1, 65535)),
		Priority: uint16(f.Number("priority", 0, 65535)),
		Weight:   uint16(f.Number("weight", 0, 65535)),
	}
	if at := f.Choice("protocol", []string{"tcp", "udp"}, -1); at >= 0 {
		s.Protocol = f.Get("protocol").Value
	}
	if s.Name != "" && !serviceName(s.Name) {
		expected := "a service name: 1 to 15 letters, digits and single hyphens"
		if strings.HasPrefix(s.Name, "_") {
			expected += ", without the underscore"
		}
		p.Expected(f.Get("name"), "name", expected)
		s.Name = ""
	}
	if s.Name != "" && s.Host != "" && s.Port != 0 && s.Protocol != "" {
		key := Service{Name: s.Name, Protocol: s.Protocol, Host: s.Host, Port: s.Port}
		if first, ok := p.claims.services[key]; ok {
			p.Errorf(n, "service _%s._%s at %s port %d stands in line %d already", s.Name, s.Protocol, show(s.Host), s.Port, first.line)
			return
		}
		p.claims.services[key] = claim{s.Name, n.Line}
	}
	s.Position = position(n)
	p.site.Services = append(p.site.Services, s)
}
