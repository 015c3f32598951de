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
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/timecheck"
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

// lookup finds ntp1 at two addresses.
func lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if host != "ntp1.imaging.example.org." {
		return nil, errors.New("asked for " + host)
	}
	return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.5"), netip.MustParseAddr("192.0.2.6")}, nil
}

// plugin is the plugin on a site file.
func plugin(t *testing.T, content string, host *server.Host, o timecheck.Options, args ...string) *NTP {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := newNTP(append([]string{"site=" + path}, args...), host, o)
	if err != nil {
		t.Fatal(err)
	}
	return n
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
	resolved := make(chan struct{}, 100)
	n := plugin(t, siteFile, new(server.Host), timecheck.Options{Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		defer func() { resolved <- struct{}{} }()
		return lookup(ctx, host)
	}})
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	<-resolved
	for late := time.Now().Add(time.Minute); time.Now().Before(late); time.Sleep(time.Millisecond) { // until what was found is there
		if len(n.checker.Choose([]string{"ntp1.imaging.example.org."})) > 0 {
			break
		}
	}
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
}

// With verify the servers that keep the time are given, and DHCP does not wait
// for anything.
func TestVerify(t *testing.T) {
	const content = "domain: imaging.example.org\noptions: {ntp-servers: [192.0.2.3, 192.0.2.4, 192.0.2.5]}\nnetworks: [{name: radiology, subnet: 192.0.2.0/24}]\n"
	synctest.Test(t, func(t *testing.T) {
		host := new(server.Host)
		n := plugin(t, content, host, timecheck.Options{Query: func(_ context.Context, a netip.Addr) (timecheck.Answer, error) {
			switch a.As4()[3] {
			case 3:
				return timecheck.Answer{Stratum: 3}, nil
			case 4:
				return timecheck.Answer{Stratum: 2}, nil
			}
			return timecheck.Answer{}, errors.New("timeout")
		}}, "verify=true")
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ask := dhcpv4.WithRequestedOptions(dhcpv4.OptionNTPServers)
		if got := fmt.Sprint(answer(t, n, 9, "192.0.2.100", ask)); got != "[192.0.2.3 192.0.2.4 192.0.2.5]" {
			t.Errorf("before anybody was asked: %s", got)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := fmt.Sprint(answer(t, n, 9, "192.0.2.100", ask)); got != "[192.0.2.4 192.0.2.3]" {
			t.Errorf("servers %s, want the good ones, the best first", got)
		}
		var told []control.TimeServer
		err := n.tell(t.Context(), nil, func(v any) error {
			told = append(told, v.(control.TimeServer))
			return nil
		})
		if err != nil || len(told) != 3 || told[1].Verdict != control.TimeGood || told[1].Stratum != 2 || told[2].Verdict != control.TimeBad || told[2].Reason != "no answer" {
			t.Errorf("told %+v, %v", told, err)
		}
		if err := n.tell(t.Context(), []byte(`{"x":1}`), nil); err == nil {
			t.Error("unknown arguments were taken")
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMetrics(t *testing.T) {
	n := plugin(t, siteFile, new(server.Host), timecheck.Options{})
	problems, err := testutil.CollectAndLint(metrics{n.checker})
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	const want = `# HELP coredhcp_ntp_lists_without_good_server Lists of ntp-servers of which no server is good; clients are given all of them.
# TYPE coredhcp_ntp_lists_without_good_server gauge
coredhcp_ntp_lists_without_good_server 0
# HELP coredhcp_ntp_server_good Whether a time server is given to clients: 1 good, 0 bad or not asked yet.
# TYPE coredhcp_ntp_server_good gauge
coredhcp_ntp_server_good{address="",server="ntp1.imaging.example.org."} 0
coredhcp_ntp_server_good{address="192.0.2.3",server="192.0.2.3"} 0
coredhcp_ntp_server_good{address="192.0.2.4",server="192.0.2.4"} 0
coredhcp_ntp_server_good{address="198.51.100.3",server="198.51.100.3"} 0
`
	if err := testutil.CollectAndCompare(metrics{n.checker}, strings.NewReader(want), "coredhcp_ntp_server_good", "coredhcp_ntp_lists_without_good_server"); err != nil {
		t.Error(err)
	}
}

func TestReload(t *testing.T) {
	n := plugin(t, siteFile, new(server.Host), timecheck.Options{})
	before := len(n.checker.Status())
	if err := n.Reload(); err != nil || len(n.checker.Status()) != before || before != 4 {
		t.Errorf("%d servers, then %d, %v", before, len(n.checker.Status()), err)
	}
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
