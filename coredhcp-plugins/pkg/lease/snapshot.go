package lease

import (
	"bytes"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// snapshot reads the database page by page as it was at one moment. Should the database be opened again in between, the
// reading goes on in the new one behind the last key that was read.
type snapshot struct {
	s    *store
	snap *pebble.Snapshot // nil after its database was closed
	next []byte
	to   []byte
	done bool
}

// readAll hands the records whose keys are from on and before to, or all behind from if that is nil, to f, which must not
// keep them.
func (s *store) readAll(from, to []byte, f func(key, value []byte) error) error {
	v := s.snapshot(from, to)
	defer v.end()
	_, err := v.read(math.MaxInt, f)
	return err
}

// snapshot reads what readAll does, page by page.
func (s *store) snapshot(from, to []byte) *snapshot {
	v := &snapshot{s: s, next: from, to: to}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[v] = struct{}{}
	if s.db != nil {
		v.snap = s.db.NewSnapshot()
	}
	return v
}

// read hands at most n records to f, which must not keep them, and says whether there may be more.
func (v *snapshot) read(n int, f func(key, value []byte) error) (more bool, err error) {
	v.s.mu.RLock()
	defer v.s.mu.RUnlock()
	if v.done {
		return false, nil
	}
	if v.snap == nil {
		if v.s.db == nil {
			return false, errFailed
		}
		v.snap = v.s.db.NewSnapshot()
	}
	it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: v.next, UpperBound: v.to})
	if err != nil {
		return false, err
	}
	i := 0
	for ok := it.First(); ok; ok = it.Next() {
		if i++; i > n {
			v.next = bytes.Clone(it.Key())
			return true, it.Close()
		}
		if err = f(it.Key(), it.Value()); err != nil {
			break
		}
	}
	v.done = true
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	return false, err
}

// end forgets the snapshot.
func (v *snapshot) end() {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	v.close()
	delete(v.s.all, v)
}

// close lets go of the database. Caller holds the store's mu.
func (v *snapshot) close() {
	if v.snap != nil {
		_ = v.snap.Close() // fails only if it was closed before
		v.snap = nil
	}
}
