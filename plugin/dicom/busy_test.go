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
