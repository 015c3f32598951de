package cecho

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// peer answers one connection by f, and returns its address.
func peer(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return // the test has ended
		}
		defer conn.Close()
		f(conn)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// request reads one PDU of the client.
func request(c net.Conn) []byte {
	a := &association{conn: c}
	kind, body, err := a.next()
	if err != nil {
		return nil
	}
	return append([]byte{kind}, body...)
}

// associateAC is the body of an A-ASSOCIATE-AC with those items behind the
// fields of fixed length.
func associateAC(items ...[]byte) []byte {
	fixed := make([]byte, 68)
	fixed[1] = 1
	return append(bytes.Clone(fixed), bytes.Join(items, nil)...)
}

// contextItem is the answer to the presentation context.
func contextItem(result byte, syntax string) []byte {
	return item(0x21, append([]byte{contextID, 0, result, 0}, item(0x40, []byte(syntax)...)...)...)
}

var userItem = item(0x50, append(item(0x51, 0, 0, 0, 0), append(item(0x52, []byte("1.2.3\x00")...), item(0x55, []byte("PEER \x1b[31m")...)...)...)...)

// element is one of group 0000, with a value of two octets.
func element(tag, value uint16) []byte {
	return []byte{0, 0, byte(tag), byte(tag >> 8), 2, 0, 0, 0, byte(value), byte(value >> 8)}
}

func echoRSP(status uint16) []byte {
	return bytes.Join([][]byte{element(tagField, fieldEchoRSP), element(tagRespondedTo, messageID), element(tagDataSet, noDataSet), element(tagStatus, status)}, nil)
}

// value is a presentation data value.
func value(id, control byte, data []byte) []byte {
	n := len(data) + 2
	return append([]byte{0, 0, byte(n >> 8), byte(n), id, control}, data...)
}

func TestEcho(t *testing.T) {
	associated := pdu(pduAssociateAC, associateAC(contextItem(0, implicitVR), userItem))
	rsp := echoRSP(0)
	tests := []struct {
		name        string
		association []byte   // answer to A-ASSOCIATE-RQ
		echo        [][]byte // answer to C-ECHO-RQ, PDU by PDU
		want        string   // error; "" is none
	}{
		{"success", associated, [][]byte{pdu(pduData, value(1, 3, rsp))}, ""},
		{"in fragments", associated, [][]byte{pdu(pduData, append(value(1, 1, rsp[:7]), value(1, 1, rsp[7:9])...)), pdu(pduData, value(1, 3, rsp[9:]))}, ""},
		{"unknown items", pdu(pduAssociateAC, associateAC(item(0x99, 1, 2), contextItem(0, implicitVR+"\x00"))), [][]byte{pdu(pduData, value(1, 3, rsp))}, ""},
		{"status", associated, [][]byte{pdu(pduData, value(1, 3, echoRSP(0x0122)))}, "C-ECHO: status 0122H: SOP class not supported"},
		{"unknown status", associated, [][]byte{pdu(pduData, value(1, 3, echoRSP(0xc000)))}, "C-ECHO: status c000H"},
		{"called title", pdu(pduAssociateRJ, []byte{0, 1, 1, 7}), nil, "association: rejected-permanent: called AE title not recognized"},
		{"calling title", pdu(pduAssociateRJ, []byte{0, 1, 1, 3}), nil, "association: rejected-permanent: calling AE title not recognized"},
		{"congestion", pdu(pduAssociateRJ, []byte{0, 2, 3, 1}), nil, "association: rejected-transient: temporary congestion"},
		{"limit", pdu(pduAssociateRJ, []byte{0, 2, 3, 2}), nil, "association: rejected-transient: local limit exceeded"},
		{"reserved reason", pdu(pduAssociateRJ, []byte{0, 9, 8, 7}), nil, "association: rejected: source 8, reason 7"},
		{"short rejection", pdu(pduAssociateRJ, []byte{0, 1}), nil, "A-ASSOCIATE-RJ of 2 octets, expected 4"},
		{"abort", pdu(pduAbort, []byte{0, 0, 0, 0}), nil, "association: aborted by the application"},
		{"abort of the provider", associated, [][]byte{pdu(pduAbort, []byte{0, 0, 2, 2})}, "C-ECHO: aborted: unexpected PDU"},
		{"short abort", associated, [][]byte{pdu(pduAbort, nil)}, "A-ABORT of 0 octets"},
		{"no Verification", pdu(pduAssociateAC, associateAC(contextItem(3, ""))), nil, "association: Verification not accepted: abstract syntax not supported"},
		{"another syntax", pdu(pduAssociateAC, associateAC(contextItem(0, "1.2.840.10008.1.2.1"))), nil, `transfer syntax "1.2.840.10008.1.2.1", expected 1.2.840.10008.1.2`},
		{"no context", pdu(pduAssociateAC, associateAC()), nil, "without the presentation context"},
		{"two contexts", pdu(pduAssociateAC, associateAC(contextItem(0, implicitVR), contextItem(0, implicitVR))), nil, "stands twice"},
		{"another context", pdu(pduAssociateAC, associateAC(item(0x21, 3, 0, 0, 0))), nil, "presentation context 3, expected 1"},
		{"short context", pdu(pduAssociateAC, associateAC(item(0x21, 1))), nil, "presentation context of 1 octets"},
		{"version", pdu(pduAssociateAC, make([]byte, 68)), nil, "protocol version"},
		{"short AC", pdu(pduAssociateAC, make([]byte, 67)), nil, "67 octets, expected 68 at least"},
		{"item that is too long", pdu(pduAssociateAC, associateAC([]byte{0x21, 0, 255, 255, 1})), nil, "item 0x21 of 65539 octets, with 5 left"},
		{"half an item", pdu(pduAssociateAC, associateAC([]byte{0x21})), nil, "item of 1 octets"},
		{"wrong PDU", pdu(pduReleaseRP, make([]byte, 4)), nil, "unexpected A-RELEASE-RP"},
		{"a request", associateRQ("A", "B"), nil, "unexpected A-ASSOCIATE-RQ"},
		{"HTTP", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), nil, "PDU of type 0x48, expected 01 to 07: is this DICOM?"},
		{"huge length", []byte{2, 0, 255, 255, 255, 255}, nil, "A-ASSOCIATE-AC of 4294967295 octets, expected at most 65536"},
		{"release instead of an answer", associated, [][]byte{pdu(pduReleaseRQ, make([]byte, 4))}, "unexpected A-RELEASE-RQ"},
		{"no value", associated, [][]byte{pdu(pduData, nil)}, "P-DATA-TF without a value"},
		{"half a value", associated, [][]byte{pdu(pduData, []byte{0, 0, 0})}, "presentation data value of 3 octets"},
		{"long value", associated, [][]byte{pdu(pduData, []byte{0, 0, 0, 9, 1, 3})}, "presentation data value of 9 octets, with 2 left"},
		{"empty value", associated, [][]byte{pdu(pduData, []byte{0, 0, 0, 0, 1, 3})}, "presentation data value of 0 octets"},
		{"value of another context", associated, [][]byte{pdu(pduData, value(3, 3, rsp))}, "presentation context 3"},
		{"data set", associated, [][]byte{pdu(pduData, value(1, 2, rsp))}, "a data set"},
		{"two answers", associated, [][]byte{pdu(pduData, append(value(1, 3, rsp), value(1, 3, rsp)...))}, "more after the last fragment"},
		{"endless command", associated, [][]byte{pdu(pduData, value(1, 1, make([]byte, 8000))), pdu(pduData, value(1, 1, make([]byte, 8000)))}, "command of more than 8192 octets"},
		{"another message", associated, [][]byte{pdu(pduData, value(1, 3, append(element(tagField, fieldEchoRSP), element(tagRespondedTo, 2)...)))},
			"Message ID Being Responded To (0000,0120) is 0002H, expected 0001H"},
		{"a request as answer", associated, [][]byte{pdu(pduData, value(1, 3, element(tagField, fieldEchoRQ)))}, "Command Field (0000,0100) is 0030H, expected 8030H"},
		{"no status", associated, [][]byte{pdu(pduData, value(1, 3, rsp[:30]))}, "answer without Status (0000,0900)"},
		{"empty command", associated, [][]byte{pdu(pduData, value(1, 3, nil))}, "Command Field (0000,0100) is missing"},
		{"another group", associated, [][]byte{pdu(pduData, value(1, 3, []byte{8, 0, 0, 0, 0, 0, 0, 0}))}, "element (0008,0000) in a command"},
		{"elements out of order", associated, [][]byte{pdu(pduData, value(1, 3, append(element(2, 0), element(1, 0)...)))}, "element (0000,0001) after (0000,0002)"},
		{"long element", associated, [][]byte{pdu(pduData, value(1, 3, []byte{0, 0, 0, 0, 255, 255, 255, 255}))}, "element (0000,0000) of 4294967295 octets, with 0 left"},
		{"half an element", associated, [][]byte{pdu(pduData, value(1, 3, []byte{0, 0, 0}))}, "element of 3 octets"},
		{"closed", nil, nil, "association: connection closed by the other side"},
		{"closed later", associated, nil, "C-ECHO: connection closed by the other side"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got [][]byte
			address := peer(t, func(c net.Conn) {
				got = append(got, request(c))
				if _, err := c.Write(tt.association); err != nil || tt.echo == nil {
					closeWell(c)
					return
				}
				got = append(got, request(c))
				for _, b := range tt.echo {
					if _, err := c.Write(b); err != nil {
						return
					}
				}
				if got = append(got, request(c)); got[2] != nil && got[2][0] == pduReleaseRQ {
					_, _ = c.Write(pdu(pduReleaseRP, make([]byte, 4)))
				}
				closeWell(c)
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := (&Client{}).Echo(ctx, address, "CALLED AE")
			if tt.want == "" {
				if err != nil || r.Answer < r.Associate || r.Associate < r.Connect || r.Connect <= 0 {
					t.Fatalf("%+v, %v", r, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if ctx.Err() != nil {
				t.Error("it took until the deadline")
			}
		})
	}
}

// closeWell lets the other side read what was written before.
func closeWell(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c, 1<<20))
}

// TestRequest compares what is sent, octet by octet, with PS3.8 section 9.3.2 and
// PS3.7 section 9.3.5.1.
func TestRequest(t *testing.T) {
	rq := associateRQ("CALLING", "CALLED")
	want := "\x01\x00\x00\x00\x00\xd3" + "\x00\x01\x00\x00" + "CALLED          " + "CALLING         " + strings.Repeat("\x00", 32) +
		"\x10\x00\x00\x151.2.840.10008.3.1.1.1" +
		"\x20\x00\x00\x2e\x01\x00\x00\x00" + "\x30\x00\x00\x111.2.840.10008.1.1" + "\x40\x00\x00\x111.2.840.10008.1.2" +
		"\x50\x00\x00\x46" + "\x51\x00\x00\x04\x00\x00\x40\x00" + "\x52\x00\x00\x2c" + implementationClass + "\x55\x00\x00\x0aDICOMNAM_1"
	want = want[:4] + string([]byte{byte((len(want) - 6) >> 8), byte(len(want) - 6)}) + want[6:]
	if string(rq) != want {
		t.Errorf("A-ASSOCIATE-RQ\n%x, want\n%x", rq, want)
	}
	if len(implementationClass) > 64 || len(implementationVersion) > 16 {
		t.Error("implementation identification is too long")
	}
	echo := "\x04\x00\x00\x00\x00\x4a" + "\x00\x00\x00\x46\x01\x03" +
		"\x00\x00\x00\x00\x04\x00\x00\x00\x38\x00\x00\x00" +
		"\x00\x00\x02\x00\x12\x00\x00\x001.2.840.10008.1.1\x00" +
		"\x00\x00\x00\x01\x02\x00\x00\x00\x30\x00" + "\x00\x00\x10\x01\x02\x00\x00\x00\x01\x00" + "\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01"
	if got := string(echoRQ()); got != echo {
		t.Errorf("C-ECHO-RQ\n%x, want\n%x", got, echo)
	}
}

func TestWhatThePeerSaysOfItself(t *testing.T) {
	address := peer(t, func(c net.Conn) {
		request(c)
		_, _ = c.Write(pdu(pduAssociateAC, associateAC(contextItem(0, implicitVR), userItem)))
		closeWell(c)
	})
	r, err := (&Client{}).Echo(t.Context(), address, "A")
	if err == nil || r.ImplementationClass != "1.2.3" || r.ImplementationVersion != "PEER [31m" || r.Answer != 0 || r.Associate == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestTitles(t *testing.T) {
	for _, title := range []string{"", " ", "ABCDEFGHIJKLMNOPQ", `A\B`, "A\x00", "Ü"} {
		if _, err := (&Client{}).Echo(t.Context(), "127.0.0.1:1", title); err == nil || !strings.Contains(err.Error(), "AE title") {
			t.Errorf("called %q: %v", title, err)
		}
		if title == "" {
			continue // the default
		}
		if _, err := (&Client{CallingAE: title}).Echo(t.Context(), "127.0.0.1:1", "A"); err == nil || !strings.Contains(err.Error(), "AE title") {
			t.Errorf("calling %q: %v", title, err)
		}
	}
}

// TestTimeIsBounded: a peer that hangs, that drips, that never stops talking or
// that does not end the association takes no more time than it is given.
func TestTimeIsBounded(t *testing.T) {
	associated := pdu(pduAssociateAC, associateAC(contextItem(0, implicitVR)))
	drip := func(c net.Conn, b []byte) {
		for _, octet := range b {
			if _, err := c.Write([]byte{octet}); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	for name, f := range map[string]func(net.Conn){
		"silence": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"silence after the association": func(c net.Conn) {
			request(c)
			_, _ = c.Write(associated)
			_, _ = io.Copy(io.Discard, c)
		},
		"drip": func(c net.Conn) { drip(c, associated) },
	} {
		t.Run(name, func(t *testing.T) {
			address := peer(t, f)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			begin := time.Now()
			_, err := (&Client{}).Echo(ctx, address, "A")
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time") {
				t.Errorf("%v", err)
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
	t.Run("no end of data", func(t *testing.T) {
		address := peer(t, func(c net.Conn) {
			request(c)
			b := pdu(pduData, value(1, 1, nil))
			for _, err := c.Write(associated); err == nil; _, err = c.Write(bytes.Repeat(b, 100)) {
			}
		})
		if _, err := (&Client{}).Echo(t.Context(), address, "A"); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "without an answer") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no release", func(t *testing.T) {
		address := peer(t, func(c net.Conn) {
			request(c)
			_, _ = c.Write(associated)
			request(c)
			_, _ = c.Write(pdu(pduData, value(1, 3, echoRSP(0))))
			_, _ = io.Copy(io.Discard, c)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := (&Client{}).Echo(ctx, address, "A"); err != nil {
			t.Errorf("an answer without release: %v", err)
		}
	})
	t.Run("release of both", func(t *testing.T) {
		answered := make(chan []byte, 1)
		address := peer(t, func(c net.Conn) {
			request(c)
			_, _ = c.Write(associated)
			request(c)
			_, _ = c.Write(append(pdu(pduData, value(1, 3, echoRSP(0))), pdu(pduReleaseRQ, make([]byte, 4))...))
			request(c)
			answered <- request(c)
			_, _ = c.Write(pdu(pduReleaseRP, make([]byte, 4)))
		})
		if _, err := (&Client{}).Echo(t.Context(), address, "A"); err != nil {
			t.Error(err)
		}
		if got := <-answered; got == nil || got[0] != pduReleaseRP {
			t.Errorf("a release was answered by %x", got)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		address := peer(t, func(c net.Conn) {
			request(c)
			cancel()
			_, _ = io.Copy(io.Discard, c)
		})
		if _, err := (&Client{}).Echo(ctx, address, "A"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
	t.Run("closed port", func(t *testing.T) {
		if _, err := (&Client{}).Echo(t.Context(), "127.0.0.1:1", "A"); err == nil || !strings.Contains(err.Error(), "connecting: ") {
			t.Errorf("%v", err)
		}
	})
}

// FuzzEcho lets the other side say anything.
func FuzzEcho(f *testing.F) {
	associated := pdu(pduAssociateAC, associateAC(contextItem(0, implicitVR), userItem))
	f.Add(associated)
	f.Add(append(bytes.Clone(associated), pdu(pduData, value(1, 3, echoRSP(0)))...))
	f.Add(append(bytes.Clone(associated), pdu(pduData, append(value(1, 1, echoRSP(0)[:5]), value(1, 3, echoRSP(0)[5:])...))...))
	f.Add(pdu(pduAssociateRJ, []byte{0, 1, 1, 7}))
	f.Add(pdu(pduAbort, []byte{0, 0, 2, 6}))
	f.Add([]byte{2, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, said []byte) {
		here, there := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			go func() { _, _ = io.Copy(io.Discard, there) }()
			_, _ = there.Write(said)
			there.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_ = here.SetDeadline(time.Now().Add(time.Minute))
		var r Result
		a := &association{conn: here}
		_, err := a.echo(ctx, &r, time.Now(), "A", "B")
		here.Close()
		<-done
		if ctx.Err() != nil {
			t.Fatal("it takes for ever")
		}
		if a.read > maxRead+maxPDU+6 {
			t.Fatalf("%d octets were read", a.read)
		}
		if err == nil && r.Answer == 0 {
			t.Fatal("success without an answer")
		}
	})
}
