package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// A workspace is the temporary module in which a program is built. It owns all that
// a build writes, but for what the go command keeps for every build.
type workspace struct {
	request Request
	dir     string            // the module
	staging string            // beside the output, so that the program can be renamed to it
	locals  map[string]string // directories of local modules, by path
	self    string            // version of this module; "": it is local
	hostDir string            // of the host's source
	version string            // of the host
}

// newWorkspace writes the module: this one, and those that are given by directories.
func newWorkspace(r Request) (_ *workspace, err error) {
	w := &workspace{request: r, locals: map[string]string{}}
	if err := w.findModules(); err != nil {
		return nil, err
	}
	if w.dir, err = os.MkdirTemp("", "corebuild-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.staging, err = os.MkdirTemp(filepath.Dir(r.Output), ".corebuild-"); err != nil {
		return nil, err
	}
	for _, dir := range []string{"modules", "tmp"} {
		if err := os.Mkdir(filepath.Join(w.dir, dir), 0o700); err != nil {
			return nil, err
		}
	}
	return w, w.writeModule()
}

// close removes all of it.
func (w *workspace) close() error {
	var err error
	if w.staging != "" {
		err = os.RemoveAll(w.staging)
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// findModules finds this module, and checks those that are given by directories.
func (w *workspace) findModules() error {
	for _, m := range w.request.With {
		if in(m.Package, selfModule) && m.Dir == "" {
			w.self = m.Version
			if w.self == "" {
				w.self = "latest"
			}
		}
		if m.Dir == "" {
			continue
		}
		dir, err := filepath.Abs(m.Dir)
		if err != nil {
			return err
		}
		found, err := modulePath(dir)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("plugin %s: there is no go.mod in %s, expected the directory of its module", m.Package, dir)
		}
		if err != nil {
			return err
		}
		if !in(m.Package, found) {
			return fmt.Errorf("plugin %s: %s has the module %s, expected one of which it is a package", m.Package, dir, found)
		}
		if other := w.locals[found]; other != "" && other != dir {
			return fmt.Errorf("plugin %s: its module is to be both %s and %s", m.Package, other, dir)
		}
		w.locals[found] = dir
	}
	if w.locals[selfModule] != "" || w.self != "" {
		return nil
	}
	dir := w.request.Dir
	if dir == "" {
		dir = "."
	}
	checkout, err := findCheckout(dir)
	switch {
	case err != nil:
		return err
	case checkout != "":
		w.locals[selfModule] = checkout
	case w.request.Self != "":
		w.self = w.request.Self
	default:
		return fmt.Errorf("here is no checkout of %s and this program is of no published version: run it in a checkout, or add --with %[1]s@VERSION or --with %[1]s=PATH", selfModule)
	}
	return nil
}

// writeModule writes go.mod and go.sum. Local modules are reached through links, so
// that the program does not depend on where they are.
func (w *workspace) writeModule() error {
	var mod, sum bytes.Buffer
	fmt.Fprintf(&mod, "module corebuild.invalid/%s\n\ngo 1.26.0\n", w.request.Host)
	paths := make([]string, 0, len(w.locals))
	for p := range w.locals {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for n, p := range paths {
		link := "modules/" + strconv.Itoa(n)
		if err := os.Symlink(w.locals[p], filepath.Join(w.dir, link)); err != nil {
			return err
		}
		version := "v0.0.0"
		if _, major, _ := module.SplitPathVersion(p); major != "" {
			version = module.PathMajorPrefix(major) + ".0.0"
		}
		fmt.Fprintf(&mod, "require %s %s\nreplace %s => ./%s\n", p, version, p, link)
		// What was checked once need not be asked of the checksum database.
		data, err := os.ReadFile(filepath.Join(w.locals[p], "go.sum"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		sum.Write(data)
		if len(data) > 0 && data[len(data)-1] != '\n' {
			sum.WriteByte('\n')
		}
	}
	if err := os.WriteFile(filepath.Join(w.dir, "go.mod"), mod.Bytes(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, "go.sum"), sum.Bytes(), 0o600)
}

// resolve settles the version of every module, and gets their sources.
func (w *workspace) resolve(ctx context.Context) error {
	if w.self != "" {
		if _, err := w.goCommand(ctx, "get", selfModule+"@"+w.self); err != nil {
			return w.explain("finding "+selfModule+" "+w.self, err)
		}
	}
	host := hostModules[w.request.Host]
	pinned, err := w.list(ctx, "{{.Version}}", host)
	if err != nil {
		return err
	}
	w.version = pinned
	if v := w.request.HostVersion; v != "" {
		if w.version = v; semver.Canonical(v) != v {
			if w.version, err = w.list(ctx, "{{.Version}}", host+"@"+v); err != nil {
				return err
			}
		}
		if semver.Compare(w.version, pinned) < 0 {
			return fmt.Errorf("%s %s: this version of dicomnam needs %s or newer", hostTitles[w.request.Host], w.version, pinned)
		}
	}
	get := []string{"get", host + "@" + w.version}
	for _, m := range w.request.With {
		if m.Dir == "" && !in(m.Package, selfModule) && !in(m.Package, host) {
			version := m.Version
			if version == "" {
				version = "latest"
			}
			get = append(get, m.Package+"@"+version)
		}
	}
	if _, err := w.goCommand(ctx, get...); err != nil {
		return w.explain("finding the plugins", err)
	}
	w.hostDir, err = w.list(ctx, "{{.Dir}}", host)
	return err
}

// list asks go list about one module.
func (w *workspace) list(ctx context.Context, format, mod string) (string, error) {
	out, err := w.goCommand(ctx, "list", "-mod=mod", "-m", "-f", format, mod)
	if err != nil {
		return "", w.explain("finding "+strings.Replace(mod, "@", " ", 1), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// compile builds the program and returns where it is.
func (w *workspace) compile(ctx context.Context, p *program) (string, error) {
	out := filepath.Join(w.staging, filepath.Base(w.request.Output))
	args := []string{"build", "-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags=-buildid=", "-o", out, "."}
	if _, err := w.run(ctx, []string{"CGO_ENABLED=" + p.cgo}, args...); err != nil {
		return "", w.explain("building the program", err)
	}
	return out, nil
}

// A goError is a run of the go command that failed.
type goError struct {
	args   []string
	err    error
	output string // of standard error
}

func (e *goError) Error() string { return fmt.Sprintf("go %s: %v", strings.Join(e.args, " "), e.err) }

func (e *goError) Unwrap() error { return e.err }

// goCommand runs the go command in the module, and returns its standard output.
func (w *workspace) goCommand(ctx context.Context, args ...string) ([]byte, error) {
	return w.run(ctx, nil, args...)
}

func (w *workspace) run(ctx context.Context, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOTMPDIR="+filepath.Join(w.dir, "tmp"), "PWD="+w.dir)
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ownGroup(cmd)
	if err := cmd.Run(); err != nil {
		return nil, &goError{args, err, stderr.String()}
	}
	return stdout.Bytes(), nil
}

// ownGroup has a command end with all that it has started.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
}
