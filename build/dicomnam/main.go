// Command dicomnam is the companion of the two servers: it looks at what they
// are given and at what they do, and never serves anything itself.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes. Scripts rely on them.
const (
	exitOK      = 0
	exitFailure = 1 // what was asked for was not done, or not all of it
	exitUsage   = 2 // the command line was wrong: nothing was tried
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, root())
	stop()
	os.Exit(code)
}

// execute runs the command line and tells what went wrong.
func execute(ctx context.Context, cmd *cobra.Command) int {
	// Cobra calls this once it has understood the command line.
	understood := false
	cmd.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	called, err := cmd.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case understood:
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return exitFailure
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%v\nrun '%s --help' for usage\n", err, called.CommandPath())
	return exitUsage
}

// oneArg wants the one argument that the usage of a command names.
func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	found := "none"
	if len(args) > 1 {
		found = strconv.Itoa(len(args)) + " arguments: " + strings.Join(args, " ")
	}
	return fmt.Errorf("expected one %s, found %s", strings.Fields(cmd.Use)[1], found)
}

// noArg wants none.
func noArg(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("expected no argument, found %q", args[0])
	}
	return nil
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dicomnam",
		Short: "The companion command of the dicomnam servers",
		Long: `The companion command of the dicomnam servers.

The exit code is 0 when all went well, 1 when something failed, and 2 when the
command line was wrong.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(checkCommand(), keygenCommand(), genCommand())
	cmd.AddCommand(leasesCommand(), historyCommand(), releaseCommand(), unquarantineCommand(), backupCommand(), resyncCommand())
	cmd.AddCommand(importCommand(), exportCommand(), timeCommand(), devicesCommand())
	cmd.AddCommand(discoverCommand())
	cmd.AddCommand(planCommand())
	return cmd
}
