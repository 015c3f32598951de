//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// answerPatience is how long a client asks for one name until it counts as missing.
const answerPatience = 5 * time.Second

// An asker asks one DNS server by UDP until an answer is right. It asks again a while after each answer, so what it finds
// took up to that much less. It is for one goroutine, and spends little of the processors that the server needs: a
// question is packed once, and an answer without records is not looked into.
type asker struct {
	conn     net.Conn
	between  time.Duration // an answer and the next question
	patience time.Duration
	asked    uint16 // ID of the last question
	buf      [dns.DefaultMsgSize]byte
}

func newAsker(from *lab.Namespace, server netip.AddrPort, between time.Duration) (*asker, error) {
	conn, err := from.Dial("udp4", server)
	if err != nil {
		return nil, err
	}
	return &asker{conn: conn, between: between, patience: answerPatience}, nil
}

func (a *asker) close() { _ = a.conn.Close() } // nothing is asked any more

// await says when the right answer came.
func (a *asker) await(ctx context.Context, name string, qtype uint16, right func(dns.RR) bool) (time.Time, error) {
	q, err := new(dns.Msg).SetQuestion(name, qtype).Pack()
	if err != nil {
		return time.Time{}, err
	}
	for end := time.Now().Add(a.patience); ctx.Err() == nil; a.rest() {
		m, err := a.ask(q)
		now := time.Now()
		switch {
		case err == nil && m != nil && slices.ContainsFunc(m.Answer, right):
			return now, nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.ECONNREFUSED):
			return time.Time{}, err
		case now.After(end):
			return time.Time{}, fmt.Errorf("no %s", dns.TypeToString[qtype])
		}
	}
	return time.Time{}, ctx.Err()
}

// ask returns the answer to a packed question, or nil if there are no records in it.
func (a *asker) ask(q []byte) (*dns.Msg, error) {
	a.asked++
	binary.BigEndian.PutUint16(q, a.asked)
	if err := a.conn.SetDeadline(time.Now().Add(queryTimeout)); err != nil {
		return nil, err
	}
	if _, err := a.conn.Write(q); err != nil {
		return nil, err
	}
	for {
		n, err := a.conn.Read(a.buf[:])
		if err != nil {
			return nil, err
		}
		if n < 12 || binary.BigEndian.Uint16(a.buf[:]) != a.asked {
			continue // to a question that was given up
		}
		if binary.BigEndian.Uint16(a.buf[6:]) == 0 {
			return nil, nil
		}
		m := new(dns.Msg)
		return m, m.Unpack(a.buf[:n])
	}
}

// rest waits before the next question. A sleep of Go that is shorter than a millisecond takes more than one where the program has
// nothing else to do, and any takes up to 50 us longer than it is to, unless the thread wants it otherwise.
func (a *asker) rest() {
	if a.between >= time.Millisecond {
		time.Sleep(a.between)
		return
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // it sleeps all the same
	t := unix.NsecToTimespec(int64(a.between))
	_ = unix.Nanosleep(&t, nil) // a signal only ends it sooner
}

func isAddress(a netip.Addr) func(dns.RR) bool {
	return func(rr dns.RR) bool {
		x, ok := rr.(*dns.A)
		return ok && x.A.String() == a.String()
	}
}

func isPointer(name string) func(dns.RR) bool {
	return func(rr dns.RR) bool {
		x, ok := rr.(*dns.PTR)
		return ok && x.Ptr == name
	}
}
