package server

import (
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"
)

// typeNames are the values of the label `type`, by message type; other types,
// which a stranger can send, share the first.
var typeNames = [...]string{
	"other", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform",
}

// bootpName stands for a message without a type.
const bootpName = "bootp"

// byType counts messages by their type.
type byType struct {
	types [len(typeNames)]prometheus.Counter
	bootp prometheus.Counter
}

func newByType(c *prometheus.CounterVec, types ...dhcpv4.MessageType) byType {
	b := byType{bootp: c.WithLabelValues(bootpName)}
	b.types[0] = c.WithLabelValues(typeNames[0])
	for i := range b.types {
		b.types[i] = b.types[0]
	}
	for _, t := range types {
		b.types[t] = c.WithLabelValues(typeNames[t])
	}
	return b
}

// of returns the counter for a message.
func (b *byType) of(m *dhcpv4.DHCPv4) prometheus.Counter {
	if !m.Options.Has(dhcpv4.OptionDHCPMessageType) {
		return b.bootp
	}
	t := int(messageType(m))
	if t >= len(b.types) {
		t = 0
	}
	return b.types[t]
}

// metrics are what the server counts. Every packet that is read from a socket is
// counted once: as received, malformed, overflowed or late; and what was received
// once more: as sent, unanswered, panicked or failed.
type metrics struct {
	received, unanswered, sent                    byType
	malformed, overflowed, late, panicked, failed prometheus.Counter
	seconds                                       prometheus.Histogram
}

// newMetrics registers the metrics of a server with its own registry. waiting
// and sockets are gauges.
func newMetrics(r prometheus.Registerer, waiting, sockets func() float64) *metrics {
	const namespace, subsystem = "coredhcp", "server"
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	vec := func(name, help string, types ...dhcpv4.MessageType) byType {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{"type"})
		r.MustRegister(c)
		return newByType(c, types...)
	}
	gauge := func(name, help string, f func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, f))
	}
	requests := []dhcpv4.MessageType{
		dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease, dhcpv4.MessageTypeInform,
	}
	m := &metrics{
		received:   vec("received_total", "Requests that were received and understood, by message type.", requests...),
		unanswered: vec("unanswered_total", "Requests to which the plugins gave no answer, by the request's message type.", requests...),
		sent: vec("sent_total", "Answers that were sent, by message type.",
			dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak),
		malformed:  counter("malformed_total", "Packets that were dropped because they are no DHCP requests."),
		overflowed: counter("overflowed_total", "Packets that were dropped because too many were waiting."),
		late:       counter("late_total", "Packets that were dropped because they had waited longer than a client waits."),
		panicked:   counter("panicked_total", "Requests that were dropped because a plugin panicked."),
		failed:     counter("failed_total", "Answers that could not be encoded or sent."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "answer_seconds",
			Help:    "Time from when a request was read from its socket until its answer was handed to the network.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
	}
	r.MustRegister(m.seconds)
	gauge("waiting", "Packets that were read and wait to be worked on.", waiting)
	gauge("sockets", "Sockets that are open for clients.", sockets)
	return m
}
