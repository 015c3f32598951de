package leases

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

const siteFile = `
domain: imaging.example.org
options: {domain-name-servers: [192.0.2.2]}
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    pools: [192.0.2.100-192.0.2.101]
    lease-time: 1h
    options: {routers: [192.0.2.1]}
  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.10-198.51.100.20], lease-time: infinite, authoritative: true}
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.11, options: {routers: [192.0.2.254]}}
  - {name: oldmr, address: 192.0.2.100, dhcp: false}
`

var serverID = netip.MustParseAddr("192.0.2.2")

// start returns a running plugin on a database in dir.
func start(t *testing.T, dir string) *Leases {
	t.Helper()
	return startWith(t, dir, new(server.Host), writeSite(t, siteFile))
}

func writeSite(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func startWith(t testing.TB, dir string, host *server.Host, path string) *Leases {
	t.Helper()
	p, err := New([]string{"site=" + path, "database=" + dir}, host)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p.(*Leases)
}

// send hands a message of the client to the plugin and returns its reply.
func send(t *testing.T, l *Leases, mt dhcpv4.MessageType, client byte, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	r := message(t, append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(mt),
		dhcpv4.WithHwAddr(net.HardwareAddr{0, 0, 0x5e, 0, 0x53, client}),
	}, modifiers...)...)
	if mt == dhcpv4.MessageTypeNone { // BOOTP
		delete(r.Options, dhcpv4.OptionDHCPMessageType.Code())
	}
	reply, err := dhcpv4.NewReplyFromRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	reply.UpdateOption(dhcpv4.OptMessageType(map[dhcpv4.MessageType]dhcpv4.MessageType{
		dhcpv4.MessageTypeDiscover: dhcpv4.MessageTypeOffer,
	}[mt]))
	if mt == dhcpv4.MessageTypeRequest || mt == dhcpv4.MessageTypeInform {
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
	}
	x := &server.Exchange{Request: r, Reply: reply, Interface: "eth0", Addresses: []netip.Addr{serverID}, ServerID: serverID}
	l.Handle(t.Context(), x)
	return x.Reply
}

// selecting accepts an offer (RFC 2131 section 4.3.2, SELECTING).
func selecting(offer *dhcpv4.DHCPv4) []dhcpv4.Modifier {
	return []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverID.AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)),
	}
}

func TestLease(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	relayed := dhcpv4.WithGatewayIP(net.IPv4(198, 51, 100, 1))
	tests := []struct {
		name    string
		client  byte
		extra   []dhcpv4.Modifier
		address string
		time    time.Duration
		router  string
		host    string
	}{
		{"a fixed address, and the device's own options", 0x01, nil, "192.0.2.11", time.Hour, "192.0.2.254", "ct1"},
		{"a pool address, without the one that a device has", 0x02, nil, "192.0.2.101", time.Hour, "192.0.2.1", "dhcp-192-0-2-101"},
		{"through a relay, of its network, for ever", 0x03, []dhcpv4.Modifier{relayed}, "198.51.100.10", 0xffffffff * time.Second, "", "dhcp-198-51-100-10"},
		{"the name that the client gives itself", 0x04, []dhcpv4.Modifier{relayed, dhcpv4.WithOption(dhcpv4.OptHostName("ws4"))}, "198.51.100.11", 0xffffffff * time.Second, "", "ws4"},
	}
	l := start(t, dir)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			offer := send(t, l, dhcpv4.MessageTypeDiscover, tt.client, tt.extra...)
			if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer {
				t.Fatalf("offer = %v", offer)
			}
			ack := send(t, l, dhcpv4.MessageTypeRequest, tt.client, append(selecting(offer), tt.extra...)...)
			if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck {
				t.Fatalf("ack = %v", ack)
			}
			if got := ack.YourIPAddr.String(); got != tt.address {
				t.Errorf("address = %s, want %s", got, tt.address)
			}
			if got := ack.IPAddressLeaseTime(0); got != tt.time {
				t.Errorf("lease time = %v, want %v", got, tt.time)
			}
			if got := ack.Router(); tt.router == "" && got != nil || tt.router != "" && (len(got) != 1 || got[0].String() != tt.router) {
				t.Errorf("router = %v, want %q", got, tt.router)
			}
			if got := ack.HostName(); got != tt.host {
				t.Errorf("host name = %q, want %q", got, tt.host)
			}
			if got := net.IP(ack.SubnetMask()).String(); got != "255.255.255.0" {
				t.Errorf("subnet mask = %s", got)
			}
			if got := ack.DomainName(); got != "imaging.example.org" {
				t.Errorf("domain name = %q", got)
			}
		})
	}
	t.Run("an exhausted pool is silent", func(t *testing.T) {
		if offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x09); offer != nil {
			t.Errorf("offer = %v, want none", offer)
		}
	})
	t.Run("an address that is unknown to an authoritative network is refused", func(t *testing.T) {
		nak := send(t, l, dhcpv4.MessageTypeRequest, 0x09, relayed, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(198, 51, 100, 20))))
		if nak == nil || nak.MessageType() != dhcpv4.MessageTypeNak || !nak.YourIPAddr.IsUnspecified() || nak.Message() == "" {
			t.Errorf("nak = %v", nak)
		}
	})
	t.Run("a released address goes to the next client", func(t *testing.T) {
		send(t, l, dhcpv4.MessageTypeRelease, 0x02, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 101)),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverID.AsSlice())))
		if offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x09); offer == nil || offer.YourIPAddr.String() != "192.0.2.101" {
			t.Errorf("offer = %v, want 192.0.2.101", offer)
		}
	})
}

func TestOptionsAskedFor(t *testing.T) {
	l := start(t, t.TempDir())
	ask := dhcpv4.WithRequestedOptions(dhcpv4.OptionRouter, dhcpv4.OptionRenewTimeValue)
	offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x01, ask)
	for code, want := range map[dhcpv4.OptionCode]bool{
		dhcpv4.OptionRouter:             true,
		dhcpv4.OptionRenewTimeValue:     true,
		dhcpv4.OptionSubnetMask:         false,
		dhcpv4.OptionDomainName:         false,
		dhcpv4.OptionHostName:           false,
		dhcpv4.OptionIPAddressLeaseTime: true, // must be there
	} {
		if got := offer.Options.Has(code); got != want {
			t.Errorf("%v in the reply: %v, want %v", code, got, want)
		}
	}
}

func TestEarlierPluginsOptionStays(t *testing.T) {
	l := start(t, t.TempDir())
	r := message(t, dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.WithHwAddr(net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1}))
	reply, err := dhcpv4.NewReplyFromRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	reply.UpdateOption(dhcpv4.OptRouter(net.IPv4(192, 0, 2, 99)))
	l.Handle(t.Context(), &server.Exchange{Request: r, Reply: reply, Addresses: []netip.Addr{serverID}, ServerID: serverID})
	if got := reply.Router(); len(got) != 1 || got[0].String() != "192.0.2.99" {
		t.Errorf("router = %v, want the one that stood there", got)
	}
}

// Plugins behind this one work on the options of the client's classes and device.
func TestOptionsAreHandedOn(t *testing.T) {
	l := startWith(t, t.TempDir(), new(server.Host), writeSite(t, `
domain: imaging.example.org
classes: [{name: phone, vendor-class: Phone, options: {ntp-servers: [ntp1, 192.0.2.3]}}]
networks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}]
`))
	r := message(t, dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.WithHwAddr(net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1}), vendorClass("Phone 7"))
	reply, err := dhcpv4.NewReplyFromRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	x := &server.Exchange{Request: r, Reply: reply, Addresses: []netip.Addr{serverID}, ServerID: serverID}
	l.Handle(t.Context(), x)
	if x.Options == nil || !slices.Equal(x.Options.TimeServers, []string{"ntp1.imaging.example.org.", "192.0.2.3"}) {
		t.Errorf("options %+v", x.Options)
	}
}

func TestInform(t *testing.T) {
	l := start(t, t.TempDir())
	ack := send(t, l, dhcpv4.MessageTypeInform, 0x01, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 77)))
	if ack == nil || !ack.YourIPAddr.IsUnspecified() || ack.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
		t.Fatalf("ack = %v, want options only", ack)
	}
	if got := ack.HostName(); got != "ct1" {
		t.Errorf("host name = %q, want ct1", got)
	}
	if ack := send(t, l, dhcpv4.MessageTypeInform, 0x01, dhcpv4.WithClientIP(net.IPv4(203, 0, 113, 7))); ack != nil {
		t.Errorf("ack = %v, want none for a network that is not ours", ack)
	}
}

func TestRestartKeepsLeases(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	t.Run("before", func(t *testing.T) {
		l := start(t, dir)
		send(t, l, dhcpv4.MessageTypeRequest, 0x02, selecting(send(t, l, dhcpv4.MessageTypeDiscover, 0x02))...)
	})
	l := start(t, dir)
	// INIT-REBOOT (RFC 2131 section 4.3.2): only the address, no server.
	ack := send(t, l, dhcpv4.MessageTypeRequest, 0x02, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(192, 0, 2, 101))))
	if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || ack.YourIPAddr.String() != "192.0.2.101" {
		t.Errorf("ack = %v, want 192.0.2.101 again", ack)
	}
}

func TestReload(t *testing.T) {
	path, host := writeSite(t, siteFile), new(server.Host)
	l := startWith(t, t.TempDir(), host, path)
	if err := os.WriteFile(path, []byte("domain: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := host.ReloadSite(); err == nil || !strings.Contains(err.Error(), path+":") {
		t.Errorf("reload of a broken file = %v, want an error with its line", err)
	}
	if offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x01); offer == nil || offer.YourIPAddr.String() != "192.0.2.11" {
		t.Errorf("offer = %v, want what stood in the old file", offer)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(siteFile, "192.0.2.11,", "192.0.2.12,")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(host.ReloadSite(), l.Reload()); err != nil {
		t.Fatal(err)
	}
	if offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x01); offer == nil || offer.YourIPAddr.String() != "192.0.2.12" {
		t.Errorf("offer = %v, want 192.0.2.12 of the new file", offer)
	}
}

// A network that the site file has lost is lost at once, also while the lease
// manager has not been told yet.
func TestNetworkThatIsGone(t *testing.T) {
	path, host := writeSite(t, siteFile), new(server.Host)
	l := startWith(t, t.TempDir(), host, path)
	if err := os.WriteFile(path, []byte("domain: imaging.example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := host.ReloadSite(); err != nil {
		t.Fatal(err)
	}
	if offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x02); offer != nil {
		t.Errorf("offer = %v, want none", offer)
	}
}

func TestDecline(t *testing.T) {
	l := start(t, t.TempDir())
	ack := send(t, l, dhcpv4.MessageTypeRequest, 0x02, selecting(send(t, l, dhcpv4.MessageTypeDiscover, 0x02))...)
	send(t, l, dhcpv4.MessageTypeDecline, 0x02, selecting(ack)...)
	if got, ok := l.manager.Lease(netip.MustParseAddr("192.0.2.101")); !ok || got.State != lease.Declined {
		t.Errorf("lease = %+v, want it declined", got)
	}
	if offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x09); offer != nil {
		t.Errorf("offer = %v: a declined address rests", offer)
	}
}

// Where the database does not work there is no answer.
func TestNoAnswerOnFailure(t *testing.T) {
	l := onMemory(t)
	offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x02)
	if err := l.manager.Close(); err != nil {
		t.Fatal(err)
	}
	for mt, says := range map[dhcpv4.MessageType][]dhcpv4.Modifier{
		dhcpv4.MessageTypeDiscover: nil,
		dhcpv4.MessageTypeRequest:  selecting(offer),
		dhcpv4.MessageTypeNone:     nil,
		dhcpv4.MessageTypeRelease:  {dhcpv4.WithClientIP(offer.YourIPAddr)},
		dhcpv4.MessageTypeDecline:  selecting(offer),
	} {
		if reply := send(t, l, mt, 0x02, says...); reply != nil {
			t.Errorf("%s was answered by %s", mt, reply.Summary())
		}
		if n := testutil.ToFloat64(l.metrics.answers.WithLabelValues(typeLabels[mt], "silent", "failed")); n != 1 {
			t.Errorf("%s: counted %v times as failed", mt, n)
		}
	}
}

func TestNamesThatAreTaken(t *testing.T) {
	l := startWith(t, t.TempDir(), new(server.Host), writeSite(t, `
domain: imaging.example.org
name-servers: [{host: ns1, address: 192.0.2.2}]
options: {ntp-servers: [ntp1.imaging.example.org]}
networks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}]
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01"}
  - {name: oldmr, address: 192.0.2.20, dhcp: false}
services: [{name: ldap, protocol: tcp, host: ldap, port: 389}]
`))
	for i, tt := range []struct{ asked, want string }{
		{"ct1", ""}, {"oldmr", ""}, {"ns1", ""}, {"ntp1", ""}, {"ldap", ""}, {"LDAP", ""},
		{"ws7", "ws7.imaging.example.org."},
	} {
		offer := send(t, l, dhcpv4.MessageTypeDiscover, byte(0x10+i))
		ack := send(t, l, dhcpv4.MessageTypeRequest, byte(0x10+i), append(selecting(offer), dhcpv4.WithOption(dhcpv4.OptHostName(tt.asked)))...)
		a, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
		if got, _ := l.manager.Lease(a); got.Name != tt.want {
			t.Errorf("a guest that calls itself %q is named %q, want %q", tt.asked, got.Name, tt.want)
		}
	}
}

func TestOptionsForThoseWhoKnowThem(t *testing.T) {
	l := startWith(t, t.TempDir(), new(server.Host), writeSite(t, `
domain: imaging.example.org
options: {auto-configure: 0, v6-only-preferred: 300}
networks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}]
`))
	autoConfigure := dhcpv4.WithOption(dhcpv4.OptAutoConfigure(dhcpv4.AutoConfigure))
	for _, tt := range []struct {
		name             string
		options          []dhcpv4.Modifier
		wantAuto, wantV6 bool
	}{
		{"no list", nil, false, false},
		{"116 sent", []dhcpv4.Modifier{autoConfigure}, true, false},
		{"116 only listed", []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(dhcpv4.OptionAutoConfigure)}, false, false},
		{"108 listed", []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(dhcpv4.OptionIPv6OnlyPreferred)}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			offer := send(t, l, dhcpv4.MessageTypeDiscover, 0x01, tt.options...)
			if got := offer.Options.Has(dhcpv4.OptionAutoConfigure); got != tt.wantAuto {
				t.Errorf("116 in the reply: %v, want %v", got, tt.wantAuto)
			}
			if got := offer.Options.Has(dhcpv4.OptionIPv6OnlyPreferred); got != tt.wantV6 {
				t.Errorf("108 in the reply: %v, want %v", got, tt.wantV6)
			}
		})
	}
}

// TestConfig holds what becomes of each key of the site file.
func TestConfig(t *testing.T) {
	s, _, err := site.Load(writeSite(t, `
domain: imaging.example.org
classes: [{name: pxe, vendor-class: PXEClient}]
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    shared-network: floor1
    interface: eth1
    pools:
      - 192.0.2.100-192.0.2.199
      - 192.0.2.90
      - {range: 192.0.2.91, class: pxe, clients: known}
      - {range: 192.0.2.92, clients: unknown}
    lease-time: 1h
    min-lease-time: 10m
    max-lease-time: 2h
    decline-time: 3h
    authoritative: true
  - {name: guests, subnet: 198.51.100.0/24, ddns: {mode: "off", reverse: none}}
devices:
  - {name: ct1, hardware-address: ["00:00:5e:00:53:01", "00:00:5e:00:53:11"], client-identifier: "01:02", address: 192.0.2.11}
  - {name: ws1, hardware-address: "00:00:5e:00:53:02", address: 192.0.2.12, publish: always}
  - {name: us1, circuit-id: "eth0/7", remote-id: "switch-b"}
  - {name: Us2}
  - {name: oldmr, address: 192.0.2.20, dhcp: false}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := lease.Config{
		Domain: "imaging.example.org.", MaxPerPort: 7, MaxPerNetwork: 70,
		Networks: []lease.Network{
			{
				Name: "radiology", Prefix: netip.MustParsePrefix("192.0.2.0/24"), SharedNetwork: "floor1", Interface: "eth1",
				Pools: []lease.Pool{
					{First: addr("192.0.2.100"), Last: addr("192.0.2.199")},
					{First: addr("192.0.2.90"), Last: addr("192.0.2.90")},
					{First: addr("192.0.2.91"), Last: addr("192.0.2.91"), Class: "pxe", Clients: lease.KnownClients},
					{First: addr("192.0.2.92"), Last: addr("192.0.2.92"), Clients: lease.UnknownClients},
				},
				LeaseTime: time.Hour, MinLeaseTime: 10 * time.Minute, MaxLeaseTime: 2 * time.Hour, DeclineTime: 3 * time.Hour,
				Authoritative: true, DDNS: true,
			},
			{
				Name: "guests", Prefix: netip.MustParsePrefix("198.51.100.0/24"),
				LeaseTime: 12 * time.Hour, MinLeaseTime: 12 * time.Hour, MaxLeaseTime: 12 * time.Hour, DeclineTime: 24 * time.Hour,
				Names: lease.NamePolicy{Reverse: lease.NoNames},
			},
		},
		Reservations: []lease.Reservation{
			{
				Device: "ct1", Hostname: "ct1.imaging.example.org.", Addresses: []netip.Addr{addr("192.0.2.11")}, Publish: true,
				HardwareAddresses: []lease.HardwareAddress{{Type: 1, Addr: "\x00\x00\x5e\x00\x53\x01"}, {Type: 1, Addr: "\x00\x00\x5e\x00\x53\x11"}},
				ClientIdentifiers: []string{"\x01\x02"},
			},
			{
				Device: "ws1", Hostname: "ws1.imaging.example.org.", Addresses: []netip.Addr{addr("192.0.2.12")},
				HardwareAddresses: []lease.HardwareAddress{{Type: 1, Addr: "\x00\x00\x5e\x00\x53\x02"}},
			},
			{Device: "us1", Hostname: "us1.imaging.example.org.", CircuitID: "eth0/7", RemoteID: "switch-b", Publish: true},
			{Device: "Us2", Hostname: "us2.imaging.example.org.", Names: []string{"us2"}, Publish: true},
		},
		Excluded:  []netip.Addr{addr("192.0.2.11"), addr("192.0.2.12"), addr("192.0.2.20")},
		Hostnames: []string{"ct1.imaging.example.org.", "ns.imaging.example.org.", "oldmr.imaging.example.org.", "us1.imaging.example.org.", "us2.imaging.example.org.", "ws1.imaging.example.org."},
	}
	if got := config(s, bounds{7, 70}); !reflect.DeepEqual(got, want) {
		t.Errorf("config =\n%+v\nwant\n%+v", got, want)
	}
}

// TestStock sets the plugin up as a stock CoreDHCP does.
func TestStock(t *testing.T) {
	handler, err := Plugin.Setup4("site="+writeSite(t, siteFile), "database="+filepath.Join(t.TempDir(), "leases"))
	if err != nil {
		t.Fatal(err)
	}
	r := message(t, dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.WithHwAddr(net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1}))
	reply, err := dhcpv4.NewReplyFromRequest(r, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverID.AsSlice())))
	if err != nil {
		t.Fatal(err)
	}
	if offer, stop := handler(r, reply); stop || offer == nil || offer.YourIPAddr.String() != "192.0.2.11" {
		t.Errorf("offer = %v, stop %v, want 192.0.2.11", offer, stop)
	}
}

func TestArguments(t *testing.T) {
	good := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(good, []byte(siteFile), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(broken, []byte("domain: imaging.example.org\nnetwork: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no site", []string{"database=d"}, "site= is missing"},
		{"no database", []string{"site=" + good}, "database= is missing"},
		{"unknown", []string{"site=" + good, "database=d", "colour=red"}, `colour`},
		{"no such file", []string{"site=/nonexistent/site.yaml", "database=d"}, "no such file"},
		{"max-per-port is no number", []string{"site=" + good, "database=d", "max-per-port=many"}, "max-per-port=many: expected a number from 1 to 1000000"},
		{"max-per-port is too small", []string{"site=" + good, "database=d", "max-per-port=0"}, "max-per-port=0: expected"},
		{"max-per-network is too large", []string{"site=" + good, "database=d", "max-per-network=1000001"}, "max-per-network=1000001: expected a number from 1 to 1000000"},
		{"a broken site file, with its line", []string{"site=" + broken, "database=d"}, broken + ":2:1: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.args, new(server.Host)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q in it", err, tt.want)
			}
		})
	}
}
