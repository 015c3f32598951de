package dicom

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
)

// silent returns the address of a secondary that takes packets and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// TestNotifyBesideTheDead: who answers hears of each change without waiting for
// those who do not. One after the other they would take three minutes.
func TestNotifyBesideTheDead(t *testing.T) {
	var to strings.Builder
	for range 30 {
		fmt.Fprintf(&to, "to %s\n", silent(t))
	}
	address, notified := fakeSecondary(t)
	s := startSite(t, t.TempDir(), fmt.Sprintf("transfer {\n%sto %s\n}", to.String(), address))
	eventually(t, "NOTIFY at the start", func() bool { return notified.Load() > 0 })
	before := notified.Load()
	s.update(t, dns.RcodeSuccess, domain, "ct1.imaging.example.org. 300 A 192.0.2.11")
	eventually(t, "NOTIFY after a change", func() bool { return notified.Load() > before })
}

// TestReadTransfers: who is notified is whom transfer has in the same words.
func TestReadTransfers(t *testing.T) {
	const corefile = `(others) {
	transfer example.com {
		to 192.0.2.7
	}
}
. {
	whoami
}
imaging.example.org 192.0.2.0/24 {
	transfer {
		to 192.0.2.1 * 192.0.2.2:5353
		to [2001:db8::1]:53 2001:db8::2 192.0.2.1:53
		source 198.51.100.1
	}
	transfer ward.imaging.example.org {
		to 192.0.2.3
	}
	transfer imaging.example.org {
		to 192.0.2.4
	}
	import others
}
`
	keys := []string{"dns://imaging.example.org.:53", "dns://2.0.192.in-addr.arpa.:53"}
	input := func(text string) caddy.Input {
		return caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(text), ServerTypeName: "dns"}
	}
	blocks, err := readTransfers(input(corefile), 1, keys)
	if err != nil {
		t.Fatal(err)
	}
	source := net.ParseIP("198.51.100.1")
	all := []secondary{{"192.0.2.1:53", source}, {"192.0.2.2:5353", source}, {"[2001:db8::1]:53", source}, {"[2001:db8::2]:53", source}}
	for zone, want := range map[string][]secondary{
		"imaging.example.org.":      all,
		"2.0.192.in-addr.arpa.":     all,
		"ward.imaging.example.org.": {{"192.0.2.3:53", nil}},
		"example.com.":              {{"192.0.2.7:53", nil}},
		"example.net.":              nil,
	} {
		if got := secondariesOf(blocks, zone); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", zone, got, want)
		}
	}
	for _, tt := range []struct {
		name, corefile string
		block          int
	}{
		{"a property of a later CoreDNS", strings.Replace(corefile, "source", "through", 1), 1},
		{"another block", corefile, 0},
		{"no such block", corefile, 2},
		{"not a Corefile", "}", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if blocks, err := readTransfers(input(tt.corefile), tt.block, keys); err == nil {
				t.Errorf("%v", blocks)
			}
		})
	}
}

// TestNotifyByWhatWasLoaded: whom to notify is found in the server block of dicom,
// behind others, by an import and by the environment, in what was loaded.
func TestNotifyByWhatWasLoaded(t *testing.T) {
	dir := t.TempDir()
	address, notified := fakeSecondary(t)
	t.Setenv("DICOM_TEST_SECONDARY", address)
	write(t, dir, "others", "example.org:0 {\n\tbind 127.0.0.1\n\ttransfer {\n\t\tto 127.0.0.1:9\n\t}\n}\nexample.net:0 {\n\tbind 127.0.0.1\n}\n")
	site := write(t, dir, "site.yaml", siteYAML)
	started := logged.len()
	start(t, fmt.Sprintf("(to) {\n\ttransfer imaging.example.org {\n\t\tto {$DICOM_TEST_SECONDARY}\n\t}\n}\nimport %s/others\n", dir)+
		block("site "+site, "import to"))
	eventually(t, "NOTIFY at the start", func() bool { return notified.Load() > 0 })
	if text := logged.since(started); strings.Contains(text, "one secondary after the other") {
		t.Error(text)
	}
}

// TestNotifyAfterFailedReload: the instance that goes on notifies as before.
func TestNotifyAfterFailedReload(t *testing.T) {
	address, notified := fakeSecondary(t)
	s := startSite(t, t.TempDir(), fmt.Sprintf("transfer {\n\tto %s\n}", address))
	eventually(t, "NOTIFY at the start", func() bool { return notified.Load() > 0 })
	if _, err := s.Restart(input(block("site none.yaml", "transfer {\n\tto 127.0.0.1:9\n}"))); err == nil {
		t.Error("reloaded with a site file that is not there")
	}
	before := notified.Load()
	s.update(t, dns.RcodeSuccess, domain, "ct1.imaging.example.org. 300 A 192.0.2.11")
	eventually(t, "NOTIFY after a change", func() bool { return notified.Load() > before })
}

// TestNotifyAfterHalfReload: also an instance that took over while the end of the
// old one failed, of which caddy then tells nobody, notifies its secondaries.
func TestNotifyAfterHalfReload(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, dir)
	address, notified := fakeSecondary(t)
	site, database := filepath.Join(dir, "site.yaml"), filepath.Join(dir, "zones")
	before := slices.Clone(caddy.Instances())
	s.OnShutdown = append(s.OnShutdown, func() error { return errors.New("no end") })
	if _, err := s.Restart(input(block(fmt.Sprintf("site %s\ndatabase %s", site, database), fmt.Sprintf("transfer {\n\tto %s\n}", address)))); err == nil {
		t.Error("reloaded without an error")
	}
	for _, i := range caddy.Instances() {
		if !slices.Contains(before, i) {
			t.Cleanup((&server{Instance: i}).stop)
		}
	}
	eventually(t, "NOTIFY after the reload", func() bool { return notified.Load() > 0 })
}

// TestNotifyMissesNothing: a change is noted from before the first NOTIFY on.
func TestNotifyMissesNothing(t *testing.T) {
	d := newDicom(&config{zones: []string{domain}})
	d.notifiers = map[string][]notifier{domain: {new(fakeNotifier), new(fakeNotifier)}}
	begun := 0
	d.notify(func(func(context.Context)) {
		begun++
		if told := d.zones[domain].told.Load(); told == nil || len(*told) != 2 {
			t.Error("a NOTIFY goes out, and changes are not noted")
		}
	})
	if begun != 2 {
		t.Errorf("%d of 2 notifiers", begun)
	}
}
