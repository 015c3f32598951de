package leases

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// BenchmarkDiscover is the plugin's own work on one message of a client of the
// kind that is common, without the server around it and without the disk.
func BenchmarkDiscover(b *testing.B) {
	for name, classes := range map[string]int{"no classes": 0, "1000 classes": 1000} {
		b.Run(name, func(b *testing.B) {
			var text strings.Builder
			text.WriteString(statesSite)
			if classes > 0 {
				text.WriteString("classes:\n")
				for i := range classes {
					text.WriteString("  - {name: c" + strconv.Itoa(i) + ", circuit-id: \"eth0/" + strconv.Itoa(i) + "\", options: {log-servers: [192.0.2.9]}}\n")
				}
			}
			l := startWith(b, b.TempDir(), new(server.Host), writeSite(b, text.String()))
			r, err := dhcpv4.New(
				dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover),
				dhcpv4.WithHwAddr(net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 0x10}),
				dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{1, 0, 0, 0x5e, 0, 0x53, 0x10})),
				dhcpv4.WithOption(dhcpv4.OptHostName("ws7")), vendorClass("MSFT 5.0"), information("eth0/7", "switch-b"),
				dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
					dhcpv4.OptionDomainName, dhcpv4.OptionNTPServers, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue))
			if err != nil {
				b.Fatal(err)
			}
			x := &server.Exchange{Request: r, Interface: "eth0", Addresses: []netip.Addr{serverID}, ServerID: serverID}
			reply := dhcpv4.DHCPv4{Options: dhcpv4.Options{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(reply.Options)
				x.Reply = &reply
				if l.Handle(b.Context(), x); x.Reply == nil {
					b.Fatal("silence")
				}
			}
		})
	}
}
