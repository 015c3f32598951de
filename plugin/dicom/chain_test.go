package dicom

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"

	"github.com/coredns/coredns/plugin/cache"
	"github.com/coredns/coredns/plugin/ready"

	"github.com/miekg/dns"
)

var (
	_ cache.ZoneBypasser = (*Dicom)(nil)
	_ ready.Readiness    = (*Dicom)(nil)
)

func TestAliasOutOfTheZone(t *testing.T) {
	dir := t.TempDir()
	other := strings.ReplaceAll(seedZone, "imaging.example.org.", "example.net.") + `loop 60 IN CNAME loop.imaging.example.org.
`
	s := start(t, block(fmt.Sprintf("site %s\nallow %s * *", write(t, dir, "site.yaml", siteYAML), key))+
		fmt.Sprintf("example.net:0 {\n\tbind 127.0.0.1\n\tdicom {\n\t\tfile %s\n\t\tallow %s * *\n\t}\n}\n",
			write(t, dir, "other", other), key))
	s.update(t, dns.RcodeSuccess, domain,
		"www.imaging.example.org. 300 CNAME www.example.net.",
		"none.imaging.example.org. 300 CNAME none.example.net.",
		"far.imaging.example.org. 300 CNAME far.example.com.",
		"loop.imaging.example.org. 300 CNAME loop.example.net.")
	s.want(t, "www."+domain, "A", "192.0.2.1, www.example.net.")
	s.want(t, "www."+domain, "CNAME", "www.example.net.")
	for name, want := range map[string]int{"none": dns.RcodeNameError, "loop": dns.RcodeServerFailure, "far": dns.RcodeSuccess} {
		r := s.query(t, name+"."+domain, "A")
		if r.Rcode != want || len(r.Answer) == 0 {
			t.Errorf("%s: %s with %d records, want %s", name, dns.RcodeToString[r.Rcode], len(r.Answer), dns.RcodeToString[want])
		}
	}
}

func TestOtherNamesGoOn(t *testing.T) {
	dir := t.TempDir()
	s := start(t, fmt.Sprintf(".:0 {\n\tbind 127.0.0.1\n\tdicom imaging.example.org {\n\t\tsite %s\n\t}\n}\n", write(t, dir, "site.yaml", siteYAML)))
	s.want(t, "oldmr."+domain, "A", "192.0.2.20")
	s.want(t, "www.example.net.", "A", "SERVFAIL") // there is no next plugin
	r := s.exchange(t, "tcp", change(t, "example.net.", "www.example.net. 300 A 192.0.2.1"), "", "")
	if r.Rcode != dns.RcodeNotAuth {
		t.Errorf("UPDATE for a zone that is not ours: %s", dns.RcodeToString[r.Rcode])
	}
}

func TestCacheKeepsOut(t *testing.T) {
	s := startSite(t, t.TempDir(), "cache 3600")
	s.want(t, "pc."+domain, "A", "NXDOMAIN")
	s.update(t, dns.RcodeSuccess, domain, "pc.imaging.example.org. 300 A 192.0.2.120")
	s.want(t, "pc."+domain, "A", "192.0.2.120")
}

func TestReady(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	startSite(t, t.TempDir(), "ready "+address)
	r, err := http.Get("http://" + address + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Body.Close(); err != nil {
		t.Error(err)
	}
	if r.StatusCode != http.StatusOK {
		t.Errorf("status %s", r.Status)
	}
}

// fakeSecondary is a server that counts NOTIFY messages.
func fakeSecondary(t *testing.T) (address string, notified *atomic.Int32) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	notified = new(atomic.Int32)
	started, ended := make(chan struct{}), make(chan error, 1)
	srv := &dns.Server{PacketConn: c, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		if r.Opcode == dns.OpcodeNotify && r.Question[0].Name == domain {
			notified.Add(1)
		}
		if err := w.WriteMsg(new(dns.Msg).SetReply(r)); err != nil {
			t.Error(err)
		}
	})}
	go func() { ended <- srv.ActivateAndServe() }()
	select {
	case <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(srv.Shutdown(), <-ended); err != nil {
			t.Error(err)
		}
	})
	return c.LocalAddr().String(), notified
}

func TestTransferAndNotify(t *testing.T) {
	address, notified := fakeSecondary(t)
	s := startSite(t, t.TempDir(), fmt.Sprintf("transfer {\n\tto %s\n}", address))
	eventually(t, "NOTIFY at the start", func() bool { return notified.Load() > 0 })
	before := notified.Load()
	s.update(t, dns.RcodeSuccess, domain, "ct1.imaging.example.org. 300 A 192.0.2.11")
	eventually(t, "NOTIFY after a change", func() bool { return notified.Load() > before })
	s.update(t, dns.RcodeSuccess, domain, "ct1.imaging.example.org. 300 A 192.0.2.11")
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("h%d.imaging.example.org. 300 A 198.51.100.%d", i, i%250+1))
	}
	s.update(t, dns.RcodeSuccess, domain, many...)
	serial := s.serial(t, domain)

	transfer := func(t *testing.T, m *dns.Msg, signed bool) []dns.RR {
		t.Helper()
		tr := new(dns.Transfer)
		if signed {
			m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
			tr.TsigSecret = map[string]string{key: secret}
		}
		ch, err := tr.In(m, s.address("tcp"))
		if err != nil {
			t.Fatal(err)
		}
		var all []dns.RR
		for e := range ch {
			if e.Error != nil {
				t.Fatal(e.Error)
			}
			all = append(all, e.RR...)
		}
		return all
	}
	for _, signed := range []bool{false, true} {
		t.Run(fmt.Sprintf("AXFR signed %v", signed), func(t *testing.T) {
			all := transfer(t, new(dns.Msg).SetAxfr(domain), signed)
			first, ok := all[0].(*dns.SOA)
			last, ok2 := all[len(all)-1].(*dns.SOA)
			if !ok || !ok2 || first.Serial != serial || last.Serial != serial {
				t.Fatalf("from %v to %v, want SOA with serial %d", all[0], all[len(all)-1], serial)
			}
			var names []string
			for _, rr := range all[1 : len(all)-1] {
				names = append(names, rr.Header().Name+" "+dns.Type(rr.Header().Rrtype).String())
			}
			if want := 1000 + 1 + 22; len(names) != want {
				t.Errorf("%d records, want %d", len(names), want)
			}
			for _, want := range []string{"ns1.imaging.example.org. A", "CT1._dicom._tcp.imaging.example.org. SRV", "h999.imaging.example.org. A"} {
				if !slices.Contains(names, want) {
					t.Errorf("no %s", want)
				}
			}
		})
	}
	t.Run("IXFR when up to date", func(t *testing.T) {
		for _, have := range []uint32{serial, serial + 1} {
			all := transfer(t, new(dns.Msg).SetIxfr(domain, have, "ns1."+domain, "h."+domain), false)
			if len(all) != 1 {
				t.Errorf("serial %d: %d records", have, len(all))
			}
		}
	})
	t.Run("IXFR from an older serial", func(t *testing.T) {
		all := transfer(t, new(dns.Msg).SetIxfr(domain, serial-1, "ns1."+domain, "h."+domain), false)
		if len(all) < 1000 { // the last update is most of the zone
			t.Errorf("%d records", len(all))
		}
	})
	t.Run("IXFR", func(t *testing.T) {
		have := s.serial(t, domain)
		s.update(t, dns.RcodeSuccess, domain, "!h1.imaging.example.org.", "h2.imaging.example.org. 300 A 192.0.2.130")
		s.update(t, dns.RcodeSuccess, domain, "h3.imaging.example.org. 300 TXT new", "h4.imaging.example.org. 300 TXT passing")
		s.update(t, dns.RcodeSuccess, domain, "!h4.imaging.example.org. TXT")
		for _, signed := range []bool{false, true} {
			var got []string
			for _, rr := range transfer(t, new(dns.Msg).SetIxfr(domain, have, "ns1."+domain, "h."+domain), signed) {
				text := rr.Header().Name[:2] + " " + strings.TrimPrefix(rr.String(), rr.Header().String())
				if soa, ok := rr.(*dns.SOA); ok {
					text = fmt.Sprintf("serial %+d", soa.Serial-have)
				}
				got = append(got, text)
			}
			want := []string{"serial +3", "serial +0", "h1 198.51.100.2", "serial +3", "h2 192.0.2.130", "h3 \"new\"", "serial +3"}
			if !slices.Equal(got, want) {
				t.Errorf("signed %v: %q, want %q", signed, got, want)
			}
		}
		all := transfer(t, new(dns.Msg).SetIxfr(domain, have-100, "ns1."+domain, "h."+domain), false)
		if _, ok := all[1].(*dns.SOA); ok || len(all) < 1000 {
			t.Errorf("from a serial that never was: %d records", len(all))
		}
	})
	t.Run("other zone", func(t *testing.T) {
		r := s.exchange(t, "tcp", new(dns.Msg).SetAxfr("sub."+domain), "", "")
		if r.Rcode == dns.RcodeSuccess && len(r.Answer) > 0 {
			t.Errorf("transferred %v", r)
		}
	})
}

// TestNotifyAfterRestart: secondaries may have missed something, also when
// nothing has changed here.
func TestNotifyAfterRestart(t *testing.T) {
	address, notified := fakeSecondary(t)
	dir := t.TempDir()
	for range 3 {
		before := notified.Load()
		s := startSite(t, dir, fmt.Sprintf("transfer {\n\tto %s\n}", address))
		eventually(t, "NOTIFY at the start", func() bool { return notified.Load() > before })
		s.stop()
	}
}

// TestSignalReloads sends SIGUSR1 to a process of its own, because caddy then
// removes all event hooks. No query comes that would start the zones: the NOTIFY
// to the secondary of the edited Corefile shows that they are.
func TestSignalReloads(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "site.yaml", siteYAML)
	edit := func() (notified *atomic.Int32) {
		address, notified := fakeSecondary(t)
		write(t, dir, "Corefile", block(fmt.Sprintf("site %s\ndatabase %s", path, filepath.Join(dir, "zones")),
			fmt.Sprintf("transfer {\n\tto %s\n}", address)))
		return notified
	}
	notified := edit()
	var out logBuffer
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), corefileEnv+"="+filepath.Join(dir, "Corefile"))
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := sync.OnceValue(c.Wait)
	t.Cleanup(func() {
		// It has ended, and how was looked at, unless the test failed.
		_ = c.Process.Kill()
		_ = ended()
		if t.Failed() {
			t.Logf("CoreDNS:\n%s", out.since(0))
		}
	})
	eventually(t, "NOTIFY at the start", func() bool { return notified.Load() > 0 })
	for range 2 {
		notified = edit()
		looks := 0
		eventually(t, "NOTIFY after SIGUSR1", func() bool {
			if looks%100 == 0 { // a signal is lost if caddy does not listen yet
				if err := c.Process.Signal(syscall.SIGUSR1); err != nil {
					t.Fatal(err)
				}
			}
			looks++
			return notified.Load() > 0
		})
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := ended(); err != nil {
		t.Errorf("end: %v", err)
	}
}

func TestTransferNeedsPermission(t *testing.T) {
	s := startSite(t, t.TempDir())
	if r := s.exchange(t, "tcp", new(dns.Msg).SetAxfr(domain), "", ""); r.Rcode != dns.RcodeRefused {
		t.Errorf("without transfer: %s", dns.RcodeToString[r.Rcode])
	}
	s = startSite(t, t.TempDir(), "transfer {\n\tto 127.0.0.2:1\n}")
	if r := s.exchange(t, "tcp", new(dns.Msg).SetAxfr(domain), "", ""); r.Rcode != dns.RcodeRefused {
		t.Errorf("to a stranger: %s", dns.RcodeToString[r.Rcode])
	}
}

// TestTransferSerials: only a secondary with an older serial (RFC 1982) gets the
// zone.
func TestTransferSerials(t *testing.T) {
	for _, tt := range []struct {
		have, serial uint32
		want         bool
	}{{1, 2, true}, {2, 1, false}, {1, 1, false}, {1<<32 - 1, 1, true}, {1, 1<<32 - 1, false}, {1, 1 + 1<<31, false}, {0, 1, true}} {
		t.Run(fmt.Sprint(tt.have, " ", tt.serial), func(t *testing.T) {
			d := newDicom(&config{zones: []string{domain},
				seed: write(t, t.TempDir(), "zone", strings.Replace(seedZone, " 10 ", fmt.Sprintf(" %d ", tt.serial), 1))})
			defer closeDicom(t, d)
			ch, err := d.Transfer(domain, tt.have)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for batch := range ch {
				n += len(batch)
			}
			if got := n > 1; got != tt.want {
				t.Errorf("%d records", n)
			}
		})
	}
}

// fakeNotifier takes a second for each NOTIFY, or until it shall not any more, and
// fails while broken.
type fakeNotifier struct {
	sent   atomic.Int32
	broken atomic.Bool
}

func (f *fakeNotifier) Notify(ctx context.Context, _ string) error {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	f.sent.Add(1)
	if f.broken.Load() {
		return errors.New("no answer")
	}
	return nil
}

func TestNotices(t *testing.T) {
	run := func(t *testing.T, f *fakeNotifier, test func(t *testing.T, n notices)) {
		synctest.Test(t, func(t *testing.T) {
			n := newNotices()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { n.run(ctx, domain, f, nil); close(done) }()
			test(t, n)
			cancel()
			<-done
		})
	}
	t.Run("a burst is told twice", func(t *testing.T) {
		f := new(fakeNotifier)
		run(t, f, func(t *testing.T, n notices) {
			n.changed()
			synctest.Wait() // the first is under way
			for range 1000 {
				n.changed()
			}
			time.Sleep(time.Hour)
			if got := f.sent.Load(); got != 2 {
				t.Errorf("%d NOTIFY", got)
			}
		})
	})
	t.Run("repeated for some minutes", func(t *testing.T) {
		f := new(fakeNotifier)
		f.broken.Store(true)
		run(t, f, func(t *testing.T, n notices) {
			n.changed()
			time.Sleep(time.Hour)
			if got := f.sent.Load(); got != 1+notifyRetries {
				t.Errorf("%d NOTIFY", got)
			}
			n.changed()
			time.Sleep(90 * time.Second)
			f.broken.Store(false)
			before := f.sent.Load()
			time.Sleep(time.Hour)
			if got := f.sent.Load() - before; got != 1 {
				t.Errorf("%d more NOTIFY after the secondary is back", got)
			}
		})
	})
}

func TestWatcher(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "site.yaml", siteYAML)
	state := stateOf(path)
	var applied []string
	var broken error
	lacking := false
	w := &watcher{
		path: path, loaded: state, last: state, failures: sparing(),
		apply: func(_ context.Context, l loadedSite) error {
			applied = append(applied, l.site.Domain)
			return broken
		},
		lacks: func(*site.Site) bool { return lacking },
	}
	looks := func(what string, want int) {
		t.Helper()
		applied = nil
		for range 5 {
			w.look(t.Context())
		}
		if len(applied) != want {
			t.Fatalf("%s: applied %d times, want %d", what, len(applied), want)
		}
	}
	looks("nothing new", 0)
	write(t, dir, "site.yaml", siteYAML+"\n")
	looks("new", 1)

	// While somebody writes, each look finds another file.
	applied = nil
	for i := range 5 {
		write(t, dir, "site.yaml", siteYAML+strings.Repeat("\n", i+2))
		w.look(t.Context())
	}
	if len(applied) != 0 {
		t.Error("applied while it was being written")
	}
	looks("written", 1)

	broken = errors.New("disk full")
	write(t, dir, "site.yaml", strings.ReplaceAll(siteYAML, "imaging.example.org", "example.net"))
	looks("cannot be applied", 4)
	broken = nil
	looks("can be applied", 1)
	if applied[0] != "example.net." {
		t.Errorf("applied %v", applied)
	}
	looks("done", 0)
	lacking = true
	looks("address goes", 0)
	write(t, dir, "site.yaml", siteYAML)
	looks("new without an address", 1)
	write(t, dir, "site.yaml", "nonsense")
	looks("broken, and still without", 0)
	lacking = false
	looks("address comes", 1)
	if applied[0] != domain {
		t.Errorf("applied %v", applied)
	}
	looks("all is there", 0)
	lacking = true
	write(t, dir, "site.yaml", siteYAML)
	looks("again without", 1)
	broken = errors.New("disk full")
	write(t, dir, "site.yaml", strings.ReplaceAll(siteYAML, "imaging.example.org", "example.net"))
	looks("cannot be applied", 4)
	broken, lacking = nil, false
	looks("both at once", 1)
	if applied[0] != "example.net." {
		t.Errorf("applied %v", applied)
	}
	write(t, dir, "site.yaml", "more nonsense")
	looks("broken", 0)
}
