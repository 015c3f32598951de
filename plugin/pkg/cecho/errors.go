package cecho

import (
	"errors"
	"fmt"
)

// ErrProtocol says that the other side does not speak DICOM as it should.
var ErrProtocol = errors.New("not as DICOM has it")

// errClosed says that the other side has closed the connection without a word.
var errClosed = errors.New("connection closed by the other side")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%s (%w)", fmt.Sprintf(format, args...), ErrProtocol)
}

// A RejectedError is an A-ASSOCIATE-RJ (PS3.8 section 9.3.4).
type RejectedError struct{ Result, Source, Reason byte }

func (e *RejectedError) Error() string {
	how := "rejected"
	switch e.Result {
	case 1:
		how = "rejected-permanent"
	case 2:
		how = "rejected-transient"
	}
	return how + ": " + e.reason()
}

// reason is that of PS3.8 table 9-21, in words.
func (e *RejectedError) reason() string {
	switch [2]byte{e.Source, e.Reason} {
	case [2]byte{1, 1}, [2]byte{2, 1}:
		return "no reason given"
	case [2]byte{1, 2}:
		return "application context name not supported"
	case [2]byte{1, 3}:
		return "calling AE title not recognized"
	case [2]byte{1, 7}:
		return "called AE title not recognized"
	case [2]byte{2, 2}:
		return "protocol version not supported"
	case [2]byte{3, 1}:
		return "temporary congestion"
	case [2]byte{3, 2}:
		return "local limit exceeded"
	}
	return fmt.Sprintf("source %d, reason %d", e.Source, e.Reason)
}

// rejected reads the body of an A-ASSOCIATE-RJ.
func rejected(b []byte) error {
	if len(b) != 4 {
		return protocolError("A-ASSOCIATE-RJ of %d octets, expected 4", len(b))
	}
	return &RejectedError{Result: b[1], Source: b[2], Reason: b[3]}
}

// An AbortedError is an A-ABORT (PS3.8 section 9.3.8).
type AbortedError struct{ Source, Reason byte }

func (e *AbortedError) Error() string {
	if e.Source == 0 {
		return "aborted by the application"
	}
	reasons := map[byte]string{
		0: "reason not specified", 1: "unrecognized PDU", 2: "unexpected PDU",
		4: "unrecognized PDU parameter", 5: "unexpected PDU parameter", 6: "invalid PDU parameter value",
	}
	if reason, ok := reasons[e.Reason]; ok {
		return "aborted: " + reason
	}
	return fmt.Sprintf("aborted: source %d, reason %d", e.Source, e.Reason)
}

// A ContextError is an association without Verification: the application entity
// is there, and does not say more (PS3.8 table 9-18).
type ContextError struct{ Result byte }

func (e *ContextError) Error() string {
	reasons := map[byte]string{
		1: "user rejection", 2: "no reason given", 3: "abstract syntax not supported", 4: "transfer syntax not supported",
	}
	if reason, ok := reasons[e.Result]; ok {
		return "Verification not accepted: " + reason
	}
	return fmt.Sprintf("Verification not accepted: result %d", e.Result)
}

// A StatusError is an answer to C-ECHO other than success (PS3.7 section
// 9.1.5.1.4 and annex C).
type StatusError struct{ Status uint16 }

func (e *StatusError) Error() string {
	reasons := map[uint16]string{
		0x0122: "SOP class not supported", 0x0210: "duplicate invocation", 0x0211: "unrecognized operation", 0x0212: "mistyped argument",
		0x0124: "not authorized",
	}
	if reason, ok := reasons[e.Status]; ok {
		return fmt.Sprintf("status %04xH: %s", e.Status, reason)
	}
	return fmt.Sprintf("status %04xH", e.Status)
}

// unexpected is what a PDU means that was not expected here.
func unexpected(kind byte, body []byte) error {
	if kind == pduAbort {
		if len(body) != 4 {
			return protocolError("A-ABORT of %d octets, expected 4", len(body))
		}
		return &AbortedError{Source: body[2], Reason: body[3]}
	}
	return protocolError("unexpected %s", pduName(kind))
}

func pduName(kind byte) string {
	names := [...]string{
		pduAssociateRQ: "A-ASSOCIATE-RQ", pduAssociateAC: "A-ASSOCIATE-AC", pduAssociateRJ: "A-ASSOCIATE-RJ", pduData: "P-DATA-TF",
		pduReleaseRQ: "A-RELEASE-RQ", pduReleaseRP: "A-RELEASE-RP", pduAbort: "A-ABORT",
	}
	return names[kind]
}
