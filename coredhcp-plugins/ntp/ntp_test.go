package ntp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

const siteFile = `
domain: imaging.example.org
options: {ntp-servers: [192.0.2.3, ntp1]}
networks:
  - {name: radiology, subnet: 192.0.2.0/24}
  - {name: cardiology, subnet: 198.51.100.0/24, options: {ntp-servers: [198.51.100.3]}}
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01", options: {ntp-servers: [192.0.2.4]}}
`

func newNTP(t *testing.T, content string) *NTP {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := New([]string{"site=" + path}, new(server.Host))
	if err != nil {
		t.Fatal(err)
	}
	return p.(*NTP)
}

// answer is option 42 of the reply to a client that was given address.
func answer(t *testing.T, n *NTP, client byte, address string, modifiers ...dhcpv4.Modifier) []string {
	t.Helper()
	r, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(net.HardwareAddr{0, 0, 0x5e, 0, 0x53, client})}, modifiers...)...)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := dhcpv4.NewReplyFromRequest(r, dhcpv4.WithYourIP(net.ParseIP(address)))
	if err != nil {
		t.Fatal(err)
	}
	n.Handle(t.Context(), &server.Exchange{Request: r, Reply: reply})
	var servers []string
	for _, ip := range reply.NTPServers() {
		servers = append(servers, ip.String())
	}
	return servers
}

func TestServers(t *testing.T) {
	n := newNTP(t, siteFile)
	n.lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if host != "ntp1.imaging.example.org." {
			return nil, errors.New("asked for " + host)
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.5"), netip.MustParseAddr("192.0.2.6")}, nil
	}
	n.resolve(t.Context())
	ask := dhcpv4.WithRequestedOptions(dhcpv4.OptionNTPServers)
	tests := []struct {
		name    string
		client  byte
		address string
		options []dhcpv4.Modifier
		want    []string
	}{
		{"of the site, names resolved, in the file's order", 9, "192.0.2.100", []dhcpv4.Modifier{ask}, []string{"192.0.2.3", "192.0.2.5", "192.0.2.6"}},
		{"of the network", 9, "198.51.100.9", []dhcpv4.Modifier{ask}, []string{"198.51.100.3"}},
		{"of the device", 1, "192.0.2.100", []dhcpv4.Modifier{ask}, []string{"192.0.2.4"}},
		{"not asked for", 9, "192.0.2.100", []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(dhcpv4.OptionRouter)}, nil},
		{"inform: the address that the client has", 9, "0.0.0.0", []dhcpv4.Modifier{ask, dhcpv4.WithMessageType(dhcpv4.MessageTypeInform), dhcpv4.WithClientIP(net.IPv4(198, 51, 100, 7))}, []string{"198.51.100.3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := answer(t, n, tt.client, tt.address, tt.options...); !slices.Equal(got, tt.want) {
				t.Errorf("servers = %v, want %v", got, tt.want)
			}
		})
	}
	t.Run("as the plugin that gave the address says", func(t *testing.T) {
		r, err := dhcpv4.New(ask, dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
		if err != nil {
			t.Fatal(err)
		}
		x := &server.Exchange{Request: r, Reply: &dhcpv4.DHCPv4{YourIPAddr: net.IPv4(192, 0, 2, 100), Options: dhcpv4.Options{}},
			Options: &site.Options{TimeServers: []string{"ntp1.imaging.example.org.", "198.51.100.9"}}} // of a class
		n.Handle(t.Context(), x)
		if got := fmt.Sprint(x.Reply.NTPServers()); got != "[192.0.2.5 192.0.2.6 198.51.100.9]" {
			t.Errorf("servers = %v", got)
		}
	})
	t.Run("before the plugin that gives addresses", func(t *testing.T) {
		if got := answer(t, n, 9, "0.0.0.0", ask, dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover)); got != nil {
			t.Errorf("servers = %v, want none: the network is not known", got)
		}
	})
	t.Run("a name that no longer resolves keeps its addresses", func(t *testing.T) {
		n.lookup = func(context.Context, string, string) ([]netip.Addr, error) { return nil, errors.New("no answer") }
		n.resolve(t.Context())
		if got := answer(t, n, 9, "192.0.2.100", ask); !slices.Contains(got, "192.0.2.5") {
			t.Errorf("servers = %v, want 192.0.2.5 among them", got)
		}
	})
}

func TestNamesAreResolvedAgain(t *testing.T) {
	n := newNTP(t, siteFile)
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan struct{}, 10)
		n.reloaded = make(chan struct{}, 1)
		n.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			asked <- struct{}{}
			return []netip.Addr{netip.MustParseAddr("192.0.2.5")}, nil
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-asked // at start
		<-asked // after the interval
		synctest.Wait()
		if err := n.Reload(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(asked) != 1 {
			t.Errorf("a reload asked %d times, want once, at once", len(asked))
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestArguments(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no site", nil, "site= is missing"},
		{"unknown", []string{"sight=x"}, "sight"},
		{"verify", []string{"site=x", "verify=yes"}, "verify=yes: expected true or false"},
		{"no such file", []string{"site=/nonexistent/site.yaml"}, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.args, new(server.Host)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q in it", err, tt.want)
			}
		})
	}
}
