package lease

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestNameStats has changes come and go, and asks how long the first one waits.
func TestNameStats(t *testing.T) {
	f := open(t, testConfig())
	q := func(n byte) Query { return named(n, fmt.Sprintf("ws%d", n), link2) }
	for n := byte(1); n <= 3; n++ {
		f.get(q(n))
		f.settled()
		f.clock.advance(time.Second)
	}
	if s := f.NameStats(); s != (NameStats{Waiting: 3, Oldest: 3 * time.Second}) {
		t.Errorf("%+v", s)
	}
	changes := f.TakeNameChanges(10)
	f.confirm(changes[2:]) // the first
	if s := f.NameStats(); s != (NameStats{Waiting: 2, Oldest: 2 * time.Second}) {
		t.Errorf("%+v", s)
	}
	f.FailNameChange(changes[1], f.clock.now().Add(time.Minute), Trouble{Conflict: true, Text: "taken"})
	if s := f.NameStats(); s != (NameStats{Waiting: 2, Conflicts: 1, Oldest: time.Second}) {
		t.Errorf("%+v", s)
	}
	// Its address still has the name, and that is to change.
	f.RetryNameChanges()
	f.wantChanges()
	f.clock.advance(2 * time.Minute)
	changes[1] = f.wantChanges("+ws2.imaging.example.org. 198.51.100.11")[0]
	f.FailNameChange(changes[1], f.clock.now().Add(time.Minute), Trouble{Conflict: true, Pointer: true, Text: "taken; its pointer: REFUSED"})
	f.settled()
	if l, _ := f.Lease(changes[1].Address); l.NameState != NameConflict {
		t.Errorf("%+v", l)
	}
	f.RetryNameChanges()
	f.FailNameChange(f.wantChanges("+ws2.imaging.example.org. 198.51.100.11")[0], f.clock.now().Add(time.Minute), Trouble{Conflict: true, Text: "taken"})
	f.confirm(changes[:1])
	// What waits for ever does not have what is over remembered.
	for n := range 5000 {
		f.get(q(5))
		f.settled()
		f.confirm(f.TakeNameChanges(1))
		f.release(q(5), addr("198.51.100.13"))
		f.settled()
		f.confirm(f.TakeNameChanges(1))
		if n%100 == 0 {
			if got := len(f.names.ages); got > 3000 {
				t.Fatalf("%d ages after %d leases", got, n)
			}
		}
	}
}

// TestOldestPointer has a name that is somebody else's, while its address cannot lose it: that waits as any other change.
func TestOldestPointer(t *testing.T) {
	f := open(t, testConfig())
	f.get(named(1, "ws1", link2))
	f.settled()
	f.FailNameChange(f.wantChanges("+ws1.imaging.example.org. 198.51.100.10")[0], f.clock.now().Add(time.Minute), Trouble{Conflict: true, Pointer: true})
	f.clock.advance(time.Second)
	if s := f.NameStats(); s != (NameStats{Waiting: 1, Conflicts: 1, Oldest: time.Second}) {
		t.Errorf("%+v", s)
	}
}

// TestOldestUnconfirmed has a change confirmed while the disk takes its time: DNS has it, so nothing waits for DNS.
func TestOldestUnconfirmed(t *testing.T) {
	slow := &stalled{reached: make(chan struct{}), release: make(chan struct{})}
	f := &fixture{T: t, clock: newClock(), fs: errorfs.Wrap(vfs.NewMem(), slow)}
	f.open(testConfig())
	f.get(named(1, "ws1", link2))
	f.settled()
	f.clock.advance(time.Second)
	if s := f.NameStats(); s.Oldest != time.Second {
		t.Errorf("taken by nobody: %+v", s)
	}
	changes := f.wantChanges("+ws1.imaging.example.org. 198.51.100.10")
	slow.on.Store(true)
	_, other := f.ahead(selecting(named(2, "ws2", link2), f.discover(named(2, "ws2", link2)).Lease.Address))
	<-slow.reached
	if err := f.ConfirmNameChange(changes[0]); err != nil {
		t.Fatal(err)
	}
	if s := f.NameStats(); s.Oldest != 0 {
		t.Errorf("confirmed and not committed: %+v", s)
	}
	slow.on.Store(false)
	slow.release <- struct{}{}
	done := make(chan error, 1)
	other.Then(func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
