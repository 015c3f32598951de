//go:build unix

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const ownerSite = "domain: imaging.example.org\nnetworks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}]\n"

// TestImportOwner holds that what root imports can be opened by the user that the
// server runs as: by the owner of the directory. Whoever is not root can but make
// files of his own.
func TestImportOwner(t *testing.T) {
	const service = 64000 // a user that need not be in any list
	for _, tt := range []struct {
		name     string
		parent   int  // owner of the directory that the database is made in
		made     bool // the directory is there already, the service's own
		database string
		want     int
		note     string
	}{
		{"a new directory", service, false, "leases", service, "belongs to 64000"},
		{"new directories", service, false, "site/a/leases", service, "belongs to 64000"},
		{"a directory of the service's", 0, true, "leases", service, "belongs to 64000"},
		{"root's", 0, false, "leases", 0, "if coredhcp runs as another user: chown -R USER "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, dir := os.Geteuid() == 0, t.TempDir()
			write := func(name, text string) string {
				path := filepath.Join(t.TempDir(), name)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			own := func(path string, owner int) {
				if !root {
					return
				}
				if err := os.Chown(path, owner, owner); err != nil {
					t.Fatal(err)
				}
			}
			database := filepath.Join(dir, tt.database)
			kept := write("kept", "of root's")
			if tt.made {
				if err := os.Mkdir(database, 0o700); err != nil {
					t.Fatal(err)
				}
				own(database, service)
				if err := os.Link(kept, filepath.Join(database, "link")); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(kept, filepath.Join(database, "symlink")); err != nil {
					t.Fatal(err)
				}
			}
			own(dir, tt.parent)
			for range 2 { // it may be repeated
				_, stderr, err := run("import", write("dnsmasq.leases", "0 00:00:5e:00:53:03 192.0.2.103 * *\n"), "--leases", "dnsmasq", "--site", write("site.yaml", ownerSite), "--database", database)
				if err != nil || !strings.Contains(stderr, "1 leases: ") {
					t.Fatalf("%v\n%s", err, stderr)
				}
				if root && !strings.Contains(stderr, tt.note) {
					t.Errorf("it says %q, want %q", stderr, tt.note)
				}
			}
			want, files := os.Geteuid(), 0
			if root {
				want = tt.want
			}
			err := filepath.WalkDir(filepath.Join(dir, strings.Split(tt.database, "/")[0]), func(path string, d fs.DirEntry, err error) error {
				if err != nil || strings.HasSuffix(path, "link") {
					return err
				}
				info, err := d.Info()
				if err != nil {
					return err
				}
				files++
				if is := info.Sys().(*syscall.Stat_t); int(is.Uid) != want {
					t.Errorf("%s belongs to %d, want %d", path, is.Uid, want)
				}
				return nil
			})
			if err != nil || files < 4 {
				t.Errorf("%d files, %v", files, err)
			}
			if info, err := os.Stat(kept); err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
				t.Errorf("a file that is elsewhere too was given away: %v, %v", info, err)
			}
		})
	}
}

// TestImportOwnerLinks holds that whoever owns the directory cannot have other
// files of root's by putting links in the place of what root has just made.
func TestImportOwnerLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		return // nobody else can give files away
	}
	const service = 64000
	dir, victim := t.TempDir(), t.TempDir()
	if err := os.Chown(dir, service, service); err != nil {
		t.Fatal(err)
	}
	database, aside := filepath.Join(dir, "leases"), filepath.Join(dir, "aside")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Rename(database, aside) // each fails if it comes too early
			_ = os.Symlink(victim, database)
			_ = os.Remove(database)
			_ = os.Rename(aside, database)
		}
	})
	defer wg.Wait()
	defer close(stop)
	for range 300 {
		if err := os.WriteFile(filepath.Join(victim, "a"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = makeFor(database)
		_ = os.WriteFile(filepath.Join(database, "a"), nil, 0o600)
		_, _ = giveFiles(database) // may fail meanwhile
		for _, path := range []string{victim, filepath.Join(victim, "a")} {
			if info, err := os.Stat(path); err == nil && info.Sys().(*syscall.Stat_t).Uid != 0 {
				t.Fatalf("%s was given away", path)
			}
		}
		_ = os.RemoveAll(database)
		_ = os.RemoveAll(aside)
	}
}
