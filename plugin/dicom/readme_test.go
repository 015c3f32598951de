package dicom

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
)

// TestReadme starts every Corefile of the README with the files that it shows.
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

	files := map[string]string{"yaml": "site.yaml", "zone": "example.org.zone"}
	dir := t.TempDir()
	t.Chdir(dir)
	var corefiles []string
	for i, part := range strings.Split(string(text), "\n~~~") {
		kind, body, _ := strings.Cut(part, "\n")
		kind = strings.TrimSpace(kind)
		switch {
		case i%2 == 0: // between two blocks
		case kind == "corefile":
			corefiles = append(corefiles, body)
		case kind == "txt" && strings.HasPrefix(body, "key "):
			write(t, dir, "tsig.keys", body)
		case files[kind] != "":
			write(t, dir, files[kind], body)
		}
	}
	if len(corefiles) != 3 {
		t.Fatalf("%d Corefiles", len(corefiles))
	}
	port := dnsserver.Port
	dnsserver.Port = "0"
	t.Cleanup(func() { dnsserver.Port = port })
	for i, corefile := range corefiles {
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			// On loopback, where nobody waits for a secondary that is not there.
			corefile = strings.Replace(corefile, "{\n", "{\n    bind 127.0.0.1\n", 1)
			s := start(t, strings.Replace(corefile, "to 192.0.2.53", "to 127.0.0.1:1", 1))
			defer s.stop()
			if strings.Contains(corefile, "site.yaml") {
				s.want(t, "oldmr.imaging.example.org.", "A", "192.0.2.20")
			} else {
				s.want(t, "ns.example.org.", "A", "192.0.2.53")
			}
		})
	}
}
