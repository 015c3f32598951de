package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// On disk a key is one letter for what it is, and what it is about:
//
//	f                          the format: formatValue
//	b ADDRESS                  a binding; the address is its 4 or 16 octets, so that bindings lie in address order
//	h ADDRESS SLOT             an event of the address's past; its number modulo maxEvents is the octet SLOT
//	r NAME ADDRESS CLIENT      a removal; the name and the address each after an octet for their length, the client's Key
//
// A value begins with its version. Format 1 had bindings of version 1 and no events; format 2 had neither flagNoForward and
// flagNoReverse nor bindings of imported clients. Such a database is read as it is, and becomes one of this format when it is
// opened: a release that knows less refuses it from then on. Numbers are varints in their shortest form, text and octets
// come after an octet for their length, times are milliseconds since 1970. A value has exactly one encoding: what is not it is
// refused.
const (
	keyFormat  = 'f'
	keyBinding = 'b'
	keyEvent   = 'h'
	keyRemoval = 'r'

	formatValue    = "dicomnam leases 3"
	formatValue2   = "dicomnam leases 2"
	formatValue1   = "dicomnam leases 1"
	bindingVersion = 2
	removalVersion = 1
	eventVersion   = 1

	flagPublished = 1 << 0
	flagOwned     = 1 << 1
	flagInfinite  = 1 << 2
	flagPort      = 1 << 3
	flagNoForward = 1 << 4 // DNS does not show the name's address
	flagNoReverse = 1 << 5 // DNS does not show the address's name
	flagAgain     = 1 << 6 // a removal of what was removed before
)

// storedBinding is a binding as it is on disk, its times those of the wall clock.
type storedBinding struct {
	client           Client
	state            State
	published, owned bool
	infinite         bool
	version          uint64
	start, end       int64 // Unix milliseconds; end 0 if infinite
	seconds          uint32
	events           uint32     // those that the address has had
	port             uint64     // hash of the Query.Port that the lease counts at; 0: at none
	shows            Directions // of name; none where that is ""
	device, name     string
}

func appendBindingKey(b []byte, a netip.Addr) []byte { return appendKeyOf(b, keyBinding, a) }

func appendKeyOf(b []byte, what byte, a netip.Addr) []byte {
	b = append(b, what)
	if a.Is4() {
		o := a.As4()
		return append(b, o[:]...)
	}
	o := a.As16()
	return append(b, o[:]...)
}

func parseBindingKey(key []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(key[1:])
	if !ok || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("expected an address of 4 or 16 octets, found %d octets", len(key)-1)
	}
	return a, nil
}

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func (s *storedBinding) append(b []byte) []byte {
	var flags byte
	if s.published {
		flags |= flagPublished
	}
	if s.owned {
		flags |= flagOwned
	}
	if s.infinite {
		flags |= flagInfinite
	}
	if s.port != 0 {
		flags |= flagPort
	}
	if s.name != "" && s.shows&Forward == 0 {
		flags |= flagNoForward
	}
	if s.name != "" && s.shows&Reverse == 0 {
		flags |= flagNoReverse
	}
	b = append(b, bindingVersion, byte(s.state), flags)
	b = binary.AppendUvarint(b, s.version)
	b = binary.AppendVarint(b, s.start)
	if !s.infinite {
		b = binary.AppendVarint(b, s.end-s.start)
	}
	b = binary.AppendUvarint(b, uint64(s.seconds))
	b = binary.AppendUvarint(b, uint64(s.events))
	if s.port != 0 {
		b = binary.BigEndian.AppendUint64(b, s.port)
	}
	b = appendClient(b, s.client)
	b = appendText(b, s.device)
	return appendText(b, s.name)
}

func appendClient(b []byte, c Client) []byte {
	b = append(b, c.HardwareType)
	b = appendText(b, c.HardwareAddr)
	return appendText(b, c.Identifier)
}

// decodeBinding reads what storedBinding.append wrote, or what format 1 did.
func decodeBinding(value []byte) (storedBinding, error) {
	d := decoder{data: value}
	var s storedBinding
	old := len(value) > 0 && value[0] == 1
	if old {
		d.octet("version")
	} else {
		d.version("binding", bindingVersion)
	}
	s.state = State(d.octet("state"))
	flags := d.octet("flags")
	s.published, s.owned, s.infinite = flags&flagPublished != 0, flags&flagOwned != 0, flags&flagInfinite != 0
	s.version = d.uvarint("version")
	s.start = d.varint("start")
	switch {
	case old:
		s.end = d.varint("end")
	case !s.infinite:
		s.end = s.start + d.varint("end")
	}
	s.seconds = d.uint32("lease time")
	if !old {
		s.events = d.uint32("events")
	}
	if flags&flagPort != 0 {
		s.port = d.uint64("port")
		d.expect(s.port != 0, "port: expected another number than 0")
	}
	s.client = d.client()
	s.device = d.text("device", math.MaxUint8)
	s.name = d.text("name", math.MaxUint8)
	d.end()
	if s.name != "" {
		s.shows = both
	}
	if flags&flagNoForward != 0 {
		s.shows &^= Forward
	}
	if flags&flagNoReverse != 0 {
		s.shows &^= Reverse
	}
	most := byte(flagNoReverse<<1 - 1)
	if old {
		most = flagPort - 1
	}
	d.expect(s.state >= Active && s.state <= Conflict, "state %d: expected %d to %d", s.state, Active, Conflict)
	d.expect(flags <= most, "flags %#x: expected at most %#x", flags, most)
	d.expect(!s.infinite || s.end == 0 && (s.state == Active || s.state >= Declined), "an end of what is infinite, or of what is free none")
	d.expect(s.state == Active || s.name == "", "name %q of an address that nobody holds", s.name)
	d.expect(s.name != "" || flags&(flagNoForward|flagNoReverse) == 0, "flags %#x of a lease without a name", flags)
	return s, d.err
}

// storedEvent is a client's time on an address that is over.
type storedEvent struct {
	number       uint32 // counts the address's events from 0
	state        State  // how it ended
	start, end   int64  // Unix milliseconds
	client       Client
	device, name string
}

func appendEventKey(b []byte, a netip.Addr, number uint32) []byte {
	return append(appendKeyOf(b, keyEvent, a), byte(number%maxEvents))
}

func (s *storedEvent) append(b []byte) []byte {
	b = append(b, eventVersion, byte(s.state))
	b = binary.AppendUvarint(b, uint64(s.number))
	b = binary.AppendVarint(b, s.start)
	b = binary.AppendVarint(b, s.end-s.start)
	b = appendClient(b, s.client)
	b = appendText(b, s.device)
	return appendText(b, s.name)
}

// decodeEvent reads what storedEvent.append wrote.
func decodeEvent(value []byte) (storedEvent, error) {
	d := decoder{data: value}
	var s storedEvent
	d.version("event", eventVersion)
	s.state = State(d.octet("state"))
	s.number = d.uint32("number")
	s.start = d.varint("start")
	s.end = s.start + d.varint("end")
	s.client = d.client()
	s.device = d.text("device", math.MaxUint8)
	s.name = d.text("name", math.MaxUint8)
	d.end()
	d.expect(s.state > Active && s.state <= Renamed, "state %d: expected %d to %d", s.state, Expired, Renamed)
	return s, d.err
}

// removal is a name that must go away from DNS. It stays until somebody confirms that it is gone.
type removal struct {
	name    string
	addr    netip.Addr
	client  packed
	version uint64
	owned   bool
	shows   Directions // that DNS may show
	again   bool       // of what was removed before (see Resync)
}

// counts says whether the removal is one of those that maxRemovals bounds.
func (r *removal) counts() bool { return !r.owned && !r.again }

// key is the removal's key on disk and in Manager.removals.
func (r *removal) key() string { return removalKey(r.name, r.addr, r.client.key()) }

func removalKey(name string, a netip.Addr, client string) string {
	b := make([]byte, 0, 3+len(name)+16+len(client))
	b = append(b, keyRemoval)
	b = appendText(b, name)
	b = appendAddr(b, a)
	return string(append(b, client...))
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		o := a.As4()
		return append(append(b, 4), o[:]...)
	}
	o := a.As16()
	return append(append(b, 16), o[:]...)
}

func (r *removal) append(b []byte) []byte {
	var flags byte
	if r.owned {
		flags |= flagOwned
	}
	if r.shows&Forward == 0 {
		flags |= flagNoForward
	}
	if r.shows&Reverse == 0 {
		flags |= flagNoReverse
	}
	if r.again {
		flags |= flagAgain
	}
	b = append(b, removalVersion, flags)
	b = binary.AppendUvarint(b, r.version)
	b = appendAddr(b, r.addr)
	b = appendClient(b, r.client.client())
	return appendText(b, r.name)
}

// decodeRemoval reads what removal.append wrote.
func decodeRemoval(value []byte) (removal, error) {
	d := decoder{data: value}
	var r removal
	d.version("removal", removalVersion)
	flags := d.octet("flags")
	r.owned, r.again = flags&flagOwned != 0, flags&flagAgain != 0
	r.shows = both
	if flags&flagNoForward != 0 {
		r.shows &^= Forward
	}
	if flags&flagNoReverse != 0 {
		r.shows &^= Reverse
	}
	r.version = d.uvarint("version")
	addr := d.text("address", 16)
	c := d.client()
	r.name = d.text("name", math.MaxUint8)
	d.end()
	const known = flagOwned | flagNoForward | flagNoReverse | flagAgain
	d.expect(flags&^known == 0, "flags %#x: expected none but %#x", flags, known)
	d.expect(r.name != "", "no name")
	a, ok := netip.AddrFromSlice([]byte(addr))
	d.expect(ok && !a.Is4In6(), "address: expected 4 or 16 octets, found %d", len(addr))
	if d.err != nil {
		return removal{}, d.err
	}
	r.addr, r.client = a, pack(c)
	return r, nil
}

// decoder reads a value piece by piece and keeps the first error.
type decoder struct {
	data []byte
	err  error
}

var errShort = errors.New("it ends")

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
		d.data = nil
	}
}

func (d *decoder) expect(ok bool, format string, args ...any) {
	if !ok {
		d.fail(format, args...)
	}
}

func (d *decoder) version(what string, newest byte) {
	if v := d.octet("version"); d.err == nil && v != newest {
		d.fail("%s of version %d: expected version %d; was it written by a newer release?", what, v, newest)
	}
}

func (d *decoder) octet(what string) byte {
	if len(d.data) == 0 {
		d.fail("%s: expected an octet: %w", what, errShort)
		return 0
	}
	c := d.data[0]
	d.data = d.data[1:]
	return c
}

func (d *decoder) uvarint(what string) uint64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 || n > 1 && d.data[n-1] == 0 {
		d.fail("%s: expected a number in its shortest form", what)
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) varint(what string) int64 {
	u := d.uvarint(what)
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) uint32(what string) uint32 {
	v := d.uvarint(what)
	d.expect(v <= math.MaxUint32, "%s %d: expected at most %d", what, v, uint32(math.MaxUint32))
	return uint32(v)
}

func (d *decoder) uint64(what string) uint64 {
	if len(d.data) < 8 {
		d.fail("%s: expected 8 octets: %w", what, errShort)
		return 0
	}
	v := binary.BigEndian.Uint64(d.data)
	d.data = d.data[8:]
	return v
}

func (d *decoder) text(what string, most int) string {
	n := int(d.octet(what))
	if n > most {
		d.fail("%s of %d octets: expected at most %d", what, n, most)
		return ""
	}
	if n > len(d.data) {
		d.fail("%s of %d octets, %d of them there: %w", what, n, len(d.data), errShort)
		return ""
	}
	s := string(d.data[:n])
	d.data = d.data[n:]
	return s
}

func (d *decoder) client() Client {
	c := Client{HardwareType: d.octet("hardware type")}
	c.HardwareAddr = d.text("hardware address", maxHardware)
	c.Identifier = d.text("client identifier", maxIdentifier)
	d.expect(c.fits(), "client without hardware address and identifier")
	return c
}

func (d *decoder) end() {
	if len(d.data) > 0 {
		d.fail("%d octets after the end", len(d.data))
	}
}

// milliseconds rounds down, so that a lease did not begin later than it is said to.
func milliseconds(t time.Time) int64 { return t.UnixMilli() }

// millisecondsUp rounds up, so that a lease does not end earlier than the client was told.
func millisecondsUp(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }
