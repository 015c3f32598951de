package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/plugin/pkg/inventory"
)

// importer is what import was asked for.
type importer struct {
	encoding, domain, into, output string
	leases                         leaseImport
}

func importCommand() *cobra.Command {
	var x importer
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take over the devices of a spreadsheet, or the leases of another DHCP server",
		Long: `Take over the devices of a spreadsheet (CSV), or with --leases the leases of another
DHCP server.

A spreadsheet has a header, whose columns are recognised by the names that people
give them, in any order: Name, Hostname, Type or Modality, MAC, IP address, DHCP,
Vendor, Model, Serial number, Location, AE title, Port, Protocol and so on; the
header that "export --format csv" writes has all of them. Columns that are not known
are left out with a warning. A device with several applications has a row for each,
or numbered columns (AE title 2, Port 2). Commas, semicolons, tabs and bars
separate; UTF-8 and UTF-16 are recognised.

A new site file goes to standard output (with --domain; else its devices: part), or
to --output, which must not be there yet. --into adds the devices to a site file, behind those that it has, and
leaves every other line of it as it is; a device that it has already must be what the
spreadsheet says. If anything is wrong every error is told, with its row and column,
and nothing is written.

With --leases the file is what another server wrote: kea (the CSV file of Kea's
memfile; the files that its lease file cleanup leaves beside it, FILE.2 and so on, are
read too), dhcpd (ISC dhcpd's dhcpd.leases), dnsmasq (dnsmasq.leases), range (the SQLite
file of CoreDHCP's range plugin). Stop that server first, and do not start coredhcp
before: the lease database must not be in use. What cannot be taken over is listed. An
import that was interrupted is repeated: until then coredhcp does not start, since it
would give addresses out twice. The database belongs to the owner of its directory,
which is made for the owner of the one that it is made in: root can import for the user
that coredhcp runs as.`,
		Example: "  dicomnam import devices.csv --domain imaging.example.org --output site.yaml\n" +
			"  dicomnam import new-devices.csv --into /etc/dicomnam/site.yaml\n" +
			"  dicomnam import /var/lib/kea/kea-leases4.csv --leases kea --site /etc/dicomnam/site.yaml --database /var/lib/dicomnam/leases",
		Args: withFlags(func(cmd *cobra.Command, args []string) error {
			return errors.Join(oneArg(cmd, args), x.usage(), x.leases.usage())
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if x.leases.format != "" {
				return x.leases.run(cmd, args[0])
			}
			return x.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&x.encoding, "encoding", "", "the `ENCODING` of the spreadsheet's characters: "+strings.Join(inventory.Encodings(), ", ")+" (Latin-1)")
	f.StringVar(&x.domain, "domain", "", "write a whole site file for this `DOMAIN`")
	f.StringVar(&x.into, "into", "", "add the devices to this site file (`SITE`), in place unless --output is given")
	f.StringVarP(&x.output, "output", "o", "", "write to this `FILE` instead; - for standard output")
	complete(cmd, "encoding", inventory.Encodings())
	x.leases.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("domain", "into")
	for _, other := range []string{"encoding", "domain", "into", "output"} {
		cmd.MarkFlagsMutuallyExclusive("leases", other)
	}
	return cmd
}

// usage says what of the command line cannot be.
func (x *importer) usage() error {
	if !slices.Contains(append(inventory.Encodings(), ""), x.encoding) {
		return fmt.Errorf("--encoding %s: expected one of %s", x.encoding, strings.Join(inventory.Encodings(), ", "))
	}
	return nil
}

func (x *importer) run(cmd *cobra.Command, path string) error {
	data, err := readBounded(path, inventory.MaxSize)
	if err != nil {
		return err
	}
	sheet, warnings, err := inventory.ReadCSV(path, data, inventory.Encoding(x.encoding))
	tellWarnings(cmd, warnings)
	if err != nil {
		return err
	}
	if x.into != "" {
		return x.merge(cmd, sheet)
	}
	// A site file that is there has more than devices.
	if info, err := os.Stat(x.output); err == nil && info.Mode().IsRegular() {
		return fmt.Errorf("%s is there already: expected the name of a new file, or --into %[1]s to add the devices to it", x.output)
	}
	text, warnings, err := sheet.Site(x.domain)
	tellWarnings(cmd, warnings)
	if err != nil {
		return err
	}
	return x.write(cmd, text)
}

func (x *importer) merge(cmd *cobra.Command, sheet *inventory.Sheet) error {
	before, err := os.ReadFile(x.into)
	if err != nil {
		return fmt.Errorf("reading the site file: %w", err)
	}
	text, m, warnings, err := sheet.Into(x.into, before)
	tellWarnings(cmd, warnings)
	if err != nil {
		return err
	}
	if x.output == "" {
		x.output = x.into
	}
	if m.Added > 0 || x.output != x.into {
		if err := x.write(cmd, text); err != nil {
			return err
		}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d devices added, %d were there already\n", x.into, m.Added, m.Unchanged)
	return nil
}

// write writes a whole file or nothing: a server may read it at any moment.
func (x *importer) write(cmd *cobra.Command, text []byte) error {
	if x.output == "" || x.output == "-" {
		_, err := cmd.OutOrStdout().Write(text)
		return err
	}
	return replaceFile(x.output, text)
}

// replaceFile puts a file in the place of what is there, in one step, with its mode and owner. A link is followed: what it names is
// replaced.
func replaceFile(path string, text []byte) (err error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	before, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if before != nil {
		err = errors.Join(err, keepOwner(f, before), f.Chmod(before.Mode().Perm()))
	} else {
		err = errors.Join(err, f.Chmod(0o644))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func tellWarnings(cmd *cobra.Command, warnings []inventory.Problem) {
	for _, w := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s (warning)\n", w)
	}
}

// readBounded reads a file of which no real one is larger than most octets.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s: larger than %d octets", path, most)
	}
	return data, nil
}
