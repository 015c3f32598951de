package inventory

import (
	"encoding/json"
	"io"
	"net/netip"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// jsonDevice is a device with the names of the site file's keys; what it does not have is left out.
type jsonDevice struct {
	Name              string            `json:"name"`
	Hostname          string            `json:"hostname"` // fully qualified, without the dot at its end
	Types             []string          `json:"type,omitempty"`
	HardwareAddresses []string          `json:"hardware-address,omitempty"`
	ClientIdentifier  string            `json:"client-identifier,omitempty"`
	CircuitID         string            `json:"circuit-id,omitempty"`
	RemoteID          string            `json:"remote-id,omitempty"`
	Addresses         []netip.Addr      `json:"address,omitempty"`
	DHCP              bool              `json:"dhcp"`
	Installed         bool              `json:"installed"`
	Publish           string            `json:"publish"`
	Cluster           string            `json:"cluster,omitempty"`
	Description       string            `json:"description,omitempty"`
	Manufacturer      string            `json:"manufacturer,omitempty"`
	Model             string            `json:"model,omitempty"`
	SerialNumber      string            `json:"serial-number,omitempty"`
	StationName       string            `json:"station-name,omitempty"`
	Location          string            `json:"location,omitempty"`
	Applications      []jsonApplication `json:"applications"`
}

type jsonApplication struct {
	AETitle  string   `json:"ae-title,omitempty"`
	Port     uint16   `json:"port"`
	Protocol string   `json:"protocol"`
	Name     string   `json:"name,omitempty"`
	Path     string   `json:"path,omitempty"`
	Priority uint16   `json:"priority"`
	Weight   uint16   `json:"weight"`
	TXT      []string `json:"txt,omitempty"`
}

// WriteJSON writes each of the site's devices as one line of JSON. DHCP options are left out.
func WriteJSON(w io.Writer, s *site.Site) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for i := range s.Devices {
		d := &s.Devices[i]
		j := jsonDevice{
			Name: d.Name, Hostname: strings.TrimSuffix(d.Hostname, "."), Types: d.Types, ClientIdentifier: identifier(d.ClientIdentifier),
			CircuitID: identifier(d.CircuitID), RemoteID: identifier(d.RemoteID), Addresses: d.Addresses, DHCP: d.DHCP, Installed: d.Installed,
			Publish: d.Publish.String(), Cluster: d.Cluster, Description: d.Description, Manufacturer: d.Manufacturer, Model: d.Model,
			SerialNumber: d.SerialNumber, StationName: d.StationName, Location: d.Location, Applications: []jsonApplication{},
		}
		for _, h := range d.HardwareAddresses {
			j.HardwareAddresses = append(j.HardwareAddresses, h.String())
		}
		for k := range d.Applications {
			a := &d.Applications[k]
			j.Applications = append(j.Applications, jsonApplication{a.AETitle, a.Port, a.Protocol.String(), a.Name, a.Path, a.Priority, a.Weight, a.TXT})
		}
		if err := e.Encode(j); err != nil {
			return err
		}
	}
	return nil
}
