package site

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestClassesOf(t *testing.T) {
	s := mustParse(t, `domain: example.org
classes:
  - {name: bootloader, user-class: iPXE}
  - {name: pxe, vendor-class: PXEClient}
  - {name: pxe-uefi, vendor-class: "PXEClient:Arch:00007"}
  - {name: port, circuit-id: "eth0/7"}
  - {name: switch, remote-id: 00:00:5e:00:53:0a}
  - {name: ring, htype: 6}
  - {name: pxe-too, vendor-class: PXEClient}
`)
	tests := []struct {
		name  string
		marks Marks
		want  string
	}{
		{"none", Marks{HardwareType: 1}, ""},
		{"user class", Marks{UserClasses: []string{"other", "iPXE", "iPXE"}}, "bootloader"},
		{"user class as a whole", Marks{UserClasses: []string{"iPXE/1.0"}}, ""},
		{"vendor class", Marks{VendorClass: "PXEClient"}, "pxe pxe-too"},
		{"vendor class by its beginning, in the file's order", Marks{VendorClass: "PXEClient:Arch:00007:UNDI:003001"}, "pxe pxe-uefi pxe-too"},
		{"vendor class that is too short", Marks{VendorClass: "PXE"}, ""},
		{"circuit", Marks{CircuitID: "eth0/7"}, "port"},
		{"circuit as a whole", Marks{CircuitID: "eth0/71"}, ""},
		{"remote", Marks{RemoteID: "\x00\x00\x5e\x00\x53\x0a"}, "switch"},
		{"circuit is not remote", Marks{RemoteID: "eth0/7"}, ""},
		{"hardware type", Marks{HardwareType: 6}, "ring"},
		{"all", Marks{HardwareType: 6, UserClasses: []string{"iPXE"}, VendorClass: "PXEClient", CircuitID: "eth0/7", RemoteID: "\x00\x00\x5e\x00\x53\x0a"},
			"bootloader pxe port switch ring pxe-too"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var names []string
			for _, c := range s.ClassesOf(test.marks) {
				names = append(names, c.Name)
			}
			equal(t, "classes", strings.Join(names, " "), test.want)
		})
	}
	if got := mustParse(t, "domain: example.org").ClassesOf(Marks{}); got != nil {
		t.Errorf("classes %v of a file without any", got)
	}
}

func TestSelfNamed(t *testing.T) {
	s := mustParse(t, `domain: example.org
networks: [{name: a, subnet: 192.0.2.0/24}]
devices:
  - {name: CT1}
  - {name: ct2, hostname: Scanner.wing2}
  - {name: ct3, hardware-address: 00:00:5e:00:53:01}
  - {name: ct4, client-identifier: "pump"}
  - {name: ct5, circuit-id: "eth0/7"}
  - {name: ct6, remote-id: "switch"}
  - {name: ct7, dhcp: false, address: 192.0.2.7}
`)
	var got []string
	for i := range s.Devices {
		got = append(got, s.Devices[i].SelfNamed())
	}
	if want := []string{"ct1", "scanner", "", "", "", "", ""}; !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
	_, _, err := Parse("site.yaml", []byte("domain: example.org\ndevices:\n  - {name: a, hostname: ct1.wing1}\n  - {name: b, hostname: ct1.wing2}\n"))
	if want := `site.yaml:4:12: device "b" can be recognised by the host name "ct1" alone, as device "a" in line 3 can`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	if d := s.DeviceByName("CT1"); d != &s.Devices[0] || s.DeviceByName("ct1") != nil {
		t.Errorf("device %v by its name", d)
	}
}

// BenchmarkClassesOf has a class for each port of a large site.
func BenchmarkClassesOf(b *testing.B) {
	var text strings.Builder
	text.WriteString("domain: example.org\nclasses:\n")
	for i := range 10_000 {
		text.WriteString("  - {name: c" + strconv.Itoa(i) + ", circuit-id: \"port-" + strconv.Itoa(i) + "\"}\n")
	}
	s, _, err := Parse("site.yaml", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(s.ClassesOf(Marks{HardwareType: 1, VendorClass: "PXEClient", CircuitID: "port-77"})) != 1 {
			b.Fatal("not found")
		}
	}
}
