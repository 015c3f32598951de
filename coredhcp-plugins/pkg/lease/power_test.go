package lease

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

const (
	powerDatabases = 10
	powerCuts      = 20 // of each database, one after the other
	powerWorkers   = 4
	powerClients   = 8   // of each worker
	powerPool      = 200 // addresses: fewer than were ever given
)

// What a client of TestPowerCuts is waiting for an answer to.
const (
	idle = iota
	asking
	renewal
	releasing
	declining
)

// powerClient is one client of TestPowerCuts, and what it was promised.
type powerClient struct {
	held     netip.Addr // acknowledged
	until    time.Time
	declined []netip.Addr
	doing    int
}

// powerRun is one database of TestPowerCuts and what is known of it.
type powerRun struct {
	t       *testing.T
	random  *rand.Rand
	mem     *vfs.MemFS
	clients [powerWorkers * powerClients]powerClient
	dns     fakeDNS // outlives the power cuts, as a server elsewhere does

	// gate is held while what is above changes, and while the power is cut: what was acknowledged before that is on
	// disk, and of each client at most one request is under way.
	gate  sync.Mutex
	owner map[netip.Addr]int // by address: who was promised it, by number
	left  int                // operations of the disk until the cut
	at    string             // what the name of the file of the next operation then ends with
	cut   *vfs.MemFS
	parts int // how many more to make of what was not synced
	more  []*vfs.MemFS
	then  [powerWorkers * powerClients]powerClient // at the cut
	on    string                                   // what the disk was doing
}

func (r *powerRun) String() string { return "power" }

// MaybeError cuts the power before one operation of the disk, whichever of Pebble's goroutines it is of.
func (r *powerRun) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.left--; r.cut == nil && r.left <= 0 && strings.HasSuffix(op.Path, r.at) {
		r.off(op.Path)
	}
	return nil
}

// off cuts the power. Caller holds gate.
func (r *powerRun) off(file string) {
	for i, c := range r.clients {
		c.declined = append([]netip.Addr(nil), c.declined...)
		r.then[i] = c
	}
	name := path.Base(file)
	switch i := strings.LastIndexByte(name, '.'); {
	case strings.HasPrefix(name, "MANIFEST"):
		r.on = "MANIFEST"
	case i > 0 && !strings.HasPrefix(name, "marker"):
		r.on = name[i:]
	default:
		r.on = "other"
	}
	r.cut = r.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.random.IntN(5) * 25, RNG: r.random})
	for range r.parts {
		r.more = append(r.more, r.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r.random}))
	}
}

func powerQuery(n int) Query {
	return Query{Client: numbered(n), Links: []netip.Addr{wideLink}, ServerID: server, Hostname: fmt.Sprintf("h%d", n)}
}

// open opens the database.
func (r *powerRun) open(fs vfs.FS) *Manager {
	r.t.Helper()
	m, err := Open("leases", wideConfig(powerPool), Options{FS: fs, memTable: 16 << 10, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// begin says what a client does next; false after the cut.
func (r *powerRun) begin(n int) (c powerClient, ok bool) {
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.cut != nil {
		return powerClient{}, false
	}
	p := &r.clients[n]
	p.doing = asking
	if p.held.IsValid() {
		p.doing = renewal
		switch k := r.random.IntN(20); {
		case k == 0 && len(p.declined) < maxDeclined: // one more, and the first would rest no longer
			p.doing = declining
		case k < 8:
			p.doing = releasing
		}
		if p.doing != renewal { // from now on, others may have it
			delete(r.owner, p.held)
		}
	}
	return *p, true
}

// end notes what the client was told.
func (r *powerRun) end(n int, l Lease) {
	r.gate.Lock()
	defer r.gate.Unlock()
	p := &r.clients[n]
	switch p.doing {
	case asking, renewal:
		if o, ok := r.owner[l.Address]; ok && o != n {
			r.t.Errorf("%v given to %d, held by %d", l.Address, n, o)
		}
		if p.doing == renewal && l.Address != p.held {
			r.t.Errorf("renewed %v and got %v", p.held, l.Address)
		}
		for i := range r.clients {
			for _, a := range r.clients[i].declined {
				if a == l.Address {
					r.t.Errorf("%v given to %d, declined by %d", a, n, i)
				}
			}
		}
		r.owner[l.Address] = n
		p.held, p.until = l.Address, l.Expires
	case declining:
		p.declined = append(p.declined, p.held)
		p.held = netip.Addr{}
	case releasing:
		p.held = netip.Addr{}
	}
	p.doing = idle
}

// exchange has one client do one thing; false after the cut.
func (r *powerRun) exchange(ctx context.Context, m *Manager, n int) bool {
	c, ok := r.begin(n)
	if !ok {
		return false
	}
	q := powerQuery(n)
	var a Answer
	var err error
	switch c.doing {
	case asking:
		if a, err = m.Discover(ctx, q); err == nil && a.Kind == Offer {
			a, err = m.Request(ctx, selecting(q, a.Lease.Address))
		}
	case renewal:
		a, err = m.Request(ctx, renewing(q, c.held))
	case releasing:
		q.ClientAddr = c.held
		ok, err = m.Release(ctx, q)
	case declining:
		q.Requested, q.SelectedServer = c.held, server
		ok, err = m.Decline(ctx, q)
	}
	if err != nil || !ok || (c.doing == asking || c.doing == renewal) && a.Kind != Ack {
		r.t.Errorf("client %d with %v: %v, %v, %s, %v", n, c.held, ok, a.Kind, a.Reason, err)
		return false
	}
	r.end(n, a.Lease)
	return true
}

// tellDNS makes one change of names; false after the cut.
func (r *powerRun) tellDNS(m *Manager) (ok bool) {
	for _, c := range m.TakeNameChanges(4) {
		r.gate.Lock()
		ok = r.cut == nil
		if ok {
			r.dns.make(c)
		}
		r.gate.Unlock()
		if !ok {
			return false
		}
		if err := m.ConfirmNameChange(c); err != nil {
			r.t.Error(err)
		}
	}
	r.gate.Lock()
	defer r.gate.Unlock()
	return r.cut == nil
}

// load runs the clients until the power is cut, at the latest when the database is closed.
func (r *powerRun) load() {
	r.left, r.at, r.cut = 1+r.random.IntN(1000), "", nil
	if r.random.IntN(3) == 0 { // while changes move to a table
		r.at = ".sst"
	}
	each := 1 + r.random.IntN(500)
	if r.random.IntN(4) == 0 {
		r.left = 1 + r.random.IntN(40) // while it opens
	}
	m := r.open(errorfs.Wrap(r.mem, r))
	ctx, cancel := context.WithCancel(context.Background())
	var helpers, workers sync.WaitGroup
	helpers.Go(func() {
		if err := m.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	helpers.Go(func() {
		for ctx.Err() == nil && r.tellDNS(m) {
			time.Sleep(time.Millisecond)
		}
	})
	for w := range powerWorkers {
		workers.Go(func() {
			for i := 0; i < each && r.exchange(ctx, m, w*powerClients+i%powerClients); i++ {
			}
		})
	}
	workers.Wait()
	cancel()
	helpers.Wait()
	if err := m.Close(); err != nil {
		r.t.Error(err)
	}
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.cut == nil {
		r.off("closed")
	}
}

// check compares the leases with what the clients knew at the cut, and goes on from what it finds.
func (r *powerRun) check(m *Manager) {
	r.t.Helper()
	ctx := context.Background()
	holder := map[string]netip.Addr{}
	for l, err := range m.Leases() {
		if err != nil {
			r.t.Fatal(err)
		}
		if l.State != Active {
			continue
		}
		if a, ok := holder[l.Client.Key()]; ok {
			r.t.Errorf("%x holds %v and %v", l.Client.HardwareAddr, a, l.Address)
		}
		holder[l.Client.Key()] = l.Address
	}
	clear(r.owner)
	for n := range r.then {
		c := &r.then[n]
		q := powerQuery(n)
		found, ok := holder[q.Client.Key()]
		switch c.doing {
		case asking:
			c.held = found
		case releasing, declining:
			l, _ := m.Lease(c.held)
			if found != c.held && l.State == Active && l.Client == q.Client || ok && found != c.held {
				r.t.Errorf("client %d gave back %v and holds %v", n, c.held, found)
			}
			if l.State == Declined {
				c.declined = append(c.declined, c.held)
			}
			c.held = found
		default:
			if found != c.held {
				r.t.Errorf("client %d has %v, and %v was acknowledged", n, found, c.held)
			}
		}
		if l, _ := m.Lease(c.held); c.held.IsValid() && l.Expires.Before(c.until) && c.doing == renewal {
			r.t.Errorf("client %d: the lease of %v ends %v, and %v was acknowledged", n, c.held, l.Expires, c.until)
		}
		c.doing = idle
		for _, a := range c.declined {
			if l, _ := m.Lease(a); l.State != Declined {
				r.t.Errorf("%v was declined and is %v", a, l.State)
			}
		}
		if c.held.IsValid() { // switched on again, it keeps its address
			a, err := m.Request(ctx, rebooting(q, c.held))
			if err != nil || a.Kind != Ack || a.Lease.Address != c.held {
				r.t.Errorf("client %d asks for its %v: %v %v %s, %v", n, c.held, a.Kind, a.Lease.Address, a.Reason, err)
			}
			c.until = a.Lease.Expires
			r.owner[c.held] = n
		}
		r.clients[n] = *c
	}
	r.checkNames(m)
}

// checkNames lets everything be told to DNS, which must then show the names of those that hold an address, and no other.
func (r *powerRun) checkNames(m *Manager) {
	r.t.Helper()
	f := &fixture{T: r.t, Manager: m}
	f.drain(r.dns)
	held := 0
	for n := range r.clients {
		if a := r.clients[n].held; a.IsValid() {
			held++
			if got := r.dns[fmt.Sprintf("h%d.example.org.", n)]; got.addr != a {
				r.t.Errorf("client %d has %v, and DNS shows %v", n, a, got.addr)
			}
		}
	}
	if len(r.dns) != held {
		r.t.Errorf("%d names in DNS, %d leases", len(r.dns), held)
	}
}

// The power is cut 200 times, at any operation of the disk: while a database is made or opened after the last cut, in
// commits, and while logs, tables and manifests are made and removed. What was not synced, files' content and entries of
// the directory, is lost, or is there in part. Nobody may lose what was acknowledged, no address may go to two clients,
// and DNS follows.
func TestPowerCuts(t *testing.T) {
	var mu sync.Mutex
	on := make(map[string]int)
	t.Run("databases", func(t *testing.T) {
		for n := range powerDatabases / fewer {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				seed := rand.Uint64()
				r := &powerRun{
					t: t, random: rand.New(rand.NewPCG(seed, uint64(n))), mem: vfs.NewCrashableMem(),
					dns: fakeDNS{}, owner: map[netip.Addr]int{},
				}
				for cut := range powerCuts {
					r.load()
					m := r.open(r.cut)
					r.check(m)
					if err := m.Close(); err != nil {
						t.Error(err)
					}
					if t.Failed() {
						t.Fatalf("cut %d, at %s; random numbers from %d", cut, r.on, seed)
					}
					r.mem = r.cut
					mu.Lock()
					on[r.on]++
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("cut while the disk wrote: %v", on)
	for _, what := range []string{".log", ".sst", "MANIFEST"} {
		if on[what] == 0 && !t.Failed() && fewer == 1 {
			t.Errorf("no cut at %s: %v", what, on)
		}
	}
}

// The power is cut at every operation of the disk while a database is opened that has logs to be read, and each time
// another part of what was not synced is there. Every such database opens, with what it had.
func TestPowerCutWhileOpening(t *testing.T) {
	base := vfs.NewCrashableMem()
	const clients = 30
	m := filled(t, "leases", base, clients)
	killed := base.CrashClone(vfs.CrashCloneCfg{})
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	cuts := 0
	for at, reached := 1, true; reached; at++ {
		r := &powerRun{t: t, random: random, mem: killed.CrashClone(vfs.CrashCloneCfg{}), left: at, parts: 6}
		m, err := Open("leases", wideConfig(1<<16), Options{FS: errorfs.Wrap(r.mem, r)})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		reached = r.cut != nil
		for _, cut := range r.more {
			m, err := Open("leases", wideConfig(1<<16), Options{FS: cut})
			if err != nil {
				t.Fatalf("cut at %s: %v", r.on, err)
			}
			n := 0
			for l, err := range m.Leases() {
				if err != nil {
					t.Fatal(err)
				}
				if l.State == Active {
					n++
				}
			}
			if n != clients {
				t.Errorf("cut at %s: %d leases, want %d", r.on, n, clients)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			cuts++
		}
	}
	if cuts < 100 {
		t.Errorf("only %d cuts", cuts)
	}
}

// The disk is full from any of its operations on while a database is opened again that has logs and tables to be read.
// That fails, at once and without a panic of what Pebble does in the background, and works when there is space again.
func TestFullDiskWhileOpening(t *testing.T) {
	base := vfs.NewCrashableMem()
	m, err := Open("leases", wideConfig(powerPool), Options{FS: base, memTable: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	const clients = 150
	for n := range clients {
		exchange(t, m, n, "client-with-a-name")
	}
	killed := base.CrashClone(vfs.CrashCloneCfg{})
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for at, reached := 1, true; reached; at++ {
		var left, hit atomic.Int64
		left.Store(int64(at))
		mem := killed.CrashClone(vfs.CrashCloneCfg{})
		full := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || left.Add(-1) >= 0 {
				return nil
			}
			hit.Add(1)
			return syscall.ENOSPC
		}))
		m, err := Open("leases", wideConfig(powerPool), Options{FS: full, memTable: 16 << 10})
		if err == nil {
			_ = m.Close() // may fail or not: everything is on disk already
		}
		reached = hit.Load() > 0
		if m, err = Open("leases", wideConfig(powerPool), Options{FS: mem, memTable: 16 << 10}); err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		n := 0
		for l, err := range m.Leases() {
			if err != nil {
				t.Fatal(err)
			}
			if l.State == Active {
				n++
			}
		}
		if n != clients {
			t.Errorf("at %d: %d leases, want %d", at, n, clients)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A copy that finds no space does no harm to the database, whatever of it cannot be written.
func TestFullDiskOfBackup(t *testing.T) {
	for at, reached := int64(1), true; reached; at++ {
		var left, hit atomic.Int64
		left.Store(at)
		full := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if !strings.HasPrefix(op.Path, "copies") || op.Kind.ReadOrWrite() != errorfs.OpIsWrite || left.Add(-1) >= 0 {
				return nil
			}
			hit.Add(1)
			return syscall.ENOSPC
		}))
		m, err := Open("leases", wideConfig(powerPool), Options{FS: full, memTable: 16 << 10})
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, m, 1, "client-with-a-name")
		err = m.Backup("copies")
		if reached = hit.Load() > 0; reached == (err == nil) {
			t.Errorf("at %d: %v", at, err)
		}
		if m.store.current().broken() != nil {
			t.Errorf("at %d: the database failed with its copy: %v, %v", at, err, m.store.current().guard.cause.Load())
		}
		exchange(t, m, 2, "client-with-a-name")
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
