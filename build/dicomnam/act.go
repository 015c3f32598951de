package main

import (
	"fmt"
	"io"
	"net/netip"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
)

func releaseCommand() *cobra.Command {
	return addressCommand(control.Release, &cobra.Command{
		Use:   "release ADDRESS",
		Short: "End the lease of a machine that is gone",
		Long: `End an active lease at once, as if the client had released it: the address is free
and its name is taken out of DNS. The client is not told, and would use the address
until its next renewal: do this for a machine that is gone. It is on stable storage
when the command returns. An address without an active lease is an error.`,
		Example: "  dicomnam release 192.0.2.100",
	})
}

func unquarantineCommand() *cobra.Command {
	return addressCommand(control.Unquarantine, &cobra.Command{
		Use:   "unquarantine ADDRESS",
		Short: "Free an address that another machine used",
		Long: `Free an address that rests because a client, or the server, found another machine
there, once that machine is gone. Without this it is free after the network's decline-time. It
is on stable storage when the command returns. An address that does not rest is an
error.`,
		Example: "  dicomnam unquarantine 192.0.2.100",
	})
}

// addressCommand makes a command that does something to the lease of an address.
func addressCommand(command string, cmd *cobra.Command) *cobra.Command {
	var s server
	cmd.Args = addressArg
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return ask(cmd, &s, command, control.Address{Address: netip.MustParseAddr(args[0])}, func(w io.Writer) printer[control.Lease] {
			return line[control.Lease](func(l control.Lease) error {
				_, err := fmt.Fprintf(w, "%v %s, client %s, device %s\n", l.Address, cell(l.State), cell(l.Client.String()), cell(l.Device))
				return err
			})
		})
	}
	s.flags(cmd)
	return cmd
}

func backupCommand() *cobra.Command {
	var s server
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy the lease database of a running coredhcp",
		Long: `Copy the lease database of a running coredhcp into the new directory DIR, as it is
at one moment: every lease that was acknowledged before is in it. Leases go on being
given meanwhile. The copy is complete once DIR is there.

DIR is an absolute path in the file system of the server, which makes it: its user
must be able to write to the parent directory, which must exist. On the file system
of the database a copy takes hardly any room. Keep it elsewhere: copy DIR away and
remove it.

To restore, stop coredhcp, move the directory that database= names out of the way,
put DIR or what was copied from it in its place, owned by the user that coredhcp
runs as, and start coredhcp. Leases that were given after the backup are not known
then: their addresses count as free, while their clients use them until these leases
end or are refused. So restore the newest backup, and only if the database is lost.`,
		Example: "  dicomnam backup /var/lib/dicomnam/backup-$(date +%F)",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := oneArg(cmd, args); err != nil {
				return err
			}
			if !filepath.IsAbs(args[0]) {
				return fmt.Errorf("%q: expected an absolute path, since the server makes the directory", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, &s, control.Backup, control.Directory{Directory: filepath.Clean(args[0])}, func(w io.Writer) printer[control.Directory] {
				return line[control.Directory](func(d control.Directory) error {
					_, err := fmt.Fprintln(w, d.Directory)
					return err
				})
			})
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	s.flags(cmd)
	return cmd
}

// line prints each item as it comes.
type line[T any] func(T) error

func (f line[T]) item(v T) error { return f(v) }
func (line[T]) end() error       { return nil }
