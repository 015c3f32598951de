package site

import (
	"encoding/hex"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

// address reads an IPv4 address of a host.
func (p *parser) address(n *yaml.Node, key string) (netip.Addr, bool) {
	const expected = "an IPv4 address such as 192.0.2.11"
	v, ok := p.Scalar(n, key, expected)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(v)
	if err != nil || !a.Is4() {
		p.Expected(n, key, expected)
		return netip.Addr{}, false
	}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		p.Expected(n, key, "the IPv4 address of a host")
		return netip.Addr{}, false
	}
	return a, true
}

var units = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}

// parseDuration parses "12h", "1d12h" or a number of seconds, of less than Infinite.
func parseDuration(v string) (time.Duration, bool) {
	var total time.Duration
	if v == "" {
		return 0, false
	}
	for v != "" {
		digits := 0
		for digits < len(v) && v[digits] >= '0' && v[digits] <= '9' {
			digits++
		}
		n, err := strconv.ParseInt(v[:digits], 10, 64)
		if err != nil || n > math.MaxUint32 {
			return 0, false
		}
		unit := time.Second
		if digits < len(v) {
			u, ok := units[v[digits]]
			if !ok {
				return 0, false
			}
			unit = u
			digits++
		} else if total != 0 {
			return 0, false // "1h30": of what?
		}
		if n > int64(Infinite/unit) {
			return 0, false
		}
		total += time.Duration(n) * unit
		if total >= Infinite {
			return 0, false
		}
		v = v[digits:]
	}
	return total, true
}

// duration reads the duration under key, at least a second; otherwise if it is missing or wrong.
func (p *parser) duration(f *strictyaml.Fields, key string, otherwise time.Duration, mayBeInfinite bool) time.Duration {
	n := f.Get(key)
	if n == nil {
		return otherwise
	}
	expected := "a duration such as 90s, 30m, 12h, 1d12h or 2w"
	if mayBeInfinite {
		expected += ", or infinite"
	}
	v, ok := p.Scalar(n, key, expected)
	if !ok {
		return otherwise
	}
	if mayBeInfinite && v == "infinite" {
		return Infinite
	}
	d, ok := parseDuration(v)
	if !ok || d < time.Second {
		p.Expected(n, key, expected)
		return otherwise
	}
	return d
}

// wantUnit warns of a number alone that is some seconds, where hours or minutes were meant in all likelihood.
func (p *parser) wantUnit(f *strictyaml.Fields, key string) {
	n := f.Get(key)
	if n == nil {
		return
	}
	if d, ok := parseDuration(n.Value); ok && d >= time.Second && d < time.Minute && strings.Trim(n.Value, "0123456789") == "" {
		p.warn(n, "%s: %s is %[2]s seconds; with a unit it is clear, as in %[2]sh or %[2]ss", key, n.Value)
	}
}

// hexPairs parses octets as pairs of hexadecimal digits that sep separates.
func hexPairs(v, sep string) ([]byte, bool) {
	if len(v)%3 != 2 {
		return nil, false
	}
	octets := make([]byte, 0, (len(v)+1)/3)
	for i := 0; i < len(v); i += 3 {
		if i > 0 && v[i-1] != sep[0] {
			return nil, false
		}
		var err error
		if octets, err = hex.AppendDecode(octets, []byte(v[i:i+2])); err != nil {
			return nil, false
		}
	}
	return octets, true
}

// identifier reads the octets that a client or a relay sends: pairs of hexadecimal digits with colons between them, or text in quotes.
// It returns nil after it has reported what is wrong, and for a nil n.
func (p *parser) identifier(n *yaml.Node, key string, shortest int) []byte {
	if n == nil {
		return nil
	}
	const expected = `octets such as 01:00:00:5e:00:53:01, or text in quotes such as "port-17"`
	v, ok := p.Scalar(n, key, expected)
	if !ok {
		return nil
	}
	octets, ok := hexPairs(v, ":")
	if !ok {
		if !strictyaml.Quoted(n) {
			p.Expected(n, key, expected)
			return nil
		}
		octets = []byte(v)
	}
	if len(octets) < shortest || len(octets) > 255 {
		p.Errorf(n, "%s: found %s with the length %d, expected %d to 255 octets", key, strictyaml.Quote(v), len(octets), shortest)
		return nil
	}
	return octets
}

const ethernet = 1

// hardwareAddress reads a link-layer address: an Ethernet address in one of its usual forms, or TYPE/OCTETS with the IANA number of
// another hardware type.
func (p *parser) hardwareAddress(n *yaml.Node) (HardwareAddress, bool) {
	const key = "hardware-address"
	const expected = "an Ethernet address such as 00:00:5e:00:53:01"
	v, ok := p.Scalar(n, key, expected)
	if !ok {
		return HardwareAddress{}, false
	}
	if number, octets, found := strings.Cut(v, "/"); found {
		htype, err := strconv.ParseUint(number, 10, 8)
		addr, ok := hexPairs(octets, ":")
		if err != nil || htype == 0 || !ok || len(addr) > 16 || htype == ethernet && len(addr) != 6 {
			p.Expected(n, key, expected+", or another hardware type's number and address such as 6/00:00:5e:00:53:01")
			return HardwareAddress{}, false
		}
		return HardwareAddress{Type: uint8(htype), Addr: string(addr)}, true
	}
	addr, ok := ethernetAddress(v)
	switch {
	case !ok:
		p.Expected(n, key, expected)
		return HardwareAddress{}, false
	case addr[0]&1 != 0 || string(addr) == "\x00\x00\x00\x00\x00\x00":
		p.Expected(n, key, "the Ethernet address of one network card, not a group's and not zero")
		return HardwareAddress{}, false
	}
	return HardwareAddress{Type: ethernet, Addr: string(addr)}, true
}

// ethernetAddress parses 00:00:5e:00:53:01, 00-00-5e-00-53-01 or 0000.5e00.5301.
func ethernetAddress(v string) ([]byte, bool) {
	for _, sep := range []string{":", "-"} {
		if octets, ok := hexPairs(v, sep); ok && len(octets) == 6 {
			return octets, true
		}
	}
	if len(v) == 14 && v[4] == '.' && v[9] == '.' {
		octets, err := hex.DecodeString(v[:4] + v[5:9] + v[10:])
		return octets, err == nil
	}
	return nil, false
}

// String returns an Ethernet address as 00:00:5e:00:53:01, and others with their type before it, as the site file takes them.
func (h HardwareAddress) String() string {
	b := make([]byte, 0, 3*len(h.Addr)+4)
	if h.Type != ethernet {
		b = append(strconv.AppendUint(b, uint64(h.Type), 10), '/')
	}
	for i := range len(h.Addr) {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, []byte{h.Addr[i]})
	}
	return string(b)
}
