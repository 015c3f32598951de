package lease

import (
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// importMark names an empty file that lies in the directory of a database while leases of another server are taken over into it. An import
// that was killed leaves it: what is missing then would be given out a second time, so nobody is served from such a database.
const importMark = "IMPORT-HAS-NOT-ENDED"

// markImport says on stable storage that an import has begun.
func (s *store) markImport() error {
	f, err := s.fs.Create(s.fs.PathJoin(s.dir, importMark), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("beginning an import: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close(), syncDir(s.fs, s.dir)); err != nil {
		return fmt.Errorf("beginning an import: %w", err)
	}
	return nil
}

// unmarkImport says that it has ended, and all of it is on stable storage.
func (s *store) unmarkImport() error {
	if err := errors.Join(s.fs.Remove(s.fs.PathJoin(s.dir, importMark)), syncDir(s.fs, s.dir)); err != nil {
		return fmt.Errorf("ending an import: %w", err)
	}
	return nil
}

// checkImport is an error where an import has not ended.
func (s *store) checkImport() error {
	path := s.fs.PathJoin(s.dir, importMark)
	_, err := s.fs.Stat(path)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("an import of leases into it was interrupted, and those that are missing would be given out twice: repeat the import, or remove %s to do without them", path)
}
