package zone_test

import "testing"

// TestAdditionalIsTheZones holds that what is delegated, or hidden by a DNAME,
// stands in no additional section but as glue (RFC 2181 section 5.4.1, RFC 4035
// section 2.2, RFC 6672 section 2.4).
func TestAdditionalIsTheZones(t *testing.T) {
	cut := []string{"sub.example.org. 5 IN NS ns.sub.example.org.", "ns.sub.example.org. 5 IN A 192.0.2.9", "sub.example.org. 5 IN A 192.0.2.10"}
	dname := []string{"d.example.org. 5 IN DNAME example.net.", "h.d.example.org. 5 IN A 192.0.2.9", "d.example.org. 5 IN A 192.0.2.10"}
	for _, tt := range []struct {
		name, q string
		seed    []string
		answer  string
		ns      string
		extra   string
	}{
		{"SRV to glue", "s.example.org. SRV", append(cut, "s.example.org. 5 IN SRV 0 0 104 ns.sub.example.org."),
			"s.example.org. 5 SRV 0 0 104 ns.sub.example.org.", "", ""},
		{"SRV to the delegated name itself", "s.example.org. SRV", append(cut, "s.example.org. 5 IN SRV 0 0 104 sub.example.org."),
			"s.example.org. 5 SRV 0 0 104 sub.example.org.", "", ""},
		{"NS of the zone below a delegation", "example.org. NS", append(cut, "example.org. 300 IN NS ns.sub.example.org."),
			"example.org. 300 NS ns.example.org.; example.org. 300 NS ns.sub.example.org.", "", "ns.example.org. 300 A 192.0.2.53"},
		{"glue", "a.sub.example.org. A", cut, "", "sub.example.org. 5 NS ns.sub.example.org.", "ns.sub.example.org. 5 A 192.0.2.9"},
		{"glue of a sibling", "a.two.example.org. A", append(cut, "two.example.org. 5 IN NS ns.sub.example.org."),
			"", "two.example.org. 5 NS ns.sub.example.org.", "ns.sub.example.org. 5 A 192.0.2.9"},
		{"glue below a DNAME", "a.two.example.org. A", append(dname, "two.example.org. 5 IN NS h.d.example.org."),
			"", "two.example.org. 5 NS h.d.example.org.", ""},
		{"MX to a name below a DNAME", "m.example.org. MX", append(dname, "m.example.org. 5 IN MX 1 h.d.example.org."),
			"m.example.org. 5 MX 1 h.d.example.org.", "", ""},
		{"MX to the DNAME's owner", "m.example.org. MX", append(dname, "m.example.org. 5 IN MX 1 d.example.org."),
			"m.example.org. 5 MX 1 d.example.org.", "", "d.example.org. 5 A 192.0.2.10"},
		{"PTR to a service below a delegation", "p.example.org. PTR", append(cut, "p.example.org. 5 IN PTR i.sub.example.org.", "i.sub.example.org. 5 IN SRV 0 0 104 www.example.org.", "i.sub.example.org. 5 IN TXT a"),
			"p.example.org. 5 PTR i.sub.example.org.", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantSections(t, ask(t, tt.q, tt.seed...), "NOERROR", tt.answer, tt.ns, tt.extra)
		})
	}
}

func TestAdditionalOfServiceBindings(t *testing.T) { // RFC 9460 sections 2.5 and 4.1
	for _, tt := range []struct {
		name, q string
		seed    []string
		answer  string
		extra   string
	}{
		{"the owner itself", "www.example.org. HTTPS", []string{"www.example.org. 5 IN HTTPS 1 . alpn=h2"},
			`www.example.org. 5 HTTPS 1 . alpn="h2"`, "www.example.org. 300 A 192.0.2.1"},
		{"an alias to nowhere", "www.example.org. HTTPS", []string{"www.example.org. 5 IN HTTPS 0 ."}, "www.example.org. 5 HTTPS 0 .", ""},
		{"an alias and what is there", "a.example.org. SVCB", []string{"a.example.org. 5 IN SVCB 0 www.example.org.", "www.example.org. 5 IN SVCB 1 ."},
			"a.example.org. 5 SVCB 0 www.example.org.", "www.example.org. 300 A 192.0.2.1; www.example.org. 5 SVCB 1 ."},
		{"another host", "a.example.org. SVCB", []string{"a.example.org. 5 IN SVCB 1 www.example.org.", "www.example.org. 5 IN SVCB 1 ."},
			"a.example.org. 5 SVCB 1 www.example.org.", "www.example.org. 300 A 192.0.2.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantSections(t, ask(t, tt.q, tt.seed...), "NOERROR", tt.answer, "", tt.extra)
		})
	}
}

func TestAdditionalOfOldTypes(t *testing.T) { // RFC 1183 sections 1 and 3.3, RFC 2230 section 2
	for _, tt := range []string{"AFSDB 1", "RT 1", "KX 1"} {
		t.Run(tt, func(t *testing.T) {
			typ := tt[:len(tt)-2]
			wantSections(t, ask(t, "x.example.org. "+typ, "x.example.org. 5 IN "+tt+" www.example.org."),
				"NOERROR", "x.example.org. 5 "+tt+" www.example.org.", "", "www.example.org. 300 A 192.0.2.1")
		})
	}
}

func TestAnyHasNoAdditional(t *testing.T) { // RFC 8482: the answer is to be small
	wantSections(t, ask(t, "s.example.org. ANY", "s.example.org. 5 IN SRV 0 0 104 www.example.org."),
		"NOERROR", "s.example.org. 5 SRV 0 0 104 www.example.org.", "", "")
}
