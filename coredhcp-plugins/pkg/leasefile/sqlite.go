package leasefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

// CoreDHCP's range keeps its leases in one small table of an SQLite database. What is needed to read that table, the pages of a B-tree and the
// records in them (https://www.sqlite.org/fileformat2.html), is this file; a whole SQLite would be most of the program that it came with.

// Sizes and marks of the file format.
const (
	sqliteHeader  = 100 // octets of the file's header, in front of the first page's own
	sqliteMagic   = "SQLite format 3\x00"
	interiorTable = 0x05
	leafTable     = 0x0d
	maxDepth      = 20
)

// readRange reads the table that CoreDHCP's range plugin keeps its leases in.
func readRange(path string) ([]Lease, error) {
	// What a crash has left beside the database belongs to it, and only SQLite can put it there.
	for _, suffix := range []string{"-journal", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Size() > 0 {
			return nil, fmt.Errorf("%s%s is there: the server runs, or did not end well; stop it, and have SQLite put the database right: sqlite3 %s .tables", path, suffix, path)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	db, err := newSQLite(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := leases{}
	root := uint32(0)
	err = db.table(1, func(row []any) error { // sqlite_schema: type, name, tbl_name, rootpage, sql
		if len(row) >= 4 && row[0] == "table" && row[1] == "leases4" {
			n, _ := row[3].(int64)
			root = uint32(n)
		}
		return nil
	})
	if err == nil && root == 0 {
		err = errors.New("there is no table leases4: is this the database of CoreDHCP's range plugin?")
	}
	if err == nil {
		number := 0
		err = db.table(root, func(row []any) error {
			number++
			lease, err := rangeLease(row)
			if err != nil {
				return fmt.Errorf("table leases4, row %d: %w", number, err)
			}
			if first, twice := l[lease.Address]; twice && first.Expires.After(lease.Expires) {
				return nil // the other client got it later
			}
			l[lease.Address] = lease
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l.sorted(), nil
}

// rangeLease reads the columns mac, ip, expiry and hostname.
func rangeLease(row []any) (Lease, error) {
	if len(row) < 3 {
		return Lease{}, fmt.Errorf("found %d columns, expected mac, ip, expiry and hostname", len(row))
	}
	mac, ok1 := row[0].(string)
	ip, ok2 := row[1].(string)
	var expiry int64
	switch v := row[2].(type) {
	case int64:
		expiry = v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return Lease{}, fmt.Errorf("expiry: found %.60q, expected seconds since 1970", v)
		}
		expiry = n
	default:
		return Lease{}, fmt.Errorf("expiry: found %v, expected seconds since 1970", v)
	}
	if !ok1 || !ok2 {
		return Lease{}, errors.New("mac and ip: expected texts")
	}
	lease := Lease{HardwareType: 1}
	var err error
	if lease.Address, err = address(ip); err != nil {
		return lease, fmt.Errorf("ip: %w", err)
	}
	if lease.HardwareAddress, err = octets(mac, maxHardware); err != nil {
		return lease, fmt.Errorf("mac: %w", err)
	}
	if lease.Expires, err = moment(expiry); err != nil {
		return lease, fmt.Errorf("expiry: %w", err)
	}
	if len(row) > 3 {
		lease.Hostname, _ = row[3].(string)
	}
	return lease, nil
}

// sqlite is a database file.
type sqlite struct {
	r      io.ReaderAt
	page   int    // octets of a page
	usable int    // of them without what extensions keep
	pages  uint32 // of the file
	read   uint32 // pages that were read: a damaged tree may have circles
}

func newSQLite(f *os.File) (*sqlite, error) {
	header := make([]byte, sqliteHeader)
	if _, err := io.ReadFull(f, header); err != nil || !bytes.HasPrefix(header, []byte(sqliteMagic)) {
		return nil, errors.New("not an SQLite database")
	}
	page := int(binary.BigEndian.Uint16(header[16:]))
	if page == 1 {
		page = 65536
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if page < 512 || page&(page-1) != 0 || info.Size() > MaxSize {
		return nil, fmt.Errorf("pages of %d octets in a file of %d: expected a power of two from 512 to 65536, and at most %d", page, info.Size(), MaxSize)
	}
	if encoding := binary.BigEndian.Uint32(header[56:]); encoding > 1 {
		return nil, errors.New("the texts are UTF-16, expected UTF-8")
	}
	return &sqlite{r: f, page: page, usable: page - int(header[20]), pages: uint32(info.Size() / int64(page))}, nil
}

var errDamaged = errors.New("the database is damaged")

// table calls each for the rows of the table whose tree begins at a page. Columns are int64, string, []byte, float64 or nil.
func (db *sqlite) table(root uint32, each func([]any) error) error {
	db.read = 0
	return db.walk(root, 0, each)
}

func (db *sqlite) walk(number uint32, depth int, each func([]any) error) error {
	db.read++
	if number == 0 || number > db.pages || depth > maxDepth || db.read > db.pages {
		return fmt.Errorf("%w: page %d of %d", errDamaged, number, db.pages)
	}
	page := make([]byte, db.page)
	if _, err := db.r.ReadAt(page, int64(number-1)*int64(db.page)); err != nil {
		return err
	}
	at := 0
	if number == 1 {
		at = sqliteHeader
	}
	kind, cells := page[at], int(binary.BigEndian.Uint16(page[at+3:]))
	pointers := at + 8
	if kind == interiorTable {
		pointers = at + 12
	}
	if kind != interiorTable && kind != leafTable || pointers+2*cells > len(page) {
		return fmt.Errorf("%w: page %d is none of a table", errDamaged, number)
	}
	for i := range cells {
		cell := int(binary.BigEndian.Uint16(page[pointers+2*i:]))
		if cell+4 > len(page) {
			return fmt.Errorf("%w: page %d, cell %d", errDamaged, number, i)
		}
		var err error
		if kind == interiorTable {
			err = db.walk(binary.BigEndian.Uint32(page[cell:]), depth+1, each)
		} else {
			err = db.leaf(page[cell:], each)
		}
		if err != nil {
			return err
		}
	}
	if kind == interiorTable {
		return db.walk(binary.BigEndian.Uint32(page[at+8:]), depth+1, each)
	}
	return nil
}

// leaf reads a cell: the length of the record, the row's number, and the record.
func (db *sqlite) leaf(cell []byte, each func([]any) error) error {
	size, n := sqliteVarint(cell)
	_, m := sqliteVarint(cell[n:])
	cell = cell[n+m:]
	if n == 0 || m == 0 || size > uint64(db.usable-35) || size > uint64(len(cell)) {
		// Longer ones go on in other pages; no lease is so long.
		return fmt.Errorf("%w, or a row is longer than %d octets", errDamaged, db.usable-35)
	}
	row, err := sqliteRecord(cell[:size])
	if err != nil {
		return err
	}
	return each(row)
}

// sqliteRecord reads the columns of a record: a header with the type of each, then the values.
func sqliteRecord(b []byte) ([]any, error) {
	size, n := sqliteVarint(b)
	if n == 0 || size > uint64(len(b)) || size < uint64(n) {
		return nil, errDamaged
	}
	types, values := b[n:size], b[size:]
	var row []any
	for len(types) > 0 {
		kind, n := sqliteVarint(types)
		if n == 0 {
			return nil, errDamaged
		}
		types = types[n:]
		length := uint64(0)
		switch {
		case kind <= 4:
			length = kind
		case kind == 5:
			length = 6
		case kind <= 7:
			length = 8
		case kind >= 12:
			length = (kind - 12) / 2
		}
		if length > uint64(len(values)) {
			return nil, errDamaged
		}
		v := values[:length]
		values = values[length:]
		switch {
		case kind == 0:
			row = append(row, nil)
		case kind == 8, kind == 9:
			row = append(row, int64(kind-8))
		case kind == 7:
			row = append(row, math.Float64frombits(binary.BigEndian.Uint64(v)))
		case kind <= 6:
			n := int64(0)
			if v[0]&0x80 != 0 {
				n = -1
			}
			for _, c := range v {
				n = n<<8 | int64(c)
			}
			row = append(row, n)
		case kind%2 == 1 && kind >= 13:
			row = append(row, strings.Clone(string(v)))
		case kind >= 12:
			row = append(row, bytes.Clone(v))
		default:
			return nil, errDamaged
		}
	}
	return row, nil
}

// sqliteVarint reads a number of seven bits an octet, the most significant first, and of eight in the ninth. It returns how many octets
// it took, 0 if it has no end.
func sqliteVarint(b []byte) (v uint64, n int) {
	for i := range min(len(b), 9) {
		if i == 8 {
			return v<<8 | uint64(b[i]), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
