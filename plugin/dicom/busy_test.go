package dicom

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestReloadsUnderLoad reloads Corefile and site file while clients update and
// ask. Whatever was acknowledged stands at the end, and no reader ever sees a
// service without its address.
func TestReloadsUnderLoad(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, dir)
	address := s.address("tcp") // the sockets outlive reloads
	send := func(m *dns.Msg) *dns.Msg {
		c := &dns.Client{Net: "tcp", Timeout: 5 * time.Second, TsigSecret: map[string]string{key: secret}}
		r, _, err := c.Exchange(m, address)
		if err != nil {
			return nil // a reload closes connections
		}
		return r
	}
	const clients, each = 4, 15
	stop := make(chan struct{})
	var writers, others sync.WaitGroup
	for i := range clients {
		writers.Go(func() {
			for n := range each {
				for tries := 0; ; tries++ {
					m := change(t, domain, fmt.Sprintf("h%d-%d.imaging.example.org. 300 A 192.0.2.%d", i, n, n+1))
					m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
					if r := send(m); r != nil && r.Rcode == dns.RcodeSuccess {
						break
					}
					if tries == 200 {
						t.Errorf("client %d gives up", i)
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	others.Go(func() { // ct1 comes and goes
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			m := change(t, domain, []string{"ct1.imaging.example.org. 300 A 192.0.2.11", "!ct1.imaging.example.org."}[n%2])
			m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
			send(m)
		}
	})
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			r := send(new(dns.Msg).SetQuestion("CT1._dicom._tcp."+domain, dns.TypeSRV))
			if r == nil || len(r.Answer) == 0 {
				continue
			}
			if len(r.Extra) == 0 {
				t.Errorf("service without the address of its host: %v", r)
			}
		}
	})
	others.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(3 * watchInterval):
				// Renamed into place: a reload may read it at any moment.
				site := strings.Replace(siteYAML, "192.0.2.20", fmt.Sprintf("192.0.2.%d", 20+n%2), 1)
				path := filepath.Join(dir, "site.yaml")
				if err := os.WriteFile(path+".new", []byte(site), 0o600); err != nil {
					t.Error(err)
				} else if err := os.Rename(path+".new", path); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for range 5 {
		time.Sleep(3 * watchInterval)
		if i, err := s.Restart(input(string(s.Caddyfile().Body()))); err != nil {
			t.Error(err)
		} else {
			s.Instance = i
		}
	}
	writers.Wait()
	close(stop)
	others.Wait()
	check := func() {
		t.Helper()
		for i := range clients {
			for n := range each {
				s.want(t, fmt.Sprintf("h%d-%d.%s", i, n, domain), "A", fmt.Sprintf("192.0.2.%d", n+1))
			}
		}
	}
	check()
	s.stop()
	s = startSite(t, dir)
	check()
}

// TestQuietReload: a reload goes on with the database that is open, also where
// nobody asks in between, and so nobody waits; a reload that fails leaves the
// server as it is.
func TestQuietReload(t *testing.T) {
	s := startSite(t, t.TempDir())
	s.update(t, dns.RcodeSuccess, domain, "ws7."+domain+" 300 A 192.0.2.120")
	for n := range 3 {
		was := s.handler().zones[domain].zone.Load()
		if n == 1 {
			if _, err := s.Restart(input(strings.Replace(string(s.Caddyfile().Body()), "database", "nonsense", 1))); err == nil {
				t.Fatal("a broken Corefile is taken")
			}
			s.update(t, dns.RcodeSuccess, domain, "ws8."+domain+" 300 A 192.0.2.121")
		}
		i, err := s.Restart(input(string(s.Caddyfile().Body())))
		if err != nil {
			t.Fatal(err)
		}
		s.Instance = i
		if now := s.handler().zones[domain].zone.Load(); now != was {
			t.Errorf("reload %d: the database was opened again", n)
		}
	}
	s.want(t, "ws7."+domain, "A", "192.0.2.120")
	s.update(t, dns.RcodeSuccess, domain, "ws9."+domain+" 300 A 192.0.2.122")
	if n := testutil.ToFloat64(updates.WithLabelValues(domain, "NOERROR")); n < 3 {
		t.Errorf("%v updates are counted", n)
	}
}
