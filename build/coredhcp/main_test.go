package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredhcp/coredhcp/config"
	"github.com/coredhcp/coredhcp/plugins"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// Once: the tests may run again in this process.
func TestMain(m *testing.M) {
	for _, p := range stock {
		if err := plugins.RegisterPlugin(p); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// TestReadmeExamples has the server take every config.yml of the plugins' READMEs.
func TestReadmeExamples(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "site.yaml"), "domain: imaging.example.org\n")
	var keys strings.Builder
	for _, name := range []string{"dhcp.imaging.example.org.", "reverse.imaging.example.org."} {
		key, err := tsigkey.Generate(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.WriteTo(&keys); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "tsig.keys"), keys.String())

	readmes, err := filepath.Glob("../../coredhcp-plugins/*/README.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, readme := range readmes {
		text, err := os.ReadFile(readme)
		if err != nil {
			t.Fatal(err)
		}
		for _, example := range indentedBlocks(string(text), "server4:") {
			seen++
			t.Run(filepath.Base(filepath.Dir(readme)), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "config.yml")
				writeFile(t, path, strings.NewReplacer("/etc/dicomnam/", dir+"/", "/var/lib/dicomnam/", dir+"/").Replace(example))
				cfg, err := config.Load(path)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := server.New(cfg, server.Options{}); err != nil {
					t.Errorf("%s\n%v", example, err)
				}
			})
		}
	}
	if seen < 3 {
		t.Errorf("%d examples, want one of each plugin at least", seen)
	}
}

// indentedBlocks returns the blocks of a Markdown text that are indented by four
// spaces and begin with first.
func indentedBlocks(text, first string) []string {
	var blocks []string
	var block strings.Builder
	for line := range strings.Lines(text + "\n\n") {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case indented && (block.Len() > 0 || strings.HasPrefix(code, first)):
			block.WriteString(code)
		case block.Len() > 0:
			blocks = append(blocks, block.String())
			block.Reset()
		}
	}
	return blocks
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
