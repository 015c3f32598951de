package dicom

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestSignedTransfers: where tsig requires it, a zone is transferred to who signs
// for it, in signed messages, however many; and to nobody else.
func TestSignedTransfers(t *testing.T) {
	dir := t.TempDir()
	s := start(t, strings.Replace(block(fmt.Sprintf("site %s\ndatabase %s\nallow %s * *",
		write(t, dir, "site.yaml", siteYAML), filepath.Join(dir, "zones"), key), "transfer {\n\tto *\n}"),
		"require_opcode UPDATE", "require_opcode UPDATE\n\t\trequire AXFR IXFR", 1))
	first := s.serial(t, domain)
	for i := range 30 { // more than one message of 64 KiB
		s.update(t, dns.RcodeSuccess, domain, fmt.Sprintf("t%d.%s 300 TXT", i, domain)+strings.Repeat(` "`+strings.Repeat("x", 250)+`"`, 10))
	}
	for name, m := range map[string]func() *dns.Msg{
		"AXFR": func() *dns.Msg { return new(dns.Msg).SetAxfr(domain) },
		"IXFR": func() *dns.Msg { return new(dns.Msg).SetIxfr(domain, first, "ns1."+domain, "h."+domain) },
	} {
		t.Run(name, func(t *testing.T) {
			records, err := transferIn(s.address("tcp"), m(), true)
			if err != nil || len(records) < 30 {
				t.Errorf("signed: %d records, %v", len(records), err)
			}
			if records, err := transferIn(s.address("tcp"), m(), false); err == nil {
				t.Errorf("unsigned: %d records", len(records))
			}
		})
	}
}
