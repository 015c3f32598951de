package ddns

import (
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// TestRenewalOfOtherPlugin has two network interfaces of a machine get addresses of another plugin: the renewal of the older
// lease does not take the name from the newer one.
func TestRenewalOfOtherPlugin(t *testing.T) {
	d := withDatabase(t)
	acked := func(n byte, more ...dhcpv4.Modifier) {
		t.Helper()
		id := []byte{255, 0, 0, 0, n, 0, 4, 'd', 'u', 'i', 'd'}
		mods := append([]dhcpv4.Modifier{
			dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(net.HardwareAddr{0, 0, 0x5e, 0, 0x53, n}),
			dhcpv4.WithOption(dhcpv4.OptHostName("ws7")), dhcpv4.WithOption(dhcpv4.OptClientIdentifier(id)),
		}, more...)
		req, err := dhcpv4.New(mods...)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, n)), dhcpv4.WithLeaseTime(3600))
		if err != nil {
			t.Fatal(err)
		}
		d.observe(t.Context(), &server.Exchange{Request: req, Reply: reply}, reply)
	}
	version := func(n byte) uint64 {
		l, _ := d.running.Load().leases.Lease(netip.AddrFrom4([4]byte{192, 0, 2, n}))
		return l.Version
	}
	acked(101)
	acked(102)
	acked(101, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 101)))
	if a, b := version(101), version(102); a == 0 || a >= b {
		t.Errorf("versions %d and %d: the renewal has taken the name", a, b)
	}
}
