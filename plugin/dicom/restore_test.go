package dicom

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
)

// TestRestoreIsFollowed: after an old backup was restored, real secondaries that
// had what came after it get what the backup has, by the NOTIFY of the start.
func TestRestoreIsFollowed(t *testing.T) {
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			dir := shortDir(t)
			home := t.TempDir()
			database, backup := filepath.Join(home, "zones"), filepath.Join(home, "copy")
			port := freePort(t)
			address := fmt.Sprintf("127.0.0.1:%d", port)
			corefile := strings.ReplaceAll(block(fmt.Sprintf("site %s\ndatabase %s\nallow %s * *", write(t, home, "site.yaml", siteYAML), database, key),
				fmt.Sprintf("transfer {\n\t\tto %s\n\t\tto *\n\t}", address)), ":0", fmt.Sprintf(":%d", freePort(t)))
			s := start(t, corefile)
			s.update(t, dns.RcodeSuccess, domain, "before.imaging.example.org. 300 A 192.0.2.120", "ct1.imaging.example.org. 300 A 192.0.2.11")
			store, release, err := zone.Acquire(database, zone.Options{}) // the server's
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Checkpoint(t.Context(), backup); err != nil {
				t.Fatal(err)
			}
			if err := release(); err != nil {
				t.Fatal(err)
			}
			for i := range 500 {
				s.update(t, dns.RcodeSuccess, domain, fmt.Sprintf("after%d.imaging.example.org. 300 A 192.0.2.121", i))
			}
			s.update(t, dns.RcodeSuccess, domain, "!before.imaging.example.org.", "!ct1.imaging.example.org.")
			newest := s.serial(t, domain)

			log, err := os.Create(filepath.Join(dir, "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			t.Cleanup(func() {
				if t.Failed() {
					text, _ := os.ReadFile(log.Name())
					t.Logf("%s:\n%s", p.name, text[max(0, len(text)-6000):])
				}
			})
			p.launch(t, dir, port, s.address("tcp"), log)
			follow := func(want uint32) {
				t.Helper()
				for deadline := time.Now().Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
					got, _ := serialAt(address)
					if got == want {
						return
					}
					if time.Now().After(deadline) {
						t.Fatalf("serial %d, want %d", got, want)
					}
				}
			}
			follow(newest)
			s.stop()
			if err := os.Rename(database, database+".old"); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(database, os.DirFS(backup)); err != nil {
				t.Fatal(err)
			}
			s = start(t, corefile)
			restored := s.serial(t, domain)
			if int32(restored-newest) <= 0 {
				t.Errorf("serial %d, and %d was published", restored, newest)
			}
			s.want(t, "before."+domain, "A", "192.0.2.120")
			s.want(t, "CT1._dicom._tcp."+domain, "SRV", "0 0 104 ct1."+domain)
			follow(restored)
			theirs, err := contentOf(address)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := contentOf(s.address("tcp"))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ours, theirs) {
				t.Errorf("zones differ: %d and %d records", len(ours), len(theirs))
			}
			s.stop()
			s = start(t, corefile) // which is no restored one any more
			if got := s.serial(t, domain); got != restored {
				t.Errorf("serial %d after another start, was %d", got, restored)
			}
		})
	}
}
