package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// answerPlan tells the fate of some leases, as a server does, which reads the file.
func answerPlan(_ context.Context, args json.RawMessage, send func(any) error) error {
	var f control.SiteFile
	if err := control.Decode(args, &f); err != nil {
		return err
	}
	if !filepath.IsAbs(f.Path) {
		return errors.New("expected an absolute path")
	}
	if _, _, err := site.Load(f.Path); err != nil {
		return err
	}
	guest := control.Lease{Address: netip.MustParseAddr("192.0.2.150"), State: control.Active, Client: ethernet(9), Name: "evil\x1b[31m.imaging.example.org.", Start: day(3)}
	for _, f := range []control.Fate{
		{Lease: &someLeases[0], Refused: `device "ct1" has the address 192.0.2.12`, NewDevice: "ct1"},
		{Lease: &someLeases[1], NewDevice: "mr7", NewName: "mr7.imaging.example.org."},
		{Lease: &guest, NewName: "dhcp-192-0-2-150.imaging.example.org."},
		{Kept: 40},
	} {
		if err := send(f); err != nil {
			return err
		}
	}
	return nil
}

// TestPlanOfItself holds that a file changes nothing against itself.
func TestPlanOfItself(t *testing.T) {
	for _, path := range []string{"../../corefile-examples/clinic/site.yaml"} {
		s, _, err := site.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if list := changes(s, s); len(list) != 0 {
			t.Errorf("%s: %+v", path, list)
		}
		empty := &site.Site{Domain: s.Domain}
		if list := changes(empty, s); len(list) < len(s.Networks)+len(s.Devices) {
			t.Errorf("%s: only %d changes from nothing", path, len(list))
		}
	}
}

func TestPlanCounts(t *testing.T) {
	for kept, want := range map[int]string{0: "  0 leases stay as they are\n", 1: "  1 lease stays as it is\n", 2: "  2 leases stay as they are\n"} {
		var b strings.Builder
		p := planPrinter{out: bufio.NewWriter(&b)}
		p.fate(control.Fate{Kept: kept})
		if err := p.out.Flush(); err != nil || b.String() != want {
			t.Errorf("%d: %q, %v; want %q", kept, b.String(), err, want)
		}
	}
}
