package leases

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// asking lists options (option 55).
func asking(codes ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.OptionParameterRequestList, codes)
}

// optionsOf are the options with these codes in a message, in hexadecimal digits; "-" stands for one that is not there.
func optionsOf(m *dhcpv4.DHCPv4, codes ...uint8) string {
	var text []string
	for _, code := range codes {
		v, ok := m.Options[code]
		if !ok {
			text = append(text, "-")
			continue
		}
		text = append(text, hex.EncodeToString(v))
	}
	return strings.Join(text, " ")
}

// TestRoutes holds who is told of routes by which option (RFC 3442).
func TestRoutes(t *testing.T) {
	l := startWith(t, t.TempDir(), new(server.Host), writeSite(t, `
domain: imaging.example.org
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    pools: [192.0.2.100-192.0.2.199]
    options: {routers: [192.0.2.1, 192.0.2.4], static-routes: [198.51.100.7 via 192.0.2.3]}
  - name: cardiology
    subnet: 198.51.100.0/24
    pools: [198.51.100.100-198.51.100.199]
    options: {routers: [198.51.100.1], static-routes: [192.0.2.7 via 198.51.100.3], classless-static-route: [192.0.2.0/24 via 198.51.100.3]}
`))
	const (
		router, classful = "c0000201c0000204", "c6336407c0000203"
		router2          = "c6336401"
		classful2        = "c0000207c6336403"
		classless        = "18c00002" + "c6336403" + "00" + "c6336401" // the last is the default route
	)
	relayed := dhcpv4.WithGatewayIP([]byte{198, 51, 100, 1})
	for i, tt := range []struct {
		name    string
		options []dhcpv4.Modifier
		want    string // 3, 33, 121, 249
	}{
		{"no classless routes, asked for all", []dhcpv4.Modifier{asking(1, 121, 33, 3, 249)}, router + " " + classful + " - -"},
		{"no classless routes, no list", nil, router + " " + classful + " - -"},
		{"asked for all", []dhcpv4.Modifier{relayed, asking(1, 121, 33, 3)}, "- - " + classless + " -"},
		{"asked for classless routes alone", []dhcpv4.Modifier{relayed, asking(1, 121)}, "- - " + classless + " -"},
		{"asked for the others", []dhcpv4.Modifier{relayed, asking(1, 3, 33)}, router2 + " " + classful2 + " - -"},
		{"no list", []dhcpv4.Modifier{relayed}, router2 + " " + classful2 + " " + classless + " -"},
		{"old Windows", []dhcpv4.Modifier{relayed, asking(1, 15, 3, 6, 44, 46, 47, 31, 33, 249, 43)}, router2 + " " + classful2 + " - " + classless},
		{"new Windows", []dhcpv4.Modifier{relayed, asking(1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252)}, "- - " + classless + " " + classless},
	} {
		t.Run(tt.name, func(t *testing.T) {
			offer := send(t, l, dhcpv4.MessageTypeDiscover, byte(i), tt.options...)
			if got := optionsOf(offer, 3, 33, 121, 249); got != tt.want {
				t.Errorf("options 3, 33, 121, 249:\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestWithoutAddress has clients for which there is no address.
func TestWithoutAddress(t *testing.T) {
	const text = `
domain: imaging.example.org
classes: [{name: guests, user-class: guest, options: {auto-config: true}}]
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [{range: 192.0.2.100-192.0.2.199, clients: known}], options: {OPTIONS}}
devices: [{name: ct1, hardware-address: 00:00:5e:00:53:01}]
`
	configured := startWith(t, t.TempDir(), new(server.Host), writeSite(t, strings.Replace(text, "OPTIONS", "routers: [192.0.2.1], auto-config: false, v6-only-preferred: 1800", 1)))
	plain := startWith(t, t.TempDir(), new(server.Host), writeSite(t, strings.Replace(text, "OPTIONS", "routers: [192.0.2.1]", 1)))
	autoConfigure := dhcpv4.WithOption(dhcpv4.OptAutoConfigure(dhcpv4.AutoConfigure))
	elsewhere := dhcpv4.WithGatewayIP([]byte{203, 0, 113, 1})
	guest := dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("\x05guest"))
	for _, tt := range []struct {
		name    string
		l       *Leases
		kind    dhcpv4.MessageType
		client  byte
		options []dhcpv4.Modifier
		want    string // address, and options 3, 51, 108, 116; "": silence
	}{
		{"a client that sent 116", configured, dhcpv4.MessageTypeDiscover, 0x80, []dhcpv4.Modifier{autoConfigure, asking(3)}, "0.0.0.0 - - - 00"},
		{"a client that listed 108", configured, dhcpv4.MessageTypeDiscover, 0x80, []dhcpv4.Modifier{asking(3, 108)}, "0.0.0.0 - - 00000708 -"},
		{"a client that did both", configured, dhcpv4.MessageTypeDiscover, 0x80, []dhcpv4.Modifier{autoConfigure, asking(108)}, "0.0.0.0 - - 00000708 00"},
		{"a client that did neither", configured, dhcpv4.MessageTypeDiscover, 0x80, []dhcpv4.Modifier{asking(3, 116)}, ""},
		{"a client of a class", plain, dhcpv4.MessageTypeDiscover, 0x80, []dhcpv4.Modifier{autoConfigure, guest}, "0.0.0.0 - - - 01"},
		{"a client of another network", configured, dhcpv4.MessageTypeDiscover, 0x80, []dhcpv4.Modifier{autoConfigure, elsewhere}, ""},
		{"nothing configured", plain, dhcpv4.MessageTypeDiscover, 0x80, []dhcpv4.Modifier{autoConfigure, asking(3, 108)}, ""},
		{"a request", configured, dhcpv4.MessageTypeRequest, 0x80, []dhcpv4.Modifier{autoConfigure, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress([]byte{192, 0, 2, 100}))}, ""},
		{"a device", configured, dhcpv4.MessageTypeDiscover, 0x01, []dhcpv4.Modifier{autoConfigure, asking(3, 108)}, "192.0.2.100 c0000201 0000a8c0 00000708 00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reply, got := send(t, tt.l, tt.kind, tt.client, tt.options...), ""
			if reply != nil {
				got = reply.YourIPAddr.String() + " " + optionsOf(reply, 3, 51, 108, 116)
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestBootFields holds where a client that boots finds server and file.
func TestBootFields(t *testing.T) {
	l := startWith(t, t.TempDir(), new(server.Host), writeSite(t, `
domain: imaging.example.org
classes:
  - {name: address, user-class: address, options: {tftp-server-name: 192.0.2.5, boot-file-name: a.img}}
  - {name: name, user-class: name, options: {tftp-server-name: tftp.example.org, boot-file-name: b.img}}
  - {name: phone, user-class: phone, options: {tftp-server-address: [192.0.2.6, 192.0.2.7]}}
  - {name: both, user-class: both, options: {tftp-server-name: tftp.example.org, tftp-server-address: 192.0.2.6, boot-file-name: c.img}}
  - {name: file, user-class: file, options: {boot-file-name: d.img}}
  - {name: long, user-class: long, options: {tftp-server-name: `+strings.Repeat("n", 64)+`, boot-file-name: `+strings.Repeat("f", 128)+`}}
networks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}]
devices: [{name: ct1, hardware-address: 00:00:5e:00:53:01, address: 192.0.2.11}]
`))
	text := func(s string) string { return hex.EncodeToString([]byte(s)) }
	all, file := asking(66, 67, 150), asking(67)
	for _, tt := range []struct {
		name  string
		class string
		asked []dhcpv4.Modifier
		bootp bool
		want  string // siaddr, sname, file, and options 66, 67, 150
	}{
		{"an address", "address", []dhcpv4.Modifier{all}, false, `192.0.2.5 "192.0.2.5" "a.img" ` + text("192.0.2.5") + " " + text("a.img") + " -"},
		{"an address, nothing asked for", "address", []dhcpv4.Modifier{asking(1)}, false, `192.0.2.5 "192.0.2.5" "a.img" - - -`},
		{"a name", "name", []dhcpv4.Modifier{file}, false, `0.0.0.0 "tftp.example.org" "b.img" - ` + text("b.img") + " -"},
		{"addresses", "phone", []dhcpv4.Modifier{all}, false, `192.0.2.6 "" "" - - c0000206c0000207`},
		{"name and address", "both", []dhcpv4.Modifier{file}, false, `192.0.2.6 "tftp.example.org" "c.img" - ` + text("c.img") + " -"},
		{"a file alone is this server's", "file", []dhcpv4.Modifier{file}, false, `192.0.2.2 "" "d.img" - ` + text("d.img") + " -"},
		{"too long for the header", "long", []dhcpv4.Modifier{file}, false, `0.0.0.0 "" "" - ` + text(strings.Repeat("f", 128)) + " -"},
		{"nothing configured", "none", []dhcpv4.Modifier{all}, false, `0.0.0.0 "" "" - - -`},
		{"BOOTP: an address", "address", nil, true, `192.0.2.5 "192.0.2.5" "a.img" - - -`},
		{"BOOTP: a name", "name", nil, true, `192.0.2.2 "tftp.example.org" "b.img" - - -`},
		{"BOOTP: nothing configured", "none", nil, true, `192.0.2.2 "" "" - - -`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kind := dhcpv4.MessageTypeDiscover
			if tt.bootp {
				kind = dhcpv4.MessageTypeNone
			}
			class := dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, append([]byte{byte(len(tt.class))}, tt.class...))
			reply := send(t, l, kind, 0x01, append(tt.asked, class)...)
			got := netip.AddrFrom4([4]byte(reply.ServerIPAddr.To4())).String() + ` "` + reply.ServerHostName + `" "` + reply.BootFileName + `" ` + optionsOf(reply, 66, 67, 150)
			if got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestBootServerBehindRelay holds that nobody is sent to boot from a relay that has
// put itself into the server's place (RFC 5107).
func TestBootServerBehindRelay(t *testing.T) {
	l := startWith(t, t.TempDir(), new(server.Host), writeSite(t, `
domain: imaging.example.org
classes:
  - {name: address, user-class: address, options: {tftp-server-name: 192.0.2.5, boot-file-name: a.img}}
  - {name: file, user-class: file, options: {boot-file-name: d.img}}
networks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}]
`))
	relay := netip.MustParseAddr("192.0.2.254")
	for _, tt := range []struct {
		class    string
		serverID bool // server_id stands before
		want     string
	}{
		{"address", true, "192.0.2.5"}, {"address", false, "192.0.2.5"}, {"file", true, "192.0.2.2"}, {"file", false, "192.0.2.2"}, {"none", true, "192.0.2.2"},
	} {
		request := message(t, dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.WithHwAddr(net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 0x90}),
			dhcpv4.WithGatewayIP(relay.AsSlice()), dhcpv4.WithOption(dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.ServerIdentifierOverrideSubOption, relay.AsSlice()))),
			dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, append([]byte{byte(len(tt.class))}, tt.class...)), asking(67))
		reply, err := dhcpv4.NewReplyFromRequest(request, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer))
		if err != nil {
			t.Fatal(err)
		}
		if tt.serverID {
			reply.ServerIPAddr = serverID.AsSlice()
			reply.UpdateOption(dhcpv4.OptServerIdentifier(serverID.AsSlice()))
		}
		x := &server.Exchange{Request: request, Reply: reply, Interface: "eth0", Addresses: []netip.Addr{serverID}, ServerID: relay}
		if l.Handle(t.Context(), x); x.Reply == nil || x.Reply.ServerIPAddr.String() != tt.want {
			t.Errorf("%+v: reply %v", tt, x.Reply)
		}
	}
}

// TestEcho holds what comes back as it came.
func TestEcho(t *testing.T) {
	l := startWith(t, t.TempDir(), new(server.Host), writeSite(t, goldenSite))
	uuid := bytes.Repeat([]byte{7}, 17)
	machine := dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, uuid)
	if got := optionsOf(send(t, l, dhcpv4.MessageTypeDiscover, 0x80, machine, asking(97)), 97); got != hex.EncodeToString(uuid) {
		t.Errorf("asked for, the machine's UUID came back as %s", got)
	}
	for name, options := range map[string][]dhcpv4.Modifier{"not asked for": {machine, asking(1)}, "not sent": {asking(97)}, "no list": {machine}} {
		if got := optionsOf(send(t, l, dhcpv4.MessageTypeDiscover, 0x80, options...), 97); got != "-" {
			t.Errorf("%s, the machine's UUID came back as %s", name, got)
		}
	}
}
