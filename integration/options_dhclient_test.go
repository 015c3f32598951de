//go:build linux

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// dhclientOptions runs dhclient once with these options asked for, and returns
// those of the lease that it writes: by name, as in its lease file.
func dhclientOptions(t *testing.T, l *lab.Lab, name, types string, asked []string) map[string]string {
	t.Helper()
	if err := l.Plug(timeout(t, patience), radiology.CT1.MAC); err != nil {
		t.Fatal(err)
	}
	file := func(suffix string) string { return filepath.Join(l.Dir, name+suffix) }
	writeFile(t, file(".conf"), types+"timeout 120; retry 1; initial-interval 1;\nsend dhcp-max-message-size 1500;\nsend auto-config 1;\nrequest "+strings.Join(asked, ", ")+";\n")
	p := startDhclient(t, l, name, "\nbound to ")
	p.Kill()
	text, err := os.ReadFile(file(".leases"))
	if err != nil {
		t.Fatal(err)
	}
	options := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "option "); ok {
			name, value, _ := strings.Cut(strings.TrimSuffix(rest, ";"), " ")
			options[name] = value
		}
	}
	return options
}

// startDhclient starts dhclient with the files of that name, on which nothing is
// configured, and waits until it has written a text.
func startDhclient(t *testing.T, l *lab.Lab, name, until string) *lab.Process {
	t.Helper()
	file := func(suffix string) string { return filepath.Join(l.Dir, name+suffix) }
	p, err := l.Start(l.Client, lab.Command{Name: name, Path: "dhclient", Args: []string{
		"-4", "-d", "-1", "-sf", "/bin/true", "-cf", file(".conf"), "-lf", file(".leases"), "-pf", file(".pid"), lab.Link}})
	if err != nil {
		t.Fatal(err)
	}
	for ctx := timeout(t, patience); !strings.Contains(p.Written(), until); {
		select {
		case <-p.Done():
			t.Fatalf("%v\n%s", p.Ended(), p.Tail(10))
		case <-ctx.Done():
			t.Fatalf("dhclient did not write %q\n%s", until, p.Tail(10))
		case <-time.After(5 * time.Millisecond):
		}
	}
	return p
}

// dhclientText is a value as dhclient writes it.
func dhclientText(c optionCase) string {
	_, value, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(c.dhcpd, "option "), ";"), " ")
	switch c.Type {
	case dhcpopt.WireName:
		return value + "."
	case dhcpopt.DomainNames, dhcpopt.SearchList:
		return strings.TrimSuffix(strings.ReplaceAll(value, `",`, `.",`), `"`) + `."`
	case dhcpopt.Text:
		return value
	}
	return strings.ReplaceAll(value, ", ", ",")
}

// dhclient, which is what many a device has in it, understands every option that
// it knows as the site file means it.
func TestOptionsOfDhclient(t *testing.T) {
	t.Parallel()
	needs(t, "dhclient")
	if err := lab.Dhclient.Check(); err != nil {
		t.Skip(err)
	}
	cases := optionCases(t)
	l := newLab(t)
	startSite(t, l, optionsSite(cases))
	var known []optionCase
	for _, c := range cases {
		if typed := typedCases[c.Name].dhcpdType; typed == "" && strings.Count(c.dhcpd, "option ") > 1 || strings.HasPrefix(typed, "encapsulate ") || strings.Contains(typed, "domain-list") {
			continue // it writes parts of it
		}
		if c.dhcpd != "" && c.Type != dhcpopt.SubOptions && c.Name != "v6-only-preferred" {
			known = append(known, c)
		}
	}
	for i, some := range slices.Collect(slices.Chunk(known, 30)) {
		var names []string
		for _, c := range some {
			names = append(names, strings.Fields(c.dhcpd)[1])
		}
		got := dhclientOptions(t, l, fmt.Sprintf("dhclient%d", i), dhcpdTypes(cases), names)
		for j, c := range some {
			if value, want := got[names[j]], dhclientText(c); value != want {
				t.Errorf("%s: dhclient has %q, the site file says %q", c, value, want)
			}
		}
	}
	// It takes no lease where IPv6 is enough (RFC 8925), as long as the option says.
	writeFile(t, filepath.Join(l.Dir, "six.conf"), "timeout 120;\nrequest v6-only-preferred;\n")
	startDhclient(t, l, "six", "v6 only preferred for 86400.\n").Kill()
}
