package site

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// hospital is a site of 5,000 devices on 40 networks.
func hospital() []byte {
	var b strings.Builder
	b.WriteString("domain: imaging.example.org\noptions: {domain-name-servers: [10.0.0.2], ntp-servers: [10.0.0.3], time-zone: Europe/Berlin}\nnetworks:\n")
	for i := range 40 {
		fmt.Fprintf(&b, "  - name: net%d\n    subnet: 10.0.%d.0/24\n    pools: [10.0.%d.200-10.0.%d.250]\n    options: {routers: [10.0.%d.1]}\n", i, i, i, i, i)
	}
	b.WriteString("devices:\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "  - name: dev%d\n    type: CT\n    hardware-address: 00:00:5e:00:%02x:%02x\n    address: 10.0.%d.%d\n    location: Building %d\n"+
			"    applications:\n      - {ae-title: DEV%d, port: 104}\n", i, i/256, i%256, i%40, 10+i/40, i%7, i)
	}
	return []byte(b.String())
}

func BenchmarkParse5000Devices(b *testing.B) {
	data := hospital()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse("site.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNetworkOf(b *testing.B) {
	s := mustParse(b, string(hospital()))
	a := netip.MustParseAddr("10.0.17.33")
	b.ReportAllocs()
	for b.Loop() {
		s.NetworkOf(a)
	}
}

func BenchmarkDeviceOf(b *testing.B) {
	s := mustParse(b, string(hospital()))
	hardware := []byte{0, 0, 0x5e, 0, 7, 7}
	b.ReportAllocs()
	for b.Loop() {
		s.DeviceOf(1, hardware, nil)
	}
}

func BenchmarkOptionsFor(b *testing.B) {
	s := mustParse(b, string(hospital()))
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	for b.Loop() {
		for range s.OptionsFor(&s.Networks[3], &s.Devices[3]).All(now) {
		}
	}
}
