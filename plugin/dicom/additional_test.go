package dicom

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestAdditionalIsLeftOut: an answer that fits is whole, whatever becomes of the
// records that come with it.
func TestAdditionalIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	var text strings.Builder
	text.WriteString(siteYAML[:strings.Index(siteYAML, "devices:")] + "devices:\n")
	for i := range 90 {
		fmt.Fprintf(&text, "  - {name: d%d, type: CT, address: 192.0.2.%d, dhcp: false, applications: [{ae-title: D%d, port: 104}]}\n", i, i+10, i)
	}
	for i := range 3 {
		fmt.Fprintf(&text, "  - {name: m%d, type: MR, cluster: m, address: [192.0.2.%d, 192.0.2.%d], dhcp: false, applications: [{ae-title: M, port: 104}]}\n",
			i, 200+2*i, 201+2*i)
	}
	write(t, dir, "site.yaml", text.String())
	s := startSite(t, dir)
	ask := func(network, name string, qtype, size uint16) *dns.Msg {
		t.Helper()
		m := new(dns.Msg).SetQuestion(name, qtype)
		if size > 0 {
			m.SetEdns0(size, false)
		}
		r := s.exchange(t, network, m, "", "")
		r.Compress = true // as it came
		if n := r.Len(); size > 0 && n > int(size) {
			t.Errorf("%s by %s: %d octets, more than %d", name, network, n, size)
		}
		return r
	}
	const ct, mr = "_ct._sub._dicom._tcp." + domain, "_mr._sub._dicom._tcp." + domain
	for _, tt := range []struct {
		network, name   string
		qtype, size     uint16
		answers, extras int // extras: at least
		truncated       bool
	}{
		{"tcp", ct, dns.TypePTR, 0, 90, 100, false},
		{"udp", ct, dns.TypePTR, 4096, 90, 3, false},
		{"udp", ct, dns.TypePTR, 1232, 0, 0, true}, // 90 do not fit
		{"udp", mr, dns.TypePTR, 1232, 1, 10, false},
		{"udp", mr, dns.TypePTR, 0, 1, 3, false},
		{"udp", "M._dicom._tcp." + domain, dns.TypeSRV, 0, 3, 6, false},
	} {
		r := ask(tt.network, tt.name, tt.qtype, tt.size)
		if r.Truncated != tt.truncated || !tt.truncated && (len(r.Answer) != tt.answers || len(r.Extra) < tt.extras) {
			t.Errorf("%s by %s in %d: %d answers, %d additional, truncated %t", tt.name, tt.network, tt.size, len(r.Answer), len(r.Extra), r.Truncated)
		}
		// Whole RRsets: each of these hosts has two addresses.
		addresses := make(map[string]int)
		for _, rr := range r.Extra {
			if rr.Header().Rrtype == dns.TypeA && strings.HasPrefix(rr.Header().Name, "m") {
				addresses[rr.Header().Name]++
			}
		}
		for host, n := range addresses {
			if n != 2 {
				t.Errorf("%s by %s in %d: %d addresses of %s", tt.name, tt.network, tt.size, n, host)
			}
		}
	}
}
