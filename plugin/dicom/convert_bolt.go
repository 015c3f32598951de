package dicom

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// What CoreDNS's own dynupdate calls its data: a bbolt file with one bucket, and
// in it the name of the one zone and its records, as uncompressed wire form one
// after another.
const (
	oldBucket       = "dynupdate-v1"
	oldBucketPrefix = "dynupdate-v"
	oldOrigin       = "origin"
	oldRecords      = "records"
)

// oldTimeout is how long another process may hold the file.
const oldTimeout = time.Second

// An oldDatabase is a file of dynupdate, open and locked.
type oldDatabase struct {
	path string
	file *os.File
	db   *bbolt.DB
}

// openOld opens a file of dynupdate. Others may read it at the same time unless
// exclusive is set. Nothing is written in any case.
func openOld(path string, exclusive bool) (old *oldDatabase, err error) {
	old = &oldDatabase{path: path}
	defer old.guard(&err)()
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if info.Size() == 0 { // bbolt would make a database of it
		return nil, old.foreign(errors.New("it is empty"))
	}
	old.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        oldTimeout,
		ReadOnly:       !exclusive,
		NoFreelistSync: true, // or bbolt may write when it opens
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			var err error
			old.file, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
			return old.file, err
		},
	})
	switch {
	case err == nil:
		return old, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("database %q is in use: stop the CoreDNS that has it open and start again; a reload cannot change dynupdate to dicom", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("database: %w", err)
	case errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, old.foreign(fmt.Errorf("it has another version of the bbolt format: %w", err))
	default:
		return nil, old.foreign(err)
	}
}

func (o *oldDatabase) foreign(err error) error {
	return fmt.Errorf("database %q is a file, not a directory, and not one that dynupdate has made, or it is corrupt: %w", o.path, err)
}

func (o *oldDatabase) corrupt(err error) error {
	return fmt.Errorf("database %q of dynupdate is corrupt: %w", o.path, err)
}

// guard returns what to defer in a function that calls bbolt, which takes a
// broken file for a broken program: it panics, or reads where no memory is.
func (o *oldDatabase) guard(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if o.db == nil && o.file != nil {
			_ = o.file.Close() // it gives the lock back; bbolt may have closed it already
		}
		if p := recover(); p != nil {
			*err = o.corrupt(fmt.Errorf("%v", p))
		}
	}
}

func (o *oldDatabase) close() error { return o.db.Close() }

// isAt reports whether the file still has that path.
func (o *oldDatabase) isAt(path string) bool {
	a, errA := o.file.Stat()
	b, errB := os.Lstat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// records returns the records of the one zone that the file must be of, checked
// so that a zone can be made from them.
func (o *oldDatabase) records(zones []string, limits zone.Limits) (rrs []dns.RR, err error) {
	defer o.guard(&err)()
	if len(zones) != 1 {
		return nil, fmt.Errorf("database %q: what dynupdate made holds one zone, and here are %d: %s", o.path, len(zones), strings.Join(zones, " "))
	}
	err = o.db.View(func(tx *bbolt.Tx) error {
		if err := checkPages(o.file, tx, o.db.Info().PageSize); err != nil {
			return o.corrupt(err)
		}
		if err := o.known(tx); err != nil {
			return err
		}
		bucket := tx.Bucket([]byte(oldBucket))
		if origin := string(bucket.Get([]byte(oldOrigin))); origin != zones[0] {
			return fmt.Errorf("database %q belongs to zone %q, and not to %s", o.path, origin, zones[0])
		}
		rrs, err = unpackRecords(bucket.Get([]byte(oldRecords)), limits)
		if errors.Is(err, zone.ErrLimit) {
			return fmt.Errorf("database %q of dynupdate: %w", o.path, err)
		} else if err != nil {
			return o.corrupt(err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := zone.CheckSeed(zones[0], rrs, limits); err != nil {
		return nil, fmt.Errorf("database %q of dynupdate: %w", o.path, err)
	}
	return rrs, nil
}

// known tells a file of this dynupdate from one of another program, and from one
// that a newer dynupdate has made.
func (o *oldDatabase) known(tx *bbolt.Tx) error {
	found, other := false, ""
	err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		switch {
		case string(name) == oldBucket:
			found = true
		case strings.HasPrefix(string(name), oldBucketPrefix):
			other = string(name)
		}
		return nil
	})
	switch {
	case err != nil:
		return o.corrupt(err)
	case other != "":
		return fmt.Errorf("database %q has the format %.40q of a newer dynupdate; only %q is known here", o.path, other, oldBucket)
	case !found:
		return o.foreign(fmt.Errorf("it is of bbolt, and has no bucket %q", oldBucket))
	}
	return nil
}

// unpackRecords reads records that stand one after another. It stops at the
// limits; its error wraps [zone.ErrLimit] then.
func unpackRecords(data []byte, limits zone.Limits) ([]dns.RR, error) {
	mostRecords, mostBytes := limits.Records, limits.Bytes
	if mostRecords == 0 {
		mostRecords = zone.DefaultRecords
	}
	if mostBytes == 0 {
		mostBytes = zone.DefaultBytes
	}
	if len(data) > mostBytes {
		return nil, fmt.Errorf("%d octets of records, more than max_bytes %d: %w", len(data), mostBytes, zone.ErrLimit)
	}
	var rrs []dns.RR
	for at := 0; at < len(data); {
		if len(rrs) == mostRecords {
			return nil, fmt.Errorf("more records than max_records %d: %w", mostRecords, zone.ErrLimit)
		}
		rr, next, err := dns.UnpackRR(data, at)
		if err == nil && next <= at {
			err = errors.New("no progress")
		}
		if err != nil {
			return nil, fmt.Errorf("record %d at octet %d: %w", len(rrs)+1, at, err)
		}
		rrs = append(rrs, rr)
		at = next
	}
	if len(rrs) == 0 {
		return nil, errors.New("it holds no record")
	}
	return rrs, nil
}

// The pages of a bbolt file, in the byte order of the machine. A page has a
// header of id(8) flags(2) count(2) overflow(4), then its elements: those of a
// branch are pos(4) ksize(4) child(8), those of a leaf flags(4) pos(4) ksize(4)
// vsize(4). The value of a bucket in a leaf is root(8) sequence(8), followed by
// a page if root is 0.
const (
	boltHeader  = 16
	boltElement = 16
	boltBucket  = 16
	boltBranch  = 0x01
	boltLeaf    = 0x02
	boltFree    = 0x10
	boltDepth   = 32 // levels of a tree; more than any file needs

	boltNoFreelist = ^uint64(0)
)

// checkPages follows all pages of a bbolt file, with every step inside the file
// and no page seen twice. bbolt checks little of that before it follows them
// itself: a page that is its own child ends the process.
func checkPages(file *os.File, tx *bbolt.Tx, pageSize int) error {
	c := &pageCheck{file: file, size: int64(pageSize), seen: map[uint64]bool{0: true, 1: true}}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("it is truncated: it has %d octets of %d", info.Size(), tx.Size())
	}
	c.pages = uint64(tx.Size() / c.size)

	// The head of what was committed last: magic(4) version(4) page size(4)
	// flags(4) root(8) sequence(8) freelist(8) pages(8) transaction(8).
	head := make([]byte, 56)
	if _, err := file.ReadAt(head, int64(tx.ID()%2)*c.size+boltHeader); err != nil {
		return err
	}
	if n := binary.NativeEndian.Uint64(head[48:]); n != uint64(tx.ID()) {
		return fmt.Errorf("the head of transaction %d is of %d", tx.ID(), n)
	}
	if err := c.tree(binary.NativeEndian.Uint64(head[16:]), boltDepth); err != nil {
		return err
	}
	free := binary.NativeEndian.Uint64(head[32:])
	if free == boltNoFreelist {
		return nil
	}
	return c.freelist(free)
}

type pageCheck struct {
	file  *os.File
	size  int64
	pages uint64
	seen  map[uint64]bool
}

// page reads a page with what belongs to it.
func (c *pageCheck) page(id uint64) (flags uint16, count int, page []byte, err error) {
	head := make([]byte, boltHeader)
	if id >= c.pages {
		return 0, 0, nil, fmt.Errorf("page %d is beyond the %d there are", id, c.pages)
	}
	if _, err := c.file.ReadAt(head, int64(id)*c.size); err != nil {
		return 0, 0, nil, err
	}
	if n := binary.NativeEndian.Uint64(head); n != id {
		return 0, 0, nil, fmt.Errorf("page %d says that it is %d", id, n)
	}
	more := uint64(binary.NativeEndian.Uint32(head[12:]))
	if more >= c.pages-id {
		return 0, 0, nil, fmt.Errorf("page %d ends beyond the %d there are", id, c.pages)
	}
	for n := id; n <= id+more; n++ {
		if c.seen[n] {
			return 0, 0, nil, fmt.Errorf("page %d is used twice", n)
		}
		c.seen[n] = true
	}
	page = make([]byte, int64(more+1)*c.size)
	if _, err := c.file.ReadAt(page, int64(id)*c.size); err != nil {
		return 0, 0, nil, err
	}
	flags, count = pageHead(page)
	return flags, count, page, nil
}

func pageHead(page []byte) (flags uint16, count int) {
	return binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
}

func (c *pageCheck) tree(id uint64, depth int) error {
	if depth == 0 {
		return fmt.Errorf("page %d is deeper than a tree is", id)
	}
	flags, count, page, err := c.page(id)
	switch {
	case err != nil:
		return err
	case flags == boltLeaf:
		if err := c.leaf(page, count, depth); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		return nil
	case flags != boltBranch || count == 0:
		return fmt.Errorf("page %d is no part of a tree: flags %#x, %d elements", id, flags, count)
	}
	for i := range count {
		e, err := element(page, i, count)
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		at := uint64(boltHeader + i*boltElement)
		pos, ksize := binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:])
		if at+uint64(pos)+uint64(ksize) > uint64(len(page)) {
			return fmt.Errorf("page %d: element %d ends beyond it", id, i)
		}
		if err := c.tree(binary.NativeEndian.Uint64(e[8:]), depth-1); err != nil {
			return err
		}
	}
	return nil
}

func element(page []byte, i, count int) ([]byte, error) {
	if boltHeader+count*boltElement > len(page) {
		return nil, fmt.Errorf("%d elements have no room", count)
	}
	return page[boltHeader+i*boltElement:][:boltElement], nil
}

// leaf checks a leaf, which may be inside the value of a bucket: c is nil then.
func (c *pageCheck) leaf(page []byte, count, depth int) error {
	for i := range count {
		e, err := element(page, i, count)
		if err != nil {
			return err
		}
		pos, ksize, vsize := binary.NativeEndian.Uint32(e[4:]), binary.NativeEndian.Uint32(e[8:]), binary.NativeEndian.Uint32(e[12:])
		at := uint64(boltHeader+i*boltElement) + uint64(pos) + uint64(ksize)
		if at+uint64(vsize) > uint64(len(page)) {
			return fmt.Errorf("element %d ends beyond it", i)
		}
		if binary.NativeEndian.Uint32(e)&1 == 0 { // not a bucket
			continue
		}
		value := page[at : at+uint64(vsize)]
		if len(value) < boltBucket || c == nil {
			return fmt.Errorf("element %d is no bucket", i)
		}
		if root := binary.NativeEndian.Uint64(value); root != 0 {
			if err := c.tree(root, depth-1); err != nil {
				return err
			}
			continue
		}
		inline := value[boltBucket:]
		if len(inline) < boltHeader {
			return fmt.Errorf("element %d has no page", i)
		}
		flags, count := pageHead(inline)
		if flags != boltLeaf {
			return fmt.Errorf("element %d has a page with flags %#x", i, flags)
		}
		if err := (*pageCheck)(nil).leaf(inline, count, depth); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

func (c *pageCheck) freelist(id uint64) error {
	flags, n, page, err := c.page(id)
	if err != nil {
		return err
	}
	if flags != boltFree {
		return fmt.Errorf("page %d is not the list of free pages: flags %#x", id, flags)
	}
	count, ids := uint64(n), page[boltHeader:]
	if count == 0xffff { // then the first is the count
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("page %d has no room for %d free pages", id, count)
	}
	for i := range count {
		free := binary.NativeEndian.Uint64(ids[8*i:])
		if free < 2 || free >= c.pages {
			return fmt.Errorf("free page %d is not one of the %d there are", free, c.pages)
		}
		if c.seen[free] {
			return fmt.Errorf("page %d is free and used", free)
		}
		c.seen[free] = true
	}
	return nil
}
