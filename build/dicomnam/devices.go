package main

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// What a device is found to be.
const (
	devicePresent      = "present"       // it has its lease, as the site file has it
	deviceStatic       = "static"        // it does not speak DHCP: nothing is known of it but what DNS shows
	deviceGone         = "gone"          // it had a lease
	deviceNeverSeen    = "never-seen"    // it never had one
	deviceWrongAddress = "wrong-address" // it has another address than the site file gives it
	deviceWrongName    = "wrong-name"    // it has another name, or DNS does not show what it should
	deviceUnknown      = "unknown"       // a client that is no device of the site file
)

var deviceStates = []string{devicePresent, deviceStatic, deviceGone, deviceNeverSeen, deviceWrongAddress, deviceWrongName, deviceUnknown}

// deviceFound is one device, or unknown client, as it is in reality.
type deviceFound struct {
	Device  string       `json:"device"` // "" for an unknown client
	State   string       `json:"state"`
	Address []netip.Addr `json:"address"` // what it holds; of one that is gone, what it had last
	Name    string       `json:"name"`    // FQDN that its lease has in DNS; "" none
	Client  string       `json:"client"`  // hardware address, or id: and the client identifier; "" if nobody came
	Until   *time.Time   `json:"until"`   // when its lease ends, or ended; nil: never, or there is none
	Line    int          `json:"line"`    // of the device in the site file; 0 for an unknown client
	Detail  string       `json:"detail"`  // what is wrong; "" if nothing is
}

// deviceReport is what devices was asked for.
type deviceReport struct {
	server
	dns    string
	name   *nameServer // of dns; nil: none is asked
	states []string
}

func devicesCommand() *cobra.Command {
	var x deviceReport
	cmd := &cobra.Command{
		Use:   "devices SITE",
		Short: "Compare the devices of a site file with those that are there",
		Long: `Compare the devices of a site file with the leases of a running coredhcp, and with
--server also with what DNS shows. Each device is

  present        it has its lease, as the site file has it
  static         it does not speak DHCP (dhcp: false), so no lease tells of it
  gone           it had a lease, which has ended
  never-seen     it never had one
  wrong-address  it has another address than the site file gives it, and its DICOM
                 services are not published (but with publish: always)
  wrong-name     it has another name, or DNS does not show what it should

and a client with a lease that is no device of the site file is

  unknown

DETAIL says what is wrong, with "_" for each blank.
` + aboutOutput,
		Example: "  dicomnam devices /etc/dicomnam/site.yaml --server 192.0.2.2\n" +
			"  dicomnam devices site.yaml --state never-seen,gone\n" +
			"  dicomnam devices site.yaml --json | jq -r 'select(.state == \"unknown\") | .client'",
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(oneArg(cmd, args), x.check())
		},
		RunE: func(cmd *cobra.Command, args []string) error { return x.run(cmd, args[0]) },
	}
	x.flags(cmd)
	cmd.Flags().StringVar(&x.dns, "server", "", "ask this name server too, `HOST[:PORT]`")
	cmd.Flags().StringSliceVar(&x.states, "state", nil, "only those in one of these `STATES`: "+strings.Join(deviceStates, ", "))
	complete(cmd, "state", deviceStates)
	return cmd
}

// check finds what is wrong with the command line.
func (x *deviceReport) check() error {
	for _, s := range x.states {
		if !slices.Contains(deviceStates, s) {
			return fmt.Errorf("--state %s: expected some of %s", s, strings.Join(deviceStates, ", "))
		}
	}
	if x.dns == "" {
		return nil
	}
	host, port, err := splitServer(x.dns)
	x.name = &nameServer{net.JoinHostPort(host, port)}
	return err
}

func (x *deviceReport) run(cmd *cobra.Command, path string) error {
	s, err := loadSite(cmd, path)
	if err != nil {
		return err
	}
	held := map[*site.Device][]control.Lease{}
	byAddress := map[netip.Addr]control.Lease{}
	var list []deviceFound
	var strangers []deviceFound
	err = x.explain(control.Call(cmd.Context(), x.path, control.Leases, control.Filter{}, func(item json.RawMessage) error {
		var l control.Lease
		if err := json.Unmarshal(item, &l); err != nil {
			return fmt.Errorf("control socket %s: item of the answer: %w", x.path, err)
		}
		byAddress[l.Address] = l
		d := deviceOf(s, &l)
		switch {
		case d != nil:
			held[d] = append(held[d], l)
		case l.State == control.Active:
			strangers = append(strangers, deviceFound{State: deviceUnknown, Address: []netip.Addr{l.Address}, Name: l.Name, Client: l.Client.String(), Until: l.Expires})
		}
		return nil
	}))
	if err != nil {
		return err
	}
	for i := range s.Devices {
		list = append(list, judgeDevice(s, &s.Devices[i], held[&s.Devices[i]], byAddress))
	}
	if x.name != nil {
		if err := x.name.compare(cmd.Context(), s, list); err != nil {
			return err
		}
	}
	return x.print(cmd.OutOrStdout(), append(list, strangers...))
}

// deviceOf is the device that a lease is of: as the site file that was named says, else as the server said when it gave the lease.
func deviceOf(s *site.Site, l *control.Lease) *site.Device {
	id, _ := hex.DecodeString(l.Client.ClientIdentifier) // what is none is nobody's
	hw, _ := net.ParseMAC(l.Client.HardwareAddress)
	if d := s.DeviceOf(l.Client.HardwareType, hw, id); d != nil {
		return d
	}
	if l.Device == "" {
		return nil
	}
	return s.DeviceByName(l.Device)
}

// judgeDevice says what the leases of a device, and those of its address, tell of it.
func judgeDevice(s *site.Site, d *site.Device, leases []control.Lease, byAddress map[netip.Addr]control.Lease) deviceFound {
	f := deviceFound{Device: d.Name, Line: d.Line, Address: []netip.Addr{}}
	var active []control.Lease
	var last *control.Lease
	for i := range leases {
		l := &leases[i]
		switch {
		case l.State == control.Active:
			active = append(active, *l)
		case l.State != control.Declined && l.State != control.Conflict && (last == nil || l.Expires != nil && last.Expires != nil && last.Expires.Before(*l.Expires)):
			last = l
		}
	}
	switch {
	case len(active) > 0:
		f.State = devicePresent
	case !d.DHCP:
		f.State, f.Address = deviceStatic, d.Addresses
		return f
	case last != nil:
		f.State, f.Address, f.Client, f.Until = deviceGone, []netip.Addr{last.Address}, last.Client.String(), last.Expires
	default:
		f.State = deviceNeverSeen
	}
	if len(active) == 0 {
		for _, a := range d.Addresses {
			if why := whoHas(byAddress, a); why != "" {
				f.Detail = fmt.Sprintf("expected %s,%s", a, why)
			}
		}
		return f
	}
	for _, l := range active {
		f.Address = append(f.Address, l.Address)
		f.Name, f.Client, f.Until = cmp.Or(l.Name, f.Name), l.Client.String(), l.Expires
		if want := fixedIn(s, d, l.Address); want.IsValid() && want != l.Address {
			f.State, f.Detail = deviceWrongAddress, fmt.Sprintf("expected %s", want)
			if why := whoHas(byAddress, want); why != "" {
				f.Detail += "," + why
			}
		} else if l.Name != "" && l.Name != d.Hostname && f.State == devicePresent {
			f.State, f.Detail = deviceWrongName, fmt.Sprintf("expected %s", d.Hostname)
		}
	}
	// In a network where it has no address of its own it may be a guest, but it is not found there.
	if f.State != deviceWrongAddress && len(d.Addresses) > 0 && !slices.ContainsFunc(f.Address, func(a netip.Addr) bool { return slices.Contains(d.Addresses, a) }) {
		f.State, f.Detail = deviceWrongAddress, fmt.Sprintf("expected %s", d.Addresses[0])
	}
	return f
}

// whoHas says why an address of a device is not to be had; "" if it is, as far as leases tell.
func whoHas(byAddress map[netip.Addr]control.Lease, a netip.Addr) string {
	l, found := byAddress[a]
	switch {
	case !found:
		return ""
	case l.State == control.Active:
		return fmt.Sprintf(" which %s has (dicomnam release, if that machine is gone)", l.Client)
	case l.State == control.Declined || l.State == control.Conflict:
		return fmt.Sprintf(" where another machine was found; it rests until %s (dicomnam unquarantine, once that is gone)", until(l.Expires))
	}
	return ""
}

// fixedIn is the fixed address that a device has in the network of an address; where that is in no network of the file, its first.
func fixedIn(s *site.Site, d *site.Device, a netip.Addr) netip.Addr {
	n := s.NetworkOf(a)
	for _, fixed := range d.Addresses {
		if fixed == a || n == nil || n.Prefix.Contains(fixed) {
			return cmp.Or(onlyIf(slices.Contains(d.Addresses, a), a), fixed)
		}
	}
	return netip.Addr{}
}

func onlyIf(condition bool, a netip.Addr) netip.Addr {
	if condition {
		return a
	}
	return netip.Addr{}
}

func (x *deviceReport) print(w io.Writer, list []deviceFound) error {
	out := bufio.NewWriter(w)
	t := newTable(out, column{"DEVICE", 0}, column{"STATE", 13}, column{"ADDRESS", 15}, column{"CLIENT", 17}, column{"NAME", 0}, column{"UNTIL", 0}, column{"DETAIL", 0})
	encoder := json.NewEncoder(out)
	for _, f := range list {
		if len(x.states) > 0 && !slices.Contains(x.states, f.State) {
			continue
		}
		if x.json {
			if err := encoder.Encode(f); err != nil {
				return err
			}
			continue
		}
		var addresses []string
		for _, a := range f.Address {
			addresses = append(addresses, a.String())
		}
		end := ""
		if f.Client != "" {
			end = until(f.Until)
		}
		if err := t.row(f.Device, f.State, strings.Join(addresses, ","), f.Client, f.Name, end, strings.ReplaceAll(f.Detail, " ", "_")); err != nil {
			return err
		}
	}
	if !x.json {
		if err := t.flush(); err != nil {
			return err
		}
	}
	return errors.Join(out.Flush())
}
