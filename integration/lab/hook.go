//go:build linux

package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// hookEnv names the file to which the program, called by a DHCP client as its
// script, adds what happened.
const hookEnv = "DICOMNAM_LAB_HOOK"

// reportEnv is set for a DHCP client that configures the link itself.
const reportEnv = "DICOMNAM_LAB_HOOK_REPORTS"

// An event is what a DHCP client told its script: one line of JSON in the event
// file. An event without a lease is the loss of it, or a failure.
type event struct {
	Reason string `json:"reason"`
	Lease  *Lease `json:"lease,omitempty"`
}

// RunHook must be called first in main or TestMain. Where a DHCP client of the
// lab called the program as its script, it does the script's work and exits:
// the link is configured as the lease says and the lease is reported to the lab.
// Where the lab called it to start a program with other files, it becomes that
// program. Otherwise it returns.
func RunHook() {
	if mounts := os.Getenv(mountEnv); mounts != "" {
		fmt.Fprintln(os.Stderr, mountAndExec(mounts, os.Args))
		os.Exit(127)
	}
	path := os.Getenv(hookEnv)
	if path == "" {
		return
	}
	if err := hook(path, os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "DHCP client script:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func hook(path string, args []string, env func(string) string) error {
	var (
		e    event
		name string
		err  error
	)
	// dhclient and dhcpcd hand all over in the environment, under the same names;
	// udhcpc the reason as argument.
	if e.Reason = env("reason"); e.Reason != "" {
		name = env("interface")
		e.Lease, err = dhclientLease(e.Reason, env)
	} else if len(args) == 1 {
		e.Reason, name = args[0], env("interface")
		e.Lease, err = udhcpcLease(e.Reason, env)
	} else {
		return fmt.Errorf("neither udhcpc nor dhclient called: %q", args)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.Reason, err)
	}
	if env(reportEnv) != "" {
		return record(path, e)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding the link %q: %w", name, err)
	}
	switch {
	case e.Lease != nil:
		err = configure(link, *e.Lease)
	case ends(e.Reason):
		err = unconfigure(link)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.Reason, err)
	}
	return record(path, e)
}

// ends tells whether the client has no address after this call.
func ends(reason string) bool {
	switch reason {
	case "deconfig", "nak", // udhcpc
		"EXPIRE", "RELEASE", "FAIL", "STOP": // dhclient
		return true
	}
	return false
}

// record adds an event to the file, in one write so that a reader never sees
// half of it.
func record(path string, e event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// readEvents reads the whole events of a file that may not exist yet.
func readEvents(path string) ([]event, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var events []event
	for line := range bytes.Lines(data) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		events = append(events, e)
	}
	return events, nil
}

// udhcpcLease reads a lease as BusyBox's udhcpc hands it over: each option under
// its own name, lists separated by spaces.
func udhcpcLease(reason string, env func(string) string) (*Lease, error) {
	if reason != "bound" && reason != "renew" {
		return nil, nil
	}
	r := reader{env: env}
	l := &Lease{
		Address:   r.address("ip"),
		Bits:      r.number("mask"),
		Broadcast: r.address("broadcast"),
		Routers:   r.addresses("router"),
		DNS:       r.addresses("dns"),
		NTP:       r.addresses("ntpsrv"),
		Domain:    env("domain"),
		Hostname:  env("hostname"),
		// Signed, but udhcpc prints it as it prints every 32-bit option.
		TimeOffset: time.Duration(int32(r.number("timezone"))) * time.Second,
		Duration:   r.seconds("lease"),
		MTU:        r.number("mtu"),
		ServerID:   r.address("serverid"),
	}
	return l, r.err
}

// dhclientLease reads a lease as ISC's dhclient hands it over: each option with
// the prefix new_, lists separated by spaces.
func dhclientLease(reason string, env func(string) string) (*Lease, error) {
	switch reason {
	case "BOUND", "RENEW", "REBIND", "REBOOT":
	default:
		return nil, nil
	}
	r := reader{env: func(name string) string { return env("new_" + name) }}
	l := &Lease{
		Address:    r.address("ip_address"),
		Broadcast:  r.address("broadcast_address"),
		Routers:    r.addresses("routers"),
		Routes:     r.routes("rfc3442_classless_static_routes"),
		DNS:        r.addresses("domain_name_servers"),
		NTP:        r.addresses("ntp_servers"),
		Domain:     r.env("domain_name"),
		Hostname:   r.env("host_name"),
		TimeOffset: r.seconds("time_offset"),
		Duration:   r.seconds("dhcp_lease_time"),
		MTU:        r.number("interface_mtu"),
		ServerID:   r.address("dhcp_server_identifier"),
	}
	if mask := r.address("subnet_mask"); mask.IsValid() {
		l.Bits, _ = net.IPMask(mask.AsSlice()).Size()
	}
	return l, r.err
}

// A reader reads values from an environment and keeps the first error. A value
// that is absent is the zero value.
type reader struct {
	env func(string) string
	err error
}

func (r *reader) fail(name string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s=%q: %w", name, r.env(name), err)
	}
}

// routes reads the octets of option 121 as decimal numbers, which is how dhclient
// hands over an option that only its configuration file describes.
func (r *reader) routes(name string) (routes []Route) {
	var octets []byte
	for field := range strings.FieldsSeq(r.env(name)) {
		n, err := strconv.ParseUint(field, 10, 8)
		r.fail(name, err)
		octets = append(octets, byte(n))
	}
	for len(octets) > 0 {
		bits := int(octets[0])
		n := 1 + (bits+7)/8
		if bits > 32 || len(octets) < n+4 {
			r.fail(name, errors.New("no classless routes"))
			return nil
		}
		var to [4]byte
		copy(to[:], octets[1:n])
		routes = append(routes, Route{netip.PrefixFrom(netip.AddrFrom4(to), bits), netip.AddrFrom4([4]byte(octets[n:]))})
		octets = octets[n+4:]
	}
	return routes
}

func (r *reader) address(name string) netip.Addr {
	if r.env(name) == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(r.env(name))
	r.fail(name, err)
	return a
}

func (r *reader) addresses(name string) []netip.Addr {
	var as []netip.Addr
	for f := range strings.FieldsSeq(r.env(name)) {
		a, err := netip.ParseAddr(f)
		r.fail(name, err)
		as = append(as, a)
	}
	return as
}

func (r *reader) number(name string) int {
	if r.env(name) == "" {
		return 0
	}
	n, err := strconv.Atoi(r.env(name))
	r.fail(name, err)
	return n
}

func (r *reader) seconds(name string) time.Duration {
	return time.Duration(r.number(name)) * time.Second
}
