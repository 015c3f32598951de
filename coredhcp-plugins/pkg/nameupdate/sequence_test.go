package nameupdate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/miekg/dns"
)

// script is an exchanger that answers updates with rcodes in order.
type script struct {
	t      *testing.T
	rcodes []int
	sent   []*dns.Msg
}

func (s *script) exchange(_ context.Context, m *dns.Msg) (*dns.Msg, error) {
	s.sent = append(s.sent, m)
	if len(s.sent) > len(s.rcodes) {
		s.t.Fatalf("one message too many:\n%v", m)
	}
	return new(dns.Msg).SetRcode(m, s.rcodes[len(s.sent)-1]), nil
}

// brief writes an update in short: prerequisites | updates.
func brief(m *dns.Msg) string {
	class := map[uint16]string{dns.ClassANY: "ANY", dns.ClassNONE: "NONE", dns.ClassINET: "IN"}
	section := func(rrs []dns.RR) string {
		var parts []string
		for _, rr := range rrs {
			h := rr.Header()
			part := class[h.Class] + " " + dns.TypeToString[h.Rrtype]
			switch v := rr.(type) {
			case *dns.A:
				part += " " + v.A.String()
			case *dns.AAAA:
				part += " " + v.AAAA.String()
			case *dns.PTR:
				part += " " + v.Ptr
			case *dns.DHCID:
				part += " ours"
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, ", ")
	}
	return section(m.Answer) + " | " + section(m.Ns)
}

const (
	success  = dns.RcodeSuccess
	yxdomain = dns.RcodeYXDomain
	nxdomain = dns.RcodeNameError
	nxrrset  = dns.RcodeNXRrset
	yxrrset  = dns.RcodeYXRrset
	refused  = dns.RcodeRefused
	servfail = dns.RcodeServerFailure
	notauth  = dns.RcodeNotAuth
)

func TestSequences(t *testing.T) {
	const (
		addNew    = "NONE ANY | IN A 192.0.2.101, IN DHCID ours"
		replace   = "ANY ANY, IN DHCID ours | ANY A, IN A 192.0.2.101"
		take      = "NONE CNAME | ANY A, ANY DHCID, IN A 192.0.2.101, IN DHCID ours"
		takeAlias = " | ANY CNAME, ANY A, ANY DHCID, IN A 192.0.2.101, IN DHCID ours"
		delA      = "IN DHCID ours | NONE A 192.0.2.101"
		delName   = "IN DHCID ours, NONE A, NONE AAAA | ANY ANY" //nolint:dupword // class and type
		delDHCID  = "IN DHCID ours, NONE A, NONE AAAA | ANY DHCID"
		delClient = "IN DHCID ours | ANY DHCID"
		dynamic   = "ANY ANY, ANY DHCID | ANY A, ANY DHCID, IN A 192.0.2.101, IN DHCID ours"
		setPTR    = "NONE CNAME | ANY PTR, ANY DHCID, IN PTR pc1.example.org., IN DHCID ours"
		delPTR    = "IN PTR pc1.example.org. | ANY PTR, ANY DHCID"
	)
	add := func(s sequence, e entry) error { return s.add(context.Background(), e, false, lease.NamesStrict) }
	addOwned := func(s sequence, e entry) error { return s.add(context.Background(), e, true, lease.NamesStrict) }
	addKeeping := func(s sequence, e entry) error { return s.add(context.Background(), e, false, lease.NamesKeepStatic) }
	addLast := func(s sequence, e entry) error { return s.add(context.Background(), e, false, lease.NamesLastWins) }
	remove := func(s sequence, e entry) error { return s.remove(context.Background(), e, false, false) }
	removeOwned := func(s sequence, e entry) error { return s.remove(context.Background(), e, true, false) }
	removeKept := func(s sequence, e entry) error { return s.remove(context.Background(), e, true, true) }
	addPTR := func(s sequence, e entry) error { return s.addPointer(context.Background(), e) }
	delPointer := func(s sequence, e entry) error { return s.removePointer(context.Background(), e, false) }
	delKept := func(s sequence, e entry) error { return s.removePointer(context.Background(), e, true) }
	for _, tt := range []struct {
		name   string
		do     func(sequence, entry) error
		rcodes []int
		sent   []string
		err    string
	}{
		{"add: free", add, []int{success}, []string{addNew}, ""},
		{"add: ours", add, []int{yxdomain, success}, []string{addNew, replace}, ""},
		{"add: somebody's", add, []int{yxdomain, nxrrset}, []string{addNew, replace}, errConflict.Error()},
		{"add: gone between", add, []int{yxdomain, nxdomain, success}, []string{addNew, replace, addNew}, ""},
		{"add: comes and goes", add, []int{yxdomain, nxdomain, yxdomain, nxdomain, yxdomain, nxdomain, yxdomain, nxdomain}, []string{addNew, replace, addNew, replace, addNew, replace, addNew, replace}, "comes and goes"},
		{"add: refused", add, []int{refused}, []string{addNew}, "updating zone example.org.: REFUSED (the key may not"},
		{"add: refused at the second", add, []int{yxdomain, servfail}, []string{addNew, replace}, "updating zone example.org.: SERVFAIL"},
		{"add: wrong server", add, []int{notauth}, []string{addNew}, "NOTAUTH (the server is not the primary"},
		{"add: unknown rcode", add, []int{13}, []string{addNew}, "RCODE13"},
		{"keep-static: free", addKeeping, []int{success}, []string{addNew}, ""},
		{"keep-static: some client's", addKeeping, []int{yxdomain, success}, []string{addNew, dynamic}, ""},
		{"keep-static: static", addKeeping, []int{yxdomain, nxrrset}, []string{addNew, dynamic}, errConflict.Error()},
		{"keep-static: gone between", addKeeping, []int{yxdomain, nxdomain, success}, []string{addNew, dynamic, addNew}, ""},
		{"last-wins", addLast, []int{success}, []string{take}, ""},
		{"last-wins over an alias", addLast, []int{yxrrset, success}, []string{take, takeAlias}, ""},
		{"add owned", addOwned, []int{success}, []string{take}, ""},
		{"add owned over an alias", addOwned, []int{yxrrset, success}, []string{take, takeAlias}, ""},
		{"add owned: refused", addOwned, []int{refused}, []string{take}, "REFUSED"},
		{"add owned over an alias: refused", addOwned, []int{yxrrset, refused}, []string{take, takeAlias}, "REFUSED"},
		{"remove", remove, []int{success, success}, []string{delA, delName}, ""},
		{"remove: gone already", remove, []int{nxdomain}, []string{delA}, ""},
		{"remove: somebody's", remove, []int{nxrrset}, []string{delA}, ""},
		{"remove: another address left", remove, []int{success, yxrrset}, []string{delA, delName}, ""},
		{"remove: gone between", remove, []int{success, nxrrset}, []string{delA, delName}, ""},
		{"remove: only some types allowed", remove, []int{success, refused, success}, []string{delA, delName, delDHCID}, ""},
		{"remove: refused", remove, []int{refused}, []string{delA}, "REFUSED"},
		{"remove: refused at the second", remove, []int{success, refused, refused}, []string{delA, delName, delDHCID}, "REFUSED"},
		{"remove: fails at the second", remove, []int{success, servfail}, []string{delA, delName}, "SERVFAIL"},
		{"remove owned", removeOwned, []int{success, success}, []string{delA, delDHCID}, ""},
		{"remove owned: refused", removeOwned, []int{success, refused}, []string{delA, delDHCID}, "REFUSED"},
		{"remove kept", removeKept, []int{refused, success}, []string{delA, delClient}, ""},
		{"remove kept: no DHCID", removeKept, []int{refused, nxrrset}, []string{delA, delClient}, ""},
		{"remove kept: that is refused too", removeKept, []int{refused, refused}, []string{delA, delClient}, "REFUSED"},
		{"remove kept: fails", removeKept, []int{servfail}, []string{delA}, "SERVFAIL"},
		{"remove kept, and not there", removeKept, []int{success, success}, []string{delA, delDHCID}, ""},
		{"remove kept, and another address is", removeKept, []int{success, yxrrset, success}, []string{delA, delDHCID, delClient}, ""},
		{"remove kept, and another address is: refused", removeKept, []int{success, yxrrset, refused}, []string{delA, delDHCID, delClient}, "REFUSED"},
		{"add pointer", addPTR, []int{success}, []string{setPTR}, ""},
		{"add pointer: an alias", addPTR, []int{yxrrset}, []string{setPTR}, errAlias.Error()},
		{"add pointer: refused", addPTR, []int{refused}, []string{setPTR}, "REFUSED"},
		{"remove pointer", delPointer, []int{success}, []string{delPTR}, ""},
		{"remove pointer: another name's", delPointer, []int{nxrrset}, []string{delPTR}, ""},
		{"remove pointer: gone", delPointer, []int{nxdomain}, []string{delPTR}, ""},
		{"remove pointer: fails", delPointer, []int{servfail}, []string{delPTR}, "SERVFAIL"},
		{"remove pointer: refused", delPointer, []int{refused}, []string{delPTR}, "REFUSED"},
		{"remove kept pointer", delKept, []int{refused, success}, []string{delPTR, delClient}, ""},
		{"remove kept pointer: that is refused too", delKept, []int{refused, refused}, []string{delPTR, delClient}, "REFUSED"},
		{"remove kept pointer: fails", delKept, []int{servfail}, []string{delPTR}, "SERVFAIL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := newEntry(change("PC1.Example.org", "192.0.2.101", clientA), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			ex := &script{t: t, rcodes: tt.rcodes}
			err = tt.do(sequence{ex: ex, zone: "example.org."}, e)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got error %v, want %q", err, tt.err)
			}
			var sent []string
			for _, m := range ex.sent {
				if m.Opcode != dns.OpcodeUpdate || len(m.Question) != 1 || m.Question[0] != (dns.Question{Name: "example.org.", Qtype: dns.TypeSOA, Qclass: dns.ClassINET}) {
					t.Errorf("zone section %v", m.Question)
				}
				for _, rr := range m.Answer {
					if rr.Header().Ttl != 0 { // RFC 2136 section 2.4
						t.Errorf("prerequisite with a TTL: %v", rr)
					}
				}
				for _, rr := range m.Ns {
					if h := rr.Header(); h.Class == dns.ClassINET && h.Ttl != 3600 || h.Class != dns.ClassINET && h.Ttl != 0 {
						t.Errorf("update with TTL %d: %v", h.Ttl, rr)
					}
				}
				if wire, err := m.Pack(); err != nil {
					t.Error(err)
				} else if err := new(dns.Msg).Unpack(wire); err != nil {
					t.Error(err)
				}
				sent = append(sent, brief(m))
			}
			if strings.Join(sent, "\n") != strings.Join(tt.sent, "\n") {
				t.Errorf("sent:\n%s\nwant:\n%s", strings.Join(sent, "\n"), strings.Join(tt.sent, "\n"))
			}
		})
	}
}

func TestSequenceIPv6(t *testing.T) {
	e, err := newEntry(change("pc1.example.org.", "2001:db8::1", clientA), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := brief(replaceOwn("example.org.", e)), "ANY ANY, IN DHCID ours | ANY AAAA, IN AAAA 2001:db8::1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !strings.HasSuffix(e.reverse(), ".8.b.d.0.1.0.0.2.ip6.arpa.") {
		t.Errorf("reverse name %s", e.reverse())
	}
}

func TestNewEntryRefuses(t *testing.T) {
	for _, c := range []lease.NameChange{
		{Name: "pc1.example.org.", Client: clientA},
		{Name: "pc1..example.org.", Client: clientA, Address: netip.MustParseAddr("192.0.2.1")},
		{Name: "", Client: clientA, Address: netip.MustParseAddr("192.0.2.1")},
		{Name: strings.Repeat("a", 64) + ".example.org.", Client: clientA, Address: netip.MustParseAddr("192.0.2.1")},
	} {
		if e, err := newEntry(c, time.Hour); err == nil {
			t.Errorf("%v gives %v", c, e)
		}
	}
}

// directory is an exchanger that knows zones, counts SOA queries, and answers
// updates by a function.
type directory struct {
	zones  []string
	update func(m *dns.Msg) (int, error)

	mu      sync.Mutex
	queries []string
	answer  func(q string, r *dns.Msg) // may change an answer
	err     error
}

func (d *directory) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	if m.Opcode == dns.OpcodeUpdate {
		if d.update == nil {
			return new(dns.Msg).SetRcode(m, success), nil
		}
		rcode, err := d.update(m)
		if err != nil {
			return nil, err
		}
		return new(dns.Msg).SetRcode(m, rcode), nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, d.err
	}
	q := m.Question[0].Name
	d.queries = append(d.queries, q)
	r := new(dns.Msg).SetRcode(m, refused)
	best := ""
	for _, zone := range d.zones {
		if dns.IsSubDomain(zone, q) && len(zone) > len(best) {
			best = zone
		}
	}
	if best != "" {
		r.Rcode, r.Authoritative = nxdomain, true
		soa := []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: strings.ToUpper(best), Rrtype: dns.TypeSOA, Class: dns.ClassINET}}}
		if best == q {
			r.Rcode, r.Answer = success, soa
		} else {
			r.Ns = soa
		}
	}
	if d.answer != nil {
		d.answer(q, r)
	}
	return r, ctx.Err()
}

func (d *directory) answering(f func(q string, r *dns.Msg)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = f
}

func (d *directory) asked() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := strings.Join(d.queries, " ")
	d.queries = nil
	return s
}

func TestApplyForgetsMovedZone(t *testing.T) {
	for _, rcode := range []int{dns.RcodeNotAuth, dns.RcodeNotZone} {
		rcodeNow := success
		d := &directory{zones: []string{"example.org.", "2.0.192.in-addr.arpa."}, update: func(*dns.Msg) (int, error) { return rcodeNow, nil }}
		z := zonesOf(d)
		c := change("pc1.example.org.", "192.0.2.101", clientA)
		do := func() error { return apply(t.Context(), z, c, time.Hour, false).err }
		if err := errors.Join(do(), do()); err != nil {
			t.Fatal(err)
		}
		if got := d.asked(); got != "pc1.example.org. 101.2.0.192.in-addr.arpa." {
			t.Errorf("asked for %s", got)
		}
		rcodeNow = rcode
		if do() == nil {
			t.Error("no error")
		}
		d.zones = append(d.zones, "pc1.example.org.")
		rcodeNow = success
		if err := do(); err != nil {
			t.Error(err)
		}
		if got := d.asked(); got != "pc1.example.org." {
			t.Errorf("after %s asked for %q", rcodeName(rcode), got)
		}
	}
}

func TestApplyOrder(t *testing.T) {
	for _, remove := range []bool{false, true} {
		t.Run(fmt.Sprintf("remove=%v", remove), func(t *testing.T) {
			var zones []string
			fail := ""
			d := &directory{zones: []string{"example.org.", "2.0.192.in-addr.arpa."}, update: func(m *dns.Msg) (int, error) {
				zones = append(zones, m.Question[0].Name)
				if m.Question[0].Name == fail {
					return servfail, nil
				}
				return success, nil
			}}
			c := change("pc1.example.org.", "192.0.2.101", clientA)
			if remove {
				c = removal(c)
			}
			o := apply(t.Context(), zonesOf(d), c, time.Hour, false)
			if o.err != nil || strings.Join(o.zones, " ") != "example.org. 2.0.192.in-addr.arpa." {
				t.Errorf("got %+v", o)
			}
			zones, fail = nil, "example.org."
			o = apply(t.Context(), zonesOf(d), c, time.Hour, false)
			if o.err == nil || o.failed != fail || strings.Join(zones, " ") != "example.org." || fails[*pointerError](o.err) {
				t.Errorf("after the forward zone failed: %+v, updated %v", o, zones)
			}
			zones, fail = nil, "2.0.192.in-addr.arpa."
			o = apply(t.Context(), zonesOf(d), c, time.Hour, false)
			if o.err == nil || o.failed != fail || strings.Join(o.zones, " ") != "example.org." || !fails[*pointerError](o.err) {
				t.Errorf("after the reverse zone failed: %+v", o)
			}
		})
	}
}

// TestApplyConflict has a name be somebody else's while the reverse zone is well or not.
func TestApplyConflict(t *testing.T) {
	for _, tt := range []struct {
		name    string
		reverse int   // rcode of that zone
		err     error // it gives
		want    string
		answers int
	}{
		{"well", success, nil, errConflict.Error(), 2},
		{"no pointer", nxrrset, nil, errConflict.Error(), 2},
		{"fails", servfail, nil, errConflict.Error() + "; its pointer: updating zone 2.0.192.in-addr.arpa.: SERVFAIL", 2},
		{"silent", 0, errTimeout, errConflict.Error() + "; its pointer: " + errTimeout.Error(), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &directory{zones: []string{"example.org.", "2.0.192.in-addr.arpa."}, update: func(m *dns.Msg) (int, error) {
				switch {
				case m.Question[0].Name != "example.org.":
					return tt.reverse, tt.err
				case strings.HasPrefix(brief(m), "NONE ANY"):
					return yxdomain, nil
				}
				return nxrrset, nil
			}}
			o := apply(t.Context(), zonesOf(d), change("pc1.example.org.", "192.0.2.101", clientA), time.Hour, false)
			alone := tt.want == errConflict.Error()
			if o.err == nil || o.err.Error() != tt.want || errors.Is(o.err, errConflict) != alone || (o.failed == "") != alone || !slices.Contains(o.zones, "example.org.") || len(o.answered) != tt.answers {
				t.Errorf("got %v at %s, %d answers; want %s", o.err, o.failed, len(o.answered), tt.want)
			}
			if fails[*pointerError](o.err) == alone {
				t.Errorf("that it is the pointer which failed: %t", !alone)
			}
			if upstream := fails[*upstreamError](o.err); upstream != (tt.err != nil) {
				t.Errorf("a server's failure: %v", upstream)
			}
		})
	}
}

func TestApplyDirections(t *testing.T) {
	const add, del, set, unset = "NONE ANY |", "IN DHCID ours |", "NONE CNAME | ANY PTR", "IN PTR"
	for _, tt := range []struct {
		make, unmake lease.Directions
		want         []string
	}{
		{both, 0, []string{add, set}},
		{lease.Forward, 0, []string{add}},
		{lease.Reverse, 0, []string{set}},
		{0, 0, nil},
		{lease.Forward, lease.Reverse, []string{add, unset}},
		{lease.Reverse, lease.Forward, []string{set, del, "IN DHCID ours, NONE A"}},
		{0, both, []string{del, "IN DHCID ours, NONE A", unset}},
		{0, lease.Reverse, []string{unset}},
	} {
		var sent []string
		d := &directory{zones: []string{"example.org.", "2.0.192.in-addr.arpa."}, update: func(m *dns.Msg) (int, error) {
			sent = append(sent, brief(m))
			return success, nil
		}}
		c := change("pc1.example.org.", "192.0.2.101", clientA)
		c.Make, c.Unmake = tt.make, tt.unmake
		if o := apply(t.Context(), zonesOf(d), c, time.Hour, false); o.err != nil {
			t.Error(o.err)
		}
		if !slices.EqualFunc(sent, tt.want, strings.HasPrefix) {
			t.Errorf("make %v, unmake %v: sent %q, want %q", tt.make, tt.unmake, sent, tt.want)
		}
	}
}
