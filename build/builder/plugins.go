package builder

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// readPluginCfg reads CoreDNS's list of directives, which is in their order.
func readPluginCfg(hostDir string) ([]plugin, error) {
	var plugins []plugin
	err := readLines(filepath.Join(hostDir, "plugin.cfg"), func(line string) error {
		name, pkg, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("%q: expected NAME:PACKAGE", line)
		}
		// As CoreDNS's generator has it: what is no folder of its own is elsewhere.
		if _, err := os.Stat(filepath.Join(hostDir, "plugin", pkg)); err == nil {
			pkg = hostModules[CoreDNS] + "/plugin/" + pkg
		}
		plugins = append(plugins, plugin{name: name, pkg: pkg})
		return nil
	})
	return plugins, err
}

// readCorePlugins reads CoreDHCP's list of its own plugins' packages.
func readCorePlugins(hostDir string) ([]plugin, error) {
	var plugins []plugin
	err := readLines(filepath.Join(hostDir, "cmds", "coredhcp-generator", "core-plugins.txt"), func(line string) error {
		plugins = append(plugins, plugin{name: path.Base(line), pkg: line})
		return nil
	})
	return plugins, err
}

// readLines hands over the lines of a file that are neither empty nor comments.
func readLines(file string, f func(string) error) error {
	r, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		if line := strings.TrimSpace(s.Text()); line != "" && !strings.HasPrefix(line, "#") {
			if err := f(line); err != nil {
				return fmt.Errorf("%s:%d: %w", file, n, err)
			}
		}
	}
	return s.Err()
}

// anchor is the directive after which ours and added ones stand: before it is what
// every query passes, after it is what answers. Ours must come before hosts,
// which answers an UPDATE with NOERROR without looking at the opcode.
const anchor = "dynupdate"

// choose is the list of plugins of a program.
func choose(r Request, stock, ours []plugin) ([]plugin, error) {
	at := len(stock)
	if r.Host == CoreDNS {
		if at = slices.IndexFunc(stock, func(p plugin) bool { return p.name == anchor }) + 1; at == 0 {
			return nil, fmt.Errorf("this version of CoreDNS has no directive %s in its plugin.cfg, after which dicom belongs", anchor)
		}
	}
	all := slices.Insert(slices.Clone(stock), at, ours...)
	at += len(ours)
	for _, name := range r.Without {
		i := slices.IndexFunc(all, func(p plugin) bool { return same(r.Host, p.name, name) })
		if i < 0 {
			return nil, fmt.Errorf("without %q: there is no such plugin, expected one of %s", name, names(all))
		}
		all = slices.Delete(all, i, i+1)
		if i < at {
			at--
		}
	}
	for _, m := range r.With {
		if in(m.Package, selfModule) {
			continue // says where this module comes from
		}
		for _, p := range all {
			switch {
			case p.pkg == m.Package && (r.Host == CoreDHCP || p.name == m.Name):
				return nil, fmt.Errorf("plugin %s: is there already, as %s", m.Package, p.name)
			case r.Host == CoreDNS && p.name == m.Name:
				return nil, fmt.Errorf("plugin %s: the directive %s is that of %s; name the plugin's own by NAME:%s, or leave the other out", m.Package, m.Name, p.pkg, m.Package)
			}
		}
		all = slices.Insert(all, at, plugin{name: m.Name, pkg: m.Package, version: m.Version, added: true})
		at++
	}
	for _, o := range r.Before {
		i := slices.IndexFunc(all, func(p plugin) bool { return p.name == o.Name })
		if i < 0 {
			return nil, fmt.Errorf("order %s=%s: there is no directive %s, expected one of %s", o.Name, o.Before, o.Name, names(all))
		}
		moved := all[i]
		all = slices.Delete(all, i, i+1)
		j := slices.IndexFunc(all, func(p plugin) bool { return p.name == o.Before })
		if j < 0 {
			return nil, fmt.Errorf("order %s=%s: there is no directive %s, expected one of %s", o.Name, o.Before, o.Before, names(all))
		}
		all = slices.Insert(all, j, moved)
	}
	return all, nil
}

// same compares a plugin's name with that of the administrator. CoreDHCP's list has
// folders, leasetime, where config.yml has lease_time.
func same(h Host, have, want string) bool {
	if h == CoreDHCP {
		return have == strings.ReplaceAll(want, "_", "")
	}
	return have == want
}

func names(plugins []plugin) string {
	var s []string
	for _, p := range plugins {
		s = append(s, p.name)
	}
	slices.Sort(s)
	return strings.Join(s, ", ")
}
