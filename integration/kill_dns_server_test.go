//go:build linux

package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// dnsServer is a coredns whose zone takes signed updates and is on disk.
type dnsServer struct {
	t        *testing.T
	lab      *lab.Lab
	command  lab.Command
	address  netip.AddrPort
	database string
	process  *lab.Process
	on       *lab.Namespace // where it runs
	site     *killSite
}

// newDNSServer writes the server's files, and starts nothing. Its database lies in the directory dir.
func newDNSServer(t *testing.T, l *lab.Lab, dir string) *dnsServer {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	port, err := lab.FreePort(timeout(t, patience), loopback)
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{t: t, lab: l, address: netip.AddrPortFrom(loopback, port), database: filepath.Join(dir, "zones"), on: l.Server,
		site: newKillSite(t, l.Dir)}
	for name, content := range map[string]string{
		"Corefile": strings.TrimSuffix(killZone, ".") + ` {
    bind 127.0.0.1
    errors
    tsig {
        secrets ` + l.Dir + `/tsig.keys
        require_opcode UPDATE
    }
    transfer {
        to *
    }
    dicom {
        file ` + l.Dir + `/seed.zone
        site ` + s.site.path + `
        database ` + s.database + `
        allow ` + killKey + ` * *
    }
}
`,
		"tsig.keys": fmt.Sprintf("key %q {\nalgorithm hmac-sha256;\nsecret %q;\n};\n", killKey, killSecret),
		"seed.zone": fmt.Sprintf("$ORIGIN %s\n$TTL 300\n@ IN SOA ns hostmaster %d 3600 600 86400 60\nns IN A 192.0.2.2\n@ IN NS ns\n"+
			"$GENERATE 1-%d host$ A 192.0.2.3\n", killZone, killSerial, dnsHosts),
	} {
		if err := os.WriteFile(filepath.Join(l.Dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.command = lab.Command{Name: "coredns", Path: filepath.Join(binaries(t), "coredns"),
		Args: []string{"-conf", filepath.Join(l.Dir, "Corefile"), "-dns.port", strconv.Itoa(int(port))}}
	return s
}

// launch starts the process, and does not wait until it serves.
func (s *dnsServer) launch() {
	s.t.Helper()
	p, err := s.lab.Start(s.on, s.command)
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = p
}

// start starts the process, and returns the serial with which it serves.
func (s *dnsServer) start() uint32 {
	s.t.Helper()
	s.launch()
	ctx := timeout(s.t, patience)
	for {
		if serial, err := s.serial(ctx); err == nil {
			return serial
		}
		select {
		case <-s.process.Done():
			s.t.Fatalf("coredns ended: %v\n%s", s.process.Err(), s.process.Tail(20))
		case <-ctx.Done():
			s.t.Fatalf("coredns does not answer\n%s", s.process.Tail(20))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// serial asks for the zone's serial, until ctx ends at the latest.
func (s *dnsServer) serial(ctx context.Context) (uint32, error) {
	client := &dns.Client{Timeout: 200 * time.Millisecond}
	conn, err := client.DialContext(ctx, s.address.String())
	if err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // or below
	defer conn.Close()
	r, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion(killZone, dns.TypeSOA), conn)
	if err != nil {
		return 0, err
	}
	if len(r.Answer) == 1 {
		if soa, ok := r.Answer[0].(*dns.SOA); ok && r.Authoritative {
			return soa.Serial, nil
		}
	}
	return 0, fmt.Errorf("no SOA record in %v", r)
}

// transfer asks for the zone, or with since for the difference from that serial, as a secondary does.
func (s *dnsServer) transfer(since uint32) []dns.RR {
	s.t.Helper()
	rrs, err := s.tryTransfer(since)
	// Again, as a secondary does, where the server ended the connection without an answer: on a busy machine it may wait for
	// the question in vain.
	unanswered := func() bool {
		var answer *dns.Error
		return err != nil && len(rrs) == 0 && !errors.As(err, &answer)
	}
	for late := time.Now().Add(patience); unanswered() && time.Now().Before(late); rrs, err = s.tryTransfer(since) {
		select {
		case <-s.process.Done():
			s.t.Fatalf("coredns ended: %v\n%s", s.process.Err(), s.process.Tail(20))
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err != nil {
		s.t.Fatalf("transfer since %d: %v\n%s", since, err, s.process.Tail(20))
	}
	return rrs
}

func (s *dnsServer) tryTransfer(since uint32) (rrs []dns.RR, err error) {
	m := new(dns.Msg).SetAxfr(killZone)
	if since != 0 {
		m.SetIxfr(killZone, since, "ns."+killZone, "hostmaster."+killZone)
	}
	tr := &dns.Transfer{DialTimeout: patience, ReadTimeout: patience}
	parts, err := tr.In(m, s.address.String())
	if err != nil {
		return nil, err
	}
	for part := range parts {
		if part.Error != nil {
			err = part.Error
		}
		rrs = append(rrs, part.RR...)
	}
	return rrs, err
}

// zoneText is a zone as a secondary holds it: the text of its records.
type zoneText map[string]bool

// zone transfers the whole zone.
func (s *dnsServer) zone() (serial uint32, z zoneText) {
	s.t.Helper()
	return zoneOf(s.t, s.transfer(0))
}

// zoneOf is what a transfer of a whole zone means.
func zoneOf(t *testing.T, rrs []dns.RR) (serial uint32, z zoneText) {
	t.Helper()
	z = make(zoneText)
	for _, rr := range rrs[:len(rrs)-1] { // the SOA record stands at both ends
		if z[rr.String()] {
			t.Errorf("%s is there twice", rr)
		}
		z[rr.String()] = true
	}
	return rrs[0].(*dns.SOA).Serial, z
}

// since transfers the difference and applies it to a copy of the old version (RFC 1995 section 4); incremental is false
// where the server sent the whole zone.
func (s *dnsServer) since(serial uint32, old zoneText) (z zoneText, incremental bool) {
	s.t.Helper()
	rrs := s.transfer(serial)
	if len(rrs) == 1 { // nothing new
		return old, true
	}
	z = maps.Clone(old)
	second, ok := rrs[1].(*dns.SOA)
	if !ok {
		clear(z)
		for _, rr := range rrs[:len(rrs)-1] {
			z[rr.String()] = true
		}
		return z, false
	}
	if second.Serial != serial {
		s.t.Errorf("the difference from serial %d begins at %d", serial, second.Serial)
	}
	removing := false
	for _, rr := range rrs[1 : len(rrs)-1] {
		if rr.Header().Rrtype == dns.TypeSOA {
			removing = !removing
		}
		if z[rr.String()] != removing {
			s.t.Errorf("difference from serial %d: %s, removed %t, there %t", serial, rr, removing, z[rr.String()])
		}
		if removing {
			delete(z, rr.String())
		} else {
			z[rr.String()] = true
		}
	}
	return z, true
}
