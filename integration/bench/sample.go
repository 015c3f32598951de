//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A sample is what was measured once.
type sample struct {
	elapsed   time.Duration
	latencies []time.Duration // of what succeeded
	failed    map[string]int  // by reason
	lost      int             // never answered
	repeated  int             // requests that were sent again
	drops     int             // of those, by the server's full buffer
	missed    int             // answers that the load itself was too slow to read
	gap       time.Duration   // the longest in which nothing succeeded, where it is known
	cpu       time.Duration   // of the server
	own       time.Duration   // CPU time of this program
	busy      float64         // share of the machine that was used
	steal     float64         // share of the machine that its host gave to others
	others    float64         // share of the machine that was neither the server's nor ours
	late      time.Duration   // p99 of what a paced load was late with sending
	sorted    bool
}

func newSample() *sample { return &sample{failed: map[string]int{}} }

func (s *sample) fail(err error) { s.failed[reason(err)]++ }

// merge adds what was measured at another time, or by another client.
func (s *sample) merge(o *sample) {
	s.latencies, s.sorted = append(s.latencies, o.latencies...), false
	for r, n := range o.failed {
		s.failed[r] += n
	}
	if total := s.elapsed + o.elapsed; total > 0 {
		mean := func(a, b float64) float64 {
			return (a*s.elapsed.Seconds() + b*o.elapsed.Seconds()) / total.Seconds()
		}
		s.others, s.busy, s.steal = mean(s.others, o.others), mean(s.busy, o.busy), mean(s.steal, o.steal)
	}
	s.elapsed += o.elapsed
	s.lost += o.lost
	s.repeated += o.repeated
	s.drops += o.drops
	s.missed += o.missed
	s.gap = max(s.gap, o.gap)
	s.cpu += o.cpu
	s.own += o.own
	s.late = max(s.late, o.late)
}

// rate is of successful operations, a second.
func (s *sample) rate() float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return float64(len(s.latencies)) / s.elapsed.Seconds()
}

// quantile returns the latency that the share p of the operations did not exceed.
func (s *sample) quantile(p float64) time.Duration {
	if len(s.latencies) == 0 {
		return 0
	}
	if !s.sorted {
		slices.Sort(s.latencies)
		s.sorted = true
	}
	return s.latencies[min(int(p*float64(len(s.latencies))), len(s.latencies)-1)]
}

// perOp is the server's CPU time of one operation.
func (s *sample) perOp() time.Duration {
	if len(s.latencies) == 0 {
		return 0
	}
	return s.cpu / time.Duration(len(s.latencies))
}

// median is the sample of the median rate.
func median(samples []*sample) *sample {
	samples = slices.Clone(samples)
	slices.SortFunc(samples, func(a, b *sample) int { return int(a.rate() - b.rate()) })
	return samples[len(samples)/2]
}

// failures says what failed, "" if nothing did.
func (s *sample) failures() string {
	var all []string
	for _, r := range slices.Sorted(maps.Keys(s.failed)) {
		all = append(all, fmt.Sprintf("%d %s", s.failed[r], r))
	}
	return strings.Join(all, ", ")
}

// calm waits until the rest of the machine is quiet, or the patience ends.
func (b *bench) calm(ctx context.Context) {
	const look = 200 * time.Millisecond
	for begin := time.Now(); time.Since(begin) < b.wait && ctx.Err() == nil; {
		own, machine := cpuOfSelf(), cpuOfMachine()
		time.Sleep(look)
		if others := cpuOfMachine() - machine - (cpuOfSelf() - own); others < look*time.Duration(processors())/20 {
			return
		}
	}
}

// settle waits until a server has nothing left to do, or the patience ends.
func (b *bench) settle(ctx context.Context, s *server) {
	const look = 3 * tick
	for begin := time.Now(); time.Since(begin) < b.wait && ctx.Err() == nil; {
		used := cpuOf(s.PID())
		time.Sleep(look)
		if cpuOf(s.PID()) == used {
			return
		}
	}
}

// measure runs a load against a server, when the machine is quiet, and adds what
// the processors did.
func (b *bench) measure(ctx context.Context, s *server, load func() (*sample, error)) (*sample, error) {
	b.calm(ctx)
	return b.observe(s, load)
}

// observe is measure, but for the waiting.
func (b *bench) observe(s *server, load func() (*sample, error)) (*sample, error) {
	begin, server, own, machine, steal := time.Now(), cpuOf(s.PID()), cpuOfSelf(), cpuOfMachine(), stolen()
	drops := dropped(s.port)
	result, err := load()
	if err != nil {
		return nil, err
	}
	result.cpu = cpuOf(s.PID()) - server
	result.own = cpuOfSelf() - own
	all := time.Since(begin).Seconds() * float64(processors())
	busy := cpuOfMachine() - machine
	result.busy, result.steal = busy.Seconds()/all, (stolen()-steal).Seconds()/all
	result.others = max(0, (busy-result.cpu-result.own).Seconds()/all)
	result.drops = dropped(s.port) - drops
	select {
	case <-s.Done():
		return nil, fmt.Errorf("%w\n%s", s.Ended(), s.Tail(10))
	default:
		return result, nil
	}
}

// tick is the unit of the times in /proc, on every architecture that Go knows.
const tick = time.Second / 100

// cpuOf is the CPU time that a process has used: fields 14 and 15 of proc(5).
func cpuOf(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return parseStat(string(data))
}

func parseStat(stat string) time.Duration {
	// The name, in parentheses, may hold anything.
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 13 {
		return 0
	}
	return ticks(f[11], f[12])
}

// cpuOfMachine is the time that all processors were busy, or were taken away.
func cpuOfMachine() time.Duration {
	f := machineTimes()
	// user, nice, system; then idle and iowait; then irq, softirq and steal.
	return ticks(f[1], f[2], f[3], f[6], f[7], f[8])
}

// stolen is the time in which the machine's host gave its processors to others.
func stolen() time.Duration { return ticks(machineTimes()[8]) }

// machineTimes is the first line of /proc/stat, as it is explained in proc(5).
func machineTimes() []string {
	data, _ := os.ReadFile("/proc/stat") // without it, all is 0
	line, _, _ := strings.Cut(string(data), "\n")
	if f := strings.Fields(line); len(f) >= 9 {
		return f
	}
	return slices.Repeat([]string{"0"}, 9)
}

func cpuOfSelf() time.Duration {
	var all time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			all += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return all
}

// processors is how many the machine has, however many this process may use.
func processors() int {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 1
	}
	return max(1, strings.Count(string(data), "\ncpu"))
}

func ticks(fields ...string) time.Duration {
	var sum time.Duration
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		sum += time.Duration(n) * tick
	}
	return sum
}

// resident is the memory of a process, in bytes.
func resident(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// parseDrops finds the last column of /proc/net/udp for a local address.
func parseDrops(table, local string) int {
	sum := 0
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 13 || f[1] != local {
			continue
		}
		if n, err := strconv.Atoi(f[len(f)-1]); err == nil {
			sum += n
		}
	}
	return sum
}

// fsyncBaseline measures the disk: write and fsync of 4 KiB, at the end of a file.
func fsyncBaseline(dir string) (_ *sample, err error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		_ = os.Remove(f.Name()) // the directory is removed anyway
	}()
	s, block, start := newSample(), make([]byte, 4<<10), time.Now()
	for len(s.latencies) < 1000 && time.Since(start) < time.Second {
		begin := time.Now()
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		s.latencies = append(s.latencies, time.Since(begin))
	}
	return s, nil
}

// isTmpfs reports whether a directory is on no disk.
func isTmpfs(dir string) bool {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var fs syscall.Statfs_t
	return syscall.Statfs(dir, &fs) == nil && (fs.Type == tmpfs || fs.Type == ramfs)
}
