// Package build holds the commands; this test holds the direction in which
// packages import each other: adapters -> pkg -> libraries.
package build

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/dicomnam/dicomnam/"

// mayImport names every import from one package of this module to another,
// beside those of the commands under build and of integration.
var mayImport = map[string][]string{
	"plugin/pkg/site":      {"plugin/pkg/dhcpopt"},
	"plugin/pkg/dnssd":     {"plugin/pkg/site"},
	"plugin/pkg/inventory": {"plugin/pkg/site"},

	"coredhcp-plugins/pkg/nameupdate": {"coredhcp-plugins/pkg/lease", "plugin/pkg/tsigkey"},

	"plugin/dicom":            {"plugin/pkg/*"},
	"coredhcp-plugins/server": {"plugin/pkg/*", "coredhcp-plugins/pkg/*"},
	"coredhcp-plugins/leases": {"plugin/pkg/*", "coredhcp-plugins/pkg/*", "coredhcp-plugins/server"},
	"coredhcp-plugins/ntp":    {"plugin/pkg/*", "coredhcp-plugins/pkg/*", "coredhcp-plugins/server"},
	"coredhcp-plugins/ddns":   {"plugin/pkg/*", "coredhcp-plugins/pkg/*", "coredhcp-plugins/server"},
}

// hosts may be imported by adapters and commands, never by a package under pkg.
var hosts = []string{"github.com/coredns/", "github.com/coredhcp/"}

func TestImportDirection(t *testing.T) {
	seen := 0
	root := ".."
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		if strings.HasPrefix(pkg, "build") || strings.HasPrefix(pkg, "integration") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			seen++
			if why := forbidden(pkg, imported); why != "" {
				t.Errorf("%s imports %s: %s", rel, imported, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("no import was looked at")
	}
}

func TestForbidden(t *testing.T) {
	tests := []struct {
		pkg, imported string
		want          bool
	}{
		{"plugin/pkg/zone", "github.com/miekg/dns", false},
		{"plugin/pkg/zone", "github.com/coredns/coredns/plugin", true},
		{"coredhcp-plugins/pkg/lease", "github.com/coredhcp/coredhcp/config", true},
		{"plugin/pkg/zone", module + "plugin/pkg/site", true},
		{"plugin/pkg/site", module + "plugin/pkg/dhcpopt", false},
		{"plugin/dicom", module + "plugin/pkg/zone", false},
		{"plugin/dicom", module + "coredhcp-plugins/pkg/lease", true},
		{"coredhcp-plugins/ddns", module + "coredhcp-plugins/leases", true},
		{"plugin/pkg/site", module + "plugin/pkg/site", false},
		{"plugin/pkg/site", module + "plugin/pkg/site/internal/strictyaml", false},
	}
	for _, tt := range tests {
		if got := forbidden(tt.pkg, tt.imported) != ""; got != tt.want {
			t.Errorf("forbidden(%q, %q) = %v, want %v", tt.pkg, tt.imported, got, tt.want)
		}
	}
}

// forbidden says why a package of this module must not import another one, or "".
func forbidden(pkg, imported string) string {
	underPkg := strings.Contains(pkg, "/pkg/")
	for _, host := range hosts {
		if underPkg && strings.HasPrefix(imported, host) {
			return "packages under pkg do not know their host"
		}
	}
	inModule, ok := strings.CutPrefix(imported, module)
	if !ok || inModule == pkg || strings.HasPrefix(inModule, pkg+"/internal/") {
		return ""
	}
	if slices.ContainsFunc(mayImport[pkg], func(pattern string) bool {
		matched, _ := path.Match(pattern, inModule)
		return matched
	}) {
		return ""
	}
	return "this direction is not in mayImport"
}
