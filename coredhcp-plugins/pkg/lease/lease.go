package lease

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Infinite is the lease time that never ends: 0xffffffff seconds (RFC 2131 section 3.3). A Network.LeaseTime of
// Infinite is RFC 2131's automatic allocation.
const Infinite = 0xffffffff * time.Second

const (
	// OfferTime is how long an offered address is kept for the client it was offered to.
	OfferTime = 30 * time.Second
	// MaxOffers bounds the addresses that are on offer at one time. Beyond it Discover offers reserved addresses only.
	MaxOffers = 1 << 16
	// DefaultMaxPerPort is the bound of Config.MaxPerPort where that is zero and a relay names the circuit.
	DefaultMaxPerPort = 128
	// DefaultDeclineTime is how long an address that a client declined rests where Network.DeclineTime is zero.
	DefaultDeclineTime = 24 * time.Hour

	maxDeclined  = 4                // addresses that rest for one hardware address
	reservedRest = 10 * time.Minute // a reserved address rests: its device has no other
	leastRest    = 10 * time.Minute // a declined address rests, whatever else is free
	maxRemovals  = 4                // of names that clients chose that DNS owes one address, before no other is sent

	repeatAfter = 24 * time.Hour // DNS was told a name, a renewal has it told again

	maxIdentifier = 255 // octets of option 61 (RFC 2132 section 9.14)
	maxHardware   = 16  // octets of chaddr (RFC 2131 section 2)
)

// Client is what RFC 2131 calls a client: the hardware address and client identifier that a packet carries, as raw
// octets. It is comparable, but two Clients with the same Key are the same client, unless they are two devices of the
// site: the identifier alone decides where there is one (RFC 2131 section 4.2), the hardware type and address where there
// is none.
type Client struct {
	HardwareType uint8  // IANA hardware type, 1 = Ethernet
	HardwareAddr string // chaddr, at most 16 octets
	Identifier   string // option 61 with its type octet, at most 255 octets; "" if there is none
}

// HardwareAddress is one network interface of a device.
type HardwareAddress struct {
	Type uint8  // IANA hardware type, 1 = Ethernet
	Addr string // raw octets
}

// Config is everything a Manager must know of the site. A Manager copies what it keeps.
type Config struct {
	Domain       string // domain of names that clients choose, as "imaging.example.org."; "" gives such clients no name
	Networks     []Network
	Reservations []Reservation
	Excluded     []netip.Addr // addresses inside pools that are never given away: machines that do not speak DHCP
	Hostnames    []string     // FQDNs that no client may choose, beside those of Reservations and what all hosts trust: wpad, isatap, localhost
	// MaxPerPort bounds the addresses that clients without a reservation hold, declined or were offered at one Query.Port;
	// who holds an address keeps it whatever the bound. Zero: DefaultMaxPerPort at a port that a relay names by its circuit
	// id, and no bound at a whole network, which an interface is, and a relay that tells no more than its address.
	MaxPerPort int
	// MaxPerNetwork bounds the pool addresses of one network that clients without a reservation hold or declined, whatever
	// ports, relays and options they name; who holds an address keeps it. Zero: no bound but the room that pools for any
	// client keep for devices: as many addresses as there are reservations without one, at most a quarter of the pool.
	MaxPerNetwork int
}

// Network is one subnet with its address pools and times.
type Network struct {
	Name          string
	Prefix        netip.Prefix
	Interface     string // "" unless requests received there belong to this network whatever addresses it has
	SharedNetwork string // networks with the same non-empty name share one wire and serve each other's clients
	Pools         []Pool
	LeaseTime     time.Duration // given to a client that asks for no time; Infinite: the lease never ends
	MinLeaseTime  time.Duration // bound on the time a client asks for (option 51); zero: LeaseTime
	MaxLeaseTime  time.Duration // bound on the time a client asks for (option 51); zero: LeaseTime
	DeclineTime   time.Duration // how long a declined address rests; zero: DefaultDeclineTime
	Probe         bool          // have addresses tried before they go to a client that was not the last to hold them
	Authoritative bool          // answer Nak, instead of nothing, to a client that asks for an address there is no record of
	DDNS          bool          // leases of this network have names in DNS
	Names         NamePolicy    // how they are put there
}

// Pool is a range of addresses inside a network, both ends included, and who may have one of them.
type Pool struct {
	First, Last netip.Addr
	Clients     Clients
	Class       string // only for clients of which Query.Classes has it; "": for any
}

// Clients says which clients a pool is for.
type Clients uint8

// The clients that there are: known are those with a reservation.
const (
	AnyClient Clients = iota
	KnownClients
	UnknownClients
)

// Reservation keeps addresses and a host name for one device. It belongs to the device and not to a client: whichever
// client comes with one of the hardware addresses, or else with one of the client identifiers, or else from the relay's
// port, or else with one of the names, gets the device's address and name, also while another client with the same
// hardware address holds it. While another interface of the device, or whatever was at its port before, holds it, the
// client gets another of the device's addresses, or one of a pool, until that lease ends. Of several
// addresses those in the client's network count; in a network where the device has none it takes a pool address and keeps
// its name. DNS shows the address that was given last.
type Reservation struct {
	Device            string // the device's name in the site, at most 255 octets
	Hostname          string // FQDN, at most 255 octets with its trailing dot
	HardwareAddresses []HardwareAddress
	ClientIdentifiers []string // raw octets of option 61
	// CircuitID and RemoteID are the port of a relay (RFC 3046), as raw octets, that the device is at. Where both are given
	// both must match. A renewal that reaches the server without the relay keeps the device that it was.
	CircuitID, RemoteID string
	// Names are host names of one label, lower case, by which a client says that it is the device. They are asked only where
	// neither hardware addresses nor identifiers are given, and a lie is all it takes to be such a device.
	Names     []string
	Addresses []netip.Addr
	Publish   bool // the name is put into DNS when the device gets its lease
}

// Query is what a DHCP message says, as far as RFC 2131 section 4.3 decides on it.
type Query struct {
	Client    Client
	Interface string // the interface that the message came in on
	// Links are addresses on the client's wire: the relay's (link selection, subnet selection or giaddr), else those of
	// the receiving interface.
	Links []netip.Addr
	// Relayed says that Links is what a relay told. Without it a client that gives its ciaddr may be renewing by
	// unicast across routers, and ciaddr tells its network (RFC 2131 section 4.3.2).
	Relayed bool
	// Broadcast says that the message was sent to everyone on the wire of Links, so that its client is there whatever
	// its ciaddr (REBINDING).
	Broadcast      bool
	ServerID       netip.Addr    // who we are to this client
	SelectedServer netip.Addr    // option 54; zero if there is none
	Requested      netip.Addr    // option 50; zero if there is none
	ClientAddr     netip.Addr    // ciaddr; zero or 0.0.0.0 if there is none
	LeaseTime      time.Duration // option 51; zero if there is none
	Hostname       string        // the client's own host name, one label (see Label); "" if there is none
	NoNames        bool          // the client wants nothing of itself in DNS (RFC 4702 section 2.1); a device of the site has no say
	Classes        []string      // the site's classes that the client is in
	CircuitID      string        // option 82 sub-option 1, raw octets; "" if there is none
	RemoteID       string        // option 82 sub-option 2, raw octets; "" if there is none
	// Port is where the client is, as far as can be told: the relay's address and circuit id, else the interface. It bounds
	// what clients take that nobody knows; "" counts as one port.
	Port string
	// Ahead, if it is set, has a call return what was decided as soon as it is, and is called before that with the
	// Commit to wait for, if anything needs to be written.
	Ahead func(*Commit)
}

// Kind says how to answer.
type Kind uint8

// The answers to a Query.
const (
	Silent Kind = iota // send nothing
	Offer              // DHCPOFFER
	Ack                // DHCPACK; its lease is on stable storage
	Nak                // DHCPNAK
	Probe              // nothing yet: look whether somebody uses the address, say so by Tried or Conflict, and ask again
)

// Answer is what to tell the client.
type Answer struct {
	Kind     Kind
	Lease    Lease         // of an Offer or Ack; its Network and Device tell which options apply. Of a Probe: what to try, and for whom
	Duration time.Duration // of an Offer or Ack: option 51; Infinite for a lease that never ends
	Label    string        // of an Offer or Ack: the client's own name, if it may have it, also where Lease has none for DNS; "" if not
	Reason   string        // of Silent or Nak, for the log: why
}

// State is what a binding of an address is in.
type State uint8

// The states of a binding. All but Offered are on disk, with these numbers.
const (
	Offered  State = 0 // in memory only
	Active   State = 1 // the client holds the address
	Expired  State = 2 // the client let its time run out; free
	Released State = 3 // the client gave it back, or took another one; free
	Declined State = 4 // somebody else uses the address; it rests until Expires, or until nothing else is left
	Conflict State = 5 // as Declined, found out before any client got the address; Client is who uses it, if that is known
	Renamed  State = 6 // of an Event alone: the client goes on under another name
)

// Lease says who holds, or last held, an address.
type Lease struct {
	Address netip.Addr
	Client  Client
	Network string // name of the network that the address is in now; "" if it is in none
	Device  string // name of the site's device that the client was when it got the lease; "" if none
	State   State
	Start   time.Time // when the client got it
	Expires time.Time // when it ends, or did; zero: infinite
	// Name is the FQDN of whoever holds the address, which DNS shall show as far as the network says; "" none.
	Name      string
	Published bool // DNS is known to show Name; once a day a renewal has it told again
	// NameState is what became of Name in DNS, and NameTrouble why it is not shown; only Lease and Leases tell them.
	NameState   NameState
	NameTrouble string
	Version     uint64 // changes whenever what DNS shall show changes
}

// Event is one client's time on one address, under one name if it has any. Renewals extend it; it does not change any more once State is not Active.
type Event struct {
	Address netip.Addr
	Time    time.Time // when the client got the address
	State   State     // Active while it holds it, then how it ended: Expired, Released, Declined or Renamed; Conflict: it was found there
	Client  Client
	Device  string    // name of the site's device that the client was; "" if none
	Name    string    // FQDN that DNS was to show last; "" if none
	Until   time.Time // when it ended, or is to end; zero: it does not
}

// Stats counts what a Manager holds at one moment.
type Stats struct {
	Networks []NetworkStats // in the order of their prefixes
	Bindings int            // addresses that are or were in use
	Offers   int            // addresses on offer
	Removals int            // names that DNS still has to forget
	// Refused counts clients that got no address since Open because too many that nobody knows were at their port.
	Refused uint64
}

// NetworkStats counts the addresses of one network.
type NetworkStats struct {
	Network  string
	Size     uint64 // addresses of its pools that can be given away: neither reserved nor excluded
	Active   uint64 // of these: held
	Offered  uint64 // of these: on offer, and not held
	Declined uint64 // of these: resting
	Free     uint64 // of these: neither held, nor on offer, nor resting
	Fixed    uint64 // reserved addresses that are held
}

// CommitInfo tells of one batch that was written.
type CommitInfo struct {
	Transactions int           // decisions in it
	Took         time.Duration // until it was on stable storage
	Err          error         // why it is not; nil if it is
}

// NameChange is one thing to be made true in DNS. A direction that is neither in Make nor in Unmake was never shown.
type NameChange struct {
	Remove    bool // the name must no longer have this address; else it must
	Name      string
	Address   netip.Addr
	Client    Client        // whose DHCID guards the name (RFC 4701)
	Owned     bool          // the name of a site device: it may replace whatever stands there
	LeaseTime time.Duration // of the lease, for the TTL; Infinite if it never ends; zero with Remove
	Mode      NameMode      // whose the name is if it stands there already; with Remove always strict
	Make      Directions    // that DNS must show; none with Remove
	Unmake    Directions    // that DNS must not show; both with Remove
	// Kept says that the site file itself has records of the name by now: what of Unmake the server refuses to remove is not
	// the lease's any more.
	Kept    bool
	Version uint64
}

// Options are what a Manager needs of its surroundings.
type Options struct {
	Now    func() time.Time // default time.Now; see the package comment for what it is used for
	FS     vfs.FS           // default the operating system's; for tests
	Logger *slog.Logger     // background work and the store write here; default discards
	// Committed is told of every batch that was written, one after another, by the goroutine that writes them: it must not
	// wait, nor call the Manager. May be nil.
	Committed func(CommitInfo)
	// Importing says that the Manager is opened for Import: the database may be one whose last import was interrupted.
	Importing bool

	wall     func(time.Time) time.Time // the wall clock when Now read this, for tests; nil: as it read
	memTable uint64                    // octets of changes before they move from the log to a table, for tests; 0: memTable
}
