package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// Records are leases as the control socket tells of them, and of their names: those of a server that gives addresses, or
// what it saw others give.
type Records struct {
	Manager func() *lease.Manager // called when somebody asks
	Site    *SiteFile
	Log     *slog.Logger
}

// Commands are those that Records answer.
func (r *Records) Commands() map[string]control.Handler {
	return map[string]control.Handler{control.Leases: r.list, control.History: r.history, control.Resync: r.resync}
}

// list answers control.Leases. It reads a snapshot of the database, which it
// holds for as long as the client reads.
func (r *Records) list(_ context.Context, args json.RawMessage, send func(any) error) error {
	var f control.Filter
	if err := control.Decode(args, &f); err != nil {
		return err
	}
	s := r.Site.Current()
	if f.State != "" && !slices.Contains(control.States(), f.State) {
		return fmt.Errorf("state %q: expected one of %s", f.State, strings.Join(control.States(), ", "))
	}
	if f.Network != "" && !hasNetwork(s, f.Network) {
		return fmt.Errorf("network %q: there is none of this name in the site file", f.Network)
	}
	found := false
	for b, err := range r.Manager().Leases() {
		if err != nil {
			return err
		}
		if f.Network != "" && f.Network != b.Network || f.State != "" && f.State != b.State.String() || f.Device != "" && f.Device != b.Device {
			continue
		}
		found = true
		if err := send(Told(b)); err != nil {
			return err
		}
	}
	if f.Device != "" && !found && s.DeviceByName(f.Device) == nil {
		return fmt.Errorf("device %q: there is none of this name in the site file, and no lease of it", f.Device)
	}
	return nil
}

// resync answers control.Resync.
func (r *Records) resync(ctx context.Context, args json.RawMessage, send func(any) error) error {
	var n control.Network
	if err := control.Decode(args, &n); err != nil {
		return err
	}
	if n.Network != "" && !hasNetwork(r.Site.Current(), n.Network) {
		return fmt.Errorf("network %q: there is none of this name in the site file", n.Network)
	}
	told, err := r.Manager().Resync(ctx, n.Network)
	if err != nil {
		return err
	}
	r.Log.Info("DNS is told everything again by an administrator", "network", n.Network, "leases", told.Leases, "ended", told.Ended)
	return send(control.Resynced{Leases: told.Leases, Ended: told.Ended})
}

func hasNetwork(s *site.Site, name string) bool {
	return slices.ContainsFunc(s.Networks, func(n site.Network) bool { return n.Name == name })
}

// history answers control.History.
func (r *Records) history(ctx context.Context, args json.RawMessage, send func(any) error) error {
	a, err := ControlAddress(args)
	if err != nil {
		return err
	}
	limit := a.Limit
	switch {
	case limit < 0:
		return fmt.Errorf("limit %d: expected a number that is not negative", limit)
	case limit == 0:
		limit = math.MaxInt
	}
	events, err := r.Manager().History(ctx, a.Address, limit)
	if err != nil {
		return err
	}
	for _, e := range events {
		err := send(control.Event{
			Address: e.Address, Start: begin(e.Time), Until: end(e.Until), State: e.State.String(),
			Client: clientTold(e.Client), Device: e.Device, Name: e.Name,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ControlAddress reads the arguments of a command that is about one address.
func ControlAddress(args json.RawMessage) (control.Address, error) {
	var a control.Address
	if err := control.Decode(args, &a); err != nil {
		return a, err
	}
	if !a.Address.IsValid() || a.Address.Zone() != "" {
		return a, fmt.Errorf("address %q: expected an IP address", a.Address)
	}
	a.Address = a.Address.Unmap()
	return a, nil
}

// Told is a lease as the control socket tells it.
func Told(b lease.Lease) control.Lease {
	return control.Lease{
		Address: b.Address, State: b.State.String(), Client: clientTold(b.Client), Network: b.Network, Device: b.Device,
		Name: b.Name, Published: b.Published && b.State == lease.Active,
		DNS: b.NameState.String(), Trouble: b.NameTrouble, Start: begin(b.Start), Expires: end(b.Expires),
	}
}

func clientTold(c lease.Client) control.Client {
	return control.Client{
		HardwareType:     c.HardwareType,
		HardwareAddress:  net.HardwareAddr(c.HardwareAddr).String(),
		ClientIdentifier: hex.EncodeToString([]byte(c.Identifier)),
	}
}

// begin is when a lease began, to the millisecond, as the database has it: some of
// what is told comes from there, the rest from memory.
func begin(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// end is when a lease ends, a time that may be none; the database rounds it up.
func end(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = begin(t.Add(time.Millisecond - 1))
	return &t
}
