package leases

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
)

const giveUpSite = `
domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}
  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.100-198.51.100.101], options: {routers: 198.51.100.1}}
  - {name: lab, subnet: 203.0.113.0/24, options: {routers: 203.0.113.1, time-offset: 50}} # all its machines have addresses of their own
`

// TestGiveUp holds whose DHCPRELEASE and DHCPDECLINE end a lease: the client that holds
// it, known by its identifier, else by its hardware address (RFC 2131 section 4.2).
func TestGiveUp(t *testing.T) {
	w := newWire(t, pluginLines(t, giveUpSite, "")...)
	id := func(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte(s))) }
	ours, decline, release := selected(wiredServer.Addr()), dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease
	const first, second = 0x10, 0x20 // hardware addresses, with the number of the case added
	for i, tt := range []struct {
		name     string
		holds    []dhcpv4.Modifier // what the holder always says
		hardware int               // of who gives the address up
		says     []dhcpv4.Modifier // what he says
		how      dhcpv4.MessageType
		address  bool // he says which
		want     lease.State
	}{
		{"DECLINE", []dhcpv4.Modifier{id("a0")}, first, []dhcpv4.Modifier{id("a0"), ours}, decline, true, lease.Declined},
		{"DECLINE that names no server", []dhcpv4.Modifier{id("a1")}, first, []dhcpv4.Modifier{id("a1")}, decline, true, lease.Declined},
		{"DECLINE of no address", []dhcpv4.Modifier{id("a2")}, first, []dhcpv4.Modifier{id("a2"), ours}, decline, false, lease.Active},
		{"DECLINE with another identifier", []dhcpv4.Modifier{id("a3")}, first, []dhcpv4.Modifier{id("b3"), ours}, decline, true, lease.Active},
		{"DECLINE without the identifier", []dhcpv4.Modifier{id("a4")}, first, []dhcpv4.Modifier{ours}, decline, true, lease.Active},
		{"DECLINE with an identifier where there was none", nil, first, []dhcpv4.Modifier{id("b5"), ours}, decline, true, lease.Active},
		{"DECLINE from another hardware address", nil, second, []dhcpv4.Modifier{ours}, decline, true, lease.Active},
		{"DECLINE with the identifier, from another hardware address", []dhcpv4.Modifier{id("a7")}, second, []dhcpv4.Modifier{id("a7"), ours}, decline, true, lease.Declined},
		{"RELEASE", []dhcpv4.Modifier{id("a8")}, first, []dhcpv4.Modifier{id("a8"), ours}, release, true, lease.Released},
		{"RELEASE that names no server", []dhcpv4.Modifier{id("a9")}, first, []dhcpv4.Modifier{id("a9")}, release, true, lease.Released},
		{"RELEASE of no address", []dhcpv4.Modifier{id("aa")}, first, []dhcpv4.Modifier{id("aa"), ours}, release, false, lease.Active},
		{"RELEASE with another identifier", []dhcpv4.Modifier{id("ab")}, first, []dhcpv4.Modifier{id("bb"), ours}, release, true, lease.Active},
		{"RELEASE with another identifier, from another hardware address", []dhcpv4.Modifier{id("ac")}, second, []dhcpv4.Modifier{id("bc"), ours}, release, true, lease.Active},
		{"RELEASE with the identifier, from another hardware address", []dhcpv4.Modifier{id("ad")}, second, []dhcpv4.Modifier{id("ad"), ours}, release, true, lease.Released},
		{"RELEASE by hardware address alone", nil, first, []dhcpv4.Modifier{ours}, release, true, lease.Released},
		{"RELEASE by hardware address alone, another's", nil, second, []dhcpv4.Modifier{ours}, release, true, lease.Active},
	} {
		t.Run(tt.name, func(t *testing.T) {
			outer := w.t
			w.t = t
			defer func() { w.t = outer }()
			a := yours(w.client(byte(first+i), tt.holds...).gets())
			says := tt.says
			if tt.address && tt.how == decline {
				says = append(says, requested(a))
			} else if tt.address {
				says = append(says, ciaddr(a))
			}
			w.want(w.client(byte(tt.hardware+i)).send(tt.how, says...), dhcpv4.MessageTypeNone)
			w.becomes(a, tt.want)
		})
	}
}

// TestHeaderOfRequest holds that what a client has in the header where it should have
// nothing does not come back, and does not matter; but where server_id of CoreDHCP stands
// before, that leaves unanswered what names another server in siaddr.
func TestHeaderOfRequest(t *testing.T) {
	w := newWire(t, "leases: site="+writeSite(t, giveUpSite)+" database="+filepath.Join(t.TempDir(), "leases"))
	c := w.client(0x10)
	c.broadcasts = true
	everywhere := addr("255.255.255.255")
	for _, a := range []netip.Addr{addr("192.0.2.150"), everywhere} {
		junk := func(m *dhcpv4.DHCPv4) {
			m.YourIPAddr, m.ServerIPAddr, m.ServerHostName, m.BootFileName = a.AsSlice(), a.AsSlice(), "server", "file"
			if m.MessageType() == dhcpv4.MessageTypeDiscover && a != everywhere {
				m.ClientIPAddr = a.AsSlice()
			}
		}
		offer := c.send(dhcpv4.MessageTypeDiscover, junk)
		w.want(offer, dhcpv4.MessageTypeOffer)
		if !offer.ClientIPAddr.IsUnspecified() || offer.ServerIPAddr.Equal(a.AsSlice()) || offer.ServerHostName+offer.BootFileName != "" ||
			!within(yours(offer), "192.0.2.100", "192.0.2.199") {
			t.Errorf("%s in the header: offer %s", a, offer.Summary())
		}
		w.want(c.send(dhcpv4.MessageTypeRequest, junk, requested(yours(offer)), selected(wiredServer.Addr())), dhcpv4.MessageTypeAck)
		w.wantNak(c.send(dhcpv4.MessageTypeRequest, junk, requested(addr("198.51.100.7"))))
	}
}

// TestRelayedPool uses up a pool behind a relay, of which each identifier of one machine
// takes an address, and gives one back.
func TestRelayedPool(t *testing.T) {
	w := newWire(t, pluginLines(t, giveUpSite, "")...)
	id := func(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte(s))) }
	firmware, system := w.client(0x10, relayed, id("firmware")), w.client(0x10, relayed, id("system"))
	a, b := yours(firmware.gets()), yours(system.gets())
	if a != addr("198.51.100.100") || b != addr("198.51.100.101") {
		t.Fatalf("got %s and %s, want the whole pool", a, b)
	}
	stranger := w.client(0x11, relayed)
	w.want(stranger.send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone)
	w.want(w.client(0x10, relayed, id("third")).send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone)
	w.wantNak(stranger.send(dhcpv4.MessageTypeRequest, requested(a), selected(wiredServer.Addr())))
	w.holds(firmware, a)
	w.want(firmware.send(dhcpv4.MessageTypeRelease, ciaddr(a), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
	w.becomes(a, lease.Released)
	if got := yours(stranger.gets()); got != a {
		t.Errorf("got %s, want %s, which was given back", got, a)
	}
}

// TestInformWithoutPools has a machine that has its address from elsewhere, in a network
// where nobody gets one.
func TestInformWithoutPools(t *testing.T) {
	w := newWire(t, pluginLines(t, giveUpSite, "")...)
	ack := w.client(0x10).send(dhcpv4.MessageTypeInform, ciaddr(addr("203.0.113.7")), asking(1, 2, 3))
	w.want(ack, dhcpv4.MessageTypeAck)
	if got, want := optionsOf(ack.DHCPv4, 1, 2, 3, 51), "ffffff00 00000032 cb007101 -"; got != want || !ack.YourIPAddr.IsUnspecified() {
		t.Errorf("options 1, 2, 3, 51: %s, want %s; %s", got, want, ack.Summary())
	}
}
