//go:build linux

package lab

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// packet is an IPv4 packet with a DHCP message, as it may stand on the wire.
func packet(change func([]byte) []byte) []byte {
	discover, err := dhcpv4.NewDiscovery(net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x01})
	if err != nil {
		panic(err)
	}
	data := discover.ToBytes()
	p := make([]byte, 28, 28+len(data))
	p[0], p[8], p[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(data)))
	copy(p[16:], []byte{255, 255, 255, 255})
	binary.BigEndian.PutUint16(p[20:], 68)
	binary.BigEndian.PutUint16(p[22:], 67)
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(data)))
	return change(append(p, data...))
}

func TestDecode(t *testing.T) {
	set := func(at int, value byte) func([]byte) []byte {
		return func(p []byte) []byte { p[at] = value; return p }
	}
	for name, tc := range map[string]struct {
		change func([]byte) []byte
		ok     bool
	}{
		"a message":               {set(0, 0x45), true},
		"with padding":            {func(p []byte) []byte { return append(p, 0, 0, 0) }, true},
		"IPv6":                    {set(0, 0x60), false},
		"TCP":                     {set(9, 6), false},
		"another port":            {set(23, 53), false},
		"header beyond the end":   {set(0, 0x4f), false},
		"header shorter than one": {set(0, 0x44), false},
		"longer than it is":       {set(2, 0xff), false},
		"shorter than a header":   {func(p []byte) []byte { p[2], p[3] = 0, 27; return p }, false},
		"cut off":                 {func(p []byte) []byte { return p[:100] }, false},
		"a few octets":            {func(p []byte) []byte { return p[:10] }, false},
		"nothing":                 {func([]byte) []byte { return nil }, false},
		"no DHCP":                 {func(p []byte) []byte { clear(p[28:]); return p }, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, ok := decode(packet(tc.change))
			if ok != tc.ok {
				t.Fatalf("decoded: %v", ok)
			}
			if ok && (m.MessageType() != dhcpv4.MessageTypeDiscover || m.To.String() != "255.255.255.255:67" || m.From.String() != "0.0.0.0:68") {
				t.Errorf("%s from %s to %s", m.MessageType(), m.From, m.To)
			}
		})
	}
}
