package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// genCommand is for those who make packages, and hidden from others.
func genCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "gen DIR",
		Short:  "Write a man page of each command into a directory",
		Hidden: true,
		Args:   oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("writing the man pages: %w", err)
			}
			// Pages say no date, so that they change only with what they tell.
			cmd.Root().DisableAutoGenTag = true
			if err := doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "8", Source: "dicomnam", Manual: "dicomnam"}, args[0]); err != nil {
				return fmt.Errorf("writing the man pages: %w", err)
			}
			return nil
		},
	}
}
