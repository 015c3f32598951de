package lease

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkExchange is DISCOVER and REQUEST of new clients, 64 at a time, on a database on disk.
func BenchmarkExchange(b *testing.B) {
	for _, held := range []int{0, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			m := filled(b, filepath.Join(b.TempDir(), "leases"), nil, held)
			defer m.Close()
			begin := processTime()
			var next atomic.Int64
			next.Store(int64(held))
			b.ResetTimer()
			parallel(b.N, 64, func() { exchange(b, m, int(next.Add(1)), "") })
			b.StopTimer()
			b.ReportMetric(float64(processTime()-begin)/float64(b.N)/1e3, "cpu-us/op")
		})
	}
}

// BenchmarkRenewal is REQUEST in state RENEWING, 64 at a time, on a database on disk.
func BenchmarkRenewal(b *testing.B) {
	const held = 100_000
	m := filled(b, filepath.Join(b.TempDir(), "leases"), nil, held)
	defer m.Close()
	var next atomic.Int64
	b.ResetTimer()
	parallel(b.N, 64, func() {
		n := int(next.Add(1)) % held
		m.mu.Lock()
		a := m.bindings.first([]byte(numbered(n).Key())).addr
		m.mu.Unlock()
		q := Query{Client: numbered(n), ServerID: server, ClientAddr: a}
		if ans, err := m.Request(context.Background(), q); err != nil || ans.Kind != Ack {
			b.Error(ans, err)
		}
	})
}

// BenchmarkAlone is one exchange at a time: the latency on an idle machine.
func BenchmarkAlone(b *testing.B) {
	m := filled(b, filepath.Join(b.TempDir(), "leases"), nil, 0)
	defer m.Close()
	n := 0
	for b.Loop() {
		n++
		exchange(b, m, n, "")
	}
}

// BenchmarkOpen is the start with leases of which each address has a past.
func BenchmarkOpen(b *testing.B) {
	for _, held := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "leases")
			m := filled(b, dir, nil, held)
			past(b, m, held)
			if err := m.Close(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				m, err := Open(dir, wideConfig(4_000_000), Options{})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := m.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// past gives every lease of numbered clients back and takes it again.
func past(b testing.TB, m *Manager, held int) {
	var next atomic.Int64
	parallel(held, 256, func() { change(b, m, int(next.Add(1)-1)) })
	inDNS(b, m)
}

// change is RELEASE and then REQUEST of the same address.
func change(t testing.TB, m *Manager, n int) {
	m.mu.Lock()
	a := m.bindings.first([]byte(numbered(n).Key())).addr
	m.mu.Unlock()
	q := Query{Client: numbered(n), Links: []netip.Addr{wideLink}, ServerID: server, ClientAddr: a}
	if ended, err := m.Release(context.Background(), q); err != nil || !ended {
		t.Error(ended, err)
	}
	q.ClientAddr, q.Requested = netip.Addr{}, a
	if ans, err := m.Request(context.Background(), q); err != nil || ans.Kind != Ack {
		t.Error(ans, err)
	}
}

// BenchmarkChange is what history costs most: RELEASE and REQUEST, 64 at a time.
func BenchmarkChange(b *testing.B) {
	const held = 10_000
	m := filled(b, filepath.Join(b.TempDir(), "leases"), nil, held)
	defer m.Close()
	var next atomic.Int64
	begin := processTime()
	b.ResetTimer()
	parallel(b.N, 64, func() { change(b, m, int(next.Add(1))%held) })
	b.StopTimer()
	b.ReportMetric(float64(processTime()-begin)/float64(b.N)/1e3, "cpu-us/op")
}

// BenchmarkStats is a scrape with leases.
func BenchmarkStats(b *testing.B) {
	m := filled(b, "leases", vfs.NewMem(), 100_000)
	defer m.Close()
	for b.Loop() {
		if s := m.Stats(); s.Networks[0].Active != 100_000 {
			b.Fatalf("%+v", s)
		}
	}
}

// BenchmarkCollect is one collection of garbage, by one processor as in coredhcp, with leases that have no names; and what
// a lease takes of the live heap.
func BenchmarkCollect(b *testing.B) {
	for _, held := range []int{100_000, 900_000} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
			dir, none := filepath.Join(b.TempDir(), "leases"), liveHeap()
			m, err := Open(dir, wideConfig(4_000_000), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			var next atomic.Int64
			parallel(held, 256, func() { exchange(b, m, int(next.Add(1)), "") })
			live := liveHeap() - none
			runtime.GOMAXPROCS(1)
			for b.Loop() {
				runtime.GC()
			}
			b.ReportMetric(float64(live)/float64(held), "bytes/lease")
		})
	}
}

// liveHeap is what is left of the heap when all garbage is gone.
func liveHeap() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// TestMemory reports what a lease costs in live heap, and holds it under 400 bytes.
func TestMemory(t *testing.T) {
	const held = 100_000 / fewer
	fs := vfs.NewMem()
	if err := filled(t, "leases", fs, held).Close(); err != nil {
		t.Fatal(err)
	}
	empty, err := Open("empty", wideConfig(4_000_000), Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	before := liveHeap()
	start := time.Now()
	m, err := Open("leases", wideConfig(4_000_000), Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	took := time.Since(start)
	// The published ones are those that stay; names in the queue for DNS come on top.
	for {
		changes := m.TakeNameChanges(1000)
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			if err := m.ConfirmNameChange(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	each := float64(liveHeap()-before) / held
	t.Logf("%d leases: %.0f bytes each, a binding %d; opened in %v", held, each, unsafe.Sizeof(binding{}), took)
	if each > 400 {
		t.Errorf("%.0f bytes a lease, want at most 400", each)
	}
	runtime.KeepAlive(m)
}

// filled opens a Manager that holds n leases, each with a name that DNS shows.
func filled(t testing.TB, dir string, fs vfs.FS, n int) *Manager {
	t.Helper()
	m, err := Open(dir, wideConfig(4_000_000), Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	var next atomic.Int64
	parallel(n, 256, func() { exchange(t, m, int(next.Add(1)-1), "client-with-a-name") })
	inDNS(t, m)
	return m
}

// inDNS confirms all changes of names.
func inDNS(t testing.TB, m *Manager) {
	for {
		changes := m.TakeNameChanges(1000)
		if len(changes) == 0 {
			return
		}
		for _, c := range changes {
			if err := m.ConfirmNameChange(c); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func parallel(n, workers int, f func()) {
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				f()
			}
		})
	}
	wg.Wait()
}

func exchange(t testing.TB, m *Manager, n int, host string) {
	q := Query{Client: numbered(n), Links: []netip.Addr{wideLink}, ServerID: server}
	if host != "" {
		q.Hostname = host + "-" + string(rune('a'+n%26)) + strconv.Itoa(n)
	}
	o, err := m.Discover(context.Background(), q)
	if err != nil || o.Kind != Offer {
		t.Error(o, err)
		return
	}
	q.SelectedServer, q.Requested = server, o.Lease.Address
	if a, err := m.Request(context.Background(), q); err != nil || a.Kind != Ack {
		t.Error(a, err)
	}
}

// processTime is the processor time that this process used, in nanoseconds.
func processTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
