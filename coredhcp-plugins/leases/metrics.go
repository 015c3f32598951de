package leases

import (
	"fmt"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// typeLabels are the message types that the plugin takes, and the values of the
// label "type".
var typeLabels = map[dhcpv4.MessageType]string{
	dhcpv4.MessageTypeNone:     "bootp",
	dhcpv4.MessageTypeDiscover: "discover",
	dhcpv4.MessageTypeRequest:  "request",
	dhcpv4.MessageTypeDecline:  "decline",
	dhcpv4.MessageTypeRelease:  "release",
	dhcpv4.MessageTypeInform:   "inform",
}

// Reasons of package lease that the administrator must hear of: a client's pools are
// used up, or its port has as much of them as it may.
const (
	noFreeAddress = "no free address"
	portFull      = "clients without a reservation have as many addresses at this port as they may"
)

// noNetwork is the label of the reasons that say that a message is of no network of the site.
const noNetwork = "no_network"

// reasonLabels are the values of the label "reason" for the reasons of package
// lease and of this one. What is not here counts as "other": a label must not grow.
var reasonLabels = map[string]string{
	"offered": "offered", "new": "new", "renewed": "renewed", "configured": "configured",
	"released": "released", "declined": "declined", "not held by this client": "not_held",
	"failed": "failed", "network is gone": noNetwork, "no message type": "no_message_type",

	portFull:                      "port_full",
	noFreeAddress:                 "no_free_address",
	"too many addresses on offer": "too_many_offers",
	"no usable hardware address":  "no_client",
	"no usable hardware address or client identifier":          "no_client",
	"no network of ours on this link":                          noNetwork,
	"no network of ours":                                       noNetwork,
	"neither a server, nor an address asked for, nor one held": "no_state",
	"another server was selected":                              "other_server",
	"no address asked for":                                     "no_address_asked",
	"address is not available to this client":                  "not_available",
	"wrong network":                                            "wrong_network",
	"wrong address":                                            "wrong_address",
	"address is in no network any more":                        "wrong_network",
	"no record of this client":                                 "unknown_client",
	"BOOTP client without a reservation":                       "unknown_client",
	"no free address is reserved for this BOOTP client":        "not_available",
	lease.ReasonTrying:                                         "trying",
}

// metrics are what the plugin counts and measures.
type metrics struct {
	answers             *prometheus.CounterVec
	exhausted, declines *prometheus.CounterVec
	probes              *prometheus.CounterVec
	commitSeconds       prometheus.Histogram
	commitTransactions  prometheus.Histogram
	commitFailures      prometheus.Counter
}

const namespace, subsystem = "coredhcp", name

// newMetrics registers the metrics with the host.
func newMetrics(host *server.Host) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		answers:   counter("answers_total", "Messages by type, by the kind of the answer (offer, ack, nak, silent) and by the reason for it.", "type", "kind", "reason"),
		exhausted: counter("exhausted_total", "DISCOVERs that got no answer because no address was free, by the network they came from.", "network"),
		declines:  counter("declines_total", "Addresses that clients found in use by another machine, by network.", "network"),
		probes:    counter("probes_total", "Addresses that were tried before a client got them, by network and by result (free, conflict, skipped, unsent).", "network", "result"),
		commitSeconds: histogram("commit_seconds", "Time until a group of lease changes was on stable storage.",
			prometheus.ExponentialBuckets(0.0001, 2, 16)), // 0.1 ms to 3.3 s
		commitTransactions: histogram("commit_transactions", "Lease changes that shared one write to stable storage.",
			prometheus.ExponentialBuckets(1, 2, 11)), // 1 to 1024
		commitFailures: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem,
			Name: "commit_failures_total", Help: "Groups of lease changes that could not be written; none of them was answered."}),
	}
	for _, c := range []prometheus.Collector{
		m.answers, m.exhausted, m.declines, m.probes, m.commitSeconds, m.commitTransactions, m.commitFailures, pools{host},
	} {
		if err := host.Metrics().Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) answered(label, kind, reason string) {
	r, known := reasonLabels[reason]
	if !known {
		r = "other"
	}
	m.answers.WithLabelValues(label, kind, r).Inc()
}

// committed counts a batch that the lease manager wrote, or could not write.
func (m *metrics) committed(c lease.CommitInfo) {
	if c.Err != nil {
		m.commitFailures.Inc()
		return
	}
	m.commitSeconds.Observe(c.Took.Seconds())
	m.commitTransactions.Observe(float64(c.Transactions))
}

// pools has the lease manager counted when somebody looks, and not when something
// changes.
type pools struct{ host *server.Host }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
}

var (
	poolSize      = desc("pool_size", "Addresses of a network's pools that can be given away.", "network")
	poolAddresses = desc("pool_addresses", "Addresses of a network's pools by state: active, offered, declined, free.", "network", "state")
	fixedActive   = desc("fixed_active", "Reserved addresses of a network that their devices hold.", "network")
	bindings      = desc("bindings", "Addresses that are or were in use.")
	removals      = desc("removals", "Names that DNS still has to forget.")
	refused       = desc("refused_total", "Clients that got no address because too many that nobody knows were at their port.")
)

func (pools) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolSize, poolAddresses, fixedActive, bindings, removals, refused} {
		descs <- d
	}
}

func (p pools) Collect(c chan<- prometheus.Metric) {
	m := p.host.Leases()
	if m == nil {
		return // not started yet
	}
	gauge := func(d *prometheus.Desc, v uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	s := m.Stats()
	for _, n := range s.Networks {
		gauge(poolSize, n.Size, n.Network)
		gauge(poolAddresses, n.Active, n.Network, "active")
		gauge(poolAddresses, n.Offered, n.Network, "offered")
		gauge(poolAddresses, n.Declined, n.Network, "declined")
		gauge(poolAddresses, n.Free, n.Network, "free")
		gauge(fixedActive, n.Fixed, n.Network)
	}
	gauge(bindings, uint64(s.Bindings))
	gauge(removals, uint64(s.Removals))
	c <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(s.Refused))
}
