package lease

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// TestFormat1 opens a database that a release with format 1 wrote (testdata/format1, by testConfig with infinite leases in
// radiology, at 2026-03-01 08:46), as it is, and goes on with it.
func TestFormat1(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	if err := os.CopyFS(dir, os.DirFS("testdata/format1")); err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, clock: newClock()}
	f.clock.advance(50 * time.Minute)
	again := func() {
		t.Helper()
		m, err := Open(dir, testConfig(), Options{Now: f.clock.now})
		if err != nil {
			t.Fatal(err)
		}
		f.Manager = m
	}
	again()
	defer func() { f.Close() }()
	clock := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.UTC().Format("15:04")
	}
	var got []string
	for l, err := range f.Leases() {
		if err != nil {
			t.Fatal(err)
		}
		m, _ := f.Lease(l.Address)
		if fmt.Sprint(m.Client, m.State, m.Name, m.Version, m.Published) != fmt.Sprint(l.Client, l.State, l.Name, l.Version, l.Published) {
			t.Errorf("on disk %+v, in memory %+v", l, m)
		}
		got = append(got, fmt.Sprintf("%v %v %v %q %v %s-%s %q %v", l.Address, l.Client, l.Network, l.Device, l.State,
			clock(l.Start), clock(l.Expires), l.Name, l.Published))
	}
	want := []string{
		`192.0.2.11 00:00:5e:00:53:c1 id 00637431 radiology "ct1" active 08:01-09:01 "ct1.imaging.example.org." false`,
		`192.0.2.100 00:00:5e:00:53:04 radiology "" declined 08:01-11:01 "" false`,
		`192.0.2.103 00:00:5e:00:53:06 radiology "" active 08:46-never "" false`,
		`198.51.100.10 00:00:5e:00:53:01 cardiology "" active 08:00-09:46 "ws1.imaging.example.org." true`,
		`198.51.100.11 00:00:5e:00:53:02 cardiology "" active 08:01-09:01 "ws2.imaging.example.org." true`,
		`198.51.100.13 00:00:5e:00:53:03 cardiology "" released 08:01-08:01 "" false`,
		`203.0.113.100 00:00:5e:00:53:05 overflow "" expired 08:01-08:31 "" false`,
	}
	if len(got) != len(want) {
		t.Fatalf("%d leases, want %d: %q", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s\nwant %s", got[i], want[i])
		}
	}
	f.confirm(f.wantChanges("+ct1.imaging.example.org. 192.0.2.11", "-ws3.imaging.example.org. 198.51.100.13"))
	f.history("198.51.100.13", "03 released 08:01-08:01")
	f.history("203.0.113.100", "05 expired 08:01-08:31")
	f.history("192.0.2.100", "04 declined 08:01-11:01")
	if l := f.get(query(client(3), link2)); l.Address != addr("198.51.100.13") {
		t.Errorf("the client that released its address got %v", l.Address)
	}
	f.request(renewing(query(client(1), link2), addr("198.51.100.10")))
	for range 2 {
		f.history("198.51.100.13", "03 active 08:50-09:50", "03 released 08:01-08:01")
		f.history("198.51.100.10", "01 active 08:00-09:50 ws1")
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		again()
	}
}

// TestFormat2 opens a database that a release with format 2 wrote (testdata/format2, by testConfig, at 2026-03-01 08:01).
// What DNS shows is what it knew, both directions of every published name; and the older release is told to refuse it.
func TestFormat2(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	if err := os.CopyFS(dir, os.DirFS("testdata/format2")); err != nil {
		t.Fatal(err)
	}
	c := newClock()
	c.advance(2 * time.Minute)
	m, err := Open(dir, testConfig(), Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, Manager: m, clock: c}
	defer func() { f.Close() }()
	var got []string
	for l, err := range f.Leases() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%v %v %q %v %q %v", l.Address, l.Client, l.Device, l.State, l.Name, l.NameState))
	}
	want := []string{
		`192.0.2.11 00:00:5e:00:53:c1 "ct1" active "ct1.imaging.example.org." waiting`,
		`192.0.2.100 00:00:5e:00:53:04 "" declined "" `,
		`198.51.100.10 00:00:5e:00:53:01 "" active "ws1.imaging.example.org." shown`,
		`198.51.100.11 00:00:5e:00:53:02 "" active "ws2.imaging.example.org." shown`,
		`198.51.100.13 00:00:5e:00:53:03 "" released "" `,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	f.confirm(f.wantChanges("+ct1.imaging.example.org. 192.0.2.11", "-ws3.imaging.example.org. 198.51.100.13"))
	f.history("198.51.100.13", "03 released 08:00-08:01 ws3")
	f.request(renewing(query(client(1), link2), addr("198.51.100.10")))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := pebble.Open(dir, &pebble.Options{Logger: &pebbleLog{}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	v, closer, err := d.Get([]byte{keyFormat})
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	if string(v) != formatValue {
		t.Errorf("the format is %q now, expected %q", v, formatValue)
	}
}
