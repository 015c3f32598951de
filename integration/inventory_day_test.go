//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// A department brings its spreadsheet of 40 devices, of which three are wrong. It is corrected, merged into the site file of the
// clinic, checked with both configurations and served; each device gets its lease, dicomnam finds each where it should be, and
// each answers a C-ECHO there; until one leaves, one is at a wrong name, one is not known, and one is switched off: its lease
// ends, and nobody is sent there any more.
func TestSpreadsheetToNetwork(t *testing.T) {
	t.Parallel()
	needs(t, "storescp")
	const devices = 40
	l := newLab(t)
	socket := filepath.Join(l.Dir, "control.sock")
	n := newNetwork(t, l, radiology.Options{DHCPArgs: []string{"--control", socket}})
	dicomnam := func(args ...string) (string, error) {
		out, err := l.Output(timeout(t, patience), l.Server, "sh", append([]string{"-c", `exec "$@" 2>&1`, "sh", filepath.Join(binaries(t), "dicomnam")}, args...)...)
		return string(out), err
	}
	mac := func(i int) string { return fmt.Sprintf("00-00-5E-00-53-%02X", 0x40+i) }
	row := func(i int) []string {
		return []string{fmt.Sprintf("Room %d", i), fmt.Sprintf("dev%d", i), "CT", mac(i), fmt.Sprintf("192.0.2.%d", 30+i), fmt.Sprintf("DEV%d", i), "104"}
	}
	sheet := func(change func(i int, cells []string)) string {
		var b strings.Builder
		b.WriteString("Room;Device;Modality;MAC;IP address;AE title;Port\r\n")
		for i := range devices {
			cells := row(i)
			change(i, cells)
			b.WriteString(strings.Join(cells, ";") + "\r\n")
		}
		return b.String()
	}
	csv := filepath.Join(l.Dir, "devices.csv")
	before, err := os.ReadFile(n.Site)
	if err != nil {
		t.Fatal(err)
	}
	before = bytes.Replace(before, []byte("    lease-time:"), []byte("    min-lease-time: 5s\n    lease-time:"), 1)
	writeFile(t, n.Site, string(before))

	writeFile(t, csv, sheet(func(i int, cells []string) {
		switch i {
		case 3:
			cells[4] = "192.0.2.333"
		case 17:
			cells[5] = "DEV_IN_THE_BASEMENT"
		case 29:
			cells[3] = mac(28)
		}
	}))
	out, err := dicomnam("import", csv, "--into", n.Site)
	if err == nil {
		t.Errorf("a wrong spreadsheet was imported:\n%s", out)
	}
	for _, want := range []string{
		`devices.csv: row 5, column E ("IP address"): found "192.0.2.333"`,
		`devices.csv: row 19, column F ("AE title"): ae-title: found "DEV_IN_THE_BASEMENT"`,
		`devices.csv: row 31, column D ("MAC"): hardware-address: 00:00:5e:00:53:5c is that of device "dev28" in row 30 already`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("errors:\n%s\nwant among them: %s", out, want)
		}
	}
	if strings.Count(out, "\n") != 3 {
		t.Errorf("errors:\n%s\nwant three", out)
	}
	if after, err := os.ReadFile(n.Site); err != nil || string(after) != string(before) {
		t.Errorf("the site file was changed: %v", err)
	}

	writeFile(t, csv, sheet(func(int, []string) {}))
	if out, err = dicomnam("import", csv, "--into", n.Site); err != nil || !strings.Contains(out, "40 devices added, 0 were there already") {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err = dicomnam("check", n.Site, "--config", n.Config, "--corefile", n.Corefile); err != nil || !strings.Contains(out, "1 networks, 44 devices, 1 services") {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := n.Start(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	var last lab.Client
	var published []question
	for i := range devices {
		client, got := lease(t, l, lab.Builtin, radiology.Guest(byte(0x40+i), ""))
		if want := fmt.Sprintf("192.0.2.%d", 30+i); got.Address.String() != want {
			t.Errorf("dev%d has %s, expected %s", i, got.Address, want)
		}
		published = append(published, names(t, fmt.Sprintf("dev%d.%s", i, radiology.Domain), got)...)
		if last = client; i < devices-1 {
			client.Kill()
		}
	}
	await(t, n, lab.Present, published...)
	ask := func(args ...string) string {
		t.Helper()
		out, err := dicomnam(append([]string{"devices", n.Site, "--control", socket, "--server", radiology.Server.Addr().String()}, args...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	out = ask()
	if strings.Count(out, " present ") != devices || strings.Count(out, " static ") != 2 || strings.Count(out, " never-seen ") != 2 || strings.Count(out, "\n") != devices+5 {
		t.Errorf("devices:\n%s", out)
	}

	// They are all in one place, which answers at all their addresses.
	for i := range devices {
		if err := l.Client.AddAddress(netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", 30+i))); err != nil {
			t.Fatal(err)
		}
	}
	startStorescp(t, l, "-aet", "DEVICES", "--fork", "--ignore", "104")
	echo := func(want int) (all map[string]discovered) {
		t.Helper()
		var err error
		for deadline := time.Now().Add(patience); ; { // until storescp listens
			all, err = discover(t, l, "--type", "CT", "--echo")
			if err == nil && len(all) == want || time.Now().After(deadline) {
				break
			}
		}
		if err != nil || len(all) != want {
			t.Errorf("%d services of type CT, want %d: %v", len(all), want, err)
		}
		for title, d := range all {
			if d.Service != "dicom" || !d.Echo.Success || !strings.EqualFold(d.Host+".", title+"."+radiology.Domain) {
				t.Errorf("%s: %+v", title, d)
			}
		}
		return all
	}
	echo(devices)

	gone := question{fmt.Sprintf("dev%d.%s", devices-1, radiology.Domain), dns.TypeA}
	if err := last.Release(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	await(t, n, lab.Absent, gone)
	stranger, _ := lease(t, l, lab.Builtin, radiology.Guest(0x20, "stranger"))
	stranger.Kill()
	nsupdate(t, l, n, "update delete dev5."+radiology.Domain+" A")
	out = ask("--state", "gone,unknown,wrong-name,wrong-address")
	for _, want := range []string{"dev39   gone ", "-       unknown ", "dev5    wrong-name ", "DNS_shows_nothing_for_dev5.imaging.example.org.,_expected_192.0.2.35"} {
		if !strings.Contains(out, want) {
			t.Errorf("devices:\n%s\nwant among them: %s", out, want)
		}
	}
	if strings.Count(out, "\n") != 4 {
		t.Errorf("devices:\n%s\nwant three", out)
	}

	off := radiology.Guest(0x40+devices-2, "")
	off.LeaseTime = 5 * time.Second
	client, got := lease(t, l, lab.Builtin, off)
	if got.Duration != off.LeaseTime {
		t.Errorf("a lease for %s, expected %s", got.Duration, off.LeaseTime)
	}
	client.Kill()
	title := fmt.Sprintf("DEV%d", devices-2)
	await(t, n, lab.Absent, question{title + "._dicom._tcp." + radiology.Domain, dns.TypeSRV})
	if all := echo(devices - 3); all[title].Host != "" { // without the one that left, and the one that has no address in DNS
		t.Errorf("still found: %+v", all[title])
	}
}
