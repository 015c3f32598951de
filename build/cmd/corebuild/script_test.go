package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/goproxytest"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"corebuild": main}) }

// patience is how long a program may take to answer, on a busy machine.
const patience = 2 * time.Minute

// TestScripts runs corebuild as a process, and what it has built. In the scripts
// CHECKOUT is this checkout. The modules of testdata/proxy come from a module proxy
// on loopback, all others from where they always come from.
func TestScripts(t *testing.T) {
	fetchHosts(t)
	fetched := fetchFanout(t)
	proxy := goproxytest.NewTestServer(t, "testdata/proxy", "")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			out, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE", "GOPROXY", "GOMODCACHE").Output()
			if err != nil {
				return err
			}
			known := strings.Split(string(out), "\n")
			checkout, err := filepath.Abs("../../..")
			if err != nil {
				return err
			}
			if err := overlay(filepath.Join(e.WorkDir, "modcache"), known[2], "cache/download"); err != nil {
				return err
			}
			tmp := filepath.Join(e.WorkDir, "builds")
			if err := os.Mkdir(tmp, 0o700); err != nil {
				return err
			}
			self, err := exec.LookPath("corebuild") // which testscript has put there
			if err != nil {
				return err
			}
			e.Setenv("COREBUILD", self)
			e.Setenv("CHECKOUT", checkout)
			e.Setenv("PROXY", proxy.URL)
			e.Setenv("GOCACHE", known[0])
			e.Setenv("GOPROXY", proxy.URL+","+known[1])
			e.Setenv("GOMODCACHE", filepath.Join(e.WorkDir, "modcache"))
			e.Setenv("GONOSUMDB", "*") // ours are in go.sum
			e.Setenv("FANOUT", fanout)
			e.Setenv("GOFLAGS", "-mod=mod")
			e.Setenv("TMPDIR", tmp)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "fetched" {
				return false, fmt.Errorf("condition %q: expected fetched", cond)
			}
			return fetched, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeport": freePort,
			"ask":      ask,
			"empty":    empty,
			"appears":  appears,
			"source":   source,
		},
	})
}

// fanout is a plugin that others have written, in a module that no go.mod of ours
// requires.
const fanout = "github.com/networkservicemesh/fanout@v1.11.4-0.20250612154940-e635d0cda3c4"

// fetchFanout gets that plugin, and what building it needs. Without it false says that there is nothing to build.
func fetchFanout(t *testing.T) bool {
	t.Helper()
	pkg, _, _ := strings.Cut(fanout, "@")
	if err := fetch(t, []string{"get", fanout}, []string{"list", "-mod=mod", "-deps", pkg}); err != nil {
		t.Logf("%s cannot be fetched here: what needs it is not run\n%v", fanout, err)
		return false
	}
	return true
}

// fetchHosts gets what corebuild needs at the versions that go.mod has: more than the tests themselves do, which
// a machine that is new does not have yet.
func fetchHosts(t *testing.T) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Path}}@{{.Version}}",
		"github.com/coredns/coredns", "github.com/coredhcp/coredhcp", "github.com/coredns/caddy").Output()
	if err != nil {
		t.Fatal(err)
	}
	const programs = "github.com/dicomnam/dicomnam/build/..."
	if err := fetch(t, append([]string{"get"}, strings.Fields(string(out))...), []string{"list", "-mod=mod", "-deps", programs}); err != nil {
		t.Fatal(err)
	}
}

// fetch runs go commands in a module that requires this checkout, where modules come from where they always come from.
// What the scripts have of them then does not depend on a network that comes and goes, nor on each other.
func fetch(t *testing.T, commands ...[]string) (err error) {
	t.Helper()
	checkout, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.org/fetch\n\ngo 1.26.0\n\nrequire github.com/dicomnam/dicomnam v0.0.0\n\nreplace github.com/dicomnam/dicomnam => " + checkout + "\n",
		"go.sum": string(sums),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		err = nil
		for _, args := range commands {
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			cmd := exec.CommandContext(ctx, "go", args...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GOWORK=off", "GONOSUMDB=*")
			out, failed := cmd.CombinedOutput()
			cancel()
			if failed != nil {
				err = fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), failed, out)
				break
			}
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// overlay makes a module cache in which all modules of another are and to which more
// can be added, down to the folder cache/download.
func overlay(dir, of, below string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(of)
	if err != nil {
		return err
	}
	first, rest, _ := strings.Cut(below, "/")
	for _, e := range entries {
		from, to := filepath.Join(of, e.Name()), filepath.Join(dir, e.Name())
		if e.Name() == first {
			err = overlay(to, from, rest)
		} else if e.Name() != "example.org" {
			err = os.Symlink(from, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// freeport NAME... sets each variable to a port of 127.0.0.1, of UDP and of TCP, below
// those that the kernel gives to clients, one of which could take it before its server.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	const lowest, above = 30_000, 32_000 // other packages' tests, at the same time, take others
	for _, name := range args {
		for {
			address := fmt.Sprint("127.0.0.1:", lowest+rand.IntN(above-lowest))
			c, err := net.ListenPacket("udp4", address)
			if err != nil {
				continue
			}
			defer c.Close() // not before all are found, so that they differ
			l, err := net.Listen("tcp4", address)
			if err != nil {
				continue
			}
			ts.Setenv(name, fmt.Sprint(c.LocalAddr().(*net.UDPAddr).Port))
			ts.Check(l.Close())
			break
		}
	}
}

// ask PORT NAME TYPE WANT asks the DNS server at 127.0.0.1 until the answer holds
// WANT: its status, or data of a record.
func ask(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: ask PORT NAME TYPE WANT")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(args[1]), dns.StringToType[args[2]])
	last := "none"
	for ctx.Err() == nil {
		m, err := dns.ExchangeContext(ctx, q, "127.0.0.1:"+args[0])
		if err == nil {
			if last = m.String(); strings.Contains(last, args[3]) {
				return
			}
		} else {
			time.Sleep(20 * time.Millisecond)
		}
	}
	ts.Fatalf("no answer with %q, the last was %s", args[3], last)
}

// empty DIR... fails if there is something in a directory.
func empty(ts *testscript.TestScript, _ bool, args []string) {
	for _, dir := range args {
		entries, err := os.ReadDir(ts.MkAbs(dir))
		ts.Check(err)
		for _, e := range entries {
			ts.Fatalf("%s was left in %s", e.Name(), dir)
		}
	}
}

// appears DIR NAME waits until there is a file of that name in a directory or below.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		found := false
		err := filepath.WalkDir(ts.MkAbs(args[0]), func(_ string, d fs.DirEntry, err error) error {
			found = found || err == nil && d.Name() == args[1]
			return nil // what has gone meanwhile is not there
		})
		ts.Check(err)
		if found {
			return
		}
	}
	ts.Fatalf("no %s appeared in %s", args[1], args[0])
}

// source DIR makes a copy of the sources of this checkout that are built.
func source(ts *testscript.TestScript, _ bool, args []string) {
	to := ts.MkAbs(args[0])
	for _, part := range []string{"go.mod", "go.sum", "plugin", "coredhcp-plugins", "build"} {
		ts.Check(filepath.WalkDir("../../../"+part, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(path, "/testdata/") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			rel, err := filepath.Rel("../../..", path)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o700), os.WriteFile(filepath.Join(to, rel), data, 0o600))
		}))
	}
}
