package ddns

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/nameupdate"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
)

// TestSiteTakesRecords has names and addresses of leases become records of the site file, which no update can remove: what
// was the leases' goes, and nothing waits for the rest.
func TestSiteTakesRecords(t *testing.T) {
	t.Parallel()
	key, err := tsigkey.Generate(keyName)
	if err != nil {
		t.Fatal(err)
	}
	b := startBad(t, key, 0)
	b.well.Store(true)
	f := &fickle{t: t, dir: t.TempDir(), config: nameupdate.Config{
		Routes: []nameupdate.Route{{Zone: ".", Servers: []string{b.conn.LocalAddr().String()}}},
		Keys:   []nameupdate.ZoneKey{{Zone: ".", Key: key}},
	}}
	f.open()
	defer func() { f.close() }()

	config := func(published bool, hostnames ...string) lease.Config {
		return lease.Config{
			Domain:    "imaging.example.org.",
			Hostnames: hostnames,
			Networks: []lease.Network{{
				Name: "radiology", Prefix: netip.MustParsePrefix("192.0.2.0/24"), LeaseTime: time.Hour, MinLeaseTime: leastTime, MaxLeaseTime: mostTime, DDNS: true,
			}},
			Reservations: []lease.Reservation{{
				Device: "ct1", Hostname: "ct1.imaging.example.org.", Publish: published,
				HardwareAddresses: []lease.HardwareAddress{{Type: 1, Addr: "\x00\x00\x5e\x00\x53\x01"}},
			}},
		}
	}
	reload := func(c lease.Config) {
		t.Helper()
		if err := f.manager.Reload(c); err != nil {
			t.Fatal(err)
		}
	}
	device := lease.Query{Client: lease.Client{HardwareType: 1, HardwareAddr: "\x00\x00\x5e\x00\x53\x01"}}
	stranger := lease.Query{Client: lease.Client{HardwareType: 1, HardwareAddr: "\x00\x00\x5e\x00\x53\x02"}, Hostname: "ws2"}
	give := func(q lease.Query, a string) {
		t.Helper()
		if err := f.manager.Note(t.Context(), q, netip.MustParseAddr(a), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	settle := func(names int, static ...string) {
		t.Helper()
		kept := map[string]bool{}
		for _, record := range static {
			kept[record] = true
		}
		for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			wrong, got := f.compare(b.records(), kept)
			s := f.manager.NameStats()
			if len(wrong) == 0 && got == names && s.Waiting == 0 {
				return
			}
			if time.Since(begin) > 30*time.Second {
				t.Fatalf("%d names; %+v; %q", got, s, wrong)
			}
		}
	}
	site := func(records ...string) {
		t.Helper()
		for origin, z := range b.zones {
			var list []dns.RR
			for _, record := range records {
				rr, err := dns.NewRR(record)
				if err != nil {
					t.Fatal(err)
				}
				if dns.IsSubDomain(origin, rr.Header().Name) {
					list = append(list, rr)
				}
			}
			if _, err := z.ReplaceSite(context.Background(), func(*zone.Candidate) ([]dns.RR, zone.Derive) { return list, nil }); err != nil {
				t.Fatal(err)
			}
		}
	}

	reload(config(true))
	give(device, "192.0.2.11")
	give(stranger, "192.0.2.12")
	settle(2)

	records := []string{
		"ct1.imaging.example.org. A 192.0.2.11", "11.2.0.192.in-addr.arpa. PTR ct1.imaging.example.org.",
		"ws2.imaging.example.org. A 192.0.2.12", "12.2.0.192.in-addr.arpa. PTR ws2.imaging.example.org.",
	}
	reload(config(false, "ws2.imaging.example.org."))
	site(records...)
	give(device, "192.0.2.11")
	stranger.Hostname = "ws3"
	give(stranger, "192.0.2.13")
	if _, err := f.manager.Release(t.Context(), lease.Query{Client: stranger.Client, ClientAddr: netip.MustParseAddr("192.0.2.12")}); err != nil {
		t.Fatal(err)
	}
	settle(1, records...)
}
