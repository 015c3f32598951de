package leases

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

var update = flag.Bool("update", false, "write testdata anew")

const goldenSite = `
domain: imaging.example.org
options: {domain-name-servers: [192.0.2.2], log-servers: [192.0.2.9], ntp-servers: [192.0.2.3], time-zone: UTC, interface-mtu: 1500}
classes:
  - {name: pxe, vendor-class: PXEClient, options: {log-servers: [192.0.2.10], vendor-encapsulated-options: "06:01:08"}}
  - {name: floor1, circuit-id: "eth0/1", options: {log-servers: [192.0.2.11], nis-domain: floor1}}
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199], options: {routers: [192.0.2.1], interface-mtu: 1400, domain-search: [a.imaging.example.org, imaging.example.org]}}
  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.100-198.51.100.199], options: {time-offset: 3600, domain-name: cardiology.example.org, broadcast-address: 198.51.100.127}}
devices:
  - {name: ct1, hardware-address: 00:00:5e:00:53:01, address: 192.0.2.11, options: {host-name: scanner, interface-mtu: 9000, swap-server: 192.0.2.12}}
  - {name: mr1, hardware-address: 00:00:5e:00:53:02, address: 192.0.2.12, options: {time-offset: -18000}}
  - {name: us1, hardware-address: 00:00:5e:00:53:03, address: 192.0.2.13}
`

// TestAnswers holds the options of answers, as they were when they were last looked at, octet by octet: what makes them faster must not
// change them.
func TestAnswers(t *testing.T) {
	l := startWith(t, t.TempDir(), new(server.Host), writeSite(t, goldenSite))
	list := func(codes ...byte) dhcpv4.Modifier {
		return dhcpv4.WithGeneric(dhcpv4.OptionParameterRequestList, codes)
	}
	var every []byte
	for code := range byte(254) {
		every = append(every, code+1)
	}
	relayed := dhcpv4.WithGatewayIP([]byte{198, 51, 100, 1})
	var got bytes.Buffer
	for _, tt := range []struct {
		name    string
		kind    dhcpv4.MessageType
		client  byte
		options []dhcpv4.Modifier
	}{
		{"a stranger without a list", dhcpv4.MessageTypeDiscover, 0x80, nil},
		{"a stranger with a list", dhcpv4.MessageTypeDiscover, 0x81, []dhcpv4.Modifier{list(3, 1, 58, 59, 6, 15, 42, 2, 100, 101, 119)}},
		{"a stranger that lists options that nobody set", dhcpv4.MessageTypeDiscover, 0x82, []dhcpv4.Modifier{list(4, 5, 200, 0, 255, 3)}},
		{"an empty list", dhcpv4.MessageTypeDiscover, 0x83, []dhcpv4.Modifier{list()}},
		{"behind a relay", dhcpv4.MessageTypeDiscover, 0x84, []dhcpv4.Modifier{relayed, list(every...)}},
		{"in a class", dhcpv4.MessageTypeDiscover, 0x85, []dhcpv4.Modifier{vendorClass("PXEClient:Arch:00000"), list(every...)}},
		{"in two classes", dhcpv4.MessageTypeDiscover, 0x86, []dhcpv4.Modifier{vendorClass("PXEClient:Arch:00000"), information("eth0/1", ""), list(every...)}},
		{"in another class", dhcpv4.MessageTypeDiscover, 0x87, []dhcpv4.Modifier{information("eth0/1", ""), list(every...)}},
		{"a device with options", dhcpv4.MessageTypeDiscover, 0x01, []dhcpv4.Modifier{list(every...)}},
		{"a device with a time offset", dhcpv4.MessageTypeDiscover, 0x02, []dhcpv4.Modifier{list(every...)}},
		{"a device without options", dhcpv4.MessageTypeDiscover, 0x03, []dhcpv4.Modifier{list(every...)}},
		{"a device in a class", dhcpv4.MessageTypeDiscover, 0x01, []dhcpv4.Modifier{vendorClass("PXEClient"), list(every...)}},
		{"a device with another address", dhcpv4.MessageTypeInform, 0x01, []dhcpv4.Modifier{dhcpv4.WithClientIP([]byte{198, 51, 100, 77}), list(every...)}},
		{"BOOTP", dhcpv4.MessageTypeNone, 0x03, nil},
	} {
		for range 2 { // the second may come from what the first left
			reply := send(t, l, tt.kind, tt.client, tt.options...)
			if reply == nil {
				t.Fatalf("%s: silence", tt.name)
			}
			fmt.Fprintf(&got, "%s: %s %s %q %q\n", tt.name, reply.YourIPAddr, reply.ServerIPAddr, reply.ServerHostName, reply.BootFileName)
			for _, code := range slices.Sorted(maps.Keys(reply.Options)) {
				fmt.Fprintf(&got, "  %d %x\n", code, reply.Options[code])
			}
		}
	}
	path := filepath.Join("testdata", "answers.golden")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the answers differ from %s:\n%s", path, got.Bytes())
	}
}
