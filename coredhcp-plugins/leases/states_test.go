package leases

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
)

const statesSite = `
domain: imaging.example.org
options: {domain-name-servers: [192.0.2.3]}
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    pools: [192.0.2.100-192.0.2.199]
    lease-time: 1h
    min-lease-time: 10m
    max-lease-time: 2h
    options: {routers: [192.0.2.1]}
  - name: cardiology # behind a relay
    subnet: 198.51.100.0/24
    pools: [198.51.100.100-198.51.100.199]
    lease-time: infinite
    authoritative: true
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.11}
  - {name: us1, hardware-address: "00:00:5e:00:53:02", address: [192.0.2.12, 198.51.100.12]}
  - name: pump # boots by BOOTP
    hardware-address: "00:00:5e:00:53:03"
    address: [192.0.2.13, 198.51.100.13]
    options: {tftp-server-name: boot.imaging.example.org, boot-file-name: pump.img}
`

var (
	other   = netip.MustParseAddr("192.0.2.66") // another DHCP server
	relayed = giaddr("198.51.100.1")
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// states are the states of a client that RFC 2131 knows (section 4.4, figure 5),
// and what goes with them. Each has clients of its own.
var states = []struct {
	name string
	run  func(*testing.T, *wire)
}{
	{"SELECTING: our offer", func(t *testing.T, w *wire) {
		c := w.client(0x10)
		offer := c.send(dhcpv4.MessageTypeDiscover)
		w.want(offer, dhcpv4.MessageTypeOffer)
		if l, ok := w.lease(yours(offer)); ok {
			t.Errorf("an offer is on disk: %+v", l)
		}
		ack := c.send(dhcpv4.MessageTypeRequest, requested(yours(offer)), selected(wiredServer.Addr()))
		w.want(ack, dhcpv4.MessageTypeAck)
		w.holds(c, yours(ack))
	}},
	{"SELECTING: another server's offer frees ours", func(t *testing.T, w *wire) {
		c := w.client(0x11)
		offer := c.send(dhcpv4.MessageTypeDiscover)
		w.want(offer, dhcpv4.MessageTypeOffer)
		w.want(c.send(dhcpv4.MessageTypeRequest, requested(addr("192.0.2.77")), selected(other)), dhcpv4.MessageTypeNone)
		// What was offered is there for the next client that asks for it.
		next := w.client(0x12).send(dhcpv4.MessageTypeDiscover, requested(yours(offer)))
		w.want(next, dhcpv4.MessageTypeOffer)
		if yours(next) != yours(offer) {
			t.Errorf("offered %s, want %s", yours(next), yours(offer))
		}
	}},
	{"SELECTING: an address that was not offered", func(t *testing.T, w *wire) {
		holder := w.client(0x13)
		taken := yours(holder.gets())
		c := w.client(0x14)
		w.want(c.send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeOffer)
		w.wantNak(c.send(dhcpv4.MessageTypeRequest, requested(taken), selected(wiredServer.Addr())))
		w.holds(holder, taken)
	}},
	{"INIT-REBOOT: right", func(t *testing.T, w *wire) {
		c := w.client(0x20)
		a := yours(c.gets())
		ack := c.send(dhcpv4.MessageTypeRequest, requested(a))
		w.want(ack, dhcpv4.MessageTypeAck)
		if yours(ack) != a {
			t.Errorf("acknowledged %s, want %s", yours(ack), a)
		}
	}},
	{"INIT-REBOOT: wrong network", func(t *testing.T, w *wire) {
		c := w.client(0x21)
		c.gets()
		w.wantNak(c.send(dhcpv4.MessageTypeRequest, requested(addr("203.0.113.5"))))
	}},
	{"INIT-REBOOT: wrong address", func(t *testing.T, w *wire) {
		c := w.client(0x22)
		c.gets()
		w.wantNak(c.send(dhcpv4.MessageTypeRequest, requested(addr("192.0.2.198"))))
	}},
	{"INIT-REBOOT: unknown client", func(t *testing.T, w *wire) {
		w.want(w.client(0x23).send(dhcpv4.MessageTypeRequest, requested(addr("192.0.2.197"))), dhcpv4.MessageTypeNone)
	}},
	{"INIT-REBOOT: unknown client, authoritative", func(t *testing.T, w *wire) {
		w.wantNak(w.client(0x24, relayed).send(dhcpv4.MessageTypeRequest, requested(addr("198.51.100.197"))))
	}},
	{"RENEWING", func(t *testing.T, w *wire) {
		c := w.client(0x30)
		a := yours(c.gets())
		ack := c.send(dhcpv4.MessageTypeRequest, ciaddr(a))
		w.want(ack, dhcpv4.MessageTypeAck)
		if yours(ack) != a || ack.to != netip.AddrPortFrom(a, 68) || !bytes.Equal(ack.hardware, farHardware) {
			t.Errorf("%s went to %s at %s, want it at %s by unicast", yours(ack), ack.to, ack.hardware, a)
		}
		if got := ack.ClientIPAddr.String(); got != a.String() {
			t.Errorf("ciaddr %s, want %s (RFC 2131 table 3)", got, a)
		}
	}},
	{"RENEWING: naming its server, against RFC 2131 table 5", func(t *testing.T, w *wire) {
		c := w.client(0x36)
		a := yours(c.gets())
		for _, broadcasts := range []bool{false, true} {
			c.broadcasts = broadcasts
			w.want(c.send(dhcpv4.MessageTypeRequest, ciaddr(a), selected(other)), dhcpv4.MessageTypeNone)
			ack := c.send(dhcpv4.MessageTypeRequest, ciaddr(a), selected(wiredServer.Addr()))
			w.want(ack, dhcpv4.MessageTypeAck)
			if yours(ack) != a {
				t.Errorf("%s, want %s", yours(ack), a)
			}
		}
		w.wantNak(c.send(dhcpv4.MessageTypeRequest, ciaddr(addr("192.0.2.198")), selected(wiredServer.Addr())))
		w.holds(c, a)
	}},
	{"RENEWING: across routers, of a network behind a relay", func(t *testing.T, w *wire) {
		c := w.client(0x31)
		a := yours(c.gets(relayed))
		ack := c.send(dhcpv4.MessageTypeRequest, ciaddr(a))
		w.want(ack, dhcpv4.MessageTypeAck)
		if ack.to != netip.AddrPortFrom(a, 68) {
			t.Errorf("sent to %s, want %s", ack.to, a)
		}
	}},
	{"RENEWING: another client's address", func(t *testing.T, w *wire) {
		holder, thief := w.client(0x32), w.client(0x33)
		a := yours(holder.gets())
		thief.gets()
		w.wantNak(thief.send(dhcpv4.MessageTypeRequest, ciaddr(a)))
		w.holds(holder, a)
	}},
	{"RENEWING: unknown client", func(t *testing.T, w *wire) {
		w.want(w.client(0x34).send(dhcpv4.MessageTypeRequest, ciaddr(addr("192.0.2.196"))), dhcpv4.MessageTypeNone)
	}},
	{"RENEWING: unknown client, authoritative", func(t *testing.T, w *wire) {
		w.wantNak(w.client(0x35).send(dhcpv4.MessageTypeRequest, ciaddr(addr("198.51.100.196"))))
	}},
	{"REBINDING", func(t *testing.T, w *wire) {
		c := w.client(0x40)
		a := yours(c.gets())
		c.broadcasts = true
		ack := c.send(dhcpv4.MessageTypeRequest, ciaddr(a))
		w.want(ack, dhcpv4.MessageTypeAck)
		if yours(ack) != a || ack.to != netip.AddrPortFrom(a, 68) {
			t.Errorf("%s went to %s, want %s", yours(ack), ack.to, a)
		}
	}},
	{"REBINDING: through a relay", func(t *testing.T, w *wire) {
		c := w.client(0x41)
		a := yours(c.gets(relayed))
		ack := c.send(dhcpv4.MessageTypeRequest, ciaddr(a), relayed)
		w.want(ack, dhcpv4.MessageTypeAck)
		if yours(ack) != a || ack.to != netip.MustParseAddrPort("198.51.100.1:67") {
			t.Errorf("%s went to %s, want %s at the relay", yours(ack), ack.to, a)
		}
	}},
	{"REBINDING: moved to another network", func(t *testing.T, w *wire) {
		c := w.client(0x42)
		a := yours(c.gets())
		nak := c.send(dhcpv4.MessageTypeRequest, ciaddr(a), relayed)
		w.wantNak(nak)
		if !nak.IsBroadcast() || nak.to != netip.MustParseAddrPort("198.51.100.1:67") {
			t.Errorf("NAK to %s, flags %x: want the relay to broadcast it (RFC 2131 section 4.3.2)", nak.to, nak.Flags)
		}
	}},
	{"REBINDING: moved to the server's own wire", func(t *testing.T, w *wire) {
		c := w.client(0x43)
		a := yours(c.gets(relayed))
		c.broadcasts = true
		nak := c.send(dhcpv4.MessageTypeRequest, ciaddr(a))
		w.wantNak(nak)
		if nak.to != netip.MustParseAddrPort("255.255.255.255:68") {
			t.Errorf("NAK to %s, want it to reach a client whose address is of another wire", nak.to)
		}
	}},
	{"DECLINE", func(t *testing.T, w *wire) {
		c := w.client(0x50)
		a := yours(c.gets())
		w.want(c.send(dhcpv4.MessageTypeDecline, requested(a), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
		if l := w.becomes(a, lease.Declined); time.Until(l.Expires) < 23*time.Hour {
			t.Errorf("lease %+v, want it to rest for a day", l)
		}
		again := c.gets(requested(a))
		if yours(again) == a {
			t.Errorf("got %s again", a)
		}
		if next := w.client(0x51).gets(requested(a)); yours(next) == a {
			t.Errorf("another client got %s", a)
		}
	}},
	{"DECLINE: of another's address, or to another server", func(t *testing.T, w *wire) {
		holder, thief := w.client(0x52), w.client(0x53)
		a := yours(holder.gets())
		thief.gets()
		w.want(thief.send(dhcpv4.MessageTypeDecline, requested(a), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
		w.want(holder.send(dhcpv4.MessageTypeDecline, requested(a), selected(other)), dhcpv4.MessageTypeNone)
		w.holds(holder, a)
	}},
	{"RELEASE", func(t *testing.T, w *wire) {
		c := w.client(0x60)
		a := yours(c.gets())
		w.want(c.send(dhcpv4.MessageTypeRelease, ciaddr(a), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
		w.becomes(a, lease.Released)
		w.client(0x61).gets()
		if again := yours(c.gets()); again != a {
			t.Errorf("got %s, want %s again", again, a)
		}
	}},
	{"RELEASE: of another's address, or of another than ciaddr", func(t *testing.T, w *wire) {
		holder, thief := w.client(0x62), w.client(0x63)
		a := yours(holder.gets())
		thief.gets()
		w.want(thief.send(dhcpv4.MessageTypeRelease, ciaddr(a), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
		w.want(holder.send(dhcpv4.MessageTypeRelease, ciaddr(addr("192.0.2.195")), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
		w.want(holder.send(dhcpv4.MessageTypeRelease, requested(a), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
		w.want(holder.send(dhcpv4.MessageTypeRelease, ciaddr(a), selected(other)), dhcpv4.MessageTypeNone)
		w.holds(holder, a)
	}},
	{"INFORM", func(t *testing.T, w *wire) {
		ack := w.client(0x70).send(dhcpv4.MessageTypeInform, ciaddr(addr("192.0.2.70")))
		w.want(ack, dhcpv4.MessageTypeAck)
		if !ack.YourIPAddr.IsUnspecified() || ack.Options.Has(dhcpv4.OptionIPAddressLeaseTime) ||
			ack.Options.Has(dhcpv4.OptionRenewTimeValue) || ack.Options.Has(dhcpv4.OptionRebindingTimeValue) {
			t.Errorf("answer %s, want neither an address nor a lease time", ack.Summary())
		}
		if ack.to != netip.MustParseAddrPort("192.0.2.70:68") || len(ack.Router()) != 1 {
			t.Errorf("answer to %s with routers %v", ack.to, ack.Router())
		}
		if l, ok := w.lease(addr("192.0.2.70")); ok {
			t.Errorf("an INFORM has made a lease: %+v", l)
		}
	}},
	{"INFORM: of a network that is not ours", func(t *testing.T, w *wire) {
		w.want(w.client(0x71).send(dhcpv4.MessageTypeInform, ciaddr(addr("203.0.113.7"))), dhcpv4.MessageTypeNone)
	}},
	{"BOOTP", func(t *testing.T, w *wire) {
		c := w.client(0x03)
		r := c.send(dhcpv4.MessageTypeNone)
		w.wantBOOTP(r, addr("192.0.2.13"))
		if r.to != netip.MustParseAddrPort("192.0.2.13:68") || !bytes.Equal(r.hardware, c.hardware) {
			t.Errorf("reply to %s at %s", r.to, r.hardware)
		}
		w.holds(c, addr("192.0.2.13"))
		if l, _ := w.lease(addr("192.0.2.13")); !l.Expires.IsZero() {
			t.Errorf("the lease ends at %v", l.Expires)
		}
		w.wantBOOTP(c.send(dhcpv4.MessageTypeNone), addr("192.0.2.13"))
	}},
	{"BOOTP: through a relay", func(t *testing.T, w *wire) {
		r := w.client(0x03, relayed).send(dhcpv4.MessageTypeNone)
		w.wantBOOTP(r, addr("198.51.100.13"))
		if r.to != netip.MustParseAddrPort("198.51.100.1:67") {
			t.Errorf("reply to %s, want the relay", r.to)
		}
	}},
	{"BOOTP: no pool address for a client that cannot give it back", func(t *testing.T, w *wire) {
		w.want(w.client(0x78).send(dhcpv4.MessageTypeNone), dhcpv4.MessageTypeNone)
	}},
	{"BOOTP: a message type of zero is none of it", func(t *testing.T, w *wire) {
		w.want(w.client(0x01).send(dhcpv4.MessageTypeNone, dhcpv4.WithGeneric(dhcpv4.OptionDHCPMessageType, []byte{0})), dhcpv4.MessageTypeNone)
		if l, ok := w.lease(addr("192.0.2.11")); ok {
			t.Errorf("it has made a lease: %+v", l)
		}
	}},
	{"wrong network: a relay that is not ours", func(t *testing.T, w *wire) {
		c := w.client(0x74, giaddr("203.0.113.1"))
		w.want(c.send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone)
		w.want(c.send(dhcpv4.MessageTypeRequest, requested(addr("192.0.2.120"))), dhcpv4.MessageTypeNone)
		w.want(c.send(dhcpv4.MessageTypeRequest, requested(addr("192.0.2.120")), selected(wiredServer.Addr())), dhcpv4.MessageTypeNone)
	}},
	{"fixed address: in every network its own", func(t *testing.T, w *wire) {
		c := w.client(0x02)
		if a := yours(c.gets(relayed)); a != addr("198.51.100.12") {
			t.Errorf("through the relay %s", a)
		}
		if a := yours(c.gets()); a != addr("192.0.2.12") {
			t.Errorf("on the wire %s", a)
		}
	}},
	{"options 51, 58, 59: the time asked for, within bounds; T1 and T2", func(t *testing.T, w *wire) {
		for last, tt := range map[byte]struct {
			asked, want time.Duration
			options     []dhcpv4.Modifier
		}{
			0x80: {0, time.Hour, nil},
			0x81: {time.Minute, 10 * time.Minute, nil},
			0x82: {90 * time.Minute, 90 * time.Minute, nil},
			0x83: {24 * time.Hour, 2 * time.Hour, nil},
			0x84: {time.Hour, lease.Infinite, []dhcpv4.Modifier{relayed}},
		} {
			options := tt.options
			if tt.asked != 0 {
				options = append(options, dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(tt.asked)))
			}
			ack := w.client(last).gets(options...)
			if got := ack.IPAddressLeaseTime(0); got != tt.want {
				t.Errorf("asked for %v: got %v, want %v", tt.asked, got, tt.want)
			}
			t1, t2 := ack.IPAddressRenewalTime(0), ack.IPAddressRebindingTime(0)
			if tt.want == lease.Infinite {
				if ack.Options.Has(dhcpv4.OptionRenewTimeValue) || ack.Options.Has(dhcpv4.OptionRebindingTimeValue) {
					t.Errorf("T1 %v and T2 %v of a lease that does not end", t1, t2)
				}
			} else if t1 != tt.want/2 || t2 != tt.want*7/8 {
				t.Errorf("T1 %v, T2 %v of %v", t1, t2, tt.want)
			}
		}
	}},
	{"option 50: the address asked for, if it can be had", func(t *testing.T, w *wire) {
		if a := yours(w.client(0x88).gets(requested(addr("192.0.2.180")))); a != addr("192.0.2.180") {
			t.Errorf("got %s, want 192.0.2.180", a)
		}
		for last, hint := range map[byte]string{0x89: "192.0.2.180", 0x8a: "192.0.2.11", 0x8b: "192.0.2.50", 0x8c: "198.51.100.120", 0x8d: "0.0.0.0", 0x8e: "255.255.255.255"} {
			a := yours(w.client(last).gets(requested(addr(hint))))
			if a == addr(hint) || a.Less(addr("192.0.2.100")) || addr("192.0.2.199").Less(a) {
				t.Errorf("asked for %s: got %s, want another of the pool", hint, a)
			}
		}
	}},
	{"option 55: what is asked for, and what must be there", func(t *testing.T, w *wire) {
		ack := w.client(0x90).gets(dhcpv4.WithRequestedOptions(dhcpv4.OptionRouter, dhcpv4.OptionInterfaceMTU))
		var got []byte
		for code := range ack.Options {
			got = append(got, code)
		}
		for _, code := range []byte{53, 54, 51, 3} {
			if !bytes.Contains(got, []byte{code}) {
				t.Errorf("option %d is missing among %v", code, got)
			}
		}
		if len(got) != 4 {
			t.Errorf("options %v, want 3, 51, 53 and 54 alone", got)
		}
	}},
	{"option 61: echoed, and the client's key", func(t *testing.T, w *wire) {
		id := dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("\x00us1")))
		first, second := w.client(0x92, id), w.client(0x93, id)
		ack := first.gets()
		if got := string(ack.Options.Get(dhcpv4.OptionClientIdentifier)); got != "\x00us1" {
			t.Errorf("identifier %q in the answer (RFC 6842)", got)
		}
		if a := yours(second.gets()); a != yours(ack) {
			t.Errorf("the same identifier got %s and %s", yours(ack), a)
		}
		nak := first.send(dhcpv4.MessageTypeRequest, requested(addr("203.0.113.5")))
		w.wantNak(nak)
		if got := string(nak.Options.Get(dhcpv4.OptionClientIdentifier)); got != "\x00us1" {
			t.Errorf("identifier %q in the NAK (RFC 6842)", got)
		}
	}},
	{"option 82: echoed, last", func(t *testing.T, w *wire) {
		information := []byte{1, 3, 'p', 'o', '1', 2, 2, 's', 'w'}
		ack := w.client(0x94, relayed, dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, information)).gets()
		at := bytes.Index(ack.raw, append([]byte{82, byte(len(information))}, information...))
		if at < 0 || ack.raw[at+2+len(information)] != 255 {
			t.Errorf("the relay's information is not the last option: %x", ack.raw[240:])
		}
	}},
}

// TestStates takes each state through the server, from packet to packet, whether
// the administrator gave the server identifier or not, and wherever that stands.
func TestStates(t *testing.T) {
	const serverID = "server_id: 192.0.2.2"
	for _, place := range []string{"first", "last", "absent"} {
		t.Run("server_id "+place, func(t *testing.T) {
			lines := []string{"leases: site=" + writeSite(t, statesSite) + " database=" + filepath.Join(t.TempDir(), "leases")}
			switch place {
			case "first":
				lines = append([]string{serverID}, lines...)
			case "last":
				lines = append(lines, serverID)
			}
			w := newWire(t, lines...)
			for _, tt := range states {
				t.Run(tt.name, func(t *testing.T) {
					outer := w.t
					w.t = t
					defer func() { w.t = outer }()
					tt.run(t, w)
				})
			}
		})
	}
}

// wantBOOTP ends the test unless the reply is a BOOTREPLY that gives the address as
// RFC 951 and RFC 1534 say: what a BOOTP client looks for is in the header, and
// nothing of DHCP is in it.
func (w *wire) wantBOOTP(r *reply, a netip.Addr) {
	w.t.Helper()
	if r == nil {
		w.t.Fatal("silence, want a BOOTREPLY")
	}
	if r.OpCode != dhcpv4.OpcodeBootReply || yours(r) != a {
		w.t.Fatalf("answer %s, want %s", r.Summary(), a)
	}
	for _, code := range []uint8{50, 51, 52, 53, 54, 55, 58, 59, 61} {
		if _, ok := r.Options[code]; ok {
			w.t.Errorf("option %d in a BOOTREPLY", code)
		}
	}
	if len(r.raw) != 300 {
		w.t.Errorf("%d octets, want 300 (RFC 951 section 3)", len(r.raw))
	}
	if len(r.SubnetMask()) == 0 {
		w.t.Error("no subnet mask")
	}
	if r.ServerIPAddr.String() != wiredServer.Addr().String() || r.ServerHostName != "boot.imaging.example.org" || r.BootFileName != "pump.img" {
		w.t.Errorf("siaddr %s, sname %q, file %q", r.ServerIPAddr, r.ServerHostName, r.BootFileName)
	}
}

// wantNak ends the test unless the reply is a NAK that says what RFC 2131 table 3
// allows and no more.
func (w *wire) wantNak(r *reply) {
	w.t.Helper()
	w.want(r, dhcpv4.MessageTypeNak)
	if !r.YourIPAddr.IsUnspecified() || !r.ClientIPAddr.IsUnspecified() || !r.ServerIPAddr.IsUnspecified() {
		w.t.Errorf("NAK with an address: %s", r.Summary())
	}
	for code := range r.Options {
		switch code {
		case 53, 54, 56, 61, 82:
		default:
			w.t.Errorf("NAK with option %d", code)
		}
	}
	if relay := r.GatewayIPAddr; relay.IsUnspecified() {
		if r.to != netip.MustParseAddrPort("255.255.255.255:68") || !bytes.Equal(r.hardware, broadcast) {
			w.t.Errorf("NAK to %s at %s, want it broadcast", r.to, r.hardware)
		}
	} else if r.to.Addr().String() != relay.String() || !r.IsBroadcast() {
		w.t.Errorf("NAK to %s with flags %04x, want it at %s and the broadcast bit", r.to, r.Flags, relay)
	}
}
