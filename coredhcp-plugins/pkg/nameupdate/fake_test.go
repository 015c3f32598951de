package nameupdate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
	"github.com/miekg/dns"
)

// fakeQueue is a lease store that only keeps name changes, newest last.
type fakeQueue struct {
	signal chan struct{}
	ahead  chan string

	mu         sync.Mutex
	items      []*item
	index      map[lease.NameChange]*item
	done       int
	takings    int
	confirmErr error
	why        lease.Trouble // of the last failure
	held       string
}

type item struct {
	change      lease.NameChange
	taken, done bool
	retryAt     time.Time
	conflict    bool
}

func newFakeQueue() *fakeQueue {
	return &fakeQueue{signal: make(chan struct{}, 1), ahead: make(chan string), index: make(map[lease.NameChange]*item)}
}

func (q *fakeQueue) put(changes ...lease.NameChange) {
	q.mu.Lock()
	for _, c := range changes {
		it := &item{change: c}
		q.items, q.index[c] = append(q.items, it), it
	}
	q.mu.Unlock()
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

func (q *fakeQueue) NameChanges() <-chan struct{} { return q.signal }

func (q *fakeQueue) NamesAhead() <-chan string { return q.ahead }

func (q *fakeQueue) TakeNameChanges(limit int) []lease.NameChange {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.takings++
	now := time.Now()
	var out []lease.NameChange
	for i := len(q.items) - 1; i >= 0 && len(out) < limit; i-- {
		if it := q.items[i]; !it.done && !it.taken && !now.Before(it.retryAt) {
			it.taken = true
			out = append(out, it.change)
		}
	}
	return out
}

func (q *fakeQueue) taken(c lease.NameChange) *item {
	if it := q.index[c]; it != nil && it.taken {
		return it
	}
	panic(fmt.Sprintf("%v was not taken", c))
}

func (q *fakeQueue) ConfirmNameChange(c lease.NameChange) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.confirmErr != nil {
		return q.confirmErr
	}
	it := q.taken(c)
	it.taken, it.done = false, true
	q.done++
	return nil
}

func (q *fakeQueue) FailNameChange(c lease.NameChange, retryAt time.Time, why lease.Trouble) {
	q.ReturnNameChange(c, retryAt)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.index[c].conflict, q.why = why.Conflict, why
}

func (q *fakeQueue) heldBy() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held
}

func (q *fakeQueue) HoldNameChanges(why string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = why
}

func (q *fakeQueue) ReturnNameChange(c lease.NameChange, retryAt time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.taken(c)
	it.taken, it.retryAt = false, retryAt
}

func (q *fakeQueue) RetryNameChanges() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if !it.conflict {
			it.retryAt = time.Time{}
		}
	}
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// state counts what waits, what is taken and what is done.
func (q *fakeQueue) state() (waiting, taken, done int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		switch {
		case it.taken:
			taken++
		case !it.done:
			waiting++
		}
	}
	return waiting, taken, q.done
}

func numbered(first, n int, zone string) []lease.NameChange {
	var changes []lease.NameChange
	for i := first; i < first+n; i++ {
		addr := netip.AddrFrom4([4]byte{192, 0, byte(2 + i>>8), byte(i)})
		changes = append(changes, lease.NameChange{
			Name: fmt.Sprintf("pc%d.%s", i, zone), Address: addr, Version: uint64(i),
			Client: lease.Client{HardwareType: 1, HardwareAddr: fmt.Sprint(i)}, LeaseTime: time.Hour, Make: both,
		})
	}
	return changes
}

// bench is a running worker over fakes, inside a synctest bubble.
type bench struct {
	*Worker
	queue *fakeQueue
	dns   *directory
	log   *logBuffer
	stop  func()

	mu      sync.Mutex
	updates int
	most    int // updates in flight at once
	now     int
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

const roundTrip = time.Millisecond

// runWorker starts a worker whose updates take roundTrip and are answered by
// respond; nil: success.
func runWorker(t *testing.T, respond func(zone string) (int, error)) *bench {
	t.Helper()
	b := &bench{queue: newFakeQueue(), log: new(logBuffer)}
	b.dns = &directory{zones: []string{"example.org.", "other.example.org.", "192.in-addr.arpa."}, update: func(m *dns.Msg) (int, error) {
		b.mu.Lock()
		b.updates++
		b.now++
		b.most = max(b.most, b.now)
		b.mu.Unlock()
		time.Sleep(roundTrip)
		b.mu.Lock()
		b.now--
		b.mu.Unlock()
		if respond == nil {
			return success, nil
		}
		return respond(m.Question[0].Name)
	}}
	b.Worker = newWorker(Config{Logger: slog.New(slog.NewTextHandler(b.log, nil))}.withDefaults(), b.queue, routesTo(b.dns))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, taken, _ := b.queue.state(); taken > 0 {
			t.Errorf("%d changes are not given back", taken)
		}
	})
	t.Cleanup(b.stop)
	return b
}

func (b *bench) sent() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.updates
	b.updates = 0
	return n
}

func (b *bench) expect(t *testing.T, waiting, done int) {
	t.Helper()
	synctest.Wait()
	if w, taken, d := b.queue.state(); w != waiting || d != done || taken != 0 {
		t.Errorf("%d changes wait, %d are taken, %d are done; want %d, 0, %d", w, taken, d, waiting, done)
	}
}

func (b *bench) down() bool { s := b.Stats(); return s.Down() }

func (b *bench) lines(part string) int { return strings.Count(b.log.String(), part) }

var errTimeout = &serverError{server: "192.0.2.2:53", err: errors.New("timeout")}

const both = lease.Forward | lease.Reverse

// routesTo has one server for all zones.
func routesTo(ex exchanger) *routes {
	return &routes{
		routes: []Route{{".", []string{"192.0.2.2:53"}}}, made: make(map[string]*upstream),
		dial: func(string, tsigkey.Key, bool) exchanger { return ex },
	}
}

func zonesOf(ex exchanger) *zones { return newZones(routesTo(ex).of) }
