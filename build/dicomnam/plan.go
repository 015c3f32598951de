package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// defaultSite is where packages and the documentation have the site file.
const defaultSite = "/etc/dicomnam/site.yaml"

func planCommand() *cobra.Command {
	var (
		s   server
		old string
	)
	cmd := &cobra.Command{
		Use:   "plan NEW-SITE",
		Short: "Show what a new site file would change",
		Long: `Show what would change if the site file NEW-SITE took the place of the present one:
networks, pools, options, classes and devices, the records that DNS gets from the site
file, and the leases that it touches. Nothing is changed.

Each line begins with "+" for what is new, "-" for what goes, or "~" for what is
otherwise, with the value before and after "->". Records of a device that is to be
published while it has its lease are shown as if it had it.

The leases are those of the running coredhcp, which reads NEW-SITE itself: a client is
"refused" if its next renewal gets a DHCPNAK, after which it asks for an address anew;
until then it keeps what it has. A new device or name is there from the next renewal on.
Where no control socket is at the default path, leases are left out.
` + aboutJSON,
		Example: "  dicomnam plan site.yaml.new\n" +
			"  dicomnam plan new.yaml --site old.yaml --json | jq -r 'select(.refused) | .lease.address'",
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			before, _, err := site.Load(old)
			if err != nil {
				return err
			}
			after, warnings, err := site.Load(args[0])
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s (warning)\n", w)
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			p := planPrinter{out: out, json: s.json}
			for _, c := range changes(before, after) {
				p.change(c)
			}
			err = p.leases(cmd, &s, args[0])
			if err == nil && !s.json && p.lines == 0 {
				fmt.Fprintln(out, "nothing changes")
			}
			return errors.Join(err, out.Flush())
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&old, "site", defaultSite, "the present site `FILE`")
	return cmd
}

const aboutJSON = `
With --json there is one JSON object a line: a change has "change", "subject", "key",
"before" and "after"; a lease has "lease" as "dicomnam leases" shows it, and "refused",
"new_device" and "new_name"; the last one has the number of leases that stay as they are
as "kept".`

// change is one thing that is otherwise in the new file.
type change struct {
	Change  string `json:"change"`  // added, removed, changed
	Subject string `json:"subject"` // "device ct1"
	Key     string `json:"key"`     // "address"
	Before  string `json:"before,omitempty"`
	After   string `json:"after,omitempty"`
}

// planPrinter writes a plan. Its output is flushed, and errors of it told, at the end.
type planPrinter struct {
	out   *bufio.Writer
	json  bool
	lines int
}

func (p *planPrinter) object(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers
	}
	_, _ = p.out.Write(append(b, '\n'))
}

func (p *planPrinter) change(c change) {
	p.lines++
	if p.json {
		p.object(c)
		return
	}
	what := c.Subject
	if c.Key != "" {
		what += ": " + c.Key
	}
	switch c.Change {
	case added:
		fmt.Fprintf(p.out, "+ %s %s\n", what, shown(c.After))
	case removed:
		fmt.Fprintf(p.out, "- %s %s\n", what, shown(c.Before))
	default:
		fmt.Fprintf(p.out, "~ %s %s -> %s\n", what, shown(c.Before), shown(c.After))
	}
}

// leases asks the running server what the file means for its leases.
func (p *planPrinter) leases(cmd *cobra.Command, s *server, path string) error {
	if _, err := os.Lstat(s.path); errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("control") {
		fmt.Fprintf(cmd.ErrOrStderr(), "no control socket at %s: leases are left out\n", s.path)
		return nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	each := func(item json.RawMessage) error {
		var f control.Fate
		if err := json.Unmarshal(item, &f); err != nil {
			return fmt.Errorf("control socket %s: item of the answer: %w", s.path, err)
		}
		if p.json {
			p.object(f)
		} else {
			p.fate(f)
		}
		return nil
	}
	return s.explain(control.Call(cmd.Context(), s.path, control.Plan, control.SiteFile{Path: path}, each))
}

func (p *planPrinter) fate(f control.Fate) {
	l := f.Lease
	if l == nil {
		if f.Kept == 1 {
			fmt.Fprintln(p.out, "  1 lease stays as it is")
		} else {
			fmt.Fprintf(p.out, "  %d leases stay as they are\n", f.Kept)
		}
		return
	}
	p.lines++
	who := cell(l.Client.String())
	if l.Device != "" {
		who += ", device " + cell(l.Device)
	}
	if f.Refused != "" {
		fmt.Fprintf(p.out, "- lease %v (%s): refused: %s\n", l.Address, who, shown(f.Refused))
		return
	}
	var what []string
	for _, v := range []struct{ key, before, after string }{{"device", l.Device, f.NewDevice}, {"name", l.Name, f.NewName}} {
		if v.before != v.after {
			what = append(what, fmt.Sprintf("%s %s -> %s", v.key, cell(v.before), cell(v.after)))
		}
	}
	fmt.Fprintf(p.out, "~ lease %v (%s): %s\n", l.Address, who, strings.Join(what, ", "))
}

// shown is a value as one line shows it: with blanks, and nothing that would do
// something to the terminal.
func shown(v string) string {
	words := strings.Split(cmp.Or(v, "-"), " ")
	for i, w := range words {
		if w != "" {
			words[i] = cell(w)
		}
	}
	return strings.Join(words, " ")
}
