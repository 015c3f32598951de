package server

import (
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestFQDN(t *testing.T) {
	const s, e = 1, 4 // RFC 4702 section 2.1
	for _, tt := range []struct {
		name   string
		option []byte
		flags  uint8
		want   string
		ok     bool
	}{
		{"none", nil, 0, "", false},
		{"too short to be one", []byte{s, 255}, 0, "", false},
		{"without a name", []byte{s, 255, 255}, s, "", true},
		{"text", []byte("\x01\xff\xffws7.example.org"), s, "ws7.example.org", true},
		{"wire form", []byte("\x05\xff\xff\x03ws7\x07example\x03org\x00"), s | e, "ws7", true},
		{"wire form, without a name", []byte("\x05\xff\xff"), s | e, "", true},
		{"wire form, partial", []byte("\x05\xff\xff\x03ws7"), s | e, "ws7", true},
		{"wire form, octets that are none of a name", []byte("\x05\xff\xff\x06ws\xc3\xa477\x00"), s | e, "ws\xc3\xa477", true},
		{"wire form, a dot in the label", []byte("\x05\xff\xff\x05ws.77\x00"), s | e, "ws.77", true},
		{"wire form, the root", []byte("\x05\xff\xff\x00"), s | e, "", true},
		{"wire form, cut", []byte("\x05\xff\xff\x3fws7"), s | e, "", true},
		{"wire form, and ASCII in it", []byte("\x05\xff\xffws7.example.org"), s | e, "", true},
		{"wire form, compressed for ever", []byte("\x05\xff\xff\x03ws7\xc0\x00"), s | e, "", true},
		{"wire form, compressed at its start", []byte("\x05\xff\xff\xc0\x02\x03ws7\x00" + strings.Repeat("x", 250)), s | e, "", true},
	} {
		m := &dhcpv4.DHCPv4{Options: dhcpv4.Options{}}
		if tt.option != nil {
			m.Options[dhcpv4.OptionFQDN.Code()] = tt.option
		}
		if flags, got, ok := FQDN(m); flags != tt.flags || got != tt.want || ok != tt.ok {
			t.Errorf("%s: %d, %q, %t, want %d, %q, %t", tt.name, flags, got, ok, tt.flags, tt.want, tt.ok)
		}
		if tt.option != nil && string(m.Options[dhcpv4.OptionFQDN.Code()]) != string(tt.option) {
			t.Errorf("%s: the message was changed", tt.name)
		}
	}
}
