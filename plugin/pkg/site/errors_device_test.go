package site

// deviceErrorTests concern devices, applications and services.
var deviceErrorTests = []errorTest{
	//nolint:misspell // a misspelling is what is tested
	{
		name: "device keys",
		file: `domain: example.org
devices:
  - {type: CT}
  - {name: ct1, adress: 192.0.2.1}
  - {name: ct2, dhcp: yes}
  - {name: ct3, installed: 1, description: ["a"], location: " cellar", model: "a\nb", manufacturer: }
  - ct4
`,
		want: []string{
			`3:5: a device needs the key "name", which is missing`,
			`4:17: unknown key "adress"; did you mean "address"?`,
			`5:23: dhcp: found "yes", expected true or false`,
			`6:28: installed: found "1", expected true or false`,
			`6:44: description: found a list, expected text`,
			`6:61: location: found " cellar", expected text without spaces at its ends`,
			`6:79: model: found "a\nb", expected text without control characters and line breaks`,
			`6:101: manufacturer: found nothing, expected text`,
			`7:5: found "ct4", expected a device: a mapping with the keys name, type, hardware-address, client-identifier, circuit-id, remote-id, address, hostname, dhcp, installed, publish, cluster, description, manufacturer, model, serial-number, station-name, location, options, applications`,
		},
	},
	{
		name: "device twice",
		file: `domain: example.org
devices:
  - {name: ct1}
  - {name: ct1}
`,
		want: []string{
			`4:12: name: device "ct1" stands in line 3 already`,
		},
	},
	{
		name: "host names",
		file: `domain: imaging.example.org
devices:
  - {name: CT_1}
  - {name: ct1}
  - {name: CT1}
  - {name: mr1, hostname: ct1}
  - {name: mr2, hostname: mr_2}
  - {name: mr3, hostname: mr3.cardiology.example.org}
  - {name: mr4, hostname: -mr4}
  - {name: mr5, hostname: mr5.imaging.example.org}
  - {name: mr6, hostname: mr5}
`,
		want: []string{
			`3:12: name: "CT_1" is not a host name (letters, digits and hyphens); set the key "hostname" beside it`,
			`5:12: name: the host name ct1.imaging.example.org is that of device "ct1" in line 4 already`,
			`6:27: hostname: the host name ct1.imaging.example.org is that of device "ct1" in line 4 already`,
			`7:27: hostname: found "mr_2", expected a host name of letters, digits and hyphens such as ct1`,
			`8:27: hostname: found "mr3.cardiology.example.org", which would mean mr3.cardiology.example.org.imaging.example.org; expected a name below imaging.example.org, or one that ends in a dot because it is complete`,
			`9:27: hostname: found "-mr4", expected a host name of letters, digits and hyphens such as ct1`,
			`11:27: hostname: the host name mr5.imaging.example.org is that of device "mr5" in line 10 already`,
		},
	},
	{
		name: "host name too long with the domain",
		file: `domain: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
devices:
  - {name: ct1, hostname: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}
`,
		want: []string{
			`3:27: hostname: found "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"..., which is longer than 253 characters with the domain bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb`,
		},
	},
	{
		name: "device name too long for a service",
		file: `domain: example.org
devices:
  - name: ääääääääääääääääääääääääääääääää
    hostname: ct1
    applications: [{port: 443, protocol: dicomweb}]
`,
		want: []string{
			`5:20: the device's name "ääääääääääääääääääääääääääääää"... would be the name of this service and is longer than 63 octets; give it the key "name"`,
		},
	},
	{
		name: "device types",
		file: `domain: example.org
devices:
  - {name: ct1, type: []}
  - {name: ct2, type: [CT, CT]}
  - {name: ct3, type: {a: 1}}
  - {name: ct4, type: ABCDEFGHIJKLMNOPQ}
`,
		want: []string{
			`3:23: type: found an empty list, expected a Primary Device Type such as CT, or a list of such`,
			`4:28: type: "CT" stands twice`,
			`5:23: type: found a mapping, expected a Primary Device Type such as CT`,
			`6:23: type: found "ABCDEFGHIJKLMNOPQ", expected a Primary Device Type such as CT`,
		},
	},
	{
		name: "hardware addresses",
		file: `domain: example.org
devices:
  - {name: a, hardware-address: 00:00:5e:00:53:01}
  - {name: b, hardware-address: 00-00-5E-00-53-01}
  - {name: c, hardware-address: [0000.5e00.5302, 0000.5e00.5302]}
  - {name: d, hardware-address: 00:00:5e:00:53}
  - {name: e, hardware-address: ff:ff:ff:ff:ff:ff}
  - {name: f, hardware-address: 00:00:00:00:00:00}
  - {name: g, hardware-address: 300/00:01}
  - {name: h, hardware-address: 00:00:5e:00:53:0g}
`,
		want: []string{
			`4:33: hardware-address: 00:00:5e:00:53:01 is that of device "a" in line 3 already`,
			`5:50: hardware-address: 00:00:5e:00:53:02 is that of device "c" in line 5 already`,
			`6:33: hardware-address: found "00:00:5e:00:53", expected an Ethernet address such as 00:00:5e:00:53:01`,
			`7:33: hardware-address: found "ff:ff:ff:ff:ff:ff", expected the Ethernet address of one network card, not a group's and not zero`,
			`8:33: hardware-address: found "00:00:00:00:00:00", expected the Ethernet address of one network card, not a group's and not zero`,
			`9:33: hardware-address: found "300/00:01", expected an Ethernet address such as 00:00:5e:00:53:01, or another hardware type's number and address such as 6/00:00:5e:00:53:01`,
			`10:33: hardware-address: found "00:00:5e:00:53:0g", expected an Ethernet address such as 00:00:5e:00:53:01`,
		},
	},
	{
		name: "client identifiers",
		file: `domain: example.org
devices:
  - {name: a, client-identifier: 01:00:00:5e:00:53:01}
  - {name: b, client-identifier: "01:00:00:5E:00:53:01"}
  - {name: c, client-identifier: pump}
  - {name: d, client-identifier: "x"}
  - {name: e, circuit-id: "port-1", remote-id: "switch"}
  - {name: f, circuit-id: "port-1", remote-id: "switch"}
  - {name: g, circuit-id: "port-2"}
  - {name: h, circuit-id: "port-2"}
  - {name: i, remote-id: 0g}
`,
		want: []string{
			`4:34: client-identifier: "01:00:00:5E:00:53:01" stands at device "a" in line 3 already`,
			`5:34: client-identifier: found "pump", expected octets such as 01:00:00:5e:00:53:01, or text in quotes such as "port-17"`,
			`6:34: client-identifier: found "x" with the length 1, expected 2 to 255 octets`,
			`8:27: circuit-id: "port-1" with the same remote-id stands at device "e" in line 7 already`,
			`10:27: circuit-id: "port-2" stands at device "g" in line 9 already`,
			`11:26: remote-id: found "0g", expected octets such as 01:00:00:5e:00:53:01, or text in quotes such as "port-17"`,
		},
	},
	{
		name: "addresses",
		file: `domain: example.org
networks:
  - {name: a, subnet: 192.0.2.0/24}
  - {name: b, subnet: 198.51.100.0/24}
devices:
  - {name: a, address: 192.0.2.11}
  - {name: b, address: [198.51.100.11, 192.0.2.11]}
  - {name: c, address: 203.0.113.1}
  - {name: d, address: 192.0.2.0}
  - {name: e, address: 192.0.2.255}
  - {name: f, address: [192.0.2.12, 192.0.2.13]}
  - {name: g, address: "2001:db8::1"}
  - {name: h, address: 192.0.2.14/24}
  - {name: i, address: 127.0.0.1}
  - {name: j, address: 192.0.2.15, dhcp: false, publish: leased}
  - {name: k, dhcp: false}
  - {name: l, publish: always}
  - {name: m, publish: sometimes, address: 192.0.2.16}
`,
		want: []string{
			`7:40: address: 192.0.2.11 is that of device "a" in line 6 already`,
			`8:24: address: 203.0.113.1 is in none of the networks of this file; expected one inside 192.0.2.0/24, 198.51.100.0/24`,
			`9:24: address: 192.0.2.0 is the network address of 192.0.2.0/24, expected the address of a host`,
			`10:24: address: 192.0.2.255 is the broadcast address of 192.0.2.0/24, expected the address of a host`,
			`11:37: address: 192.0.2.13 and 192.0.2.12 are both in network "a", expected at most one address for each network`,
			`12:24: address: found "2001:db8::1", expected an IPv4 address such as 192.0.2.11`,
			`13:24: address: found "192.0.2.14/24", expected an IPv4 address such as 192.0.2.11`,
			`14:24: address: found "127.0.0.1", expected the IPv4 address of a host`,
			`15:58: publish: found "leased" at a device that never has a lease (dhcp: false), expected always`,
			`16:21: device "k" does not speak DHCP (dhcp: false) and so needs the key "address", which is missing`,
			`17:24: publish: found "always" at a device without a fixed address, expected leased`,
			`18:24: publish: found "sometimes", expected one of leased, always`,
		},
	},
	{
		name: "AE titles",
		file: `domain: example.org
devices:
  - name: a
    applications:
      - {ae-title: CT1, port: 104}
      - {ae-title: CT1, port: 2762, protocol: dicom-tls}
      - {ae-title: CT1, port: 11112}
      - {ae-title: CT1, port: 104}
      - {ae-title: THIS-IS-TOO-LONG-, port: 104}
      - {ae-title: 'A\B', port: 104}
      - {ae-title: "   ", port: 104}
      - {ae-title: MÜNCHEN, port: 104}
      - {ae-title: "", port: 104}
  - {name: b, applications: [{ae-title: CT1, port: 104}]}
  - {name: c, cluster: pacs, applications: [{ae-title: PACS, port: 104}]}
  - {name: d, cluster: pacs, applications: [{ae-title: PACS, port: 104}]}
  - {name: e, cluster: other, applications: [{ae-title: PACS, port: 104}]}
  - {name: f, applications: [{ae-title: ct1, port: 105}]}
`,
		want: []string{
			`7:20: ae-title: "CT1" stands at device "a" in line 5 already; only devices with the same "cluster" may share it`,
			`8:20: ae-title: "CT1" stands with the same protocol and port in line 5 already`,
			`9:20: ae-title: found "THIS-IS-TOO-LONG-", expected an AE title: 1 to 16 ASCII characters without backslash, not only spaces`,
			`10:20: ae-title: found "A\\B", expected an AE title: 1 to 16 ASCII characters without backslash, not only spaces`,
			`11:20: ae-title: found "   ", expected an AE title: 1 to 16 ASCII characters without backslash, not only spaces`,
			`12:20: ae-title: found "MÜNCHEN", expected an AE title: 1 to 16 ASCII characters without backslash, not only spaces`,
			`13:20: ae-title: found "", expected an AE title: 1 to 16 ASCII characters without backslash, not only spaces`,
			`14:41: ae-title: "CT1" stands at device "a" in line 5 already; only devices with the same "cluster" may share it`,
			`17:57: ae-title: "PACS" stands at device "c" in line 15 already; only devices with the same "cluster" may share it`,
			`18:41: "ct1" differs only in upper and lower case from "CT1" of device "a" in line 5, which DNS does not tell apart; give one of them another "name"`,
		},
	},
	{
		name: "applications",
		file: `domain: example.org
devices:
  - name: a
    applications:
      - {ae-title: A1}
      - {port: 104}
      - {ae-title: A2, port: 65536}
      - {ae-title: A3, port: 0}
      - {ae-title: A4, port: "https"}
      - {ae-title: A5, port: 104, protocol: http}
      - {ae-title: A6, port: 104, path: /dicom}
      - {ae-title: A7, port: 104, priority: -1, weight: 65536}
      - {protocol: dicomweb}
      - {port: 443, protocol: dicomweb-tls, path: "/a b"}
      - {port: 444, protocol: dicomweb-tls}
      - {ae-title: A8, port: 104, titel: x}
`,
		want: []string{
			`5:9: an application needs the key "port", which is missing`,
			`6:9: an application needs the key "ae-title", which is missing`,
			`7:30: port: found "65536", expected a whole number from 1 to 65535`,
			`8:30: port: found "0", expected a whole number from 1 to 65535`,
			`9:30: port: found "https", expected a whole number from 1 to 65535`,
			`10:45: protocol: found "http", expected one of dicom, dicom-tls, dicom-iscl, dicomweb, dicomweb-tls`,
			`11:41: path: only for the protocols dicomweb and dicomweb-tls, not for dicom`,
			`12:45: priority: found "-1", expected a whole number from 0 to 65535`,
			`12:57: weight: found "65536", expected a whole number from 0 to 65535`,
			`13:9: an application needs the key "port", which is missing`,
			`14:51: path: found "/a b", expected a path such as /dicom-web, of ASCII characters without spaces`,
			`15:9: the dicomweb-tls service "a" of device "a" in line 14 has that name already; give one of them another "name"`,
			`16:35: unknown key "titel"; an application has the keys ae-title, port, name, protocol, path, priority, weight, txt`,
		},
	},
	{
		name: "instance names",
		file: `domain: example.org
devices:
  - name: a
    applications:
      - {ae-title: A1, port: 104, name: "0123456789012345678901234567890123456789012345678901234567890123"}
      - {ae-title: A2, port: 104, name: "ääääääääääääääääääääääääääääääää"}
      - {ae-title: A3, port: 104, name: "a\tb"}
      - {ae-title: A4, port: 104, name: " a"}
      - {ae-title: A5, port: 104, name: Room 5}
      - {ae-title: A6, port: 104, name: Room 5}
      - {ae-title: A7, port: 104, name: ROOM 5}
`,
		want: []string{
			`5:41: name: found "012345678901234567890123456789012345678901234567890123456789"... with 64 characters, expected at most 63`,
			`6:41: name: found "ääääääääääääääääääääääääääääää"... with 64 octets, expected at most 63`,
			`7:41: name: found "a\tb", expected text without control characters and line breaks`,
			`8:41: name: found " a", expected text without spaces at its ends`,
			`10:41: the dicom service "Room 5" of device "a" in line 9 has that name already; give one of them another "name"`,
			`11:41: "ROOM 5" differs only in upper and lower case from "Room 5" of device "a" in line 9, which DNS does not tell apart; give one of them another "name"`,
		},
	},
	{
		name: "txt",
		file: `domain: example.org
devices:
  - name: a
    applications:
      - ae-title: A1
        port: 104
        txt: ["=x", "a=1", "A=2", "AET=X", "primarydevicetype=CT", "ü=1", [b], flag]
      - {ae-title: A2, port: 104, txt: x}
`,
		want: []string{
			`7:15: txt: found "=x", expected a string such as key=value, whose key is ASCII and not empty`,
			`7:28: txt: the key "a" stands twice`,
			`7:35: txt: found "AET=X", expected the key "ae-title" of the application for that`,
			`7:44: txt: found "primarydevicetype=CT", expected the key "type" of the device for that`,
			`7:68: txt: found "ü=1", expected a string such as key=value, whose key is ASCII and not empty`,
			`7:75: txt: found a list, expected a string such as key=value`,
			`8:40: txt: found "x", expected a list of strings such as key=value`,
		},
	},
	{
		name: "services",
		file: `domain: example.org
services:
  - {name: ldap, protocol: tcp, host: ldap.example.org, port: 389}
  - {name: LDAP, protocol: tcp, host: ldap, port: 389}
  - {name: _ldap, protocol: tcp, host: ldap, port: 389}
  - {name: ldap, protocol: sctp, host: ldap, port: 389}
  - {name: a-very-long-name, protocol: tcp, host: ldap, port: 389}
  - {name: "99", protocol: tcp, host: ldap, port: 389}
  - {name: ldap, protocol: tcp, host: 192.0.2._, port: 70000}
  - {}
`,
		want: []string{
			`4:5: service _ldap._tcp at ldap.example.org port 389 stands in line 3 already`,
			`5:12: name: found "_ldap", expected a service name: 1 to 15 letters, digits and single hyphens, without the underscore`,
			`6:28: protocol: found "sctp", expected one of tcp, udp`,
			`7:12: name: found "a-very-long-name", expected a service name: 1 to 15 letters, digits and single hyphens`,
			`8:12: name: found "99", expected a service name: 1 to 15 letters, digits and single hyphens`,
			`9:39: host: found "192.0.2._", expected a host name of letters, digits and hyphens such as ct1 or ntp.example.org`,
			`9:56: port: found "70000", expected a whole number from 1 to 65535`,
			`10:5: a service needs the key "name", which is missing`,
			`10:5: a service needs the key "protocol", which is missing`,
			`10:5: a service needs the key "host", which is missing`,
			`10:5: a service needs the key "port", which is missing`,
		},
	},
	{
		name: "flow list not closed",
		file: `domain: example.org
networks:
  - {name: a, subnet: 192.0.2.0/24
devices: []
`,
		want: []string{
			`3:1: not valid YAML: did not find expected ',' or '}' (is a comma missing, or a brace not closed?)`,
		},
	},
	{
		name: "quotes not closed",
		file: `domain: example.org
contact: "abc
devices: []
`,
		want: []string{
			`2:1: not valid YAML: found unexpected end of stream (is a quotation mark not closed?)`,
		},
	},
	{
		name: "a mistake far down",
		file: `domain: example.org
networks: []
devices:
  - name: a
  - name: b
  - name: c
     type: CT
  - name: d
`,
		want: []string{
			`7:1: not valid YAML: mapping values are not allowed in this context (is a line indented too far, or does a value contain a colon followed by a space? Then put the value in quotes)`,
		},
	},
	{
		name: "unknown anchor",
		file: `domain: *d
`,
		want: []string{
			`1:1: not valid YAML: unknown anchor 'd' referenced`,
		},
	},
	{
		name: "not UTF-8",
		file: "domain: \x01\n",
		want: []string{
			`1:1: not valid YAML: control characters are not allowed`,
		},
	},
}
