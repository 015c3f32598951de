package site

import (
	"net/netip"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// Defaults of what a site file may leave out.
const (
	DefaultTTL         = 5 * time.Minute
	DefaultLeaseTime   = 12 * time.Hour
	DefaultDeclineTime = 24 * time.Hour
)

// Infinite is the lease time of automatic allocation (RFC 2131 section 3.3): all ones on the wire, written "infinite".
const Infinite = time.Duration(1<<32-1) * time.Second

// Site is one validated site file. It is immutable once Parse has returned it, and safe for concurrent use.
// All its domain names are canonical: lower case, fully qualified, with the trailing dot.
type Site struct {
	File        string        // the file's name, as given to Load or Parse
	Domain      string        // the domain that host names are relative to
	Contact     string        // SOA RNAME, as a domain name; hostmaster.DOMAIN unless given
	TTL         time.Duration // of published names and services, whole seconds; DefaultTTL unless given
	NameServers []NameServer  // at least one; ns.DOMAIN without an address unless given
	Options     Options       // for every network
	Classes     []Class
	Networks    []Network
	Devices     []Device
	Services    []Service

	index index
}

// NameServer is one of the name servers of the site's zones.
type NameServer struct {
	Host    string     // fully qualified
	Address netip.Addr // the zero Addr where the file gives none
}

// Options are the DHCP options of one level of the file: site, class, network or device; or those of all levels for one client.
type Options struct {
	// Values holds the encoded options. The addresses of TimeServers stand in it too, as option 42.
	Values dhcpopt.Set
	// TimeServers are the values of ntp-servers in the file's order: IPv4 addresses, and host names, which are fully
	// qualified with the trailing dot. Nil where the level does not set them.
	TimeServers []string
	// TimeZone is the level's time zone; nil where it has none. All turns it into options.
	TimeZone *time.Location

	posix   string    // TimeZone as option 100 writes it; "" until it is worked out
	encoded []encoded // what All returns; nil until it is worked out
}

// Class is a class of clients, recognised by exactly one of its marks.
type Class struct {
	Position
	Name         string
	UserClass    string // a user class (option 77, RFC 3004); "" where it is not the mark
	VendorClass  string // the vendor class identifier (option 60); "" where it is not the mark
	CircuitID    []byte // the relay's circuit ID (option 82, sub-option 1); nil where it is not the mark
	RemoteID     []byte // the relay's remote ID (option 82, sub-option 2); nil where it is not the mark
	HardwareType uint8  // IANA hardware type; 0 where it is not the mark
	Options      Options

	place int // in Site.Classes
}

// Network is one subnet.
type Network struct {
	Position
	Name          string
	Prefix        netip.Prefix  // IPv4, masked
	SharedNetwork string        // networks with the same non-empty name share one wire
	Interface     string        // the server's interface to it; "" for any, and for networks behind relays
	Pools         []Pool        // disjoint, in the file's order
	LeaseTime     time.Duration // what a client gets that asks for nothing; may be Infinite, as the next two
	MinLeaseTime  time.Duration // the least that a client may ask for; LeaseTime unless given
	MaxLeaseTime  time.Duration // the most that a client may ask for; LeaseTime unless given
	DeclineTime   time.Duration // how long a declined address is not given out
	Authoritative bool          // clients unknown here are refused instead of ignored (RFC 2131 section 4.3.2)
	Probe         Probe
	Publish       Publish // of its fixed devices, unless a device says otherwise
	DDNS          DDNS
	Options       Options
}

// Pool is a range of addresses inside one network, First and Last included.
type Pool struct {
	First, Last netip.Addr
	Class       string // only for clients of this class; "" for all
	Clients     Clients
}

// Device is one DICOM device (PS3.15 H.1.1.1), or any other host that the file lists.
type Device struct {
	Position
	Name              string            // unique in the site
	Hostname          string            // fully qualified, unique in the site
	Types             []string          // Primary Device Types, DICOM CID 30
	HardwareAddresses []HardwareAddress // of every network card
	ClientIdentifier  []byte            // option 61; nil where the file gives none
	CircuitID         []byte            // option 82, sub-option 1: the device is whoever is plugged in there
	RemoteID          []byte            // option 82, sub-option 2
	Addresses         []netip.Addr      // fixed; at most one for each network; none: from a pool
	DHCP              bool              // false: it never asks, and its addresses are kept out of every pool
	Installed         bool              // false: its applications are not published (dicomInstalled, PS3.15 H.1.1.1)
	Publish           Publish           // resolved: the device's own, or its first address's network's; always without DHCP
	Cluster           string            // devices of one cluster may share AE titles
	Description       string
	Manufacturer      string
	Model             string
	SerialNumber      string
	StationName       string
	Location          string
	Options           Options
	Applications      []Application
}

// HardwareAddress is a link-layer address. It is comparable.
type HardwareAddress struct {
	Type uint8  // IANA hardware type, 1 for Ethernet
	Addr string // the raw octets, 1 to 16
}

// Application is one DICOM network AE on one port, or one DICOMweb service.
type Application struct {
	Position
	AETitle  string // without leading and trailing spaces; "" only for DICOMweb
	Name     string // friendly instance name (RFC 6763 section 4.1.1), at most 63 octets; "" unless given
	Port     uint16
	Protocol Protocol
	Path     string // of DICOMweb; "" unless given
	Priority uint16 // as in SRV (RFC 2782), like Weight
	Weight   uint16
	TXT      []string // further "key=value" or "key" strings, at most 255 octets each
}

// Service is an SRV record of the site's domain beside those of the applications: _NAME._PROTOCOL.DOMAIN.
type Service struct {
	Position
	Name     string // RFC 6335 service name, lower case, without the underscore
	Protocol string // "tcp" or "udp"
	Host     string // fully qualified
	Port     uint16
	Priority uint16
	Weight   uint16
}
