package leases

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const namesSite = `
domain: imaging.example.org
name-servers: [{host: ns1, address: 192.0.2.2}]
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}
  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.100-198.51.100.199], ddns: {mode: "off"}}
  - {name: oncology, subnet: 203.0.113.0/25, pools: [203.0.113.10-203.0.113.99], ddns: {forward: fixed, reverse: none}}
  - {name: urology, subnet: 203.0.113.128/25, pools: [203.0.113.140-203.0.113.199], ddns: {forward: none}}
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01"}
  - {name: mr1, hardware-address: "00:00:5e:00:53:02", address: [192.0.2.12], publish: always}
`

// fqdn is option 81: flags, and the name as it stands there.
func fqdn(flags byte, name string) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.OptionFQDN, append([]byte{flags, 0, 0}, name...))
}

func asks(codes ...uint8) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.OptionParameterRequestList, codes)
}

// TestNames has clients say what they are called, and looks at what they are told
// and at what is to stand in DNS.
func TestNames(t *testing.T) {
	const (
		cardiology, oncology, urology = "198.51.100.1", "203.0.113.1", "203.0.113.129"

		s, o, e, n = 1, 2, 4, 8 // RFC 4702 section 2.1

		wire = "\x03ws7\x07imaging\x07example\x03org\x00"
	)
	w := newWire(t, pluginLines(t, namesSite, "")...)
	w.host.Leases().Publish()
	type says = []dhcpv4.Modifier
	for i, tt := range []struct {
		name   string
		client byte // 0: one that nobody knows
		says   says
		told   string // option 12; * stands for the generated label
		fqdn   string // option 81: flags in hexadecimal, and the name; "" for none
		dns    string // what the lease is named, without the domain; "" for nothing
	}{
		{"nothing", 0, nil, "*", "", "*"},
		{"nothing, and no name is asked for", 0, says{asks(1, 3)}, "", "", "*"},
		{"option 12", 0, says{hostName("ws7")}, "ws7", "", "ws7"},
		{"option 12, and no name is asked for", 0, says{hostName("ws7"), asks(1, 3)}, "", "", "ws7"},
		{"option 12, to be cleaned", 0, says{hostName("CT_Room 3.clinic.example.com")}, "ct-room-3", "", "ct-room-3"},
		{"option 12, a device's name", 0, says{hostName("ct1")}, "*", "", "*"},
		{"option 12, a name server's name", 0, says{hostName("NS1.imaging.example.org")}, "*", "", "*"},
		{"option 12, another address's name", 0, says{hostName("dhcp-192-0-2-199")}, "*", "", "*"},
		{"option 12, nothing left of it", 0, says{hostName("***")}, "*", "", "*"},

		{"option 81: the server is to update", 0, says{fqdn(s, "ws7")}, "", "01 ws7", "ws7"},
		{"option 81, in wire form", 0, says{fqdn(s|e, wire)}, "", "05 ws7", "ws7"},
		{"option 81, in wire form, partial", 0, says{fqdn(s|e, "\x03ws7")}, "", "05 ws7", "ws7"},
		{"option 81, in wire form, malformed", 0, says{fqdn(s|e, "\x3fws7")}, "", "05 *", "*"},
		{"option 81, in wire form, octets that are none of a name", 0, says{fqdn(s|e, "\x06ws\xc3\xa477\x00")}, "", "05 ws-77", "ws-77"},
		{"option 81: the client wants to update itself, and is overridden", 0, says{fqdn(0, "ws7")}, "", "03 ws7", "ws7"},
		{"option 81 of Windows", 0, says{fqdn(0, "PC7\x00"), hostName("PC7"), asks(1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252)}, "", "03 pc7", "pc7"},
		{"option 81, in another domain", 0, says{fqdn(s, "pc7.clinic.example.com")}, "", "01 pc7", "pc7"},
		{"option 81, and option 12 is asked for", 0, says{fqdn(s, "ws7"), asks(12, 81)}, "ws7", "01 ws7", "ws7"},
		{"option 81 goes before option 12", 0, says{fqdn(s, "ws7"), hostName("ws8")}, "", "01 ws7", "ws7"},
		{"option 81 without a name: the server's choice", 0, says{fqdn(s, ""), hostName("ws8")}, "", "01 *", "*"},
		{"option 81: nothing in DNS, please", 0, says{fqdn(n, "ws7")}, "", "08 ws7", ""},
		{"option 81: nothing in DNS, and no name", 0, says{fqdn(n|e, "")}, "", "0c *", ""},
		{"option 81: flags that contradict each other", 0, says{fqdn(n|s, "ws7")}, "", "0a ws7", ""},
		{"option 81: bits that must be zero", 0, says{fqdn(0xf0|s, "ws7")}, "", "01 ws7", "ws7"},
		{"option 81: the server's own bit", 0, says{fqdn(o|s, "ws7")}, "", "01 ws7", "ws7"},
		{"option 81, too short to be one", 0, says{dhcpv4.WithGeneric(dhcpv4.OptionFQDN, []byte{1, 0}), hostName("ws8")}, "ws8", "", "ws8"},
		{"option 81, a device's name", 0, says{fqdn(s, "ct1.imaging.example.org.")}, "", "01 *", "*"},

		{"a device says nothing", 1, nil, "ct1", "", "ct1"},
		{"a device says something else", 1, says{hostName("siemens-7")}, "ct1", "", "ct1"},
		{"a device, option 81", 1, says{fqdn(0, "siemens-7")}, "", "03 ct1", "ct1"},
		{"a device does not want to be in DNS, and has no say", 1, says{fqdn(n, "siemens-7")}, "", "03 ct1", "ct1"},
		{"a device that is always published", 2, says{fqdn(e, "")}, "", "07 mr1", ""},

		{"no DNS in this network", 0, says{relay(cardiology), hostName("ws7")}, "ws7", "", "ws7"},
		{"no DNS in this network, nothing", 0, says{relay(cardiology)}, "*", "", ""},
		{"no DNS in this network, option 81", 0, says{relay(cardiology), fqdn(s, "ws7")}, "", "0a ws7", "ws7"},
		{"no DNS in this network, a device", 1, says{relay(cardiology), fqdn(0, "")}, "", "08 ct1", "ct1"},
		{"DNS for devices alone", 0, says{relay(oncology), fqdn(s, "ws7")}, "", "0a ws7", "ws7"},
		{"DNS for devices alone, a device", 1, says{relay(oncology), fqdn(s, "")}, "", "01 ct1", "ct1"},
		{"DNS for addresses alone: the client may update its name", 0, says{relay(urology), fqdn(0, "ws7")}, "", "00 ws7", "ws7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			outer := w.t
			w.t = t
			defer func() { w.t = outer }()
			last := tt.client
			if last == 0 {
				last = byte(0x10 + i)
			}
			c := w.client(last, tt.says...)
			offer := c.send(dhcpv4.MessageTypeDiscover)
			w.want(offer, dhcpv4.MessageTypeOffer)
			ack := c.send(dhcpv4.MessageTypeRequest, requested(yours(offer)), selected(wiredServer.Addr()))
			w.want(ack, dhcpv4.MessageTypeAck)
			generated := "dhcp-" + string(bytes.ReplaceAll([]byte(yours(ack).String()), []byte("."), []byte("-")))
			meant := func(s string) string { return string(bytes.ReplaceAll([]byte(s), []byte("*"), []byte(generated))) }
			for _, r := range []*reply{offer, ack} {
				if got := r.HostName(); got != meant(tt.told) {
					t.Errorf("%s: option 12 is %q, want %q", r.MessageType(), got, meant(tt.told))
				}
				if got := fqdnTold(t, r); got != meant(tt.fqdn) {
					t.Errorf("%s: option 81 is %q, want %q", r.MessageType(), got, meant(tt.fqdn))
				}
			}
			want := meant(tt.dns)
			if want != "" {
				want += ".imaging.example.org."
			}
			if l, _ := w.lease(yours(ack)); l.Name != want {
				t.Errorf("the lease is named %q, want %q", l.Name, want)
			}
		})
	}
	t.Run("INFORM, which changes nothing in DNS, is not told", func(t *testing.T) {
		ack := w.client(0x08).send(dhcpv4.MessageTypeInform, ciaddr(addr("192.0.2.70")), fqdn(s, "ws7"))
		w.want(ack, dhcpv4.MessageTypeAck)
		if got := fqdnTold(t, ack); got != "" {
			t.Errorf("option 81 is %q", got)
		}
	})
}

// fqdnTold reads option 81 of an answer: its flags in hexadecimal and the name
// without the site's domain, which must be there. "" stands for no such option.
func fqdnTold(t *testing.T, r *reply) string {
	t.Helper()
	v := r.Options[81]
	if v == nil {
		return ""
	}
	if len(v) < 4 || v[1] != 255 || v[2] != 255 {
		t.Fatalf("option 81 % x: want flags, two RCODEs of 255 and a name", v)
	}
	name, ok := "", false
	if v[0]&4 == 0 {
		var n []byte
		n, ok = bytes.CutSuffix(v[3:], []byte(".imaging.example.org"))
		name = string(n)
	} else if n, found := bytes.CutSuffix(v[3:], []byte("\x07imaging\x07example\x03org\x00")); found && len(n) > 0 && int(n[0]) == len(n)-1 {
		name, ok = string(n[1:]), true
	}
	if !ok {
		t.Errorf("option 81 % x: want a whole name below the domain", v)
	}
	return fmt.Sprintf("%02x %s", v[0], name)
}

// Where nobody puts names into DNS, no client is told that somebody does.
func TestNamesWithoutDNS(t *testing.T) {
	w := newWire(t, pluginLines(t, namesSite, "")...)
	ack := w.client(0x10, fqdn(1, "ws7")).gets()
	if got := fqdnTold(t, ack); got != "0a ws7" {
		t.Errorf("option 81 is %q, want the name, N and O", got)
	}
	ack = w.client(0x11).gets()
	if l, _ := w.lease(yours(ack)); l.Name != "" {
		t.Errorf("the lease is named %q, want nothing", l.Name)
	}
}
