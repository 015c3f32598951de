package main

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// dicomServices are the service types of PS3.15 H.2, without underscore.
var dicomServices = []string{"dicom", "dicom-tls", "dicom-iscl", "dicomweb", "dicomweb-tls"}

// askedAtOnce bounds the questions that are under way, and the devices that are
// asked for an echo.
const askedAtOnce = 16

// maxFailed bounds the names of which a name server tells nothing but errors. It
// is beyond what a few devices that registered nonsense make; then it is the
// server's.
const maxFailed = 64

// found is one way to a DICOM application that was found: an address and a port.
type found struct {
	Name     string     `json:"name"` // of the instance; "" in the older form, which has none
	AETitle  string     `json:"ae_title"`
	Host     string     `json:"host"`
	Address  netip.Addr `json:"address"`
	Port     uint16     `json:"port"`
	Types    []string   `json:"types"` // Primary Device Types
	Service  string     `json:"service"`
	TLS      bool       `json:"tls"`
	Priority uint16     `json:"priority"`
	Weight   uint16     `json:"weight"`
	Path     string     `json:"path,omitempty"` // of DICOMweb
	Echo     *echoed    `json:"echo,omitempty"`
}

// discovery is one browsing of a domain.
type discovery struct {
	*asker
	domain     string // with the trailing dot
	deviceType string // "" is any

	cut []string // names whose lists were cut off

	mu     sync.Mutex // guards what follows
	all    []found
	hosts  map[string]func() ([]netip.Addr, error) // by name, each asked once
	failed []error                                 // names that could not be asked for
}

// tolerate notes that a single name could not be asked for. Whoever may register
// a service can name one in a broken domain, or outside of what the server
// answers for, and that must not hide all the others. It returns an error where
// browsing has no sense any more.
func (d *discovery) tolerate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed = append(d.failed, err); len(d.failed) > maxFailed {
		return err
	}
	return nil
}

// browse finds all services of the types (RFC 6763 section 4), and for a type
// without any by that method, those of the older form: SRV at the service
// itself, TXT at the host.
func (d *discovery) browse(ctx context.Context, services []string) error {
	d.hosts = make(map[string]func() ([]netip.Addr, error))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(askedAtOnce)
	for _, service := range services {
		instances, err := d.instances(ctx, service)
		if err != nil {
			return cmp.Or(g.Wait(), err)
		}
		if len(instances) == 0 {
			if err := d.direct(ctx, g, service); err != nil {
				return cmp.Or(g.Wait(), err)
			}
		}
		for _, i := range instances {
			g.Go(func() error { return d.tolerate(ctx, d.resolve(ctx, service, i)) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	slices.SortFunc(d.all, func(a, b found) int {
		return cmp.Or(
			cmp.Compare(slices.Index(dicomServices, a.Service), slices.Index(dicomServices, b.Service)),
			cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.Priority, b.Priority),
			cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), a.Address.Compare(b.Address), cmp.Compare(a.AETitle, b.AETitle))
	})
	return nil
}

// instance is a service instance that is listed.
type instance struct {
	name    string // as it is written there: the case of an AE title counts
	matches bool   // it is of the wanted device type, which else its TXT record has to say
}

// instances returns the service's instances by their canonical names. Subtypes
// (section 7.1) tell which are of the wanted device type, but who registers
// himself need not have one.
func (d *discovery) instances(ctx context.Context, service string) (map[string]instance, error) {
	name := "_" + service + "._tcp." + d.domain
	lists := []instance{{name, d.deviceType == ""}}
	if d.deviceType != "" {
		lists = append(lists, instance{label("_"+strings.ToLower(d.deviceType)) + "._sub." + name, true})
	}
	instances := make(map[string]instance)
	for _, list := range lists {
		answer, err := d.ask(ctx, list.name, dns.TypePTR)
		if err != nil {
			return nil, err
		}
		if answer.cut {
			d.cut = append(d.cut, list.name)
		}
		for _, ptr := range of[*dns.PTR](answer.records) {
			key := dns.CanonicalName(ptr.Ptr)
			instances[key] = instance{ptr.Ptr, list.matches || instances[key].matches}
		}
	}
	return instances, nil
}

// resolve finds out where an instance is (section 5), and what it says of itself
// (section 6).
func (d *discovery) resolve(ctx context.Context, service string, i instance) error {
	text, err := d.ask(ctx, i.name, dns.TypeTXT)
	if err != nil {
		return err
	}
	f := found{Service: service, Name: firstLabel(i.name)}
	if txts := of[*dns.TXT](text.records); len(txts) > 0 {
		f.describe(txts[0])
	}
	// Without TXT, or without AET there, the name is the title: PS3.15 H.2.
	if f.AETitle == "" && !f.web() {
		f.AETitle = f.Name
	}
	if !i.matches && !f.isOf(d.deviceType) {
		return nil
	}
	srv, err := d.ask(ctx, i.name, dns.TypeSRV)
	if err != nil {
		return err
	}
	for _, r := range of[*dns.SRV](srv.records) {
		if err := d.reach(ctx, f, r); err != nil {
			return err
		}
	}
	return nil
}

// direct finds the services of the older form.
func (d *discovery) direct(ctx context.Context, g *errgroup.Group, service string) error {
	srv, err := d.ask(ctx, "_"+service+"._tcp."+d.domain, dns.TypeSRV)
	if err != nil {
		return err
	}
	for _, r := range of[*dns.SRV](srv.records) {
		g.Go(func() error { return d.tolerate(ctx, d.directly(ctx, service, r)) })
	}
	return nil
}

// directly finds out what r leads to.
func (d *discovery) directly(ctx context.Context, service string, r *dns.SRV) error {
	text, err := d.ask(ctx, r.Target, dns.TypeTXT)
	if err != nil {
		return err
	}
	f := found{Service: service}
	// A host has TXT records for its other services too, and for other ends.
	for _, txt := range of[*dns.TXT](text.records) {
		about := found{Service: service}
		if about.describe(txt); about.AETitle != "" && !f.web() || about.Path != "" && f.web() {
			f = about
			break
		}
	}
	if d.deviceType != "" && !f.isOf(d.deviceType) {
		return nil
	}
	return d.reach(ctx, f, r)
}

// reach adds f for each address of the host that r names, or once without.
func (d *discovery) reach(ctx context.Context, f found, r *dns.SRV) error {
	f.TLS = strings.HasSuffix(f.Service, "-tls")
	f.Host, f.Port, f.Priority, f.Weight = strings.TrimSuffix(dns.CanonicalName(r.Target), "."), r.Port, r.Priority, r.Weight
	if f.Host == "" { // "." says that there is none: RFC 2782
		return nil
	}
	d.mu.Lock()
	addresses := d.hosts[f.Host]
	if addresses == nil {
		addresses = sync.OnceValues(func() ([]netip.Addr, error) {
			all, err := d.addresses(ctx, r.Target)
			return all, d.tolerate(ctx, err)
		})
		d.hosts[f.Host] = addresses
	}
	d.mu.Unlock()
	all, err := addresses()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		all = []netip.Addr{{}} // a service without an address is worth to be seen
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f.Address = range all {
		d.all = append(d.all, f)
	}
	return nil
}

func (f *found) web() bool { return strings.HasPrefix(f.Service, "dicomweb") }

func (f *found) isOf(deviceType string) bool {
	return slices.ContainsFunc(f.Types, func(t string) bool { return strings.EqualFold(t, deviceType) })
}

// describe takes what DICOM defines from a TXT record. Keys are compared without
// case and the first counts (RFC 6763 section 6.4).
func (f *found) describe(txt *dns.TXT) {
	seen := make(map[string]bool)
	for _, s := range txt.Txt {
		key, value, _ := strings.Cut(unescape(s), "=")
		if key = strings.ToLower(key); seen[key] {
			continue
		}
		seen[key] = true
		switch key {
		case "aet":
			f.AETitle = strings.Trim(value, " ")
		case "primarydevicetype":
			f.Types = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '\\' })
		case "dicomwebpath":
			f.Path = value
		}
	}
}

// label writes text as a label, in presentation form.
func label(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c == '.' || c == '\\' || c <= ' ' || c > '~' {
			b.WriteString(`\` + strconv.Itoa(1000 + int(c))[1:])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// firstLabel returns the text of a name's first label.
func firstLabel(name string) string {
	if at, end := dns.NextLabel(name, 0); !end {
		name = name[:at-1]
	}
	return unescape(name)
}

// unescape returns the octets of presentation form (RFC 1035 section 5.1).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}
