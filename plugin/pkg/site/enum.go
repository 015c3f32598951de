package site

import "strconv"

// Protocol is how an application is spoken to (DICOM PS3.15 H.2).
type Protocol uint8

// The protocols; the zero value is plain DICOM.
const (
	DICOM Protocol = iota
	DICOMTLS
	DICOMISCL
	DICOMWeb
	DICOMWebTLS
)

var protocolNames = []string{"dicom", "dicom-tls", "dicom-iscl", "dicomweb", "dicomweb-tls"}

// String returns the protocol as the site file writes it, which is also the DNS-SD service name without its underscore.
func (p Protocol) String() string { return enumName(protocolNames, int(p)) }

// Web reports whether the protocol is DICOMweb, which knows no AE titles.
func (p Protocol) Web() bool { return p == DICOMWeb || p == DICOMWebTLS }

// Probe says how an address is tried before it goes to a client that did not hold it.
type Probe uint8

// The ways to probe; the zero value does not.
const (
	ProbeNone Probe = iota
	ProbeARP
	ProbeICMP
)

var probeNames = []string{"none", "arp", "icmp"}

// String returns the value as the site file writes it.
func (p Probe) String() string { return enumName(probeNames, int(p)) }

// Publish says when the names and services of a device with a fixed address stand in DNS.
type Publish uint8

// The values of publish; the zero value is "leased".
const (
	PublishLeased Publish = iota // while the device holds its lease
	PublishAlways                // from the moment the site file is read
)

var publishNames = []string{"leased", "always"}

// String returns the value as the site file writes it.
func (p Publish) String() string { return enumName(publishNames, int(p)) }

// Clients says which clients may have an address of a pool.
type Clients uint8

// The kinds of clients; the zero value admits all.
const (
	AnyClients     Clients = iota
	KnownClients           // those that are a device of the file
	UnknownClients         // all others
)

var clientsNames = []string{"any", "known", "unknown"}

// String returns the value as the site file writes it.
func (c Clients) String() string { return enumName(clientsNames, int(c)) }

// DDNS says what becomes of DNS when a lease of the network begins or ends.
type DDNS struct {
	Mode    DDNSMode
	Forward DDNSScope // the A record
	Reverse DDNSScope // the PTR record
}

// DDNSMode is how a name that stands in DNS already is treated (RFC 4703 section 5.3).
type DDNSMode uint8

// The modes; the zero value is "strict".
const (
	DDNSStrict     DDNSMode = iota // a name belongs to the client whose DHCID stands there
	DDNSKeepStatic                 // a name with any DHCID may be replaced, one without is left alone
	DDNSLastWins                   // every name may be replaced
	DDNSOff                        // no updates
)

var ddnsModeNames = []string{"strict", "keep-static", "last-wins", "off"}

// String returns the value as the site file writes it.
func (m DDNSMode) String() string { return enumName(ddnsModeNames, int(m)) }

// DDNSScope says for which names updates are sent.
type DDNSScope uint8

// The scopes; the zero value is "all".
const (
	DDNSAll   DDNSScope = iota
	DDNSFixed           // only for host names of the file's devices
	DDNSNone
)

var ddnsScopeNames = []string{"all", "fixed", "none"}

// String returns the value as the site file writes it.
func (s DDNSScope) String() string { return enumName(ddnsScopeNames, int(s)) }

func enumName(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return strconv.Itoa(i)
}
