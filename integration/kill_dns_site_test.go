//go:build linux

package integration

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/plugin/pkg/dnssd"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// dnsDevices of the names of each dnsClient are hosts of devices: the site file says at which address their services are
// published.
const dnsDevices = 6

// killFixed are hosts whose address, which tells the version of the site file, is the site's.
const killFixed = 5

// deviceAddress is one of the two addresses that a device has, by turns, in the versions of the site file.
func deviceAddress(client, n, which int) netip.Addr {
	return netip.AddrFrom4([...][4]byte{{192, 0, 2, byte(10 + client*dnsDevices + n)}, {198, 51, 100, byte(10 + client*dnsDevices + n)}}[which])
}

// deviceIn tells whether a version of the site file has a device, and with which of its addresses.
func deviceIn(version, client, n int) (which int, there bool) {
	return (version + n) / 3 % 2, (version+n+client)%5 != 0
}

// killSite is a site file in versions. Each differs from the one before it: its number is in the ports of all services and
// in the addresses of the fixed hosts.
type killSite struct {
	t       *testing.T
	path    string
	version int
	made    map[int]*dnssd.Publication
}

func newKillSite(t *testing.T, dir string) *killSite {
	t.Helper()
	k := &killSite{t: t, path: filepath.Join(dir, "site.yaml"), made: make(map[int]*dnssd.Publication)}
	k.write()
	return k
}

// write puts the present version where the server finds it, as a whole.
func (k *killSite) write() {
	k.t.Helper()
	if err := os.WriteFile(k.path+".new", k.text(k.version), 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Rename(k.path+".new", k.path); err != nil {
		k.t.Fatal(err)
	}
}

// next makes the next version.
func (k *killSite) next() {
	k.t.Helper()
	k.version++
	k.write()
}

func (k *killSite) text(version int) []byte {
	domain := strings.TrimSuffix(killZone, ".")
	b := fmt.Appendf(nil, "domain: %s\nnetworks:\n", domain)
	for name, subnet := range map[string]string{"first": "192.0.2.0/24", "second": "198.51.100.0/24", "fixed": "203.0.113.0/24"} {
		b = fmt.Appendf(b, "  - {name: %s, subnet: %s}\n", name, subnet)
	}
	b = append(b, "devices:\n"...)
	for n := range killFixed {
		b = fmt.Appendf(b, "  - {name: fixed%d, dhcp: false, address: 203.0.113.%d, applications: [{ae-title: FIXED%d, port: %d}]}\n",
			n, 1+(version*killFixed+n)%250, n, 10000+version)
	}
	for c := range dnsClients {
		for n := range dnsDevices {
			if which, there := deviceIn(version, c, n); there {
				b = fmt.Appendf(b, "  - {name: a%d-%d, type: CT, hardware-address: 00:00:5e:00:53:%02x, address: %s, applications: [{ae-title: CT%d_%d, port: %d}]}\n",
					c, n, c*dnsDevices+n, deviceAddress(c, n, which), c, n, 10000+version)
			}
		}
	}
	return b
}

// records are the site's in a version, if the hosts have addresses as z says.
func (k *killSite) records(version int, z zoneText) zoneText {
	k.t.Helper()
	p := k.made[version]
	if p == nil {
		parsed, _, err := site.Parse("site.yaml", k.text(version))
		if err != nil {
			k.t.Fatal(err)
		}
		p = dnssd.Publish(parsed, killZone)
		k.made[version] = p
	}
	addresses := make(map[string]netip.Addr)
	for text := range z {
		if name, address, ok := strings.Cut(text, "\t60\tIN\tA\t"); ok {
			addresses[name] = netip.MustParseAddr(address)
		}
	}
	found := make(zoneText)
	for _, rr := range p.Records(killView(addresses)) {
		if rr.Header().Rrtype != dns.TypeNS { // the seed's
			found[rr.String()] = true
		}
	}
	return found
}

// killView is what a zone says of the site's hosts; nobody registers services in it.
type killView map[string]netip.Addr

func (v killView) HasAddress(h dnssd.Host) bool { return v[h.Name] == h.Address }
func (v killView) Others(string, uint16) bool   { return false }

// rrText is the first string of a TXT record, "" of any other.
func rrText(rr dns.RR) string {
	if txt, ok := rr.(*dns.TXT); ok {
		return txt.Txt[0]
	}
	return ""
}

// check fails unless what z holds of the site is one whole version, with the services of exactly those hosts that have
// their address; and that version is returned.
func (k *killSite) check(serial uint32, z zoneText) (version int) {
	k.t.Helper()
	found := make(zoneText)
	hosts, services := make(map[string]bool), make(map[string]int)
	for text := range z {
		rr, err := dns.NewRR(text)
		if err != nil {
			k.t.Fatal(err)
		}
		label := dns.SplitDomainName(text)[0]
		switch rr := rr.(type) {
		case *dns.SRV:
			services[rr.Target] = int(rr.Port) - 10000
		case *dns.A:
			hosts[rr.Hdr.Name+rr.A.String()] = true
		}
		of, _, pair := strings.Cut(strings.TrimLeft(label, "ab"), "-")
		_, err = strconv.Atoi(of)
		pair = pair && err == nil && !strings.HasPrefix(rrText(rr), "AET=") // but for the site's TXT record of its host
		if name := rr.Header().Name; name == killZone || name == "ns."+killZone || strings.HasPrefix(label, "host") || pair {
			continue
		}
		found[text] = true
	}
	version = services["fixed0."+killZone]
	// By hand, as the rule is: a service, exactly while its host has the address of this version.
	for c := range dnsClients {
		for n := range dnsDevices {
			name := fmt.Sprintf("a%d-%d.%s", c, n, killZone)
			which, there := deviceIn(version, c, n)
			up := there && hosts[name+deviceAddress(c, n, which).String()]
			if v, published := services[name]; published != up || published && v != version {
				k.t.Errorf("serial %d, version %d: %s has its address: %t, its service, of version %d, is there: %t", serial, version, name, up, v, published)
			}
		}
	}
	want := k.records(version, z)
	if !maps.Equal(found, want) {
		for text := range found {
			if !want[text] {
				k.t.Errorf("serial %d, version %d of the site: %s is there", serial, version, text)
			}
		}
		for text := range want {
			if !found[text] {
				k.t.Errorf("serial %d, version %d of the site: %s is not there", serial, version, text)
			}
		}
	}
	return version
}

// reload makes the running server read the site file now: a new instance takes over from the old one.
func (s *dnsServer) reload() {
	s.t.Helper()
	if err := s.process.Signal(syscall.SIGUSR1); err != nil {
		s.t.Error(err)
	}
}
