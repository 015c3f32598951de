//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// reload measures what a change of the site file costs those who ask and update
// meanwhile.
func (b *bench) reload(ctx context.Context) error {
	dicom, _, _, _, _ := b.kinds()
	path := filepath.Join(b.lab.Dir, "site.yaml")
	if err := os.WriteFile(path, siteFile(b.devices, 0), 0o644); err != nil {
		return err
	}
	s, err := b.start(ctx, dicom, setup{site: path}, siteDevice(b.devices-1))
	if err != nil {
		return err
	}
	defer s.Kill()
	for _, change := range []struct{ moved, device, count int }{
		{moved: 1, device: b.devices - 1, count: 1},
		{moved: b.devices, device: 0, count: b.devices - 1},
		{moved: 0, device: 0, count: b.devices}, // back again
	} {
		r, err := b.reloadOnce(ctx, s, path, change.moved, change.device)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("reload of %s devices, %s changed", thousands(b.devices), thousands(change.count))
		b.tell(what, dicom.name, "", fmt.Sprintf("served %s ms after it was read (goal 500), %s ms after it was written; CPU %s ms",
			ms(r.afterRead), ms(r.afterWrite), ms(r.cpu)))
		b.tell(what, dicom.name, "", fmt.Sprintf("longest query %s ms (before: %s), longest update %s ms (before: %s; goal 20); %d unanswered",
			ms(r.busy.query), ms(r.idle.query), ms(r.busy.update), ms(r.idle.update), r.idle.lost+r.busy.lost))
	}
	return nil
}

// A reloaded is what one change of the site file cost.
type reloaded struct {
	afterRead, afterWrite time.Duration // until a changed device's new address is answered
	idle, busy            longest       // in the second before, and meanwhile
	cpu                   time.Duration // more than in the second before
}

// longest is what clients waited for at most.
type longest struct {
	query, update time.Duration
	lost          int // queries and updates that got no answer, or a wrong one
}

// reloadOnce writes a site file in which other devices have moved than before,
// one of them the given.
func (b *bench) reloadOnce(ctx context.Context, s *server, path string, moved, device int) (*reloaded, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	// The new file is made beside the old one, so that the server sees either.
	next := path + ".new"
	if err := os.WriteFile(next, siteFile(b.devices, moved), 0o644); err != nil {
		return nil, err
	}
	opened, err := watchOpen(next)
	if err != nil {
		return nil, err
	}
	defer func() { _ = opened.Close() }() // it was only read

	w := &watch{
		server: s, name: siteDevice(device), now: &longest{}, served: make(chan time.Time, 1),
		wanted: siteAddress(b.devices, moved, device).String(), prefix: fmt.Sprintf("reload%d", moved),
	}
	stop := w.start(ctx)
	defer stop()
	r := &reloaded{}
	before := cpuOf(s.PID())
	time.Sleep(time.Second)
	r.idle = w.turn()
	cpu, written := cpuOf(s.PID()), time.Now()
	idle := cpu - before // of a second
	if err := os.Rename(next, path); err != nil {
		return nil, err
	}
	if err := opened.SetReadDeadline(written.Add(20 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := opened.Read(make([]byte, 4096)); err != nil {
		return nil, fmt.Errorf("waiting for the site file to be read: %w\n%s", err, s.Tail(10))
	}
	read := time.Now()
	select {
	case at := <-w.served:
		r.afterRead, r.afterWrite = at.Sub(read), at.Sub(written)
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the site file to be served: %w\n%s", ctx.Err(), s.Tail(10))
	}
	time.Sleep(300 * time.Millisecond) // the other zones
	r.busy = w.turn()
	usual := time.Duration(idle.Seconds() * float64(time.Since(written)))
	r.cpu = cpuOf(s.PID()) - cpu - usual
	return r, nil
}

// A watch is one client that asks for a device, and one that updates, both
// without a pause to speak of.
type watch struct {
	server *server
	name   string
	wanted string         // its new address
	served chan time.Time // when that was first answered
	prefix string         // of the names that are added

	mu  sync.Mutex
	now *longest
}

// turn returns what was noted since the last turn.
func (w *watch) turn() longest {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := *w.now
	*w.now = longest{}
	return old
}

// start starts both clients; they end with the returned function.
func (w *watch) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			begin := time.Now()
			found, err := w.ask(ctx)
			w.mu.Lock()
			if ctx.Err() == nil {
				w.now.query = max(w.now.query, time.Since(begin))
				if err != nil {
					w.now.lost++
				}
			}
			w.mu.Unlock()
			if found {
				select {
				case w.served <- time.Now():
				default: // noted already
				}
			}
			time.Sleep(500 * time.Microsecond)
		}
	})
	wg.Go(func() {
		client := updateClient{load: &updateLoad{to: w.server.address, zone: siteDomain, network: "udp", prefix: w.prefix}}
		defer client.close()
		for n := 0; ctx.Err() == nil; n++ {
			begin := time.Now()
			err := client.update(n)
			w.mu.Lock()
			w.now.update = max(w.now.update, time.Since(begin))
			if err != nil {
				w.now.lost++
			}
			w.mu.Unlock()
			time.Sleep(500 * time.Microsecond)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// ask asks for the device, and tells whether the answer is its new address.
func (w *watch) ask(ctx context.Context) (bool, error) {
	m := new(dns.Msg).SetQuestion(w.name, dns.TypeA)
	client := &dns.Client{Timeout: queryTimeout}
	r, _, err := client.ExchangeContext(ctx, m, w.server.address.String())
	if err != nil {
		return false, err
	}
	for _, rr := range r.Answer {
		if a, ok := rr.(*dns.A); ok {
			return a.A.String() == w.wanted, nil
		}
	}
	return false, errors.New("no address")
}

// watchOpen returns a file that can be read when somebody opens path, which may
// be renamed.
func watchOpen(path string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN); err != nil {
		return nil, errors.Join(fmt.Errorf("inotify: %w", err), f.Close())
	}
	return f, nil
}
