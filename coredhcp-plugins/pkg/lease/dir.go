package lease

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// makeDir creates the directory, durably, and keeps others out of it.
func (s *store) makeDir() error {
	info, err := s.fs.Stat(s.dir)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("lease database %s is a file, expected a directory", s.dir)
		}
		if s.private() && info.Mode().Perm()&0o077 != 0 {
			return os.Chmod(s.dir, 0o700)
		}
		return nil
	}
	var parents []string // of the directories that are made
	for dir := s.dir; ; {
		parent := s.fs.PathDir(dir)
		parents = append(parents, parent)
		if _, err := s.fs.Stat(parent); err == nil || parent == dir {
			break
		}
		dir = parent
	}
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		if err := syncDir(s.fs, p); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// keepPrivate takes others' access to the files away, which those of an older release or of a restored copy may have.
func (s *store) keepPrivate() error {
	files, err := os.ReadDir(s.dir)
	for _, f := range files {
		if f.IsDir() {
			continue // not of the database: a backup that was put here
		}
		err = errors.Join(err, os.Chmod(filepath.Join(s.dir, f.Name()), 0o600))
	}
	return err
}

func (s *store) private() bool { return s.fs == vfs.Default }

// checkFiles refuses a directory from which files are gone that Pebble does not miss: without the manifest's marker it
// would make a new database and delete the old one's tables, and without a log it would go on without what was there.
// It makes them in this order: the manifest, its marker, a log, the format's marker, the options, tables. So a creation
// that was cut off leaves no later one behind without the earlier ones.
func (s *store) checkFiles() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("lease database: %w", err)
	}
	var marker, log bool
	var late string // a file that comes after the first log
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, "marker.manifest."):
			marker = true
		case strings.HasSuffix(n, ".log"):
			log = true
		case strings.HasSuffix(n, ".sst"), strings.HasPrefix(n, "OPTIONS-"), strings.HasPrefix(n, "marker.format-version."):
			late = n
		}
	}
	const advice = "the directory must be restored from a backup, or emptied to begin without leases"
	switch {
	case !marker && (log || late != ""):
		return fmt.Errorf("lease database %s: marker.manifest.* is gone, other files are there; %s", s.dir, advice)
	case !log && late != "":
		return fmt.Errorf("lease database %s: %s is there, but no *.log file, and with it the latest leases are gone; %s", s.dir, late, advice)
	}
	return nil
}
