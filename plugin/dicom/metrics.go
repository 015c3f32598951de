package dicom

import (
	"errors"
	"sync"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return promauto.NewCounterVec(prometheus.CounterOpts{Namespace: plugin.Namespace, Subsystem: pluginName, Name: name, Help: help}, labels)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return promauto.NewGaugeVec(prometheus.GaugeOpts{Namespace: plugin.Namespace, Subsystem: pluginName, Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return promauto.NewHistogram(prometheus.HistogramOpts{Namespace: plugin.Namespace, Subsystem: pluginName, Name: name, Help: help, Buckets: buckets})
}

// All labels are names from the Corefile and words from this package: nothing
// that comes over the network makes a series.
var (
	updates         = counters("updates_total", "Counter of the UPDATE messages for zones of this server, by the RCODE they were answered with.", "zone", "result")
	refusals        = counters("refusals_total", "Counter of the UPDATE messages that were refused, by the reason.", "zone", "reason")
	transfers       = counters("transfers_total", "Counter of the transfers of a zone, by what was sent: axfr (all of it), ixfr (the difference) or soa (nothing new).", "zone", "sent")
	failedTransfers = counters("failed_transfers_total", "Counter of the transfers of a zone that were not carried out: busy (too many at a time) or slow (cut before the end).", "zone", "reason")
	notifies        = counters("notifies_total", "Counter of the NOTIFY of a zone, each to one secondary: success if that has answered.", "zone", "result")

	zoneRecords    = gauges("zone_records", "Number of the records in a zone.", "zone")
	zoneBytes      = gauges("zone_bytes", "Size of a zone in uncompressed wire form.", "zone")
	zoneSerial     = gauges("zone_serial", "SOA serial of a zone.", "zone")
	journalChanges = gauges("journal_changes", "Number of the changes in the journal of a zone: serials that can be transferred incrementally.", "zone")
	journalBytes   = gauges("journal_bytes", "Size of the journal of a zone.", "zone")

	siteReloads = counters("site_reloads_total", "Counter of the versions of a site file that were tried, by the result; the one at the start included.", "site", "result")
	siteTime    = gauges("site_last_success_timestamp_seconds", "When a version of a site file was last taken over.", "site")

	backups    = counters("backups_total", "Counter of the backups of a database, by the result.", "database", "result")
	backupTime = gauges("backup_last_success_timestamp_seconds", "When the newest backup of a database was begun; 0 if there is none.", "database")

	commitDuration     = histogram("commit_duration_seconds", "Time that a commit took, the disk included.", prometheus.ExponentialBuckets(50e-6, 2, 18))
	commitTransactions = histogram("commit_transactions", "Number of the transactions that shared a commit.", prometheus.ExponentialBuckets(1, 2, 10))
)

// Values of the label result.
const (
	success = "success"
	failure = "failure"
)

// observeCommit is told about each commit of a store.
func observeCommit(c zone.CommitInfo) {
	commitDuration.Observe(c.Took.Seconds())
	commitTransactions.Observe(float64(c.Transactions))
}

// A reason is why an UPDATE was refused.
type reason uint8

const (
	notSigned reason = iota
	unknownKey
	notPermitted
	siteRecord
	overLimit
	otherReason
	reasons
)

var reasonNames = [reasons]string{"not_signed", "unknown_key", "not_permitted", "site_record", "limit", "other"}

// reasonOf tells the reason from the error of [zone.Zone.Update].
func reasonOf(err error) reason {
	switch {
	case errors.Is(err, zone.ErrNotPermitted):
		return notPermitted
	case errors.Is(err, zone.ErrSiteRecord):
		return siteRecord
	case errors.Is(err, zone.ErrLimit):
		return overLimit
	}
	return otherReason
}

// zoneMetrics are the series of one zone, looked up once. All its methods do
// nothing where it is nil: the zone is not loaded yet.
type zoneMetrics struct {
	updates                                  [dns.RcodeNotZone + 1]prometheus.Counter // by RCODE
	refusals                                 [reasons]prometheus.Counter
	axfr, ixfr, soa                          prometheus.Counter // transfers
	busy, slow                               prometheus.Counter // those that failed
	notified, unnotified                     prometheus.Counter
	records, bytes, serial, changes, journal prometheus.Gauge
}

func newZoneMetrics(origin string) *zoneMetrics {
	m := &zoneMetrics{
		axfr: transfers.WithLabelValues(origin, "axfr"), ixfr: transfers.WithLabelValues(origin, "ixfr"), soa: transfers.WithLabelValues(origin, "soa"),
		busy: failedTransfers.WithLabelValues(origin, "busy"), slow: failedTransfers.WithLabelValues(origin, "slow"),
		notified: notifies.WithLabelValues(origin, success), unnotified: notifies.WithLabelValues(origin, failure),
		records: zoneRecords.WithLabelValues(origin), bytes: zoneBytes.WithLabelValues(origin), serial: zoneSerial.WithLabelValues(origin),
		changes: journalChanges.WithLabelValues(origin), journal: journalBytes.WithLabelValues(origin),
	}
	for rcode := range m.updates {
		m.updates[rcode] = updates.WithLabelValues(origin, dns.RcodeToString[rcode])
	}
	for r := range m.refusals {
		m.refusals[r] = refusals.WithLabelValues(origin, reasonNames[r])
	}
	return m
}

func (m *zoneMetrics) updated(rcode int) {
	if m != nil && rcode < len(m.updates) {
		m.updates[rcode].Inc()
	}
}

func (m *zoneMetrics) refused(r reason) {
	if m != nil {
		m.refusals[r].Inc()
	}
}

// told counts a NOTIFY.
func (m *zoneMetrics) told(ok bool) {
	switch {
	case m == nil:
	case ok:
		m.notified.Inc()
	default:
		m.unnotified.Inc()
	}
}

// published shows a zone as it is now.
func (m *zoneMetrics) published(s *zone.Snapshot) {
	j := s.Journal()
	m.serial.Set(float64(s.Serial()))
	m.records.Set(float64(s.Len()))
	m.bytes.Set(float64(s.Size()))
	m.changes.Set(float64(j.Revisions))
	m.journal.Set(float64(j.Octets))
}

// siteMetrics are the series of one site file.
type siteMetrics struct {
	success, failure prometheus.Counter
	last             prometheus.Gauge
}

func newSiteMetrics(path string) *siteMetrics {
	return &siteMetrics{siteReloads.WithLabelValues(path, success), siteReloads.WithLabelValues(path, failure), siteTime.WithLabelValues(path)}
}

// tried counts a version of the site file that was or was not taken over.
func (m *siteMetrics) tried(ok bool) {
	switch {
	case m == nil:
	case ok:
		m.success.Inc()
		m.last.SetToCurrentTime()
	default:
		m.failure.Inc()
	}
}

// A vec is a metric with labels.
type vec interface {
	DeletePartialMatch(prometheus.Labels) int
}

// series come with the first user of a label value and go with its last:
// instances that overlap while a Corefile is reloaded go on with the same ones.
type series struct {
	label string
	vecs  []vec

	mu    sync.Mutex
	users map[string]int
}

var (
	zoneSeries = &series{label: "zone", vecs: []vec{
		updates, refusals, transfers, failedTransfers, notifies, zoneRecords, zoneBytes, zoneSerial, journalChanges, journalBytes,
	}}
	siteSeries   = &series{label: "site", vecs: []vec{siteReloads, siteTime}}
	backupSeries = &series{label: "database", vecs: []vec{backups, backupTime}}
)

// use calls look, which looks the series of value up, and returns how to give
// them back.
func (s *series) use(value string, look func()) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == nil {
		s.users = make(map[string]int)
	}
	s.users[value]++
	look()
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users[value]--; s.users[value] > 0 {
			return
		}
		delete(s.users, value)
		for _, v := range s.vecs {
			v.DeletePartialMatch(prometheus.Labels{s.label: value})
		}
	})
}
