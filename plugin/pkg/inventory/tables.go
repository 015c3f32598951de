package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// WriteHosts writes the site's fixed addresses as /etc/hosts has them: address, host name, and its first label. Devices whose addresses
// come from a pool are named in comments.
func WriteHosts(w io.Writer, s *site.Site) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# hosts of %s\n", strings.TrimSuffix(s.Domain, "."))
	line := func(a netip.Addr, host string) {
		full := strings.TrimSuffix(host, ".")
		label, _, _ := strings.Cut(full, ".")
		fmt.Fprintf(&b, "%s\t%s %s\n", a, full, label)
	}
	devices := map[string]bool{}
	for i := range s.Devices {
		devices[s.Devices[i].Hostname] = len(s.Devices[i].Addresses) > 0
	}
	for _, n := range s.NameServers {
		if n.Address.IsValid() && !devices[n.Host] {
			line(n.Address, n.Host)
		}
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		if len(d.Addresses) == 0 {
			fmt.Fprintf(&b, "# %s has an address of a pool\n", strings.TrimSuffix(d.Hostname, "."))
		}
		for _, a := range d.Addresses {
			line(a, d.Hostname)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Peers says how tables of DICOM peers name their hosts.
type Peers struct {
	// Numeric has the first fixed address of a device stand for its host name. A device without one keeps its name.
	Numeric bool
}

func (p Peers) host(d *site.Device) string {
	if p.Numeric && len(d.Addresses) > 0 {
		return d.Addresses[0].String()
	}
	return strings.TrimSuffix(d.Hostname, ".")
}

// peer is one connection of a device, as an archive's table has it.
type peer struct {
	symbol, title, host string
	port                uint16
	tls                 bool
	device              *site.Device
}

// peers are the plain and TLS connections of installed devices, each with a symbolic name that no other has: the AE title where it can
// be one, as letters, digits, hyphens and underscores.
func (p Peers) peers(s *site.Site) []peer {
	var list []peer
	taken := map[string]bool{}
	for i := range s.Devices {
		d := &s.Devices[i]
		if !d.Installed {
			continue
		}
		for j := range d.Applications {
			a := &d.Applications[j]
			if a.Protocol != site.DICOM && a.Protocol != site.DICOMTLS {
				continue
			}
			base := symbol(a.AETitle)
			name := base
			for n := 2; taken[strings.ToLower(name)]; n++ {
				name = fmt.Sprintf("%s-%d", base, n)
			}
			taken[strings.ToLower(name)] = true
			list = append(list, peer{name, a.AETitle, p.host(d), a.Port, a.Protocol == site.DICOMTLS, d})
		}
	}
	return list
}

func symbol(title string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, title)
}

// WriteOrthanc writes the site's AEs as the DicomModalities of an Orthanc configuration: a file of its own, which Orthanc merges with the
// others of its configuration directory.
func (p Peers) WriteOrthanc(w io.Writer, s *site.Site) error {
	type modality struct {
		AET  string
		Host string
		Port uint16
		TLS  bool `json:"UseDicomTls,omitempty"`
	}
	var b bytes.Buffer
	b.WriteString("{\n  \"DicomModalities\": {")
	for i, peer := range p.peers(s) {
		if i > 0 {
			b.WriteByte(',')
		}
		var value bytes.Buffer
		e := json.NewEncoder(&value)
		e.SetEscapeHTML(false)
		if err := e.Encode(modality{peer.title, peer.host, peer.port, peer.tls}); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n    %q: %s", peer.symbol, bytes.TrimSpace(value.Bytes()))
	}
	b.WriteString("\n  }\n}\n")
	_, err := w.Write(b.Bytes())
	return err
}

// WriteDcmqrscp writes the site's AEs as the host table of dcmtk's dcmqrscp, with all of them in the group "site". What the table cannot
// say is left out and told in comments: titles with its separators in them, and TLS, which it does not know.
func (p Peers) WriteDcmqrscp(w io.Writer, s *site.Site) error {
	var b bytes.Buffer
	b.WriteString("HostTable BEGIN\n")
	var group []string
	for _, peer := range p.peers(s) {
		switch {
		case peer.tls:
			fmt.Fprintf(&b, "# %s at %s port %d speaks TLS, which this table cannot say\n", peer.title, peer.host, peer.port)
			continue
		case strings.ContainsAny(peer.title, " ,()#=\"'\t"):
			fmt.Fprintf(&b, "# the AE title %q at %s port %d cannot stand in this table\n", peer.title, peer.host, peer.port)
			continue
		}
		fmt.Fprintf(&b, "%s = (%s, %s, %d)\n", peer.symbol, peer.title, peer.host, peer.port)
		group = append(group, peer.symbol)
	}
	if len(group) > 0 && !slices.Contains(group, "site") {
		fmt.Fprintf(&b, "site = %s\n", strings.Join(group, ", "))
	}
	b.WriteString("HostTable END\n")
	_, err := w.Write(b.Bytes())
	return err
}
