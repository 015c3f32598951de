package lease

import (
	"context"
	"testing"
	"time"
)

// TestNote has somebody else give addresses, and expects names as of leases of our own.
func TestNote(t *testing.T) {
	f, z := open(t, testConfig()), newZones()
	note := func(q Query, a string, d time.Duration) {
		t.Helper()
		if err := f.Note(context.Background(), q, addr(a), d); err != nil {
			t.Fatal(err)
		}
	}
	one := named(1, "ws1", link)
	note(one, "192.0.2.200", time.Hour) // of no pool
	note(query(client(0xc1)), "192.0.2.201", Infinite)
	z.want(f, "ct1=192.0.2.201 ws1=192.0.2.200 192.0.2.200=ws1 192.0.2.201=ct1")
	writes := z.writes
	note(one, "192.0.2.200", time.Hour)
	z.converge(f)
	if z.writes != writes {
		t.Error("a renewal was told to DNS")
	}
	note(named(1, "ws2", link), "192.0.2.200", time.Hour)
	z.want(f, "ct1=192.0.2.201 ws2=192.0.2.200 192.0.2.200=ws2 192.0.2.201=ct1")
	note(named(1, "ws2", link), "192.0.2.202", time.Hour)
	z.want(f, "ct1=192.0.2.201 ws2=192.0.2.202 192.0.2.201=ct1 192.0.2.202=ws2")
	note(named(2, "ws3", link), "192.0.2.202", time.Hour) // another client
	z.want(f, "ct1=192.0.2.201 ws3=192.0.2.202 192.0.2.201=ct1 192.0.2.202=ws3")
	f.reopen(testConfig())
	f.clock.advance(2 * time.Hour)
	z.want(f, "ct1=192.0.2.201 192.0.2.201=ct1")
	f.release(query(client(0xc1)), addr("192.0.2.201"))
	z.want(f, "")
	if err := f.Note(context.Background(), one, addr("10.0.0.1"), time.Hour); err == nil {
		t.Error("noted an address of no network")
	}
	if err := f.Note(context.Background(), query(Client{}), addr("192.0.2.200"), time.Hour); err == nil {
		t.Error("noted a lease of nobody")
	}
}

// TestNoteRenewal has two network interfaces of a machine renew what somebody else gave them: that takes the name from neither.
func TestNoteRenewal(t *testing.T) {
	f, d := open(t, testConfig()), fakeDNS{}
	note := func(q Query, a string) {
		t.Helper()
		if err := f.Note(context.Background(), q, addr(a), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	const us7, a, b = "us7.imaging.example.org.", "192.0.2.200", "198.51.100.200"
	wired, wireless := named(1, "us7", link), named(2, "us7", link2)
	wired.Client.Identifier, wireless.Client.Identifier = "\xff\x00\x00\x00\x01\x00\x04duid", "\xff\x00\x00\x00\x02\x00\x04duid"
	note(wired, a)
	f.wantShown(d, us7, a)
	note(wireless, b)
	f.wantShown(d, us7, b)
	renewing := wired
	renewing.ClientAddr = addr(a)
	note(renewing, a)
	f.wantShown(d, us7, b)
	renewing.SelectedServer = renewing.ServerID // against RFC 2131 table 5
	note(renewing, a)
	f.wantShown(d, us7, b)
	note(wired, a) // plugged in again
	f.wantShown(d, us7, a)
}
