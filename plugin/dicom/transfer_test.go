package dicom

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// transferIn fetches a zone, signed or not, and checks each message.
func transferIn(address string, m *dns.Msg, signed bool) ([]dns.RR, error) {
	c, err := dns.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	tr := &dns.Transfer{Conn: c, ReadTimeout: patience}
	if signed {
		m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
		tr.TsigSecret = map[string]string{key: secret}
	}
	flags := &flagReader{Conn: c.Conn}
	c.Conn = flags
	ch, err := tr.In(m, address)
	if err != nil {
		return nil, err
	}
	var all []dns.RR
	for e := range ch {
		if e.Error != nil {
			return nil, e.Error
		}
		all = append(all, e.RR...)
	}
	for i, authoritative := range flags.messages() {
		if !authoritative {
			return nil, fmt.Errorf("message %d is not authoritative", i+1)
		}
	}
	return all, nil
}

// flagReader keeps what it has read.
type flagReader struct {
	net.Conn
	data []byte
}

func (f *flagReader) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	f.data = append(f.data, p[:n]...)
	return n, err
}

// messages tells of each message whether it was authoritative.
func (f *flagReader) messages() (authoritative []bool) {
	for b := f.data; len(b) > 4; b = b[2+int(b[0])<<8+int(b[1]):] {
		authoritative = append(authoritative, b[4]&4 != 0)
	}
	return authoritative
}

// TestLastRecordAlone: wherever the messages of a transfer end, and also where
// the SOA that ends it does not fit into the message before, it is whole, signed
// and authoritative.
func TestLastRecordAlone(t *testing.T) {
	s := startSite(t, t.TempDir(), "transfer {\n\tto *\n}")
	z := s.handler().zones[domain].zone.Load()
	pad := func(n int) string {
		var text []string
		for ; n > 0; n -= 256 {
			text = append(text, `"`+strings.Repeat("x", min(n, 256)-1)+`"`)
		}
		return strings.Join(text, " ")
	}
	for i := range 14 { // of about 4,300 octets each
		s.update(t, dns.RcodeSuccess, domain, fmt.Sprintf("fill%d.imaging.example.org. 300 TXT %s", i, pad(4300)))
	}
	soa := dns.Len(z.Snapshot().SOA())
	first := z.Snapshot().Serial()
	s.update(t, dns.RcodeSuccess, domain, "fit.imaging.example.org. 300 TXT "+pad(100))
	// What the zone has without the last SOA, in relation to a message.
	for over := -soa - 3; over <= 3; over++ {
		add := messageOctets + over - z.Snapshot().Size()
		now := z.Snapshot().RRset("fit."+domain, dns.TypeTXT)[0].(*dns.TXT)
		octets := add
		for _, text := range now.Txt {
			octets += len(text) + 1
		}
		s.update(t, dns.RcodeSuccess, domain, "!fit.imaging.example.org. TXT", "fit.imaging.example.org. 300 TXT "+pad(octets))
		if got := z.Snapshot().Size(); got != messageOctets+over {
			t.Fatalf("the zone has %d octets, want %d", got, messageOctets+over)
		}
		for _, signed := range []bool{false, true} {
			for kind, m := range map[string]*dns.Msg{
				"AXFR": new(dns.Msg).SetAxfr(domain),
				"IXFR": new(dns.Msg).SetIxfr(domain, first-14, "ns1."+domain, "h."+domain),
			} {
				all, err := transferIn(s.address("tcp"), m, signed)
				if err != nil {
					t.Errorf("%s of %+d octets, signed %v: %v", kind, over, signed, err)
					continue
				}
				if want := z.Snapshot().Len() + 1; kind == "AXFR" && len(all) != want {
					t.Errorf("%s of %+d octets, signed %v: %d records, want %d", kind, over, signed, len(all), want)
				}
			}
		}
	}
}
