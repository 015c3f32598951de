package dicom

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/prometheus/client_golang/prometheus"
)

// backupForm is how a backup is named, after the time when it was begun, UTC; so
// names sort by age. One that is being made has a suffix.
const (
	backupForm    = "20060102T150405Z"
	backupPartial = ".partial"
	backupsKept   = 2

	defaultBackupInterval = 24 * time.Hour
	backupRetry           = 5 * time.Minute // after a failure
)

// minBackupInterval is the least; a variable so that tests need not wait.
var minBackupInterval = time.Minute

// A backupConfig says where a database is copied to, and how often.
type backupConfig struct {
	dir      string
	interval time.Duration
}

// parseBackup reads the arguments of backup: DIR [INTERVAL]. DIR is a path
// already.
func parseBackup(dir string, args []string) (*backupConfig, error) {
	b := &backupConfig{dir: dir, interval: defaultBackupInterval}
	if len(args) > 0 {
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return nil, fmt.Errorf("backup interval %q is no duration such as 24h or 30m", args[0])
		}
		if d < minBackupInterval {
			return nil, fmt.Errorf("backup interval %q is shorter than %v", args[0], minBackupInterval)
		}
		b.interval = d
	}
	return b, nil
}

// check finds a directory that cannot hold backups of the database.
func (b *backupConfig) check(database string) error {
	if database == "" {
		return errors.New("backup requires database")
	}
	dir, file := realPath(b.dir), realPath(database)
	if relative, err := filepath.Rel(file, dir); err == nil && relative != ".." && !strings.HasPrefix(relative, "../") {
		return fmt.Errorf("backup %q is within database %q", b.dir, database)
	}
	if _, is := backupOf(filepath.Base(file)); is && filepath.Dir(file) == dir {
		return fmt.Errorf("database %q is one of the backups in %q, which are removed in time: copy it to another place", database, b.dir)
	}
	if info, err := os.Stat(b.dir); err == nil && !info.IsDir() {
		return fmt.Errorf("backup %q is a file, and has to be a directory", b.dir)
	}
	return nil
}

// realPath is a path without links, as far as it exists.
func realPath(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	if above := filepath.Dir(path); above != path {
		return filepath.Join(realPath(above), filepath.Base(path))
	}
	return path
}

// backupOf tells when the backup of that name was begun.
func backupOf(name string) (begun time.Time, ok bool) {
	begun, err := time.Parse(backupForm, name)
	return begun, err == nil && begun.Format(backupForm) == name
}

// backupTurns are held, one for each store, by who looks whether a backup is
// due, and makes it: blocks and instances that share a store share its backups.
var backupTurns sync.Map // path of the database -> chan struct{}

func backupTurn(database string) chan struct{} {
	turn, _ := backupTurns.LoadOrStore(realPath(database), make(chan struct{}, 1))
	return turn.(chan struct{}) //nolint:forcetypeassert // nothing else is stored
}

const (
	backupStalled = 10 * time.Minute // after which one that does not end is told of
	backupEnding  = 2 * time.Second  // that one has to end when its server does
)

// backupMetrics are the series of the backups of one database.
type backupMetrics struct {
	success, failure prometheus.Counter
	last             prometheus.Gauge
}

func newBackupMetrics(database string) *backupMetrics {
	return &backupMetrics{backups.WithLabelValues(database, success), backups.WithLabelValues(database, failure), backupTime.WithLabelValues(database)}
}

// run makes backups of the store until ctx ends, which also ends one that is
// being made. One to a disk that hangs is left behind; its turn ends with it.
func (b *backupConfig) run(ctx context.Context, store *zone.Store, database string, metrics *backupMetrics) {
	turn := backupTurn(database)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case turn <- struct{}{}:
		}
		var wait time.Duration
		var err error
		ended := make(chan struct{})
		go func() { // joined below, or ends when the disk answers
			defer close(ended)
			defer func() { <-turn }()
			wait, err = b.turn(ctx, store, metrics)
		}()
		if !b.await(ctx, ended, metrics) {
			return
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			metrics.failure.Inc()
			log.Errorf("Backup to %s: %v", b.dir, err)
			wait = min(b.interval, backupRetry)
		}
		timer.Reset(max(wait, time.Second))
	}
}

// await waits for a backup; false: it is left behind, since ctx has ended.
func (b *backupConfig) await(ctx context.Context, ended <-chan struct{}, metrics *backupMetrics) bool {
	stalled := time.NewTimer(backupStalled)
	defer stalled.Stop()
	for {
		select {
		case <-ended:
			return true
		case <-stalled.C:
			metrics.failure.Inc()
			log.Errorf("Backup to %s has not ended after %v", b.dir, backupStalled)
		case <-ctx.Done():
			select {
			case <-ended:
				return true
			case <-time.After(backupEnding):
				log.Errorf("Backup to %s does not end and is left behind", b.dir)
				return false
			}
		}
	}
}

// turn makes a backup if one is due, and returns the time until the next.
func (b *backupConfig) turn(ctx context.Context, store *zone.Store, metrics *backupMetrics) (time.Duration, error) {
	there, err := b.list()
	if err != nil {
		return 0, err
	}
	now := time.Now()
	// A clock that was wrong may have left some that seem to come yet.
	past := slices.DeleteFunc(slices.Clone(there), func(name string) bool { t, _ := backupOf(name); return t.After(now) })
	if len(past) > 0 {
		newest, _ := backupOf(past[len(past)-1])
		metrics.last.Set(float64(newest.Unix()))
		if wait := newest.Add(b.interval).Sub(now); wait > 0 {
			return wait, nil
		}
	}
	name := now.UTC().Format(backupForm)
	if err := b.make(ctx, store, name); err != nil {
		return 0, err
	}
	metrics.success.Inc()
	metrics.last.Set(float64(now.Unix()))
	log.Infof("Backup %s took %v", filepath.Join(b.dir, name), time.Since(now).Round(time.Millisecond))
	return b.interval, b.prune(append(there, name), name)
}

// list returns the names of the backups, oldest first.
func (b *backupConfig) list() ([]string, error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ok := backupOf(e.Name()); ok && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// make makes one backup, which has its name when it is complete and on stable
// storage.
func (b *backupConfig) make(ctx context.Context, store *zone.Store, name string) error {
	if err := os.Mkdir(b.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := b.sweep(); err != nil {
		return err
	}
	path := filepath.Join(b.dir, name)
	if err := store.Checkpoint(ctx, path+backupPartial); err != nil {
		return err
	}
	if err := os.Rename(path+backupPartial, path); err != nil {
		return errors.Join(err, os.RemoveAll(path+backupPartial))
	}
	d, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes what was not made to the end, because the process ended.
func (b *backupConfig) sweep() error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, partial := strings.CutSuffix(e.Name(), backupPartial)
		if _, ok := backupOf(name); ok && partial && e.IsDir() {
			if err := os.RemoveAll(filepath.Join(b.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// prune removes all backups but the newest and the one that was just made.
func (b *backupConfig) prune(names []string, made string) error {
	slices.Sort(names)
	var failed error
	for _, name := range names[:max(0, len(names)-backupsKept)] {
		if name != made {
			failed = errors.Join(failed, os.RemoveAll(filepath.Join(b.dir, name)))
		}
	}
	return failed
}
