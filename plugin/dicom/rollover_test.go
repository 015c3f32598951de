package dicom

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestKeyRollOver: a second key comes with one reload of the Corefile, the
// clients change to it, and another reload takes the first. All the time updates
// come, signed with whatever key the client has, and none that was acknowledged
// is lost. The old key is then refused.
func TestKeyRollOver(t *testing.T) {
	const newKey, newSecret = "dhcp2.imaging.example.org.", "GqyjSQg6aMsmIJDAeY3UZ5mSjaYkIPkN9XSPJQNb7mQ="
	dir := t.TempDir()
	path := write(t, dir, "site.yaml", siteYAML)
	statement := func(name, secret string) string {
		return fmt.Sprintf("key \"%s\" {\n\talgorithm hmac-sha256;\n\tsecret \"%s\";\n};\n", name, secret)
	}
	corefile := func(keys ...string) string {
		text := block(fmt.Sprintf("site %s\ndatabase %s\nallow %s * *", path, filepath.Join(dir, "zones"), strings.Join(keys, " * *\nallow ")))
		before, rest, _ := strings.Cut(text, "tsig {")
		_, after, _ := strings.Cut(rest, "}")
		return before + fmt.Sprintf("tsig {\n\t\tsecrets %s\n\t\trequire_opcode UPDATE\n\t}", filepath.Join(dir, "tsig.keys")) + after
	}
	write(t, dir, "tsig.keys", statement(key, secret))
	s := start(t, corefile(key))
	address := s.address("tcp") // the sockets outlive reloads

	// Each client has one update after the other acknowledged.
	var mu sync.Mutex
	name, text := key, secret // of the clients
	var acknowledged []string
	var late [4]int // by the new key, of each client
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for c := range late {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
				}
				host := fmt.Sprintf("h%d-%d.imaging.example.org.", c, i)
				for tries := 0; ; tries++ {
					mu.Lock()
					k, x := name, text
					mu.Unlock()
					m := change(t, domain, host+" 300 A 192.0.2.120")
					m.SetTsig(k, dns.HmacSHA256, 300, time.Now().Unix())
					cl := &dns.Client{Net: "tcp", Timeout: 5 * time.Second, TsigSecret: map[string]string{k: x}}
					r, _, err := cl.Exchange(m, address)
					if err == nil && r.Rcode == dns.RcodeSuccess {
						mu.Lock()
						acknowledged = append(acknowledged, host)
						if k == newKey {
							late[c]++
						}
						mu.Unlock()
						break
					}
					if err == nil { // the connection of a reload is closed, but nobody is refused
						t.Errorf("%s by %s: %s", host, k, dns.RcodeToString[r.Rcode])
						return
					}
					if tries == 200 {
						t.Errorf("client %d gives up: %v", c, err)
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	reload := func(corefile string) {
		t.Helper()
		i, err := s.Restart(input(corefile))
		if err != nil {
			t.Fatal(err)
		}
		s.Instance = i
	}
	send := func(k, x string) *dns.Msg {
		return s.exchange(t, "tcp", change(t, domain, "probe.imaging.example.org. 300 TXT "+k), k, x)
	}
	more := func(n int) {
		t.Helper()
		mu.Lock()
		want := len(acknowledged) + n
		mu.Unlock()
		eventually(t, "updates", func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) >= want || t.Failed() })
	}
	more(20)
	if r := send(newKey, newSecret); r.Rcode != dns.RcodeNotAuth || r.IsTsig() == nil || r.IsTsig().Error != dns.RcodeBadKey {
		t.Errorf("a key that is not known yet: %v", r)
	}
	write(t, dir, "tsig.keys", statement(key, secret)+statement(newKey, newSecret))
	reload(corefile(key, newKey))
	more(20)
	for _, k := range [][2]string{{key, secret}, {newKey, newSecret}} {
		if r := send(k[0], k[1]); r.Rcode != dns.RcodeSuccess {
			t.Errorf("both keys are valid, and %s gets %s", k[0], dns.RcodeToString[r.Rcode])
		}
	}
	mu.Lock()
	name, text = newKey, newSecret
	mu.Unlock()
	eventually(t, "all clients have changed", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return !slices.Contains(late[:], 0) || t.Failed()
	})
	write(t, dir, "tsig.keys", statement(newKey, newSecret))
	reload(corefile(newKey))
	more(20)
	if r := send(key, secret); r.Rcode != dns.RcodeNotAuth || r.IsTsig() == nil || r.IsTsig().Error != dns.RcodeBadKey {
		t.Errorf("the old key: %v", r)
	}
	// While the file still has the old key, its rule is what counts.
	write(t, dir, "tsig.keys", statement(key, secret)+statement(newKey, newSecret))
	reload(corefile(newKey))
	if r := send(key, secret); r.Rcode != dns.RcodeRefused {
		t.Errorf("the old key without a rule: %s", dns.RcodeToString[r.Rcode])
	}
	close(quit)
	wg.Wait()
	t.Logf("%d updates, %v by the new key", len(acknowledged), late)
	snapshot := s.handler().zones[domain].zone.Load().Snapshot()
	for _, host := range acknowledged {
		if len(snapshot.RRset(host, dns.TypeA)) != 1 {
			t.Errorf("%s is lost", host)
		}
	}
}
