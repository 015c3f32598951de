package server

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/coredhcp/coredhcp/config"
	"github.com/coredhcp/coredhcp/handler"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

var testInterface = &netInterface{index: 2, name: "eth0",
	addrs: []netip.Addr{addr("192.0.2.2")}, prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}}

// take runs a request through the server's chain.
func take(s *Server, req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	return s.answer(context.Background(), s.exchange(req, testInterface, &interfaceTable{}, netip.Addr{}))
}

func TestMessageTypes(t *testing.T) {
	const leaseQuery = dhcpv4.MessageType(10)
	only := func(types ...dhcpv4.MessageType) func(dhcpv4.MessageType) bool {
		return func(t dhcpv4.MessageType) bool { return slices.Contains(types, t) }
	}
	tests := []struct {
		name    string
		mt      dhcpv4.MessageType
		accepts func(dhcpv4.MessageType) bool
		reached string             // ours, stock
		answer  dhcpv4.MessageType // of the reply
		replied bool
	}{
		{"DISCOVER", dhcpv4.MessageTypeDiscover, nil, "ours stock", dhcpv4.MessageTypeOffer, true},
		{"DISCOVER not wanted", dhcpv4.MessageTypeDiscover, only(), "stock", dhcpv4.MessageTypeOffer, true},
		{"REQUEST", dhcpv4.MessageTypeRequest, nil, "ours stock", dhcpv4.MessageTypeAck, true},
		{"INFORM", dhcpv4.MessageTypeInform, nil, "ours stock", dhcpv4.MessageTypeAck, true},
		{"RELEASE is never answered", dhcpv4.MessageTypeRelease, nil, "ours stock", 0, false},
		{"DECLINE is never answered", dhcpv4.MessageTypeDecline, nil, "ours", 0, false},
		{"DECLINE not wanted", dhcpv4.MessageTypeDecline, only(), "", 0, false},
		{"BOOTP", dhcpv4.MessageTypeNone, nil, "ours", dhcpv4.MessageTypeNone, true},
		{"BOOTP not wanted", dhcpv4.MessageTypeNone, only(), "", 0, false},
		{"LEASEQUERY without an answer", leaseQuery, nil, "ours", 0, false},
		{"OFFER of a confused client", dhcpv4.MessageTypeOffer, only(dhcpv4.MessageTypeDiscover), "", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var reached []string
			s := &Server{chain: []link{
				{plugin: &fake{accepts: tt.accepts, handle: func(_ context.Context, x *Exchange) Verdict {
					reached = append(reached, "ours")
					return Continue
				}}},
				{handler: func(_, resp *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) {
					reached = append(reached, "stock")
					return resp, false
				}},
			}}
			reply := take(s, message(t, tt.mt, 1))
			if got := strings.Join(reached, " "); got != tt.reached {
				t.Errorf("reached %q, want %q", got, tt.reached)
			}
			if (reply != nil) != tt.replied || reply != nil && (reply.MessageType() != tt.answer || reply.OpCode != dhcpv4.OpcodeBootReply) {
				t.Errorf("reply %v", reply)
			}
		})
	}
}

func TestChainEnds(t *testing.T) {
	reply := func(x *Exchange) { x.Reply.YourIPAddr = ip("192.0.2.100") }
	tests := []struct {
		name    string
		first   link
		replied bool
		next    bool // the next plugin is called
	}{
		{"continue", link{plugin: &fake{handle: func(_ context.Context, x *Exchange) Verdict { reply(x); return Continue }}}, true, true},
		{"stop", link{plugin: &fake{handle: func(_ context.Context, x *Exchange) Verdict { reply(x); return Stop }}}, true, false},
		{"no reply", link{plugin: &fake{handle: func(_ context.Context, x *Exchange) Verdict { x.Reply = nil; return Continue }}}, false, false},
		{"stock stop", link{handler: func(_, resp *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) { return resp, true }}, true, false},
		{"stock no reply", link{handler: func(_, _ *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) { return nil, false }}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			next := false
			s := &Server{chain: []link{tt.first, {handler: func(_, resp *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) {
				next = true
				return resp, false
			}}}}
			if got := take(s, message(t, dhcpv4.MessageTypeDiscover, 1)); (got != nil) != tt.replied || next != tt.next {
				t.Errorf("reply %v, next called %t", got, next)
			}
		})
	}
}

func TestFinish(t *testing.T) {
	everything := func(_, resp *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) {
		resp.ServerIPAddr, resp.YourIPAddr = ip("192.0.2.2"), ip("192.0.2.100")
		resp.BootFileName, resp.ServerHostName = "boot", "tftp"
		for _, code := range []uint8{1, 3, 6, 15, 51, 52, 54, 56, 58, 59, 60, 61, 82} {
			resp.Options[code] = []byte{code, 0, 0, 1}
		}
		return resp, false
	}
	nak := func(_, resp *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, bool) {
		resp.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
		return resp, false
	}
	identified := []dhcpv4.Modifier{
		dhcpv4.WithGeneric(dhcpv4.OptionClientIdentifier, []byte("client")),
		dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 1, 'p'}),
	}
	tests := []struct {
		name     string
		req      *dhcpv4.DHCPv4
		handlers []handler.Handler4
		codes    []uint8
	}{
		{"ACK", message(t, dhcpv4.MessageTypeRequest, 1, identified...), []handler.Handler4{everything},
			[]uint8{1, 3, 6, 15, 51, 53, 54, 56, 58, 59, 60, 61, 82}},
		{"ACK without option 82 in the request", message(t, dhcpv4.MessageTypeRequest, 1), []handler.Handler4{everything},
			[]uint8{1, 3, 6, 15, 51, 53, 54, 56, 58, 59, 60, 61}},
		{"NAK", message(t, dhcpv4.MessageTypeRequest, 1, identified...), []handler.Handler4{nak, everything},
			[]uint8{53, 54, 56, 61, 82}},
		{"INFORM", message(t, dhcpv4.MessageTypeInform, 1, identified...), []handler.Handler4{everything},
			[]uint8{1, 3, 6, 15, 53, 54, 56, 60, 61, 82}},
		{"no options at all", message(t, dhcpv4.MessageTypeNone, 1, identified...), nil, []uint8{61, 82}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{chain: []link{{plugin: &fake{handle: func(_ context.Context, x *Exchange) Verdict {
				if tt.handlers == nil {
					x.Reply.Options = nil
				}
				return Continue
			}}}}}
			for _, h := range tt.handlers {
				s.chain = append(s.chain, link{handler: h})
			}
			reply := take(s, tt.req)
			var got []uint8
			for code := range uint8(255) {
				if _, ok := reply.Options[code]; ok {
					got = append(got, code)
				}
			}
			if !slices.Equal(got, tt.codes) {
				t.Errorf("options %v, want %v", got, tt.codes)
			}
			for _, code := range []uint8{optClientID, optRelayAgent} {
				if v, ok := tt.req.Options[code]; ok && string(reply.Options[code]) != string(v) {
					t.Errorf("option %d is %q, want it echoed", code, reply.Options[code])
				}
			}
			empty := !Address(reply.YourIPAddr).IsValid()
			if want := tt.name != "ACK" && tt.name != "ACK without option 82 in the request"; empty != want {
				t.Errorf("yiaddr %s", reply.YourIPAddr)
			}
			if tt.name == "NAK" && (Address(reply.ServerIPAddr).IsValid() || reply.BootFileName+reply.ServerHostName != "") {
				t.Errorf("NAK %s", reply.Summary())
			}
		})
	}
}

func TestNAKThroughRelaySetsBroadcast(t *testing.T) {
	for name, tt := range map[string]struct {
		modifiers []dhcpv4.Modifier
		want      bool
	}{
		"relay":    {[]dhcpv4.Modifier{dhcpv4.WithGatewayIP(ip("198.51.100.1"))}, true},
		"no relay": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{chain: []link{{plugin: &fake{handle: func(_ context.Context, x *Exchange) Verdict {
				x.Reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
				return Stop
			}}}}}
			if got := take(s, message(t, dhcpv4.MessageTypeRequest, 1, tt.modifiers...)).IsBroadcast(); got != tt.want {
				t.Errorf("broadcast bit %t, want %t", got, tt.want)
			}
		})
	}
}

func TestExchangeServerID(t *testing.T) {
	var got *Exchange
	keep := registerFake(&fake{handle: func(_ context.Context, x *Exchange) Verdict {
		got = x
		return Continue
	}})
	tests := []struct {
		name, plugins, want string
	}{
		{"server_id before", "[{server_id: 192.0.2.9}, {" + keep + ": }]", "192.0.2.9"},
		{"server_id after", "[{" + keep + ": }, {server_id: 192.0.2.8}]", "192.0.2.8"},
		{"no server_id", "[{" + keep + ": }]", "192.0.2.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			take(newServer(t, "server4: {plugins: "+tt.plugins+"}"), message(t, dhcpv4.MessageTypeDiscover, 1))
			if got.ServerID != addr(tt.want) || got.Interface != "eth0" || !slices.Equal(got.Addresses, testInterface.addrs) {
				t.Errorf("exchange %+v", got)
			}
		})
	}
}

// TestNoServerID has requests come in on an interface that has no address, as it
// does while the machine starts: a client takes no answer without option 54.
func TestNoServerID(t *testing.T) {
	for _, tt := range []struct {
		name, plugins string
		mt            dhcpv4.MessageType
		replied       bool
	}{
		{"no address", "", dhcpv4.MessageTypeDiscover, false},
		{"server_id", "{server_id: 192.0.2.8}, ", dhcpv4.MessageTypeDiscover, true},
		{"BOOTP, which has no such option", "", dhcpv4.MessageTypeNone, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, "server4: {plugins: ["+tt.plugins+"{"+registerFake(&fake{})+": }]}")
			x := s.exchange(message(t, tt.mt, 1), &netInterface{index: 1, name: "eth0"}, &interfaceTable{}, netip.Addr{})
			if reply := s.answer(t.Context(), x); (reply != nil) != tt.replied {
				t.Errorf("reply %v", reply)
			}
		})
	}
}

func init() {
	Register("none-made", func([]string, *Host) (Plugin, error) { return nil, nil })
}

func TestNewRefuses(t *testing.T) {
	plugin := func(name string, args ...string) *config.ServerConfig {
		return &config.ServerConfig{Plugins: []config.PluginConfig{{Name: name, Args: args}}}
	}
	tests := []struct {
		name string
		conf *config.Config
		err  string
	}{
		{"nothing", &config.Config{}, "no configuration"},
		{"none", nil, "no configuration"},
		{"unknown plugin", &config.Config{Server4: plugin("nosuch")}, "DHCPv4: plugin nosuch: unknown"},
		{"unknown DHCPv6 plugin", &config.Config{Server6: plugin("nosuch")}, `DHCPv6: unknown plugin "nosuch"`},
		{"wrong argument", &config.Config{Server4: plugin("lease_time", "soon")}, "DHCPv4: plugin lease_time: "},
		{"server_id without address", &config.Config{Server4: plugin("server_id", "there")}, "DHCPv4: plugin server_id: "},
		{"no plugin made", &config.Config{Server4: plugin("none-made")}, "it gave no plugin"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.conf, Options{}); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
	t.Run("a DHCPv6 plugin is left out", func(t *testing.T) {
		s, err := New(&config.Config{Server4: plugin("prefix", "2001:db8::/48", "64")}, Options{})
		if err != nil || len(s.chain) != 0 {
			t.Errorf("chain %v, error %v", s.chain, err)
		}
	})
}
