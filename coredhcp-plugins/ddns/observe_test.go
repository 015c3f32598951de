package ddns

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// commit is one whose fate a test decides.
type commit struct{ calls []func(error) }

func (c *commit) Then(f func(error)) { c.calls = append(c.calls, f) }

// The reply of another plugin leaves whatever becomes of the database of names, once, and soon.
func TestPassing(t *testing.T) {
	for name, fate := range map[string]struct {
		err   error
		after time.Duration // 0: never
	}{
		"written":   {nil, time.Millisecond},
		"failed":    {errors.New("no space left on device"), time.Millisecond},
		"slow":      {nil, time.Hour},
		"no answer": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := new(commit)
				left := make(chan error, 2)
				begin := time.Now()
				passing{c}.Then(func(err error) {
					left <- err
					if d := time.Since(begin); d > longestHold {
						t.Errorf("it left after %s", d)
					}
				})
				synctest.Wait()
				if len(left) > 0 {
					t.Error("it left before anything was known")
				}
				if fate.after != 0 {
					time.Sleep(fate.after)
					for _, f := range c.calls {
						f(fate.err)
					}
				}
				time.Sleep(2 * longestHold)
				if len(left) != 1 {
					t.Fatalf("it left %d times", len(left))
				}
				if err := <-left; err != nil {
					t.Errorf("it left as %v", err)
				}
			})
		})
	}
	if c := new(commit); (passing{c}) != (passing{c}) {
		t.Error("replies that wait for one commit are not sent together")
	}
}

// withDatabase is a running ddns with a database of its own, whose DNS server is not there.
func withDatabase(t *testing.T) *DDNS {
	t.Helper()
	keys, _ := keyFile(t)
	p, err := New([]string{"site=" + siteFile(t, ""), "server=127.0.0.1:1", "keys=" + keys, "key=" + keyName, "database=" + filepath.Join(t.TempDir(), "names")}, new(server.Host))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p.(*DDNS)
}

// A database that takes nothing costs no client its answer, and is told of.
func TestDatabaseThatFails(t *testing.T) {
	d := withDatabase(t)
	if err := d.running.Load().leases.Close(); err != nil {
		t.Fatal(err)
	}
	req, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x07}))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 7)), dhcpv4.WithLeaseTime(3600))
	if err != nil {
		t.Fatal(err)
	}
	x := &server.Exchange{Request: req, Reply: reply}
	if v := d.Handle(t.Context(), x); v != server.Continue || x.Reply != reply {
		t.Errorf("%v, %v", v, x.Reply)
	}
	if n := d.unnoted.Load(); n != 1 {
		t.Errorf("%d counted", n)
	}
}

// A client of another plugin is called what one of leases is: by option 81 before option 12, in either form, made a label of.
// One that wants no updates (N) gets none, a device excepted.
func TestNameOfOtherPlugin(t *testing.T) {
	keys, _ := keyFile(t)
	site := filepath.Join(t.TempDir(), "site.yaml")
	content := "domain: imaging.example.org\nnetworks: [{name: radiology, subnet: 192.0.2.0/24}]\ndevices: [{name: ct1, hardware-address: \"00:00:5e:00:53:ff\"}]\n"
	if err := os.WriteFile(site, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := New([]string{"site=" + site, "server=127.0.0.1:1", "keys=" + keys, "key=" + keyName, "database=" + filepath.Join(t.TempDir(), "names")}, new(server.Host))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := p.(*DDNS)
	const s, e, n = 1, 4, 8 // RFC 4702 section 2.1
	fqdn := func(flags byte, name string) dhcpv4.Modifier {
		return dhcpv4.WithGeneric(dhcpv4.OptionFQDN, append([]byte{flags, 0, 0}, name...))
	}
	host := func(name string) dhcpv4.Modifier { return dhcpv4.WithGeneric(dhcpv4.OptionHostName, []byte(name)) }
	for i, tt := range []struct {
		name string
		mac  byte // 0: one that nobody knows
		says []dhcpv4.Modifier
		want string // "" for nothing: no name is made of the address
	}{
		{"nothing", 0, nil, ""},
		{"option 12", 0, []dhcpv4.Modifier{host("ws7")}, "ws7"},
		{"option 12 of Windows", 0, []dhcpv4.Modifier{host("WS7\x00")}, "ws7"},
		{"option 12, to be cleaned", 0, []dhcpv4.Modifier{host("CT_Room 3.clinic.example.com")}, "ct-room-3"},
		{"option 12, nothing left of it", 0, []dhcpv4.Modifier{host("***")}, ""},
		{"option 12, an address", 0, []dhcpv4.Modifier{host("192.0.2.7")}, ""},
		{"option 12, no name at all", 0, []dhcpv4.Modifier{host("(none)")}, ""},
		{"option 12, too long", 0, []dhcpv4.Modifier{host(strings.Repeat("a", 70))}, strings.Repeat("a", 63)},
		{"option 12, an empty label", 0, []dhcpv4.Modifier{host(".example.org")}, ""},
		{"option 81", 0, []dhcpv4.Modifier{fqdn(s, "ws7"), host("ws8")}, "ws7"},
		{"option 81: the client wants to update itself", 0, []dhcpv4.Modifier{fqdn(0, "ws7.example.org.")}, "ws7"},
		{"option 81 in wire form", 0, []dhcpv4.Modifier{fqdn(s|e, "\x03ws7\x07example\x03org\x00")}, "ws7"},
		{"option 81 in wire form, partial", 0, []dhcpv4.Modifier{fqdn(s|e, "\x03ws7")}, "ws7"},
		{"option 81 in wire form, malformed", 0, []dhcpv4.Modifier{fqdn(s|e, "\x3fws7")}, ""},
		{"option 81 in wire form, a dot in the label", 0, []dhcpv4.Modifier{fqdn(s|e, "\x05ws.77\x00")}, "ws"},
		{"option 81 in wire form, octets that are none of a name", 0, []dhcpv4.Modifier{fqdn(s|e, "\x06ws\xc3\xa477\x00")}, "ws-77"},
		{"option 81 in wire form, quotes and spaces", 0, []dhcpv4.Modifier{fqdn(s|e, "\x09ws \"7\" (8\x00")}, "ws-7-8"},
		{"option 81 in wire form, another name compressed into it", 0, []dhcpv4.Modifier{fqdn(s|e, "\x03ws7\xc0\x00")}, ""},
		{"option 81 in wire form, the root", 0, []dhcpv4.Modifier{fqdn(s|e, "\x00")}, ""},
		{"option 81 in wire form, and ASCII in it", 0, []dhcpv4.Modifier{fqdn(s|e, "ws7.example.org")}, ""},
		{"option 81 without a name", 0, []dhcpv4.Modifier{fqdn(s, ""), host("ws8")}, ""},
		{"option 81: nothing in DNS, please", 0, []dhcpv4.Modifier{fqdn(n, "ws7")}, ""},
		{"option 81: nothing in DNS, in wire form", 0, []dhcpv4.Modifier{fqdn(n|e, "")}, ""},
		{"a device has no say", 0xff, []dhcpv4.Modifier{fqdn(n, "ws7")}, "ct1"},
	} {
		last := byte(i + 1)
		mac := net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, cmp.Or(tt.mac, last)}
		req, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(mac)}, tt.says...)...)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, last)), dhcpv4.WithLeaseTime(3600))
		if err != nil {
			t.Fatal(err)
		}
		d.observe(t.Context(), &server.Exchange{Request: req, Reply: reply}, reply)
		l, ok := d.running.Load().leases.Lease(netip.AddrFrom4([4]byte{192, 0, 2, last}))
		want := tt.want
		if want != "" {
			want += ".imaging.example.org."
		}
		if !ok || l.Name != want {
			t.Errorf("%s: %q, %t, want %q", tt.name, l.Name, ok, want)
		}
	}
}
