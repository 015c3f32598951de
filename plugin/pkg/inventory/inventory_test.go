package inventory

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// german is what a department has: a title above the header, semicolons, columns by local names, a row for each application, a line break
// in a cell, an empty row, and every notation of addresses.
const german = "Radiologie 2026;;;;;;;;\n" +
	"Raum;Gerät;Modalität;Hersteller;AE-Titel;IP-Adresse;Port;MAC-Adresse;Kommentar\n" +
	"R1;CT 1 (Süd);CT;Example Medical;CT1;192.0.2.11;104;00-00-5E-00-53-01;\"Zeile 1\nZeile 2\"\n" +
	";;;;CT1_TLS;;2762;;\n" +
	"R2;pet-ct;PET/CT;Example;PETCT;192.000.002.012;11112;0000.5E00.5302;\n" +
	"R3;mr1;MRT;;MR1;DHCP;104.0;00005e005303;\n" +
	"\n" +
	"R4;mr2;MR;;MR2;192.0.2.30/24;104/tcp;0:0:5e:0:53:4;\n"

func TestSpreadsheet(t *testing.T) {
	s, warnings, err := ReadCSV("devices.csv", []byte(german), Auto)
	if err != nil || len(warnings) != 0 {
		t.Fatal(warnings, err)
	}
	text, warnings, err := s.Site("imaging.example.org")
	if err != nil {
		t.Fatal(err)
	}
	const want = `domain: imaging.example.org

# The networks do not stand in the spreadsheet, and without them coredhcp gives no address.
# These are guessed. Correct them, add pools and options, and take the "# " away.
#
# networks:
#   - {name: net-192-0-2-0, subnet: 192.0.2.0/24, options: {routers: [192.0.2.1]}}

devices:
  - name: CT 1 (Süd)
    hostname: ct-1-sued
    type: CT
    hardware-address: 00:00:5e:00:53:01
    address: 192.0.2.11
    description: Zeile 1 Zeile 2
    manufacturer: Example Medical
    location: R1
    applications:
      - {ae-title: CT1, port: 104}
      - {ae-title: CT1_TLS, port: 2762}
  - name: pet-ct
    type: [PT, CT]
    hardware-address: 00:00:5e:00:53:02
    address: 192.0.2.12
    manufacturer: Example
    location: R2
    applications:
      - {ae-title: PETCT, port: 11112}
  - name: mr1
    type: MR
    hardware-address: 00:00:5e:00:53:03
    location: R3
    applications:
      - {ae-title: MR1, port: 104}
  - name: mr2
    type: MR
    hardware-address: 00:00:5e:00:53:04
    address: 192.0.2.30
    location: R4
    applications:
      - {ae-title: MR2, port: 104}
`
	if string(text) != want {
		t.Errorf("site file:\n%s\nwant:\n%s", text, want)
	}
	if len(warnings) != 1 || warnings[0].String() != `devices.csv: row 3, column B ("Gerät"): "CT 1 (Süd)" is no host name; the device is called ct-1-sued in DNS` {
		t.Errorf("warnings %q", warnings)
	}
	part, _, err := s.Site("")
	if err != nil || string(part) != want[strings.Index(want, "devices:"):] {
		t.Errorf("without a domain:\n%s\n%v", part, err)
	}
}

// The same spreadsheet in other clothes is the same.
func TestSameSpreadsheet(t *testing.T) {
	want := importText(t, []byte(german), Auto)
	units := utf16.Encode([]rune(german))
	utf16le, utf16be := []byte{0xff, 0xfe}, []byte{0xfe, 0xff}
	for _, u := range units {
		utf16le = binary.LittleEndian.AppendUint16(utf16le, u)
		utf16be = binary.BigEndian.AppendUint16(utf16be, u)
	}
	var latin1 []byte
	for _, r := range german {
		latin1 = append(latin1, byte(r))
	}
	for name, tt := range map[string]struct {
		data     []byte
		encoding Encoding
	}{
		"byte order mark":         {append([]byte("\xef\xbb\xbf"), german...), Auto},
		"UTF-16, little endian":   {utf16le, Auto},
		"UTF-16, big endian":      {utf16be, Auto},
		"UTF-16 without the mark": {utf16le[2:], UTF16},
		"Latin-1":                 {latin1, Windows1252},
		"carriage returns":        {[]byte(strings.ReplaceAll(german, "\n", "\r\n")), Auto},
		"no line feeds":           {[]byte(strings.ReplaceAll(german, "\n", "\r")), Auto},
		"tabs":                    {[]byte(strings.ReplaceAll(german, ";", "\t")), Auto},
		"commas":                  {[]byte(strings.ReplaceAll(german, ";", ",")), Auto},
		"bars":                    {[]byte(strings.ReplaceAll(german, ";", "|")), Auto},
	} {
		t.Run(name, func(t *testing.T) {
			if got := importText(t, tt.data, tt.encoding); got != want {
				t.Errorf("site file:\n%s\nwant:\n%s", got, want)
			}
		})
	}
	if got := importText(t, []byte("sep=;\r\nName;AET;Port\r\nct1;CT1;104\r\n"), Auto); !strings.Contains(got, "{ae-title: CT1, port: 104}") {
		t.Errorf("with sep=: %s", got)
	}
}

func importText(t *testing.T, data []byte, e Encoding) string {
	t.Helper()
	s, _, err := ReadCSV("devices.csv", data, e)
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := s.Site("imaging.example.org")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestColumns(t *testing.T) {
	for header, want := range map[string]use{
		"AE Title": {"ae-title", 1}, "AE-Titel": {"ae-title", 1}, "AET": {"ae-title", 1}, "Called AE Title": {"ae-title", 1}, "AE title 2": {"ae-title", 2},
		"IP": {"address", 1}, "IP address": {"address", 1}, "IPv4-Address": {"address", 1}, "adresse IP": {"address", 1}, "MAC": {"hardware-address", 1},
		"MAC address 2": {"hardware-address", 2}, "Port (DICOM)": {"port", 1}, "Modality": {"type", 1}, "Hostname": {"hostname", 1}, "S/N": {"serial-number", 1},
		"Serial No.": {"serial-number", 1}, "Vendor": {"manufacturer", 1}, "Price": {}, "": {}, "2": {}, "hardware-address": {"hardware-address", 1},
	} {
		if column, number := columnOf(header); column != want.column || number != want.number {
			t.Errorf("columnOf(%q) = %q, %d; want %q, %d", header, column, number, want.column, want.number)
		}
	}
	for _, c := range columns {
		if got, n := columnOf(c); got != c || n != 1 {
			t.Errorf("columnOf(%q) = %q, %d: what WriteCSV writes must be read", c, got, n)
		}
	}
}

func TestShapes(t *testing.T) {
	for _, tt := range []struct{ name, sheet, want string }{
		{"applications in columns", "Name,AE Title 1,Port 1,AE Title 2,Port 2,TLS 2\nct1,CT1,104,CT1S,2762,yes\n",
			"      - {ae-title: CT1, port: 104}\n      - {ae-title: CT1S, port: 2762, protocol: dicom-tls}\n"},
		{"applications in rows of one name", "Name,IP,AET,Port\nct1,192.0.2.11,CT1,104\nmr1,,MR1,104\nct1,192.0.2.11,CT2,105\n",
			"      - {ae-title: CT1, port: 104}\n      - {ae-title: CT2, port: 105}\n  - name: mr1"},
		{"several addresses", "Name,MAC,MAC 2,IP\nct1,00:00:5e:00:53:01; 00-00-5e-00-53-02,00005E005303,192.0.2.11 198.51.100.7\n",
			"    hardware-address: [00:00:5e:00:53:01, 00:00:5e:00:53:02, 00:00:5e:00:53:03]\n    address: [192.0.2.11, 198.51.100.7]\n"},
		{"no names: the host names", "Host,AET,Port\nct1.imaging.example.org,CT1,104\n", "  - name: ct1\n    hostname: ct1.imaging.example.org\n"},
		{"no names: one hardware address is one device", "MAC,Station,AET,Port\n00:00:5e:00:53:01,STN1,CT1,104\n00:00:5e:00:53:01,STN1,CT2,105\n",
			"      - {ae-title: CT1, port: 104}\n      - {ae-title: CT2, port: 105}\n"},
		{"nothing is there", "Name,IP,MAC,Port,AET\nws1,-,n/a,-,\n", "devices:\n  - name: ws1\n"},
		{"texts that YAML would take for something else", "Name,AET,Port,Description,Serial,Location\nct1,NO,104,yes,007,\"a: b # {c}\"\n",
			"    description: \"yes\"\n    serial-number: \"007\"\n    location: \"a: b # {c}\"\n    applications:\n      - {ae-title: \"NO\", port: 104}\n"},
		{"static is without DHCP", "Name,IP,DHCP\nct1,192.0.2.11,static\n", "    dhcp: false\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := importText(t, []byte(tt.sheet), Auto); !strings.Contains(got, tt.want) {
				t.Errorf("site file:\n%s\nwant in it:\n%s", got, tt.want)
			}
		})
	}
}

// Errors name row and column, whether this package found them or package site.
func TestErrors(t *testing.T) {
	const head = "Name,Type,IP address,MAC,AE title,Port\n"
	for _, tt := range []struct{ name, sheet, want string }{
		{"empty", " \n", "devices.csv: the file is empty"},
		{"no header", "ct1,104\nmr1,105\n", "devices.csv: no header found"},
		{"workbook", "PK\x03\x04abc", `devices.csv: this is a workbook (xlsx, ods) or another zip archive; expected text: save it as "CSV UTF-8"`},
		{"Latin-1", "Name,Port\nGer\xe4t,104\n", `devices.csv: line 2: the octet 0xe4 is not UTF-8. In Latin-1 (Windows-1252) it is "ä": if the file is that, say --encoding windows-1252`},
		{"UTF-16 without mark", "N\x00a\x00m\x00e\x00", "devices.csv: line 1: a NUL octet, which no text has: if this is UTF-16, say --encoding utf-16"},
		{"quotes", head + "ct1,\"CT,192.0.2.11\n", "devices.csv: line 2, character 20: extraneous"},
		{"address", head + "ct1,CT,192.0.2.999,,CT1,104\n", `devices.csv: row 2, column C ("IP address"): found "192.0.2.999", expected an IPv4 address such as 192.0.2.11`},
		{"hardware address", head + "ct1,CT,,00:00:5e:00:53,CT1,104\n", `devices.csv: row 2, column D ("MAC"): found "00:00:5e:00:53", expected a hardware address`},
		{"hardware address made a number", head + "ct1,CT,,1.23E+11,CT1,104\n", `row 2, column D ("MAC"): "1.23E+11" is a number that a spreadsheet program has made`},
		{"port", head + "ct1,CT,,,CT1,104000\n", `row 2, column F ("Port"): found "104000", expected a port`},
		{"AE title", head + "ct1,CT,,,CT1_IN_THE_BASEMENT,104\n", `row 2, column E ("AE title"): ae-title: found "CT1_IN_THE_BASEMENT", expected an AE title: 1 to 16`},
		{"AE title twice", head + "ct1,CT,,,CT1,104\nmr1,MR,,,MR1,104\nct2,CT,,,CT1,104\n", `devices.csv: row 4, column E ("AE title"): ae-title: "CT1" stands at device "ct1" in row 2 already`},
		{"address twice", head + "ct1,CT,192.0.2.11,,CT1,104\nmr1,MR,192.0.2.11,,MR1,104\n", `row 3, column C ("IP address"): address: 192.0.2.11 is that of device "ct1" in row 2 already`},
		{"port missing", head + "ct1,CT,,,CT1,104\nct1,CT,,,CT2,\n", `devices.csv: row 3: an application needs the key "port", which is missing`},
		{"no name", head + ",CT,192.0.2.11,,CT1,104\n", "devices.csv: row 2: the device's name is missing"},
		{"contradiction", head + "ct1,CT,192.0.2.11,,CT1,104\nct1,CT,192.0.2.12,,CT2,105\n", `row 3, column C ("IP address"): found "192.0.2.12", but row 2 says "192.0.2.11" of the same device "ct1"`},
		{"cell without header", head + "ct1,CT,,,CT1,104,x\n", `row 2, column G: found "x" in a column without a header`},
		{"static without address", "Name,IP,DHCP\nct1,,no\n", `row 2, column C ("DHCP"): device "ct1" does not speak DHCP (dhcp: false) and so needs the key "address"`},
		{"all at once", head + "ct1,CT,192.0.2.999,,CT1,104\nmr1,MR,,,MR1,x\n", "row 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _, err := ReadCSV("devices.csv", []byte(tt.sheet), Auto)
			if err == nil {
				_, _, err = s.Site("imaging.example.org")
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error:\n%v\nwant in it:\n%s", err, tt.want)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	_, warnings, err := ReadCSV("devices.csv", []byte("Name,Port,AET,Price,AE\nct1,104,\"CT1,CT2\",9,X\n"), Auto)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		`devices.csv: row 1, column D ("Price"): this column is not known and is left out`,
		`devices.csv: row 1, column E ("AE"): column C ("AET") is the ae-title already; this one is left out`,
		`devices.csv: row 2, column C ("AET"): "CT1,CT2" is taken for one AE title; several have a row each`,
	} {
		if i >= len(warnings) || warnings[i].String() != want {
			t.Errorf("warnings %q, want %q", warnings, want)
		}
	}
}

const existing = `# The clinic. Nobody touches this file by program, they said.
domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24}   # the only one
devices:
    - name: ct1          # old faithful
      type: CT
      address: 192.0.2.11
      applications: [{ae-title: CT1, port: 104}]

    # end of the devices

# services come last
services:
  - {name: ldap, protocol: tcp, host: ldap, port: 389}
`

func TestInto(t *testing.T) {
	into := func(text, sheet string) (string, Merge, []Problem, error) {
		s, _, err := ReadCSV("devices.csv", []byte(sheet), Auto)
		if err != nil {
			t.Fatal(err)
		}
		out, m, w, err := s.Into("site.yaml", []byte(text))
		return string(out), m, w, err
	}
	const sheet = "Name,Type,IP,AET,Port\nct1,CT,192.0.2.11,CT1,104\nmr1,MR,192.0.2.12,MR1,104\n"
	const added = "    - name: mr1\n      type: MR\n      address: 192.0.2.12\n      applications:\n        - {ae-title: MR1, port: 104}\n"
	t.Run("a device more", func(t *testing.T) {
		got, m, _, err := into(existing, sheet)
		want := strings.Replace(existing, "\n    # end of the devices\n", "\n    # end of the devices\n"+added, 1)
		if err != nil || got != want || m != (Merge{Added: 1, Unchanged: 1}) {
			t.Errorf("%+v, %v:\n%s\nwant:\n%s", m, err, got, want)
		}
		again, m, _, err := into(got, sheet)
		if err != nil || again != got || m != (Merge{Unchanged: 2}) {
			t.Errorf("once more: %+v, %v", m, err)
		}
	})
	t.Run("line ends of Windows", func(t *testing.T) {
		got, _, _, err := into(strings.ReplaceAll(existing, "\n", "\r\n"), sheet)
		if err != nil || strings.Count(got, "\n") != strings.Count(got, "\r\n") || !strings.Contains(got, "name: mr1\r\n") {
			t.Errorf("%v:\n%q", err, got)
		}
	})
	t.Run("no devices yet, no line end", func(t *testing.T) {
		got, _, _, err := into("domain: imaging.example.org\nttl: 5m", sheet)
		if err != nil || !strings.HasPrefix(got, "domain: imaging.example.org\nttl: 5m\n\ndevices:\n  - name: ct1\n") {
			t.Errorf("%v:\n%s", err, got)
		}
	})
	for _, tt := range []struct{ name, text, sheet, want string }{
		{"another address", existing, "Name,IP\nct1,192.0.2.13\n", `devices.csv: row 2, column B ("IP"): address: site.yaml has "192.0.2.11" at the device "ct1" in line 6, the sheet has "192.0.2.13"`},
		{"another application", existing, "Name,AET,Port\nct1,CT1,105\n", `row 2: site.yaml has no application "CT1" with port 105 (dicom) at the device "ct1" in line 6`},
		{"an address that is taken", existing, "Name,IP\nmr1,192.0.2.11\n", `row 2, column B ("IP"): address: 192.0.2.11 is that of device "ct1" in line 8 of site.yaml already`},
		{"an address outside", existing, "Name,IP\nmr1,198.51.100.1\n", `row 2, column B ("IP"): address: 198.51.100.1 is in none of the networks`},
		{"brackets", "domain: example.org\ndevices: [{name: ct1}]\n", sheet[:len("Name,Type,IP,AET,Port\n")] + "mr1,MR,,,\n", "site.yaml:2: the devices are in brackets"},
		{"braces", "{domain: example.org}\n", "Name,IP\nmr1,\n", "site.yaml:1: the whole file is in braces"},
		{"a broken file", "domain: example.org\ndevises: []\n", sheet, `site.yaml:2:1: unknown key "devises"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, err := into(tt.text, tt.sheet)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error:\n%v\nwant in it:\n%s", err, tt.want)
			}
		})
	}
}

func TestTables(t *testing.T) {
	s, _, err := site.Parse("site.yaml", []byte(`
domain: imaging.example.org
name-servers: [{host: ns1, address: 192.0.2.2}]
devices:
  - {name: ct1, type: CT, address: 192.0.2.11, applications: [{ae-title: CT1, port: 104}, {ae-title: CT1, port: 2762, protocol: dicom-tls}]}
  - {name: mr1, type: MR, applications: [{ae-title: "MR 1", port: 104}, {ae-title: WEB, port: 80, protocol: dicomweb}]}
  - {name: gone, installed: false, address: 192.0.2.12, applications: [{ae-title: GONE, port: 104}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		write func(*bytes.Buffer) error
		want  string
	}{
		{"hosts", func(b *bytes.Buffer) error { return WriteHosts(b, s) }, "# hosts of imaging.example.org\n" +
			"192.0.2.2\tns1.imaging.example.org ns1\n192.0.2.11\tct1.imaging.example.org ct1\n" +
			"# mr1.imaging.example.org has an address of a pool\n192.0.2.12\tgone.imaging.example.org gone\n"},
		{"orthanc", func(b *bytes.Buffer) error { return Peers{Numeric: true}.WriteOrthanc(b, s) }, `{
  "DicomModalities": {
    "CT1": {"AET":"CT1","Host":"192.0.2.11","Port":104},
    "CT1-2": {"AET":"CT1","Host":"192.0.2.11","Port":2762,"UseDicomTls":true},
    "MR_1": {"AET":"MR 1","Host":"mr1.imaging.example.org","Port":104}
  }
}
`},
		{"dcmqrscp", func(b *bytes.Buffer) error { return Peers{}.WriteDcmqrscp(b, s) }, "HostTable BEGIN\nCT1 = (CT1, ct1.imaging.example.org, 104)\n" +
			"# CT1 at ct1.imaging.example.org port 2762 speaks TLS, which this table cannot say\n" +
			"# the AE title \"MR 1\" at mr1.imaging.example.org port 104 cannot stand in this table\nsite = CT1\nHostTable END\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := tt.write(&b); err != nil || b.String() != tt.want {
				t.Errorf("%v:\n%s\nwant:\n%s", err, &b, tt.want)
			}
		})
	}
}

func TestDistinguishedNames(t *testing.T) {
	for value, want := range map[string]string{"CT1": "cn=CT1", " a, b=c ": `cn=\ a\, b\=c\ `, "#1": `cn=\#1`, `a"b;<c>`: `cn=a\"b\;\<c\>`, "x y": "cn=x y"} {
		if got := rdn("cn", value); got != want {
			t.Errorf("rdn(%q) = %s, want %s", value, got, want)
		}
	}
	if got := BaseDN("imaging.example.org."); got != "dc=imaging,dc=example,dc=org" {
		t.Errorf("base %s", got)
	}
}

// What is guessed of networks is right YAML once it is no comment, and says where devices are.
func TestGuessedNetworks(t *testing.T) {
	for _, test := range []struct{ name, sheet, want string }{
		{"two", "Name,IP\nct1,198.51.100.7\nmr1,192.0.2.12\nus1,192.0.2.13\n", "[192.0.2.0/24 198.51.100.0/24]"},
		{"none", "Name,MAC\nct1,00:00:5e:00:53:01\n", "[192.0.2.0/24]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			sheet, _, err := ReadCSV("a.csv", []byte(test.sheet), "")
			if err != nil {
				t.Fatal(err)
			}
			text, _, err := sheet.Site("imaging.example.org")
			if err != nil {
				t.Fatal(err)
			}
			_, list, _ := strings.Cut(string(text), "#\n# networks:\n")
			list, _, _ = strings.Cut(list, "\n\n")
			got, _, err := site.Parse("site.yaml", []byte("domain: imaging.example.org\nnetworks:\n"+strings.ReplaceAll(list, "#", "")))
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			var subnets []string
			for _, n := range got.Networks {
				subnets = append(subnets, n.Prefix.String())
			}
			if fmt.Sprint(subnets) != test.want {
				t.Errorf("%v, expected %s", subnets, test.want)
			}
		})
	}
}

// An address without anything to tell the device by is mostly one that is typed in there.
func TestAddressAlone(t *testing.T) {
	const message = `without a hardware address the device gets this one only if it asks by DHCP with its host name; ` +
		`if it is typed in at the device, add a column "DHCP" with "no" (2 such devices)`
	for _, test := range []struct{ name, sheet, want string }{
		{"alone", "Name,IP\nct1,192.0.2.11\nmr1,192.0.2.12\n", `a.csv: row 2, column B ("IP"): ` + message},
		{"some", "Name,MAC,IP\nct1,00:00:5e:00:53:01,192.0.2.11\nmr1,,192.0.2.12\nus1,n/a,192.0.2.13\nus2,,\n", `a.csv: row 3, column C ("IP"): ` + message},
		{"said", "Name,IP,DHCP\nct1,192.0.2.11,no\nmr1,192.0.2.12,yes\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, into := range []bool{false, true} {
				sheet, warnings, err := ReadCSV("a.csv", []byte(test.sheet), "")
				if err != nil || len(warnings) > 0 {
					t.Fatal(warnings, err)
				}
				if into {
					_, _, warnings, err = sheet.Into("site.yaml", []byte("domain: imaging.example.org\n"))
				} else {
					_, warnings, err = sheet.Site("imaging.example.org")
				}
				if err != nil {
					t.Fatal(err)
				}
				var got string
				for _, w := range warnings {
					got += w.String()
				}
				if got != test.want {
					t.Errorf("into %v: %q, expected %q", into, got, test.want)
				}
			}
		})
	}
}
