package lease

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Backup writes the database as it is at one moment into a new directory, private to the server's user, while leases go
// on being given. Every lease that was acknowledged before the call is in it. To restore is to open that directory, or
// what was copied from it, in place of the database. It is an error if dir exists.
func (m *Manager) Backup(dir string) error {
	m.mu.Lock()
	closed := m.closed
	m.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if err := m.store.backup(dir); err != nil {
		return fmt.Errorf("backing the lease database up to %s: %w", dir, err)
	}
	return nil
}

// backup makes a checkpoint. It holds nobody up, except that a database which failed meanwhile is not closed before.
func (s *store) backup(dir string) (err error) {
	s.mu.RLock()
	d := s.db
	if d == nil || d.broken() != nil {
		s.mu.RUnlock()
		return errFailed
	}
	d.use.RLock()
	s.mu.RUnlock()
	defer d.use.RUnlock()
	defer d.recover(&err)
	s.copying.Lock()
	defer s.copying.Unlock()
	d.guard.copied.Store(nil)
	err = d.Checkpoint(dir, pebble.WithFlushedWAL())
	if cause := d.guard.copied.Load(); cause != nil && err == nil {
		err = errors.Join(*cause, s.fs.RemoveAll(dir))
	}
	return errors.Join(err, d.broken())
}
