//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// maxUpdates bounds one measurement, so that a zone stays about the size that
// the table says.
const maxUpdates = 100_000

// clients are the ways in which updates come.
var clients = []struct {
	name    string
	network string
	count   int
	goals   map[string]string // by peer
}{
	{"1 UDP client", "udp", 1, map[string]string{"BIND": "1", "dynupdate": "100"}},
	{"16 UDP clients", "udp", 16, map[string]string{"BIND": "3", "dynupdate": "100"}},
	{"128 TCP clients", "tcp", 128, map[string]string{"Knot": "2", "dynupdate": "100"}},
}

// updates measures signed updates of zones of each size.
func (b *bench) updates(ctx context.Context) error {
	first := make([]float64, len(clients)) // dicom's rates at the first size
	for n, size := range b.sizes {
		if err := b.updatesAt(ctx, size, n == 0, first); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) updatesAt(ctx context.Context, size int, isFirst bool, first []float64) error {
	dicom, dynupdate, _, bind, knot := b.kinds()
	zone, err := b.writeZone(size, false)
	if err != nil {
		return err
	}
	kinds := []kind{dicom, bind, knot}
	if size <= dynupdate.maxUpdate {
		kinds = append(kinds, dynupdate)
	} else {
		b.skip("dynupdate", fmt.Sprintf("no updates of %s records: it rewrites the zone for each", thousands(size)))
	}
	servers, err := b.startAll(ctx, zone, hostName(size-1), kinds...)
	if err != nil {
		return err
	}
	defer killAll(servers)
	// In each round one server after the other, so that what else the machine
	// does hits all of them alike.
	samples := map[string][]*sample{}
	for round := range b.rounds {
		for _, c := range clients {
			for _, s := range servers {
				load := updateLoad{
					to: s.address, zone: zoneName, network: c.network, clients: c.count,
					prefix: fmt.Sprintf("r%d-%s%d", round, c.network, c.count), duration: b.duration, limit: maxUpdates,
				}
				got, err := b.measure(ctx, s, func() (*sample, error) { return load.run(ctx), ctx.Err() })
				if err != nil {
					return err
				}
				samples[c.name+s.name] = append(samples[c.name+s.name], got)
			}
		}
	}
	for i, c := range clients {
		what := fmt.Sprintf("updates, %s, %s records", c.name, thousands(size))
		ours := median(samples[c.name+dicom.name])
		for _, s := range servers {
			got := median(samples[c.name+s.name])
			switch {
			case s.name != dicom.name:
				b.add(what, s.name, got, compare(ours, got, c.goals[s.name]), "")
			case isFirst:
				first[i] = ours.rate()
				b.add(what, s.name, got, "", "goal: p99 at most 20 ms")
			default:
				b.add(what, s.name, got, "", times(ours.rate(), first[i], "0.8")+" of "+thousands(b.sizes[0])+" records")
			}
		}
	}
	return nil
}

// queriedHosts is the size of the zone of "queries" and "mixed".
const queriedHosts = 10_000

// startQueried starts dicom, `file` and others on one zone, and returns with them
// the queries for it.
func (b *bench) startQueried(ctx context.Context, others ...kind) ([]*server, [][]byte, error) {
	dicom, _, file, _, _ := b.kinds()
	zone, err := b.writeZone(queriedHosts, false)
	if err != nil {
		return nil, nil, err
	}
	queries, err := packQueries(queriedHosts)
	if err != nil {
		return nil, nil, err
	}
	servers, err := b.startAll(ctx, zone, hostName(queriedHosts-1), append([]kind{dicom, file}, others...)...)
	return servers, queries, err
}

// queries measures answers from memory.
func (b *bench) queries(ctx context.Context) error {
	servers, queries, err := b.startQueried(ctx)
	if err != nil {
		return err
	}
	defer killAll(servers)
	with, peak := "own load", func(s *server) (*sample, error) {
		return queryLoad{to: s.address, queries: queries, duration: b.duration}.run(ctx)
	}
	if _, err := lab.LookPath("dnsperf"); err == nil {
		with, peak = "dnsperf", func(s *server) (*sample, error) { return b.dnsperf(ctx, s) }
	}
	samples := map[string][]*sample{}
	for range b.rounds {
		for _, s := range servers {
			got, err := b.measure(ctx, s, func() (*sample, error) { return peak(s) })
			if err != nil {
				return err
			}
			samples[s.name] = append(samples[s.name], got)
		}
	}
	what := fmt.Sprintf("queries, %s records", thousands(queriedHosts))
	dicom := servers[0].name
	ours := median(samples[dicom])
	for _, s := range servers {
		got, peer := median(samples[s.name]), ""
		if s.name != dicom {
			peer = compare(ours, got, "1.3")
		}
		b.add(what, s.name, got, peer, fmt.Sprintf("%s, %d lost", with, got.lost))
	}
	return nil
}

// What dnsperf says at its end.
var (
	dnsperfQPS  = regexp.MustCompile(`Queries per second:\s+([0-9.]+)`)
	dnsperfDone = regexp.MustCompile(`Queries completed:\s+([0-9]+)`)
	dnsperfLost = regexp.MustCompile(`Queries lost:\s+([0-9]+)`)
	dnsperfMean = regexp.MustCompile(`Average Latency \(s\):\s+([0-9.]+)`)
)

// dnsperf measures queries with DNS-OARC's dnsperf. It tells no quantiles, so
// the mean stands for all.
func (b *bench) dnsperf(ctx context.Context, s *server) (*sample, error) {
	questions := filepath.Join(b.lab.Dir, "questions")
	var text []byte
	for i := range queriedHosts {
		text = fmt.Appendf(text, "%s A\n", hostName(i))
	}
	if err := os.WriteFile(questions, text, 0o644); err != nil {
		return nil, err
	}
	out, err := b.lab.Output(ctx, b.lab.Client, "dnsperf", "-s", "127.0.0.1", "-p", strconv.Itoa(int(s.port)),
		"-d", questions, "-c", "20", "-T", "2", "-l", fmt.Sprintf("%.0f", max(1, b.duration.Seconds())))
	if err != nil {
		return nil, err
	}
	return parseDNSPerf(out)
}

func parseDNSPerf(out []byte) (*sample, error) {
	var values []float64
	for _, r := range []*regexp.Regexp{dnsperfQPS, dnsperfDone, dnsperfLost, dnsperfMean} {
		m := r.FindSubmatch(out)
		if m == nil {
			return nil, fmt.Errorf("dnsperf does not tell %s: %q", r, out)
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	got := newSample()
	if values[0] > 0 {
		got.elapsed = time.Duration(values[1] / values[0] * float64(time.Second))
	}
	got.lost = int(values[2])
	got.latencies = make([]time.Duration, int(values[1]))
	for i := range got.latencies {
		got.latencies[i] = time.Duration(values[3] * float64(time.Second))
	}
	return got, nil
}

// mixedUpdates is the rate of updates, a second, beside queries.
const mixedUpdates = 1000

// mixed measures queries at half of what is possible, without updates and with.
// What part of a longer tail is the machine's, which the load shares with the
// server, tell `file` at the same rate, without updates, and BIND, with them.
func (b *bench) mixed(ctx context.Context) error {
	_, _, file, bind, _ := b.kinds()
	servers, queries, err := b.startQueried(ctx, bind)
	if err != nil {
		return err
	}
	defer killAll(servers)
	load := queryLoad{queries: queries, duration: b.duration}
	ask := func(s *server) (*sample, error) {
		load.to = s.address
		return b.measure(ctx, s, func() (*sample, error) { return load.run(ctx) })
	}
	peak, err := ask(servers[0])
	if err != nil {
		return err
	}
	load.rate = peak.rate() / 2
	idle, beside, updates := map[string]*sample{}, map[string]*sample{}, map[string]*sample{}
	for _, s := range servers {
		idle[s.name], beside[s.name], updates[s.name] = newSample(), newSample(), newSample()
	}
	for round := range b.rounds {
		for _, s := range servers {
			got, err := ask(s)
			if err != nil {
				return err
			}
			idle[s.name].merge(got)
			if s.name == file.name {
				continue
			}
			got, err = b.measure(ctx, s, func() (*sample, error) {
				var wg sync.WaitGroup
				wg.Go(func() {
					updates[s.name].merge(updateLoad{
						to: s.address, zone: zoneName, network: "udp", clients: 64, prefix: fmt.Sprintf("m%d", round),
						duration: b.duration, limit: maxUpdates, rate: mixedUpdates,
					}.run(ctx))
				})
				defer wg.Wait()
				return load.run(ctx)
			})
			if err != nil {
				return err
			}
			beside[s.name].merge(got)
		}
	}
	lost := func(s *sample) string {
		return fmt.Sprintf("%d lost (%d at the server's buffer)", s.lost, s.drops)
	}
	what := fmt.Sprintf("queries at half the peak of %.0f/s", peak.rate())
	for _, s := range servers {
		b.add(what, s.name, idle[s.name], "", "no updates: "+lost(idle[s.name]))
	}
	for _, s := range servers {
		if s.name == file.name {
			continue
		}
		goal, none := "", ""
		if s == servers[0] {
			goal, none = "at most 2", ", goal 0"
		}
		b.add(what, s.name, beside[s.name], "", fmt.Sprintf("with updates: %s%s; p99 %s", lost(beside[s.name]), none,
			times(beside[s.name].quantile(.99).Seconds(), idle[s.name].quantile(.99).Seconds(), goal)))
	}
	for _, s := range servers {
		if s.name != file.name {
			updates[s.name].others = beside[s.name].others
			b.add("the updates meanwhile", s.name, updates[s.name], "", fmt.Sprintf("of %d/s; %d sent again", mixedUpdates, updates[s.name].repeated))
		}
	}
	return nil
}
