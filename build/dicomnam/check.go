package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

func checkCommand() *cobra.Command {
	var (
		config, corefile string
		asJSON           bool
	)
	cmd := &cobra.Command{
		Use:   "check SITE",
		Short: "Validate a site file: every error and warning, each with its line",
		Long: `Validate a site file: every error and warning, each with its line.

With --config and --corefile the configuration of coredhcp and of coredns is compared
with it, and with each other where both are given: that the zones hold the domain and
the networks, that both read the same site file and the same keys, that the key of ddns
may change what it has to and is sent where coredns listens, and that no address of a
server is that of a device. Of dicom, leases, ntp and ddns what they do not take is
told too; what else stands there is for the servers to judge.`,
		Example: "  dicomnam check site.yaml\n" +
			"  dicomnam check /etc/dicomnam/site.yaml --config /etc/dicomnam/config.yml --corefile /etc/dicomnam/Corefile",
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, warnings, err := site.Load(args[0])
			var f findings
			f.site(warnings, true)
			if wrong, ok := errors.AsType[site.Errors](err); ok {
				f.site(wrong, false)
			} else if err != nil {
				return err
			}
			if s != nil {
				if err := f.agree(s, config, corefile); err != nil {
					return err
				}
			}
			if asJSON {
				return f.writeJSON(cmd.OutOrStdout())
			}
			if err := f.write(cmd.ErrOrStderr()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d networks, %d devices, %d services\n",
				args[0], len(s.Networks), len(s.Devices), len(s.Services))
			return nil
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "compare with this configuration of coredhcp (`CONFIG.yml`)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line for each error and warning")
	cmd.Flags().StringVar(&corefile, "corefile", "", "compare with this configuration of coredns (`COREFILE`)")
	return cmd
}

// word is a piece of a configuration file, and where it stands.
type word struct {
	text string
	file string
	line int
}

// finding is an error, or a warning about what may be meant.
type finding struct {
	at      word
	column  int // 0: not known
	message string
	warning bool
}

// String returns the finding as "FILE:LINE: MESSAGE", with the column if it is known.
func (p finding) String() string {
	if p.column > 0 {
		return fmt.Sprintf("%s:%d:%d: %s", p.at.file, p.at.line, p.column, p.message)
	}
	return fmt.Sprintf("%s:%d: %s", p.at.file, p.at.line, p.message)
}

// findings collects what is wrong.
type findings struct{ list []finding }

func (f *findings) errorf(at word, format string, args ...any) {
	f.list = append(f.list, finding{at: at, message: fmt.Sprintf(format, args...)})
}

func (f *findings) warnf(at word, format string, args ...any) {
	f.list = append(f.list, finding{at: at, message: fmt.Sprintf(format, args...), warning: true})
}

// site adds what package site has found.
func (f *findings) site(list []site.Problem, warning bool) {
	for _, p := range list {
		f.list = append(f.list, finding{word{"", p.File, p.Line}, p.Column, p.Message, warning})
	}
}

// agree adds what of the configurations does not agree with the site or with each other. "" is a file that is not compared. The error
// is that of a file that cannot be read.
func (f *findings) agree(s *site.Site, config, corefile string) error {
	var dhcp *dhcpConfig
	var dns *dnsConfig
	var err error
	if config != "" {
		if dhcp, err = readConfig(config); err != nil {
			return err
		}
		dhcp.check(f, s)
	}
	if corefile != "" {
		if dns, err = readCorefile(corefile); err != nil {
			return err
		}
		var u *updates
		if dhcp != nil {
			u = dhcp.updates(&findings{}) // what is wrong with it was told
		}
		dns.check(f, s, u)
	}
	if dhcp != nil && dns != nil {
		checkUpdates(f, s, dhcp, dns)
	}
	files := []string{config, corefile} // others, as the site file, come first
	slices.SortStableFunc(f.list, func(a, b finding) int {
		return cmp.Or(cmp.Compare(slices.Index(files, a.at.file), slices.Index(files, b.at.file)), cmp.Compare(a.at.line, b.at.line))
	})
	return nil
}

// write tells the warnings, and returns all errors as one.
func (f *findings) write(w io.Writer) error {
	var wrong []error
	for _, p := range f.list {
		if p.warning {
			fmt.Fprintf(w, "%s (warning)\n", p)
		} else {
			wrong = append(wrong, errors.New(p.String()))
		}
	}
	return errors.Join(wrong...)
}

// writeJSON tells all as JSON, and returns an error if there are errors.
func (f *findings) writeJSON(w io.Writer) error {
	type problem struct {
		File    string `json:"file"`
		Line    int    `json:"line"`
		Column  int    `json:"column"` // 0: not known
		Warning bool   `json:"warning"`
		Message string `json:"message"`
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	wrong := 0
	for _, p := range f.list {
		if !p.warning {
			wrong++
		}
		if err := e.Encode(problem{p.at.file, p.at.line, p.column, p.warning, p.message}); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d errors", wrong)
	}
	return nil
}
