package ddns

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// metrics has the worker and the lease manager counted when somebody looks.
type metrics struct{ d *DDNS }

func desc(metric, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("coredhcp", name, metric), help, labels, nil)
}

var (
	updates   = desc("updates_total", "Changes of a name that were worked on, by result: added, removed, conflict, unanswered, key_refused, failed.", "result")
	waiting   = desc("changes_waiting", "Changes of a name that DNS has not confirmed.")
	oldest    = desc("oldest_change_seconds", "How long the oldest change waits that is no conflict; 0: none waits.")
	conflicts = desc("conflicts", "Leases whose name is somebody else's at present.")
	inFlight  = desc("changes_in_flight", "Changes of a name that are worked on.")
	unnoted   = desc("unnoted_total", "Leases of other plugins that could not be noted; their replies were sent all the same.")
	serverUp  = desc("server_up", "Whether a server answers and takes the key, as far as is known: 1 or 0.", "server")
)

// register makes the metrics known to the host.
func (d *DDNS) register(host *server.Host) error {
	if err := host.Metrics().Register(metrics{d}); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// Describe is for prometheus.
func (metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{updates, waiting, oldest, conflicts, inFlight, unnoted, serverUp} {
		descs <- d
	}
}

// Collect is for prometheus.
func (m metrics) Collect(c chan<- prometheus.Metric) {
	run := m.d.running.Load()
	if run == nil {
		return // not started yet
	}
	s, n := run.worker.Stats(), run.leases.NameStats()
	for result, v := range map[string]uint64{
		"added": s.Added, "removed": s.Removed, "conflict": s.Conflicts, "unanswered": s.Unanswered, "key_refused": s.Unsigned, "failed": s.Failures,
	} {
		c <- prometheus.MustNewConstMetric(updates, prometheus.CounterValue, float64(v), result)
	}
	c <- prometheus.MustNewConstMetric(unnoted, prometheus.CounterValue, float64(m.d.unnoted.Load()))
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(waiting, float64(n.Waiting))
	gauge(oldest, n.Oldest.Seconds())
	gauge(conflicts, float64(n.Conflicts))
	gauge(inFlight, float64(s.InFlight))
	for _, server := range s.Servers {
		up := 0.0
		if server.Up {
			up = 1
		}
		gauge(serverUp, up, server.Server)
	}
}
