package server

import (
	"net"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// BenchmarkEncode is the encoding of an ACK as most clients get it.
func BenchmarkEncode(b *testing.B) {
	req := &dhcpv4.DHCPv4{Options: dhcpv4.Options{53: {3}, 55: {1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42}}}
	reply := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: 1, ClientHWAddr: net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1},
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IP{192, 0, 2, 11}, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
		Options: dhcpv4.Options{
			53: {5}, 54: value(4, 1), 51: value(4, 2), 1: value(4, 3), 28: value(4, 4), 2: value(4, 5), 3: value(4, 6),
			15: []byte("imaging.example.org"), 6: value(8, 7), 12: []byte("ct1"), 26: value(2, 8), 42: value(8, 9), 61: value(7, 1), 82: value(12, 2),
		},
	}
	buffer := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		if _, left, err := encode(buffer, req, reply, 548); err != nil || left != nil {
			b.Fatal(left, err)
		}
	}
}
