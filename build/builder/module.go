package builder

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// A Module is a plugin of a request: a package, and where its module comes from.
type Module struct {
	Name    string // CoreDNS: the directive; "": the one that the package registers
	Package string // import path
	Version string // a query of the go command; "": latest
	Dir     string // a directory with the module, in place of a version; "": none
}

var pluginName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

const moduleForm = "[NAME:]MODULE[/PACKAGE][@VERSION][=PATH]"

// ParseModule reads [NAME:]MODULE[/PACKAGE][@VERSION][=PATH]. NAME:MODULE/PACKAGE
// is how a line of CoreDNS's plugin.cfg is written, and the READMEs of plugins give
// it.
func ParseModule(text string) (Module, error) {
	var m Module
	rest, dir, local := strings.Cut(text, "=")
	m.Dir = dir
	rest, version, versioned := strings.Cut(rest, "@")
	m.Version = version
	name, pkg, named := strings.Cut(rest, ":")
	if !named {
		name, pkg = "", rest
	}
	m.Name, m.Package = name, pkg
	fail := func(format string, args ...any) (Module, error) {
		return Module{}, fmt.Errorf("plugin %q: %s, expected %s", text, fmt.Sprintf(format, args...), moduleForm)
	}
	if err := module.CheckImportPath(m.Package); err != nil {
		return fail("%v", err)
	}
	if first, _, _ := strings.Cut(m.Package, "/"); !strings.Contains(first, ".") {
		return fail("%q is no host name, with which the path of a module begins", first)
	}
	switch {
	case named && !pluginName.MatchString(m.Name):
		return fail("%q is no name", m.Name)
	case versioned && m.Version == "":
		return fail("no version after @")
	case local && m.Dir == "":
		return fail("no path after =")
	case local && versioned:
		return fail("both a version and a path")
	}
	return m, nil
}

// ParseOrder reads NAME=NAME: the first stands directly before the second.
func ParseOrder(text string) (Order, error) {
	name, before, ok := strings.Cut(text, "=")
	if !ok || !pluginName.MatchString(name) || !pluginName.MatchString(before) || name == before {
		return Order{}, fmt.Errorf("order %q: expected NAME=NAME, the first of which stands directly before the second", text)
	}
	return Order{name, before}, nil
}

// base is what a package is called where nothing else says so: the last element of
// its path, or the one before a major version.
func base(pkg string) string {
	if prefix, major, ok := module.SplitPathVersion(pkg); ok && strings.HasPrefix(major, "/") {
		return path.Base(prefix)
	}
	return path.Base(pkg)
}

// in says whether a package belongs to a module.
func in(pkg, mod string) bool { return pkg == mod || strings.HasPrefix(pkg, mod+"/") }

// modulePath reads the path of the module in a directory.
func modulePath(dir string) (string, error) {
	file := filepath.Join(dir, "go.mod")
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if p := modfile.ModulePath(data); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("%s: no module statement", file)
}

// findCheckout looks for this module in dir and above it; "" if it is not there.
func findCheckout(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		switch p, err := modulePath(dir); {
		case err == nil && p == selfModule:
			return dir, nil
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return "", err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", nil
		}
		dir = up
	}
}
