//go:build linux

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// No server is given: the zones' SOA records name it. Who is asked for them is what resolv.conf says, or else, where that
// says nothing, the site file's domain-name-servers.
func TestNamesWithoutServer(t *testing.T) {
	t.Parallel()
	const nobody = "192.0.2.77"
	for name, who := range map[string]struct{ resolvConf, site string }{
		"resolv.conf":         {"nameserver 192.0.2.2\n", nobody},
		"domain-name-servers": {"# written by nobody\n", "192.0.2.2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			n := newNetwork(t, l, radiology.Options{})
			rewrite := func(path, old, replacement string) {
				t.Helper()
				text, err := os.ReadFile(path)
				if err != nil || !strings.Contains(string(text), old) {
					t.Fatalf("%s has no %q: %v", path, old, err)
				}
				if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, replacement)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			rewrite(n.Config, " server="+n.DNS.String(), "")
			rewrite(n.Site, "domain-name-servers: [192.0.2.2]", "domain-name-servers: ["+who.site+"]")
			resolv := filepath.Join(l.Dir, "resolv.conf")
			if err := os.WriteFile(resolv, []byte(who.resolvConf), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := n.StartDNS(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
			p, err := l.Start(l.Server, lab.Command{
				Name: "coredhcp", Path: filepath.Join(binaries(t), "coredhcp"), Args: []string{"--conf", n.Config},
				Mounts: []lab.Mount{{Source: resolv, Target: "/etc/resolv.conf", ReadOnly: true}},
			})
			if err == nil {
				err = p.WaitUDP(timeout(t, patience), l.DHCP.Port())
			}
			if err != nil {
				t.Fatal(err)
			}
			client, got := lease(t, l, lab.Builtin, radiology.CT1.Machine)
			questions := names(t, radiology.CT1.Host, got)
			await(t, n, lab.Present, questions...)
			if err := client.Release(timeout(t, patience)); err != nil {
				t.Fatal(err)
			}
			await(t, n, lab.Absent, questions...)
		})
	}
}
