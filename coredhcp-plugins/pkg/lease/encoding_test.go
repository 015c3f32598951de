package lease

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func sampleBinding() storedBinding {
	return storedBinding{
		client: Client{1, mac(1), "\x01\x02"}, state: Active, published: true, version: 300, start: 1_700_000_000_000,
		end: 1_700_003_600_001, seconds: 3600, events: 7, port: hashPort("eth0"), device: "ct1", name: "ct1.imaging.example.org.", shows: both,
	}
}

func sampleEvent() storedEvent {
	return storedEvent{
		number: 300, state: Released, client: Client{1, mac(1), "\x01\x02"}, start: 1_700_000_000_000, end: 1_700_003_600_001,
		device: "ct1", name: "ct1.imaging.example.org.",
	}
}

func TestEncoding(t *testing.T) {
	infinite, free := sampleBinding(), sampleBinding()
	infinite.infinite, infinite.end, infinite.owned = true, 0, true
	free.state, free.name, free.client, free.port, free.shows = Released, "", Client{6, mac(2), ""}, 0, 0
	forward, reverse := sampleBinding(), sampleBinding()
	forward.shows, reverse.shows = Forward, Reverse
	for _, s := range []storedBinding{sampleBinding(), infinite, free, forward, reverse} {
		got, err := decodeBinding(s.append(nil))
		if err != nil || got != s {
			t.Errorf("wrote %+v, read %+v: %v", s, got, err)
		}
	}
	e := sampleEvent()
	if got, err := decodeEvent(e.append(nil)); err != nil || got != e {
		t.Errorf("wrote %+v, read %+v: %v", e, got, err)
	}
	r := removal{name: "ws1.example.org.", addr: addr("192.0.2.7"), client: pack(client(7)), version: 9, owned: true, shows: Reverse}
	if got, err := decodeRemoval(r.append(nil)); err != nil || got != r {
		t.Errorf("wrote %+v, read %+v: %v", r, got, err)
	}
	for _, c := range []Client{client(1), {1, mac(1), "\x01abc"}, {0, "", "x"}, {32, strings.Repeat("h", 16), strings.Repeat("i", 255)}} {
		if p := pack(c); p.client() != c || p.key() != c.Key() {
			t.Errorf("packed %+v, got %+v and key %q", c, p.client(), p.key())
		}
	}
}

// TestForeignData has Open refuse what it does not understand, by its key and with what was expected.
func TestForeignData(t *testing.T) {
	good := sampleBinding()
	value := good.append(nil)
	key := string(appendBindingKey(nil, addr("192.0.2.100")))
	newer := bytes.Clone(value)
	newer[0] = 3
	format1 := []byte{1, 1, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0x5e, 0, 0x53, 1, 0, 0, 0}
	if _, err := decodeBinding(format1); err != nil {
		t.Fatal(err)
	}
	rm := removal{name: "ws1.example.org.", addr: addr("192.0.2.7"), client: pack(client(7))}
	edit := func(f func(*storedBinding)) []byte { s := sampleBinding(); f(&s); return s.append(nil) }
	for _, tc := range []struct {
		name, key string
		value     []byte
		want      []string
	}{
		{"newer binding", key, newer, []string{`"b\xc0\x00\x02d"`, "expected version 2"}},
		{"cut off", key, value[:len(value)-1], []string{"name", "it ends"}},
		{"empty", key, []byte{}, []string{"version", "it ends"}},
		{"too long", key, append(bytes.Clone(value), 0), []string{"1 octets after the end"}},
		{"state", key, edit(func(s *storedBinding) { s.state = 6 }), []string{"state 6: expected 1 to 5"}},
		{"no client", key, edit(func(s *storedBinding) { s.client = Client{} }), []string{"without hardware address"}},
		{"hardware address too long", key, edit(func(s *storedBinding) { s.client.HardwareAddr = strings.Repeat("x", 17) }), []string{"at most 16"}},
		{"name of a free address", key, edit(func(s *storedBinding) { s.state = Expired }), []string{"nobody holds"}},
		{"a free address for ever", key, edit(func(s *storedBinding) { s.infinite, s.state, s.name = true, Expired, "" }), []string{"infinite"}},
		{"format 1, infinite with an end", key, append([]byte{1, 1, 4, 0, 0, 2}, format1[6:]...), []string{"infinite"}},
		{"flags", key, append([]byte{2, 1, 0x48}, value[3:]...), []string{"flags 0x48"}},
		{"format 1, flags", key, append([]byte{1, 1, 8}, append([]byte{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}, format1[7:]...)...), []string{"flags 0x8"}},
		{"no port", key, bytes.Replace(value, binary.BigEndian.AppendUint64(nil, good.port), make([]byte, 8), 1), []string{"port"}},
		{"long number", key, append([]byte{1, 1, 0, 0x80, 0x00}, value[5:]...), []string{"version", "shortest form"}},
		{"short address", "b\x01\x02", value, []string{"4 or 16 octets, found 2"}},
		{"mapped address", "b" + string(netip.MustParseAddr("::ffff:192.0.2.1").AsSlice()), value, []string{"4 or 16"}},
		{"foreign key", "zebra", []byte("x"), []string{`"zebra"`, "expected a binding"}},
		{"longer format key", "foo", []byte("x"), []string{`"foo"`}},
		{"newer format", "f", []byte("dicomnam leases 4"), []string{"dicomnam leases 3", "newer"}},
		{"removal under another key", rm.key() + "x", rm.append(nil), []string{"expected the removal"}},
		{"removal without name", rm.key(), (&removal{addr: rm.addr, client: rm.client}).append(nil), []string{"no name"}},
		{"newer removal", rm.key(), append([]byte{9}, rm.append(nil)[1:]...), []string{"version 9"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := open(t, testConfig())
			f.get(query(client(1), link2))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			put(t, f.fs, tc.key, tc.value)
			m, err := Open("leases", testConfig(), Options{FS: f.fs})
			if err == nil {
				_ = m.Close() // the test fails anyway
				t.Fatal("opened")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v: want %q in it", err, w)
				}
			}
		})
	}
	t.Run("not a lease database", func(t *testing.T) {
		fs := vfs.NewMem()
		put(t, fs, "hello", []byte("world"))
		if _, err := Open("leases", testConfig(), Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "not a lease database") {
			t.Error(err)
		}
	})
}

func put(t *testing.T, fs vfs.FS, key string, value []byte) {
	t.Helper()
	db, err := pebble.Open("leases", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatWALSyncChunks, Logger: &pebbleLog{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte(key), value, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzDecode holds that no value crashes the decoders, and that what they take has one encoding: the one they took.
func FuzzDecode(f *testing.F) {
	s := sampleBinding()
	f.Add(s.append(nil))
	r := removal{name: "ws1.example.org.", addr: addr("192.0.2.7"), client: pack(client(7)), version: 9}
	f.Add(r.append(nil))
	f.Add([]byte{1, 1, 0, 0x80, 0})
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0x5e, 0, 0x53, 1, 0, 0, 0})
	e := sampleEvent()
	f.Add(e.append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeBinding(data); err == nil {
			again := s.append(nil)
			if data[0] == 1 {
				if got, err := decodeBinding(again); err != nil || got != s {
					t.Errorf("read %x as %+v, wrote it, read it as %+v: %v", data, s, got, err)
				}
			} else if !bytes.Equal(again, data) {
				t.Errorf("read %x as %+v, which is written as %x", data, s, again)
			}
		}
		if e, err := decodeEvent(data); err == nil {
			if again := e.append(nil); !bytes.Equal(again, data) {
				t.Errorf("read %x as %+v, which is written as %x", data, e, again)
			}
		}
		if r, err := decodeRemoval(data); err == nil {
			if again := r.append(nil); !bytes.Equal(again, data) {
				t.Errorf("read %x as %s, which is written as %x", data, fmt.Sprint(r), again)
			}
			if nameOfRemoval(r.key()) != r.name {
				t.Errorf("key %q of name %q", r.key(), r.name)
			}
		}
	})
}
