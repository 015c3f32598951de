package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	examples "github.com/dicomnam/dicomnam/corefile-examples"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// run executes dicomnam with arguments.
func run(args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	err = cmd.Execute()
	return out.String(), errOut.String(), err
}

func TestCheckExamples(t *testing.T) {
	sites, err := fs.Glob(examples.Files, "*/site.yaml")
	if err != nil || len(sites) == 0 {
		t.Fatalf("examples: %v, %v", sites, err)
	}
	for _, name := range sites {
		t.Run(name, func(t *testing.T) {
			data, err := examples.Files.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "site.yaml")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			parsed, _, err := site.Parse(path, data)
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("%s: %d networks, %d devices, %d services", path, len(parsed.Networks), len(parsed.Devices), len(parsed.Services))
			stdout, stderr, err := run("check", path)
			if err != nil || stderr != "" || !strings.HasPrefix(stdout, want) {
				t.Errorf("check: %v\n%s%s", err, stdout, stderr)
			}
		})
	}
}

// The configurations of an example agree with its site file, and with each other.
func TestCheckExampleConfigurations(t *testing.T) {
	folders, err := fs.Glob(examples.Files, "*/site.yaml")
	if err != nil || len(folders) == 0 {
		t.Fatalf("examples: %v, %v", folders, err)
	}
	for _, name := range folders {
		folder := path.Dir(name)
		t.Run(folder, func(t *testing.T) {
			dir := t.TempDir()
			args := []string{"check", filepath.Join(dir, "site.yaml")}
			for file, flag := range map[string]string{"site.yaml": "", "tsig.keys": "", "config.yml": "--config", "Corefile": "--corefile"} {
				data, err := examples.Files.ReadFile(folder + "/" + file)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				text := strings.ReplaceAll(string(data), "/etc/dicomnam", dir)
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if flag != "" {
					args = append(args, flag, filepath.Join(dir, file))
				}
			}
			keys := filepath.Join(dir, "tsig.keys")
			if _, err := os.Stat(keys); err != nil {
				if _, _, err := run("keygen", "dhcp.imaging.example.org.", "--output", keys); err != nil {
					t.Fatal(err)
				}
			}
			if len(args) < 4 {
				t.Fatal("there is nothing to compare")
			}
			if _, stderr, err := run(args...); err != nil || stderr != "" {
				t.Errorf("%v\n%s", err, stderr)
			}
		})
	}
}

// What check takes for properties of dicom are those of its README.
func TestProperties(t *testing.T) {
	readme, err := os.ReadFile("../../plugin/dicom/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(readme), "\ndicom [ZONES...] {\n")
	block, _, found := strings.Cut(block, "\n}\n")
	if !found {
		t.Fatal("the README shows no syntax")
	}
	var want []string
	for line := range strings.Lines(block) {
		want = append(want, strings.Fields(line)[0])
	}
	got := slices.Clone(properties)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q, expected %q", got, want)
	}
}

// TestReadmeExample checks the site file that the project's README shows.
func TestReadmeExample(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(readme), "\n    domain:")
	if !ok {
		t.Fatal("the README shows no site file")
	}
	block, _, _ = strings.Cut(block, "\n\n")
	path := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll("domain:"+block, "\n    ", "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, err := run("check", path); err != nil || stderr != "" || !strings.Contains(stdout, "1 networks, 1 devices") {
		t.Errorf("check: %v\n%s%s", err, stdout, stderr)
	}
}

func TestCheckTellsEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "site.yaml")
	content := `domain: imaging.example.org
networks: [{name: a, subnet: 192.0.2.0/24, options: {routers: [203.0.113.1]}}]
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01", address: 203.0.113.9}
  - {name: ct2, hardware-address: "00:00:5e:00:53:01", applications: [{ae-title: 'A\B', port: 104}]}
`
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := run("check", path)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{path + ":4:", path + ":5:", "203.0.113.9", "00:00:5e:00:53:01", `A\\B`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}

	if err := os.WriteFile(path, []byte(strings.Join(strings.SplitAfter(content, "\n")[:2], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := run("check", path); err != nil || !strings.Contains(stderr, "the router 203.0.113.1 is not inside the subnet 192.0.2.0/24 (warning)") {
		t.Errorf("check: %v\n%s", err, stderr)
	}
}

func TestKeygen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tsig.keys")
	if _, _, err := run("keygen", "dhcp.imaging.example.org", "--output", path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o640 {
		t.Errorf("mode %o, want 640", got)
	}
	keys, err := tsigkey.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	first, err := tsigkey.Find(keys, "dhcp.imaging.example.org.")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := run("keygen", "dhcp.imaging.example.org", "--output", path); err == nil {
		t.Error("a key file was overwritten")
	}
	stdout, _, err := run("keygen", "dhcp.imaging.example.org")
	if err != nil {
		t.Fatal(err)
	}
	keys, err = tsigkey.Parse("stdout", strings.NewReader(stdout))
	if err != nil {
		t.Fatal(err)
	}
	if second, err := tsigkey.Find(keys, "dhcp.imaging.example.org."); err != nil || second.Secret() == first.Secret() {
		t.Errorf("second key: %v, %v", second, err)
	}
	if _, _, err := run("keygen", "bad name"); err == nil {
		t.Error("a name with a space was taken")
	}
}
