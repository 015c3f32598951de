package site

import (
	"archive/zip"
	"encoding/binary"
	"encoding/hex"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

func TestPOSIX(t *testing.T) {
	tests := map[string]string{
		"Europe/Berlin":       "CET-1CEST,M3.5.0,M10.5.0/3",
		"America/New_York":    "EST5EDT,M3.2.0,M11.1.0",
		"Asia/Kolkata":        "IST-5:30",
		"UTC":                 "UTC0",
		"America/Sao_Paulo":   "<-03>3",
		"Europe/Dublin":       "IST-1GMT0,M10.5.0,M3.5.0/1",
		"Australia/Lord_Howe": "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
		"America/Santiago":    "<-04>4<-03>,M9.1.6/24,M4.1.6/24",
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			loc, err := time.LoadLocation(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := posixTZ(loc); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestNotPOSIX(t *testing.T) {
	// Days of the year, with and without leap days, are no Mm.w.d.
	for _, footer := range []string{"AAA0BBB,J60/2,M10.5.0", "AAA0BBB,M3.5.0,300/2"} {
		if got := posixTZ(footerZone(t, footer)); got != "" {
			t.Errorf("%s: got %s", footer, got)
		}
	}
}

// TestPOSIXOfAllZones compares with the footers of the tz database that Go brings along.
func TestPOSIXOfAllZones(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("no Go to ask for its tz database: %v", err)
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Skipf("no tz database to compare with: %v", err)
	}
	defer archive.Close()
	for _, f := range archive.File {
		data := readZipped(t, f)
		lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		want := lines[len(lines)-1]
		loc, err := time.LoadLocationFromTZData(f.Name, data)
		if err != nil {
			t.Fatal(err)
		}
		got := posixTZ(loc)
		if got == want {
			continue
		}
		// A rule may have two spellings; they must mean the same.
		a, b := footerZone(t, got), footerZone(t, want)
		for at := time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2430; at = at.Add(time.Hour) {
			if zoneAt(a, at) != zoneAt(b, at) {
				t.Errorf("%s: got %s, want %s, which differ at %s", f.Name, got, want, at)
				break
			}
		}
	}
}

func readZipped(t *testing.T, f *zip.File) []byte {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// footerZone returns a zone of nothing but a footer.
func footerZone(t *testing.T, footer string) *time.Location {
	t.Helper()
	block := append([]byte("TZif3"), make([]byte, 15)...)
	for _, count := range []uint32{0, 0, 0, 0, 1, 4} { // one zone, whose abbreviation takes four octets
		block = binary.BigEndian.AppendUint32(block, count)
	}
	block = append(block, 0, 0, 0, 0, 0, 0, 'U', 'T', 'C', 0)
	loc, err := time.LoadLocationFromTZData(footer, []byte(string(block)+string(block)+"\n"+footer+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestAll(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	before := time.Date(2026, 3, 29, 0, 59, 59, 0, time.UTC)
	tests := []struct {
		name    string
		options Options
		at      time.Time
		want    map[dhcpopt.Code]string
	}{
		{"winter", Options{TimeZone: berlin}, before, map[dhcpopt.Code]string{2: "00000e10", 100: hexOf("CET-1CEST,M3.5.0,M10.5.0/3"), 101: hexOf("Europe/Berlin")}},
		{"summer, a second later", Options{TimeZone: berlin}, before.Add(time.Second), map[dhcpopt.Code]string{2: "00001c20", 100: hexOf("CET-1CEST,M3.5.0,M10.5.0/3"), 101: hexOf("Europe/Berlin")}},
		{"west of Greenwich", Options{TimeZone: time.FixedZone("X", -3600)}, before, map[dhcpopt.Code]string{2: "fffff1f0", 100: hexOf("X1"), 101: hexOf("X")}},
		{"values stand", Options{TimeZone: berlin, Values: dhcpopt.Set{2: {0, 0, 0, 1}, 3: {192, 0, 2, 1}}}, before, map[dhcpopt.Code]string{2: "00000001", 3: "c0000201", 100: hexOf("CET-1CEST,M3.5.0,M10.5.0/3"), 101: hexOf("Europe/Berlin")}},
		{"nothing", Options{}, before, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := maps.Collect(test.options.All(test.at))
			if len(got) != len(test.want) {
				t.Errorf("got %d options, want %d", len(got), len(test.want))
			}
			for code, want := range test.want {
				if hex.EncodeToString(got[code]) != want {
					t.Errorf("option %d: got %x, want %s", code, got[code], want)
				}
			}
		})
	}
}

func hexOf(text string) string { return hex.EncodeToString([]byte(text)) }
