package nameupdate

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// errConflict: the name belongs to somebody else.
var errConflict = errors.New("the name is in use by another client or was entered by hand")

// errAlias: the pointer of the address stands elsewhere, in a zone for a part of the network.
var errAlias = errors.New("it has an alias there, as of a part of a network that is delegated (RFC 2317)")

// pointerError: what failed is the reverse zone's part of a change. The name is as it
// shall be, or somebody else's.
type pointerError struct {
	conflict bool
	err      error
}

func (e *pointerError) Error() string {
	if e.conflict {
		return fmt.Sprintf("%v; its pointer: %v", errConflict, e.err)
	}
	return e.err.Error()
}
func (e *pointerError) Unwrap() error { return e.err }

// serverError: the server does not answer by UDP, which says nothing about the
// change but that it has to wait.
type serverError struct {
	server string
	err    error
}

func (e *serverError) Error() string {
	return fmt.Sprintf("DNS server %s does not answer: %v", e.server, e.err)
}
func (e *serverError) Unwrap() error { return e.err }

// tcpError: a message too long for UDP found no answer by TCP.
type tcpError struct {
	server string
	err    error
}

func (e *tcpError) Error() string {
	return fmt.Sprintf("DNS server %s does not answer by TCP: %v", e.server, e.err)
}
func (e *tcpError) Unwrap() error { return e.err }

// keyError: the server does not take our signature (RFC 8945 section 5.2).
type keyError struct {
	server, key string
	code        uint16 // TSIG error
	// With BADTIME, as far as it is known: what the two clocks showed, and how far the server's is ahead of ours.
	theirs, ours time.Time
	offset       time.Duration
}

func (e *keyError) Error() string {
	who := "DNS server " + e.server
	switch e.code {
	case dns.RcodeBadTime:
		direction, d := "ahead of", e.offset
		if d < 0 {
			direction, d = "behind", -d
		}
		if d == 0 {
			return fmt.Sprintf("%s refuses the time of our signatures (BADTIME): its clock and this host's differ by more than %d s", who, fudge)
		}
		return fmt.Sprintf("%s refuses the time of our signatures (BADTIME): its clock is %s %s this host's, %d s are allowed: it is %s there and %s here",
			who, d, direction, fudge, e.theirs.UTC().Format(time.RFC3339), e.ours.UTC().Format(time.RFC3339))
	case dns.RcodeBadKey:
		return fmt.Sprintf("%s does not know key %s, or not with this algorithm (BADKEY)", who, e.key)
	case dns.RcodeBadSig:
		return fmt.Sprintf("%s has another secret for key %s (BADSIG)", who, e.key)
	}
	return fmt.Sprintf("%s refuses key %s: TSIG error %s", who, e.key, rcodeName(int(e.code)))
}

// keyErrorOf reads the TSIG record of an answer that reports an error. The
// server's clock stands in the other data of BADTIME (RFC 8945 section 5.2.3).
func keyErrorOf(server, key string, t *dns.TSIG, now time.Time) *keyError {
	e := &keyError{server: server, key: key, code: t.Error}
	if t.Error == dns.RcodeBadTime {
		if b, err := hex.DecodeString(t.OtherData); err == nil && len(b) == 6 {
			seconds := int64(binary.BigEndian.Uint64(append([]byte{0, 0}, b...)))
			if delta := seconds - now.Unix(); -9e9 < delta && delta < 9e9 {
				e.offset, e.theirs, e.ours = time.Duration(delta)*time.Second, time.Unix(seconds, 0), now
			}
		}
	}
	return e
}

// answerError: the server answered a message about the zone with an rcode that
// is no part of the sequence.
type answerError struct {
	zone  string
	rcode int
}

func (e *answerError) Error() string {
	why := ""
	switch e.rcode {
	case dns.RcodeRefused:
		why = " (the key may not change these records)"
	case dns.RcodeNotAuth:
		why = " (the server is not the primary of the zone)"
	}
	return fmt.Sprintf("updating zone %s: %s%s", e.zone, rcodeName(e.rcode), why)
}

// noZoneError: the server has no zone that the name is in.
type noZoneError struct {
	server, name, why string
	unsure            bool   // it had one not long ago, or has been asked for too short a time
	delegated         string // the zone that it has given to other servers, "" if none
}

func (e *noZoneError) Error() string {
	return fmt.Sprintf("server %s is not authoritative for %s: %s", e.server, e.name, e.why)
}

func rcodeName(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("RCODE%d", rcode)
}
