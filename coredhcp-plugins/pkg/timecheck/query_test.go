package timecheck

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
)

// answering is a server that answers each question with what f makes of it; nil: nothing.
func answering(t *testing.T, f func(question []byte) []byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if a := f(b[:n]); a != nil {
				if _, err := conn.WriteToUDPAddrPort(a, from); err != nil {
					return
				}
			}
		}
	}()
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// packet is a server's answer (RFC 5905 section 7.3).
func packet(question []byte, leap, stratum byte, refid string, clock time.Time) []byte {
	b := make([]byte, 48)
	b[0] = leap<<6 | 4<<3 | 4
	b[1], b[2], b[3] = stratum, 6, 0xe9
	binary.BigEndian.PutUint32(b[8:], 1<<10) // root dispersion: 1/64 s
	copy(b[12:16], refid)
	stamp := func(at int, t time.Time) {
		binary.BigEndian.PutUint32(b[at:], uint32(t.Unix()+2208988800))
		binary.BigEndian.PutUint32(b[at+4:], uint32(uint64(t.Nanosecond())<<32/1e9))
	}
	stamp(16, clock.Add(-time.Second))
	copy(b[24:32], question[40:48])
	stamp(32, clock)
	stamp(40, clock)
	return b
}

func TestAsk(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(q []byte) []byte
		check  func(Answer, error) bool
	}{
		{"good", func(q []byte) []byte { return packet(q, 0, 2, "\xc0\x00\x02\x01", time.Now()) },
			func(a Answer, err error) bool {
				return err == nil && a.Stratum == 2 && a.Kiss == "" && a.Invalid == "" && a.Offset.Abs() < time.Minute && a.RootDistance > 10*time.Millisecond
			}},
		{"an hour ahead", func(q []byte) []byte { return packet(q, 0, 2, "\xc0\x00\x02\x01", time.Now().Add(time.Hour)) },
			func(a Answer, err error) bool {
				return err == nil && a.Offset.Round(time.Minute) == time.Hour && a.Invalid == ""
			}},
		{"not synchronised", func(q []byte) []byte { return packet(q, 3, 0, "\x00\x00\x00\x00", time.Now()) },
			func(a Answer, err error) bool { return err == nil && a.Stratum == 0 && a.Kiss == "" }},
		{"alarm with a stratum", func(q []byte) []byte { return packet(q, 3, 3, "\xc0\x00\x02\x01", time.Now()) },
			func(a Answer, err error) bool { return err == nil && a.Invalid == "not synchronised" }},
		{"rate", func(q []byte) []byte { return packet(q, 3, 0, "RATE", time.Now()) },
			func(a Answer, err error) bool { return err == nil && a.Kiss == "RATE" }},
		{"stale", func(q []byte) []byte {
			b := packet(q, 0, 2, "\xc0\x00\x02\x01", time.Now())
			binary.BigEndian.PutUint32(b[16:], binary.BigEndian.Uint32(b[16:])-3*86400)
			return b
		}, func(a Answer, err error) bool { return err == nil && a.Invalid != "" }},
		{"somebody else's answer", func(q []byte) []byte { return packet(make([]byte, 48), 0, 2, "", time.Now()) },
			func(_ Answer, err error) bool { return err != nil }},
		{"cut off", func(q []byte) []byte { return packet(q, 0, 2, "", time.Now())[:20] },
			func(_ Answer, err error) bool { return err != nil }},
		{"nonsense", func([]byte) []byte { return []byte("hello") }, func(_ Answer, err error) bool { return err != nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := ask(t.Context(), answering(t, tt.answer))
			if !tt.check(a, err) {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	t.Run("no answer, and nobody waits for it", func(t *testing.T) {
		server := answering(t, func([]byte) []byte { return nil })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if a, err := ask(ctx, server); err == nil {
			t.Errorf("%+v", a)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
