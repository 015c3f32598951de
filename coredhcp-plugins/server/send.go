package server

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/ipv4"
)

// send sends a reply on its route. The request r came in on i; packet is the
// encoded reply of x.
func (s *Server) send(m *scratch, r received, i *netInterface, t *interfaceTable, x *Exchange, packet []byte) error {
	to := routeOf(x.Request, x.Reply, r.from)
	if to.kind == toHardware {
		sent, err := s.sendFrame(m, r, i, to, x, packet)
		if sent {
			return nil
		}
		if err != nil {
			s.lines.send.Log(s.log.Warn, "frame not sent, broadcasting the reply", "interface", i.name, "error", err)
		}
		to = everyone
	}
	var cm ipv4.ControlMessage
	if source := s.source(i, t, r.to, x.ServerID); source.IsValid() {
		cm.Src = source.AsSlice()
	}
	if to.kind == toAll || to.to.Addr().IsLinkLocalUnicast() {
		// Others go where the routing table says.
		cm.IfIndex = i.index
	}
	_, err := r.listener.pc.WriteTo(packet, &cm, net.UDPAddrFromAddrPort(to.to))
	return err
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

// sendFrame sends the reply straight to the client's hardware address. It
// reports false where that cannot be done.
func (s *Server) sendFrame(m *scratch, r received, i *netInterface, to route, x *Exchange, packet []byte) (bool, error) {
	if s.noFrames.Load() || len(i.hardware) != len(to.hardware) || len(i.addrs) == 0 {
		return false, nil
	}
	source := i.addrs[0]
	if i.has(x.ServerID) {
		source = x.ServerID
	} else if own, ok := i.beside(to.to.Addr()); ok {
		source = own
	}
	m.frame = appendFrame(m.frame[:0], to.hardware, i.hardware, netip.AddrPortFrom(source, r.listener.port), to.to, packet)
	err := s.frames.writeFrame(i, m.frame)
	if errors.Is(err, os.ErrPermission) {
		if !s.noFrames.Swap(true) {
			s.log.Warn("no permission for packet sockets (CAP_NET_RAW): replies to clients without an address are broadcast", "error", err)
		}
		return false, nil
	}
	return err == nil, err
}
