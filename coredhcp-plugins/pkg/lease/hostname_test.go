package lease

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestLabel(t *testing.T) {
	long := strings.Repeat("a", 70)
	for _, tt := range []struct{ name, want string }{
		{"", ""},
		{"ws7", "ws7"},
		{"WS7", "ws7"},
		{"ws7.", "ws7"},
		{"ws7.imaging.example.org", "ws7"},
		{"ws7.clinic.example.com.", "ws7"},
		{"PC7\x00", "pc7"},
		{"pc7\x00garbage", "pc7"},
		{"\x00pc7", ""},
		{"my pc", "my-pc"},
		{" my  pc ", "my-pc"},
		{"CT_ROOM_3", "ct-room-3"},
		{"Anna's-MacBook", "anna-s-macbook"},
		{"a- b", "a-b"},
		{"-ws7-", "ws7"},
		{"röntgen", "r-ntgen"},
		{"病院", ""},
		{"*", ""},
		{"---", ""},
		{".ws7", ""},
		{".", ""},
		{"(none)", ""},
		{"192.0.2.7", ""},
		{"2001:db8::7", "2001-db8-7"},
		{"192", "192"},
		{"1.example.org", "1"},
		{long, long[:63]},
		{strings.Repeat("a", 62) + "-b", strings.Repeat("a", 62)},
		{"ws7\n\r\t<script>", "ws7-script"},
		{`a\.b`, "a"},
	} {
		if got := Label(tt.name); got != tt.want {
			t.Errorf("Label(%q) = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzLabel(f *testing.F) {
	f.Add("my pc.example.org")
	f.Add("-\xff-\x00")
	f.Fuzz(func(t *testing.T, name string) {
		label := Label(name)
		if label != "" && cleanLabel(label) != label {
			t.Errorf("Label(%q) = %q, which is none", name, label)
		}
		if again := Label(label); again != label {
			t.Errorf("Label(%q) = %q, of that %q", name, label, again)
		}
	})
}

func TestGeneratedLabel(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.150": "dhcp-192-0-2-150",
		"2001:db8::1": "dhcp-2001-0db8-0000-0000-0000-0000-0000-0001",
	} {
		if got := GeneratedLabel(addr(a)); got != want || cleanLabel(got) != got || !isGenerated(got) {
			t.Errorf("%s: %q, want %q", a, got, want)
		}
	}
	for _, label := range []string{"dhcp", "dhcp-1", "dhcp-server", "dhcp-192-0-2", "dhcp-192-0-2-999", "xdhcp-192-0-2-1"} {
		if isGenerated(label) {
			t.Errorf("%q counts as generated", label)
		}
	}
}

// TestNames gives clients their names: what DNS shall show, and what they are told.
func TestNames(t *testing.T) {
	const domain = ".imaging.example.org."
	c := testConfig()
	c.Hostnames = []string{"ns1" + domain}
	for _, tt := range []struct {
		name           string
		hostname       string
		noNames        bool
		published      string // without the domain; where nobody publishes "" for what is generated
		label          string // of its own
		generatedLabel bool
	}{
		{name: "its own", hostname: "ws7", published: "ws7", label: "ws7"},
		{name: "none", generatedLabel: true},
		{name: "a device's", hostname: "ct1", generatedLabel: true},
		{name: "another host's of the site", hostname: "ns1", generatedLabel: true},
		{name: "one that hosts trust", hostname: "wpad", generatedLabel: true},
		{name: "one that is generated", hostname: "dhcp-192-0-2-103", generatedLabel: true},
		{name: "no DNS wanted", hostname: "ws7", noNames: true, label: "ws7"},
		{name: "no DNS wanted, and no name", noNames: true},
	} {
		for _, publishes := range []bool{false, true} {
			f := open(t, c)
			if publishes {
				f.Publish()
			}
			q := Query{Client: client(1), Links: []netip.Addr{link}, ServerID: server, Hostname: tt.hostname, NoNames: tt.noNames}
			offer := f.discover(q)
			q.SelectedServer, q.Requested = server, offer.Lease.Address
			ack := f.request(q)
			want := tt.published
			if tt.generatedLabel && publishes {
				want = "dhcp-192-0-2-100"
			}
			if want != "" {
				want += domain
			}
			for _, a := range []Answer{offer, ack} {
				if a.Lease.Name != want || a.Label != tt.label {
					t.Errorf("%s, published %v: %s of %q with label %q, want %q and %q", tt.name, publishes, a.Kind, a.Lease.Name, a.Label, want, tt.label)
				}
			}
		}
	}
}

// TestNameStays has a client that was given a generated name, and then tells one.
func TestNameStays(t *testing.T) {
	const domain = ".imaging.example.org."
	f := open(t, testConfig())
	f.Publish()
	q := Query{Client: client(1), Links: []netip.Addr{link}, ServerID: server}
	a := f.get(q).Address
	renew := func(hostname, want string) {
		t.Helper()
		r := q
		r.ClientAddr, r.Hostname = a, hostname
		f.clock.advance(time.Minute)
		if got := f.request(r).Lease.Name; got != want+domain {
			t.Errorf("renewed as %q: named %q, want %q", hostname, got, want)
		}
	}
	renew("", "dhcp-192-0-2-100")
	renew("ws7", "ws7")
	renew("", "ws7") // says nothing
	renew("ct1", "dhcp-192-0-2-100")
	c := testConfig()
	renew("ws7", "ws7")
	c.Hostnames = []string{"ws7" + domain} // the site took the name
	if err := f.Reload(c); err != nil {
		t.Fatal(err)
	}
	renew("", "dhcp-192-0-2-100")
}

// TestDomainChanges has clients that say their name, that said it once, and that never did, when the site gets another domain.
func TestDomainChanges(t *testing.T) {
	c := testConfig()
	f, z := open(t, c), newZones()
	f.Publish()
	var queries []Query
	var leases []netip.Addr
	for n, host := range []string{"ws1", "ws2", ""} {
		q := named(byte(n+1), host, link2)
		queries, leases = append(queries, q), append(leases, f.get(q).Address)
	}
	z.want(f, "dhcp-198-51-100-13=198.51.100.13 ws1=198.51.100.10 ws2=198.51.100.11 198.51.100.10=ws1 198.51.100.11=ws2 198.51.100.13=dhcp-198-51-100-13")
	queries[1].Hostname = ""
	c.Domain = "radiology.example.org."
	c.Hostnames = []string{"ws2.radiology.example.org."}
	if err := f.Reload(c); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"ws1", "dhcp-198-51-100-11", "dhcp-198-51-100-13"} {
		if got := f.request(renewing(queries[i], leases[i])).Lease.Name; got != want+".radiology.example.org." {
			t.Errorf("renewed: named %q, want %q", got, want)
		}
	}
	c.Domain = "imaging.example.org."
	if err := f.Reload(c); err != nil {
		t.Fatal(err)
	}
	queries[0].Hostname = ""
	for i, want := range []string{"ws1", "dhcp-198-51-100-11", "dhcp-198-51-100-13"} {
		if got := f.request(renewing(queries[i], leases[i])).Lease.Name; got != want+".imaging.example.org." {
			t.Errorf("renewed again: named %q, want %q", got, want)
		}
	}
}
