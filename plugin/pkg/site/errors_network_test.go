package site

// networkErrorTests concern classes, networks and pools.
var networkErrorTests = []errorTest{
	{
		name: "classes",
		file: `domain: example.org
classes:
  - {name: a}
  - {name: b, user-class: x, vendor-class: y}
  - {name: b, htype: 256}
  - {name: c, circuit-id: port-1}
  - {name: d, remote-id: 00:01, options: {routers: x}}
  - {vendor-class: PXEClient}
`,
		want: []string{
			`3:5: class "a": found none, expected exactly one of user-class, vendor-class, circuit-id, remote-id, htype`,
			`4:5: class "b": found user-class and vendor-class, expected exactly one of user-class, vendor-class, circuit-id, remote-id, htype`,
			`5:12: name: class "b" stands in line 4 already`,
			`5:22: htype: found "256", expected a whole number from 1 to 255`,
			`6:27: circuit-id: found "port-1", expected octets such as 01:00:00:5e:00:53:01, or text in quotes such as "port-17"`,
			`7:52: routers: found "x", expected an IPv4 address such as 192.0.2.1`,
			`8:5: a class needs the key "name", which is missing`,
		},
	},
	{
		name: "network",
		file: `domain: example.org
networks:
  - {name: a}
  - {subnet: 192.0.2.0/24}
  - {name: b, subnet: 192.0.2.0}
  - {name: c, subnet: 192.0.2.7/24}
  - {name: d, subnet: "2001:db8::/64"}
  - {name: e, subnet: 224.0.0.0/24}
  - {name: f, subnet: 10.0.0.0/7}
  - {name: g, subnet: 198.51.100.0/24, probe: ping, publish: never, authoritative: maybe, interface: "eth 0", shared-networks: x}
`,
		want: []string{
			`3:5: a network needs the key "subnet", which is missing`,
			`4:5: a network needs the key "name", which is missing`,
			`5:23: subnet: found "192.0.2.0", expected an IPv4 network such as 192.0.2.0/24`,
			`6:23: subnet: found "192.0.2.7/24", expected the network's own address: 192.0.2.0/24`,
			`7:23: subnet: found "2001:db8::/64", expected an IPv4 network such as 192.0.2.0/24`,
			`8:23: subnet: found "224.0.0.0/24", expected a network of addresses that hosts can have`,
			`9:23: subnet: found "10.0.0.0/7", expected a network with a prefix length of at least 8`,
			`10:47: probe: found "ping", expected one of none, arp, icmp`,
			`10:62: publish: found "never", expected one of leased, always`,
			`10:84: authoritative: found "maybe", expected true or false`,
			`10:102: interface: found "eth 0", expected the name of a network interface such as eth0`,
			`10:111: unknown key "shared-networks"; did you mean "shared-network"?`,
		},
	},
	{
		name: "network twice",
		file: `domain: example.org
networks:
  - {name: a, subnet: 192.0.2.0/24}
  - {name: a, subnet: 198.51.100.0/24}
`,
		want: []string{
			`4:12: name: network "a" stands in line 3 already`,
		},
	},
	{
		name: "subnets overlap",
		file: `domain: example.org
networks:
  - {name: a, subnet: 192.0.2.128/25}
  - {name: b, subnet: 198.51.100.0/24}
  - {name: c, subnet: 192.0.2.0/24}
  - {name: d, subnet: 192.0.2.16/28}
`,
		want: []string{
			`5:5: network "c": the subnet 192.0.2.0/24 overlaps 192.0.2.128/25 of network "a" in line 3`,
			`6:5: network "d": the subnet 192.0.2.16/28 overlaps 192.0.2.0/24 of network "c" in line 5`,
		},
	},
	{
		name: "one wire, two interfaces",
		file: `domain: example.org
networks:
  - {name: a, subnet: 192.0.2.0/24, shared-network: wire, interface: eth0}
  - {name: b, subnet: 198.51.100.0/24, shared-network: wire, interface: eth1}
`,
		want: []string{
			`4:5: network "b" is on the interface eth1, but network "a" in line 3, of the same shared network, is on eth0`,
		},
	},
	{
		name: "lease times",
		file: `domain: example.org
networks:
  - {name: a, subnet: 192.0.2.0/28, lease-time: 1h, min-lease-time: 2h}
  - {name: b, subnet: 192.0.2.16/28, lease-time: 3h, max-lease-time: 2h}
  - {name: c, subnet: 192.0.2.32/28, min-lease-time: 3h, max-lease-time: 2h}
  - {name: d, subnet: 192.0.2.48/28, lease-time: infinite, max-lease-time: 2h}
  - {name: e, subnet: 192.0.2.64/28, lease-time: 1.5h, decline-time: infinite, min-lease-time: 0, max-lease-time: 1h30}
`,
		want: []string{
			`3:49: lease-time: found "1h", expected at least min-lease-time, which is 2h`,
			`4:50: lease-time: found "3h", expected at most max-lease-time, which is 2h`,
			`5:54: min-lease-time: found "3h", expected at most max-lease-time, which is 2h`,
			`6:50: lease-time: found "infinite", expected at most max-lease-time, which is 2h`,
			`7:50: lease-time: found "1.5h", expected a duration such as 90s, 30m, 12h, 1d12h or 2w, or infinite`,
			`7:70: decline-time: found "infinite", expected a duration such as 90s, 30m, 12h, 1d12h or 2w`,
			`7:96: min-lease-time: found "0", expected a duration such as 90s, 30m, 12h, 1d12h or 2w, or infinite`,
			`7:115: max-lease-time: found "1h30", expected a duration such as 90s, 30m, 12h, 1d12h or 2w, or infinite`,
		},
	},
	{
		name: "ddns",
		file: `domain: example.org
networks:
  - {name: a, subnet: 192.0.2.0/24, ddns: {mode: lax, forward: maybe, reversed: all}}
  - {name: b, subnet: 198.51.100.0/24, ddns: true}
`,
		want: []string{
			`3:50: mode: found "lax", expected one of strict, keep-static, last-wins, off`,
			`3:64: forward: found "maybe", expected one of all, fixed, none`,
			`3:71: unknown key "reversed"; did you mean "reverse"?`,
			`4:46: found "true", expected ddns: a mapping with the keys mode, forward, reverse`,
		},
	},
	{
		name: "pools",
		file: `domain: example.org
classes: [{name: pumps, htype: 6}]
networks:
  - name: a
    subnet: 192.0.2.0/24
    pools:
      - 192.0.2.10
      - 192.0.2.20-192.0.2.19
      - 192.0.2.30-192.0.3.1
      - 192.0.2.0-192.0.2.9
      - 192.0.2.250 - 192.0.2.255
      - 192.0.2.40-49
      - {range: 192.0.2.50-192.0.2.59, class: pump, clients: all}
      - {class: pumps}
      - {range: 192.0.2.60-192.0.2.69, class: stretchers}
`,
		want: []string{
			`8:9: pool: found "192.0.2.20-192.0.2.19", expected the smaller address first: 192.0.2.19-192.0.2.20`,
			`9:9: pool: found "192.0.2.30-192.0.3.1", expected addresses inside the subnet 192.0.2.0/24`,
			`10:9: pool: found "192.0.2.0-192.0.2.9", expected a range without the network address 192.0.2.0`,
			`11:9: pool: found "192.0.2.250 - 192.0.2.255", expected a range without the broadcast address 192.0.2.255`,
			`12:9: pool: found "192.0.2.40-49", expected a range of addresses such as 192.0.2.100-192.0.2.199`,
			`13:47: class: found "pump", which is not among the classes; did you mean "pumps"?`,
			`13:62: clients: found "all", expected one of any, known, unknown`,
			`14:9: a pool needs the key "range", which is missing`,
			`15:47: class: found "stretchers", expected the name of one of the classes of this file`,
		},
	},
	{
		name: "pools overlap",
		file: `domain: example.org
networks:
  - name: a
    subnet: 192.0.2.0/24
    pools: [192.0.2.100-192.0.2.199, 192.0.2.50-192.0.2.60, 192.0.2.150, 192.0.2.60-192.0.2.61]
`,
		want: []string{
			`5:61: pool: 192.0.2.150 overlaps 192.0.2.100-192.0.2.199 in line 5`,
			`5:74: pool: 192.0.2.60-192.0.2.61 overlaps 192.0.2.50-192.0.2.60 in line 5`,
		},
	},
}
