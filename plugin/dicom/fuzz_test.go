package dicom

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
)

// FuzzMessage sends messages to a server with the real plugin chain: as they are by UDP, and, where they are DNS messages,
// by TCP without a signature and with one. The server goes on, changes nothing for who has no key, and keeps what is the
// site's.
func FuzzMessage(f *testing.F) {
	add := func(m *dns.Msg) {
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	records := func(texts ...string) (out []dns.RR) {
		for _, text := range texts {
			r, err := dns.NewRR(text)
			if err != nil {
				f.Fatal(err)
			}
			out = append(out, r)
		}
		return out
	}
	for _, zone := range []string{domain, reverse, "example.com.", "."} {
		m := new(dns.Msg).SetUpdate(zone)
		m.Insert(records("pc." + domain + " 60 IN A 192.0.2.120"))
		add(m)
		m = new(dns.Msg).SetUpdate(zone)
		m.NameNotUsed(records("us1." + domain + " 60 IN A 192.0.2.130"))
		m.Insert(records("us1."+domain+" 60 IN A 192.0.2.130", "us1."+domain+" 60 IN DHCID AAEBOSD+XR3Os/0LozeXVqcNc7FwCfQdWL3b/NaiUDlW2No="))
		add(m)
		m = new(dns.Msg).SetUpdate(zone)
		m.RemoveName(records("oldmr." + domain + " 60 IN A 192.0.2.20"))
		m.Remove(records("_dicom._tcp." + domain + " 60 IN PTR OLDMR._dicom._tcp." + domain))
		add(m)
	}
	add(new(dns.Msg).SetQuestion("_dicom._tcp."+domain, dns.TypePTR))
	add(new(dns.Msg).SetNotify(domain))
	add(new(dns.Msg).SetIxfr(domain, 1, "ns1."+domain, "hostmaster."+domain))

	site := filepath.Join(f.TempDir(), "site.yaml")
	if err := os.WriteFile(site, []byte(siteYAML), 0o600); err != nil {
		f.Fatal(err)
	}
	i, err := caddy.Start(input(block(fmt.Sprintf("site %s\nallow %s * *", site, key))))
	if err != nil {
		f.Fatal(err)
	}
	s := &server{Instance: i, addr: i.Servers()[0].Addr().String()}
	f.Cleanup(s.stop)
	udp, err := net.Dial("udp", s.address("udp"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { udp.Close() })
	client := &dns.Client{Net: "tcp", Timeout: patience}
	signing := &dns.Client{Net: "tcp", Timeout: patience, TsigSecret: map[string]string{key: secret}}
	f.Fuzz(func(t *testing.T, wire []byte) {
		mark := logged.len()
		defer func() {
			if text := logged.since(mark); strings.Contains(text, "panic") {
				t.Errorf("%x: %s", wire, text)
			}
			for _, zone := range []string{domain, reverse} {
				z := s.handler().zones[zone].zone.Load().Snapshot()
				if z.SOA() == nil || z.RRset(zone, dns.TypeNS) == nil {
					t.Errorf("%s has no SOA or NS record", zone)
				}
			}
			s.want(t, "oldmr."+domain, "A", "192.0.2.20")
			s.want(t, "OLDMR._dicom._tcp."+domain, "SRV", "0 0 104 oldmr."+domain)
		}()
		if len(wire) == 0 || len(wire) > 4096 {
			return
		}
		if _, err := udp.Write(wire); err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if m.Unpack(wire) != nil || m.Response || m.Opcode == dns.OpcodeNotify || len(m.Question) != 1 {
			return // not answered, or not by this plugin
		}
		m.Extra = nil // where signatures are
		serial := s.handler().zones[domain].zone.Load().Snapshot().Serial()
		r, _, err := client.Exchange(m.Copy(), s.address("tcp"))
		switch {
		case r == nil:
			t.Fatalf("no answer to %v: %v", m, err)
		case m.Opcode == dns.OpcodeUpdate && r.Rcode == dns.RcodeSuccess:
			t.Errorf("%v is done without a signature", m)
		case s.handler().zones[domain].zone.Load().Snapshot().Serial() != serial:
			t.Errorf("%v changes the zone without a signature", m)
		}
		if r, _, err := signing.Exchange(m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix()), s.address("tcp")); r == nil {
			t.Fatalf("no answer to %v: %v", m, err)
		} else if r.Rcode == dns.RcodeServerFailure && m.Opcode == dns.OpcodeUpdate {
			t.Errorf("%v: SERVFAIL", m)
		}
	})
}
