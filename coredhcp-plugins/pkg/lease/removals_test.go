package lease

import (
	"fmt"
	"net/netip"
	"testing"
)

// BenchmarkOpenRemovals opens a database with names that DNS still has to forget, as after an outage of DNS that outlived
// all leases.
func BenchmarkOpenRemovals(b *testing.B) {
	const n = 200_000
	dir := b.TempDir()
	c := testConfig()
	c.Networks = []Network{{Name: "all", Prefix: netip.MustParsePrefix("10.0.0.0/8"), LeaseTime: DefaultDeclineTime, DDNS: true}}
	c.Reservations, c.Excluded = nil, nil
	m, err := Open(dir, c, Options{})
	if err != nil {
		b.Fatal(err)
	}
	var w batch
	for i := range n {
		r := removal{
			name: fmt.Sprintf("ws%d.imaging.example.org.", i), addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
			client: pack(Client{HardwareType: 1, HardwareAddr: fmt.Sprintf("%06d", i)}), version: uint64(i + 1), shows: both,
		}
		w.set(literal(r.key()), r.append)
	}
	if _, err := m.store.write(&w, true); err != nil {
		b.Fatal(err)
	}
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m, err := Open(dir, c, Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if s := m.NameStats(); s.Waiting != n {
			b.Errorf("%d wait", s.Waiting)
		}
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
