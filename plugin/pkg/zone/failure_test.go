package zone

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/miekg/dns"
)

const testOrigin = "example.org."

func testRR(t testing.TB, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return rr
}

func testSeed(t testing.TB) func() ([]dns.RR, error) {
	return func() ([]dns.RR, error) {
		return []dns.RR{
			testRR(t, "example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 10 3600 600 86400 60"),
			testRR(t, "example.org. 300 IN NS ns.example.org."),
		}, nil
	}
}

func permitAll(string, uint16) bool { return true }

func contents(z *Zone) []string {
	var out []string
	for rr := range z.Snapshot().All() {
		out = append(out, rr.String())
	}
	return out
}

func openMem(t testing.TB, fs vfs.FS) (*Store, *Zone) {
	t.Helper()
	s, err := Open("db", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	z, err := s.Zone(testOrigin, testSeed(t))
	if err != nil {
		t.Fatal(err)
	}
	return s, z
}

// pair is an update of two names that stand or fall together. filler makes it large, so that logs fill up.
func pair(t testing.TB, i int, filler string) []dns.RR {
	return []dns.RR{
		testRR(t, fmt.Sprintf("a%d.example.org. 60 IN A 192.0.2.1", i)),
		testRR(t, fmt.Sprintf("b%d.example.org. 60 IN TXT \"%d\"%s", i, i, filler)),
	}
}

// checkPairs fails unless the zone holds the pairs that were acknowledged, no half of one, and as many as the serial says.
func checkPairs(t *testing.T, z *Zone, acknowledged []int) {
	t.Helper()
	s := z.Snapshot()
	n := 0
	for rr := range s.All() {
		if rest, ok := strings.CutPrefix(rr.Header().Name, "a"); ok {
			n++
			if s.RRset("b"+rest, dns.TypeTXT) == nil {
				t.Errorf("half an update: %s", rr)
			}
		}
	}
	if s.Len() != 2+2*n {
		t.Errorf("%d records for %d updates", s.Len(), n)
	}
	if want := uint32(10 + n); s.Serial() != want {
		t.Errorf("serial %d with %d updates", s.Serial(), n)
	}
	for _, i := range acknowledged {
		if s.RRset(fmt.Sprintf("a%d.example.org.", i), dns.TypeA) == nil {
			t.Errorf("acknowledged update %d is lost", i)
		}
	}
}

// checkHistory fails unless the journal is whole, as much of it as fits, and each revision says exactly what the pair did
// that made the zone's serial so.
func checkHistory(t *testing.T, z *Zone) {
	t.Helper()
	checkJournal(t, z)
	s := z.Snapshot()
	revisions := s.state.journal.revisions
	if len(revisions) == 0 && s.Serial() != 10 {
		t.Error("no journal")
	}
	for i, r := range revisions {
		if want := s.Serial() - uint32(len(revisions)-i); r.from != want {
			t.Errorf("revision %d is from serial %d, want %d", i, r.from, want)
		}
		ps := mustSplit(r.value)
		if len(ps.removed) != 0 || len(ps.added) != 2 {
			t.Errorf("revision %d removes %d records and adds %d", i, len(ps.removed), len(ps.added))
		}
		for _, wire := range ps.added {
			rr, _, err := dns.UnpackRR(wire, 0)
			if err != nil {
				t.Fatal(err)
			}
			if findData(s.RRset(rr.Header().Name, rr.Header().Rrtype), rr) < 0 {
				t.Errorf("the journal has %.60s, and the zone does not", rr)
			}
		}
	}
}

// A power cut keeps what was synced, and any part of what was not.
func TestPowerCut(t *testing.T) {
	filler := strings.Repeat(` "`+strings.Repeat("x", 250)+`"`, 100)
	for round, unsynced := range []int{0, 0, 0, 30, 70, 100} {
		t.Run(fmt.Sprintf("%d, %d%% of the rest written", round, unsynced), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			s, z := openMem(t, fs)
			var mu sync.Mutex
			var acknowledged []int
			var stop atomic.Bool
			var wg sync.WaitGroup
			const clients = 4
			for c := range clients {
				wg.Go(func() {
					for i := c; !stop.Load(); i += clients {
						rcode, err := z.Update(context.Background(), nil, pair(t, i, filler), permitAll)
						if rcode != dns.RcodeSuccess || err != nil {
							t.Errorf("%d, %v", rcode, err)
							return
						}
						mu.Lock()
						acknowledged = append(acknowledged, i)
						mu.Unlock()
					}
				})
			}
			want := 5 + round*13
			for {
				mu.Lock()
				n := len(acknowledged)
				mu.Unlock()
				if n >= want || t.Failed() {
					break
				}
				time.Sleep(time.Millisecond)
			}
			mu.Lock()
			before := slices.Clone(acknowledged)
			mu.Unlock()
			cut := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(1, uint64(round)))})
			stop.Store(true)
			wg.Wait()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			after, err := Open("db", Options{FS: cut})
			if err != nil {
				t.Fatal(err)
			}
			defer after.Close()
			again, err := after.Zone(testOrigin, func() ([]dns.RR, error) { return nil, errors.New("seeded again") })
			if err != nil {
				t.Fatal(err)
			}
			checkPairs(t, again, before)
			checkHistory(t, again)
		})
	}
}

// everyWrite is how many writes lie between two that the test of a failing disk lets fail, after the first 60, each of
// which it lets fail.
var everyWrite = flag.Int("every-write", 29, "let every n-th write fail in TestFailingDisk")

// faults fails write operations: the one number `at`, or all from there on.
type faults struct {
	armed   atomic.Bool
	n       atomic.Int64
	at      int64
	forever bool
	hit     atomic.Bool
}

func (f *faults) String() string { return "faults" }

func (f *faults) MaybeError(op errorfs.Op) error {
	if !f.armed.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpLock {
		return nil
	}
	n := f.n.Add(1) - 1
	if n == f.at || f.forever && n > f.at {
		f.hit.Store(true)
		return syscall.ENOSPC
	}
	return nil
}

// Whatever write fails, once or from then on: nothing false is told, nothing told is lost, questions are answered, the
// process lives, and when the disk works again so does the zone.
func TestFailingDisk(t *testing.T) {
	filler := strings.Repeat(` "`+strings.Repeat("x", 250)+`"`, 100) // several logs in the course of one round
	step := int64(*everyWrite * fewer)
	for _, forever := range []bool{false, true} {
		reached := true
		for at := int64(0); reached && at < 600; {
			f := &faults{at: at, forever: forever}
			mem := vfs.NewCrashableMem()
			s, z := openMem(t, errorfs.Wrap(mem, f))
			s.reopenIn = 0
			f.armed.Store(true)
			var acknowledged []int
			failed := 0
			for i := range 24 {
				before := contents(z)
				rcode, err := z.Update(context.Background(), nil, pair(t, i, filler), permitAll)
				switch {
				case rcode == dns.RcodeSuccess && err == nil:
					acknowledged = append(acknowledged, i)
				case rcode == dns.RcodeServerFailure && err != nil:
					failed++
					if !slices.Equal(before, contents(z)) {
						t.Fatalf("at %d: a failed update is published", at)
					}
				default:
					t.Fatalf("at %d: %d, %v", at, rcode, err)
				}
			}
			reached = f.hit.Load()
			if forever && reached && at == 0 && failed == 0 {
				t.Error("no update failed on a dead disk")
			}
			checkPairs(t, z, acknowledged)
			f.armed.Store(false)
			rcode, err := z.Update(context.Background(), nil, pair(t, 1000, ""), permitAll)
			if rcode != dns.RcodeSuccess || err != nil {
				t.Fatalf("at %d, forever %t: the disk works again, and an update fails: %d, %v", at, forever, rcode, err)
			}
			acknowledged = append(acknowledged, 1000)
			checkPairs(t, z, acknowledged)
			want := contents(z)
			cut := mem.CrashClone(vfs.CrashCloneCfg{})
			if err := s.Close(); err != nil {
				t.Errorf("at %d: %v", at, err)
			}
			for name, fs := range map[string]vfs.FS{"closed": mem, "cut": cut} {
				s, err := Open("db", Options{FS: fs})
				if err != nil {
					t.Fatalf("at %d, forever %t, %s: %v", at, forever, name, err)
				}
				z, err := s.Zone(testOrigin, func() ([]dns.RR, error) { return nil, errors.New("seeded again") })
				if err != nil {
					t.Fatalf("at %d, forever %t, %s: %v", at, forever, name, err)
				}
				checkHistory(t, z)
				got := contents(z)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("at %d, forever %t, %s: disk and memory differ: %d and %d records", at, forever, name, len(got), len(want))
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if t.Failed() {
				return
			}
			if at++; at > 60/fewer {
				at += step - 1
			}
		}
	}
}

// A disk that takes logs and no tables does not keep the process busy, and makes no more noise than it needs to.
func TestFullDiskIsQuiet(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprintf("log fails too: %t", frozen), func(t *testing.T) {
			var full atomic.Bool
			var tries, lines atomic.Int64
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if full.Load() && op.Kind == errorfs.OpCreate && (strings.HasSuffix(op.Path, ".sst") || frozen && isLog(op.Path)) {
					tries.Add(1)
					return syscall.ENOSPC
				}
				return nil
			}))
			s, err := Open("db", Options{FS: fs, Logger: slog.New(lineCounter{&lines})})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.reopenIn = 10 * time.Millisecond
			z, err := s.Zone(testOrigin, testSeed(t))
			if err != nil {
				t.Fatal(err)
			}
			full.Store(true)
			j := newJob(context.Background())
			j.exec = func() error { _, err := s.db.AsyncFlush(); return err }
			if err := s.submit(j); err != nil {
				t.Fatal(err)
			}
			for tries.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(300 * time.Millisecond)
			if n := tries.Load(); n > 20 {
				t.Errorf("%d tries while nobody asked for anything", n)
			}
			for range 20 { // a steady stream of updates
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				_, _ = z.Update(ctx, nil, pair(t, 1, ""), permitAll)
				cancel()
				time.Sleep(10 * time.Millisecond)
			}
			if n := lines.Load(); n == 0 || n > 4 {
				t.Errorf("%d lines in the log", n)
			}
			full.Store(false)
			time.Sleep(2 * s.reopenIn)
			if rcode, err := z.Update(context.Background(), nil, pair(t, 2, ""), permitAll); rcode != dns.RcodeSuccess {
				t.Errorf("the disk works again: %d, %v", rcode, err)
			}
		})
	}
}

// A flush that fails once is made up for without waiting for the next update.
func TestFailedFlushHeals(t *testing.T) {
	var full atomic.Bool
	var lines atomic.Int64
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") && full.CompareAndSwap(true, false) {
			return syscall.ENOSPC
		}
		return nil
	}))
	s, err := Open("db", Options{FS: fs, Logger: slog.New(lineCounter{&lines})})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Zone(testOrigin, testSeed(t)); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	j := newJob(context.Background())
	j.exec = func() error { _, err := s.db.AsyncFlush(); return err }
	if err := s.submit(j); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); lines.Load() < 2; time.Sleep(time.Millisecond) { // failed, and works again
		if time.Now().After(deadline) {
			t.Fatalf("%d lines in the log", lines.Load())
		}
	}
}

// lineCounter is a logger that counts.
type lineCounter struct{ n *atomic.Int64 }

func (c lineCounter) Enabled(context.Context, slog.Level) bool      { return true }
func (c lineCounter) Handle(_ context.Context, r slog.Record) error { c.n.Add(1); return nil }
func (c lineCounter) WithAttrs([]slog.Attr) slog.Handler            { return c }
func (c lineCounter) WithGroup(string) slog.Handler                 { return c }

// A group that fails is told so whole, also those in it that needed no write, because they saw what never was.
func TestFailedGroup(t *testing.T) {
	f := &faults{forever: true}
	s, z := openMem(t, errorfs.Wrap(vfs.NewMem(), f))
	defer s.Close()
	s.reopenIn = time.Hour
	f.armed.Store(true)
	hold, held := make(chan struct{}), make(chan struct{})
	blocker := newJob(context.Background())
	blocker.exec = func() error { close(held); <-hold; return nil }
	if err := s.submit(blocker); err != nil {
		t.Fatal(err)
	}
	<-held
	name := "a.example.org."
	prerequisite := []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeANY, Class: dns.ClassNONE}}}
	rcodes := make(chan int, 3)
	for range 3 {
		go func() {
			rcode, _ := z.Update(context.Background(), prerequisite, []dns.RR{testRR(t, name+" 5 IN A 192.0.2.1")}, permitAll)
			rcodes <- rcode
		}()
	}
	for len(s.jobs) < 3 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	for range 3 {
		if rcode := <-rcodes; rcode != dns.RcodeServerFailure {
			t.Errorf("%s", dns.RcodeToString[rcode])
		}
	}
	// Rules that came in a group that fails are not kept.
	group := []*job{newJob(context.Background()), newJob(context.Background())}
	for i, j := range group {
		var rules Derive = func(*Candidate, []string) []Change { return nil }
		j.zone, j.rules = z, &rules
		j.run = func(c *Candidate) verdict {
			if i == 0 {
				return accepted
			}
			u := prepare(&z.apex, nil, pair(t, 9, ""), permitAll)
			return c.update(&u)
		}
	}
	both := newJob(context.Background())
	both.exec = func() error { s.commit(group); return nil }
	if _, err := z.do(both); err != nil || z.derive != nil {
		t.Errorf("%v, rules %p", err, z.derive)
	}
	// Failing prerequisites need no disk.
	rcode, err := z.Update(context.Background(), []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeANY, Class: dns.ClassANY}}}, nil, permitAll)
	if rcode != dns.RcodeNameError || err != nil {
		t.Errorf("%d, %v", rcode, err)
	}
	// The first attempt to open the database again fails, and the next one waits its time.
	if rcode, err := z.Update(context.Background(), nil, pair(t, 1, ""), permitAll); rcode != dns.RcodeServerFailure || err == nil {
		t.Errorf("%d, %v", rcode, err)
	}
	f.armed.Store(false)
	if rcode, err := z.Update(context.Background(), nil, pair(t, 1, ""), permitAll); rcode != dns.RcodeServerFailure || err == nil {
		t.Errorf("opened again at once: %d, %v", rcode, err)
	}
}

// Every kind of damage to what is stored is found, and named.
func TestCorruptDatabase(t *testing.T) {
	id := uint32(1)
	key := func(owner string, typ uint16, data ...byte) []byte { return appendRecordKey(nil, id, owner, typ, data) }
	good := []byte{0, 0, 0, 0, 60}
	tests := []struct {
		name string
		edit []mutation
		open bool // found when the database is opened, not when the zone is loaded
		want string
	}{
		{"newer format", []mutation{{[]byte{keyFormat}, []byte(formatText + "2")}}, true, "newer"},
		{"other format", []mutation{{[]byte{keyFormat}, []byte("leases 1")}}, true, "leases"},
		{"no format", []mutation{{[]byte{keyFormat}, nil}}, true, "format"},
		{"zone number", []mutation{{zoneKey(testOrigin), []byte{1}}}, false, "number"},
		{"no head", []mutation{{idKey(keyHead, id), nil}}, false, "head"},
		{"short head", []mutation{{idKey(keyHead, id), []byte{0, 1}}}, false, "head"},
		{"head with flags", []mutation{{idKey(keyHead, id), make([]byte, 40)}, {idKey(keyHead, id), append([]byte{0x80}, make([]byte, 40)...)}}, false, "head"},
		{"head without a name server", []mutation{{idKey(keyHead, id), make([]byte, 14)}}, false, "SOA"},
		{"a record lost", []mutation{{key("", dns.TypeNS, 2, 'n', 's', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 3, 'o', 'r', 'g', 0), nil}}, false, "1 records, and its head says 2"},
		{"a record too many", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), good}}, false, "3 records"},
		{"short value", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), []byte{0}}}, false, "value"},
		{"value with more", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), append(slices.Clone(good), 0)}}, false, "too many"},
		{"value with a flag", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), []byte{4, 0, 0, 0, 60}}}, false, "value"},
		{"owner of another key", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), append([]byte{flagOwner, 0, 0, 0, 60}, 1, 'B', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 3, 'o', 'r', 'g', 0)}}, false, "owner"},
		{"owner in lower case", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), append([]byte{flagOwner, 0, 0, 0, 60}, 1, 'a', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 3, 'o', 'r', 'g', 0)}}, false, "owner"},
		{"owner cut off", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), []byte{flagOwner, 0, 0, 0, 60}}}, false, "owner"},
		{"TTL", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), []byte{0, 0x80, 0, 0, 0}}}, false, "TTL"},
		{"two TTLs", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), good}, {key("a\x00", dns.TypeA, 192, 0, 2, 2), []byte{0, 0, 0, 0, 61}}}, false, "two TTLs"},
		{"two spellings", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), good}, {key("a\x00", dns.TypeA, 192, 0, 2, 2), append([]byte{flagOwner, 0, 0, 0, 60}, 1, 'A', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 3, 'o', 'r', 'g', 0)}}, false, "spellings"},
		{"CNAME and data", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1), good}, {key("a\x00", dns.TypeCNAME, 0), good}}, false, "CNAME"},
		{"data too short", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2), good}}, false, "A record data"},
		{"data too long", []mutation{{key("a\x00", dns.TypeA, 192, 0, 2, 1, 1), good}}, false, "A record data"},
		{"no data", []mutation{{key("a\x00", dns.TypeA), good}}, false, "without data"},
		{"type ANY", []mutation{{key("a\x00", dns.TypeANY, 1), good}}, false, "ANY"},
		{"type DS", []mutation{{key("a\x00", dns.TypeDS, 1), good}}, false, "DS"},
		{"SOA among the records", []mutation{{key("a\x00", dns.TypeSOA, 1), good}}, false, "SOA"},
		{"capital in the key", []mutation{{key("A\x00", dns.TypeA, 192, 0, 2, 1), good}}, false, "key"},
		{"escape in the key", []mutation{{key("a\x01\x07\x00", dns.TypeA, 192, 0, 2, 1), good}}, false, "key"},
		{"label too long", []mutation{{key(strings.Repeat("a", 64)+"\x00", dns.TypeA, 192, 0, 2, 1), good}}, false, "key"},
		{"name too long", []mutation{{key(strings.Repeat("aaaaaaa\x00", 40), dns.TypeA, 192, 0, 2, 1), good}}, false, "key"},
		{"key cut off", []mutation{{idKey(keyRecord, id), good}}, false, "key"},
		{"owner without an end", []mutation{{append(idKey(keyRecord, id), "abc"...), good}}, false, "key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := vfs.NewMem()
			s, _ := openMem(t, fs)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			db, err := pebble.Open("db", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatTableFormatV6, Logger: newGuard(fs, slog.New(slog.DiscardHandler), newAlarm())})
			if err != nil {
				t.Fatal(err)
			}
			batch := db.NewBatch()
			if err := errors.Join(appendBatch(batch, tt.edit), batch.Commit(pebble.Sync), db.Close()); err != nil {
				t.Fatal(err)
			}
			s, err = Open("db", Options{FS: fs})
			if err == nil {
				defer s.Close()
				if tt.open {
					t.Fatal("opened")
				}
				_, err = s.Zone(testOrigin, func() ([]dns.RR, error) {
					t.Error("seeded instead")
					return nil, errors.New("seeded")
				})
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `"db"`) || tt.want != "newer" && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	t.Run("truncated file", func(t *testing.T) {
		fs := vfs.NewMem()
		s, z := openMem(t, fs)
		for i := range 20 {
			if rcode, err := z.Update(context.Background(), nil, pair(t, i, ""), permitAll); rcode != 0 {
				t.Fatal(err)
			}
		}
		db := s.db
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := fs.List("db")
		if err != nil {
			t.Fatal(err)
		}
		cut := 0
		for _, name := range names {
			if strings.HasSuffix(name, ".sst") {
				path := fs.PathJoin("db", name)
				data, err := fs.UnsafeGetFileDataBuffer(path)
				if err != nil {
					t.Fatal(err)
				}
				data = slices.Clone(data[:len(data)/2])
				file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := file.Write(data); err != nil {
					t.Fatal(err)
				}
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
				cut++
			}
		}
		if cut == 0 {
			t.Fatal("no table")
		}
		s, err = Open("db", Options{FS: fs})
		if err == nil {
			defer s.Close()
			_, err = s.Zone(testOrigin, testSeed(t))
		}
		if err == nil {
			t.Fatal("a truncated table was accepted")
		}
	})
}
