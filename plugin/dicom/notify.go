package dicom

import (
	"context"
	"time"
)

// A notifier tells a secondary that a zone has changed, and returns when that has
// answered or is not waited for any longer.
type notifier interface {
	Notify(ctx context.Context, zone string) error
}

// Without an answer a NOTIFY is repeated some minutes long (RFC 1996 section
// 3.6); then the refresh timer of the secondary has to do. A zone that changes
// without pause is told about a few times a second: each NOTIFY makes the
// secondary ask for the serial, and mostly fetch what is new.
const (
	notifyRetry   = time.Minute
	notifyRetries = 5
	notifyPause   = 200 * time.Millisecond
)

// notices is the wish to notify one secondary of one zone. Any number of changes
// while a NOTIFY is under way make one more.
type notices struct {
	pending chan struct{} // holds one token while a change has not been told
}

func newNotices() notices { return notices{make(chan struct{}, 1)} }

// changed notes a change. It does not block.
func (n notices) changed() {
	select {
	case n.pending <- struct{}{}:
	default:
	}
}

// run tells a secondary about the changes of zone until ctx ends.
func (n notices) run(ctx context.Context, zone string, to notifier, metrics *zoneMetrics) {
	retries := 0
	lines := sparing()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.pending:
			retries = 0
		case <-timer.C:
			retries++
		}
		timer.Stop()
		err := to.Notify(ctx, zone)
		if ctx.Err() != nil {
			return
		}
		metrics.told(err == nil)
		if err != nil {
			if retries == 0 || retries == notifyRetries {
				lines.Do(func() { log.Warningf("NOTIFY for %s, attempt %d of %d: %v", zone, retries+1, notifyRetries+1, err) })
			}
			if retries < notifyRetries {
				timer.Reset(notifyRetry)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(notifyPause):
		}
	}
}
