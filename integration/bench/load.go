//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

// mixedWindow is how long the mixed load is measured at a time: many short times,
// with updates and without in turn, so that what else the machine does hits both
// alike.
const mixedWindow = time.Second

// A mixture is what was measured of one server in windows.
type mixture struct {
	idle, beside []*sample // queries, without updates and with
	updates      *sample
}

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
	peak, err := b.measure(ctx, servers[0], func() (*sample, error) {
		return queryLoad{to: servers[0].address, queries: queries, duration: b.duration}.run(ctx)
	})
	if err != nil {
		return err
	}
	load := queryLoad{queries: queries, duration: min(mixedWindow, b.duration), rate: peak.rate() / 2}
	found := map[string]*mixture{}
	for _, s := range servers {
		found[s.name] = &mixture{updates: newSample()}
	}
	windows := max(1, int(time.Duration(b.rounds)*b.duration/load.duration))
	for n := range windows {
		for _, s := range servers {
			load.to = s.address
			m := found[s.name]
			idle, err := quietly(b, func(int) (*sample, error) {
				return b.measure(ctx, s, func() (*sample, error) { return load.run(ctx) })
			})
			if err != nil {
				return err
			}
			m.idle = append(m.idle, idle)
			if s.name == file.name {
				continue
			}
			var updated *sample
			beside, err := quietly(b, func(try int) (*sample, error) {
				with := load
				if with.updates, err = newPacedUpdates(fmt.Sprintf("m%d-%d", n, try), load.duration); err != nil {
					return nil, err
				}
				updated = with.updates.sample
				return b.measure(ctx, s, func() (*sample, error) { return with.run(ctx) })
			})
			if err != nil {
				return err
			}
			m.beside = append(m.beside, beside)
			updated.elapsed, updated.others = beside.elapsed, beside.others
			m.updates.merge(updated)
		}
	}
	what := fmt.Sprintf("queries at half the peak of %.0f/s", peak.rate())
	for _, s := range servers {
		b.addWindows(what, s.name, found[s.name].idle, "no updates")
	}
	for _, s := range servers {
		if s.name == file.name {
			continue
		}
		goal := ""
		if s == servers[0] {
			goal = "at most 2"
		}
		m := found[s.name]
		b.addWindows(what, s.name, m.beside, "with updates: p99 "+m.ratio(goal))
	}
	for _, s := range servers {
		if s.name != file.name {
			m := found[s.name]
			b.add("the updates meanwhile", s.name, m.updates, "", fmt.Sprintf("of %d/s; %d sent again", mixedUpdates, m.updates.repeated))
		}
	}
	return nil
}

// quietTries is how often a window is measured at most.
const quietTries = 3

// quietly measures again what the rest of the machine has disturbed, unless the
// bench does not wait for a quiet machine at all.
func quietly(b *bench, measure func(try int) (*sample, error)) (got *sample, err error) {
	for try := range quietTries {
		if got, err = measure(try); err != nil || got.others <= .05 || b.wait == 0 {
			break
		}
	}
	return got, err
}

// ratio says how many times the p99 is with updates what it is without: that of the
// medians, and between which values the middle half of the windows' is.
func (m *mixture) ratio(goal string) string {
	pairs := make([]float64, len(m.beside))
	for i := range pairs {
		pairs[i] = m.beside[i].quantile(.99).Seconds() / m.idle[i].quantile(.99).Seconds()
	}
	slices.Sort(pairs)
	return fmt.Sprintf("%s, half of the windows %.2f-%.2f", times(medianOf(m.beside, .99).Seconds(), medianOf(m.idle, .99).Seconds(), goal),
		pairs[len(pairs)/4], pairs[len(pairs)*3/4])
}

// medianOf is the median of a quantile of each window.
func medianOf(windows []*sample, p float64) time.Duration {
	all := make([]time.Duration, len(windows))
	for i, w := range windows {
		all[i] = w.quantile(p)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// addWindows makes a row of windows, whose latencies are the medians.
func (b *bench) addWindows(what, server string, windows []*sample, say string) {
	all := newSample()
	for i, w := range windows {
		b.note("%s, %s, window %d: p50 %s, p99 %s, longest %s ms, %d lost, %s", server, say, i+1,
			ms(w.quantile(.5)), ms(w.quantile(.99)), ms(w.quantile(1)), w.lost, w.processors())
		all.merge(w)
	}
	r := b.add(what, server, all, "", fmt.Sprintf("%s; %d lost (%d at the server's buffer); %s", say, all.lost, all.drops, all.processors()))
	r.p50, r.p99 = ms(medianOf(windows, .5)), ms(medianOf(windows, .99))
}

// processors says who used the processors, and how much the load was late for it.
func (s *sample) processors() string {
	share := func(d time.Duration) string { return percent(d.Seconds() / s.elapsed.Seconds()) }
	return fmt.Sprintf("of one processor: server %s, load %s; of all: used %s, stolen %s; p99 of late sending %s ms",
		share(s.cpu), share(s.own), percent(s.busy), percent(s.steal), ms(s.late))
}
