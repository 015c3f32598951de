package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dicomnam/dicomnam/plugin/pkg/cecho"
)

func discoverCommand() *cobra.Command {
	var o discoverOptions
	cmd := &cobra.Command{
		Use:   "discover DOMAIN",
		Short: "Find the DICOM services of a domain, and ask whether they answer",
		Long: `Find the DICOM services of a domain as any client of DNS service discovery would
(RFC 6763, DICOM PS3.15 H.2), from whatever name server: which applications there
are, with AE title, host, address and port. Of a service that nobody lists that
way, the older form of DICOM is tried too (SRV records at the service itself, TXT
records at the hosts). There is one line for each address and port.

With --echo each application is asked by DICOM C-ECHO, in TLS where the service is
dicom-tls: ECHO says whether it answers with success, TIME after how long, and
standard error why not. DICOMweb and ISCL are not asked ("-"). A certificate is
checked, against the host's name, only with --ca: whether a device answers is to
be seen also where its certificate is wrong.

The exit code is 0 when services were found and all that were asked have answered;
1 when none was found, one that was asked has not answered, a list was too long for
DNS, or a name server failed; 2 when the command line was wrong.
` + aboutTable,
		Example: "  dicomnam discover imaging.example.org --type CT\n" +
			"  dicomnam discover imaging.example.org --server 192.0.2.2 --echo\n" +
			"  dicomnam discover imaging.example.org --json | jq -r 'select(.tls) | .host'",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := oneArg(cmd, args); err != nil {
				return err
			}
			return o.check(args[0])
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&o.deviceType, "type", "", "only devices of this Primary Device `TYPE`, such as CT")
	f.StringSliceVar(&o.services, "service", dicomServices, "only these `SERVICES`")
	f.StringVar(&o.server, "server", "", "the name server to ask, `HOST[:PORT]` (default those of /etc/resolv.conf)")
	f.BoolVar(&o.echo, "echo", false, "ask each application by C-ECHO")
	f.StringVar(&o.calling, "calling-ae", cecho.DefaultCallingAE, "with --echo, call as this AE `TITLE`")
	f.DurationVar(&o.timeout, "timeout", 5*time.Second, "with --echo, how long each may take")
	f.StringVar(&o.ca, "ca", "", "with --echo, check certificates against those in this `FILE` (PEM)")
	f.StringVar(&o.cert, "cert", "", "with --echo, the certificate to show, a `FILE` (PEM)")
	f.StringVar(&o.key, "key", "", "with --echo, its private key, a `FILE` (PEM)")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line")
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return dicomServices, cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc("service", complete); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

const aboutTable = `
A table has one header line; its columns are separated by white space, "-" stands
for nothing, and characters that would break it are written as in \x20. With --json
there is one JSON object a line.`

type discoverOptions struct {
	deviceType, server, calling string
	services                    []string
	echo, json                  bool
	timeout                     time.Duration
	ca, cert, key               string
}

// check finds what is wrong with the command line.
func (o *discoverOptions) check(domain string) error {
	if _, ok := dns.IsDomainName(domain); !ok || domain == "" {
		return fmt.Errorf("domain %q: expected a domain name such as imaging.example.org", domain)
	}
	if len(o.deviceType) > 16 {
		return fmt.Errorf("type %q: expected at most 16 characters, such as CT", o.deviceType)
	}
	if o.server != "" {
		if _, _, err := splitServer(o.server); err != nil {
			return err
		}
	}
	for _, s := range o.services {
		if !slices.Contains(dicomServices, s) {
			return fmt.Errorf("service %q: expected some of %s", s, strings.Join(dicomServices, ","))
		}
	}
	if err := cecho.CheckTitle(o.calling); err != nil {
		return err
	}
	if (o.cert == "") != (o.key == "") {
		return errors.New("--cert and --key: expected both, or none")
	}
	if o.timeout <= 0 {
		return fmt.Errorf("timeout %s: expected more than 0", o.timeout)
	}
	return nil
}

// run browses, asks, and prints.
func (o *discoverOptions) run(cmd *cobra.Command, domain string) error {
	ctx := cmd.Context()
	config, err := o.tls()
	if err != nil {
		return err
	}
	a, err := newAsker(ctx, o.server)
	if err != nil {
		return err
	}
	d := &discovery{asker: a, domain: dns.Fqdn(domain), deviceType: o.deviceType}
	if err := d.browse(ctx, o.services); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		return err
	}
	for _, err := range d.failed {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
	}
	asked, failed := 0, 0
	if o.echo {
		asked, failed = o.ask(ctx, config, d.all)
		for _, f := range d.all {
			if f.Echo != nil && !f.Echo.Success {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s at %s: %s\n", cell(cmp.Or(f.AETitle, f.Name)), f.where(), f.Echo.Error)
			}
		}
	}
	err = o.print(cmd.OutOrStdout(), d.all)
	of := ""
	if o.deviceType != "" {
		of = " of type " + cell(o.deviceType)
	}
	switch {
	case err != nil:
		return err
	case len(d.cut) > 0:
		return fmt.Errorf("list at %s is longer than a DNS message: not all are shown; try --type", strings.Join(d.cut, ", "))
	case len(d.all) == 0 && len(d.failed) == 0:
		return fmt.Errorf("no DICOM services%s in %s", of, domain)
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case len(d.failed) > 0:
		return fmt.Errorf("unanswered questions: %d; not all may be shown", len(d.failed))
	case failed > 0:
		return fmt.Errorf("%d of %d did not answer", failed, asked)
	}
	return nil
}

// tls makes the configuration of all that are asked in TLS.
func (o *discoverOptions) tls() (*tls.Config, error) {
	// Without --ca certificates are not checked, as the command says.
	config := &tls.Config{InsecureSkipVerify: o.ca == ""}
	if o.ca != "" {
		data, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s: no certificate in it, expected PEM", o.ca)
		}
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", o.cert, o.key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// echoed is the outcome of a C-ECHO.
type echoed struct {
	Success        bool    `json:"success"`
	Milliseconds   float64 `json:"milliseconds,omitempty"` // until the answer
	Error          string  `json:"error,omitempty"`
	Implementation string  `json:"implementation,omitempty"` // what the other side says it is
}

// ask asks all that speak DICOM over TCP, some at a time, and returns how many
// these are, and how many of them have not answered with success.
func (o *discoverOptions) ask(ctx context.Context, config *tls.Config, all []found) (asked, failed int) {
	var g errgroup.Group
	g.SetLimit(askedAtOnce)
	for i := range all {
		f := &all[i]
		if f.Service != "dicom" && f.Service != "dicom-tls" {
			continue
		}
		f.Echo = new(echoed)
		g.Go(func() error {
			*f.Echo = o.askOne(ctx, config, f)
			return nil
		})
	}
	_ = g.Wait() // no error comes
	for _, f := range all {
		if f.Echo == nil {
			continue
		}
		asked++
		if !f.Echo.Success {
			failed++
		}
	}
	return asked, failed
}

func (o *discoverOptions) askOne(ctx context.Context, config *tls.Config, f *found) echoed {
	switch {
	case !f.Address.IsValid():
		return echoed{Error: "its host has no address"}
	case f.AETitle == "":
		return echoed{Error: "nothing says what its AE title is"}
	}
	c := &cecho.Client{CallingAE: o.calling}
	if f.TLS {
		c.TLS = config.Clone()
		c.TLS.ServerName = f.Host
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	r, err := c.Echo(ctx, f.where(), f.AETitle)
	e := echoed{Success: err == nil, Milliseconds: float64(r.Answer.Round(10*time.Microsecond)) / float64(time.Millisecond), Implementation: r.ImplementationVersion}
	if err != nil {
		e.Error = err.Error()
	}
	return e
}

func (f *found) where() string {
	if !f.Address.IsValid() {
		return f.Host
	}
	return net.JoinHostPort(f.Address.String(), strconv.Itoa(int(f.Port)))
}

// print writes what was found.
func (o *discoverOptions) print(w io.Writer, all []found) error {
	if o.json {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		for _, f := range all {
			if f.Types == nil {
				f.Types = []string{}
			}
			if err := encoder.Encode(f); err != nil {
				return err
			}
		}
		return nil
	}
	columns := []column{{"NAME", 0}, {"AE-TITLE", 0}, {"HOST", 0}, {"ADDRESS", 0}, {"PORT", 0}, {"TYPE", 0}, {"SERVICE", 0}, {"TLS", 0}}
	if o.echo {
		columns = append(columns, column{"ECHO", 0}, column{"TIME", 0})
	}
	t := newTable(w, columns...)
	for _, f := range all {
		address := ""
		if f.Address.IsValid() {
			address = f.Address.String()
		}
		cells := []string{f.Name, f.AETitle, f.Host, address, strconv.Itoa(int(f.Port)), strings.Join(f.Types, ","), f.Service, yesNo(f.TLS)}
		if o.echo {
			success, after := "", ""
			if f.Echo != nil {
				success = yesNo(f.Echo.Success)
				if f.Echo.Milliseconds > 0 {
					after = fmt.Sprintf("%.1fms", f.Echo.Milliseconds)
				}
			}
			cells = append(cells, success, after)
		}
		if err := t.row(cells...); err != nil {
			return err
		}
	}
	return t.flush()
}
