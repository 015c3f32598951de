package server

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredhcp/coredhcp/plugins"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestEachStockPlugin runs every plugin of CoreDHCP by itself, with the arguments
// of its documentation, and a client that asks for everything.
func TestEachStockPlugin(t *testing.T) {
	known := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(known, []byte("# IPv4 fixed addresses\n00:00:5e:00:53:01 10.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The plugins keep their arguments in package variables, and some add those of
	// the next server, which another test may have made, to those of the last.
	option := func(code uint8, want string) func(*dhcpv4.DHCPv4) bool {
		return func(m *dhcpv4.DHCPv4) bool { v, ok := m.Options[code]; return ok && strings.HasSuffix(string(v), want) }
	}
	tests := []struct {
		plugin string // what config.yml says
		prompt bool
		slow   time.Duration
		check  func(*dhcpv4.DHCPv4) bool
	}{
		{"autoconfigure: AutoConfigure", true, 0, option(116, "\x01")},
		{"dns: 8.8.8.8 8.8.4.4", true, 0, option(6, "\x08\x08\x08\x08\x08\x08\x04\x04")},
		{"file: " + known, true, 0, func(m *dhcpv4.DHCPv4) bool { return m.YourIPAddr.Equal(ip("10.0.0.1")) }},
		{"file: " + known + " autorefresh", true, 0, func(m *dhcpv4.DHCPv4) bool { return m.YourIPAddr.Equal(ip("10.0.0.1")) }},
		{"ipv6only: 30m", true, 0, option(108, "\x00\x00\x07\x08")},
		{"lease_time: 3600s", true, 0, option(51, "\x00\x00\x0e\x10")},
		{"mtu: 1500", true, 0, option(26, "\x05\xdc")},
		{"nbp: tftp://10.0.0.254/nbp", true, 0, func(m *dhcpv4.DHCPv4) bool {
			return option(66, "10.0.0.254")(m) && option(67, "/nbp")(m)
		}},
		{"netmask: 255.255.255.0", true, 0, option(1, "\xff\xff\xff\x00")},
		{"prefix: 2001:db8::/48 64", true, 0, func(m *dhcpv4.DHCPv4) bool { return m.YourIPAddr.IsUnspecified() }}, // DHCPv6 only
		{"range: " + filepath.Join(t.TempDir(), "leases.sqlite3") + " 10.10.10.100 10.10.10.200 60s", false, 0, func(m *dhcpv4.DHCPv4) bool {
			return m.YourIPAddr.Equal(ip("10.10.10.100")) && m.IPAddressLeaseTime(0) == time.Minute
		}},
		{"router: 192.168.1.1", true, 0, option(3, "\xc0\xa8\x01\x01")},
		{"searchdomains: domain.a domain.b", true, 0, option(119, "\x06domain\x01a\x00\x06domain\x01b\x00")},
		{"server_id: 10.10.10.1", true, 0, func(m *dhcpv4.DHCPv4) bool {
			return m.ServerIdentifier().Equal(ip("10.10.10.1")) && m.ServerIPAddr.Equal(ip("10.10.10.1"))
		}},
		{"sleep: 300ms", false, 300 * time.Millisecond, func(m *dhcpv4.DHCPv4) bool { return true }},
		{"staticroute: 10.20.20.0/24,10.10.10.1", true, 0, option(121, "\x18\x0a\x14\x14\x0a\x0a\x0a\x01")},
	}
	var all []uint8
	for code := range uint8(254) {
		all = append(all, code+1)
	}
	tested := make(map[string]bool)
	for _, tt := range tests {
		name, _, _ := strings.Cut(tt.plugin, ":")
		tested[name] = true
		t.Run(name, func(t *testing.T) {
			chain := []string{tt.plugin}
			if name == "prefix" { // it says nothing to DHCPv4 clients, and a chain of nothing is silent
				chain = append(chain, "lease_time: 1h")
			}
			s := newServer(t, loopback(chain...))
			runServer(t, s)
			if s.prompt.Load() != tt.prompt {
				t.Errorf("prompt: %t, want %t", s.prompt.Load(), tt.prompt)
			}
			r := newRelay(t, s)
			begin := time.Now()
			offer := r.exchange(message(t, dhcpv4.MessageTypeDiscover, 1,
				dhcpv4.WithGeneric(dhcpv4.OptionParameterRequestList, all), dhcpv4.WithGeneric(dhcpv4.OptionAutoConfigure, []byte{1}),
				dhcpv4.WithGeneric(dhcpv4.OptionMaximumDHCPMessageSize, binary.BigEndian.AppendUint16(nil, 1500))))
			if took := time.Since(begin); took < tt.slow {
				t.Errorf("answered after %s, want %s at least", took, tt.slow)
			}
			if offer.MessageType() != dhcpv4.MessageTypeOffer || !tt.check(offer) {
				t.Errorf("got %s", offer.Summary())
			}
			if string(offer.Options[optRelayAgent]) != string(relayInformation) {
				t.Error("option 82 was not echoed")
			}
		})
	}
	for name := range plugins.RegisteredPlugins {
		if !tested[name] && !slices.Contains(Registered(), name) {
			t.Errorf("plugin %s was not tested", name)
		}
	}
}
