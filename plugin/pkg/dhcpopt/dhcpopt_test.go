package dhcpopt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

// byName is the option with the given name, or one by number and type: "224/text".
func byName(t *testing.T, name string) Option {
	t.Helper()
	if o, ok := ByName(name); ok {
		return o
	}
	kind, ok := ParseType(strings.TrimPrefix(name, "224/"))
	if !ok {
		t.Fatalf("no option and no type %s", name)
	}
	return Option{Code: 224, Name: "option-224", Type: kind}
}

func TestEncode(t *testing.T) {
	tests := []struct {
		option string
		values []string
		want   string // hexadecimal
		format string // "": the values, with ", " between them
	}{
		// DICOM PS3.15 Table F.1-2
		{option: "subnet-mask", values: []string{"255.255.255.0"}, want: "ffffff00"},
		{option: "time-offset", values: []string{"-18000"}, want: "ffffb9b0"},
		{option: "routers", values: []string{"192.0.2.1", "192.0.2.254"}, want: "c0000201c00002fe"},
		{option: "domain-name-servers", values: []string{"192.0.2.2"}, want: "c0000202"},
		{option: "host-name", values: []string{"ct1"}, want: "637431"},
		{option: "domain-name", values: []string{"imaging.example.org."}, want: hex.EncodeToString([]byte("imaging.example.org")), format: "imaging.example.org"},
		{option: "interface-mtu", values: []string{"1500"}, want: "05dc"},
		{option: "broadcast-address", values: []string{"192.0.2.255"}, want: "c00002ff"},
		{option: "static-routes", values: []string{"198.51.100.7 via 192.0.2.1"}, want: "c6336407c0000201"},
		{option: "ntp-servers", values: []string{"192.0.2.3"}, want: "c0000203"},
		{option: "auto-config", values: []string{"0"}, want: "00", format: "false"},
		// The examples of RFC 3442, with the routers of RFC 5737.
		{option: "classless-static-route", values: []string{"default via 192.0.2.1"}, want: "00c0000201"},
		{option: "classless-static-route", values: []string{"0.0.0.0/0 via 192.0.2.1"}, want: "00c0000201", format: "default via 192.0.2.1"},
		{option: "classless-static-route", values: []string{"10.0.0.0/8 via 192.0.2.1"}, want: "080ac0000201"},
		{option: "classless-static-route", values: []string{"10.17.0.0/16 via 192.0.2.1", "10.27.129.0/24 via 192.0.2.2"}, want: "100a11c0000201180a1b81c0000202"},
		{option: "classless-static-route", values: []string{"10.229.0.128/25 via 192.0.2.1"}, want: "190ae50080c0000201"},
		{option: "classless-static-route", values: []string{"10.198.122.47/32 via 0.0.0.0"}, want: "200ac67a2f00000000"},
		// The others, one of each type and of each form of writing it.
		{option: "policy-filter", values: []string{"198.51.100.0/24"}, want: "c6336400ffffff00"},
		{option: "policy-filter", values: []string{"0.0.0.0/0"}, want: "0000000000000000"},
		{option: "default-ip-ttl", values: []string{"64"}, want: "40"},
		{option: "netbios-node-type", values: []string{"8"}, want: "08"},
		{option: "path-mtu-plateau-table", values: []string{"68", "1500"}, want: "004405dc"},
		{option: "arp-cache-timeout", values: []string{"4294967295"}, want: "ffffffff"},
		{option: "v6-only-preferred", values: []string{"1800"}, want: "00000708"},
		{option: "ip-forwarding", values: []string{"yes"}, want: "01", format: "true"},
		{option: "boot-file-name", values: []string{"pxelinux.0"}, want: hex.EncodeToString([]byte("pxelinux.0"))},
		{option: "domain-search", values: []string{"a.example.org", "example.org"}, want: "0161076578616d706c65036f726700c002"},
		{option: "domain-search", values: []string{"eng.apple.com", "marketing.apple.com"}, want: "03656e67056170706c6503636f6d00096d61726b6574696e67c004"}, // RFC 3397 section 2
		{option: "domain-search", values: []string{"a.b.example.org", "b.example.org", "c.a.b.example.org", "Example.org"},
			want: "01610162076578616d706c65036f726700" + "c002" + "0163c000" + "074578616d706c65c00c"},
		{option: "sip-ua-cs-domains", values: []string{"a.example.org", "example.org"}, want: "0161076578616d706c65036f726700076578616d706c65036f726700"},
		{option: "224/search-list", values: []string{"example.org", "example.org"}, want: "076578616d706c65036f726700c000"},
		{option: "v4-lost", values: []string{"example.org"}, want: "076578616d706c65036f726700"},
		{option: "vendor-encapsulated-options", values: []string{"01:04:c0:00:02:01"}, want: "0104c0000201", format: "1 bytes c0:00:02:01"},
		{option: "vendor-encapsulated-options", values: []string{"6 uint8 8", "8 bytes 80:00:01:c0:00:02:02", "9 ipv4-addresses 192.0.2.1, 192.0.2.2", "10 text Press F8 ", "254 empty true"},
			want:   "060108" + "0807800001c0000202" + "0908c0000201c0000202" + "0a08" + hex.EncodeToString([]byte("Press F8")) + "fe00",
			format: "6 bytes 08, 8 bytes 80:00:01:c0:00:02:02, 9 bytes c0:00:02:01:c0:00:02:02, 10 bytes 50:72:65:73:73:20:46:38, 254 empty true"},
		{option: "vivso-suboptions", values: []string{"32473 1 text abc", "32473 2 ipv4-address 192.0.2.9", "3561 1 uint8 7"},
			want:   "00007ed9" + "0b" + "0103616263" + "0204c0000209" + "00000de9" + "03" + "010107",
			format: "32473 1 bytes 61:62:63, 32473 2 bytes c0:00:02:09, 3561 1 bytes 07"},
		{option: "vendor-encapsulated-options", values: []string{"0x0104"}, want: "0104", format: "01:04"},
		{option: "vendor-encapsulated-options", values: []string{"1-a"}, want: "010a", format: "01:0a"},
		{option: "slp-directory-agent", values: []string{"true", "192.0.2.9"}, want: "01c0000209"},
		{option: "slp-service-scope", values: []string{"false", "imaging"}, want: "00" + hex.EncodeToString([]byte("imaging"))},
		{option: "sip-servers", values: []string{"192.0.2.9"}, want: "01c0000209"},
		{option: "sip-servers", values: []string{"example.org"}, want: "00076578616d706c65036f726700"},
		{option: "224/empty", values: []string{"true"}, want: ""},
		{option: "224/uint8-list", values: []string{"1", "255"}, want: "01ff"},
		{option: "224/text", values: []string{"Röntgen "}, want: hex.EncodeToString([]byte("Röntgen "))},
		{option: "224/int32", values: []string{"-1"}, want: "ffffffff"},
	}
	for _, test := range tests {
		t.Run(test.option+" "+strings.Join(test.values, ","), func(t *testing.T) {
			o := byName(t, test.option)
			got, err := o.Encode(test.values)
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(got) != test.want {
				t.Errorf("got %x, want %s", got, test.want)
			}
			want := test.format
			if want == "" {
				want = strings.Join(test.values, ", ")
			}
			if text := o.Format(got); text != want {
				t.Errorf("formatted %q, want %q", text, want)
			}
		})
	}
}

func TestEncodeErrors(t *testing.T) {
	tests := []struct {
		option string
		values []string
		index  int
		want   string
	}{
		{"routers", nil, -1, "found no value, expected an IPv4 address such as 192.0.2.1"},
		{"routers", []string{"192.0.2.1", "192.0.2.256"}, 1, `found "192.0.2.256", expected an IPv4 address such as 192.0.2.1`},
		{"routers", []string{"2001:db8::1"}, 0, `found "2001:db8::1", expected an IPv4 address such as 192.0.2.1`},
		{"routers", []string{"0.0.0.0"}, 0, `found "0.0.0.0", expected an IPv4 address such as 192.0.2.1, not the unspecified address`},
		{"routers", []string{strings.Repeat("x", 61)}, 0, `found "` + strings.Repeat("x", 60) + `"..., expected an IPv4 address such as 192.0.2.1`},
		{"subnet-mask", []string{"255.0.255.0"}, 0, `found "255.0.255.0", expected a subnet mask such as 255.255.255.0`},
		{"broadcast-address", []string{"192.0.2.255", "192.0.2.254"}, 1, "found a list of 2 values, expected a single value: an IPv4 address such as 192.0.2.1"},
		{"interface-mtu", []string{"67"}, 0, `found "67", expected a whole number from 68 to 65535`},
		{"interface-mtu", []string{"1500.0"}, 0, `found "1500.0", expected a whole number from 68 to 65535`},
		{"default-ip-ttl", []string{"0"}, 0, `found "0", expected a whole number from 1 to 255`},
		{"default-ip-ttl", []string{"256"}, 0, `found "256", expected a whole number from 1 to 255`},
		{"max-dgram-reassembly", []string{"575"}, 0, `found "575", expected a whole number from 576 to 65535`},
		{"netbios-node-type", []string{"3"}, 0, `found "3", expected one of 1, 2, 4, 8`},
		{"time-offset", []string{"2147483648"}, 0, `found "2147483648", expected a whole number from -2147483648 to 2147483647`},
		{"arp-cache-timeout", []string{"-1"}, 0, `found "-1", expected a whole number from 0 to 4294967295`},
		{"ip-forwarding", []string{"maybe"}, 0, `found "maybe", expected true or false`},
		{"domain-name", []string{"a.example.org b.example.org"}, 0, `found "a.example.org b.example.org", expected a domain name such as imaging.example.org`},
		{"domain-search", []string{"example.org", "-x.example.org"}, 1, `found "-x.example.org", expected a domain name such as imaging.example.org`},
		{"domain-search", []string{strings.Repeat("abcdefg.", 32) + "org"}, 0, `found "` + strings.Repeat("abcdefg.", 7) + `abcd"..., expected a domain name such as imaging.example.org`},
		{"boot-file-name", []string{""}, 0, `found "", expected text of at least one character, without control characters`},
		{"boot-file-name", []string{"a\nb"}, 0, `found "a\nb", expected text of at least one character, without control characters`},
		{"static-routes", []string{"198.51.100.7"}, 0, `found "198.51.100.7", expected a host route such as 198.51.100.7 via 192.0.2.1`},
		{"static-routes", []string{"198.51.100.0/24 via 192.0.2.1"}, 0, `found "198.51.100.0/24 via 192.0.2.1", expected a host route such as 198.51.100.7 via 192.0.2.1 (routes to networks: classless-static-route; the default route: routers)`},
		{"static-routes", []string{"0.0.0.0 via 192.0.2.1"}, 0, `found "0.0.0.0 via 192.0.2.1", expected a host route such as 198.51.100.7 via 192.0.2.1 (routes to networks: classless-static-route; the default route: routers)`},
		{"classless-static-route", []string{"198.51.100.0/24"}, 0, `found "198.51.100.0/24", expected a route such as 198.51.100.0/24 via 192.0.2.1, or default via 192.0.2.1`},
		{"classless-static-route", []string{"198.51.100.7/24 via 192.0.2.1"}, 0, `found "198.51.100.7/24 via 192.0.2.1", expected the network's own address: 198.51.100.0/24`},
		{"classless-static-route", []string{"default via 2001:db8::1"}, 0, `found "default via 2001:db8::1", expected a route such as 198.51.100.0/24 via 192.0.2.1, or default via 192.0.2.1`},
		{"policy-filter", []string{"198.51.100.0"}, 0, `found "198.51.100.0", expected a network such as 192.0.2.0/24`},
		{"vendor-encapsulated-options", []string{"01:0"}, 0, ""},
		{"vendor-encapsulated-options", []string{"zz"}, 0, `found "zz", expected CODE TYPE VALUE such as 6 uint8 8, or pairs of hexadecimal digits for all sub-options`},
		{"vendor-encapsulated-options", []string{"0104", "0201"}, 0, `found "0104", expected CODE TYPE VALUE such as 6 uint8 8, or pairs of hexadecimal digits for all sub-options`},
		{"vendor-encapsulated-options", []string{"6 uint8 8", "255 uint8 8"}, 1, `found "255 uint8 8", expected CODE TYPE VALUE such as 6 uint8 8, or pairs of hexadecimal digits for all sub-options, with a code from 1 to 254`},
		{"vendor-encapsulated-options", []string{"6 byte 8"}, 0, `found "6 byte 8", expected CODE TYPE VALUE such as 6 uint8 8, or pairs of hexadecimal digits for all sub-options, with a type that is one of those for options given by number`},
		{"vendor-encapsulated-options", []string{"6 sub-options 1 uint8 8"}, 0, `found "6 sub-options 1 uint8 8", expected CODE TYPE VALUE such as 6 uint8 8, or pairs of hexadecimal digits for all sub-options, with a type that is one of those for options given by number`},
		{"vendor-encapsulated-options", []string{"6 uint8 256"}, 0, `found "6 uint8 256", expected sub-option 6: found "256", expected a whole number from 0 to 255`},
		{"vendor-encapsulated-options", []string{"6 text " + strings.Repeat("x", 256)}, 0, `found "6 text ` + strings.Repeat("x", 53) + `"..., expected sub-option 6: a value of at most 255 octets`},
		{"vivso-suboptions", []string{"4294967296 1 uint8 1"}, 0, `found "4294967296 1 uint8 1", expected ENTERPRISE CODE TYPE VALUE such as 32473 1 text abc, or pairs of hexadecimal digits for all sub-options, with an enterprise number`},
		{"vivso-suboptions", []string{"32473 1 text " + strings.Repeat("x", 254)}, 0, `found "32473 1 text ` + strings.Repeat("x", 47) + `"..., expected a sub-option of at most 253 octets`},
		{"nwip-suboptions", []string{"010"}, 0, `found "010", expected pairs of hexadecimal digits such as 01:0a:ff`},
		{"nwip-suboptions", []string{"01::02"}, 0, `found "01::02", expected pairs of hexadecimal digits such as 01:0a:ff`},
		{"nwip-suboptions", []string{"zz"}, 0, `found "zz", expected pairs of hexadecimal digits such as 01:0a:ff`},
		{"slp-directory-agent", []string{"true"}, -1, `found only "true", expected true or false (mandatory or not), followed by IPv4 addresses`},
		{"slp-directory-agent", []string{"192.0.2.9"}, 0, `found "192.0.2.9", expected true or false (mandatory or not), followed by IPv4 addresses`},
		{"slp-service-scope", []string{"true", "a", "b"}, 2, `found "b", expected one scope list: true or false (mandatory or not), followed by the scope list`},
		{"sip-servers", []string{"192.0.2.9", "example.org"}, 1, `found "example.org", expected an IPv4 address or a domain name, all of the same kind`},
		{"224/empty", []string{"false"}, 0, `found "false", expected true (the option has no value; leave it out to switch it off)`},
		{"log-servers", slices.Repeat([]string{"192.0.2.1"}, 1025), 1024, "found a value of more than 4096 octets, expected a value that fits into a DHCP message"},
	}
	for _, test := range tests {
		t.Run(test.option, func(t *testing.T) {
			o := byName(t, test.option)
			_, err := o.Encode(test.values)
			if test.want == "" {
				if err != nil {
					t.Errorf("got %v, want none", err)
				}
				return
			}
			var wrong *ValueError
			if !errors.As(err, &wrong) {
				t.Fatalf("got %v, want a ValueError", err)
			}
			if err.Error() != test.want || wrong.Index != test.index {
				t.Errorf("got  %s, index %d\nwant %s, index %d", err, wrong.Index, test.want, test.index)
			}
		})
	}
}

func TestEncodeWithoutType(t *testing.T) {
	_, err := Option{Code: 224}.Encode([]string{"1"})
	if err == nil || !strings.Contains(err.Error(), "without a type") {
		t.Errorf("got %v", err)
	}
}

// TestDecode decodes what other servers write.
func TestDecode(t *testing.T) {
	tests := []struct {
		option, data, want string // want "": malformed
	}{
		{"domain-search", "03656e67056170706c6503636f6d00096d61726b6574696e67c004", "eng.apple.com, marketing.apple.com"}, // RFC 3397 section 2
		{"domain-search", "c000", ""},
		{"domain-search", "0161c000", ""},
		{"domain-search", "0161", ""},
		{"domain-search", "00", ""},
		{"domain-search", "", ""},
		{"vendor-encapsulated-options", "060108ff", "06:01:08:ff"}, // END ends them, and is kept
		{"vendor-encapsulated-options", "060208", "06:02:08"},
		{"vendor-encapsulated-options", "", ""},
		{"vivso-suboptions", "00007ed90301010700", "00:00:7e:d9:03:01:01:07:00"},
		{"vivso-suboptions", "00007ed90000007ed900", "00:00:7e:d9:00:00:00:7e:d9:00"},
		{"domain-name", "6578616d706c6500", "example"},
		{"boot-file-name", "61620000", "ab"},
		{"boot-file-name", "00", ""},
		{"boot-file-name", "ff", ""},
		{"routers", "c00002", ""},
		{"routers", "", ""},
		{"subnet-mask", "ff00ff00", ""},
		{"broadcast-address", "c0000201c0000202", ""},
		{"interface-mtu", "05", ""},
		{"interface-mtu", "05dc05dc", ""},
		{"ip-forwarding", "02", ""},
		{"classless-static-route", "21c0000201c0000201", ""},
		{"classless-static-route", "18c00002c00002", ""},
		{"classless-static-route", "18c0000ac0000201", "192.0.10.0/24 via 192.0.2.1"},
		{"policy-filter", "c0000200ff00ff00", ""},
		{"sip-servers", "02c0000201", ""},
		{"slp-directory-agent", "01", ""},
	}
	for _, test := range tests {
		t.Run(test.option+" "+test.data, func(t *testing.T) {
			data, err := hex.DecodeString(test.data)
			if err != nil {
				t.Fatal(err)
			}
			o := byName(t, test.option)
			want := test.want
			if want == "" {
				want = hexadecimal(data)
				if _, err := o.Decode(data); err == nil {
					t.Errorf("decoded without error")
				}
			}
			if got := o.Format(data); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		option string
		values []string
		want   string
	}{
		{"routers", []string{"192.0.2.1", "192.0.2.254"}, "192.0.2.1 192.0.2.254"},
		{"swap-server", []string{"192.0.2.7"}, "192.0.2.7"},
		{"static-routes", []string{"198.51.100.7 via 192.0.2.1"}, "192.0.2.1"},
		{"classless-static-route", []string{"198.51.100.0/24 via 192.0.2.1", "203.0.113.0/24 via 0.0.0.0"}, "192.0.2.1"},
		{"sip-servers", []string{"example.org"}, ""},
		{"slp-directory-agent", []string{"true", "192.0.2.9"}, "192.0.2.9"},
		{"subnet-mask", []string{"255.255.255.0"}, ""},
		{"broadcast-address", []string{"192.0.2.255"}, ""},
		{"policy-filter", []string{"192.0.2.0/24"}, ""},
		{"boot-file-name", []string{"192.0.2.1"}, ""},
	}
	for _, test := range tests {
		t.Run(test.option, func(t *testing.T) {
			o := byName(t, test.option)
			data, err := o.Encode(test.values)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range o.Addresses(data) {
				got = append(got, a.String())
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %v, want %s", got, test.want)
			}
		})
	}
	if got := byName(t, "routers").Addresses([]byte{1}); got != nil {
		t.Errorf("malformed: got %v", got)
	}
}

func TestRegistry(t *testing.T) {
	names, seen := make(map[string]Code), make(map[Code]bool)
	for _, e := range registry {
		if seen[e.code] {
			t.Errorf("option %d stands twice", e.code)
		}
		seen[e.code] = true
		for _, name := range append(strings.Fields(e.aliases), e.name) {
			if name != strings.ToLower(name) || strings.Contains(name, "_") {
				t.Errorf("option %d: name %q", e.code, name)
			}
			if other, ok := names[name]; ok {
				t.Errorf("options %d and %d are both named %q", other, e.code, name)
			}
			names[name] = e.code
			if o, ok := ByName(strings.ToUpper(name)); !ok || o.Code != e.code || o.Name != e.name || o.Type != e.kind {
				t.Errorf("ByName(%q) = %v", name, o)
			}
		}
		if e.kind == 0 || e.kind >= lastType {
			t.Errorf("option %d has no type", e.code)
		}
	}
	// IANA's registry has nothing at these, or nothing with one defined form, below the private range (224 to 254).
	unassigned := "84 96 102-107 110 111 115 126 127 128-135 149 160 163-207 214-219 222 223"
	for c := 1; c < 224; c++ {
		if _, ok := ByCode(Code(c)); ok == inRanges(unassigned, c) {
			t.Errorf("option %d: registered %v", c, ok)
		}
	}
	for _, c := range []Code{0, 224, 254, 255} {
		if o, ok := ByCode(c); ok {
			t.Errorf("ByCode(%d) = %v", c, o)
		}
	}
	if _, ok := ByName("no-such-option"); ok {
		t.Error("found an option that is none")
	}
}

func inRanges(ranges string, n int) bool {
	for r := range strings.FieldsSeq(ranges) {
		first, last, found := strings.Cut(r, "-")
		if !found {
			last = first
		}
		if n >= atoi(first) && n <= atoi(last) {
			return true
		}
	}
	return false
}

func atoi(text string) (n int) {
	for _, c := range text {
		n = 10*n + int(c-'0')
	}
	return n
}

func TestReserved(t *testing.T) {
	for _, c := range []Code{0, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 61, 81, 82, 90, 118, 255} {
		if !(Option{Code: c}).Reserved() {
			t.Errorf("option %d is not reserved", c)
		}
	}
	for _, c := range []Code{1, 3, 6, 12, 15, 28, 42, 43, 60, 66, 67, 108, 116, 119, 121, 224, 252} {
		if (Option{Code: c}).Reserved() {
			t.Errorf("option %d is reserved", c)
		}
	}
	names := Names()
	if !slices.Contains(names, "routers") || slices.Contains(names, "dhcp-lease-time") {
		t.Errorf("names: %v", names)
	}
}

func TestParseType(t *testing.T) {
	for _, name := range TypeNames() {
		if kind, ok := ParseType(strings.ToUpper(name)); !ok || kind.String() != name {
			t.Errorf("%s: got %v, %v", name, kind, ok)
		}
	}
	for alias, want := range typeAliases {
		if kind, ok := ParseType(alias); !ok || kind != want {
			t.Errorf("%s: got %v, %v", alias, kind, ok)
		}
	}
	for _, name := range []string{"", "int", "record"} {
		if kind, ok := ParseType(name); ok {
			t.Errorf("%q: got %v", name, kind)
		}
	}
	if got := Type(200).String(); got != "type 200" {
		t.Errorf("got %s", got)
	}
}

func TestSet(t *testing.T) {
	site := Set{3: {192, 0, 2, 1}, 6: {192, 0, 2, 2}}
	network := Set{3: {192, 0, 2, 254}}
	merged := site.Merge(network)
	if !bytes.Equal(merged[3], []byte{192, 0, 2, 254}) || !bytes.Equal(merged[6], []byte{192, 0, 2, 2}) || len(merged) != 2 {
		t.Errorf("merged: %v", merged)
	}
	clone := site.Clone()
	clone[7] = nil
	if len(site) != 2 || site[3][3] != 1 {
		t.Errorf("changed: %v", site)
	}
	if Set(nil).Clone() == nil || Set(nil).Merge(nil) == nil {
		t.Error("a copy is nil")
	}
}

func TestString(t *testing.T) {
	if got := byName(t, "router").String(); got != "routers (3)" {
		t.Errorf("got %s", got)
	}
	if got := (Option{Code: 224}).String(); got != "option 224" {
		t.Errorf("got %s", got)
	}
}

// FuzzEncode holds that what Encode accepts decodes to values that encode to the same.
func FuzzEncode(f *testing.F) {
	f.Add(byte(3), byte(IPv4Addresses), "192.0.2.1,192.0.2.2")
	f.Add(byte(121), byte(ClasslessRoutes), "default via 192.0.2.1,198.51.100.0/24 via 192.0.2.1")
	f.Add(byte(119), byte(DomainNames), "a.example.org,example.org.")
	f.Add(byte(26), byte(Uint16), "1500")
	f.Add(byte(43), byte(Bytes), "01:04")
	f.Add(byte(224), byte(Text), "a b")
	f.Add(byte(120), byte(SIPServers), "example.org")
	f.Add(byte(79), byte(SLPScope), "true,x")
	f.Add(byte(119), byte(SearchList), "a.example.org,example.org,b.a.example.org")
	f.Add(byte(43), byte(SubOptions), "6 uint8 8,8 bytes 80:00,9 empty true")
	f.Add(byte(125), byte(VendorOptions), "32473 1 text abc,32473 2 uint8 1,3561 1 uint8 7")
	f.Fuzz(func(t *testing.T, code, kind byte, text string) {
		o := Option{Code: Code(code), Type: Type(kind)}
		data, err := o.Encode(strings.Split(text, ","))
		if err != nil {
			var wrong *ValueError
			if !errors.As(err, &wrong) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 600 {
				t.Fatalf("error %q", err)
			}
			return
		}
		values, err := o.Decode(data)
		if err != nil {
			t.Fatalf("%x of type %s: %v", data, o.Type, err)
		}
		again, err := o.Encode(values)
		if err != nil || !bytes.Equal(data, again) {
			t.Fatalf("%x, decoded as %q, encodes to %x, %v", data, values, again, err)
		}
	})
}

// FuzzFormat holds that any octets can be formatted.
func FuzzFormat(f *testing.F) {
	for code := range 256 {
		f.Add(byte(code), []byte{192, 0, 2, 1})
	}
	f.Add(byte(119), []byte{3, 'e', 'n', 'g', 0, 0xc0, 0})
	f.Add(byte(121), []byte{24, 192, 0, 2, 192, 0, 2, 1})
	f.Fuzz(func(t *testing.T, code byte, data []byte) {
		o, ok := ByCode(Code(code))
		if !ok {
			o = Option{Code: Code(code), Type: Type(code % byte(lastType+1))}
		}
		if text := o.Format(data); strings.ContainsAny(text, "\n\x00") {
			t.Fatalf("%q", text)
		}
		o.Addresses(data)
	})
}
