package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever builds CoreDHCP with its own generator adds our plugins as any others.
func TestGenerator(t *testing.T) {
	const host, ours = "github.com/coredhcp/coredhcp", "github.com/dicomnam/dicomnam"
	run := func(dir string, args ...string) string {
		t.Helper()
		var out []byte
		var stderr bytes.Buffer
		var err error
		for range 3 { // the module proxy may be out of reach for a moment
			ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
			stderr.Reset()
			cmd.Stderr = &stderr
			out, err = cmd.Output()
			cancel()
			if err == nil {
				return strings.TrimSpace(string(out))
			}
		}
		t.Fatalf("%q: %v\n%s", args, err, stderr.String())
		return ""
	}
	checkout, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	source := run(".", "go", "list", "-m", "-f", "{{.Dir}}", host)
	dir := t.TempDir()
	sums, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod": "module example.org/coredhcp\n\ngo 1.26.0\n\nrequire " + ours + " v0.0.0\n\nreplace " + ours + " => " + checkout + "\n",
		"go.sum": string(sums),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{
		"go", "run", "-mod=mod", host + "/cmds/coredhcp-generator",
		"--template", filepath.Join(source, "cmds", "coredhcp-generator", "coredhcp.go.template"), "--outfile", filepath.Join(dir, "main.go"),
		host + "/plugins/serverid",
	}
	for _, name := range []string{"leases", "ntp", "ddns"} {
		args = append(args, ours+"/coredhcp-plugins/"+name)
	}
	run(dir, args...)
	run(dir, "go", "build", "-mod=mod", "-trimpath", "-buildvcs=false", "-o", "coredhcp", ".")
	if got, want := run(dir, "./coredhcp", "--plugins"), "server_id\nddns\nleases\nntp"; got != want {
		t.Errorf("plugins %q, expected %q", got, want)
	}
}
