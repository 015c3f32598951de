package server

import (
	"context"
	"net"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestStalledDisk has REQUESTs come while no commit ends: what waits is bounded,
// and what is beyond that is dropped and counted.
func TestStalledDisk(t *testing.T) {
	stalled := &fakeCommit{}
	s := newServer(t, loopback("server_id: 192.0.2.2", registerFake(&promptFake{fake{handle: func(_ context.Context, x *Exchange) Verdict {
		x.Hold(stalled)
		return Continue
	}}})+":"))
	runServer(t, s)
	r := newRelay(t, s)
	const packets = heldAnswers + waitingRequests
	for n := range packets {
		req := message(t, dhcpv4.MessageTypeRequest, 0)
		req.ClientHWAddr = net.HardwareAddr{0, 0, 0x5e, byte(n >> 16), byte(n >> 8), byte(n)}
		r.send(req)
		if n%256 == 255 {
			waitFor(t, func() bool {
				m := series(t, s)
				return m[`received_total{type="request"}`]+m[`overflowed_total`] == float64(n+1)
			})
		}
	}
	expectMetrics(t, s, map[string]float64{`received_total{type="request"}`: heldAnswers, `overflowed_total`: waitingRequests, `sockets`: 1})
	stalled.end(nil)
	waitFor(t, func() bool { return s.held.Load() == 0 })
	req := message(t, dhcpv4.MessageTypeRequest, 0)
	r.send(req)
	waitFor(t, func() bool { return series(t, s)[`received_total{type="request"}`] == heldAnswers+1 })
}
