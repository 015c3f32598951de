package zone

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
)

// labelsOf are the octets of the labels of a name, lower case, from the root.
func labelsOf(t *testing.T, name string) [][]byte {
	t.Helper()
	var wire [256]byte
	n, err := dns.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	var out [][]byte
	for i := 0; i < n && wire[i] != 0; i += int(wire[i]) + 1 {
		out = append(out, bytes.ToLower(wire[i+1:i+1+int(wire[i])]))
	}
	slices.Reverse(out)
	return out
}

func randomName(r *rand.Rand, octets []byte, depth int) string {
	var wire []byte
	for range r.IntN(depth) + 1 {
		n := r.IntN(2) + 1
		wire = append(wire, byte(n))
		for range n {
			wire = append(wire, octets[r.IntN(len(octets))])
		}
	}
	wire = append(wire, "\x07example\x03org\x00"...)
	name, _, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		panic(err)
	}
	return name
}

// Keys compare as RFC 4034 section 6.1 says, begin with exactly the keys of the names above, and lead back to the name.
func TestKeysAreCanonicalOrder(t *testing.T) {
	a, err := newApex(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	octets := []byte{0, 1, 2, 3, '*', '-', '.', '\\', '0', 'A', 'a', 'B', 'b', 0x7f, 0xff}
	for range 5000 {
		x, y := randomName(r, octets, 3), randomName(r, octets, 3)
		kx, ok1 := a.keyOf(x)
		ky, ok2 := a.keyOf(y)
		if !ok1 || !ok2 {
			t.Fatalf("no key for %q or %q", x, y)
		}
		lx, ly := labelsOf(t, x), labelsOf(t, y)
		if got, want := strings.Compare(kx, ky), slices.CompareFunc(lx, ly, bytes.Compare); got != want {
			t.Fatalf("%q and %q compare %d, want %d", x, y, got, want)
		}
		below := len(ly) >= len(lx) && slices.EqualFunc(lx, ly[:len(lx)], bytes.Equal)
		if strings.HasPrefix(ky, kx) != below {
			t.Fatalf("%q below %q: want %t", y, x, below)
		}
		common := 0
		for common < len(lx) && common < len(ly) && bytes.Equal(lx[common], ly[common]) {
			common++
		}
		if got := labelCount(commonAncestor(kx, ky)); got != common-2 {
			t.Fatalf("%q and %q share %d labels, want %d", x, y, got, common-2)
		}
		name, err := a.nameOf(kx)
		if err != nil || name != canonicalName(x) {
			t.Fatalf("%q comes back as %q, %v", x, name, err)
		}
		var parents []string
		parentKeys(kx, func(k string) bool { parents = append(parents, k); return true })
		if len(parents) != len(lx)-2 {
			t.Fatalf("%q has parents %q", x, parents)
		}
	}
	for _, bad := range []string{"", "..", ".example.org.", "a..example.org.", strings.Repeat("a", 64) + ".example.org.", strings.Repeat("abcdefg.", 32) + "example.org.",
		`\`, `a\.example.org.`, `\256.example.org.`, `\1.example.org.`, strings.Repeat("a.", 600), "example.com.", "xexample.org.", "org.", "."} {
		if k, ok := a.keyOf(bad); ok {
			t.Errorf("%q has key %q", bad, k)
		}
	}
	for _, bad := range []string{"a", "\x00", "A\x00", "\x01\x00", "a\x01", "a\x01\x03\x00", strings.Repeat("a", 64) + "\x00", strings.Repeat("abcdefg\x00", 32), strings.Repeat("a\x00", 200)} {
		if name, err := a.nameOf(bad); err == nil {
			t.Errorf("key %q has name %q", bad, name)
		}
	}
}

// model is a zone as a plain list of records: nothing in it is clever.
type model []dns.RR

func (m model) at(name string) (out []dns.RR) {
	for _, rr := range m {
		if canonicalName(rr.Header().Name) == name {
			out = append(out, rr)
		}
	}
	return out
}

func (m model) exists(name string) bool {
	return slices.ContainsFunc(m, func(rr dns.RR) bool { return dns.IsSubDomain(name, canonicalName(rr.Header().Name)) })
}

func (m model) set(name string, typ uint16) (out []string) {
	for _, rr := range m.at(name) {
		if rr.Header().Rrtype == typ {
			out = append(out, rr.String())
		}
	}
	slices.Sort(out)
	return out
}

// lookup answers without aliases and delegations: those are left out of the random zones.
func (m model) lookup(name string, typ uint16) (rcode int, answer []string) {
	if m.exists(name) {
		return dns.RcodeSuccess, m.set(name, typ)
	}
	encloser := name
	for !m.exists(encloser) {
		i, _ := dns.NextLabel(encloser, 0)
		encloser = encloser[i:]
	}
	wildcard := "*." + encloser
	if !m.exists(wildcard) {
		return dns.RcodeNameError, nil
	}
	for _, rr := range m.at(wildcard) {
		if rr.Header().Rrtype == typ {
			c := dns.Copy(rr)
			c.Header().Name = name
			answer = append(answer, c.String())
		}
	}
	slices.Sort(answer)
	return dns.RcodeSuccess, answer
}

// A random stream of updates and questions gives the same zone and answers as the model, in memory, and again after
// each time the database was opened anew.
func TestAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	octets := []byte{'*', 'a', 'b', 0, '.', 1}
	types := []uint16{dns.TypeA, dns.TypeTXT}
	fs := vfs.NewMem()
	s, z := openMem(t, fs)
	m := model{}
	for _, rr := range contents(z) {
		m = append(m, testRR(t, rr))
	}
	serial := z.Snapshot().Serial()
	before := strings.Join(sortedModel(m[1:]), "\n")
	for step := range 600 {
		var updates []dns.RR
		for range r.IntN(4) + 1 {
			name := randomName(r, octets, 3)
			if r.IntN(3) == 0 {
				name = strings.Replace(name, "a", "A", 1)
			}
			lower := canonicalName(name)
			stored := name
			if at := m.at(lower); len(at) > 0 {
				stored = at[0].Header().Name
			}
			ttl := uint32(r.IntN(3))
			var rr dns.RR = &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: []byte{192, 0, 2, byte(r.IntN(3))}}
			if r.IntN(2) == 0 {
				rr = &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: ttl}, Txt: []string{fmt.Sprint(r.IntN(3))}}
			}
			typ := rr.Header().Rrtype
			update := dns.Copy(rr)
			matches := func(o dns.RR) bool {
				return canonicalName(o.Header().Name) == lower && o.Header().Rrtype == typ && dns.IsDuplicate(o, rr)
			}
			switch r.IntN(6) {
			default:
				rr.Header().Name = stored
				m = append(slices.DeleteFunc(m, matches), rr)
				for i, o := range m {
					if h := o.Header(); canonicalName(h.Name) == lower && h.Rrtype == typ && h.Ttl != ttl {
						m[i] = withTTL(o, ttl)
					}
				}
			case 0:
				update.Header().Class, update.Header().Ttl = dns.ClassNONE, 0
				m = slices.DeleteFunc(m, matches)
			case 1:
				update = &dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassANY}}
				m = slices.DeleteFunc(m, func(o dns.RR) bool {
					return canonicalName(o.Header().Name) == lower && o.Header().Rrtype == typ
				})
			case 2:
				update = &dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeANY, Class: dns.ClassANY}}
				m = slices.DeleteFunc(m, func(o dns.RR) bool { return canonicalName(o.Header().Name) == lower })
			}
			updates = append(updates, update)
		}
		rcode, err := z.Update(context.Background(), nil, updates, permitAll)
		if rcode != dns.RcodeSuccess || err != nil {
			t.Fatalf("%v: %d, %v", updates, rcode, err)
		}
		after := strings.Join(sortedModel(m[1:]), "\n")
		if !strings.EqualFold(after, before) {
			serial++
		}
		before = after
		if got := z.Snapshot().Serial(); got != serial {
			t.Fatalf("step %d, %v: serial %d, want %d", step, updates, got, serial)
		}
		for range 6 {
			name, typ := canonicalName(randomName(r, octets, 4)), types[r.IntN(2)]
			rcode, want := m.lookup(name, typ)
			res := z.Snapshot().Lookup(name, typ)
			var got []string
			for _, rr := range res.Answer {
				got = append(got, rr.String())
			}
			slices.Sort(got)
			if res.Rcode != rcode || !equalFold(got, want) {
				t.Fatalf("step %d: %s %s: %s %q, want %s %q", step, name, typeName(typ), dns.RcodeToString[res.Rcode], got, dns.RcodeToString[rcode], want)
			}
		}
		if step%100 != 99 {
			continue
		}
		if step%200 == 199 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, z = openMem(t, fs)
		}
		checkState(t, z, m)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(m) < 100 {
		t.Errorf("the zone has only %d records", len(m))
	}
}

func equalFold(a, b []string) bool { return slices.EqualFunc(a, b, strings.EqualFold) }

func sortedModel(m model) []string {
	var out []string
	for _, rr := range m {
		out = append(out, strings.ToLower(rr.String()))
	}
	slices.Sort(out)
	return out
}

// checkState compares everything: records, order, counters.
func checkState(t *testing.T, z *Zone, m model) {
	t.Helper()
	var got []string
	snap := z.Snapshot()
	octets, last := 0, ""
	for rr := range snap.All() {
		octets += dns.Len(rr)
		if rr.Header().Rrtype != dns.TypeSOA {
			got = append(got, strings.ToLower(rr.String()))
		}
		key, ok := z.apex.keyOf(rr.Header().Name)
		if !ok || key < last {
			t.Fatalf("%s is out of order", rr)
		}
		last = key
	}
	slices.Sort(got)
	if want := sortedModel(m[1:]); !slices.Equal(got, want) {
		t.Fatalf("zone differs from the model:\n%s\n\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if snap.Len() != len(m) || snap.Size() != octets {
		t.Fatalf("Len %d, want %d; Size %d, want %d", snap.Len(), len(m), snap.Size(), octets)
	}
}
