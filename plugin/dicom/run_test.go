package dicom

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/coredns/caddy"

	"github.com/miekg/dns"
)

// seeded is a handler for one zone from a zone file, not started.
func seeded(t *testing.T, database string) *Dicom {
	t.Helper()
	return newDicom(&config{zones: []string{domain}, seed: write(t, t.TempDir(), "zone", seedZone), database: database})
}

func closeDicom(t *testing.T, d *Dicom) {
	t.Helper()
	if err := d.close(); err != nil {
		t.Error(err)
	}
}

func TestStartIsTriedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	d := seeded(t, filepath.Join(dir, "zones"))
	now := time.Now()
	d.now = func() time.Time { return now }
	first := d.start()
	if first == nil || d.Ready() {
		t.Fatalf("started below a directory that is not there: %v", first)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.start(); !errors.Is(err, first) {
		t.Errorf("tried again at once: %v", err)
	}
	now = now.Add(startRetry)
	if err := d.start(); err != nil || !d.Ready() {
		t.Fatalf("tried again later: %v", err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	// Who was asked before the end still answers from memory.
	z, err := d.zone(d.zones[domain])
	if err != nil || z.Snapshot().Serial() != 10 {
		t.Errorf("after the end: %v", err)
	}
}

func TestStartAfterClose(t *testing.T) {
	dir := t.TempDir()
	d := seeded(t, filepath.Join(dir, "zones"))
	for range 2 {
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.start(); !errors.Is(err, errClosed) {
		t.Errorf("start: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "zones")); !os.IsNotExist(err) {
		t.Errorf("database: %v", err)
	}
}

// TestNewZoneIsCheap: the SOA of a new zone does not need all that the site
// publishes, which follows anyway.
func TestNewZoneIsCheap(t *testing.T) {
	var many strings.Builder
	many.WriteString("domain: imaging.example.org\nnetworks: [{name: all, subnet: 192.0.2.0/24}]\ndevices:\n")
	for i := range 200 {
		fmt.Fprintf(&many, "  - {name: d%d, type: CT, address: 192.0.2.%d, dhcp: false, applications: [{ae-title: D%d, port: 104}]}\n", i, i+1, i)
	}
	l, err := loadSite(write(t, t.TempDir(), "site.yaml", many.String()))
	if err != nil {
		t.Fatal(err)
	}
	d := newDicom(&config{zones: []string{domain}, site: l})
	var rrs []dns.RR
	if n := testing.AllocsPerRun(1, func() { rrs, err = d.newZone(domain, l.site) }); err != nil || n > 100 {
		t.Errorf("%v allocations, %v", n, err)
	}
	want := soaOf(l.site, domain)
	want.Serial = rrs[0].(*dns.SOA).Serial
	if len(rrs) != 1 || want.Serial == 0 || want.String() != rrs[0].String() {
		t.Errorf("%v, want %v", rrs, want)
	}
}

// TestCloseEndsGoroutines: what a handler has started is over when it is closed.
func TestCloseEndsGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := seeded(t, "")
		f := new(fakeNotifier)
		d.notifiers = map[string][]notifier{domain: {f}}
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // a NOTIFY is under way
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		if f.sent.Load() != 1 {
			t.Error("NOTIFY is still under way")
		}
	})
}

// TestWaitingIsBounded: while zones are loaded, requests wait, but not any number.
func TestWaitingIsBounded(t *testing.T) {
	d := seeded(t, "")
	d.mu.Lock() // as a start does
	if d.Ready() {
		t.Error("ready while loading")
	}
	const more = 10
	results := make(chan error, maxWaiting+more)
	for range maxWaiting + more {
		go func() { results <- d.start() }()
	}
	for range more {
		if err := <-results; !errors.Is(err, errBusy) {
			t.Errorf("start: %v", err)
		}
	}
	d.mu.Unlock()
	for range maxWaiting {
		if err := <-results; err != nil {
			t.Errorf("start: %v", err)
		}
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
}

func TestStartHookTakesOnlyItsEvent(t *testing.T) {
	d := seeded(t, "")
	i := &caddy.Instance{Storage: map[any]any{handlersKey{}: []*Dicom{d}}}
	for _, event := range []caddy.EventName{caddy.ShutdownEvent, caddy.InstanceRestartEvent} {
		if err := startHook(event, i); err != nil || d.started {
			t.Errorf("%s: %v, started %v", event, err, d.started)
		}
	}
	if err := startHook(caddy.InstanceStartupEvent, i); err != nil || !d.started {
		t.Errorf("%v, started %v", err, d.started)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
}

// TestSiteChangesBeforeStart: the site file may change between reading the
// Corefile and opening the zones.
func TestSiteChangesBeforeStart(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"to a right one", strings.Replace(siteYAML, "192.0.2.20", "192.0.2.21", 1), "192.0.2.21"},
		{"to a broken one", "nonsense", "192.0.2.20"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, dir, "site.yaml", siteYAML)
			l, err := loadSite(path)
			if err != nil {
				t.Fatal(err)
			}
			d := newDicom(&config{zones: []string{domain}, sitePath: path, site: l})
			write(t, dir, "site.yaml", tt.content)
			if err := d.start(); err != nil {
				t.Fatal(err)
			}
			defer closeDicom(t, d)
			z, err := d.zone(d.zones[domain])
			if err != nil {
				t.Fatal(err)
			}
			rrs := z.Snapshot().RRset("oldmr."+domain, dns.TypeA)
			if len(rrs) != 1 || rrs[0].(*dns.A).A.String() != tt.want {
				t.Errorf("oldmr: %v, want %s", rrs, tt.want)
			}
		})
	}
}

// TestSiteThatCannotBeTaken: zones that are there are served as they are where
// the site file cannot be made their content, and get it as soon as they can; a
// zone that has nothing yet is not served.
func TestSiteThatCannotBeTaken(t *testing.T) {
	dir := t.TempDir()
	small := strings.Replace(siteYAML, "services:\n  - {name: ldap, protocol: tcp, host: ldap.imaging.example.org, port: 389}\n", "", 1)
	path := write(t, dir, "site.yaml", small)
	handler := func(database string, records int) *Dicom {
		l, err := loadSite(path)
		if err != nil {
			t.Fatal(err)
		}
		cfg := &config{zones: []string{domain}, sitePath: path, site: l, database: filepath.Join(dir, database)}
		cfg.limits.Records = records
		return newDicom(cfg)
	}
	d := handler("zones", 0)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	was := d.zones[domain].zone.Load().Snapshot()
	if err := d.close(); err != nil {
		t.Fatal(err)
	}

	write(t, dir, "site.yaml", siteYAML)
	d = handler("zones", was.Len())
	if err := d.start(); err != nil || !d.Ready() {
		t.Fatalf("not ready: %v", err)
	}
	goesOn := d
	defer func() { _ = goesOn.close() }() // it returns nil
	z := d.zones[domain].zone.Load()
	if now := z.Snapshot(); now.Serial() != was.Serial() || now.Len() != was.Len() {
		t.Errorf("serial %d and %d records, want %d and %d", now.Serial(), now.Len(), was.Serial(), was.Len())
	}
	z.Configure(zone.Config{})
	eventually(t, "the site file's content", func() bool {
		return len(z.Snapshot().RRset("_ldap._tcp."+domain, dns.TypeSRV)) == 1
	})

	d = handler("others", 2)
	if err := d.start(); !errors.Is(err, zone.ErrLimit) || d.Ready() {
		t.Errorf("a zone without content is served: %v", err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
}

func TestLogHandler(t *testing.T) {
	mark := logged.len()
	l := slog.New(logHandler{}).With("zone", domain).WithGroup("disk")
	l.Debug("not shown")
	l.Info("compacted", "files", 3)
	l.Warn("slow", "for", time.Second)
	l.Error("failed", slog.Any("error", errClosed))
	text := logged.since(mark)
	for _, want := range []string{
		"[INFO] plugin/dicom: compacted zone=imaging.example.org. disk.files=3\n",
		"[WARNING] plugin/dicom: slow zone=imaging.example.org. disk.for=1s\n",
		"[ERROR] plugin/dicom: failed zone=imaging.example.org. disk.error=server is shutting down\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "not shown") {
		t.Error("debug is on")
	}
}
