package server

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestFrame compares with what gopacket makes of the same layers.
func TestFrame(t *testing.T) {
	source := net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 2}
	from, to := netip.MustParseAddrPort("192.0.2.2:67"), netip.MustParseAddrPort("192.0.2.100:68")
	for _, payload := range [][]byte{nil, {1}, bytes.Repeat([]byte{0xff}, 300), bytes.Repeat([]byte{0xfe, 1}, 736), make([]byte, 301)} {
		ip := &layers.IPv4{
			Version: 4, IHL: 5, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP,
			SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice(),
		}
		udp := &layers.UDP{SrcPort: 67, DstPort: 68}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		want := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(want, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&layers.Ethernet{SrcMAC: source, DstMAC: net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1}, EthernetType: layers.EthernetTypeIPv4},
			ip, udp, gopacket.Payload(payload)); err != nil {
			t.Fatal(err)
		}
		got := appendFrame(nil, [6]byte{0, 0, 0x5e, 0, 0x53, 1}, source, from, to, payload)
		// gopacket pads short frames, which the kernel does for us.
		if wire := want.Bytes(); len(wire) < len(got) || !bytes.Equal(got, wire[:len(got)]) {
			t.Errorf("payload of %d octets:\n got %x\nwant %x", len(payload), got, wire)
		}
	}
}

// TestFrameChecksumZero: a checksum that comes out as 0 is sent as ffff.
func TestFrameChecksumZero(t *testing.T) {
	from, to := netip.MustParseAddrPort("192.0.2.2:67"), netip.MustParseAddrPort("192.0.2.100:68")
	plain := appendFrame(nil, [6]byte{}, make(net.HardwareAddr, 6), from, to, []byte{0, 0})
	// Adding the checksum itself to the payload makes the sum ffff.
	check := plain[ethernetHeader+ipv4Header+6:][:2]
	got := appendFrame(nil, [6]byte{}, make(net.HardwareAddr, 6), from, to, check)
	if c := got[ethernetHeader+ipv4Header+6:][:2]; !bytes.Equal(c, []byte{0xff, 0xff}) {
		t.Errorf("checksum %x", c)
	}
}

// frameLog keeps frames instead of sending them.
type frameLog struct {
	frames [][]byte
	err    error
}

func (f *frameLog) writeFrame(_ *netInterface, frame []byte) error {
	if f.err != nil {
		return f.err
	}
	f.frames = append(f.frames, bytes.Clone(frame))
	return nil
}

func (f *frameLog) prune(*interfaceTable) {}
func (f *frameLog) close() error          { return nil }

func TestSendFrame(t *testing.T) {
	hardware := net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 2}
	eth := &netInterface{index: 3, name: "eth0", hardware: hardware,
		addrs:    []netip.Addr{addr("198.51.100.2"), addr("192.0.2.2")},
		prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("192.0.2.2/24")}}
	tests := []struct {
		name     string
		iface    *netInterface
		serverID string
		err      error
		sent     bool
		source   string
		denied   bool
	}{
		{"from the server identifier", eth, "198.51.100.2", nil, true, "198.51.100.2", false},
		{"from the client's network", eth, "203.0.113.1", nil, true, "192.0.2.2", false},
		{"no hardware address", &netInterface{index: 1, name: "lo", addrs: eth.addrs}, "192.0.2.2", nil, false, "", false},
		{"no address", &netInterface{index: 1, name: "eth1", hardware: hardware}, "192.0.2.2", nil, false, "", false},
		{"no permission", eth, "192.0.2.2", os.NewSyscallError("socket", os.ErrPermission), false, "", true},
		{"interface down", eth, "192.0.2.2", errors.New("network is down"), false, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := &frameLog{err: tt.err}
			s := newServer(t, loopback("server_id: 192.0.2.2"))
			s.frames = log
			conn, own := loopbackConn(t), loopbackConn(t)
			socket, err := newDatagramSocket(own)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = socket.close() })
			l := &listener{socket: socket, port: 67}
			req := message(t, dhcpv4.MessageTypeDiscover, 1)
			x := &Exchange{Request: req, Reply: newReply(req, make(dhcpv4.Options)), ServerID: addr(tt.serverID)}
			x.Reply.YourIPAddr = ip("192.0.2.100")
			o := s.newOutbox()
			for range 2 {
				if err := o.add(&received{listener: l, at: time.Now()}, tt.iface, &interfaceTable{}, x); err != nil {
					t.Fatal(err)
				}
				// The datagrams go to conn.
				if o.answers[0].to != everyone.to {
					t.Errorf("datagram to %s", o.answers[0].to)
				}
				o.answers[0].to, o.answers[0].info = conn.LocalAddr().(*net.UDPAddr).AddrPort(), packetInfo{}
				o.flush()
			}
			frames := 0
			if tt.sent {
				frames = 2
			}
			if len(log.frames) != frames {
				t.Errorf("%d frames, want %d", len(log.frames), frames)
			}
			b := make([]byte, maxPacket)
			for range 2 - frames {
				if err := conn.SetReadDeadline(time.Now().Add(longest)); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Read(b); err != nil {
					t.Fatalf("no datagram instead of the frame: %v", err)
				}
			}
			expectMetrics(t, s, map[string]float64{`sent_total{type="offer"}`: 2, "answer_seconds_count": 2})
			if s.noFrames.Load() != tt.denied {
				t.Errorf("given up: %t, want %t", s.noFrames.Load(), tt.denied)
			}
			for _, f := range log.frames {
				if got := netip.AddrFrom4([4]byte(f[ethernetHeader+12:])); got != addr(tt.source) {
					t.Errorf("from %s, want %s", got, tt.source)
				}
			}
		})
	}
}

func loopbackConn(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
