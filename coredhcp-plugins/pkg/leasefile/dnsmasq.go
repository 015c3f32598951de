package leasefile

import (
	"strconv"
	"strings"
	"time"
)

// clockless is the first time that is one: dnsmasq for machines without a clock (HAVE_BROKEN_RTC) writes the seconds that a lease was given for,
// which are fewer than a year's, and a clock showed so few last in 1970.
const clockless = 366 * 24 * 60 * 60

// parseDnsmasq reads dnsmasq.leases: a line has the time when the lease ends (0: never), hardware address, IP address, host name and client
// identifier, where * stands for nothing. What follows a line with "duid" is DHCPv6. Where the time is how long the lease was given for, nobody knows
// since when, and it ends that long from now at the latest, as dnsmasq itself takes it when it starts.
func parseDnsmasq(file string, data []byte, l leases) error {
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if f[0] == "duid" {
			break
		}
		if len(f) != 5 {
			return wrong(file, number, "found %d words, expected 5: time, hardware address, IP address, name and client identifier; is the line cut off?", len(f))
		}
		lease := Lease{Line: number}
		var err error
		if lease.Address, err = address(f[2]); err != nil {
			return wrong(file, number, "%v", err)
		}
		end, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			return wrong(file, number, "found %.60q, expected the time when the lease ends in seconds since 1970", f[0])
		}
		switch {
		case end > 0 && end < clockless:
			lease.Duration = time.Duration(end) * time.Second
			lease.Expires = time.Now().Add(lease.Duration)
		case end != 0:
			if lease.Expires, err = moment(end); err != nil {
				return wrong(file, number, "%v", err)
			}
		}
		if err := dnsmasqHardware(&lease, f[1]); err != nil {
			return wrong(file, number, "hardware address: %v", err)
		}
		if f[3] != "*" {
			lease.Hostname = f[3]
		}
		if f[4] != "*" {
			if lease.ClientIdentifier, err = octets(f[4], maxIdentifier); err != nil {
				return wrong(file, number, "client identifier: %v", err)
			}
		}
		l[lease.Address] = lease
	}
	return nil
}

// dnsmasqHardware reads a hardware address, before which the hardware type stands in hexadecimal with a hyphen where it is not Ethernet.
func dnsmasqHardware(lease *Lease, v string) error {
	if v == "*" {
		return nil
	}
	lease.HardwareType = 1
	if kind, rest, found := strings.Cut(v, "-"); found {
		n, err := strconv.ParseUint(kind, 16, 8)
		if err != nil {
			return err
		}
		lease.HardwareType, v = uint8(n), rest
		if v == "" {
			return nil
		}
	}
	var err error
	lease.HardwareAddress, err = octets(v, maxHardware)
	return err
}
