package inventory

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

const networks = `domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24}
  - {name: cardiology, subnet: 198.51.100.0/24, publish: always}
`

// What WriteCSV writes is read as the same devices, whatever a site file can say of them.
func TestIdentity(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		text := networks + randomDevices(r, 1+r.IntN(12))
		s, _, err := site.Parse("site.yaml", []byte(text))
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		identical(t, fmt.Sprintf("seed %d:\n%s", seed, text), s)
	}
}

// identical writes the devices of s, reads them, and compares.
func identical(t *testing.T, what string, s *site.Site) {
	t.Helper()
	var sheet bytes.Buffer
	if err := WriteCSV(&sheet, s); err != nil {
		t.Fatal(err)
	}
	read, warnings, err := ReadCSV("devices.csv", sheet.Bytes(), Auto)
	if err != nil {
		t.Fatalf("%s\n%s\n%v", what, &sheet, err)
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "taken for one AE title") {
			t.Errorf("%s\n%s\nwarning %v", what, &sheet, w)
		}
	}
	back, _, _, err := read.Into("networks.yaml", []byte(networks))
	if err != nil {
		t.Fatalf("%s\n%s\n%v", what, &sheet, err)
	}
	again, _, err := site.Parse("again.yaml", back)
	if err != nil {
		t.Fatalf("%s\n%s\n%v", what, back, err)
	}
	if got, want := bare(again.Devices), bare(s.Devices); !reflect.DeepEqual(got, want) {
		t.Fatalf("%s\n%s\n%s\ndevices:\n%+v\nwant:\n%+v", what, &sheet, back, got, want)
	}
	var second bytes.Buffer
	if err := WriteCSV(&second, again); err != nil || second.String() != sheet.String() {
		t.Fatalf("%s\n%s\nonce more:\n%s\n%v", what, &sheet, &second, err)
	}
}

// bare are devices without where they stand in the file, and without options.
func bare(devices []site.Device) []site.Device {
	var list []site.Device
	for _, d := range devices {
		d.Position, d.Options = site.Position{}, site.Options{}
		d.Applications = append([]site.Application(nil), d.Applications...)
		for i := range d.Applications {
			d.Applications[i].Position = site.Position{}
		}
		list = append(list, d)
	}
	return list
}

// nasty are texts that spreadsheets, YAML and CSV have their own ideas of.
var nasty = []string{
	"yes", "NO", "null", "007", "1e5", "2026-01-02", "a,b", "a;b", `say "x"`, "it's", "# not a comment", "- item", "a: b", "{x}", "[y]", "&z", "*z",
	"!tag", "%TAG", "@at", "`tick`", "=1+1", "|", ">", "ä ö ü", "放射線科", "a  b", "x\u00a0y", "é\u0301", "n/a", "-", "?", "~", "true", "0x10", "\\", "tab?", "😀",
}

func randomDevices(r *rand.Rand, n int) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	maybe := func(key, value string) string {
		if r.IntN(2) == 0 {
			return ""
		}
		return fmt.Sprintf("    %s: %s\n", key, value)
	}
	text := func() string { return quoted(nasty[r.IntN(len(nasty))] + pick("", " x")) }
	var b strings.Builder
	b.WriteString("devices:\n")
	for i := range n {
		name := pick(fmt.Sprintf("dev%d", i), fmt.Sprintf("%d-dev", i), fmt.Sprintf("Device %d, %s", i, nasty[r.IntN(len(nasty))]), fmt.Sprintf("D%d", i))
		fmt.Fprintf(&b, "  - name: %s\n", quoted(name))
		if strings.Contains(name, " ") || r.IntN(3) == 0 {
			fmt.Fprintf(&b, "    hostname: %s\n", pick(fmt.Sprintf("h%d", i), fmt.Sprintf("h%d.sub", i), fmt.Sprintf("h%d.example.com.", i), fmt.Sprintf("h%d.org.imaging.example.org", i)))
		}
		b.WriteString(maybe("type", pick("CT", "[PT, CT]", "XX", `"A/B"`, `["CT/MR"]`, "ct", "[MR, XX]", `"a b"`)))
		b.WriteString(maybe("hardware-address", pick(fmt.Sprintf("00:00:5e:00:53:%02x", i), fmt.Sprintf("[00:00:5e:00:53:%02x, 6/00:00:5e:00:54:%02x]", i, i))))
		b.WriteString(maybe("client-identifier", pick(fmt.Sprintf("01:02:%02x", i), fmt.Sprintf(`"text %d"`, i))))
		b.WriteString(maybe("circuit-id", fmt.Sprintf(`"port %d"`, i)))
		b.WriteString(maybe("installed", pick("true", "false")))
		switch r.IntN(5) {
		case 0:
			fmt.Fprintf(&b, "    address: 192.0.2.%d\n    dhcp: false\n", i+10)
		case 1:
			fmt.Fprintf(&b, "    address: [198.51.100.%d, 192.0.2.%d]\n", i+10, i+10)
			b.WriteString(maybe("publish", pick("leased", "always")))
		case 2:
			fmt.Fprintf(&b, "    address: 192.0.2.%d\n", i+10)
			b.WriteString(maybe("publish", pick("leased", "always")))
		}
		for _, key := range []string{"cluster", "description", "manufacturer", "model", "serial-number", "station-name", "location"} {
			b.WriteString(maybe(key, text()))
		}
		if r.IntN(3) == 0 {
			continue
		}
		b.WriteString("    applications:\n")
		for j := range 1 + r.IntN(3) {
			title := quoted(pick("AE", "A,E", "a;e", "-", "no", "1 2", `"'`) + fmt.Sprintf("%d_%d", i, j))
			switch r.IntN(4) {
			case 0:
				fmt.Fprintf(&b, "      - {port: %d, protocol: %s, path: /dicom-web, name: %s}\n", 8000+j, pick("dicomweb", "dicomweb-tls"), quoted(fmt.Sprintf("Web %d.%d, %s", i, j, pick("=x", "ü"))))
			case 1:
				fmt.Fprintf(&b, "      - {ae-title: %s, port: %d, priority: %d, weight: %d, txt: [%s, k]}\n", title, 104+j, r.IntN(3), r.IntN(3), quoted("x="+nasty[r.IntN(len(nasty))]))
			default:
				fmt.Fprintf(&b, "      - {ae-title: %s, port: %d, protocol: %s}\n", title, 104+j, pick("dicom", "dicom-tls", "dicom-iscl"))
			}
		}
	}
	return b.String()
}

// FuzzReadCSV holds that whatever is read either fails, or makes a file that package site accepts and that is the same when it goes
// through a sheet once more.
func FuzzReadCSV(f *testing.F) {
	f.Add([]byte(german))
	f.Add([]byte("Name,AET,Port\nct1,CT1,104\n"))
	f.Add([]byte("name\ttype\taddress\n\"x\ty\"\tPET/CT\t192.0.2.1\n"))
	f.Add([]byte("\xff\xfeN\x00a\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := ReadCSV("devices.csv", data, Auto)
		if err != nil {
			return
		}
		text, _, _, err := s.Into("networks.yaml", []byte(networks))
		if err != nil {
			return
		}
		parsed, _, err := site.Parse("site.yaml", text)
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		identical(t, string(text), parsed)
	})
}

// No cell of a sheet is a formula, and what looked like one comes back as it was.
func TestFormulas(t *testing.T) {
	text := networks + `devices:
  - name: "@ct1"
    hostname: ct1
    description: "=cmd|' /C calc'!A0"
    manufacturer: "'=1"
    model: "-2"
    location: "+1 'upstairs'"
    station-name: "'quoted'"
    applications: [{ae-title: "=1+1", port: 104, txt: ["-x=1"]}]
`
	s, _, err := site.Parse("site.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var sheet bytes.Buffer
	if err := WriteCSV(&sheet, s); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(sheet.Bytes())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, cell := range rows[1] {
		if cell != "" && strings.ContainsAny(cell[:1], "=+-@") {
			t.Errorf("column %s: %q", rows[0][i], cell)
		}
	}
	identical(t, text, s)
}
