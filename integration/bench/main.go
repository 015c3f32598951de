//go:build linux

// Command bench measures dicomnam beside its peers, in one run on one machine:
// `make bench`. README.md says what the columns mean.
//
// It is not a test: whatever the figures are, the exit status is 0. It is 1 where
// dicom itself could not be measured.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// options are what the flags say.
type options struct {
	bin      string
	dir      string
	only     []string
	sizes    []int         // records of the zones that are updated
	names    int           // of the zone that is started with
	leases   int           // that are held
	devices  int           // of the site file that is reloaded
	duration time.Duration // of each measurement
	follow   time.Duration // of leases whose names DNS is to follow
	rounds   int           // how often each is done
	limit    time.Duration // for everything
	wait     time.Duration // for a quiet machine, before each measurement at most
	profile  string        // files for CPU profiles, which are then all that is done
	keep     bool
	mode     lab.Mode // of the network of the DHCP side
}

// sections are the parts of the benchmark, in their order.
var sections = []string{"updates", "queries", "mixed", "reload", "startup", "exchanges", "held", "names", "followed", "slowed", "caughtup"}

// wiredSections need a network of their own.
var wiredSections = []string{"exchanges", "held", "names", "followed", "slowed", "caughtup"}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if err := o.enter(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	err = run(ctx, o, os.Stdout, os.Stderr)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// enter finds out what network the DHCP side can have; where that takes a user
// namespace, the program goes on in there.
func (o *options) enter() (err error) {
	if slices.ContainsFunc(o.only, func(s string) bool { return slices.Contains(wiredSections, s) }) {
		o.mode, _, err = lab.Enter(0)
	}
	return err
}

func parse(args []string) (options, error) {
	o := options{
		sizes: []int{10_000}, names: 100_000, leases: 100_000, devices: 5_000,
		duration: 4 * time.Second, follow: 30 * time.Second, rounds: 3, wait: 3 * time.Second, limit: 20 * time.Minute,
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	short := f.Bool("short", false, "small zones, one round; about four minutes")
	full := f.Bool("full", false, "zones up to 1,000,000 records; about 25 minutes")
	f.StringVar(&o.bin, "bin", cmp.Or(os.Getenv("DICOMNAM_BIN"), "bin"), "directory of the binary coredns")
	f.StringVar(&o.dir, "dir", "", "directory on the disk to measure (default the one for temporary files)")
	only := f.String("only", strings.Join(sections, ","), "parts to run, with commas between")
	sizes := f.String("sizes", "", "records of the zones that are updated, with commas between (default 10000)")
	names := f.Int("names", 0, "names of the zone that is started with (default 100000)")
	leases := f.Int("leases", 0, "leases that are held (default 100000, at most 1000000)")
	duration := f.Duration("d", 0, "length of each measurement (default 4s)")
	follow := f.Duration("follow", 0, "length of the load that DNS is to follow (default 30s, with -short 5s)")
	rounds := f.Int("rounds", 0, "how often each measurement is done (default 3)")
	wait := f.Duration("wait", -1, "how long to wait for a quiet machine before each measurement (default 3s, with -short 0)")
	f.StringVar(&o.profile, "profile", "", "only write CPU profiles of dicom under updates, to `files` that begin so")
	f.BoolVar(&o.keep, "keep", false, "keep the configuration files, databases and logs")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case *short && *full:
		return o, errors.New("-short and -full exclude each other")
	case f.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q", f.Arg(0))
	case *short:
		o.names, o.leases, o.duration, o.follow, o.rounds, o.wait, o.limit = 10_000, 20_000, time.Second, 5*time.Second, 1, 0, 6*time.Minute
	case *full:
		o.sizes, o.names, o.leases, o.limit = []int{10_000, 100_000, 1_000_000}, 1_000_000, fillLimit, 2*time.Hour
	}
	// What is given explicitly goes before -short and -full.
	o.names = cmp.Or(*names, o.names)
	o.leases = cmp.Or(*leases, o.leases)
	o.duration = cmp.Or(*duration, o.duration)
	o.follow = cmp.Or(*follow, o.follow)
	o.rounds = cmp.Or(*rounds, o.rounds)
	if *wait >= 0 {
		o.wait = *wait
	}
	if *sizes != "" {
		o.sizes = nil
		for s := range strings.SplitSeq(*sizes, ",") {
			n, err := strconv.Atoi(s)
			if err != nil {
				return o, fmt.Errorf("-sizes: %w", err)
			}
			o.sizes = append(o.sizes, n)
		}
	}
	o.only = strings.Split(*only, ",")
	for _, s := range o.only {
		if !slices.Contains(sections, s) {
			return o, fmt.Errorf("-only: no part %q, only %s", s, strings.Join(sections, ", "))
		}
	}
	// The largest is what fits into 10.0.0.0/8, where the addresses come from.
	for _, n := range append(slices.Clone(o.sizes), o.names) {
		if n < 1 || n > 4_000_000 {
			return o, fmt.Errorf("%d records: expected 1 to 4000000", n)
		}
	}
	if o.leases < 1 || o.leases > fillLimit {
		return o, fmt.Errorf("%d leases: expected 1 to %d", o.leases, fillLimit)
	}
	if o.duration < 0 || o.follow < 0 || o.rounds < 0 {
		return o, errors.New("-d, -follow and -rounds: expected more than 0")
	}
	return o, nil
}

// A bench is one run.
type bench struct {
	options
	lab   *lab.Lab // of the DNS side: on loopback
	net   *lab.Lab // the network of the DHCP side; nil until it is needed
	table table
	log   io.Writer // what is going on
	count int       // of servers that were started, for their directories

	missing []string // peers of which a program is missing, and that was told
}

func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.dir, "dicomnam-bench-")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	if o.keep {
		fmt.Fprintln(stderr, "Files are kept in", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	l, err := lab.New(lab.Config{Mode: lab.Loopback, Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	b := &bench{options: o, lab: l, log: stderr}
	defer func() {
		if b.net != nil {
			err = errors.Join(err, b.net.Close())
		}
	}()
	if o.profile != "" {
		return b.writeProfiles(ctx)
	}
	start := time.Now()
	disk, err := fsyncBaseline(dir)
	if err != nil {
		return err
	}
	parts := map[string]func(context.Context) error{
		"updates": b.updates, "queries": b.queries, "mixed": b.mixed, "reload": b.reload, "startup": b.startup,
		"exchanges": b.exchanges, "held": b.held, "names": b.wired(b.named), "followed": b.wired(b.followed), "slowed": b.wired(b.slowed),
		"caughtup": b.wired(b.caughtUp),
	}
	for _, s := range sections {
		if !slices.Contains(o.only, s) {
			continue
		}
		if err := parts[s](ctx); err != nil {
			b.table.print(stdout) // what there is
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	b.table.print(stdout)
	after, err := fsyncBaseline(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nDisk: write+fsync of 4 KiB takes p50 %s ms, p99 %s ms at the start, p50 %s ms, p99 %s ms at the end.\n",
		ms(disk.quantile(.5)), ms(disk.quantile(.99)), ms(after.quantile(.5)), ms(after.quantile(.99)))
	if isTmpfs(dir) {
		fmt.Fprintf(stdout, "%s is in memory, so nothing here is durable: give -dir.\n", dir)
	}
	fmt.Fprintf(stdout, "Run of %s, %s. \"others\" is what the rest of the machine did meanwhile: over 5 %%, run again when it is quiet.\n",
		start.Format("2006-01-02 15:04"), time.Since(start).Round(time.Second))
	return nil
}

// note says on the way what is being done.
func (b *bench) note(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// skip tells, in the table too, what is not measured and why.
func (b *bench) skip(what, why string) {
	b.note("%s: skipped: %s", what, why)
	b.table.skipped = append(b.table.skipped, what+": "+why)
}
