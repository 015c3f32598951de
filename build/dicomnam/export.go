package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/plugin/pkg/inventory"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// exporter is what export was asked for.
type exporter struct {
	format string
	base   string
	bom    bool
	peers  inventory.Peers
}

// formats are the values of --format, in the order in which they are told.
var formats = []string{"csv", "json", "hosts", "ldif", "orthanc", "dcmqrscp", "schema"}

func exportCommand() *cobra.Command {
	var x exporter
	cmd := &cobra.Command{
		Use:   "export SITE --format FORMAT",
		Short: "Write the devices of a site file as other programs have them",
		Long: `Write the devices of a site file to standard output as other programs have them:

  csv       a spreadsheet with a row for each application, which import reads; a text
            that looks like a formula has an apostrophe before it; UTF-8, without
            a byte order mark unless --bom is given
  json      one JSON object a line for each device
  hosts     fixed addresses, as /etc/hosts has them
  ldif      entries of the model of DICOM PS3.15 H.1, for an LDAP server
  orthanc   the DicomModalities of an Orthanc configuration, a file of their own
  dcmqrscp  the host table of dcmtk's dcmqrscp
  schema    the LDAP schema of PS3.15 H.1.3 that ldif needs, as OpenLDAP includes
            it; without SITE

orthanc and dcmqrscp leave out devices that are not installed, and dcmqrscp what
speaks TLS; ldif leaves out DICOMweb, which the model does not know.`,
		Example: "  dicomnam export site.yaml --format csv >devices.csv\n" +
			"  dicomnam export site.yaml --format ldif --base 'o=Example Hospital' | ldapadd -x -D cn=admin,o=example -W\n" +
			"  dicomnam export site.yaml --format orthanc >/etc/orthanc/modalities.json",
		Args: withFlags(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriter(cmd.OutOrStdout())
			return errors.Join(x.run(cmd, out, args), out.Flush())
		},
	}
	f := cmd.Flags()
	f.Var((*format)(&x.format), "format", "one of "+strings.Join(formats, ", "))
	f.StringVar(&x.base, "base", "", "of ldif: the `DN` of the entry to stand below, which the directory has (default dc=... of the site's domain)")
	f.BoolVar(&x.bom, "bom", false, "of csv: begin with a byte order mark, without which Excel takes UTF-8 for another encoding")
	f.BoolVar(&x.peers.Numeric, "numeric", false, "of orthanc and dcmqrscp: fixed addresses instead of host names")
	required(cmd, "format")
	complete(cmd, "format", formats)
	return cmd
}

// format is the value of --format.
type format string

func (f *format) String() string { return string(*f) }
func (*format) Type() string     { return "FORMAT" }

func (f *format) Set(v string) error {
	if !slices.Contains(formats, v) {
		return fmt.Errorf("expected one of %s", strings.Join(formats, ", "))
	}
	*f = format(v)
	return nil
}

func (x *exporter) run(cmd *cobra.Command, w io.Writer, args []string) error {
	if x.format == "schema" {
		_, err := w.Write(inventory.Schema)
		return err
	}
	if len(args) == 0 {
		return errors.New("no site file was named: expected dicomnam export SITE --format " + x.format)
	}
	s, err := loadSite(cmd, args[0])
	if err != nil {
		return err
	}
	switch x.format {
	case "csv":
		for i := range s.Devices {
			if o := s.Devices[i].Options; len(o.Values) > 0 || o.TimeServers != nil || o.TimeZone != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s:%d: the options of device %q have no column and are left out (warning)\n", args[0], s.Devices[i].Line, s.Devices[i].Name)
			}
		}
		if x.bom {
			if _, err := io.WriteString(w, "\ufeff"); err != nil {
				return err
			}
		}
		return inventory.WriteCSV(w, s)
	case "json":
		return inventory.WriteJSON(w, s)
	case "hosts":
		return inventory.WriteHosts(w, s)
	case "ldif":
		if x.base == "" {
			x.base = inventory.BaseDN(s.Domain)
		}
		return inventory.WriteLDIF(w, s, x.base)
	case "orthanc":
		return x.peers.WriteOrthanc(w, s)
	}
	return x.peers.WriteDcmqrscp(w, s)
}

// loadSite reads a site file for a command that is about something else: only what is wrong is told.
func loadSite(_ *cobra.Command, path string) (*site.Site, error) {
	s, _, err := site.Load(path)
	return s, err
}

// withFlags checks also which flags are given, while a mistake still counts as one of the command line.
func withFlags(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		return errors.Join(args(cmd, given), cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups())
	}
}

// required makes a flag one that must be given.
func required(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(err) // there is no such flag
	}
}

// complete has a shell offer words for a flag.
func complete(cmd *cobra.Command, flag string, words []string) {
	f := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // there is no such flag
	}
}
