package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check SITE",
		Short: "Validate a site file: every error and warning, each with its line",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, warnings, err := site.Load(args[0])
			if err == nil {
				warnings = append(warnings, s.Inert()...)
			}
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s (warning)\n", w)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d networks, %d devices, %d services\n",
				args[0], len(s.Networks), len(s.Devices), len(s.Services))
			return nil
		},
	}
}
