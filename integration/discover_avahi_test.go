//go:build linux

package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

const (
	// busConf is a system bus of its own, which lets everybody do everything.
	busConf = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=BUS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
`
	avahiConf = `[server]
use-ipv6=no
allow-interfaces=lo
[wide-area]
enable-wide-area=yes
[publish]
disable-publishing=yes
`
)

// TestAvahi browses the domain as desktops do: avahi-browse asks avahi-daemon,
// which asks the name server of /etc/resolv.conf.
func TestAvahi(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"dbus-daemon", "avahi-daemon", "avahi-browse"} {
		needs(t, program)
	}
	l := newLab(t)
	if mode != lab.Namespaces {
		t.Skip("avahi-daemon changes the owner of a directory, which takes root")
	}
	n := newNetwork(t, l, radiology.Options{})
	edit(t, n.Site, "applications: [{ae-title: OLDMR, port: 104}]", `applications: [{ae-title: OLDMR, port: 104, name: "MR (old) No. 1, Süd"}]`)
	if err := n.StartDNS(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	await(t, n, lab.Present, question{"_dicom._tcp." + radiology.Domain, dns.TypePTR})

	bus := filepath.Join(l.Dir, "bus")
	files := map[string]string{
		"bus.conf": strings.Replace(busConf, "BUS", bus, 1), "avahi.conf": avahiConf,
		"resolv.conf": "nameserver " + radiology.Server.Addr().String() + "\n",
	}
	for name, text := range files {
		writeFile(t, filepath.Join(l.Dir, name), text)
	}
	address := "DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + bus
	start := func(c lab.Command) {
		t.Helper()
		p, err := l.Start(l.Server, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
	}
	start(lab.Command{Name: "dbus-daemon", Path: "dbus-daemon", Args: []string{"--config-file", filepath.Join(l.Dir, "bus.conf"), "--nofork", "--nopidfile"}})
	// Whoever comes before the bus ends at once, so it is waited for as its clients see it.
	ready := func(what string, args ...string) {
		t.Helper()
		for ctx := timeout(t, patience); ; {
			_, err := l.Output(ctx, l.Server, "env", append([]string{address}, args...)...)
			if err == nil {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s: %v", what, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	ready("the bus", "dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId")
	start(lab.Command{
		Name: "avahi-daemon", Path: "avahi-daemon", Env: []string{address},
		Args:   []string{"-f", filepath.Join(l.Dir, "avahi.conf"), "--no-drop-root", "--no-chroot", "--no-rlimits"},
		Mounts: []lab.Mount{{Source: filepath.Join(l.Dir, "resolv.conf"), Target: "/etc/resolv.conf", ReadOnly: true}, {Target: "/run"}},
	})
	ready("avahi-daemon", "dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.Avahi", "/", "org.freedesktop.Avahi.Server.GetState")

	const (
		label = `MR\032\040old\041\032No\.\0321\044\032S\195\188d`
		found = "+;n/a;n/a;" + label + ";_dicom._tcp;imaging.example.org"
	)
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"instances": {[]string{"-r", "_dicom._tcp"}, []string{found,
			"=;n/a;n/a;" + label + `;_dicom._tcp;imaging.example.org;oldmr.imaging.example.org;192.0.2.20;104;"PrimaryDeviceType=MR" "AET=OLDMR"`}},
		"subtype":         {[]string{"_mr._sub._dicom._tcp"}, []string{found}},
		"another subtype": {[]string{"_ct._sub._dicom._tcp"}, nil},
		"domains":         {[]string{"-D"}, []string{"+;;;imaging.example.org"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{address, "avahi-browse", "-d", "imaging.example.org", "-pt"}, tt.args...)
			out, err := l.Output(timeout(t, patience), l.Server, "env", args...)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(string(out)) {
				got = append(got, strings.TrimSpace(line))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("avahi-browse finds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}
