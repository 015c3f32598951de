package control

import (
	"net/netip"
	"time"
)

// Time is the command that package ntp answers: no arguments; each item a TimeServer, in the order in which they are configured.
const Time = "time"

// Verdicts on a TimeServer.
const (
	TimeGood    = "good"    // given to clients
	TimeBad     = "bad"     // not given, unless no server of the list is good
	TimeUnknown = "unknown" // not asked, or not yet
)

// TimeServer is one address of a configured time server. Durations are seconds.
type TimeServer struct {
	Server       string     `json:"server"`  // as the site file has it: an address or a host name
	Address      netip.Addr `json:"address"` // "" where the name has none
	Verdict      string     `json:"verdict"`
	Reason       string     `json:"reason"` // why it is not good; "" if it is
	Stratum      uint8      `json:"stratum"`
	RootDistance float64    `json:"root_distance"`
	Deviation    float64    `json:"deviation"` // from the median of its peers; positive: it is ahead
	RoundTrip    float64    `json:"round_trip"`
	Answered     *time.Time `json:"answered"` // when it answered last; nil: never
	Next         *time.Time `json:"next"`     // when it is asked again; nil: never
	Questions    uint64     `json:"questions"`
	Answers      uint64     `json:"answers"`
	Kisses       uint64     `json:"kisses"` // answers that were kiss codes
}
