//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// The first steps in the README of dicom lead where it says: its files are written, the server is started, and the
// commands are run as they stand there.
func TestDicomReadme(t *testing.T) {
	t.Parallel()
	needs(t, "dig")
	needs(t, "nsupdate")
	if mode != lab.Namespaces {
		t.Skipf("port 53 of this machine is not ours (mode %s)", mode)
	}
	text, err := os.ReadFile("../plugin/dicom/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(text), "\n## Examples\n")
	first, _, found := strings.Cut(examples, "\nWithout a site file")
	if !found {
		t.Fatal("the README has no first steps")
	}
	l := newLab(t)
	var steps, updates string
	for i, part := range strings.Split(first, "\n~~~") {
		if i%2 == 0 {
			continue // between two blocks
		}
		kind, body, _ := strings.Cut(part, "\n")
		body += "\n"
		switch strings.TrimSpace(kind) {
		case "corefile":
			writeFile(t, filepath.Join(l.Dir, "Corefile"), body)
		case "yaml":
			writeFile(t, filepath.Join(l.Dir, "site.yaml"), body)
		case "sh":
			steps = body
		case "txt":
			if strings.HasPrefix(body, "key ") {
				writeFile(t, filepath.Join(l.Dir, "tsig.keys"), body)
			} else {
				updates = body
			}
		}
	}
	run := func(script string) string {
		t.Helper()
		script = "PATH=" + binaries(t) + ":$PATH; cd '" + l.Dir + "'; set -e\n" + script
		out, err := l.Output(timeout(t, patience), l.Server, "sh", "-c", script)
		if err != nil {
			t.Fatalf("%s\n%s%v", script, out, err)
		}
		return string(out)
	}
	if out := run("dicomnam check site.yaml --corefile Corefile"); strings.Contains(out, "error") {
		t.Errorf("check: %s", out)
	}
	p, err := l.Start(l.Server, lab.Command{
		Name: "coredns", Path: filepath.Join(binaries(t), "coredns"), Args: []string{"-conf", "Corefile"}, Dir: l.Dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitUDP(timeout(t, patience), 53); err != nil {
		t.Fatal(err)
	}
	const ct1 = "CT1._dicom._tcp.imaging.example.org."
	if out := run(steps); !strings.Contains(out, "192.0.2.20") || !strings.Contains(out, "OLDMR._dicom._tcp") || strings.Contains(out, ct1) {
		t.Errorf("before the update:\n%s", out)
	}
	writeFile(t, filepath.Join(l.Dir, "updates"), updates)
	run("nsupdate -k tsig.keys updates")
	out := run(steps + "dig +short @127.0.0.1 ws7.imaging.example.org\n")
	if !strings.Contains(out, ct1) || !strings.Contains(out, "OLDMR._dicom._tcp") || !strings.HasSuffix(out, "\n192.0.2.120\n") {
		t.Errorf("after the update:\n%s", out)
	}
}
