package nameupdate

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// rereadAfter is how long servers that refuse a key do not have the keys read again after they were: as long as the
// shortest pause of a change that failed.
const rereadAfter = minBackoff / 2

// keyring takes up new keys while updates go on. A nil keyring keeps those that there are.
type keyring struct {
	read func() ([]ZoneKey, error)
	use  func([]ZoneKey) (changed []tsigkey.Key)
	log  *slog.Logger

	mu       sync.Mutex // held while the keys are read
	last     time.Time  // when they were read
	reported string     // why the last reading failed, "" if it did not
}

// refuses says whether a server's answer may mean that it has another key. A refusal that is not signed may mean that too
// (RFC 8945 section 5.3.2).
func refuses(r *dns.Msg, err error) bool {
	if err != nil {
		refused, ok := errors.AsType[*keyError](err)
		return ok && refused.code != dns.RcodeBadTime
	}
	return (r.Rcode == dns.RcodeNotAuth || r.Rcode == dns.RcodeRefused) && r.IsTsig() == nil
}

// check reads the keys again. It waits for nobody who does so already.
func (k *keyring) check() {
	if k == nil || !k.mu.TryLock() {
		return
	}
	defer k.mu.Unlock()
	if time.Since(k.last) < rereadAfter {
		return
	}
	before := k.reported
	if err := k.renew(); err != nil && err.Error() != before {
		k.log.Error("a key is refused, and the keys cannot be read again: those from before stay", "error", err)
	}
}

// rereadKeys reads the keys again if the last answer of some server was that it has another one.
func (r *routes) rereadKeys() {
	if r.keyring != nil && slices.ContainsFunc(r.upstreams(), func(u *upstream) bool { return u.refused.Load() }) {
		r.keyring.check()
	}
}

// renew reads the keys; with an error those from before stay. The caller holds mu.
func (k *keyring) renew() error {
	k.last = time.Now()
	keys, err := k.read()
	if err != nil {
		k.reported = err.Error()
		return err
	}
	k.reported = ""
	for _, key := range k.use(keys) {
		k.log.Info("updates are signed with a new key", "key", key)
	}
	return nil
}

// ReadKeys reads the keys again with Config.ReadKeys, and has servers that refuse those from before tried soon. With an
// error nothing changes.
func (w *Worker) ReadKeys() error {
	k := w.routes.keyring
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.renew()
}

// useKeys has what is sent from now on signed with these keys.
func (w *Worker) useKeys(keys []ZoneKey) (changed []tsigkey.Key) {
	if changed = w.routes.rekey(keys); len(changed) > 0 {
		select {
		case w.rekeyed <- struct{}{}:
		default: // Run knows
		}
	}
	return changed
}

// tryKeys has what was refused with the keys from before tried now.
func (w *Worker) tryKeys(now time.Time) {
	w.rekey = now
	for u, o := range w.outages {
		if o.key {
			o.delay, o.probeAt = minBackoff, now
			u.heldUntil.Store(now.UnixNano())
		}
	}
	for _, g := range w.gates {
		g.opens()
	}
	w.zones.forgetMissing()
	w.queue.RetryNameChanges()
}

// rekey replaces the keys by others of the same names and tells which differ. An exchange under way ends with the key
// that it began with: its client.
func (r *routes) rekey(keys []ZoneKey) (changed []tsigkey.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, z := range keys {
		if i := slices.IndexFunc(r.keys, func(old ZoneKey) bool { return old.Key.Name == z.Key.Name }); i < 0 ||
			sameKey(r.keys[i].Key, z.Key) || slices.ContainsFunc(changed, func(k tsigkey.Key) bool { return k.Name == z.Key.Name }) {
			continue
		}
		changed = append(changed, z.Key)
		for _, u := range r.made {
			if u.key == z.Key.Name {
				closeClients(u.replace(r.dialAll(u.hosts, z.Key)))
			}
		}
	}
	r.keys = keys
	return changed
}

func sameKey(a, b tsigkey.Key) bool {
	return a.Name == b.Name && a.Algorithm == b.Algorithm && a.Secret() == b.Secret()
}
