package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
)

const aboutOutput = `
A table has one header line; its columns are separated by white space, "-" stands
for nothing, and characters that would break it are written as in \x20. Times are
RFC 3339 in the local time zone. With --json there is one JSON object a line, and
times are in UTC. An answer that was cut off is an error, whatever was printed.`

func leasesCommand() *cobra.Command {
	var (
		s      server
		filter control.Filter
	)
	cmd := &cobra.Command{
		Use:   "leases",
		Short: "List the leases of a running coredhcp",
		Long: `List the leases of a running coredhcp in the order of their addresses, as they
were on disk at one moment: also those that ended, for as long as nobody else got
the address. A lease is active, expired, released, declined (the client found
another machine at the address, which rests until the time that is shown) or in
conflict (the server found that machine before any client got the address; it is
the CLIENT that is shown, 00:00:00:00:00:00 where only its echo was heard).

DNS says what became of the name: shown; waiting, to be told soon; failed, DNS was
told and did not take it, or did not answer; conflict, the name is somebody else's;
superseded, DNS shows a later lease of the same name; off, the site file says that
it is not to be there. WHY is the reason for failed and conflict; both are tried
again.
` + aboutOutput,
		Example: "  dicomnam leases --network radiology --state active\n" +
			"  dicomnam leases --json | jq -r 'select(.published) | .name'",
		Args: noArg,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, &s, control.Leases, filter, newLeaseTable)
		},
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&filter.Network, "network", "", "only leases of this network of the site file (its `NAME`)")
	f.Var((*state)(&filter.State), "state", "only leases in this `STATE`: "+strings.Join(control.States(), ", "))
	f.StringVar(&filter.Device, "device", "", "only leases of this device of the site file (its `NAME`)")
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return control.States(), cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc("state", complete); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// state is the value of --state.
type state string

func (s *state) String() string { return string(*s) }
func (s *state) Type() string   { return "state" }

func (s *state) Set(v string) error {
	if !slices.Contains(control.States(), v) {
		return fmt.Errorf("expected one of %s", strings.Join(control.States(), ", "))
	}
	*s = state(v)
	return nil
}

type leaseTable struct{ *table }

func newLeaseTable(w io.Writer) printer[control.Lease] {
	// Rows far behind the first ones are as neat for the widths that are known.
	return leaseTable{newTable(w, column{"ADDRESS", 15}, column{"STATE", 8}, column{"CLIENT", 17},
		column{"DEVICE", 0}, column{"NAME", 0}, column{"DNS", 0}, column{"EXPIRES", 0}, column{"WHY", 0})}
}

func (t leaseTable) item(l control.Lease) error {
	return t.row(l.Address.String(), l.State, l.Client.String(), l.Device, l.Name, l.DNS, until(l.Expires), strings.ReplaceAll(l.Trouble, " ", "_"))
}

func (t leaseTable) end() error { return t.flush() }

func historyCommand() *cobra.Command {
	var (
		s     server
		limit uint16
	)
	cmd := &cobra.Command{
		Use:   "history ADDRESS",
		Short: "Show who had an address, and when",
		Long: `Show the clients that had an address, the newest first: the one that has it now,
and those that had it before, of which coredhcp keeps a bounded number. Each line
is one client's time on the address, from START to UNTIL; STATE is active, or how
it ended: "renamed" where the client went on under another name.
` + aboutOutput,
		Example: "  dicomnam history 192.0.2.11",
		Args:    addressArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			a := control.Address{Address: netip.MustParseAddr(args[0]), Limit: int(limit)}
			return ask(cmd, &s, control.History, a, newEventTable)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s.flags(cmd)
	cmd.Flags().Uint16Var(&limit, "limit", 0, "show the newest `N` only (default all that are kept)")
	return cmd
}

type eventTable struct{ *table }

func newEventTable(w io.Writer) printer[control.Event] {
	return eventTable{newTable(w, column{"ADDRESS", 0}, column{"START", 0}, column{"UNTIL", 0}, column{"STATE", 0},
		column{"CLIENT", 0}, column{"DEVICE", 0}, column{"NAME", 0})}
}

func (t eventTable) item(e control.Event) error {
	return t.row(e.Address.String(), moment(e.Start), until(e.Until), e.State, e.Client.String(), e.Device, e.Name)
}

func (t eventTable) end() error { return t.flush() }
