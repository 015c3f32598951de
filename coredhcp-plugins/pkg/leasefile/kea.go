package leasefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const keaInfinite = 1<<32 - 1 // valid_lifetime of a lease that never ends

// readKea reads Kea's lease file and what its lease file cleanup has left beside it, in the order in which Kea itself does: a finished
// clean-up stands for the files that it was made of.
func readKea(path string) ([]Lease, error) {
	files := []string{path + ".2", path + ".1", path}
	if _, err := os.Stat(path + ".completed"); err == nil {
		files = []string{path + ".completed", path}
	}
	l := leases{}
	found := false
	for _, file := range files {
		data, err := readFile(file)
		if errors.Is(err, fs.ErrNotExist) && file != path {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) && found {
			continue // it was being moved when the server ended
		}
		if err != nil {
			return nil, err
		}
		found = true
		if err := parseKea(file, data, l); err != nil {
			return nil, err
		}
	}
	return l.sorted(), nil
}

// parseKea reads one file. Each line is the whole of what was known of a lease at one moment; one with the lifetime 0 says that it was removed.
func parseKea(file string, data []byte, l leases) error {
	columns := map[string]int{}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		cells := strings.Split(line, ",")
		if len(columns) == 0 {
			for i, name := range cells {
				columns[name] = i
			}
			for _, name := range []string{"address", "hwaddr", "client_id", "valid_lifetime", "expire", "hostname"} {
				if _, ok := columns[name]; !ok {
					return wrong(file, number, "the header has no column %q: is this the lease file of kea-dhcp4 (memfile)?", name)
				}
			}
			continue
		}
		lease, removed, err := keaLease(cells, columns)
		if err != nil {
			return wrong(file, number, "%v", err)
		}
		lease.Line = number
		if removed {
			delete(l, lease.Address)
			continue
		}
		l[lease.Address] = lease
	}
	return nil
}

func keaLease(cells []string, columns map[string]int) (lease Lease, removed bool, err error) {
	cell := func(name string) string {
		if i, ok := columns[name]; ok && i < len(cells) {
			return unescapeKea(cells[i])
		}
		return ""
	}
	if len(cells) <= slices.Max([]int{columns["address"], columns["hwaddr"], columns["client_id"], columns["valid_lifetime"], columns["expire"], columns["hostname"]}) {
		return lease, false, fmt.Errorf("found %d columns, expected %d: is the line cut off?", len(cells), len(columns))
	}
	if lease.Address, err = address(cell("address")); err != nil {
		return lease, false, fmt.Errorf("address: %w", err)
	}
	valid, err := strconv.ParseUint(cell("valid_lifetime"), 10, 32)
	if err != nil {
		return lease, false, fmt.Errorf("valid_lifetime: found %.60q, expected seconds", cell("valid_lifetime"))
	}
	if valid == 0 {
		return lease, true, nil
	}
	if v := cell("hwaddr"); v != "" {
		lease.HardwareType = 1
		if lease.HardwareAddress, err = octets(v, maxHardware); err != nil {
			return lease, false, fmt.Errorf("hwaddr: %w", err)
		}
	}
	if v := cell("client_id"); v != "" {
		if lease.ClientIdentifier, err = octets(v, maxIdentifier); err != nil {
			return lease, false, fmt.Errorf("client_id: %w", err)
		}
	}
	lease.Hostname = cell("hostname")
	lease.Duration = time.Duration(valid) * time.Second
	expire, err := strconv.ParseInt(cell("expire"), 10, 64)
	if err != nil {
		return lease, false, fmt.Errorf("expire: found %.60q, expected seconds since 1970", cell("expire"))
	}
	end, err := moment(expire)
	if err != nil {
		return lease, false, fmt.Errorf("expire: %w", err)
	}
	lease.Start = end.Add(-lease.Duration)
	if valid != keaInfinite {
		lease.Expires = end
	}
	switch state := cell("state"); state {
	case "", "0":
		lease.State = Active
	case "1":
		lease.State = Declined
	case "2":
		lease.State = Expired
	case "3": // since Kea 2.5: kept for registration or released with affinity
		lease.State = Released
	default:
		return lease, false, fmt.Errorf("state: found %.60q, expected 0 to 3", state)
	}
	return lease, false, nil
}

// unescapeKea undoes what Kea does to commas and other characters: &#x2c.
func unescapeKea(v string) string {
	for from := 0; ; {
		i := strings.Index(v[from:], "&#x")
		if i < 0 || from+i+5 > len(v) {
			return v
		}
		i += from
		c, err := strconv.ParseUint(v[i+3:i+5], 16, 8)
		if err != nil {
			from = i + 3
			continue
		}
		v = v[:i] + string([]byte{byte(c)}) + v[i+5:]
		from = i + 1
	}
}
