package zone

import (
	"context"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
)

// FuzzUpdate feeds messages as they come from the wire. Whatever they hold, the zone stays one that can be read back
// from the database exactly.
func FuzzUpdate(f *testing.F) {
	add := func(pre, upd []dns.RR) {
		m := new(dns.Msg)
		m.SetUpdate(testOrigin)
		m.Answer, m.Ns = pre, upd
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	bare := func(name string, typ, class uint16) dns.RR {
		return &dns.ANY{Hdr: dns.RR_Header{Name: name, Rrtype: typ, Class: class}}
	}
	add([]dns.RR{bare("a.example.org.", dns.TypeANY, dns.ClassNONE)}, []dns.RR{testRR(f, "A.example.org. 5 IN A 192.0.2.1"), testRR(f, "a.example.org. 5 IN DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=")})
	add(nil, []dns.RR{bare("example.org.", dns.TypeANY, dns.ClassANY), testRR(f, "*.b.example.org. 5 IN CNAME a."), testRR(f, "b.example.org. 5 IN DNAME c.")})
	add(nil, []dns.RR{testRR(f, "example.org. 5 IN SOA a. b. 99 1 1 1 1"), testRR(f, "c.example.org. 5 IN NS d.example.org."), testRR(f, `d.example.org. 5 IN TYPE65280 \# 2 0102`)})
	add(nil, []dns.RR{testRR(f, "e.example.org. 5 IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1"), testRR(f, "e.example.org. 5 IN APL 1:192.0.2.0/24"), testRR(f, "e.example.org. 5 IN LOC 1 2 3 N 1 2 3 E 4m 5m 6m 7m"),
		testRR(f, "e.example.org. 5 IN NAPTR 1 2 \"u\" \"E2U\" \"!a!b!\" ."), testRR(f, "e.example.org. 5 IN CAA 0 issue \"ca\"")})
	for typ, data := range samples(f) {
		add(nil, []dns.RR{&dns.RFC3597{Hdr: dns.RR_Header{Name: testOrigin, Rrtype: typ, Class: dns.ClassINET, Ttl: 5}, Rdata: hex.EncodeToString(data)}})
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		fs := vfs.NewMem()
		s, z := openMem(t, fs)
		before := contents(z)
		old := z.Snapshot().Serial()
		for range 2 { // the second time, what is added is there
			rcode, err := z.Update(context.Background(), m.Answer, m.Ns, permitAll)
			if rcode == dns.RcodeServerFailure {
				t.Fatalf("%v", err)
			}
			if rcode != dns.RcodeSuccess && z.Snapshot().Serial() != old {
				t.Fatal("a refused update took a serial")
			}
			now := contents(z)
			if same := slices.Equal(before, now); same != (z.Snapshot().Serial() == old) {
				t.Fatalf("contents and serial do not change together: %q, %q", before, now)
			}
			before, old = now, z.Snapshot().Serial()
		}
		for _, rr := range m.Ns {
			for _, typ := range []uint16{rr.Header().Rrtype, dns.TypeA, dns.TypeANY} {
				z.Snapshot().Lookup(rr.Header().Name, typ)
				z.Snapshot().Lookup("x.y."+rr.Header().Name, typ)
			}
		}
		want := contents(z)
		if z.Snapshot().SOA() == nil || z.Snapshot().Serial() == 0 || z.Snapshot().RRset(testOrigin, dns.TypeNS) == nil {
			t.Fatalf("SOA or NS is gone: %q", want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, err := Open("db", Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		z, err = s.Zone(testOrigin, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := contents(z)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("read back:\n%q\nwritten:\n%q", got, want)
		}
	})
}

// FuzzDecode feeds the store's decoder. What it accepts is what the encoder would have written.
func FuzzDecode(f *testing.F) {
	a, err := newApex(testOrigin)
	if err != nil {
		f.Fatal(err)
	}
	var p packer
	for _, text := range []string{"a.example.org. 5 IN A 192.0.2.1", "CT1.b.example.org. 5 IN PTR X.example.org.", `\000\001.example.org. 5 IN TYPE65280 \# 0`} {
		rr := testRR(f, text)
		data, err := p.data(rr)
		if err != nil {
			f.Fatal(err)
		}
		key, _ := a.keyOf(rr.Header().Name)
		value, err := appendRecordValue(nil, rr, true)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(appendRecordKey(nil, 1, key, rr.Header().Rrtype, data)[5:], value)
	}
	for _, owner := range []string{"example.org.", "Example.ORG."} {
		head, err := encodeHead(nil, testRR(f, owner+" 60 IN SOA NS.example.org. host.example.org. 1 2 3 4 5"), true, 1000, &p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(nil), head)
	}
	for typ, data := range samples(f) {
		f.Add(appendRecordKey(nil, 1, "", typ, data)[5:], make([]byte, 1+4))
	}
	const value = "\x00\x00\x00\x00\x05"
	for _, found := range [][2]string{
		{"\x00\x00\x37" + "00", value},                                    // HIP without a key
		{"\x00\x01\x01" + "0", value},                                     // CAA without a tag
		{"\x00\x00\x21" + "\x00\x00\x00\x00\x00\x00" + "\xc0\x00", value}, // SRV whose target points to its priority
		// an owner name whose last label holds the zone's name, and points there
		{"a\x07example\x03org\x01\x01\x00" + "\x00\x00\x01" + "\xc0\x00\x02\x01", "\x02" + value[1:] + "\x0eA\x07example\x03org\x00" + "\xc0\x02"},
	} {
		f.Add([]byte(found[0]), []byte(found[1]))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var p packer
		if s, records, err := a.decodeHead(value, &p); err == nil {
			if soa, ok := s.rr.(*dns.SOA); !ok || soa.Serial == 0 {
				t.Fatalf("head %x", value)
			}
			if s.rr.Header().Name = s.name; s.name == "" {
				s.rr.Header().Name = a.name
			}
			if again, err := encodeHead(nil, s.rr, s.site, records, &p); err != nil || !slices.Equal(again, value) {
				t.Fatalf("head %x is written as %x, %v", value, again, err)
			}
		}
		s, err := a.decodeRecord(key, value, &p)
		if err != nil {
			return
		}
		l := loader{apex: &a, state: newState()}
		if err := l.add(s); err != nil {
			return
		}
		l.finish()
		data, err := p.data(s.rr)
		if err != nil {
			t.Fatalf("decoded %v from %x, and it cannot be packed: %v", s.rr, key, err)
		}
		again, err := appendRecordValue(nil, s.rr, s.site)
		if err != nil {
			t.Fatal(err)
		}
		if k := appendRecordKey(nil, 1, s.key, s.rr.Header().Rrtype, data)[5:]; !slices.Equal(k, key) || !slices.Equal(again, value) {
			t.Fatalf("%x %x is written as %x %x", key, value, k, again)
		}
	})
}
