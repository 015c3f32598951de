package server

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// codes lists the option codes of one field in the order they stand in.
func codes(t *testing.T, field []byte) (list []uint8) {
	t.Helper()
	if _, err := walk(field, func(code byte, _, _ []byte) error {
		list = append(list, code)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func value(n int, octet byte) []byte { return bytes.Repeat([]byte{octet}, n) }

func TestEncodeOrder(t *testing.T) {
	all := dhcpv4.Options{
		53: {5}, 54: value(4, 1), 51: value(4, 2), 1: value(4, 3), 3: value(4, 4), 6: value(4, 5),
		15: []byte("example.org"), 61: value(7, 6), 82: value(5, 7), 121: value(9, 8), 58: value(4, 9),
	}
	tests := []struct {
		name    string
		options dhcpv4.Options
		asked   []byte
		want    []uint8
	}{
		{"nothing asked for", all, nil, []uint8{53, 54, 51, 1, 3, 6, 15, 58, 61, 121, 82}},
		{"as asked for", all, []byte{15, 121, 6, 3, 1}, []uint8{53, 54, 51, 15, 121, 6, 1, 3, 58, 61, 82}},
		{"asked for twice, for what is not there, and for what has its place", all, []byte{6, 6, 42, 82, 53, 255, 0, 6},
			[]uint8{53, 54, 51, 6, 1, 3, 15, 58, 61, 121, 82}},
		{"router without mask", dhcpv4.Options{53: {5}, 3: value(4, 1)}, []byte{3, 1}, []uint8{53, 3}},
		{"BOOTP", dhcpv4.Options{1: value(4, 1), 3: value(4, 1)}, nil, []uint8{1, 3}},
		{"overload, pad and end of a plugin's making", dhcpv4.Options{53: {5}, 52: {1}, 0: {1}, 255: {1}}, nil, []uint8{53}},
		{"long values are split", dhcpv4.Options{53: {5}, 82: value(1, 1), 43: value(600, 1)}, nil, []uint8{53, 43, 43, 43, 82}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := &dhcpv4.DHCPv4{Options: dhcpv4.Options{55: tt.asked}}
			b, left, err := encode(nil, req, &dhcpv4.DHCPv4{Options: tt.options}, 1472)
			if err != nil || len(left) > 0 {
				t.Fatal(left, err)
			}
			if got := codes(t, b[offOptions:]); !slices.Equal(got, tt.want) {
				t.Errorf("order %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEncodeSize(t *testing.T) {
	base := func(more dhcpv4.Options) dhcpv4.Options {
		o := dhcpv4.Options{53: {5}, 54: value(4, 1), 51: value(4, 2), 82: value(6, 3)}
		maps.Copy(o, more)
		return o
	}
	tests := []struct {
		name               string
		options            dhcpv4.Options
		file, sname        string
		limit              int
		main, boot, server []uint8
		left               []uint8
	}{
		{"exactly full", base(dhcpv4.Options{43: value(255, 1), 97: value(25, 1)}), "", "", 548,
			[]uint8{53, 54, 51, 43, 97, 82}, nil, nil, nil},
		{"one octet more goes to file", base(dhcpv4.Options{43: value(255, 1), 97: value(26, 1)}), "", "", 548,
			[]uint8{53, 54, 51, 43, 52, 82}, []uint8{97}, nil, nil},
		{"to sname where file is in use", base(dhcpv4.Options{43: value(255, 1), 97: value(40, 1)}), "boot", "", 548,
			[]uint8{53, 54, 51, 43, 52, 82}, nil, []uint8{97}, nil},
		{"to both", base(dhcpv4.Options{43: value(260, 1), 97: value(100, 1), 98: value(50, 1)}), "", "", 548,
			[]uint8{53, 54, 51, 43, 43, 52, 82}, []uint8{97}, []uint8{98}, nil},
		{"left out where both are in use", base(dhcpv4.Options{43: value(255, 1), 97: value(100, 1)}), "boot", "tftp", 548,
			[]uint8{53, 54, 51, 43, 82}, nil, nil, []uint8{97}},
		{"a small one still goes in after a large one did not", base(dhcpv4.Options{43: value(255, 1), 97: value(200, 1), 98: {1}}), "boot", "tftp", 548,
			[]uint8{53, 54, 51, 43, 98, 82}, nil, nil, []uint8{97}},
		{"must be there beyond the limit", base(dhcpv4.Options{61: value(250, 1), 82: value(400, 1), 15: value(200, 1)}), "", "", 548,
			[]uint8{53, 54, 51, 61, 82, 82}, nil, nil, []uint8{15}},
		{"BOOTP clients know no overload", dhcpv4.Options{43: value(50, 1), 97: value(20, 1)}, "", "", 300,
			[]uint8{43}, nil, nil, []uint8{97}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reply := &dhcpv4.DHCPv4{Options: tt.options, BootFileName: tt.file, ServerHostName: tt.sname}
			prefix := []byte("before")
			b, left, err := encode(prefix, &dhcpv4.DHCPv4{}, reply, tt.limit)
			if err != nil {
				t.Fatal(err)
			}
			b = b[len(prefix):]
			if len(b) > tt.limit && tt.name != "must be there beyond the limit" {
				t.Errorf("%d octets, limit %d", len(b), tt.limit)
			}
			if got := codes(t, b[offOptions:]); !slices.Equal(got, tt.main) {
				t.Errorf("options %v, want %v", got, tt.main)
			}
			if tt.file == "" {
				if got := codes(t, b[offBootFile:offCookie]); !slices.Equal(got, tt.boot) {
					t.Errorf("file %v, want %v", got, tt.boot)
				}
			}
			if tt.sname == "" {
				if got := codes(t, b[offServerName:offBootFile]); !slices.Equal(got, tt.server) {
					t.Errorf("sname %v, want %v", got, tt.server)
				}
			}
			if !slices.Equal(left, tt.left) {
				t.Errorf("left %v, want %v", left, tt.left)
			}
			flat, err := flatten(b)
			if err != nil {
				t.Fatal(err)
			}
			got, err := dhcpv4.FromBytes(flat)
			if err != nil {
				t.Fatal(err)
			}
			for _, code := range tt.left {
				delete(tt.options, code)
			}
			for code, v := range tt.options {
				if !bytes.Equal(got.Options[code], v) {
					t.Errorf("option %d is %x, want %x", code, got.Options[code], v)
				}
			}
			if got.BootFileName != tt.file || got.ServerHostName != tt.sname {
				t.Errorf("file %q, sname %q", got.BootFileName, got.ServerHostName)
			}
		})
	}
}

// TestEncodeTwice has server and file in the header and in options 66 and 67: the header gives way to other options, but never to lose them.
func TestEncodeTwice(t *testing.T) {
	boot, tftp := []byte("pxelinux.0"), []byte("tftp.example.org")
	base := dhcpv4.Options{53: {5}, 54: value(4, 1), 51: value(4, 2), 66: tftp, 67: boot}
	for _, tt := range []struct {
		name        string
		more        dhcpv4.Options
		file, sname string  // in the header
		left        []uint8 // out of the message
		codes       [3]int  // options in the options field, file and sname
	}{
		{"room", dhcpv4.Options{43: value(200, 1)}, "pxelinux.0", "tftp.example.org", nil, [3]int{6, 0, 0}},
		{"file gives way", dhcpv4.Options{43: value(240, 1), 119: value(110, 1)}, "", "tftp.example.org", nil, [3]int{7, 1, 0}},
		{"both give way", dhcpv4.Options{43: value(225, 1), 119: value(120, 1), 120: value(60, 1)}, "", "", nil, [3]int{7, 1, 1}},
		{"the options would be lost", dhcpv4.Options{43: value(275, 1), 60: value(123, 1), 62: value(61, 1)}, "pxelinux.0", "tftp.example.org", []uint8{60, 62, 66}, [3]int{6, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options := maps.Clone(base)
			maps.Copy(options, tt.more)
			reply := &dhcpv4.DHCPv4{Options: options, BootFileName: string(boot), ServerHostName: string(tftp)}
			b, left, err := encode(nil, &dhcpv4.DHCPv4{}, reply, 548)
			if err != nil {
				t.Fatal(err)
			}
			flat, err := flatten(b)
			if err != nil {
				t.Fatal(err)
			}
			got, err := dhcpv4.FromBytes(flat)
			if err != nil {
				t.Fatal(err)
			}
			if got.BootFileName != tt.file || got.ServerHostName != tt.sname || !slices.Equal(left, tt.left) {
				t.Errorf("file %q, sname %q, left %d; want %q, %q, %d", got.BootFileName, got.ServerHostName, left, tt.file, tt.sname, tt.left)
			}
			if tt.file == "" && string(got.Options[67]) != string(boot) || tt.sname == "" && string(got.Options[66]) != string(tftp) {
				t.Errorf("options 66 %q and 67 %q", got.Options[66], got.Options[67])
			}
			var n [3]int
			n[0] = len(codes(t, b[offOptions:]))
			if tt.file == "" {
				n[1] = len(codes(t, b[offBootFile:offCookie]))
			}
			if tt.sname == "" {
				n[2] = len(codes(t, b[offServerName:offBootFile]))
			}
			if n != tt.codes {
				t.Errorf("%d options in the fields, want %d", n, tt.codes)
			}
		})
	}
}

func TestSizeLimit(t *testing.T) {
	dhcp := func(o dhcpv4.Options) dhcpv4.Options {
		o[53] = []byte{1}
		return o
	}
	tests := []struct {
		name     string
		options  dhcpv4.Options
		received int
		want     int
	}{
		{"no option 57", dhcp(dhcpv4.Options{}), 300, 548},
		{"576", dhcp(dhcpv4.Options{57: {2, 64}}), 300, 548},
		{"less than everyone takes", dhcp(dhcpv4.Options{57: {0, 100}}), 300, 548},
		{"more", dhcp(dhcpv4.Options{57: {4, 0}}), 300, 996},
		{"more than a wire carries", dhcp(dhcpv4.Options{57: {255, 255}}), 300, 1472},
		{"malformed", dhcp(dhcpv4.Options{57: {9}}), 300, 548},
		{"BOOTP", dhcpv4.Options{}, 240, 300},
		{"long BOOTP", dhcpv4.Options{}, 400, 400},
		{"very long BOOTP", dhcpv4.Options{}, 4000, 548},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sizeLimit(&dhcpv4.DHCPv4{Options: tt.options}, tt.received); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, reply := range map[string]*dhcpv4.DHCPv4{
		"IPv6 address":          {YourIPAddr: net.ParseIP("2001:db8::1")},
		"long hardware address": {ClientHWAddr: make(net.HardwareAddr, 17)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := encode(nil, &dhcpv4.DHCPv4{}, reply, 548); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestEncodeAgainstLibrary encodes random replies that fit and compares what the
// DHCP library reads with what went in.
func TestEncodeAgainstLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	octets := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	for range 2000 {
		in := &dhcpv4.DHCPv4{
			OpCode: dhcpv4.OpcodeBootReply, HWType: 1, HopCount: byte(r.Uint32()), TransactionID: [4]byte(octets(4)),
			NumSeconds: uint16(r.Uint32()), Flags: uint16(r.Uint32()),
			ClientIPAddr: octets(4), YourIPAddr: octets(4), ServerIPAddr: octets(4), GatewayIPAddr: octets(4),
			ClientHWAddr: octets(r.IntN(17)), ServerHostName: "tftp.example.org"[:r.IntN(17)], BootFileName: "boot/image"[:r.IntN(11)],
			Options: dhcpv4.Options{53: {5}},
		}
		for range r.IntN(12) {
			code := 1 + uint8(r.IntN(254))
			if code != optOverload && code != optMessageType {
				in.Options[code] = octets(r.IntN(40))
			}
		}
		if r.IntN(5) == 0 {
			in.Options[43] = octets(256 + r.IntN(500))
		}
		req := &dhcpv4.DHCPv4{Options: dhcpv4.Options{55: octets(r.IntN(30))}}
		b, left, err := encode(nil, req, in, 1472)
		if err != nil || len(left) > 0 {
			t.Fatal(left, err)
		}
		out, err := dhcpv4.FromBytes(b)
		if err != nil {
			t.Fatalf("%v: %v", in.Summary(), err)
		}
		if in.Summary() != out.Summary() {
			t.Fatalf("got %s, want %s", out.Summary(), in.Summary())
		}
	}
}
