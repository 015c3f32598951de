package leases

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// reloadable is a wire whose site file can be changed while leases live.
type reloadable struct {
	*wire
	path, text string
	outlook    map[netip.Addr]lease.Outlook // what was said before the last change
}

const reloadSite = `
domain: imaging.example.org
classes:
  - {name: phone, vendor-class: Phone}
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    pools: [192.0.2.100-192.0.2.109, {range: 192.0.2.120-192.0.2.129, class: phone}]
    lease-time: 1h
    options: {routers: [192.0.2.1]}
  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.100-198.51.100.199], lease-time: 1h}
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.11}
`

func newReloadable(t *testing.T) *reloadable {
	path := writeSite(t, reloadSite)
	w := newWire(t, "server_id: 192.0.2.2", "leases: site="+path+" database="+filepath.Join(t.TempDir(), "leases"))
	return &reloadable{wire: w, path: path, text: reloadSite}
}

// change replaces text in the site file and has it read.
func (r *reloadable) change(pairs ...string) {
	r.t.Helper()
	text := strings.NewReplacer(pairs...).Replace(r.text)
	if text == r.text {
		r.t.Fatalf("nothing changed by %q", pairs)
	}
	r.text = text
	r.must(os.WriteFile(r.path, []byte(text), 0o600))
	s, _, err := site.Load(r.path)
	r.must(err)
	r.outlook = map[netip.Addr]lease.Outlook{}
	r.must(r.host.Leases().Preview(config(s, bounds{}), func(l lease.Lease, o lease.Outlook) error {
		r.outlook[l.Address] = o
		return nil
	}))
	r.must(r.server.Reload())
}

// renew renews the lease of an address, and holds the answer against what was said
// before the last change.
func (r *reloadable) renew(c *client, a netip.Addr) *reply {
	r.t.Helper()
	got := c.send(dhcpv4.MessageTypeRequest, ciaddr(a))
	o, said := r.outlook[a]
	switch {
	case !said || got == nil:
	case o.Refused != "" != (got.MessageType() == dhcpv4.MessageTypeNak):
		r.t.Errorf("%s was answered, and the outlook was %+v", got.MessageType(), o)
	case o.Refused == "" && r.name(a) != o.Name:
		r.t.Errorf("it is named %q, and the outlook was %+v", r.name(a), o)
	}
	delete(r.outlook, a)
	return got
}

func (r *reloadable) name(a netip.Addr) string {
	l, _ := r.lease(a)
	return l.Name
}

// TestReloadWithLeases changes the site file under clients that hold leases: who
// may keep its address keeps it, who may not hears so when it renews, and nobody
// is told anything before.
func TestReloadWithLeases(t *testing.T) {
	const domain = ".imaging.example.org."
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, r *reloadable)
	}{
		{"an address is reserved that another client holds", func(t *testing.T, r *reloadable) {
			holder, device := r.client(0x10), r.client(0x20)
			a := yours(holder.gets())
			r.change("devices:", "devices:\n  - {name: mr1, hardware-address: \"00:00:5e:00:53:20\", address: "+a.String()+"}")
			r.holds(holder, a)
			waiting := yours(device.gets())
			if waiting == a || !within(waiting, "192.0.2.100", "192.0.2.109") {
				t.Errorf("the device got %s, want one of the pool until then", waiting)
			}
			if got := r.name(waiting); got != "mr1"+domain {
				t.Errorf("it is named %q", got)
			}
			r.wantNak(r.renew(holder, a))
			r.becomes(a, lease.Released)
			r.wantNak(r.renew(device, waiting)) // its own is free now
			if got := yours(device.gets()); got != a {
				t.Errorf("the device got %s, want %s", got, a)
			}
			r.becomes(waiting, lease.Released) // no second one on the same wire
			if got := yours(holder.gets()); got == a || !within(got, "192.0.2.100", "192.0.2.109") {
				t.Errorf("the former holder got %s", got)
			}
			r.wantShown("mr1"+domain, a)
		}},
		{"a pool shrinks", func(t *testing.T, r *reloadable) {
			in, out := r.client(0x10), r.client(0x11)
			kept, lost := yours(in.gets(requested(addr("192.0.2.101")))), yours(out.gets(requested(addr("192.0.2.108"))))
			r.change("192.0.2.100-192.0.2.109", "192.0.2.100-192.0.2.105")
			r.want(r.renew(in, kept), dhcpv4.MessageTypeAck)
			r.holds(out, lost)
			r.wantNak(r.renew(out, lost))
			if a := yours(out.gets()); !within(a, "192.0.2.100", "192.0.2.105") {
				t.Errorf("got %s", a)
			}
		}},
		{"a network is removed, and comes back", func(t *testing.T, r *reloadable) {
			c := r.client(0x10, relay("198.51.100.1"))
			a := yours(c.gets())
			network := "  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.100-198.51.100.199], lease-time: 1h}\n"
			r.change(network, "")
			r.want(c.send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone)
			r.wantNak(r.renew(r.client(0x10), a)) // by unicast, without the relay
			r.change("devices:", network+"devices:")
			r.want(r.renew(c, a), dhcpv4.MessageTypeAck)
		}},
		{"a device is renamed", func(t *testing.T, r *reloadable) {
			c := r.client(0x01)
			a := yours(c.gets())
			r.wantShown("ct1"+domain, a)
			r.change("name: ct1", "name: ct9")
			if got := r.name(a); got != "ct1"+domain {
				t.Errorf("named %q before the client was told", got)
			}
			ack := r.renew(c, a)
			r.want(ack, dhcpv4.MessageTypeAck)
			if ack.HostName() != "ct9" || yours(ack) != a {
				t.Errorf("renewed %s as %q", yours(ack), ack.HostName())
			}
			r.wantShown("ct9"+domain, a)
		}},
		{"a device's address is changed", func(t *testing.T, r *reloadable) {
			c := r.client(0x01)
			a := yours(c.gets())
			r.change("address: 192.0.2.11}", "address: 192.0.2.12}")
			r.wantNak(r.renew(c, a))
			if got := yours(c.gets()); got != addr("192.0.2.12") {
				t.Errorf("got %s", got)
			}
			r.becomes(a, lease.Released)
			r.wantShown("ct1"+domain, addr("192.0.2.12"))
		}},
		{"a client becomes a device, and asks anew before it renews", func(t *testing.T, r *reloadable) {
			c := r.client(0x10)
			a := yours(c.gets())
			r.change("devices:", "devices:\n  - {name: mr1, hardware-address: \"00:00:5e:00:53:10\", address: 192.0.2.30}")
			if got := yours(c.gets(requested(a))); got != addr("192.0.2.30") {
				t.Errorf("got %s, want its own address", got)
			}
			r.becomes(a, lease.Released) // for others
			r.wantShown("mr1"+domain, addr("192.0.2.30"))
		}},
		{"a device is removed", func(t *testing.T, r *reloadable) {
			c := r.client(0x01, hostName("scanner"))
			a := yours(c.gets())
			r.change(`  - {name: ct1, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.11}`, `  - {name: mr1, address: 192.0.2.30, dhcp: false}`)
			r.wantNak(r.renew(c, a))
			got := yours(c.gets())
			if !within(got, "192.0.2.100", "192.0.2.109") || r.name(got) != "scanner"+domain {
				t.Errorf("got %s, named %q", got, r.name(got))
			}
		}},
		{"a class's pool becomes everyone's, and another's", func(t *testing.T, r *reloadable) {
			c := r.client(0x10, vendorClass("Phone 7"))
			a := yours(c.gets(requested(addr("192.0.2.121"))))
			if a != addr("192.0.2.121") {
				t.Fatalf("got %s", a)
			}
			r.change("class: phone}]", "clients: known}]")
			r.wantNak(r.renew(c, a))
			if got := yours(c.gets()); !within(got, "192.0.2.100", "192.0.2.109") {
				t.Errorf("got %s", got)
			}
			r.change("clients: known}]", "clients: any}]")
			if got := yours(r.client(0x11).gets(requested(addr("192.0.2.122")))); got != addr("192.0.2.122") {
				t.Errorf("another client got %s", got)
			}
		}},
		{"options and times change", func(t *testing.T, r *reloadable) {
			c := r.client(0x10)
			a := yours(c.gets())
			r.change("routers: [192.0.2.1]", "routers: [192.0.2.254], interface-mtu: 1400", "lease-time: 1h\n    options", "lease-time: 2h\n    options")
			ack := r.renew(c, a)
			r.want(ack, dhcpv4.MessageTypeAck)
			if got := ack.Router(); len(got) != 1 || got[0].String() != "192.0.2.254" || len(ack.Options[26]) != 2 || ack.IPAddressLeaseTime(0) != 2*time.Hour {
				t.Errorf("renewed with %s", ack.Summary())
			}
		}},
		{"an address is taken by a machine that does not speak DHCP", func(t *testing.T, r *reloadable) {
			c := r.client(0x10)
			a := yours(c.gets())
			r.change("devices:", "devices:\n  - {name: oldmr, address: "+a.String()+", dhcp: false}")
			r.wantNak(r.renew(c, a))
			if got := yours(c.gets()); got == a {
				t.Errorf("got %s again", got)
			}
		}},
		{"addresses are tried from now on", func(t *testing.T, r *reloadable) {
			c := r.client(0x10)
			a := yours(c.gets())
			r.change("lease-time: 1h\n    options", "lease-time: 1h\n    probe: arp\n    options")
			r.want(r.renew(c, a), dhcpv4.MessageTypeAck)
			if n := r.probes("radiology", "free"); n != 0 {
				t.Errorf("the address of a renewal was tried")
			}
			r.client(0x11).gets()
			if n := r.probes("radiology", "free"); n != 1 {
				t.Errorf("%v addresses were tried, want 1", n)
			}
		}},
		{"an error in the file changes nothing", func(t *testing.T, r *reloadable) {
			c := r.client(0x10)
			a := yours(c.gets())
			r.must(os.WriteFile(r.path, []byte(strings.ReplaceAll(r.text, "192.0.2.109", "192.0.9.109")), 0o600))
			if err := r.server.Reload(); err == nil || !strings.Contains(err.Error(), r.path+":") {
				t.Errorf("error %v, want one with its line", err)
			}
			r.want(r.renew(c, a), dhcpv4.MessageTypeAck)
			r.client(0x11).gets()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newReloadable(t)) })
	}
}
