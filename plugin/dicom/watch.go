package dicom

import (
	"context"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"

	"golang.org/x/time/rate"
)

// watchInterval is how often the site file is looked at; a variable so that
// tests need not wait.
var watchInterval = time.Second

// A watcher applies a site file whenever it has changed, and again when an
// address of this server comes that was missing: CoreDNS may start before the
// interfaces are up. It looks at the file from time to time: that also works for
// mounted configuration and network file systems, where notifications by the
// kernel do not.
type watcher struct {
	path  string
	apply func(context.Context, loadedSite) error

	current loadedSite // the version in use
	lacking bool       // it needs an address of this server, and there was none
	lacks   func(*site.Site) bool

	loaded  fileState   // the version that was read last, right or wrong
	last    fileState   // what stood there at the last look
	pending *loadedSite // a right version that could not be applied yet

	failures *rate.Sometimes // log lines of those
	metrics  *siteMetrics
}

func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.look(ctx)
		}
	}
}

// look reads the file if it has changed since it was read last, but not since
// the last look: somebody may still be writing. A broken version is reported
// once and changes nothing.
func (w *watcher) look(ctx context.Context) {
	now := stateOf(w.path)
	quiet := now.same(w.last)
	w.last = now
	if quiet && !now.same(w.loaded) {
		l, err := loadSite(w.path)
		if !stateOf(w.path).same(now) {
			return // it is changing under our hands
		}
		w.loaded, w.pending = now, nil
		if err != nil {
			w.metrics.tried(false)
			log.Errorf("Site file changed and is not used: %v", siteError(w.path, err))
			return
		}
		w.pending = &l
	}
	if w.pending == nil && w.lacking && !w.lacks(w.current.site) {
		w.pending = &w.current
	}
	if w.pending == nil {
		return
	}
	lacking := w.lacks(w.pending.site) // before it is applied: better once too often
	if err := w.apply(ctx, *w.pending); ctx.Err() != nil {
		return // the server ends; the next one reads the file itself
	} else if err != nil {
		w.metrics.tried(false)
		w.failures.Do(func() { log.Errorf("Site file %s: %v", w.path, err) })
		return // with the next look
	}
	w.metrics.tried(true)
	w.current, w.lacking, w.pending = *w.pending, lacking, nil
}
