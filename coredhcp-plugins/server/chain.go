package server

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/coredhcp/coredhcp/handler"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// link is one plugin of the chain, of one kind or the other.
type link struct {
	name    string
	plugin  Plugin
	handler handler.Handler4
}

// stockType says whether CoreDHCP's own loop hands this type of message to its
// plugins. They do not expect any other.
func stockType(t dhcpv4.MessageType) bool {
	switch t {
	case dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeRelease, dhcpv4.MessageTypeInform:
		return true
	}
	return false
}

// promptStock are those of CoreDHCP's plugins that only look at what they were
// configured with. `range` writes to a database, `sleep` sleeps.
var promptStock = []string{
	"autoconfigure", "dns", "file", "ipv6only", "lease_time", "mtu", "nbp", "netmask", "prefix", "router",
	"searchdomains", "server_id", "staticroute",
}

// isPrompt says whether no plugin of the chain waits for anything.
func (s *Server) isPrompt() bool {
	for _, l := range s.chain {
		if l.plugin == nil {
			if !slices.Contains(promptStock, l.name) {
				return false
			}
		} else if p, ok := l.plugin.(Prompt); !ok || !p.Prompt() {
			return false
		}
	}
	return true
}

// newReply prepares the reply that the plugins fill in. Its options are put into
// a map that is empty.
func newReply(req *dhcpv4.DHCPv4, options dhcpv4.Options) *dhcpv4.DHCPv4 {
	reply := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        req.HWType,
		TransactionID: req.TransactionID,
		Flags:         req.Flags,
		ClientIPAddr:  net.IPv4zero,
		YourIPAddr:    net.IPv4zero,
		ServerIPAddr:  net.IPv4zero,
		GatewayIPAddr: req.GatewayIPAddr,
		ClientHWAddr:  req.ClientHWAddr,
		Options:       options,
	}
	for _, code := range [...]uint8{optClientID, optRelayAgent} {
		if v, ok := req.Options[code]; ok {
			reply.Options[code] = v
		}
	}
	switch messageType(req) {
	case dhcpv4.MessageTypeDiscover:
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
	case dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform:
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
		reply.ClientIPAddr = req.ClientIPAddr // RFC 2131 table 3
	}
	return reply
}

// answer takes the exchange through the plugins. The result is the reply to be
// sent, ready but for its encoding, or nil.
func (s *Server) answer(ctx context.Context, x *Exchange) *dhcpv4.DHCPv4 {
	t := messageType(x.Request)
	if x.options == nil {
		x.options = make(dhcpv4.Options)
	}
	x.Reply = newReply(x.Request, x.options)
	handled := false
	for _, l := range s.chain {
		var stop bool
		switch {
		case l.plugin != nil && l.plugin.Accepts(t):
			stop = l.plugin.Handle(ctx, x) == Stop
		case l.plugin == nil && stockType(t):
			x.Reply, stop = l.handler(x.Request, x.Reply)
		default:
			continue
		}
		handled = true
		if stop || x.Reply == nil {
			break
		}
	}
	if !handled || x.Reply == nil || t == dhcpv4.MessageTypeRelease || t == dhcpv4.MessageTypeDecline {
		return nil
	}
	if x.Request.Options.Has(dhcpv4.OptionDHCPMessageType) && !x.Reply.Options.Has(dhcpv4.OptionDHCPMessageType) {
		return nil // an unusual message that its plugin has not answered
	}
	finish(x)
	if x.Reply.Options.Has(dhcpv4.OptionDHCPMessageType) && !x.Reply.Options.Has(dhcpv4.OptionServerIdentifier) {
		s.lines.nameless.Log(s.log.Warn, "no answer: the interface has no address, and there is no server_id", "interface", x.Interface)
		return nil // RFC 2131 table 3: a client takes none without it
	}
	return x.Reply
}

// finish makes the reply conform to RFC 2131 table 3, whatever plugins have put
// into it: those of CoreDHCP add their options to a NAK as to any other message.
func finish(x *Exchange) {
	req, reply := x.Request, x.Reply
	if reply.Options == nil {
		reply.Options = make(dhcpv4.Options)
	}
	reply.OpCode = dhcpv4.OpcodeBootReply
	reply.GatewayIPAddr = req.GatewayIPAddr
	delete(reply.Options, optOverload)
	// Echoed as they came: RFC 6842 section 3, RFC 3046 section 2.2.
	if v, ok := req.Options[optClientID]; ok {
		reply.Options[optClientID] = v
	}
	delete(reply.Options, optRelayAgent)
	if v, ok := req.Options[optRelayAgent]; ok {
		reply.Options[optRelayAgent] = v
	}
	bootp := !reply.Options.Has(dhcpv4.OptionDHCPMessageType)
	if override := serverIDOverride(req); !bootp && override.IsValid() {
		reply.UpdateOption(dhcpv4.OptServerIdentifier(override.AsSlice())) // whatever `server_id` says
	} else if !bootp && !reply.Options.Has(dhcpv4.OptionServerIdentifier) && x.ServerID.IsValid() {
		reply.UpdateOption(dhcpv4.OptServerIdentifier(x.ServerID.AsSlice())) // no plugin before the end of the chain has
	}
	switch {
	case messageType(reply) == dhcpv4.MessageTypeNak:
		reply.ClientIPAddr, reply.YourIPAddr, reply.ServerIPAddr = net.IPv4zero, net.IPv4zero, net.IPv4zero
		reply.ServerHostName, reply.BootFileName = "", ""
		for code := range reply.Options {
			switch code {
			case optMessageType, optServerID, optMessage, optClientID, optRelayAgent:
			default:
				delete(reply.Options, code)
			}
		}
		if Address(req.GatewayIPAddr).IsValid() {
			reply.SetBroadcast() // RFC 2131 section 4.1: the relay must not use ARP
		}
	case messageType(req) == dhcpv4.MessageTypeInform:
		reply.YourIPAddr = net.IPv4zero
		for _, code := range [...]uint8{optLeaseTime, optRenewalTime, optRebindingTime} {
			delete(reply.Options, code)
		}
	}
}

// exchange describes a request that came in on i to the address to.
func (s *Server) exchange(req *dhcpv4.DHCPv4, i *netInterface, t *interfaceTable, to netip.Addr) *Exchange {
	x := &Exchange{Request: req, Interface: i.name, Addresses: i.addrs, Broadcast: to == everyone.to.Addr(), ServerID: s.serverID, holds: true}
	switch override := serverIDOverride(req); {
	case override.IsValid():
		x.ServerID = override
	case !x.ServerID.IsValid():
		x.ServerID = i.serverID(t, req, to)
	}
	return x
}
