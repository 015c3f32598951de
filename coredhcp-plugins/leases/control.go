package leases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// commands are what an administrator can ask and do. They run between Start and
// Close. What changes something is logged, as what clients do is.
func (l *Leases) commands() map[string]control.Handler {
	records := server.Records{Manager: func() *lease.Manager { return l.manager }, Site: l.site, Log: l.log}
	all := records.Commands()
	all[control.Release] = l.act("has no active lease", "ended by an administrator", (*lease.Manager).End)
	all[control.Unquarantine] = l.act("is not declined", "freed by an administrator", (*lease.Manager).Unquarantine)
	all[control.Backup] = l.backup
	return all
}

// act answers a command that does something to one address. f says whether there
// was anything to do, and refusal what to say if there was not.
func (l *Leases) act(refusal, done string, f func(*lease.Manager, context.Context, netip.Addr) (bool, error)) control.Handler {
	return func(ctx context.Context, args json.RawMessage, send func(any) error) error {
		a, err := server.ControlAddress(args)
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
		return send(server.Told(b))
	}
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
