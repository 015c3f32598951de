// Package builder makes programs of CoreDNS and CoreDHCP with a choice of plugins.
//
// Both hosts know their plugins at compile time only, so another plugin is another
// program. What is made here is a temporary module with a generated main, which
// the go command builds: nobody edits a host's source, and a program is nothing but
// its request. The same request gives the same bytes, wherever it is built, and
// the program tells what it was built from.
//
// Versions are those of this module's go.mod, which the tests of this module were
// run with, unless the request names others.
package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/mod/semver"
)

// Host is the server that plugins are built into.
type Host string

// The hosts.
const (
	CoreDNS  Host = "coredns"
	CoreDHCP Host = "coredhcp"
)

// hostModules are the hosts' modules.
var hostModules = map[Host]string{
	CoreDNS:  "github.com/coredns/coredns",
	CoreDHCP: "github.com/coredhcp/coredhcp",
}

// hostTitles are the hosts' names as people write them.
var hostTitles = map[Host]string{CoreDNS: "CoreDNS", CoreDHCP: "CoreDHCP"}

// selfModule is this module.
const selfModule = "github.com/dicomnam/dicomnam"

// A Request says what to build.
type Request struct {
	Host        Host
	HostVersion string   // of the host; a query of the go command; "": that of this module's go.mod
	With        []Module // plugins to add, in the order in which queries meet them
	Without     []string // plugins to leave out, stock ones and ours
	Before      []Order  // CoreDNS only: directives to move, one after another
	StockServer bool     // CoreDHCP only: its own server instead of ours
	Output      string   // path of the program
	Dir         string   // in or below a checkout of this module, which is then built; "": the working directory
	Self        string   // version of this module where there is no checkout; "": there must be one
	Log         io.Writer
}

// An Order says that one directive stands directly before another.
type Order struct{ Name, Before string }

// Build makes the program. What was at Output before is replaced only by a program
// that was built and that has the plugins of the request. When ctx ends the build
// does, and nothing is left of it.
//
// The error's first line says what is wrong. Where it is the go command that
// failed, its own output follows.
func Build(ctx context.Context, r Request) (err error) {
	if err := r.check(); err != nil {
		return err
	}
	w, err := newWorkspace(r)
	if err != nil {
		return err
	}
	defer func() {
		if ctx.Err() != nil {
			err = fmt.Errorf("%s was not built: %w", r.Output, context.Cause(ctx))
		}
		err = errors.Join(err, w.close())
	}()
	if err := w.resolve(ctx); err != nil {
		return err
	}
	if err := w.nameDirectives(ctx); err != nil {
		return err
	}
	p, err := w.program()
	if err != nil {
		return err
	}
	if err := w.generate(p, ""); err != nil {
		return err
	}
	from, err := w.builtFrom(ctx, p)
	if err != nil {
		return err
	}
	if err := w.generate(p, from); err != nil {
		return err
	}
	built, err := w.compile(ctx, p)
	if err != nil {
		return err
	}
	if err := p.verify(ctx, w, built); err != nil {
		return err
	}
	if err := os.Rename(built, r.Output); err != nil {
		return err
	}
	if r.Log != nil {
		fmt.Fprintf(r.Log, "%s\n%s", r.Output, from)
	}
	return nil
}

// check says what of a request cannot be, before anything is made.
func (r *Request) check() error {
	if hostModules[r.Host] == "" {
		return fmt.Errorf("host %q: expected coredns or coredhcp", r.Host)
	}
	if r.Output == "" {
		return errors.New("no output: expected the path of the program to make")
	}
	if fi, err := os.Stat(r.Output); err == nil && fi.IsDir() {
		return fmt.Errorf("output %s: is a directory, expected the path of the program to make", r.Output)
	}
	var err error
	if r.Output, err = filepath.Abs(r.Output); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(r.Output)); err != nil {
		return fmt.Errorf("output %s: %w", r.Output, err)
	}
	if v := r.HostVersion; !semver.IsValid(v) && semver.IsValid("v"+v) {
		return fmt.Errorf("%s %s: the versions of a Go module begin with v: expected v%[2]s", hostTitles[r.Host], v)
	}
	for _, m := range r.With {
		if in(m.Package, hostModules[r.Host]) && m.Version != "" {
			return fmt.Errorf("plugin %s@%s: it is part of %s, and so of the same version: expected none here", m.Package, m.Version, hostTitles[r.Host])
		}
	}
	if r.Host == CoreDNS && r.StockServer {
		return errors.New("a stock server is a choice for coredhcp alone")
	}
	if r.Host == CoreDHCP && len(r.Before) > 0 {
		return errors.New("the order of CoreDHCP's plugins stands in its config.yml: no plugin can be put before another here")
	}
	return nil
}

// A plugin is one that a program has.
type plugin struct {
	name    string
	pkg     string
	version string // of an added plugin; a query
	added   bool   // by the request
	ours    bool
}

// A program is what a request comes to.
type program struct {
	request Request
	plugins []plugin // CoreDNS: in the order in which queries meet them
	cgo     string   // CGO_ENABLED
}

// program chooses the plugins.
func (w *workspace) program() (*program, error) {
	r := w.request
	var stock, ours []plugin
	var err error
	p := &program{request: r, cgo: "0"}
	switch r.Host {
	case CoreDNS:
		stock, err = readPluginCfg(w.hostDir)
		ours = []plugin{{name: "dicom", pkg: selfModule + "/plugin/dicom", ours: true}}
	case CoreDHCP:
		stock, err = readCorePlugins(w.hostDir)
		for _, name := range []string{"leases", "ntp", "ddns"} {
			ours = append(ours, plugin{name: name, pkg: selfModule + "/coredhcp-plugins/" + name, ours: true})
		}
	}
	if err != nil {
		return nil, err
	}
	if p.plugins, err = choose(r, stock, ours); err != nil {
		return nil, err
	}
	for _, plugin := range p.plugins {
		if plugin.pkg == hostModules[CoreDHCP]+"/plugins/range" {
			p.cgo = "1" // its database is SQLite's
		}
	}
	if set, ok := os.LookupEnv("CGO_ENABLED"); ok {
		p.cgo = set
	}
	return p, nil
}

// native says whether a program that is built here runs here.
func native() bool {
	for name, here := range map[string]string{"GOOS": runtime.GOOS, "GOARCH": runtime.GOARCH} {
		if v := os.Getenv(name); v != "" && v != here {
			return false
		}
	}
	return true
}
