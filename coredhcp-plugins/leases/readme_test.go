package leases

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestReadme starts every example of the README, and has clients see that it does
// what it says.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var headings []string
	for line := range strings.Lines(string(text)) {
		if h, ok := strings.CutPrefix(line, "## "); ok {
			headings = append(headings, strings.TrimSpace(h))
		}
	}
	if got, want := strings.Join(headings, ", "), "Name, Description, Syntax, Metrics, Ready, Examples, Bugs, See Also"; got != want {
		t.Errorf("sections %s, want %s", got, want)
	}

	type example struct{ config, site string }
	var examples []example
	for i, part := range strings.Split(string(text), "\n~~~") {
		kind, body, _ := strings.Cut(part, "\n")
		switch strings.TrimSpace(kind) {
		case "yaml config.yml":
			examples = append(examples, example{config: body + "\n"})
		case "yaml site.yaml":
			examples[len(examples)-1].site = body
		case "":
		default:
			if i%2 == 1 {
				t.Errorf("a block of the kind %q", kind)
			}
		}
	}
	uefi := []dhcpv4.Modifier{vendorClass("PXEClient:Arch:00007:UNDI:003001"), dhcpv4.WithRequestedOptions(dhcpv4.OptionBootfileName)}
	checks := []func(*wire){
		func(w *wire) {
			if a := yours(w.client(0x01).gets()); a != addr("192.0.2.11") {
				w.t.Errorf("the scanner got %s", a)
			}
			if ack := w.client(0x10).gets(); !within(yours(ack), "192.0.2.100", "192.0.2.199") || len(ack.Router()) != 1 {
				w.t.Errorf("a guest got %s", ack.Summary())
			}
		},
		func(w *wire) {
			socket := information("eth0/7", "switch-b")
			if a := yours(w.client(0x10, socket).gets()); a != addr("192.0.2.21") {
				w.t.Errorf("the device at the socket got %s", a)
			}
			if a := yours(w.client(0x01).gets()); !within(a, "192.0.2.100", "192.0.2.149") {
				w.t.Errorf("a known machine got %s", a)
			}
			given := 0
			for i := range byte(20) {
				ack := w.client(0x20+i, information("eth0/9", "switch-b")).send(dhcpv4.MessageTypeDiscover, uefi...)
				if ack == nil {
					continue
				}
				given++
				if got := ack.BootFileNameOption(); got != "ipxe.efi" || !within(yours(ack), "192.0.2.150", "192.0.2.199") {
					w.t.Errorf("a guest got %s and the file %q", yours(ack), got)
				}
			}
			if given != 16 {
				w.t.Errorf("%d guests at one port have an address, want 16", given)
			}
		},
	}
	if len(examples) != len(checks) {
		t.Fatalf("%d examples, want %d", len(examples), len(checks))
	}
	for i, e := range examples {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "site.yaml"), []byte(e.site), 0o600); err != nil {
			t.Fatal(err)
		}
		for old, now := range map[string]string{"/etc/dicomnam": dir, "/var/lib/dicomnam": dir, "%eth0": "%" + near} {
			if !strings.Contains(e.config, old) {
				t.Errorf("example %d: %s is not in its config.yml", i+1, old)
			}
			e.config = strings.ReplaceAll(e.config, old, now)
		}
		t.Run(strconv.Itoa(i+1), func(t *testing.T) { checks[i](newWireWith(t, e.config)) })
	}
}

// TestReadmeMetrics holds that the README lists what is measured.
func TestReadmeMetrics(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range reasonLabels {
		if !strings.Contains(string(text), "`"+reason+"`") {
			t.Errorf("reason %s is not in the README", reason)
		}
	}
	w := newWire(t, pluginLines(t, statesSite, "")...)
	w.client(0x10).gets()
	families, err := w.registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "coredhcp_leases_") && !strings.Contains(string(text), "`"+f.GetName()) {
			t.Errorf("%s is not in the README", f.GetName())
		}
	}
}
