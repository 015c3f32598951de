package leases

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// plan answers control.Plan. It reads the file and changes nothing.
func (l *Leases) plan(_ context.Context, args json.RawMessage, send func(any) error) error {
	var f control.SiteFile
	if err := control.Decode(args, &f); err != nil {
		return err
	}
	if !filepath.IsAbs(f.Path) {
		return fmt.Errorf("path %q: expected an absolute path", f.Path)
	}
	// To read a pipe, as a shell's <(...) is, may be to wait for ever.
	if info, err := os.Stat(f.Path); err != nil {
		return fmt.Errorf("reading the site file: %w", err)
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: expected a regular file, which the server can read", f.Path)
	}
	s, _, err := site.Load(f.Path)
	if err != nil {
		return err
	}
	kept := 0
	err = l.manager.Preview(config(s, l.bounds), func(b lease.Lease, o lease.Outlook) error {
		if o.Refused == "" && o.Device == b.Device && o.Name == b.Name {
			kept++
			return nil
		}
		told := server.Told(b)
		return send(control.Fate{Lease: &told, Refused: o.Refused, NewDevice: o.Device, NewName: o.Name})
	})
	if err != nil {
		return err
	}
	return send(control.Fate{Kept: kept})
}
