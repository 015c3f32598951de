package server

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

const (
	serverPort = 67
	clientPort = 68

	// subRelaySourcePort says that a relay wants the answer at the port it sent
	// from (RFC 8357).
	subRelaySourcePort = 19
	// subServerIDOverride is who the client is to take us for (RFC 5107).
	subServerIDOverride = 11
)

// routeKind is the way a reply is sent.
type routeKind int

const (
	// toAddress: an ordinary datagram.
	toAddress routeKind = iota
	// toAll: a datagram to 255.255.255.255 on the interface of the request.
	toAll
	// toHardware: an Ethernet frame on that interface, since the client has no
	// address yet for which it would answer ARP.
	toHardware
)

// route says where a reply goes.
type route struct {
	kind     routeKind
	to       netip.AddrPort // destination of the datagram, also inside a frame
	hardware [6]byte        // destination of the frame
}

var everyone = route{kind: toAll, to: netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), clientPort)}

// routeOf decides where the reply to a request from peer goes (RFC 2131 section
// 4.1): to the relay if there is one, to the client's address if it has one, else
// to the address it gets. A NAK goes to everyone, since the client may not be
// able to receive anything else; an answer to DHCPINFORM goes to the client itself.
func routeOf(req, reply *dhcpv4.DHCPv4, peer netip.AddrPort) route {
	gateway, client := unicast(req.GatewayIPAddr), unicast(req.ClientIPAddr)
	inform := messageType(req) == dhcpv4.MessageTypeInform
	if inform && client.IsValid() {
		return route{to: netip.AddrPortFrom(client, clientPort)}
	}
	if gateway.IsValid() {
		port := uint16(serverPort)
		if _, ok := subOption(req.Options[optRelayAgent], subRelaySourcePort); ok && peer.Port() != 0 {
			port = peer.Port()
		}
		return route{to: netip.AddrPortFrom(gateway, port)}
	}
	if messageType(reply) == dhcpv4.MessageTypeNak {
		return everyone
	}
	if client.IsValid() {
		return route{to: netip.AddrPortFrom(client, clientPort)}
	}
	if from := peer.Addr(); inform && from.IsValid() && unicast(from.AsSlice()).IsValid() {
		return route{to: netip.AddrPortFrom(from, clientPort)} // a client that forgot to fill in ciaddr
	}
	your := unicast(reply.YourIPAddr)
	if req.IsBroadcast() || !your.IsValid() || req.HWType != iana.HWTypeEthernet {
		return everyone
	}
	r := route{kind: toHardware, to: netip.AddrPortFrom(your, clientPort)}
	if len(req.ClientHWAddr) != len(r.hardware) || req.ClientHWAddr[0]&1 != 0 {
		return everyone // not the address of one station
	}
	copy(r.hardware[:], req.ClientHWAddr)
	if r.hardware == [6]byte{} {
		return everyone
	}
	return r
}

// serverIDOverride is the server identifier that the relay wants its client to see
// (RFC 5107), so that renewals come to the relay, which adds its information to
// them; the zero Addr if it wants none. A client that has no relay cannot ask so.
func serverIDOverride(req *dhcpv4.DHCPv4) netip.Addr {
	information := req.Options[optRelayAgent]
	if len(information) == 0 || !Address(req.GatewayIPAddr).IsValid() {
		return netip.Addr{}
	}
	override, _ := subOption(information, subServerIDOverride)
	return unicast(override)
}

// unicast converts an address to which a reply can go. Others, which only a
// faulty or hostile client sends, become the zero Addr.
func unicast(ip []byte) netip.Addr {
	a := Address(ip)
	if a.IsMulticast() || a.IsValid() && a.As4()[0] >= 240 {
		return netip.Addr{}
	}
	return a
}

// source is the address that a reply is sent from: the one that the request was
// sent to, since a firewall between expects the answer from there, else the
// server identifier if it is an address of the interface. The zero Addr leaves
// the choice to the kernel.
func (s *Server) source(i *netInterface, t *interfaceTable, to, serverID netip.Addr) netip.Addr {
	switch {
	case t.local[to]:
		return to
	case i.has(serverID):
		return serverID
	}
	return netip.Addr{}
}

// frameSource is the address that a frame's datagram is sent from. It is false
// where no frame can be sent.
func (s *Server) frameSource(i *netInterface, to route, x *Exchange) (netip.Addr, bool) {
	if s.noFrames.Load() || len(i.hardware) != len(to.hardware) || len(i.addrs) == 0 {
		return netip.Addr{}, false
	}
	if i.has(x.ServerID) {
		return x.ServerID, true
	}
	if own, ok := i.beside(to.to.Addr()); ok {
		return own, true
	}
	return i.addrs[0], true
}
