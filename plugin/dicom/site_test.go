package dicom

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestSiteIsAnswered(t *testing.T) {
	before := time.Now().Unix()
	s := startSite(t, t.TempDir())
	tests := []struct{ name, qtype, want string }{
		{"imaging.example.org.", "NS", "ns1.imaging.example.org."},
		{"ns1.imaging.example.org.", "A", "192.0.2.2"},
		{"oldmr.imaging.example.org.", "A", "192.0.2.20"},
		{"OldMR.Imaging.example.org.", "A", "192.0.2.20"},
		{"20.2.0.192.in-addr.arpa.", "PTR", "oldmr.imaging.example.org."},
		{"2.0.192.in-addr.arpa.", "NS", "ns1.imaging.example.org."},
		{"_dicom._tcp.imaging.example.org.", "PTR", "OLDMR._dicom._tcp.imaging.example.org."},
		{"_services._dns-sd._udp.imaging.example.org.", "PTR", "_dicom._tcp.imaging.example.org."},
		{"OLDMR._dicom._tcp.imaging.example.org.", "SRV", "0 0 104 oldmr.imaging.example.org."},
		{"oldmr._dicom._tcp.imaging.example.org.", "TXT", `"AET=OLDMR" "PrimaryDeviceType=MR"`},
		{"_mr._sub._dicom._tcp.imaging.example.org.", "PTR", "OLDMR._dicom._tcp.imaging.example.org."},
		{"_ct._sub._dicom._tcp.imaging.example.org.", "PTR", "NXDOMAIN"},
		{"_dicom._tcp.imaging.example.org.", "SRV", "0 0 104 oldmr.imaging.example.org."},
		{"oldmr.imaging.example.org.", "TXT", `"AET=OLDMR" "PrimaryDeviceType=MR"`},
		{"b._dns-sd._udp.imaging.example.org.", "PTR", "imaging.example.org."},
		{"lb._dns-sd._udp.0.2.0.192.in-addr.arpa.", "PTR", "imaging.example.org."},
		{"_ldap._tcp.imaging.example.org.", "SRV", "0 0 389 ldap.imaging.example.org."},
		{"_tcp.imaging.example.org.", "A", "NOERROR"},
		{"ct1.imaging.example.org.", "A", "NXDOMAIN"},
		{"CT1._dicom._tcp.imaging.example.org.", "SRV", "NXDOMAIN"},
		{"11.2.0.192.in-addr.arpa.", "PTR", "NXDOMAIN"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.qtype, func(t *testing.T) { s.want(t, tt.name, tt.qtype, tt.want) })
	}
	t.Run("authority", func(t *testing.T) {
		r := s.query(t, "oldmr.imaging.example.org.", "A")
		if !r.Authoritative {
			t.Error("not authoritative")
		}
		if r = s.query(t, "none.imaging.example.org.", "A"); !r.Authoritative || len(r.Ns) != 1 {
			t.Fatalf("NXDOMAIN without SOA: %v", r)
		}
		if soa, ok := r.Ns[0].(*dns.SOA); !ok || soa.Minttl != 60 || soa.Ns != "ns1.imaging.example.org." ||
			soa.Mbox != "hostmaster.imaging.example.org." {
			t.Errorf("authority %v", r.Ns[0])
		}
		if r = s.query(t, "OLDMR._dicom._tcp.imaging.example.org.", "SRV"); len(r.Extra) == 0 {
			t.Error("SRV without the address of its target")
		}
	})
	t.Run("serial starts at Unix time", func(t *testing.T) {
		for _, zone := range []string{domain, reverse} {
			if got := int64(s.serial(t, zone)); got < before || got > time.Now().Unix()+10 {
				t.Errorf("serial of %s is %d at %d", zone, got, before)
			}
		}
	})
}

// TestFateSharing is RFC 5505 section 3.2.1: the service lives and dies with
// the address of its host, in the same serial.
func TestFateSharing(t *testing.T) {
	s := startSite(t, t.TempDir())
	services := func() string { return s.answer(t, "_dicom._tcp."+domain, "PTR") }
	const old = "OLDMR._dicom._tcp.imaging.example.org."
	serial := s.serial(t, domain)
	steps := []struct {
		name   string
		change []string
		want   string // services beside the one that always stands
		serial uint32 // of the change
	}{
		{"fixed address comes", []string{"ct1.imaging.example.org. 300 A 192.0.2.11"}, "CT1._dicom._tcp.imaging.example.org., " + old, 1},
		{"the same again", []string{"ct1.imaging.example.org. 300 A 192.0.2.11"}, "CT1._dicom._tcp.imaging.example.org., " + old, 0},
		{"it changes to another", []string{"!ct1.imaging.example.org. A", "ct1.imaging.example.org. 300 A 192.0.2.99"}, old, 1},
		{"and back", []string{"!ct1.imaging.example.org.", "ct1.imaging.example.org. 300 A 192.0.2.11"}, "CT1._dicom._tcp.imaging.example.org., " + old, 1},
		{"pool address comes", []string{"us1.imaging.example.org. 300 A 192.0.2.150"},
			"CT1._dicom._tcp.imaging.example.org., " + old + ", US1._dicom._tcp.imaging.example.org.", 1},
		{"fixed address goes", []string{"-ct1.imaging.example.org. A 192.0.2.11"}, old + ", US1._dicom._tcp.imaging.example.org.", 1},
		{"a stranger comes", []string{"pc.imaging.example.org. 300 A 192.0.2.11"}, old + ", US1._dicom._tcp.imaging.example.org.", 1},
		{"pool device goes", []string{"!us1.imaging.example.org."}, old, 1},
	}
	for _, step := range steps {
		s.update(t, dns.RcodeSuccess, domain, step.change...)
		if got := services(); got != step.want {
			t.Errorf("%s: services %s, want %s", step.name, got, step.want)
		}
		serial += step.serial
		if got := s.serial(t, domain); got != serial {
			t.Errorf("%s: serial %d, want %d", step.name, got, serial)
			serial = got
		}
		want := "NXDOMAIN"
		if strings.Contains(step.want, "US1.") {
			want = "0 0 11112 us1.imaging.example.org."
		}
		s.want(t, "US1._dicom._tcp."+domain, "SRV", want)
		if want != "NXDOMAIN" {
			want = `"AET=US1" "PrimaryDeviceType=US"`
		}
		s.want(t, "US1._dicom._tcp."+domain, "TXT", want)
	}
}

// TestOthersText: dhcpd's interim style marks the hosts that it has published by
// a TXT record, and takes one back only if that record stands there alone.
func TestOthersText(t *testing.T) {
	s := startSite(t, t.TempDir())
	const host = "ct1.imaging.example.org."
	a, mark := rr(t, host+" 300 A 192.0.2.11"), rr(t, host+" 300 TXT 00e9e5c1d6e2")
	send := func(m *dns.Msg) {
		t.Helper()
		if r := s.exchange(t, "tcp", m, key, secret); r.Rcode != dns.RcodeSuccess {
			t.Fatalf("%v: %s", m.Ns, dns.RcodeToString[r.Rcode])
		}
	}
	for range 2 {
		add := new(dns.Msg).SetUpdate(domain)
		add.NameNotUsed([]dns.RR{a})
		add.Insert([]dns.RR{a, mark})
		send(add)
		s.want(t, host, "TXT", `"00e9e5c1d6e2"`)
		s.want(t, "CT1._dicom._tcp."+domain, "TXT", `"AET=CT1" "PrimaryDeviceType=CT"`)
		removal := new(dns.Msg).SetUpdate(domain)
		removal.Used([]dns.RR{dns.Copy(mark)})
		removal.Remove([]dns.RR{dns.Copy(a)})
		send(removal)
		s.want(t, "CT1._dicom._tcp."+domain, "TXT", "NXDOMAIN")
		rest := new(dns.Msg).SetUpdate(domain)
		rest.RRsetNotUsed([]dns.RR{a})
		rest.Remove([]dns.RR{dns.Copy(mark)})
		send(rest)
		s.want(t, host, "TXT", "NXDOMAIN")
	}
}

func TestSiteDataCannotBeUpdated(t *testing.T) {
	s := startSite(t, t.TempDir())
	s.update(t, dns.RcodeSuccess, domain, "ct1.imaging.example.org. 300 A 192.0.2.11")
	serials := []uint32{s.serial(t, domain), s.serial(t, reverse)}
	for _, tt := range []struct {
		name, zone string
		change     []string
	}{
		{"delete a name", domain, []string{"!oldmr.imaging.example.org."}},
		{"delete an address", domain, []string{"-oldmr.imaging.example.org. A 192.0.2.20"}},
		{"add an address", domain, []string{"oldmr.imaging.example.org. 300 A 192.0.2.66"}},
		{"shadow a service", domain, []string{"OLDMR._dicom._tcp.imaging.example.org. 300 SRV 0 0 104 evil.imaging.example.org."}},
		{"change a text", domain, []string{"!OLDMR._dicom._tcp.imaging.example.org. TXT"}},
		{"change a service that came with its host", domain, []string{"CT1._dicom._tcp.imaging.example.org. 300 SRV 0 0 104 evil.imaging.example.org."}},
		{"remove such a service", domain, []string{"!CT1._dicom._tcp.imaging.example.org."}},
		{"change a text of a host", domain, []string{"-oldmr.imaging.example.org. TXT \"AET=OLDMR\" \"PrimaryDeviceType=MR\""}},
		{"join the older form", domain, []string{"_dicom._tcp.imaging.example.org. 300 SRV 0 0 104 evil.imaging.example.org."}},
		{"say where to browse", domain, []string{"b._dns-sd._udp.imaging.example.org. 300 PTR evil.example.net."}},
		{"speak for a service whose host is off", domain, []string{"US1._dicom._tcp.imaging.example.org. 300 SRV 0 0 104 evil.imaging.example.org."}},
		{"put such a service in place of another one", domain, []string{"!us1._Dicom._tcp.imaging.example.org.", "US1._dicom._tcp.imaging.example.org. 300 TXT AET=EVIL"}},
		{"add a name server", domain, []string{"imaging.example.org. 300 NS evil.imaging.example.org."}},
		{"take over the SOA", domain, []string{"imaging.example.org. 60 SOA evil.imaging.example.org. h.example.org. 3000000000 1 1 1 1"}},
		{"delete a pointer", reverse, []string{"-20.2.0.192.in-addr.arpa. PTR oldmr.imaging.example.org."}},
		{"good and bad together", domain, []string{"new.imaging.example.org. 300 A 192.0.2.77", "!oldmr.imaging.example.org. A"}},
	} {
		t.Run(tt.name, func(t *testing.T) { s.update(t, dns.RcodeRefused, tt.zone, tt.change...) })
	}
	if now := []uint32{s.serial(t, domain), s.serial(t, reverse)}; !slices.Equal(now, serials) {
		t.Errorf("serials %v, were %v", now, serials)
	}
	s.want(t, "new.imaging.example.org.", "A", "NXDOMAIN")

	t.Run("removing what is not there", func(t *testing.T) {
		s.update(t, dns.RcodeSuccess, domain, "!us1._Dicom._tcp.imaging.example.org.")
	})
	t.Run("a text beside the site's", func(t *testing.T) {
		s.update(t, dns.RcodeSuccess, domain, "oldmr.imaging.example.org. 300 TXT v=1")
		s.want(t, "oldmr."+domain, "TXT", `"AET=OLDMR" "PrimaryDeviceType=MR", "v=1"`)
		s.update(t, dns.RcodeSuccess, domain, "!oldmr.imaging.example.org. TXT")
		s.want(t, "oldmr."+domain, "TXT", `"AET=OLDMR" "PrimaryDeviceType=MR"`)
	})
	t.Run("registering beside the site", func(t *testing.T) {
		s.update(t, dns.RcodeSuccess, domain,
			"_dicom._tcp.imaging.example.org. 300 PTR SELF._dicom._tcp.imaging.example.org.",
			"SELF._dicom._tcp.imaging.example.org. 300 SRV 0 0 104 ct1.imaging.example.org.")
		s.want(t, "_dicom._tcp."+domain, "PTR", "CT1._dicom._tcp.imaging.example.org., "+
			"OLDMR._dicom._tcp.imaging.example.org., SELF._dicom._tcp.imaging.example.org.")
		s.update(t, dns.RcodeSuccess, domain, "!_dicom._tcp.imaging.example.org. PTR")
		s.want(t, "_dicom._tcp."+domain, "PTR", "CT1._dicom._tcp.imaging.example.org., OLDMR._dicom._tcp.imaging.example.org.")
	})
}

// TestRemovingWhatTheSiteNames: who registered an instance before the site file
// had one of that name may remove it while the device of the site is off.
func TestRemovingWhatTheSiteNames(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, dir)
	const instance = "NEW._dicom._tcp.imaging.example.org."
	register := []string{"_dicom._tcp.imaging.example.org. 300 PTR " + instance, instance + " 300 SRV 0 0 104 pc.imaging.example.org.", instance + " 300 TXT AET=NEW"}
	s.update(t, dns.RcodeSuccess, domain, register...)
	write(t, dir, "site.yaml", strings.Replace(siteYAML, "services:\n", `  - name: new1
    hardware-address: 00:00:5e:00:53:09
    applications: [{ae-title: NEW, port: 104}]
services:
`, 1))
	eventually(t, "the new site", func() bool {
		return s.exchange(t, "tcp", change(t, domain, register...), key, secret).Rcode == dns.RcodeRefused
	})
	s.want(t, instance, "TXT", `"AET=NEW"`)
	s.update(t, dns.RcodeSuccess, domain, "-_dicom._tcp.imaging.example.org. PTR "+instance, "-"+instance+" SRV 0 0 104 pc.imaging.example.org.", "!"+instance+" TXT")
	s.want(t, instance, "TXT", "NXDOMAIN")
	s.update(t, dns.RcodeRefused, domain, register...)
}

func TestSiteReload(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, dir)
	path := filepath.Join(dir, "site.yaml")
	s.update(t, dns.RcodeSuccess, domain, "ct1.imaging.example.org. 300 A 192.0.2.11", "pc.imaging.example.org. 300 A 192.0.2.120")
	forward, back := s.serial(t, domain), s.serial(t, reverse)
	moved := strings.Replace(siteYAML, "192.0.2.20", "192.0.2.21", 1)

	t.Run("rewritten in place", func(t *testing.T) {
		write(t, dir, "site.yaml", moved)
		eventually(t, "new address of oldmr", func() bool { return s.answer(t, "oldmr."+domain, "A") == "192.0.2.21" })
		eventually(t, "its pointer", func() bool { return s.answer(t, "21.2.0.192.in-addr.arpa.", "PTR") == "oldmr."+domain })
		s.want(t, "20.2.0.192.in-addr.arpa.", "PTR", "NXDOMAIN")
		s.want(t, "pc."+domain, "A", "192.0.2.120")
		if f, b := s.serial(t, domain), s.serial(t, reverse); f != forward+1 || b != back+1 {
			t.Errorf("serials %d and %d, want %d and %d", f, b, forward+1, back+1)
		}
	})
	t.Run("broken", func(t *testing.T) {
		mark := logged.len()
		write(t, dir, "site.yaml", strings.Replace(moved, "port: 104", "port: 104000", 1)+"nonsense: 1\n")
		eventually(t, "the errors in the log", func() bool { return strings.Contains(logged.since(mark), "nonsense") })
		time.Sleep(5 * watchInterval)
		text := logged.since(mark)
		if n := strings.Count(text, "nonsense"); n != 1 || !strings.Contains(text, "104000") || !strings.Contains(text, "site.yaml:13:") {
			t.Errorf("errors are told %d times:\n%s", n, text)
		}
		s.want(t, "oldmr."+domain, "A", "192.0.2.21")
		if f := s.serial(t, domain); f != forward+1 {
			t.Errorf("serial %d, want %d", f, forward+1)
		}
	})
	t.Run("gone", func(t *testing.T) {
		mark := logged.len()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the error in the log", func() bool { return strings.Contains(logged.since(mark), "no such file") })
		s.want(t, "oldmr."+domain, "A", "192.0.2.21")
	})
	t.Run("renamed into place", func(t *testing.T) {
		// oldmr learns DHCP: its name and services leave until it gets a lease.
		leased := strings.Replace(moved, "    dhcp: false\n", "    hardware-address: 00:00:5e:00:53:03\n", 1)
		if err := os.Rename(write(t, dir, "new.yaml", leased), path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "oldmr without address", func() bool { return s.answer(t, "oldmr."+domain, "A") == "NXDOMAIN" })
		s.want(t, "_dicom._tcp."+domain, "PTR", "CT1._dicom._tcp.imaging.example.org.")
		s.want(t, "OLDMR._dicom._tcp."+domain, "SRV", "NXDOMAIN")
		if f := s.serial(t, domain); f != forward+2 {
			t.Errorf("serial %d, want %d", f, forward+2)
		}
		s.update(t, dns.RcodeSuccess, domain, "oldmr.imaging.example.org. 300 A 192.0.2.21")
		s.want(t, "OLDMR._dicom._tcp."+domain, "SRV", "0 0 104 oldmr.imaging.example.org.")
	})
	t.Run("touched", func(t *testing.T) {
		serial := s.serial(t, domain)
		if err := os.Chtimes(path, time.Now(), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * watchInterval)
		if got := s.serial(t, domain); got != serial {
			t.Errorf("serial %d, want %d: nothing has changed", got, serial)
		}
	})
}

// TestServerAddressComesLate: CoreDNS may start before its interfaces are up.
func TestServerAddressComesLate(t *testing.T) {
	was := interfaceAddresses
	var up atomic.Bool
	interfaceAddresses = func() []netip.Addr {
		if up.Load() {
			return []netip.Addr{netip.MustParseAddr("192.0.2.9")}
		}
		return nil
	}
	t.Cleanup(func() { interfaceAddresses = was })
	dir := t.TempDir()
	write(t, dir, "site.yaml", strings.Replace(siteYAML, "name-servers: [{host: ns1, address: 192.0.2.2}]\n", "", 1))
	mark := logged.len()
	s := startSite(t, dir)
	defer s.stop()
	s.want(t, domain, "NS", "ns."+domain)
	s.want(t, "ns."+domain, "A", "NXDOMAIN")
	const warning = "Name server ns.imaging.example.org. has no address"
	if text := logged.since(mark); strings.Count(text, warning) != 1 {
		t.Errorf("no warning:\n%s", text)
	}
	up.Store(true)
	eventually(t, "the address", func() bool { return s.answer(t, "ns."+domain, "A") == "192.0.2.9" })
	eventually(t, "its pointer", func() bool { return s.answer(t, "9.2.0.192.in-addr.arpa.", "PTR") == "ns."+domain })
	serial := s.serial(t, domain)
	up.Store(false) // an interface that goes for a while takes nothing with it
	time.Sleep(5 * watchInterval)
	s.want(t, "ns."+domain, "A", "192.0.2.9")
	if got := s.serial(t, domain); got != serial || strings.Count(logged.since(mark), warning) != 1 {
		t.Errorf("serial %d, want %d", got, serial)
	}
}

func TestSiteWarnings(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "site.yaml", siteYAML+"  - {name: x, protocol: tcp, host: x.example.net, port: 1}\n")
	mark := logged.len()
	start(t, `imaging.example.org:0 {
		bind 127.0.0.1
		dicom {
			site `+dir+`/site.yaml
		}
	}`)
	text := logged.since(mark)
	if !strings.Contains(text, "WARNING") || !strings.Contains(text, "192.0.2") {
		t.Errorf("no warning about addresses outside the zones:\n%s", text)
	}
	if strings.Count(text, "No database") != 1 {
		t.Errorf("no warning about the missing database:\n%s", text)
	}
}
