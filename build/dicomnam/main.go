// Command dicomnam is the companion of the two servers: it looks at what they
// are given and at what they do, and never serves anything itself.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	if err := root().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "dicomnam",
		Short:         "The companion command of the dicomnam servers",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(checkCommand(), keygenCommand())
	return cmd
}
