package inventory

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// deviceCell adds one cell of a device's column.
func (s *Sheet) deviceCell(d *device, column, cell string, at place) {
	var values []string
	switch column {
	case "hardware-address":
		values = s.hardware(cell, at)
	case "address":
		values = s.addresses(d, cell, at)
	case "type":
		values = types(cell)
	case "dhcp":
		values = s.yesNo(cell, at, []string{"dhcp", "dynamic", "dyn", "dynamisch", "reserved", "reservation", "pool", "auto"},
			[]string{"static", "fixed", "manual", "fest", "statisch", "statique"})
	case "installed":
		values = s.yesNo(cell, at, nil, nil)
	case "publish":
		values = []string{strings.ToLower(cell)}
	case "client-identifier", "circuit-id", "remote-id":
		values = []string{cell}
	default:
		values = []string{strings.Join(strings.Fields(cell), " ")}
		if !strings.ContainsAny(cell, "\n\r\t") {
			values[0] = cell
		}
	}
	if len(values) == 0 {
		return
	}
	if f, ok := d.fields[column]; ok { // MAC and MAC 2
		f.values = append(f.values, values...)
		d.fields[column] = f
		return
	}
	d.fields[column] = field{values, at}
}

// applicationCell adds one cell of an application's column.
func (s *Sheet) applicationCell(a *application, column, cell string, at place) {
	key, values := column, []string{cell}
	switch column {
	case "ae-title":
		if strings.ContainsAny(cell, "\n,;/") && !strings.ContainsAny(cell, `\`) {
			s.warn(at, "%s is taken for one AE title; several have a row each", quote(cell))
		}
	case "application-name":
		key = "name"
	case "port":
		if values = s.port(cell, at); values == nil {
			return
		}
	case "protocol":
		values[0] = protocol(cell)
	case "tls":
		key = "protocol"
		if _, ok := a.fields[key]; ok {
			return
		}
		values = s.yesNo(cell, at, []string{"tls"}, []string{"plain", "none"})
		if len(values) == 0 || values[0] == "false" {
			return
		}
		values[0] = site.DICOMTLS.String()
	case "txt":
		values = slices.DeleteFunc(strings.FieldsFunc(cell, func(r rune) bool { return r == '\n' || r == '\r' }), func(v string) bool { return v == "" })
	}
	a.fields[key] = field{values, at}
}

// absent says whether a cell says that there is nothing, where that cannot be a value.
func absent(cell string) bool {
	switch strings.ToLower(strings.Trim(cell, " .-_/")) {
	case "", "na", "n/a", "none", "keine", "kein", "no", "unknown", "tbd", "?":
		return true
	}
	return false
}

var scientific = regexp.MustCompile(`^\d([.,]\d+)?[eE]\+?\d+$`)

// hardware reads hardware addresses in the notations of operating systems, switches and labels.
func (s *Sheet) hardware(cell string, at place) []string {
	if absent(cell) {
		return nil
	}
	if scientific.MatchString(cell) {
		s.fail(at, "%s is a number that a spreadsheet program has made of a hardware address: format the column as text and enter it again", quote(cell))
		return nil
	}
	if h, ok := ethernet(cell); ok {
		return []string{h}
	}
	var list []string
	for _, part := range strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune("\n\r\t ,;+&|", r) }) {
		h, ok := ethernet(part)
		if !ok {
			s.fail(at, "found %s, expected a hardware address such as 00:00:5e:00:53:01, 00-00-5E-00-53-01, 0000.5e00.5301 or 00005E005301", quote(part))
			return nil
		}
		list = append(list, h)
	}
	return list
}

// ethernet returns an address as the site file has it. TYPE/OCTETS is left as it is.
func ethernet(v string) (string, bool) {
	if strings.Contains(v, "/") && !strings.ContainsAny(v, " ,;\n") {
		return strings.ToLower(v), true
	}
	parts := strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(":-. ", r) })
	digits := 12
	if len(parts) > 0 {
		digits = 12 / len(parts)
	}
	var octets strings.Builder
	for _, p := range parts {
		if len(parts) == 6 && len(p) == 1 {
			p = "0" + p // as Solaris and BSD write it
		}
		if len(p) != digits {
			return "", false
		}
		octets.WriteString(p)
	}
	b, err := hex.DecodeString(octets.String())
	if err != nil || len(b) != 6 {
		return "", false
	}
	return site.HardwareAddress{Type: 1, Addr: string(b)}.String(), true
}

// addresses reads IPv4 addresses; a word that says that there is none says that the device has one of a pool.
func (s *Sheet) addresses(d *device, cell string, at place) []string {
	var list []string
	for _, part := range strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune("\n\r\t ,;+&|", r) }) {
		switch strings.ToLower(strings.Trim(part, ".")) {
		case "dhcp", "dynamic", "dyn", "dynamisch", "pool", "auto":
			if _, ok := d.fields["dhcp"]; !ok && list == nil {
				d.fields["dhcp"] = field{[]string{"true"}, at}
			}
			continue
		}
		if absent(part) {
			continue
		}
		a, ok := address(part)
		if !ok {
			s.fail(at, "found %s, expected an IPv4 address such as 192.0.2.11", quote(part))
			return nil
		}
		list = append(list, a)
	}
	return list
}

// address returns an IPv4 address as the site file has it: without the length of a prefix, and without the zeros that fill octets up to
// three digits in tables.
func address(v string) (string, bool) {
	v, length, found := strings.Cut(v, "/")
	if n, err := strconv.Atoi(length); found && (err != nil || n < 0 || n > 32) {
		return "", false
	}
	parts := strings.Split(v, ".")
	for i, p := range parts {
		if len(p) == 3 && len(v) == len("192.000.002.011") {
			parts[i] = strings.TrimLeft(p[:2], "0") + p[2:]
		}
	}
	a, err := netip.ParseAddr(strings.Join(parts, "."))
	return a.String(), err == nil && a.Is4()
}

// types reads Primary Device Types. DICOM separates values by a backslash, which none of them can have; people write PET/CT, so other
// separators count where all parts are types.
func types(cell string) []string {
	if strings.ContainsAny(cell, "\\\n") {
		return fields(cell, "\\\n\r")
	}
	if parts := fields(cell, "/+,;& "); len(parts) > 1 && !slices.ContainsFunc(parts, func(p string) bool { return !site.PrimaryDeviceType(typeOf(p)) }) {
		for i, p := range parts {
			parts[i] = typeOf(p)
		}
		return parts
	}
	return []string{typeOf(cell)}
}

// typeOf returns the code of a type that is not written as DICOM does.
func typeOf(v string) string {
	upper := strings.ToUpper(v)
	switch upper {
	case "PET":
		return "PT"
	case "MRI", "MRT":
		return "MR"
	case "PACS":
		return "ARCHIVE"
	case "WORKSTATION":
		return "WSD"
	case "ULTRASOUND":
		return "US"
	}
	if site.PrimaryDeviceType(upper) {
		return upper
	}
	return v
}

func fields(v, separators string) []string {
	var list []string
	for _, p := range strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		if p = strings.TrimSpace(p); p != "" {
			list = append(list, p)
		}
	}
	return list
}

// port reads a port number: "104", "104/tcp", or the "104.0" of a spreadsheet program.
func (s *Sheet) port(cell string, at place) []string {
	if absent(cell) {
		return nil
	}
	v := strings.ToLower(cell)
	v = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(v, "tcp"), "/tcp"))
	v = strings.TrimSuffix(strings.TrimSuffix(v, ".0"), ",0")
	if n, err := strconv.Atoi(v); err != nil || n < 1 || n > 65535 {
		s.fail(at, "found %s, expected a port: a whole number from 1 to 65535", quote(cell))
		return nil
	}
	return []string{strings.TrimLeft(v, "0+")}
}

// protocol returns a protocol as the site file has it.
func protocol(cell string) string {
	f := fold(cell)
	if f == "tls" {
		return site.DICOMTLS.String()
	}
	for p := site.DICOM; p <= site.DICOMWebTLS; p++ {
		if fold(p.String()) == f {
			return p.String()
		}
	}
	return cell
}

func (s *Sheet) yesNo(cell string, at place, yes, no []string) []string {
	v := strings.ToLower(cell)
	switch {
	case slices.Contains(yes, v) || slices.Contains([]string{"yes", "y", "true", "x", "1", "on", "ja", "j", "oui", "si", "sí", "wahr", "✓"}, v):
		return []string{"true"}
	case slices.Contains(no, v) || slices.Contains([]string{"no", "n", "false", "0", "off", "nein", "non", "falsch", "-"}, v):
		return []string{"false"}
	}
	s.fail(at, "found %s, expected yes or no", quote(cell))
	return nil
}
