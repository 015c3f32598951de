//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// startup measures how long servers take to answer for a large zone, and how
// much memory they then have: dicom from the zone file and, as after every later
// start, from its database; the peers from the zone file.
func (b *bench) startup(ctx context.Context) error {
	dicom, _, file, bind, knot := b.kinds()
	zone, err := b.writeZone(b.names, true)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("start with %s names (A, DHCID)", thousands(b.names))
	last := hostName(b.names - 1)
	say := func(s *server, from string) string {
		size := resident(s.PID())
		return fmt.Sprintf("%s ms %s; %.0f MB resident, %d bytes a name", ms(s.took), from, float64(size)/1e6, size/int64(b.names))
	}
	s, err := b.start(ctx, dicom, setup{zone: zone}, last)
	if err != nil {
		return err
	}
	defer func() { s.Kill() }()
	b.tell(what, dicom.name, "", say(s, "from the zone file, for the first time"))
	if err := s.Stop(); err != nil {
		return err
	}
	if err := b.launch(ctx, s, last); err != nil {
		return err
	}
	ours := s.took
	memory := say(s, "from the database (goal 10000 at 1,000,000 names)")
	heap, err := s.liveHeap(ctx)
	if err != nil {
		return err
	}
	b.tell(what, dicom.name, "", fmt.Sprintf("%s; live heap %d bytes a name (goal 1024)", memory, heap/int64(b.names)))
	s.Kill()
	for _, k := range []kind{file, bind, knot} {
		p, err := b.start(ctx, k, setup{zone: zone}, last)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			b.skip(k.name, err.Error())
			continue
		}
		// Of times, the peer's goes above: more is better for dicom.
		b.tell(what, k.name, times(p.took.Seconds(), ours.Seconds(), ""), say(p, "from the zone file"))
		p.Kill()
	}
	return nil
}

// get fetches a profile from a CoreDNS with its pprof plugin.
func (s *server) get(ctx context.Context, path string) ([]byte, error) {
	url := fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/%s", s.debug, path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// heapAlloc is the live heap at the end of a heap profile in text form.
var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = ([0-9]+)$`)

// liveHeap is what remains of the heap when all garbage is gone, in bytes.
func (s *server) liveHeap(ctx context.Context) (int64, error) {
	text, err := s.get(ctx, "heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	m := heapAlloc.FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%s: no HeapAlloc in its heap profile", s.name)
	}
	return strconv.ParseInt(string(bytes.TrimSpace(m[1])), 10, 64)
}

// writeProfiles writes a CPU profile of dicom for each kind of clients that update.
func (b *bench) writeProfiles(ctx context.Context) error {
	dicom, _, _, _, _ := b.kinds()
	size := b.sizes[0]
	zone, err := b.writeZone(size, false)
	if err != nil {
		return err
	}
	s, err := b.start(ctx, dicom, setup{zone: zone}, hostName(size-1))
	if err != nil {
		return err
	}
	defer s.Kill()
	// The server takes whole seconds.
	seconds := max(1, int(b.duration.Seconds()))
	for _, c := range clients {
		var (
			wg   sync.WaitGroup
			data []byte
			told error
		)
		wg.Go(func() { data, told = s.get(ctx, fmt.Sprintf("profile?seconds=%d", seconds)) })
		load := updateLoad{
			to: s.address, zone: zoneName, network: c.network, clients: c.count, prefix: fmt.Sprintf("%s%d", c.network, c.count),
			duration: time.Duration(seconds) * time.Second, limit: 1_000_000,
		}
		got, err := b.measure(ctx, s, func() (*sample, error) { return load.run(ctx), ctx.Err() })
		wg.Wait()
		if err := errors.Join(err, told); err != nil {
			return err
		}
		b.add("profiled updates, "+c.name, s.name, got, "", "")
		name := fmt.Sprintf("%s-%s%d", b.profile, c.network, c.count)
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
		b.note("Look at it with: go tool pprof -top %s", name)
	}
	return nil
}
