package leases

import (
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

func message(t *testing.T, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(modifiers...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestHostname(t *testing.T) {
	fqdn := func(flags byte, name string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionFQDN, append([]byte{flags, 255, 255}, name...)))
	}
	host := func(name string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptHostName(name))
	}
	tests := []struct {
		name    string
		options []dhcpv4.Modifier
		want    string
	}{
		{"none", nil, ""},
		{"option 12", []dhcpv4.Modifier{host("WS7")}, "ws7"},
		{"option 12 qualified", []dhcpv4.Modifier{host("ws7.imaging.example.org")}, "ws7"},
		{"option 12 with trailing zero", []dhcpv4.Modifier{host("ws7\x00")}, "ws7"},
		{"option 81 before option 12", []dhcpv4.Modifier{host("ws7"), fqdn(1, "ws8.example.org")}, "ws8"},
		{"option 81 in wire form", []dhcpv4.Modifier{fqdn(5, "\x03ws8\x07example\x03org\x00")}, "ws8"},
		{"option 81 in wire form, partial", []dhcpv4.Modifier{fqdn(5, "\x03ws8")}, "ws8"},
		{"option 81 of Windows: ASCII, partial, with a trailing zero", []dhcpv4.Modifier{fqdn(0, "PC7\x00")}, "pc7"},
		{"option 81 in wire form, in another domain", []dhcpv4.Modifier{fqdn(5, "\x03PC7\x06clinic\x07example\x03com\x00")}, "pc7"},
		{"option 81 in wire form, an escaped dot", []dhcpv4.Modifier{fqdn(5, "\x04ws.8\x00")}, "ws"},
		{"option 81 truncated", []dhcpv4.Modifier{fqdn(5, "\x3fws8")}, ""},
		{"option 81 pointing at itself", []dhcpv4.Modifier{fqdn(5, "\xc0\x00")}, ""},
		{"option 81 without a name: option 12 does not count", []dhcpv4.Modifier{host("ws7"), fqdn(1, "")}, ""},
		{"option 81 too short to be one", []dhcpv4.Modifier{host("ws7"), dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionFQDN, []byte{1, 255}))}, "ws7"},
		{"space", []dhcpv4.Modifier{host("my pc")}, "my-pc"},
		{"hyphen in front", []dhcpv4.Modifier{host("-a")}, "a"},
		{"not ASCII", []dhcpv4.Modifier{host("rönt")}, "r-nt"},
		{"empty", []dhcpv4.Modifier{host("")}, ""},
		{"control characters within", []dhcpv4.Modifier{host("ws\x1b[31m\r\n7")}, "ws-31m-7"},
		{"control characters alone", []dhcpv4.Modifier{host("\x01\x7f\n")}, ""},
		{"no UTF-8", []dhcpv4.Modifier{host("\xff\xfew\xc3\x28s")}, "w-s"},
		{"not ASCII at all", []dhcpv4.Modifier{host("超音波")}, ""},
		{"wildcard", []dhcpv4.Modifier{host("*")}, ""},
		{"too long", []dhcpv4.Modifier{host("a123456789a123456789a123456789a123456789a123456789a123456789abcd")}, "a123456789a123456789a123456789a123456789a123456789a123456789abc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := namingOf(message(t, tt.options...)).label; got != tt.want {
				t.Errorf("hostname = %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzHostname(f *testing.F) {
	f.Add([]byte("\x01\xff\xffws7.example.org"))
	f.Add([]byte("\x05\xff\xff\x03ws7\xc0\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &dhcpv4.DHCPv4{Options: dhcpv4.Options{dhcpv4.OptionFQDN.Code(): data}}
		if got := namingOf(m).label; got != lease.Label(got) {
			t.Errorf("hostname = %q, which is no host name", got)
		}
	})
}

func queryOf(x *server.Exchange) lease.Query {
	marks := marksOf(x.Request)
	name := namingOf(x.Request)
	return query(x, &marks, nil, &name)
}

func TestQuery(t *testing.T) {
	ours := []netip.Addr{netip.MustParseAddr("192.0.2.2")}
	hw := net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1}
	client := lease.Client{HardwareType: 1, HardwareAddr: string(hw), Identifier: "\x01id"}
	r := message(t, dhcpv4.WithHwAddr(hw),
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("\x01id"))),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(192, 0, 2, 50))),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 9))))

	q := queryOf(&server.Exchange{Request: r, Interface: "eth0", Addresses: ours, ServerID: ours[0]})
	if q.Client != client || q.Interface != "eth0" || q.ServerID != ours[0] || q.Relayed || len(q.Links) != 1 || q.Links[0] != ours[0] {
		t.Errorf("on the wire: %+v", q)
	}
	if q.Requested.String() != "192.0.2.50" || q.SelectedServer.String() != "192.0.2.9" || q.ClientAddr.IsValid() {
		t.Errorf("addresses: requested %v, selected %v, client %v", q.Requested, q.SelectedServer, q.ClientAddr)
	}

	r.GatewayIPAddr = net.IPv4(198, 51, 100, 1)
	q = queryOf(&server.Exchange{Request: r, Addresses: ours})
	if !q.Relayed || len(q.Links) != 1 || q.Links[0].String() != "198.51.100.1" {
		t.Errorf("through a relay the link is its own: relayed %v, links %v", q.Relayed, q.Links)
	}

	r.UpdateOption(dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.LinkSelectionSubOption, []byte{203, 0, 113, 1})))
	q = queryOf(&server.Exchange{Request: r, Addresses: ours})
	if !q.Relayed || len(q.Links) != 1 || q.Links[0].String() != "203.0.113.1" {
		t.Errorf("the relay selects another link: relayed %v, links %v", q.Relayed, q.Links)
	}
	r.UpdateOption(dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.LinkSelectionSubOption, []byte{203, 0})))
	if q = queryOf(&server.Exchange{Request: r, Addresses: ours}); q.Links[0].String() != "198.51.100.1" {
		t.Errorf("a malformed selection: links %v, want giaddr", q.Links)
	}
}
