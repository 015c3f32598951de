package inventory

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// anyDomain stands for the domain where nobody told it.
const anyDomain = "site.invalid"

// Site returns a site file with the sheet's devices, and what its networks may be as a comment, since no sheet has them; where domain is ""
// it is only the part below "devices:". It is such
// that site.Parse finds no error in the file. The warnings come beside it; the error is of type Errors.
func (s *Sheet) Site(domain string) ([]byte, []Problem, error) {
	head := "domain: " + domain + "\n\n" + s.networks()
	if domain == "" {
		head = "domain: " + anyDomain + "\n\n"
	}
	s.warnings = nil
	s.hostnames()
	s.unrecognised(nil)
	body, w := s.render(strings.Count(head, "\n")+2, "  ")
	body = "devices:\n" + body
	_, found := s.judge("", []byte(head+body), w)
	if err := s.judged(found); err != nil {
		return nil, s.sorted(s.warnings), err
	}
	if domain == "" {
		return []byte(body), s.sorted(s.warnings), nil
	}
	return []byte(head + body), s.sorted(s.warnings), nil
}

// networks is a comment that names a /24 for the addresses of the devices, to be corrected by hand.
func (s *Sheet) networks() string {
	var subnets []netip.Prefix
	for _, d := range s.devices {
		for _, v := range d.fields["address"].values {
			a, err := netip.ParseAddr(v)
			if p := netip.PrefixFrom(a, 24).Masked(); err == nil && a.Is4() && !slices.Contains(subnets, p) {
				subnets = append(subnets, p)
			}
		}
	}
	if len(subnets) == 0 {
		subnets = append(subnets, netip.MustParsePrefix("192.0.2.0/24"))
	}
	slices.SortFunc(subnets, netip.Prefix.Compare)
	var b strings.Builder
	b.WriteString("# The networks do not stand in the spreadsheet, and without them coredhcp gives no address.\n" +
		"# These are guessed. Correct them, add pools and options, and take the \"# \" away.\n#\n# networks:\n")
	for _, p := range subnets {
		first := p.Addr().Next()
		fmt.Fprintf(&b, "#   - {name: net-%s, subnet: %s, options: {routers: [%s]}}\n", strings.ReplaceAll(p.Addr().String(), ".", "-"), p, first)
	}
	return b.String() + "\n"
}

// unrecognised warns of devices that have an address and nothing that tells them from others but their host name: mostly it is typed in
// at the device.
func (s *Sheet) unrecognised(leaveOut []*device) {
	var at place
	count := 0
	for _, d := range s.devices {
		known := slices.ContainsFunc([]string{"dhcp", "hardware-address", "client-identifier", "circuit-id", "remote-id"}, func(c string) bool {
			_, found := d.fields[c]
			return found
		})
		address, found := d.fields["address"]
		if known || !found || slices.Contains(leaveOut, d) {
			continue
		}
		if count++; count == 1 {
			at = address.at
		}
	}
	if count > 0 {
		s.warn(at, "without a hardware address the device gets this one only if it asks by DHCP with its host name; "+
			"if it is typed in at the device, add a column \"DHCP\" with \"no\" (%d such devices)", count)
	}
}

// render writes the devices, as lines that begin at the given one.
func (s *Sheet) render(line int, dash string, leaveOut ...*device) (string, *yamlWriter) {
	w := newYAMLWriter(line, dash)
	for _, d := range s.devices {
		if !slices.Contains(leaveOut, d) {
			w.device(d)
		}
	}
	return w.b.String(), w
}

// judge has package site judge the text of a site file, of which w wrote some lines.
func (s *Sheet) judge(file string, text []byte, w *yamlWriter) (*site.Site, []Problem) {
	parsed, warnings, err := site.Parse(file, text)
	told := func(p site.Problem) Problem {
		return s.problem(w.where(p.Line, p.Column), "%s", []any{w.message(p.Message, file)})
	}
	for _, p := range warnings {
		if at := w.where(p.Line, p.Column); at.row > 0 {
			s.warnings = append(s.warnings, told(p))
		}
	}
	var list []Problem
	if wrong, ok := errors.AsType[site.Errors](err); ok { // there are no others
		for _, p := range wrong {
			list = append(list, told(p))
		}
	}
	return parsed, list
}

// hostnames gives devices a host name whose name is none, and says so: people name devices "CT 1 (A&E)".
func (s *Sheet) hostnames() {
	for _, d := range s.devices {
		host, ok := d.fields["hostname"]
		if ok {
			if strings.EqualFold(host.values[0], d.name) {
				delete(d.fields, "hostname")
			}
			continue
		}
		made := hostLabel(d.name)
		if made == "" || strings.EqualFold(made, d.name) {
			continue
		}
		d.fields["hostname"] = field{[]string{made}, d.fields["name"].at}
		s.warn(d.fields["name"].at, "%s is no host name; the device is called %s in DNS", quote(d.name), made)
	}
}

var spelled = strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "à", "a", "á", "a", "â", "a", "ç", "c", "è", "e", "é", "e", "ê", "e",
	"ë", "e", "í", "i", "î", "i", "ï", "i", "ñ", "n", "ó", "o", "ô", "o", "ú", "u", "û", "u", "ù", "u", "å", "a", "æ", "ae", "ø", "oe")

// hostLabel makes a host name of one label of a device's name: letters, digits and hyphens.
func hostLabel(name string) string {
	name = spelled.Replace(strings.ToLower(name))
	parts := strings.FieldsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	label := strings.Join(parts, "-")
	return strings.Trim(label[:min(len(label), 63)], "-")
}

// Merge is what Into did.
type Merge struct {
	Added, Unchanged int // devices
}

// Into returns the site file with the sheet's devices added behind those that it has; every line that is there stays as it is. A device
// that is there already must be what the sheet says of it, as far as it says anything: differences are errors and nothing is merged, since
// only an administrator can tell which side is right. The error is of type Errors where the sheet is wrong, and site.Errors where the file
// was wrong before.
func (s *Sheet) Into(file string, text []byte) ([]byte, Merge, []Problem, error) {
	before, _, err := site.Parse(file, text)
	if err != nil {
		return nil, Merge{}, nil, err
	}
	s.warnings = nil
	s.hostnames()
	alone := "domain: " + strings.TrimSuffix(before.Domain, ".") + "\ndevices:\n"
	body, w := s.render(3, "  ")
	sheet, found := s.judge("", []byte(alone+body), w)
	if err := s.judged(found); err != nil {
		return nil, Merge{}, s.sorted(s.warnings), err
	}
	there, found := s.compare(before, sheet)
	if err := s.judged(found); err != nil {
		return nil, Merge{}, s.sorted(s.warnings), err
	}
	m := Merge{Added: len(s.devices) - len(there), Unchanged: len(there)}
	if m.Added == 0 {
		return text, m, s.sorted(s.warnings), nil
	}
	at, err := insertion(file, text)
	if err != nil {
		return nil, Merge{}, nil, err
	}
	s.warnings = nil
	s.unrecognised(there)
	body, w = s.render(at.line+strings.Count(at.head, "\n"), at.dash, there...)
	body = at.head + body + at.tail
	if at.crlf {
		body = strings.ReplaceAll(body, "\n", "\r\n")
	}
	merged := slices.Concat(text[:at.offset], []byte(body), text[at.offset:])
	_, found = s.judge(file, merged, w)
	if err := s.judged(found); err != nil {
		return nil, Merge{}, s.sorted(s.warnings), err
	}
	return merged, m, s.sorted(s.warnings), nil
}

// compare returns the devices that both have, and what the sheet says otherwise than the site of them.
func (s *Sheet) compare(before, sheet *site.Site) (there []*device, found []Problem) {
	fail := func(at place, format string, args ...any) { found = append(found, s.problem(at, format, args)) }
	for i, d := range s.devices {
		old := before.DeviceByName(d.name)
		if old == nil {
			continue
		}
		there = append(there, d)
		was, is := deviceCells(before, old), deviceCells(sheet, &sheet.Devices[i])
		for j, column := range columns {
			f, told := d.fields[column]
			if ofApplication(column) || !told || column == "hostname" && f.at == d.fields["name"].at || was[j] == is[j] {
				continue
			}
			if column == "publish" && f.values[0] == old.Publish.String() {
				continue
			}
			fail(f.at, "%s: %s has %s at the device %s in line %d, the sheet has %s", column, before.File, orNothing(was[j]), quote(d.name), old.Line, orNothing(is[j]))
		}
		for j, a := range sheet.Devices[i].Applications {
			cells := applicationCells(&a)
			if !slices.ContainsFunc(old.Applications, func(o site.Application) bool { return slices.Equal(applicationCells(&o), cells) }) {
				fail(d.apps[j].place, "%s has no application %s with port %d (%s) at the device %s in line %d; add it there, or make the sheet like it",
					before.File, quote(a.InstanceName(old)), a.Port, a.Protocol, quote(d.name), old.Line)
			}
		}
	}
	return there, found
}

func orNothing(v string) string {
	if v == "" {
		return "nothing"
	}
	return quote(v)
}

// insert is where devices are added to a site file.
type insert struct {
	offset     int    // octets before it
	line       int    // its number
	dash       string // what devices are indented by
	head, tail string // what must stand before and behind them
	crlf       bool
}

// insertion finds the end of the devices of a file that site.Parse accepts.
func insertion(file string, text []byte) (insert, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) != 1 {
		return insert{}, fmt.Errorf("%s: not one YAML document: %w", file, err)
	}
	root := doc.Content[0]
	lines := strings.SplitAfter(string(text), "\n")
	at := insert{dash: "  ", crlf: strings.Contains(string(text), "\r\n")}
	cut := len(lines) // lines before the insertion
	if lines[cut-1] == "" {
		cut--
	}
	refuse := func(n *yaml.Node, why string) (insert, error) {
		return insert{}, fmt.Errorf("%s:%d: %s; write it with a line for each device, as \"devices:\" and below it \"  - name: ct1\"", file, n.Line, why)
	}
	if root.Style&yaml.FlowStyle != 0 {
		return refuse(root, "the whole file is in braces")
	}
	found := false
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != "devices" {
			continue
		}
		found = true
		list := root.Content[i+1]
		if list.Style&yaml.FlowStyle != 0 || len(list.Content) == 0 {
			return refuse(list, "the devices are in brackets, and cannot be added to without changing that")
		}
		at.dash = strings.Repeat(" ", list.Column-1)
		if i+2 < len(root.Content) {
			// What stands directly above the next key belongs to it.
			cut = root.Content[i+2].Line - 1
			for cut > list.Line && (strings.TrimSpace(lines[cut-1]) == "" || lines[cut-1][0] == '#') {
				cut--
			}
		}
	}
	for cut > 0 && strings.TrimSpace(lines[cut-1]) == "" {
		cut--
	}
	if !found {
		at.head = "\ndevices:\n"
	}
	for _, l := range lines[:cut] {
		at.offset += len(l)
	}
	at.line = cut + 1
	if cut > 0 && !strings.HasSuffix(lines[cut-1], "\n") {
		at.head = "\n" + at.head
		at.line--
	}
	return at, nil
}
