package site

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzParse holds that Parse never panics, that its errors are readable, and that a Site it returns keeps what it promises.
func FuzzParse(f *testing.F) {
	f.Add([]byte(exampleFile))
	f.Add([]byte(wholeFile))
	f.Add([]byte(lookupFile))
	for _, test := range slices.Concat(errorTests, networkErrorTests, deviceErrorTests) {
		if len(test.file) < 10_000 {
			f.Add([]byte(test.file))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, warnings, err := Parse("site.yaml", data)
		for _, w := range warnings {
			checkProblem(t, w)
		}
		if err != nil {
			var found Errors
			if s != nil || !errors.As(err, &found) || len(found) == 0 {
				t.Fatalf("got %v beside %v", s, err)
			}
			for _, p := range found {
				checkProblem(t, p)
			}
			return
		}
		checkSite(t, s)
	})
}

func checkProblem(t *testing.T, p Problem) {
	t.Helper()
	if p.File != "site.yaml" || p.Line < 1 || p.Column < 1 || p.Message == "" || len(p.Message) > 2000 || strings.ContainsAny(p.Message, "\n\r\x00") {
		t.Fatalf("problem %q", p)
	}
}

func checkSite(t *testing.T, s *Site) {
	t.Helper()
	checkName(t, s.Domain)
	if len(s.NameServers) == 0 || s.TTL < time.Second || s.Contact == "" {
		t.Fatalf("site %+v", s)
	}
	for _, server := range s.NameServers {
		checkName(t, server.Host)
	}
	for i := range s.Networks {
		checkNetwork(t, s, &s.Networks[i])
	}
	hosts, taken := make(map[string]bool), make(map[netip.Addr]bool)
	for i := range s.Devices {
		d := &s.Devices[i]
		checkName(t, d.Hostname)
		if hosts[d.Hostname] || s.DeviceByHostname(d.Hostname) != d {
			t.Fatalf("host name %s", d.Hostname)
		}
		hosts[d.Hostname] = true
		for _, a := range d.Addresses {
			if taken[a] || len(s.Networks) > 0 && s.NetworkOf(a) == nil {
				t.Fatalf("address %s", a)
			}
			taken[a] = true
		}
		for _, h := range d.HardwareAddresses {
			if h.Type != 31 && s.DeviceOf(h.Type, []byte(h.Addr), nil) != d {
				t.Fatalf("hardware address %s", h)
			}
		}
		if !d.DHCP && (len(d.Addresses) == 0 || d.Publish != PublishAlways) {
			t.Fatalf("device %+v", d)
		}
		for j := range d.Applications {
			a := &d.Applications[j]
			if name := a.InstanceName(d); a.Port == 0 || name == "" || len(name) > maxInstance || a.AETitle == "" && !a.Protocol.Web() {
				t.Fatalf("application %+v", a)
			}
		}
		for range s.OptionsFor(s.NetworkOf(netip.AddrFrom4([4]byte{192, 0, 2, 11})), d).All(time.Unix(0, 0)) {
		}
	}
	for _, v := range s.Services {
		checkName(t, v.Host)
		if v.Port == 0 || v.Name == "" || v.Protocol == "" {
			t.Fatalf("service %+v", v)
		}
	}
	s.OutsideZones([]string{s.Domain})
}

func checkNetwork(t *testing.T, s *Site, n *Network) {
	t.Helper()
	if n.Prefix != n.Prefix.Masked() || s.NetworkOf(n.Prefix.Addr()) != n || s.NetworkOf(lastAddress(n.Prefix)) != n {
		t.Fatalf("subnet %s", n.Prefix)
	}
	if n.LeaseTime < n.MinLeaseTime || n.LeaseTime > n.MaxLeaseTime || n.MinLeaseTime < time.Second || n.MaxLeaseTime > Infinite || n.DeclineTime < time.Second {
		t.Fatalf("lease times of %+v", n)
	}
	for _, pool := range n.Pools {
		if pool.Last.Less(pool.First) || !n.Prefix.Contains(pool.First) || !n.Prefix.Contains(pool.Last) {
			t.Fatalf("pool %s of %s", pool, n.Prefix)
		}
	}
}

func checkName(t *testing.T, name string) {
	t.Helper()
	if canonical, ok := canonicalName(name); !ok || canonical != name {
		t.Fatalf("name %q", name)
	}
}
