package dicom

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// controller is the one of a server block for the keys.
func controller(body string, keys ...string) *caddy.Controller {
	c := caddy.NewTestController("dns", body)
	c.ServerBlockKeys = keys
	return c
}

func TestParse(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, dir, "zone", seedZone)
	write(t, dir, "site.yaml", siteYAML)
	write(t, dir, "file.db", "")
	write(t, dir, "nosoa", "imaging.example.org. 60 IN NS ns.example.org.\n")
	write(t, dir, "signed", seedZone+"x 60 IN DS 1 8 2 00\n")
	write(t, dir, "outside", seedZone+"www.example.net. 60 IN A 192.0.2.1\n")
	write(t, dir, "alias", seedZone+"www 60 IN CNAME ns\n")
	write(t, dir, "zero", strings.Replace(seedZone, " 10 ", " 0 ", 1))
	write(t, dir, "twosoa", seedZone+"@ 60 IN SOA ns h 1 1 1 1 1\n")
	write(t, dir, "meta", seedZone+"x 60 IN TYPE251 \\# 1 00\n")
	write(t, dir, "broken", seedZone+"www 60 IN A 999.0.2.1\n")
	write(t, dir, "broken.yaml", strings.Replace(siteYAML, "port: 104", "port: 104000", 2)+"nonsense: 1\n")

	if err := os.Mkdir("empty", 0o700); err != nil {
		t.Fatal(err)
	}

	const allow = "\nallow k.example.org. * *\n"
	tests := []struct {
		name, body string
		keys       []string
		err        string // part of the error; "" for none
		check      func(*config) bool
	}{
		{"site alone", "dicom {\nsite site.yaml\n}", nil, "", func(c *config) bool {
			return c.site.site != nil && c.sitePath == "site.yaml" && c.database == "" && len(c.rules) == 0
		}},
		{"file and allow", "dicom {\nfile zone" + allow + "}", nil, "", func(c *config) bool {
			return c.seed == "zone" && slices.Equal(c.zones, []string{domain}) && len(c.rules) == 1
		}},
		{"everything", "dicom imaging.example.org {\nfile zone\ndatabase db\nsite site.yaml\nmax_records 10\nmax_bytes 2000\nmax_update_records 3" + allow + allow + "}",
			nil, "", func(c *config) bool {
				return c.database == filepath.Join(dir, "db") && c.limits.Records == 10 && c.limits.Bytes == 2000 &&
					c.limits.UpdateRecords == 3 && len(c.rules) == 2
			}},
		{"zones of the block", "dicom {\nsite site.yaml\n}", []string{"dns://Imaging.Example.org.:53", "2.0.192.in-addr.arpa.:53"}, "",
			func(c *config) bool { return slices.Equal(c.zones, []string{domain, reverse}) }},
		{"zones of the directive", "dicom Imaging.Example.org 192.0.2.0/24 198.51.100.0/23 2001:db8::/32 imaging.example.org. {\nsite site.yaml\n}", nil, "",
			func(c *config) bool {
				return slices.Equal(c.zones, []string{domain, reverse, "100.51.198.in-addr.arpa.", "101.51.198.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."})
			}},
		{"database that is there needs no seed", "dicom {\nfile none\ndatabase .\nsite site.yaml\n}", nil, "", nil},
		{"zone of one address", "dicom 5.2.0.192.in-addr.arpa {\nsite site.yaml\n}", nil, "", nil},

		{"nothing", "dicom", nil, "file is required", nil},
		{"neither file nor site", "dicom {" + allow + "}", nil, "file is required", nil},
		{"no allow without site", "dicom {\nfile zone\n}", nil, "at least one allow rule is required", nil},
		{"several zones with file", "dicom a.example.org b.example.org {\nfile zone" + allow + "}", nil, "file requires exactly one zone", nil},
		{"several zones of the block with file", "dicom {\nfile zone" + allow + "}", []string{"a.example.org.", "b.example.org."}, "file requires exactly one zone", nil},
		{"twice", "dicom {\nsite site.yaml\n}\ndicom {\nsite site.yaml\n}", nil, "can only be used once", nil},
		{"unknown property", "dicom {\nsites site.yaml\n}", nil, `unknown property "sites"`, nil},
		{"site twice", "dicom {\nsite site.yaml\nsite site.yaml\n}", nil, "Testfile:3 - Error during parsing: site specified more than once", nil},
		{"file twice", "dicom {\nfile zone\nfile zone" + allow + "}", nil, "file specified more than once", nil},
		{"database twice", "dicom {\nsite site.yaml\ndatabase a\ndatabase b\n}", nil, "database specified more than once", nil},
		{"no path", "dicom {\nsite\n}", nil, "Wrong argument count", nil},
		{"two paths", "dicom {\nsite site.yaml b.yaml\n}", nil, "Wrong argument count", nil},
		{"limit without number", "dicom {\nsite site.yaml\nmax_records\n}", nil, "Wrong argument count", nil},
		{"limit of words", "dicom {\nsite site.yaml\nmax_records many\n}", nil, "max_records requires a positive integer", nil},
		{"limit zero", "dicom {\nsite site.yaml\nmax_bytes 0\n}", nil, "max_bytes requires a positive integer", nil},
		{"limit negative", "dicom {\nsite site.yaml\nmax_update_records -1\n}", nil, "max_update_records requires a positive integer", nil},
		{"missing site", "dicom {\nsite none.yaml\n}", nil, "no such file", nil},
		{"broken site", "dicom {\nsite broken.yaml\n}", nil, "broken.yaml:13:31", nil},
		{"all errors of a broken site", "dicom {\nsite broken.yaml\n}", nil, "nonsense", nil},
		{"missing seed", "dicom {\nfile none" + allow + "}", nil, "no such file", nil},
		{"missing seed beside an empty database", "dicom {\nfile none\ndatabase empty" + allow + "}", nil, "no such file", nil},
		{"broken seed beside an empty database", "dicom {\nfile broken\ndatabase empty" + allow + "}", nil, "line: 6", nil},
		{"seed without SOA", "dicom {\nfile nosoa" + allow + "}", nil, "no SOA", nil},
		{"seed with DNSSEC", "dicom {\nfile signed" + allow + "}", nil, "x.imaging.example.org. DS: type cannot be kept true", nil},
		{"seed with foreign names", "dicom {\nfile outside" + allow + "}", nil, "www.example.net. A: outside the zone", nil},
		{"seed with CNAME conflict", "dicom {\nfile alias" + allow + "}", nil, "CNAME record stands alone", nil},
		{"seed with serial 0", "dicom {\nfile zero" + allow + "}", nil, "serial other than 0", nil},
		{"seed with two SOA", "dicom {\nfile twosoa" + allow + "}", nil, "imaging.example.org. SOA: one SOA record", nil},
		{"seed with a type that is no data", "dicom {\nfile meta" + allow + "}", nil, "x.imaging.example.org.", nil},
		{"broken seed", "dicom {\nfile broken" + allow + "}", nil, "line: 6", nil},
		{"seed over the limit", "dicom {\nfile zone\nmax_records 3" + allow + "}", nil, "max_records", nil},
		{"seed over the size", "dicom {\nfile zone\nmax_bytes 100" + allow + "}", nil, "max_bytes", nil},
		{"database of dynupdate", "dicom {\nsite site.yaml\ndatabase file.db\n}", nil, "not a directory", nil},
		{"subnet longer than /24", "dicom 192.0.2.128/25 {\nsite site.yaml\n}", nil, "use 192.0.2.0/24", nil},
		{"such a subnet in the block", "dicom {\nsite site.yaml\n}", []string{"128.2.0.192.in-addr.arpa.:53", "129.2.0.192.in-addr.arpa.:53"}, "zone 2.0.192.in-addr.arpa.", nil},
		{"path that is empty", "dicom {\nsite \"\"\n}", nil, `Testfile:2 - Error during parsing: Wrong argument count, or an empty argument: expected "site PATH"`, nil},
		{"two databases", "dicom {\nsite site.yaml\ndatabase a b\n}", nil, `expected "database PATH"`, nil},
		{"file of none", "dicom {\nfile" + allow + "}", nil, `expected "file PATH"`, nil},
		{"two limits", "dicom {\nsite site.yaml\nmax_bytes 1 2\n}", nil, `expected "max_bytes BYTES"`, nil},
		{"limit that is empty", "dicom {\nsite site.yaml\nmax_update_records \"\"\n}", nil, `expected "max_update_records COUNT"`, nil},
		{"limit with a unit", "dicom {\nsite site.yaml\nmax_bytes 4GiB\n}", nil, `max_bytes requires a positive integer, not "4GiB"`, nil},
		{"limit beyond all", "dicom {\nsite site.yaml\nmax_records 99999999999999999999\n}", nil, `not "99999999999999999999"`, nil},
		{"limit twice", "dicom {\nsite site.yaml\nmax_records 1\nmax_records 1\n}", nil, "Testfile:4 - Error during parsing: max_records specified more than once", nil},
		{"property of none", "dicom {\nsites site.yaml\n}", nil, "Testfile:2 - Error during parsing: unknown property \"sites\", expected one of site, file, database, backup, allow, max_records, max_bytes, max_update_records", nil},
		{"property with capitals", "dicom {\nSite site.yaml\n}", nil, `unknown property "Site"`, nil},
		{"property with a block", "dicom {\nsite site.yaml {\n}\n}", nil, "Testfile:2 - Error during parsing: site takes no block", nil},
		{"property with a block of properties", "dicom {\nsite site.yaml {\nmax_records 5\n}\n}", nil, "site takes no block", nil},
		{"twice, where", "dicom {\nsite site.yaml\n}\ndicom {\nsite site.yaml\n}", nil, "Testfile:4 - Error during parsing: this plugin can only be used once", nil},
		{"something behind the end", "dicom {\nsite site.yaml\n} example.org", nil, `Testfile:3 - Error during parsing: unexpected "example.org" behind the end of dicom`, nil},
		{"zones with a comma", "dicom imaging.example.org, 192.0.2.0/24 {\nsite site.yaml\n}", nil, `Testfile:1 - Error during parsing: invalid zone "imaging.example.org,": expected a domain name, or a subnet such as 192.0.2.0/24, with blanks between`, nil},
		{"block without a blank", "dicom {}", nil, `invalid zone "{}"`, nil},
		{"address for a subnet", "dicom 192.0.2.0 {\nsite site.yaml\n}", nil, `invalid zone "192.0.2.0": expected a domain name, or a subnet`, nil},
		{"address of IPv6 for a subnet", "dicom 2001:db8:: {\nsite site.yaml\n}", nil, `invalid zone "2001:db8::"`, nil},
		{"subnet longer than an address", "dicom 192.0.2.0/33 {\nsite site.yaml\n}", nil, `invalid zone "192.0.2.0/33"`, nil},
		{"such an address in the block", "dicom {\nsite site.yaml\n}", []string{"dns://192.0.2.1.:53"}, `invalid zone "dns://192.0.2.1.:53"`, nil},
		{"classless reverse zone", "dicom 0/25.2.0.192.in-addr.arpa {\nsite site.yaml\n}", nil, "", func(c *config) bool { return slices.Equal(c.zones, []string{"0/25.2.0.192.in-addr.arpa."}) }},
		{"where allow is bad", "dicom {\nsite site.yaml\nallow k.example.org. www A\n}", nil, `Testfile:3 - Error during parsing: allow name "www" is outside zone "imaging.example.org.": expected a whole name in it`, nil},
		{"bad zone", "dicom a..b {\nsite site.yaml\n}", nil, `invalid zone "a..b"`, nil},
		{"bad allow", "dicom {\nsite site.yaml\nallow k.example.org. *\n}", nil, "allow requires KEY NAME", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.keys == nil {
				tt.keys = []string{"imaging.example.org."}
			}
			cfg, err := parse(controller(tt.body, tt.keys...))
			switch {
			case tt.err == "" && err != nil:
				t.Fatal(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Fatalf("error %v, want %q", err, tt.err)
			case tt.check != nil && !tt.check(cfg):
				t.Errorf("parsed %+v", cfg)
			}
		})
	}
	if _, err := os.Stat("db"); !os.IsNotExist(err) {
		t.Errorf("parsing has made the database: %v", err)
	}
}

// TestOneZoneInTwoBlocks: two handlers of one zone of one database would undo
// each other's site data.
func TestOneZoneInTwoBlocks(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, dir, "site.yaml", siteYAML)
	if err := os.Mkdir("zones", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("zones", "link"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, first, second, err string }{
		{"same database", "dicom " + domain + " {\nsite site.yaml\ndatabase new\n}", "dicom " + domain + " {\nsite site.yaml\ndatabase new\n}",
			"zone imaging.example.org. of database"},
		{"by another path", "dicom " + domain + " {\nsite site.yaml\ndatabase zones\n}", "dicom " + domain + " {\nsite site.yaml\ndatabase link\n}",
			"stands in another server block"},
		{"one of several zones", "dicom 192.0.2.0/24 " + domain + " {\nsite site.yaml\ndatabase zones\n}",
			"dicom example.net " + domain + " {\nsite site.yaml\ndatabase zones\n}", "zone imaging.example.org. of database"},
		{"another zone", "dicom " + domain + " {\nsite site.yaml\ndatabase zones\n}", "dicom 192.0.2.0/24 {\nsite site.yaml\ndatabase zones\n}", ""},
		{"another database", "dicom " + domain + " {\nsite site.yaml\ndatabase zones\n}", "dicom " + domain + " {\nsite site.yaml\ndatabase new\n}", ""},
		{"memory", "dicom " + domain + " {\nsite site.yaml\n}", "dicom " + domain + " {\nsite site.yaml\n}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, err := caddy.Start(input(fmt.Sprintf("%s:0 {\nbind 127.0.0.1\n%s\n}\n.:0 {\nbind 127.0.0.2\n%s\n}\n", domain, tt.first, tt.second)))
			if err == nil {
				(&server{Instance: i}).stop()
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestParsePathsBelowRoot(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "zone", seedZone)
	write(t, dir, "site.yaml", siteYAML)
	c := controller("dicom {\nfile zone\nsite site.yaml\ndatabase db\n}", domain)
	dnsserver.GetConfig(c).Root = dir
	cfg, err := parse(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{cfg.seed, cfg.sitePath, cfg.database} {
		if filepath.Dir(path) != dir {
			t.Errorf("%s is not below %s", path, dir)
		}
	}
}

func TestRules(t *testing.T) {
	zones := []string{domain, reverse}
	const k = "k.imaging.example.org."
	tests := []struct {
		rule   string
		err    string
		yes    []string // name, type
		no     []string
		origin string
	}{
		{rule: k + " * *", yes: []string{"a.imaging.example.org. A", "imaging.example.org. SOA", "a.imaging.example.org. ANY"}},
		{rule: k + " @ TXT", yes: []string{"imaging.example.org. TXT"}, no: []string{"imaging.example.org. A", "a.imaging.example.org. TXT"}},
		{rule: k + " @ NS", origin: reverse, yes: []string{"2.0.192.in-addr.arpa. NS"}, no: []string{"imaging.example.org. NS"}},
		{rule: k + " A.imaging.example.org a aaaa", yes: []string{"a.imaging.example.org. A", "A.Imaging.example.org. AAAA"},
			no: []string{"a.imaging.example.org. ANY", "b.a.imaging.example.org. A", "imaging.example.org. A"}},
		{rule: k + " *.imaging.example.org. A", yes: []string{"*.imaging.example.org. A"}, no: []string{"a.imaging.example.org. A"}},
		{rule: k + " .sub.imaging.example.org. ANY", yes: []string{"a.sub.imaging.example.org. ANY", "b.a.sub.imaging.example.org. ANY"},
			no: []string{"sub.imaging.example.org. ANY", "xsub.imaging.example.org. ANY", "a.sub.imaging.example.org. A"}},
		{rule: k + " .imaging.example.org. A", yes: []string{"a.imaging.example.org. A"}, no: []string{"imaging.example.org. A"}},
		{rule: k + " self *", yes: []string{k + " A"}, no: []string{"a." + k + " A", "imaging.example.org. A"}},
		{rule: k + " * TYPE65280 TYPE1", yes: []string{"a.imaging.example.org. TYPE65280", "a.imaging.example.org. A"}, no: []string{"a.imaging.example.org. TYPE65281"}},

		{rule: k + " *", err: "allow requires KEY NAME"},
		{rule: "* * *", err: "invalid TSIG key"},
		{rule: "@ * *", err: "invalid TSIG key"},
		{rule: "a..b * *", err: "invalid TSIG key"},
		{rule: k + " www.example.net. A", err: "is outside zone"},
		{rule: k + " .example.net. A", err: "is outside zone"},
		{rule: k + " . A", err: "is outside zone"},
		{rule: "k.example.net. self A", err: "is outside zone"},
		{rule: k + " a..imaging.example.org. A", err: "is outside zone"},
		{rule: k + " * * A", err: "wildcard RR type must be the only type"},
		{rule: k + " * A *", err: "wildcard RR type must be the only type"},
		{rule: k + " * FOO", err: `invalid RR type "FOO"`},
		{rule: k + " * A, AAAA", err: `invalid RR type "A," in allow rule: expected a type of data that is not DNSSEC's, such as A or TYPE65280, ANY or *`},
		{rule: "* * A", err: `invalid TSIG key "*": expected the name of a key`},
		{rule: k + " * * A AAAA", err: `and here are 3: ["*" "A" "AAAA"]`},
		{rule: k + " .sub A", err: `allow name ".sub" is outside zone`},
		{rule: k + " * TYPE0", err: "invalid RR type"},
		{rule: k + " * TYPE65535", err: "invalid RR type"},
		{rule: k + " * TYPE65536", err: "invalid RR type"},
		{rule: k + " * AXFR", err: "invalid RR type"},
		{rule: k + " * TYPE250", err: "invalid RR type"}, // TSIG
		{rule: k + " * DNSKEY", err: "invalid RR type"},
		{rule: k + " * ZONEMD", err: "invalid RR type"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			r, err := parseRule(strings.Fields(tt.rule), zones)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.origin == "" {
				tt.origin = domain
			}
			allows := func(key, what string) bool {
				name, typ, _ := strings.Cut(what, " ")
				n, ok := parseType(typ)
				if !ok && typ != "SOA" {
					t.Fatalf("type %s", typ)
				}
				return rules{r}.allow(key, tt.origin, name, n)
			}
			for _, what := range tt.yes {
				if !allows(k, what) {
					t.Errorf("does not allow %s", what)
				}
				if allows("other.imaging.example.org.", what) {
					t.Errorf("allows another key %s", what)
				}
			}
			for _, what := range tt.no {
				if allows(k, what) {
					t.Errorf("allows %s", what)
				}
			}
		})
	}
	if (rules{}).allow(k, domain, domain, 1) || (rules{}).knows(k) {
		t.Error("allows without rules")
	}
}

func TestNameServerAddress(t *testing.T) {
	parsed, _, err := site.Parse("site.yaml", []byte(strings.Replace(siteYAML, "name-servers: [{host: ns1, address: 192.0.2.2}]\n", "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name               string
		listen, interfaces []string
		want               string // "" for none
	}{
		{"bound", []string{"198.51.100.7"}, []string{"192.0.2.9"}, "198.51.100.7"},
		{"bound to loopback", []string{"127.0.0.1"}, []string{"127.0.0.1", "203.0.113.1", "192.0.2.9"}, "192.0.2.9"},
		{"bound to everything", []string{""}, []string{"192.0.2.9", "192.0.2.10"}, "192.0.2.9"},
		{"elsewhere", []string{"0.0.0.0", "::"}, []string{"203.0.113.1"}, ""},
		{"v6", []string{"::1", "2001:db8::7"}, nil, "2001:db8::7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := withServerAddress(parsed, tt.listen, func() []netip.Addr {
				var all []netip.Addr
				for _, a := range tt.interfaces {
					all = append(all, netip.MustParseAddr(a))
				}
				return all
			})
			var want netip.Addr
			if tt.want != "" {
				want = netip.MustParseAddr(tt.want)
			}
			if ns := got.NameServers[0]; ns.Host != "ns."+domain || ns.Address != want {
				t.Errorf("name server %v", ns)
			}
			if parsed.NameServers[0].Address.IsValid() {
				t.Error("the site itself has changed")
			}
		})
	}
}
