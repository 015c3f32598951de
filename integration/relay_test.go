//go:build linux

package integration

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// The same journey through a DHCP relay, on free ports of 127.0.0.1: what runs
// where no network can be made, and as it is with a scanner in another building.
func TestRelay(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, lab.Loopback)
	n := startNetwork(t, l, radiology.Options{})
	client, got := lease(t, l, lab.Relay, radiology.CT1.Machine)
	if want := wantLease(t, radiology.CT1.Address, "ct1"); !reflect.DeepEqual(got, want) {
		t.Errorf("lease:\n got %+v\nwant %+v", got, want)
	}
	var sent lab.Message
	for _, m := range l.Wire().Messages() {
		if m.Sent {
			sent = m
			continue
		}
		// RFC 3046 section 2.2: the option comes back as it was, and RFC 8357
		// section 4: to the port that the request came from.
		want, found := sent.Options.Get(dhcpv4.OptionRelayAgentInformation), m.Options.Get(dhcpv4.OptionRelayAgentInformation)
		if !bytes.Equal(found, want) || !m.GatewayIPAddr.Equal(sent.GatewayIPAddr) {
			t.Errorf("%s: option 82 % x and giaddr %s, expected % x and %s", m.MessageType(), found, m.GatewayIPAddr, want, sent.GatewayIPAddr)
		}
	}
	questions := append(names(t, radiology.CT1.Host, got), question{"CT1._dicom._tcp." + radiology.Domain, dns.TypeSRV})
	await(t, n, lab.Present, questions...)

	again, err := client.Renew(timeout(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	if again.Address != got.Address {
		t.Errorf("renewed to %s, expected %s", again.Address, got.Address)
	}
	_, guest := lease(t, l, lab.Relay, radiology.Guest(0x10, "reading7"))
	if !inPool(guest.Address) {
		t.Errorf("address %s, expected one of the pool", guest.Address)
	}
	if err := client.Release(timeout(t, patience)); err != nil {
		t.Fatal(err)
	}
	await(t, n, lab.Absent, questions...)
	await(t, n, lab.Present, names(t, guestHost, guest)...)
	_, err = l.Wire().WaitRelease(timeout(t, patience), time.Time{}, got.Address)
	if err != nil {
		t.Error(err)
	}
}
