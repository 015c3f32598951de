//go:build linux

package integration

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The hospital: a radiology network on the server's wire, a cardiology network
// behind a DHCP relay, and readers at home behind an IPsec gateway.
const (
	hospitalZone     = "Imaging/Hospital"
	radiologyDevices = 36
	cardioDevices    = 18
	homeDevices      = 6
	radiologyGuests  = 110
	cardioGuests     = 60
	homeGuests       = 30
)

// A ward is one of the hospital's networks as a judge knows it: what the site file
// says, written down once more as the octets that have to come of it.
type ward struct {
	name    string
	prefix  netip.Prefix
	lease   uint32
	options map[byte][]byte
}

// A patient is a DHCP client of the hospital.
type patient struct {
	ward    *ward
	mac     net.HardwareAddr // nil: none, but an identifier (hardware type 31)
	id      []byte           // client identifier
	label   string           // host name of a device
	address netip.Addr       // of a device that has one
	options map[byte][]byte  // of the device
	asked   []byte
	pxe     bool
	says    saying
	got     netip.Addr
}

func ip4(addresses ...string) (b []byte) {
	for _, a := range addresses {
		b = append(b, netip.MustParseAddr(a).AsSlice()...)
	}
	return b
}

// everywhere are the options of the site.
var everywhere = map[byte][]byte{6: ip4("192.0.2.2"), 7: ip4("192.0.2.9"), 15: []byte("imaging.example.org"), 42: ip4("192.0.2.3", "192.0.2.4")}

// booting are those of the class of PXE clients.
var booting = map[byte][]byte{43: {6, 1, 8}, 60: []byte("PXEClient"), 66: []byte("192.0.2.6"), 67: []byte("pxelinux.0")}

func wards() (radiology, cardiology, home *ward) {
	radiology = &ward{"radiology", netip.MustParsePrefix("192.0.2.0/24"), 43200, map[byte][]byte{
		1: ip4("255.255.255.0"), 28: ip4("192.0.2.255"), 3: ip4("192.0.2.1"), 33: ip4("198.51.100.9", "192.0.2.1"), 26: {0x05, 0xdc},
	}}
	routes := slices.Concat([]byte{24, 192, 0, 2}, ip4("198.51.100.1"), []byte{0}, ip4("198.51.100.1"))
	cardiology = &ward{"cardiology", netip.MustParsePrefix("198.51.100.0/24"), 28800, map[byte][]byte{
		1: ip4("255.255.255.0"), 28: ip4("198.51.100.255"), 3: ip4("198.51.100.1"), 26: {0x05, 0x78}, 46: {8}, 121: routes, 249: routes,
		119: []byte("\x0acardiology\x07imaging\x07example\x03org\x00\xc0\x0b"), 252: []byte("http://192.0.2.2/wpad.dat"),
	}}
	home = &ward{"home", netip.MustParsePrefix("203.0.113.0/25"), 3600, map[byte][]byte{
		1: ip4("255.255.255.128"), 28: ip4("203.0.113.127"), 3: ip4("203.0.113.1"), 26: {0x05, 0x00}, 15: []byte("home.example.org"),
		44: ip4("192.0.2.8"), 116: {0}, 224: {0, 0, 0x0e, 0x10},
	}}
	return radiology, cardiology, home
}

// asking are the lists of options that kinds of machines ask for.
var asking = [][]byte{
	{1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42},          // dhclient
	{1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252},   // Windows
	{3, 1, 2, 100, 101, 42, 33, 7, 26, 108, 116, 224},           // an embedded system, with the router before the mask
	{1, 2, 3, 6, 12, 15, 42, 43, 60, 66, 67, 97, 128, 129, 150}, // boot code
	{1, 3, 6, 12, 15, 26, 33, 42, 119, 121},                     // systemd-networkd
}

// hospital makes up its clients, devices first, and its site file.
func hospital() (patients []*patient, site string) {
	radiology, cardiology, home := wards()
	var devices strings.Builder
	n := 0
	add := func(w *ward, count int, label string, first string) {
		address := netip.Addr{}
		if first != "" {
			address = netip.MustParseAddr(first)
		}
		for i := range count {
			p := &patient{ward: w, asked: asking[n%len(asking)], pxe: n%len(asking) == 3}
			if forms := sayings[n%len(asking)]; len(forms) > 0 {
				p.says = forms[n/len(asking)%len(forms)].numbered(n)
			}
			n++
			if w == home {
				p.id = fmt.Appendf(nil, "\x00reader-%s%d", label, i)
			} else {
				p.mac = net.HardwareAddr{0, 0, 0x5e, 0, 0x53, byte(n)}
			}
			patients = append(patients, p)
			if label == "" {
				continue
			}
			p.label = fmt.Sprintf("%s%d", label, i)
			fmt.Fprintf(&devices, "  - {name: %s", p.label)
			if p.mac != nil {
				fmt.Fprintf(&devices, ", hardware-address: %q", p.mac)
			} else {
				fmt.Fprintf(&devices, ", client-identifier: \"%s\"", strings.ReplaceAll(fmt.Sprintf("% x", p.id), " ", ":"))
			}
			if i%6 != 5 { // some have an address of the pool
				p.address = address
				fmt.Fprintf(&devices, ", address: %s", address)
			}
			address = address.Next()
			if i%5 == 4 {
				p.options = map[byte][]byte{26: {0x23, 0x28}, 7: ip4("192.0.2.10")}
				devices.WriteString(", options: {interface-mtu: 9000, log-servers: 192.0.2.10}")
			}
			devices.WriteString("}\n")
		}
	}
	add(radiology, radiologyDevices, "ct", "192.0.2.11")
	add(cardiology, cardioDevices, "xa", "198.51.100.11")
	add(home, homeDevices, "reader", "203.0.113.101")
	add(radiology, radiologyGuests, "", "")
	add(cardiology, cardioGuests, "", "")
	add(home, homeGuests, "", "")
	return patients, `domain: imaging.example.org
options:
  domain-name-servers: 192.0.2.2
  log-servers: 192.0.2.9
  ntp-servers: [192.0.2.3, 192.0.2.4]
  time-zone: ` + hospitalZone + `
classes:
  - {name: home, htype: 31, options: {netbios-name-servers: 192.0.2.8, option-224: {type: uint32, value: 3600}}}
  - name: boot
    vendor-class: PXEClient
    options: {vendor-encapsulated-options: 6 uint8 8, vendor-class-identifier: PXEClient, tftp-server-name: 192.0.2.6, boot-file-name: pxelinux.0}
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    interface: eth0
    pools: [192.0.2.100-192.0.2.249]
    probe: arp
    min-lease-time: 10s
    options: {routers: 192.0.2.1, static-routes: 198.51.100.9 via 192.0.2.1, interface-mtu: 1500}
  - name: cardiology
    subnet: 198.51.100.0/24
    pools: [198.51.100.100-198.51.100.249]
    lease-time: 8h
    min-lease-time: 10s
    ddns: {mode: off}
    options:
      routers: 198.51.100.1
      classless-static-route: 192.0.2.0/24 via 198.51.100.1
      domain-search: [cardiology.imaging.example.org, imaging.example.org]
      interface-mtu: 1400
      netbios-node-type: 8
      option-252: {type: text, value: "http://192.0.2.2/wpad.dat"}
  - name: home
    subnet: 203.0.113.0/25
    pools: [{range: 203.0.113.10-203.0.113.100, class: home}]
    lease-time: 1h
    ddns: {forward: none}
    options: {routers: 203.0.113.1, interface-mtu: 1280, domain-name: home.example.org, auto-config: false}
devices:
` + devices.String()
}

// wanted are the options that the answer to a request has, without those of every
// answer (53, 54, 51), in the order in which they have to stand. The client's address
// is your.
func (p *patient) wanted(asked []byte, offset time.Duration, rule string, your netip.Addr) (codes []byte, values map[byte][]byte) {
	levels := []map[byte][]byte{everywhere, {
		2: binary.BigEndian.AppendUint32(nil, uint32(offset/time.Second)), 100: []byte(rule), 101: []byte(hospitalZone),
	}}
	if p.pxe {
		levels = append(levels, booting, map[byte][]byte{97: p.uuid()})
	}
	levels = append(levels, p.ward.options, p.options)
	label, fqdn := p.told(your)
	levels = append(levels, map[byte][]byte{12: []byte(label)})
	values = map[byte][]byte{}
	for _, code := range asked {
		for _, level := range levels {
			if v, ok := level[code]; ok {
				values[code] = v
			}
		}
	}
	if _, ok := values[121]; ok {
		delete(values, 3)
		delete(values, 33)
	}
	if p.mac == nil { // it sent both
		values[61], values[116], values[82] = p.id, p.ward.options[116], tunnel
	}
	if fqdn != nil {
		values[81] = fqdn
	}
	for _, code := range asked {
		if code == 3 {
			codes = append(codes, 1)
		}
		codes = append(codes, code)
	}
	codes = append(codes, 61, 81, 116, 82)
	seen := map[byte]bool{}
	codes = slices.DeleteFunc(codes, func(code byte) bool {
		_, ok := values[code]
		defer func() { seen[code] = true }()
		return !ok || seen[code]
	})
	return codes, values
}
