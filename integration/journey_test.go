//go:build linux

package integration

import (
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zone's offset, on machines without zone files

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// reverse is the name of ct1's address.
const reverse = "11.2.0.192.in-addr.arpa."

// wantLease is what the site file says that a machine gets.
func wantLease(t *testing.T, address netip.Addr, hostname string) lab.Lease {
	t.Helper()
	zone, err := time.LoadLocation(radiology.Zone)
	if err != nil {
		t.Fatal(err)
	}
	_, offset := time.Now().In(zone).Zone()
	return lab.Lease{
		Address:    address,
		Bits:       radiology.Server.Bits(),
		Broadcast:  netip.MustParseAddr("192.0.2.255"),
		Routers:    []netip.Addr{radiology.Router},
		DNS:        []netip.Addr{radiology.Server.Addr()},
		NTP:        []netip.Addr{radiology.NTP},
		Domain:     "imaging.example.org",
		Hostname:   hostname,
		TimeOffset: time.Duration(offset) * time.Second,
		Duration:   radiology.LeaseTime,
		MTU:        radiology.MTU,
		ServerID:   radiology.Server.Addr(),
	}
}

func inPool(a netip.Addr) bool {
	return a.Compare(radiology.Pool[0]) >= 0 && a.Compare(radiology.Pool[1]) <= 0
}

// wantDHCID computes the record of RFC 4701 that belongs to a REQUEST.
func wantDHCID(t *testing.T, m *dhcpv4.DHCPv4, host string) string {
	t.Helper()
	identifierType, identifier := byte(0), append([]byte{byte(m.HWType)}, m.ClientHWAddr...)
	if id := m.Options.Get(dhcpv4.OptionClientIdentifier); id != nil {
		identifierType, identifier = 1, id
		if id[0] == 255 { // RFC 4361: an IAID of four octets, then the DUID
			identifierType, identifier = 2, id[5:]
		}
	}
	name := make([]byte, 255)
	n, err := dns.PackDomainName(dns.CanonicalName(host), name, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(append(slices.Clone(identifier), name[:n]...))
	return base64.StdEncoding.EncodeToString(append([]byte{0, identifierType, 1}, digest[:]...))
}

// A scanner joins the network and leaves it: it gets what the site file says,
// and is found by name, by address and as a DICOM service for exactly that time.
func TestJourney(t *testing.T) {
	t.Parallel()
	forEachProgram(t, []lab.Program{lab.Udhcpc, lab.Dhclient, lab.Dhcpcd, lab.Networkd, lab.Builtin}, func(t *testing.T, p lab.Program) {
		needs(t, "dig")
		l := newLab(t)
		n := startNetwork(t, l, radiology.Options{})
		const domain, host = radiology.Domain, "ct1." + radiology.Domain

		expectNXDOMAIN(t, l, l.Server, host, "A")
		expectNXDOMAIN(t, l, l.Server, reverse, "PTR")
		expectNXDOMAIN(t, l, l.Server, "CT1._dicom._tcp."+domain, "SRV")
		expectDig(t, l, l.Server, "_dicom._tcp."+domain, "PTR", "OLDMR._dicom._tcp."+domain)

		client, got := lease(t, l, p, radiology.CT1.Machine)
		if want := wantLease(t, radiology.CT1.Address, "ct1"); !reflect.DeepEqual(got, want) {
			t.Errorf("lease:\n got %+v\nwant %+v", got, want)
		}
		await(t, n, lab.Present, names(t, host, got)...)

		expectDig(t, l, l.Client, host, "A", "192.0.2.11")
		expectDig(t, l, l.Client, reverse, "PTR", host)
		request, err := l.Wire().Wait(timeout(t, patience), time.Time{}, func(m lab.Message) bool {
			return m.MessageType() == dhcpv4.MessageTypeRequest
		})
		if err != nil {
			t.Fatal(err)
		}
		expectDHCID(t, l, host, wantDHCID(t, request.DHCPv4, host))
		expectDHCID(t, l, reverse, wantDHCID(t, request.DHCPv4, reverse), wantDHCID(t, request.DHCPv4, host))

		expectDig(t, l, l.Client, "_services._dns-sd._udp."+domain, "PTR", "_dicom._tcp."+domain, "_dicom-tls._tcp."+domain)
		expectDig(t, l, l.Client, "_dicom._tcp."+domain, "PTR", "CT1._dicom._tcp."+domain, "OLDMR._dicom._tcp."+domain)
		expectDig(t, l, l.Client, "CT1._dicom._tcp."+domain, "SRV", "0 0 104 "+host)
		expectDig(t, l, l.Client, "CT1._dicom._tcp."+domain, "TXT", `"AET=CT1" "PrimaryDeviceType=CT"`)
		expectDig(t, l, l.Client, "_dicom-tls._tcp."+domain, "PTR", `CT1_TLS._dicom-tls._tcp.`+domain)
		expectDig(t, l, l.Client, "CT1_TLS._dicom-tls._tcp."+domain, "SRV", "0 0 2762 "+host)
		expectDig(t, l, l.Client, "CT1_TLS._dicom-tls._tcp."+domain, "TXT", `"AET=CT1_TLS" "PrimaryDeviceType=CT"`)
		expectDig(t, l, l.Client, "oldmr."+domain, "A", "192.0.2.20")
		expectDig(t, l, l.Client, "_ldap._tcp."+domain, "SRV", "0 0 389 ldap."+domain)

		if err := client.Release(timeout(t, patience)); err != nil {
			t.Fatal(err)
		}
		await(t, n, lab.Absent, names(t, host, got)...)
		expectNXDOMAIN(t, l, l.Server, host, "DHCID")
		expectNXDOMAIN(t, l, l.Server, reverse, "PTR")
		expectNXDOMAIN(t, l, l.Server, "CT1._dicom._tcp."+domain, "SRV")
		expectNXDOMAIN(t, l, l.Server, "CT1_TLS._dicom-tls._tcp."+domain, "TXT")
		expectNXDOMAIN(t, l, l.Server, "_dicom-tls._tcp."+domain, "PTR")
		expectDig(t, l, l.Server, "_dicom._tcp."+domain, "PTR", "OLDMR._dicom._tcp."+domain)
	})
}

// expectDHCID fails unless a name has one DHCID, that is one of those allowed.
func expectDHCID(t *testing.T, l *lab.Lab, name string, allowed ...string) {
	t.Helper()
	status, got := dig(timeout(t, patience), t, l, l.Client, name, "DHCID")
	if status != "NOERROR" || len(got) != 1 || !slices.Contains(allowed, spaces.ReplaceAllString(got[0], "")) {
		t.Errorf("dig %s DHCID: %s %q, expected one of %q", name, status, got, allowed)
	}
}

// A device without a fixed address takes one of the pool, and a machine that
// stands in no site file is found under the name that it calls itself.
func TestPool(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		machine  lab.Machine
		host     string
		hostname string // as the server tells the client
		service  bool
	}{
		"device of the site file": {radiology.MR1.Machine, radiology.MR1.Host, "mr1", true},
		"guest with its own name": {radiology.Guest(0x10, "reading7"), "reading7." + radiology.Domain, "reading7", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachProgram(t, []lab.Program{lab.Udhcpc, lab.Dhclient}, func(t *testing.T, p lab.Program) {
				l := newLab(t)
				n := startNetwork(t, l, radiology.Options{})
				client, got := lease(t, l, p, c.machine)
				if want := wantLease(t, got.Address, c.hostname); !inPool(got.Address) || !reflect.DeepEqual(got, want) {
					t.Errorf("lease:\n got %+v\nwant %+v, of the pool", got, want)
				}
				questions := names(t, c.host, got)
				if c.service {
					questions = append(questions, question{"MR1._dicom._tcp." + radiology.Domain, dns.TypeSRV})
				}
				await(t, n, lab.Present, questions...)
				if err := client.Release(timeout(t, patience)); err != nil {
					t.Fatal(err)
				}
				await(t, n, lab.Absent, questions...)
			})
		})
	}
}

// A name that the site file gives to a device is not for whoever calls itself so.
func TestNameOfAnotherDevice(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := startNetwork(t, l, radiology.Options{})
	_, got := lease(t, l, lab.Builtin, radiology.Guest(0x11, "ct1"))
	if !inPool(got.Address) {
		t.Errorf("address %s, expected one of the pool", got.Address)
	}
	generated := "dhcp-" + strings.ReplaceAll(got.Address.String(), ".", "-")
	if got.Hostname != generated {
		t.Errorf("told the name %q, want %q", got.Hostname, generated)
	}
	await(t, n, lab.Present, names(t, generated+"."+radiology.Domain, got)...)
	expect(t, n, lab.Absent, question{radiology.CT1.Host, dns.TypeA})
}
