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

// transferLimits bound what transfers hold and take. Each holds the version of
// the zone that it sends, which is a whole zone once enough has changed; a client
// that hardly reads would keep that for ever, since CoreDNS does not limit the
// time of a write.
type transferLimits struct {
	// transfers are under way at a time, for all zones of a server block.
	transfers int
	// wait is how long others wait for their turn.
	wait time.Duration
	// yield is how long a transfer may stand still while others wait: who does
	// not read keeps nobody out.
	yield time.Duration
	// idle is how long it may stand still in any case: for the 64 KiB of a
	// message, or what the network buffers.
	idle time.Duration
}

// boundTransfers are the limits of a new handler; a variable so that tests need
// not wait. Transfers go on when their handler has ended, and keep its limits.
var boundTransfers = transferLimits{transfers: 16, wait: 10 * time.Second, yield: 5 * time.Second, idle: time.Minute}

// A transfer may take transferLeast, and longer if the zone is large: a second
// for each transferRate octets.
const (
	transferLeast = 5 * time.Minute
	transferRate  = 16 << 10
)

// lanes are the transfers of a handler that are under way.
type lanes struct {
	limits transferLimits
	slots  chan struct{}
	lines  *rate.Sometimes // log lines of transfers that are cut

	mu     sync.Mutex
	active map[*lane]bool
}

func newLanes() *lanes {
	limits := boundTransfers
	return &lanes{limits: limits, slots: make(chan struct{}, limits.transfers), lines: sparing(), active: make(map[*lane]bool)}
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
	over := time.NewTimer(l.limits.wait)
	defer over.Stop()
	look := time.NewTicker(l.limits.wait / 50)
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
	n := &lane{of: l, cut: make(chan struct{}), timer: time.NewTimer(l.limits.idle)}
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
	if stalest != nil && time.Since(time.Unix(0, stalest.moved.Load())) >= l.limits.yield {
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
	n.timer.Reset(min(n.of.limits.idle, n.deadline.Sub(now)))
	select {
	case ch <- rrs:
		n.moved.Store(time.Now().UnixNano())
		return true
	case <-n.cut:
	case <-n.timer.C:
	}
	return false
}
