//go:build linux

package integration

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// What an administrator runs today is in the binaries, and dicomnam beside it.
func TestPlugins(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		program, flag string
		want          []string
	}{
		{"coredns", "-plugins", append(slices.Clone(dnsserver.Directives), "dicom")},
		{"coredhcp", "--plugins", []string{
			"leases", "ntp", "ddns",
			"autoconfigure", "dns", "file", "ipv6only", "lease_time", "mtu", "nbp", "netmask", "prefix",
			"range", "router", "searchdomains", "server_id", "sleep", "staticroute",
		}},
	} {
		t.Run(tc.program, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(binaries(t), tc.program)
			out, err := exec.CommandContext(timeout(t, patience), path, tc.flag).Output()
			if err != nil {
				t.Fatal(err)
			}
			// Some versions write the kind of server before the name.
			got := strings.Fields(strings.ReplaceAll(string(out), "dns.", ""))
			for _, name := range tc.want {
				if !slices.Contains(got, name) {
					t.Errorf("%s %s does not list %s", tc.program, tc.flag, name)
				}
			}
		})
	}
}

// A wrong site file is refused by both servers, with every wrong line.
func TestBrokenSite(t *testing.T) {
	t.Parallel()
	replace := func(old, by string) func(string) string {
		return func(site string) string { return strings.Replace(site, old, by, 1) }
	}
	for name, tc := range map[string]struct {
		damage func(string) string
		marks  []string // what the wrong lines hold
	}{
		"unknown key":           {replace("    type: CT\n", "    tipe: CT\n"), []string{"tipe"}},
		"address of no network": {replace("address: 192.0.2.11", "address: 198.51.100.11"), []string{"198.51.100.11"}},
		"bad AE title":          {replace("ae-title: MR1,", `ae-title: 'MR\1',`), []string{`MR\1`}},
		"not YAML":              {replace("networks:", "networks: ]"), []string{"networks: ]"}},
		"port out of range":     {replace("port: 2762", "port: 70000"), []string{"port: 70000"}},
		"errors on two lines": {
			func(s string) string {
				return replace("lease-time: 43200s", "lease-time: soon")(replace("192.0.2.20", "192.0.2.255")(s))
			},
			[]string{"lease-time: soon", "address: 192.0.2.255"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A server that refuses its file binds no port, so it needs no network
			// of its own.
			l := newLabOf(t, lab.Loopback)
			n := newNetwork(t, l, radiology.Options{})
			data, err := os.ReadFile(n.Site)
			if err != nil {
				t.Fatal(err)
			}
			site := tc.damage(string(data))
			if site == string(data) {
				t.Fatal("the site file is not broken")
			}
			if err := os.WriteFile(n.Site, []byte(site), 0o644); err != nil {
				t.Fatal(err)
			}
			for program, args := range map[string][]string{
				"coredns":  {"-conf", n.Corefile, "-dns.port", strconv.Itoa(int(n.DNS.Port()))},
				"coredhcp": {"--conf", n.Config},
			} {
				path := filepath.Join(binaries(t), program)
				cmd := exec.CommandContext(timeout(t, patience), path, args...)
				out, err := cmd.CombinedOutput()
				if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !exit.Exited() {
					t.Errorf("%s with a broken site file: %v (%v)\n%s", program, err, context.Cause(t.Context()), out)
					continue
				}
				for _, mark := range tc.marks {
					if want := position(site, mark); !strings.Contains(string(out), want) {
						t.Errorf("%s does not name %s (%q):\n%s", program, want, mark, out)
					}
				}
			}
		})
	}
}

// position is how a message names the line that holds a mark.
func position(site, mark string) string {
	before, _, _ := strings.Cut(site, mark)
	return "site.yaml:" + strconv.Itoa(strings.Count(before, "\n")+1) + ":"
}
