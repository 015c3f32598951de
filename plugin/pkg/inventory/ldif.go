package inventory

import (
	"bytes"
	_ "embed" // the schema
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// Schema is the LDAP schema of DICOM PS3.15 H.1.3 as OpenLDAP's slapd.conf includes it: its object identifiers, syntaxes and rules.
//
//go:embed dicom.schema
var Schema []byte

// tlsCipherSuites are what PS3.15 has a client see that a connection is TLS by (H.1.1.3). The site file does not say which a device has:
// these are those that every TLS 1.2 implementation of BCP 195 (RFC 9325 section 4.2) has.
var tlsCipherSuites = []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}

// BaseDN is the entry that a site's domain stands for (RFC 2247): dc=imaging,dc=example,dc=org.
func BaseDN(domain string) string {
	return "dc=" + strings.ReplaceAll(strings.TrimSuffix(domain, "."), ".", ",dc=")
}

// WriteLDIF writes the site in the model of DICOM PS3.15 H.1, as LDIF (RFC 2849) for an LDAP server with Schema: the configuration root
// below the entry base, which must be there, the devices with their network AEs and connections, and the registry of AE titles.
//
// The model has no place for DICOMweb, and the site file none for transfer capabilities; both are left out. That an AE accepts
// associations follows from its port; that it also initiates some is assumed. There is no line with the version of LDIF, which slapadd does
// not know.
func WriteLDIF(w io.Writer, s *site.Site, base string) error {
	l := &ldif{}
	root := "cn=DICOM Configuration," + base
	l.entry(root, "dicomConfigurationRoot", "cn", "DICOM Configuration")
	devices := "cn=Devices," + root
	l.entry(devices, "dicomDevicesRoot", "cn", "Devices")
	titles := "cn=Unique AE Titles Registry," + root
	l.entry(titles, "dicomUniqueAETitlesRegistryRoot", "cn", "Unique AE Titles Registry")
	seen := map[string]bool{}
	names := map[string]string{} // by what LDAP takes for the same
	for i := range s.Devices {
		d := &s.Devices[i]
		aes := networkAEs(d)
		if len(aes) == 0 && len(d.Types) == 0 {
			continue // a host that is no DICOM device
		}
		folded := strings.ToLower(strings.Join(strings.Fields(d.Name), " "))
		if first, ok := names[folded]; ok {
			return fmt.Errorf("the devices %q and %q (line %d) have names that a directory does not tell apart", first, d.Name, d.Line)
		}
		names[folded] = d.Name
		dn := rdn("dicomDeviceName", d.Name) + "," + devices
		l.device(dn, d)
		for _, ae := range aes {
			l.networkAE(dn, d, ae)
			if title := ae[0].AETitle; !seen[title] {
				seen[title] = true
				l.entry(rdn("dicomAETitle", title)+","+titles, "dicomUniqueAETitle", "dicomAETitle", title)
			}
		}
	}
	_, err := w.Write(l.b.Bytes())
	return err
}

// networkAEs are the device's AEs, each with its connections.
func networkAEs(d *site.Device) [][]*site.Application {
	var list [][]*site.Application
	index := map[string]int{}
	for i := range d.Applications {
		a := &d.Applications[i]
		if a.Protocol.Web() {
			continue
		}
		n, ok := index[a.AETitle]
		if !ok {
			n = len(list)
			index[a.AETitle] = n
			list = append(list, nil)
		}
		list[n] = append(list[n], a)
	}
	return list
}

// ldif writes entries.
type ldif struct{ b bytes.Buffer }

func (l *ldif) device(dn string, d *site.Device) {
	l.entry(dn, "dicomDevice", "dicomDeviceName", d.Name,
		"dicomInstalled", ldapBool(d.Installed),
		"dicomDescription", d.Description,
		"dicomManufacturer", d.Manufacturer,
		"dicomManufacturerModelName", d.Model,
		"dicomStationName", d.StationName,
		"dicomDeviceSerialNumber", d.SerialNumber)
	for _, t := range d.Types {
		l.attribute("dicomPrimaryDeviceType", t)
	}
	connections := map[string]bool{}
	for _, ae := range networkAEs(d) {
		for _, a := range ae {
			name := connection(a)
			if connections[name] {
				continue // of another AE too
			}
			connections[name] = true
			l.entry(rdn("cn", name)+","+dn, "dicomNetworkConnection", "cn", name,
				"dicomHostname", strings.TrimSuffix(d.Hostname, "."), "dicomPort", strconv.Itoa(int(a.Port)))
			if a.Protocol == site.DICOMTLS {
				for _, suite := range tlsCipherSuites {
					l.attribute("dicomTLSCipherSuite", suite)
				}
			}
		}
	}
}

func (l *ldif) networkAE(device string, d *site.Device, ae []*site.Application) {
	l.entry(rdn("dicomAETitle", ae[0].AETitle)+","+device, "dicomNetworkAE", "dicomAETitle", ae[0].AETitle,
		"dicomDescription", ae[0].Name, "dicomAssociationInitiator", "TRUE", "dicomAssociationAcceptor", "TRUE",
		"dicomApplicationCluster", d.Cluster)
	for _, a := range ae {
		l.attribute("dicomNetworkConnectionReference", rdn("cn", connection(a))+","+device)
	}
}

// connection names a network connection: one TCP port of a device.
func connection(a *site.Application) string {
	return a.Protocol.String() + "-" + strconv.Itoa(int(a.Port))
}

func ldapBool(b bool) string { return strings.ToUpper(strconv.FormatBool(b)) }

// entry writes an entry of an object class with attributes and their values by turns; those without a value are left out.
func (l *ldif) entry(dn, class string, attributes ...string) {
	if l.b.Len() > 0 {
		l.b.WriteByte('\n')
	}
	l.attribute("dn", dn)
	l.attribute("objectClass", class)
	for i := 0; i+1 < len(attributes); i += 2 {
		if attributes[i+1] != "" {
			l.attribute(attributes[i], attributes[i+1])
		}
	}
}

// attribute writes a line, folded at 76 octets, in base64 where RFC 2849 has it.
func (l *ldif) attribute(name, value string) {
	line := name + ": " + value
	if !ldifSafe(value) {
		line = name + ":: " + base64.StdEncoding.EncodeToString([]byte(value))
	}
	const width = 76
	for len(line) > width {
		l.b.WriteString(line[:width])
		l.b.WriteString("\n")
		line = " " + line[width:]
	}
	l.b.WriteString(line)
	l.b.WriteByte('\n')
}

func ldifSafe(v string) bool {
	if v == "" || strings.ContainsRune(" :<", rune(v[0])) || v[len(v)-1] == ' ' {
		return v == ""
	}
	for i := range len(v) {
		if v[i] < 0x20 || v[i] > 0x7e {
			return false
		}
	}
	return true
}

// rdn writes one attribute of a distinguished name, escaped by RFC 4514 section 2.4.
func rdn(attribute, value string) string {
	var b strings.Builder
	b.WriteString(attribute + "=")
	for i := range len(value) {
		c := value[i]
		end := i == 0 || i == len(value)-1
		if strings.IndexByte(`"+,;<>\=`, c) >= 0 || c == ' ' && end || c == '#' && i == 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}
