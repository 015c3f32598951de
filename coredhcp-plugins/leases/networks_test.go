package leases

import (
	"bytes"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
)

// relay is what a relay adds: its address, and sub-options of option 82 as octets.
func relay(gateway string, information ...byte) dhcpv4.Modifier {
	return func(m *dhcpv4.DHCPv4) {
		m.GatewayIPAddr = net.ParseIP(gateway)
		if len(information) > 0 {
			m.Options[82] = information
		}
	}
}

// wantLast reports it unless option 82 stands at the end of the message as it came.
func wantLast(t testing.TB, r *reply, information []byte) {
	t.Helper()
	want := append(append([]byte{82, byte(len(information))}, information...), 255)
	if end := bytes.TrimRight(r.raw, "\x00"); !bytes.HasSuffix(end, want) {
		t.Errorf("the message ends % x, want option 82 as it came: % x", end[max(0, len(end)-len(want)):], want)
	}
}

const networksSite = `
domain: imaging.example.org
networks:
  - name: radiology
    subnet: 192.0.2.0/25
    shared-network: floor1
    pools: [192.0.2.100-192.0.2.101]
    options: {routers: [192.0.2.1]}
  - name: radiology-more
    subnet: 192.0.2.128/25
    shared-network: floor1
    pools: [192.0.2.200-192.0.2.201]
    options: {routers: [192.0.2.129]}
  - name: cardiology
    subnet: 198.51.100.0/24
    pools: [198.51.100.100-198.51.100.199]
    lease-time: 1h
  - name: oncology
    subnet: 203.0.113.0/24
    pools: [203.0.113.10-203.0.113.99]
devices:
  - {name: us1, hardware-address: ["00:00:5e:00:53:01", "00:00:5e:00:53:02"], address: [192.0.2.12, 198.51.100.12]}
`

// TestServerIDOverride has a relay ask for itself to be the server (RFC 5107),
// wherever the administrator gave the identifier, if anywhere.
func TestServerIDOverride(t *testing.T) {
	gateway := addr("198.51.100.1")
	information := []byte{1, 2, 'p', '1', 11, 4, 198, 51, 100, 1}
	for _, id := range []string{"", "server_id: 192.0.2.2"} {
		t.Run(id, func(t *testing.T) {
			lines := []string{"leases: site=" + writeSite(t, networksSite) + " database=" + filepath.Join(t.TempDir(), "leases")}
			if id != "" {
				lines = append([]string{id}, lines...)
			}
			w := newWire(t, lines...)
			c := w.client(0x10, relay("198.51.100.1", information...))
			from := func(r *reply, mt dhcpv4.MessageType) {
				t.Helper()
				w.want(r, mt)
				if got := r.ServerIdentifier().String(); got != gateway.String() {
					t.Errorf("%s: server identifier %s, want the relay's %s", mt, got, gateway)
				}
				if r.to != netip.AddrPortFrom(gateway, 67) {
					t.Errorf("%s went to %s, want the relay", mt, r.to)
				}
				wantLast(t, r, information)
			}
			offer := c.send(dhcpv4.MessageTypeDiscover)
			from(offer, dhcpv4.MessageTypeOffer)
			a := yours(offer)
			// The server's own identifier is another server's to this client.
			w.want(c.send(dhcpv4.MessageTypeRequest, requested(a), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
			from(c.send(dhcpv4.MessageTypeRequest, requested(a), selected(gateway)), dhcpv4.MessageTypeAck)
			w.holds(c, a)
			// RENEWING: by unicast to the relay, which hands it on.
			from(c.send(dhcpv4.MessageTypeRequest, ciaddr(a)), dhcpv4.MessageTypeAck)
			from(c.send(dhcpv4.MessageTypeRequest, requested(addr("203.0.113.9"))), dhcpv4.MessageTypeNak)
			w.want(c.send(dhcpv4.MessageTypeRelease, ciaddr(a), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
			w.holds(c, a)
			w.want(c.send(dhcpv4.MessageTypeRelease, ciaddr(a), selected(gateway)), dhcpv4.MessageTypeNone)
			w.becomes(a, lease.Released)

			for name, says := range map[string]dhcpv4.Modifier{
				"without a relay": dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, information),
				"of 3 octets":     relay("198.51.100.1", 11, 3, 198, 51, 100),
				"0.0.0.0":         relay("198.51.100.1", 11, 4, 0, 0, 0, 0),
				"multicast":       relay("198.51.100.1", 11, 4, 224, 0, 0, 1),
			} {
				offer := w.client(0x11, says).send(dhcpv4.MessageTypeDiscover)
				w.want(offer, dhcpv4.MessageTypeOffer)
				if got := offer.ServerIdentifier().String(); got != wiredServer.Addr().String() {
					t.Errorf("override %s: server identifier %s, want %s", name, got, wiredServer.Addr())
				}
			}
		})
	}
}

// TestNetworks has clients come from several wires, one with two subnets.
func TestNetworks(t *testing.T) {
	w := newWire(t, pluginLines(t, networksSite, "")...)
	t.Run("shared network: the next subnet when the first is used up", func(t *testing.T) {
		for i := range byte(4) {
			ack := w.client(0x20 + i).gets()
			want := "192.0.2.1"
			if netip.MustParsePrefix("192.0.2.128/25").Contains(yours(ack)) {
				want = "192.0.2.129"
			}
			if got := ack.Router(); len(got) != 1 || got[0].String() != want || ack.SubnetMask().String() != "ffffff80" {
				t.Errorf("%s: routers %v, mask %s; want those of its own subnet", yours(ack), got, ack.SubnetMask())
			}
		}
		w.want(w.client(0x24).send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone)
	})
	t.Run("shared network: a lease of the other subnet is renewed, by broadcast too", func(t *testing.T) {
		c := w.client(0x23)
		a := yours(c.gets())
		c.broadcasts = true
		w.want(c.send(dhcpv4.MessageTypeRequest, ciaddr(a)), dhcpv4.MessageTypeAck)
		w.want(c.send(dhcpv4.MessageTypeRequest, requested(a)), dhcpv4.MessageTypeAck)
	})
	t.Run("link selection of another network than the relay's (RFC 3527)", func(t *testing.T) {
		information := []byte{5, 4, 203, 0, 113, 0, 1, 2, 'p', '2'}
		c := w.client(0x30, relay("198.51.100.1", information...))
		ack := c.gets()
		if !netip.MustParsePrefix("203.0.113.0/24").Contains(yours(ack)) || ack.to != netip.MustParseAddrPort("198.51.100.1:67") {
			t.Errorf("%s went to %s, want an address of the selected link, at the relay", yours(ack), ack.to)
		}
		wantLast(t, ack, information)
		// A renewal comes without the relay, which knows nothing of the server's identifier.
		w.want(w.client(0x30).send(dhcpv4.MessageTypeRequest, ciaddr(yours(ack))), dhcpv4.MessageTypeAck)
	})
	t.Run("link selection of no network of ours", func(t *testing.T) {
		c := w.client(0x31, relay("198.51.100.1", 5, 4, 192, 88, 99, 0))
		w.want(c.send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone)
	})
	t.Run("virtual subnet selection (RFC 6607) is not understood, and goes back", func(t *testing.T) {
		information := []byte{1, 2, 'p', '3', 151, 4, 0, 'v', 'p', 'n', 152, 0}
		ack := w.client(0x32, relay("198.51.100.1", information...),
			dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(221), []byte("\x00vpn"))).gets()
		if !netip.MustParsePrefix("198.51.100.0/24").Contains(yours(ack)) {
			t.Errorf("got %s, want one of the relay's network", yours(ack))
		}
		// Sub-option 152 in the answer says that 151 was not used (RFC 6607 section 4);
		// option 221 is not the client's to get back then.
		wantLast(t, ack, information)
		if _, ok := ack.Options[221]; ok {
			t.Error("option 221 in the answer")
		}
	})
	t.Run("option 82 of a switch that is no relay goes back too", func(t *testing.T) {
		information := []byte{1, 2, 'p', '4'}
		r := w.client(0x01, dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, information)).gets()
		wantLast(t, r, information)
	})
	t.Run("a device on two networks with two cards", func(t *testing.T) {
		onWire, behind := w.client(0x01), w.client(0x02, relay("198.51.100.1"))
		first, second := yours(onWire.gets()), yours(behind.gets())
		if first != addr("192.0.2.12") || second != addr("198.51.100.12") {
			t.Fatalf("got %s and %s", first, second)
		}
		for _, a := range []netip.Addr{first, second} {
			if l, _ := w.lease(a); l.State != lease.Active || l.Device != "us1" || l.Name != "us1.imaging.example.org." {
				t.Errorf("lease %+v, want it held by us1 under its name", l)
			}
		}
		w.wantShown("us1.imaging.example.org.", second)
		// The newest is what DNS is to show; when it is given back, the other takes its place.
		w.want(behind.send(dhcpv4.MessageTypeRelease, ciaddr(second), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
		w.becomes(second, lease.Released)
		w.wantShown("us1.imaging.example.org.", first)
	})
	t.Run("a device on two networks with one card", func(t *testing.T) {
		c := w.client(0x01)
		if a := yours(c.gets(relay("198.51.100.1"))); a != addr("198.51.100.12") {
			t.Errorf("got %s", a)
		}
		w.holds(c, addr("192.0.2.12")) // another wire: it may still be there
	})
}

// wantShown takes what DNS does not show yet, confirms it, and reports it unless
// the address is then the last that the name was given.
func (w *wire) wantShown(name string, a netip.Addr) {
	w.t.Helper()
	m := w.host.Leases()
	var shown netip.Addr
	for late := time.Now().Add(patience); shown != a && time.Now().Before(late); time.Sleep(time.Millisecond) {
		for _, c := range m.TakeNameChanges(100) {
			if c.Name == name && !c.Remove {
				shown = c.Address
			}
			w.must(m.ConfirmNameChange(c))
		}
	}
	if shown != a {
		w.t.Errorf("DNS is to show %s for %s, want %s", shown, name, a)
	}
}

// TestIPsec has home readers ask through a security gateway (RFC 3456): hardware
// type 31, the client identifier as key, the gateway as relay.
func TestIPsec(t *testing.T) {
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
classes:
  - {name: readers, user-class: reader}
  - {name: tunnel, htype: 31, options: {domain-name-servers: [192.0.2.3]}}
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}
  - name: home
    subnet: 198.51.100.0/24
    pools:
      - {range: 198.51.100.10-198.51.100.19, class: readers}
      - {range: 198.51.100.100-198.51.100.199, class: tunnel}
devices:
  - {name: home1, client-identifier: "reader1@example.org", address: 198.51.100.5}
  - {name: ct1, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.11}
`, "")...)
	id := func(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte(s))) }
	tunnel := func(m *dhcpv4.DHCPv4) { m.HWType = ipsecTunnel }
	gateway := relay("198.51.100.1", 1, 2, 't', '7')
	atGateway := netip.MustParseAddrPort("198.51.100.1:67")
	check := func(r *reply, mt dhcpv4.MessageType) {
		t.Helper()
		w.want(r, mt)
		if r.to != atGateway || r.HWType != ipsecTunnel || r.raw[1] != 31 || r.raw[2] != 6 {
			t.Errorf("%s to %s with htype %d, hlen %d; want the gateway, 31 and 6", mt, r.to, r.raw[1], r.raw[2])
		}
		wantLast(t, r, []byte{1, 2, 't', '7'})
	}
	w.want(w.client(0x10, tunnel, gateway).send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone) // no identifier

	first := w.client(0x11, tunnel, gateway, id("a1"))
	offer := first.send(dhcpv4.MessageTypeDiscover)
	check(offer, dhcpv4.MessageTypeOffer)
	a := yours(offer)
	if !within(a, "198.51.100.100", "198.51.100.199") || len(offer.DNS()) != 1 {
		t.Errorf("offered %s with %v, want an address and options of the class by hardware type", a, offer.DNS())
	}
	check(first.send(dhcpv4.MessageTypeRequest, requested(a), selected(wiredServer.Addr())), dhcpv4.MessageTypeAck)
	if l, _ := w.lease(a); l.Client != (lease.Client{HardwareType: 31, Identifier: "a1"}) {
		t.Errorf("lease of %v, want it known by its identifier alone", l.Client)
	}
	// The chaddr of a tunnel without a LAN interface changes with the Internet address.
	if again := yours(w.client(0x12, tunnel, gateway, id("a1")).gets()); again != a {
		t.Errorf("with another chaddr got %s, want %s", again, a)
	}
	if other := yours(w.client(0x11, tunnel, gateway, id("b1")).gets()); other == a {
		t.Errorf("another identifier with the same chaddr got %s too", other)
	}
	// A chaddr that is a device's own LAN address does not make the tunnel the device.
	if l, _ := w.lease(yours(w.client(0x01, tunnel, gateway, id("c1")).gets())); l.Device != "" {
		t.Errorf("the tunnel of a machine is taken for the device %s", l.Device)
	}
	if known := yours(w.client(0x13, tunnel, gateway, id("reader1@example.org")).gets()); known != addr("198.51.100.5") {
		t.Errorf("the device got %s, want 198.51.100.5", known)
	}
	class := dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("\x06reader"))
	if pooled := yours(w.client(0x14, tunnel, gateway, id("d1"), class).gets()); !within(pooled, "198.51.100.10", "198.51.100.19") {
		t.Errorf("a reader got %s, want one of its class's pool", pooled)
	}

	// RENEWING and REBINDING come through the gateway too, which may put itself in giaddr.
	check(first.send(dhcpv4.MessageTypeRequest, ciaddr(a)), dhcpv4.MessageTypeAck)
	check(first.send(dhcpv4.MessageTypeRequest, requested(addr("198.51.100.250"))), dhcpv4.MessageTypeNak)
	check(first.send(dhcpv4.MessageTypeInform, ciaddr(a), func(m *dhcpv4.DHCPv4) { m.ClientIPAddr = net.IPv4zero }), dhcpv4.MessageTypeAck)
	// Without it, the answer goes where the address is routed, in a plain datagram.
	renewed := w.client(0x11, tunnel, id("a1")).send(dhcpv4.MessageTypeRequest, ciaddr(a))
	w.want(renewed, dhcpv4.MessageTypeAck)
	if renewed.to != netip.AddrPortFrom(a, 68) {
		t.Errorf("renewal answered to %s, want %s", renewed.to, a)
	}
	// On the server's own wire, were there such a client, its chaddr is no place to send a frame.
	near := w.client(0x15, tunnel, id("e1")).send(dhcpv4.MessageTypeDiscover)
	w.want(near, dhcpv4.MessageTypeOffer)
	if near.to != netip.MustParseAddrPort("255.255.255.255:68") || !bytes.Equal(near.hardware, broadcast) {
		t.Errorf("offer to %s at %s, want it broadcast", near.to, near.hardware)
	}
	first.send(dhcpv4.MessageTypeRelease, ciaddr(a), selected(wiredServer.Addr()))
	w.becomes(a, lease.Released)
}
