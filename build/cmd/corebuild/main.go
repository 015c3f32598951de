// Command corebuild builds CoreDNS and CoreDHCP with plugins of one's own choice.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"

	"github.com/dicomnam/dicomnam/build/builder"
)

// Exit codes. Scripts rely on them.
const (
	exitOK      = 0
	exitFailure = 1 // nothing was built
	exitUsage   = 2 // the command line was wrong: nothing was tried
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, root())
	stop()
	os.Exit(code)
}

// errUsage marks what is wrong with the command line.
var errUsage = errors.New("usage")

func execute(ctx context.Context, cmd *cobra.Command) int {
	understood := false
	cmd.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	called, err := cmd.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case understood && !errors.Is(err, errUsage):
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return exitFailure
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s\nrun '%s --help' for usage\n", strings.TrimPrefix(err.Error(), errUsage.Error()+": "), called.CommandPath())
	return exitUsage
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "corebuild",
		Short: "Build CoreDNS and CoreDHCP with plugins of one's own choice",
		Long: `Build CoreDNS and CoreDHCP with plugins of one's own choice.

A program has every plugin of its host, those of dicomnam, and what --with adds,
less what --without names. Versions are those that dicomnam was tested with. The
same command line gives the same bytes, wherever it runs; -version (coredns) and
--version (coredhcp) of the program tell what it was built from.

In a checkout of dicomnam it is the checkout that is built. Without network,
GOPROXY=off builds from the module cache; each --with then needs its @VERSION.
CGO_ENABLED, GOOS and GOARCH of the environment count as for go build; without
CGO_ENABLED a coredhcp with range uses the C compiler, and nothing else does.

The exit code is 0 when the program was built, 1 when it was not, and 2 when the
command line was wrong.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(corednsCommand(), coredhcpCommand())
	return cmd
}

// flags are those of both commands.
type flags struct {
	with, without, before []string
	request               builder.Request
}

func corednsCommand() *cobra.Command {
	f := &flags{request: builder.Request{Host: builder.CoreDNS}}
	cmd := f.command("coredns", `  corebuild coredns --with github.com/networkservicemesh/fanout@v1.11.4-0.20250612154940-e635d0cda3c4 --output coredns
  corebuild coredns --with audit:example.org/coredns-audit --before audit=cache --output coredns
  corebuild coredns --with example.org/plugins/audit=../plugins --without erratic --output coredns`)
	cmd.Long = `Build a CoreDNS.

NAME is the directive of an added plugin, as in a line of plugin.cfg; without it, the
one that the package registers. It stands behind dicom, where plugins answer; one
that looks at every query belongs further up: --before NAME=cache.`
	cmd.Flags().StringArrayVar(&f.before, "before", nil, "put one directive directly before another: `NAME=NAME`")
	cmd.Flags().StringVar(&f.request.HostVersion, "coredns", "", "`VERSION` of CoreDNS, if not the one of dicomnam's go.mod")
	return cmd
}

func coredhcpCommand() *cobra.Command {
	f := &flags{request: builder.Request{Host: builder.CoreDHCP}}
	cmd := f.command("coredhcp", `  corebuild coredhcp --with example.org/dhcp/audit=../dhcp --output coredhcp
  corebuild coredhcp --without range --output coredhcp
  corebuild coredhcp --stock-server --output coredhcp`)
	cmd.Long = `Build a CoreDHCP.

An added package is one with a variable Plugin, as CoreDHCP's own have it. Which
plugins run, and in which order, says config.yml.`
	cmd.Flags().BoolVar(&f.request.StockServer, "stock-server", false, "use CoreDHCP's own server; what is then missing stands in the READMEs of leases, ntp and ddns")
	cmd.Flags().StringVar(&f.request.HostVersion, "coredhcp", "", "`VERSION` of CoreDHCP, if not the one of dicomnam's go.mod")
	return cmd
}

func (f *flags) command(use, example string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use,
		Short:   "Build a " + use,
		Example: example,
		// Also which flags are missing is a mistake of the command line.
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(cobra.NoArgs(cmd, args), cmd.ValidateRequiredFlags())
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(); err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			f.request.Self, f.request.Log = ownVersion(), cmd.OutOrStdout()
			return builder.Build(cmd.Context(), f.request)
		},
	}
	cmd.Flags().StringArrayVar(&f.with, "with", nil, "add a `PLUGIN`: [NAME:]MODULE[/PACKAGE][@VERSION][=PATH]")
	cmd.Flags().StringArrayVar(&f.without, "without", nil, "leave out the plugin `NAME`")
	cmd.Flags().StringVarP(&f.request.Output, "output", "o", "", "the program to make, a `FILE` (required)")
	_ = cmd.MarkFlagRequired("output") // it was defined a line above
	return cmd
}

func (f *flags) parse() error {
	f.request.Without = f.without
	for _, text := range f.with {
		m, err := builder.ParseModule(text)
		if err != nil {
			return err
		}
		f.request.With = append(f.request.With, m)
	}
	for _, text := range f.before {
		o, err := builder.ParseOrder(text)
		if err != nil {
			return err
		}
		f.request.Before = append(f.request.Before, o)
	}
	return nil
}

// ownVersion is the version of dicomnam that this program is of, as go install has
// written it; "" for what was built in a checkout.
func ownVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "(devel)" || strings.Contains(info.Main.Version, "+") || module.IsPseudoVersion(info.Main.Version) && info.Main.Sum == "" {
		return ""
	}
	return info.Main.Version
}
