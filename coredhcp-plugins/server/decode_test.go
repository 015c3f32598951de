package server

import (
	"bytes"
	"context"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// raw makes a BOOTREQUEST from its options field (after the cookie).
func raw(options ...byte) []byte {
	b := make([]byte, offOptions, offOptions+len(options))
	b[0], b[1], b[2] = bootRequest, 1, 6
	copy(b[offHardware:], []byte{0, 0, 0x5e, 0, 0x53, 1})
	copy(b[offCookie:], []byte{99, 130, 83, 99})
	return append(b, options...)
}

func TestDecode(t *testing.T) {
	with := func(b []byte, at int, v ...byte) []byte {
		copy(b[at:], v)
		return b
	}
	tests := []struct {
		name   string
		packet []byte
		want   dhcpv4.Options
		err    string // part of the error, "" for none
	}{
		{"plain", raw(53, 1, 1, 0, 12, 2, 'c', 't', 255), dhcpv4.Options{53: {1}, 12: []byte("ct")}, ""},
		{"options after END are not read", raw(53, 1, 1, 255, 12, 200), dhcpv4.Options{53: {1}}, ""},
		{"no END", raw(53, 1, 1), dhcpv4.Options{53: {1}}, ""},
		{"no END after padding", raw(53, 1, 1, 0, 0), dhcpv4.Options{53: {1}}, ""},
		{"parts are joined", raw(53, 1, 1, 12, 1, 'c', 12, 1, 't', 255), dhcpv4.Options{53: {1}, 12: []byte("ct")}, ""},
		{"empty option", raw(53, 1, 1, 80, 0, 255), dhcpv4.Options{53: {1}, 80: nil}, ""},
		{"BOOTP with options", raw(12, 1, 'c', 255), dhcpv4.Options{12: []byte("c")}, ""},
		{"BOOTP without vendor area", with(raw(make([]byte, 60)...), offCookie, 0, 0, 0, 0), dhcpv4.Options{}, ""},
		{"overload of file", with(raw(53, 1, 1, 52, 1, 1, 12, 1, 'a', 255), offBootFile, 12, 1, 'b', 255),
			dhcpv4.Options{53: {1}, 12: []byte("ab")}, ""},
		{"overload of sname", with(raw(53, 1, 1, 52, 1, 2, 255), offServerName, 12, 1, 's', 255),
			dhcpv4.Options{53: {1}, 12: []byte("s")}, ""},
		{"overload of both, file first", with(with(raw(12, 1, 'a', 53, 1, 1, 52, 1, 3), offServerName, 12, 1, 'c'), offBootFile, 12, 1, 'b'),
			dhcpv4.Options{53: {1}, 12: []byte("abc")}, ""},
		{"overload inside an overloaded field means nothing", with(raw(53, 1, 1, 52, 1, 1, 255), offBootFile, 52, 1, 2, 255),
			dhcpv4.Options{53: {1}}, ""},

		{"overload of both, each by the other", with(with(raw(53, 1, 1, 52, 1, 3, 255), offServerName, 52, 1, 1, 12, 1, 's'), offBootFile, 52, 1, 2, 12, 1, 'b'),
			dhcpv4.Options{53: {1}, 12: []byte("bs")}, ""},
		{"one option in three fields, each to its end", with(with(append(raw(53, 1, 1, 52, 1, 3, 77, 2, 1, 'a'), 255), offServerName, append([]byte{77, 62}, bytes.Repeat([]byte{'s'}, 62)...)...),
			offBootFile, append([]byte{77, 126}, bytes.Repeat([]byte{'f'}, 126)...)...),
			dhcpv4.Options{53: {1}, 77: slices.Concat([]byte("\x01a"), bytes.Repeat([]byte{'f'}, 126), bytes.Repeat([]byte{'s'}, 62))}, ""},

		{"empty", nil, nil, "0 octets"},
		{"short", raw()[:239], nil, "239 octets"},
		{"a reply", with(raw(53, 1, 1, 255), 0, 2), nil, "op is 2"},
		{"long hardware address", with(raw(53, 1, 1, 255), offHardwareLength, 17), nil, "17 octets"},
		{"other cookie", with(raw(53, 1, 1, 255), offCookie, 1, 2, 3, 4), nil, "01020304"},
		{"option without length", raw(53, 1, 1, 12), nil, "option 12 is longer"},
		{"option beyond the packet", raw(53, 1, 1, 12, 3, 'c', 't'), nil, "option 12 is longer"},
		{"message type of two octets", raw(53, 2, 1, 1, 255), nil, "message type (53) of 2 octets"},
		{"empty message type", raw(53, 0, 255), nil, "message type (53) of 0 octets"},
		{"overload 0", raw(53, 1, 1, 52, 1, 0, 255), nil, "overload (52) is 00"},
		{"overload 4", raw(53, 1, 1, 52, 1, 4, 255), nil, "overload (52) is 04"},
		{"empty overload", raw(53, 1, 1, 52, 0, 255), nil, "overload (52) is ,"},
		{"overload twice", raw(52, 1, 1, 52, 1, 1, 255), nil, "twice"},
		{"option beyond file", with(raw(52, 1, 1, 255), offCookie-2, 12, 5), nil, "file: option 12"},
		{"option beyond sname", with(raw(52, 1, 2, 255), offBootFile-1, 12), nil, "sname: option 12"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := bytes.Clone(tt.packet)
			req, err := decode(tt.packet)
			if !bytes.Equal(before, tt.packet) {
				t.Error("the packet was changed")
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(req.Options) != len(tt.want) {
				t.Errorf("options %v, want %v", req.Options, tt.want)
			}
			for code, v := range tt.want {
				if got, ok := req.Options[code]; !ok || !bytes.Equal(got, v) {
					t.Errorf("option %d is %q, want %q", code, got, v)
				}
			}
			if req.Options.Has(dhcpv4.OptionOptionOverload) || req.ServerHostName != "" || req.BootFileName != "" {
				t.Errorf("overload was not undone: %v", req.Summary())
			}
		})
	}
}

func TestOverloadKeepsTheOtherField(t *testing.T) {
	b := raw(53, 1, 1, 52, 1, 2, 255)
	copy(b[offBootFile:], "boot.img")
	copy(b[offServerName:], []byte{12, 1, 'c', 255})
	req, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if req.BootFileName != "boot.img" || req.HostName() != "c" {
		t.Errorf("file %q, host name %q", req.BootFileName, req.HostName())
	}
}

func TestClientHash(t *testing.T) {
	seed := maphash.MakeSeed()
	withHardware := func(b []byte, last byte) []byte {
		b[offHardware+5] = last
		return b
	}
	tests := []struct {
		name string
		a, b []byte
		same bool
	}{
		{"hardware address, other options", raw(53, 1, 1, 255), raw(53, 1, 3, 12, 1, 'c', 255), true},
		{"other hardware address", raw(53, 1, 1, 255), withHardware(raw(53, 1, 1, 255), 2), false},
		{"client identifier, other hardware address", raw(53, 1, 1, 61, 2, 0, 7, 255), withHardware(raw(61, 2, 0, 7, 53, 1, 3, 255), 2), true},
		{"other client identifier", raw(61, 2, 0, 7, 255), raw(61, 2, 0, 8, 255), false},
		{"client identifier that is cut off", raw(61, 200, 1), raw(61, 200, 2), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if same := clientHash(seed, tt.a) == clientHash(seed, tt.b); same != tt.same {
				t.Errorf("same: %t, want %t", same, tt.same)
			}
		})
	}
}

func TestSubOption(t *testing.T) {
	tests := []struct {
		name  string
		value []byte
		code  byte
		want  string
		ok    bool
	}{
		{"first", []byte{1, 2, 'a', 'b', 19, 0}, 1, "ab", true},
		{"empty", []byte{1, 2, 'a', 'b', 19, 0}, 19, "", true},
		{"absent", []byte{1, 2, 'a', 'b'}, 2, "", false},
		{"not inside another", []byte{1, 2, 19, 0}, 19, "", false},
		{"cut off", []byte{1, 3, 'a', 'b'}, 1, "", false},
		{"no length", []byte{19}, 19, "", false},
		{"none", nil, 19, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := subOption(tt.value, tt.code)
			if string(got) != tt.want || ok != tt.ok {
				t.Errorf("got %q, %t", got, ok)
			}
		})
	}
}

// FuzzFlatten compares with the library: where a packet has no overload and has
// an END, flattening must not change what the library reads.
func FuzzFlatten(f *testing.F) {
	f.Add(raw(53, 1, 1, 12, 2, 'c', 't', 255))
	f.Add(raw(53, 1, 1, 52, 1, 3, 255))
	f.Add(raw(12, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < offOptions {
			return
		}
		flat, err := flatten(b)
		if err != nil {
			return
		}
		got, err := dhcpv4.FromBytes(flat)
		if err != nil {
			t.Fatalf("flattened packet is not read: %v", err)
		}
		want, err := dhcpv4.FromBytes(b)
		if err != nil || want.Options.Has(dhcpv4.OptionOptionOverload) {
			return
		}
		if got.Summary() != want.Summary() {
			t.Errorf("got %s, want %s", got.Summary(), want.Summary())
		}
	})
}

// FuzzDecode compares with what the library makes of a message that it reads
// whole: one with all its options in the options field.
func FuzzDecode(f *testing.F) {
	f.Add(raw(53, 1, 1, 0, 12, 2, 'c', 't', 255))
	f.Add(raw(53, 1, 3, 82, 2, 1, 0, 12, 1, 'a', 12, 1, 'b', 255))
	f.Add(raw(80, 0, 255, 7))
	named := raw(255)
	copy(named[offServerName:], "server")
	copy(named[offBootFile:], bytes.Repeat([]byte{'f'}, offCookie-offBootFile))
	f.Add(named)
	f.Fuzz(func(t *testing.T, b []byte) {
		want, err := dhcpv4.FromBytes(b)
		if err != nil || want.Options.Has(dhcpv4.OptionOptionOverload) {
			return
		}
		got, err := decode(bytes.Clone(b))
		if err != nil {
			return // more strict
		}
		if !bytes.Equal(got.ToBytes(), want.ToBytes()) || len(got.Options) != len(want.Options) || got.Summary() != want.Summary() {
			t.Errorf("got  %s\nwant %s", got.Summary(), want.Summary())
		}
		if messageType(got) != want.MessageType() {
			t.Errorf("message type %v, want %v", messageType(got), want.MessageType())
		}
	})
}

// FuzzPacket takes whatever comes from the network through parsing, a plugin
// that fills every option, and encoding.
func FuzzPacket(f *testing.F) {
	f.Add(raw(53, 1, 1, 55, 3, 3, 1, 6, 57, 2, 2, 64, 255))
	f.Add(raw(53, 1, 3, 54, 4, 192, 0, 2, 2, 50, 4, 192, 0, 2, 100, 82, 2, 19, 0, 255))
	f.Add(raw(53, 1, 8, 61, 7, 1, 0, 0, 0x5e, 0, 0x53, 1, 255))
	f.Add(raw(52, 1, 3, 255))
	f.Add(make([]byte, 300))
	s := newServer(f, "server4: {plugins: [{"+registerFake(&fake{handle: func(_ context.Context, x *Exchange) Verdict {
		x.Reply.YourIPAddr = ip("192.0.2.100")
		for code := uint8(1); code < 255; code++ {
			if code != optMessageType {
				x.Reply.Options[code] = bytes.Repeat([]byte{code}, int(code)*2)
			}
		}
		return Continue
	}})+": }, {server_id: 192.0.2.2}]}")
	i := &netInterface{index: 1, name: "eth0", addrs: []netip.Addr{addr("192.0.2.2")}}
	f.Fuzz(func(t *testing.T, b []byte) {
		clientHash(maphash.MakeSeed(), b)
		req, err := decode(b)
		if err != nil {
			return
		}
		x := s.exchange(req, i, &interfaceTable{}, addr("192.0.2.2"))
		reply := s.answer(t.Context(), x)
		if reply == nil {
			return
		}
		limit := sizeLimit(req, len(b))
		out, _, err := encode(nil, req, reply, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) < minMessage {
			t.Errorf("reply of %d octets", len(out))
		}
		musts := 0
		for code, v := range reply.Options {
			if must(code) {
				musts += optionSize(v)
			}
		}
		if len(out) > max(limit, offOptions+musts+1+3) {
			t.Errorf("reply of %d octets, limit %d", len(out), limit)
		}
		flat, err := flatten(out)
		if err != nil {
			t.Fatal(err)
		}
		got, err := dhcpv4.FromBytes(flat)
		if err != nil {
			t.Fatal(err)
		}
		for code, v := range got.Options {
			if !bytes.Equal(v, reply.Options[code]) {
				t.Errorf("option %d is %x, want %x", code, v, reply.Options[code])
			}
		}
		for _, code := range []uint8{optRelayAgent, optClientID} {
			if v, ok := req.Options[code]; ok && !bytes.Equal(got.Options[code], v) {
				t.Errorf("option %d is %x, want it echoed: %x", code, got.Options[code], v)
			}
		}
		routeOf(req, reply, netip.AddrPort{})
	})
}
