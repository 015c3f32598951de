package dicom

import (
	"encoding/binary"
	"fmt"
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

// TestDataIsKept: what an UPDATE adds is transferred octet by octet, also from a database that was read again.
func TestDataIsKept(t *testing.T) {
	dir := t.TempDir()
	corefile := strings.Replace(block(fmt.Sprintf("file %s\ndatabase %s\nallow %s * *", write(t, dir, "zone", keptSeed), filepath.Join(dir, "zones"), key),
		"transfer {\nto *\n}"), " 192.0.2.0/24:0", "", 1)
	s := start(t, corefile)
	p := &taker{address: s.address("tcp")}
	t.Cleanup(func() { p.conn.Close() })
	text := func(s string) string { return fmt.Sprintf("%02x%x", len(s), s) }
	var want []string
	for _, tt := range []struct {
		typ  uint16
		data string
	}{
		{typeWKS, "c0000201" + "06" + "0080"}, {typeWKS, "c0000202" + "11"},
		{dns.TypeX25, "0c" + "333131303631373030393536"},
		{dns.TypeRKEY, "00000305" + "0102030405"}, {dns.TypeRKEY, "000003fd" + "0161000102"},
		{dns.TypeCSYNC, "00000042" + "0003" + "000160" + "010140"}, {dns.TypeCSYNC, "00000042" + "fffc"},
		{dns.TypeCSYNC, "00000042" + "0000" + "0020" + strings.Repeat("00", 31) + "01" + "ff20" + strings.Repeat("ff", 32)},
		{dns.TypeNAPTR, "0001000a" + "0175" + text("E2U+sip") + text(`!^.*$!sip:"a\\b"@example.org!`) + "00"},
		{dns.TypeNAPTR, "0001000a" + "0173" + "00" + "00" + "01530141" + "00"},
		{dns.TypeNAPTR, "ffffffff" + "00" + "ff" + strings.Repeat("5c", 255) + "00" + "00"},
		{dns.TypeAPL, ""}, {dns.TypeAPL, "00010c020a10" + "00022082fe80"},
		{dns.TypeEID, "00ff"}, {dns.TypeNIMLOC, "ff00"}, {dns.TypeATMA, "0131"}, {dns.TypeNULL, ""}, {dns.TypeNULL, "5c22"},
		{dns.TypePX, "0001" + "0161" + "00" + "00"}, {dns.TypeGPOS, "0130" + "0130" + "00"}, {dns.TypeISDN, "0131" + "0132"},
		{dns.TypeTXT, "00" + "ff" + strings.Repeat("22", 255)}, {dns.TypeURI, "00010001" + "22613b20"}, {dns.TypeCAA, "80056973737565" + "22613b2000ff"},
		{typeNSAP, "47"}, {typeA6, "7c" + "0f" + "01410161" + "00"}, {typeSINK, "010203"}, {typeDSYNC, "003b01" + "0035" + "0141" + "00"},
		{typeHHIT, "00"}, {typeBRID, "00"}, {typeDOA, "0000000000000000" + "00" + "00"}, {typeWALLET, "0161"}, {65280, ""}, {65280, "c00c"},
	} {
		h := dns.RR_Header{Name: fmt.Sprintf("kept%d.%s", len(want), domain), Rrtype: tt.typ, Class: dns.ClassINET, Ttl: 60}
		m := new(dns.Msg).SetUpdate(domain)
		m.Ns = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: tt.data}}
		wire, mac, err := dns.TsigGenerate(m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix()), secret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		if rcode := p.update(t, wire, mac); rcode != dns.RcodeSuccess {
			t.Errorf("%s %s: %s", dns.Type(tt.typ), tt.data, dns.RcodeToString[rcode])
		}
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
