package site

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// errorTest is a wrong file, with every error that it must give: line, column and text.
type errorTest struct {
	name string
	file string
	want []string
}

// errorTests concern the file as a whole, and options.
var errorTests = []errorTest{
	{
		name: "empty file",
		file: ``,
		want: []string{
			`1:1: the file is empty`,
		},
	},
	{
		name: "not a mapping",
		file: `- a
`,
		want: []string{
			`1:1: found a list, expected a site file: a mapping with the keys domain, name-servers, contact, ttl, options, classes, networks, devices, services`,
		},
	},
	{
		name: "only a comment",
		file: `# nothing
`,
		want: []string{
			`1:1: the file is empty`,
		},
	},
	{
		name: "keys by other words, and one level too high",
		file: `domain: example.org
dns: 192.0.2.2
devices:
- name: ct1
  IP_address: 192.0.2.11
  mac: 00:00:5e:00:53:01
  ae-title: CT1
  applications: [{aet: CT1, ae-title: CT1, port: 104}]
networks:
- {name: a, subnet: 192.0.2.0/24, gateway: 192.0.2.1}
`,
		want: []string{
			`2:1: unknown key "dns"; did you mean "options"?`,
			`5:3: unknown key "IP_address"; did you mean "address"?`,
			`6:3: unknown key "mac"; did you mean "hardware-address"?`,
			`7:3: unknown key "ae-title"; did you mean "applications"?`,
			`8:19: unknown key "aet"; did you mean "ae-title"?`,
			`10:35: unknown key "gateway"; did you mean "options"?`,
		},
	},
	{
		name: "an address for a name",
		file: `domain: example.org
name-servers: [{host: 192.0.2.2}]
devices: [{name: ct1, hostname: 192.0.2.11}]
services: [{name: ldap, protocol: tcp, host: 192.0.2.5, port: 389}]
`,
		want: []string{
			`2:23: host: found "192.0.2.2", expected a host name of letters, digits and hyphens such as ct1`,
			`3:33: hostname: found "192.0.2.11", expected a host name of letters, digits and hyphens such as ct1`,
			`4:46: host: found "192.0.2.5", expected a host name of letters, digits and hyphens such as ct1 or ntp.example.org`,
		},
	},
	{
		name: "no-break space",
		file: "domain: example.org\ndevices:\n- name: ct1\n  type:\u00a0CT\n  dhcp: true\n",
		want: []string{
			`4:1: not valid YAML: could not find expected ':' (expected KEY: VALUE); the line has a no-break space, which is none for YAML: type it anew`,
		},
	},
	{
		name: "Latin-1",
		file: "domain: example.org\ncontact: r\xf6ntgen@example.org\n",
		want: []string{
			`2:1: not valid YAML: invalid trailing UTF-8 octet (save the file as UTF-8)`,
		},
	},
	{
		name: "second document",
		file: `domain: example.org
---
domain: example.org
`,
		want: []string{
			`2:1: found a second document, expected only one in a file`,
		},
	},
	{
		name: "anchor and alias",
		file: `domain: &d example.org
contact: *d
`,
		want: []string{
			`1:9: found the anchor "&d", expected a value without it: anchors and aliases are not allowed`,
			`2:10: found the alias "*d", expected the value itself: anchors and aliases are not allowed`,
		},
	},
	{
		name: "tag",
		file: `domain: !!str example.org
`,
		want: []string{
			`1:9: found the tag "!!str", expected a value without it: tags are not allowed`,
		},
	},
	{
		name: "tab",
		file: `domain: example.org
networks:
	- name: a
`,
		want: []string{
			"3:1: not valid YAML: found character that cannot start any token (is there a tab, or one of @ and ` at the start of a value? YAML indents with spaces)",
		},
	},
	{
		name: "colon in a value",
		file: `domain: example.org
contact: a: b
`,
		want: []string{
			`2:1: not valid YAML: mapping values are not allowed in this context (is a line indented too far, or does a value contain a colon followed by a space? Then put the value in quotes)`,
		},
	},
	{
		name: "wrong indentation",
		file: `domain: example.org
devices:
  - name: a
   type: CT
`,
		want: []string{
			`4:1: not valid YAML: did not find expected '-' indicator (is the line indented like its neighbours?); the part that does not fit together begins in line 3`,
		},
	},
	{
		name: "missing domain",
		file: `networks: []
`,
		want: []string{
			`1:1: a site file needs the key "domain", which is missing`,
		},
	},
	{
		name: "domain too long",
		file: "domain: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n",
		want: []string{
			`1:9: domain: found "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.bbbbbbbbb"... with 203 characters, expected at most 160, so that the names of services fit before it`,
		},
	},
	{
		name: "contact with a wrong local part",
		file: "domain: example.org\ncontact: \"it help@example.org\"\n",
		want: []string{
			`2:10: contact: found "it help@example.org", expected a mail address such as hostmaster@example.org`,
		},
	},
	{
		name: "contact with a wrong domain",
		file: "domain: example.org\ncontact: it@-\n",
		want: []string{
			`2:10: contact: found "it@-", expected a mail address such as hostmaster@example.org`,
		},
	},
	{
		name: "value too long",
		file: "domain: " + strings.Repeat("x", 5000) + "\n",
		want: []string{
			`1:9: domain: found 5000 characters, expected at most 4096`,
		},
	},
	{
		name: "mistake in a second document",
		file: "domain: example.org\n---\n- a\nb: c\n",
		want: []string{
			`4:1: not valid YAML: did not find expected '-' indicator (is the line indented like its neighbours?); the part that does not fit together begins in line 3`,
		},
	},
	{
		name: "mistake in a large file",
		file: "domain: example.org\n" + strings.Repeat("#\n", 1<<19) + "contact: \"abc\n",
		want: []string{
			`524290:1: not valid YAML: found unexpected end of stream (is a quotation mark not closed?)`,
		},
	},
	{
		name: "directive only",
		file: "---\n",
		want: []string{
			`1:1: the file is empty`,
		},
	},
	{
		name: "wrong domain",
		file: `domain: imaging_net
`,
		want: []string{
			`1:9: domain: found "imaging_net", expected a domain name such as imaging.example.org`,
		},
	},
	{
		name: "domain twice, and an unknown key",
		file: `domain: example.org
domain: example.com
devise: []
nothing-like-it: 1
`,
		want: []string{
			`2:1: the key "domain" stands twice; the first is in line 1`,
			`3:1: unknown key "devise"; did you mean "devices"?`,
			`4:1: unknown key "nothing-like-it"; a site file has the keys domain, name-servers, contact, ttl, options, classes, networks, devices, services`,
		},
	},
	{
		name: "ttl",
		file: `domain: example.org
ttl: 5 minutes
`,
		want: []string{
			`2:6: ttl: found "5 minutes", expected a duration such as 90s, 30m, 12h, 1d12h or 2w`,
		},
	},
	{
		name: "ttl too long",
		file: `domain: example.org
ttl: 4000w
`,
		want: []string{
			`2:6: ttl: found "4000w", expected at most 2147483647 seconds`,
		},
	},
	{
		name: "ttl infinite",
		file: `domain: example.org
ttl: infinite
`,
		want: []string{
			`2:6: ttl: found "infinite", expected a duration such as 90s, 30m, 12h, 1d12h or 2w`,
		},
	},
	{
		name: "contact",
		file: `domain: example.org
contact: it department
`,
		want: []string{
			`2:10: contact: found "it department", expected a mail address such as hostmaster@example.org`,
		},
	},
	{
		name: "name servers",
		file: `domain: example.org
name-servers:
  - {address: 192.0.2.2}
  - {host: ns1, address: 192.0.2}
  - {host: ns2, port: 53}
  - ns3
  - {host: ns4, address: 192.0.2.4}
  - {host: ns4.example.org, address: 192.0.2.4}
`,
		want: []string{
			`3:5: a name server needs the key "host", which is missing`,
			`4:26: address: found "192.0.2", expected an IPv4 address such as 192.0.2.11`,
			`5:17: unknown key "port"; a name server has the keys host, address`,
			`6:5: found "ns3", expected a name server: a mapping with the keys host, address`,
			`8:5: the name server ns4.example.org stands twice; it is number 4 of the list already`,
		},
	},
	{
		name: "no name servers",
		file: `domain: example.org
name-servers: []
`,
		want: []string{
			`2:15: name-servers: found an empty list, expected at least one name server (or leave the key out)`,
		},
	},
	{
		name: "name server's address is not its device's",
		file: `domain: example.org
name-servers: [{host: ns1, address: 192.0.2.2}]
networks: [{name: a, subnet: 192.0.2.0/24}]
devices: [{name: ns1, address: 192.0.2.3}]
`,
		want: []string{
			`2:15: the name server ns1.example.org has the address 192.0.2.2, but device "ns1" in line 4 has that host name and the address 192.0.2.3`,
		},
	},
	{
		name: "lists that are none",
		file: `domain: example.org
networks: {name: a}
devices:
services: x
`,
		want: []string{
			`2:11: networks: found a mapping, expected a list of networks`,
			`3:9: devices: found nothing, expected a list of devices`,
			`4:11: services: found "x", expected a list of services`,
		},
	},
	{
		name: "options",
		file: `domain: example.org
options:
  router: 192.0.2.1
  routers: [192.0.2.1]
  domain-name-server: [192.0.2.2, 192.0.2]
  domain-nameservers: 192.0.2.2
  interface-mtu: 20
  subnet-mask: [255.255.255.0, 255.255.255.0]
  dhcp-lease-time: 3600
  option-54: 192.0.2.1
  ntp-servers: [192.0.2.3, 192.0.2.300, ntp_1, 192.0.2.3]
  host-name: ct1
  log-servers: {a: 1}
  lpr-servers: [[192.0.2.1]]
  cookie-servers: []
  swap-server:
  default-ip-ttl: 0
  xyzzy: 1
`,
		want: []string{
			`4:3: option routers (3) stands twice; the first is in line 3, as "router"`,
			`5:35: domain-name-server: found "192.0.2", expected an IPv4 address such as 192.0.2.1`,
			`6:3: unknown option "domain-nameservers"; did you mean "domain-name-servers"?`,
			`7:18: interface-mtu: found "20", expected a whole number from 68 to 65535`,
			`8:32: subnet-mask: found a list of 2 values, expected a single value: a subnet mask such as 255.255.255.0`,
			`9:3: option dhcp-lease-time (51) belongs to the protocol itself and cannot be set here; use the key "lease-time" of the network`,
			`10:3: option dhcp-server-identifier (54) belongs to the protocol itself and cannot be set here; it is the argument of the plugin server_id in config.yml`,
			`11:28: ntp-servers: found "192.0.2.300", expected an IPv4 address such as 192.0.2.3, or a host name such as ntp.example.org`,
			`11:41: ntp-servers: found "ntp_1", expected an IPv4 address such as 192.0.2.3, or a host name such as ntp.example.org`,
			`11:48: ntp-servers: "192.0.2.3" stands twice`,
			`12:3: option host-name (12) would give every client the same name; it is only for a device, whose key "hostname" sets it too`,
			`13:16: log-servers: found a mapping, expected a value or a list of values`,
			`14:17: lpr-servers: found a list, expected a value`,
			`15:19: cookie-servers: found an empty list, expected a value, or a list of such`,
			`16:15: swap-server: found nothing, expected a value`,
			`17:19: default-ip-ttl: found "0", expected a whole number from 1 to 255`,
			`18:3: unknown option "xyzzy"; expected an option name such as routers, or a number such as option-224`,
		},
	},
	{
		name: "options by number",
		file: `domain: example.org
options:
  252: http://192.0.2.1/wpad.dat
  option-224: {type: text, value: a}
  option-225: {type: words, value: a}
  226: {type: uint8, value: 256}
  option-227: {type: uint8}
  option-26: 1500
  option-0: 1
  255: 1
  option-300: 1
  routers: {type: text, value: a}
`,
		want: []string{
			`3:8: 252: found "http://192.0.2.1/wpad.dat", expected {type: TYPE, value: VALUE}: option 252 has no name and no type of its own`,
			`5:22: type: found "words", expected one of ipv4-address, ipv4-addresses, ipv4-mask, ipv4-prefixes, uint8, uint8-list, uint16, uint16-list, uint32, int32, bool, empty, text, domain-name, dns-name, domain-names, search-list, routes, classless-routes, slp-agents, slp-scope, sip-servers, bytes, sub-options, vendor-options`,
			`6:29: 226: found "256", expected a whole number from 0 to 255`,
			`7:15: an option given by number needs the key "value", which is missing`,
			`9:3: option 0 belongs to the protocol itself and cannot be set here`,
			`10:3: option 255 belongs to the protocol itself and cannot be set here`,
			`11:3: found option number 300, expected 1 to 254`,
			`12:12: routers: found a mapping, expected a value or a list of values`,
		},
	},
	{
		name: "time zone",
		file: `domain: example.org
options: {time-zone: Europe/Munich}
`,
		want: []string{
			`2:22: time-zone: found "Europe/Munich", which the time zone database does not have; expected the name of a time zone such as Europe/Berlin`,
		},
	},
	{
		name: "time zone and offset",
		file: `domain: example.org
options: {time-offset: 3600, tcode: Europe/Berlin, time-zone: Europe/Berlin}
`,
		want: []string{
			`2:11: found both "time-offset" and "time-zone" (line 2), which gives that option; expected one of them`,
			`2:30: found both "tcode" and "time-zone" (line 2), which gives that option; expected one of them`,
		},
	},
	{
		name: "time zone twice",
		file: `domain: example.org
options: {time-zone: Europe/Berlin, time-zone: UTC}
`,
		want: []string{
			`2:37: the key "time-zone" stands twice; the first is in line 2`,
		},
	},
	{
		name: "the server's own time zone",
		file: `domain: example.org
options: {time-zone: Local}
`,
		want: []string{
			`2:22: time-zone: found "Local", which the time zone database does not have; expected the name of a time zone such as Europe/Berlin`,
		},
	},
	{
		name: "options that are none",
		file: `domain: example.org
options: [routers]
`,
		want: []string{
			`2:10: options: found a list, expected a mapping such as {routers: [192.0.2.1]}`,
		},
	},
}

func TestErrors(t *testing.T) {
	for _, test := range slices.Concat(errorTests, networkErrorTests, deviceErrorTests) {
		t.Run(test.name, func(t *testing.T) {
			s, _, err := Parse("site.yaml", []byte(test.file))
			if s != nil {
				t.Errorf("got a site beside the errors")
			}
			var found Errors
			if !errors.As(err, &found) {
				t.Fatalf("got %v, want Errors", err)
			}
			var got []string
			for line := range strings.SplitSeq(err.Error(), "\n") {
				got = append(got, strings.TrimPrefix(line, "site.yaml:"))
			}
			for _, line := range got {
				if !slices.Contains(test.want, line) {
					t.Errorf("unexpected:\n%s", line)
				}
			}
			for _, line := range test.want {
				if !slices.Contains(got, line) {
					t.Errorf("missing:\n%s", line)
				}
			}
			if !slices.IsSortedFunc(found, func(a, b Problem) int {
				if a.Line != b.Line {
					return a.Line - b.Line
				}
				return a.Column - b.Column
			}) {
				t.Errorf("not in the order of the file:\n%v", err)
			}
		})
	}
}
