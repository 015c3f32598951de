//go:build linux

package integration

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	examples "github.com/dicomnam/dicomnam/corefile-examples"
	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// A unit is a service file of corefile-examples/clinic: the words of each of its
// settings.
type unit map[string][]string

func readUnit(t *testing.T, service string) unit {
	t.Helper()
	text, err := examples.Files.ReadFile("clinic/" + service)
	if err != nil {
		t.Fatal(err)
	}
	u := unit{}
	for line := range strings.Lines(string(text)) {
		key, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if !found || strings.HasPrefix(key, "#") {
			continue
		}
		if u[key] != nil {
			t.Fatalf("%s: %s stands there twice", service, key)
		}
		u[key] = strings.Fields(value)
	}
	return u
}

var services = []string{"coredns.service", "coredhcp.service"}

// systemd understands all of the units.
func TestUnits(t *testing.T) {
	t.Parallel()
	needs(t, "systemd-analyze")
	dir := t.TempDir()
	paths := []string{"verify", "--man=no", "--recursive-errors=no"}
	for _, service := range services {
		text, err := examples.Files.ReadFile("clinic/" + service)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, service)
		writeFile(t, path, strings.ReplaceAll(string(text), "/usr/local/bin", binaries(t)))
		paths = append(paths, path)
	}
	out, err := exec.CommandContext(timeout(t, patience), "systemd-analyze", paths...).CombinedOutput()
	// It also tells of the machine's own units.
	if err != nil || strings.Contains(string(out), dir) || strings.Contains(string(out), "core") {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

// hosted is the clinic as its units run it: as an unprivileged user, with their
// capabilities and their directories.
type hosted struct {
	example
	uid     int // of dicomnam, in all its groups
	replace *strings.Replacer
}

func (h *hosted) text(s string) string { return h.replace.Replace(s) }

// as is a command line of the user that has these capabilities and no others.
func (h *hosted) as(capabilities []string, line []string) []string {
	id := strconv.Itoa(h.uid)
	set := "-all"
	for _, c := range capabilities {
		set += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	return append([]string{
		"--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs",
		"--inh-caps", set, "--ambient-caps", set, "--bounding-set", set, "--",
	}, line...)
}

// give makes a directory of the user's.
func (h *hosted) give(path string, mode fs.FileMode) {
	h.Helper()
	if err := os.Mkdir(path, mode); err != nil && !os.IsExist(err) {
		h.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		h.Fatal(err)
	}
	if err := os.Chown(path, h.uid, h.uid); err != nil {
		h.Fatal(err)
	}
}

// start starts a service and returns when it serves a UDP port.
func (h *hosted) start(service string, port uint16) *lab.Process {
	h.Helper()
	u := readUnit(h.T, service)
	for _, key := range []string{"User", "Group", "StateDirectory"} {
		if !slices.Equal(u[key], []string{"dicomnam"}) {
			h.Errorf("%s: %s=%q, expected what both services have", service, key, u[key])
		}
	}
	if !slices.Equal(u["AmbientCapabilities"], u["CapabilityBoundingSet"]) {
		h.Errorf("%s: capabilities %q within %q", service, u["AmbientCapabilities"], u["CapabilityBoundingSet"])
	}
	for where, key := range map[string]string{"/var/lib/": "StateDirectory", "/run/": "RuntimeDirectory"} {
		for _, name := range u[key] {
			mode, err := strconv.ParseUint(strings.Join(u[key+"Mode"], ""), 8, 9)
			if err != nil {
				h.Fatal(err)
			}
			h.give(h.text(where+name), fs.FileMode(mode))
		}
	}
	line := strings.Fields(h.text(strings.Join(u["ExecStart"], " ")))
	p, err := h.Start(h.Server, lab.Command{Name: strings.TrimSuffix(service, ".service"), Path: "setpriv", Args: h.as(u["AmbientCapabilities"], line)})
	if err != nil {
		h.Fatal(err)
	}
	if err := p.WaitUDP(timeout(h.T, patience), port); err != nil {
		h.Fatalf("%v\n%s", err, p.Tail(20))
	}
	return p
}

// reload does what the unit's ExecReload does.
func (h *hosted) reload(service string, p *lab.Process) {
	h.Helper()
	line := readUnit(h.T, service)["ExecReload"]
	if len(line) != 3 || line[0] != "/bin/kill" || line[2] != "$MAINPID" {
		h.Fatalf("%s: ExecReload=%q", service, line)
	}
	signal := unix.SignalNum("SIG" + strings.TrimPrefix(line[1], "-"))
	if signal == 0 {
		h.Fatalf("%s: signal %q", service, line[1])
	}
	if err := p.Signal(signal); err != nil {
		h.Fatal(err)
	}
}

// dicomnam runs it as the services' user.
func (h *hosted) dicomnam(args ...string) string {
	h.Helper()
	line := append([]string{h.program("dicomnam")}, args...)
	out, err := h.Output(timeout(h.T, patience), h.Server, "setpriv", h.as(nil, line)...)
	if err != nil {
		h.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// The units give the servers what they need to lease, name and reload.
func TestServices(t *testing.T) {
	t.Parallel()
	if mode != lab.Namespaces {
		t.Skipf("only root becomes another user: %s", strings.Join(reasons, "; "))
	}
	needs(t, "setpriv")
	l := newLabOf(t, mode)
	h := &hosted{example: example{t, l}, uid: 61234, replace: strings.NewReplacer(
		"/etc/dicomnam", l.Dir+"/etc", "/var/lib/dicomnam", l.Dir+"/state", "/run/dicomnam", l.Dir+"/run",
		"/var/backups/dicomnam", l.Dir+"/backups", "/usr/local/bin", binaries(t),
	)}
	for _, dir := range []string{filepath.Dir(l.Dir), l.Dir} { // only root's until now
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// What the README has the administrator do.
	if err := os.Mkdir(h.text("/etc/dicomnam"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"site.yaml", "Corefile", "config.yml"} {
		text, err := examples.Files.ReadFile("clinic/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.text("/etc/dicomnam/"+name), []byte(h.text(string(text))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keys := h.text("/etc/dicomnam/tsig.keys")
	h.output("dicomnam", "keygen", radiology.Key, "--output", keys)
	if info, err := os.Stat(keys); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the key file: %v, %v", info.Mode(), err)
	}
	if err := os.Chown(keys, 0, h.uid); err != nil {
		t.Fatal(err)
	}

	names, addresses := h.start("coredns.service", 53), h.start("coredhcp.service", 67)
	client, got := h.lease(radiology.CT1.Machine)
	if got.Address != radiology.CT1.Address {
		t.Errorf("lease %+v", got)
	}
	h.found(h.Client, "192.0.2.2", "192.0.2.11")

	// The socket and a backup are the user's.
	socket := h.text("/run/dicomnam/coredhcp.sock")
	if out := h.dicomnam("leases", "--control", socket); !strings.Contains(out, "192.0.2.11") {
		t.Errorf("dicomnam leases:\n%s", out)
	}
	for _, service := range services {
		if !slices.Equal(readUnit(t, service)["ReadWritePaths"], []string{"-/var/backups/dicomnam"}) {
			t.Errorf("%s has no place for backups", service)
		}
	}
	backups := h.text("/var/backups/dicomnam")
	h.give(backups, 0o750)
	h.dicomnam("backup", "--control", socket, backups+"/leases-monday")

	// Both reload: one its site file, the other also its Corefile and keys.
	edit(t, h.text("/etc/dicomnam/site.yaml"), "devices:\n", "devices:\n  - {name: ws1, type: US, hardware-address: 00:00:5e:00:53:07, address: 192.0.2.12}\n")
	edit(t, h.text("/etc/dicomnam/Corefile"), "imaging.example.org 192.0.2.0/24 {", "example.net {\n    bind 192.0.2.2\n    template IN A {\n        answer \"{{ .Name }} 60 IN A 192.0.2.77\"\n    }\n}\nimaging.example.org 192.0.2.0/24 {")
	h.reload("coredns.service", names)
	h.asks(h.Server, "192.0.2.2", "www.example.net.", "A", "192.0.2.77")
	h.reload("coredhcp.service", addresses)
	waitWritten(t, addresses, `reloaded`)
	client.Kill()
	if _, got = h.lease(radiology.Guest(0x07, "")); got.Address != netip.MustParseAddr("192.0.2.12") {
		t.Errorf("lease %+v, expected that of ws1", got)
	}
	h.asks(h.Client, "192.0.2.2", "ws1.imaging.example.org.", "A", "192.0.2.12")

	for _, p := range []*lab.Process{addresses, names} {
		stat := syscall.Stat_t{}
		if err := syscall.Stat(fmt.Sprintf("/proc/%d", p.PID()), &stat); err != nil || int(stat.Uid) != h.uid {
			t.Errorf("%s runs as %d: %v", p.Name, stat.Uid, err)
		}
		h.stop(p)
		// A capability that is missing is told of; without CAP_NET_RAW all is broadcast.
		if lack := regexp.MustCompile(`(?i).*(permi(tted|ssion)|denied|read-only).*`).FindAllString(p.Written(), -1); lack != nil {
			t.Errorf("%s lacks something:\n%s", p.Name, strings.Join(lack, "\n"))
		}
	}
}
