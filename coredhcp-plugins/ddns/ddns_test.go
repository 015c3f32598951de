package ddns

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

const keyName = "dhcp.imaging.example.org."

// keyFile writes a key file and returns its path and its key.
func keyFile(t *testing.T) (string, tsigkey.Key) {
	t.Helper()
	key, err := tsigkey.Generate(keyName)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tsig.keys")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := key.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	return path, key
}

func siteFile(t *testing.T, network string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.yaml")
	content := "domain: imaging.example.org\nnetworks:\n  - {name: radiology, subnet: 192.0.2.0/24" + network + "}\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestArguments(t *testing.T) {
	keys, _ := keyFile(t)
	site := siteFile(t, "")
	good := func(replace ...string) []string {
		args := strings.NewReplacer(replace...).Replace("site=" + site + " server=192.0.2.2:53 keys=" + keys + " key=" + keyName)
		return strings.Fields(args)
	}
	tests := []struct {
		name string
		args []string
		want string // "" for none
	}{
		{"all", good(), ""},
		{"the key in another spelling", good("key="+keyName, "key=DHCP.imaging.example.org"), ""},
		{"no server: it is looked for", good("server=192.0.2.2:53", ""), ""},
		{"a server without a port", good(":53", ""), ""},
		{"several servers", good("192.0.2.2:53", "192.0.2.2,[2001:db8::2]:5353,2001:db8::3,ns1.example.org"), ""},
		{"one server twice", good("192.0.2.2:53", "192.0.2.2,192.0.2.2:53"), "192.0.2.2:53 is given twice"},
		{"too many servers", good("192.0.2.2:53", "a,b,c,d,e,f,g,h,i"), "9 servers: expected at most 8"},
		{"a server of one zone", append(good(), "server=2.0.192.in-addr.arpa=192.0.2.3"), ""},
		{"an address of three numbers", good("server=192.0.2.2", "server=192.0.2"), `"192.0.2" is no address: expected four numbers`},
		{"an address of too large numbers", append(good(), "server=a.example=192.0.2.300:53"), `"192.0.2.300" is no address`},
		{"a number", good("server=192.0.2.2:53", "resolver=192"), `resolver=192: "192": "192" is no address`},
		{"a name of digits", append(good(), "server=a.example=192.0.2.example.org"), ""},
		{"servers of one zone twice", append(good(), "server=a.example=192.0.2.3", "server=A.example.=192.0.2.4"), "other servers for the same zone"},
		{"a zone without a server", append(good(), "server=a.example="), "expected server=ZONE=VALUE"},
		{"no zone", append(good(), "server==192.0.2.3"), "expected server=ZONE=VALUE"},
		{"a key of one zone", append(good(), "key=2.0.192.in-addr.arpa="+keyName), ""},
		{"keys of one zone twice", append(good(), "key=other."), "another key for the same zone"},
		{"a key of one zone that is not there", append(good(), "key=a.example=other."), "other."},
		{"an empty key", append(good(), "key="), "key has no value"},
		{"no key", good("key="+keyName, ""), "key= is missing"},
		{"a resolver", good("server=", "resolver="), ""},
		{"bounds of the TTL", append(good(), "min-ttl=1m", "max-ttl=1h30m"), ""},
		{"a greatest TTL below the default least", append(good(), "max-ttl=5m"), ""},
		{"a least TTL over the default greatest", append(good(), "min-ttl=25h"), ""},
		{"the least TTL over the greatest", append(good(), "min-ttl=1h", "max-ttl=30m"), "min-ttl=1h max-ttl=30m: expected a min-ttl of at most max-ttl"},
		{"a TTL of nothing", append(good(), "min-ttl=0s"), "min-ttl=0s: expected whole seconds from 1s to 168h0m0s"},
		{"a TTL that is no time", append(good(), "max-ttl=3600"), "max-ttl=3600: expected whole seconds"},
		{"a TTL that nobody keeps", append(good(), "max-ttl=169h"), "max-ttl=169h: expected whole seconds"},
		{"a resolver that is none", good("server=192.0.2.2:53", "resolver=a..b"), "resolver=a..b"},
		{"a server without a host", good("192.0.2.2:53", ":53"), "expected HOST or HOST:PORT"},
		{"a port that is none", good(":53", ":dns"), "expected HOST:PORT"},
		{"a port that is too large", good(":53", ":99999"), "expected HOST:PORT"},
		{"no such key", good("key="+keyName, "key=other."), "other."},
		{"no such file", good(keys, "/nonexistent"), "no such file"},
		{"no site", good("site="+site, ""), "site= is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.args, new(server.Host))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error = %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestNeedsLeases(t *testing.T) {
	keys, _ := keyFile(t)
	d, err := New([]string{"site=" + siteFile(t, ""), "server=192.0.2.2:53", "keys=" + keys, "key=" + keyName}, new(server.Host))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "leases") {
		t.Errorf("error = %v, want one that names leases", err)
	}
}

// TestLeaseBecomesName takes a lease and waits for the signed update of its name,
// over a real socket.
func TestLeaseBecomesName(t *testing.T) {
	keys, key := keyFile(t)
	updates := make(chan *dns.Msg, 10)
	address := serveUpdates(t, key, updates)

	manager, err := lease.Open(filepath.Join(t.TempDir(), "leases"), lease.Config{
		Domain: "imaging.example.org.",
		Networks: []lease.Network{{
			Name: "radiology", Prefix: netip.MustParsePrefix("192.0.2.0/24"), LeaseTime: time.Hour, DDNS: true,
			Pools: []lease.Pool{{First: netip.MustParseAddr("192.0.2.100"), Last: netip.MustParseAddr("192.0.2.199")}},
		}},
	}, lease.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	host := new(server.Host)
	host.SetLeases(manager)

	d, err := New([]string{"site=" + siteFile(t, ""), "server=" + address, "keys=" + keys, "key=" + keyName}, host)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	q := lease.Query{
		Client:   lease.Client{HardwareType: 1, HardwareAddr: "\x00\x00\x5e\x00\x53\x07"},
		Links:    []netip.Addr{netip.MustParseAddr("192.0.2.2")},
		ServerID: netip.MustParseAddr("192.0.2.2"),
		Hostname: "ws7",
	}
	offer, err := manager.Discover(t.Context(), q)
	if err != nil || offer.Kind != lease.Offer {
		t.Fatalf("offer = %+v, %v", offer, err)
	}
	q.SelectedServer, q.Requested = q.ServerID, offer.Lease.Address
	if ack, err := manager.Request(t.Context(), q); err != nil || ack.Kind != lease.Ack {
		t.Fatalf("ack = %+v, %v", ack, err)
	}

	var names []string
	for len(names) < 2 {
		select {
		case m := <-updates:
			names = append(names, m.Ns[0].Header().Name)
		case <-time.After(time.Minute):
			t.Fatalf("no update after those of %v", names)
		}
	}
	if names[0] != "ws7.imaging.example.org." || names[1] != "100.2.0.192.in-addr.arpa." {
		t.Errorf("updates of %v, want the name and then its address", names)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// serveUpdates answers SOA queries for any name with its parent, and accepts
// every update, if the key signed them.
func serveUpdates(t *testing.T, key tsigkey.Key, updates chan<- *dns.Msg) string {
	t.Helper()
	ready := make(chan struct{})
	srv := &dns.Server{
		Addr: "127.0.0.1:0", Net: "udp", TsigSecret: map[string]string{key.Name: key.Secret()},
		NotifyStartedFunc: func() { close(ready) },
		MsgAcceptFunc:     func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			m := new(dns.Msg).SetReply(r)
			m.Authoritative = true
			switch {
			case r.IsTsig() == nil || w.TsigStatus() != nil:
				m.Rcode = dns.RcodeNotAuth
			case r.Opcode == dns.OpcodeQuery:
				name := r.Question[0].Name
				zone := name[strings.IndexByte(name, '.')+1:]
				m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns." + zone, Mbox: "hostmaster." + zone}}
			default:
				updates <- r
			}
			if m.Rcode == dns.RcodeSuccess {
				m.SetTsig(key.Name, r.IsTsig().Algorithm, 300, time.Now().Unix())
			}
			if err := w.WriteMsg(m); err != nil {
				t.Error(err)
			}
		}),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	select {
	case <-ready:
	case err := <-failed:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return srv.PacketConn.LocalAddr().String()
}

// Of servers and keys that are for zones the one of the longest counts.
func TestSettings(t *testing.T) {
	s, err := ParseSettings(strings.Fields("site=s keys=k key=all.example.org. key=2.0.192.in-addr.arpa=reverse.example.org. " +
		"server=192.0.2.2,ns2.example.org:5353 server=in-addr.arpa=192.0.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	for zone, want := range map[string]string{
		"imaging.example.org.":       "all.example.org. 192.0.2.2:53,ns2.example.org:5353",
		"2.0.192.in-addr.arpa.":      "reverse.example.org. 192.0.2.3:53",
		"113.0.203.in-addr.arpa.":    "all.example.org. 192.0.2.3:53",
		"20.2.0.192.in-addr.arpa.":   "reverse.example.org. 192.0.2.3:53",
		"x2.0.192.in-addr.arpa.":     "all.example.org. 192.0.2.3:53",
		"100.51.198.in-addr.arpa.x.": "all.example.org. 192.0.2.2:53,ns2.example.org:5353",
	} {
		if got := s.Key(zone) + " " + strings.Join(s.Servers(zone), ","); got != want {
			t.Errorf("%s: %s, want %s", zone, got, want)
		}
	}
	if s, err := ParseSettings(strings.Fields("site=s keys=k key=2.0.192.in-addr.arpa=reverse.example.org.")); err != nil || s.Key("example.org.") != "" || s.Servers("example.org.") != nil {
		t.Errorf("%v, %v", s, err)
	}
}

// The site's domain-name-servers are those for every network first, each once.
func TestSiteResolvers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "site.yaml")
	for content, want := range map[string]string{
		"networks: [{name: a, subnet: 192.0.2.0/24}]\n": "",
		"options: {domain-name-servers: [192.0.2.53, 198.51.100.53]}\nnetworks:\n" +
			"  - {name: a, subnet: 192.0.2.0/24, options: {domain-name-servers: [198.51.100.53, 203.0.113.53]}}\n": "192.0.2.53:53 198.51.100.53:53 203.0.113.53:53",
	} {
		if err := os.WriteFile(path, []byte("domain: imaging.example.org\n"+content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, _, err := site.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(siteResolvers(s), " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Bounds of the TTL reach the records. One that is given moves the default of the other one.
func TestTTL(t *testing.T) {
	keys, _ := keyFile(t)
	for bounds, ttls := range map[string]map[time.Duration]time.Duration{
		"": {time.Minute: 10 * time.Minute, time.Hour: 20 * time.Minute, 12 * time.Hour: 4 * time.Hour, 96 * time.Hour: 24 * time.Hour, lease.Infinite: 24 * time.Hour},
		"min-ttl=1m max-ttl=1h": {
			time.Minute: time.Minute, time.Hour: 20 * time.Minute, 12 * time.Hour: time.Hour, lease.Infinite: time.Hour, 0: time.Hour,
		},
		"max-ttl=5m":  {time.Minute: 5 * time.Minute, time.Hour: 5 * time.Minute, lease.Infinite: 5 * time.Minute},
		"max-ttl=1h":  {time.Minute: 10 * time.Minute, time.Hour: 20 * time.Minute, 12 * time.Hour: time.Hour},
		"min-ttl=25h": {time.Hour: 25 * time.Hour, 96 * time.Hour: 25 * time.Hour, lease.Infinite: 25 * time.Hour},
	} {
		d, err := New(strings.Fields("site="+siteFile(t, "")+" server=192.0.2.2 keys="+keys+" key="+keyName+" "+bounds), new(server.Host))
		if err != nil {
			t.Fatal(err)
		}
		for leaseTime, want := range ttls {
			if got := d.(*DDNS).config.TTL(leaseTime); got != want {
				t.Errorf("with %q the TTL of a lease of %s is %s, want %s", bounds, leaseTime, got, want)
			}
		}
	}
}
