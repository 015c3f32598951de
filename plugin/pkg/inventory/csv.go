package inventory

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// WriteCSV writes the site's devices as ReadCSV reads them, with a row for each application. DHCP options of a device have no column and
// are left out. Spreadsheet programs run what looks like a formula, also in a file from somebody else; an apostrophe keeps it a text.
func WriteCSV(w io.Writer, s *site.Site) error {
	out := sheetWriter{csv.NewWriter(w)}
	if err := out.Write(columns); err != nil {
		return err
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		own := deviceCells(s, d)
		if len(d.Applications) == 0 {
			if err := out.Write(append(own, make([]string, len(columns)-len(own))...)); err != nil {
				return err
			}
		}
		for j := range d.Applications {
			if err := out.Write(slices.Concat(own, applicationCells(&d.Applications[j]))); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

// sheetWriter writes rows for spreadsheet programs.
type sheetWriter struct{ *csv.Writer }

func (w sheetWriter) Write(cells []string) error {
	guarded := make([]string, len(cells))
	for i, c := range cells {
		if formula(c) {
			c = "'" + c
		}
		guarded[i] = c
	}
	return w.Writer.Write(guarded)
}

// formula says whether a spreadsheet program would take a cell for a formula, behind apostrophes that keep it from that.
func formula(cell string) bool {
	cell = strings.TrimLeft(cell, "'")
	return cell != "" && strings.IndexByte("=+-@", cell[0]) >= 0
}

// unguarded is a cell without the apostrophe that WriteCSV, or who wrote it, has put before what is no formula.
func unguarded(cell string) string {
	if rest, ok := strings.CutPrefix(cell, "'"); ok && formula(rest) {
		return rest
	}
	return cell
}

// deviceCells are the cells of the device's columns.
func deviceCells(s *site.Site, d *site.Device) []string {
	host := relative(d.Hostname, s.Domain)
	if strings.EqualFold(host, d.Name) {
		host = ""
	}
	hardware := make([]string, len(d.HardwareAddresses))
	for i, h := range d.HardwareAddresses {
		hardware[i] = h.String()
	}
	addresses := make([]string, len(d.Addresses))
	for i, a := range d.Addresses {
		addresses[i] = a.String()
	}
	publish := ""
	if d.Publish != derivedPublish(s, d) {
		publish = d.Publish.String()
	}
	return []string{
		d.Name, host, typesCell(d.Types), strings.Join(hardware, " "), identifier(d.ClientIdentifier), identifier(d.CircuitID),
		identifier(d.RemoteID), strings.Join(addresses, " "), yesOrNo(d.DHCP), yesOrNo(d.Installed), publish, d.Cluster, d.Description,
		d.Manufacturer, d.Model, d.SerialNumber, d.StationName, d.Location,
	}
}

func applicationCells(a *site.Application) []string {
	return []string{
		a.AETitle, strconv.Itoa(int(a.Port)), a.Protocol.String(), a.Name, a.Path, number(a.Priority), number(a.Weight), strings.Join(a.TXT, "\n"),
	}
}

// relative is a host name as the site file has it: without the site's domain, or with a dot at its end.
func relative(host, domain string) string {
	v, ok := strings.CutSuffix(host, "."+domain)
	if !ok || lastLabel(v) == lastLabel(strings.TrimSuffix(domain, ".")) {
		return host
	}
	return v
}

func lastLabel(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// derivedPublish is what the device has where the file does not say when it is published.
func derivedPublish(s *site.Site, d *site.Device) site.Publish {
	switch {
	case !d.DHCP:
		return site.PublishAlways
	case len(d.Addresses) > 0:
		if n := s.NetworkOf(d.Addresses[0]); n != nil {
			return n.Publish
		}
	}
	return site.PublishLeased
}

// typesCell writes types as people do where that is read as the same types, and else as DICOM does.
func typesCell(list []string) string {
	cell := strings.Join(list, "/")
	if len(list) > 0 && !slices.Equal(types(cell), list) {
		cell = strings.Join(list, `\`) + `\`
	}
	return cell
}

func identifier(octets []byte) string {
	pairs := make([]string, len(octets))
	for i, c := range octets {
		pairs[i] = fmt.Sprintf("%02x", c)
	}
	return strings.Join(pairs, ":")
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number(n uint16) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}
