package dicom

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
)

const (
	keptSuffix  = ".dynupdate-v1" // where the file of dynupdate stays
	builtSuffix = ".converting"   // where its successor is made
)

// A takeover lets a zone database begin with what dynupdate has in a file at its
// path. The steps are
//
//	make the new database in PATH.converting, and sync it
//	rename PATH to PATH.dynupdate-v1
//	rename PATH.converting to PATH, and sync the directory
//
// and whenever it ends, one of them has both data and a way on: before the first
// rename, PATH is the old file, and what is in PATH.converting is nothing. After
// the second, PATH is the new database. Between the two there is no PATH, which
// no other order of things looks like, and the next start takes the first rename
// back. The old file is locked all the time, by the same lock that dynupdate
// takes: neither it nor another CoreDNS with dicom gets in between.
type takeover struct {
	path    string // of the database, without symbolic links
	zones   []string
	limits  zone.Limits
	reached func(step string) // for tests, which end it there; may be nil
}

// takeoverMu is for instances that overlap: they exclude each other, and do not
// report each other as somebody who has the file open.
var takeoverMu sync.Mutex

func (cfg *config) takeover() *takeover {
	return &takeover{path: withoutLinks(cfg.database), zones: cfg.zones, limits: cfg.limits}
}

// withoutLinks returns the path that leads to the same file or place for a file
// without a symbolic link, also where nothing stands at the end of it.
func withoutLinks(path string) string {
	for range 40 { // as many as Linux follows
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	return path
}

// source finds the file that is to be taken over, "" if there is none. It is
// not at the path itself if a takeover was interrupted between its renames.
func (t *takeover) source() (string, error) {
	kept := t.path + keptSuffix
	info, err := os.Lstat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if isRegular(kept) && isDir(t.path+builtSuffix) {
			return kept, nil
		}
		return "", nil
	case err != nil:
		return "", fmt.Errorf("database: %w", err)
	case info.IsDir():
		return "", nil
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("database %q is neither a directory nor a file", t.path)
	case len(t.zones) != 1:
		return "", fmt.Errorf("database %q is a file, not a directory: what dynupdate made holds one zone, and here are %d: %s",
			t.path, len(t.zones), strings.Join(t.zones, " "))
	}
	if _, err := os.Lstat(kept); err == nil {
		return "", fmt.Errorf("database %q is a file of dynupdate, and %q is there already, from one that was converted before: move away the one that is out of date", t.path, kept)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("database: %w", err)
	}
	return t.path, nil
}

func isRegular(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// check reports whether there is a file to take over, and reads it to see that
// it can be. It changes nothing.
func (t *takeover) check() (bool, error) {
	takeoverMu.Lock()
	defer takeoverMu.Unlock()
	return t.checkLocked()
}

// checkLocked is check for a caller that holds takeoverMu.
func (t *takeover) checkLocked() (bool, error) {
	path, err := t.source()
	if path == "" {
		return false, err
	}
	old, err := openOld(path, false)
	if err != nil {
		return true, err
	}
	_, err = old.records(t.zones, t.limits)
	return true, errors.Join(err, old.close())
}

// run takes the file over, if there is one. After an error it may be called
// again.
func (t *takeover) run() (err error) {
	takeoverMu.Lock()
	defer takeoverMu.Unlock()
	// Reading comes first because opening for more than that trusts the file.
	if found, err := t.checkLocked(); !found || err != nil {
		return err
	}
	path, err := t.source()
	if path == "" || err != nil {
		return err
	}
	old, err := openOld(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.close()) }()
	// Whoever had the lock before may have done all this.
	if now, err := t.source(); err != nil || now != path || !old.isAt(path) {
		return errors.Join(err, fmt.Errorf("database %q was replaced while it was opened", path))
	}
	records, err := old.records(t.zones, t.limits)
	if err != nil {
		return err
	}
	if path != t.path {
		log.Warningf("Database %q: its conversion was interrupted, and is done again", t.path)
		if err := rename(path, t.path); err != nil {
			return err
		}
		t.step("taken back")
	}

	serial, err := t.build(records)
	if err != nil {
		return errors.Join(fmt.Errorf("converting database %q: %w", t.path, err), t.discard())
	}
	if err := os.Rename(t.path, t.path+keptSuffix); err != nil {
		return errors.Join(fmt.Errorf("keeping the old database: %w", err), t.discard())
	}
	t.step("kept")
	if err := os.Rename(t.path+builtSuffix, t.path); err != nil {
		err = fmt.Errorf("putting the new database in place: %w", err)
		if _, missing := os.Lstat(t.path); errors.Is(missing, fs.ErrNotExist) {
			err = errors.Join(err, rename(t.path+keptSuffix, t.path))
		}
		return err
	}
	t.step("replaced")
	if err := syncDir(filepath.Dir(t.path)); err != nil {
		return err // the next try finds the new database
	}
	t.step("synced")
	log.Infof("Database %q of dynupdate is converted: zone %s has serial %d; the old file is kept as %q",
		t.path, t.zones[0], serial, t.path+keptSuffix)
	return nil
}

func (t *takeover) step(name string) {
	if t.reached != nil {
		t.reached(name)
	}
}

// build makes the new database beside the old one, and reads it back: until then
// it is not worth more than the old one.
func (t *takeover) build(records []dns.RR) (serial uint32, err error) {
	if err := t.discard(); err != nil {
		return 0, err
	}
	t.step("cleared")
	if _, err := t.open(func() ([]dns.RR, error) { return records, nil }); err != nil {
		return 0, err
	}
	t.step("built")
	serial, err = t.open(func() ([]dns.RR, error) { return nil, errors.New("the new database does not hold the zone") })
	if err != nil {
		return 0, err
	}
	for _, rr := range records {
		if soa, ok := rr.(*dns.SOA); ok && soa.Serial != serial {
			return 0, fmt.Errorf("the new database has serial %d instead of %d", serial, soa.Serial)
		}
	}
	if err := syncDir(filepath.Dir(t.path)); err != nil {
		return 0, err
	}
	t.step("verified")
	return serial, nil
}

// open opens the new database, with seed for a zone that it does not hold, and
// closes it.
func (t *takeover) open(seed func() ([]dns.RR, error)) (serial uint32, err error) {
	store, err := zone.Open(t.path+builtSuffix, zone.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	z, err := store.Zone(t.zones[0], seed)
	if err != nil {
		return 0, err
	}
	return z.Snapshot().Serial(), nil
}

// discard removes what an earlier try has left. The caller holds the lock on the
// old file, so that nobody is at work there.
func (t *takeover) discard() error {
	path := t.path + builtSuffix
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !isDir(path) {
		return fmt.Errorf("%q is in the way of the new database, and is not a directory", path)
	}
	return os.RemoveAll(path)
}

// rename renames for good.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
