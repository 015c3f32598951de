package zone

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/miekg/dns"
)

// TestCopyHangs: neither the committer that opens the database anew after a failure, nor Close, waits for a copy to a disk
// that hangs, and the database can be opened again. Nothing that was acknowledged is lost.
func TestCopyHangs(t *testing.T) {
	hang, reached := make(chan struct{}), make(chan struct{}, 100)
	var fail atomic.Bool
	mem := vfs.NewMem()
	s, z := openMem(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch write := op.Kind.ReadOrWrite() == errorfs.OpIsWrite; {
		case write && strings.HasPrefix(op.Path, "/copy"):
			reached <- struct{}{}
			<-hang
		case write && strings.HasSuffix(op.Path, ".log") && fail.CompareAndSwap(true, false):
			return syscall.EIO
		}
		return nil
	})))
	s.reopenIn = 0
	copied := make(chan error, 1)
	go func() { copied <- s.Checkpoint(context.Background(), "/copy") }()
	<-reached
	patience := copyPatience + time.Minute
	acknowledged := make(map[int]string)
	for i := range 3 {
		fail.Store(i == 1)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		rcode, err := z.Update(ctx, nil, pair(t, i, ""), permitAll)
		cancel()
		if want := map[bool]int{false: dns.RcodeSuccess, true: dns.RcodeServerFailure}[i == 1]; rcode != want {
			t.Errorf("update %d: %s, %v", i, dns.RcodeToString[rcode], err)
		}
		if rcode == dns.RcodeSuccess {
			acknowledged[i] = ""
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Close waits for the copy")
	}
	again, z := openMem(t, mem)
	for i := range 3 {
		if _, there := acknowledged[i]; there != hasPair(z, t, i) {
			t.Errorf("pair %d: acknowledged %t", i, there)
		}
	}
	close(hang)
	if err := <-copied; err == nil {
		t.Error("the copy of a database that was left behind has not failed")
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestCloseLeavesCopy: Close alone, of a database that has not failed.
func TestCloseLeavesCopy(t *testing.T) {
	hang, reached := make(chan struct{}), make(chan struct{}, 100)
	mem := vfs.NewMem()
	s, z := openMem(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(op.Path, "/copy") {
			reached <- struct{}{}
			<-hang
		}
		return nil
	})))
	if rcode, err := z.Update(t.Context(), nil, pair(t, 1, ""), permitAll); rcode != dns.RcodeSuccess {
		t.Fatal(rcode, err)
	}
	copied := make(chan error, 1)
	go func() { copied <- s.Checkpoint(context.Background(), "/copy") }()
	<-reached
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again, z := openMem(t, mem)
	if !hasPair(z, t, 1) {
		t.Error("an acknowledged update is gone")
	}
	close(hang)
	if err := <-copied; err == nil {
		t.Error("the copy of a database that was left behind has not failed")
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// hasPair reports whether the records of pair are in the zone.
func hasPair(z *Zone, t *testing.T, i int) bool {
	for _, rr := range pair(t, i, "") {
		if len(z.Snapshot().RRset(rr.Header().Name, rr.Header().Rrtype)) == 0 {
			return false
		}
	}
	return true
}

// smallDisk says that it has little space.
type smallDisk struct {
	vfs.FS
	free uint64
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.free}, nil
}

// TestCopyNeedsSpace: a disk that has too little is not filled.
func TestCopyNeedsSpace(t *testing.T) {
	mem := vfs.NewMem()
	disk := &smallDisk{mem, copyMargin}
	s, _ := openMem(t, disk)
	defer s.Close()
	if err := s.Checkpoint(t.Context(), "/copy"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("no space: %v", err)
	}
	if _, err := mem.Stat("/copy"); err == nil {
		t.Error("it was begun")
	}
	disk.free = 1 << 30
	if err := s.Checkpoint(t.Context(), "/copy"); err != nil {
		t.Errorf("space enough: %v", err)
	}
}
