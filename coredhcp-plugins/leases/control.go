package leases

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// commands are what an administrator can ask and do. They run between Start and
// Close. What changes something is logged, as what clients do is.
func (l *Leases) commands() map[string]control.Handler {
	return map[string]control.Handler{
		control.Leases:       l.list,
		control.History:      l.history,
		control.Release:      l.act("has no active lease", "ended by an administrator", (*lease.Manager).End),
		control.Unquarantine: l.act("is not declined", "freed by an administrator", (*lease.Manager).Unquarantine),
		control.Backup:       l.backup,
		control.Resync:       l.resync,
	}
}

// list answers control.Leases. It reads a snapshot of the database, which it
// holds for as long as the client reads.
func (l *Leases) list(_ context.Context, args json.RawMessage, send func(any) error) error {
	var f control.Filter
	if err := control.Decode(args, &f); err != nil {
		return err
	}
	s := l.site.Current()
	if f.State != "" && !slices.Contains(control.States(), f.State) {
		return fmt.Errorf("state %q: expected one of %s", f.State, strings.Join(control.States(), ", "))
	}
	if f.Network != "" && !hasNetwork(s, f.Network) {
		return fmt.Errorf("network %q: there is none of this name in the site file", f.Network)
	}
	found := false
	for b, err := range l.manager.Leases() {
		if err != nil {
			return err
		}
		if f.Network != "" && f.Network != b.Network || f.State != "" && f.State != b.State.String() || f.Device != "" && f.Device != b.Device {
			continue
		}
		found = true
		if err := send(told(b)); err != nil {
			return err
		}
	}
	if f.Device != "" && !found && s.DeviceByName(f.Device) == nil {
		return fmt.Errorf("device %q: there is none of this name in the site file, and no lease of it", f.Device)
	}
	return nil
}

// resync answers control.Resync.
func (l *Leases) resync(ctx context.Context, args json.RawMessage, send func(any) error) error {
	var n control.Network
	if err := control.Decode(args, &n); err != nil {
		return err
	}
	if n.Network != "" && !hasNetwork(l.site.Current(), n.Network) {
		return fmt.Errorf("network %q: there is none of this name in the site file", n.Network)
	}
	told, err := l.manager.Resync(ctx, n.Network)
	if err != nil {
		return err
	}
	l.log.Info("DNS is told everything again by an administrator", "network", n.Network, "leases", told.Leases, "ended", told.Ended)
	return send(control.Resynced{Leases: told.Leases, Ended: told.Ended})
}

func hasNetwork(s *site.Site, name string) bool {
	return slices.ContainsFunc(s.Networks, func(n site.Network) bool { return n.Name == name })
}

// history answers control.History.
func (l *Leases) history(ctx context.Context, args json.RawMessage, send func(any) error) error {
	a, err := address(args)
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
	events, err := l.manager.History(ctx, a.Address, limit)
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

// act answers a command that does something to one address. f says whether there
// was anything to do, and refusal what to say if there was not.
func (l *Leases) act(refusal, done string, f func(*lease.Manager, context.Context, netip.Addr) (bool, error)) control.Handler {
	return func(ctx context.Context, args json.RawMessage, send func(any) error) error {
		a, err := address(args)
		if err != nil {
			return err
		}
		if a.Limit != 0 {
			return errors.New("limit: expected an address alone")
		}
		changed, err := f(l.manager, ctx, a.Address)
		if err != nil {
			return err
		}
		if !changed {
			return fmt.Errorf("%v %s", a.Address, refusal)
		}
		b, _ := l.manager.Lease(a.Address)
		l.log.Info(done, "address", b.Address, "client", b.Client, "device", b.Device, "name", b.Name)
		return send(told(b))
	}
}

func address(args json.RawMessage) (control.Address, error) {
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

// backup answers control.Backup. It works under another name until the copy is
// complete and on disk, so that a crash leaves nothing that looks like one.
func (l *Leases) backup(_ context.Context, args json.RawMessage, send func(any) error) error {
	var d control.Directory
	if err := control.Decode(args, &d); err != nil {
		return err
	}
	dir := filepath.Clean(d.Directory)
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("directory %q: expected an absolute path", d.Directory)
	}
	parent := filepath.Dir(dir)
	if info, err := os.Stat(parent); err != nil {
		return fmt.Errorf("backup: expected a directory to make %s in: %w", filepath.Base(dir), err)
	} else if !info.IsDir() {
		return fmt.Errorf("backup: expected a directory to make %s in: %s is none", filepath.Base(dir), parent)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: %s: expected a new directory, found something there", dir)
	}
	began, unfinished := time.Now(), dir+".unfinished"
	if _, err := os.Lstat(unfinished); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: %s is of a backup that is being made, or was cut off: remove it in that case", unfinished)
	}
	if err := l.manager.Backup(unfinished); err != nil {
		return err
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := syncDirectory(parent); err != nil {
		return fmt.Errorf("backup: syncing %s: %w", parent, err)
	}
	l.log.Info("backed up by an administrator", "directory", dir, "took", time.Since(began).Round(time.Millisecond))
	return send(control.Directory{Directory: dir})
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// told is a lease as the control socket tells it.
func told(b lease.Lease) control.Lease {
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
