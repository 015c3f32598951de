package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

func checkCommand() *cobra.Command {
	var config, corefile string
	cmd := &cobra.Command{
		Use:   "check SITE",
		Short: "Validate a site file: every error and warning, each with its line",
		Long: `Validate a site file: every error and warning, each with its line.

With --config and --corefile the configuration of coredhcp and of coredns is compared
with it, and with each other where both are given: that the zones hold the domain and
the networks, that both read the same site file and the same keys, that the key of ddns
may change what it has to and is sent where coredns listens, and that no address of a
server is that of a device. Each is checked as far as dicomnam is concerned; what
else stands there is for the servers to judge.`,
		Example: "  dicomnam check site.yaml\n" +
			"  dicomnam check /etc/dicomnam/site.yaml --config /etc/dicomnam/config.yml --corefile /etc/dicomnam/Corefile",
		Args: cobra.ExactArgs(1),
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
			if err := agree(cmd.ErrOrStderr(), s, config, corefile); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d networks, %d devices, %d services\n",
				args[0], len(s.Networks), len(s.Devices), len(s.Services))
			return nil
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "compare with this configuration of coredhcp (`CONFIG.yml`)")
	cmd.Flags().StringVar(&corefile, "corefile", "", "compare with this configuration of coredns (`COREFILE`)")
	return cmd
}

// word is a piece of a configuration file, and where it stands.
type word struct {
	text string
	file string
	line int
}

// finding is something that does not agree.
type finding struct {
	at      word
	message string
	warning bool // it may be meant
}

// findings collects what does not agree.
type findings struct{ list []finding }

func (f *findings) errorf(at word, format string, args ...any) {
	f.list = append(f.list, finding{at, fmt.Sprintf(format, args...), false})
}

func (f *findings) warnf(at word, format string, args ...any) {
	f.list = append(f.list, finding{at, fmt.Sprintf(format, args...), true})
}

// agree tells what of the configurations does not agree with the site or with each other, the warnings first. "" is a file that is
// not compared. The error is all that is wrong.
func agree(w io.Writer, s *site.Site, config, corefile string) error {
	var f findings
	var dhcp *dhcpConfig
	var dns *dnsConfig
	var err error
	if config != "" {
		if dhcp, err = readConfig(config); err != nil {
			return err
		}
		dhcp.check(&f, s)
	}
	if corefile != "" {
		if dns, err = readCorefile(corefile); err != nil {
			return err
		}
		dns.check(&f, s)
	}
	if dhcp != nil && dns != nil {
		checkUpdates(&f, s, dhcp, dns)
	}
	files := []string{config, corefile} // others, as the site file, come first
	slices.SortStableFunc(f.list, func(a, b finding) int {
		return cmp.Or(cmp.Compare(slices.Index(files, a.at.file), slices.Index(files, b.at.file)), cmp.Compare(a.at.line, b.at.line))
	})
	var wrong []error
	for _, p := range f.list {
		text := fmt.Sprintf("%s:%d: %s", p.at.file, p.at.line, p.message)
		if p.warning {
			fmt.Fprintf(w, "%s (warning)\n", text)
		} else {
			wrong = append(wrong, errors.New(text))
		}
	}
	return errors.Join(wrong...)
}
