package ntp

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/timecheck"
)

// metrics are what the checker knows when somebody looks.
type metrics struct{ checker *timecheck.Checker }

func desc(metric, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("coredhcp", name, metric), help, labels, nil)
}

var (
	labels       = []string{"server", "address"}
	serverGood   = desc("server_good", "Whether a time server is given to clients: 1 good, 0 bad or not asked yet.", labels...)
	stratum      = desc("server_stratum", "Stratum that a time server has said of itself.", labels...)
	rootDistance = desc("server_root_distance_seconds", "How far a time server is from its reference clock at the most.", labels...)
	deviation    = desc("server_deviation_seconds", "How far a time server is ahead of the median of its peers.", labels...)
	questions    = desc("questions_total", "Questions to a time server.", labels...)
	answers      = desc("answers_total", "Answers of a time server that say a time.", labels...)
	kisses       = desc("kisses_total", "Kiss codes of a time server: it refuses to answer, or wants fewer questions.", labels...)
	hopeless     = desc("lists_without_good_server", "Lists of ntp-servers of which no server is good; clients are given all of them.")
)

func (metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{serverGood, stratum, rootDistance, deviation, questions, answers, kisses, hopeless} {
		descs <- d
	}
}

func (m metrics) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, s := range m.checker.Status() {
		if !s.Address.IsValid() {
			gauge(serverGood, 0, s.Server, "")
			continue
		}
		l := []string{s.Server, s.Address.String()}
		good := 0.0
		if s.Verdict == timecheck.Good {
			good = 1
		}
		gauge(serverGood, good, l...)
		if !s.Answered.IsZero() {
			gauge(stratum, float64(s.Stratum), l...)
			gauge(rootDistance, s.RootDistance.Seconds(), l...)
			gauge(deviation, s.Deviation.Seconds(), l...)
		}
		for d, n := range map[*prometheus.Desc]uint64{questions: s.Questions, answers: s.Answers, kisses: s.Kisses} {
			c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), l...)
		}
	}
	gauge(hopeless, float64(len(m.checker.Alarms())))
}
