//go:build linux

package lab

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A script is called as the client programs call theirs; lists and signed numbers
// come as they write them.
func TestLeaseOfScript(t *testing.T) {
	want := &Lease{
		Address:    netip.MustParseAddr("192.0.2.11"),
		Bits:       24,
		Broadcast:  netip.MustParseAddr("192.0.2.255"),
		Routers:    []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		DNS:        []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("198.51.100.2")},
		NTP:        []netip.Addr{netip.MustParseAddr("192.0.2.3")},
		Domain:     "imaging.example.org",
		Hostname:   "ct1",
		TimeOffset: -5 * time.Hour,
		Duration:   12 * time.Hour,
		MTU:        1500,
		ServerID:   netip.MustParseAddr("192.0.2.2"),
	}
	udhcpc := map[string]string{
		"ip": "192.0.2.11", "mask": "24", "subnet": "255.255.255.0", "broadcast": "192.0.2.255", "router": "192.0.2.1",
		"dns": "192.0.2.2 198.51.100.2", "ntpsrv": "192.0.2.3", "domain": "imaging.example.org", "hostname": "ct1",
		"timezone": "-18000", "lease": "43200", "mtu": "1500", "serverid": "192.0.2.2",
	}
	dhclient := map[string]string{
		"new_ip_address": "192.0.2.11", "new_subnet_mask": "255.255.255.0", "new_broadcast_address": "192.0.2.255",
		"new_routers": "192.0.2.1", "new_domain_name_servers": "192.0.2.2 198.51.100.2", "new_ntp_servers": "192.0.2.3",
		"new_domain_name": "imaging.example.org", "new_host_name": "ct1", "new_time_offset": "-18000",
		"new_dhcp_lease_time": "43200", "new_interface_mtu": "1500", "new_dhcp_server_identifier": "192.0.2.2",
	}
	with := func(env map[string]string, name, value string) map[string]string {
		changed := map[string]string{name: value}
		for k, v := range env {
			if k != name {
				changed[k] = v
			}
		}
		return changed
	}
	unsigned := *want
	unsigned.TimeOffset = -18000 * time.Second
	for name, tc := range map[string]struct {
		read   func(string, func(string) string) (*Lease, error)
		reason string
		env    map[string]string
		want   *Lease
		err    string
	}{
		"udhcpc bound":                 {udhcpcLease, "bound", udhcpc, want, ""},
		"udhcpc renew":                 {udhcpcLease, "renew", udhcpc, want, ""},
		"udhcpc deconfig":              {udhcpcLease, "deconfig", udhcpc, nil, ""},
		"udhcpc offset without a sign": {udhcpcLease, "bound", with(udhcpc, "timezone", "4294949296"), &unsigned, ""},
		"udhcpc bad address":           {udhcpcLease, "bound", with(udhcpc, "router", "192.0.2"), want, `router="192.0.2"`},
		"udhcpc bad number":            {udhcpcLease, "bound", with(udhcpc, "mtu", "many"), want, `mtu="many"`},
		"dhclient bound":               {dhclientLease, "BOUND", dhclient, want, ""},
		"dhclient reboot":              {dhclientLease, "REBOOT", dhclient, want, ""},
		"dhclient preinit":             {dhclientLease, "PREINIT", dhclient, nil, ""},
		"dhclient release":             {dhclientLease, "RELEASE", dhclient, nil, ""},
		"dhclient bad address":         {dhclientLease, "BOUND", with(dhclient, "new_ip_address", "x"), want, `ip_address="x"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.read(tc.reason, func(name string) string { return tc.env[name] })
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, expected one with %s", err, tc.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tc.want)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	if events, err := readEvents(path); err != nil || events != nil {
		t.Errorf("before there is a file: %v, %v", events, err)
	}
	lease := Lease{Address: netip.MustParseAddr("192.0.2.11"), Bits: 24}
	for _, e := range []event{{Reason: "deconfig"}, {Reason: "bound", Lease: &lease}} {
		if err := record(path, e); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(`{"reason":"ha`); err != nil {
		t.Fatal(err)
	}
	events, err := readEvents(path)
	if err != nil || len(events) != 2 || events[0].Lease != nil || !reflect.DeepEqual(events[1].Lease, &lease) {
		t.Errorf("with half a line at the end: %+v, %v", events, err)
	}
	if _, err := f.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := readEvents(path); err == nil {
		t.Error("a line that is no event is read")
	}
}
