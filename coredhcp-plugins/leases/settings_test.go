package leases

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// pluginLines are the lines of config.yml for a site file.
func pluginLines(t *testing.T, site string, arguments string) []string {
	return []string{
		"server_id: 192.0.2.2",
		"leases: site=" + writeSite(t, site) + " database=" + filepath.Join(t.TempDir(), "leases") + arguments,
	}
}

func hostName(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptHostName(s)) }

func vendorClass(s string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(s))
}

// information is what a relay or switch says (option 82).
func information(circuit, remote string) dhcpv4.Modifier {
	var v []byte
	for code, s := range map[byte]string{1: circuit, 2: remote} {
		if s != "" {
			v = append(append(v, code, byte(len(s))), s...)
		}
	}
	return dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, v)
}

func within(a netip.Addr, first, last string) bool {
	return !a.Less(addr(first)) && !addr(last).Less(a)
}

// TestPools gives each client an address of a pool that is for it.
func TestPools(t *testing.T) {
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
classes:
  - {name: bootloader, user-class: iPXE}
  - {name: phone, vendor-class: "Phone 7"}
  - {name: port7, circuit-id: "eth0/7"}
  - {name: basement, remote-id: "switch-b"}
  - {name: ring, htype: 6}
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    pools:
      - {range: 192.0.2.100-192.0.2.109, class: bootloader}
      - {range: 192.0.2.110-192.0.2.119, class: phone}
      - {range: 192.0.2.120-192.0.2.129, class: port7}
      - {range: 192.0.2.130-192.0.2.139, class: basement}
      - {range: 192.0.2.140-192.0.2.149, class: ring}
      - {range: 192.0.2.150-192.0.2.159, clients: known}
      - {range: 192.0.2.160-192.0.2.169, clients: unknown}
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01"}
`, "")...)
	for i, tt := range []struct {
		name        string
		says        []dhcpv4.Modifier
		first, last string
	}{
		{"user class, as RFC 3004 writes it", []dhcpv4.Modifier{dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("\x01a\x04iPXE"))}, "192.0.2.100", "192.0.2.109"},
		{"user class, as many clients write it", []dhcpv4.Modifier{dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE"))}, "192.0.2.100", "192.0.2.109"},
		{"vendor class with a version behind", []dhcpv4.Modifier{vendorClass("Phone 7 rev B")}, "192.0.2.110", "192.0.2.119"},
		{"circuit id", []dhcpv4.Modifier{information("eth0/7", "")}, "192.0.2.120", "192.0.2.129"},
		{"remote id", []dhcpv4.Modifier{information("eth0/8", "switch-b")}, "192.0.2.130", "192.0.2.139"},
		{"hardware type", []dhcpv4.Modifier{func(m *dhcpv4.DHCPv4) { m.HWType = 6 }}, "192.0.2.140", "192.0.2.149"},
		{"no class, not known", nil, "192.0.2.160", "192.0.2.169"},
		{"a class that has no pool is none", []dhcpv4.Modifier{vendorClass("Phone 6")}, "192.0.2.160", "192.0.2.169"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := w.client(byte(0x10+i), tt.says...)
			offer := c.send(dhcpv4.MessageTypeDiscover, requested(addr("192.0.2.155")))
			w.want(offer, dhcpv4.MessageTypeOffer)
			if a := yours(offer); !within(a, tt.first, tt.last) {
				t.Errorf("got %s, want one from %s to %s", a, tt.first, tt.last)
			}
		})
	}
	t.Run("known", func(t *testing.T) {
		if a := yours(w.client(0x01).gets()); !within(a, "192.0.2.150", "192.0.2.159") {
			t.Errorf("got %s, want one of the pool for known clients", a)
		}
	})
	t.Run("known does not get one of the unknown's, even if it asks", func(t *testing.T) {
		c := w.client(0x01)
		w.wantNak(c.send(dhcpv4.MessageTypeRequest, requested(addr("192.0.2.165"))))
	})
	t.Run("a class's pool is used up", func(t *testing.T) {
		taken := 0
		for i := range byte(20) {
			offer := w.client(0x40+i, vendorClass("Phone 7")).send(dhcpv4.MessageTypeDiscover)
			if offer != nil && within(yours(offer), "192.0.2.110", "192.0.2.119") {
				taken++
			}
		}
		if taken != 9 { // one is on offer to the phone above
			t.Errorf("%d phones have an address of their pool, want 9", taken)
		}
	})
}

// TestOverride has one option set at every level of the site file.
func TestOverride(t *testing.T) {
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
options: {domain-name-servers: [192.0.2.31], log-servers: [192.0.2.31], routers: [192.0.2.31], smtp-server: [192.0.2.31]}
classes:
  - {name: first, vendor-class: Phone, options: {log-servers: [192.0.2.32], routers: [192.0.2.32], smtp-server: [192.0.2.32]}}
  - {name: second, user-class: desk, options: {smtp-server: [192.0.2.33]}}
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    pools: [192.0.2.100-192.0.2.199]
    options: {routers: [192.0.2.34], tftp-server-name: network}
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01", options: {tftp-server-name: device}}
  - {name: ct2, hardware-address: "00:00:5e:00:53:02", options: {host-name: scanner}}
  - {name: ct3, hardware-address: "00:00:5e:00:53:03", address: 192.0.2.13, publish: always}
`, "")...)
	desk := dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("\x04desk"))
	for _, tt := range []struct {
		name string
		last byte
		says []dhcpv4.Modifier
		want string // dns, log, router, smtp, tftp, host name
	}{
		{"site and network", 0x10, nil, "31 31 34 31 network dhcp-192-0-2-100"},
		{"class over site, network over class", 0x11, []dhcpv4.Modifier{vendorClass("Phone")}, "31 32 34 32 network dhcp-192-0-2-101"},
		{"a later class over an earlier", 0x12, []dhcpv4.Modifier{vendorClass("Phone"), desk}, "31 32 34 33 network dhcp-192-0-2-102"},
		{"device over all", 0x01, []dhcpv4.Modifier{vendorClass("Phone"), desk}, "31 32 34 33 device ct1"},
		{"a device that is always published is told its name", 0x03, nil, "31 31 34 31 network ct3"},
		{"a device's host-name", 0x02, nil, "31 31 34 31 network scanner"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ack := w.client(tt.last, tt.says...).gets()
			octet := func(code uint8) byte { return append(ack.Options[code], 0, 0, 0, 0)[3] }
			got := fmt.Sprintf("%d %d %d %d %s %s", octet(6), octet(7), octet(3), octet(69), ack.Options[66], ack.HostName())
			if got != tt.want {
				t.Errorf("options from %q, want %q", got, tt.want)
			}
		})
	}
}

// TestWeakIdentity knows devices by where they are or by what they call themselves.
func TestWeakIdentity(t *testing.T) {
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}
devices:
  - {name: plug, circuit-id: "eth0/7", address: 192.0.2.21, options: {log-servers: [192.0.2.41]}}
  - {name: plug-b, circuit-id: "eth0/7", remote-id: "switch-b", address: 192.0.2.22}
  - {name: cellar, remote-id: "switch-c", address: 192.0.2.23}
  - {name: us1, address: 192.0.2.24}
  - {name: us2, hardware-address: "00:00:5e:00:53:02", address: 192.0.2.25}
  - {name: us3, client-identifier: "pump", address: 192.0.2.26}
`, "")...)
	for i, tt := range []struct {
		name  string
		says  dhcpv4.Modifier
		want  string // "" for any of the pool
		named string // "" for what is generated
	}{
		{"circuit", information("eth0/7", ""), "192.0.2.21", "plug"},
		{"circuit on another switch", information("eth0/9", "switch-a"), "", ""},
		{"circuit and remote", information("eth0/7", "switch-b"), "192.0.2.22", "plug-b"},
		{"remote", information("eth0/1", "switch-c"), "192.0.2.23", "cellar"},
		{"host name", hostName("US1"), "192.0.2.24", "us1"},
		{"host name of a device with a hardware address", hostName("us2"), "", ""},
		{"host name of a device with a client identifier", hostName("us3"), "", ""},
		{"client identifier", dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("pump"))), "192.0.2.26", "us3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := w.client(byte(0x10+i), tt.says)
			ack := c.gets()
			if a := yours(ack); tt.want != "" && a != addr(tt.want) || tt.want == "" && !within(a, "192.0.2.100", "192.0.2.199") {
				t.Errorf("got %s, want %q", a, tt.want)
			}
			if got, want := ack.HostName(), cmp.Or(tt.named, lease.GeneratedLabel(yours(ack))); got != want {
				t.Errorf("is told that it is %q, want %q", got, want)
			}
		})
	}
	t.Run("who holds it keeps it from another machine", func(t *testing.T) {
		for last, says := range map[byte]dhcpv4.Modifier{0x40: information("eth0/7", ""), 0x41: hostName("us1")} {
			if a := yours(w.client(last, says).gets()); !within(a, "192.0.2.100", "192.0.2.199") {
				t.Errorf("another machine got %s", a)
			}
		}
		w.holds(w.client(0x10), addr("192.0.2.21"))
		w.holds(w.client(0x14), addr("192.0.2.24"))
	})
	t.Run("a renewal, which says nothing of it, keeps the device", func(t *testing.T) {
		ack := w.client(0x10).send(dhcpv4.MessageTypeRequest, ciaddr(addr("192.0.2.21")))
		w.want(ack, dhcpv4.MessageTypeAck)
		if got := ack.HostName(); got != "plug" || len(ack.Options[7]) != 4 {
			t.Errorf("is told that it is %q, options %v", got, ack.Options)
		}
	})
	t.Run("so does an INFORM", func(t *testing.T) {
		ack := w.client(0x10).send(dhcpv4.MessageTypeInform, ciaddr(addr("192.0.2.21")))
		w.want(ack, dhcpv4.MessageTypeAck)
		if got := ack.HostName(); got != "plug" || len(ack.Options[7]) != 4 {
			t.Errorf("is told that it is %q, options %v", got, ack.Options)
		}
	})
}

// TestLinks has the message say which network the client is in.
func TestLinks(t *testing.T) {
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}
  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.100-198.51.100.199]}
  - {name: oncology, subnet: 203.0.113.0/25, pools: [203.0.113.10-203.0.113.99]}
`, "")...)
	link := dhcpv4.WithOption(dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.LinkSelectionSubOption, net.IPv4(203, 0, 113, 0).To4())))
	subnet := func(a string) dhcpv4.Modifier {
		return dhcpv4.WithGeneric(dhcpv4.OptionSubnetSelection, net.ParseIP(a).To4())
	}
	for i, tt := range []struct {
		name string
		says []dhcpv4.Modifier
		want string
	}{
		{"interface", nil, "192.0.2.0/24"},
		{"relay", []dhcpv4.Modifier{relayed}, "198.51.100.0/24"},
		{"link selection (RFC 3527)", []dhcpv4.Modifier{relayed, link}, "203.0.113.0/25"},
		{"link selection without a relay is none", []dhcpv4.Modifier{link}, "192.0.2.0/24"},
		{"subnet selection (RFC 3011)", []dhcpv4.Modifier{subnet("203.0.113.0")}, "203.0.113.0/25"},
		{"subnet selection before the relay", []dhcpv4.Modifier{relayed, subnet("203.0.113.0")}, "203.0.113.0/25"},
		{"link selection before subnet selection", []dhcpv4.Modifier{relayed, link, subnet("192.0.2.0")}, "203.0.113.0/25"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ack := w.client(byte(0x10+i), tt.says...).gets()
			if !netip.MustParsePrefix(tt.want).Contains(yours(ack)) {
				t.Errorf("got %s, want one of %s", yours(ack), tt.want)
			}
			asked := dhcpv4.DHCPv4{Options: dhcpv4.Options{}}
			for _, say := range tt.says {
				say(&asked)
			}
			if got, want := string(ack.Options[118]), string(asked.Options[118]); got != want {
				t.Errorf("option 118 is %x in the answer, want %x as it came", got, want)
			}
		})
	}
	t.Run("a subnet that is not ours", func(t *testing.T) {
		w.want(w.client(0x30, subnet("203.0.113.128")).send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone)
	})
}

// TestPort holds what bounds strangers.
func TestPort(t *testing.T) {
	says := func(m ...dhcpv4.Modifier) string {
		r := message(t, m...)
		marks := marksOf(r)
		return port(&server.Exchange{Request: r, Interface: "eth0"}, &marks)
	}
	seen := map[string]string{}
	for name, p := range map[string]string{
		"interface":                 says(),
		"relay":                     says(relayed),
		"another relay":             says(giaddr("203.0.113.1")),
		"circuit":                   says(relayed, information("a", "bc")),
		"another circuit":           says(relayed, information("ab", "c")),
		"circuit alone":             says(relayed, information("abc", "")),
		"remote alone":              says(relayed, information("", "abc")),
		"the same of another":       says(giaddr("203.0.113.1"), information("a", "bc")),
		"a switch that is no relay": says(information("a", "bc")),
	} {
		if other, taken := seen[p]; taken {
			t.Errorf("%s and %s are one port, %q", name, other, p)
		}
		seen[p] = name
	}
}

// TestInventedPorts has a machine on the server's own wire invent a hardware
// address and a port of a switch with each packet.
func TestInventedPorts(t *testing.T) {
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
networks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199], lease-time: 1h}]
devices: [{name: ct1, hardware-address: "00:00:5e:00:53:01"}]
`, " max-per-port=1 max-per-network=3")...)
	took := 0
	for i := range byte(20) {
		if c := w.client(0x20+i, information(strconv.Itoa(int(i)), "")); c.send(dhcpv4.MessageTypeDiscover) != nil {
			c.gets()
			took++
		}
	}
	if took != 3 {
		t.Errorf("%d addresses, want 3", took)
	}
	w.client(0x01).gets()
}
