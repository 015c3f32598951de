package leasefile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// show is a lease in one line.
func show(l Lease) string {
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return fmt.Sprint(t.Unix())
	}
	return fmt.Sprintf("%v %d/%x id %x %q state %d %s-%s %s", l.Address, l.HardwareType, l.HardwareAddress, l.ClientIdentifier, l.Hostname, l.State,
		at(l.Start), at(l.Expires), l.Duration)
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const dhcpdFile = `# The format of this file is documented in the dhcpd.leases(5) manual page.
authoring-byte-order little-endian;

server-duid "\000\001\000\001-\004{}\"";

lease 192.0.2.100 {
  starts 6 2026/11/21 08:00:00;
  ends 6 2026/11/21 09:00:00;
  cltt 6 2026/11/21 08:00:00;
  binding state active;
  next binding state free;
  rewind binding state free;
  hardware ethernet 00:00:5e:00:53:01;
  uid "\001\000\000^\000S\001";
  set vendor-class-identifier = "udhcp 1.35.0";
  client-hostname "reading7";
  on expiry { log ("}"); }
}
host decl { dynamic; hardware ethernet 00:00:5e:00:53:09; }
failover peer "x" state { my state normal at 6 2026/11/21 08:00:00; }
lease 192.0.2.101 { starts 6 2026/11/21 08:00:00; ends never; binding state active; hardware token-ring 0:0:5e:0:53:2; uid 01:02; }
lease 192.0.2.102 { starts epoch 1795248000; ends epoch 1795251600; binding state abandoned; client-hostname "a;b"; }
lease 192.0.2.100 {
  starts 6 2026/11/21 10:00:00;
  ends 6 2026/11/21 11:00:00;
  binding state released;
  hardware ethernet 00:00:5e:00:53:01;
  uid "\001\000\000^\000S\001";
}
`

func TestDhcpd(t *testing.T) {
	expect(t, Dhcpd, write(t, "dhcpd.leases", dhcpdFile), `
192.0.2.100 1/00005e005301 id 0100005e005301 "" state 2 1795255200-1795258800 1h0m0s
192.0.2.101 6/00005e005302 id 0102 "" state 0 1795248000-- 0s
192.0.2.102 0/ id  "a;b" state 3 1795248000-1795251600 1h0m0s
`)
}

const keaHeader = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n"

func TestKea(t *testing.T) {
	path := write(t, "kea-leases4.csv", keaHeader+
		"192.0.2.100,00:00:5e:00:53:01,01:00:00:5e:00:53:01,3600,1795251600,1,1,1,reading7.imaging.example.org,0,{ \"a\": 1&#x2c \"b\": 2 }\n"+
		"192.0.2.101,00:00:5e:00:53:02,,4294967295,1795248000,1,0,0,,0,\n"+
		"192.0.2.102,,,86400,1795251600,1,0,0,,1,\n"+
		"192.0.2.103,00:00:5e:00:53:04,,3600,1795251600,1,0,0,a&#x2cb,2,\n"+
		"192.0.2.104,00:00:5e:00:53:05,,3600,1795251600,1,0,0,,0,\n"+
		"192.0.2.104,00:00:5e:00:53:05,,0,1795251600,1,0,0,,0,\n"+
		"192.0.2.100,00:00:5e:00:53:01,01:00:00:5e:00:53:01,3600,1795255200,1,1,1,reading7.imaging.example.org,0,\n")
	const want = `
192.0.2.100 1/00005e005301 id 0100005e005301 "reading7.imaging.example.org" state 0 1795251600-1795255200 1h0m0s
192.0.2.101 1/00005e005302 id  "" state 0 -- 1193046h28m15s
192.0.2.102 0/ id  "" state 3 1795165200-1795251600 24h0m0s
192.0.2.103 1/00005e005304 id  "a,b" state 1 1795248000-1795251600 1h0m0s
`
	expect(t, Kea, path, strings.Replace(want, "state 0 --", "state 0 "+fmt.Sprint(1795248000-keaInfinite)+"--", 1))

	// The clean-up has written what the file before it had, and was cut off before it took that away.
	for name, content := range map[string]string{
		".2": "192.0.2.105,00:00:5e:00:53:06,,3600,1795251600,1,0,0,old,0,\n192.0.2.106,00:00:5e:00:53:07,,3600,1795251600,1,0,0,,0,\n",
		".1": "192.0.2.105,00:00:5e:00:53:06,,3600,1795251600,1,0,0,new,0,\n192.0.2.100,00:00:5e:00:53:99,,3600,1795251600,1,0,0,older,0,\n",
	} {
		if err := os.WriteFile(path+name, []byte(keaHeader+content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := read(t, Kea, path)
	for _, want := range []string{`192.0.2.105 1/00005e005306 id  "new"`, "192.0.2.106 1/", `192.0.2.100 1/00005e005301 id 0100005e005301 "reading7`} {
		if !strings.Contains(got, want) {
			t.Errorf("with .1 and .2:\n%s\nwant in it: %s", got, want)
		}
	}
	if err := os.WriteFile(path+".completed", []byte(keaHeader+"192.0.2.107,00:00:5e:00:53:08,,3600,1795251600,1,0,0,,0,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(t, Kea, path); !strings.Contains(got, "192.0.2.107") || strings.Contains(got, "192.0.2.106") {
		t.Errorf("with .completed:\n%s", got)
	}
}

func TestDnsmasq(t *testing.T) {
	expect(t, Dnsmasq, write(t, "dnsmasq.leases", "1795251600 00:00:5e:00:53:01 192.0.2.100 reading7 01:00:00:5e:00:53:01\n"+
		"0 00:00:5e:00:53:02 192.0.2.101 * *\n1795251600 06-00:00:5e:00:53:03 192.0.2.102 * ff:01:02\n"+
		"duid 00:01:00:01:2f:1c:aa:55\n1795251600 1234 2001:db8::1 * 00:01\n"), `
192.0.2.100 1/00005e005301 id 0100005e005301 "reading7" state 0 --1795251600 0s
192.0.2.101 1/00005e005302 id  "" state 0 --- 0s
192.0.2.102 6/00005e005303 id ff0102 "" state 0 --1795251600 0s
`)
}

// Where dnsmasq has no clock it writes how long a lease is, which is no time in 1970: whoever has the address keeps it.
func TestDnsmasqWithoutClock(t *testing.T) {
	from := time.Now()
	list, err := Read(Dnsmasq, write(t, "dnsmasq.leases", "43200 00:00:5e:00:53:01 192.0.2.100 reading7 *\n"))
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	l := list[0]
	if l.State != Active || l.Duration != 12*time.Hour || l.Expires.Before(from.Add(l.Duration)) || l.Expires.After(time.Now().Add(l.Duration)) {
		t.Errorf("%s", show(l))
	}
}

func TestRange(t *testing.T) {
	list, err := Read(Range, "testdata/range.sqlite3")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 100 {
		t.Fatalf("%d leases, want 100", len(list))
	}
	for i, l := range list {
		name := ""
		if i%2 == 1 {
			name = fmt.Sprintf("host%d", i)
		}
		if want := fmt.Sprintf("192.0.2.%d 1/00005e0053%02x id  %q state 0 --%d 0s", 100+i, i, name, 1795305600+i); show(l) != want {
			t.Errorf("%s, want %s", show(l), want)
		}
	}
	data, err := os.ReadFile("testdata/range.sqlite3")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, "leases.sqlite3", string(data))
	if err := os.WriteFile(path+"-journal", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(Range, path); err == nil || !strings.Contains(err.Error(), "-journal is there") {
		t.Errorf("with a journal: %v", err)
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		format        Format
		content, want string
	}{
		{Dhcpd, "lease 192.0.2.100 {\n  starts 6 2026/11/21 08:00:00;\n", "f:3: the file ends inside a lease: it is cut off"},
		{Dhcpd, "lease ct1 { }", `f:1: lease: found "ct1", expected an IPv4 address`},
		{Dhcpd, "lease 192.0.2.100 {\n binding state lost;\n}", `f:3: lease 192.0.2.100: binding state "lost"`},
		{Dhcpd, "lease 192.0.2.100 {\n ends 6 2026/13/21 08:00:00;\n}", `f:2: lease 192.0.2.100: ends: found "2026/13/21 08:00:00"`},
		{Dhcpd, "lease 192.0.2.100 {\n uid \"\\001;\n}", "f:2: a string without its second quotation mark"},
		{Dhcpd, "server-duid \"x", "f:1: a string that does not end"},
		{Dhcpd, "}", "f:1: found }, expected a declaration"},
		{Kea, "address,hwaddr\n", `f:1: the header has no column "client_id"`},
		{Kea, keaHeader + "192.0.2.100,00:00:5e:00:53:01,,36", "f:2: found 4 columns, expected 11: is the line cut off?"},
		{Kea, keaHeader + "2001:db8::1,00:00:5e:00:53:01,,3600,1795251600,1,0,0,,0,", `f:2: address: found "2001:db8::1"`},
		{Kea, keaHeader + "192.0.2.100,xx,,3600,1795251600,1,0,0,,0,", `f:2: hwaddr: found "xx"`},
		{Kea, keaHeader + "192.0.2.100,,,3600,99999999999999,1,0,0,,0,", "f:2: expire: found the time 99999999999999"},
		{Dnsmasq, "1795251600 00:00:5e:00:53:01 192.0.2.100 x", "f:1: found 4 words, expected 5"},
		{Dnsmasq, "1795251600 00:00:5e:00:53:01 192.0.2.100 * zz", `f:1: client identifier: found "zz"`},
		{Range, "SQLite", "not an SQLite database"},
		{Range, sqliteMagic + strings.Repeat("\x00", 500), "pages of 0 octets"},
		{"isc", "", `format "isc": expected one of dhcpd, dnsmasq, kea, range`},
	} {
		t.Run(string(tt.format)+" "+tt.want, func(t *testing.T) {
			if _, err := Read(tt.format, write(t, "f", tt.content)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
	for _, f := range Formats() {
		if _, err := Read(Format(f), "none"); !os.IsNotExist(err) {
			t.Errorf("%s: no file: %v", f, err)
		}
	}
}

func read(t *testing.T, f Format, path string) string {
	t.Helper()
	list, err := Read(f, path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range list {
		b.WriteString(show(l) + "\n")
	}
	return b.String()
}

func expect(t *testing.T, f Format, path, want string) {
	t.Helper()
	if got := read(t, f, path); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("leases:\n%swant:%s", got, want)
	}
}

// FuzzRead holds that no file makes a reader panic or go on for ever, and that what it returns is within the bounds of a lease.
func FuzzRead(f *testing.F) {
	f.Add(uint8(0), []byte(dhcpdFile))
	f.Add(uint8(1), []byte("1795251600 00:00:5e:00:53:01 192.0.2.100 reading7 01:00:00:5e:00:53:01\n"))
	f.Add(uint8(2), []byte(keaHeader+"192.0.2.100,00:00:5e:00:53:01,,3600,1795251600,1,0,0,,0,\n"))
	if db, err := os.ReadFile("testdata/range.sqlite3"); err == nil {
		f.Add(uint8(3), db)
	}
	f.Fuzz(func(t *testing.T, format uint8, data []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := Read(Format(Formats()[int(format)%len(Formats())]), path)
		if err != nil {
			return
		}
		for _, l := range list {
			if !l.Address.Is4() || len(l.HardwareAddress) > maxHardware || len(l.ClientIdentifier) > maxIdentifier || l.State > Declined {
				t.Errorf("%+v", l)
			}
		}
	})
}
