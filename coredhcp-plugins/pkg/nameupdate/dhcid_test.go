package nameupdate

import (
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
)

func TestDHCID(t *testing.T) {
	const hw = "\x01\x02\x03\x04\x05\x06"
	duid := "\x00\x01\x00\x06\x41\x2d\xf1\x66\x01\x02\x03\x04\x05\x06"
	for _, tt := range []struct {
		name   string
		client lease.Client
		fqdn   string
		want   string
	}{
		// RFC 4701 section 3.6.
		{"DUID", lease.Client{HardwareType: 1, HardwareAddr: hw, Identifier: "\xff\x00\x00\x00\x07" + duid}, "chi6.example.com", "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="},
		{"client identifier", lease.Client{HardwareType: 1, HardwareAddr: hw, Identifier: "\x01\x07\x08\x09\x0a\x0b\x0c"}, "chi.example.com", "AAEBOSD+XR3Os/0LozeXVqcNc7FwCfQdWL3b/NaiUDlW2No="},
		{"hardware address", lease.Client{HardwareType: 1, HardwareAddr: hw}, "client.example.com", "AAABxLmlskllE0MVjd57zHcWmEH3pCQ6VytcKD//7es/deY="},

		{"another IAID of the same DUID", lease.Client{Identifier: "\xff\x01\x02\x03\x04" + duid}, "chi6.example.com.", "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="},
		{"case of the name", lease.Client{HardwareType: 1, HardwareAddr: hw}, "Client.EXAMPLE.com.", "AAABxLmlskllE0MVjd57zHcWmEH3pCQ6VytcKD//7es/deY="},
		{"case hidden in an escape", lease.Client{HardwareType: 1, HardwareAddr: hw}, "\\067lient.example.com.", "AAABxLmlskllE0MVjd57zHcWmEH3pCQ6VytcKD//7es/deY="},
		{"no domain name", lease.Client{HardwareType: 1, HardwareAddr: hw}, "a..example.com.", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := DHCID(tt.client, tt.fqdn); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	t.Run("type 255 without a DUID is an ordinary identifier", func(t *testing.T) {
		short := DHCID(lease.Client{Identifier: "\xff\x00\x00\x00\x07"}, "a.example.org.")
		if len(short) < 4 || short[:4] != "AAEB" {
			t.Errorf("got %s", short)
		}
	})
}

func TestTTL(t *testing.T) {
	for _, tt := range []struct{ lease, want time.Duration }{
		{12 * time.Hour, 4 * time.Hour},
		{time.Minute, 10 * time.Minute},
		{30 * time.Minute, 10 * time.Minute},
		{33 * time.Minute, 11 * time.Minute},
		{30 * 24 * time.Hour, 24 * time.Hour},
		{lease.Infinite, 24 * time.Hour},
		{0, 24 * time.Hour},
	} {
		if got := TTL(tt.lease); got != tt.want {
			t.Errorf("TTL(%s) = %s, want %s", tt.lease, got, tt.want)
		}
	}
}

func FuzzDHCID(f *testing.F) {
	f.Add(uint8(1), "\x01\x02", "\xff\x00", "a.example.org.")
	f.Add(uint8(0), "", "", "")
	f.Add(uint8(6), "x", "\xff\x00\x00\x00\x00\x00\x00", "\\")
	f.Fuzz(func(t *testing.T, htype uint8, hw, id, name string) {
		got := DHCID(lease.Client{HardwareType: htype, HardwareAddr: hw, Identifier: id}, name)
		if _, ok := wireName(name); ok != (got != "") {
			t.Errorf("DHCID %q of name %q", got, name)
		}
	})
}
