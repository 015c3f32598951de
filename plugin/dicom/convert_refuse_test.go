package dicom

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
	"go.etcd.io/bbolt"
)

// edit changes a database of dynupdate with bbolt itself.
func edit(t *testing.T, path string, do func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(do), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func put(name, value string) func(tx *bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return tx.Bucket([]byte(oldBucket)).Put([]byte(name), []byte(value)) }
}

// packed is a value of records as dynupdate stores it.
func packed(t *testing.T, records ...string) string {
	t.Helper()
	var data []byte
	for _, r := range records {
		x := rr(t, r)
		wire := make([]byte, dns.Len(x))
		n, err := dns.PackRR(x, wire, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, wire[:n]...)
	}
	return string(data)
}

func TestRefusedDatabases(t *testing.T) {
	const soa = domain + " 60 SOA ns." + domain + " h." + domain + " 1 1 1 1 1"
	change := func(name, value string) func(*testing.T, string) {
		return func(t *testing.T, path string) { edit(t, path, put(name, value)) }
	}
	patch := func(do func(file []byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			file, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, do(file), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	lock := func(readOnly bool) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: readOnly})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
		}
	}
	tests := []struct {
		name, zones, limits, err string
		do                       func(t *testing.T, path string)
	}{
		{"empty", "", "", "it is empty", patch(func([]byte) []byte { return nil })},
		{"text", "", "", "not one that dynupdate has made", patch(func([]byte) []byte { return []byte(seedZone) })},
		{"much text", "", "", "not one that dynupdate has made", patch(func([]byte) []byte { return bytes.Repeat([]byte(seedZone), 1000) })},
		{"truncated", "", "", "truncated", patch(func(f []byte) []byte { return f[:3*4096] })},
		{"truncated in its heads", "", "", "corrupt", patch(func(f []byte) []byte { return f[:5000] })},
		{"truncated to one octet", "", "", "corrupt", patch(func(f []byte) []byte { return f[:1] })},
		{"no valid head", "", "", "corrupt", patch(func(f []byte) []byte { f[40]++; f[4096+40]++; return f })},
		{"newer bbolt", "", "", "another version of the bbolt format", patch(func(f []byte) []byte { f[20]++; f[4096+20]++; return f })},
		{"foreign bbolt", "", "", `no bucket "dynupdate-v1"`, func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("theirs"))
				return errors.Join(err, tx.DeleteBucket([]byte(oldBucket)))
			})
		}},
		{"newer dynupdate", "", "", `format "dynupdate-v2" of a newer dynupdate`, func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("dynupdate-v2"))
				return errors.Join(err, tx.DeleteBucket([]byte(oldBucket)))
			})
		}},
		{"another zone", "example.net", "", `belongs to zone "imaging.example.org.", and not to example.net.`, func(*testing.T, string) {}},
		{"no zone", "", "", `belongs to zone ""`, change(oldOrigin, "")},
		{"several zones", domain + " example.net", "", "holds one zone, and here are 2: imaging.example.org. example.net.", func(*testing.T, string) {}},
		{"no records", "", "", "holds no record", change(oldRecords, "")},
		{"half a record", "", "", "record 2 at octet", change(oldRecords, packed(t, soa, "a."+domain+" 60 A 192.0.2.1")[:100])},
		{"no SOA", "", "", "no SOA record", change(oldRecords, packed(t, "a."+domain+" 60 A 192.0.2.1"))},
		{"serial 0", "", "", "serial other than 0", change(oldRecords, packed(t, strings.Replace(soa, " 1 1", " 0 1", 1)))},
		{"DNSSEC", "", "", "type cannot be kept true", change(oldRecords, packed(t, soa, "a."+domain+" 60 DS 1 8 2 00"))},
		{"foreign record", "", "", "outside the zone", change(oldRecords, packed(t, soa, "a.example.net. 60 A 192.0.2.1"))},
		{"too many records", "", "max_records 5", "max_records 5", func(*testing.T, string) {}},
		{"too large", "", "max_bytes 100", "max_bytes 100", func(*testing.T, string) {}},
		{"in use", "", "", "is in use", lock(false)},
		{"converted before", "", "", "db.dynupdate-v1\" is there already", func(t *testing.T, path string) {
			write(t, filepath.Dir(path), filepath.Base(path)+keptSuffix, "")
		}},
		{"link in the way", "", "", "db.dynupdate-v1\" is there already", func(t *testing.T, path string) {
			if err := os.Symlink("nowhere", path+keptSuffix); err != nil {
				t.Fatal(err)
			}
		}},
		{"device", "", "", "neither a directory nor a file", func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Symlink(os.DevNull, path)); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			makeOld(t, dir, 0)
			path := filepath.Join(dir, "db")
			tt.do(t, path)
			before := listing(t, dir)
			zones := tt.zones
			if zones == "" {
				zones = domain
			}
			site := write(t, t.TempDir(), "site.yaml", siteYAML)
			_, err := parse(controller(fmt.Sprintf("dicom %s {\nsite %s\ndatabase %s\n%s\n}", zones, site, path, tt.limits), domain))
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("parsing: error %v, want %q", err, tt.err)
			}
			// It may have come there since.
			var limits zone.Limits
			// Each finds nothing where tt gives the other limit, or none; without its limit the start would not fail.
			_, _ = fmt.Sscanf(tt.limits, "max_records %d", &limits.Records)
			_, _ = fmt.Sscanf(tt.limits, "max_bytes %d", &limits.Bytes)
			cfg := &config{database: path, limits: limits}
			for z := range strings.FieldsSeq(zones) {
				cfg.zones = append(cfg.zones, dns.Fqdn(z))
			}
			d := newDicom(cfg)
			if err := d.start(); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("starting: error %v, want %q", err, tt.err)
			}
			if err := d.close(); err != nil {
				t.Error(err)
			}
			if listing(t, dir) != before {
				t.Error("something has changed")
			}
		})
	}

	t.Run("read by another", func(t *testing.T) { // for parsing that is no matter
		dir := t.TempDir()
		makeOld(t, dir, 0)
		lock(true)(t, filepath.Join(dir, "db"))
		x := (&config{zones: []string{domain}, database: filepath.Join(dir, "db")}).takeover()
		if found, err := x.check(); !found || err != nil {
			t.Errorf("check: %v, %v", found, err)
		}
		if err := x.run(); err == nil || !strings.Contains(err.Error(), "is in use") {
			t.Errorf("run: %v", err)
		}
	})
}

// TestBrokenPages: bbolt would go round in circles, or where no memory is.
func TestBrokenPages(t *testing.T) {
	const size = 4096
	dir := t.TempDir()
	old := makeOld(t, dir, 3000)
	n := binary.NativeEndian
	if got := int(n.Uint32(old.file[24:])); got != size {
		t.Skipf("pages have %d octets", got)
	}
	head := old.file[16:]
	if second := old.file[size+16:]; n.Uint64(second[48:]) > n.Uint64(head[48:]) {
		head = second
	}
	root, free := n.Uint64(head[16:])*size, n.Uint64(head[32:])*size
	key := int(root) + 16 + 16 // behind the one element of the root
	bucket := key + len(oldBucket)
	child := int(n.Uint64(old.file[bucket:])) * size
	tests := []struct {
		name, err string
		do        func(f []byte)
	}{
		{"its own child", "used twice", func(f []byte) { n.PutUint64(f[bucket:], root/size) }},
		{"child beyond the end", "beyond the", func(f []byte) { n.PutUint64(f[bucket:], 1<<40) }},
		{"a page inside the bucket that is not there", "has no page", func(f []byte) { n.PutUint64(f[bucket:], 0) }},
		{"a head as a child", "used twice", func(f []byte) { n.PutUint64(f[bucket:], 1) }},
		{"a page of another number", "says that it is", func(f []byte) { f[child]++ }},
		{"a branch of itself", "used twice", func(f []byte) {
			n.PutUint16(f[child+8:], boltBranch)
			n.PutUint32(f[child+16:], 0)
			n.PutUint32(f[child+20:], 0)
			n.PutUint64(f[child+24:], uint64(child/size))
		}},
		{"a branch without elements", "no part of a tree", func(f []byte) { n.PutUint32(f[child+8:], boltBranch) }},
		{"no kind of page", "no part of a tree", func(f []byte) { f[child+8] = 0x40 }},
		{"too many elements", "", func(f []byte) { n.PutUint16(f[child+10:], 0xffff) }},
		{"a value beyond its page", "ends beyond it", func(f []byte) { n.PutUint32(f[child+28:], 1<<31) }},
		{"a page longer than the file", "ends beyond the", func(f []byte) { n.PutUint32(f[child+12:], 1<<31) }},
		{"a short bucket", "is no bucket", func(f []byte) { n.PutUint32(f[int(root)+28:], 8) }},
		{"free pages of another kind", "not the list of free pages", func(f []byte) { f[free+8] = boltLeaf }},
		{"more free pages than room", "has no room", func(f []byte) { n.PutUint16(f[free+10:], 0xfffe) }},
		{"very many free pages", "has no room", func(f []byte) { n.PutUint16(f[free+10:], 0xffff); n.PutUint64(f[free+16:], 1<<60) }},
		{"a free page that is used", "free and used", func(f []byte) { n.PutUint16(f[free+10:], 1); n.PutUint64(f[free+16:], root/size) }},
		{"a free page beyond the end", "free page", func(f []byte) { n.PutUint16(f[free+10:], 1); n.PutUint64(f[free+16:], 1<<40) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := bytes.Clone(old.file)
			tt.do(file)
			path := write(t, dir, "db", string(file))
			_, err := (&config{zones: []string{domain}, database: path}).takeover().check()
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "of dynupdate is corrupt") {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestEveryOctetBroken: whatever stands in the file, reading it ends with a
// result.
func TestEveryOctetBroken(t *testing.T) {
	dir := t.TempDir()
	old := makeOld(t, dir, 0)
	path := filepath.Join(dir, "db")
	x := (&config{zones: []string{domain}, database: path}).takeover()
	refused := 0
	for at := range old.file {
		if old.file[at] == 0 && at%64 > 0 { // most is empty
			continue
		}
		file := bytes.Clone(old.file)
		file[at] ^= 1 << (at % 8)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := x.check(); err != nil {
			refused++
		}
	}
	for size := 0; size < len(old.file); size += 512 {
		write(t, dir, "db", string(old.file[:size]))
		if _, err := x.check(); err == nil && size < 4*4096 {
			t.Errorf("truncated to %d octets and accepted", size)
		}
	}
	t.Logf("%d of %d refused", refused, len(old.file))
}

func FuzzOldDatabase(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "seed")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 1024})
	if err != nil {
		f.Fatal(err)
	}
	soa, err := dns.NewRR(domain + " 60 SOA ns h 1 1 1 1 1")
	if err != nil {
		f.Fatal(err)
	}
	wire := make([]byte, dns.Len(soa))
	if _, err := dns.PackRR(soa, wire, 0, nil, false); err != nil {
		f.Fatal(err)
	}
	for _, size := range []int{1, 100} {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(oldBucket))
			if err != nil {
				return err
			}
			return errors.Join(b.Put([]byte(oldOrigin), []byte(domain)), b.Put([]byte(oldRecords), bytes.Repeat(wire, size)))
		})
		if err != nil {
			f.Fatal(err)
		}
		file, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		var used int64 // a small file is changed where it matters
		if err := db.View(func(tx *bbolt.Tx) error { used = tx.Size(); return nil }); err != nil {
			f.Fatal(err)
		}
		f.Add(file[:used])
		f.Add(file[:used-1])
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		path := write(t, t.TempDir(), "db", string(file))
		old, err := openOld(path, false)
		if err != nil {
			return
		}
		defer func() {
			if err := old.close(); err != nil {
				t.Error(err)
			}
		}()
		records, err := old.records([]string{domain}, zone.Limits{})
		if err == nil && len(records) == 0 {
			t.Error("neither records nor an error")
		}
	})
}
