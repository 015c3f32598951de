package zone_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
)

// TestLogOfNewDatabase damages or removes the log of a database that was never closed: acknowledged updates must not
// vanish in silence.
func TestLogOfNewDatabase(t *testing.T) {
	flip := func(at func(length int) int) func(string, []byte) error {
		return func(path string, b []byte) error {
			if n := len(bytes.TrimRight(b, "\x00")); n > 1000 { // not the one that has only the format
				b[at(n)] ^= 0xff
			}
			return os.WriteFile(path, b, 0o600)
		}
	}
	for name, spoil := range map[string]func(path string, b []byte) error{
		"early octet":  flip(func(int) int { return 100 }),
		"middle octet": flip(func(n int) int { return n / 2 }),
		"gone":         func(path string, _ []byte) error { return os.Remove(path) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "zones")
			s, err := zone.Open(dir, zone.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			z, err := s.Zone(origin, seedOf(t, base...))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 200 {
				mustUpdate(t, z, fmt.Sprintf("add host%d.example.org. 300 IN A 192.0.2.%d", i, i%250+1))
			}
			// A copy is what a killed server leaves.
			copied := filepath.Join(t.TempDir(), "zones")
			for err := fs.ErrNotExist; err != nil; err = os.CopyFS(copied, os.DirFS(dir)) {
				if !errors.Is(err, fs.ErrNotExist) { // a file that the store has just removed
					t.Fatal(err)
				}
				if err := os.RemoveAll(copied); err != nil {
					t.Fatal(err)
				}
			}
			logs, err := filepath.Glob(filepath.Join(copied, "*.log"))
			if err != nil || len(logs) == 0 {
				t.Fatalf("logs: %v, %v", logs, err)
			}
			for _, path := range logs {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := spoil(path, b); err != nil {
					t.Fatal(err)
				}
			}
			again, err := zone.Open(copied, zone.Options{})
			if err != nil {
				if name == "gone" && !errors.Is(err, zone.ErrCorrupt) {
					t.Errorf("error = %v, want ErrCorrupt", err)
				}
				return // refused
			}
			defer again.Close()
			z, err = again.Zone(origin, seedOf(t, base...))
			if err != nil {
				return // refused
			}
			t.Errorf("opened with %d records of a zone that had more than 200", z.Snapshot().Len())
		})
	}
}
