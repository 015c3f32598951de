package leases

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// TestHostile sends the server what no client should, and looks whether it is left
// unanswered or taken for what it can be. It ends with a client that is well.
func TestHostile(t *testing.T) {
	w := newWire(t, pluginLines(t, statesSite+`
classes:
  - {name: a, user-class: a, options: {log-servers: [192.0.2.9]}}
  - {name: v, vendor-class: v}
`, "")...)
	generic := func(code uint8, value []byte) dhcpv4.Modifier {
		return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), value)
	}
	hardware := func(htype uint16, octets int) dhcpv4.Modifier {
		return func(m *dhcpv4.DHCPv4) {
			m.HWType, m.ClientHWAddr = iana.HWType(htype), bytes.Repeat([]byte{byte(octets), byte(htype)}, 8)[:octets]
		}
	}
	id := func(n int) dhcpv4.Modifier { return generic(61, bytes.Repeat([]byte{byte(n)}, n)) }
	const offer, silence = dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeNone
	for i, tt := range []struct {
		name string
		says []dhcpv4.Modifier
		want dhcpv4.MessageType
	}{
		{"client identifier of 0 octets", []dhcpv4.Modifier{id(0)}, offer},
		{"client identifier of 1 octet", []dhcpv4.Modifier{id(1)}, offer},
		{"client identifier of 255 octets", []dhcpv4.Modifier{id(255)}, offer},
		{"client identifier of 256 octets, in two parts", []dhcpv4.Modifier{id(256)}, silence},
		{"client identifier of 600 octets, in three parts", []dhcpv4.Modifier{id(600)}, silence},
		{"no hardware address", []dhcpv4.Modifier{hardware(1, 0)}, silence},
		{"no hardware address, but an identifier", []dhcpv4.Modifier{hardware(1, 0), id(4)}, offer},
		{"InfiniBand (RFC 4390)", []dhcpv4.Modifier{hardware(32, 0), id(9)}, offer},
		{"hardware address of 1 octet", []dhcpv4.Modifier{hardware(7, 1)}, offer},
		{"hardware address of 16 octets", []dhcpv4.Modifier{hardware(27, 16)}, offer},
		{"hardware type 0", []dhcpv4.Modifier{hardware(0, 6)}, offer},
		{"hardware type 255", []dhcpv4.Modifier{hardware(255, 6)}, offer},
		{"IPsec tunnel without identifier (RFC 3456)", []dhcpv4.Modifier{hardware(31, 6)}, silence},
		{"IPsec tunnel", []dhcpv4.Modifier{hardware(31, 6), id(7)}, offer},
		{"requested address of 0 octets", []dhcpv4.Modifier{generic(50, nil)}, offer},
		{"requested address of 3 octets", []dhcpv4.Modifier{generic(50, []byte{192, 0, 2})}, offer},
		{"requested address of 16 octets", []dhcpv4.Modifier{generic(50, make([]byte, 16))}, offer},
		{"requested address is the server's", []dhcpv4.Modifier{requested(wiredServer.Addr())}, offer},
		{"lease time of 3 octets", []dhcpv4.Modifier{generic(51, []byte{0, 0, 9})}, offer},
		{"lease time of 0", []dhcpv4.Modifier{generic(51, make([]byte, 4))}, offer},
		{"lease time without end", []dhcpv4.Modifier{generic(51, []byte{255, 255, 255, 255})}, offer},
		{"server identifier in a DISCOVER", []dhcpv4.Modifier{selected(other)}, offer},
		{"list of 0 options", []dhcpv4.Modifier{generic(55, nil)}, offer},
		{"list of 255 times one option", []dhcpv4.Modifier{generic(55, bytes.Repeat([]byte{3}, 255))}, offer},
		{"list of 1000 options", []dhcpv4.Modifier{generic(55, bytes.Repeat([]byte{1, 3, 6, 15, 255, 0, 82, 61}, 125))}, offer},
		{"list of every option", []dhcpv4.Modifier{func(m *dhcpv4.DHCPv4) {
			for code := range uint8(255) {
				m.Options[55] = append(m.Options[55], code)
			}
		}}, offer},
		{"message size of 1 octet", []dhcpv4.Modifier{generic(57, []byte{1})}, offer},
		{"message size of 0", []dhcpv4.Modifier{generic(57, []byte{0, 0})}, offer},
		{"message size of 68", []dhcpv4.Modifier{generic(57, []byte{0, 68})}, offer},
		{"host name of 0 octets", []dhcpv4.Modifier{generic(12, nil)}, offer},
		{"host name of 255 zeros", []dhcpv4.Modifier{generic(12, make([]byte, 255))}, offer},
		{"host name of control characters", []dhcpv4.Modifier{generic(12, []byte("\x01\x1b[2J\r\n\x7f"))}, offer},
		{"host name that is no UTF-8", []dhcpv4.Modifier{generic(12, []byte{0xff, 0xfe, 0xc3, 0x28})}, offer},
		{"host name of 600 octets, in three parts", []dhcpv4.Modifier{generic(12, bytes.Repeat([]byte("a"), 600))}, offer},
		{"name (81) of 2 octets", []dhcpv4.Modifier{generic(81, []byte{0, 0})}, offer},
		{"name (81) that points at itself", []dhcpv4.Modifier{generic(81, []byte{4, 0, 0, 0xc0, 0})}, offer},
		{"vendor class of 255 octets", []dhcpv4.Modifier{generic(60, bytes.Repeat([]byte("v"), 255))}, offer},
		{"user class of 0 octets", []dhcpv4.Modifier{generic(77, nil)}, offer},
		{"user class of 400 values", []dhcpv4.Modifier{generic(77, bytes.Repeat([]byte("\x01a"), 400))}, offer},
		{"user class with a length of 0", []dhcpv4.Modifier{generic(77, []byte("\x01a\x00\x00"))}, offer},
		{"user class that is cut off", []dhcpv4.Modifier{generic(77, []byte("\x01a\x09b"))}, offer},
		{"relay information of 0 octets", []dhcpv4.Modifier{generic(82, nil)}, offer},
		{"relay information of 125 empty sub-options", []dhcpv4.Modifier{generic(82, bytes.Repeat([]byte{1, 0}, 125))}, offer},
		{"relay information that is cut off", []dhcpv4.Modifier{generic(82, []byte{1, 200, 'a'})}, offer},
		{"relay information of 255 octets", []dhcpv4.Modifier{generic(82, append([]byte{1, 253}, make([]byte, 253)...))}, offer},
		{"link selection of 3 octets", []dhcpv4.Modifier{relayed, generic(82, []byte{5, 3, 1, 2, 3})}, offer},
		{"subnet selection of 3 octets", []dhcpv4.Modifier{generic(118, []byte{1, 2, 3})}, offer},
		{"subnet selection of 0.0.0.0", []dhcpv4.Modifier{generic(118, make([]byte, 4))}, offer},
		{"every option there is, of 1 octet", []dhcpv4.Modifier{func(m *dhcpv4.DHCPv4) {
			for code := range uint8(254) {
				if code != 0 && code != 52 && code != 53 {
					m.Options[code] = []byte{7}
				}
			}
		}}, offer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			outer := w.t
			w.t = t
			defer func() { w.t = outer }()
			c := w.client(byte(0x10+i), tt.says...)
			if got := c.send(dhcpv4.MessageTypeDiscover); (got != nil) != (tt.want == offer) || got != nil && got.MessageType() != tt.want {
				t.Errorf("answer %v, want %s", got, tt.want)
			} else if got != nil && len(got.raw) > 576-28 {
				t.Errorf("answer of %d octets, which not everyone takes (RFC 2131 section 2)", len(got.raw))
			}
		})
	}
	w.client(0xe0).gets()
}

// TestManySubOptions has as many sub-options in option 82 as a packet holds.
func TestManySubOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		value           []byte
		circuit, remote string
	}{
		"empty ones before": {slices.Concat(bytes.Repeat([]byte{9, 0}, 1900), []byte("\x01\x01c\x02\x01r")), "c", "r"},
		"the first counts":  {slices.Concat([]byte("\x01\x01c\x02\x01r"), bytes.Repeat([]byte("\x01\x01x\x02\x01y"), 600)), "c", "r"},
		"cut off behind":    {slices.Concat([]byte("\x02\x01r"), bytes.Repeat([]byte{9, 0}, 1900), []byte{9, 200}), "", "r"},
	} {
		m := marksOf(&dhcpv4.DHCPv4{Options: dhcpv4.Options{dhcpv4.OptionRelayAgentInformation.Code(): tt.value}})
		if m.CircuitID != tt.circuit || m.RemoteID != tt.remote {
			t.Errorf("%s: circuit %q and remote %q, want %q and %q", name, m.CircuitID, m.RemoteID, tt.circuit, tt.remote)
		}
	}
}

// TestHostileRequests has options that a REQUEST lives on be wrong.
func TestHostileRequests(t *testing.T) {
	w := newWire(t, pluginLines(t, statesSite, "")...)
	c := w.client(0x10)
	a := yours(c.gets())
	for name, says := range map[string][]dhcpv4.Modifier{
		"nothing at all":              nil,
		"a server and no address":     {selected(other)},
		"an address of 3 octets":      {dhcpv4.WithGeneric(dhcpv4.OptionRequestedIPAddress, []byte{192, 0, 2})},
		"the address 0.0.0.0":         {requested(netip.IPv4Unspecified())},
		"a server of 3 octets":        {dhcpv4.WithGeneric(dhcpv4.OptionServerIdentifier, []byte{192, 0, 2})},
		"the server 0.0.0.0, no more": {selected(netip.IPv4Unspecified())},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.send(dhcpv4.MessageTypeRequest, says...); got != nil {
				t.Errorf("answer %s, want silence", got.Summary())
			}
		})
	}
	w.holds(c, a)
}

// FuzzHandle hands the plugin any header and any options. Whatever they are, the
// answer is one that RFC 2131 allows.
func FuzzHandle(f *testing.F) {
	l := onMemory(f)
	own, ct1 := uint32(0xc000024d), []byte{0, 0, 0x5e, 0, 0x53, 1}
	seed := func(mt dhcpv4.MessageType, ciaddr, giaddr uint32, modifiers ...dhcpv4.Modifier) {
		m := &dhcpv4.DHCPv4{Options: dhcpv4.Options{}}
		for _, modify := range modifiers {
			modify(m)
		}
		f.Add(uint8(mt), uint8(1), ct1, ciaddr, giaddr, m.Options.ToBytes())
	}
	seed(dhcpv4.MessageTypeDiscover, 0, 0, vendorClass("v"), hostName("ws7"), information("a", "b"))
	seed(dhcpv4.MessageTypeRequest, 0, 0, requested(addr("192.0.2.11")), selected(serverID))
	seed(dhcpv4.MessageTypeRequest, own, 0)
	seed(dhcpv4.MessageTypeDecline, 0, 0, requested(addr("192.0.2.11")))
	seed(dhcpv4.MessageTypeRelease, own, 0)
	seed(dhcpv4.MessageTypeInform, own, 0, dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("\x01a")))
	seed(dhcpv4.MessageTypeNone, 0, 0xc6336401)
	f.Fuzz(func(t *testing.T, messageType, htype uint8, hardware []byte, ciaddr, giaddr uint32, options []byte) {
		r := &dhcpv4.DHCPv4{
			OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWType(htype), ClientHWAddr: hardware[:min(len(hardware), 16)],
			ClientIPAddr: binary.BigEndian.AppendUint32(nil, ciaddr), GatewayIPAddr: binary.BigEndian.AppendUint32(nil, giaddr),
			Options: dhcpv4.Options{},
		}
		if err := r.Options.FromBytes(options); err != nil {
			return
		}
		r.Options[dhcpv4.OptionDHCPMessageType.Code()] = []byte{messageType}
		if messageType == 0 {
			delete(r.Options, dhcpv4.OptionDHCPMessageType.Code())
		}
		mt := r.MessageType()
		if !l.Accepts(mt) {
			return
		}
		x := &server.Exchange{Request: r, Reply: &dhcpv4.DHCPv4{Options: dhcpv4.Options{}}, Interface: "eth0", Addresses: []netip.Addr{serverID}, ServerID: serverID}
		switch mt {
		case dhcpv4.MessageTypeDiscover:
			x.Reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
		case dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform:
			x.Reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
		}
		verdict := l.Handle(t.Context(), x)
		if x.Reply == nil {
			return
		}
		your := server.Address(x.Reply.YourIPAddr)
		given := slices.ContainsFunc(l.site.Current().Networks, func(n site.Network) bool { return n.Prefix.Contains(your) })
		switch {
		case mt == dhcpv4.MessageTypeRelease || mt == dhcpv4.MessageTypeDecline:
			t.Errorf("an answer to a %s", mt)
		case x.Reply.MessageType() == dhcpv4.MessageTypeNak:
			if your.IsValid() || verdict != server.Stop || mt != dhcpv4.MessageTypeRequest {
				t.Errorf("NAK to a %s with %s", mt, your)
			}
		case mt == dhcpv4.MessageTypeInform:
			if your.IsValid() || x.Reply.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
				t.Errorf("an address or a time for an INFORM: %s", x.Reply.Summary())
			}
		case !given || your == serverID:
			t.Errorf("%s was given %s", mt, your)
		case mt == dhcpv4.MessageTypeNone:
			if x.Reply.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
				t.Error("a lease time for a BOOTP client")
			}
		case len(x.Reply.Options[dhcpv4.OptionIPAddressLeaseTime.Code()]) != 4:
			t.Error("no lease time")
		}
	})
}

func FuzzMarks(f *testing.F) {
	f.Add([]byte("\x01a\x04iPXE"), []byte("\x01\x06eth0/7\x02\x02sw"))
	f.Add([]byte("iPXE"), []byte{1, 200, 'a'})
	f.Fuzz(func(t *testing.T, class, relay []byte) {
		m := marksOf(&dhcpv4.DHCPv4{Options: dhcpv4.Options{
			dhcpv4.OptionUserClassInformation.Code():  class,
			dhcpv4.OptionRelayAgentInformation.Code(): relay,
		}})
		if n := len(strings.Join(m.UserClasses, "")); n > len(class) {
			t.Errorf("classes of %d octets in %d", n, len(class))
		}
		if len(m.CircuitID)+len(m.RemoteID) > len(relay) {
			t.Errorf("%d octets of circuit and remote in %d", len(m.CircuitID)+len(m.RemoteID), len(relay))
		}
	})
}

// onMemory is a plugin whose database is in memory.
func onMemory(t testing.TB) *Leases { return onFS(t, vfs.NewMem()) }

// onFS is a plugin whose database is on a file system.
func onFS(t testing.TB, fs vfs.FS) *Leases {
	t.Helper()
	host := new(server.Host)
	p, err := New([]string{"site=" + writeSite(t, statesSite+"classes: [{name: v, vendor-class: v}, {name: a, user-class: a}]\n"), "database=leases"}, host)
	if err != nil {
		t.Fatal(err)
	}
	l := p.(*Leases)
	l.log = slog.New(slog.DiscardHandler)
	if l.manager, err = lease.Open("leases", config(l.site.Current(), bounds{}), lease.Options{FS: fs, Committed: l.committed}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.manager.Close() })
	return l
}
