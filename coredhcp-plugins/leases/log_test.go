package leases

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredhcp/coredhcp/logger"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/sirupsen/logrus"
)

// journal is what was logged.
type journal struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

// take returns the lines of this plugin since the last call, from the message on.
func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var lines []string
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, "plugins/leases") {
			_, line, _ = strings.Cut(line, " msg=")
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	j.text.Reset()
	return lines
}

// has says whether a word is in the log since the last call of take.
func (j *journal) has(word string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Contains(j.text.String(), word)
}

// record has the log written to a journal at a level until the test ends.
func record(t *testing.T, level logrus.Level) *journal {
	t.Helper()
	j := new(journal)
	log := logger.GetLogger("test").Logger
	was := log.GetLevel()
	log.SetOutput(j)
	log.SetLevel(level)
	t.Cleanup(func() {
		log.SetOutput(io.Discard)
		log.SetLevel(was)
	})
	return j
}

var firstWord = regexp.MustCompile(`[a-z]+`)

// TestLines holds what a network in order writes at each level.
func TestLines(t *testing.T) {
	const site = `
domain: imaging.example.org
networks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199], lease-time: 1h}]
devices: [{name: ct1, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.11}]
`
	for _, tt := range []struct {
		level logrus.Level
		want  []string
	}{
		{logrus.WarnLevel, []string{"declined"}},
		{logrus.InfoLevel, []string{"leased", "leased", "released", "nak", "leased", "declined"}},
		{logrus.DebugLevel, []string{"offered", "leased", "renewed", "offered", "leased", "released", "silent", "silent", "nak", "offered", "leased", "declined", "silent"}},
	} {
		t.Run(tt.level.String(), func(t *testing.T) {
			w := newWire(t, pluginLines(t, site, "")...)
			j := record(t, tt.level)
			ct1, c := w.client(0x01), w.client(0x10, hostName("ws7"))
			a := yours(ct1.gets())
			ct1.send(dhcpv4.MessageTypeRequest, ciaddr(a))
			b := yours(c.gets())
			c.send(dhcpv4.MessageTypeRelease, ciaddr(b))
			// Nobody answers it, and its line is written when it is on disk.
			for end := time.Now().Add(patience); tt.level >= logrus.InfoLevel && !j.has("released") && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			c.send(dhcpv4.MessageTypeRelease, ciaddr(b))
			c.send(dhcpv4.MessageTypeRequest, requested(addr("203.0.113.9")))
			b = yours(c.gets())
			c.send(dhcpv4.MessageTypeDecline, requested(b))
			var got []string
			// Nobody answers a DHCPDECLINE, so its line may come after send has returned.
			lines := j.take()
			for end := time.Now().Add(patience); len(lines) < len(tt.want) && time.Now().Before(end); time.Sleep(time.Millisecond) {
				lines = append(lines, j.take()...)
			}
			for _, line := range lines {
				got = append(got, firstWord.FindString(line))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("lines %q, want %q\n%s", got, tt.want, strings.Join(lines, "\n"))
			}
			if tt.level != logrus.InfoLevel || len(lines) == 0 {
				return
			}
			for _, want := range []string{
				"address=192.0.2.11", "client=.00:00:5e:00:53:01.?", "network=radiology", "device=ct1", "name=ct1.imaging.example.org.", "for=1h0m0s",
			} {
				if !regexp.MustCompile(want).MatchString(lines[0]) {
					t.Errorf("line %q, want %s in it", lines[0], want)
				}
			}
		})
	}
}

// TestLinesTellWhere has messages come from where the site file has no network, and
// a client ask for what it cannot have: an administrator must see which.
func TestLinesTellWhere(t *testing.T) {
	w := newWire(t, pluginLines(t, statesSite, "")...)
	j := record(t, logrus.InfoLevel)
	w.client(0x10, giaddr("10.1.2.3")).send(dhcpv4.MessageTypeDiscover)
	w.client(0x11).send(dhcpv4.MessageTypeInform, ciaddr(addr("10.1.2.4"))) // a machine with an address of elsewhere is no fault of the site file
	w.client(0x12).send(dhcpv4.MessageTypeRequest, requested(addr("203.0.113.9")))
	w.client(0x13).send(dhcpv4.MessageTypeRequest, requested(addr("198.51.100.9")), relayed)
	w.client(0x14).send(dhcpv4.MessageTypeRequest, ciaddr(addr("198.51.100.9")), relayed)
	w.client(0x15).send(dhcpv4.MessageTypeRequest, selected(wiredServer.Addr())) // for none
	want := []string{
		`"no network of the site file is where this message came from" client="00:00:5e:00:53:10" from="[10.1.2.3]" interface=dhcp0`,
		`nak address=203.0.113.9 client="00:00:5e:00:53:12" network=radiology`,
		`nak address=198.51.100.9 client="00:00:5e:00:53:13" network=cardiology`,
		`nak address=198.51.100.9 client="00:00:5e:00:53:14" network=cardiology`,
		`nak address= client="00:00:5e:00:53:15" network=radiology`,
	}
	got := j.take()
	if len(got) != len(want) {
		t.Fatalf("lines %q, want %q", got, want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %s\nwant %s", got[i], want[i])
		}
	}
}

// TestLineOfName has a machine call itself by the name of a device whose hardware address it does not have: mostly that
// is mistyped in the site file.
func TestLineOfName(t *testing.T) {
	w := newWire(t, pluginLines(t, statesSite, "")...)
	j := record(t, logrus.InfoLevel)
	w.client(0x77, hostName("CT1")).gets()
	w.client(0x78, hostName("ws7")).gets()
	got := j.take()
	if len(got) != 2 || !strings.Contains(got[0], " asked=ct1 ") || strings.Contains(got[1], "asked=") {
		t.Errorf("lines %q", got)
	}
}

// TestLineOfReload sees which site file leases are given by.
func TestLineOfReload(t *testing.T) {
	l := start(t, filepath.Join(t.TempDir(), "leases"))
	j := record(t, logrus.InfoLevel)
	if err := l.Reload(); err != nil {
		t.Fatal(err)
	}
	s := l.site.Current()
	want := fmt.Sprintf(`"leases are given by the site file as it is now" devices=%d file="?%s"? networks=%d`, len(s.Devices), regexp.QuoteMeta(s.File), len(s.Networks))
	if got := j.take(); len(got) != 1 || !regexp.MustCompile(want).MatchString(got[0]) {
		t.Errorf("lines %q, want %s", got, want)
	}
}

// TestLineAtStart starts with leases in the database: that it is the right one shows
// in their number.
func TestLineAtStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	t.Run("before", func(t *testing.T) {
		l := start(t, dir)
		for client := range byte(2) {
			send(t, l, dhcpv4.MessageTypeRequest, client+1, selecting(send(t, l, dhcpv4.MessageTypeDiscover, client+1))...)
		}
		send(t, l, dhcpv4.MessageTypeRelease, 2, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 101)))
	})
	j := record(t, logrus.InfoLevel)
	start(t, dir)
	want := `"the lease database is open" active=1 addresses=2 directory="` + dir + `"`
	if got := j.take(); len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("lines %q, want %s", got, want)
	}
}

// TestLinesAreLimited has every machine of a large site come at once, and a
// stranger after them.
func TestLinesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newLines()
		count := 0
		write := func(string, ...any) { count++ }
		for range 5000 {
			n.leased.Log(write, "leased")
		}
		if count != 2000 {
			t.Errorf("%d leases at once are named, want 2000", count)
		}
		count = 0
		for range 86400 { // a client that takes and releases an address for a day
			time.Sleep(time.Second)
			for range 10 {
				n.leased.Log(write, "leased")
			}
		}
		if count != 86400 {
			t.Errorf("%d leases in the day after that are named, want one a second", count)
		}
		count = 0
		for range 5000 {
			n.naked.Log(write, "nak")
		}
		if count != 5 {
			t.Errorf("%d NAKs at once are named, want 5", count)
		}
	})
}
