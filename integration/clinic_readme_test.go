//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// The quick start of corefile-examples/clinic leads where it says: its commands are run as they stand there, but for "make" and with
// folders of the lab, and a device is then seen by all three ways of looking.
func TestClinicReadme(t *testing.T) {
	t.Parallel()
	needs(t, "dig")
	if err := lab.Udhcpc.Check(); err != nil {
		t.Skip(err)
	}
	if mode != lab.Namespaces {
		t.Skipf("port 53 of this machine is not ours (mode %s)", mode)
	}
	text, err := os.ReadFile("../corefile-examples/clinic/README.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	etc := filepath.Join(l.Dir, "etc")
	folders := strings.NewReplacer("/etc/dicomnam", etc, "/var/lib/dicomnam", filepath.Join(l.Dir, "var"), "/run/dicomnam", filepath.Join(l.Dir, "run"))
	start, _, found := strings.Cut(string(text), "\n## As services\n")
	if !found {
		t.Fatal("the README has no services")
	}
	var before, after, servers []string
	for line := range strings.Lines(start) {
		command, indented := strings.CutPrefix(line, "    ")
		server, background := strings.CutSuffix(command, " &\n")
		switch {
		case !indented || strings.HasPrefix(command, "make "):
		case background:
			servers = append(servers, folders.Replace(server))
		case servers == nil:
			before = append(before, folders.Replace(command))
		default:
			after = append(after, folders.Replace(command))
		}
	}
	if len(servers) != 2 || len(after) != 3 {
		t.Fatalf("the README starts %q and looks by %q", servers, after)
	}
	run := func(dir, script string) (string, error) {
		t.Helper()
		out, err := l.Output(timeout(t, patience), l.Server, "sh", "-c", "PATH="+binaries(t)+":$PATH; cd '"+dir+"'; set -e\n"+script)
		return string(out), err
	}
	copied, made, found := strings.Cut(strings.Join(before, ""), "cd "+etc+"\n")
	if !found {
		t.Fatalf("the README does not go to /etc/dicomnam: %q", before)
	}
	if out, err := run(root, copied); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	for _, name := range []string{"site.yaml", "Corefile", "config.yml"} {
		file := filepath.Join(etc, name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, folders.Replace(string(text)))
	}
	if out, err := run(etc, made); err != nil || out != "site.yaml: 1 networks, 4 devices, 1 services\n" {
		t.Fatalf("%s: %v", out, err)
	}
	for i, port := range []uint16{53, 67} {
		words := strings.Fields(servers[i])
		p, err := l.Start(l.Server, lab.Command{Name: words[0], Path: filepath.Join(binaries(t), words[0]), Args: words[1:], Dir: l.Dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.WaitUDP(timeout(t, patience), port); err != nil {
			t.Fatal(err)
		}
	}
	if _, got := lease(t, l, lab.Udhcpc, radiology.CT1.Machine); got.Address != radiology.CT1.Address {
		t.Errorf("lease %+v", got)
	}
	(example{t, l}).found(l.Client, "192.0.2.2", "192.0.2.11")
	socket := " --control " + filepath.Join(l.Dir, "run", "coredhcp.sock")
	for i, want := range []string{"\nct1     present ", "\nCT1 ", "CT1._dicom._tcp.imaging.example.org."} {
		command := strings.TrimSuffix(after[i], "\n")
		if strings.HasPrefix(command, "dicomnam devices ") {
			command += socket // the default is of this machine
		}
		// That nobody answers an echo is an exit status of 1.
		if out, err := run(etc, command); !strings.Contains(out, want) || err != nil && !strings.Contains(command, "--echo") {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
}
