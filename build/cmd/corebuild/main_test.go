package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// Scripts rely on exit codes.
func TestExitCodes(t *testing.T) {
	out := filepath.Join(t.TempDir(), "coredns")
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"", exitOK, "Usage:"},
		{"coredns --help", exitOK, "--before NAME=NAME "},
		{"coredns", exitUsage, `required flag(s) "output" not set`},
		{"coredns greet --output " + out, exitUsage, `unknown command "greet"`},
		{"coredns --with greet --output " + out, exitUsage, "is no host name"},
		{"coredns --coredns 1.15.0 --output " + out, exitFailure, "CoreDNS 1.15.0: the versions of a Go module begin with v: expected v1.15.0\n"},
		{"coredhcp --output " + filepath.Dir(out), exitFailure, "is a directory"},
	} {
		var text bytes.Buffer
		cmd := root()
		cmd.SetArgs(strings.Fields(tt.args))
		cmd.SetOut(&text)
		cmd.SetErr(&text)
		if code := execute(t.Context(), cmd); code != tt.code || !strings.Contains(text.String(), tt.want) {
			t.Errorf("corebuild %s: %d, want %d and %q in\n%s", tt.args, code, tt.code, tt.want, &text)
		}
	}
}
