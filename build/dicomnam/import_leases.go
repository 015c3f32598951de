package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/leases"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/leasefile"
)

// leaseImport is what import --leases was asked for.
type leaseImport struct {
	format, site, database string
	json                   bool
}

func (x *leaseImport) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var((*leaseFormat)(&x.format), "leases", "take over leases: FILE is of "+strings.Join(leasefile.Formats(), ", "))
	f.StringVar(&x.site, "site", "", "with --leases: the site file (`SITE`) of coredhcp")
	f.StringVar(&x.database, "database", "", "with --leases: the lease database (`DIR`) of coredhcp")
	f.BoolVar(&x.json, "json", false, "with --leases: print one JSON object a line for each lease that needs attention")
	complete(cmd, "leases", leasefile.Formats())
	cmd.MarkFlagsRequiredTogether("leases", "site", "database")
}

// usage says what of the command line cannot be.
func (x *leaseImport) usage() error {
	if x.json && x.format == "" {
		return errors.New("--json is of --leases: a spreadsheet becomes a site file")
	}
	return nil
}

// leaseFormat is the value of --leases.
type leaseFormat string

func (f *leaseFormat) String() string { return string(*f) }
func (*leaseFormat) Type() string     { return "FORMAT" }

func (f *leaseFormat) Set(v string) error {
	if !slices.Contains(leasefile.Formats(), v) {
		return fmt.Errorf("expected one of %s", strings.Join(leasefile.Formats(), ", "))
	}
	*f = leaseFormat(v)
	return nil
}

var importedStates = map[leasefile.State]lease.State{
	leasefile.Active: lease.Active, leasefile.Expired: lease.Expired, leasefile.Released: lease.Released, leasefile.Declined: lease.Declined,
}

func (x *leaseImport) run(cmd *cobra.Command, path string) error {
	s, err := loadSite(cmd, x.site)
	if err != nil {
		return err
	}
	list, err := leasefile.Read(leasefile.Format(x.format), path)
	if err != nil {
		return err
	}
	imported := make([]lease.Imported, len(list))
	for i, l := range list {
		imported[i] = lease.Imported{
			Address: l.Address, Hostname: l.Hostname, State: importedStates[l.State], Start: l.Start, Expires: l.Expires, Duration: l.Duration,
			Client:        lease.Client{HardwareType: l.HardwareType, HardwareAddr: l.HardwareAddress, Identifier: l.ClientIdentifier},
			AnyIdentifier: leasefile.Format(x.format) == leasefile.Range,
		}
	}
	if err := makeFor(x.database); err != nil {
		return fmt.Errorf("making the lease database: %w", err)
	}
	outcomes, err := leases.Import(cmd.Context(), s, x.database, imported)
	note, ownerErr := giveFiles(x.database)
	if ownerErr != nil {
		err = errors.Join(err, fmt.Errorf("giving the lease database to the owner of its directory: %w", ownerErr))
	}
	if err != nil {
		return err
	}
	if note != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), note)
	}
	return x.report(cmd, path, imported, outcomes)
}

// attention is a lease that was not taken over, or not without a word.
type attention struct {
	Address netip.Addr `json:"address"`
	Client  string     `json:"client"`
	State   string     `json:"state"`
	Taken   bool       `json:"taken"`
	Note    string     `json:"note"`
}

// report tells what became of the leases. It is an error if an address that somebody holds was not taken over: it may be given out twice.
func (x *leaseImport) report(cmd *cobra.Command, path string, list []lease.Imported, outcomes []lease.Outcome) error {
	taken, known, lost := 0, 0, 0
	out := bufio.NewWriter(cmd.OutOrStdout())
	for i, o := range outcomes {
		switch {
		case o.Taken:
			taken++
		case strings.HasPrefix(o.Note, "is in the database"):
			known++
			continue
		case list[i].State == lease.Active:
			lost++
		}
		if o.Note == "" {
			continue
		}
		if err := x.tell(out, attention{list[i].Address, list[i].Client.String(), list[i].State.String(), o.Taken, o.Note}); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d leases: %d taken over, %d were there already, %d not taken over\n", path, len(list), taken, known, len(list)-taken-known)
	if lost > 0 {
		return fmt.Errorf("%d leases that have not ended were not taken over; they are listed above", lost)
	}
	return nil
}

func (x *leaseImport) tell(out io.Writer, a attention) error {
	if x.json {
		return json.NewEncoder(out).Encode(a)
	}
	taken := ""
	if !a.Taken {
		taken = "not taken over, "
	}
	_, err := fmt.Fprintf(out, "%s (%s%s, %s): %s\n", a.Address, taken, a.State, cmp.Or(a.Client, "client unknown"), a.Note)
	return err
}
