package ddns

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/coredhcp/coredhcp/handler"
	"github.com/coredhcp/coredhcp/plugins"
	"github.com/coredhcp/coredhcp/plugins/leasetime"
	rangeplugin "github.com/coredhcp/coredhcp/plugins/range"
	"github.com/coredhcp/coredhcp/plugins/serverid"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"
)

// TestStockCoreDHCP runs the plugin as a stock CoreDHCP does: a chain of handlers, with its own plugin `range` before it.
func TestStockCoreDHCP(t *testing.T) {
	keys, key := keyFile(t)
	updates := make(chan *dns.Msg, 20)
	address := serveUpdates(t, key, updates)
	dir := t.TempDir()
	var chain []handler.Handler4
	for _, p := range []struct {
		plugin *plugins.Plugin
		args   []string
	}{
		{&serverid.Plugin, []string{"192.0.2.2"}},
		{&leasetime.Plugin, []string{"1h"}},
		{&rangeplugin.Plugin, []string{filepath.Join(dir, "leases.sqlite3"), "192.0.2.100", "192.0.2.199", "1h"}},
		{&Plugin, []string{"site=" + siteFile(t, ""), "server=" + address, "keys=" + keys, "key=" + keyName, "database=" + filepath.Join(dir, "names")}},
	} {
		h, err := p.plugin.Setup4(p.args...)
		if err != nil {
			t.Fatalf("%s: %v", p.plugin.Name, err)
		}
		chain = append(chain, h)
	}
	ask := func(typ dhcpv4.MessageType, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		t.Helper()
		req, err := dhcpv4.New(append([]dhcpv4.Modifier{
			dhcpv4.WithMessageType(typ), dhcpv4.WithHwAddr(net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x07}), dhcpv4.WithOption(dhcpv4.OptHostName("WS7")),
		}, more...)...)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := dhcpv4.NewReplyFromRequest(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.UpdateOption(dhcpv4.OptMessageType(map[dhcpv4.MessageType]dhcpv4.MessageType{
			dhcpv4.MessageTypeDiscover: dhcpv4.MessageTypeOffer,
		}[typ]))
		if typ != dhcpv4.MessageTypeDiscover {
			resp.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
		}
		for _, h := range chain {
			var stop bool
			if resp, stop = h(req, resp); stop {
				break
			}
		}
		return resp
	}
	offer := ask(dhcpv4.MessageTypeDiscover)
	ack := ask(dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)))
	if got := ack.YourIPAddr.String(); got != "192.0.2.100" {
		t.Fatalf("address %s", got)
	}
	for _, want := range []string{"ws7.imaging.example.org.", "100.2.0.192.in-addr.arpa."} {
		select {
		case m := <-updates:
			if got := m.Ns[0].Header().Name; got != want {
				t.Errorf("update of %s, want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no update of %s", want)
		}
	}
}
