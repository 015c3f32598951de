package server

import (
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestRoute(t *testing.T) {
	const (
		discover = dhcpv4.MessageTypeDiscover
		request  = dhcpv4.MessageTypeRequest
		inform   = dhcpv4.MessageTypeInform
		bootp    = dhcpv4.MessageTypeNone
	)
	type modifiers = []dhcpv4.Modifier
	gateway := dhcpv4.WithGatewayIP(ip("198.51.100.1"))
	client := dhcpv4.WithClientIP(ip("192.0.2.100"))
	your := dhcpv4.WithYourIP(ip("192.0.2.100"))
	sourcePort := dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 1, 'p', 19, 0})
	nak := dhcpv4.WithMessageType(dhcpv4.MessageTypeNak)
	hardware := func(b ...byte) dhcpv4.Modifier { return dhcpv4.WithHwAddr(net.HardwareAddr(b)) }

	tests := []struct {
		name  string
		mt    dhcpv4.MessageType
		req   modifiers
		reply modifiers
		kind  routeKind
		to    string
	}{
		{"no address yet", discover, nil, modifiers{your}, toHardware, "192.0.2.100:68"},
		{"BOOTP", bootp, nil, modifiers{your}, toHardware, "192.0.2.100:68"},
		{"broadcast flag", discover, modifiers{dhcpv4.WithBroadcast(true)}, modifiers{your}, toAll, "255.255.255.255:68"},
		{"renewing", request, modifiers{client}, modifiers{your}, toAddress, "192.0.2.100:68"},
		{"renewing with broadcast flag", request, modifiers{client, dhcpv4.WithBroadcast(true)}, modifiers{your}, toAddress, "192.0.2.100:68"},
		{"relay", discover, modifiers{gateway}, modifiers{your}, toAddress, "198.51.100.1:67"},
		{"relay, client with address", request, modifiers{gateway, client}, modifiers{your}, toAddress, "198.51.100.1:67"},
		{"relay with source port", discover, modifiers{gateway, sourcePort}, modifiers{your}, toAddress, "198.51.100.1:4000"},
		{"source port without relay", discover, modifiers{sourcePort}, modifiers{your}, toHardware, "192.0.2.100:68"},
		{"NAK", request, nil, modifiers{nak}, toAll, "255.255.255.255:68"},
		{"NAK to client with address", request, modifiers{client}, modifiers{nak}, toAll, "255.255.255.255:68"},
		{"NAK through relay", request, modifiers{gateway, client}, modifiers{nak}, toAddress, "198.51.100.1:67"},
		{"INFORM", inform, modifiers{client}, nil, toAddress, "192.0.2.100:68"},
		{"INFORM through relay", inform, modifiers{client, gateway}, nil, toAddress, "192.0.2.100:68"},
		{"INFORM through relay without ciaddr", inform, modifiers{gateway}, nil, toAddress, "198.51.100.1:67"},
		{"INFORM without ciaddr", inform, nil, nil, toAddress, "203.0.113.9:68"},
		{"no address in the reply", discover, nil, nil, toAll, "255.255.255.255:68"},
		{"other hardware type", discover, modifiers{dhcpv4.WithHWType(31)}, modifiers{your}, toAll, "255.255.255.255:68"},
		{"short hardware address", discover, modifiers{hardware(1, 2, 3)}, modifiers{your}, toAll, "255.255.255.255:68"},
		{"zero hardware address", discover, modifiers{hardware(0, 0, 0, 0, 0, 0)}, modifiers{your}, toAll, "255.255.255.255:68"},
		{"group hardware address", discover, modifiers{hardware(1, 0, 0x5e, 0, 0x53, 1)}, modifiers{your}, toAll, "255.255.255.255:68"},
		{"multicast ciaddr", request, modifiers{dhcpv4.WithClientIP(ip("224.0.0.1"))}, modifiers{your}, toHardware, "192.0.2.100:68"},
		{"broadcast giaddr", request, modifiers{dhcpv4.WithGatewayIP(ip("255.255.255.255"))}, modifiers{your}, toHardware, "192.0.2.100:68"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := message(t, tt.mt, 1, tt.req...)
			reply := newReply(req, make(dhcpv4.Options))
			for _, modify := range tt.reply {
				modify(reply)
			}
			got := routeOf(req, reply, netip.MustParseAddrPort("203.0.113.9:4000"))
			if got.kind != tt.kind || got.to.String() != tt.to {
				t.Errorf("route %d to %s, want %d to %s", got.kind, got.to, tt.kind, tt.to)
			}
			if tt.kind == toHardware && got.hardware != [6]byte{0, 0, 0x5e, 0, 0x53, 1} {
				t.Errorf("frame to %x", got.hardware)
			}
		})
	}
}
