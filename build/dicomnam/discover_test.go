package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dicomnam/dicomnam/plugin/pkg/dnssd"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
)

// nameserver [SITE] RECORDS serves a site file, all of whose devices have an
// address, and the records of a file at $DNS. What a real coredns answers is
// tested in package integration.
func nameserver(ts *testscript.TestScript, _ bool, args []string) {
	var records []dns.RR
	if len(args) > 1 {
		s, _, err := site.Load(ts.MkAbs(args[0]))
		ts.Check(err)
		p := dnssd.Publish(s, s.Domain)
		p.SOA.Serial = 1
		records = append([]dns.RR{p.SOA}, p.Records(present{})...)
	}
	z := dns.NewZoneParser(strings.NewReader("$TTL 60\n"+ts.ReadFile(args[len(args)-1])), "imaging.example.org.", "")
	for rr, ok := z.Next(); ok; rr, ok = z.Next() {
		records = append(records, rr)
	}
	ts.Check(z.Err())
	address, stop, err := serveZone(records)
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv("DNS", address)
}

// present is a zone where every host has its address.
type present struct{}

func (present) HasAddress(dnssd.Host) bool { return true }
func (present) Others(string, uint16) bool { return false }

// serveZone answers for imaging.example.org until stop is called.
func serveZone(records []dns.RR) (address string, stop func(), err error) {
	store, err := zone.Open("", zone.Options{})
	if err != nil {
		return "", nil, err
	}
	z, err := store.Zone("imaging.example.org.", func() ([]dns.RR, error) { return records, nil })
	if err != nil {
		return "", nil, errors.Join(err, store.Close())
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		r := z.Snapshot().Lookup(q.Question[0].Name, q.Question[0].Qtype)
		m.Rcode, m.Answer, m.Ns, m.Extra = r.Rcode, r.Answer, r.Ns, r.Extra
		m.Compress = true
		size := dns.MaxMsgSize
		if w.RemoteAddr().Network() == "udp" {
			size = dns.MinMsgSize
			if opt := q.IsEdns0(); opt != nil {
				size = int(opt.UDPSize())
			}
		}
		m.Truncate(size)
		_ = w.WriteMsg(m) // a client that is gone asks again
	})
	for range 10 { // until a port is free for both
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", nil, err
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			l.Close()
			continue
		}
		servers := []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: p, Handler: handler}}
		started := make(chan struct{}, len(servers))
		for _, s := range servers {
			s.NotifyStartedFunc = func() { started <- struct{}{} }
			go func() { _ = s.ActivateAndServe() }() // ends with Shutdown
		}
		for range servers {
			<-started
		}
		return l.Addr().String(), func() {
			for _, s := range servers {
				_ = s.Shutdown()
			}
			_ = store.Close()
		}, nil
	}
	return "", nil, errors.New("no port for both TCP and UDP")
}

// TestDiscoverMany finds more instances than a UDP message holds, and says so
// where they are more than DNS can list.
func TestDiscoverMany(t *testing.T) {
	for _, n := range []int{400, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			soa, err := dns.NewRR("imaging.example.org. 60 IN SOA ns h 1 1 1 1 1")
			if err != nil {
				t.Fatal(err)
			}
			s := &site.Site{Domain: "imaging.example.org.", TTL: time.Minute}
			for i := range n {
				s.Devices = append(s.Devices, site.Device{
					Name: fmt.Sprintf("d%d", i), Hostname: fmt.Sprintf("d%d.imaging.example.org.", i), Types: []string{[]string{"CT", "MR"}[i/200%2]},
					Installed: true, Publish: site.PublishAlways, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})},
					Applications: []site.Application{{AETitle: fmt.Sprintf("D%d", i), Port: 104}},
				})
			}
			address, stop, err := serveZone(append([]dns.RR{soa}, dnssd.Publish(s, s.Domain).Records(present{})...))
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			a, err := newAsker(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			d := &discovery{asker: a, domain: s.Domain}
			if err := d.browse(t.Context(), dicomServices); err != nil {
				t.Fatal(err)
			}
			switch cut := len(d.cut) > 0; {
			case n == 400 && (cut || len(d.all) != n):
				t.Errorf("found %d of %d, cut off at %v", len(d.all), n, d.cut)
			case n == 5000 && (!cut || len(d.all) < 1000 || len(d.all) >= n):
				t.Errorf("found %d of %d, cut off at %v", len(d.all), n, d.cut)
			}
			if n != 400 {
				return
			}
			d = &discovery{asker: a, domain: s.Domain, deviceType: "mr"}
			if err := d.browse(t.Context(), dicomServices); err != nil {
				t.Fatal(err)
			}
			if len(d.all) != 200 || slices.ContainsFunc(d.all, func(f found) bool { return f.Types[0] != "MR" }) {
				t.Errorf("%d of type MR", len(d.all))
			}
		})
	}
}

// TestDiscoverHostileServer: answers that are none, loops of names, and silence.
func TestDiscoverHostileServer(t *testing.T) {
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	replies := make(chan func(*dns.Msg) []byte, 1)
	go func() {
		b := make([]byte, 4096)
		var reply func(*dns.Msg) []byte
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			select {
			case reply = <-replies:
			default:
			}
			q := new(dns.Msg)
			if reply == nil || q.Unpack(b[:n]) != nil {
				continue
			}
			if out := reply(q); out != nil {
				_, _ = p.WriteTo(out, from)
			}
		}
	}()
	pack := func(m *dns.Msg) []byte {
		b, err := m.Pack()
		if err != nil {
			return nil
		}
		return b
	}
	for name, tt := range map[string]struct {
		reply func(*dns.Msg) []byte
		want  string
	}{
		"another question": {func(q *dns.Msg) []byte {
			m := new(dns.Msg).SetReply(q)
			m.Question[0].Name = "other.example.org."
			return pack(m)
		}, "answer to another question"},
		"no response":    {func(q *dns.Msg) []byte { return pack(q) }, "answer to another question"},
		"half a message": {func(q *dns.Msg) []byte { return pack(new(dns.Msg).SetReply(q))[:20] }, "buffer size too small"},
		"refused":        {func(q *dns.Msg) []byte { return pack(new(dns.Msg).SetRcode(q, dns.RcodeRefused)) }, "REFUSED"},
		"root": {func(q *dns.Msg) []byte {
			m := new(dns.Msg).SetReply(q)
			switch h := (dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Rrtype: q.Question[0].Qtype}); h.Rrtype {
			case dns.TypePTR:
				m.Answer = []dns.RR{&dns.PTR{Hdr: h, Ptr: "."}, &dns.PTR{Hdr: h, Ptr: q.Question[0].Name}}
			case dns.TypeSRV:
				m.Answer = []dns.RR{&dns.SRV{Hdr: h, Target: "."}}
			case dns.TypeTXT:
				m.Answer = []dns.RR{&dns.TXT{Hdr: h, Txt: []string{""}}, &dns.TXT{Hdr: h}}
			}
			return pack(m)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			replies <- tt.reply
			a, err := newAsker(t.Context(), p.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			a.udp.Timeout = 30 * time.Second
			d := &discovery{asker: a, domain: "imaging.example.org."}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = d.browse(ctx, dicomServices)
			if tt.want == "" && (err != nil || len(d.all) != 0) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("found %v, error %v", d.all, err)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		replies <- func(*dns.Msg) []byte { return nil }
		a, err := newAsker(t.Context(), p.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		a.udp.Timeout = 50 * time.Millisecond
		d := &discovery{asker: a, domain: "imaging.example.org."}
		if err := d.browse(t.Context(), dicomServices); err == nil || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("%v", err)
		}
	})
}

func TestLabels(t *testing.T) {
	for text, want := range map[string]string{"_ct": "_ct", "a.b": `a\046b`, `a\`: `a\092`, "ü": `\195\188`, " ": `\032`} {
		got := label(text)
		if got != want || firstLabel(got+".example.org.") != text {
			t.Errorf("%q is %q, and back %q", text, got, firstLabel(got+".example.org."))
		}
	}
	for escaped, want := range map[string]string{`a\ b`: "a b", `\.`: ".", `a\`: `a\`, `\300`: "300", `\25`: "25", `\"x\"`: `"x"`} {
		if got := unescape(escaped); got != want {
			t.Errorf("%q means %q, want %q", escaped, got, want)
		}
	}
}
