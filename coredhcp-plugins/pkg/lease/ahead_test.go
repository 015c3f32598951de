package lease

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// ahead asks without waiting, and returns what there is to wait for.
func (f *fixture) ahead(q Query) (ans Answer, c *Commit) {
	f.Helper()
	q.Ahead = func(given *Commit) { c = given }
	ans, err := f.Request(context.Background(), q)
	if err != nil {
		f.Fatal(err)
	}
	return ans, c
}

// TestAhead has decisions made while an earlier group is being synced: they are told at once, share the Commit, and are
// called back when they are on disk, and not before.
func TestAhead(t *testing.T) {
	slow := &stalled{reached: make(chan struct{}), release: make(chan struct{})}
	f := &fixture{T: t, clock: newClock(), fs: errorfs.Wrap(vfs.NewMem(), slow)}
	f.open(testConfig())
	var offered [4]netip.Addr
	for i := range offered {
		offered[i] = f.discover(query(client(byte(i)), link2)).Lease.Address
	}
	slow.on.Store(true)
	called := make(chan int, len(offered))
	var commits [len(offered)]*Commit
	for i, a := range offered {
		ans, c := f.ahead(selecting(query(client(byte(i)), link2), a))
		if ans.Kind != Ack || c == nil {
			t.Fatalf("client %d: %v, commit %v", i, ans.Kind, c)
		}
		commits[i] = c
		c.Then(func(err error) {
			if _, there := f.Lease(a); !there || err != nil {
				t.Errorf("client %d was called back with %v, lease there: %t", i, err, there)
			}
			called <- i
		})
		if i == 0 {
			<-slow.reached
		}
	}
	if commits[0] == commits[1] || commits[1] != commits[2] || commits[2] != commits[3] {
		t.Errorf("commits %p, want the first by itself and the others together", commits)
	}
	if len(called) != 0 {
		t.Error("called back before the sync")
	}
	if before := f.Writing(); before <= 0 {
		t.Errorf("writing for %v while a sync does not end", before)
	} else if time.Sleep(time.Millisecond); f.Writing() < before+time.Millisecond {
		t.Errorf("writing for %v a millisecond after %v", f.Writing(), before)
	}
	slow.release <- struct{}{}
	if got := <-called; got != 0 {
		t.Errorf("client %d came first", got)
	}
	<-slow.reached
	if len(called) != 0 {
		t.Error("the second group was called back before its sync")
	}
	slow.on.Store(false)
	slow.release <- struct{}{}
	for want := range 3 {
		if got := <-called; got != want+1 {
			t.Errorf("client %d, want %d", got, want+1)
		}
	}
	for wait := 0; f.Writing() != 0; wait++ {
		if wait == 5000 {
			t.Fatalf("writing for %v when all is written", f.Writing())
		}
		time.Sleep(time.Millisecond)
	}
	late := false
	commits[3].Then(func(err error) { late = err == nil })
	if !late {
		t.Error("not called back for what is on disk already")
	}
	if ans, c := f.ahead(selecting(query(client(9), link2), offered[0])); ans.Kind != Nak || c != nil {
		t.Errorf("nothing to write: %v, commit %v", ans.Kind, c)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestAheadFails holds that a lease that could not be written is called back with the reason, and is not there.
func TestAheadFails(t *testing.T) {
	bad := &failing{}
	bad.kind.Store(int32(errorfs.OpFileSync))
	f := &fixture{T: t, clock: newClock(), fs: errorfs.Wrap(vfs.NewMem(), bad)}
	f.open(testConfig())
	q := query(client(1), link2)
	a := f.discover(q).Lease.Address
	bad.on.Store(true)
	ans, c := f.ahead(selecting(q, a))
	if ans.Kind != Ack || c == nil {
		t.Fatal(ans.Kind, c)
	}
	failed := make(chan error, 1) // it may be called back at once, here
	c.Then(func(err error) { failed <- err })
	if err := <-failed; err == nil {
		t.Error("called back without an error")
	}
	if _, there := f.Lease(a); there {
		t.Error("the lease is there all the same")
	}
	bad.on.Store(false)
	_ = f.Close() // it may tell of the failure
}

// TestAheadClose holds that Close calls back for what was decided.
func TestAheadClose(t *testing.T) {
	f := &fixture{T: t, clock: newClock(), fs: vfs.NewMem()}
	f.open(testConfig())
	q := query(client(1), link2)
	_, c := f.ahead(selecting(q, f.discover(q).Lease.Address))
	called := false
	c.Then(func(err error) { called = err == nil })
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !called {
		t.Error("not called back")
	}
}

// TestNameBeforeAnswer holds that where one client is alone and nothing else is told to DNS, who waits for NameChanges is
// let on before the client has its answer.
func TestNameBeforeAnswer(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as coredhcp has it
	config := testConfig()
	config.Networks[2].Pools[0].Last = addr("198.51.100.99")
	f := open(t, config)
	const rounds = 50
	var taken atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var worker sync.WaitGroup
	defer worker.Wait()
	defer cancel()
	worker.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-f.NameChanges():
			}
			for _, c := range f.TakeNameChanges(64) {
				taken.Add(1)
				_ = f.ConfirmNameChange(c)
			}
		}
	})
	before := 0
	for n := range rounds {
		q := query(client(byte(n)), link2)
		q.Hostname = fmt.Sprintf("name%d", n)
		o := f.discover(q)
		_, c := f.ahead(selecting(q, o.Lease.Address))
		first := make(chan bool)
		c.Then(func(error) {
			seen := taken.Load()
			go func() { first <- seen == int64(n+1) }()
		})
		if <-first {
			before++
		}
		for patience := 0; taken.Load() < int64(n+1) || f.NameStats().Waiting > 0 || f.Writing() > 0; patience++ {
			if patience == 30_000 {
				t.Fatalf("round %d does not end: %+v", n, f.NameStats())
			}
			time.Sleep(time.Millisecond)
		}
	}
	// Go's scheduler looks now and then at those that have waited for long, which is the committer then.
	if before < rounds/2 {
		t.Errorf("the name was taken before the answer %d of %d times", before, rounds)
	}
}
