package builder

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseModule(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Module
		err  string // part of the error; "": none
	}{
		{text: "example.org/greet", want: Module{Package: "example.org/greet"}},
		{text: "example.org/greet/v2@v2.1.0", want: Module{Package: "example.org/greet/v2", Version: "v2.1.0"}},
		{text: "example.org/plugins/sub/greet@main", want: Module{Package: "example.org/plugins/sub/greet", Version: "main"}},
		{text: "hello:example.org/coredns-greet@v1.0.0", want: Module{Name: "hello", Package: "example.org/coredns-greet", Version: "v1.0.0"}},
		{text: "example.org/greet=../a@b=c:d", want: Module{Package: "example.org/greet", Dir: "../a@b=c:d"}},
		{text: "", err: `plugin "": malformed import path`},
		{text: "greet", err: `"greet" is no host name`},
		{text: "/abs/greet", err: "malformed import path"},
		{text: "example.org/../greet", err: "malformed import path"},
		{text: "a b:example.org/greet", err: `"a b" is no name`},
		{text: ":example.org/greet", err: `"" is no name`},
		{text: "a:b:example.org/greet", err: "malformed import path"},
		{text: "example.org/greet@", err: "no version after @"},
		{text: "example.org/greet=", err: "no path after ="},
		{text: "example.org/greet@v1.0.0=dir", err: "both a version and a path"},
		{text: "example.org/gr\"eet", err: "malformed import path"},
	} {
		got, err := ParseModule(tt.text)
		switch {
		case tt.err == "" && (err != nil || got != tt.want):
			t.Errorf("%q: %+v, %v, want %+v", tt.text, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), moduleForm)):
			t.Errorf("%q: %v, want %q and the form", tt.text, err, tt.err)
		}
	}
}

func TestParseOrder(t *testing.T) {
	if got, err := ParseOrder("greet=cache"); err != nil || got != (Order{"greet", "cache"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", "greet", "=cache", "greet=", "a=b=c", "a a=b", "cache=cache"} {
		if _, err := ParseOrder(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestChoose(t *testing.T) {
	dns := []plugin{{name: "cache"}, {name: "dynupdate"}, {name: "hosts"}, {name: "file"}}
	dicom := []plugin{{name: "dicom", ours: true}}
	greet := Module{Name: "greet", Package: "example.org/greet"}
	for name, tt := range map[string]struct {
		r    Request
		want string // names, or the error
	}{
		"as it is":        {Request{}, "cache dynupdate dicom hosts file"},
		"with":            {Request{With: []Module{greet, {Name: "b", Package: "example.org/b"}}}, "cache dynupdate dicom greet b hosts file"},
		"without ours":    {Request{Without: []string{"dicom"}, With: []Module{greet}}, "cache dynupdate greet hosts file"},
		"without anchor":  {Request{Without: []string{"dynupdate", "hosts"}, With: []Module{greet}}, "cache dicom greet file"},
		"in place of one": {Request{Without: []string{"file"}, With: []Module{{Name: "file", Package: "example.org/file"}}}, "cache dynupdate dicom file hosts"},
		"before":          {Request{With: []Module{greet}, Before: []Order{{"greet", "cache"}}}, "greet cache dynupdate dicom hosts file"},
		"moves in turn":   {Request{Before: []Order{{"file", "cache"}, {"hosts", "file"}}}, "hosts file cache dynupdate dicom"},
		"our module":      {Request{With: []Module{{Name: "dicomnam", Package: selfModule, Version: "v1.0.0"}}}, "cache dynupdate dicom hosts file"},
		"unknown without": {Request{Without: []string{"erratik"}}, `without "erratik": there is no such plugin, expected one of cache, dicom, dynupdate, file, hosts`},
		"without twice":   {Request{Without: []string{"file", "file"}}, `without "file": there is no such plugin, expected one of cache, dicom, dynupdate, hosts`},
		"under two names": {Request{With: []Module{greet, {Name: "bye", Package: "example.org/greet"}}}, "cache dynupdate dicom greet bye hosts file"},
		"name taken":      {Request{With: []Module{{Name: "file", Package: "example.org/file"}}}, "plugin example.org/file: the directive file is that of "},
		"twice":           {Request{With: []Module{greet, greet}}, "plugin example.org/greet: is there already, as greet"},
		"unknown moved":   {Request{Before: []Order{{"greet", "cache"}}}, "order greet=cache: there is no directive greet, expected one of "},
		"unknown place":   {Request{Before: []Order{{"file", "greet"}}}, "order file=greet: there is no directive greet, expected one of "},
	} {
		tt.r.Host = CoreDNS
		stock := slices.Clone(dns)
		for i := range stock {
			stock[i].pkg = "github.com/coredns/coredns/plugin/" + stock[i].name
		}
		got, err := choose(tt.r, stock, dicom)
		if err != nil {
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %s", name, err, tt.want)
			}
			continue
		}
		var have []string
		for _, p := range got {
			have = append(have, p.name)
		}
		if s := strings.Join(have, " "); s != tt.want {
			t.Errorf("%s: %s, want %s", name, s, tt.want)
		}
	}
	_, err := choose(Request{Host: CoreDNS}, []plugin{{name: "cache"}}, dicom)
	if err == nil || !strings.Contains(err.Error(), "no directive dynupdate") {
		t.Errorf("without dynupdate: %v", err)
	}
	got, err := choose(Request{Host: CoreDHCP, Without: []string{"lease_time", "leases"}}, []plugin{{name: "leasetime"}, {name: "file"}}, []plugin{{name: "leases"}, {name: "ddns"}})
	if err != nil || names(got) != "ddns, file" {
		t.Errorf("CoreDHCP: %s, %v", names(got), err)
	}
}

// Where plugins write their names, in CoreDNS's own and in others.
func TestRegistered(t *testing.T) {
	for source, want := range map[string]string{
		`import "github.com/coredns/coredns/plugin"; func init() { plugin.Register("bye", setup) }`:                                           "bye",
		`import "github.com/coredns/caddy"; func init() { caddy.RegisterPlugin("on", caddy.Plugin{Action: setup}) }`:                          "on",
		"import p \"github.com/coredns/coredns/plugin\"; const (a = 1; name = `bye`); func init() { p.Register(name, setup) }":                "bye",
		`import "github.com/coredns/coredns/plugin"; var ours = "bye"; func init() { plugin.Register(ours, a); plugin.Register("hello", b) }`: "bye hello",
		`import "github.com/coredns/coredns/plugin"; func init() { for _, name := range names { plugin.Register(name, setup) } }`:             "",
		`import "github.com/coredns/coredns/plugin"; func init() { plugin.Register("no name", setup); plugin.Error("bye", nil) }`:             "",
		`import "example.org/plugin"; func init() { plugin.Register("bye", setup) }`:                                                          "",
		`import "github.com/coredns/coredns/plugin"; func init() { plugin.Register("bye", setup`:                                              "",
		`import "github.com/coredns/caddy"; func init() { caddy.RegisterPlugin() }`:                                                           "",
		`import "github.com/coredns/coredns/plugin"; const name = "bye", 2; func init() { plugin.Register(name, setup) }`:                     "bye", // the compiler refuses it
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "setup.go"), []byte("package bye\n\n"+source+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(registered(dir, []string{"gone.go", "setup.go"}), " "); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
}

// Of CoreDNS's own plugins plugin.cfg says what is right.
func TestRegisteredByCoreDNS(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", hostModules[CoreDNS]).Output()
	if err != nil {
		t.Fatal(err)
	}
	hostDir := strings.TrimSpace(string(out))
	plugins, err := readPluginCfg(hostDir)
	if err != nil || len(plugins) < 50 {
		t.Fatalf("%d plugins, %v", len(plugins), err)
	}
	for _, p := range plugins {
		own, ok := strings.CutPrefix(p.pkg, hostModules[CoreDNS]+"/")
		if !ok {
			continue
		}
		dir := filepath.Join(hostDir, own)
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			files[i] = filepath.Base(f)
		}
		files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
		if got := registered(dir, files); !slices.Equal(got, []string{p.name}) {
			t.Errorf("%s registers %q, want %q", p.pkg, got, p.name)
		}
	}
}

func TestBase(t *testing.T) {
	for pkg, want := range map[string]string{
		"example.org/greet":            "greet",
		"example.org/greet/v2":         "greet",
		"example.org/plugins/v3/greet": "greet",
		"gopkg.in/greet.v1":            "greet.v1",
	} {
		if got := base(pkg); got != want {
			t.Errorf("%s: %s, want %s", pkg, got, want)
		}
	}
}

// A checkout is found from anywhere inside it, and no other module is taken for one.
func TestFindCheckout(t *testing.T) {
	dir := t.TempDir()
	checkout := filepath.Join(dir, "checkout")
	for sub, text := range map[string]string{
		"other/deep":         "module example.org/other\n",
		"checkout":           "module " + selfModule + "\n",
		"checkout/docs":      "",
		"checkout/a/tools":   "module " + selfModule + "/tools\n",
		"checkout/a/tools/b": "",
	} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, sub, "go.mod"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for sub, want := range map[string]string{
		"other/deep": "", "other": "", "checkout": checkout, "checkout/docs": checkout, "checkout/a/tools/b": checkout,
	} {
		if got, err := findCheckout(filepath.Join(dir, sub)); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", sub, got, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "other", "go.mod"), []byte("module"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := findCheckout(filepath.Join(dir, "other")); err == nil || !strings.Contains(err.Error(), "no module statement") {
		t.Errorf("a go.mod without a module: %v", err)
	}
}

func TestReadPluginCfg(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "plugin", "metrics"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "plugin.cfg"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# order\n\nprometheus:metrics\non:github.com/coredns/caddy/onevent\n")
	got, err := readPluginCfg(dir)
	want := []plugin{
		{name: "prometheus", pkg: "github.com/coredns/coredns/plugin/metrics"},
		{name: "on", pkg: "github.com/coredns/caddy/onevent"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	write("a:b\nprometheus\n")
	if _, err := readPluginCfg(dir); err == nil || !strings.Contains(err.Error(), `plugin.cfg:2: "prometheus": expected NAME:PACKAGE`) {
		t.Errorf("a line without a package: %v", err)
	}
	if _, err := readPluginCfg(t.TempDir()); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

// What the go command says, word for word, and what it means.
func TestReasonOf(t *testing.T) {
	for said, want := range map[string]string{
		"": "",
		"go: module github.com/coredns/alternate: module lookup disabled by GOPROXY=off":                                                                       "github.com/coredns/alternate is not in the module cache",
		"go: github.com/coredns/coredns@v1.99.0: module lookup disabled by GOPROXY=off":                                                                        "github.com/coredns/coredns is not in the module cache",
		"# runtime/cgo\ncgo: C compiler \"gcc\" not found: exec: \"gcc\": executable file not found in $PATH":                                                  "a plugin needs the C compiler gcc",
		"# example.org/greet\n/tmp/greet.go:12:9: undefined: plugin.Nothing":                                                                                   "example.org/greet does not compile with HOST: /tmp/greet.go:12:9: undefined: plugin.Nothing",
		"# corebuild.invalid/coredhcp\n./main.go:40:7: undefined: p15.Plugin":                                                                                  "a package that was added has no variable Plugin",
		"go: example.org/greet@v1.1.0 requires github.com/coredns/coredns@v1.99.0, not github.com/coredns/coredns@v1.15.0":                                     "example.org/greet@v1.1.0 needs another version of the host than HOST: v1.99.0",
		"go: example.org/greet@v1.0.0 requires golang.org/x/net@v0.99.0, not golang.org/x/net@v0.60.0":                                                         "example.org/greet@v1.0.0 needs golang.org/x/net@v0.99.0, and the request has golang.org/x/net@v0.60.0",
		"go: example.org/greet@v9.9.9: invalid version: unknown revision v9.9.9":                                                                               "there is no such version of example.org/greet@v9.9.9",
		"go: module example.org/greet@v1.0.0 found, but does not contain package example.org/greet/sub":                                                        "example.org/greet v1.0.0 has no package example.org/greet/sub",
		"go: module github.com/coredns/alternate: reading https://proxy.golang.org/github.com/coredns/alternate/@v/list: 403 Forbidden\n\tserver response: no": "the module proxy has no github.com/coredns/alternate",
	} {
		if got := reasonOf(said); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}
