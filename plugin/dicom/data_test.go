package dicom

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// rawRecords reads the zone by AXFR: type and data of its records, as they stand in the messages.
func (p *taker) rawRecords(t *testing.T) (all []string) {
	t.Helper()
	wire, err := new(dns.Msg).SetAxfr(domain).Pack()
	if err != nil {
		t.Fatal(err)
	}
	octets, err := p.exchange(wire)
	if err != nil {
		t.Fatal(err)
	}
	skip := func(at int) int { // a name
		for octets[at] != 0 && octets[at] < 0xc0 {
			at += 1 + int(octets[at])
		}
		if octets[at] != 0 {
			at++
		}
		return at + 1
	}
	const header, question, fixed = 12, 4, 10
	at := skip(header) + question
	for range binary.BigEndian.Uint16(octets[6:]) {
		at = skip(at)
		typ, length := binary.BigEndian.Uint16(octets[at:]), int(binary.BigEndian.Uint16(octets[at+8:]))
		at += fixed
		all = append(all, fmt.Sprintf("%d %x", typ, octets[at:at+length]))
		at += length
	}
	if soa := fmt.Sprint(dns.TypeSOA, " "); len(all) < 2 || !strings.HasPrefix(all[0], soa) || !strings.HasPrefix(all[len(all)-1], soa) {
		t.Fatalf("not a whole transfer in one message: %q", all)
	}
	return all
}

// add adds a record to the zone of the tests.
func (p *taker) add(t *testing.T, n int, typ uint16, data string) {
	t.Helper()
	h := dns.RR_Header{Name: fmt.Sprintf("kept%d.%s", n, domain), Rrtype: typ, Class: dns.ClassINET, Ttl: 60}
	m := new(dns.Msg).SetUpdate(domain)
	m.Ns = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: data}}
	wire, mac, err := dns.TsigGenerate(m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix()), secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	if rcode := p.update(t, wire, mac); rcode != dns.RcodeSuccess {
		t.Errorf("%s %s: %s", dns.Type(typ), data, dns.RcodeToString[rcode])
	}
}

// hexText is a character-string.
func hexText(s string) string { return fmt.Sprintf("%02x%x", len(s), s) }

// keptData is well-formed data that is unusual.
var keptData = []struct {
	typ  uint16
	data string
}{
	{typeWKS, "c0000201" + "06" + "0080"}, {typeWKS, "c0000202" + "11"},
	{dns.TypeX25, "0c" + "333131303631373030393536"},
	{dns.TypeRKEY, "00000305" + "0102030405"}, {dns.TypeRKEY, "000003fd" + "0161000102"},
	{dns.TypeCSYNC, "00000042" + "0003" + "000160" + "010140"}, {dns.TypeCSYNC, "00000042" + "fffc"},
	{dns.TypeCSYNC, "00000042" + "0000" + "0020" + strings.Repeat("00", 31) + "01" + "ff20" + strings.Repeat("ff", 32)},
	{dns.TypeNAPTR, "0001000a" + "0175" + hexText("E2U+sip") + hexText(`!^.*$!sip:"a\\b"@example.org!`) + "00"},
	{dns.TypeNAPTR, "0001000a" + "0173" + "00" + "00" + "01530141" + "00"},
	{dns.TypeNAPTR, "ffffffff" + "00" + "ff" + strings.Repeat("5c", 255) + "00" + "00"},
	{dns.TypeAPL, ""}, {dns.TypeAPL, "00010c020a10" + "00022082fe80"},
	{dns.TypeEID, "00ff"}, {dns.TypeNIMLOC, "ff00"}, {dns.TypeATMA, "0131"}, {dns.TypeNULL, ""}, {dns.TypeNULL, "5c22"},
	{dns.TypePX, "0001" + "0161" + "00" + "00"}, {dns.TypeGPOS, "0130" + "0130" + "00"}, {dns.TypeISDN, "0131" + "0132"}, {dns.TypeISDN, "0131"}, {dns.TypeISDN, "0131" + "00"},
	{dns.TypeTXT, "00" + "ff" + strings.Repeat("22", 255)}, {dns.TypeURI, "00010001" + "22613b20"}, {dns.TypeCAA, "80056973737565" + "22613b2000ff"},
	{typeNSAP, "47"}, {typeA6, "7c" + "0f" + "01410161" + "00"}, {typeSINK, "010203"}, {typeDSYNC, "003b01" + "0035" + "0141" + "00"},
	{typeHHIT, "00"}, {typeBRID, "00"}, {typeDOA, "0000000000000000" + "00" + "00"}, {typeWALLET, "0161"}, {65280, ""}, {65280, "c00c"},
}

// TestDataIsKept: what an UPDATE adds is transferred octet by octet, also from a database that was read again.
func TestDataIsKept(t *testing.T) {
	dir := t.TempDir()
	corefile := strings.Replace(block(fmt.Sprintf("file %s\ndatabase %s\nallow %s * *", write(t, dir, "zone", keptSeed), filepath.Join(dir, "zones"), key),
		"transfer {\nto *\n}"), " 192.0.2.0/24:0", "", 1)
	s := start(t, corefile)
	p := &taker{address: s.address("tcp")}
	t.Cleanup(func() { p.conn.Close() })
	var want []string
	for _, tt := range keptData {
		p.add(t, len(want), tt.typ, tt.data)
		want = append(want, fmt.Sprintf("%d %s", tt.typ, tt.data))
	}
	check := func() {
		t.Helper()
		all := p.rawRecords(t)
		for _, record := range want {
			if !slices.Contains(all, record) {
				t.Errorf("%s is not there: %q", record, all)
			}
		}
	}
	check()
	s.stop()
	s = start(t, corefile)
	p.conn, p.address = nil, s.address("tcp")
	check()
}

// TestDataIsTakenBySecondaries: one record that a secondary finds wrong, and it has
// none of the zone.
func TestDataIsTakenBySecondaries(t *testing.T) {
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			dir := shortDir(t)
			log, err := os.Create(filepath.Join(dir, "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			port := freePort(t)
			address := fmt.Sprintf("127.0.0.1:%d", port)
			// One port for both networks: named asks by UDP first.
			s := start(t, strings.ReplaceAll(block(fmt.Sprintf("site %s\nallow %s * *", write(t, t.TempDir(), "site.yaml", siteYAML), key),
				fmt.Sprintf("transfer {\n\t\tto %s\n\t\tto *\n\t}", address)), ":0", fmt.Sprintf(":%d", freePort(t))))
			k := &taker{address: s.address("tcp")}
			defer func() { k.conn.Close() }()
			for i, tt := range keptData {
				if p.name == "knotd" && tt.typ == dns.TypeNULL && tt.data == "" {
					continue // "anything at all" (RFC 1035 section 3.3.10) is something for Knot
				}
				k.add(t, i, tt.typ, tt.data)
			}
			p.launch(t, dir, port, s.address("tcp"), log)
			eventually(t, "transfer", func() bool { serial, _ := serialAt(address); return serial == s.serial(t, domain) })
			ours, err := contentOf(s.address("tcp"))
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := contentOf(address)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ours, theirs) {
				t.Errorf("%s has %q, not %q", p.name, theirs, ours)
			}
		})
	}
}
