package dicom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
)

var (
	errClosed = errors.New("server is shutting down")
	errBusy   = errors.New("zones are being loaded")
)

const (
	// startRetry is how long a failed start is not repeated: requests come by
	// the thousand, and a database that cannot be read stays so.
	startRetry = 5 * time.Second
	// maxWaiting bounds the requests that wait while the zones are loaded.
	maxWaiting = 256
)

// start opens the database and makes the zones, unless that is done already.
// Requests that come meanwhile wait for it. It logs a failure and may be called
// again.
func (d *Dicom) start() error {
	if !d.mu.TryLock() {
		if d.waiting.Add(1) > maxWaiting {
			d.waiting.Add(-1)
			return errBusy
		}
		d.mu.Lock()
		d.waiting.Add(-1)
	}
	defer d.mu.Unlock()
	return d.startLocked()
}

// startLocked is start for a caller that holds mu.
func (d *Dicom) startLocked() error {
	switch {
	case d.started:
		return nil
	case d.closed:
		return errClosed
	case d.failed != nil && d.now().Before(d.retryAt):
		return d.failed
	}
	if err := d.open(); err != nil {
		d.failed, d.retryAt = err, d.now().Add(startRetry)
		log.Errorf("Loading zones: %v", err)
		return err
	}
	d.started, d.failed = true, nil
	return nil
}

// open does the work of start. The caller holds mu.
func (d *Dicom) open() (err error) {
	if d.database != "" {
		if err := d.takeover().run(); err != nil {
			return err // it names the database
		}
	}
	store, closeStore, err := zone.Acquire(d.database, zone.Options{Logger: slog.New(logHandler{}), Committed: observeCommit})
	if err != nil {
		return err // it names the database
	}
	var metrics []func() // that end
	release := func() error {
		err := closeStore() // first: it waits for what is counted
		for _, end := range metrics {
			end()
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, release())
		}
	}()

	// The file may have changed since the Corefile was read. If it is broken
	// now, what was right then counts until the watcher sees a right one.
	current, broken := d.site, false
	if d.sitePath != "" && !stateOf(d.sitePath).same(current.state) {
		if fresh, err := loadSite(d.sitePath); err != nil {
			log.Errorf("Site file changed and is not used: %v", siteError(d.sitePath, err))
			current.state, broken = fresh.state, true
		} else {
			current = fresh
		}
	}
	lacking := d.lacksAddress(current.site)
	content := d.complete(current.site)

	// No zone is visible before all of its data is.
	zones := make(map[*served]*zone.Zone)
	later := false
	for _, origin := range d.config.zones {
		s := d.zones[origin]
		z, err := store.Zone(origin, func() ([]dns.RR, error) { return d.newZone(origin, content) })
		if err != nil {
			return err // it names the zone
		}
		zones[s] = z
		metrics = append(metrics, zoneSeries.use(origin, func() { s.metrics.Store(newZoneMetrics(origin)) }))
		z.Configure(zone.Config{
			Limits:    d.limits,
			Committed: func(uint32) { d.committed(s, z) },
		})
		publication, _, err := publish(context.Background(), z, content, d.seed != "", d.config.zones...)
		s.content.Store(publication)
		if err != nil {
			err = fmt.Errorf("publishing the site in zone %s: %w", origin, err)
			if d.sitePath == "" || z.Snapshot().Len() == 1 {
				return err
			}
			// It has what it had before, which is better than no answers while a disk is full; the watcher tries again.
			log.Errorf("%v", err)
			later = true
		}
	}

	ctx, cancel := context.WithCancel(context.Background())
	d.release, d.stop = release, cancel
	for s, z := range zones {
		if len(z.Snapshot().RRset(s.origin, dns.TypeNS)) == 0 {
			// Its records are not as file would have them: it was made without.
			log.Warningf("Zone %s has no NS record", s.origin)
		}
		s.zone.Store(z)
		serial := z.Snapshot().Serial()
		log.Infof("Zone %s has serial %d and %d records", s.origin, serial, z.Snapshot().Len())
		d.committed(s, z)
	}
	background := func(f func(context.Context)) { d.tasks.Go(func() { f(ctx) }) }
	d.notify(background)
	if d.sitePath != "" {
		d.warn(current)
		w := &watcher{
			path: d.sitePath, apply: d.apply, lacks: d.lacksAddress,
			current: current, lacking: lacking,
			loaded: current.state, last: current.state, failures: sparing(),
		}
		metrics = append(metrics, siteSeries.use(d.sitePath, func() { w.metrics = newSiteMetrics(d.sitePath) }))
		w.metrics.tried(!broken && !later)
		if later {
			w.pending = &current
		}
		background(w.run)
	}
	if d.backup != nil {
		var m *backupMetrics
		metrics = append(metrics, backupSeries.use(d.database, func() { m = newBackupMetrics(d.database) }))
		background(func(ctx context.Context) { d.backup.run(ctx, store, d.database, m) })
	}
	if d.database == "" {
		log.Warningf("No database: updates of %v are lost when this server ends or reloads", d.config.zones)
	}
	return nil
}

// close ends all that runs and gives the store back. Queries that are under way
// still get their answer from memory. The handler does not start again.
func (d *Dicom) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if !d.started {
		return nil
	}
	d.stop()
	d.tasks.Wait()
	if d.replaced.Load() {
		successors.start(d.database)
	}
	if err := d.release(); err != nil {
		log.Errorf("Closing database %q: %v", d.database, err)
	}
	return nil // an error would end a reload of the Corefile half-way
}

// newZone returns the records of a zone that does not exist yet: those of the
// seed file, with the serial that stands there, else a SOA; all other site data
// follows as such. Its serial starts at Unix time, so that a lost database does
// not take secondaries backwards.
func (d *Dicom) newZone(origin string, content *site.Site) ([]dns.RR, error) {
	if d.seed != "" {
		return readSeed(d.seed, origin, d.limits)
	}
	bare := *content
	bare.Devices, bare.Services = nil, nil // the SOA does not depend on them
	soa := soaOf(&bare, origin)
	soa.Serial = zone.NewSerial(d.now())
	return []dns.RR{soa}, nil
}

// committed is told about each change of a zone, after it is visible.
func (d *Dicom) committed(s *served, z *zone.Zone) {
	s.metrics.Load().published(z.Snapshot())
	if told := s.told.Load(); told != nil {
		for _, n := range *told {
			n.changed()
		}
	}
}

// complete adds to a site what this server knows about itself.
func (d *Dicom) complete(s *site.Site) *site.Site {
	if s == nil || d.seed != "" {
		return s
	}
	return withServerAddress(s, d.listen, interfaceAddresses)
}

// lacksAddress reports whether complete finds no address of this server for a
// site that needs one. It may come yet.
func (d *Dicom) lacksAddress(s *site.Site) bool {
	return s != nil && d.seed == "" && lacksAddress(d.complete(s))
}

// maxWarnings bounds how much is logged about one version of a site file.
const maxWarnings = 20

// warn logs what is doubtful about a site file that is in use.
func (d *Dicom) warn(l loadedSite) {
	if d.lacksAddress(l.site) {
		log.Warningf("Name server ns.%s has no address: this host has none in the site's networks", l.site.Domain)
	}
	all := append(slices.Clone(l.warnings), l.site.OutsideZones(d.config.zones)...)
	for i, p := range all {
		if i == maxWarnings {
			log.Warningf("Site file: %d more warnings", len(all)-i)
			break
		}
		log.Warningf("Site file: %v", p)
	}
}

// apply makes a changed site file the content of all zones, one transaction
// each. It returns an error where a zone could not be written; it may be called
// again with the same file then.
func (d *Dicom) apply(ctx context.Context, l loadedSite) error {
	content := d.complete(l.site)
	var failed error
	for _, origin := range d.config.zones {
		s := d.zones[origin]
		z := s.zone.Load()
		publication, changed, err := publish(ctx, z, content, d.seed != "", d.config.zones...)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("zone %s: %w", origin, err))
			continue
		}
		s.content.Store(publication)
		if changed {
			log.Infof("Site file %s: zone %s has serial %d", d.sitePath, origin, z.Snapshot().Serial())
		}
	}
	if failed == nil {
		d.warn(l)
	}
	return failed
}
