//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// siteZones are the zones of the site file that writeSite writes.
const (
	siteDomain = "imaging.example.org."
	siteZones  = "imaging.example.org 10.0.0.0/8"
)

// hostName is the name of a host of the zone file.
func hostName(i int) string { return fmt.Sprintf("h%d.%s", i, zoneName) }

// address is one of 10.64.0.0/10, another for each i below 4,194,304.
func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(64 | i>>16), byte(i >> 8), byte(i)})
}

// dhcid is a DHCID (RFC 4701) of a client that does not exist: identifier type
// 1, digest type 1 (SHA-256).
func dhcid(name string) string {
	digest := sha256.Sum256([]byte(name))
	return base64.StdEncoding.EncodeToString(append([]byte{0, 1, 1}, digest[:]...))
}

// writeZone makes a zone file of hosts with an address, and with a DHCID each
// where withDHCID is set.
func (b *bench) writeZone(hosts int, withDHCID bool) (path string, err error) {
	path = filepath.Join(b.lab.Dir, fmt.Sprintf("hosts-%d-%t.zone", hosts, withDHCID))
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "$ORIGIN %s\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\nns IN A 127.0.0.1\n@ IN NS ns\n", zoneName)
	for i := range hosts {
		fmt.Fprintf(w, "h%d IN A %s\n", i, address(i))
		if withDHCID {
			fmt.Fprintf(w, "h%d IN DHCID %s\n", i, dhcid(hostName(i)))
		}
	}
	return path, w.Flush()
}

// siteDevice is the name of a device of the site file.
func siteDevice(i int) string { return fmt.Sprintf("ct%d.%s", i, siteDomain) }

// siteFile is a site file of devices with a fixed address and an application each,
// of which the last `moved` have another address than in the file with moved 0.
func siteFile(devices, moved int) []byte {
	var w bytes.Buffer
	w.WriteString(`domain: imaging.example.org
name-servers: [{host: ns1, address: 10.0.0.2}]
networks:
  - {name: radiology, subnet: 10.0.0.0/8}
devices:
`)
	for i := range devices {
		fmt.Fprintf(&w, "  - {name: ct%d, type: CT, dhcp: false, address: %s, applications: [{ae-title: CT%d, port: 104}]}\n",
			i, siteAddress(devices, moved, i), i)
	}
	return w.Bytes()
}

// siteAddress is the address of a device in that file.
func siteAddress(devices, moved, i int) netip.Addr {
	if i >= devices-moved {
		return address(i + devices)
	}
	return address(i)
}
