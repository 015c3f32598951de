package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// history checks what History says of an address, each event as the client's last octet, the state, the time and the
// first label of the name.
func (f *fixture) history(a string, want ...string) {
	f.Helper()
	events, err := f.History(context.Background(), addr(a), 1000)
	if err != nil {
		f.Fatal(err)
	}
	var got []string
	for _, e := range events {
		until := "never"
		if !e.Until.IsZero() {
			until = e.Until.UTC().Format("15:04")
		}
		label, _, _ := strings.Cut(e.Name, ".")
		got = append(got, strings.TrimSpace(fmt.Sprintf("%02x %v %s-%s %s", e.Client.HardwareAddr[5], e.State,
			e.Time.UTC().Format("15:04"), until, label)))
	}
	if !slices.Equal(got, want) {
		f.Errorf("history of %s: %q, want %q", a, got, want)
	}
}

func TestHistory(t *testing.T) {
	const a = "198.51.100.10"
	f := open(t, testConfig())
	f.history(a)
	one, two := named(1, "ws1", link2), query(client(2), link2)
	f.get(one)
	f.history(a, "01 active 08:00-09:00 ws1")
	f.clock.advance(30 * time.Minute)
	f.request(renewing(one, addr(a)))
	f.history(a, "01 active 08:00-09:30 ws1")
	f.release(one, addr(a))
	f.history(a, "01 released 08:00-08:30 ws1")
	f.clock.advance(10 * time.Minute)
	f.request(selecting(two, addr(a)))
	f.history(a, "02 active 08:40-09:40", "01 released 08:00-08:30 ws1")
	f.clock.advance(2 * time.Hour)
	f.expireAll()
	f.reopen(testConfig())
	f.history(a, "02 expired 08:40-09:40", "01 released 08:00-08:30 ws1")
	f.request(rebooting(two, addr(a)))
	f.decline(two, addr(a))
	f.history(a, "02 declined 10:40-10:40", "02 expired 08:40-09:40", "01 released 08:00-08:30 ws1")
	f.clock.advance(24 * time.Hour)
	f.expireAll() // the rest is over, which nobody's time on the address is
	f.history(a, "02 declined 10:40-10:40", "02 expired 08:40-09:40", "01 released 08:00-08:30 ws1")
	t.Run("limit", func(t *testing.T) {
		for limit, want := range map[int]int{-1: 0, 0: 0, 1: 1, 2: 2, 9: 3} {
			if got, err := f.History(context.Background(), addr(a), limit); err != nil || len(got) != want {
				t.Errorf("limit %d: %d events, %v", limit, len(got), err)
			}
		}
	})
	t.Run("a client that takes over from another of its machine", func(t *testing.T) {
		f := open(t, testConfig())
		uefi, system := query(Client{1, mac(0xc1), "\x00uefi"}, link), query(Client{1, mac(0xc1), "\xffos"}, link)
		f.get(uefi)
		f.clock.advance(time.Minute)
		f.get(system)
		f.history("192.0.2.11", "c1 active 08:01-09:01 ct1", "c1 released 08:00-08:01 ct1")
	})
	t.Run("a client that goes on under another name", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		f.clock.advance(time.Minute)
		f.request(renewing(named(1, "ws2", link2), addr(a)))
		f.clock.advance(time.Minute)
		f.request(renewing(query(client(1), link2), addr(a))) // says nothing: it keeps the name
		f.release(one, addr(a))
		f.reopen(testConfig())
		f.history(a, "01 released 08:00-08:02 ws2", "01 renamed 08:00-08:01 ws1")
	})
	t.Run("one that ended before anybody noticed", func(t *testing.T) {
		f := open(t, testConfig())
		f.get(one)
		f.clock.advance(2 * time.Hour)
		f.request(selecting(two, addr(a)))
		f.history(a, "02 active 10:00-11:00", "01 expired 08:00-09:00 ws1")
	})
	t.Run("of a closed Manager, with an ended context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := f.History(ctx, addr(a), 1); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.History(context.Background(), addr(a), 1); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		f.open(testConfig())
	})
}

// events is the numbers of the events of an address that are on disk.
func (f *fixture) events(a string) []uint32 {
	f.Helper()
	var list []uint32
	from, to := appendEventKey(nil, addr(a), 0), appendEventKey(nil, addr(a), maxEvents-1)
	if err := f.store.readAll(from, append(to, 0), func(_, value []byte) error {
		e, err := decodeEvent(value)
		list = append(list, e.number)
		return err
	}); err != nil {
		f.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func TestHistoryIsBounded(t *testing.T) {
	const a = "198.51.100.10"
	f := open(t, testConfig())
	turn := func(n int) {
		q := query(client(byte(n)), link2)
		f.request(selecting(q, addr(a)))
		f.release(q, addr(a))
		f.clock.advance(time.Minute)
	}
	for n := range 3*maxEvents + 5 {
		turn(n)
	}
	f.reopen(testConfig())
	on := f.events(a)
	if len(on) != maxEvents || on[0] != 2*maxEvents+5 {
		t.Errorf("events %v", on)
	}
	list, err := f.History(context.Background(), addr(a), 1000)
	if err != nil || len(list) != maxEvents {
		t.Fatalf("%d events, %v", len(list), err)
	}
	for i, e := range list {
		if n := byte(3*maxEvents + 4 - i); e.Client.HardwareAddr[5] != n {
			t.Errorf("event %d is of %x, want %x", i, e.Client.HardwareAddr[5], n)
		}
	}
	t.Run("with many addresses", func(t *testing.T) {
		keep := uint32(5)
		f.mu.Lock()
		f.bindings.entered = maxHistory / int(keep)
		if k := f.eventsKept(); k != keep {
			t.Errorf("keeps %d, want %d", k, keep)
		}
		f.mu.Unlock()
		for n := range 2 * maxEvents {
			turn(n)
		}
		if on := f.events(a); len(on) != int(keep) {
			t.Errorf("events %v", on)
		}
		if list, err := f.History(context.Background(), addr(a), 1000); err != nil || len(list) != int(keep) {
			t.Errorf("%d events, %v", len(list), err)
		}
	})
}
