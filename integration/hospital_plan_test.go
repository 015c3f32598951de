//go:build linux

package integration

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/integration/lab"
)

const (
	planHead = `domain: imaging.example.org
options: {ntp-servers: 192.0.2.3}
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199], options: {routers: 192.0.2.1}}
devices:
`
	planBefore = planHead +
		`  - {name: ct1, type: CT, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.11, applications: [{ae-title: CT1, port: 104}]}
  - {name: mr1, type: MR, hardware-address: "00:00:5e:00:53:02", address: 192.0.2.12}
`
	planAfter = planHead +
		`  - {name: ct1, type: CT, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.21, applications: [{ae-title: CT1, port: 11112}]}
  - {name: mr1, type: MR, hardware-address: "00:00:5e:00:53:02", address: 192.0.2.12}
  - {name: us1, type: US, hardware-address: "00:00:5e:00:53:03"}
`
)

// What dicomnam plan says of a new site file is what becomes of it: of four clients
// that hold leases one has to move, one becomes a device, one loses its name to that,
// and one notices nothing.
func TestPlan(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	writeFile(t, filepath.Join(l.Dir, "site.yaml"), planBefore)
	writeFile(t, filepath.Join(l.Dir, "new.yaml"), planAfter)
	writeFile(t, filepath.Join(l.Dir, "config.yml"), "server4:\n  listen: [\"%eth0\"]\n  plugins:\n    - server_id: 192.0.2.2\n"+
		"    - leases: site="+l.Dir+"/site.yaml database="+l.Dir+"/leases\n")
	sock := filepath.Join(l.Dir, "coredhcp.sock")
	server := startServer(t, l, lab.Command{
		Name: "coredhcp", Path: filepath.Join(binaries(t), "coredhcp"), Args: []string{"--conf", filepath.Join(l.Dir, "config.yml"), "--control", sock},
	})
	wire, err := newFrames(l.Client, lab.Link)
	if err != nil {
		t.Fatal(err)
	}
	w := &ward{name: "radiology", prefix: netip.MustParsePrefix("192.0.2.0/24")}
	var patients []*patient
	for i, name := range []string{"", "", "stretcher", "us1"} {
		p := &patient{ward: w, mac: net.HardwareAddr{0, 0, 0x5e, 0, 0x53, byte(i + 1)}, asked: []byte{1, 3, 12}, says: saying{host: name}}
		if err := p.lease(wire); err != nil {
			t.Fatal(err)
		}
		patients = append(patients, p)
	}
	plan := func() string {
		out, err := l.Output(timeout(t, patience), l.Server, filepath.Join(binaries(t), "dicomnam"),
			"plan", filepath.Join(l.Dir, "new.yaml"), "--site", filepath.Join(l.Dir, "site.yaml"), "--control", sock)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	text := plan()
	for _, want := range []string{
		"~ device ct1: address 192.0.2.11 -> 192.0.2.21\n",
		"+ device us1: hardware-address 00:00:5e:00:53:03\n",
		"- record CT1._dicom._tcp.imaging.example.org.: SRV 0 0 104 ct1.imaging.example.org. TTL 300\n",
		"+ record CT1._dicom._tcp.imaging.example.org.: SRV 0 0 11112 ct1.imaging.example.org. TTL 300\n",
		"- lease 192.0.2.11 (00:00:5e:00:53:01, device ct1): refused: ",
		"~ lease " + patients[2].got.String() + " (00:00:5e:00:53:03): device - -> us1, name stretcher.imaging.example.org. -> us1.imaging.example.org.\n",
		"~ lease " + patients[3].got.String() + " (00:00:5e:00:53:04): name us1.imaging.example.org. -> ",
		"  1 lease stays as it is\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan lacks %q", want)
		}
	}
	if t.Failed() {
		t.Fatalf("the plan:\n%s", text)
	}
	t.Logf("the plan:\n%s", text)

	writeFile(t, filepath.Join(l.Dir, "site.yaml"), planAfter)
	if err := server.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitText(t, server, "reloaded")
	for i, want := range []struct {
		kind dhcpv4.MessageType
		name string
	}{{dhcpv4.MessageTypeNak, ""}, {dhcpv4.MessageTypeAck, "mr1"}, {dhcpv4.MessageTypeAck, "us1"}, {dhcpv4.MessageTypeAck, "dhcp-" + strings.ReplaceAll(patients[3].got.String(), ".", "-")}} {
		p := patients[i]
		request, err := p.message(dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(p.got.AsSlice()))) // INIT-REBOOT
		if err != nil {
			t.Fatal(err)
		}
		r, err := exchange(wire, request)
		if err != nil {
			t.Fatal(err)
		}
		if r.MessageType() != want.kind || r.HostName() != want.name || want.kind == dhcpv4.MessageTypeAck && !r.YourIPAddr.Equal(p.got.AsSlice()) {
			t.Errorf("client %d at %s: %s", i+1, p.got, r.Summary())
		}
	}
	if err := patients[0].lease(wire); err != nil || patients[0].got.String() != "192.0.2.21" {
		t.Errorf("after the NAK: %s, %v", patients[0].got, err)
	}
	if again := plan(); !strings.HasPrefix(again, "  ") || strings.Count(again, "\n") > 2 {
		t.Errorf("once it is done, the plan says:\n%s", again)
	}
}
