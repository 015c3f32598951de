//go:build linux

package main

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// A server that leaves every fourth REQUEST unanswered, and refuses every fifth:
// the load counts both, and gives each client the address that was offered to it.
func TestExchanges(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]exchangeLoad{
		"as fast as answers come": {window: 7, patience: 100 * time.Millisecond},
		"paced":                   {rate: 4000, patience: 3 * time.Second},
		"clients that come back":  {window: 2, back: []int{7, 1 << 30, 8}, patience: 100 * time.Millisecond},
		"paced, with rests":       {rate: 4000, rest: overloadRest, patience: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testExchanges(t, load)
		})
	}
}

func testExchanges(t *testing.T, load exchangeLoad) {
	l, err := lab.New(lab.Config{Mode: lab.Loopback, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port, err := lab.FreePort(t.Context(), netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	requests, clients := make(chan int, 1), map[string]bool{}
	go func() {
		n, buffer := 0, make([]byte, 2048)
		defer func() { requests <- n }()
		for {
			size, from, err := server.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			m, err := dhcpv4.FromBytes(buffer[:size])
			if err != nil {
				t.Errorf("the load sends %v", err)
				return
			}
			mine := net.IP{10, m.ClientHWAddr[3], m.ClientHWAddr[4], m.ClientHWAddr[5]}
			answer, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithYourIP(mine), dhcpv4.WithServerIP(net.IPv4zero),
				dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IP{127, 0, 0, 1})))
			if err != nil {
				t.Error(err)
				return
			}
			if m.MessageType() == dhcpv4.MessageTypeRequest {
				n++
				clients[m.ClientHWAddr.String()] = true
				if !m.RequestedIPAddress().Equal(mine) || !m.ServerIdentifier().Equal(net.IP{127, 0, 0, 1}) {
					t.Errorf("client %v asks %v for %v", m.ClientHWAddr, m.ServerIdentifier(), m.RequestedIPAddress())
				}
				answer.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
				switch {
				case n%4 == 0:
					continue
				case n%5 == 0:
					answer.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
				}
			}
			if _, err := server.WriteToUDPAddrPort(answer.ToBytes(), from); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	load.from, load.relay = l.Client, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	load.to, load.limit = server.LocalAddr().(*net.UDPAddr).AddrPort(), 200
	got, err := load.run(t.Context())
	if err := errors.Join(err, server.Close()); err != nil {
		t.Fatal(err)
	}
	asked, want := <-requests, load.limit
	if load.back != nil {
		want = len(load.back)
	}
	if len(clients) != want {
		t.Errorf("%d clients, want %d", len(clients), want)
	}
	if refused := got.failed["message type 6"]; asked != 200 || got.lost != 50 || refused != 30 || len(got.latencies) != 120 {
		t.Errorf("of %d requests %d were acknowledged, %d refused and %d lost; want 120, 30 and 50 of 200", asked, len(got.latencies), refused, got.lost)
	}
}
