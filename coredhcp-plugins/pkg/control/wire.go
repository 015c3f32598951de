package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Commands that package leases answers and dicomnam asks.
const (
	Leases       = "leases"       // Filter; each item a Lease, in the order of their addresses
	History      = "history"      // Address; each item an Event, newest first
	Release      = "release"      // Address; one Lease, as it is now
	Unquarantine = "unquarantine" // Address; one Lease, as it is now
	Backup       = "backup"       // Directory; one Directory
	Resync       = "resync"       // Network; one Resynced
)

// States of a Lease.
const (
	Active   = "active"   // the client holds the address
	Expired  = "expired"  // the client let its time run out; free
	Released = "released" // the client gave it back, or an administrator ended it; free
	Declined = "declined" // another machine uses the address; it rests until Expires
	Conflict = "conflict" // as Declined, found by the server itself; the client is that machine, all zeros if it is not known
)

// States lists what a Lease can be in.
func States() []string { return []string{Active, Conflict, Declined, Expired, Released} }

// Filter are the arguments of Leases. What is "" allows everything.
type Filter struct {
	Network string `json:"network,omitempty"` // name of a network of the site
	State   string `json:"state,omitempty"`   // one of States
	Device  string `json:"device,omitempty"`  // name of a device of the site
}

// Address are the arguments of History, Release and Unquarantine.
type Address struct {
	Address netip.Addr `json:"address"`
	Limit   int        `json:"limit,omitempty"` // of History: the most events that are told; 0: all that are kept
}

// Network are the arguments of Resync.
type Network struct {
	Network string `json:"network,omitempty"` // name of a network of the site; "": all
}

// Resynced is the answer of Resync.
type Resynced struct {
	Leases int `json:"leases"` // of which DNS is told again
	Ended  int `json:"ended"`  // names of those before them, of which DNS is told again that they are gone
}

// Directory are the arguments of Backup, and its answer.
type Directory struct {
	Directory string `json:"directory"` // absolute path; it must not exist, its parent must
}

// Client is who holds, or last held, an address.
type Client struct {
	HardwareType     uint8  `json:"hardware_type"`     // IANA hardware type, 1 = Ethernet
	HardwareAddress  string `json:"hardware_address"`  // as "00:00:5e:00:53:01"; "" if it sent none
	ClientIdentifier string `json:"client_identifier"` // option 61 with its type octet, in hexadecimal; "" if it sent none
}

// String is the client as people look for it: the hardware address, or else "id:" and the client identifier.
func (c Client) String() string {
	if c.HardwareAddress == "" && c.ClientIdentifier != "" {
		return "id:" + c.ClientIdentifier
	}
	return c.HardwareAddress
}

// Lease is one binding of an address.
type Lease struct {
	Address   netip.Addr `json:"address"`
	State     string     `json:"state"` // one of States
	Client    Client     `json:"client"`
	Network   string     `json:"network"`   // the network that the address is in now; "" if the site has none for it any more
	Device    string     `json:"device"`    // the device of the site that got it; "" if none
	Name      string     `json:"name"`      // the FQDN of whoever holds the address, while it is active; "" none
	Published bool       `json:"published"` // DNS is known to show Name
	// DNS is what became of Name: off, shown, waiting, superseded, conflict or failed; "" where there is no name. Trouble
	// is why, for people.
	DNS     string     `json:"dns,omitempty"`
	Trouble string     `json:"dns_trouble,omitempty"`
	Start   time.Time  `json:"start"`
	Expires *time.Time `json:"expires"` // when it ends, or did; nil: never
}

// Event is one client's time on one address.
type Event struct {
	Address netip.Addr `json:"address"`
	Start   time.Time  `json:"start"` // when the client got it
	Until   *time.Time `json:"until"` // when that ended, or is to end; nil: never
	State   string     `json:"state"` // Active, or how it ended
	Client  Client     `json:"client"`
	Device  string     `json:"device"`
	Name    string     `json:"name"` // the FQDN that DNS was to show last; "" none
}

// request and line are what the two sides send.
type request struct {
	Command string          `json:"command"`
	Args    json.RawMessage `json:"args,omitempty"`
}

type line struct {
	Item  json.RawMessage `json:"item,omitempty"`
	Error string          `json:"error,omitempty"`
	Done  bool            `json:"done,omitempty"`
}

// Decode reads the arguments of a command into v, a pointer. A field that v does not have is an error, and so is anything
// behind the value. No arguments are those that are all zero.
func Decode(args json.RawMessage, v any) error {
	if len(args) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(args))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("arguments: expected nothing after offset %d", d.InputOffset())
	}
	return nil
}
