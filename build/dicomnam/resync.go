package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
)

func resyncCommand() *cobra.Command {
	var (
		s server
		n control.Network
	)
	cmd := &cobra.Command{
		Use:   "resync",
		Short: "Have DNS told the names of all leases again",
		Long: `Have coredhcp tell DNS again what it is to show of every active lease, the newest
first, and that the names of those before them are gone, as far as 'dicomnam
history' knows of them: after a zone was lost, or was restored from a backup.
Without --network these are also names whose address is in no network of the site
file any more. It
goes on in the background, as fast as DNS answers; the command returns when it is
certain to happen, also if coredhcp ends meanwhile. Names that are right already
stay as they are, and names are removed only where the client's DHCID record stands
beside them. 'dicomnam leases' shows what is still waiting.`,
		Example: "  dicomnam resync\n  dicomnam resync --network radiology",
		Args:    noArg,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, &s, control.Resync, n, func(w io.Writer) printer[control.Resynced] {
				return line[control.Resynced](func(r control.Resynced) error {
					_, err := fmt.Fprintf(w, "%d leases, %d names of ended ones\n", r.Leases, r.Ended)
					return err
				})
			})
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&n.Network, "network", "", "only leases of this network of the site file (its `NAME`)")
	return cmd
}
