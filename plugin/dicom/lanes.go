package dicom

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/time/rate"
)

var errManyTransfers = errors.New("too many zone transfers at a time")

// A transfer holds the version of the zone that it sends, which is a whole zone
// once enough has changed; a client that hardly reads would keep that for ever,
// since CoreDNS does not limit the time of a write. So the transfers at a time,
// and the time of each, are bounded. Variables are so for tests.
var (
	// maxTransfers are under way at a time, for all zones of a server block.
	maxTransfers = 16
	// transferWait is how long others wait for their turn.
	transferWait = 10 * time.Second
	// transferYield is how long a transfer may stand still while others wait: who
	// does not read keeps nobody out.
	transferYield = 5 * time.Second
	// transferIdle is how long it may stand still in any case: for the 64 KiB of a
	// message, or what the network buffers.
	transferIdle = time.Minute
)

// A transfer may take transferLeast, and longer if the zone is large: a second
// for each transferRate octets.
const (
	transferLeast = 5 * time.Minute
	transferRate  = 16 << 10
)

// lanes are the transfers of a handler that are under way.
type lanes struct {
	slots chan struct{}
	lines *rate.Sometimes // log lines of transfers that are cut

	mu     sync.Mutex
	active map[*lane]bool
}

func newLanes() *lanes {
	return &lanes{slots: make(chan struct{}, maxTransfers), lines: sparing(), active: make(map[*lane]bool)}
}

// A lane is one of them.
type lane struct {
	of       *lanes
	cut      chan struct{} // closed when another one takes its turn
	moved    atomic.Int64  // when it last went on, Unix nanoseconds
	deadline time.Time
	timer    *time.Timer
}

// enter waits for the turn of a transfer.
func (l *lanes) enter() (*lane, error) {
	over := time.NewTimer(transferWait)
	defer over.Stop()
	look := time.NewTicker(transferWait / 50)
	defer look.Stop()
	for {
		select {
		case l.slots <- struct{}{}:
			return l.add(), nil
		default:
		}
		l.yield()
		select {
		case l.slots <- struct{}{}:
			return l.add(), nil
		case <-look.C:
		case <-over.C:
			return nil, errManyTransfers
		}
	}
}

func (l *lanes) add() *lane {
	n := &lane{of: l, cut: make(chan struct{}), timer: time.NewTimer(transferIdle)}
	n.moved.Store(time.Now().UnixNano())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active[n] = true
	return n
}

// yield cuts the transfer that has stood still longest, if that is long.
func (l *lanes) yield() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var stalest *lane
	for n := range l.active {
		if stalest == nil || n.moved.Load() < stalest.moved.Load() {
			stalest = n
		}
	}
	if stalest != nil && time.Since(time.Unix(0, stalest.moved.Load())) >= transferYield {
		delete(l.active, stalest)
		close(stalest.cut)
	}
}

// leave ends a transfer.
func (n *lane) leave() {
	n.timer.Stop()
	n.of.mu.Lock()
	delete(n.of.active, n)
	n.of.mu.Unlock()
	<-n.of.slots
}

// pass hands records over. It is false when the transfer is cut.
func (n *lane) pass(ch chan<- []dns.RR, rrs []dns.RR) bool {
	now := time.Now()
	n.timer.Reset(min(transferIdle, n.deadline.Sub(now)))
	select {
	case ch <- rrs:
		n.moved.Store(time.Now().UnixNano())
		return true
	case <-n.cut:
	case <-n.timer.C:
	}
	return false
}
