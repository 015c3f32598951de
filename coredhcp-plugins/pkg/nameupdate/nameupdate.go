// Package nameupdate makes DNS show the names that the leases ask for, by signed
// DNS UPDATE (RFC 2136, RFC 8945) in the sequences of RFC 4703.
//
// It keeps no queue of its own. The lease store knows, durably, which names DNS
// shall show or lose and which of them are confirmed; a Worker takes what is
// unconfirmed, makes DNS equal to it and confirms. Every step may be repeated
// without harm: an addition that was applied is recognized by its DHCID record,
// a removal that was applied finds nothing. So whatever is lost on the way, an
// answer, this process or the DNS server, is healed by doing the step again.
//
// Failures are told apart by what they say about other changes. A server that
// does not answer, or that refuses the key, fails them all: the Worker stops
// taking changes, tries one from time to time, and goes on at full speed when it
// gets through. A zone that refuses fails its own changes: those that were tried
// before are let through only at a trickle until one of them succeeds. A name
// that belongs to somebody else fails alone. In each case the log has one line
// for the problem, not one for each attempt.
package nameupdate

import (
	"log/slog"
	"strings"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// Queue is where the changes come from: a *lease.Manager.
type Queue interface {
	// TakeNameChanges returns up to limit changes that DNS has not confirmed, and
	// no two at once that share a name or an address: in their order while none
	// waits for long, else the newest first. Each must be confirmed or returned.
	TakeNameChanges(limit int) []lease.NameChange
	// NameChanges is signalled when there may be something to take.
	NameChanges() <-chan struct{}
	// NamesAhead are names that may soon be those of changes.
	NamesAhead() <-chan string
	// ConfirmNameChange says that DNS is as the change wants it.
	ConfirmNameChange(lease.NameChange) error
	// ReturnNameChange gives a change back that was not tried; it is not to be taken before retryAt.
	ReturnNameChange(c lease.NameChange, retryAt time.Time)
	// FailNameChange gives a change back that failed, and says why.
	FailNameChange(c lease.NameChange, retryAt time.Time, why lease.Trouble)
	// RetryNameChanges has what was given back taken again, whatever time was set, but for conflicts.
	RetryNameChanges()
	// HoldNameChanges says why none are taken at present; "" if they are.
	HoldNameChanges(why string)
}

var _ Queue = (*lease.Manager)(nil)

// Config says where and how to update.
type Config struct {
	// Routes say which servers take the updates of which zones, hosts best as
	// addresses: a host name is looked up again and again.
	Routes []Route
	// Keys sign the updates. What no key is for is sent unsigned, for servers that
	// admit by address.
	Keys []ZoneKey
	// ReadKeys reads Keys again, with other secrets or algorithms: at Worker.ReadKeys, and
	// every second while a server refuses a key. Default: Keys stay as they are.
	ReadKeys func() ([]ZoneKey, error)
	// Resolvers, as HOST:PORT, are asked for the primary servers of zones that
	// Routes has none for, or whose servers delegate them to others.
	Resolvers []string
	// TTL gives the TTL of a lease's records; it is called concurrently. Default:
	// the function TTL.
	TTL func(leaseTime time.Duration) time.Duration
	// Logger gets one line for each lasting problem. Default: none.
	Logger *slog.Logger
	// Timeout is how long one try waits for its answer, and a TCP exchange in
	// total. Default 2 s.
	Timeout time.Duration
	// Tries is how often an exchange is sent by UDP before the server is thought
	// to be down. Default 3.
	Tries int
	// InFlight is how many changes are worked on at once; more, up to mostAway times as many, where the server is far
	// away, and fewer where messages are lost. Default 64: BIND takes 100 updates at a time.
	InFlight int
}

// Bounds of what the default TTL gives.
const (
	MinTTL = 10 * time.Minute // RFC 4702 section 5
	MaxTTL = 24 * time.Hour
)

// TTL is the TTL of the records of a lease: a third of the lease time, but at
// least MinTTL (RFC 4702 section 5) and at most MaxTTL, which an infinite lease
// (zero, less, or lease.Infinite) gets too.
func TTL(leaseTime time.Duration) time.Duration { return boundTTL(leaseTime, MinTTL, MaxTTL) }

// TTLWithin is TTL with other bounds.
func TTLWithin(least, most time.Duration) func(leaseTime time.Duration) time.Duration {
	return func(leaseTime time.Duration) time.Duration { return boundTTL(leaseTime, least, most) }
}

func boundTTL(leaseTime, least, most time.Duration) time.Duration {
	if leaseTime <= 0 {
		return most
	}
	return min(max(leaseTime/3, least), most)
}

// New returns a Worker that makes DNS equal to what q asks for. It does nothing
// before Run.
func New(c Config, q Queue) *Worker {
	c = c.withDefaults()
	r := &routes{routes: c.Routes, keys: c.Keys, made: make(map[string]*upstream)}
	r.dial = func(server string, key tsigkey.Key, alone bool) exchanger {
		tries := c.Tries
		if !alone { // the next one is asked sooner
			tries = min(tries, 2)
		}
		return &client{server: server, key: key, timeout: c.Timeout, tries: tries}
	}
	if len(c.Resolvers) > 0 {
		up := &upstream{name: strings.Join(c.Resolvers, ","), servers: r.dialAll(c.Resolvers, tsigkey.Key{})}
		r.resolver = &resolver{up: up, known: make(map[string]primaryEntry)}
	}
	return newWorker(c, q, r)
}

func (c Config) withDefaults() Config {
	if c.TTL == nil {
		c.TTL = TTL
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Tries <= 0 {
		c.Tries = 3
	}
	if c.InFlight <= 0 {
		c.InFlight = 64
	}
	return c
}
