package zone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
)

// version is a zone as a secondary holds it: the text of its records.
func version(s *Snapshot) map[string]bool {
	m := make(map[string]bool)
	for rr := range s.All() {
		m[rr.String()] = true
	}
	return m
}

// applyDifference makes a copy of old what it should be after d, as strictly as a secondary can be.
func applyDifference(t testing.TB, old map[string]bool, d Difference) map[string]bool {
	t.Helper()
	m := make(map[string]bool, len(old))
	for text := range old {
		m[text] = true
	}
	remove := func(rr dns.RR) {
		if !m[rr.String()] {
			t.Fatalf("%s is to be removed and not there", rr)
		}
		delete(m, rr.String())
	}
	add := func(rr dns.RR) {
		if m[rr.String()] {
			t.Fatalf("%s is to be added and there already", rr)
		}
		m[rr.String()] = true
	}
	remove(d.From)
	for _, rr := range d.Removed {
		remove(rr)
	}
	for _, rr := range d.Added {
		add(rr)
	}
	add(d.To)
	return m
}

func sameVersion(a, b map[string]bool) bool {
	for text := range a {
		if !b[text] {
			return false
		}
	}
	return len(a) == len(b)
}

// checkJournal takes every revision of the journal apart, from the first serial on.
func checkJournal(t testing.TB, z *Zone) {
	t.Helper()
	s := z.Snapshot()
	j := &s.state.journal
	octets := 0
	var last []byte
	for i, r := range j.revisions {
		var p packer
		again, ps, err := z.apex.decodeRevision(r.value, &p)
		if err != nil || again.from != r.from {
			t.Fatalf("revision %d: %v", i, err)
		}
		if last != nil && !bytes.Equal(last, ps.was) {
			t.Fatalf("gap before serial %d", r.from)
		}
		last, octets = ps.is, octets+len(r.value)
	}
	if octets != j.octets {
		t.Fatalf("journal counts %d octets, and has %d", j.octets, octets)
	}
}

// Whatever is updated, the difference from any former serial leads to the zone exactly; in memory, and after each time
// that the database was opened anew.
func TestDifferencesAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	fs := vfs.NewMem()
	s, z := openMem(t, fs)
	versions := map[uint32]map[string]bool{z.Snapshot().Serial(): version(z.Snapshot())}
	names := []string{"a", "A", "b.a", "b", "B", "*.c", `\000.d`}
	for range 12 { // so that the zone is larger than most differences
		names = append(names, fmt.Sprintf("Host%d", len(names)))
	}
	known, whole := 0, 0
	for step := range 400 {
		if r.IntN(20) == 0 {
			var site []dns.RR
			for range r.IntN(5) {
				site = append(site, testRR(t, fmt.Sprintf("%s.example.org. 60 IN TXT \"site %d\"", names[r.IntN(len(names))], r.IntN(3))))
			}
			if r.IntN(2) == 0 {
				site = append(site, testRR(t, fmt.Sprintf("example.org. 300 IN SOA ns%d.example.org. h. 0 1 1 1 60", r.IntN(2))))
			}
			if _, err := z.ReplaceSite(context.Background(), func(*Candidate) ([]dns.RR, Derive) { return site, nil }); err != nil {
				t.Fatal(err)
			}
		}
		var updates []dns.RR
		for range r.IntN(4) + 1 {
			name := names[r.IntN(len(names))] + ".example.org."
			text := fmt.Sprintf("%s %d IN A 192.0.2.%d", name, r.IntN(2), r.IntN(3))
			if r.IntN(2) == 0 {
				text = fmt.Sprintf("%s %d IN MX %d %s.example.org.", name, r.IntN(2), r.IntN(2), names[r.IntN(3)])
			}
			rr := testRR(t, text)
			switch r.IntN(5) {
			case 0:
				rr.Header().Class, rr.Header().Ttl = dns.ClassNONE, 0
			case 1:
				rr = &dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: rr.Header().Rrtype, Class: dns.ClassANY}}
			}
			updates = append(updates, rr)
		}
		if r.IntN(30) == 0 && z.Snapshot().state.get("").set(dns.TypeSOA).site == 0 {
			soa := dns.Copy(z.Snapshot().SOA()).(*dns.SOA)
			soa.Serial = nextSerial(soa.Serial + uint32(r.IntN(1<<28)))
			updates = append(updates, soa)
		}
		if rcode, err := z.Update(context.Background(), nil, updates, permitAll); err != nil && !errors.Is(err, ErrSiteRecord) {
			t.Fatalf("%v: %d, %v", updates, rcode, err)
		}
		now := version(z.Snapshot())
		versions[z.Snapshot().Serial()] = now
		if step%50 == 49 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, z = openMem(t, fs)
		}
		if step%5 != 0 && step%50 != 49 {
			continue
		}
		checkJournal(t, z)
		for serial, old := range versions {
			d, ok := z.Snapshot().Since(serial)
			if serial == z.Snapshot().Serial() {
				if ok {
					t.Fatal("a difference from a version to itself")
				}
				continue
			}
			if !ok {
				whole++
				continue
			}
			known++
			if d.From.Serial != serial || d.To != z.Snapshot().SOA() {
				t.Fatalf("from %v to %v", d.From, d.To)
			}
			if got := applyDifference(t, old, d); !sameVersion(got, now) {
				t.Fatalf("step %d: the difference from %d leads to another zone", step, serial)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if known < 1000 || whole == 0 {
		t.Errorf("%d differences, and %d times the whole zone", known, whole)
	}
}

func addOne(t testing.TB, z *Zone, text string) {
	t.Helper()
	if rcode, err := z.Update(context.Background(), nil, []dns.RR{testRR(t, text)}, permitAll); rcode != dns.RcodeSuccess {
		t.Fatal(rcode, err)
	}
}

// The oldest revisions go when there are too many or too large ones, on disk at the same time.
func TestJournalIsBounded(t *testing.T) {
	onDisk := func(t *testing.T, s *Store) (n int) {
		t.Helper()
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyJournal}, UpperBound: []byte{keyJournal + 1}})
		if err != nil {
			t.Fatal(err)
		}
		for it.First(); it.Valid(); it.Next() {
			n++
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Run("octets", func(t *testing.T) {
		fs := vfs.NewMem()
		s, z := openMem(t, fs)
		first := z.Snapshot().Serial()
		filler := strings.Repeat(` "`+strings.Repeat("x", 250)+`"`, 100)
		for i := range 40 {
			addOne(t, z, fmt.Sprintf("a.example.org. 5 IN TXT \"%d\"%s", i, filler))
			addOne(t, z, fmt.Sprintf("a.example.org. 0 NONE TXT \"%d\"%s", i, filler))
			j := z.Snapshot().state.journal
			if j.octets > minJournal || len(j.revisions) > 42 || onDisk(t, s) != len(j.revisions) {
				t.Fatalf("%d octets, %d revisions, %d on disk", j.octets, len(j.revisions), onDisk(t, s))
			}
		}
		checkJournal(t, z)
		if _, ok := z.Snapshot().Since(first); ok {
			t.Error("a difference from the first version")
		}
		addOne(t, z, "b.example.org. 5 IN A 192.0.2.1")
		if d, ok := z.Snapshot().Since(z.Snapshot().Serial() - 1); !ok || len(d.Added) != 1 || len(d.Removed) != 0 {
			t.Errorf("%v, %t", d, ok)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		n := len(z.Snapshot().state.journal.revisions)
		s, z = openMem(t, fs)
		defer s.Close()
		if got := z.Snapshot().state.journal; len(got.revisions) != n || got.first == 0 {
			t.Errorf("%d revisions from %d, want %d", len(got.revisions), got.first, n)
		}
		addOne(t, z, "c.example.org. 5 IN A 192.0.2.1")
		checkJournal(t, z)
	})
	t.Run("larger than all", func(t *testing.T) {
		s, z := openMem(t, vfs.NewMem())
		defer s.Close()
		addOne(t, z, "a.example.org. 5 IN A 192.0.2.1")
		var j journal
		log := j.add(nil, revision{1, make([]byte, 100)}, 1000)
		log = j.add(log, revision{2, make([]byte, minJournal+1)}, 1000)
		if len(log) != 2 || !log[1].dropped || log[1].number != 0 || len(j.revisions) != 0 || j.octets != 0 {
			t.Fatalf("%v", j)
		}
		if log = j.add(nil, revision{3, nil}, 0); log[0].number != 1 || j.first != 1 {
			t.Fatalf("%v", log)
		}
	})
	t.Run("count", func(t *testing.T) {
		var j journal
		for i := range uint32(maxRevisions + 100) {
			j.add(nil, revision{i, []byte{0}}, 1<<30)
		}
		if len(j.revisions) != maxRevisions || j.first != 100 || j.revisions[0].from != 100 || j.octets != maxRevisions {
			t.Errorf("%d from %d, %d octets", len(j.revisions), j.first, j.octets)
		}
	})
}

// What came and went does not appear, and what is more than the zone is the zone's business.
func TestDifferenceIsCondensed(t *testing.T) {
	s, z := openMem(t, vfs.NewMem())
	defer s.Close()
	first := z.Snapshot().Serial()
	for i := range 5 {
		addOne(t, z, fmt.Sprintf("a.example.org. 5 IN A 192.0.2.%d", i))
		addOne(t, z, fmt.Sprintf("a.example.org. 0 NONE A 192.0.2.%d", i))
	}
	d, ok := z.Snapshot().Since(first)
	if !ok || len(d.Added)+len(d.Removed) != 0 {
		t.Errorf("%v, %t", d, ok)
	}
	published := z.Snapshot()
	addOne(t, z, "b.example.org. 5 IN A 192.0.2.1")
	if d, ok := published.Since(first); !ok || len(d.Added) != 0 || d.To.Serial != published.Serial() {
		t.Errorf("a published version goes on: %v, %t", d, ok)
	}
	if d, ok := z.Snapshot().Since(first); !ok || len(d.Added) != 1 {
		t.Errorf("%v, %t", d, ok)
	}
	if _, ok := z.Snapshot().Since(first - 1); ok {
		t.Error("a difference from a serial that never was")
	}
	for i := range 10 {
		addOne(t, z, fmt.Sprintf("c%d.example.org. 5 IN A 192.0.2.1", i))
	}
	for i := range 10 {
		addOne(t, z, fmt.Sprintf("c%d.example.org. 0 NONE A 192.0.2.1", i))
	}
	if _, ok := z.Snapshot().Since(z.Snapshot().Serial() - 10); ok {
		t.Error("a difference that is larger than the zone")
	}
}

// A serial that stands for two versions gives no difference: which one the secondary has is unknown.
func TestSerialThatWentRound(t *testing.T) {
	s, z := openMem(t, vfs.NewMem())
	defer s.Close()
	for _, serial := range []uint32{1 << 31, 1<<32 - 1, 10, 11} {
		soa := dns.Copy(z.Snapshot().SOA()).(*dns.SOA)
		soa.Serial = serial
		if rcode, err := z.Update(context.Background(), nil, []dns.RR{soa}, permitAll); rcode != dns.RcodeSuccess || z.Snapshot().Serial() != serial {
			t.Fatal(rcode, err)
		}
	}
	if _, ok := z.Snapshot().Since(10); ok {
		t.Error("a difference from one of two versions")
	}
	if _, ok := z.Snapshot().Since(1<<32 - 1); !ok {
		t.Error("no difference across the wrap")
	}
}

// A journal that does not lead to the zone is an error that names the database, and no reason to start another.
func TestDamagedJournal(t *testing.T) {
	var values [][]byte
	var id uint32
	sound := func(t *testing.T) vfs.FS {
		fs := vfs.NewMem()
		s, z := openMem(t, fs)
		for i := range 4 {
			addOne(t, z, fmt.Sprintf("a%d.example.org. 5 IN A 192.0.2.1", i))
		}
		values, id = nil, z.id
		for _, r := range z.Snapshot().state.journal.revisions {
			values = append(values, r.value)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return fs
	}
	damaged := func(i, at int, to byte) []byte {
		v := slices.Clone(values[i])
		if at < 0 {
			at += len(v)
		}
		v[at] = to
		return v
	}
	for _, tt := range []struct {
		name string
		edit func() []mutation
		want string // "": no error
	}{
		{"none at all", func() []mutation {
			return []mutation{{journalKey(id, 0), nil}, {journalKey(id, 1), nil}, {journalKey(id, 2), nil}, {journalKey(id, 3), nil}}
		}, ""},
		{"shorter", func() []mutation { return []mutation{{journalKey(id, 0), nil}} }, ""},
		{"end lost", func() []mutation { return []mutation{{journalKey(id, 3), nil}} }, "end with the zone"},
		{"gap", func() []mutation { return []mutation{{journalKey(id, 1), nil}} }, "gap"},
		{"serial left out", func() []mutation {
			return []mutation{{journalKey(id, 1), values[2]}, {journalKey(id, 2), values[3]}, {journalKey(id, 3), nil}}
		}, "gap before serial"},
		{"long key", func() []mutation { return []mutation{{append(journalKey(id, 3), 0), values[3]}} }, "key"},
		{"empty", func() []mutation { return []mutation{{journalKey(id, 0), []byte{}}} }, "revision"},
		{"cut off", func() []mutation { return []mutation{{journalKey(id, 0), values[0][:len(values[0])-1]}} }, "revision"},
		{"more", func() []mutation { return []mutation{{journalKey(id, 0), append(slices.Clone(values[0]), 0)}} }, "revision"},
		{"backwards", func() []mutation {
			ps, _ := splitRevision(values[0])
			return []mutation{{journalKey(id, 0), slices.Concat(ps.is, ps.was, values[0][len(ps.is)+len(ps.was):])}}
		}, "revision from serial 11 to 10"},
		{"another zone", func() []mutation { return []mutation{{journalKey(id, 0), damaged(0, 1, 'f')}} }, "journal"},
		{"no SOA", func() []mutation {
			ps, _ := splitRevision(values[0])
			return []mutation{{journalKey(id, 0), slices.Concat(ps.added[0], values[0][len(ps.was):])}}
		}, "without a serial"},
		{"SOA inside", func() []mutation {
			return []mutation{{journalKey(id, 0), slices.Concat(values[0], mustSplit(values[0]).was)}}
		}, "SOA record among"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := sound(t)
			db, err := pebble.Open("db", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatTableFormatV6, Logger: newGuard(fs, slog.New(slog.DiscardHandler), newAlarm())})
			if err != nil {
				t.Fatal(err)
			}
			batch := db.NewBatch()
			if err := errors.Join(appendBatch(batch, tt.edit()), batch.Commit(pebble.Sync), db.Close()); err != nil {
				t.Fatal(err)
			}
			s, err := Open("db", Options{FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			z, err := s.Zone(testOrigin, func() ([]dns.RR, error) { return nil, errors.New("seeded") })
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				addOne(t, z, "b.example.org. 5 IN A 192.0.2.1")
				checkJournal(t, z)
				return
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `"db"`) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func mustSplit(value []byte) parts {
	ps, ok := splitRevision(value)
	if !ok {
		panic("not a revision")
	}
	return ps
}

// FuzzRevision feeds the journal's decoder. What it accepts is what would have been written.
func FuzzRevision(f *testing.F) {
	s, z := openMem(f, vfs.NewMem())
	addOne(f, z, "CT1.example.org. 5 IN A 192.0.2.1")
	addOne(f, z, "ct1.example.org. 6 IN A 192.0.2.2")
	addOne(f, z, `\000.example.org. 6 IN TYPE65280 \# 2 0102`)
	addOne(f, z, "ct1.example.org. 0 NONE A 192.0.2.1")
	addOne(f, z, `isdn.example.org. 6 IN ISDN \# 2 0131`)
	for typ, data := range samples(f) {
		if typ != dns.TypeSOA {
			addOne(f, z, fmt.Sprintf(`type%d.example.org. 6 IN TYPE%d \# %d %x`, typ, typ, len(data), data))
		}
	}
	for _, r := range z.Snapshot().state.journal.revisions {
		f.Add(r.value)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	a := z.apex
	f.Fuzz(func(t *testing.T, value []byte) {
		var p packer
		r, ps, err := a.decodeRevision(value, &p)
		if err != nil {
			return
		}
		var d difference
		for i, side := range [][][]byte{append([][]byte{ps.was}, ps.removed...), append([][]byte{ps.is}, ps.added...)} {
			for _, wire := range side {
				rr, _, err := dns.UnpackRR(wire, 0)
				if err != nil {
					t.Fatal(err)
				}
				rr = exact(rr)
				if i == 0 {
					d.removed = append(d.removed, delta{rr: rr})
				} else {
					d.added = append(d.added, delta{rr: rr})
				}
			}
		}
		again, err := d.revise(&p)
		if err != nil || again.from != r.from || !bytes.Equal(again.value, value) {
			t.Fatalf("%x is written as %x, %v", value, again.value, err)
		}
	})
}
